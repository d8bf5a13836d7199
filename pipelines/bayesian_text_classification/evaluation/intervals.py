"""What chance does to measures on finite data: intervals, paired differences, and verdicts in words.

An interval is that of the expectation over texts such as these and over the seeds of the dropout masks, at the number
of samples that was used. Means over rows (accuracy, NLL, Brier) and their paired differences have closed forms, and so
have differences of measures that add squares over bins; for everything else rows are drawn with replacement, the same
ones for every arm. A row brings along the groups of masks that it was scored with: they are keyed by its text, so that
their luck is independent from row to row, and part of the spread between rows already. Drawing the groups of each row
again would count it twice (Davison and Hinkley 1997, section 3.8: resample clusters, keep what is inside them). Few
models have a dropout site whose mask all texts share, such as positions (`DropoutSite.batch_dim` is None); the luck of
that mask is in no interval.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from .measures import MEASURES, Measure, Scored, Squares, Weighted

LEVEL = 0.95
# Of a verdict, which rests on approximations for many rows; and of the wrong and the right ones among them: what a few
# wrong ones cost is most of the NLL, and of most measures of calibration.
LEAST_ROWS = 20
LEAST_ERRORS = 10  # of an interval: rows that are all right do not say what a wrong one would have cost
RESAMPLES = 1_000
_BLOCK = 100  # resamples that are measured at once
_NUMBERS = 10_000_000  # probabilities that `by_chance` goes through: fewer rounds where there are many rows
_POWER = 0.8  # of the number of rows that could tell

Array = NDArray[np.float64]
Resamples = Mapping[str, Array]


@dataclass(frozen=True)
class Estimate:
    """A measure and its 95 % interval.

    Attributes:
        value: NaN where it is not defined (no row is wrong, or none is right).
        low: NaN where the rows are too few for an interval, see `estimate`.
        high: the same.
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
    """A measure of one arm less that of another on the same rows.

    Attributes:
        value: the difference.
        low: of its 95 % interval; NaN where the rows are too few for one.
        high: the same.
        verdict: "better", "worse", or "cannot tell" where the interval holds 0, or there are fewer than 20 rows, or
            (for all measures but accuracy) fewer than 20 wrong or right ones.
        rows_needed: how many rows such as these would tell a true difference of this size four times in five; None
            where these tell, where there is no difference, or where there are too few to say.
        enough: whether there are rows enough for a verdict.
    """

    value: float
    low: float
    high: float
    verdict: str
    rows_needed: int | None
    enough: bool = True


def resample(rows: Scored, *, seed: int = 0, measures: Sequence[Measure] = MEASURES) -> Resamples:
    """Each measure by its key on 1,000 resamples of the rows: (1,000,) each. Equal seeds draw equal rows."""
    found: dict[str, list[Array]] = {measure.key: [] for measure in measures}
    for weights in weights_of_resamples(len(rows.labels), seed):
        data = Weighted(rows, weights)
        for measure in measures:
            found[measure.key].append(measure.values(data))
    return {key: np.concatenate(values) for key, values in found.items()}


def by_chance(rows: Scored, *, seed: int = 0, measures: Sequence[Measure] = MEASURES) -> dict[str, float]:
    """What the measures of absolute gaps, by their keys, would be on these rows if their probabilities were right.

    Labels are drawn from the probabilities; the same random numbers serve every arm.
    """
    wanted = [measure for measure in measures if measure.absolute]
    rounds = int(np.clip(_NUMBERS // rows.probabilities.size, 4, 100))
    random, upto = np.random.default_rng([seed % 2**64, 1]), rows.probabilities.cumsum(1)
    sums = dict.fromkeys((measure.key for measure in wanted), 0.0)
    for _ in range(rounds):
        labels = (upto[:, :-1] < random.random((len(upto), 1))).sum(1)
        drawn = Weighted(replace(rows, labels=labels), np.ones((1, len(upto))))
        for measure in wanted:
            sums[measure.key] += float(measure.values(drawn)[0]) / rounds
    return sums


def estimate(measure: Measure, rows: Scored, resamples: Resamples) -> Estimate:
    """The measure of `rows` with its interval; NaN where there is none.

    But for accuracy an interval takes ten right and ten wrong rows. Accuracy: Wilson's interval. Other means over rows:
    Hall's. Biased measures: that of `metrics/ece`, whose ends take the bias into account; none where the bias is larger
    than half of what 95 % of the resamples span (few rows in the bins of many classes). AUROC: `e +- z s` on the logit
    scale, with the standard deviation s of the resamples. Else `e +- z s` as it is (Davison and Hinkley 1997, section
    2.4).
    """
    value = measure.value(rows)
    if measure.key == "accuracy":
        low, high = wilson(int(rows.correct.sum()), len(rows.correct))
    elif _rarer(rows) < LEAST_ERRORS:
        low, high = math.nan, math.nan
    elif measure.per_row is not None:
        low, high = mean_interval(measure.per_row(rows))
    elif measure.biased:
        drawn = resamples[measure.key]
        bias = measure.squares(rows).chance if measure.squares is not None else float(drawn.mean()) - value
        low, high = _biased_interval(value, drawn, bias)
    elif measure.key == "error_auroc":
        low, high = share_interval(value, resamples[measure.key], _rarer(rows))
    else:
        low, high = normal_interval(value, resamples[measure.key])
    return Estimate(value, float(np.maximum(low, 0.0)), float(np.minimum(high, measure.most)))


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Wilson's (1927) interval of a share."""
    interval = stats.binomtest(hits, trials).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(values: Array) -> tuple[float, float]:
    """Interval of a mean by Hall (1992, "On the removal of skewness by transformation"); NaN of fewer than two values.

    What wrong answers cost is skewed, and so is `w = (mean - truth) / s`: Student's t told up to 7 % of differences in
    NLL that were none. With the skewness g of n values `w + g w^2 / 3 + g^2 w^3 / 27 + g / (6 n)` is nearer to
    symmetry, and the ends of the interval are where it is `-+ t / sqrt(n)`. Where g is 0 they are Student's.
    """
    count = len(values)
    if count < 2:
        return math.nan, math.nan
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    if not np.ptp(values) or not deviation:  # it may underflow
        return mean, mean
    skewness = float((((values - mean) / deviation) ** 3).mean())
    reach = float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) / math.sqrt(count)
    shifted = np.array([reach, -reach]) - skewness / (6 * count)
    root = np.cbrt(1 + skewness * shifted)  # `w = 3 (root - 1) / g`, without a division by g
    low, high = mean - deviation * 3 * shifted / (root**2 + root + 1)
    return float(low), float(high)


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
    measure: Measure,
    rows: Scored,
    base: Scored,
    resamples: Resamples,
    base_resamples: Resamples,
    chance: float = 0.0,
) -> Difference:
    """The measure of `rows` less that of `base`, which are the same rows in another arm; resamples of equal seed.

    Sums of absolute gaps: `_absolute_interval`, with `chance`, the difference that chance alone gives. Sums of squares:
    `_squares_interval` and `_roots_interval`. Accuracy: `paired_shares`. Other means over rows: Hall's interval. Else
    `d +- z s` with the standard deviation s of the resamples' differences. None with few errors, as in `estimate`.
    """
    value = measure.value(rows) - measure.value(base)
    count, rarer = len(rows.labels), min(_rarer(rows), _rarer(base))
    enough = (count if measure.key == "accuracy" else rarer) >= LEAST_ROWS
    if measure.key == "accuracy":
        low, high = paired_shares(rows.correct, base.correct)
    elif rarer < LEAST_ERRORS:
        low, high = math.nan, math.nan
    elif measure.per_row is not None:
        low, high = mean_interval(measure.per_row(rows) - measure.per_row(base))
    elif measure.squares is not None:
        mine, theirs = measure.squares(rows), measure.squares(base)
        low, high = (_roots_interval if measure.root else _squares_interval)(mine, theirs)
    else:
        drawn = resamples[measure.key] - base_resamples[measure.key]
        low, high = _absolute_interval(value, drawn, chance) if measure.absolute else normal_interval(value, drawn)
    return judged(value, low, high, measure.higher_is_better, count, enough=enough)


def judged(value: float, low: float, high: float, higher_is_better: bool, rows: int, *, enough: bool) -> Difference:
    """A difference with its verdict, from its 95 % interval on so many rows; `enough` for any verdict at all."""
    told = enough and (low > 0 or high < 0)
    better = (low > 0) == higher_is_better
    verdict = ("better" if better else "worse") if told else "cannot tell"
    needed = None if told or not enough else _rows_needed(value, value - low if value > 0 else high - value, rows)
    return Difference(value, low, high, verdict, needed, enough)


def weights_of_resamples(rows: int, seed: int) -> Iterator[Array]:
    """How often each row is in each of 1,000 resamples: (resamples of a block, rows)."""
    random = np.random.default_rng(seed % 2**64)
    for _ in range(0, RESAMPLES, _BLOCK):
        drawn = random.integers(0, rows, (_BLOCK, rows)) + rows * np.arange(_BLOCK)[:, None]
        yield np.bincount(drawn.ravel(), minlength=_BLOCK * rows).reshape(_BLOCK, rows).astype(np.float64)


def _absolute_interval(value: float, drawn: Array, chance: float) -> tuple[float, float]:
    """Of a difference of two sums of absolute gaps, which have a kink where a gap is 0.

    If one arm is too sure and the other too little, the labels' luck decides which looks better, and resamples vary too
    little around what it decided. Their mean shows it: it lies nearer to 0. So the interval reaches from `d +- z s` to
    `mean(d*) +- z s`. And of two calibrated arms the surer one measures less, by `chance`; of arms that are far from
    calibrated it does not. The interval reaches to the difference without all of that, and holds back, on the other
    side, half of it or s / 4 (`benchmarks/evaluation/verdict.py` has null cases of each kind).
    """
    low, high = normal_interval(value, drawn)
    pull, held_back = float(drawn.mean()) - value, min(abs(chance) / 2, float(drawn.std(ddof=1)) / 4)
    if chance < 0:
        return low + min(pull, 0.0) + held_back, high + max(pull, 0.0) - chance
    return low + min(pull, 0.0) - chance, high + max(pull, 0.0) - held_back


def _squares_interval(mine: Squares, theirs: Squares) -> tuple[float, float]:
    """Of the difference of two sums of squares without chance, to first order; it holds the one with it too."""
    low, high = mean_interval(mine.per_row - theirs.per_row)
    chance = mine.chance - theirs.chance
    return low - max(chance, 0.0), high - min(chance, 0.0)


def _roots_interval(mine: Squares, theirs: Squares) -> tuple[float, float]:
    """Of the difference of the roots a and b of two sums of squares without chance.

    As long as that of `a^2 - b^2`, divided by `a + b`, and to both sides alike: roots have a kink at 0 and squares have
    none. Where the roots are far apart it is longer than it need be, and the delta method's would be too short. Where
    both are near 0, what chance gives stands for them.
    """
    low, high = mean_interval(mine.per_row - theirs.per_row)
    a, b = (math.sqrt(max(float(one.per_row.mean()) - one.chance, 0.0)) for one in (mine, theirs))
    size = max(a + b, math.sqrt(mine.chance + theirs.chance))
    reach = (high - low) / 2 / size
    return a - b - reach, a - b + reach


def normal_interval(value: float, resamples: Array) -> tuple[float, float]:
    """`e +- z s` with the standard deviation s of the resamples; NaN where fewer than two are defined."""
    found = resamples[np.isfinite(resamples)]  # a resample without a wrong row has no AUROC
    if math.isnan(value) or len(found) < 2:
        return math.nan, math.nan
    reach = float(stats.norm.ppf((1 + LEVEL) / 2) * found.std(ddof=1))
    return value - reach, value + reach


def share_interval(value: float, resamples: Array, trials: int) -> tuple[float, float]:
    """`e +- z s` on the logit scale; where `e` is 0 or 1, not less than Wilson's interval of so many trials."""
    low, high = normal_interval(value, resamples)
    if math.isnan(low):
        return low, high
    if not 0 < value < 1:  # resamples may not differ from it at all
        least, most = wilson(round(value) * trials, trials)
        return max(min(low, least), 0.0), min(max(high, most), 1.0)
    reach = (high - value) / (value * (1 - value))
    ends = special.expit(special.logit(value) + np.array([-reach, reach]))
    return float(ends[0]), float(ends[1])


def _rarer(rows: Scored) -> int:
    """Wrong or right rows, whichever are fewer."""
    return min(rows.errors, len(rows.labels) - rows.errors)


def _biased_interval(value: float, resamples: Array, bias: float) -> tuple[float, float]:
    """`[2 e - q(.975), e + (q(.975) - q(.025)) / 2]` with the quantiles q of the resamples; see `bootstrap` there.

    NaN where the bias alone is larger than half of what they span: such ends would not hold the truth.
    """
    low, high = np.quantile(resamples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if bias > (high - low) / 2:
        return math.nan, math.nan
    return min(2 * value - high, value), max(value + (high - low) / 2, value)


def _rows_needed(value: float, reach: float, rows: int) -> int | None:
    """So that an interval that reaches so far from the value towards 0 leaves it out four times in five."""
    if not reach or not value or not math.isfinite(reach):
        return None
    z, power = float(stats.norm.ppf((1 + LEVEL) / 2)), float(stats.norm.ppf(_POWER))
    return math.ceil(rows * ((z + power) * reach / z / value) ** 2)
