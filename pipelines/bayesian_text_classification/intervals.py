"""What chance does to measures on finite data: intervals, paired differences, and verdicts in words.

An interval is that of the expectation over texts such as these and over the seeds of the dropout masks, at the number
of samples that was used. Means over rows (accuracy, NLL, Brier) and their paired differences have closed forms; for
everything else rows are drawn with replacement, the same ones for every arm. A row brings along the groups of masks
that it was scored with: they are keyed by its text, so that their luck is independent from row to row, and part of the
spread between rows already. Drawing the groups of each row again would count it twice (Davison and Hinkley 1997,
section 3.8: resample clusters, keep what is inside them). Few models have a dropout site whose mask all texts share,
such as positions (`DropoutSite.batch_dim` is None); the luck of that mask is in no interval.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .measures import MEASURES, Measure, Scored

LEVEL = 0.95
LEAST_ROWS = 20  # of a verdict: the intervals rest on approximations for many rows
RESAMPLES = 1_000
_BLOCK = 100  # resamples that are measured at once
_POWER = 0.8  # of the number of rows that could tell

Array = NDArray[np.float64]
Resamples = Mapping[str, Array]


@dataclass(frozen=True)
class Estimate:
    """A measure and its 95 % interval; NaN where it is not defined (no row is wrong, or none is right)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A measure of one arm less that of another on the same rows.

    Attributes:
        value: the difference.
        low: of its 95 % interval.
        high: of its 95 % interval.
        verdict: "better", "worse", or "cannot tell" where the interval holds 0 or there are fewer than 20 rows.
        rows_needed: how many rows such as these would tell a true difference of this size four times in five; None
            where these tell, or where there is no difference.
    """

    value: float
    low: float
    high: float
    verdict: str
    rows_needed: int | None


def resample(rows: Scored, *, seed: int = 0, measures: Sequence[Measure] = MEASURES) -> Resamples:
    """Each measure by its key on 1,000 resamples of the rows: (1,000,) each. Equal seeds draw equal rows."""
    found: dict[str, list[Array]] = {measure.key: [] for measure in measures}
    for weights in weights_of_resamples(len(rows.labels), seed):
        for measure in measures:
            found[measure.key].append(measure.values(rows, weights))
    return {key: np.concatenate(values) for key, values in found.items()}


def estimate(measure: Measure, rows: Scored, resamples: Resamples) -> Estimate:
    """The measure of `rows` with its interval.

    Accuracy: Wilson's interval. Other means over rows: Student's t. Biased measures: that of `metrics/ece`, whose ends
    take the bias into account. Else the bootstrap's normal interval, `e +- z s` with the standard deviation s of the
    resamples (Davison and Hinkley 1997, section 2.4).
    """
    value = measure.value(rows)
    if measure.key == "accuracy":
        low, high = wilson(int(rows.correct.sum()), len(rows.correct))
    elif measure.per_row is not None:
        low, high = _mean_interval(measure.per_row(rows))
    elif measure.biased:
        low, high = _biased_interval(value, resamples[measure.key])
    else:
        low, high = normal_interval(value, resamples[measure.key])
    if math.isnan(value):
        return Estimate(value, math.nan, math.nan)
    return Estimate(value, max(float(low), 0.0), min(float(high), measure.most))


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's (1927) interval of a share."""
    interval = stats.binomtest(hits, trials).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def paired_shares(first: Array, second: Array) -> tuple[float, float]:
    """Interval of the difference of two shares of the same rows (Bonett and Price 2012), from 0 and 1 in each row.

    Student's t is wrong where few rows differ: of four that do, all for the worse, it would say "worse", where the
    exact test of McNemar gives p = 1/8.
    """
    rows, z = len(first) + 2, float(stats.norm.ppf((1 + LEVEL) / 2))
    gained, lost = ((first > second).sum() + 1) / rows, ((first < second).sum() + 1) / rows
    reach = z * math.sqrt((gained + lost - (gained - lost) ** 2) / rows)
    return float(gained - lost - reach), float(gained - lost + reach)


def difference(
    measure: Measure, rows: Scored, base: Scored, resamples: Resamples, base_resamples: Resamples
) -> Difference:
    """The measure of `rows` less that of `base`, which are the same rows in another arm; resamples of equal seed."""
    value = measure.value(rows) - measure.value(base)
    if measure.key == "accuracy":
        low, high = paired_shares(rows.correct, base.correct)
    elif measure.per_row is not None:
        low, high = _mean_interval(measure.per_row(rows) - measure.per_row(base))
    else:
        low, high = normal_interval(value, resamples[measure.key] - base_resamples[measure.key])
    count = len(rows.labels)
    return judged(value, low, high, measure.higher_is_better, count, enough=count >= LEAST_ROWS)


def judged(value: float, low: float, high: float, higher_is_better: bool, rows: int, *, enough: bool) -> Difference:
    """A difference with its verdict, from its 95 % interval on so many rows; `enough` for any verdict at all."""
    told = enough and (low > 0 or high < 0)
    better = (low > 0) == higher_is_better
    verdict = ("better" if better else "worse") if told else "cannot tell"
    return Difference(value, low, high, verdict, None if told else _rows_needed(value, high - low, rows))


def weights_of_resamples(rows: int, seed: int) -> Iterator[Array]:
    """How often each row is in each of 1,000 resamples: (resamples of a block, rows)."""
    random = np.random.default_rng(seed % 2**64)
    for _ in range(0, RESAMPLES, _BLOCK):
        drawn = random.integers(0, rows, (_BLOCK, rows)) + rows * np.arange(_BLOCK)[:, None]
        yield np.bincount(drawn.ravel(), minlength=_BLOCK * rows).reshape(_BLOCK, rows).astype(np.float64)


def _mean_interval(values: Array) -> tuple[float, float]:
    if len(values) < 2 or not np.ptp(values):
        return float(values.mean()), float(values.mean())
    interval = stats.ttest_1samp(values, 0).confidence_interval(LEVEL)
    return float(interval.low), float(interval.high)


def normal_interval(value: float, resamples: Array) -> tuple[float, float]:
    """`e +- z s` with the standard deviation s of the resamples; NaN where fewer than two are defined."""
    found = resamples[np.isfinite(resamples)]  # a resample without a wrong row has no AUROC
    if math.isnan(value) or len(found) < 2:
        return math.nan, math.nan
    # Not 2 e - mean(e*): the bias of two arms is much the same, and taking it out of each costs more than it brings
    # (one null difference in ten would be told; benchmarks/verdict.py).
    reach = float(stats.norm.ppf((1 + LEVEL) / 2) * found.std(ddof=1))
    return value - reach, value + reach


def _biased_interval(value: float, resamples: Array) -> tuple[float, float]:
    """`[2 e - q(.975), e + (q(.975) - q(.025)) / 2]` with the quantiles q of the resamples; see `bootstrap` there."""
    low, high = np.quantile(resamples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return min(2 * value - high, value), max(value + (high - low) / 2, value)


def _rows_needed(value: float, width: float, rows: int) -> int | None:
    if not width or not value or not math.isfinite(width):
        return None
    z, power = float(stats.norm.ppf((1 + LEVEL) / 2)), float(stats.norm.ppf(_POWER))
    return math.ceil(rows * ((z + power) * width / (2 * z) / value) ** 2)
