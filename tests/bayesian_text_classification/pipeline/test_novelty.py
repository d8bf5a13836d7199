"""Novelty in the results of a classifier: what is learned, saved, and refused."""

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
from transformers import AutoModelForSequenceClassification, pipeline

WHAT, HOW = ("film", "story", "plot", "cast"), ("good", "bad", "long", "dull", "fine", "odd")
IN = [f"{start} {what} was {how}" for start in ("the", "that", "this", "a") for what in WHAT for how in HOW]
OUT = [
    "0 1 2 3 4 5 6 7 8 9 . . . . ! ! ! !",
    "der hund bellt sehr laut in der nacht",
    "SELECT * FROM users WHERE 1 = 1",
]
KEYS = ["novelty", "novelty_p_value"]


@pytest.fixture(scope="module")
def scoped(small):
    """A classifier with the scope of half of the texts above."""
    ours = copy.copy(small)
    ours.learn_scope(IN)
    return ours


@pytest.mark.parametrize("options", [{"num_samples": 0}, {"num_samples": 5}, {"num_samples": 20, "tolerance": 0.05}])
def test_results_have_two_more_keys_and_nothing_else_changes(scoped, small, options):
    """The same texts have the same novelty in every kind of call, alone and in a batch."""
    texts = [*IN[:5], *OUT]
    before, found = small(texts, **options), scoped(texts, **options)
    for one, other in zip(before, found, strict=True):
        assert list(other) == [*one, *KEYS]
        assert {key: other[key] for key in one} == {
            key: value if isinstance(value, (str, bool, int)) else pytest.approx(value, abs=1e-6)
            for key, value in one.items()
        }
    expected = scoped(texts, num_samples=0)
    for text, row, other in zip(texts, found, expected, strict=True):
        (alone,) = scoped(text, **options)
        for same in (alone, other):
            assert same["novelty"] == pytest.approx(row["novelty"], rel=1e-5)
            assert same["novelty_p_value"] == row["novelty_p_value"]
    ranked = scoped(texts, **options, top_k=2)
    assert [entry["novelty_p_value"] for entries in ranked for entry in entries] == [
        row["novelty_p_value"] for row in found for _ in range(2)
    ]


def test_novelty_as_an_array(scoped, small):
    texts = [*IN[:5], *OUT]
    found = scoped.novelty(iter(texts))
    assert found.tolist() == [row["novelty"] for row in scoped(texts, num_samples=0)]
    p = [row["novelty_p_value"] for row in scoped(texts)]
    assert scoped.scope.p_values(found).tolist() == p and scoped.novelty([]).shape == (0,)
    with pytest.raises(ValueError, match="novelty needs a scope of the model's present weights; call "):
        small.novelty(texts)


def test_strange_texts_are_novel(scoped):
    own, strange = ([row["novelty"] for row in scoped(texts, num_samples=0)] for texts in (IN, OUT))
    assert np.mean(strange) > max(own)
    strangest = scoped(OUT[int(np.argmax(strange))], num_samples=0)[0]
    assert strangest["novelty_p_value"] == 1 / (len(scoped.scope.held_out) + 1)


@pytest.mark.parametrize("samples", [0, 4])
def test_a_level_abstains(scoped, samples):
    new, known = scoped([OUT[2], IN[0]], num_samples=samples, novelty_level=0.05)
    assert new["abstained"] and new["label"] is None and new["candidate"] in ("bad", "fine", "good")
    assert "is at most 0.05: it is unlike the texts that the model was made for" in new["reason"]
    assert not known["abstained"] and known["reason"] is None and known["label"] == known["candidate"]
    both = scoped(OUT[2], num_samples=samples, novelty_level=0.05, threshold=1.0)[0]
    assert both["reason"].startswith("score ") and both["reason"].endswith(new["reason"]) and both["label"] is None
    only_score = scoped(IN[0], num_samples=samples, novelty_level=0.05, threshold=1.0)[0]
    assert only_score["label"] is None and "novelty" not in only_score["reason"]
    (ranked,) = scoped([OUT[2]], num_samples=samples, novelty_level=0.05, top_k=None)
    assert len(ranked) == 3 and all(entry["abstained"] and entry["label"] for entry in ranked)


def test_labels_and_held_out_texts_are_used(small):
    ours = copy.copy(small)
    labels = ["bad", "good"] * 24
    scope = ours.learn_scope(IN[:48], labels, IN[48:])
    assert len(scope.means) == 2 and len(scope.held_out) == 48
    _, features = next(ours._sampler.features(IN[:48], "softmax", tokenizer_options={}, batch_size=None))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(scope.means, [unit[::2].mean(0), unit[1::2].mean(0)], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        sorted(row["novelty"] for row in ours(IN[48:], num_samples=0)), scope.held_out, rtol=1e-5
    )


def test_copies_count_among_the_held_out_texts_and_shared_ones_are_left_out(small):
    """Held-out texts are a sample of what will come; a class is no more than its distinct texts."""
    ours = copy.copy(small)
    spaced = [f" {text.replace(' ', '  ')} " for text in IN[37:]]
    with pytest.warns(UserWarning, match=r"^left out 6 of the .* texts in held_out, because they are also in texts"):
        scope = ours.learn_scope(IN[:40] * 2, None, [*IN[37:], *spaced])
    once = ours.learn_scope(IN[:40], None, IN[40:])
    np.testing.assert_allclose(scope.means, once.means, atol=1e-6)
    np.testing.assert_allclose(scope.held_out, np.repeat(once.held_out, 2), rtol=1e-5)
    halves, again = ours.learn_scope(IN), ours.learn_scope(IN[::-1])
    np.testing.assert_allclose(again.held_out, halves.held_out, rtol=1e-5)
    assert len(halves.held_out) == 48


def test_frequent_texts_are_flagged_no_more_often_than_the_level(small):
    """A third of the traffic are copies of a few far texts, also among the held-out ones."""
    ours, random = copy.copy(small), np.random.default_rng(0)
    scope = ours.learn_scope(IN[:40], None, [*IN[40:], *OUT])
    distances, far = ours.novelty(IN[40:]), ours.novelty(OUT)

    def traffic(count):
        return np.where(random.random(count) < 0.33, random.choice(far, count), random.choice(distances, count))

    shares = [(replace(scope, held_out=np.sort(traffic(300))).p_values(traffic(300)) <= 0.1).mean() for _ in range(200)]
    assert np.mean(shares) <= 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ours: ours.learn_scope(IN[:30]), "at least 20 distinct texts to learn from and 20 others to hold out"),
        (lambda ours: ours.learn_scope(IN[:30], None, IN[30:40]), "and there are 30 and 10; pass more"),
        (lambda ours: ours.learn_scope(IN, ["bad"]), "got 96 texts and 1 labels"),
        (lambda ours: ours.learn_scope(IN, ["awful"] * 96), "label 0 is 'awful'"),
        (lambda ours: ours("a", novelty_level=0.05), r"novelty_level=0.05 needs a scope; call classifier.learn_scope"),
        (lambda ours: setattr(ours, "novelty_level", 0.05), "needs a scope"),
        (lambda ours: ours("a", novelty_level=0), "must lie between 0 and 1"),
        (lambda ours: ours("a", novelty_level=True), "must lie between 0 and 1"),
        (lambda ours: ours.learn_scope([*IN[:57], None, *IN[57:]]), "input 57 is None"),
    ],
)
def test_what_cannot_work_is_refused(small, call, message):
    ours = copy.copy(small)
    with pytest.raises(ValueError, match=message):
        call(ours)
    assert ours.scope is None


def test_a_level_that_no_text_can_reach_is_refused(scoped):
    with pytest.raises(ValueError, match=r"novelty_level=0.001 needs at least 999 held-out texts, and the scope has"):
        scoped("a", novelty_level=0.001)


def test_other_weights_need_another_scope(tiny, tokenizer, bayesian):
    ours = bayesian(tiny("bert"), num_samples=0)
    ours.learn_scope(IN)
    with torch.no_grad():
        ours.model.classifier.bias[0] += 1
    with pytest.warns(UserWarning, match="was learned for other weights of the model; call classifier.learn_scope"):
        assert "novelty" not in ours("a")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        ours("a")
    with pytest.raises(ValueError, match=r"novelty_level=0.05: the scope was learned for other weights"):
        ours("a", novelty_level=0.05)
    ours.learn_scope(IN)
    assert "novelty" in ours("a")[0]


def test_a_scope_is_saved_loaded_and_removed(scoped, tmp_path):
    ours = copy.copy(scoped)
    ours.novelty_level = 0.05
    expected = ours([*IN[:3], OUT[2]], num_samples=4)
    ours.save_pretrained(tmp_path)
    assert [path.name for path in (tmp_path / "scope").iterdir()] == ["scope.npz"]
    (tmp_path / "scope" / "notes.md").write_text("mine")
    card = (tmp_path / "README.md").read_text()
    assert "novelty_level=0.05. " in card and "`novelty_p_value`,\nthe share of them" in card and "scope=" not in card
    again = load(tmp_path)
    assert again.novelty_level == 0.05 and again.scope.digest() == ours.scope.digest()
    assert again([*IN[:3], OUT[2]], num_samples=4) == expected
    own = pipeline("bayesian-text-classification", model=str(tmp_path), trust_remote_code=True)
    assert own(OUT[2])[0]["abstained"]
    for other in (pickle.loads(pickle.dumps(ours)), copy.copy(ours)):
        assert other([*IN[:3], OUT[2]], num_samples=4) == expected
    another = load(tmp_path, novelty_level=None)
    another.scope = None
    another.save_pretrained(tmp_path)
    assert [path.name for path in (tmp_path / "scope").iterdir()] == ["notes.md"] and load(tmp_path).scope is None
    config = json.loads((tmp_path / "config.json").read_text())["bayesian_text_classification"]
    assert "scope" not in config and "novelty_level" not in config


def test_an_endpoint_reports_novelty(scoped, tmp_path):
    copy.copy(scoped).save_pretrained(tmp_path)
    parameters = {"num_samples": 0, "novelty_level": "0.05"}
    (answer,) = EndpointHandler(str(tmp_path))({"inputs": [OUT[2]], "parameters": parameters})
    assert answer["abstained"] and answer["novelty"] == scoped(OUT[2], num_samples=0)[0]["novelty"]


def test_a_missing_scope_is_a_warning(scoped, tmp_path):
    ours = copy.copy(scoped)
    ours.novelty_level = 0.05
    ours.save_pretrained(tmp_path)
    whole = (tmp_path / "scope" / "scope.npz").read_bytes()
    (tmp_path / "scope" / "scope.npz").unlink()
    with pytest.warns(UserWarning, match="the scope did not load from scope/scope.npz"):
        again = load(tmp_path, novelty_level=None)
    assert again.scope is None and "novelty" not in again("a")[0]
    for damaged in (
        b"PK not an archive",
        whole[: len(whole) // 2],
        whole[:100],
        b"",
        whole.replace(b"means", b"beams"),
    ):
        (tmp_path / "scope" / "scope.npz").write_bytes(damaged)
        with pytest.warns(UserWarning, match="the scope did not load"):
            assert load(tmp_path, novelty_level=None).scope is None
        # A saved level without its scope would accept everything.
        with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"novelty_level=0.05 needs a scope"):
            load(tmp_path)


def test_a_scope_of_other_weights_does_not_load(scoped, tmp_path):
    copy.copy(scoped).save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.01
    model.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="it was learned for other weights"):
        assert load(tmp_path).scope is None


def test_a_scope_is_that_of_the_weights_in_another_dtype_too(scoped, tmp_path):
    copy.copy(scoped).save_pretrained(tmp_path)
    assert load(tmp_path, dtype="bfloat16").scope.digest() == scoped.scope.digest()


def test_a_fused_optimizer_changes_the_weights(tiny, tokenizer, bayesian):
    ours = bayesian(tiny("bert"), num_samples=0)
    ours.learn_scope(IN)
    optimizer = torch.optim.AdamW(ours.model.parameters(), fused=True)
    ours.model(**tokenizer(IN[:2], return_tensors="pt", padding=True)).logits.sum().backward()
    optimizer.step()
    assert ours.scope is None


def test_a_level_that_the_next_scope_cannot_reach_is_refused(small):
    ours = copy.copy(small)
    scope = ours.learn_scope(IN)
    ours.novelty_level = 0.021
    with pytest.raises(ValueError, match=r"novelty_level=0.021 needs at least 47 held-out texts, and the scope has 30"):
        ours.learn_scope(IN[:60], None, IN[60:90])
    assert ours.scope.digest() == scope.digest()  # nothing has changed


def test_a_level_without_its_scope_is_not_saved(tiny, bayesian, tmp_path):
    ours = bayesian(tiny("bert"), num_samples=0)
    ours.learn_scope(IN)
    ours.novelty_level = 0.05
    with torch.no_grad():
        ours.model.classifier.bias.add_(1.0)
    with pytest.raises(ValueError, match="was learned for other weights"):
        ours.save_pretrained(tmp_path)


def test_novelty_that_is_nan_is_an_error(scoped, monkeypatch):
    monkeypatch.setattr(type(scoped.scope), "distances", lambda self, features: np.full(len(features), np.nan))
    with pytest.raises(ValueError, match="the model's outputs for it are NaN or infinite"):
        scoped("a film", num_samples=0)


@pytest.mark.parametrize(("problem", "outputs"), [("multi_label_classification", 3), (None, 1), ("regression", 1)])
def test_every_head_has_novelty(bayesian, tiny, problem, outputs):
    ours = bayesian(tiny("bert", num_labels=outputs, problem_type=problem), num_samples=0)
    scope = ours.learn_scope(IN)
    assert 1 <= len(scope.means) <= 3 and (problem != "regression" or len(scope.means) == 1)
    new, known = ours([OUT[2], IN[0]], novelty_level=0.05)
    assert new["abstained"] and new["label"] is None and not known["abstained"]
    if problem == "multi_label_classification":
        limits = dict.fromkeys(ours.model.config.id2label.values(), 0.0)
        (strange,) = ours([OUT[2]], novelty_level=0.05, threshold=limits, top_k=None)
        assert not any(entry["accepted"] for entry in strange) and all(entry["abstained"] for entry in strange)
        targets = np.tile(np.eye(3, dtype=int), (32, 1))
        assert len(ours.learn_scope(IN, targets).means) == 3


def test_an_ensemble_takes_the_features_of_its_first_model(tiny, tokenizer, bayesian):
    first, second = tiny("bert"), tiny("distilbert")
    alone = bayesian(first, num_samples=0)
    alone.learn_scope(IN)
    both = bayesian([first, second], tokenizer=tokenizer)
    both.learn_scope(IN)
    texts = [*IN[:3], OUT[2]]
    expected = [row["novelty"] for row in alone(texts)]
    for options in ({}, {"num_samples": 0}, {"posterior": "ensemble+dropout", "num_samples": 4}):
        assert [row["novelty"] for row in both(texts, **options)] == pytest.approx(expected, rel=1e-5)


def test_novelty_costs_no_pass_without_samples_and_one_with_them(scoped):
    for options, passes in (({"num_samples": 0}, 4), ({"num_samples": 5}, 24)):
        counted = []
        scoped(IN[:4], **options, progress=counted.append)
        assert sum(counted) == passes
