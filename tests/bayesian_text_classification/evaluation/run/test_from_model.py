"""The comparison: the arms against the pipeline, their temperatures, and what they share."""

from dataclasses import replace

import numpy as np
import pytest
from bayesian_text_classification.evaluation import dropout_choice as choice_module
from bayesian_text_classification.evaluation import sample_sweep
from bayesian_text_classification.evaluation.comparison import error_rates
from bayesian_text_classification.evaluation.run import compare, outputs_of, total_rows
from bayesian_text_classification.evaluation.run.baal_arm import baal_probabilities, patched_by_baal
from bayesian_text_classification.evaluation.statistics.measures import MEASURES
from bayesian_text_classification.evaluation.statistics.predictions import Predictions
from bayesian_text_classification.evaluation.verdict import verdict
from bayesian_text_classification.loading.labeled_texts import LabeledTexts
from bayesian_text_classification.pipeline import onednn_linear
from bayesian_text_classification.pipeline.calibration import Calibration
from bayesian_text_classification.pipeline.inputs import text_key
from bayesian_text_classification.pipeline.scaling import TemperatureScaling
from bayesian_text_classification.pipeline.temperature import apply_temperature, fit_temperature, leave_one_out
from bayesian_text_classification.pipeline.uncertainty import over_classes
from torch import nn

pytestmark = pytest.mark.usefixtures("few_resamples")

TEXTS = [
    "a wonderful film",
    "dull and far too long",
    "not as bad as they say",
    "I want my money back",
    "fine, I suppose",
]
DATA = LabeledTexts("five texts", TEXTS, [1, 0, 1, 0, 1], ["a", "a", "b", "b", "b"])


@pytest.fixture(scope="module")
def comparison(classifier):
    rows = []
    result = compare(classifier, DATA, num_samples=4, seed=3, progress=rows.append)
    assert sum(rows) == total_rows(classifier, DATA, num_samples=4)
    return result


def test_frequentist_arm_equals_the_stock_pipeline(comparison, stock):
    scores = [{d["label"]: d["score"] for d in dicts} for dicts in stock(TEXTS, top_k=None)]
    expected = [[s["NEGATIVE"], s["POSITIVE"]] for s in scores]
    # The stock pipeline computes in half precision if the weights are half precision.
    np.testing.assert_allclose(comparison.arms[0].probabilities, expected, atol=5e-3)
    assert comparison.arms[0].cost.dropout_sites == comparison.arms[0].cost.dropout_calls == 0


def test_texts_that_differ_in_white_space_alone_are_one_text(classifier):
    """The tokenizer drops it, so they have the same scores and say nothing new."""
    spaced = [TEXTS, [f" {text}" for text in TEXTS], [text.replace(" ", " \t\n") for text in TEXTS]]
    texts = [text for part in spaced for text in part]
    comparison = compare(classifier, LabeledTexts("copies", texts, DATA.labels * 3, []), num_samples=2)
    assert comparison.distinct == len(TEXTS)
    assert list(comparison.groups) == [*comparison.groups[: len(TEXTS)]] * 3
    assert text_key({"text": "a  b\n", "text_pair": "c\t d"}) == text_key({"text": "a b", "text_pair": "c d"})
    assert text_key({"text": "a", "text_pair": "b c"}) != text_key({"text": "a b", "text_pair": "c"})


def test_bayesian_arm_equals_the_pipeline(comparison, classifier):
    expected = classifier.predict_proba(TEXTS, num_samples=4, seed=3)
    np.testing.assert_allclose(comparison.arm("bayesian").probabilities, expected, atol=1e-6)


def test_arms_with_a_temperature_are_what_the_calibrated_classifier_returns(classifier):
    labels = [1, 0, 0, 0, 1]  # one is wrong, so that they determine a temperature
    comparison, ours = (
        compare(classifier, replace(DATA, labels=labels), num_samples=4, seed=3),
        classifier.uncalibrated(),
    )
    for name, samples in (("frequentist", 0), ("bayesian", 4)):
        ours.calibrate(TEXTS, labels, num_samples=samples, seed=3)
        arm = comparison.arm(f"{name}_temperature")
        assert arm.temperature == pytest.approx(ours.calibration["dropout" if samples else "ordinary"].temperature)
        np.testing.assert_allclose(ours.predict_proba(TEXTS, num_samples=samples, seed=3), arm.probabilities, atol=1e-6)


def test_a_model_without_dropout_is_compared_with_and_without_a_temperature(tiny, bayesian):
    ours, rows = bayesian(tiny("llama", attention_dropout=0.0, pad_token_id=0)), []
    strange = ["what is the weather", "book a table"]
    result = compare(ours, DATA, out_of_scope=strange, progress=rows.append)
    assert sum(rows) == total_rows(ours, DATA, out_of_scope=strange) == 7
    assert [arm.name for arm in result.arms] == ["frequentist", "frequentist_temperature"]
    assert result.uncertainty is None and result.sweep is None and result.beyond_temperature == {}
    assert {one.arm for one in result.out_of_scope} == {"frequentist"}
    found = verdict(result)
    assert any("Nothing was sampled: the model has no active dropout" in line for line in found.lines)
    assert any("pass --dropout 0.1" in line for line in found.lines)
    assert "nan" not in " ".join([found.headline, *found.lines, *found.advice])
    ours = bayesian(ours.model, num_samples=0)
    ours.calibration = Calibration({"ordinary": TemperatureScaling(3.0)})
    saved = compare(ours, DATA, calibration=DATA).arm("saved")
    np.testing.assert_allclose(saved.probabilities, ours.predict_proba(TEXTS), atol=1e-6)


@pytest.fixture(scope="module")
def still(tiny):
    return tiny("llama", num_labels=2, attention_dropout=0.0, pad_token_id=0)


def test_inserted_dropout_is_measured_without_an_arm_of_baal(still, bayesian):
    """BaaL has nothing to patch in a model without dropout."""
    ours, rows = bayesian(still), []
    result = compare(ours, DATA, num_samples=4, seed=3, dropout=0.1, progress=rows.append)
    assert sum(rows) == total_rows(ours, DATA, num_samples=4, dropout=0.1)
    assert [arm.name for arm in result.arms] == [
        "frequentist",
        "frequentist_temperature",
        "bayesian",
        "bayesian_temperature",
    ]
    expected = ours.predict_proba(TEXTS, num_samples=4, seed=3, dropout=0.1)
    np.testing.assert_allclose(result.arm("bayesian").probabilities, expected, atol=1e-6)
    assert result.dropout == 0.1
    again = compare(bayesian(still, dropout=0.1), DATA, num_samples=4, seed=3)
    np.testing.assert_allclose(again.arm("bayesian").probabilities, expected, atol=1e-6)


@pytest.mark.parametrize("known", [False, True])
def test_dropout_is_chosen_from_the_candidates(still, bayesian, known):
    ours, rows = bayesian(still), []
    options = {"calibration": DATA if known else None, "num_samples": 2, "dropout": "auto"}
    result = compare(ours, DATA, seed=3, progress=rows.append, **options)
    assert sum(rows) == total_rows(ours, DATA, **options)
    assert result.dropout in ours.dropout_candidates() == (0.02, 0.05, 0.1, 0.2)
    note, _ = result.notes
    assert note.startswith("Dropout was chosen by the calibrated NLL of held-out texts (0.02: ")
    assert ("on the calibration texts" in note) == known
    if known:
        expected = ours.predict_proba(TEXTS, num_samples=2, seed=3, dropout=result.dropout)
        np.testing.assert_allclose(result.arm("bayesian").probabilities, expected, atol=1e-6)


def test_what_was_chosen_and_what_was_saved_are_both_said(still, bayesian):
    ours = bayesian(still, dropout=0.1, num_samples=4)
    rate = ours._dropout_rate(ours.sampling)
    ours.calibration = Calibration(
        {"dropout": TemperatureScaling(2.0, masks="balanced", dropout_rate=rate, dropout=0.1)}
    )
    result = compare(ours, DATA, num_samples=2, dropout="auto")
    assert len(result.notes) == 3 and result.notes[0].startswith("Dropout was chosen by the calibrated NLL")
    assert result.notes[1] == (
        f"Dropout is inserted with a rate of {result.dropout}, which the model was not trained with."
    )
    np.testing.assert_allclose(result.arm("saved").probabilities, ours.predict_proba(TEXTS), atol=1e-6)
    assert result.notes[2].startswith('"As saved" is the classifier with the calibration that it was saved with')


def test_folds_with_different_choices_are_not_mixed_up(still, bayesian, monkeypatch):
    """The sweep is at the choice on all texts, and "as saved" is measured on samples of its own."""
    ours = bayesian(still, dropout=0.02, num_samples=2)
    rate = ours._dropout_rate(ours.sampling)
    ours.calibration = Calibration(
        {"dropout": TemperatureScaling(2.0, masks="balanced", dropout_rate=rate, dropout=0.02)}
    )
    choices = iter([0, 1, 0, 0, 0, 0])  # on all texts, then without each fifth
    monkeypatch.setattr(choice_module, "chosen", lambda losses, groups: next(choices))
    outputs = outputs_of(ours, DATA, num_samples=2, sweep=18, dropout="auto")
    assert outputs.dropout == 0.02 and not outputs.one_dropout
    np.testing.assert_allclose(outputs.saved, ours.predict_proba(TEXTS), atol=1e-6)
    expected = ours.sample_proba(TEXTS, num_samples=20, dropout=0.02)
    np.testing.assert_allclose(outputs.pool, expected, rtol=0, atol=1e-6)
    other = ours.sample_proba(TEXTS, num_samples=2, dropout=0.05)
    apart = np.abs(outputs.samples - expected[:, :, :2]).max((1, 2)) > 1e-6
    assert apart.sum() == 1
    np.testing.assert_allclose(outputs.samples[apart], other[apart], rtol=0, atol=1e-6)


def test_own_rates_are_said_where_they_are_not_the_default(tiny, bayesian):
    ours = bayesian(tiny("bert"), dropout="2x")
    assert compare(ours, DATA, num_samples=2).dropout == "2x"
    result = compare(ours, DATA, num_samples=2, dropout="1x")
    assert result.dropout == "1x" and not result.notes
    expected = ours.predict_proba(TEXTS, num_samples=2, dropout=None)
    np.testing.assert_allclose(result.arm("bayesian").probabilities, expected, atol=1e-6)


def test_baal_arm_reaches_fewer_sites_because_attention_dropout_is_functional(comparison, classifier):
    """Known counts: BERT with 2 layers has 6 of 8. Here 6 layers: 1 + 2 x 6 + 1 modules, and 6 more attention calls."""
    baal, bayesian = comparison.arm("baal"), comparison.arm("bayesian")
    assert baal.cost.dropout_sites == baal.cost.dropout_calls == 14
    assert bayesian.cost.dropout_sites == bayesian.cost.dropout_calls == 20 == len(classifier.dropout_sites)


def test_module_called_twice_counts_as_one_site(tiny, bayesian):
    """Known counts: RoBERTa makes 9 calls, 7 of them in BaaL's modules. Its head calls one dropout module twice."""
    arms = compare(bayesian(tiny("roberta")), DATA, num_samples=2).arms
    assert [arm.cost.dropout_sites for arm in arms] == [0, 0, 6, 8, 8]
    assert [arm.cost.dropout_calls for arm in arms] == [0, 0, 7, 9, 9]


def test_baal_arm_is_random_and_seeded_and_keeps_the_global_random_state(classifier, same_random_state):
    model = patched_by_baal(classifier)
    with same_random_state():
        first, *_ = baal_probabilities(model, classifier, TEXTS, 2, 0, lambda rows: None)
    again, *_ = baal_probabilities(model, classifier, TEXTS, 2, 0, lambda rows: None)
    other, *_ = baal_probabilities(model, classifier, TEXTS, 2, 1, lambda rows: None)
    assert (first == again).all()
    assert (first != other).any()
    np.testing.assert_allclose(first.sum(1), 1, atol=1e-6)


def test_baal_arm_computes_linear_layers_like_the_other_arms(classifier, monkeypatch):
    """Otherwise the times of the arms would compare two libraries of matrix products."""
    monkeypatch.setattr(onednn_linear, "_mkl_is_slow", lambda: False)
    plain = patched_by_baal(classifier)
    monkeypatch.setattr(onednn_linear, "_mkl_is_slow", lambda: True)
    fast = patched_by_baal(classifier)
    layers = [module for module in fast.modules() if isinstance(module, nn.Linear)]
    assert {type(layer) for layer in layers} == {onednn_linear._Linear}
    first, second = (baal_probabilities(one, classifier, TEXTS, 3, 0, lambda rows: None)[0] for one in (plain, fast))
    np.testing.assert_allclose(first, second, atol=1e-6)  # the same draws


def test_means_of_the_temperature_arm_use_leave_one_out_temperatures(comparison):
    point, tempered = comparison.arm("frequentist"), comparison.arm("frequentist_temperature")
    labels = np.array(DATA.labels)
    temperature = fit_temperature(point.probabilities, labels)
    assert tempered.temperature == temperature
    np.testing.assert_allclose(tempered.probabilities, apply_temperature(point.probabilities, temperature))
    each = leave_one_out(point.probabilities, labels, temperature)
    own = np.take_along_axis(apply_temperature(point.probabilities, each), labels[:, None], 1)
    assert tempered.estimates["nll"].value == pytest.approx(-np.log(own).mean())
    assert point.temperature is None and comparison.arm("bayesian").temperature is None


def test_temperature_does_not_change_rank_measures_for_two_classes(comparison):
    for name in ("frequentist", "bayesian"):
        for key in ("error_auroc", "aurc", "accuracy"):
            tempered = comparison.arm(f"{name}_temperature").estimates[key]
            assert tempered.value == pytest.approx(comparison.arm(name).estimates[key].value, nan_ok=True), key


def test_temperatures_fitted_on_other_texts_are_used_unchanged(classifier):
    other = LabeledTexts("three", ["awful", "a joy", "so so"], [0, 1, 0], [])
    rows = []
    result = compare(classifier, DATA, calibration=other, num_samples=4, seed=3, progress=rows.append)
    assert sum(rows) == total_rows(classifier, DATA, calibration=other, num_samples=4)
    for name, samples in (("frequentist", 0), ("bayesian", 4)):
        p = classifier.predict_proba(other.texts, num_samples=samples, seed=3)
        tempered = result.arm(f"{name}_temperature")
        assert tempered.temperature == pytest.approx(fit_temperature(p, np.array([0, 1, 0])), rel=1e-4)
        expected = apply_temperature(result.arm(name).probabilities, tempered.temperature)
        np.testing.assert_allclose(tempered.probabilities, expected)


def test_every_arm_has_every_measure(comparison):
    keys = {measure.key for measure in MEASURES}
    for arm in comparison.arms:
        assert arm.estimates.keys() == keys
        rows = Predictions.of(arm.probabilities, np.array(DATA.labels))
        for measure in MEASURES:
            found = arm.estimates[measure.key]
            if arm.temperature is None:  # test_arms.py has the others
                assert found.value == pytest.approx(measure.value(rows), abs=1e-9, nan_ok=True)
            assert np.isnan(found.low) or found.low <= found.value <= found.high
    first, *others = comparison.arms
    assert first.differences == {}
    for arm in others:
        for key in keys:
            gap = arm.estimates[key].value - first.estimates[key].value
            assert arm.differences[key].value == pytest.approx(gap, abs=1e-9, nan_ok=True)
    both, cold = comparison.arm("bayesian_temperature"), comparison.arm("frequentist_temperature")
    gap = both.estimates["nll"].value - cold.estimates["nll"].value
    assert comparison.beyond_temperature["bayesian"]["nll"].value == pytest.approx(gap)


def test_uncertainty_comes_from_the_bayesian_arms_samples(comparison, classifier):
    expected = over_classes(classifier.sample_proba(TEXTS, num_samples=4, seed=3), 10)
    found = comparison.uncertainty
    np.testing.assert_allclose(found.mutual_information, expected.mutual_information, atol=1e-6)
    np.testing.assert_allclose(found.mean, comparison.arm("bayesian").probabilities, atol=1e-6)


@pytest.mark.parametrize(("further", "sizes"), [(0, 4), (6, 10), (176, 60), (200, 68)])
def test_the_sweep_is_over_the_samples_and_further_ones(tiny, bayesian, further, sizes):
    ours, rows = bayesian(tiny("bert")), []
    found = compare(ours, DATA, num_samples=4, sweep=further, progress=rows.append)
    assert sum(rows) == total_rows(ours, DATA, num_samples=4, sweep=further) == 5 * (1 + 2 * 4 + further)
    assert found.sweep.sizes == list(range(1, sizes + 1)) and found.sweep.pool == 4 + further
    assert found.sweep.texts == found.sweep.all_texts == len(TEXTS)
    for key in ("ece", "accuracy", "nll"):
        assert found.sweep.frequentist[key] == pytest.approx(found.arms[0].estimates[key].value, abs=1e-6)
        if not further:
            assert found.sweep.curves[key][:, -1] == pytest.approx([found.arm("bayesian").estimates[key].value] * 3)


@pytest.mark.parametrize(
    ("arms", "names"),
    [
        ((), []),
        (("baal",), ["baal"]),
        (("bayesian",), ["bayesian", "bayesian_temperature"]),
        (("baal", "bayesian", "ensemble"), ["baal", "bayesian", "bayesian_temperature"]),
    ],
)
def test_arms_can_be_left_out(tiny, bayesian, arms, names):
    ours, rows = bayesian(tiny("bert")), []
    found = compare(ours, DATA, num_samples=2, arms=arms, progress=rows.append)
    assert [arm.name for arm in found.arms] == ["frequentist", "frequentist_temperature", *names]
    assert sum(rows) == total_rows(ours, DATA, num_samples=2, arms=arms)
    assert verdict(found).headline
    with pytest.raises(ValueError, match=r"arms=\['bayes'\]; they must be some of 'baal', 'bayesian', 'ensemble'"):
        compare(ours, DATA, arms=["bayes"])


def events_of(ours, data, **options):
    """What `compare` says in order: numbers of passes, and the names of arms. They are the arms of the comparison."""
    events, arms = [], []

    def advance(rows):
        if events and isinstance(events[-1], int):
            rows += events.pop()
        events.append(rows)

    def show(arm):
        events.append(arm.name)
        arms.append(arm)

    result = compare(ours, data, progress=advance, on_arm=show, **options)
    assert all(arm is one for arm, one in zip(arms, result.arms, strict=True))
    return events


def test_each_arm_is_shown_before_the_next_one_runs(tiny, bayesian):
    ours = bayesian(tiny("bert"))
    first, both = [5, "frequentist", "frequentist_temperature"], ["bayesian", "bayesian_temperature"]
    assert events_of(ours, DATA, num_samples=2) == [*first, 10, "baal", 10, *both]
    assert events_of(ours, DATA, num_samples=2, dropout="auto", arms=["bayesian"])[:4] == [*first, 10 * 4]
    assert events_of(ours, DATA, num_samples=0) == first
    assert events_of(ours, DATA, num_samples=2, arms=()) == first
    # A temperature that is fitted on other texts waits for their passes.
    others = LabeledTexts("three", ["awful", "a joy", "so so"], [0, 1, 0], [])
    found = events_of(ours, DATA, num_samples=2, calibration=others, out_of_scope=["2 + 2 = 4"], sweep=3)
    sampled = 2 * (3 + 5 + 1) + 3 * 5
    assert found == [5, "frequentist", 3, "frequentist_temperature", 1 + 10, "baal", sampled, *both]


def test_arms_of_other_heads_and_of_saved_classifiers_are_shown_too(tiny, bayesian):
    independent = bayesian(tiny("bert", problem_type="multi_label_classification"))
    labels = LabeledTexts("texts", TEXTS, [{0}, set(), {0, 1}, {1}, set()], [])
    first, both = [5, "frequentist", "frequentist_platt"], ["bayesian", "bayesian_platt"]
    assert events_of(independent, labels, num_samples=2) == [*first, 10, "baal", 10, *both]
    one_output = bayesian(tiny("bert", num_labels=1, problem_type="multi_label_classification"))
    assert events_of(one_output, replace(DATA, kinds=[]), num_samples=2) == [*first, 10, "baal", 10, *both]
    assert events_of(one_output, DATA, calibration=DATA, num_samples=0) == [5, "frequentist", 5, "frequentist_platt"]
    ours = bayesian([tiny("bert"), tiny("distilbert")], num_samples=6, posterior="ensemble+dropout")
    first = [5, "frequentist", "frequentist_temperature"]
    found = events_of(ours, DATA, num_samples=2, arms=["ensemble"])
    assert found == [*first, 10, "ensemble", "ensemble_temperature", 30, "saved"]


def test_one_sample_has_no_sweep(tiny, bayesian):
    assert compare(bayesian(tiny("bert")), DATA, num_samples=1).sweep is None


def test_sweep_uses_a_seeded_subset_of_many_texts_and_reports_its_size(tiny, bayesian, monkeypatch):
    classifier = bayesian(tiny("bert"))
    monkeypatch.setattr(sample_sweep, "MOST_TEXTS", 3)
    rows = []
    found = [
        compare(classifier, DATA, num_samples=2, sweep=4, seed=seed, progress=rows.append).sweep.frequentist["nll"]
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]
    assert sum(rows) == 3 * total_rows(classifier, DATA, num_samples=2, sweep=4) == 3 * (5 * (1 + 2 * 2) + 3 * 4)
    sweep = compare(classifier, DATA, num_samples=2).sweep
    assert (sweep.texts, sweep.all_texts) == (3, 5)


def test_nan_probabilities_raise_and_name_the_row(tiny, bayesian, tokenizer):
    import torch

    model = tiny("bert")
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[tokenizer.convert_tokens_to_ids("money")] = torch.nan
    with pytest.raises(ValueError, match=r"are NaN for 1 of 5 texts, first for row 4 \(the first text is row 1\)"):
        compare(bayesian(model), DATA, num_samples=2)


def test_error_rates_by_kind():
    p = np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    assert error_rates(p, [1, 0, 0], ["x", "x", "y"]) == {"x": 0.5, "y": 0.0}


def test_regression_models_are_refused(tiny, bayesian):
    with pytest.raises(ValueError, match=r"predicts numbers .*; use predict"):
        compare(bayesian(tiny("bert", num_labels=1, problem_type="regression")), DATA)


def test_independent_labels_of_one_name_are_refused(tiny, bayesian):
    model = tiny("bert", id2label={0: "joy", 1: "joy"}, problem_type="multi_label_classification")
    with pytest.raises(ValueError, match="two labels of the model have the same name"):
        compare(bayesian(model), LabeledTexts("two", ["a", "b"], np.eye(2, dtype=int), []), num_samples=0)


def test_decoder_without_a_pad_token_can_be_compared(tiny, bayesian):
    """GPT-2 rejects batches without `pad_token_id`, in BaaL's copy and in the twin."""
    classifier = bayesian(tiny("gpt2", num_labels=2))
    result = compare(classifier, DATA, num_samples=2)
    assert [arm.cost.dropout_calls for arm in result.arms] == [0, 0, 5, 7, 7]
    assert classifier.model.config.pad_token_id is None


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_any_integer_is_a_valid_seed(tiny, bayesian, seed):
    arms = compare(bayesian(tiny("bert")), DATA, num_samples=2, seed=seed).arms
    assert np.isfinite([arm.estimates["nll"].value for arm in arms]).all()
