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
from .predictions import Array, Predictions, Weighted
from .strategies import NO_INTERVAL, Gaps, Resamples

_NUMBERS = 10_000_000  # total probabilities that `noise_of` processes; more rows mean fewer rounds


def resample(rows: Predictions, *, seed: int = 0, measures: Sequence[Measure] = MEASURES) -> Resamples:
    """Compute those `measures` that need it on 1,000 resamples of the rows. Equal seeds draw equal rows."""
    ways = {measure: measure.strategy for measure in measures}
    wanted = [one for one, way in ways.items() if way.resamples_interval or way.resamples_difference]
    found: dict[str, list[Array]] = {measure.key: [] for measure in wanted}
    for weights in weights_of_resamples(len(rows.labels), seed, rows.groups) if wanted else ():
        data = Weighted(rows, weights)
        for measure in wanted:
            found[measure.key].append(measure.values(data))
    values = {key: np.concatenate(parts) for key, parts in found.items()}
    return Resamples(rows, seed, values, noise_of(rows, seed=seed, measures=measures))


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
    random, upto = np.random.default_rng([drawn.seed % 2**64, 1]), rows.common.cumsum(1)
    calibrated = replace(rows, probabilities=rows.common)
    values = [float(ece(_with_drawn_labels(calibrated, upto, random))[0]) for _ in range(RESAMPLES)]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(np.mean(values)), float(low), float(high))


def _with_drawn_labels(rows: Predictions, upto: Array, random: np.random.Generator) -> Weighted:
    """The rows with labels from their probabilities, whose cumulative sums are `upto`."""
    uniform = random.random((rows.draws, 1))
    labels = (upto[:, :-1] < (uniform if rows.groups is None else uniform[rows.groups])).sum(1)
    return Weighted(replace(rows, labels=labels), np.ones((1, len(upto))))


def estimate(measure: Measure, drawn: Resamples) -> Estimate:
    """The measure with the interval from its strategy; NaN where there is none.

    For all measures but accuracy, an interval needs ten right and ten wrong rows.
    """
    value, enough = measure.value(drawn.rows), drawn.rows.minority >= LEAST_ERRORS
    known = enough or not measure.strategy.counts_errors
    low, high = measure.strategy.interval(measure.key, value, drawn) if known else NO_INTERVAL
    return Estimate(value, float(np.maximum(low, 0.0)), float(np.minimum(high, measure.most)))


def difference(measure: Measure, drawn: Resamples, base: Resamples) -> Difference:
    """The measure of `drawn` minus that of `base`: the same rows in another arm, resampled with the same seed."""
    value = measure.value(drawn.rows) - measure.value(base.rows)
    minority, count = min(drawn.rows.minority, base.rows.minority), drawn.rows.draws
    known = minority >= LEAST_ERRORS or not measure.strategy.counts_errors
    low, high = measure.strategy.difference(measure.key, value, drawn, base) if known else NO_INTERVAL
    enough = (minority if measure.strategy.counts_errors else count) >= LEAST_ROWS
    return judged(value, float(low), float(high), measure.higher_is_better, count, enough=enough)
