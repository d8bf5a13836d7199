"""`bayesian-text-classification evaluate`: the comparison, on the screen and in files."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from .console import STDERR, STDOUT, fail, new_table, print_table, quiet_libraries, rows_bar
from .options import AllowPickle, Device, Dtype, LabelColumn, Model, Seed, TextColumn, not_empty

if TYPE_CHECKING:
    from bayesian_text_classification.evaluation import Comparison, Verdict
    from bayesian_text_classification.loading.labelled_texts import LabelledTexts


def evaluate(
    model: Model = None,
    allow_pickle: AllowPickle = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Labeled texts: a csv, tsv, jsonl or parquet file, or a Hub id.",
            show_default="the embedded reviews",
            callback=not_empty,
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Configuration of a dataset on the Hub.", callback=not_empty)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split of a dataset on the Hub.", show_default="validation", callback=not_empty),
    ] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    num_samples: Annotated[
        int,
        typer.Option(
            min=1, help="Forward passes with dropout per text. (The report uses up to 180 to show their effect.)"
        ),
    ] = 20,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
    calibration_dataset: Annotated[
        str | None,
        typer.Option(
            help="Other labeled texts to fit the temperatures on.",
            show_default="the measured texts; the measures are corrected for that",
            callback=not_empty,
        ),
    ] = None,
    ood_dataset: Annotated[
        str | None,
        typer.Option(help="Out-of-scope texts, to measure how well uncertainty detects them.", callback=not_empty),
    ] = None,
    output: Annotated[
        str, typer.Option(help="Folder for report.html, report.json and the pictures.", callback=not_empty)
    ] = "bayesian-report",
) -> None:
    """Compare the ordinary and the Bayesian model on labeled texts, with a statistical verdict.

    Also compares BaaL's patched copy, and temperature scaling of both models.

    Without arguments: the embedded sentiment classifier on the embedded reviews, offline.
    """
    quiet_libraries()
    from bayesian_text_classification.embedded import embedded_reviews
    from bayesian_text_classification.evaluation.run import ARM_MASKS, compare, total_rows
    from bayesian_text_classification.evaluation.verdict import verdict
    from bayesian_text_classification.loading.classifiers import ModelError, load_classifier
    from bayesian_text_classification.loading.fingerprint import fingerprint
    from bayesian_text_classification.loading.labelled_texts import load_labelled_texts, load_texts
    from bayesian_text_classification.loading.labels import DataError
    from bayesian_text_classification.report import ReportSettings, write_report
    from bayesian_text_classification.wording import first_line

    folder = _writable_folder(output)
    with STDERR.status("loading"):
        try:
            classifier = load_classifier(model, device, dtype, allow_pickle=allow_pickle)
            columns = {"text_column": text_column, "label_column": label_column}
            id2label = classifier.model.config.id2label
            source = str(embedded_reviews()) if dataset is None else dataset
            data = load_labelled_texts(source, id2label, config=config, split=split, **columns)
            calibration = None
            if calibration_dataset is not None:
                calibration = load_labelled_texts(calibration_dataset, id2label, **columns)
            strange = [] if ood_dataset is None else load_texts(ood_dataset, text_column=text_column).texts
        except (ModelError, DataError) as error:
            fail(str(error))
    with rows_bar() as progress:
        more = len(strange) + (0 if calibration is None else len(calibration.texts))
        task = progress.add_task("sampling", total=total_rows(len(data.texts), num_samples, more))
        try:
            comparison = compare(
                classifier,
                data,
                calibration=calibration,
                out_of_scope=strange,
                num_samples=num_samples,
                seed=seed,
                progress=lambda n: progress.advance(task, n),
            )
        except ValueError as error:  # ours: the model or the data
            fail(first_line(error))
        except Exception as error:  # out of memory, or an error in the model's code
            fail(f"the comparison failed with {type(error).__name__}: {first_line(error)}")
    found = verdict(comparison)
    _print_comparison(comparison, data, found)
    settings = ReportSettings(
        model=model or "embedded classifier",
        dataset=dataset or "embedded reviews",
        config=config,
        split=data.split,
        text_column=data.text_column,
        label_column=data.label_column,
        calibration_dataset=calibration_dataset,
        ood_dataset=ood_dataset,
        num_samples=num_samples,
        seed=seed,
        device=str(classifier.device),
        dtype=str(classifier.run_dtype).removeprefix("torch."),
        masks=ARM_MASKS,
        fingerprint=fingerprint(classifier),
    )
    names = [id2label[i] for i in sorted(id2label)]
    try:
        paths = write_report(folder, comparison, data, names, settings, found)
    except OSError as error:
        fail(f"cannot write to {folder}: {error.strerror or error}")
    STDOUT.print("\n" + "\n".join(map(str, paths)), highlight=False, soft_wrap=True, markup=False)


def _writable_folder(output: str) -> Path:
    """The folder of the report. Problems are reported before the work starts; `write_report` creates the folder."""
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


def _print_comparison(comparison: "Comparison", data: "LabelledTexts", found: "Verdict") -> None:
    from bayesian_text_classification.evaluation.arms import TITLES
    from bayesian_text_classification.evaluation.comparison import error_rates

    texts, passes = len(data.texts), comparison.arm("bayesian").cost.passes
    table = new_table(f"{texts:,} text{'s' * (texts != 1)}, {passes} sample{'s' * (passes != 1)}")
    table.add_column("")
    for name in ("ECE", "accuracy", "NLL", "Brier", "dropout\nsites", "seconds"):
        table.add_column(name, justify="right")
    for arm in comparison.arms:
        numbers = [f"{arm.estimates[key].value:.4f}" for key in ("ece", "accuracy", "nll", "brier")]
        table.add_row(TITLES[arm.name], *numbers, str(arm.cost.dropout_sites), f"{arm.cost.seconds:.1f}")
    print_table(table)
    if data.groups:
        first, last = comparison.arm("frequentist"), comparison.arm("bayesian")
        before = error_rates(first.probabilities, data.labels, data.groups)
        after = error_rates(last.probabilities, data.labels, data.groups)
        groups = new_table("error rate by group")
        groups.add_column("")
        for arm in (first, last):
            groups.add_column(TITLES[arm.name], justify="right")
        for name in before:
            groups.add_row(escape(name), f"{before[name]:.1%}", f"{after[name]:.1%}")
        print_table(groups)
    STDOUT.print(f"[bold]{escape(found.headline)}[/bold]", highlight=False, soft_wrap=True)
    for line in [*found.lines, *found.advice]:
        STDOUT.print(f"- {escape(line)}", highlight=False, soft_wrap=True)
