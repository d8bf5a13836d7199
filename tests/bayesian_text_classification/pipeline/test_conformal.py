"""Prediction sets in the results of a classifier: what is fitted, saved, dropped, and refused."""

import copy
import json
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from bayesian_text_classification import load
from bayesian_text_classification.pipeline.handler import EndpointHandler
from bayesian_text_classification.pipeline.prediction_sets import uniforms_of
from transformers import AutoModelForSequenceClassification, pipeline

WHAT, HOW = ("film", "story", "plot", "cast"), ("good", "bad", "long", "dull", "fine", "odd")
TEXTS = [f"{start} {what} was {how}" for start in ("the", "that", "this", "a") for what in WHAT for how in HOW]
NAMES = ["bad", "fine", "good"]
LABELS = [NAMES[i % 3] for i in range(len(TEXTS))]
NEW = ["a cast", "the night was long", "good good good", "what"]


@pytest.fixture(scope="module")
def fitted(small):
    """A classifier with prediction sets for ordinary scores and for 4 samples; coverage 0.8."""
    ours = {}
    for samples in (0, 4):
        ours[samples] = copy.copy(small)
        with pytest.warns(UserWarning, match=r"the default options have no prediction sets: they are for"):
            ours[samples].conformalize(TEXTS, LABELS, coverage=0.8, num_samples=samples)
    return ours


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize("samples", [0, 4])
def test_a_set_holds_the_labels_within_the_limit(small, samples, score):
    """By the definition, from the probabilities that the same call averages."""
    ours = copy.copy(small)
    sets = ours.conformalize(TEXTS, LABELS, coverage=0.6, score=score, num_samples=samples)
    limit = sets.limits(0.6)[0]
    p = ours.predict_proba(NEW, num_samples=samples).astype(float)
    u = uniforms_of([ours.tokenizer(text)["input_ids"] for text in NEW], 0)
    for text, row, number in zip(NEW, p, u, strict=True):
        order, ahead, expected = np.argsort(-row), 0.0, []
        for rank, k in enumerate(order):
            own = 1 - row[k] if score == "lac" else (ahead + number * row[k]) * (rank > 0)
            ahead += row[k]
            if own <= limit:
                expected.append({"label": NAMES[k], "score": pytest.approx(row[k], abs=1e-5)})  # alone, not in a batch
        assert ours(text, num_samples=samples)[0]["prediction_set"] == expected


@pytest.mark.parametrize("samples", [0, 4])
def test_results_have_one_more_key_and_nothing_else_changes(fitted, small, samples):
    before, found = small(NEW, num_samples=samples), fitted[samples](NEW, num_samples=samples)
    for one, other in zip(before, found, strict=True):
        assert list(other) == [*one, "prediction_set"]
        if samples == 0:  # the stock pipeline runs the texts one by one
            other, one = ({**part, "score": pytest.approx(part["score"], abs=1e-5)} for part in (other, one))
        assert {**one, "prediction_set": other["prediction_set"]} == other
    ranked = fitted[samples](NEW, num_samples=samples, top_k=2)
    assert [[entry["prediction_set"] for entry in entries] for entries in ranked] == [
        [row["prediction_set"]] * 2 for row in found
    ]
    labels = [[entry["label"] for entry in row["prediction_set"]] for row in found]
    for text, own in zip(NEW, labels, strict=True):
        (alone,) = fitted[samples](text, num_samples=samples)
        assert [entry["label"] for entry in alone["prediction_set"]] == own
    assert "prediction_set" not in fitted[samples]("a", num_samples=samples, coverage=None)[0]
    wide = fitted[samples](NEW, num_samples=samples, coverage=0.98)
    assert all(len(row["prediction_set"]) >= len(own) for row, own in zip(wide, labels, strict=True))


def test_coverage_on_the_texts_themselves(fitted):
    """The rank is ceil(0.8 x 97) = 78, so 78 of the 96 texts are covered."""
    rows = fitted[0](TEXTS, num_samples=0)
    covered = [
        label in [entry["label"] for entry in row["prediction_set"]] for row, label in zip(rows, LABELS, strict=True)
    ]
    assert sum(covered) == 78


def test_with_threshold_and_novelty(fitted):
    ours = copy.copy(fitted[0])
    ours.learn_scope(TEXTS)
    result = ours("a cast", num_samples=0, threshold=1.0)[0]
    assert result["label"] is None and list(result)[-3:] == ["novelty", "novelty_p_value", "prediction_set"]


def test_another_way_warns_once_or_is_refused(fitted):
    ours = copy.copy(fitted[4])
    why = r"they are for num_samples=4; call classifier.conformalize\(texts, labels, coverage=0.8, num_samples=5\)"
    with pytest.warns(UserWarning, match=f"results have no prediction sets: {why}"):
        assert "prediction_set" not in ours("a", num_samples=5)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours("a", num_samples=5)
    with pytest.raises(ValueError, match=f"coverage=0.8: no prediction sets for these scores: {why}"):
        ours("a", num_samples=5, coverage=0.8)
    for options, what in (
        ({"num_samples": 0}, "sampled scores"),
        ({"masks": "bernoulli"}, "masks='balanced'"),
        ({"tolerance": 0.1}, "tolerance=None"),
        ({"max_length": 4}, "max_length=None"),
    ):
        call = {"num_samples": 4, **options, "coverage": 0.8}
        with pytest.raises(ValueError, match=f"they are for .*{what}") as caught:
            ours("a", **call)
        other, advice = copy.copy(ours), str(caught.value).rpartition("; call ")[2]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the default calls have no sets
            exec(advice, {"classifier": other, "texts": TEXTS, "labels": LABELS})
        assert "prediction_set" in other("a", **call)[0]
    with pytest.raises(ValueError, match=r"activation='softmax'; load the classifier with function_to_apply='sigmoid'"):
        ours("a", num_samples=4, function_to_apply="sigmoid", coverage=0.8)
    usual = ours.tokenizer.model_max_length, ours.model.config.max_position_embeddings
    assert "prediction_set" in ours("a", num_samples=4, truncation=True, max_length=min(usual))[0]
    assert "prediction_set" in ours("a", num_samples=4, seed=3)[0]


def test_a_calibration_of_the_same_scores_drops_the_sets(small):
    ours, right = copy.copy(small), small.predict_proba(TEXTS, num_samples=0).argmax(1)
    labels = [int(k + (i % 3 == 0)) % 3 for i, k in enumerate(right)]
    ours.conformalize(TEXTS, labels, coverage=0.8, num_samples=0)
    ours.calibrate(TEXTS, labels, num_samples=4)  # other scores
    assert ours.prediction_sets is not None and ours.coverage == 0.8
    with pytest.warns(UserWarning, match="prediction sets are dropped: their scores have another calibration now; "):
        ours.calibrate(TEXTS, labels, num_samples=0)
    assert ours.prediction_sets is None and ours.coverage is None
    message = "48 of the 96 texts were also passed to calibrate, so the coverage may fall short of 0.8; pass other"
    with pytest.warns(UserWarning, match=message):
        ours.conformalize([*TEXTS[:48], *NEW * 12], labels, coverage=0.8, num_samples=0)
    calibrated = ours("a", num_samples=0)[0]
    assert calibrated["prediction_set"][0]["score"] == pytest.approx(calibrated["score"])
    with pytest.warns(UserWarning, match="are dropped: their scores have another calibration"):
        ours.calibration = {}


def test_texts_of_a_calibration_that_is_not_used_are_no_problem(small):
    ours, right = copy.copy(small), small.predict_proba(TEXTS, num_samples=0).argmax(1)
    labels = [int(k + (i % 3 == 0)) % 3 for i, k in enumerate(right)]
    ours.calibrate(TEXTS, labels)
    assert TEXTS[5].encode() not in pickle.dumps(ours)  # only hashes are kept
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.uncalibrated().conformalize(TEXTS, labels, coverage=0.8)
    with pytest.warns(UserWarning, match="96 of the 96 texts were also passed to calibrate"):
        ours.conformalize(TEXTS, labels, coverage=0.8)


def test_options_that_are_set_during_the_passes_stay(small):
    ours = copy.copy(small)

    def set_threshold(passes):
        ours.threshold = 0.9

    ours.conformalize(TEXTS, LABELS, coverage=0.8, progress=set_threshold)
    assert ours.threshold == 0.9 and ours.coverage == 0.8


def test_other_weights_have_no_sets(tiny, tokenizer, bayesian, tmp_path):
    ours = bayesian(tiny("bert"), num_samples=0)
    labels = [i % 2 for i in range(len(TEXTS))]
    sets = ours.conformalize(TEXTS, labels, coverage=0.8)
    ours.save_pretrained(tmp_path)
    with torch.no_grad():
        ours.model.classifier.weight.mul_(-1)
    with pytest.warns(UserWarning, match="no prediction sets: they are for other weights of the model; call "):
        assert "prediction_set" not in ours("a")[0]
    other = bayesian(ours.model, num_samples=0)
    with pytest.raises(ValueError, match="the prediction sets are for other weights"):
        other.prediction_sets = sets
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        model.classifier.weight.mul_(-1)
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"did not load .*they are for other weights|did not load .*for other weights"):
        assert load(tmp_path).prediction_sets is None
    assert load(tmp_path, dtype="bfloat16", coverage=None).prediction_sets is None


def test_classes_with_few_texts_are_announced(small):
    ours = copy.copy(small)
    with pytest.warns(UserWarning, match=r"no class has the 49 texts that a coverage of 0.98 needs, .* 3 by all texts"):
        sets = ours.conformalize(TEXTS, LABELS, coverage=0.98, by="class")
    assert sets.describe(0.9) == "lac by class, 96 texts (3 classes: 3 by their own texts)"


def test_too_few_texts_are_refused_before_any_pass(small):
    counted = []
    with pytest.raises(ValueError, match=r"coverage=0\.999 needs at least 999 labeled texts"):
        copy.copy(small).conformalize(TEXTS, LABELS, coverage=0.999, progress=counted.append)
    with pytest.raises(ValueError, match="input 3 is 5"):
        copy.copy(small).conformalize([*TEXTS[:3], 5, *TEXTS[3:]], ["bad", *LABELS], coverage=0.8)
    assert not counted


def test_other_default_options_drop_the_sets(small, monkeypatch):
    ours = copy.copy(small)
    ours.conformalize(TEXTS, LABELS, coverage=0.8)
    with pytest.warns(UserWarning, match="prediction sets are dropped: they are for sampled scores"):
        ours._replace(ours.calibration, replace(ours.sampling, num_samples=0))
    assert ours.prediction_sets is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ours: ours("a", coverage=0.9), r"coverage=0.9 needs prediction sets; call classifier.conformalize\("),
        (lambda ours: setattr(ours, "coverage", 0.9), "coverage=0.9 needs prediction sets"),
        (lambda ours: ours("a", coverage=1), r"coverage=1; it must lie between 0 and 1"),
        (lambda ours: ours.conformalize(TEXTS, LABELS, coverage=True), "it must lie between 0 and 1"),
        (lambda ours: ours.conformalize(TEXTS, LABELS, coverage=0.995), "needs at least 199 labeled texts, .* have 96"),
        (lambda ours: ours.conformalize(TEXTS, LABELS[:5]), "got 96 texts and 5 labels"),
        (lambda ours: ours.conformalize(TEXTS, ["awful"] * 96), "label 0 is 'awful'"),
        (lambda ours: ours.conformalize(TEXTS, LABELS, by="label"), "by='label'; it must be one of 'all', 'class'"),
        (lambda ours: ours.conformalize(TEXTS, LABELS, score="raps"), "score='raps'; it must be one of 'lac', 'aps'"),
        (lambda ours: ours.conformalize(TEXTS, LABELS, function_to_apply="sigmoid"), "only from the constructor"),
    ],
)
def test_what_cannot_work_is_refused(small, call, message):
    ours = copy.copy(small)
    with pytest.raises(ValueError, match=message):
        call(ours)
    assert ours.prediction_sets is None and ours.coverage is None


def test_arrays_take_no_coverage(fitted):
    with pytest.raises(TypeError, match=r"classifier\(texts, coverage=0.9\) gives the sets"):
        fitted[0].predict_proba(["a"], coverage=0.9)
    assert fitted[0].predict_proba(["a"], coverage=None).shape == (1, 3)


def test_a_coverage_that_the_sets_cannot_reach_is_refused(fitted):
    ours = copy.copy(fitted[0])
    with pytest.raises(
        ValueError, match=r"needs at least 999 labeled texts, and the prediction sets have 96; .*0\.989"
    ):
        ours("a", num_samples=0, coverage=0.999)
    with pytest.raises(ValueError, match="needs at least 999"):
        ours.coverage = 0.999
    ours.coverage = 0.98
    few = copy.copy(fitted[0])
    few.conformalize(TEXTS[:24], LABELS[:24], coverage=0.8, num_samples=0)
    with pytest.raises(ValueError, match=r"coverage=0\.98 needs at least 49"):
        ours.prediction_sets = few.prediction_sets
    assert ours.prediction_sets.num_texts == 96


def test_sets_are_saved_loaded_and_removed(fitted, tmp_path):
    ours = copy.copy(fitted[4])
    expected = ours(NEW, num_samples=4)
    ours.save_pretrained(tmp_path)
    assert [path.name for path in (tmp_path / "prediction_sets").iterdir()] == ["prediction_sets.npz"]
    card = (tmp_path / "README.md").read_text()
    assert "coverage=0.8. " in card and "`prediction_set`: the labels that" in card and "prediction_sets=" not in card
    again = load(tmp_path)
    assert again.coverage == 0.8 and again.prediction_sets.digest() == ours.prediction_sets.digest()
    assert again(NEW, num_samples=4) == expected
    own = pipeline("bayesian-text-classification", model=str(tmp_path), trust_remote_code=True)
    assert own(NEW, num_samples=4) == expected
    for other in (pickle.loads(pickle.dumps(ours)), copy.copy(ours)):
        assert other(NEW, num_samples=4) == expected
    own.prediction_sets = ours.prediction_sets  # of another class, from the copied code
    assert own.prediction_sets.digest() == ours.prediction_sets.digest()
    (answer,) = EndpointHandler(str(tmp_path))({"inputs": NEW[:1], "parameters": {"num_samples": 4, "coverage": "0.9"}})
    assert answer["prediction_set"] == ours(NEW[0], num_samples=4, coverage=0.9)[0]["prediction_set"]
    again.prediction_sets = None
    assert again.coverage is None
    again.save_pretrained(tmp_path)
    assert not (tmp_path / "prediction_sets").exists() and load(tmp_path).prediction_sets is None
    config = json.loads((tmp_path / "config.json").read_text())["bayesian_text_classification"]
    assert "prediction_sets" not in config and "coverage" not in config


def test_missing_or_damaged_sets_are_a_warning(fitted, tmp_path):
    copy.copy(fitted[4]).save_pretrained(tmp_path)
    path = tmp_path / "prediction_sets" / "prediction_sets.npz"
    whole = path.read_bytes()
    for damaged in (b"", whole[:200], whole.replace(b"clusters", b"clusterx"), None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"the prediction sets did not load from prediction_sets/prediction_sets"):
            again = load(tmp_path)
        assert again.prediction_sets is None and again.coverage is None and "prediction_set" not in again("a")[0]


@pytest.mark.parametrize("outputs", [3, 1])
def test_independent_labels_have_sets_that_bound_what_is_missed(bayesian, tiny, outputs):
    config = {"num_labels": outputs, "problem_type": "multi_label_classification" if outputs > 1 else None}
    ours = bayesian(tiny("bert", **config), num_samples=0)
    random = np.random.default_rng(0)
    targets = random.integers(2, size=(len(TEXTS), outputs))
    sets = ours.conformalize(TEXTS, targets, coverage=0.8)
    rows = [{entry["label"] for entry in row["prediction_set"]} for row in ours(TEXTS)]
    names, shares = list(ours.model.config.id2label.values()), []
    for row, target in zip(rows, targets, strict=True):
        if target.any():
            shares.append(np.mean([name not in row for name, applies in zip(names, target, strict=True) if applies]))
    assert (sum(shares) + 1) / (len(shares) + 1) <= 0.2 and sets.num_texts == len(shares)
    with pytest.raises(ValueError, match="independent labels take score='lac'"):
        ours.conformalize(TEXTS, targets, score="aps")


def test_numbers_have_no_sets(bayesian, tiny):
    ours = bayesian(tiny("bert", num_labels=1, problem_type="regression"), num_samples=0)
    with pytest.raises(ValueError, match="need probabilities, and this model predicts numbers"):
        ours.conformalize(TEXTS, [0.5] * len(TEXTS))


def test_an_ensemble_has_sets(tiny, tokenizer, bayesian, tmp_path):
    both = bayesian([tiny("bert"), tiny("distilbert")], tokenizer=tokenizer)
    both.conformalize(TEXTS, [i % 2 for i in range(len(TEXTS))], coverage=0.8)
    expected = both(NEW)
    both.save_pretrained(tmp_path)
    assert load(tmp_path)(NEW) == expected and "prediction_set" in expected[0]


def test_progress_counts_every_pass(small):
    ours, counted = copy.copy(small), []
    ours.conformalize(TEXTS, LABELS, coverage=0.8, num_samples=2, progress=counted.append)
    assert sum(counted) == 2 * len(TEXTS)
