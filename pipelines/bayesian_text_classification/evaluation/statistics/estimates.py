"""Measures of labeled probabilities with their intervals, and paired differences with their verdicts."""

from collections.abc import Sequence

import numpy as np

from .intervals import (
    LEAST_ERRORS,
    LEAST_ROWS,
    LEVEL,
    RESAMPLES,
    Difference,
    Estimate,
    judged,
    weights_of_resamples,
)
from .measures import MEASURES, Measure, ece
from .predictions import Array, Predictions, Values, Weighted
from .strategies import NO_INTERVAL, Gaps, Resamples

_NUMBERS = 10_000_000  # total probabilities that `noise_by_bin` processes; more rows mean fewer rounds, down to 50


def resample(rows: Predictions, *, seed: int = 0, measures: Sequence[Measure] = MEASURES) -> Resamples:
    """Compute those `measures` that need it on 1,000 resamples of the rows. Equal seeds draw equal rows.

    If a scaling T was fitted on the rows, each resample b has its own, T_b: to first order, by the influence of its
    rows (a temperature is also rounded to half a standard error). Let m(rows, T) be the measure of rows at T. The
    correction of the measure for the fit is the mean over b of

        [m(rows, T_b) - m(rows, T)] - [m(b, T_b) - m(b, T)]

    A fit improves the resample that it was made on more than it improves the rows. The usual form has no terms at T
    (Efron and Tibshirani 1993, section 17.6). It would also subtract what repeated rows in a bin add to an ECE. The
    values m(b, T_b) are moved to the corrected value plus the bias at T.
    """
    wanted = [measure for measure in measures if _needs_resamples(measure, rows)]
    found: dict[str, list[Array]] = {measure.key: [] for measure in wanted}
    refits: dict[str, list[Array]] = {measure.key: [] for measure in wanted}
    for weights in weights_of_resamples(len(rows.labels), seed, rows.groups) if wanted else ():
        data = Weighted(rows, weights)
        for measure in wanted:
            found[measure.key].append(measure.values(data))
        if rows.fitted is not None:
            again = rows.fitted.refitted(rows, [measure.values for measure in wanted], weights)
            for measure, part in zip(wanted, again, strict=True):
                refits[measure.key].append(part)
    values = {key: np.concatenate(parts) for key, parts in found.items()}
    noise = noise_by_bin(rows, seed=seed, measures=measures)
    if rows.fitted is None:
        return Resamples(rows, seed, values, noise)
    corrections = {}
    for measure in wanted:
        refitted, moved = np.concatenate(refits[measure.key], axis=1)
        apart = refitted - values[measure.key]
        apart = apart[np.isfinite(apart)]  # a resample without a wrong row has no AUROC
        gained = float(apart.mean()) if len(apart) else 0.0
        value = measure.value(rows)
        lost = float((moved - value).mean())  # exactly 0 where the scaling does not matter
        corrections[measure.key] = float(np.clip(value + lost - gained, 0.0, measure.most)) - value
        values[measure.key] = refitted - gained + corrections[measure.key]
    return Resamples(rows, seed, values, noise, corrections)


def _needs_resamples(measure: Measure, rows: Predictions) -> bool:
    way = measure.strategy
    return way.resamples_interval or way.resamples_difference or (rows.fitted is not None and not way.from_left_out)


def noise_by_bin(rows: Predictions, *, seed: int = 0, measures: Sequence[Measure] = MEASURES) -> dict[str, Array]:
    """Expected gaps of each sum of absolute gaps, by its key, if the probabilities of these rows were right.

    Labels are drawn from the probabilities, with the same random numbers for every arm. Copies of a text get one label.
    *Shape:* (bins,) each.
    """
    wanted = {measure.key: measure.strategy for measure in measures if isinstance(measure.strategy, Gaps)}
    if not wanted:
        return {}
    rounds = int(np.clip(_NUMBERS // rows.probabilities.size, 50, 100))
    sums: dict[str, Array] = {}
    for drawn in rows.as_if_right(np.random.default_rng([seed % 2**64, 1]), rounds):
        for key, strategy in wanted.items():
            sums[key] = sums.get(key, 0.0) + strategy.gaps(drawn).sum(0) / rounds
    return sums


def null_of(drawn: Resamples) -> Estimate:
    """The mean and the 95% band of the ECE on these rows if the probabilities were right.

    Those of the metric, which cannot know about copies of a text: with `groups`, all copies get one label here.
    """
    if drawn.rows.groups is None:
        return Estimate(drawn.ece.null, *drawn.ece.null_interval)
    return null_by_draws(drawn, ece)


def null_by_draws(drawn: Resamples, measure: Values) -> Estimate:
    """The mean and the 95% band of a measure on these rows if the probabilities were right; see `as_if_right`."""
    random = np.random.default_rng([drawn.seed % 2**64, 1])
    values = np.concatenate([measure(one) for one in drawn.rows.as_if_right(random, RESAMPLES)])
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(np.mean(values)), float(low), float(high))


def value_of(measure: Measure, drawn: Resamples) -> float:
    """The measure of the rows, corrected for a scaling that was fitted on them."""
    value = measure.value(drawn.rows)
    if drawn.rows.fitted is None or measure.strategy.from_left_out:
        return value
    return value + drawn.corrections[measure.key]


def estimate(measure: Measure, drawn: Resamples) -> Estimate:
    """The measure with the interval from its strategy; NaN where there is none.

    For all measures but accuracy, an interval needs ten right and ten wrong rows.
    """
    value, enough = value_of(measure, drawn), drawn.rows.minority >= LEAST_ERRORS
    known = enough or not measure.strategy.counts_errors
    low, high = measure.strategy.interval(measure.key, value, drawn) if known else NO_INTERVAL
    return Estimate(value, float(np.maximum(low, 0.0)), float(np.minimum(high, measure.most)))


def difference(measure: Measure, drawn: Resamples, base: Resamples) -> Difference:
    """The measure of `drawn` minus that of `base`: the same rows in another arm, resampled with the same seed."""
    values = value_of(measure, drawn), value_of(measure, base)
    minority, count = min(drawn.rows.minority, base.rows.minority), drawn.rows.draws
    known = minority >= LEAST_ERRORS or not measure.strategy.counts_errors
    low, high = measure.strategy.difference(measure.key, values, drawn, base) if known else NO_INTERVAL
    enough = (minority if measure.strategy.counts_errors else count) >= LEAST_ROWS
    return judged(values[0] - values[1], float(low), float(high), measure.higher_is_better, count, enough=enough)
