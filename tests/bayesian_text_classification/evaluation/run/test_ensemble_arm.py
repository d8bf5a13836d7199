"""The arms of an ensemble, against the ensemble itself and its members alone."""

import numpy as np
import pytest
import torch
from bayesian_text_classification.evaluation.run import compare, outputs_of, total_rows
from bayesian_text_classification.evaluation.run.ensemble_arm import weight_bytes
from bayesian_text_classification.evaluation.verdict import advice, verdict
from bayesian_text_classification.loading.labelled_texts import LabelledTexts
from bayesian_text_classification.pipeline.calibration import Calibration
from bayesian_text_classification.pipeline.scaling import TemperatureScaling
from bayesian_text_classification.pipeline.temperature import apply_temperature, fit_temperature
from bayesian_text_classification.pipeline.uncertainty import over_classes

TEXTS = [f"{word} film, number {i}" for i in range(4) for word in ("a good", "a bad", "an odd")]
DATA = LabelledTexts("texts", TEXTS, [1, 0, 1] * 4, [])
OTHER = LabelledTexts("others", ["awful", "a joy", "so so"], [0, 1, 0], [])
STRANGE = ["what is the weather", "book a table"]


@pytest.fixture(scope="module")
def models(tiny):
    torch.manual_seed(1)
    return [tiny("bert", num_labels=2), tiny("distilbert", num_labels=2), tiny("bert", num_labels=2)]


def names_of(comparison):
    return [arm.name for arm in comparison.arms]


def test_an_ensemble_is_measured_next_to_its_first_model(models, bayesian):
    ours, rows = bayesian(models), []
    options = {"calibration": OTHER, "out_of_scope": STRANGE, "num_samples": 2}
    found = compare(ours, DATA, progress=rows.append, **options)
    assert sum(rows) == total_rows(ours, DATA, **options)
    alone = compare(bayesian(models[0]), DATA, **options)
    assert names_of(found) == [*names_of(alone), "ensemble", "ensemble_temperature"]
    for arm, expected in zip(found.arms, alone.arms, strict=False):
        np.testing.assert_allclose(arm.probabilities, expected.probabilities, rtol=0, atol=1e-6)
    mean = np.mean([bayesian(model).predict_proba(TEXTS, num_samples=0) for model in models], axis=0)
    np.testing.assert_allclose(found.arm("ensemble").probabilities, mean, rtol=0, atol=1e-6)
    assert found.arm("ensemble").cost.passes == 3 and found.arm("ensemble").cost.dropout_sites == 0
    temperature = fit_temperature(ours.predict_proba(OTHER.texts), np.array(OTHER.labels))
    tempered = found.arm("ensemble_temperature")
    assert tempered.temperature == pytest.approx(temperature, rel=1e-6)
    np.testing.assert_allclose(tempered.probabilities, apply_temperature(mean, temperature), rtol=0, atol=1e-6)
    gap = tempered.estimates["nll"].value - found.arm("frequentist_temperature").estimates["nll"].value
    assert found.beyond_temperature["ensemble"]["nll"].value == pytest.approx(gap)
    expected = over_classes(ours.sample_proba(STRANGE))
    scores = {one.score: one.outside for one in found.out_of_scope if one.arm == "ensemble"}
    np.testing.assert_allclose(scores["predictive entropy"], expected.predictive_entropy, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scores["mutual information"], expected.mutual_information, rtol=0, atol=1e-6)


def test_a_model_without_dropout_is_compared_with_its_ensemble(tiny, bayesian):
    still = [tiny("llama", num_labels=2, attention_dropout=0.0, pad_token_id=0) for _ in range(2)]
    found = compare(bayesian(still), DATA)
    assert names_of(found) == ["frequentist", "frequentist_temperature", "ensemble", "ensemble_temperature"]
    lines = " ".join(verdict(found).lines)
    assert "Nothing was sampled" in lines and "With the ensemble, NLL: from " in lines
    assert "Effect of the ensemble on the NLL when both have a temperature: no significant difference" in lines


def test_independent_labels_have_an_ensemble_too(tiny, bayesian):
    labels = {
        "id2label": {0: "joy", 1: "anger"},
        "label2id": {"joy": 0, "anger": 1},
        "problem_type": "multi_label_classification",
    }
    two = [tiny("bert", **labels) for _ in range(2)]
    found = compare(bayesian(two), LabelledTexts("texts", TEXTS, [["joy"], [], ["anger"]] * 4, []), num_samples=2)
    assert names_of(found)[-2:] == ["ensemble", "ensemble_platt"]
    mean = np.mean([bayesian(model).predict_proba(TEXTS, num_samples=0) for model in two], axis=0)
    np.testing.assert_allclose(found.arm("ensemble").probabilities, mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("saved", "options"),
    [
        (["saved"], {"calibration": Calibration({"ensemble": TemperatureScaling(2.0)})}),
        (["saved"], {"posterior": "ensemble+dropout", "num_samples": 6}),
        (["saved"], {"num_samples": 2}),
        ([], {}),
        ([], {"posterior": "dropout", "num_samples": 2}),
        ([], {"num_samples": 0}),
    ],
)
def test_as_saved_is_an_arm_where_no_other_arm_is_the_same(saved, options, models, bayesian):
    fitted = options.pop("calibration", None)
    ours, rows = bayesian(models, **options), []
    if fitted is not None:
        ours.calibration = fitted
    outputs = outputs_of(ours, DATA, num_samples=2, progress=rows.append)
    assert sum(rows) == total_rows(ours, DATA, num_samples=2)
    assert (outputs.saved is not None) == bool(saved)
    if saved:
        np.testing.assert_allclose(outputs.saved, ours.predict_proba(TEXTS), rtol=0, atol=1e-6)
        assert outputs.costs["saved"].passes == (options.get("num_samples") or 3)
    assert len([note for note in outputs.notes if note.startswith("The ensemble averages 3 models")]) == 1


def test_an_ensemble_that_does_not_run_has_no_saved_arm(models, bayesian):
    ours = bayesian(models)
    ours.calibration = Calibration({"ensemble": TemperatureScaling(2.0)})
    outputs = outputs_of(ours, DATA, num_samples=0, arms=())
    assert outputs.members is None and outputs.saved is None
    assert outputs.notes[-1].endswith("(temperature 2) was not measured: the ensemble did not run.")


def test_advice_names_the_posterior(models, bayesian):
    """A call of an ensemble without it is a call of all its models."""
    ours = bayesian(models)
    found = compare(ours, DATA, num_samples=4)
    for arm, expected in (
        ("frequentist", "classifier(texts, num_samples=0)"),
        ("bayesian", "classifier(texts, num_samples=4, posterior='dropout')"),
        ("ensemble", "classifier(texts, num_samples=3, posterior='ensemble')"),
    ):
        options = found.call_options(found.arm(arm))
        assert f"{', '.join(f'{name}={value!r}' for name, value in options.items())})" in expected
        np.testing.assert_allclose(
            ours.predict_proba(TEXTS, **options), found.arm(arm).probabilities, rtol=0, atol=1e-6
        )
    assert advice(found)


def test_shared_weights_count_once():
    one = torch.nn.Linear(10, 10, bias=False)
    assert weight_bytes([one]) == weight_bytes([one, one]) == 400
    assert weight_bytes([one, torch.nn.Linear(10, 10, bias=False)]) == 800
