"""Methods for the interval of a measure and of its difference between two arms, one class per method.

An interval is for the expectation over texts like these and over the seeds of the dropout masks, at the number of
samples that was used. Means over rows and their paired differences have closed forms. So do differences of measures
that sum squares over bins. For everything else, rows are drawn with replacement, the same rows for every arm.

A row keeps the masks that it was scored with. They are keyed by its text, so sampling noise is independent from row to
row and already part of the spread between rows. Drawing new masks would count it twice (Davison and Hinkley 1997,
section 3.8: resample clusters, keep what is inside them). A few models have a dropout site whose mask all texts share,
such as positions (`DropoutSite.batch_dim` is None). No interval includes the noise of that mask.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..metric import load_metric_module
from .intervals import (
    LEVEL,
    Interval,
    mean_interval,
    normal_interval,
    paired_shares,
    ratio_interval,
    share_interval,
    widened,
    wilson,
)
from .predictions import BINS, Array, Predictions

NO_INTERVAL = (math.nan, math.nan)


@dataclass(frozen=True)
class Resamples:
    """The rows of an arm, and the measures on resamples of them.

    Attributes:
        rows: The data.
        seed: Seed of the draws; equal seeds draw equal rows.
        values: Values on 1,000 resamples for each measure that needs them, by its key. *Shape:* (1,000,) each.
        noise: Value that sampling noise by itself would give each sum of absolute gaps on these rows, by its key.
    """

    rows: Predictions
    seed: int = 0
    values: Mapping[str, Array] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def ece(self) -> Any:
        """The `Bootstrap` of the metric `evaluate.load("ece")`, which describes sampling noise."""
        rows = self.rows
        return load_metric_module().bootstrap(rows.common, rows.labels, n_bins=BINS, seed=self.seed % 2**64)


class Strategy:
    """Method for intervals. This one is `e +- z s`, with the standard deviation s of the resamples.

    Davison and Hinkley 1997, section 2.4.

    Attributes:
        counts_errors: Whether an interval needs ten right and ten wrong rows. Rows that are all right do not show what
            a wrong row would have cost.
        resamples_interval: Whether the interval of a measure needs resamples.
        resamples_difference: Whether the interval of a difference needs resamples.
    """

    counts_errors = True
    resamples_interval = True
    resamples_difference = True

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Interval of the measure `key`, whose value is `value`."""
        return normal_interval(value, drawn.values[key])

    def difference(self, key: str, value: float, drawn: Resamples, base: Resamples) -> Interval:
        """Interval of the measure of one arm minus that of another on the same rows."""
        return normal_interval(value, drawn.values[key] - base.values[key])


class Share(Strategy):
    """Intervals on the logit scale, for a proportion of pairs of rows such as an AUROC."""

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Interval on the logit scale. If the value is 0 or 1, at least as wide as Wilson's."""
        return share_interval(value, drawn.values[key], drawn.rows.minority)


class Ratio(Strategy):
    """Intervals on the log scale, for a small positive quantity with a long upper tail such as the AURC."""

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Interval on the log scale."""
        return ratio_interval(value, drawn.values[key])


class RightShare(Strategy):
    """Intervals for the share of right rows: Wilson's, and Bonett and Price's for a difference."""

    counts_errors = False
    resamples_interval = False
    resamples_difference = False

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Wilson's interval."""
        trials = _trials(drawn.rows, drawn.rows.correct)
        return wilson(value * trials, trials)

    def difference(self, key: str, value: float, drawn: Resamples, base: Resamples) -> Interval:
        """Bonett and Price's interval for paired proportions."""
        first, second = drawn.rows.correct, base.rows.correct
        return paired_shares(first, second, _trials(drawn.rows, first - second))


@dataclass(frozen=True)
class RowMean(Strategy):
    """Hall's interval for a mean over rows. *Shape:* (rows,) for `per_row`."""

    resamples_interval = False
    resamples_difference = False

    per_row: Callable[[Predictions], Array]

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Hall's interval for the mean."""
        values, spread = self._with_noise(drawn.rows)
        return widened(mean_interval(drawn.rows.over_draws(values)), value, spread)

    def difference(self, key: str, value: float, drawn: Resamples, base: Resamples) -> Interval:
        """Hall's interval for the mean of the paired differences."""
        (mine, spread), (theirs, other) = self._with_noise(drawn.rows), self._with_noise(base.rows)
        return widened(mean_interval(drawn.rows.over_draws(mine - theirs)), value, math.hypot(spread, other))

    def _with_noise(self, rows: Predictions) -> tuple[Array, float]:
        """The values with the noise of a temperature that was fitted on these rows; see `Fitted.noise`."""
        values = self.per_row(rows)
        if rows.fitted is None:
            return values, 0.0
        more, spread = rows.fitted.noise(self.per_row)
        return values + more, spread


class Gaps(Strategy):
    """Intervals for a sum of absolute gaps over bins, which is higher on few rows than on many."""

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """The interval of `metrics/ece`; none if the bias is too large for it."""
        resampled = drawn.values[key]
        return biased_interval(value, resampled, float(resampled.mean()) - value)

    def difference(self, key: str, value: float, drawn: Resamples, base: Resamples) -> Interval:
        """See `gaps_interval`."""
        return gaps_interval(value, drawn.values[key] - base.values[key], drawn.noise[key] - base.noise[key])


class MetricsOwn(Gaps):
    """Intervals for the ECE: exactly what `evaluate.load("ece")` returns for these rows.

    The metric knows neither rows that each have their own temperature nor copies. Their intervals are those of other
    gaps.
    """

    resamples_interval = False

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """The metric's interval; none if its bias is too large, as for other gaps."""
        if drawn.rows.ranked is not None or drawn.rows.groups is not None:
            return super().interval(key, value, drawn)
        low, high = drawn.ece.interval
        return NO_INTERVAL if drawn.ece.bias > high - value else (low, high)


@dataclass(frozen=True)
class Squares:
    """A sum of squares over bins, written as a mean over rows. The spread over rows gives its standard error.

    Attributes:
        per_row: The sum's influence function plus the sum. Its mean is the sum itself (the infinitesimal jackknife,
            Davison and Hinkley 1997, section 2.7). *Shape:* (rows,).
        noise: Amount that sampling noise in the labels adds to the sum (Ferro and Fricker 2012).
    """

    per_row: Array
    noise: float


@dataclass(frozen=True)
class RowSquares(Strategy):
    """Intervals for a sum of squares over bins."""

    resamples_difference = False

    of: Callable[[Predictions], Squares]

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """The interval of `metrics/ece`; none if the bias is too large for it."""
        return biased_interval(value, drawn.values[key], self.of(drawn.rows).noise)

    def difference(self, key: str, value: float, drawn: Resamples, base: Resamples) -> Interval:
        """Interval of the difference without noise, to first order. It also covers the difference with noise."""
        mine, theirs = self.of(drawn.rows), self.of(base.rows)
        low, high = mean_interval(drawn.rows.over_draws(mine.per_row - theirs.per_row))
        noise = mine.noise - theirs.noise
        return low - max(noise, 0.0), high - min(noise, 0.0)


@dataclass(frozen=True)
class RootOfSquares(Strategy):
    """Intervals for the root of a sum of squares over bins, without the part that noise adds."""

    resamples_difference = False

    of: Callable[[Predictions], Squares]

    def difference(self, key: str, value: float, drawn: Resamples, base: Resamples) -> Interval:
        """Interval around the roots' difference `a - b`: the half-width for `a^2 - b^2`, divided by `a + b`.

        Roots have a kink at 0, and squares do not. If the roots are far apart, the interval is wider than necessary,
        and the delta method's would be too narrow. If both are near 0, the root of the noise replaces `a + b`.
        """
        mine, theirs = self.of(drawn.rows), self.of(base.rows)
        low, high = mean_interval(drawn.rows.over_draws(mine.per_row - theirs.per_row))
        a, b = (math.sqrt(max(float(one.per_row.mean()) - one.noise, 0.0)) for one in (mine, theirs))
        size = max(a + b, math.sqrt(mine.noise + theirs.noise))
        half_width = (high - low) / 2 / size
        return a - b - half_width, a - b + half_width


def _trials(rows: Predictions, values: Array) -> float:
    """Number of independent rows whose mean of `values` would vary as much: the effective sample size (Kish 1965)."""
    if rows.groups is None:
        return len(values)
    sizes, spread = np.bincount(rows.groups), float(rows.over_draws(values).var())
    if not spread:
        return float(sizes.sum() ** 2 / (sizes**2).sum())
    return float(np.clip(rows.draws * values.var() / spread, 1, len(values)))


def biased_interval(value: float, resampled: Array, bias: float) -> Interval:
    """`interval_of_biased` of `metrics/ece`; NaN if the bias is larger than half the span of the resamples.

    Such an interval would not cover the truth. This happens when many classes leave few rows in each bin.
    """
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if bias > (high - low) / 2:
        return NO_INTERVAL
    low, high = load_metric_module().interval_of_biased(value, resampled, LEVEL)
    return float(low), float(high)


def gaps_interval(value: float, resampled: Array, noise: float) -> Interval:
    """Interval for a difference of two sums of absolute gaps, which have a kink where a gap is 0.

    Suppose one arm is overconfident and the other is underconfident. Then noise in the labels decides which one looks
    better, and resamples vary too little around that outcome. Their mean shows it, because it is closer to 0. So the
    interval extends from `d +- z s` to `mean(d*) +- z s`.

    If both arms are calibrated, the more confident one also measures less, by `noise`. If both are far from
    calibrated, it does not. So the interval extends to the difference without any of this noise. On the other side it
    is shortened by half of the noise or by s / 4, whichever is smaller. `benchmarks/evaluation/verdict.py` has null
    cases of each kind.

    Args:
        value: The difference d.
        resampled: The difference d* on resamples of the rows. *Shape:* (resamples,).
        noise: The difference that sampling noise gives by itself.
    """
    low, high = normal_interval(value, resampled)
    pull, held_back = float(resampled.mean()) - value, min(abs(noise) / 2, float(resampled.std(ddof=1)) / 4)
    if noise < 0:
        return low + min(pull, 0.0) + held_back, high + max(pull, 0.0) - noise
    return low + min(pull, 0.0) - noise, high + max(pull, 0.0) - held_back
