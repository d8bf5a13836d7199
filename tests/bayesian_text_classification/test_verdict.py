"""The verdict in words, from comparisons whose numbers are known."""

from dataclasses import replace

import numpy as np
import pytest
from bayesian_text_classification.data import LabelledTexts
from bayesian_text_classification.evaluation import compare
from bayesian_text_classification.intervals import Difference
from bayesian_text_classification.verdict import advice, rounded, verdict

TEXTS = ["a wonderful film", "dull and far too long", "not as bad as they say", "I want my money back", "fine"] * 4
DATA = LabelledTexts("texts", TEXTS, [1, 0, 1, 0, 1] * 4, [])


@pytest.fixture(scope="module")
def comparison(classifier):
    return compare(classifier, DATA, num_samples=10)


def with_differences(comparison, **differences):
    """The comparison with other differences of the Bayesian arm."""
    arms = [
        replace(arm, differences={**arm.differences, **differences}) if arm.name == "bayesian" else arm
        for arm in comparison.arms
    ]
    return replace(comparison, arms=tuple(arms))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Difference(-0.03, -0.05, -0.01, "better", None), "The Bayesian ensemble is better calibrated: ECE from"),
        (Difference(0.03, 0.01, 0.05, "worse", None), "The Bayesian ensemble is worse calibrated: ECE from"),
        (
            Difference(-0.01, -0.03, 0.01, "cannot tell", 1234),
            "These 20 texts cannot tell whether the Bayesian ensemble is better calibrated: ECE from",
        ),
    ],
)
def test_the_headline_is_that_of_the_ece(told, words, comparison):
    found = verdict(with_differences(comparison, ece=told))
    assert found.kind == told.verdict
    assert found.headline.startswith(words)
    assert f"difference {told.value:+.4f} (95 % interval {told.low:+.4f} to {told.high:+.4f})" in found.headline
    assert ("about 1,300 texts could, if that is the truth" in found.headline) == (told.rows_needed is not None)


def test_accuracy_that_is_lost_is_a_warning(comparison):
    lost = Difference(-0.02, -0.03, -0.01, "worse", None)
    assert any(
        line.startswith("Warning: MC-Dropout costs accuracy here")
        for line in verdict(with_differences(comparison, accuracy=lost)).lines
    )
    assert not any(
        "Warning" in line
        for line in verdict(with_differences(comparison, accuracy=replace(lost, verdict="cannot tell"))).lines
    )


def test_what_is_not_defined_is_said_so(comparison):
    nothing = Difference(float("nan"), float("nan"), float("nan"), "cannot tell", None)
    lines = verdict(with_differences(comparison, error_auroc=nothing)).lines
    assert "AUROC of errors: not defined here." in lines
    assert not any("nan" in line for line in lines)


def test_twenty_texts_promise_no_threshold(comparison):
    lines = advice(comparison, DATA.labels)
    assert lines[-1] == (
        "No threshold can be promised to keep the error among accepted texts below 5% or 2% or 1% on the evidence of "
        "20 texts."
    )


def test_a_threshold_that_can_be_promised_is_given(comparison):
    p = np.tile([0.1, 0.9], (400, 1))
    arms = tuple(replace(arm, probabilities=p) for arm in comparison.arms)
    lines = advice(replace(comparison, arms=arms), [1] * 400)
    assert (
        "classifier(texts, threshold=0.9), without calibrate, keeps the error among accepted texts below 5% (with 90% "
        "confidence, for texts such as these); here it accepts 100% of them." in lines
    )


def test_numbers_of_texts_have_two_digits():
    assert [rounded(n) for n in (1, 9, 10, 99, 101, 1234, 99_001)] == [1, 9, 10, 99, 110, 1300, 100_000]
