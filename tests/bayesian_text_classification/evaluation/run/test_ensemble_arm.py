"""The arms of an ensemble, against the ensemble itself and its members alone."""

import numpy as np
import pytest
import torch
from bayesian_text_classification import load
from bayesian_text_classification.evaluation import Calibration as Known
from bayesian_text_classification.evaluation import MemberOutputs, Outputs, compare_outputs
from bayesian_text_classification.evaluation.run import compare, outputs_of, total_rows
from bayesian_text_classification.evaluation.run.ensemble_arm import weight_bytes
from bayesian_text_classification.evaluation.verdict import advice, verdict
from bayesian_text_classification.loading.labeled_texts import LabeledTexts
from bayesian_text_classification.pipeline.calibration import Calibration
from bayesian_text_classification.pipeline.scaling import TemperatureScaling
from bayesian_text_classification.pipeline.temperature import apply_temperature, fit_temperature
from bayesian_text_classification.pipeline.uncertainty import over_classes
from interval_cases import chances, truth

pytestmark = pytest.mark.usefixtures("few_resamples")

TEXTS = [f"{word} film, number {i}" for i in range(4) for word in ("a good", "a bad", "an odd")]
DATA = LabeledTexts("texts", TEXTS, [1, 0, 1] * 4, [])
OTHER = LabeledTexts("others", ["awful", "a joy", "so so"], [0, 1, 0], [])
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
    found = compare(bayesian(two), LabeledTexts("texts", TEXTS, [["joy"], [], ["anger"]] * 4, []), num_samples=2)
    assert names_of(found)[-2:] == ["ensemble", "ensemble_platt"]
    mean = np.mean([bayesian(model).predict_proba(TEXTS, num_samples=0) for model in two], axis=0)
    np.testing.assert_allclose(found.arm("ensemble").probabilities, mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("saved", "options"),
    [
        (["saved"], {"calibration": Calibration({"ensemble": TemperatureScaling(2.0)})}),
        (["saved"], {"posterior": "ensemble+dropout", "num_samples": 6}),
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


@pytest.mark.parametrize("dropout", [0.1, "auto", "2x"])
def test_dropout_of_the_bayesian_arm_is_that_of_the_first_model(tiny, bayesian, dropout):
    own = [tiny("bert", num_labels=2) for _ in range(2)]
    still = [tiny("llama", num_labels=2, attention_dropout=0.0, pad_token_id=0) for _ in range(2)]
    two = own if dropout == "2x" else still
    ours, rows = bayesian(two), []
    found = compare(ours, DATA, num_samples=2, dropout=dropout, progress=rows.append)
    assert sum(rows) == total_rows(ours, DATA, num_samples=2, dropout=dropout)
    assert {"bayesian", "ensemble"} <= set(names_of(found)) and found.dropout is not None
    expected = bayesian(two[0]).predict_proba(TEXTS, num_samples=2, dropout=found.dropout)
    if dropout != "auto":  # which may choose otherwise for each fifth of the texts
        np.testing.assert_allclose(found.arm("bayesian").probabilities, expected, rtol=0, atol=1e-6)
    for arm in ("bayesian", "ensemble"):
        assert len(ours(TEXTS, **found.call_options(found.arm(arm)))) == len(TEXTS)


def test_an_ensemble_with_dropout_of_its_own_can_be_asked_without(models, bayesian, tmp_path):
    """The advice names the posterior, and no dropout."""
    ours = bayesian(models, posterior="ensemble+dropout", dropout="2x", num_samples=6)
    found = compare(ours, DATA, num_samples=2)
    options = found.call_options(found.arm("ensemble"))
    expected = found.arm("ensemble").probabilities
    np.testing.assert_allclose(ours.predict_proba(TEXTS, **options), expected, rtol=0, atol=1e-6)
    ours.save_pretrained(tmp_path / "saved")
    np.testing.assert_allclose(load(tmp_path / "saved", **options).predict_proba(TEXTS), expected, rtol=0, atol=1e-6)


def test_further_passes_need_samples(tiny, bayesian):
    rows = []
    with pytest.raises(ValueError, match="sweep=50 takes further samples, and nothing is sampled"):
        compare(bayesian(tiny("bert")), DATA, num_samples=0, sweep=50, progress=rows.append)
    assert not rows  # before any pass


def drawn(rows=1_000):
    """An overconfident model, and three that are better and agree with the truth on average."""
    random, z, labels = truth(rows, seed=0)
    members = chances(z[:, None] + random.normal(0, 0.3, (rows, 3)))
    return labels, chances(3 * z + random.normal(0, 2, rows)), members, chances(random.normal(0, 1, 150))


def test_the_verdict_recommends_an_ensemble_and_says_what_it_costs():
    labels, ordinary, members, strange = drawn()
    outside = np.repeat(strange[:, :, None], 3, axis=2)
    several = MemberOutputs(members, members.mean(2), outside)
    given = {"calibration": Known(labels, ordinary), "outside": (strange, None)}
    found = compare_outputs(Outputs(labels, ordinary, members=several, **given))
    told = verdict(found)
    assert found.recommended == "ensemble"
    assert told.headline.startswith("Recommended: ensemble. The NLL goes from ")
    assert told.headline.endswith(", for 3 passes per text instead of 1, one of each of 3 models.")
    assert any("by predictive entropy of the ensemble: AUROC from" in line for line in told.lines)
    assert any(line.startswith("With the ensemble: Accuracy: from ") for line in told.lines)
    assert any("The temperatures were fitted on 1,000" in line for line in told.lines)


def test_an_ensemble_that_costs_accuracy_is_warned_about():
    labels, ordinary, members, _ = drawn(300)
    worse = verdict(compare_outputs(Outputs(labels, members[:, :, 0], members=MemberOutputs(1 - members))))
    assert any("With the ensemble: Warning: it costs accuracy here: " in line for line in worse.lines)
    assert any(line.startswith("Warning for ensemble: Brier: from ") for line in worse.lines)
    assert len(set(worse.lines)) == len(worse.lines)
    better = Outputs(labels, ordinary, members=MemberOutputs(np.repeat(ordinary[:, :, None], 3, axis=2)))
    assert "Neither a temperature nor the ensemble improves" not in verdict(compare_outputs(better)).headline
