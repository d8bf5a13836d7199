"""How many samples are enough: measures of the mean of 1, 2, ... samples, over random orders of a large pool."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..metric import load_metric_module
from ..pipeline.masks import GROUP_SIZE
from ..pipeline.temperature import SMALLEST
from .statistics.label_measures import pooled_ece
from .statistics.label_predictions import LabelPredictions
from .statistics.predictions import BINS, Array, unweighted

SIZES = range(1, 61)  # numbers of samples
POOL = 3 * SIZES[-1]  # in a smaller pool, the orders would repeat each other's samples
ORDERS = 30
MOST_TEXTS = 2_000  # the sweep takes 180 passes of each text

# Enough samples: from there on, the scores are this close to their limit in 19 of 20 orders, and the NLL is this close
# to the pool's in 9 of 10. The ECE is not a guide: scores that cross a bin edge make it jump at any number of samples.
NEAR_SCORE = 0.02
NEAR_NLL = 0.02  # relative to the NLL

CURVES = ("ece", "accuracy", "nll", "rmse")


@dataclass(frozen=True)
class Sweep:
    """Measures against the number of samples: 5th percentile, median and 95th percentile over orders of the pool.

    Attributes:
        sizes: Numbers of samples.
        pool: Number of samples in the pool.
        orders: Number of random orders of the pool.
        texts: Number of texts in the sweep: all texts of the comparison, or a random part of them.
        all_texts: Number of texts in the comparison.
        curves: Measures by their names in `CURVES`. "rmse" is the root mean square distance of the score to its limit;
            for independent labels, that of the label of each text that is farthest from its limit.
            *Shape:* (3, sizes) each.
        frequentist: ECE, accuracy and NLL of the frequentist arm on the same texts.
        recommended: Smallest size from which on the scores stay within 0.02 of their limit (root mean square) and the
            NLL stays within 2% of the pool's, in nearly all orders. None if no size does.
    """

    sizes: list[int]
    pool: int
    orders: int
    texts: int
    all_texts: int
    curves: dict[str, Array]
    frequentist: dict[str, float]
    recommended: int | None


def sample_sweep(
    pool: NDArray[np.floating],
    labels: NDArray[np.int64],
    frequentist: NDArray[np.floating],
    *,
    seed: int = 0,
    sizes: Sequence[int] = SIZES,
    all_texts: int | None = None,
) -> Sweep:
    """Compute measures against the number of samples.

    Every order permutes whole groups of balanced samples, and the samples inside each group. So any prefix consists of
    whole groups and a part of one more, as in a call of the pipeline. T samples from a pool of P are closer to the
    pool's mean than to the limit, so their distance is divided by sqrt(1 - T / P).

    Args:
        pool: Probabilities of the samples, in the pipeline's order. *Shape:* (texts, classes, samples).
        labels: True classes, or 0 and 1 for independent labels. *Shape:* (texts,) or (texts, labels).
        frequentist: Probabilities of the frequentist arm, for comparison. *Shape:* (texts, classes).
        seed: Seed of the orders.
        sizes: Numbers of samples, each at most that of the pool.
        all_texts: Total number of texts, if these are only a part of them.
    """
    random = np.random.default_rng(seed % 2**64)
    found = {name: np.empty((ORDERS, len(sizes))) for name in CURVES}
    limit = pool.mean(axis=2, dtype=np.float64)[:, :, None]
    part = np.asarray(sizes) / pool.shape[2]
    measured, distance = (_of_labels, _largest_distance) if np.ndim(labels) == 2 else (_of_classes, _distance_of_score)
    for i in range(ORDERS):
        order = group_order(pool.shape[2], random)[: max(sizes)]
        sums = np.cumsum(pool[:, :, order], axis=2, dtype=np.float64)[:, :, np.asarray(sizes) - 1]
        means = sums / np.asarray(sizes)  # (texts, classes, sizes)
        for name, values in measured(means, labels).items():
            found[name][i] = values
        with np.errstate(divide="ignore", invalid="ignore"):
            found["rmse"][i] = np.sqrt((distance(means, limit) ** 2).mean((0, 1)) / (1 - part))
    curves = {name: np.quantile(values, [0.05, 0.5, 0.95], axis=0) for name, values in found.items()}
    whole = {name: float(values[0]) for name, values in measured(limit, labels).items()}
    return Sweep(
        list(sizes),
        pool.shape[2],
        ORDERS,
        len(labels),
        all_texts or len(labels),
        curves,
        {name: float(values[0]) for name, values in measured(frequentist[:, :, None], labels).items()},
        _recommended(sizes, curves, whole),
    )


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


def _recommended(sizes: Sequence[int], curves: dict[str, Array], whole: dict[str, float]) -> int | None:
    far = curves["rmse"][2] > NEAR_SCORE
    far |= (np.abs(curves["nll"][[0, 2]] - whole["nll"]) > NEAR_NLL * whole["nll"]).any(0)
    last = int(np.flatnonzero(far)[-1]) if far.any() else -1
    return sizes[last + 1] if last + 1 < len(sizes) else None
