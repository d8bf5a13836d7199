"""How good and how honest probabilities are on labelled rows; each measure once, for the rows and their resamples.

A resample is a row of weights, how often each row of the data was drawn; weights of one are the data themselves. Every
measure takes many resamples at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..metric import load_metric_module
from .rank_statistics import auroc, in_order

BINS = 10

Array = NDArray[np.float64]
Bins = NDArray[np.intp]


@dataclass(frozen=True)
class Scored:
    """Rows with their probabilities and true classes.

    Attributes:
        probabilities: *Shape:* (rows, classes), float64, rows that sum to 1.
        labels: *Shape:* (rows,).
        ranked: what puts the rows in order, where that is not `probabilities`. Rows with temperatures of their own
            (each fitted on the others) have one temperature in common here, or the order would tell the labels.
    """

    probabilities: Array
    labels: NDArray[np.int64]
    ranked: Array | None = None

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.floating],
        labels: NDArray[np.integer],
        ranked: NDArray[np.floating] | None = None,
    ) -> "Scored":
        """From probabilities of any precision: float32 rows sum to 1 within 1e-7 and are made to."""

        def whole(p: NDArray[np.floating]) -> Array:
            wide = np.asarray(p, dtype=np.float64)
            return np.asarray(wide / wide.sum(1, keepdims=True))

        order = None if ranked is None else whole(ranked)
        return cls(whole(probabilities), np.asarray(labels, dtype=np.int64), order)

    @cached_property
    def confidence(self) -> Array:
        """The largest probability. *Shape:* (rows,)."""
        return np.asarray(self.probabilities.max(1))

    @cached_property
    def correct(self) -> Array:
        """1 where the most probable class is the true one. *Shape:* (rows,)."""
        return np.asarray(self.probabilities.argmax(1) == self.labels, dtype=np.float64)

    @cached_property
    def errors(self) -> int:
        """Wrong rows."""
        return len(self.correct) - int(self.correct.sum())

    @cached_property
    def doubt(self) -> Array:
        """1 less the confidence that puts the rows in order. *Shape:* (rows,)."""
        return np.asarray(1 - (self.probabilities if self.ranked is None else self.ranked).max(1))

    @cached_property
    def entropy(self) -> Array:
        """Predictive entropy that puts the rows in order, nats. *Shape:* (rows,)."""
        p = self.probabilities if self.ranked is None else self.ranked
        return np.asarray(-(p * np.log(np.where(p > 0, p, 1))).sum(1))

    @cached_property
    def columns(self) -> list[tuple[Array, Array]]:
        """For each class its probability and whether it is the true one; of two classes the second alone."""
        first = 1 if self.probabilities.shape[1] == 2 else 0
        classes = range(first, self.probabilities.shape[1])
        return [(self.probabilities[:, k], (self.labels == k).astype(np.float64)) for k in classes]

    @cached_property
    def confidence_bins(self) -> Bins:
        """The bin of each confidence, of 10 of equal width. *Shape:* (rows,)."""
        return _bins(self.confidence)

    @cached_property
    def column_bins(self) -> list[Bins]:
        """The bin of each probability of each of `columns`. *Shape:* (rows,) each."""
        return [_bins(p) for p, _ in self.columns]

    @cached_property
    def nll(self) -> Array:
        """`-log p[y]`, nats. *Shape:* (rows,)."""
        own = np.take_along_axis(self.probabilities, self.labels[:, None], 1)[:, 0]
        return -np.log(np.maximum(own, np.finfo(np.float64).tiny))

    @cached_property
    def brier(self) -> Array:
        """`sum_k (p_k - [y = k])^2`; of two classes `(p - y)^2` of the second. *Shape:* (rows,)."""
        return np.asarray(sum((p - y) ** 2 for p, y in self.columns))


@dataclass(frozen=True)
class Weighted:
    """Rows and many resamples of them; what several measures need of the bins is summed once.

    Attributes:
        rows: the data.
        weights: how often each row is in each resample. *Shape:* (resamples, rows).
    """

    rows: Scored
    weights: Array

    @cached_property
    def total(self) -> Array:
        """Rows of each resample. *Shape:* (resamples,)."""
        return np.asarray(self.weights.sum(1))

    @cached_property
    def confidence_sums(self) -> "Sums":
        """Of the predicted class' probability and whether it is right."""
        return _sums(self.rows.confidence_bins, self.weights, self.rows.confidence, self.rows.correct)

    @cached_property
    def column_sums(self) -> "list[Sums]":
        """Of each of the rows' `columns`."""
        columns = zip(self.rows.column_bins, self.rows.columns, strict=True)
        return [_sums(bins, self.weights, p, y) for bins, (p, y) in columns]


@dataclass(frozen=True)
class Sums:
    """Of each bin in each resample: (resamples, bins) each.

    Attributes:
        counts: rows.
        gaps: probabilities less hits.
        hits: rows in which it is the case.
    """

    counts: Array
    gaps: Array
    hits: Array


@dataclass(frozen=True)
class Squares:
    """A sum of squares over bins as a mean over rows, whose spread over rows is its standard error.

    Attributes:
        per_row: the sum's influence function plus the sum, whose mean is the sum itself (the infinitesimal jackknife,
            Davison and Hinkley 1997, section 2.7). *Shape:* (rows,).
        chance: what the labels' luck adds to the sum (Ferro and Fricker 2012).
    """

    per_row: Array
    chance: float


Values = Callable[[Weighted], Array]


@dataclass(frozen=True)
class Measure:
    """One number about `Scored` rows.

    Attributes:
        key: its name in results.
        title: its name for people.
        higher_is_better: else lower is.
        most: its largest value.
        biased: it is higher on few rows than on many, because every bin takes its own chance for a gap.
        absolute: it adds absolute values over bins, so that its differences are far from normal.
        values: from weighted rows to (resamples,); NaN where it is not defined.
        per_row: the measure is the mean of these, if it is a mean over rows. *Shape:* (rows,).
        squares: the sum that it is, if it adds squares over bins, or whose root it is without what chance adds.
        root: it is the root.
    """

    key: str
    title: str
    higher_is_better: bool
    values: Values
    per_row: Callable[[Scored], Array] | None = None
    most: float = 1.0
    biased: bool = False
    absolute: bool = False
    squares: Callable[[Scored], Squares] | None = None
    root: bool = False

    def value(self, rows: Scored) -> float:
        """Of the rows as they are."""
        return float(self.values(_unweighted(rows))[0])


def ece(data: Weighted) -> Array:
    """Top-label ECE (Guo et al. 2017), 10 bins of equal width."""
    return np.asarray(np.abs(data.confidence_sums.gaps).sum(1) / data.total)


def class_wise_ece(data: Weighted) -> Array:
    """The binary ECE of each class' probability, averaged (Kull et al. 2019, eq. 3); two classes have the same one."""
    return np.asarray(np.mean([np.abs(sums.gaps).sum(1) for sums in data.column_sums], axis=0) / data.total)


def root_squared_ece(data: Weighted) -> Array:
    """Top-label l2 calibration error, debiased (Kumar et al. 2019, definition 5.1): the root."""
    counts, gaps = data.confidence_sums.counts, data.confidence_sums.gaps
    squares = np.where(counts > 1, gaps**2 / np.maximum(counts, 1) - _luck(data.confidence_sums), 0)
    return np.asarray(np.sqrt(np.maximum(squares.sum(1) / data.total, 0)))


def reliability(data: Weighted) -> Array:
    """The part of the Brier score that recalibration would save, `sum_b (n_b / N) (mean p_b - mean y_b)^2`.

    Murphy 1973, over 10 bins of equal width, summed over the classes. Brier score = reliability - resolution +
    uncertainty of the labels, up to what bins hide: the spread of p inside them.
    """
    parts = [(sums.gaps**2 / np.maximum(sums.counts, 1)).sum(1) for sums in data.column_sums]
    return np.asarray(np.sum(parts, axis=0) / data.total)


def resolution(data: Weighted) -> Array:
    """How far the bins tell the labels apart, `sum_b (n_b / N) (mean y_b - mean y)^2`; see `reliability`."""

    def one(sums: Sums) -> Array:
        base = (sums.hits.sum(1) / data.total)[:, None]
        return np.asarray((sums.counts * (sums.hits / np.maximum(sums.counts, 1) - base) ** 2).sum(1))

    return np.asarray(np.sum([one(sums) for sums in data.column_sums], axis=0) / data.total)


def squares_of_confidence(rows: Scored) -> Squares:
    """`sum_b (n_b / N) (mean p_b - mean y_b)^2` of the confidence, whose root `root_squared_ece` is but for chance."""
    return _squared_gaps(rows.confidence_bins, rows.confidence, rows.correct, _unweighted(rows).confidence_sums)


def squares_of_reliability(rows: Scored) -> Squares:
    """Of `reliability`."""
    columns = zip(rows.column_bins, rows.columns, _unweighted(rows).column_sums, strict=True)
    return _total([_squared_gaps(bins, p, y, sums) for bins, (p, y), sums in columns])


def squares_of_resolution(rows: Scored) -> Squares:
    """Of `resolution`."""

    def one(bins: Bins, y: Array, sums: Sums) -> Squares:
        base = y.mean()
        apart = sums.hits[0] / np.maximum(sums.counts[0], 1) - base
        chance = _chance(sums, apart) / len(y) - base * (1 - base) / max(len(y) - 1, 1)
        return Squares(2 * apart[bins] * (y - base) - apart[bins] ** 2, chance)

    columns = zip(rows.column_bins, rows.columns, _unweighted(rows).column_sums, strict=True)
    return _total([one(bins, y, sums) for bins, (_, y), sums in columns])


def error_auroc(data: Weighted) -> Array:
    """The probability that a wrong row has a larger predictive entropy than a right one; ties count half."""
    return auroc(data.rows.entropy, 1 - data.rows.correct, data.weights)


def risk_coverage_area(data: Weighted) -> Array:
    """AURC: the error rate among the k most confident rows, averaged over k (Geifman et al. 2019, arXiv:1805.08206).

    Rows of equal confidence come in random order; their expectation is taken.
    """
    wrong, right = in_order(data.rows.doubt, data.weights, 1 - data.rows.correct)
    size = wrong + right
    kept, errors = np.cumsum(size, axis=1), np.cumsum(wrong, axis=1)
    before, errors_before = kept - size, errors - wrong
    rate = wrong / np.maximum(size, 1)
    # Row j of a group of equal confidence: (errors_before + j rate) / (before + j), summed over j by harmonic numbers.
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(kept[:, -1].max()) + 1))])
    span = harmonic[kept.astype(np.int64)] - harmonic[before.astype(np.int64)]
    return np.asarray((size * rate + (errors_before - rate * before) * span).sum(1) / kept[:, -1])


def risk_coverage(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> tuple[Array, Array]:
    """The curve under which `risk_coverage_area` lies: shares of rows kept, most confident first, and error rates.

    Rows of equal confidence are kept together. *Shape:* (distinct confidences,) both.
    """
    rows = Scored.of(probabilities, labels)
    wrong, right = in_order(rows.doubt, np.ones((1, len(rows.labels))), 1 - rows.correct)
    kept = np.cumsum(wrong + right)
    return kept / kept[-1], np.cumsum(wrong) / kept


def _mean(per_row: Callable[[Scored], Array]) -> Values:
    return lambda data: np.asarray(data.weights @ per_row(data.rows) / data.total)


def _mean_measure(key: str, title: str, higher_is_better: bool, per_row: Callable[[Scored], Array]) -> Measure:
    most = {"nll": np.inf, "brier": 2.0}.get(key, 1.0)
    return Measure(key, title, higher_is_better, _mean(per_row), per_row, most)


MEASURES = (
    Measure("ece", "ECE", False, ece, biased=True, absolute=True),
    _mean_measure("accuracy", "accuracy", True, lambda rows: rows.correct),
    _mean_measure("nll", "NLL", False, lambda rows: rows.nll),
    _mean_measure("brier", "Brier", False, lambda rows: rows.brier),
    Measure("class_wise_ece", "class-wise ECE", False, class_wise_ece, biased=True, absolute=True),
    Measure("l2_ece", "l2 ECE, debiased", False, root_squared_ece, squares=squares_of_confidence, root=True),
    Measure(
        "brier_reliability",
        "Brier: reliability",
        False,
        reliability,
        most=2.0,
        biased=True,
        squares=squares_of_reliability,
    ),
    Measure("brier_resolution", "Brier: resolution", True, resolution, biased=True, squares=squares_of_resolution),
    Measure("error_auroc", "AUROC of errors", True, error_auroc),
    Measure("aurc", "AURC", False, risk_coverage_area),
)


def _bins(values: Array) -> Bins:
    module = load_metric_module()
    bins: Bins = module.bins_of(values, module.uniform_edges(BINS))
    return bins


def _unweighted(rows: Scored) -> Weighted:
    return Weighted(rows, np.ones((1, len(rows.labels))))


def _squared_gaps(bins: Bins, p: Array, y: Array, sums: Sums) -> Squares:
    gap = sums.gaps[0] / np.maximum(sums.counts[0], 1)
    return Squares(2 * gap[bins] * (p - y) - gap[bins] ** 2, _chance(sums, gap) / len(y))


def _chance(sums: Sums, apart: Array) -> float:
    """What chance adds to `sum_b n_b apart_b^2`; of a bin of one row all of it."""
    return float((_luck(sums)[0] + apart**2 * (sums.counts[0] == 1)).sum())


def _luck(sums: Sums) -> Array:
    """The variance of a label in each bin, 0 of a single row. *Shape:* (resamples, bins)."""
    counts, hits = sums.counts, sums.hits
    return np.asarray(hits * (counts - hits) / (np.maximum(counts, 1) * np.maximum(counts - 1, 1)))


def _total(parts: Sequence[Squares]) -> Squares:
    return Squares(np.sum([part.per_row for part in parts], axis=0), sum(part.chance for part in parts))


def _sums(bins: Bins, weights: Array, p: Array, y: Array) -> Sums:
    rows = np.arange(len(bins))
    place = np.zeros((len(bins), 3 * BINS))
    for k, values in enumerate((np.ones(len(y)), p - y, y)):
        place[rows, k * BINS + bins] = values
    found = weights @ place
    return Sums(found[:, :BINS], found[:, BINS : 2 * BINS], found[:, 2 * BINS :])
