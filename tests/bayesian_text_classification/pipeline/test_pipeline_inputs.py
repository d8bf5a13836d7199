"""Inputs that the pipeline accepts, the shapes of its results, and truncation."""

import copy
import itertools
import json
import re
import warnings
import weakref

import pytest
from bayesian_text_classification.pipeline import text_sampler as module
from bayesian_text_classification.pipeline.encoding import Encoder
from bayesian_text_classification.pipeline.errors import InputError
from pipeline_cases import EAGER, KEYS, LAZY, PAIRS, TASK, TEXTS, assert_close, of_length
from transformers import pipeline

# --- inputs and shapes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EAGER)
def test_lists_return_lists(name, small):
    given, items = EAGER[name]
    found = small(given)
    assert type(found) is list and len(found) == len(items)
    expected = [small(item)[0] if isinstance(item, str) else small(item) for item in items]
    assert_close(found, expected)
    assert all(list(result) == KEYS for result in found)


@pytest.mark.parametrize("name", LAZY)
def test_generators_and_datasets_return_lazy_iterators(name, small):
    make, items = LAZY[name]
    found = small(make())
    assert not isinstance(found, list)
    # At most one more than expected, so an iterator that never ends fails instead of hanging.
    assert_close(list(itertools.islice(found, len(items) + 1)), small(items))


@pytest.mark.parametrize("name", ["KeyDataset", "torch Dataset", "datasets.Dataset"])
def test_dataset_results_have_a_length_and_can_be_read_again(name, small, small_stock):
    """As in the stock pipeline, so tqdm knows the total."""
    found = small(LAZY[name][0]())
    assert len(found) == 3
    assert list(found) == list(found) != []


def test_endless_generator_yields_a_first_result(small):
    found = small((f"film {i}" for i in itertools.count()), num_samples=1)
    assert next(iter(found))["num_samples"] == 1


def test_generator_is_read_at_most_one_window_ahead(small, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 4)
    numbers = itertools.count()
    found = iter(small((f"film {i}" for i in numbers), num_samples=1))
    assert next(numbers) == 0  # nothing is read before the first result is requested
    next(found)
    assert next(numbers) <= 5


@pytest.mark.parametrize("options", [{}, {"num_samples": 0, "threshold": 0.5}, {"top_k": None}])
def test_a_window_is_freed_before_the_next_one_is_tokenized(options, small, monkeypatch):
    encode, made, alive = Encoder.encode, [], []

    def watch(self, *args, **kwargs):
        alive.extend(number for number, one in enumerate(made) if one() is not None)
        found = encode(self, *args, **kwargs)
        made.append(weakref.ref(found))
        return found

    small(TEXTS[0])  # what is made at first use tokenizes too
    monkeypatch.setattr(module, "WINDOW", 2)
    monkeypatch.setattr(Encoder, "encode", watch)
    assert len(list(small(iter(TEXTS * 2), **options))) == 2 * len(TEXTS)
    assert len(made) == len(TEXTS) and not alive


@pytest.mark.parametrize("window", [1, 2, 3])
def test_window_size_does_not_change_results(small, monkeypatch, window):
    expected = small(TEXTS)
    monkeypatch.setattr(module, "WINDOW", window)
    assert_close(small(TEXTS), expected)
    assert_close(list(small(text for text in TEXTS)), expected)


def test_str_returns_a_list_and_pair_a_dict_as_in_stock(small, small_stock):
    for item in (TEXTS[0], PAIRS[0], {"text": TEXTS[0]}):
        assert type(small(item)) is type(small_stock(item))
    assert list(small(TEXTS[0])[0]) == list(small(PAIRS[0])) == KEYS


def shape(results):
    return [shape(result) for result in results] if isinstance(results, list) else "dict"


@pytest.mark.parametrize("at", ["construction", "call"])
@pytest.mark.parametrize("top_k", [1, 2, 3, 10, None])
@pytest.mark.parametrize("given", [TEXTS[0], TEXTS, PAIRS[0], PAIRS, []], ids=["str", "list", "pair", "pairs", "none"])
def test_top_k_returns_the_same_shapes_as_stock(at, top_k, given, small):
    made, call = ({"top_k": top_k}, {}) if at == "construction" else ({}, {"top_k": top_k})
    ours = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, num_samples=2, **made)
    stock = pipeline("text-classification", model=small.model, tokenizer=small.tokenizer, **made)
    expected = stock(given, **call) if given != [] else []  # the stock pipeline raises IndexError
    assert shape(ours(given, **call)) == shape(expected)
    assert shape(ours(given, num_samples=0, **call)) == shape(expected)


def test_scores_of_a_text_sum_to_one_and_are_sorted(classifier):
    for result in classifier(TEXTS, top_k=None, num_samples=3):
        scores = [entry["score"] for entry in result]
        assert sum(scores) == pytest.approx(1, abs=1e-6)
        assert scores == sorted(scores, reverse=True)
        assert {entry["label"] for entry in result} == {"POSITIVE", "NEGATIVE"}


def test_top_k_labels_have_their_own_score_and_std(small):
    samples = small.sample_proba(TEXTS[:1])[0].astype(float)
    (plain,) = small(TEXTS[:1])
    (entries,) = small(TEXTS[:1], top_k=None)
    for entry in entries:
        row = samples[small.model.config.label2id[entry["label"]]]
        assert entry["score"] == pytest.approx(row.mean(), abs=1e-6)
        assert entry["score_std"] == pytest.approx(row.std(), abs=1e-6)
        assert {key: entry[key] for key in KEYS[3:]} == {key: plain[key] for key in KEYS[3:]}
    assert entries[0] == plain


@pytest.mark.parametrize(
    "options", [{}, {"top_k": None}, {"num_samples": 1}, {"function_to_apply": "none"}, {"num_samples": 0}]
)
def test_results_are_plain_python(options, small):
    found = small(TEXTS, **options)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    entries = found if isinstance(found[0], dict) else [entry for result in found for entry in result]
    kinds = {str, float, int, bool, type(None)}
    assert all(type(value) in kinds for entry in entries for value in entry.values())
    for entry in entries if options != {"num_samples": 0} else []:
        assert type(entry["truncated"]) is bool and type(entry["num_samples"]) is int


# --- length -----------------------------------------------------------------------------------------------------------


def test_truncated_is_true_from_one_token_over_the_limit(small):
    """The limit is the smaller of the tokenizer's (512) and the model's (64)."""
    found = small([of_length(n) for n in (63, 64, 65, 600)], num_samples=2)
    assert [result["truncated"] for result in found] == [False, False, True, True]
    assert_close(found[1:2], found[2:3])


def test_truncated_at_the_embedded_models_limit(classifier):
    found = classifier([of_length(512), of_length(513), "good"], num_samples=1)
    assert [result["truncated"] for result in found] == [False, True, False]


def test_truncated_respects_max_length(small):
    found = small([of_length(6), of_length(7)], max_length=6)
    assert [result["truncated"] for result in found] == [False, True]


def test_truncated_counts_both_texts_of_a_pair(small):
    fits, over = ({"text": of_length(20), "text_pair": " ".join(["long"] * n)} for n in (43, 44))
    assert [r["truncated"] for r in small([fits, over], num_samples=2)] == [False, True]
    assert [r["truncated"] for r in small([fits, over, "alone"], num_samples=2)] == [False, True, False]


def test_max_length_over_the_models_limit_does_not_crash(small):
    (result,) = small(of_length(100), max_length=10_000, num_samples=2)
    assert result["truncated"] is True


def test_truncation_does_not_warn(small, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(of_length(600), num_samples=1)
    assert "longer than" not in caplog.text


def test_truncation_does_not_change_the_tokenizer(small):
    before = small.tokenizer._tokenizer.truncation, small.tokenizer._tokenizer.padding
    small([of_length(600), "good"], num_samples=1)
    assert len(small.tokenizer(of_length(600))["input_ids"]) == 600
    assert before == (small.tokenizer._tokenizer.truncation, small.tokenizer._tokenizer.padding)


def test_one_ordinary_pass_says_how_to_drop_what_is_too_long(tiny, bayesian):
    """Like the stock pipeline, it does not truncate by itself."""
    ours = bayesian(tiny("bert", num_labels=3, max_position_embeddings=20), num_samples=0)
    length = "it has 38 tokens, more than the limit of 20; to drop the rest, "
    ends = re.escape(f"; {length}call classifier(texts, **classifier.truncation)")
    with pytest.raises(InputError, match=rf"^input 0: the model cannot run on it: .*{ends}$"):
        ours(of_length(38))
    with pytest.raises(InputError, match=rf"^input 1: the model cannot run on it: .*{ends}$"):
        ours(["good", of_length(38)], batch_size=2)
    with pytest.raises(InputError, match=rf"^input 0 \(2 of 3 inputs fail\): the model cannot run on it: .*{ends}$"):
        ours([of_length(38), "good", of_length(50)])
    assert ours(of_length(38), **ours.truncation) == ours(of_length(20))


def test_a_text_that_fails_for_another_reason_keeps_that_reason(tiny, tokenizer):
    """T5 takes texts of any length, but not a token that its embeddings lack."""
    own = copy.deepcopy(tokenizer)
    own.model_max_length = 20
    own.add_tokens(["unheard"])
    ours = pipeline(TASK, model=tiny("t5", vocab_size=len(tokenizer)), tokenizer=own, num_samples=0)
    cause = "the model cannot run on it: index out of range in self"
    with pytest.raises(InputError, match=f"^input 0: {cause}$"):
        ours("unheard")
    with pytest.raises(InputError, match=f"^input 0: {cause}$"):
        ours("unheard", padding="max_length", max_length=30)  # the padding is not the text's
    with pytest.raises(InputError, match=rf"^input 0: {cause}; it has 2\d tokens, more than the limit of 20; "):
        ours(of_length(20) + " unheard")


@pytest.mark.parametrize("architecture", ["roberta", "mpnet"])
def test_roberta_takes_two_tokens_fewer_than_its_positions(architecture, tiny, roberta_tokenizer):
    """Positions are numbered from padding_idx + 1: 514 positions are 512 tokens."""
    model = tiny(
        architecture, vocab_size=20, max_position_embeddings=514, pad_token_id=1, bos_token_id=0, eos_token_id=2
    )
    assert roberta_tokenizer.model_max_length > 10**9
    ours = pipeline(TASK, model=model, tokenizer=roberta_tokenizer, num_samples=1)
    found = ours([of_length(512), of_length(513), of_length(2000), "good"])
    assert [result["truncated"] for result in found] == [False, True, True, False]
    assert_close(found[:2], found[1:3])


@pytest.mark.parametrize("architecture", ["distilbert", "bart", "gpt2", "albert", "t5"])
def test_texts_over_the_limit_do_not_crash(architecture, tiny, bayesian):
    ours = bayesian(tiny(architecture), num_samples=1)
    (long, short) = ours([of_length(600), "good"])
    assert (long["truncated"], short["truncated"]) == (True, False)


def test_empty_text_is_classified(small):
    found = small(["", "good", ""])
    assert_close(found[:1], found[2:])
