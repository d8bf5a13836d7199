"""The verdict in words, from comparisons whose numbers are known."""

from dataclasses import replace

import numpy as np
import pytest
from bayesian_text_classification.evaluation.intervals import Difference
from bayesian_text_classification.evaluation.out_of_scope import ENTROPY, detect
from bayesian_text_classification.evaluation.run import compare
from bayesian_text_classification.evaluation.verdict import advice, rounded, verdict
from bayesian_text_classification.loading.labelled_texts import LabelledTexts
from bayesian_text_classification.pipeline.temperature import apply_temperature

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
        (
            Difference(-0.03, -0.05, -0.01, "better", None),
            "The Bayesian model is significantly better calibrated. On average its confidence",
        ),
        (
            Difference(0.03, 0.01, 0.05, "worse", None),
            "The Bayesian model is significantly worse calibrated. On average its confidence",
        ),
        (
            Difference(-0.01, -0.03, 0.01, "cannot tell", 1234),
            "On 20 texts, the Bayesian model's calibration is not significantly different. On average its",
        ),
    ],
)
def test_the_headline_states_the_verdict_on_the_ece(told, words, comparison):
    found = verdict(with_differences(comparison, ece=told))
    assert found.outcome == told.verdict
    assert found.headline.startswith(words)
    before, after = (comparison.arm(name).estimates["ece"].value for name in ("frequentist", "bayesian"))
    assert found.headline.endswith(
        f"off by {100 * after:.1f} percentage points, compared with {100 * before:.1f} for the ordinary model."
    )
    words = {
        "better": "significantly better",
        "worse": "significantly worse",
        "cannot tell": "no significant difference",
    }
    assert found.lines[0].startswith(f"ECE: from {before:.4f} to {after:.4f}, {words[told.verdict]} (difference ")
    assert f"difference {told.value:+.4f}, 95% interval {told.low:+.4f} to {told.high:+.4f}" in found.lines[0]
    needed = "a difference this large would need about 1,300 texts to detect (80% power)"
    assert (needed in found.lines[0]) == (told.rows_needed is not None)


def test_a_significant_loss_of_accuracy_gives_a_warning(comparison):
    lost = Difference(-0.02, -0.03, -0.01, "worse", None)
    assert any(
        line.startswith("Warning: sampling costs accuracy here")
        for line in verdict(with_differences(comparison, accuracy=lost)).lines
    )
    assert not any(
        "costs accuracy" in line
        for line in verdict(with_differences(comparison, accuracy=replace(lost, verdict="cannot tell"))).lines
    )


def test_undefined_measures_are_labeled_not_defined(comparison):
    nothing = Difference(float("nan"), float("nan"), float("nan"), "cannot tell", None)
    lines = verdict(with_differences(comparison, error_auroc=nothing)).lines
    assert "AUROC of errors: not defined here." in lines
    assert not any("nan" in line for line in lines)


def test_twenty_texts_give_no_threshold(comparison):
    lines = advice(comparison)
    assert lines[-1] == (
        "On 20 texts, no threshold was found that keeps the error among accepted texts below 5%, 2% or 1% with 90% "
        "confidence."
    )


@pytest.mark.parametrize(
    ("arm", "how", "accept"),
    [
        (
            "frequentist",
            "Use classifier(texts, num_samples=0).",
            "classifier(texts, num_samples=0, threshold=0.9) keeps",
        ),
        (
            "frequentist_temperature",
            "Call classifier.calibrate(texts, labels, num_samples=0), which finds a temperature of 0.5 on these texts",
            "classifier(texts, num_samples=0, threshold=0.987805) at that temperature keeps",
        ),
        ("bayesian", "num_samples=10).", "classifier(texts, num_samples=10, threshold=0.9) keeps"),
        (
            "bayesian_temperature",
            "num_samples=10) and set classifier.temperature = 0.5, the value",
            "classifier(texts, num_samples=10, threshold=0.987805) at that temperature keeps",
        ),
    ],
)
def test_the_threshold_is_that_of_the_recommended_arm(arm, how, accept, comparison):
    p = {True: np.tile([0.1, 0.9], (400, 1)), False: np.tile([0.4, 0.6], (400, 1))}
    told = {"nll": Difference(0.0, -0.1, 0.1, "cannot tell", None)}
    arms = tuple(
        replace(
            one,
            probabilities=apply_temperature(p[one.name == arm], 0.5 if one.temperature else 1.0),
            temperature=None if one.temperature is None else 0.5,
            differences=one.differences | (told if one.name != "baal" else {}),  # BaaL's is never recommended
        )
        for one in comparison.arms
    )
    lines = advice(replace(comparison, arms=arms, recommended=arm, labels=np.ones(400, int), groups=None))
    assert lines[0].startswith("Recommended: ") and how in lines[0]
    (promised,) = [line for line in lines if "below 5%" in line]
    assert promised.startswith(accept)
    assert promised.endswith("with 90% confidence for texts like these. Here it accepts 100% of the texts.")


def test_a_threshold_near_1_accepts_the_reported_share(comparison):
    p = 1 - np.logspace(-7.5, -6.5, 400)
    arms = tuple(replace(one, probabilities=np.stack([1 - p, p], 1)) for one in comparison.arms)
    labels = np.repeat([1, 0], [300, 100])
    lines = advice(replace(comparison, arms=arms, recommended="bayesian", labels=labels, groups=None))
    (promised,) = [line for line in lines if "below 5%" in line]
    least = float(promised.split("threshold=")[1].split(")")[0])
    assert 0 < (p >= least).mean() < 1 and f"accepts {(p >= least).mean():.0%}" in promised


def test_advice_mentions_a_saved_temperature(comparison):
    assert not any("was saved with" in line for line in advice(comparison))
    lines = advice(replace(comparison, saved_temperature=1.5))
    assert any(line.startswith("The model was saved with a temperature of 1.50, and none") for line in lines)


def test_the_verdict_says_how_temperatures_were_fitted(comparison):
    assert not comparison.determined  # all twenty answers are right
    assert any("Warning: these labels do not determine a temperature" in line for line in verdict(comparison).lines)
    lines = verdict(replace(comparison, calibrated_on=20)).lines
    assert any("20 other texts. Warning: their labels do not determine a temperature" in line for line in lines)
    sound = replace(comparison, determined=True)
    assert any(
        "fitted on these texts, and the measures are corrected for that" in line for line in verdict(sound).lines
    )
    lines = verdict(replace(sound, calibrated_on=1, shared_texts=1)).lines
    assert any(
        "The temperatures were fitted on 1 text. Warning: 1 of the texts measured here" in line for line in lines
    )


def test_fewer_than_20_wrong_answers_give_no_recommendation(comparison):
    assert comparison.arm("bayesian").differences["nll"].verdict == "cannot tell"
    assert comparison.recommended == "frequentist"
    (line,) = [line for line in verdict(comparison).lines if line.startswith("NLL: ")]
    assert "a verdict needs at least 20 right and 20 wrong answers" in line
    few = with_differences(comparison, accuracy=Difference(0.1, -0.1, 0.3, "cannot tell", None, enough=False))
    (line,) = [line for line in verdict(few).lines if line.startswith("Accuracy: ")]
    assert "a verdict needs at least 20 texts" in line
    first = advice(comparison)[0]
    assert first.startswith("No recommendation: it takes at least 20 right and 20 wrong answers from each model")


def test_verdict_warns_below_20_texts(comparison):
    one = replace(comparison, labels=comparison.labels[:1], groups=None)
    found = verdict(
        with_differences(one, ece=Difference(0.1, float("nan"), float("nan"), "cannot tell", None, enough=False))
    )
    assert (
        found.headline.startswith("On 1 text, ") and "too few right or wrong answers for an interval" in found.lines[0]
    )
    assert found.lines[1].startswith("No difference is called significant on fewer than 20 texts")


@pytest.mark.parametrize(
    ("outside", "rate"),
    [
        (100, "95% interval"),
        (99, "an interval needs at least 100 out-of-scope texts)"),
        (
            19,
            "an interval needs at least 100 out-of-scope texts; a verdict needs at least 20 in-scope and 100 "
            "out-of-scope texts)",
        ),
    ],
)
def test_too_few_out_of_scope_texts_are_named_as_the_reason_for_no_interval(outside, rate, comparison):
    random = np.random.default_rng(0)
    inside, beyond = ({arm: {ENTROPY: random.normal(mean, 1, count)} for arm in ("frequentist", "bayesian")}
                      for mean, count in ((0, 60), (1, outside)))  # fmt: skip
    line = verdict(replace(comparison, out_of_scope=detect(inside, beyond))).lines[-1]
    auroc, flagged = line.split(" At 95% recall, the share of in-scope texts flagged by mistake goes from ")
    assert "95% interval" in auroc and "an interval needs" not in auroc
    assert rate in flagged and "right or wrong" not in line


def test_eces_within_the_null_band_are_reported(comparison):
    def with_ece(value):
        arms = tuple(
            replace(arm, estimates={**arm.estimates, "ece": replace(arm.estimates["ece"], value=value)})
            for arm in comparison.arms
        )
        return " ".join(verdict(replace(comparison, arms=arms)).lines)

    assert "Both ECEs are in the range that sampling noise gives" in with_ece(0.0)
    assert "sampling noise" not in with_ece(1.0)


def test_numbers_of_texts_are_rounded_up_to_two_digits():
    assert [rounded(n) for n in (1, 9, 10, 99, 101, 1234, 99_001)] == [1, 9, 10, 99, 110, 1300, 100_000]
