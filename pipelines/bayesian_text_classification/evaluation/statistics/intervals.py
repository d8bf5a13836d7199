"""95% intervals for proportions and means, from rows or from resamples, and the verdict on a difference."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

LEVEL = 0.95

Array = NDArray[np.float64]
Interval = tuple[float, float]
Outcome = Literal["better", "worse", "cannot tell"]

# The fewest rows for a verdict, which rests on approximations for many rows. Also the fewest wrong rows and the fewest
# right rows, because a few wrong rows account for most of the NLL and of most measures of calibration.
LEAST_ROWS = 20
LEAST_ERRORS = 10  # the minority count that an interval needs
RESAMPLES = 1_000
_BLOCK = 100  # resamples that are measured at once
_POWER = 0.8  # power for `rows_needed`
_ROUNDING = 1e-12  # what rounding may add to a difference of 0
_MOST_ROWS = 10_000_000  # more rows than this are no advice


@dataclass(frozen=True)
class Estimate:
    """A measure and its 95% interval.

    Attributes:
        value: The measure; NaN where it is not defined (no row is wrong, or none is right).
        low: Lower end of the interval; NaN if there are too few rows for an interval, see `estimate`.
        high: Upper end of the interval; NaN in the same cases.
    """

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.low)


@dataclass(frozen=True)
class Difference:
    """A measure of one arm minus that of another on the same rows.

    Attributes:
        value: The difference.
        low: Lower end of its 95% interval; NaN if there are too few rows for one.
        high: Upper end of its 95% interval; NaN in the same cases.
        verdict: "better", "worse", or "cannot tell". The last one means that the interval contains 0, or that there are
            fewer than 20 rows, or (for all measures but accuracy) fewer than 20 wrong or fewer than 20 right rows.
        rows_needed: Number of rows like these that would detect a true difference of this size with 80% power. None if
            this difference is significant, if there is hardly one (more than 10 million rows), or if there are too few
            rows to say.
        enough: Whether there are enough rows for a verdict.
    """

    value: float
    low: float
    high: float
    verdict: Outcome
    rows_needed: int | None
    enough: bool = True


def wilson(hits: float, trials: float) -> Interval:
    """Wilson's (1927) interval for a proportion. Trials that are not independent count as fewer, so not as integers."""
    z, share = float(stats.norm.ppf((1 + LEVEL) / 2)), hits / trials
    middle, spread = share + z**2 / (2 * trials), z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    size = 1 + z**2 / trials
    return max((middle - spread) / size, 0.0), min((middle + spread) / size, 1.0)


def mean_interval(values: Array) -> Interval:
    """Hall's interval for a mean (1992, "On the removal of skewness by transformation").

    The cost of wrong answers is skewed, and so is `w = (mean - truth) / s`. Student's t called up to 7% of null
    differences in NLL significant. With the skewness g of n values, `w + g w^2 / 3 + g^2 w^3 / 27 + g / (6 n)` is
    closer to symmetric. The ends of the interval are where it equals `-+ t / sqrt(n)`. If g is 0, they are Student's.

    Returns:
        The interval; NaN for fewer than two values.
    """
    count = len(values)
    if count < 2:
        return math.nan, math.nan
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    if not np.ptp(values) or not deviation:  # the deviation may underflow
        return mean, mean
    skewness = float((((values - mean) / deviation) ** 3).mean())
    half_width = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) / math.sqrt(count)
    shifted = np.array([half_width, -half_width]) - skewness / (6 * count)
    root = np.cbrt(1 + skewness * shifted)  # `w = 3 (root - 1) / g`, without dividing by g
    low, high = mean - deviation * 3 * shifted / (root**2 + root + 1)
    return float(low), float(high)


def paired_shares(first: Array, second: Array, trials: float | None = None) -> Interval:
    """Interval for the difference of two proportions on the same rows (Bonett and Price 2012), from a 0 or 1 per row.

    Student's t is wrong if few rows differ. For four differing rows, all for the worse, it would say "worse", while
    McNemar's exact test gives p = 1/8. Rows that are not independent count as `trials`.
    """
    count = len(first) if trials is None else trials
    rows, z = count + 2, float(stats.norm.ppf((1 + LEVEL) / 2))
    gained = (count * float((first > second).mean()) + 1) / rows
    lost = (count * float((first < second).mean()) + 1) / rows
    half_width = z * math.sqrt((gained + lost - (gained - lost) ** 2) / rows)
    return float(gained - lost - half_width), float(gained - lost + half_width)


def normal_interval(value: float, resamples: Array) -> Interval:
    """`e +- z s` with the standard deviation s of the resamples; NaN if fewer than two are defined."""
    found = resamples[np.isfinite(resamples)]  # a resample without a wrong row has no AUROC
    if math.isnan(value) or len(found) < 2:
        return math.nan, math.nan
    half_width = float(stats.norm.ppf((1 + LEVEL) / 2) * found.std(ddof=1))
    return value - half_width, value + half_width


def share_interval(value: float, resamples: Array, trials: int) -> Interval:
    """`e +- z s` on the logit scale. If `e` is 0 or 1, at least as wide as Wilson's interval for this many trials."""
    low, high = normal_interval(value, resamples)
    if math.isnan(low):
        return low, high
    if not 0 < value < 1:  # all resamples may be equal to it
        least, most = wilson(round(value) * trials, trials)
        return max(min(low, least), 0.0), min(max(high, most), 1.0)
    half_width = (high - value) / (value * (1 - value))
    ends = special.expit(special.logit(value) + np.array([-half_width, half_width]))
    return float(ends[0]), float(ends[1])


def ratio_interval(value: float, resamples: Array) -> Interval:
    """`e exp(+- z s)` with the standard deviation s of the resamples' logarithms, for a positive quantity.

    NaN if fewer than two resamples are positive.
    """
    found = np.log(resamples[np.isfinite(resamples) & (resamples > 0)])
    if not value > 0 or len(found) < 2:
        return math.nan, math.nan
    factor = math.exp(float(stats.norm.ppf((1 + LEVEL) / 2) * found.std(ddof=1)))
    return value / factor, value * factor


def widened(interval: Interval, value: float, spread: float) -> Interval:
    """The interval around `value` with independent noise of the standard deviation `spread` added."""
    if not spread:
        return interval
    more = float(stats.norm.ppf((1 + LEVEL) / 2)) * spread
    return value - math.hypot(value - interval[0], more), value + math.hypot(interval[1] - value, more)


def gain_interval(value: float, interval: Interval, cost: float) -> Interval:
    """Interval for what a temperature that was fitted on the rows changes in the loss that it minimizes.

    Let the temperature be d standard errors from 1, and its fit z, so z is normal around d. On the rows, the loss gains
    `c z^2`. On new rows the fit costs `c` on average, so the truth is `c - c d^2`, and the leave-one-out value is about
    `2 c - c z^2`. For small d that is skewed, and it varies most where it is lowest. The root of the gain is stable
    (Bartlett 1947): its standard deviation is that of the value divided by twice the root, and at least `sqrt(c)`.

    Args:
        value: The loss with the temperature, leave-one-out, minus that without.
        interval: An interval for the mean of the paired differences, around `value`.
        cost: c, which is half the curvature of the loss times the squared standard error of the fit. The upper end
            allows for half as much again, because it is an estimate, and is never below the value.
    """
    if not cost:
        return interval
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    root, least = math.sqrt(max(2 * cost - value, 0.0)), math.sqrt(cost)
    more, less = (max(abs(value - end) / (2 * max(root, least)), z * least) for end in interval)
    return cost - (root + more) ** 2, max(1.5 * cost - max(root - less, 0.0) ** 2, value)


def judged(value: float, low: float, high: float, higher_is_better: bool, rows: int, *, enough: bool) -> Difference:
    """Judge a difference by its 95% interval on this many rows. `enough` says whether a verdict is possible at all."""
    significant = enough and (low > _ROUNDING or high < -_ROUNDING)
    better = (low > 0) == higher_is_better
    verdict: Outcome = ("better" if better else "worse") if significant else "cannot tell"
    needed = (
        None if significant or not enough else _rows_needed(value, value - low if value > 0 else high - value, rows)
    )
    return Difference(value, low, high, verdict, needed, enough)


def distinct(rows: int, groups: NDArray[np.intp] | None) -> int:
    """Number of groups, or of rows if there are none."""
    return rows if groups is None else int(groups.max()) + 1


def weights_of_resamples(rows: int, seed: int, groups: NDArray[np.intp] | None = None) -> Iterator[Array]:
    """Draw 1,000 resamples in blocks: how often each row is in each. *Shape:* (resamples of a block, rows).

    With `groups`, the number of each row's group, whole groups are drawn.
    """
    random = np.random.default_rng(seed % 2**64)
    units = distinct(rows, groups)
    for _ in range(0, RESAMPLES, _BLOCK):
        drawn = random.integers(0, units, (_BLOCK, units)) + units * np.arange(_BLOCK)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=_BLOCK * units).reshape(_BLOCK, units).astype(np.float64)
        yield weights if groups is None else weights[:, groups]


def _rows_needed(value: float, half_width: float, rows: int) -> int | None:
    """Number of rows at which an interval with this half-width toward 0 excludes 0 with 80% power."""
    if not half_width or not value or not math.isfinite(half_width):
        return None
    z, power = float(stats.norm.ppf((1 + LEVEL) / 2)), float(stats.norm.ppf(_POWER))
    needed = rows * ((z + power) * half_width / z / value) ** 2
    return math.ceil(needed) if needed <= _MOST_ROWS else None
