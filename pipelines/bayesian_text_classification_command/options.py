"""Options that several commands share, and their checks."""

import glob
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from .columns import without_torch
from .console import fail

DEFAULT_DATASET, DEFAULT_TEXTS = "reviews", 450


def not_empty(value: str | None) -> str | None:
    """The value; a usage error if it is blank."""
    if value is not None and not value.strip():  # such as an unset variable of a script
        raise typer.BadParameter("it is empty; pass a value or leave the option out")
    return value


def file_or_id(value: str | None) -> str | None:
    """The value. Stops if it names a file, by its extension, that does not exist: the libraries take seconds to import.

    Anything else may be the id of a dataset, which the library looks up.
    """
    not_empty(value)
    if value is not None and "://" in value:
        fail(f"{value} is an address; pass a local file, or the id of a dataset on the Hub (user/name)")
    if value is None or value == "-" or os.path.exists(value) or glob.glob(value, recursive=True):
        return value
    if without_torch("files.formats").format_of(value)[0]:
        fail(f"{value}: no such file")
    return value


def _each_not_empty(values: list[str] | None) -> list[str] | None:
    for value in values or []:
        not_empty(value)
    return values


def _device(value: str | None) -> str | None:
    if value is None:
        return None
    from bayesian_text_classification.loading import available_devices

    if value not in available_devices():
        raise typer.BadParameter(f"{value!r}; this machine has only {', '.join(available_devices())}")
    return value


def _dtype(value: str | None) -> str | None:
    if value is None:
        return None
    from bayesian_text_classification.loading.classifiers import DTYPES

    if value not in DTYPES:
        raise typer.BadParameter(f"{value!r}; it must be one of {', '.join(DTYPES)}")
    return value


def _dropout_or_auto(value: str | None) -> "float | str | None":
    return value if value == "auto" else _dropout(value)


def _dropout(value: str | None) -> "float | str | None":
    if value is None:
        return None
    from bayesian_text_classification.pipeline.rates import Rates

    if value == "auto":
        raise typer.BadParameter("auto is for calibrate and evaluate; run calibrate --dropout auto and use its output")
    try:
        rates = Rates.of_option(value)
    except ValueError as error:
        raise typer.BadParameter(
            f"{value!r}; it must be a rate above 0 and below 1, such as 0.1, or a factor of the model's own rates, "
            "such as 2x (--num-samples 0 is for no dropout)"
        ) from error
    return rates.option or "1x"


def _tolerance(value: str | None) -> "float | str | None":
    if value is None or value == "none":
        return value
    try:
        return float(value)
    except ValueError as error:
        raise typer.BadParameter(f"{value!r}; it must be a number such as 0.02, or none") from error


def tolerance_of(value: "float | str | None") -> dict[str, float | None]:
    """The option as an argument of `load` or of a call; empty if it is not given."""
    if value is None:
        return {}
    return {"tolerance": None if isinstance(value, str) else value}


Model = Annotated[
    str | None, typer.Option(help="Model folder or Hub id.", show_default="the embedded model", callback=not_empty)
]
Ensemble = Annotated[
    list[str] | None,
    typer.Option(
        help="Folder or Hub id of another model of an ensemble with --model. May be repeated.",
        show_default="no ensemble",
        callback=_each_not_empty,
    ),
]
TextColumn = Annotated[
    str | None, typer.Option(help="Column of the texts.", show_default="text, else sentence", callback=not_empty)
]
TextPairColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of the second texts, for a model of pairs such as NLI.",
        show_default="single texts",
        callback=not_empty,
    ),
]
LabelColumn = Annotated[
    str | None, typer.Option(help="Column of the labels.", show_default="label, else labels", callback=not_empty)
]
OR_SAVED = "or the value saved with the model"
Dataset = Annotated[
    str | None,
    typer.Option(
        help="Labeled texts: a csv, tsv, jsonl or parquet file, a Hub id, or embedded ones: reviews (3,000 sentences), "
        "hard (300).",
        show_default=f"{DEFAULT_TEXTS} of reviews",
        callback=file_or_id,
    ),
]
Tolerance = Annotated[
    str | None,
    typer.Option(
        help="Stop sampling a text once the standard error of its score drops below this value; none: never.",
        show_default=f"none, {OR_SAVED}",
        callback=_tolerance,
    ),
]
Uncalibrated = Annotated[
    bool,
    typer.Option(
        "--uncalibrated", help="Without the calibration, threshold and prediction sets that the model was saved with."
    ),
]
Masks = Annotated[
    str | None,
    typer.Option(
        help="Dropout masks: balanced or bernoulli.", show_default=f"balanced, {OR_SAVED}", callback=not_empty
    ),
]
_DROPOUT = (
    "Dropout rate of the sites whose own rate is 0, such as 0.1, for a model that was trained without dropout; or a "
    "factor of the model's own rates, such as 2x"
)
_OWN_RATES = f"the model's own rates, {OR_SAVED}"
Dropout = Annotated[str | None, typer.Option(help=f"{_DROPOUT}.", show_default=_OWN_RATES, callback=_dropout)]
DropoutOrAuto = Annotated[
    str | None,
    typer.Option(
        help=f"{_DROPOUT}; or auto: the rate with the best held-out likelihood.",
        show_default=_OWN_RATES,
        callback=_dropout_or_auto,
    ),
]
Posterior = Annotated[
    Literal["dropout", "ensemble", "ensemble+dropout"] | None,
    typer.Option(
        help="What a sample is, for an ensemble: the ordinary pass of a model (ensemble), a pass of a model with "
        "dropout (ensemble+dropout), or a pass of its first model with dropout.",
        show_default="ensemble, or the value saved with it",
    ),
]
MaxTexts = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Take a random part of so many texts, always the same one; equal parts of the groups in a column kind.",
        show_default="all texts",
    ),
]
Config = Annotated[str | None, typer.Option(help="Configuration of a dataset on the Hub.", callback=not_empty)]
Split = Annotated[
    str | None, typer.Option(help="Split of a dataset on the Hub.", show_default="validation", callback=not_empty)
]
Seed = Annotated[int, typer.Option(help="Seed of all random draws.")]
Device = Annotated[
    str | None,
    typer.Option(help="Device: cpu, cuda, cuda:1, mps.", show_default="a GPU if there is one", callback=_device),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Data type: float32, bfloat16 or float16.",
        show_default="the model's own; float32 for a float16 model on a CPU",
        callback=_dtype,
    ),
]
ScopeHeldOut = Annotated[
    str | None,
    typer.Option(
        help="Texts like those of --scope-dataset, which the model was not trained on.",
        show_default="half of --scope-dataset",
        callback=file_or_id,
    ),
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle", help="Also load weights from .bin files. Only use this for models from people you trust."
    ),
]


def texts_or_default(dataset: str | None, max_texts: int | None) -> tuple[str, int | None]:
    """The labeled texts, and how many of them. Without a dataset, a part of the embedded reviews."""
    if dataset is not None:
        return dataset, max_texts
    return DEFAULT_DATASET, DEFAULT_TEXTS if max_texts is None else max_texts


def models_of(model: str | None, ensemble: list[str] | None) -> "str | list[str] | None":
    """What to load: a model, or the list of an ensemble. A usage error if the first model is missing."""
    if not ensemble:
        return model
    if model is None:
        fail("--ensemble needs --model, the first model of the ensemble")
    return [model, *ensemble]


def threshold_of(values: list[str] | None) -> float | dict[str, float] | None:
    """The threshold that the option stands for: one number, or a number for each label."""
    if not values:
        return None
    pairs = [value.rpartition("=") for value in values]
    try:
        numbers = [float(number) for _, _, number in pairs]
    except ValueError:
        numbers = []
    alone = len(values) == 1 and not pairs[0][1]
    labels = [label for label, _, _ in pairs]
    if twice := sorted({label for label in labels if labels.count(label) > 1 and not alone}):
        fail(f"--threshold names {', '.join(twice)} more than once; pass each label once")
    if numbers and all(0 <= number <= 1 for number in numbers) and (alone or all(equals for _, equals, _ in pairs)):
        return numbers[0] if alone else {label: number for (label, _, _), number in zip(pairs, numbers, strict=True)}
    fail(f"--threshold {' '.join(values)}: it must be one number from 0 to 1, or LABEL=NUMBER for each label")


def new_folder(output: str) -> Path:
    """The path of a folder to create, which is new or empty. Problems are reported before the work starts."""
    folder = writable_folder(output)
    if folder.is_dir() and any(folder.iterdir()):
        fail(f"--output {folder} already exists and is not empty; choose a new folder")
    return folder


def folder_of_ours(output: str, force: bool, models: Sequence[str] = ()) -> Path:
    """The path of a folder to create, or by `force` that of a classifier to replace, which is none of the `models`."""
    folder = writable_folder(output)
    if not (folder.is_dir() and any(folder.iterdir())):
        return folder
    if any(os.path.isdir(model) and os.path.samefile(model, folder) for model in models):
        fail(f"--output {folder} is the model itself; choose a new folder")
    try:
        ours = "bayesian_text_classification" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        ours = False
    if not ours:
        fail(f"--output {folder} holds other files; choose a new folder")
    if not force:
        fail(f"--output {folder} already holds a classifier; pass --force to replace it, or choose a new folder")
    return folder


def writable_folder(output: str) -> Path:
    """The path of a folder to create. Problems are reported before the work starts."""
    folder = Path(output)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        fail(f"cannot write to --output {folder}: {there} is a file; choose a folder")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        fail(f"cannot write to --output {folder}: {error.strerror or error}")
    return folder
