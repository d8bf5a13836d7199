"""How large the prediction sets of each arm are: fitted on one half of the texts, measured on the other.

The range in which the measured coverage should lie is exact: that of the metric `prediction_set_coverage`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metric import load_metric_module
from ..pipeline.prediction_sets import PredictionSets, fitted_sets, texts_needed
from .arms import Arm, Labels, Probabilities
from .heads import ArmName
from .statistics.intervals import (
    LEAST_ERRORS,
    LEAST_ROWS,
    LEVEL,
    Array,
    Difference,
    Interval,
    distinct,
    judged,
    weights_of_resamples,
)
from .words import IN_SENTENCE

Groups = NDArray[np.intp] | None


@dataclass(frozen=True)
class ArmSets:
    """Prediction sets of one arm on the measured texts.

    Attributes:
        arm: Name of the arm.
        coverage: Share of the texts whose set holds the true label; for independent labels, the mean share of a text's
            labels that its set holds.
        size: Mean number of labels in a set.
        empty: Share of the sets that are empty.
        size_if_right: Mean size where the arm's own answer is right; NaN if it never is. For independent labels, where
            all labels are right at a probability of 0.5.
        size_if_wrong: Mean size where it is wrong; NaN if it never is.
        worst: Of the labels with at least 10 measured texts, the one with the lowest coverage, by its id; of several,
            the one with the most texts. None if no label has as many.
        worst_counts: Number of its texts that are covered, and of all its texts.
        difference: Mean size minus that of the first arm; None for the first arm.
    """

    arm: ArmName
    coverage: float
    size: float
    empty: float
    size_if_right: float
    size_if_wrong: float
    worst: int | None
    worst_counts: tuple[int, int]
    difference: Difference | None = None


@dataclass(frozen=True)
class MeasuredSets:
    """Prediction sets of all arms that a classifier can be deployed with.

    Attributes:
        coverage: The coverage that was asked for.
        independent: Whether the labels are independent.
        fitted_on: Number of texts with a label that the sets were fitted on.
        measured_on: Number of other texts with a label.
        band: The range that holds the measured coverage in 95% of draws. None for independent labels, and for repeated
            texts.
        arms: The sets of each arm, the ordinary model with a scaling first.
    """

    coverage: float
    independent: bool
    fitted_on: int
    measured_on: int
    band: Interval | None
    arms: tuple[ArmSets, ...]


def measured_sets(
    arms: Sequence[Arm], labels: Labels, groups: Groups, coverage: float, *, seed: int = 0
) -> MeasuredSets:
    """Prediction sets of the arms with a scaling, and of the classifier as saved.

    Args:
        arms: The arms of a comparison.
        labels: True labels, as in a comparison. *Shape:* (texts,) or (texts, labels).
        groups: Number of each text's group of copies, from 0. None if all texts are distinct. *Shape:* (texts,).
        coverage: Probability that a set holds the true label.
        seed: Seed of the halves and of the resamples.

    Raises:
        ValueError: Half of the distinct texts are too few for this coverage.
    """
    known = labels.any(1) if labels.ndim == 2 else np.ones(len(labels), dtype=bool)  # others have nothing to cover
    numbers = np.arange(len(labels)) if groups is None else groups
    units = np.random.default_rng(seed % 2**64).permutation(np.unique(numbers[known]))
    check_number(len(units), coverage)
    fit = known & np.isin(numbers, units[: -(-len(units) // 2)])
    measured = known & ~fit
    deployed = [arm for arm in arms if arm.scaling is not None or arm.name == "saved"]
    found = [_Sets(arm, labels, fit, measured, coverage, seed, groups) for arm in deployed]
    alone = labels.ndim == 1 and groups is None
    band = None
    if alone:
        of = load_metric_module("prediction_set_coverage").coverage_band
        band = of(int(measured.sum()), coverage, int(fit.sum()), LEVEL)
    base, *_ = found
    results = tuple(one.result(None if one is base else base) for one in found)
    return MeasuredSets(coverage, labels.ndim == 2, int(fit.sum()), int(measured.sum()), band, results)


def check_number(texts: int, coverage: float) -> None:
    """Raise ValueError if half of so many distinct texts are too few for this coverage."""
    needed = 2 * max(texts_needed(coverage), LEAST_ROWS)
    if texts < needed:
        raise ValueError(
            f"coverage={coverage:g} needs at least {needed:,} distinct texts with a label, half of them to fit the "
            "prediction sets; pass more texts, or a lower coverage"
        )


def sentences(found: MeasuredSets) -> list[str]:
    """What the sets of each arm are like."""
    what = "of the labels of a text are in its set" if found.independent else "of the sets hold the true label"
    normal = "" if found.band is None else f"; {found.band[0]:.1%} to {found.band[1]:.1%} is normal (95% of draws)"
    if found.band is None and not found.independent:
        normal = "; there are copies among the texts, so no range is exact"
    lines = []
    for one in found.arms:
        line = (
            f"Prediction sets for a coverage of {found.coverage:g}, {IN_SENTENCE[one.arm]}: {one.coverage:.1%} {what}, "
            f"and a set has {one.size:.2f} labels on average"
        )
        if one.empty:
            line += f" ({one.empty:.1%} are empty)"
        if one.difference is not None:
            less, name = one.difference, IN_SENTENCE[found.arms[0].arm]
            verdict = {"better": "significantly fewer", "worse": "significantly more"}
            line += (
                f", {abs(less.value):.3f} {'fewer' if less.value < 0 else 'more'} than with {name} (95% interval "
                f"{less.low:+.3f} to {less.high:+.3f}: {verdict.get(less.verdict, 'no significant difference')})"
            )
        lines.append(f"{line}.")
    lines[0] = (
        f"{lines[0][:-1]}. They are fitted on {found.fitted_on:,} of the texts and measured on {found.measured_on:,} "
        f"others{normal}."
    )
    fit = f"classifier.conformalize(texts, labels, coverage={found.coverage:g})"
    return [*lines, f"{fit} adds such sets to every result; pass texts that the classifier was not calibrated on."]


class _Sets:
    """The sets of one arm, on the texts and on resamples of both halves."""

    def __init__(
        self,
        arm: Arm,
        labels: Labels,
        fit: NDArray[np.bool_],
        measured: NDArray[np.bool_],
        coverage: float,
        seed: int,
        groups: Groups,
    ) -> None:
        p = np.asarray(arm.probabilities, dtype=np.float64)
        self._arm, self._labels = arm, labels[measured]
        self._p = p[measured]
        sets = _fitted(p[fit], labels[fit])
        self._inside = sets.of(self._p, coverage, np.zeros(len(self._p)))
        scores = np.sort(1 - self._p, axis=1)  # of lac; how many are within a limit is the size of a set
        true = (1 - p[fit])[_pairs(labels[fit])]
        weights = 1 / np.bincount(_pairs(labels[fit])[0], minlength=int(fit.sum()))
        order = np.argsort(true)
        row, ascending = _pairs(labels[fit])[0][order], true[order]
        self._resampled = np.concatenate(
            [
                _sizes(drawn[:, fit][:, row] * weights[row], ascending, scores, drawn[:, measured], coverage)
                for drawn in weights_of_resamples(len(labels), seed, groups)
            ]
        )
        self._units = distinct(len(labels), groups)

    def result(self, base: "_Sets | None") -> ArmSets:
        """The result, compared with that of another arm."""
        sizes, labels = self._inside.sum(1), self._labels
        held = self._inside[np.arange(len(labels)), labels] if labels.ndim == 1 else self._inside
        if labels.ndim == 1:
            right, coverage = self._p.argmax(1) == labels, float(held.mean())
            texts = np.bincount(labels, minlength=self._p.shape[1])
            covered = np.bincount(labels[held], minlength=self._p.shape[1])
        else:
            right = ((self._p >= 0.5) == labels).all(1)
            both = self._inside & (labels == 1)
            coverage = float((both.sum(1) / labels.sum(1)).mean())
            texts, covered = labels.sum(0), both.sum(0)
        shares = np.where(texts >= LEAST_ERRORS, covered / np.maximum(texts, 1), 2.0)
        worst = int(np.lexsort((-texts, shares))[0])
        return ArmSets(
            self._arm.name,
            coverage,
            float(sizes.mean()),
            float((sizes == 0).mean()),
            float(sizes[right].mean()) if right.any() else math.nan,
            float(sizes[~right].mean()) if not right.all() else math.nan,
            worst if shares[worst] <= 1 else None,
            (int(covered[worst]), int(texts[worst])),
            None if base is None else self._less(base),
        )

    def _less(self, base: "_Sets") -> Difference:
        value = float(self._inside.sum(1).mean() - base._inside.sum(1).mean())
        low, high = map(float, np.quantile(self._resampled - base._resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
        return judged(
            value, low, high, higher_is_better=False, rows=self._units, enough=len(self._labels) >= LEAST_ROWS
        )


def _fitted(p: Probabilities, labels: Labels) -> PredictionSets:
    nothing = np.zeros(len(p))
    return fitted_sets(p, labels, score="lac", by="all", uniforms=nothing, chooses=nothing == 1)


def _pairs(labels: Labels) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row and label of each pair of a text and one of its labels."""
    if labels.ndim == 1:
        return np.arange(len(labels)), labels
    rows, ids = np.nonzero(labels)
    return rows, ids


def _sizes(weights: Array, ascending: Array, scores: Array, of_texts: Array, coverage: float) -> Array:
    """Mean size of the sets in each resample. *Shape:* (resamples,).

    Args:
        weights: Weight of each true label in each resample. *Shape:* (resamples, pairs).
        ascending: Score of each of them, ascending. *Shape:* (pairs,).
        scores: Scores of the labels of each measured text, ascending. *Shape:* (texts, labels).
        of_texts: Weight of each measured text in each resample. *Shape:* (resamples, texts).
        coverage: Coverage of the sets.
    """
    found = np.empty(len(weights))
    for i, (own, texts) in enumerate(zip(weights, of_texts, strict=True)):
        above = own.sum() - np.cumsum(own)
        enough = above <= (1 - coverage) * (own.sum() + 1) - 1 + 1e-9
        sizes = (
            (scores <= ascending[np.argmax(enough)]).sum(1) if enough.any() else np.full(len(scores), scores.shape[1])
        )
        found[i] = texts @ sizes / texts.sum()
    return found
