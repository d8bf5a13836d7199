"""The same text, seed and model give the same result across batches, threads and padding."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from bayesian_text_classification.pipeline import text_sampler as module
from bayesian_text_classification.pipeline.batching import TokenBudget
from pipeline_cases import MANY, TASK, TEXTS, assert_close, of_length
from transformers import pipeline


@pytest.mark.parametrize("masks", ["balanced", "bernoulli"])
def test_batch_size_and_order_do_not_change_results(masks, small):
    expected = small(MANY, masks=masks)
    for batch_size in (1, 3, 8, 100):
        assert_close(small(MANY, batch_size=batch_size, masks=masks), expected)
    assert_close(small(MANY[::-1], masks=masks)[::-1], expected)
    assert_close([small(text, masks=masks)[0] for text in MANY], expected)


@pytest.mark.parametrize(
    "architecture",
    ["distilbert", "roberta", "bart", "albert", "mpnet", "deberta-v2", "t5", "xlnet", "fnet", "gpt2", "llama"],
)
def test_text_has_the_same_result_in_a_batch(architecture, tiny, bayesian):
    ours = bayesian(tiny(architecture), num_samples=3)
    together = ours(MANY[:5])
    assert_close(together, [ours(text)[0] for text in MANY[:5]])
    assert len({round(result["score"], 6) for result in together}) == 5, (
        "the model must give these texts different scores"
    )


def test_batch_size_limits_texts_in_a_batch(small, monkeypatch):
    assert small.spread.share > 0  # the pilot's passes do not count
    seen = []
    original = module.StochasticTwin.sample_logits

    def spy(self, inputs, samples, **options):
        seen.append(len(inputs["input_ids"]))
        return original(self, inputs, samples, **options)

    monkeypatch.setattr(module.StochasticTwin, "sample_logits", spy)
    monkeypatch.setitem(small._text_sampler._budgets, "cpu", TokenBudget(10**6))  # nothing else limits a batch
    small(MANY, batch_size=3)
    assert max(seen) <= 3 and sum(seen) == len(MANY)
    seen.clear()
    pipeline(TASK, model=small.model, tokenizer=small.tokenizer, batch_size=2)(MANY)
    assert max(seen) == 2  # in the pilot too
    seen.clear()
    small(MANY)
    assert seen == [len(MANY)]


def test_token_budget_does_not_change_results(small, monkeypatch):
    expected = small(MANY)
    monkeypatch.setitem(small._text_sampler._budgets, "cpu", TokenBudget(64))
    assert_close(small(MANY), expected)


def test_left_padding_gives_the_same_result(tiny, tokenizer, bayesian):
    ours = bayesian(tiny("llama", pad_token_id=0))
    assert_close(ours(TEXTS, padding_side="left"), ours(TEXTS, padding_side="right"))


def test_threads_give_the_same_results_as_sequential_calls(small):
    expected = [small(text, seed=i)[0] for i, text in enumerate(MANY)]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda i: small([MANY[i], of_length(5 + i)], seed=i)[0], range(len(MANY)))
    assert_close(list(found), expected)


def test_global_random_state_does_not_change(tiny, bayesian, same_random_state):
    model = tiny("bart")
    with same_random_state():
        ours = bayesian(model)
        ours(TEXTS)
        ours(TEXTS, masks="bernoulli", num_samples=3)
        ours.predict_proba(TEXTS)
        ours.predict_proba(TEXTS, num_samples=0)
        # Not ours(TEXTS, num_samples=0): the stock pipeline's DataLoader draws a seed for its workers.


def test_global_seed_has_no_effect(small):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = small(TEXTS)
        torch.manual_seed(2)
        assert small(TEXTS) == first
