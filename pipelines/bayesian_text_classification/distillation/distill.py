"""Make a student: a classifier whose single ordinary pass gives the averaged probabilities of its teacher.

    student = argmin_f  mean_x KL( teacher(x) || softmax(f(x)) )        (Hinton et al. 2015, arXiv:1503.02531)

The teacher averages over dropout masks or over the models of an ensemble (Balan et al. 2015, arXiv:1506.04416). No
labels are needed.
"""

import copy
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import is_accelerate_available, is_peft_available

from ..loading.fingerprint import fingerprint
from ..pipeline.calibration import way_of
from ..pipeline.distillation import HOWS, Distillation, How
from ..pipeline.inputs import text_hash, text_key
from ..pipeline.options import Options, is_int, is_real
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.progress import Progress, progress_bar
from ..pipeline.sampled import passes_of
from .closeness import closeness
from .export import probe_inputs
from .new_head import with_new_head
from .parts import Parts, parts_of
from .plain_copy import plain_copy
from .targets import Array, short_hash, targets_of

LEARNING_RATES: dict[How, float] = {"weights": 3e-5, "lora": 5e-4}
_SCORES = ("num_samples", "tolerance", "seed", "masks", "dropout", "posterior")  # options that make the scores

_NOT_OF_THE_TOKENIZER = ("batch_size", "function_to_apply", "top_k")  # in the defaults of a classifier


def distill(
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[Any],
    *,
    how: How = "weights",
    epochs: int = 3,
    learning_rate: float | None = None,
    batch_size: int = 32,
    training: Mapping[str, Any] | None = None,
    checkpoints: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> BayesianTextClassificationPipeline:
    """Make a student of `classifier`. The method `distill` of the pipeline documents arguments and errors."""
    _check(how, epochs, learning_rate, batch_size)
    scores = scores_of(classifier, how, options)
    parts = parts_of(texts)
    rate = LEARNING_RATES.get(how, 0.0) if learning_rate is None else float(learning_rate)
    settings: dict[str, Any] = {"epochs": epochs, "learning_rate": rate, "batch_size": batch_size}
    more = dict(training or {})
    student_model = trainable_copy(classifier)
    total = passes_of_distillation(parts, scores, how, epochs)
    with progress_bar(progress, total) as advance:
        folder = None if checkpoints is None else Path(checkpoints)
        made_by = {"teacher": fingerprint(classifier), **{name: getattr(scores, name) for name in _SCORES}}
        key = {**made_by, "calibration": classifier.calibration.saved(), "tokenizer": classifier.defaults}
        targets = targets_of(classifier, parts.all, scores, {**options, "progress": advance}, folder, key)
        ends = len(parts.training), len(parts.training) + len(parts.choosing)
        learned, choosing, measuring = np.split(targets, ends)
        pairs = (parts.training, learned), (parts.choosing, choosing)
        asked = {**settings, "seed": scores.seed, "more": more}
        runs = None if folder is None else folder / f"{how}-{short_hash(repr(asked))}"
        model, found = _made(classifier, student_model, how, pairs, asked, runs, advance)
        student = _classifier_of(model.to(classifier.model.dtype), classifier)
        ordinary = classifier.uncalibrated().predict_proba(parts.measuring, num_samples=0, progress=advance)
        own = student.predict_proba(parts.measuring, num_samples=0, progress=advance)
    activation = classifier.activation
    teacher = made_by.pop("teacher")
    before, after = (closeness(measuring, one, activation) for one in (ordinary, own))
    if after.kl >= before.kl:
        warnings.warn(
            f"the student is no closer to its teacher than the teacher's own ordinary pass (KL {after.kl:.4f} and "
            f"{before.kl:.4f} nats on {len(parts.measuring):,} texts); pass more texts, or do without a student",
            UserWarning,
            stacklevel=3,
        )
    student.set_distillation(
        Distillation(
            how=how,
            teacher=teacher,
            teacher_scores={name: value for name, value in made_by.items() if value is not None},
            calibrated=way_of(scores) in classifier.calibration,
            texts=len(parts.training),
            held_out=len(parts.measuring),
            settings={
                **(settings if how != "head" else {}),
                **found,
                **{name: plain(one) for name, one in more.items()},
            },
            student=after,
            ordinary=before,
        ),
        frozenset(text_hash(text_key(text)) for text in parts.all),
    )
    return student


def plain(value: Any) -> Any:
    """A value that JSON can hold: itself, or its text."""
    return value if value is None or isinstance(value, (str, int, float, bool)) else repr(value)


def passes_of_distillation(parts: Parts, scores: Options, how: How, epochs: int) -> int:
    """Passes of a distillation: those of the teacher, of the training (a step counts as three) and of the measuring."""
    steps = (3 * len(parts.training) + len(parts.choosing)) * epochs
    if how == "head":
        steps = len(parts.training) + len(parts.choosing)
    return passes_of(scores, scoped=False) * len(parts.all) + steps + 2 * len(parts.measuring)


def seconds_per_pass(classifier: BayesianTextClassificationPipeline, texts: Sequence[Any]) -> float:
    """Wall-clock time of an ordinary pass of a text, measured on up to 64 of the texts."""
    some = texts[:: -(-len(texts) // 64)]
    classifier.predict_proba(some[:8], num_samples=0)  # the first call prepares the model
    started = time.perf_counter()
    classifier.predict_proba(some, num_samples=0)
    return (time.perf_counter() - started) / len(some)


def trainable_copy(classifier: BayesianTextClassificationPipeline) -> Any:
    """A float32 copy of the first model, with its adapter merged, and without our options in its config.

    Raises:
        ExportError: Its weights are quantized or offloaded, or its adapter cannot be merged.
    """
    model = copy.deepcopy(plain_copy(classifier.model, probe_inputs(classifier)))  # which may share weights
    model.config._name_or_path = ""  # its card describes the teacher
    return model.to(classifier.device).requires_grad_(True)


def _check(how: str, epochs: int, learning_rate: float | None, batch_size: int) -> None:
    if how not in HOWS:
        raise ValueError(f"how={how!r}; it must be one of {', '.join(map(repr, HOWS))}")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if not is_int(value) or value < 1:
            raise ValueError(f"{name}={value!r}; it must be an integer of at least 1")
    if learning_rate is not None and not (is_real(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate={learning_rate!r}; it must be a positive number, such as 3e-5, or None")


def scores_of(classifier: BayesianTextClassificationPipeline, how: How, options: Mapping[str, Any]) -> Options:
    """The options of the teacher's scores. All that can be refused before the first pass is refused here.

    Raises:
        ValueError: The scores are those of one ordinary pass, or the model has no dropout to sample.
        TypeError: An option is not for probabilities.
        ImportError: A package for the training is missing.
    """
    for name in ("threshold", "novelty_level", "coverage", "function_to_apply", "top_k"):
        if name in options:
            raise TypeError(f"{name!r} is not accepted here: a student learns the probabilities of every class")
    if classifier.activation == "none":
        raise ValueError("the model predicts numbers, and a student learns probabilities; distill a classifier instead")
    scores = replace(classifier.with_options(options), threshold=None, novelty_level=None, coverage=None)
    if scores.num_samples == 0:
        inserted = "" if classifier.sites_for({"posterior": "dropout"}) else " and dropout=0.1"
        raise ValueError(
            "num_samples=0; a student learns the average of several passes: pass "
            f"num_samples=20{inserted}, or load an ensemble"
        )
    classifier.sample_proba([], **{name: value for name, value in options.items() if name != "tolerance"})
    if how == "lora" and not is_peft_available():
        raise ImportError("how='lora' needs peft: pip install peft, or pass how='weights'")
    if how != "head" and not is_accelerate_available():
        raise ImportError(f"how={how!r} needs accelerate: pip install accelerate, or pass how='head'")
    return scores


def _made(
    classifier: BayesianTextClassificationPipeline,
    model: Any,
    how: How,
    pairs: tuple[tuple[list[Any], Array], tuple[list[Any], Array]],
    settings: dict[str, Any],
    folder: Path | None,
    advance: Callable[[int], None],
) -> tuple[Any, dict[str, Any]]:
    """The model of the student, and what to record of its training."""
    if how == "head":
        return with_new_head(classifier, model, *pairs, advance)
    from .training import Examples, Settings, trained, with_lora  # imported here because it takes seconds

    encoder = classifier.encoder
    options = {name: value for name, value in classifier.defaults.items() if name not in _NOT_OF_THE_TOKENIZER}
    examples, choosing = (Examples(texts, targets, encoder, options) for texts, targets in pairs)
    if how == "lora":
        model = with_lora(model)
    run = Settings(**settings)
    model, found = trained(model, encoder, examples, choosing, classifier.activation, run, folder, advance)
    return (model.merge_and_unload() if how == "lora" else model), found


def _classifier_of(
    model: torch.nn.Module, classifier: BayesianTextClassificationPipeline
) -> BayesianTextClassificationPipeline:
    """A classifier with the tokenizer and the options of another one, which answers with one ordinary pass."""
    parts = {"model": model, "tokenizer": classifier.tokenizer, "device": classifier.device}
    return type(classifier)(**parts, **classifier.defaults, num_samples=0, dtype=classifier.run_dtype)
