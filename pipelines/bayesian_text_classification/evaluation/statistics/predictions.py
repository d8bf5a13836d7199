"""Labeled probabilities, and many resamples of them at once: the input of every measure.

A resample is a row of weights that say how often each row of the data was drawn. Weights of 1 are the data itself.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...metric import load_metric_module
from ...pipeline.temperature import SMALLEST
from .intervals import distinct
from .rank_statistics import tied

BINS = 10
ROUNDING = 2.0**-21  # relative error of a logit or an exponential in float32, with some room for its inputs

Array = NDArray[np.float64]
Bins = NDArray[np.intp]


@dataclass(frozen=True)
class Predictions:
    """Rows with their probabilities and true classes.

    Attributes:
        probabilities: Class probabilities in float64; each row sums to 1. *Shape:* (rows, classes).
        labels: True classes. *Shape:* (rows,).
        groups: Number of each row's group, from 0. Rows of one group are copies of one text and count as one draw.
            None: every row is a draw. *Shape:* (rows,).
        fitted: How these rows move the scaling of `probabilities`. None if it was not fitted on them.
    """

    probabilities: Array
    labels: NDArray[np.int64]
    groups: NDArray[np.intp] | None = None
    fitted: "Fitted | None" = None

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.floating],
        labels: NDArray[np.integer],
        groups: NDArray[np.intp] | None = None,
    ) -> "Predictions":
        """Convert probabilities of any precision. float32 rows sum to 1 only within 1e-7, so rows are normalized."""
        p = np.asarray(probabilities, dtype=np.float64)
        return cls(p / p.sum(1, keepdims=True), np.asarray(labels, dtype=np.int64), groups)

    def like(self, other: "Predictions") -> "Predictions":
        """The part of these rows that `other` has; see `LabelPredictions.of_label`."""
        return self

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether each answer is right. *Shape:* (rows, 1), or (rows, labels) for independent labels."""
        return np.asarray(self.correct == 1)[:, None]

    @property
    def unseen(self) -> "Predictions":
        """The rows as predicted without their own labels. Means over rows are measured on these."""
        return self if self.fitted is None else self.fitted.left_out

    @cached_property
    def draws(self) -> int:
        """Number of independent draws: groups, or rows without groups."""
        return distinct(len(self.labels), self.groups)

    def over_draws(self, values: Array) -> Array:
        """Values per row as values per draw, with the same mean.

        A group's value is linearized: `m + (sum_g - n_g m) G / N`, for G groups, N rows, and the mean m. So the spread
        over draws gives the standard error of m (Cochran 1977, section 9.8). *Shape:* (rows,) to (draws,).
        """
        if self.groups is None:
            return values
        mean, sizes = values.mean(), np.bincount(self.groups)
        sums = np.bincount(self.groups, weights=values)
        return np.asarray(mean + (sums - sizes * mean) * (len(sizes) / len(values)))

    @cached_property
    def confidence(self) -> Array:
        """Largest probability. *Shape:* (rows,)."""
        return np.asarray(self.probabilities.max(1))

    @cached_property
    def correct(self) -> Array:
        """1 where the most probable class is the true one. *Shape:* (rows,)."""
        return np.asarray(self.probabilities.argmax(1) == self.labels, dtype=np.float64)

    @cached_property
    def errors(self) -> int:
        """Number of draws with a wrong row."""
        return self._draws_among(self.correct == 0)

    @property
    def minority(self) -> int:
        """Minority count: the number of draws with a wrong row or with a right row, whichever is smaller."""
        return min(self.errors, self._draws_among(self.correct == 1))

    def as_if_right(self, random: np.random.Generator, rounds: int) -> "Iterator[Weighted]":
        """Draw new labels from the probabilities, `rounds` times. Copies of a text get one label."""
        upto = self.probabilities.cumsum(1)
        for _ in range(rounds):
            uniform = random.random((self.draws, 1))
            labels = (upto[:, :-1] < (uniform if self.groups is None else uniform[self.groups])).sum(1)
            yield unweighted(replace(self, labels=labels, fitted=None))

    def _draws_among(self, rows: NDArray[np.bool_]) -> int:
        return int(rows.sum()) if self.groups is None else len(np.unique(self.groups[rows]))

    @cached_property
    def doubt(self) -> Array:
        """1 minus the confidence; equal for rows that differ by the rounding of float32. *Shape:* (rows,)."""
        doubt, error = 1 - self.confidence, self._rounding
        own = np.take_along_axis(error, self.probabilities.argmax(1)[:, None], 1)[:, 0]
        others = (self.probabilities * error).sum(1) - self.confidence * own
        return tied(doubt, self.confidence * (doubt * own + others))  # of first order in the errors

    @cached_property
    def entropy(self) -> Array:
        """Predictive entropy in nats; equal for rows that differ by the rounding of float32. *Shape:* (rows,)."""
        p = self.probabilities
        log = np.log(np.where(p > 0, p, 1))
        entropy = np.asarray(-(p * log).sum(1))
        return tied(entropy, (p * np.abs(log + entropy[:, None]) * self._rounding).sum(1))

    @cached_property
    def _rounding(self) -> Array:
        """Relative error of each probability in float32, which grows with its logit. *Shape:* (rows, classes)."""
        p = self.probabilities
        return np.asarray(ROUNDING * (4 - np.log(np.where(p > 0, p, 1))))

    @cached_property
    def columns(self) -> list[tuple[Array, Array]]:
        """Probability of each class, and whether it is the true class. With two classes, only the second."""
        return [(self.probabilities[:, k], (self.labels == k).astype(np.float64)) for k in self._classes]

    @property
    def _classes(self) -> range:
        return range(1 if self.probabilities.shape[1] == 2 else 0, self.probabilities.shape[1])

    @cached_property
    def confidence_bins(self) -> Bins:
        """Bin of each confidence, out of 10 of equal width. *Shape:* (rows,)."""
        return bins_of(self.confidence)

    @cached_property
    def column_bins(self) -> list[Bins]:
        """Bin of each probability in each of `columns`. *Shape:* (rows,) each."""
        return [bins_of(p) for p, _ in self.columns]

    @cached_property
    def nll(self) -> Array:
        """`-log p[y]` in nats, at most 87.3: a probability of 0 counts as the least of float32. *Shape:* (rows,)."""
        own = np.take_along_axis(self.probabilities, self.labels[:, None], 1)[:, 0]
        return np.asarray(-np.log(np.maximum(own, SMALLEST)))

    @cached_property
    def brier(self) -> Array:
        """`sum_k (p_k - [y = k])^2`; with two classes, `(p - y)^2` of the second. *Shape:* (rows,)."""
        return np.asarray(sum((p - y) ** 2 for p, y in self.columns))


class Fitted(ABC):
    """A scaling that was fitted on the measured rows, and what its noise does to a measure.

    Attributes:
        left_out: The rows, each at the scaling that the other groups give.
    """

    left_out: "Predictions"

    @abstractmethod
    def noise(self, per_row: Callable[["Predictions"], Array]) -> tuple[Array, float]:
        """What to add to the values of a mean over rows, and the standard deviation of what that leaves out.

        The first is the slope by what was fitted times each row's influence on it. The second is that of half the
        curvature times the square of the error of the fit. It is all that is left where the slope is 0, such as for
        the NLL.
        """

    @abstractmethod
    def refitted(self, rows: "Predictions", measures: "Sequence[Values]", weights: Array) -> Array:
        """Measures at the scaling that each resample gives, to first order: of the resample, and of all rows.

        *Shape:* (measures, 2, resamples).
        """


@dataclass(frozen=True)
class FittedTemperature(Fitted):
    """A temperature T that was fitted on the measured rows.

    Attributes:
        left_out: The rows, each at the temperature that the other groups give.
        before: The rows without a temperature.
        influence: Influence of each row on 1/T. *Shape:* (rows,).
        error: Standard error of 1/T.
        speeds: Ascending values of 1/T around the fitted one. *Shape:* (temperatures,).
        around: The rows at these temperatures.
        middle: Index of the fitted one.
    """

    left_out: Predictions
    before: Predictions
    influence: Array
    error: float
    speeds: Array
    around: tuple[Predictions, ...]
    middle: int

    def is_of(self, base: Predictions) -> bool:
        """Whether these are the rows of `base` at a temperature."""
        return self.before.probabilities.shape == base.probabilities.shape and np.allclose(
            self.before.probabilities, base.probabilities, rtol=0, atol=1e-12
        )

    @cached_property
    def _whole(self) -> "list[Weighted]":
        return [unweighted(rows) for rows in self.around]

    def noise(self, per_row: Callable[[Predictions], Array]) -> tuple[Array, float]:
        """See `Fitted.noise`; what was fitted is 1/T."""
        near = np.clip(self.middle + np.array([-2, 0, 2]), 0, len(self.speeds) - 1)  # one standard error apart
        slope = curvature = 0.0
        if near[0] < near[2]:
            line = np.polyfit(
                self.speeds[near] - self.speeds[self.middle],
                [float(per_row(self.around[k]).mean()) for k in near],
                min(len(set(near)) - 1, 2),
            )
            slope, curvature = line[-2], 2 * line[0] if len(line) > 2 else 0.0
        return slope * self.influence, abs(curvature) * self.error**2 / math.sqrt(2)

    def refitted(self, rows: Predictions, measures: "Sequence[Values]", weights: Array) -> Array:
        """See `Fitted.refitted`. The temperatures are rounded to half a standard error."""
        wanted = self.speeds[self.middle] + weights @ self.influence / weights.sum(1)
        nearest = np.searchsorted((self.speeds[1:] + self.speeds[:-1]) / 2, wanted)
        found = np.empty((len(measures), 2, len(weights)))
        for place in np.unique(nearest):
            chosen = nearest == place
            data, whole = Weighted(self.around[place], weights[chosen]), self._whole[place]
            for k, values in enumerate(measures):
                found[k, 0, chosen], found[k, 1, chosen] = values(data), values(whole)[0]
        return found


@dataclass(frozen=True)
class Weighted:
    """Rows and many resamples of them. Bin sums that several measures share are computed once.

    Attributes:
        rows: The data.
        weights: How often each row is in each resample. *Shape:* (resamples, rows).
    """

    rows: Predictions
    weights: Array

    @cached_property
    def total(self) -> Array:
        """Number of rows in each resample. *Shape:* (resamples,)."""
        return np.asarray(self.weights.sum(1))

    @cached_property
    def confidence_sums(self) -> "Sums":
        """Bin sums of the predicted class' probability and of whether it is right."""
        return _sums(self.rows.confidence_bins, self.weights, self.rows.confidence, self.rows.correct)

    @cached_property
    def column_sums(self) -> "list[Sums]":
        """Bin sums of each of the rows' `columns`."""
        columns = zip(self.rows.column_bins, self.rows.columns, strict=True)
        return [_sums(bins, self.weights, p, y) for bins, (p, y) in columns]


@dataclass(frozen=True)
class Sums:
    """Sums over each bin in each resample. *Shape:* (resamples, bins) each.

    Attributes:
        counts: Number of rows.
        confidence: Sum of their probabilities.
        hits: Number of rows in which the event with this probability happened.
    """

    counts: Array
    confidence: Array
    hits: Array

    @property
    def gaps(self) -> Array:
        """Summed probabilities minus hits."""
        return self.confidence - self.hits

    def error(self, norm: str = "l1", *, debias: bool = False) -> Array:
        """The error of `metrics/ece` in each resample; its square with norm "l2". *Shape:* (resamples,)."""
        columns = (part[:, None, :] for part in (self.counts, self.confidence, self.hits))
        return np.asarray(load_metric_module().error_from_sums(*columns, norm=norm, debias=debias))


Values = Callable[[Weighted], Array]
PerRow = Callable[[Predictions], Array]


def bins_of(values: Array) -> Bins:
    """Bin of each value, out of 10 of equal width."""
    module = load_metric_module()
    bins: Bins = module.bins_of(values, module.uniform_edges(BINS))
    return bins


def unweighted(rows: Predictions) -> Weighted:
    """The rows, each with weight 1."""
    return Weighted(rows, np.ones((1, len(rows.labels))))


def _sums(bins: Bins, weights: Array, p: Array, y: Array) -> Sums:
    rows = np.arange(len(bins))
    place = np.zeros((len(bins), 3 * BINS))
    for k, values in enumerate((np.ones(len(y)), p, y)):
        place[rows, k * BINS + bins] = values
    found = weights @ place
    return Sums(found[:, :BINS], found[:, BINS : 2 * BINS], found[:, 2 * BINS :])
