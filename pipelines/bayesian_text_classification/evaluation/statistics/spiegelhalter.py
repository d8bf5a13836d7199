"""Spiegelhalter's test of calibration, for independent labels.

If the probabilities are right, the Brier score differs from its expected value by noise alone. The difference is the
sum of s = (y - p) (1 - 2p) over the texts (Spiegelhalter 1986, "Probabilistic prediction in patient management and
clinical trials"). It is positive where probabilities are too extreme, and negative where they are too close to 0.5. The
test needs no bins. It sees what a pooled ECE does not, whose bins of rare labels outweigh all others.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

LEAST = 10  # texts with a label, and without it, for a test of this label


@dataclass(frozen=True)
class Found:
    """What the tests say. Of calibrated models, a share of at most `level` has anything found.

    Attributes:
        z: Over all labels; standard normal if the probabilities are right.
        rejects: Whether that is too far from 0, at half the level.
        labels: Those whose own test rejects at the other half (Holm 1979), the most significant first.
    """

    z: float
    rejects: bool
    labels: list[int]


def spiegelhalter(p: Array, labels: Labels, groups: NDArray[np.intp] | None = None, level: float = 0.05) -> Found:
    """Test all labels together, and each one that at least ten texts have and ten do not.

    The labels of a text may be correlated.

    Args:
        p: Probabilities. *Shape:* (texts, labels).
        labels: 0 or 1. *Shape:* (texts, labels).
        groups: Number of each text; copies have the same one and count once. None: all differ. *Shape:* (texts,).
        level: Probability of finding anything if there is nothing.
    """
    s = _per_text((labels - p) * (1 - 2 * p), groups)
    variance = _per_text(p * (1 - p) * (1 - 2 * p) ** 2, groups)
    between = (s.sum(1) ** 2 - (s**2).sum(1)).sum()  # what correlation adds
    z = _z(float(s.sum()), float(variance.sum() + between))
    tested = [k for k, count in enumerate(labels.sum(0)) if LEAST <= count <= len(labels) - LEAST]
    each = sorted((2 * stats.norm.sf(abs(_z(float(s[:, k].sum()), float(variance[:, k].sum())))), k) for k in tested)
    found = []
    for done, (value, label) in enumerate(each):
        if value > level / 2 / (len(each) - done):
            break
        found.append(label)
    return Found(z, bool(2 * stats.norm.sf(abs(z)) < level / 2), found)


def _per_text(values: Array, groups: NDArray[np.intp] | None) -> Array:
    """The mean over the copies of each text. *Shape:* (distinct texts, labels)."""
    if groups is None:
        return values
    total = np.zeros((groups.max() + 1, values.shape[1]))
    np.add.at(total, groups, values)
    return np.asarray(total / np.bincount(groups)[:, None])


def _z(total: float, variance: float) -> float:
    return total / variance**0.5 if variance > 0 else 0.0
