"""Rotary embeddings whose frequencies depend on the length of the batch.

`_compute_*_parameters` of transformers are the truth for the frequencies of one text by itself.
"""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from bayesian_text_classification import BayesianTextClassificationPipeline
from bayesian_text_classification.pipeline.rotary import frequency_group, make_stateless
from transformers import AutoConfig, AutoModelForSequenceClassification

SHORT, LONG, LONGER = "a film", "film " * 40, "film " * 50
SIZES = {"vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 4, "intermediate_size": 64, "attention_dropout": 0.1, "num_labels": 2,
         "pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102}  # fmt: skip
ORIGINAL = 32  # tokens: more than the probe's texts have
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": ORIGINAL,
            "short_factor": [1.0, 1.0, 1.0, 1.0], "long_factor": [4.0, 8.0, 16.0, 32.0]}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}


def make(model_type, rope, most):
    own = {"original_max_position_embeddings": ORIGINAL} if model_type == "phi3" else {}
    config = AutoConfig.for_model(model_type, **SIZES, **own, max_position_embeddings=most, rope_parameters=rope)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config)
        for weight in model.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, 0, 0.3)
    return model.eval()


@pytest.fixture(params=["phi3", "llama"])
def long_rope(request, tokenizer):
    """A classifier whose frequencies change beyond 32 tokens."""
    model = make(request.param, LONGROPE, 64)
    assert model.model.rotary_emb.config.rope_parameters["original_max_position_embeddings"] == ORIGINAL
    return BayesianTextClassificationPipeline(model=model, tokenizer=tokenizer, num_samples=4)


def test_a_long_text_does_not_change_the_others(long_rope):
    texts = [SHORT, LONG, LONGER, "no"]
    together = long_rope.sample_proba(texts)
    for i, text in enumerate(texts):
        np.testing.assert_allclose(together[i], long_rope.sample_proba([text])[0], rtol=0, atol=1e-5)
    plain = long_rope.predict_proba(texts, num_samples=0)
    for i, text in enumerate(texts):
        inputs = long_rope.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            logits = copy.deepcopy(long_rope.model)(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
            ).logits
        np.testing.assert_allclose(plain[i], logits.softmax(-1)[0], rtol=0, atol=1e-5)


def test_sampling_leaves_the_frequencies_of_the_callers_model(long_rope):
    """Transformers writes the frequencies of a long text into a buffer, which the twin would share with the caller."""
    before = {name: buffer.clone() for name, buffer in long_rope.model.named_buffers()}
    long_rope.sample_proba([LONG])
    after = dict(long_rope.model.named_buffers())
    assert before.keys() == after.keys() and any("inv_freq" in name for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_threads_with_long_and_short_texts_do_not_disturb_each_other(long_rope):
    expected = {text: long_rope.sample_proba([text]) for text in (SHORT, LONG)}
    with ThreadPoolExecutor(4) as pool:
        texts = [SHORT, LONG] * 40
        for text, found in zip(texts, pool.map(lambda text: long_rope.sample_proba([text]), texts), strict=True):
            np.testing.assert_allclose(found, expected[text], rtol=0, atol=1e-5)


def test_an_answer_does_not_depend_on_earlier_texts():
    """Dynamic scaling grows with the longest text seen so far, unless the state is left alone."""
    model = make("llama", DYNAMIC, 16)
    fresh = copy.deepcopy(model)
    assert make_stateless(model)

    def logits(model, length):
        with torch.no_grad():
            return model(input_ids=torch.arange(5, 5 + length)[None]).logits

    expected = [logits(copy.deepcopy(fresh), length) for length in (20, 30, 20, 10)]
    found = [logits(model, length) for length in (20, 30, 20, 10)]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    stateful = [logits(fresh, length) for length in (20, 30, 20)]
    assert not torch.allclose(stateful[2], expected[2], rtol=0, atol=1e-6)


def test_groups_of_lengths():
    long_rope, dynamic = ("longrope", 16), ("dynamic", 16)
    assert [frequency_group([long_rope], length) for length in (1, 16, 17, 30)] == [0, 0, 16, 16]
    assert [frequency_group([dynamic], length) for length in (1, 16, 17, 30)] == [0, 0, 17, 30]
    assert [frequency_group([], length) for length in (1, 99)] == [0, 0]


def test_fixed_frequencies_are_left_alone(tiny):
    for architecture in ("llama", "modernbert", "bert"):
        model = tiny(architecture)
        assert make_stateless(model) == []
        assert not any("forward" in vars(module) for module in model.modules())
