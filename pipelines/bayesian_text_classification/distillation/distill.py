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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils import is_accelerate_available, is_peft_available

from ..loading.fingerprint import fingerprint
from ..pipeline.distillation import HOWS, Distillation, How
from ..pipeline.inputs import text_hash, text_key
from ..pipeline.options import Options, is_int, is_real
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.progress import Progress, progress_bar
from ..pipeline.sampled import passes_of
from .affine import why_a_server_differs
from .closeness import closeness
from .export import probe_inputs
from .new_head import with_new_head
from .parts import Parts, parts_of
from .plain_copy import plain_copy
from .targets import Array, short_hash, targets_of

EPOCHS, BATCH_SIZE = 3, 32
LEARNING_RATES: dict[How, float] = {"weights": 3e-5, "lora": 5e-4}
_SCORES = ("num_samples", "tolerance", "seed", "masks", "dropout", "posterior")  # options that make the scores
_NOT_OF_THE_TOKENIZER = ("batch_size", "function_to_apply", "top_k")  # in the defaults of a classifier
_TIMED = 64  # texts


@dataclass(frozen=True)
class Plan:
    """A student that is to be made. All that can be refused before the first pass has been.

    Attributes:
        classifier: The teacher.
        parts: Its texts.
        scores: The options of its scores.
        how: What is trained.
        settings: Epochs, learning rate and batch size; empty for how="head".
        more: Further arguments of `TrainingArguments`.
        checkpoints: Folder of the checkpoints; None keeps nothing.
    """

    classifier: BayesianTextClassificationPipeline
    parts: Parts
    scores: Options
    how: How
    settings: Mapping[str, Any]
    more: Mapping[str, Any]
    checkpoints: Path | None

    @property
    def made_by(self) -> dict[str, Any]:
        """The options of the teacher's scores by name, without those that are None."""
        options = {name: getattr(self.scores, name) for name in _SCORES}
        return {name: value for name, value in options.items() if value is not None}

    @property
    def passes(self) -> int:
        """Passes of the teacher, of the training (a step counts as three) and of the measuring."""
        training, choosing = len(self.parts.training), len(self.parts.choosing)
        work = training + choosing
        if self.how != "head":
            work = 3 * training * self.settings["epochs"] + choosing * (1 + self.settings["epochs"])
        return passes_of(self.scores, scoped=False) * len(self.parts.all) + work + 2 * len(self.parts.measuring)

    def seconds(self) -> float:
        """Estimate the wall-clock time from that of an ordinary pass, measured on up to 64 of the texts."""
        some, ordinary = self.parts.all[:: -(-len(self.parts.all) // _TIMED)], self.classifier.uncalibrated()
        ordinary.predict_proba(some[:8], num_samples=0)  # the first call prepares the model
        started = time.perf_counter()
        ordinary.predict_proba(some, num_samples=0)
        return self.passes * (time.perf_counter() - started) / len(some)


def planned(
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[Any],
    *,
    how: How,
    epochs: int | None,
    learning_rate: float | None,
    batch_size: int | None,
    training: Mapping[str, Any] | None,
    checkpoints: str | os.PathLike[str] | None,
    **options: Any,
) -> Plan:
    """The plan of a student. `BayesianTextClassificationPipeline.distill` documents arguments and errors."""
    if how not in HOWS:
        raise ValueError(f"how={how!r}; it must be one of {', '.join(map(repr, HOWS))}")
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value is not None and (not is_int(value) or value < 1):
            raise ValueError(f"{name}={value!r}; it must be an integer of at least 1")
    if learning_rate is not None and not (is_real(learning_rate) and learning_rate > 0):
        raise ValueError(f"learning_rate={learning_rate!r}; it must be a positive number, such as 3e-5")
    if how == "head":
        given = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "training": training}
        if unused := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"{unused[0]} is for how='weights' and how='lora'; a new head takes no training steps")
    scores, folder = _scores_of(classifier, options), None if checkpoints is None else Path(checkpoints)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise ValueError(f"checkpoints={str(checkpoints)!r} is a file; pass the name of a folder, which may be new")
    if how == "lora" and not is_peft_available():
        raise ImportError("how='lora' needs peft: pip install peft, or pass how='weights'")
    if how != "head" and not is_accelerate_available():
        raise ImportError(f"how={how!r} needs accelerate: pip install accelerate, or pass how='head'")
    settings: dict[str, Any] = {}
    if how != "head":
        from .training import check_arguments  # imported here because it takes seconds

        check_arguments(training, classifier.device)
        rate = LEARNING_RATES[how] if learning_rate is None else float(learning_rate)
        settings = {"epochs": epochs or EPOCHS, "learning_rate": rate, "batch_size": batch_size or BATCH_SIZE}
    return Plan(classifier, parts_of(texts), scores, how, settings, dict(training or {}), folder)


def student_of(plan: Plan, progress: Progress | None = None) -> BayesianTextClassificationPipeline:
    """Sample the teacher, train the student, and measure it. `progress` takes numbers of passes."""
    classifier, parts, activation = plan.classifier, plan.parts, plan.classifier.activation
    model, teacher = trainable_copy(classifier), fingerprint(classifier)
    with progress_bar(progress, plan.passes) as advance:
        of_scores = {"teacher": teacher, **plan.made_by, "calibration": classifier.calibration.saved()}
        key = {**of_scores, "tokenizer": classifier.defaults}
        given = {**plan.made_by, "tolerance": plan.scores.tolerance, "dropout": plan.scores.dropout}
        targets = targets_of(classifier, parts.all, plan.scores, {**given, "progress": advance}, plan.checkpoints, key)
        ends = len(parts.training), len(parts.training) + len(parts.choosing)
        learned, choosing, measuring = np.split(targets, ends)
        model, found = _trained(plan, model, learned, choosing, advance)
        student = _classifier_of(model.to(classifier.run_dtype), classifier)
        ordinary = classifier.uncalibrated().predict_proba(parts.measuring, num_samples=0, progress=advance)
        scaling = classifier.scaling_for(given)
        if scaling is not None:
            ordinary = scaling.apply(ordinary).astype(np.float32)
        own = student.predict_proba(parts.measuring, num_samples=0, progress=advance)
    before, after = (closeness(measuring, one, activation) for one in (ordinary, own))
    if after.kl >= before.kl * (1 - 1e-6):  # unchanged weights may differ by rounding
        warnings.warn(
            f"the student is no closer to its teacher than the teacher's own ordinary pass (KL {after.kl:.4f} and "
            f"{before.kl:.4f} nats on {len(parts.measuring):,} texts); pass more texts, or do without a student",
            UserWarning,
            stacklevel=3,
        )
    made = Distillation(
        how=plan.how,
        teacher=teacher,
        teacher_scores=plan.made_by,
        calibrated=scaling is not None,
        texts=len(parts.training),
        held_out=len(parts.measuring),
        settings={**plan.settings, **found, **{name: _as_json(value) for name, value in plan.more.items()}},
        student=after,
        ordinary=before,
    )
    student.set_distillation(made, classifier.distilled_on | {text_hash(text_key(text)) for text in parts.all})
    return student


def trainable_copy(classifier: BayesianTextClassificationPipeline) -> Any:
    """A float32 copy of the first model, with its adapter merged, and without our options in its config.

    Raises:
        ExportError: Its weights are quantized or offloaded, or its adapter cannot be merged.
    """
    model = copy.deepcopy(plain_copy(classifier.model, probe_inputs(classifier)))  # which may share weights
    model.config._name_or_path = ""  # its card describes the teacher
    return model.to(classifier.device).requires_grad_(True)


def _scores_of(classifier: BayesianTextClassificationPipeline, options: Mapping[str, Any]) -> Options:
    """The options of the teacher's scores.

    Raises:
        ValueError: The scores are those of one ordinary pass, or the model has no dropout to sample.
        TypeError: An option is not one of the scores.
    """
    for name in options:
        if name not in _SCORES:
            raise TypeError(
                f"{name!r} is not accepted here, only {', '.join(_SCORES)}: a student learns the probabilities of "
                "every class, and keeps the tokenizer options of the constructor"
            )
    if classifier.activation == "none":
        raise ValueError("the model predicts numbers, and a student learns probabilities; distill a classifier instead")
    if problem := why_a_server_differs(classifier):
        raise ValueError(problem)
    scores = replace(classifier.with_options(options), threshold=None, novelty_level=None, coverage=None)
    if scores.num_samples < 2 and classifier.distillation is not None:
        raise ValueError("this is a student, which has learned its one pass already; distill its teacher instead")
    if scores.num_samples < 2:
        models = len(classifier.members)
        inserted = "" if classifier.sites_for({"posterior": "dropout"}) else " and dropout=0.1"
        more = f"num_samples={models}" if models > 1 else f"num_samples=20{inserted}"
        raise ValueError(
            f"num_samples={scores.num_samples}; a student learns the average of several passes: pass {more}"
            + ", or load an ensemble" * (models == 1)
        )
    classifier.sample_proba([], **{name: value for name, value in options.items() if name != "tolerance"})
    return scores


def _trained(
    plan: Plan, model: Any, learned: Array, choosing: Array, advance: Callable[[int], None]
) -> tuple[Any, dict[str, Any]]:
    """The trained model, and what to record of the training. *Shape:* (texts, classes) for both targets."""
    classifier, pairs = plan.classifier, ((plan.parts.training, learned), (plan.parts.choosing, choosing))
    if plan.how == "head":
        return with_new_head(classifier, model, *pairs, advance)
    from .training import Examples, Settings, trained, with_lora  # imported here because it takes seconds

    settings = Settings(**plan.settings, seed=plan.scores.seed, more=plan.more)
    options = {name: value for name, value in classifier.defaults.items() if name not in _NOT_OF_THE_TOKENIZER}
    examples, others = (Examples(texts, targets, classifier.encoder, options) for texts, targets in pairs)
    folder = None
    if plan.checkpoints is not None:  # one for each kind of training
        folder = plan.checkpoints / f"{plan.how}-{short_hash(repr(settings))}"
    if plan.how == "lora":
        model = with_lora(model)
    run = classifier.activation, settings, folder, advance
    model, found = trained(model, classifier.encoder, examples, others, *run)
    if not found["epoch"]:
        return trainable_copy(classifier), found
    return (model.merge_and_unload() if plan.how == "lora" else model), found


def _as_json(value: Any) -> Any:
    """A value that JSON can hold: itself, or its text."""
    return value if value is None or isinstance(value, (str, int, float, bool)) else repr(value)


def _classifier_of(
    model: torch.nn.Module, classifier: BayesianTextClassificationPipeline
) -> BayesianTextClassificationPipeline:
    """A classifier with the tokenizer and the options of another one, which answers with one ordinary pass."""
    parts = {"model": model, "tokenizer": classifier.tokenizer, "device": classifier.device}
    return type(classifier)(**parts, **classifier.defaults, num_samples=0, dtype=classifier.run_dtype)
