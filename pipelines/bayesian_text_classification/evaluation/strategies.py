"""How the interval of a measure is made, and that of its difference between two arms: one class for each way.

An interval is that of the expectation over texts such as these and over the seeds of the dropout masks, at the number
of samples that was used. Means over rows and their paired differences have closed forms, and so have differences of
measures that add squares over bins. For everything else rows are drawn with replacement, the same ones for every arm. A
row brings along the masks that it was scored with: they are keyed by its text, so that sampling noise is independent
from row to row, and part of the spread between rows already. Drawing masks anew would count it twice (Davison and
Hinkley 1997, section 3.8: resample clusters, keep what is inside them). A few models have a dropout site whose mask all
texts share, such as positions (`DropoutSite.batch_dim` is None); the noise of that mask is in no interval.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..metric import load_metric_module
from .intervals import LEVEL, Interval, mean_interval, normal_interval, paired_shares, share_interval, wilson
from .predictions import BINS, Array, Predictions

NO_INTERVAL = (math.nan, math.nan)


@dataclass(frozen=True)
class Resamples:
    """The rows of an arm, and what resampling says of them.

    Attributes:
        rows: the data.
        seed: of the draws; equal seeds draw equal rows.
        values: of each measure that takes them, by its key, on 1,000 resamples. *Shape:* (1,000,) each.
        noise: of each sum of absolute gaps, by its key, what sampling noise alone would give on these rows.
    """

    rows: Predictions
    seed: int = 0
    values: Mapping[str, Array] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def ece(self) -> Any:
        """What `evaluate.load("ece")` says of sampling noise: its `Bootstrap`."""
        rows = self.rows
        return load_metric_module().bootstrap(rows.probabilities, rows.labels, n_bins=BINS, seed=self.seed % 2**64)


class Strategy:
    """How intervals are made; this one as `e +- z s`, with the standard deviation s of the resamples.

    Davison and Hinkley 1997, section 2.4.

    Attributes:
        counts_errors: an interval takes ten right and ten wrong rows: rows that are all right do not say what a wrong
            one would have cost.
        resamples_interval: an interval is made of resamples.
        resamples_difference: that of a difference is.
    """

    counts_errors = True
    resamples_interval = True
    resamples_difference = True

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Of the measure `key`, which has that value."""
        return normal_interval(value, drawn.values[key])

    def difference(self, key: str, value: float, drawn: Resamples, base: Resamples) -> Interval:
        """Of the measure of one arm less that of another on the same rows."""
        return normal_interval(value, drawn.values[key] - base.values[key])


class Share(Strategy):
    """A share that is made of pairs of rows, such as an AUROC: on the logit scale."""

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Where the value is 0 or 1, at least Wilson's."""
        return share_interval(value, drawn.values[key], drawn.rows.minority)


class RightShare(Strategy):
    """The share of right rows: Wilson's interval, and that of Bonett and Price of a difference."""

    counts_errors = False
    resamples_interval = False
    resamples_difference = False

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Wilson's."""
        return wilson(int(drawn.rows.correct.sum()), len(drawn.rows.correct))

    def difference(self, key: str, value: float, drawn: Resamples, base: Resamples) -> Interval:
        """Of paired shares."""
        return paired_shares(drawn.rows.correct, base.rows.correct)


@dataclass(frozen=True)
class RowMean(Strategy):
    """A mean over rows: Hall's interval. *Shape:* (rows,) of `per_row`."""

    resamples_interval = False
    resamples_difference = False

    per_row: Callable[[Predictions], Array]

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """Of the mean."""
        return mean_interval(self.per_row(drawn.rows))

    def difference(self, key: str, value: float, drawn: Resamples, base: Resamples) -> Interval:
        """Of the mean of the paired differences."""
        return mean_interval(self.per_row(drawn.rows) - self.per_row(base.rows))


class Gaps(Strategy):
    """A sum of absolute gaps over bins, which is higher on few rows than on many."""

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """That of `metrics/ece`; none where the bias is too large for it."""
        resampled = drawn.values[key]
        return biased_interval(value, resampled, float(resampled.mean()) - value)

    def difference(self, key: str, value: float, drawn: Resamples, base: Resamples) -> Interval:
        """See `gaps_interval`."""
        return gaps_interval(value, drawn.values[key] - base.values[key], drawn.noise[key] - base.noise[key])


class MetricsOwn(Gaps):
    """The ECE: to the digit what `evaluate.load("ece")` says of these rows."""

    resamples_interval = False

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """The metric's; none where its bias is too large, as of other gaps."""
        low, high = drawn.ece.interval
        return NO_INTERVAL if drawn.ece.bias > high - value else (low, high)


@dataclass(frozen=True)
class Squares:
    """A sum of squares over bins as a mean over rows, whose spread over rows is its standard error.

    Attributes:
        per_row: the sum's influence function plus the sum, whose mean is the sum itself (the infinitesimal jackknife,
            Davison and Hinkley 1997, section 2.7). *Shape:* (rows,).
        noise: what sampling noise in the labels adds to the sum (Ferro and Fricker 2012).
    """

    per_row: Array
    noise: float


@dataclass(frozen=True)
class RowSquares(Strategy):
    """A sum of squares over bins."""

    resamples_difference = False

    of: Callable[[Predictions], Squares]

    def interval(self, key: str, value: float, drawn: Resamples) -> Interval:
        """That of `metrics/ece`; none where the bias is too large for it."""
        return biased_interval(value, drawn.values[key], self.of(drawn.rows).noise)

    def difference(self, key: str, value: float, drawn: Resamples, base: Resamples) -> Interval:
        """Without noise, to first order; it holds the one with it too."""
        mine, theirs = self.of(drawn.rows), self.of(base.rows)
        low, high = mean_interval(mine.per_row - theirs.per_row)
        noise = mine.noise - theirs.noise
        return low - max(noise, 0.0), high - min(noise, 0.0)


@dataclass(frozen=True)
class RootOfSquares(Strategy):
    """The root of a sum of squares over bins, without what noise adds to it."""

    resamples_difference = False

    of: Callable[[Predictions], Squares]

    def difference(self, key: str, value: float, drawn: Resamples, base: Resamples) -> Interval:
        """As long as that of `a^2 - b^2`, divided by `a + b`, on both sides of the roots' difference `a - b`.

        Roots have a kink at 0 and squares have none. Where the roots are far apart it is longer than necessary, and
        the delta method's would be too short. Where both are near 0, what noise gives stands for them.
        """
        mine, theirs = self.of(drawn.rows), self.of(base.rows)
        low, high = mean_interval(mine.per_row - theirs.per_row)
        a, b = (math.sqrt(max(float(one.per_row.mean()) - one.noise, 0.0)) for one in (mine, theirs))
        size = max(a + b, math.sqrt(mine.noise + theirs.noise))
        half_width = (high - low) / 2 / size
        return a - b - half_width, a - b + half_width


def biased_interval(value: float, resampled: Array, bias: float) -> Interval:
    """`interval_of_biased` of `metrics/ece`; NaN where the bias is larger than half of what the resamples span.

    Such ends would not hold the truth: few rows lie in the bins of many classes.
    """
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if bias > (high - low) / 2:
        return NO_INTERVAL
    low, high = load_metric_module().interval_of_biased(value, resampled, LEVEL)
    return float(low), float(high)


def gaps_interval(value: float, resampled: Array, noise: float) -> Interval:
    """Of a difference of two sums of absolute gaps, which have a kink where a gap is 0.

    If one arm is too sure and the other too little, noise in the labels decides which looks better, and resamples vary
    too little around what it decided. Their mean shows it: it lies nearer to 0. So the interval reaches from
    `d +- z s` to `mean(d*) +- z s`. And of two calibrated arms the surer one measures less, by `noise`; of arms that
    are far from calibrated it does not. The interval reaches to the difference without all of that, and holds back, on
    the other side, half of it or s / 4 (`benchmarks/evaluation/verdict.py` has null cases of each kind).

    Args:
        value: d, the difference.
        resampled: d*, on resamples of the rows. *Shape:* (resamples,).
        noise: the difference that sampling noise alone gives.
    """
    low, high = normal_interval(value, resampled)
    pull, held_back = float(resampled.mean()) - value, min(abs(noise) / 2, float(resampled.std(ddof=1)) / 4)
    if noise < 0:
        return low + min(pull, 0.0) + held_back, high + max(pull, 0.0) - noise
    return low + min(pull, 0.0) - noise, high + max(pull, 0.0) - held_back
