"""The same text, seed and model give the same result in any context, for one model of each kind."""

import copy
import functools
import itertools
import json

import numpy as np
import pytest
from bayesian_text_classification.pipeline.batching import TokenBudget
from hypothesis import given, settings
from hypothesis import strategies as st

KINDS = {
    "encoder": ("bert", {}),
    "decoder": ("gpt2", {"pad_token_id": 0, "reorder_and_upcast_attn": False}),
    "encoder-decoder": ("bart", {}),
    "sequence-first": ("xlnet", {}),
    "a site without batch dimension": ("deberta-v2", {}),
    "padding changes the answer": ("fnet", {}),
}
WORDS = ["a", "film", "of", "no", "great", "merit", ",", "but", "all", "its", "heart", "in", "place", "nobody", "mind"]
OPTIONS = {"num_samples": 7, "seed": 5}

sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
texts = sentences | st.fixed_dictionaries({"text": sentences, "text_pair": sentences})


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tiny, tokenizer):
    """Pipelines with left and right padding, and a function that samples a text alone."""
    import bayesian_text_classification  # noqa: F401
    from transformers import pipeline

    architecture, settings_ = KINDS[request.param]
    model = tiny(architecture, **settings_)
    sides = {}
    for side in ("left", "right"):
        own = copy.deepcopy(tokenizer)
        own.padding_side = side
        sides[side] = pipeline("bayesian-text-classification", model=model, tokenizer=own)

    @functools.cache
    def alone(text):
        return sides["right"].sample_proba([json.loads(text)], **OPTIONS)[0]

    return sides, lambda text: alone(json.dumps(text))


@settings(max_examples=5)
@given(
    batch=st.lists(texts, min_size=2, max_size=9),
    batch_size=st.none() | st.integers(1, 9),
    budget=st.integers(1, 1_000),
    side=st.sampled_from(["left", "right"]),
    random=st.randoms(use_true_random=False),
)
def test_samples_do_not_depend_on_batch_order_or_padding(kind, batch, batch_size, budget, side, random):
    sides, alone = kind
    ours = sides[side]
    random.shuffle(batch)
    ours._text_sampler._budgets["cpu"] = TokenBudget(budget)
    found = ours.sample_proba(batch, batch_size=batch_size, **OPTIONS)
    for text, samples in zip(batch, found, strict=True):
        np.testing.assert_allclose(samples, alone(text), rtol=0, atol=1e-5)


def test_texts_samples_and_seeds_give_different_results(kind):
    """Otherwise the test above could not fail."""
    sides, alone = kind
    found = [alone(text) for text in (*WORDS, {"text": "a", "text_pair": "film"}, {"text": "a film"})]
    for a, b in itertools.pairwise(found):
        assert np.abs(a - b).max() > 1e-3
    assert np.ptp(found[0], axis=1).min() > 1e-3
    other = sides["right"].sample_proba(WORDS[:1], **{**OPTIONS, "seed": 6})[0]
    assert np.abs(other - found[0]).max() > 1e-3


def test_samples_are_the_same_in_another_process(tiny, tokenizer, saved_to, classifier, python, tmp_path):
    """The other process, with other threads, loads the embedded model, and a model of each kind from its folder."""
    from transformers import pipeline

    batch = ["a film", "no great merit , but with all its heart", {"text": "a film", "text_pair": "in the right place"}]
    ours = [classifier]
    for kind, (architecture, settings_) in KINDS.items():
        model = tiny(architecture, **settings_)
        saved_to(tmp_path / kind, model)
        ours.append(pipeline("bayesian-text-classification", model=model, tokenizer=tokenizer))
    code = """
import json, sys
import bayesian_text_classification
from transformers import pipeline
folders, batch, options = map(json.loads, sys.argv[1:])
classifiers = [pipeline("bayesian-text-classification", model=folder) for folder in [None, *folders]]
print(json.dumps([classifier.sample_proba(batch, **options).tolist() for classifier in classifiers]))
"""
    arguments = [str(tmp_path / kind) for kind in KINDS], batch, OPTIONS
    found = json.loads(python(code, *map(json.dumps, arguments), OMP_NUM_THREADS="2"))
    for there, here in zip(found, ours, strict=True):
        expected = here.sample_proba(batch[::-1], **OPTIONS)[::-1]
        np.testing.assert_allclose(there, expected, rtol=0, atol=1e-5)
