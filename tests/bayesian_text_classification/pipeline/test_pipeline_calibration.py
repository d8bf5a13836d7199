"""The calibration of ordinary and of sampled scores, and the threshold below which a text gets no label."""

import copy
import json
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from bayesian_text_classification.pipeline.answers import ordinary_labels, ranked_labels
from bayesian_text_classification.pipeline.calibration import Calibration
from bayesian_text_classification.pipeline.scaling import TemperatureScaling
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


def mostly_right(ours):
    """Labels that the ordinary pass mostly gets right, so that they determine its temperature."""
    labels = ours.predict_proba(MANY, num_samples=0).argmax(1)
    labels[:2] = (labels[:2] + 1) % 3
    return labels.tolist()


def test_calibrate_fits_the_temperature_of_the_averaged_probabilities(ours):
    p = ours.predict_proba(MANY)
    expected = fit_temperature(p, np.array(LABELS))
    assert ours.calibrate(MANY, LABELS) == ours.temperature == pytest.approx(expected)
    assert ours.temperature != 1
    names = [["bad", "fine", "good"][i] for i in LABELS]
    assert ours.calibrate(MANY, names) == pytest.approx(expected)  # whatever the current temperature


def test_all_keys_belong_to_the_calibrated_score(ours):
    before, samples, p = ours(MANY, top_k=None), ours.sample_proba(MANY), ours.predict_proba(MANY)
    temperature = ours.calibrate(MANY, LABELS)
    rows = apply_temperature(p, temperature)
    np.testing.assert_allclose(ours.predict_proba(MANY), rows, atol=1e-6)
    np.testing.assert_array_equal(ours.sample_proba(MANY), samples)  # raw
    for old, new, row in zip(before, ours(MANY, top_k=None), rows, strict=True):
        assert [entry["label"] for entry in new] == [entry["label"] for entry in old]
        np.testing.assert_allclose([entry["score"] for entry in new], np.sort(row)[::-1], atol=1e-6)
        entry, was = new[0], old[0]
        assert entry["predictive_entropy"] == pytest.approx(-(row * np.log(row)).sum(), abs=1e-5)
        assert entry["expected_entropy"] + entry["mutual_information"] == pytest.approx(entry["predictive_entropy"])
        share = was["mutual_information"] / was["predictive_entropy"]
        assert entry["mutual_information"] / entry["predictive_entropy"] == pytest.approx(share)
        assert entry["score_std"] != was["score_std"] and entry["standard_error"] != was["standard_error"]
    ours.temperature = 1.0
    np.testing.assert_array_equal(ours.predict_proba(MANY), p)


def test_ordinary_and_sampled_scores_are_calibrated_separately(ours):
    stock, p, labels = (
        ours(MANY, num_samples=0, top_k=None),
        ours.predict_proba(MANY, num_samples=0),
        mostly_right(ours),
    )
    sampled = ours.calibrate(MANY, LABELS)
    with pytest.warns(UserWarning, match=r"ordinary scores .* are not calibrated.*labels, num_samples=0\)"):
        assert ours(MANY, num_samples=0, top_k=None) == stock  # to the bit
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert ours(MANY, num_samples=0, top_k=None) == stock
    averages = ours.predict_proba(MANY)
    ordinary = ours.calibrate(MANY, labels, num_samples=0)
    assert ordinary == pytest.approx(fit_temperature(p, np.array(labels)), rel=1e-4) and ordinary != sampled
    assert {way: one.temperature for way, one in ours.calibration.items()} == {"dropout": sampled, "ordinary": ordinary}
    assert ours.temperature == sampled
    np.testing.assert_array_equal(ours.predict_proba(MANY), averages)
    rows = apply_temperature(p, ordinary)
    np.testing.assert_allclose(ours.predict_proba(MANY, num_samples=0), rows, atol=1e-6)
    for result, row in zip(ours(MANY, num_samples=0, top_k=None), rows, strict=True):
        assert list(result[0]) == ["label", "score"]
        np.testing.assert_allclose([entry["score"] for entry in result], np.sort(row)[::-1], atol=1e-5)
    plain, others = (ours.uncalibrated()(MANY, num_samples=0, function_to_apply=one) for one in ("none", "sigmoid"))
    assert ours(MANY, num_samples=0, function_to_apply="none") == plain  # numbers, of which nothing is calibrated
    for samples in (0, 4):
        with pytest.warns(UserWarning, match="function_to_apply='sigmoid' gives scores that are not calibrated"):
            found = copy.copy(ours)(MANY, num_samples=samples, function_to_apply="sigmoid")
        assert samples or found == others


def test_sampled_scores_without_calibration_of_their_own_warn_once(ours):
    p = ours.predict_proba(MANY)
    ours.calibrate(MANY, mostly_right(ours), num_samples=0)
    with pytest.warns(
        UserWarning, match=r"sampled scores are not calibrated.*calibrate\(texts, labels, num_samples=10"
    ):
        np.testing.assert_array_equal(ours.predict_proba(MANY), p)
    ours.predict_proba(MANY, num_samples=4)  # once for this kind of scores


def test_a_warning_names_the_line_of_the_caller(ours):
    ours.calibrate(MANY, mostly_right(ours), num_samples=0)
    for call in (lambda one: one(TEXTS), lambda one: one.predict_proba(TEXTS), lambda one: list(one(iter(TEXTS)))):
        with pytest.warns(UserWarning, match="are not calibrated") as said:
            call(copy.copy(ours))
        assert [one.filename for one in said] == [__file__]


def test_calibration_is_for_the_masks_and_rates_that_it_was_fitted_with(ours):
    independent = ours.predict_proba(MANY, masks="bernoulli")
    ours.calibrate(MANY, LABELS)
    with pytest.warns(UserWarning, match=r"with other masks or at another.*calibrate\(.*masks='bernoulli'\)"):
        np.testing.assert_array_equal(ours.predict_proba(MANY, masks="bernoulli"), independent)
    for module in ours.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    raw = ours.sample_proba(MANY).mean(2, dtype=np.float64)
    with pytest.warns(UserWarning, match="with other masks or at another dropout rate"):
        np.testing.assert_allclose(ours.predict_proba(MANY), raw, atol=1e-7)
    ours.temperature = 2.0  # set by hand, for any samples
    np.testing.assert_allclose(ours.predict_proba(MANY), apply_temperature(raw, 2.0), atol=1e-6)


def test_tolerance_watches_the_calibrated_score(ours):
    options = {"num_samples": 200, "tolerance": 0.02}
    before = ours(MANY, **options)
    ours.temperature = 4.0  # smaller differences between scores, and smaller errors
    after = ours(MANY, **options)
    assert all(result["standard_error"] < 0.02 for result in after if result["num_samples"] < 200)
    assert sum(result["num_samples"] for result in after) < sum(result["num_samples"] for result in before)


def test_calibration_is_saved_with_the_model_but_not_in_the_callers_config(ours, tmp_path):
    temperatures = {
        "ordinary": ours.calibrate(MANY, mostly_right(ours), num_samples=0),
        "dropout": ours.calibrate(MANY, LABELS),
    }
    ours.save_pretrained(tmp_path)
    assert not hasattr(ours.model.config, "bayesian_text_classification")
    saved = json.loads((tmp_path / "config.json").read_text())["bayesian_text_classification"]["calibration"]
    assert {way: one["temperature"] for way, one in saved.items()} == temperatures
    loaded = pipeline(TASK, model=str(tmp_path), pipeline_class=type(ours))
    assert loaded.calibration == ours.calibration and hash(loaded.calibration) == hash(ours.calibration)
    for samples in (0, 10):
        expected = ours.predict_proba(TEXTS, num_samples=samples)
        np.testing.assert_allclose(loaded.predict_proba(TEXTS, num_samples=samples), expected, atol=1e-6)
    loaded.save_pretrained(tmp_path / "again")
    again = pipeline(TASK, model=str(tmp_path / "again"), pipeline_class=type(ours))
    assert again.calibration == ours.calibration
    card = (tmp_path / "again" / "README.md").read_text()
    assert f"sampled scores, temperature {temperatures['dropout']:.4g} (balanced masks" in card


def test_temperature_and_threshold_of_an_old_save_are_for_sampled_scores(ours, tmp_path):
    ours.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    saved = {"model": str(tmp_path), "pipeline_class": type(ours)}
    for old in ({}, {"threshold": 0.9}):
        config["bayesian_text_classification"] = {"temperature": 1.5, "num_samples": 10, **old}
        (tmp_path / "config.json").write_text(json.dumps(config))
        loaded = pipeline(TASK, **saved)
        assert loaded.temperature == 1.5 and list(loaded.calibration) == ["dropout"]
        assert loaded.threshold == old.get("threshold")
        expected = apply_temperature(ours.predict_proba(TEXTS), 1.5)
        np.testing.assert_allclose(loaded.predict_proba(TEXTS), expected, atol=1e-6)
    with pytest.warns(UserWarning, match=r"threshold=0\.9 is dropped: it was chosen for sampled scores"):
        assert pipeline(TASK, **saved, num_samples=0).threshold is None
    with pytest.warns(
        UserWarning, match=r"threshold=0\.9 is dropped: it does not fit the scores of a model that predicts"
    ):
        assert pipeline(TASK, **saved, function_to_apply="none").threshold is None


def test_a_threshold_goes_with_the_masks_and_the_rate(ours, tmp_path):
    ours.calibrate(MANY, LABELS)
    ours.threshold = 0.9
    assert "abstained" in ours(TEXTS)[0]
    with pytest.warns(UserWarning) as said:
        assert "abstained" not in ours(TEXTS, masks="bernoulli")[0]
    assert any("threshold=0.9 was chosen for masks='balanced', so it is not" in str(one.message) for one in said)
    ours.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"threshold=0\.9 is dropped: it was chosen for masks='balanced'"):
        assert pipeline(TASK, model=str(tmp_path), pipeline_class=type(ours), masks="bernoulli").threshold is None
    for module in ours.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    with pytest.warns(UserWarning) as said:
        assert "abstained" not in ours(TEXTS)[0]
    assert any("was chosen for another dropout rate" in str(one.message) for one in said)


def test_a_threshold_that_no_score_can_miss_is_pointed_out(ours, recwarn):
    ours.threshold = 0.5
    assert not [one for one in recwarn if "accepts every text" in str(one.message)]
    for value in (0.2, np.float32(0.2), 0):
        with pytest.warns(UserWarning, match=r"accepts every text: the winner's score is at least 0\.333"):
            ours.threshold = value
    assert not any(result["abstained"] for result in ours(TEXTS))


def test_invalid_calibration_raises_and_keeps_the_old_one(ours):
    ours.temperature = 2.0
    ours.threshold = 0.9
    before = ours.calibration
    for wrong in ({"dropout": 1.5}, {"sampled": TemperatureScaling(2.0)}, 3):
        with pytest.raises(TypeError, match=r"the calibration (has|is) .*TemperatureScaling"):
            ours.calibration = wrong
    assert ours.calibration is before and ours.threshold == 0.9
    ours.temperature = ours.temperature  # no change, so nothing is dropped
    assert ours.calibration is before and ours.threshold == 0.9
    with pytest.warns(UserWarning, match="is dropped"):
        ours.calibration = {}
    assert not ours.calibration


def test_copies_warn_for_themselves(ours):
    ours.temperature = 2.0
    for one in (copy.copy(ours), ours):
        with pytest.warns(UserWarning, match="ordinary scores .* are not calibrated"):
            one(TEXTS, num_samples=0)
    assert ours.uncalibrated().calibration == Calibration() and ours.temperature == 2


@pytest.mark.parametrize("name", ["_temperature", "_threshold", "_legacy"])
def test_private_options_are_unknown(name, ours):
    with pytest.raises(TypeError, match=f"unknown option '{name}'"):
        ours(TEXTS, num_samples=0, **{name: 1})


def test_calibrated_ordinary_scores_take_every_form_of_input(ours):
    ours.calibrate(MANY, mostly_right(ours), num_samples=0)
    options = {"num_samples": 0}
    alone = ours(TEXTS[0], **options)
    assert isinstance(alone, list) and ours(TEXTS, **options)[0] == pytest.approx(alone[0])
    assert isinstance(ours({"text": TEXTS[0], "text_pair": "No."}, **options), dict)
    assert ours([], **options) == [] and [*map(len, ours(TEXTS, top_k=2, **options))] == [2, 2, 2]
    lazy = ours((text for text in TEXTS), **options)
    assert not isinstance(lazy, list)
    for one, other in zip(lazy, ours(TEXTS, **options), strict=True):
        assert one["label"] == other["label"] and one["score"] == pytest.approx(other["score"], abs=1e-6)
    assert list(ours("word " * 2_000, **options)[0]) == ["label", "score"]  # truncated


def test_classifier_that_was_saved_without_samples_answers_so(tiny, bayesian, tmp_path):
    """A model without dropout is calibrated, thresholded, saved and loaded like any other."""
    model = tiny("llama", num_labels=3, attention_dropout=0.0, pad_token_id=0)
    model.config.id2label, model.config.label2id = {0: "a", 1: "b", 2: "c"}, {"a": 0, "b": 1, "c": 2}
    ours = bayesian(model, num_samples=0, threshold=0.9)
    with pytest.warns(UserWarning, match="threshold=0.9 is dropped"):
        ours.calibrate(MANY, mostly_right(ours))
    ours.save_pretrained(tmp_path)
    loaded = pipeline(TASK, model=str(tmp_path), pipeline_class=type(ours))
    assert loaded.sampling.num_samples == 0 and loaded(TEXTS) == ours(TEXTS)
    assert loaded.calibration["ordinary"].temperature != 1
    with pytest.raises(ValueError, match="has no active dropout"):
        loaded(TEXTS, num_samples=2)


def test_threshold_is_dropped_if_its_scores_change(ours, tmp_path):
    ours.temperature = 2.0
    ours.save_pretrained(tmp_path)
    chosen = {"model": str(tmp_path), "pipeline_class": type(ours)}
    careful = pipeline(TASK, **chosen, threshold=0.9)
    with pytest.warns(UserWarning, match="ordinary scores .* are not calibrated"):
        labels = mostly_right(careful)
    careful.calibrate(MANY, labels, num_samples=0)  # other scores
    assert careful.threshold == 0.9
    with pytest.warns(UserWarning, match=r"threshold=0\.9 was chosen for sampled scores, so it is not used"):
        assert "abstained" not in careful(TEXTS, num_samples=0)[0]
    assert "abstained" in careful(TEXTS, num_samples=0, threshold=0.9)[0]  # explicit
    careful.save_pretrained(tmp_path / "careful")
    with pytest.warns(UserWarning, match=r"threshold=0\.9 is dropped: it was chosen for sampled scores"):
        ordinary = pipeline(TASK, model=str(tmp_path / "careful"), pipeline_class=type(ours), num_samples=0)
    assert ordinary.threshold is None
    assert pipeline(TASK, model=str(tmp_path / "careful"), pipeline_class=type(ours)).threshold == 0.9
    with pytest.warns(UserWarning, match=r"threshold=0\.9 is dropped: .*another calibration now"):
        careful.temperature = 1.5
    assert careful.threshold is None and "abstained" not in careful(TEXTS)[0]


def test_ordinary_scores_have_a_threshold_too(ours):
    plain = ours(MANY, num_samples=0)
    middle = float(np.median([result["score"] for result in plain]))
    for before, after in zip(plain, ours(MANY, num_samples=0, threshold=middle), strict=True):
        assert list(after) == ["label", "score", "abstained", "reason", "candidate"]
        assert after["abstained"] == (before["score"] < middle) == (after["label"] is None)
        assert after["candidate"] == before["label"] and after["score"] == pytest.approx(before["score"], abs=1e-6)
    several = ours(TEXTS, num_samples=0, threshold=1.0, top_k=2)
    assert all(entry["abstained"] and entry["label"] for entries in several for entry in entries)
    assert ours(TEXTS[0], num_samples=0, threshold=1.0)[0]["reason"].endswith("the model is uncertain")


def test_threads_that_calibrate_other_scores_keep_both(ours, monkeypatch):
    labels, replaced = mostly_right(ours), Calibration.replaced

    def slowly(self, way, scaling):
        time.sleep(0.2)  # the other thread is done with its passes
        return replaced(self, way, scaling)

    monkeypatch.setattr(Calibration, "replaced", slowly)
    ours.predict_proba(MANY)  # what is made at first use
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda count: ours.calibrate(MANY, labels, num_samples=count), (0, 4)))
    assert set(ours.calibration) == {"ordinary", "dropout"}


def test_invalid_calibration_raises_and_changes_nothing(ours, tiny, bayesian):
    for texts, labels, options, words in (
        (TEXTS, [0, 1], {}, "got 3 texts and 2 labels; pass at least one text, each with a label"),
        ([], [], {}, "got 0 texts and 0 labels"),
        (TEXTS, [0, 1, 3], {}, "label 2 is 3 (the classes are 'bad', 'fine', 'good')"),
        (TEXTS, [0, "godo", 1], {}, "label 1 is 'godo'; did you mean 'good'? (the classes are"),
        (TEXTS, [0, "great", 1], {}, "label 1 is 'great' (the classes are"),
        (TEXTS, [0, 1, 1.5], {}, "label 2 is 1.5 (the classes are"),
        (TEXTS, [0, 1, True], {}, "label 2 is True (the classes are"),
        (
            TEXTS,
            [0, 1, 2],
            {"function_to_apply": "none"},
            "calibrate takes function_to_apply only from the constructor",
        ),
        (TEXTS, [0, 1, 2], {"method": "platt"}, "takes method='temperature' or method='bias-corrected'"),
        (
            TEXTS,
            [0, 1, 2],
            {"method": "isotonic"},
            "there is no method='isotonic'; a model that chooses one label takes",
        ),
        ("Bad", [0, 1, 2], {}, "texts is a single str; pass a list of texts"),
        (MANY, [entry["label"] for entry in ours(MANY)], {}, "no temperature is best for these 10 texts"),
        ([TEXTS[0], None, TEXTS[1]], [0, 1, 2], {}, "input 1 is None"),
    ):
        ours.temperature = 2.0
        with pytest.raises((ValueError, TypeError)) as error:
            ours.calibrate(texts, labels, **options)
        assert words in str(error.value)
        assert ours.temperature == 2.0


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
        assert list(after) == [*KEYS[:-1], "abstained", "reason", "candidate", "truncated"]
        assert after["candidate"] == before["label"]
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
        ([0.65, 0.35], "its samples differ, but"),
        ([0.55, 0.45], "its samples differ, but"),
        ([0.85, 0.75], "its 2 samples agree, which so few may do by chance"),
        ([0.6] * 9, "its 9 samples agree"),
        ([0.6] * 9 + [0.45], "its samples agree:"),  # one of ten
        ([0.5] * 10, "its samples agree:"),
        ([0.6], "one sample cannot show"),
    ],
)
def test_reasons_name_what_the_samples_show(first_class, said):
    samples = np.array([[first_class, [1 - p for p in first_class]]])
    ((result,),) = ranked_labels(
        over_classes(samples), {0: "A", 1: "B"}, samples.shape[2], top_k=1, own_entropies=False, threshold=0.9
    )
    assert said in result["reason"]


@pytest.mark.parametrize(
    ("score", "threshold", "said"),
    [
        (0.5494, 0.55, "score 0.549 is below the threshold 0.55;"),
        (0.5496, 0.55, "score 0.5496 is below the threshold 0.55;"),
        (0.55, 0.5500001, "score 0.5500000 is below the threshold 0.5500001;"),
        (0.899996, 0.9, "score 0.899996 is below the threshold 0.9;"),
        (1 - 2**-53, 1.0, "score 0.9999999999999999 is below the threshold 1;"),
    ],
)
def test_a_score_never_looks_as_high_as_the_threshold(score, threshold, said):
    (found,) = ordinary_labels(
        np.array([[score, 1 - score]]), {0: "A", 1: "B"}, top_k=1, legacy=True, threshold=threshold
    )
    assert found["reason"].startswith(said)


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


def test_threshold_needs_scores_that_it_fits(ours, tiny, bayesian):
    for samples in (0, 10):
        with pytest.raises(ValueError, match="needs probabilities, and this model predicts numbers"):
            ours(TEXTS, threshold=0.5, function_to_apply="none", num_samples=samples)
    model = tiny("bert", num_labels=3, problem_type="multi_label_classification")
    with pytest.raises(ValueError, match="this one has independent labels: pass a threshold for each"):
        bayesian(model)(TEXTS, threshold=0.5)
    with pytest.raises(ValueError, match="this one has independent labels: pass a threshold for each"):
        bayesian(model, threshold=0.5)  # refused when it is set


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
    with pytest.raises(ValueError, match="calibrate needs probabilities, and this model predicts numbers"):
        bayesian(tiny("bert", num_labels=3), function_to_apply="none").calibrate(MANY, LABELS)
    for function in ("NONE", "SIGMOID"):
        with pytest.raises(ValueError, match="only from the constructor"):
            ours.calibrate(MANY, LABELS, function_to_apply=function)
    expected = ours.calibrate(MANY, LABELS)
    for function in ("default", "SOFTMAX", "softmax"):
        assert ours.calibrate(MANY, LABELS, function_to_apply=function) == expected
