"""Platt scaling that was fitted on the measured texts: what is measured holds for texts that it was not fitted on."""

import numpy as np
import pytest
from bayesian_text_classification.evaluation.fits import PlattPairs
from bayesian_text_classification.evaluation.statistics import intervals
from bayesian_text_classification.evaluation.statistics.estimates import difference, estimate, resample
from bayesian_text_classification.evaluation.statistics.label_measures import LABEL_MEASURES
from bayesian_text_classification.evaluation.statistics.label_predictions import LabelPredictions
from bayesian_text_classification.pipeline.platt import fit_platt
from scipy import special

MEASURE = {measure.key: measure for measure in LABEL_MEASURES}


def world(random, texts, scale=1.8, labels=5):
    odds = random.normal(0, 1.5, (texts, labels)) - np.linspace(0, 3, labels)
    return special.expit(scale * odds + 0.4), (random.random(odds.shape) < special.expit(odds)).astype(int)


def test_left_out_probabilities_are_those_of_a_fit_without_the_text():
    p, y = world(np.random.default_rng(0), 200)
    found = PlattPairs.fitted(p, y).predictions(p, y).fitted.left_out.probabilities
    whole = PlattPairs.fitted(p, y).scaling.apply(p)
    for i in range(0, 200, 20):
        others = np.arange(200) != i
        exact = PlattPairs(fit_platt(p[others], y[others]), False).scaling.apply(p[[i]])[0]
        assert np.abs(found[i] - exact).max() < 0.35 * np.abs(whole[i] - exact).max() + 1e-3


def test_copies_are_left_out_together():
    p, y = world(np.random.default_rng(0), 150)
    groups = np.repeat(np.arange(150), 2)
    twice = PlattPairs.fitted(p.repeat(2, 0), y.repeat(2, 0)).predictions(p.repeat(2, 0), y.repeat(2, 0), groups)
    without = PlattPairs.fitted(p[1:].repeat(2, 0), y[1:].repeat(2, 0))
    exact = PlattPairs(without.fit, False).scaling.apply(p[:1])[0]
    np.testing.assert_allclose(twice.fitted.left_out.probabilities[0], exact, atol=0.01)


@pytest.mark.parametrize(("key", "runs"), [("nll", 40), ("brier", 40), ("ece", 12)])
def test_the_value_is_that_of_the_procedure_on_fresh_texts(key, runs, monkeypatch):
    """Fit on 250 texts, then measure 250 others: without a correction the ECE would be a sixth too small."""
    monkeypatch.setattr(intervals, "RESAMPLES", 200)  # which the mean of many runs makes up for
    measure, corrected, fresh, apparent = MEASURE[key], [], [], []
    for seed in range(runs):
        random = np.random.default_rng(seed)
        p, y = world(random, 250)
        fit = PlattPairs.fitted(p, y)
        rows = fit.predictions(p, y)
        corrected.append(estimate(measure, resample(rows, seed=seed, measures=[measure])).value)
        apparent.append(measure.value(LabelPredictions.of(rows.probabilities, y)))
        q, z = world(random, 250)
        fresh.append(measure.value(LabelPredictions.of(fit.scaling.apply(q), z)))
    noise = np.std(fresh) / np.sqrt(runs)
    assert abs(np.mean(corrected) - np.mean(fresh)) < 2.5 * noise
    assert np.mean(apparent) < np.mean(corrected)


@pytest.mark.slow  # many simulated runs
def test_a_calibrated_model_is_rarely_called_better_with_platt_scaling():
    """It is worse, by the noise of ten fitted numbers, and may be called that."""
    told = dict.fromkeys(MEASURE, 0)
    for seed in range(40):
        p, y = world(np.random.default_rng(seed), 250, scale=1.0)
        p = special.expit(special.logit(p) - 0.4)
        arms = PlattPairs.fitted(p, y).predictions(p, y), LabelPredictions.of(p, y)
        drawn = [resample(rows, seed=seed, measures=LABEL_MEASURES) for rows in arms]
        for measure in LABEL_MEASURES:
            told[measure.key] += difference(measure, *drawn).verdict == "better"
    assert max(told.values()) <= 4, told
