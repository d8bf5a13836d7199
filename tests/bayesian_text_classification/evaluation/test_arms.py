"""An arm whose temperature was fitted on the rows that it is measured on: its values and intervals."""

import itertools

import numpy as np
import pytest
from bayesian_text_classification.evaluation.fits import Temperatures
from bayesian_text_classification.evaluation.statistics import intervals
from bayesian_text_classification.evaluation.statistics.estimates import difference, estimate, resample
from bayesian_text_classification.evaluation.statistics.measures import MEASURES
from bayesian_text_classification.evaluation.statistics.predictions import Predictions, Weighted
from bayesian_text_classification.pipeline.temperature import apply_temperature, fit_temperature
from interval_cases import MEASURE, beside
from scipy import special


def calibrated_arms(seed, rows=400):
    """A calibrated model without and with a temperature that is fitted on the measured rows."""
    random = np.random.default_rng(seed)
    z = random.normal(0, 1.8, rows)
    labels = (random.random(rows) < special.expit(z)).astype(np.int64)
    p = special.expit(np.stack([-z, z], 1))
    return Predictions.of(p, labels), Temperatures.fitted(p, labels).predictions(p, labels)


@pytest.mark.slow  # many simulated runs
def test_a_temperature_that_a_calibrated_model_does_not_need_is_rarely_called_worse():
    """The rows share the temperature that is fitted on them. Taken for independent, they made it "worse" in 35%."""
    told, bare = {"nll": 0, "brier": 0}, 0
    for seed in range(300):
        plain, tempered = calibrated_arms(seed)
        for key in told:
            told[key] += beside(MEASURE[key], tempered, plain).verdict != "cannot tell"
        bare += beside(MEASURE["nll"], tempered.fitted.left_out, plain).verdict != "cannot tell"
    assert max(told.values()) <= 18 < 60 < bare


@pytest.mark.slow  # many simulated runs
@pytest.mark.parametrize("classes", [2, 3])
def test_no_measure_is_called_different_for_a_temperature_that_is_not_needed(classes):
    """Two classes keep the order of the rows, so AUROC and AURC must be equal. Asked: 5%; at most 5 of 50."""
    told = dict.fromkeys(MEASURE, 0)
    for seed in range(50):
        random = np.random.default_rng(seed)
        logits = random.normal(0, 1.8, (300, classes))
        labels, p = (logits + random.gumbel(size=logits.shape)).argmax(1), special.softmax(logits, 1)
        arms = resample(Temperatures.fitted(p, labels).predictions(p, labels)), resample(Predictions.of(p, labels))
        for key, measure in MEASURE.items():
            told[key] += difference(measure, *arms).verdict != "cannot tell"
    assert max(told.values()) <= 5, told
    assert classes == 3 or told["aurc"] == told["error_auroc"] == 0


@pytest.mark.slow  # many simulated runs
def test_equally_good_models_with_temperatures_rarely_differ():
    """Asked: 5%; at most 3 of 25."""
    measures = [MEASURE[key] for key in ("ece", "nll", "brier", "brier_reliability")]
    told = dict.fromkeys((measure.key for measure in measures), 0)
    for seed in range(25):
        random = np.random.default_rng(seed)
        logits = random.normal(0, 1.8, (300, 2))
        labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
        arms = [special.softmax(1.6 * (logits + random.normal(0, 0.5, logits.shape)), 1) for _ in range(2)]
        rows = [Temperatures.fitted(p, labels).predictions(p, labels) for p in arms]
        drawn = [resample(one, seed=seed, measures=measures) for one in rows]
        for measure in measures:
            told[measure.key] += difference(measure, *drawn).verdict != "cannot tell"
    assert max(told.values()) <= 3, told


@pytest.mark.slow  # many simulated runs
@pytest.mark.parametrize("sharpness", [1.0, 2.3])
@pytest.mark.parametrize("key", ["ece", "class_wise_ece"])
def test_the_ece_of_a_fitted_temperature_is_that_of_fresh_rows(key, sharpness):
    """On the rows of the fit it is .0198, and so it is at leave-one-out temperatures; on fresh rows it is .0231."""
    measure, own, corrected, fresh = MEASURE[key], [], [], []

    def drawn(random):
        logits = random.normal(0, 1.8, (872, 2))
        return special.softmax(sharpness * logits, 1), (logits + random.gumbel(size=logits.shape)).argmax(1)

    for seed in range(60):
        random = np.random.default_rng(seed)
        p, labels = drawn(random)
        fit = Temperatures.fitted(p, labels)
        rows = resample(fit.predictions(p, labels), seed=seed, measures=[measure])
        own.append(measure.value(rows.rows))
        corrected.append(estimate(measure, rows).value)
        for _ in range(4):
            q, others = drawn(random)
            fresh.append(measure.value(Predictions.of(apply_temperature(q, fit.temperature), others)))
    own, corrected, fresh = np.mean(own), np.mean(corrected), np.mean(fresh)
    assert abs(corrected - fresh) < 0.06 * fresh < abs(own - fresh)


@pytest.mark.parametrize("groups", [pytest.param(None, marks=pytest.mark.slow), np.arange(400) // 2])
def test_resamples_of_a_fitted_temperature_are_those_of_refits(groups, monkeypatch):
    """Truth: fit again on every resample, and measure it and the rows there."""
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.8, (400, 3))
    p, labels = special.softmax(1.5 * logits, 1), (logits + random.gumbel(size=logits.shape)).argmax(1)
    rows = Temperatures.fitted(p, labels, groups=groups).predictions(p, labels, groups)
    keys = ("ece", "class_wise_ece", "brier_resolution", "aurc")
    found = resample(rows, measures=[MEASURE[key] for key in keys])
    refits, corrections = {key: [] for key in keys}, {key: [] for key in keys}
    for weights in itertools.chain(*intervals.weights_of_resamples(400, 0, groups)):
        chosen = np.repeat(np.arange(400), weights.astype(int))
        temperature = fit_temperature(p[chosen], labels[chosen])
        moved = Predictions.of(apply_temperature(p, temperature), labels)
        for key in keys:
            on_rows = MEASURE[key].value(moved) - MEASURE[key].value(rows)
            again, before = (float(MEASURE[key].values(Weighted(one, weights[None]))[0]) for one in (moved, rows))
            refits[key].append(again)
            corrections[key].append(on_rows - (again - before))
    for key in keys:
        ours, truth = found.values[key], np.array(refits[key])
        assert ours.std() == pytest.approx(truth.std(), rel=0.07), key
        assert np.corrcoef(ours, truth)[0, 1] > 0.8, key  # a refit may move a row into another bin
        error = np.std(corrections[key]) / np.sqrt(400)
        assert found.corrections[key] == pytest.approx(np.mean(corrections[key]), abs=4 * error + 1e-4), key


@pytest.mark.parametrize(("sharpness", "truth", "limit"), [(0.003, 3, 0.01), (60, 0.05, 100)])
def test_a_temperature_at_its_limit_has_values_and_intervals(sharpness, truth, limit):
    """The best temperature is beyond the limit, so resamples cannot move it further."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.8, (200, 2))
    labels = (truth * logits + random.gumbel(size=logits.shape)).argmax(1)
    p = special.softmax(sharpness * logits, 1)
    fit = Temperatures.fitted(p, labels)
    rows = fit.predictions(p, labels)
    assert fit.temperature == pytest.approx(limit)
    assert (rows.fitted.speeds >= 0.01).all() and (rows.fitted.speeds <= 100).all()
    drawn = resample(rows)
    for measure in MEASURES:
        found = estimate(measure, drawn)
        assert np.isfinite(found.value) and not found.low > found.value and not found.value > found.high


@pytest.mark.parametrize("classes", [2, 3])
def test_a_temperature_without_influence_changes_nothing(classes):
    """Uniform rows have no best temperature."""
    p, labels = np.full((60, classes), 1 / classes), np.arange(60) % classes
    rows = Temperatures.fitted(p, labels).predictions(p, labels)
    found = resample(rows)
    assert set(found.corrections.values()) == {0.0}
    np.testing.assert_allclose(rows.probabilities, p)
    np.testing.assert_allclose(rows.unseen.probabilities, p)


def test_a_temperature_that_a_model_needs_is_still_called_better():
    """Logits 2.3 times too large: the gain in NLL is 3.5 standard errors."""
    told = 0
    for seed in range(25):
        random = np.random.default_rng(seed)
        z = random.normal(0, 1.8, 400)
        labels = (random.random(400) < special.expit(z)).astype(np.int64)
        p = special.expit(2.3 * np.stack([-z, z], 1))
        tempered = Temperatures.fitted(p, labels).predictions(p, labels)
        found = beside(MEASURE["nll"], tempered, Predictions.of(p, labels))
        told += found.verdict == "better"
    assert told >= 21


@pytest.mark.slow  # many simulated runs
@pytest.mark.parametrize(("sharpness", "told"), [(1.1, 0), (1.2, 0.2), (1.4, 0.9)])
def test_the_gain_of_a_mild_temperature_is_covered(sharpness, told):
    """It is a square, which symmetric noise covered in 82 to 90%: small gains seemed more certain than they are."""
    temperatures, found = [], []
    for seed in range(-1, 200):
        random = np.random.default_rng(seed + 1)
        logits = random.normal(0, 1.8, (200_000 if seed < 0 else 872, 2))
        labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
        plain = Predictions.of(special.softmax(sharpness * logits, 1), labels)
        if seed < 0:
            many = plain
            continue
        fit = Temperatures.fitted(plain.probabilities, labels)
        temperatures.append(fit.temperature)
        found.append(beside(MEASURE["nll"], fit.predictions(plain.probabilities, labels), plain))
    grid = np.linspace(min(temperatures), max(temperatures), 9)
    losses = [Predictions.of(apply_temperature(many.probabilities, one), many.labels).nll.mean() for one in grid]
    truth = np.interp(temperatures, grid, losses).mean() - many.nll.mean()
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.92
    assert np.mean([one.verdict == "better" for one in found]) >= told


def test_the_gain_is_the_same_in_either_direction():
    plain, tempered = calibrated_arms(0)
    there, back = beside(MEASURE["nll"], tempered, plain), beside(MEASURE["nll"], plain, tempered)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))


def test_a_temperature_from_other_rows_adds_no_noise():
    plain, _ = calibrated_arms(0)
    others, labels = calibrated_arms(1)[0], plain.labels
    fixed = Temperatures.fitted(plain.probabilities, labels, (others.probabilities, others.labels))
    assert fixed.predictions(plain.probabilities, labels).fitted is None
