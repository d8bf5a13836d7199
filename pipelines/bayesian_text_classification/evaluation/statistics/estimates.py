"""Measures of labeled probabilities with their intervals, and paired differences with their verdicts."""

from collections.abc import Sequence
from dataclasses import replace

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
from .predictions import Array, Bins, Fitted, Predictions, Weighted
from .strategies import NO_INTERVAL, Gaps, Resamples

_NUMBERS = 10_000_000  # total probabilities that `noise_of` processes; more rows mean fewer rounds


def resample(rows: Predictions, *, seed: int = 0, measures: Sequence[Measure] = MEASURES) -> Resamples:
    """Compute those `measures` that need it on 1,000 resamples of the rows. Equal seeds draw equal rows.

    If the temperature was fitted on the rows, each resample b has its own, T_b: to first order, by the influence of its
    rows, and rounded to half a standard error. Let m(rows, T) be the measure of rows at T. The correction of the
    measure for the fit is the mean over b of

        [m(rows, T_b) - m(rows, T)] - [m(b, T_b) - m(b, T)]

    A fit improves the resample that it was made on more than it improves the rows. The usual form has no terms at T
    (Efron and Tibshirani 1993, section 17.6). It would also subtract what repeated rows in a bin add to an ECE. The
    values m(b, T_b) are moved to the corrected value plus the bias at T.
    """
    wanted = [measure for measure in measures if _needs_resamples(measure, rows)]
    found: dict[str, list[Array]] = {measure.key: [] for measure in wanted}
    refits: dict[str, list[Array]] = {measure.key: [] for measure in wanted}
    nearest = []
    for weights in weights_of_resamples(len(rows.labels), seed, rows.groups) if wanted else ():
        data = Weighted(rows, weights)
        for measure in wanted:
            found[measure.key].append(measure.values(data))
        if rows.fitted is not None:
            nearest.append(rows.fitted.nearest(weights))
            for key, part in _refitted(wanted, rows.fitted, weights, nearest[-1]).items():
                refits[key].append(part)
    values = {key: np.concatenate(parts) for key, parts in found.items()}
    noise = noise_of(rows, seed=seed, measures=measures)
    if rows.fitted is None:
        return Resamples(rows, seed, values, noise)
    corrections = {}
    for measure in wanted:
        refitted = np.concatenate(refits[measure.key])
        apart = refitted - values[measure.key]
        apart = apart[np.isfinite(apart)]  # a resample without a wrong row has no AUROC
        gained = float(apart.mean()) if len(apart) else 0.0
        lost, value = _lost(measure, rows.fitted, np.concatenate(nearest)), measure.value(rows)
        corrections[measure.key] = float(np.clip(value + lost - gained, 0.0, measure.most)) - value
        values[measure.key] = refitted - gained + corrections[measure.key]
    return Resamples(rows, seed, values, noise, corrections)


def _needs_resamples(measure: Measure, rows: Predictions) -> bool:
    way = measure.strategy
    return way.resamples_interval or way.resamples_difference or (rows.fitted is not None and not way.from_left_out)


def _refitted(measures: Sequence[Measure], fitted: Fitted, weights: Array, nearest: Bins) -> dict[str, Array]:
    """Each measure of each resample at its own temperature. *Shape:* (resamples,) each."""
    found = {measure.key: np.empty(len(nearest)) for measure in measures}
    for place in np.unique(nearest):
        data = Weighted(fitted.around[place], weights[nearest == place])
        for measure in measures:
            found[measure.key][nearest == place] = measure.values(data)
    return found


def _lost(measure: Measure, fitted: Fitted, nearest: Bins) -> float:
    """Mean of the rows' measure at the temperatures of the resamples, minus that at the fitted one."""
    values = np.array([measure.value(rows) for rows in fitted.around])
    lost = values - values[fitted.middle]  # exactly 0 where the temperature does not matter
    return float(lost[nearest].mean())


def noise_of(rows: Predictions, *, seed: int = 0, measures: Sequence[Measure] = MEASURES) -> dict[str, float]:
    """Expected value of each sum of absolute gaps, by its key, if the probabilities of these rows were right.

    Labels are drawn from the probabilities, with the same random numbers for every arm. Copies of a text get one label.
    """
    wanted = [measure for measure in measures if isinstance(measure.strategy, Gaps)]
    if not wanted:
        return {}
    rounds = int(np.clip(_NUMBERS // rows.probabilities.size, 4, 100))
    random, upto = np.random.default_rng([seed % 2**64, 1]), rows.probabilities.cumsum(1)
    sums = dict.fromkeys((measure.key for measure in wanted), 0.0)
    for _ in range(rounds):
        drawn = _with_drawn_labels(rows, upto, random)
        for measure in wanted:
            sums[measure.key] += float(measure.values(drawn)[0]) / rounds
    return sums


def null_of(drawn: Resamples) -> Estimate:
    """The mean and the 95% band of the ECE on these rows if the probabilities were right.

    Those of the metric, which cannot know about copies of a text: with `groups`, all copies get one label here.
    """
    rows = drawn.rows
    if rows.groups is None:
        return Estimate(drawn.ece.null, *drawn.ece.null_interval)
    random, upto = np.random.default_rng([drawn.seed % 2**64, 1]), rows.probabilities.cumsum(1)
    values = [float(ece(_with_drawn_labels(rows, upto, random))[0]) for _ in range(RESAMPLES)]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(np.mean(values)), float(low), float(high))


def _with_drawn_labels(rows: Predictions, upto: Array, random: np.random.Generator) -> Weighted:
    """The rows with labels from their probabilities, whose cumulative sums are `upto`."""
    uniform = random.random((rows.draws, 1))
    labels = (upto[:, :-1] < (uniform if rows.groups is None else uniform[rows.groups])).sum(1)
    return Weighted(replace(rows, labels=labels, fitted=None), np.ones((1, len(upto))))


def value_of(measure: Measure, drawn: Resamples) -> float:
    """The measure of the rows, corrected for a temperature that was fitted on them."""
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
