"""Zero samples run the stock pipeline."""

import numpy as np
import pytest
from bayesian_text_classification.pipeline import text_sampler as module
from pipeline_cases import EAGER, LAZY, PAIRS, ROWS, TASK, TEXTS
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset, KeyPairDataset

SETTINGS = [
    {},
    {"top_k": 1},
    {"top_k": 2},
    {"top_k": None},
    {"batch_size": 2},
    {"batch_size": 2, "top_k": None},
    {"function_to_apply": "sigmoid"},
    {"function_to_apply": "none", "top_k": None},
    {"truncation": True, "max_length": 5},
]
FORMS = {
    "str": lambda: TEXTS[0],
    "list": lambda: TEXTS,
    "pair": lambda: PAIRS[0],
    "pairs": lambda: PAIRS,
    "old pairs": lambda: EAGER["old pairs"][0],
    "generator": lambda: (text for text in TEXTS),
    "KeyDataset": lambda: KeyDataset(ROWS, "text"),
    "KeyPairDataset": lambda: KeyPairDataset(ROWS, "text", "other"),
}


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_zero_samples_match_stock_bit_for_bit(form, options, small, small_stock):
    ours, expected = small(FORMS[form](), num_samples=0, **options), small_stock(FORMS[form](), **options)
    if form in ("generator", "KeyDataset", "KeyPairDataset"):
        assert not isinstance(ours, list)
        ours, expected = list(ours), list(expected)
    assert ours == expected


@pytest.mark.parametrize("given", [TEXTS[0], TEXTS], ids=["str", "list"])
def test_embedded_model_with_zero_samples_matches_stock_bit_for_bit(given, classifier, stock):
    """This includes running in the model's own float16."""
    assert classifier(given, num_samples=0) == stock(given)
    assert classifier(given, num_samples=0, top_k=None) == stock(given, top_k=None)


@pytest.mark.parametrize("form", ["tuple", "empty list", "column", "map", "iterator"])
def test_zero_samples_accept_inputs_that_stock_rejects(form, small, small_stock):
    given, items = EAGER[form] if form in EAGER else (LAZY[form][0](), LAZY[form][1])
    assert list(small(given, num_samples=0)) == (small_stock(items) if items else [])


def test_zero_samples_never_probe(small, small_stock, monkeypatch):
    expected = small.predict_proba(TEXTS, num_samples=0)
    monkeypatch.setattr(module, "StochasticTwin", None)
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, num_samples=0, top_k=2, batch_size=2)
    assert made(TEXTS) == small_stock(TEXTS, top_k=2, batch_size=2)
    np.testing.assert_allclose(made.predict_proba(TEXTS), expected, atol=1e-6)
    assert sorted(i for texts, _ in made.batches(TEXTS) for i in texts) == [0, 1, 2]


@pytest.mark.parametrize("settings", [{"problem_type": "multi_label_classification"}, {"num_labels": 1},
                                      {"num_labels": 1, "problem_type": "regression"}], ids=str)  # fmt: skip
def test_zero_samples_match_stock_for_other_kinds_of_models(settings, tiny, bayesian, tokenizer):
    model = tiny("bert", **settings)
    stock = pipeline("text-classification", model=model, tokenizer=tokenizer)
    assert bayesian(model)(TEXTS, num_samples=0, top_k=None) == stock(TEXTS, top_k=None)


def test_sampled_labels_match_stock_when_dropout_is_negligible(tiny, tokenizer):
    """With a tiny dropout rate, labels, order and scores are those of the stock pipeline."""
    model = tiny("bert", num_labels=3, hidden_dropout_prob=1e-7, attention_probs_dropout_prob=1e-7)
    ours, stock = (
        pipeline(task, model=model, tokenizer=tokenizer, top_k=None) for task in (TASK, "text-classification")
    )
    for ours_, stock_ in zip(ours(TEXTS + PAIRS), stock(TEXTS + PAIRS), strict=True):
        assert [entry["label"] for entry in ours_] == [entry["label"] for entry in stock_]
        np.testing.assert_allclose([e["score"] for e in ours_], [e["score"] for e in stock_], atol=1e-5)
