"""Quality and calibration of probabilities on labeled rows. One definition per measure serves rows and resamples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .predictions import Array, Bins, Predictions, Sums, Values, Weighted, unweighted
from .rank_statistics import auroc, weights_by_key
from .strategies import (
    FittedLoss,
    Gaps,
    MetricsOwn,
    Ratio,
    RightShare,
    RootOfSquares,
    RowMean,
    RowSquares,
    Share,
    Squares,
    Strategy,
)


@dataclass(frozen=True)
class Measure:
    """One number that describes labeled probabilities.

    Attributes:
        key: Name in results.
        title: Name for people.
        higher_is_better: Whether higher is better; otherwise lower is.
        values: Function of weighted rows; NaN where the measure is not defined. *Shape:* (resamples,).
        strategy: Method for its interval and for the interval of a difference.
        most: Largest possible value.
    """

    key: str
    title: str
    higher_is_better: bool
    values: Values
    strategy: Strategy
    most: float = 1.0

    def value(self, rows: Predictions) -> float:
        """The measure of the rows, without weights."""
        return float(self.values(unweighted(rows))[0])


def ece(data: Weighted) -> Array:
    """Top-label ECE (Guo et al. 2017) over 10 bins of equal width."""
    return data.confidence_sums.error()


def class_wise_ece(data: Weighted) -> Array:
    """Binary ECE of each class' probability, averaged (Kull et al. 2019, eq. 3). With two classes both are equal."""
    return np.asarray(np.mean([sums.error() for sums in data.column_sums], axis=0))


def root_squared_ece(data: Weighted) -> Array:
    """Root of the debiased top-label l2 calibration error (Kumar et al. 2019, definition 5.1).

    That of `metrics/ece` for distinct texts. Noise that copies share is removed too.
    """
    if data.rows.groups is None:
        return np.sqrt(data.confidence_sums.error("l2", debias=True))
    sums = data.confidence_sums
    apart = sums.gaps / np.maximum(sums.counts, 1)
    squares = (sums.counts * apart**2).sum(1) - _noise(data, data.rows.confidence_bins, data.rows.correct, sums, apart)
    return np.asarray(np.sqrt(np.maximum(squares / data.total, 0)))


def reliability(data: Weighted) -> Array:
    """Part of the Brier score that recalibration would remove, `sum_b (n_b / N) (mean p_b - mean y_b)^2`.

    Murphy 1973, over 10 bins of equal width, summed over the classes. Brier score = reliability - resolution +
    uncertainty of the labels, except for what the bins hide: the spread of p inside them.
    """
    parts = [(sums.gaps**2 / np.maximum(sums.counts, 1)).sum(1) for sums in data.column_sums]
    return np.asarray(np.sum(parts, axis=0) / data.total)


def resolution(data: Weighted) -> Array:
    """How well the bins separate the labels, `sum_b (n_b / N) (mean y_b - mean y)^2`; see `reliability`."""

    def one(sums: Sums) -> Array:
        base = (sums.hits.sum(1) / data.total)[:, None]
        return np.asarray((sums.counts * (sums.hits / np.maximum(sums.counts, 1) - base) ** 2).sum(1))

    return np.asarray(np.sum([one(sums) for sums in data.column_sums], axis=0) / data.total)


def gaps_of_confidence(data: Weighted) -> Array:
    """The parts of `ece`: the absolute gap of each bin. *Shape:* (resamples, bins)."""
    return np.asarray(np.abs(data.confidence_sums.gaps) / data.total[:, None])


def gaps_of_classes(data: Weighted) -> Array:
    """The parts of `class_wise_ece`: the absolute gap of each bin of each class. *Shape:* (resamples, all bins)."""
    gaps = np.concatenate([np.abs(sums.gaps) for sums in data.column_sums], axis=1)
    return np.asarray(gaps / (data.total[:, None] * len(data.column_sums)))


def errors_of_confidence(rows: Predictions) -> Array:
    """Confidence minus whether the predicted class is right. *Shape:* (rows, 1)."""
    return np.asarray(rows.confidence - rows.correct)[:, None]


def errors_of_classes(rows: Predictions) -> Array:
    """Probability of each class minus whether it is the true one; only the second of two. *Shape:* (rows, classes)."""
    return np.stack([p - y for p, y in rows.columns], axis=1)


def squares_of_confidence(rows: Predictions) -> Squares:
    """`sum_b (n_b / N) (mean p_b - mean y_b)^2` of the confidence.

    `root_squared_ece` is the root of this sum without sampling noise.
    """
    return _squared_gaps(rows, rows.confidence_bins, rows.confidence, rows.correct, unweighted(rows).confidence_sums)


def squares_of_reliability(rows: Predictions) -> Squares:
    """The sum of squares of `reliability`."""
    columns = zip(rows.column_bins, rows.columns, unweighted(rows).column_sums, strict=True)
    return _total([_squared_gaps(rows, bins, p, y, sums) for bins, (p, y), sums in columns])


def squares_of_resolution(rows: Predictions) -> Squares:
    """The sum of squares of `resolution`."""

    def one(bins: Bins, y: Array, sums: Sums) -> Squares:
        base = y.mean()
        apart = sums.hits[0] / np.maximum(sums.counts[0], 1) - base
        of_base = float(rows.over_draws(y).var(ddof=1)) / rows.draws if rows.draws > 1 else 0.0
        noise = float(_noise(unweighted(rows), bins, y, sums, apart)[0]) / len(y) - of_base
        return Squares(2 * apart[bins] * (y - base) - apart[bins] ** 2, noise)

    columns = zip(rows.column_bins, rows.columns, unweighted(rows).column_sums, strict=True)
    return _total([one(bins, y, sums) for bins, (_, y), sums in columns])


def error_auroc(data: Weighted) -> Array:
    """Probability that a wrong row has a larger predictive entropy than a right row; ties count half."""
    return auroc(data.rows.entropy, 1 - data.rows.correct, data.weights)


def risk_coverage_area(data: Weighted) -> Array:
    """AURC: the error rate among the k most confident rows, averaged over k (Geifman et al. 2019, arXiv:1805.08206).

    Rows of equal confidence come in random order, and the value is the expectation over these orders.
    """
    wrong, right = weights_by_key(data.rows.doubt, data.weights, 1 - data.rows.correct)
    size = wrong + right
    kept, errors = np.cumsum(size, axis=1), np.cumsum(wrong, axis=1)
    before, errors_before = kept - size, errors - wrong
    rate = wrong / np.maximum(size, 1)
    # Row j of a group of equal confidence adds (errors_before + j rate) / (before + j). Harmonic numbers sum over j.
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(kept[:, -1].max()) + 1))])
    span = harmonic[kept.astype(np.int64)] - harmonic[before.astype(np.int64)]
    return np.asarray((size * rate + (errors_before - rate * before) * span).sum(1) / kept[:, -1])


def risk_coverage(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> tuple[Array, Array]:
    """The curve above `risk_coverage_area`: shares of rows kept, most confident first, and their error rates.

    Rows of equal confidence are kept together. *Shape:* (distinct confidences,) both.
    """
    rows = Predictions.of(probabilities, labels)
    wrong, right = weights_by_key(rows.doubt, np.ones((1, len(rows.labels))), 1 - rows.correct)
    kept = np.cumsum(wrong + right)
    return kept / kept[-1], np.cumsum(wrong) / kept


def mean_of(per_row: Callable[[Predictions], Array]) -> Values:
    """The mean over rows as a measure's values."""
    return lambda data: np.asarray(data.weights @ per_row(data.rows.unseen) / data.total)


def _squared_gaps(rows: Predictions, bins: Bins, p: Array, y: Array, sums: Sums) -> Squares:
    gap = sums.gaps[0] / np.maximum(sums.counts[0], 1)
    noise = float(_noise(unweighted(rows), bins, y, sums, gap)[0]) / len(y)
    return Squares(2 * gap[bins] * (p - y) - gap[bins] ** 2, noise)


def _noise(data: Weighted, bins: Bins, y: Array, sums: Sums, apart: Array) -> Array:
    """What sampling noise adds to `sum_b n_b apart_b^2` in each resample. *Shape:* (resamples,).

    For independent rows, a bin adds the variance of its labels; a bin with one row counts as pure noise. Copies of a
    text share the noise of their labels: with the sum r_g of the residuals in each of its m groups, a bin adds
    `m / (m - 1) sum_g r_g^2 / n_b`.
    """
    rows, size = np.arange(len(y)), sums.counts.shape[1]
    member = rows if data.rows.groups is None else data.rows.groups
    names, first, cell = np.unique(member * size + bins, return_index=True, return_inverse=True)
    hits, many, cells = np.bincount(cell, weights=y), np.bincount(cell), np.arange(len(names))
    place = np.zeros((len(names), 4 * size))
    for k, values in enumerate((np.ones(len(names)), hits**2, hits * many, many**2)):
        place[cells, k * size + names % size] = values
    draws, square, mixed, own = np.split(data.weights[:, first] @ place, 4, axis=1)
    mean = sums.hits / np.maximum(sums.counts, 1)
    residuals = (square - 2 * mean * mixed + mean**2 * own) / np.maximum(sums.counts, 1)
    noise = np.where(draws > 1, residuals * draws / np.maximum(draws - 1, 1), sums.counts * apart**2)
    return np.asarray(noise.sum(1))


def _total(parts: Sequence[Squares]) -> Squares:
    return Squares(np.sum([part.per_row for part in parts], axis=0), sum(part.noise for part in parts))


MEASURES = (
    Measure("ece", "ECE", False, ece, MetricsOwn(errors_of_confidence, gaps_of_confidence)),
    Measure("accuracy", "accuracy", True, mean_of(lambda rows: rows.correct), RightShare()),
    Measure("nll", "NLL", False, mean_of(lambda rows: rows.nll), FittedLoss(lambda rows: rows.nll), np.inf),
    Measure("brier", "Brier", False, mean_of(lambda rows: rows.brier), RowMean(lambda rows: rows.brier), 2.0),
    Measure("class_wise_ece", "class-wise ECE", False, class_wise_ece, Gaps(errors_of_classes, gaps_of_classes)),
    Measure("l2_ece", "l2 ECE, debiased", False, root_squared_ece, RootOfSquares(squares_of_confidence)),
    Measure("brier_reliability", "Brier: reliability", False, reliability, RowSquares(squares_of_reliability), 2.0),
    Measure("brier_resolution", "Brier: resolution", True, resolution, RowSquares(squares_of_resolution)),
    Measure("error_auroc", "AUROC of errors", True, error_auroc, Share()),
    Measure("aurc", "AURC", False, risk_coverage_area, Ratio()),
)
