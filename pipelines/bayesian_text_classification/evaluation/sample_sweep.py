"""How many samples are enough: measures of the mean of 1, 2, ... samples, and their distance from the limit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metric import load_metric_module
from ..pipeline.masks import GROUP_SIZE
from ..pipeline.spread import EXPECTED_BALANCE, Spread
from ..pipeline.temperature import SMALLEST
from .statistics.label_measures import pooled_ece
from .statistics.label_predictions import LabelPredictions
from .statistics.predictions import BINS, Array, unweighted

MOST_SIZES = 60  # in the curves; a pool of more than three times as many samples has more
MOST_SAMPLES = 200  # that are recommended
ORDERS = 30
MOST_TEXTS = 2_000  # of many texts, a random part is enough

# Enough samples: from there on, the scores and the NLL are expected to be this close to their limits. The ECE is not a
# guide: scores that cross a bin edge make it jump at any number of samples.
NEAR_SCORE = 0.02  # root mean square over the texts
NEAR_NLL = 0.02  # relative to the NLL

CURVES = ("ece", "accuracy", "nll")


@dataclass(frozen=True)
class Sweep:
    """Measures against the number of samples: 5th percentile, median and 95th percentile over orders of the pool.

    The orders are of the same samples, so near the size of the pool they agree. `distances` has no such end: it goes up
    to the recommended number of samples.

    Attributes:
        sizes: Numbers of samples.
        pool: Number of samples in the pool.
        orders: Number of random orders of the pool.
        texts: Number of texts in the sweep: all texts of the comparison, or a random part of them.
        all_texts: Number of texts in the comparison.
        curves: ECE, accuracy and NLL. *Shape:* (3, sizes) each.
        distances: Expected root mean square distance of the score from its limit; for independent labels, that of the
            label of each text that is farthest from its limit. For 1, 2, ... samples.
        frequentist: ECE, accuracy and NLL of the frequentist arm on the same texts.
        recommended: Number of samples from which on the scores are expected within 0.02 of their limit (root mean
            square), and the NLL within 2% of its limit. None if 200 samples are too few.
    """

    sizes: list[int]
    pool: int
    orders: int
    texts: int
    all_texts: int
    curves: dict[str, Array]
    distances: Array
    frequentist: dict[str, float]
    recommended: int | None


def enough_samples(sweep: Sweep, several: bool) -> str:
    """How many samples are enough, in words; `several`: of independent labels."""
    scores = "the scores of all labels" if several else "scores"
    if sweep.recommended is None:
        return f"The scores or the NLL are still changing at {MOST_SAMPLES} samples. If you sample, use more."
    few = f" This is rough: it takes {2 * GROUP_SIZE} samples to see how they vary." * (sweep.pool < 2 * GROUP_SIZE)
    return (
        f"If you sample, about {sweep.recommended} samples are enough. From there on, {scores} stay within "
        f"{NEAR_SCORE} of their limit (root mean square over the texts), and the NLL within {NEAR_NLL:.0%} of its "
        f"limit.{few}"
    )


def sample_sweep(
    pool: NDArray[np.floating],
    labels: NDArray[np.int64],
    frequentist: NDArray[np.floating],
    *,
    seed: int = 0,
    sizes: Sequence[int] | None = None,
    all_texts: int | None = None,
) -> Sweep:
    """Compute measures against the number of samples.

    Every order permutes whole groups of balanced samples, and the samples inside each group. So any prefix consists of
    whole groups and a part of one more, as in a call of the pipeline.

    How far a mean of T samples is from its limit, the mean of infinitely many, follows from the variance of single
    samples and `Spread.variance_of_mean`. The balance of a group of ten comes from how far the means of the groups in
    the pool are apart. With fewer than 20 samples there are no two groups, and the balance is the one that is expected
    at a dropout rate of 0.1.

    Args:
        pool: Probabilities of the samples, in the pipeline's order. *Shape:* (texts, classes, samples).
        labels: True classes, or 0 and 1 for independent labels. *Shape:* (texts,) or (texts, labels).
        frequentist: Probabilities of the frequentist arm, for comparison. *Shape:* (texts, classes).
        seed: Seed of the orders.
        sizes: Numbers of samples, each at most that of the pool. None: from 1 to 60, or to a third of a larger pool.
        all_texts: Total number of texts, if these are only a part of them.
    """
    samples = pool.shape[2]
    sizes = range(1, min(samples, max(MOST_SIZES, samples // 3)) + 1) if sizes is None else sizes
    random = np.random.default_rng(seed % 2**64)
    found = {name: np.empty((ORDERS, len(sizes))) for name in CURVES}
    measured = _of_labels if np.ndim(labels) == 2 else _of_classes
    for i in range(ORDERS):
        order = group_order(samples, random)[: max(sizes)]
        sums = np.cumsum(pool[:, :, order], axis=2, dtype=np.float64)[:, :, np.asarray(sizes) - 1]
        for name, values in measured(sums / np.asarray(sizes), labels).items():
            found[name][i] = values
    limits = _Limits.of(pool, labels)
    enough = limits.enough()
    return Sweep(
        list(sizes),
        samples,
        ORDERS,
        len(labels),
        all_texts or len(labels),
        {name: np.quantile(values, [0.05, 0.5, 0.95], axis=0) for name, values in found.items()},
        np.array([limits.distance(count) for count in range(1, max(*sizes, enough or 1) + 1)]),
        {name: float(values[0]) for name, values in measured(frequentist[:, :, None], labels).items()},
        enough,
    )


def rows_of_sweep(texts: int, seed: int) -> NDArray[np.intp]:
    """The rows in the sweep: all, or a random part of many. *Shape:* (rows,)."""
    if texts <= MOST_TEXTS:
        return np.arange(texts)
    return np.sort(np.random.default_rng(seed % 2**64).permutation(texts)[:MOST_TEXTS])


@dataclass(frozen=True)
class _Limits:
    """How far the scores and the NLL of a mean of samples are from their limits.

    Attributes:
        square: Mean square distance of the score of one sample from its limit.
        excess: NLL of one sample above its limit, to second order.
        nll: The limit of the NLL.
        spread: How the variance of a mean depends on its number of samples.
    """

    square: float
    excess: float
    nll: float
    spread: Spread

    @classmethod
    def of(cls, pool: NDArray[np.floating], labels: NDArray[np.int64]) -> "_Limits":
        """From at least two samples of each text. *Shape:* (texts, classes, samples)."""
        samples, groups = pool.shape[2], pool.shape[2] // GROUP_SIZE
        several = np.ndim(labels) == 2
        measured, distance = (_of_labels, _largest_distance) if several else (_of_classes, _distance_of_score)
        p = np.asarray(pool, np.float64)
        middle = p.mean(2)
        square = float((distance(p, middle[:, :, None]) ** 2).mean()) * samples / (samples - 1)
        balance = EXPECTED_BALANCE
        if groups > 1:
            means = p[:, :, : groups * GROUP_SIZE].reshape(*middle.shape, groups, GROUP_SIZE).mean(3)
            apart = float((distance(means, means.mean(2)[:, :, None]) ** 2).mean()) * groups / (groups - 1)
            balance = max(apart * GROUP_SIZE / square, 1e-3) if square else 1.0
        spread = Spread(0.0, balance)
        # -log(p) at the mean of T samples exceeds its value at the limit by variance / (2 T p^2), to second order.
        if several:
            own = np.where(np.asarray(labels)[:, :, None] == 1, p, 1 - p)
        else:
            own = np.take_along_axis(p, np.asarray(labels)[:, None, None], 1)
        excess = float((own.var(2, ddof=1) / np.maximum(own.mean(2), SMALLEST) ** 2).mean()) / 2
        nll = float(measured(middle[:, :, None], labels)["nll"][0])
        limit = nll - excess * spread.variance_of_mean(samples, GROUP_SIZE)
        return cls(square, excess, max(limit, nll / 2), spread)

    def distance(self, count: int) -> float:
        """Root mean square distance of the score from its limit, for a mean of so many samples."""
        return math.sqrt(self.square * self.spread.variance_of_mean(count, GROUP_SIZE))

    def enough(self) -> int | None:
        """The smallest number of samples from which on both are near their limits.

        Between whole groups, a balanced mean is farther from its limit than at the last whole one.
        """
        far = [count for count in range(1, MOST_SAMPLES + 1) if not self._near(count)]
        last = far[-1] if far else 0
        return None if last == MOST_SAMPLES else last + 1

    def _near(self, count: int) -> bool:
        excess = self.excess * self.spread.variance_of_mean(count, GROUP_SIZE)
        return self.distance(count) <= NEAR_SCORE and excess <= NEAR_NLL * self.nll


def group_order(samples: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Draw a random order of the samples that keeps each group of balanced samples together."""
    groups = [np.arange(first, min(first + GROUP_SIZE, samples)) for first in range(0, samples, GROUP_SIZE)]
    return np.concatenate([random.permutation(groups[g]) for g in random.permutation(len(groups))])


def _largest_distance(means: NDArray[np.floating], limit: NDArray[np.floating]) -> Array:
    """Largest distance of a label's probability from its limit. *Shape:* (texts, 1, sizes)."""
    return np.asarray(np.abs(means - limit).max(1, keepdims=True))


def _distance_of_score(means: NDArray[np.floating], limit: NDArray[np.floating]) -> Array:
    """Distances of the score, the largest limit's probability, from its limit. *Shape:* (texts, 1, sizes)."""
    means, winner = means / means.sum(1, keepdims=True), limit.argmax(1)[:, None]
    return np.asarray(np.take_along_axis(means, winner, 1) - np.take_along_axis(limit, winner, 1))


def _of_labels(means: NDArray[np.floating], labels: NDArray[np.int64]) -> dict[str, Array]:
    """Pooled ECE, accuracy and NLL of each column of `means` (texts, labels, columns). *Shape:* (columns,) each."""
    columns = [LabelPredictions.of(means[:, :, j], labels) for j in range(means.shape[2])]
    return {
        "ece": np.array([float(pooled_ece(unweighted(rows))[0]) for rows in columns]),
        "accuracy": np.array([rows.correct.mean() for rows in columns]),
        "nll": np.array([rows.nll.mean() for rows in columns]),
    }


def _of_classes(means: NDArray[np.floating], labels: NDArray[np.int64]) -> dict[str, Array]:
    """ECE, accuracy and NLL of each column of `means` (texts, classes, columns). *Shape:* (columns,) each."""
    module, means = load_metric_module(), means / means.sum(1, keepdims=True)
    confidence, correct = means.max(1), means.argmax(1) == labels[:, None]
    own = np.take_along_axis(means, labels[:, None, None], 1)[:, 0]
    # The top-label ECE is the binary ECE of being right, so there is no need to pass all classes 1,800 times.
    ece = [
        module.bin_sums(confidence[:, j], correct[:, j], n_bins=BINS, binary=True).ece for j in range(means.shape[2])
    ]
    nll = -np.log(np.maximum(own, SMALLEST)).mean(0)
    return {"ece": np.array(ece), "accuracy": correct.mean(0), "nll": nll}
