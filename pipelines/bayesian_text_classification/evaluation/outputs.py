"""The arrays that a comparison is made from, and their checks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..pipeline.rates import Dropout
from ..selection.groups import Groups, checked_groups
from .arms import Cost, Labels, Probabilities

NO_SAMPLES = "there are no samples."


@dataclass(frozen=True)
class Calibration:
    """Labeled texts that the temperatures (or Platt scalings) are fitted on.

    Attributes:
        labels: True classes, in the form of `Outputs`. *Shape:* (texts,) or (texts, labels).
        ordinary: Probabilities of the ordinary model. *Shape:* (texts, classes).
        averaged: Probabilities averaged over the samples; None without samples. *Shape:* (texts, classes).
        shared: Number of measured texts that are also here. They flatter the arms with a scaling.
    """

    labels: Labels
    ordinary: Probabilities
    averaged: Probabilities | None = None
    shared: int = 0


@dataclass(frozen=True)
class MemberOutputs:
    """Probabilities of the models of an ensemble, one ordinary pass each, on the texts of `Outputs`.

    Attributes:
        samples: *Shape:* (texts, classes, models).
        averaged: Mean over the models, on the texts of `Outputs.calibration`. *Shape:* (texts, classes).
        outside: On the out-of-scope texts. *Shape:* (texts, classes, models).
    """

    samples: Probabilities
    averaged: Probabilities | None = None
    outside: Probabilities | None = None


@dataclass(frozen=True)
class StudentOutputs:
    """Probabilities from one ordinary pass of a student, or of any other model with the same labels.

    Attributes:
        ordinary: On the texts of `Outputs`. *Shape:* (texts, classes).
        calibration: On the texts of `Outputs.calibration`. *Shape:* (texts, classes).
        outside: On the out-of-scope texts. *Shape:* (texts, classes).
    """

    ordinary: Probabilities
    calibration: Probabilities | None = None
    outside: Probabilities | None = None


@dataclass(frozen=True)
class Novelty:
    """How far texts are from what the classifier was made for, by one ordinary pass. *Shape:* (texts,) each.

    Attributes:
        inside: Distances of the texts of `Outputs`.
        outside: Distances of the out-of-scope texts.
        p_inside: P-values of the texts of `Outputs`.
        p_outside: P-values of the out-of-scope texts.
        held_out: Number of texts behind the p-values.
    """

    inside: NDArray[np.floating]
    outside: NDArray[np.floating]
    p_inside: NDArray[np.floating]
    p_outside: NDArray[np.floating]
    held_out: int


@dataclass(frozen=True)
class Outputs:
    """Probabilities from an ordinary model and from its samples, on the same labeled texts.

    Attributes:
        labels: Ids of the true classes, *shape* (texts,). For independent labels, 1 where a label applies, else 0,
            *shape* (texts, labels); then classes below are labels. A model with one output has one label.
        ordinary: Probabilities from one ordinary pass. *Shape:* (texts, classes).
        samples: Probabilities from stochastic passes. None for a comparison without them.
            *Shape:* (texts, classes, samples).
        baal: Mean probabilities of BaaL's patched copy; None for no such arm. *Shape:* (texts, classes).
        calibration: Texts to fit the scalings on. If None, they are fitted on the measured texts, and the measures
            are corrected for that; see `Temperatures`.
        outside: Ordinary probabilities and samples (or None) of out-of-scope texts, with the shapes above; None if
            there are no such texts.
        pool: Samples of some of the texts, to measure the effect of their number; None: `samples` themselves, at least
            two. *Shape:* (some texts, classes, pool).
        pool_rows: Indices of the texts in the pool. *Shape:* (some texts,).
        costs: Cost of each arm, by its name.
        members: Probabilities from the models of an ensemble, of which the first is the ordinary model; None for no
            ensemble.
        saved: Probabilities with the calibration that the classifier was saved with; None if it has none.
            *Shape:* (texts, classes).
        names: Names of the classes; None: their ids.
        dropout: The option `dropout` of the samples.
        dropout_rate: Mean dropout rate of the samples, which a saved calibration must match.
        one_dropout: Whether all samples were drawn at that dropout.
        groups: What rows belong together: their texts, pairs (`{"text": ..., "text_pair": ...}`), or other names or
            numbers. Copies of a text have equal scores and say nothing new, so intervals, verdicts and thresholds
            count each group once, and no text is measured with a scaling that its copies were fitted on. None: every
            row counts. *Shape:* (texts,).
        outside_groups: The same for the out-of-scope texts. *Shape:* (out-of-scope texts,).
        novelty: Distances from a scope, next to `outside`; None without a scope.
        notes: What else to know about the run, one sentence each.
        unsampled: Why there are no samples, if there are none.
        student: Probabilities from a student; None for no student.

    Raises:
        ValueError: An array has the wrong shape, a label is no class id, or numbers are not probabilities.
    """

    labels: Labels
    ordinary: Probabilities
    samples: Probabilities | None = None
    baal: Probabilities | None = None
    calibration: Calibration | None = None
    outside: tuple[Probabilities, Probabilities | None] | None = None
    pool: Probabilities | None = None
    pool_rows: NDArray[np.integer] | None = None
    costs: dict[str, Cost] = field(default_factory=dict)
    members: MemberOutputs | None = None
    saved: Probabilities | None = None
    groups: Groups | None = None
    outside_groups: Groups | None = None
    novelty: Novelty | None = None
    names: Sequence[str] | None = None
    dropout: Dropout = None
    dropout_rate: float = 0.1
    one_dropout: bool = True
    notes: tuple[str, ...] = ()
    unsampled: str = NO_SAMPLES
    student: StudentOutputs | None = None

    def __post_init__(self) -> None:
        if np.shape(self.ordinary)[1:] == (1,) and np.ndim(self.labels) == 1:  # one output
            object.__setattr__(self, "labels", np.asarray(self.labels)[:, None])
            if self.calibration is not None and np.ndim(self.calibration.labels) == 1:
                known = replace(self.calibration, labels=np.asarray(self.calibration.labels)[:, None])
                object.__setattr__(self, "calibration", known)
        several = np.ndim(self.labels) == 2
        check, check_labels = (_check_independent, _check_matrix) if several else (_checked, _check_labels)
        texts, classes = check("ordinary", self.ordinary, None, None)
        if several and self.names is not None and len(set(self.names)) < len(self.names):
            raise ValueError("two labels have the same name; give every label a name of its own")
        check_labels("labels", self.labels, texts, classes)
        if self.samples is not None:
            check("samples", self.samples, texts, classes, None)
        for name in ("baal", "saved"):
            if getattr(self, name) is not None:
                check(name, getattr(self, name), texts, classes)
        if self.calibration is not None:
            others, _ = check("calibration.ordinary", self.calibration.ordinary, None, classes)
            _check_beside("calibration.averaged", self.calibration.averaged, "samples", self.samples)
            if self.calibration.averaged is not None:
                check("calibration.averaged", self.calibration.averaged, others, classes)
            check_labels("calibration.labels", self.calibration.labels, others, classes)
        if self.outside is not None:
            others, _ = check("outside[0]", self.outside[0], None, classes)
            _check_beside("outside[1]", self.outside[1], "samples", self.samples)
            if self.outside[1] is not None:
                check("outside[1]", self.outside[1], others, classes, None)
            if self.outside_groups is not None:
                checked_groups(self.outside_groups, others, "outside_groups")
        elif self.outside_groups is not None:
            raise ValueError("outside must be given, as outside_groups is")
        if self.novelty is not None:
            if self.outside is None:
                raise ValueError("outside must be given, as novelty is")
            for name, count in (("inside", texts), ("outside", len(self.outside[0]))):
                for values in (getattr(self.novelty, name), getattr(self.novelty, f"p_{name}")):
                    if np.shape(values) != (count,) or np.isnan(values).any():
                        raise ValueError(f"novelty must hold a number for each of {count} texts {name} the scope")
        if self.members is not None:
            check("members.samples", self.members.samples, texts, classes, None)
            self._check_elsewhere(check, "calibration", "members.averaged", self.members.averaged, classes)
            self._check_elsewhere(check, "outside", "members.outside", self.members.outside, classes, None)
        if self.student is not None:
            check("student.ordinary", self.student.ordinary, texts, classes)
            self._check_elsewhere(check, "calibration", "student.calibration", self.student.calibration, classes)
            self._check_elsewhere(check, "outside", "student.outside", self.student.outside, classes)
        if self.groups is not None:
            checked_groups(self.groups, texts)
        if self.names is not None and len(self.names) != classes:
            raise ValueError(f"names holds {len(self.names)} names; it must hold one for each of {classes} classes")
        if self.pool is not None:
            some = texts if self.pool_rows is None else len(self.pool_rows)
            *_, size = check("pool", self.pool, some, classes, None)
            if size < 2:
                raise ValueError("pool holds 1 sample of each text; it must hold at least 2, or be None")

    def _check_elsewhere(
        self,
        check: Callable[..., tuple[int, ...]],
        texts: Literal["calibration", "outside"],
        name: str,
        values: Probabilities | None,
        *shape: int | None,
    ) -> None:
        """Check another model's probabilities of the calibration texts, or of the out-of-scope texts."""
        there = None if self.outside is None else self.outside[0]
        if texts == "calibration":
            there = None if self.calibration is None else self.calibration.ordinary
        _check_beside(name, values, texts, there)
        if values is not None and there is not None:
            check(name, values, len(there), *shape)


def _checked(name: str, values: Probabilities, *shape: int | None) -> tuple[int, ...]:
    """The shape of an array of class probabilities. Raises ValueError as `_check_shape`, or for wrong numbers.

    Rows may miss a sum of 1 by 0.001, as those of a model in float16 do.
    """
    found, array = _check_shape(name, values, *shape), np.asarray(values)
    if not (array.min() >= 0 and np.abs(array.sum(1, dtype=np.float64) - 1).max() <= 1e-3):  # NaN fails both
        raise ValueError(f"{name} must hold probabilities: no number below 0, and a sum of 1 over the classes (axis 1)")
    return found


def _check_independent(name: str, values: Probabilities, *shape: int | None) -> tuple[int, ...]:
    """The shape of an array of probabilities of independent labels. Raises ValueError like `_checked`."""
    found, array = _check_shape(name, values, *shape), np.asarray(values)
    if not (array.min() >= 0 and array.max() <= 1):  # NaN fails
        raise ValueError(f"{name} must hold probabilities: numbers from 0 to 1")
    return found


def _check_shape(name: str, values: Probabilities, *shape: int | None) -> tuple[int, ...]:
    """The shape of an array. Raises ValueError if it is not `shape`, where None stands for any size."""
    found = np.shape(values)
    if len(found) != len(shape) or any(size not in (None, n) for n, size in zip(found, shape, strict=True)):
        names = ("texts", "classes", "samples")
        wanted = ", ".join(names[i] if size is None else str(size) for i, size in enumerate(shape))
        raise ValueError(f"{name} has the shape {found}; it must be an array of shape ({wanted})")
    if not np.size(values):
        raise ValueError(f"{name} has the shape {found}, so it is empty; it must hold at least one of each")
    return found


def _check_beside(name: str, values: Probabilities | None, other: str, given: object) -> None:
    if (values is None) != (given is None):
        raise ValueError(f"{name} must be {f'None, as {other} is' if given is None else f'given, as {other} is'}")


def numbered(groups: Groups | None) -> NDArray[np.intp] | None:
    """The groups as numbers from 0; None if no two rows belong together. *Shape:* (rows,)."""
    if groups is None:
        return None
    member = checked_groups(groups, len(groups))
    return None if member.max() == len(member) - 1 else member


def _check_labels(name: str, labels: Labels, texts: int, classes: int) -> None:
    array = np.asarray(labels)
    legal = f"{name} must hold {texts} class ids, integers from 0 to {classes - 1}"
    if array.shape != (texts,) or array.dtype.kind not in "iu":
        raise ValueError(f"{legal}; it has the shape {array.shape} and the dtype {array.dtype}")
    if not ((array >= 0) & (array < classes)).all():
        bad = int(np.argmax((array < 0) | (array >= classes)))
        raise ValueError(f"{legal}; {name}[{bad}] is {array[bad]}")


def _check_matrix(name: str, labels: Labels, texts: int, classes: int) -> None:
    array = np.asarray(labels)
    if array.shape != (texts, classes) or array.dtype.kind not in "biu" or not np.isin(array, (0, 1)).all():
        raise ValueError(
            f"{name} must hold 0 or 1 for each of {classes} labels of {texts} texts; it has the shape {array.shape} "
            f"and the dtype {array.dtype}"
        )
