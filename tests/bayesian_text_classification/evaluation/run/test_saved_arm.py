"""The arm "as saved": the calibration and the options that a classifier was saved with."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from bayesian_text_classification.evaluation.run import compare, total_rows
from bayesian_text_classification.evaluation.verdict import verdict
from bayesian_text_classification.loading.labeled_texts import LabeledTexts
from bayesian_text_classification.pipeline.calibration import Calibration
from bayesian_text_classification.pipeline.scaling import TemperatureScaling

pytestmark = pytest.mark.usefixtures("few_resamples")

TEXTS = ["a wonderful film", "dull and far too long", "not as bad as they say", "I want my money back", "fine"]
DATA = LabeledTexts("five texts", TEXTS, [1, 0, 1, 0, 1], [])


@pytest.fixture(scope="module")
def comparison(classifier):
    return compare(classifier, DATA, num_samples=4, seed=3)


@pytest.fixture(scope="module")
def still(tiny):
    return tiny("llama", num_labels=2, attention_dropout=0.0, pad_token_id=0)


def load_saved_with(classifier, temperature=2.0, **options):
    """A classifier with these options, calibrated for its default calls."""
    ours = copy.copy(classifier.uncalibrated())
    ours._settings = replace(ours._settings, options=replace(ours.sampling, **options))
    if temperature:
        rate = ours._dropout_rate(ours.sampling)
        scaling = TemperatureScaling(temperature, masks=ours.sampling.masks, dropout_rate=rate)
        ours.calibration = Calibration({"dropout": scaling})
    return ours


def test_a_saved_calibration_is_an_arm_of_its_own(comparison, classifier):
    ours = classifier.uncalibrated()
    ours.calibration = Calibration({"ordinary": TemperatureScaling(3.0), "dropout": TemperatureScaling(2.0)})
    again = compare(ours, DATA, num_samples=4, seed=3)
    *others, saved = again.arms
    for arm, expected in zip(others, comparison.arms, strict=True):
        np.testing.assert_allclose(arm.probabilities, expected.probabilities, atol=1e-6)
    assert saved.name == "saved" and saved.cost.passes == 20  # the classifier's default
    np.testing.assert_allclose(saved.probabilities, ours.predict_proba(TEXTS, seed=3), atol=1e-6)
    lines = verdict(again).lines
    words = '"As saved" is the classifier with the calibration that it was saved with (temperature 2), on 20 samples'
    assert any(line.startswith(words) for line in lines) and any(line.startswith("As saved, ECE: ") for line in lines)
    plain = compare(ours, DATA, num_samples=0)  # its own scores are sampled, so they cannot be measured
    assert [arm.name for arm in plain.arms] == ["frequentist", "frequentist_temperature"]
    assert "was not measured: nothing was sampled." in " ".join(verdict(plain).lines)


def test_a_calibration_for_other_masks_is_no_arm(classifier):
    ours = classifier.uncalibrated()
    ours.calibration = Calibration({"dropout": TemperatureScaling(2.0, masks="bernoulli")})
    found = compare(ours, DATA, num_samples=4)
    assert "saved" not in [arm.name for arm in found.arms]
    said = "The classifier was saved with a calibration, but not for its default, sampled scores"
    assert any(line.startswith(said) for line in verdict(found).lines)


@pytest.mark.parametrize(
    "options", [{"num_samples": 2}, {"tolerance": 0.2}, {"masks": "bernoulli"}, {"num_samples": 4}]
)
def test_a_saved_calibration_is_measured_as_the_classifier_calls_it(classifier, options):
    """Whatever the run samples: with its own number of samples, masks and tolerance."""
    ours = load_saved_with(classifier, **{"num_samples": 8, **options})
    rows = []
    result = compare(ours, DATA, num_samples=4, seed=3, progress=rows.append)
    saved = result.arm("saved")
    np.testing.assert_allclose(saved.probabilities, ours.predict_proba(TEXTS, seed=3), atol=1e-6)
    used = [one["num_samples"] for one in ours(TEXTS, seed=3)]
    assert saved.cost.passes == max(round(np.mean(used)), 1)
    assert sum(rows) <= total_rows(ours, DATA, num_samples=4)
    assert result.arm("bayesian").cost.passes == 4


def test_a_calibration_that_was_fitted_on_these_texts_is_no_arm(classifier):
    labels = [1, 0, 0, 0, 1]
    for samples in (0, 4, 6):
        ours = load_saved_with(classifier, num_samples=samples, temperature=None)
        ours.calibrate(TEXTS, labels, seed=3)
        result = compare(ours, replace(DATA, labels=labels), num_samples=4, seed=3)
        assert "saved" not in {arm.name for arm in result.arms}
        assert "was fitted on these texts, so there is no arm" in " ".join(verdict(result).lines)
        assert "saved" in {arm.name for arm in compare(ours, DATA, num_samples=4, seed=3).arms}


def test_a_threshold_that_the_classifier_was_saved_with_is_said(classifier):
    ours = classifier.uncalibrated()
    ours.threshold = 0.9
    (note,) = (line for line in verdict(compare(ours, DATA, num_samples=4)).lines if "threshold=0.9" in line)
    assert note.startswith("The classifier was saved with threshold=0.9. All texts are measured, including")


def test_a_saved_calibration_is_measured_only_on_samples_at_its_own_dropout(still, bayesian):
    ours = bayesian(still, dropout=0.1, num_samples=4)
    rate = ours._dropout_rate(ours.sampling)
    scaling = TemperatureScaling(2.0, masks="balanced", dropout_rate=rate, dropout=0.1)
    ours.calibration = Calibration({"dropout": scaling})
    assert compare(ours, DATA, num_samples=4).arm("saved").cost.passes == 4
    other = compare(ours, DATA, num_samples=4, dropout=0.2)
    np.testing.assert_allclose(other.arm("saved").probabilities, ours.predict_proba(TEXTS), atol=1e-6)
    assert "on 4 samples with balanced masks (dropout=0.1)" in other.notes[-1]
