"""Clusters of classes whose conformity scores are alike, for classes with too few texts of their own.

Clustered conformal prediction (Ding et al. 2023, arXiv:2306.09335): a class is described by quantiles of its scores,
k-means weighs it by the square root of its number of texts, and classes with very few texts are in no cluster.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_TEXTS = 9  # of a class in a cluster: fewer have no quantile of 90%
TEXTS_PER_CLUSTER = 150  # on average, for its quantile
MOST_CLUSTERS = 50
QUANTILES = (0.5, 0.6, 0.7, 0.8, 0.9)
NO_CLUSTER = -1
_RESTARTS, _ROUNDS = 10, 100


def clusters_of(
    classes: NDArray[np.integer], scores: Array, chooses: NDArray[np.bool_], count: int
) -> NDArray[np.int64]:
    """The cluster of each class; -1 for a class in none. *Shape:* (count,).

    Args:
        classes: Class of each calibration text. *Shape:* (texts,).
        scores: Conformity score of each of them. *Shape:* (texts,).
        chooses: Whether each of them chooses clusters, or is kept for their quantiles. *Shape:* (texts,).
        count: Number of classes.
    """
    found = np.full(count, NO_CLUSTER, dtype=np.int64)
    texts, choosing = np.bincount(classes, minlength=count), np.bincount(classes[chooses], minlength=count)
    members = np.flatnonzero((texts >= LEAST_TEXTS) & (choosing > 0))
    kept = int((texts - choosing)[members].sum())
    number = min(kept // TEXTS_PER_CLUSTER, len(members), MOST_CLUSTERS)
    if number == 0:
        return found
    order = np.lexsort((scores, classes))
    order = order[chooses[order]]
    parts = np.split(scores[order], np.cumsum(choosing)[:-1])  # of each class, ascending
    points = np.stack([np.quantile(parts[one], QUANTILES) for one in members])
    found[members] = k_means(points, np.sqrt(choosing[members]), number)
    return found


def k_means(points: Array, weights: Array, number: int) -> NDArray[np.int64]:
    """Cluster of each point, by weighted k-means: the best of 10 fixed starts. *Shape:* (points,).

    Args:
        points: *Shape:* (points, dimensions).
        weights: *Shape:* (points,).
        number: Number of clusters; one may stay empty.
    """
    random = np.random.default_rng(0)
    best, least = np.zeros(len(points), dtype=np.int64), np.inf
    for _ in range(_RESTARTS):
        centers = _spread_out(points, weights, number, random)
        for _ in range(_ROUNDS):
            nearest = _squared(points, centers).argmin(1)
            before = centers.copy()
            for k in range(number):
                if (own := nearest == k).any():
                    centers[k] = np.average(points[own], axis=0, weights=weights[own])
            if np.array_equal(before, centers):
                break
        distances = _squared(points, centers)
        if (cost := float(weights @ distances.min(1))) < least:
            best, least = distances.argmin(1), cost
    return best


def _spread_out(points: Array, weights: Array, number: int, random: np.random.Generator) -> Array:
    """Starting centers, far from each other (k-means++, Arthur & Vassilvitskii 2007)."""
    chosen = [random.choice(len(points), p=weights / weights.sum())]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < number:
        nearest = np.minimum(nearest, _squared(points, points[chosen[-1:]])[:, 0])
        chances = weights * nearest
        if chances.sum() == 0:  # fewer distinct points than clusters
            chances = weights
        chosen.append(random.choice(len(points), p=chances / chances.sum()))
    return points[chosen].copy()


def _squared(points: Array, centers: Array) -> Array:
    found: Array = (points**2).sum(1)[:, None] - 2 * points @ centers.T + (centers**2).sum(1)
    return np.maximum(found, 0)
