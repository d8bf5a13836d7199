"""Statistics of the order of rows by a score. Weights say how often each row counts, for many resamples at once."""

import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def auroc(scores: Array, positive: Array, weights: Array) -> Array:
    """Area under the ROC curve: the probability that a positive row scores higher than a negative row; ties count half.

    Args:
        scores: Score of each row. *Shape:* (rows,).
        positive: 1 for positive rows, 0 for negative rows. *Shape:* (rows,).
        weights: How often each row is in each resample. *Shape:* (resamples, rows).

    Returns:
        The area in each resample; NaN if it has no positive or no negative rows. *Shape:* (resamples,).
    """
    yes, no = weights_by_key(scores, weights, positive)
    below = np.cumsum(no, axis=1) - no
    with np.errstate(invalid="ignore"):
        return np.asarray((yes * (below + no / 2)).sum(1) / (yes.sum(1) * no.sum(1)))


def false_positive_rate(scores: Array, positive: Array, weights: Array, recall: float) -> Array:
    """Share of the negative rows at or above the highest threshold that at least `recall` of the positive rows reach.

    Args:
        scores: Score of each row. *Shape:* (rows,).
        positive: 1 for positive rows, 0 for negative rows. *Shape:* (rows,).
        weights: How often each row is in each resample. *Shape:* (resamples, rows).
        recall: Share of the positive rows, in (0, 1].

    Returns:
        The rate in each resample; NaN if it has no positive or no negative rows. *Shape:* (resamples,).
    """
    yes, no = weights_by_key(-scores, weights, positive)  # the highest scores first
    found, flagged = np.cumsum(yes, axis=1), np.cumsum(no, axis=1)
    needed = recall * found[:, -1:] - 1e-9  # 0.95 of twenty rows is nineteen, despite rounding
    first = (found >= needed).argmax(1)[:, None]
    with np.errstate(invalid="ignore"):
        share = np.take_along_axis(flagged, first, 1)[:, 0] / flagged[:, -1]
    return np.where(found[:, -1] > 0, share, np.nan)


def tied(key: Array, rounding: Array) -> Array:
    """The key, where rows that differ by no more than the rounding of the lowest of them get its value.

    No two rows further apart than that become equal, however dense the rows between them are.

    Args:
        key: *Shape:* (rows,).
        rounding: How far apart equal keys may be because of rounding. *Shape:* (rows,).
    """
    order = np.argsort(key, kind="stable")
    ordered, most = key[order], key[order] + rounding[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] > np.maximum.accumulate(most)[:-1], [True]]))
    for start, end in itertools.pairwise(first):
        while end - start > 1:
            stop = start + int(np.searchsorted(ordered[start:end], most[start], side="right"))
            ordered[start:stop] = ordered[start]
            start = stop
    found = np.empty_like(key)
    found[order] = ordered
    return found


def weights_by_key(key: Array, weights: Array, flag: Array) -> tuple[Array, Array]:
    """Weights of flagged rows and of others by ascending key. *Shape:* (resamples, distinct keys) both.

    Rows with equal keys share a column. Keys are rounded to 12 digits of the largest one. Otherwise a key that is
    summed in another order would break a tie.
    """
    size = float(np.abs(key).max())
    key = np.round(key / size, 12) if size > 0 else key
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(key[order]) > 0]))
    ordered, flag = weights[:, order], flag[order]
    return np.add.reduceat(ordered * flag, starts, axis=1), np.add.reduceat(ordered * (1 - flag), starts, axis=1)
