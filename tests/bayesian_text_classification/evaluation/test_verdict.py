"""The verdict in words, from comparisons whose numbers are known."""

import re
from dataclasses import replace

import numpy as np
import pytest
from bayesian_text_classification.evaluation import Outputs, compare_outputs
from bayesian_text_classification.evaluation.accepting import _reachable
from bayesian_text_classification.evaluation.out_of_scope import ENTROPY, detect
from bayesian_text_classification.evaluation.recommendation import Contest, Recommendation
from bayesian_text_classification.evaluation.run import compare
from bayesian_text_classification.evaluation.statistics.intervals import Difference
from bayesian_text_classification.evaluation.verdict import advice, verdict
from bayesian_text_classification.evaluation.words import rounded
from bayesian_text_classification.loading.labeled_texts import LabeledTexts
from bayesian_text_classification.pipeline.scaling import TemperatureScaling
from bayesian_text_classification.pipeline.temperature import apply_temperature
from scipy import special

pytestmark = pytest.mark.usefixtures("few_resamples")

FIVE = ["a wonderful film", "dull and far too long", "not as bad as they say", "I want my money back", "fine"]
TEXTS = [f"{text}, {end}" for end in ("I think", "she says", "they wrote", "again") for text in FIVE]
DATA = LabeledTexts("texts", TEXTS, [1, 0, 1, 0, 1] * 4, [])


@pytest.fixture(scope="module")
def comparison(classifier):
    return compare(classifier, DATA, num_samples=10)


def with_differences(comparison, name="bayesian", **differences):
    """The comparison with other differences of this arm."""
    arms = [
        replace(arm, differences={**arm.differences, **differences}) if arm.name == name else arm
        for arm in comparison.arms
    ]
    return replace(comparison, arms=tuple(arms))


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Difference(-0.03, -0.05, -0.01, "better", None), "The Bayesian model is significantly better"),
        (Difference(0.03, 0.01, 0.05, "worse", None), "The Bayesian model is significantly worse"),
        (
            Difference(-0.01, -0.03, 0.01, "cannot tell", 1234),
            "On 20 texts, the Bayesian model is not significantly better",
        ),
    ],
)
def test_the_first_lines_state_the_verdict_on_the_ece(told, words, comparison):
    first, second, *_ = verdict(with_differences(comparison, ece=told)).lines
    assert first.startswith(f"{words} calibrated. On average its confidence")
    before, after = (comparison.arm(name).estimates["ece"].value for name in ("frequentist", "bayesian"))
    assert first.endswith(
        f"off by {100 * after:.1f} percentage points, compared with {100 * before:.1f} for the ordinary model."
    )
    words = {
        "better": "significantly better",
        "worse": "significantly worse",
        "cannot tell": "no significant difference",
    }
    assert second.startswith(f"ECE: from {before:.4f} to {after:.4f}, {words[told.verdict]} (difference ")
    assert f"difference {told.value:+.4f}, 95% interval {told.low:+.4f} to {told.high:+.4f}" in second
    needed = "a difference this large would need about 1,300 texts to detect with 80% power"
    assert (needed in second) == (told.rows_needed is not None)


def test_a_significant_loss_of_accuracy_gives_a_warning(comparison):
    lost = Difference(-0.02, -0.03, -0.01, "worse", None)
    lines = verdict(with_differences(comparison, accuracy=lost)).lines
    assert any(line.startswith("Warning: sampling costs accuracy here") for line in lines)
    open_ = replace(lost, verdict="cannot tell")
    assert not any("costs accuracy" in line for line in verdict(with_differences(comparison, accuracy=open_)).lines)


def test_undefined_measures_are_labeled_not_defined(comparison):
    nothing = Difference(float("nan"), float("nan"), float("nan"), "cannot tell", None)
    lines = verdict(with_differences(comparison, error_auroc=nothing)).lines
    assert "AUROC of errors: not defined here." in lines
    assert not any("nan" in line for line in lines)


def test_twenty_texts_give_no_threshold(comparison):
    lines = advice(comparison)
    assert lines[-1].startswith(
        "On 20 texts, no threshold was found that keeps the error among accepted texts below 5%, 2% or 1% with 90% "
        "confidence. Among the most confident 20%, 50% and 80% of the texts, 0.0%, 0.0% and 0.0% of the answers are "
        "wrong."
    )
    # Without errors, k accepted texts show an error rate below 5% with 90% confidence if .95^k <= .1: 45 of 57 texts.
    assert (
        "At these rates, 5% would take at least about 57 texts, 2% at least about 150 and 1% at least about"
        in lines[-1]
    )
    (line,) = [line for line in advice(comparison, [0.2]) if "below 20%" in line]
    assert line.startswith("The error is below 20% without a threshold")  # .8^20 is .01


def test_the_threshold_to_deploy_is_the_first_that_is_needed():
    """The error is 4% in all: 5% needs no threshold, 2% needs one."""
    confidence = np.repeat([0.99, 0.6], [1_500, 500])
    wrong = (np.arange(2_000) >= 1_500) & (np.arange(2_000) % 7 == 0)
    p = np.stack([confidence, 1 - confidence], 1)
    found = verdict(compare_outputs(Outputs(wrong.astype(int), p)), [0.05, 0.02])
    assert "The error is below 5% without a threshold, with 90% confidence for texts like these." in found.advice
    assert found.limit.target == 0.02 and "Here it accepts 75% of the texts." in found.advice[-1]
    assert f"threshold={found.limit.threshold!r})" in found.advice[-1]
    assert found.limit.promise == "error among accepted texts below 2%, with 90% confidence"
    assert verdict(compare_outputs(Outputs(wrong.astype(int), p)), [0.05]).limit is None


def test_too_few_wrong_answers_say_how_many_texts_would_do():
    """5 of 100 answers are wrong, and a recommendation takes 20."""
    p = np.tile([0.9, 0.1], (100, 1))
    found = verdict(compare_outputs(Outputs((np.arange(100) % 20 == 0).astype(int), p)))
    assert found.headline.endswith("and there are fewer. At these rates, that is about 400 texts.")
    none = verdict(compare_outputs(Outputs(np.zeros(100, int), p)))
    assert none.headline.endswith("and there are fewer.")


def test_a_stricter_target_takes_more_texts():
    """The most confident fifth has no errors; in the most confident half, 4% of the answers are wrong."""
    correct = np.ones(100, bool)
    correct[[30, 40, *range(50, 100, 2)]] = False
    line = _reachable(np.linspace(1, 0.5, 100), correct, [0.05, 0.02], None)
    assert "0.0%, 4.0% and 21.2% of the answers are wrong" in line
    # Without errors, 45 accepted texts show an error rate below 5%, and 114 one below 2%.
    needed = [int(number.replace(",", "")) for number in re.findall(r"at least about ([\d,]+)", line)]
    assert needed == pytest.approx([45 / 0.2, 114 / 0.2], rel=0.05)


def test_texts_cannot_help_if_the_most_confident_are_wrong_too(comparison):
    labels = np.where(np.arange(20) % 2, comparison.labels, 1 - comparison.labels)
    line = advice(replace(comparison, labels=labels, groups=None))[-1]
    assert line.endswith("More texts would hardly help to get below 5%, 2% or 1%.")


def test_every_significant_loss_has_a_sentence(comparison):
    worse = Difference(0.01, 0.005, 0.015, "worse", None)
    for key, title in (("aurc", "AURC"), ("class_wise_ece", "class-wise ECE")):
        lines = verdict(with_differences(comparison, **{key: worse})).lines
        assert any(line.startswith(f"Warning for Bayesian: {title}: from ") for line in lines)
    changed = with_differences(comparison, "bayesian_temperature", brier=worse)
    lines = verdict(replace(changed, recommendation=Recommendation("bayesian_temperature"))).lines
    assert any(line.startswith("Warning for Bayesian + temperature: Brier: from ") for line in lines)
    assert not any(line.startswith("Warning for") for line in verdict(comparison).lines)


def test_small_gains_are_called_too_small_to_matter(comparison):
    value = comparison.arm("frequentist").estimates["nll"].value
    for share, said in ((0.005, True), (0.02, False)):
        gain = Difference(-share * value, -2 * share * value, -1e-9, "better", None)
        (line,) = [line for line in verdict(with_differences(comparison, nll=gain)).lines if line.startswith("NLL: ")]
        assert line.endswith("but too small to matter.") == said


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ("frequentist_temperature", "Recommended: frequentist + temperature. The NLL goes from"),
        ("bayesian", "Recommended: Bayesian. The NLL goes from"),
        ("bayesian_temperature", "Recommended: Bayesian + temperature. The NLL goes from"),
    ],
)
def test_the_headline_has_the_recommendation_its_effect_and_its_cost(arm, words, comparison):
    found = verdict(replace(comparison, recommendation=Recommendation(arm)))
    assert found.headline.startswith(words) and found.outcome == "change"
    cost = "for 10 passes per text instead of 1." if "bayesian" in arm else "without more passes."
    assert found.headline.endswith(cost)
    for key in ("nll", "ece"):
        before, after = (comparison.arm(name).estimates[key].value for name in ("frequentist", arm))
        assert f"from {before:.4f} to {after:.4f}" in found.headline


@pytest.mark.parametrize("tempered", [False, True])
@pytest.mark.parametrize(("arm", "samples"), [("frequentist", 0), ("bayesian", 10)])
def test_the_threshold_is_that_of_the_recommended_arm(arm, samples, tempered, comparison):
    call, how = f"num_samples={samples}", f"Use classifier(texts, num_samples={samples})."
    accept = f"classifier(texts, {call}, threshold=0.9) keeps"
    if tempered:
        arm = f"{arm}_temperature"
        how = f"Call classifier.calibrate(texts, labels, {call}), which finds a temperature of 0.5 on these texts"
        accept = f"classifier(texts, {call}, threshold=0.987805) at that temperature keeps"
    p = {True: np.tile([0.1, 0.9], (400, 1)), False: np.tile([0.4, 0.6], (400, 1))}
    p[True][360:] = [0.51, 0.49]  # wrong
    told = {"nll": Difference(0.0, -0.1, 0.1, "cannot tell", None)}
    arms = tuple(
        replace(
            one,
            probabilities=apply_temperature(p[one.name == arm], 0.5 if one.temperature else 1.0),
            scaling=None if one.scaling is None else TemperatureScaling(0.5),
            differences=one.differences | (told if one.name != "baal" else {}),  # BaaL's is never recommended
        )
        for one in comparison.arms
    )
    lines = advice(
        replace(comparison, arms=arms, recommendation=Recommendation(arm), labels=np.ones(400, int), groups=None)
    )
    assert how in lines[0]
    (promised,) = [line for line in lines if "below 5%" in line]
    assert promised.startswith(accept)
    assert promised.endswith("with 90% confidence for texts like these. Here it accepts 90% of the texts.")


def test_a_threshold_near_1_accepts_the_reported_share(comparison):
    p = 1 - np.logspace(-7.5, -6.5, 400)
    arms = tuple(replace(one, probabilities=np.stack([1 - p, p], 1)) for one in comparison.arms)
    labels = np.repeat([1, 0], [300, 100])
    lines = advice(
        replace(comparison, arms=arms, recommendation=Recommendation("bayesian"), labels=labels, groups=None)
    )
    (promised,) = [line for line in lines if "below 5%" in line]
    least = float(promised.split("threshold=")[1].split(")")[0])
    assert 0 < (p >= least).mean() < 1 and f"accepts {(p >= least).mean():.0%}" in promised


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
    words = "No recommendation on 20 texts: it takes at least 20 right and 20 wrong answers from each model"
    assert verdict(comparison).headline.startswith(words) and not comparison.conclusive
    assert advice(comparison)[0].startswith("Evaluate again on more texts drawn the same way")
    sure = [replace(arm, differences={key: replace(one, enough=True) for key, one in arm.differences.items()})
            for arm in comparison.arms]  # fmt: skip
    headline = verdict(replace(comparison, arms=tuple(sure))).headline
    assert headline.startswith("Recommended: the ordinary model as it is (NLL ") and headline.endswith("least 1%.")


def test_the_comparisons_that_decided_are_printed(comparison):
    better, open_ = Difference(-0.2, -0.3, -0.1, "better", None), Difference(-0.1, -0.3, 0.1, "cannot tell", 1234)
    names = ["frequentist", "frequentist_temperature", "bayesian_temperature"]
    plain, cold, warm = (f"{comparison.arm(name).estimates['nll'].value:.4f}" for name in names)
    lost, won = Contest(names[0], names[1], better), Contest(names[1], names[2], open_)
    lines = verdict(replace(comparison, recommendation=Recommendation(names[1], lost, won))).lines
    assert [line for line in lines if line.startswith("Why not ")] == [
        "Why not the model as it is, which needs no fit? With frequentist + temperature instead of the model as it is, "
        f"the NLL goes from {plain} to {cold}, significantly better (difference -0.2000, 95% interval -0.3000 to "
        "-0.1000).",
        "Why not Bayesian + temperature, which takes 10 passes per text? With Bayesian + temperature instead of "
        f"frequentist + temperature, the NLL goes from {cold} to {warm}, no significant difference (difference "
        "-0.1000, 95% interval -0.3000 to +0.1000; a difference this large would need about 1,300 texts to detect with "
        "80% power).",
    ]
    small = Contest("bayesian", names[2], Difference(-1e-6, -2e-6, -1e-7, "better", None))
    lines = verdict(replace(comparison, recommendation=Recommendation("bayesian", won=small))).lines
    (line,) = [line for line in lines if line.startswith("Why not ")]
    assert line.startswith("Why not Bayesian + temperature, which has to be fitted? With Bayesian + temperature")
    assert line.endswith("but too small to matter.")
    assert not any(line.startswith("Why not ") for line in verdict(comparison).lines)  # no recommendation


@pytest.mark.parametrize(
    ("confidence", "right", "sentence"),
    [
        (0.9, 0.6, "The ordinary model is overconfident: its mean confidence is 0.9000, its accuracy 0.6000."),
        (0.6, 0.9, "The ordinary model is underconfident: its mean confidence is 0.6000, its accuracy 0.9000."),
        (0.9, 0.9, None),
    ],
)
def test_the_first_line_says_whether_the_ordinary_model_is_overconfident(confidence, right, sentence):
    labels = (np.arange(400) >= 400 * right).astype(int)
    found = verdict(compare_outputs(Outputs(labels, np.tile([confidence, 1 - confidence], (400, 1)))))
    assert found.lines[0].startswith(sentence or "Why not frequentist + temperature, which has to be fitted?")
    assert (f"Its ECE of {abs(confidence - right):.4f} is above the range" in found.lines[0]) == bool(sentence)


def test_a_model_can_be_off_in_both_directions():
    """Confidence 0.95 in answers of which 80% are right, and 0.65 in others of which 80% are right."""
    p = np.repeat([[0.95, 0.05], [0.65, 0.35]], 300, axis=0)
    found = verdict(compare_outputs(Outputs((np.arange(600) % 5 == 0).astype(int), p)))
    assert found.lines[0].startswith(
        "The ordinary model is miscalibrated in both directions: its mean confidence is 0.8000"
    )


def test_verdict_warns_below_20_texts():
    p = np.array([[0.9, 0.1]])
    found = verdict(compare_outputs(Outputs(np.array([0]), p, np.stack([p, p], 2))))
    assert found.lines[0].startswith("On 1 text, ")
    assert "too few right or wrong answers for an interval" in found.lines[1]
    assert found.lines[2].startswith("No difference is called significant on fewer than 20 texts")


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
    assert "may already be calibrated" not in with_ece(1.0)


def labels_of(sharp, texts=1_500):
    """Outputs of one frequent and three rare labels, with `sharp` times the true log odds for the frequent one."""
    random = np.random.default_rng(0)
    odds = random.normal(size=(texts, 4)) + np.array([0.0, *[-4.0] * 3])
    labels = (random.random(odds.shape) < special.expit(odds)).astype(int)
    odds[:, 0] *= sharp
    return Outputs(labels, special.expit(odds), names=["neutral", *[f"rare {i}" for i in range(3)]])


def test_a_label_that_is_not_calibrated_is_found_where_the_pooled_ece_is_noise():
    lines = " ".join(verdict(compare_outputs(labels_of(1.0))).lines)
    assert "frequentist ECE is in the range that sampling noise" in lines and "may already be calibrated" in lines
    for sharp, how in ((1.6, "too extreme"), (0.5, "too close to 0.5")):
        found = compare_outputs(labels_of(sharp))
        arm = found.arm("frequentist")
        quiet = replace(arm, estimates={**arm.estimates, "ece": replace(arm.estimates["ece"], value=0.0)})
        lines = " ".join(verdict(replace(found, arms=(quiet, *found.arms[1:]))).lines)
        assert f"But the probabilities of the frequentist model are {how} (Spiegelhalter's test, z = " in lines
        assert "Label by label, it rejects 1 of 4: neutral." in lines and "may already be calibrated" not in lines


def test_numbers_of_texts_are_rounded_up_to_two_digits():
    assert [rounded(n) for n in (1, 9, 10, 99, 101, 1234, 99_001)] == [1, 9, 10, 99, 110, 1300, 100_000]
