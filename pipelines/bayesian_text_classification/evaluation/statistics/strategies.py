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

from ...metric import load_metric_module
from .gap_sums import CLEARLY, GapSum, gaps_interval
from .intervals import (
    LEVEL,
    Interval,
    gain_interval,
    mean_interval,
    normal_interval,
    paired_shares,
    ratio_interval,
    share_interval,
    widened,
    wilson,
)
from .predictions import BINS, Array, FittedTemperature, Predictions, Weighted, unweighted

NO_INTERVAL = (math.nan, math.nan)
_NOISY = 8  # standard errors of noise in a sum, from which on its interval covers too little


@dataclass(frozen=True)
class Resamples:
    """The rows of an arm, and the measures on resamples of them.

    Attributes:
        rows: The data.
        seed: Seed of the draws; equal seeds draw equal rows.
        values: Values on 1,000 resamples for each measure that needs them, by its key. *Shape:* (1,000,) each.
        noise_by_bin: For each sum of absolute gaps, by its key: the mean gap of each bin if the arm were calibrated.
            *Shape:* (bins,) each.
        corrections: What to add to each measure that is not a mean over rows, by its key, because a scaling was fitted
            on these rows. Empty without such a scaling.
    """

    rows: Predictions
    seed: int = 0
    values: Mapping[str, Array] = field(default_factory=dict)
    noise_by_bin: Mapping[str, Array] = field(default_factory=dict)
    corrections: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def ece(self) -> Any:
        """The `Bootstrap` of the metric `evaluate.load("ece")`, which describes sampling noise."""
        rows = self.rows
        return load_metric_module().bootstrap(rows.probabilities, rows.labels, n_bins=BINS, seed=self.seed % 2**64)


class Strategy:
    """Method for intervals. This one is `e +- z s`, with the standard deviation s of the resamples.

    Davison and Hinkley 1997, section 2.4.

    Attributes:
        counts_errors: Whether an interval needs ten right and ten wrong rows. Rows that are all right do not show what
            a wrong row would have cost.
        resamples_interval: Whether the interval of a measure needs resamples.
        resamples_difference: Whether the interval of a difference needs resamples.
        from_left_out: Whether leave-one-out scalings give the value, if the scaling was fitted on the rows.
            Otherwise it is corrected by refits on resamples.
    """

    counts_errors = True
    resamples_interval = True
    resamples_difference = True
    from_left_out = False

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Interval of the measure `key`, whose value is `value`."""
        return normal_interval(value, drawn.values[key])

    def difference(self, key: str, values: tuple[float, float], drawn: Resamples, base: Resamples) -> Interval:
        """Interval of the measure of one arm minus that of another on the same rows; `values` are both measures."""
        return normal_interval(values[0] - values[1], drawn.values[key] - base.values[key])


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
    from_left_out = True

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Wilson's interval."""
        trials = _trials(drawn.rows, drawn.rows.correct)
        return wilson(value * trials, trials)

    def difference(self, key: str, values: tuple[float, float], drawn: Resamples, base: Resamples) -> Interval:
        """Bonett and Price's interval for paired proportions."""
        first, second = drawn.rows.correct, base.rows.correct
        return paired_shares(first, second, _trials(drawn.rows, first - second))


class LabelShare(RightShare):
    """Intervals for the share of right labels: those of a share, for as many pairs of a text and a label as count.

    Pairs of one text are not independent. They count as many as there are independent pairs whose share varies as much
    (Kish 1965).
    """

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Wilson's interval."""
        trials = _pairs(drawn.rows.unseen, drawn.rows.unseen.right.astype(np.float64))
        return wilson(value * trials, trials)

    def difference(self, key: str, values: tuple[float, float], drawn: Resamples, base: Resamples) -> Interval:
        """Bonett and Price's interval for paired proportions."""
        first, second = (one.rows.unseen.right.astype(np.float64) for one in (drawn, base))
        return paired_shares(first.ravel(), second.ravel(), _pairs(drawn.rows, first - second))


@dataclass(frozen=True)
class RowMean(Strategy):
    """Hall's interval for a mean over rows. *Shape:* (rows,) for `per_row`."""

    resamples_interval = False
    resamples_difference = False
    from_left_out = True

    per_row: Callable[[Predictions], Array]

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Hall's interval for the mean."""
        moves, spread = _noise_of_fit(drawn.rows, self._unseen)
        values = drawn.rows.over_draws(self._unseen(drawn.rows) + moves)
        return widened(mean_interval(values), value, spread)

    def difference(self, key: str, values: tuple[float, float], drawn: Resamples, base: Resamples) -> Interval:
        """Hall's interval for the mean of the paired differences."""
        return _paired_mean(values[0] - values[1], drawn.rows, base.rows, self._unseen)

    def _unseen(self, rows: Predictions) -> Array:
        return self.per_row(rows.unseen)


class FittedLoss(RowMean):
    """Hall's interval for the mean of the loss that a temperature minimizes, and `gain_interval` for what it gains."""

    def difference(self, key: str, values: tuple[float, float], drawn: Resamples, base: Resamples) -> Interval:
        """That of the gain if one arm is the other at a temperature that was fitted on the rows."""
        if _is_at_temperature(drawn.rows, base.rows):
            return self._gain(values[0] - values[1], drawn.rows, base.rows)
        if _is_at_temperature(base.rows, drawn.rows):
            low, high = self._gain(values[1] - values[0], base.rows, drawn.rows)
            return -high, -low
        return super().difference(key, values, drawn, base)

    def _gain(self, value: float, rows: Predictions, base: Predictions) -> Interval:
        interval, spread = _paired(value, rows, base, self._unseen)
        return gain_interval(value, interval, spread / math.sqrt(2))


@dataclass(frozen=True)
class Gaps(Strategy):
    """Intervals for a sum of absolute gaps over bins, which is higher on few rows than on many.

    Attributes:
        errors: Function of the rows: each probability minus whether its event happened. *Shape:* (rows, columns).
        gaps: Function of weighted rows: what each bin adds to the sum. *Shape:* (resamples, bins).
    """

    errors: Callable[[Predictions], Array]
    gaps: Callable[[Weighted], Array]

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """The interval of `metrics/ece`; none if the bias is too large for it."""
        resampled = drawn.values[key]
        return biased_interval(value, resampled, float(resampled.mean()) - value)

    def difference(self, key: str, values: tuple[float, float], drawn: Resamples, base: Resamples) -> Interval:
        """See `gaps_interval`; none if one of the two values has none and its bins hold too few rows.

        The value of a calibrated arm has an interval if it is large by chance. A difference that had one only then
        would be too small: its interval covered 75 to 87% in `benchmarks/evaluation/calibrated_arm.py`. So what counts
        is the noise, which does not depend on that chance.
        """
        for value, one in zip(values, (drawn, base), strict=True):
            noisy = float(one.noise_by_bin[key].sum()) > _NOISY * float(one.values[key].std(ddof=1))
            if noisy and math.isnan(self.interval(key, value, one)[0]):
                return NO_INTERVAL
        return self._difference(key, values, drawn, base)

    def _difference(self, key: str, values: tuple[float, float], drawn: Resamples, base: Resamples) -> Interval:
        mine, theirs = (
            GapSum(value, one.values[key], self.gaps(unweighted(one.rows))[0], one.noise_by_bin[key])
            for value, one in zip(values, (drawn, base), strict=True)
        )
        return gaps_interval(mine, theirs, most=self._most(drawn.rows, base.rows))

    def _most(self, rows: Predictions, base: Predictions) -> float:
        """Mean distance of the errors of two arms, plus its own noise. In equal bins, their sums differ by no more."""

        def apart(mine: Predictions, theirs: Predictions) -> Array:
            return np.asarray(np.abs(self.errors(mine) - self.errors(theirs)).mean(1))

        def error(values: Array) -> float:
            return float(rows.over_draws(values).std()) / math.sqrt(rows.draws)

        distance = apart(rows, base)
        moves, _ = _noise_of_fit(rows, lambda moved: apart(moved, base.like(moved)))
        their_moves, _ = _noise_of_fit(base, lambda moved: apart(rows.like(moved), moved))
        return float(distance.mean()) + CLEARLY * error(distance) + error(moves + their_moves)


class GapsOfFewBins(Gaps):
    """Intervals for a sum of gaps over ten bins. They are few, so a difference has one even where a value has none."""

    def difference(self, key: str, values: tuple[float, float], drawn: Resamples, base: Resamples) -> Interval:
        """See `gaps_interval`."""
        return self._difference(key, values, drawn, base)


class MetricsOwn(GapsOfFewBins):
    """Intervals for the ECE: exactly what `evaluate.load("ece")` returns for these rows.

    The metric knows neither temperatures that were fitted on the rows nor copies. Their intervals are those of other
    gaps.
    """

    resamples_interval = False

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """The metric's interval; none if its bias is too large, as for other gaps."""
        if drawn.rows.fitted is not None or drawn.rows.groups is not None:
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

    def difference(self, key: str, values: tuple[float, float], drawn: Resamples, base: Resamples) -> Interval:
        """Interval of the difference without noise, to first order. It also covers the difference with noise."""
        low, high = _paired_mean(values[0] - values[1], drawn.rows, base.rows, lambda rows: self.of(rows).per_row)
        noise = self.of(drawn.rows).noise - self.of(base.rows).noise
        return low - max(noise, 0.0), high - min(noise, 0.0)


@dataclass(frozen=True)
class RootOfSquares(Strategy):
    """Intervals for the root of a sum of squares over bins, without the part that noise adds."""

    resamples_difference = False

    of: Callable[[Predictions], Squares]

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """`e +- z s`; none if all resamples are equal, as where noise explains every one of them."""
        return super().interval(key, value, drawn) if np.ptp(drawn.values[key]) else NO_INTERVAL

    def difference(self, key: str, values: tuple[float, float], drawn: Resamples, base: Resamples) -> Interval:
        """Interval around the difference of the roots a and b: the half-width for `a^2 - b^2`, divided by `a + b`.

        Roots have a kink at 0, and squares do not. If the roots are far apart, the interval is wider than necessary,
        and the delta method's would be too narrow. If both are near 0, the root of the noise replaces `a + b`.
        """
        low, high = _paired_mean(0.0, drawn.rows, base.rows, lambda rows: self.of(rows).per_row)
        mine, theirs = self.of(drawn.rows), self.of(base.rows)
        a, b = (math.sqrt(max(float(one.per_row.mean()) - one.noise, 0.0)) for one in (mine, theirs))
        size = max(a + b, math.sqrt(mine.noise + theirs.noise))
        half_width = (high - low) / 2 / size
        return values[0] - values[1] - half_width, values[0] - values[1] + half_width


def _paired_mean(
    value: float, rows: Predictions, base: Predictions, per_row: Callable[[Predictions], Array]
) -> Interval:
    """Hall's interval for the mean of the paired differences, around `value`, with all noise of the fits."""
    interval, spread = _paired(value, rows, base, per_row)
    return widened(interval, value, spread)


def _paired(
    value: float, rows: Predictions, base: Predictions, per_row: Callable[[Predictions], Array]
) -> tuple[Interval, float]:
    """Hall's interval for the mean of the paired differences, around `value`, and the noise that it leaves out."""
    (mine, spread), (theirs, other) = _noise_of_fit(rows, per_row), _noise_of_fit(base, per_row)
    apart = per_row(rows) + mine - per_row(base) - theirs
    low, high = mean_interval(rows.over_draws(apart))
    shift = value - float(apart.mean())
    return (low + shift, high + shift), math.hypot(spread, other)


def _is_at_temperature(rows: Predictions, base: Predictions) -> bool:
    return isinstance(rows.fitted, FittedTemperature) and rows.fitted.is_of(base)


def _noise_of_fit(rows: Predictions, per_row: Callable[[Predictions], Array]) -> tuple[Array, float]:
    """The noise of a scaling that was fitted on these rows; see `Fitted.noise`. Zeros if it was not."""
    return (np.zeros(len(rows.labels)), 0.0) if rows.fitted is None else rows.fitted.noise(per_row)


def _trials(rows: Predictions, values: Array) -> float:
    """Number of independent rows whose mean of `values` would vary as much: the effective sample size (Kish 1965)."""
    if rows.groups is None:
        return len(values)
    sizes, spread = np.bincount(rows.groups), float(rows.over_draws(values).var())
    if not spread:
        return float(sizes.sum() ** 2 / (sizes**2).sum())
    return float(np.clip(rows.draws * values.var() / spread, 1, len(values)))


def _pairs(rows: Predictions, values: Array) -> float:
    """Number of independent pairs of a text and a label whose mean of `values` would vary as much.

    At least 1, and at most the number of distinct pairs. *Shape:* (rows, labels) for `values`.
    """
    most = rows.draws * values.shape[1]
    spread = float(rows.over_draws(np.asarray(values.mean(1))).var(ddof=1)) / rows.draws if rows.draws > 1 else 0.0
    return float(np.clip(values.var(ddof=1) / spread, 1, most)) if spread else float(most)


def biased_interval(value: float, resampled: Array, bias: float) -> Interval:
    """`interval_of_biased` of `metrics/ece`; NaN if the bias is larger than half the span of the resamples.

    Such an interval would not cover the truth. This happens when many classes leave few rows in each bin.
    """
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if bias > (high - low) / 2:
        return NO_INTERVAL
    low, high = load_metric_module().interval_of_biased(value, resampled, LEVEL)
    return float(low), float(high)
