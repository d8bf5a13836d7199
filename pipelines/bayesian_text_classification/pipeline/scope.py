"""What the texts that a classifier was made for look like to its encoder, and how far a text is from them.

The distance is that of Mahalanobis to the nearest class mean (Lee et al. 2018, arXiv:1807.03888), on features of unit
length (Müller & Hein 2025, arXiv:2505.18032), with the covariance within classes shrunk as by Ledoit & Wolf (2004).
The p-value is conformal (Vovk et al. 2005): over draws of the held-out texts, and of a text like them, it is at most a
with a probability of at most a. The held-out texts are a sample of what will come, so repeated ones count as often as
they come.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_TEXTS = 20  # to learn a scope from, and to hold out
MOST_NUMBERS = 1_250_000  # of means and precision: 5 MB in float32
LEAST_DIRECTIONS = 64  # for any number of classes
_SAME = 1e-5  # distances that differ by less, relatively, are equal: the same text, in another batch


@dataclass(frozen=True, eq=False, repr=False)
class Scope:
    """The texts that a classifier was made for, in the space of its features.

    The squared distance of a unit feature vector x from the mean m of a class is

        (x - m)' S^-1 (x - m) = rest |x - m|^2 - |G' (x - m)|^2

    with the covariance S within classes. Where S would take more than 5 MB, G has its largest directions only, and all
    others share the mean of their variances.

    Attributes:
        means: Mean features of each class. *Shape:* (classes, features).
        directions: G. *Shape:* (features, directions).
        rest: The precision in every other direction.
        held_out: Distances of the held-out texts, ascending. *Shape:* (texts,).
        weights: Some of the weights of the model that it was learned with; see `some_weights`. Empty if not known.
    """

    means: NDArray[np.float32]
    directions: NDArray[np.float32]
    rest: float
    held_out: Array
    weights: Array = field(default_factory=lambda: np.empty(0))

    def distances(self, features: NDArray[np.floating]) -> Array:
        """Distance of each text from the nearest class; NaN if a feature is. *Shape:* (texts,).

        Raises:
            ValueError: The scope is that of a model with other features.
        """
        if features.shape[1] != self.means.shape[1]:
            raise ValueError(f"the scope has {self.means.shape[1]} features, and the model has {features.shape[1]}")
        x, (means, directions, projected) = _unit(features), self._exact
        squared = self.rest * _squared(x, means) - _squared(x @ directions, projected)
        return np.asarray(np.sqrt(np.maximum(squared.min(1), 0)))

    def p_values(self, distances: Array) -> Array:
        """(1 + number of held-out texts at least as far) / (1 + number of held-out texts). *Shape:* (texts,)."""
        n = len(self.held_out)
        nearer = np.searchsorted(self.held_out, distances * (1 - _SAME))
        return np.where(np.isnan(distances), np.nan, (1 + n - nearer) / (n + 1))

    def check_level(self, level: float) -> None:
        """Raise ValueError if no p-value can be as small as `level`."""
        n = len(self.held_out)
        if 1 / (n + 1) > level:
            needed = int(1 / level)
            needed += 1 / (needed + 1) > level
            needed -= needed > 1 and 1 / needed <= level
            raise ValueError(
                f"novelty_level={level:g} needs at least {needed:,} held-out texts, and the scope has {n:,}; call "
                f"classifier.learn_scope with more, or pass novelty_level={_rounded_up(1 / (n + 1))}"
            )

    def is_of(self, weights: Array) -> bool:
        """Whether a model with these weights (`some_weights`) is the one that it was learned with, as far as is known.

        Weights that were loaded in another dtype differ by their rounding.
        """
        return same_weights(weights, self.weights)

    @cached_property
    def _exact(self) -> tuple[Array, Array, Array]:
        """Means, directions, and the projected means, in double precision."""
        means, directions = self.means.astype(np.float64), self.directions.astype(np.float64)
        return means, directions, means @ directions

    def __repr__(self) -> str:
        return f"<scope: {self}>"

    def __str__(self) -> str:
        classes = len(self.means)
        return f"{classes:,} class{'es' * (classes > 1)}, {len(self.held_out):,} held-out texts"

    def digest(self) -> str:
        """A hash of the arrays."""
        found = hashlib.blake2b(digest_size=16)
        for array in self.saved().values():
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def saved(self) -> dict[str, NDArray[Any]]:
        """The arrays of a file."""
        return {
            "means": self.means,
            "directions": self.directions,
            "rest": np.array(self.rest),
            "held_out": self.held_out,
            "weights": self.weights,
        }

    @classmethod
    def of_saved(cls, arrays: Mapping[str, NDArray[Any]]) -> "Scope":
        """The scope of the arrays of a file."""
        return cls(arrays["means"], arrays["directions"], float(arrays["rest"]), arrays["held_out"], arrays["weights"])


def scope_of(features: NDArray[np.floating], classes: NDArray[np.integer], held_out: NDArray[np.floating]) -> Scope:
    """Learn a scope.

    Args:
        features: Features of texts of the scope. *Shape:* (texts, features).
        classes: The class of each of them. *Shape:* (texts,).
        held_out: Features of other texts of the scope. *Shape:* (texts, features).
    """
    x = _unit(features)
    _, rows = np.unique(classes, return_inverse=True)
    counts = np.bincount(rows)
    means = np.zeros((len(counts), x.shape[1]))
    np.add.at(means, rows, x)
    means /= counts[:, None]
    variances, vectors = np.linalg.eigh(shrunk_covariance(x - means[rows]))
    variances = np.maximum(variances, 1e-9 * max(float(variances[-1]), 1e-3))  # positive also if all texts are equal
    width = x.shape[1]
    count = min(max(MOST_NUMBERS // width - len(means), LEAST_DIRECTIONS), width)
    rest = 1 / (variances[: width - count].mean() if count < width else variances[0])
    directions = vectors[:, -count:] * np.sqrt(np.maximum(rest - 1 / variances[-count:], 0))
    found = Scope(means.astype(np.float32), directions.astype(np.float32), float(rest), np.empty(0))
    return replace(found, held_out=np.sort(found.distances(held_out)))


def shrunk_covariance(deviations: Array) -> Array:
    """Covariance of deviations from known means, shrunk toward a multiple of the identity (Ledoit & Wolf 2004).

    Args:
        deviations: *Shape:* (texts, features).

    Returns:
        (1 - d) S + d mu I, with the sample covariance S, its mean variance mu, and the share d that minimizes the
        expected squared error. *Shape:* (features, features).
    """
    n, width = deviations.shape
    covariance = deviations.T @ deviations / n
    mean = np.trace(covariance) / width
    # Of the n matrices x x', whose mean is S: their mean squared distance from S, and that of S from mean I.
    apart = ((deviations**2).sum(1) ** 2).mean() - (covariance**2).sum()
    spread = (covariance**2).sum() - width * mean**2
    share = 1.0 if spread <= 0 else min(apart / n / spread, 1.0)
    shrunk: Array = (1 - share) * covariance
    shrunk[np.diag_indices(width)] += share * mean
    return shrunk


def same_weights(weights: Array, known: Array) -> bool:
    """Whether `some_weights` of a model are those of another one, up to rounding; True if nothing is known of it."""
    return not known.size or (weights.shape == known.shape and bool(np.allclose(weights, known, rtol=1e-2, atol=1e-5)))


def _unit(features: NDArray[np.floating]) -> Array:
    x = np.asarray(features, dtype=np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    unit: Array = np.divide(x, norms, out=np.zeros_like(x), where=norms != 0)
    return unit


def _squared(x: Array, m: Array) -> Array:
    """Squared distance of each row of x from each row of m. *Shape:* (rows of x, rows of m)."""
    found: Array = (x**2).sum(1)[:, None] - 2 * x @ m.T + (m**2).sum(1)
    return found


def _rounded_up(value: float) -> str:
    """A number of three digits that is at least `value`."""
    digits = 2 - int(np.floor(np.log10(value)))
    return f"{np.ceil(value * 10**digits) / 10**digits:g}"
