"""Models of independent labels, with one output, and of numbers: calibration, thresholds, saving."""

import numpy as np
import pytest
from bayesian_text_classification import TASK, load
from bayesian_text_classification.pipeline.fitting import fitted
from bayesian_text_classification.pipeline.scaling import PlattScaling
from pipeline_cases import MANY, TEXTS
from transformers import pipeline

NAMES = {0: "joy", 1: "anger", 2: "fear"}
SETS = [["joy"], [], ["joy", "anger"], ["fear"], [0, 2], ["joy"], [], ["anger"], ["fear"], ["joy", "fear"]]


@pytest.fixture
def several(tiny, bayesian):
    model = tiny("bert", num_labels=3, problem_type="multi_label_classification")
    model.config.id2label, model.config.label2id = NAMES, {name: i for i, name in NAMES.items()}
    return bayesian(model, num_samples=10)


@pytest.fixture
def alone(tiny, bayesian):
    return bayesian(tiny("bert", num_labels=1), num_samples=10)


def matrix(sets):
    return np.array([[name in labels or i in labels for i, name in NAMES.items()] for labels in sets]).astype(int)


@pytest.mark.parametrize("samples", [0, 10])
def test_independent_labels_are_calibrated_by_platt(several, samples):
    p = several.predict_proba(MANY, num_samples=samples).astype(np.float64)
    found = several.calibrate(MANY, SETS, num_samples=samples)
    expected = fitted("platt", p, matrix(SETS))
    np.testing.assert_allclose(found.slopes, expected.slopes, rtol=1e-4)
    np.testing.assert_allclose(found.biases, expected.biases, rtol=1e-4, atol=1e-5)
    way = "dropout" if samples else "ordinary"
    assert several.calibration == {way: found} and several.temperature == 1
    np.testing.assert_allclose(several.predict_proba(MANY, num_samples=samples), found.apply(p), atol=1e-6)
    for text, row in zip(several(MANY, num_samples=samples, top_k=None), found.apply(p), strict=True):
        scores = {entry["label"]: entry["score"] for entry in text}
        assert [scores[name] for name in NAMES.values()] == pytest.approx(row, abs=1e-6)


def test_labels_come_in_three_forms(several):
    expected = several.calibrate(MANY, SETS)
    assert several.calibrate(MANY, matrix(SETS)) == expected
    assert several.calibrate(MANY, matrix(SETS).astype(bool).tolist()) == expected
    assert several.calibrate(MANY, [tuple(sorted(map(str, labels))) if labels and isinstance(labels[0], str)
                                    else {*labels} for labels in SETS]) == expected  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([["joy"], ["hate"], []], "labels 1 is 'hate' (the classes are"),
        ([[0], [1], [3]], "labels 2 is 3 (the classes are"),
        ([[0], [1]], "got 3 texts and 2 labels"),
        ([[], [], []], "no label applies to all of them"),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 2]], "labels 0 are [1, 0, 0], which has 0 twice; pass the labels of each text"),
    ],
)
def test_wrong_labels_raise_and_change_nothing(several, labels, words):
    with pytest.raises(ValueError) as error:
        several.calibrate(TEXTS, labels)
    assert words in str(error.value) and not several.calibration


def test_a_temperature_is_refused_for_independent_labels(several):
    with pytest.raises(ValueError, match="a model of independent labels takes method='platt'"):
        several.calibrate(MANY, SETS, method="temperature")


def test_thresholds_of_labels_are_applied_saved_and_loaded(several, tmp_path):
    several.calibrate(MANY, SETS)
    p = several.predict_proba(MANY)
    several.threshold = {"joy": float(np.median(p[:, 0])), "fear": 1.0}
    several.save_pretrained(tmp_path)
    for ours in (several, load(tmp_path), pipeline(TASK, model=str(tmp_path), trust_remote_code=True)):
        assert ours.threshold == several.threshold and ours.calibration.saved() == several.calibration.saved()
        for row, entries in zip(p, ours(MANY, top_k=None), strict=True):
            found = {entry["label"]: entry["accepted"] for entry in entries}
            assert found == {"joy": row[0] >= several.threshold["joy"], "anger": False, "fear": False}
            assert "abstained" not in entries[0]
    with pytest.warns(UserWarning, match="is dropped: the scores that it was chosen for have another calibration"):
        several.calibrate(MANY, SETS[::-1])
    assert several.threshold is None


def test_thresholds_that_cannot_work_are_refused_when_set(several, alone, bayesian, tiny):
    with pytest.raises(ValueError, match=r"pass a threshold for each, such as threshold=\{'joy': 0.8\}"):
        several.threshold = 0.5
    with pytest.raises(ValueError, match="threshold has 'hate', which is not a label of the model"):
        several.threshold = {"hate": 0.5}
    with pytest.raises(ValueError, match=r"'joy': 1.5.*must lie in \[0, 1\]"):
        several(TEXTS, threshold={"joy": 1.5})
    with pytest.raises(ValueError, match=r"this model takes one number, such as threshold=0\.8"):
        alone.threshold = {"LABEL_0": 0.5}
    with pytest.raises(ValueError, match="this model predicts numbers; pass threshold=None"):
        bayesian(tiny("bert", num_labels=1, problem_type="regression")).threshold = 0.5


@pytest.mark.parametrize("samples", [0, 10])
def test_one_output_is_a_choice_between_yes_and_no(alone, samples, tmp_path):
    labels = [0, 1, 1, 0, 1, 0, 0, 1, 0, 1]
    p = alone.predict_proba(MANY, num_samples=samples).astype(np.float64)
    found = alone.calibrate(MANY, labels, num_samples=samples)
    assert isinstance(found, PlattScaling) and len(found.slopes) == 1
    q = alone.predict_proba(MANY, num_samples=samples)
    np.testing.assert_allclose(q, found.apply(p), atol=1e-6)
    middle = float(np.median(np.maximum(q, 1 - q)))
    for row, entry in zip(q[:, 0], alone(MANY, num_samples=samples, threshold=middle), strict=True):
        assert entry["score"] == pytest.approx(row, abs=1e-6) and entry["candidate"] == "LABEL_0"
        assert entry["abstained"] == (max(row, 1 - row) < middle) == (entry["label"] is None)
    alone.save_pretrained(tmp_path)
    np.testing.assert_allclose(load(tmp_path).predict_proba(MANY, num_samples=samples), q, atol=1e-6)
    with pytest.raises(ValueError, match="label 0 is 2; the model has one output, so it must be 0 or 1"):
        alone.calibrate(MANY, [2] * 10)


@pytest.mark.parametrize("samples", [0, 10])
def test_biases_raise_a_class_that_is_rarer_than_it_should_be(bayesian, tiny, samples, tmp_path):
    ours = bayesian(tiny("bert", num_labels=3))
    p = ours.predict_proba(MANY, num_samples=samples)
    usual = int(np.bincount(p.argmax(1)).argmax())
    second = (usual + 1) % 3
    labels = [second if i % 3 == 0 else int(row.argmax()) for i, row in enumerate(p)]
    temperature = ours.calibrate(MANY, labels, method="bias-corrected", num_samples=samples)
    (scaling,) = ours.calibration.values()
    assert scaling.temperature == temperature and scaling.biases[second] > scaling.biases[usual]
    q = ours.predict_proba(MANY, num_samples=samples)
    np.testing.assert_allclose(q, scaling.apply(p), atol=1e-6)
    assert (q[:, second] / q[:, usual] > (p[:, second] / p[:, usual]) ** (1 / temperature)).all()
    ours.save_pretrained(tmp_path)
    assert load(tmp_path).calibration == ours.calibration


def test_all_keys_of_a_label_belong_together(several):
    several.calibrate(MANY, SETS)
    for entries in several(MANY, top_k=None):
        for entry in entries:
            total = entry["expected_entropy"] + entry["mutual_information"]
            assert entry["predictive_entropy"] == pytest.approx(total)
            s = entry["score"]
            assert entry["predictive_entropy"] == pytest.approx(-s * np.log(s) - (1 - s) * np.log1p(-s), rel=1e-5)


def test_numbers_are_predictions_alone(bayesian, tiny):
    ours = bayesian(tiny("bert", num_labels=1, problem_type="regression"))
    assert ours.activation == "none" and ours(TEXTS[0])[0]["predictive_entropy"] is None
    with pytest.raises(ValueError, match=r"this model predicts numbers .* use its predictions as they are"):
        ours.calibrate(TEXTS, [0, 1, 0])


def test_two_labels_on_every_text_are_not_rows_of_the_matrix(tiny, bayesian):
    ours = bayesian(tiny("bert", num_labels=2, problem_type="multi_label_classification"), num_samples=0)
    found = ours.calibrate(TEXTS, [{0, 1}, {0, 1}, {0}])
    assert found == ours.calibrate(TEXTS, [[1, 1], [1, 1], [1, 0]])


def test_scalings_of_another_kind_are_refused(several, alone):
    several.calibrate(MANY, SETS)
    before = several.calibration
    several.temperature = several.temperature  # changes nothing
    assert several.calibration == before
    with pytest.raises(ValueError, match="temperature 2 is for a model that chooses one label, and this is a model of"):
        several.temperature = 2.0
    with pytest.raises(ValueError, match=r"is for 3 labels, and the model has 1; call classifier\.calibrate"):
        alone.calibration = before
    assert several.calibration == before and not alone.calibration


def test_a_calibration_of_saved_code_is_accepted(several, tmp_path):
    several.calibrate(MANY, SETS)
    several.save_pretrained(tmp_path)
    other = pipeline(TASK, model=str(tmp_path), trust_remote_code=True)
    expected, several.calibration = several.calibration, other.calibration
    assert several.calibration == expected


def test_advice_about_a_dropped_threshold_works(several):
    several.threshold = {"joy": 0.5}
    with pytest.warns(UserWarning, match=r"label_thresholds, or keep it with classifier.threshold = \{'joy': 0.5\}"):
        several.calibrate(MANY, SETS)
    several.threshold = {"joy": 0.5}
    several.threshold["joy"] = 7  # a copy
    assert several.threshold == {"joy": 0.5} and hash(several.sampling) == hash(several.sampling)
