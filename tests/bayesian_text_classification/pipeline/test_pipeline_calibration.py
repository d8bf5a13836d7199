"""The temperature of the averaged probabilities, and the threshold below which a text gets no label."""

import json

import numpy as np
import pytest
from bayesian_text_classification.pipeline.answers import ranked_labels
from bayesian_text_classification.pipeline.temperature import apply_temperature, fit_temperature
from bayesian_text_classification.pipeline.uncertainty import over_classes
from pipeline_cases import KEYS, MANY, TASK, TEXTS
from transformers import pipeline

LABELS = [i % 3 for i in range(len(MANY))]


@pytest.fixture
def ours(tiny, bayesian):
    """A new pipeline for each test, since calibration changes it."""
    names = {0: "bad", 1: "fine", 2: "good"}
    model = tiny("bert", num_labels=3, id2label=names, label2id={name: i for i, name in names.items()})
    return bayesian(model, num_samples=10)


def test_calibrate_fits_the_temperature_of_the_averaged_probabilities(ours):
    p = ours.predict_proba(MANY)
    expected = fit_temperature(p, np.array(LABELS))
    assert ours.calibrate(MANY, LABELS) == ours.temperature == pytest.approx(expected)
    assert ours.temperature != 1
    again = ours.calibrate(
        MANY, [["bad", "fine", "good"][i] for i in LABELS]
    )  # the current temperature does not affect the fit
    assert again == pytest.approx(expected)


def test_calibration_changes_only_the_averages(ours):
    before, samples, p = ours(MANY, top_k=None), ours.sample_proba(MANY), ours.predict_proba(MANY)
    stock = ours(MANY, num_samples=0)
    temperature = ours.calibrate(MANY, LABELS)
    tempered = apply_temperature(p, temperature)
    np.testing.assert_allclose(ours.predict_proba(MANY), tempered, atol=1e-6)
    np.testing.assert_array_equal(ours.sample_proba(MANY), samples)
    np.testing.assert_array_equal(ours.predict_proba(MANY, num_samples=0), ours.predict_proba(MANY, num_samples=0))
    assert ours(MANY, num_samples=0) == stock
    for old, new, row in zip(before, ours(MANY, top_k=None), tempered, strict=True):
        assert [entry["label"] for entry in new] == [entry["label"] for entry in old]
        np.testing.assert_allclose([entry["score"] for entry in new], np.sort(row)[::-1], atol=1e-6)
        entropy = -(row * np.log(row)).sum()
        assert new[0]["predictive_entropy"] == pytest.approx(entropy, abs=1e-5)
        for key in ("score_std", "standard_error", "expected_entropy", "mutual_information"):
            assert new[0][key] == old[0][key]
    ours.temperature = 1.0
    np.testing.assert_array_equal(ours.predict_proba(MANY), p)


def test_temperature_does_not_affect_early_stopping(ours):
    options = {"num_samples": 60, "tolerance": 0.05}
    counts = [result["num_samples"] for result in ours(MANY, **options)]
    ours.temperature = 5.0
    assert [result["num_samples"] for result in ours(MANY, **options)] == counts


def test_temperature_is_saved_with_the_model_but_not_in_the_callers_config(ours, tokenizer, tmp_path):
    temperature = ours.calibrate(MANY, LABELS)
    ours.save_pretrained(tmp_path)
    assert not hasattr(ours.model.config, "bayesian_text_classification")
    saved = json.loads((tmp_path / "config.json").read_text())["bayesian_text_classification"]
    assert saved["temperature"] == temperature
    loaded = pipeline(TASK, model=str(tmp_path), pipeline_class=type(ours), num_samples=10)
    assert loaded.temperature == temperature
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), ours.predict_proba(TEXTS), atol=1e-6)
    loaded.save_pretrained(tmp_path / "again")
    again = pipeline(TASK, model=str(tmp_path / "again"), pipeline_class=type(ours), num_samples=10)
    assert again.temperature == temperature


def test_invalid_calibration_raises_and_changes_nothing(ours, tiny, bayesian):
    for texts, labels, options, words in (
        (TEXTS, [0, 1], {}, "got 3 texts and 2 labels; pass at least one text, each with a label"),
        ([], [], {}, "got 0 texts and 0 labels"),
        (TEXTS, [0, 1, 3], {}, "label 2 is 3; the classes are {0: 'bad', 1: 'fine', 2: 'good'}"),
        (TEXTS, [0, "great", 1], {}, "label 1 is 'great'; the classes are"),
        (TEXTS, [0, 1, 1.5], {}, "label 2 is 1.5; the classes are"),
        (TEXTS, [0, 1, True], {}, "label 2 is True; the classes are"),
        (TEXTS, [0, 1, 2], {"num_samples": 0}, "num_samples=0; calibrate fits the temperature of sampled scores"),
        (TEXTS, [0, 1, 2], {"function_to_apply": "none"}, "a model that chooses one label among at least two classes"),
        ("Bad", [0, 1, 2], {}, "texts is a single str; pass a list of texts"),
        (MANY, [entry["label"] for entry in ours(MANY)], {}, "no temperature is best for these 10 texts"),
        ([TEXTS[0], None, TEXTS[1]], [0, 1, 2], {}, "input 1 is None"),
    ):
        ours.temperature = 2.0
        with pytest.raises((ValueError, TypeError)) as error:
            ours.calibrate(texts, labels, **options)
        assert words in str(error.value)
        assert ours.temperature == 2.0
    several = bayesian(tiny("bert", num_labels=3, problem_type="multi_label_classification"))
    with pytest.raises(ValueError, match="one label among at least two classes"):
        several.calibrate(TEXTS, [0, 1, 2])


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "2", True, None])
def test_invalid_temperature_raises(value, ours):
    with pytest.raises(ValueError, match="it must be a positive finite number; 1 changes nothing"):
        ours.temperature = value


def test_text_below_threshold_gets_a_reason_and_no_label(ours):
    plain = ours(MANY)
    middle = float(np.median([result["score"] for result in plain]))
    found = ours(MANY, threshold=middle)
    assert {result["abstained"] for result in found} == {True, False}
    for before, after in zip(plain, found, strict=True):
        assert list(after) == [*KEYS[:-1], "abstained", "reason", "truncated"]
        assert after["abstained"] == (before["score"] < middle)
        if after["abstained"]:
            assert after["label"] is None
            assert after["reason"].startswith(f"score {before['score']:.3f} is below the threshold {middle:g}; its sam")
            model, data = before["mutual_information"], before["expected_entropy"]
            blamed = "disagree" if model > data else "differ" if model > 0.1 * (model + data) else "samples agree"
            assert blamed in after["reason"]
        else:
            assert (after["label"], after["reason"]) == (before["label"], None)
        assert {key: after[key] for key in KEYS[1:]} == {key: before[key] for key in KEYS[1:]}
    json.dumps(found)
    score = ours(MANY[0])[0]["score"]
    assert not ours(MANY[0], threshold=score)[0]["abstained"]  # a score equal to the threshold is accepted


@pytest.mark.parametrize(
    ("first_class", "said"),
    [
        ([0.99, 0.01], "its samples disagree"),
        ([0.85, 0.15], "its samples differ, but"),
        ([0.55, 0.45], "its samples agree"),
        ([0.5, 0.5], "its samples agree"),
        ([0.6], "one sample cannot show"),
    ],
)
def test_reasons_name_what_the_samples_show(first_class, said):
    samples = np.array([[first_class, [1 - p for p in first_class]]])
    ((result,),) = ranked_labels(
        over_classes(samples), {0: "A", 1: "B"}, samples.shape[2], top_k=1, own_entropies=False, threshold=0.9
    )
    assert said in result["reason"]


def test_top_k_keeps_labels_of_abstained_texts(ours):
    found = ours(TEXTS, threshold=1.0, top_k=2)
    for entries, plain in zip(found, ours(TEXTS, top_k=2), strict=True):
        assert [entry["label"] for entry in entries] == [entry["label"] for entry in plain]
        assert all(entry["abstained"] and entry["reason"] for entry in entries)


def test_threshold_applies_to_the_tempered_score(ours):
    assert not ours(TEXTS[0], threshold=0.34)[0]["abstained"]
    ours.temperature = 100.0  # scores close to 1/3
    assert ours(TEXTS[0], threshold=0.4)[0]["abstained"]


def test_threshold_can_be_set_at_construction_or_call(tiny, bayesian):
    ours = bayesian(tiny("bert", num_labels=3), threshold=1.0, num_samples=3)
    assert ours(TEXTS[0])[0]["abstained"]
    assert not ours(TEXTS[0], threshold=0)[0]["abstained"]
    assert "abstained" not in ours(TEXTS[0], threshold=None)[0]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, "0.5", True, float("nan")])
def test_threshold_out_of_range_raises(threshold, ours):
    with pytest.raises(ValueError, match=r"threshold=.*; it must lie in \[0, 1\]"):
        ours(TEXTS, threshold=threshold)


def test_threshold_needs_a_distribution_over_classes(ours, tiny, bayesian):
    with pytest.raises(ValueError, match="num_samples=0 runs the stock pipeline"):
        ours(TEXTS, threshold=0.5, num_samples=0)
    with pytest.raises(ValueError, match="threshold needs probabilities that sum to 1"):
        ours(TEXTS, threshold=0.5, function_to_apply="none")
    several = bayesian(tiny("bert", num_labels=3, problem_type="multi_label_classification"))
    with pytest.raises(ValueError, match="threshold needs probabilities that sum to 1"):
        several(TEXTS, threshold=0.5)


def test_old_temperature_applies_while_calibrate_runs(ours):
    """A service may recalibrate while other threads classify."""
    ours.temperature = 2.0
    expected, seen = ours.predict_proba(TEXTS), []
    ours.calibrate(MANY, LABELS, progress=lambda passes: seen.append(ours.predict_proba(TEXTS)))
    assert seen and ours.temperature != 2.0
    for found in seen:
        np.testing.assert_array_equal(found, expected)


def test_raw_outputs_are_not_calibrated_as_probabilities(tiny, bayesian, ours):
    """The constructor's `function_to_apply` counts, and so do all spellings that a call accepts."""
    model = tiny("bert", num_labels=3)
    for function in ("none", "sigmoid"):
        with pytest.raises(ValueError, match="chooses one label"):
            bayesian(model, function_to_apply=function).calibrate(MANY, LABELS)
        with pytest.raises(ValueError, match="chooses one label"):
            ours.calibrate(MANY, LABELS, function_to_apply=function.upper())
    expected = ours.calibrate(MANY, LABELS)
    for function in ("default", "SOFTMAX", "softmax"):
        assert ours.calibrate(MANY, LABELS, function_to_apply=function) == expected
