"""`classifier.export(folder)`: an ordinary checkpoint, for any server, whose scores are calibrated."""

import copy
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ..pipeline.distillation import STUDENT
from ..pipeline.forward import Forward, Inputs
from ..pipeline.saving import KEY
from ..pipeline.scaling import Scaling
from .affine import Affine, ExportError, calibrated_line
from .export_card import export_card
from .last_layer import TOLERANCE, are_close, fold
from .plain_copy import PORTABLE, attention_of, plain_copy

Target = Literal["transformers", "onnx"]
TARGETS: tuple[Target, ...] = get_args(Target)

# What the checks run on: of unequal length, and not shorter than what CANINE and Funnel accept.
PROBES = (
    "It was fine.",
    "What a long and dull film this was, and yet I stayed!",
    "no not at all",
    "1, 2; 3: a b c d e f g",
)
_ROUNDED = 1e-2  # of the largest logit: buffers that were in half precision are computed anew


def export(
    classifier: Any, folder: str | os.PathLike[str], to: Target = "transformers", *, uncalibrated: bool = False
) -> None:
    """Write a checkpoint without code of this package, whose one ordinary pass has the calibrated scores.

        softmax(W h / T + (b / T + c)) = softmax((W h + b) / T + c)

    The calibration of the ordinary scores goes into the weights W and the bias b of the last linear layer: a
    temperature T, the biases c of "bias-corrected", the slopes and biases of a Platt scaling. Several texts are run to
    prove that the layer is the last one, and again on what was written. Weights are float32. A LoRA adapter is merged.
    The classifier's model is not changed. Memory for two copies of the model in float32 is enough.

    A threshold, a scope, prediction sets, samples and tokenizer options are left out, with one warning. The record of a
    student stays.

    Args:
        classifier: The pipeline.
        folder: A new or empty folder. If the export fails, it is not created.
        to: "transformers" writes model and tokenizer, which `pipeline("text-classification", model=folder)` loads.
            "onnx" writes the graph `model.onnx` and the tokenizer: batch size and length are free, and the output
            `logits` is calibrated. It needs `pip install "bayesian-text-classification[onnx]"`.
        uncalibrated: Export the model as it is, with an adapter merged.

    Raises:
        ExportError: The ordinary scores are not calibrated, the classifier is an ensemble or quantized, the logits do
            not come from a linear layer alone, that layer has no bias for an offset, or what was written gives other
            logits. It is a ValueError.
        ValueError: `to` is unknown, or the folder is not empty.
        ImportError: A package for "onnx" is missing.
    """
    if to not in TARGETS:
        raise ValueError(f"to={to!r}; it must be one of {', '.join(map(repr, TARGETS))}")
    target = Path(folder)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ValueError(f"folder={str(folder)!r} already exists and is not an empty folder; choose a new one")
    scaling, line = calibrated_line(classifier, uncalibrated)
    if to == "onnx":
        from .onnx_graph import check_packages

        check_packages()
    inputs = probe_inputs(classifier)
    model, rounded = plain_copy(classifier.model, inputs), _is_rounded(classifier.model)
    tokenizer = _with_limit(classifier)
    with _new_folder(target) as made:
        if to == "onnx":
            from .onnx_graph import write_graph

            write_graph(model, tokenizer, line, inputs, made)
        else:
            if classifier.distillation is not None:  # evaluate refuses the texts that it learned from
                setattr(model.config, KEY, {"num_samples": 0, STUDENT: classifier.distillation.saved()})
                classifier.save_distilled_on(made)
            _write_checkpoint(model, line, inputs, made, rounded)
        tokenizer.save_pretrained(made)
        _check_tokenizer(tokenizer, classifier, made)
        (made / "README.md").write_text(_card(classifier, scaling, to), encoding="utf-8")
    if left_out := _left_out(classifier):
        warnings.warn(f"an export is one ordinary pass; it leaves out {left_out}", UserWarning, stacklevel=3)


def probe_inputs(classifier: Any) -> list[Inputs]:
    """The encoded texts of the checks, each as a batch on the CPU."""
    batches = (batch for text in PROBES for _, batch in classifier.batches([text], batch_size=1))
    return [{name: values.to("cpu") for name, values in batch.items()} for batch in batches]


def _write_checkpoint(model: Any, line: Affine, inputs: Sequence[Inputs], folder: Path, rounded: bool) -> None:
    """Write the folded model. Raises ExportError unless transformers loads the calibrated logits from the folder."""
    expected = [line(Forward(model).logits(one)) for one in inputs]
    if not line.changes_nothing:
        fold(model, line, inputs)
    model.save_pretrained(folder)
    custom = bool(getattr(model.config, "auto_map", None))
    loader: Any = type(model) if custom else AutoModelForSequenceClassification
    how = {"attn_implementation": attention} if (attention := attention_of(model)) in PORTABLE else {}
    written = loader.from_pretrained(folder, local_files_only=True, **how).eval()
    if not are_close([Forward(written).logits(one) for one in inputs], expected, _ROUNDED if rounded else TOLERANCE):
        raise ExportError(
            f"transformers loads another model from what {type(model).__name__} saves, with other logits; pass "
            "to='onnx', which needs no class of the model"
        )


def _check_tokenizer(tokenizer: Any, classifier: Any, folder: Path) -> None:
    """Raise ExportError if the folder loads another tokenizer: some model types have one class, whatever was saved."""
    custom = getattr(tokenizer, "_auto_class", None) is not None or "auto_map" in getattr(tokenizer, "init_kwargs", {})
    loader: Any = type(tokenizer) if custom else AutoTokenizer
    again = loader.from_pretrained(folder, local_files_only=True)
    with classifier._sampler.encoder.lock:
        same = all(again(text)["input_ids"] == tokenizer(text)["input_ids"] for text in PROBES)
    if not same:
        raise ExportError(
            f"AutoTokenizer makes other tokens in a folder of model type {classifier.model.config.model_type!r} than "
            f"the {type(tokenizer).__name__} of this classifier; build it with the tokenizer of the model: "
            "pipeline(..., tokenizer=AutoTokenizer.from_pretrained(name))"
        )


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Yield a folder to write to, which becomes `target` if nothing fails. An existing one may be a mounted volume."""
    there = next(path for path in (target.absolute(), *target.absolute().parents) if path.is_dir())
    with tempfile.TemporaryDirectory(dir=there, prefix=".export-") as place:
        made = Path(place) / "made"
        made.mkdir()  # unlike the temporary folder, with the usual permissions
        yield made
        if target.is_dir():
            for path in made.iterdir():
                path.rename(target / path.name)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        made.rename(target)


def _is_rounded(model: Any) -> bool:
    """Whether some of the model is not float32."""
    return any(
        one.is_floating_point() and one.dtype != torch.float32 for one in (*model.parameters(), *model.buffers())
    )


def _with_limit(classifier: Any) -> Any:
    """The tokenizer. If it does not know the model's limit of tokens, a copy that does: servers truncate by it."""
    limit = classifier._sampler.encoder.length_limit()
    if limit is None or classifier.tokenizer.model_max_length <= limit:
        return classifier.tokenizer
    tokenizer = copy.deepcopy(classifier.tokenizer)
    tokenizer.model_max_length = limit
    return tokenizer


def _left_out(classifier: Any) -> str:
    """What the classifier has and an export cannot hold; empty if nothing."""
    sampling = classifier.sampling
    names = {name: getattr(sampling, name) for name in ("threshold", "novelty_level", "coverage")}
    found = [f"{name}={value!r}" for name, value in names.items() if value is not None]
    if classifier.scope is not None and sampling.novelty_level is None:
        found.append("the scope (novelty)")
    if classifier.prediction_sets is not None and sampling.coverage is None:
        found.append("the prediction sets")
    if sampling.num_samples and classifier._can_sample():
        found.append(f"its samples (num_samples={sampling.num_samples})")
    options = classifier._own_tokenizer_options(classifier._preprocess_params)
    found += [f"{name}={value!r}" for name, value in options.items()]
    return ", ".join(found)


def _card(classifier: Any, scaling: Scaling | None, to: Target) -> str:
    return export_card(type(classifier.model).__name__, scaling, classifier.activation, to, classifier.distillation)
