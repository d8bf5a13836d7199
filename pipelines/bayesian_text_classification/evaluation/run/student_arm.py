"""The student arm: one ordinary pass of a second model with the same labels, such as one that `distill` made."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

from ...pipeline.calibrated import KINDS
from ...pipeline.ensemble import matched_labels
from ...pipeline.inputs import text_hash, text_key
from ...pipeline.pipeline import BayesianTextClassificationPipeline
from ...wording import row_name
from ..arms import Cost, Probabilities
from ..heads import head_of
from ..outputs import Outputs, StudentOutputs
from .ensemble_arm import weight_bytes
from .nan import refuse_nan


def check_student(
    student: BayesianTextClassificationPipeline,
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[Any],
    out_of_scope: Sequence[Any],
) -> None:
    """Raise ValueError if the student cannot be compared with the classifier, or learned from a measured text."""
    if len(student.members) > 1:
        raise ValueError(f"the student is an ensemble of {len(student.members)} models; pass one model")
    if student.activation != classifier.activation:
        raise ValueError(
            f"the student is {KINDS[student.activation]}, and the classifier is {KINDS[classifier.activation]}; pass a "
            "student that was fine-tuned for the same task"
        )
    if matched_labels(classifier.model.config, student.model.config) is None:
        ours, own = (list(one.model.config.id2label.values()) for one in (classifier, student))
        raise ValueError(
            f"the student has the labels {own}, and the classifier has {ours}; they need the same labels, in any "
            "order, each with a name of its own: set config.id2label and config.label2id"
        )
    check_unseen("student", student, texts, out_of_scope)


def check_unseen(
    name: str, model: BayesianTextClassificationPipeline, texts: Sequence[Any], out_of_scope: Sequence[Any]
) -> None:
    """Raise ValueError if the model called `name` is a student, and learned from a measured text."""
    leave = f", or leave these out (in Python, with data.without({name}.distilled_on))"
    for part, what, more in ((texts, "measured", leave), (out_of_scope, "out-of-scope", "")):
        if rows := rows_in(part, model.distilled_on):
            raise ValueError(
                f"{len(rows):,} of {len(part):,} {what} texts are among those that the {name} was distilled on, first "
                f"{row_name(rows[0])}; measure on other texts{more}"
            )


def rows_in(texts: Sequence[Any], hashes: Collection[int]) -> list[int]:
    """Indices of the texts whose hash (`text_hash`) is among these."""
    return [i for i, text in enumerate(texts) if text_hash(text_key(text)) in hashes] if hashes else []


def with_student(
    outputs: Outputs,
    student: BayesianTextClassificationPipeline,
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[Any],
    calibration: Sequence[Any] | None,
    out_of_scope: Sequence[Any],
    advance: Callable[[int], None],
) -> Outputs:
    """The outputs with those of one ordinary pass of a student, and with notes on it.

    A calibration that the student was saved with is not used: its arms have none, or one that is fitted like those of
    the other arms.

    Args:
        outputs: Those of the classifier.
        student: A model that `check_student` takes.
        classifier: The classifier.
        texts: The measured texts.
        calibration: Texts to fit the scalings on, if there are any.
        out_of_scope: Texts that the classifier was not built for.
        advance: Function that is called with the number of rows done.
    """
    order, bare = matched_labels(classifier.model.config, student.model.config), student.uncalibrated()

    def ordinary(texts: Sequence[Any]) -> Probabilities:
        return refuse_nan(bare.predict_proba(texts, num_samples=0, progress=advance)[:, order])

    started = time.perf_counter()
    point = ordinary(texts)
    cost, head = Cost(1, seconds=time.perf_counter() - started), head_of(outputs.labels)
    known = None if calibration is None else ordinary(calibration)
    return replace(
        outputs,
        student=StudentOutputs(point, known, ordinary(out_of_scope) if out_of_scope else None),
        costs={**outputs.costs, "student": cost, head.scaled["student"]: cost},
        notes=(*outputs.notes, *_notes(student, classifier, calibration or ())),
    )


def _notes(
    student: BayesianTextClassificationPipeline,
    classifier: BayesianTextClassificationPipeline,
    calibration: Sequence[Any],
) -> list[str]:
    own, ours = (weight_bytes([one.model]) for one in (student, classifier))
    size = f"Its weights take {own / 1e6:,.0f} MB, those of the classifier {ours / 1e6:,.0f} MB."
    known = (
        "Which texts it learned from is not known. If some of them are measured here, it looks better than it is."
        if not student.distilled_on
        else f"None of the measured texts is among the {len(student.distilled_on):,} that it was distilled on."
    )
    notes = [f"The student is another model, with one ordinary pass. {size} {known}"]
    if shared := len(rows_in(calibration, student.distilled_on)):
        notes.append(
            f"Warning: {shared:,} of {len(calibration):,} texts that its scaling was fitted on are among those that it "
            "was distilled on. Fit on other texts."
        )
    if student.calibration:
        notes.append("The calibration that the student was saved with is not used here.")
    return notes
