"""Error messages for wrong inputs and options."""

import functools

import datasets
import numpy as np
import pandas
import pytest
from bayesian_text_classification.pipeline import text_sampler as module
from pipeline_cases import TASK, TEXTS, assert_close
from transformers import pipeline


@pytest.mark.parametrize("num_samples", [2, 0])
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "None"),
        (7, "7"),
        ([TEXTS[0], None], r"input 1 is None"),
        ([TEXTS[0], TEXTS[1], 3.5], r"input 2 is 3\.5 \(float\)"),
        ({"txt": "a"}, "'txt'"),
        ({"text": None}, "None"),
        ({"text": "a", "text_pair": 4}, "4"),
        ([{"text": "a"}, {"text_pair": "b"}], "input 1"),
        ([["a", "b"]], r"input 0 is \['a', 'b'\]"),
        (["good", "half a \ud800 character"], "input 1 .* surrogate"),
        (b"a film", "decode"),
        (np.array("a film"), "ndarray"),
        (pandas.DataFrame({"text": TEXTS, "label": [1, 0, 1]}), r"'text', 'label'"),
        (datasets.Dataset.from_dict({"text": TEXTS}).with_format("numpy")[0:0], "text"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_wrong_inputs_are_shown_with_their_number(given, shown, num_samples, small):
    with pytest.raises((TypeError, ValueError), match=shown):
        small(given, num_samples=num_samples)


def test_dict_with_unknown_key_raises_except_with_zero_samples(small, small_stock):
    given = {"text": "a", "pair": "b"}
    with pytest.raises(ValueError, match="text_pair"):
        small(given)
    assert small(given, num_samples=0) == small_stock(given)


def test_errors_number_the_items_of_a_stream_from_its_start(small, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 2)
    with pytest.raises(ValueError, match="input 3 is None"):
        list(small((text for text in [*TEXTS, None]), num_samples=1))


@pytest.mark.parametrize("wrong", ["num_sample", "nsamples", "truncate", "topk", "seeds", "maxlength"])
def test_unknown_option_raises_with_the_closest_match(wrong, small):
    nearest = {"num_sample": "num_samples", "nsamples": "num_samples", "truncate": "truncation", "topk": "top_k",
               "seeds": "seed", "maxlength": "max_length"}[wrong]  # fmt: skip
    made = functools.partial(pipeline, TASK, model=small.model, tokenizer=small.tokenizer)
    calls = [functools.partial(one, TEXTS) for one in (small, small.predict_proba)]
    for call in (*calls, functools.partial(small, TEXTS, num_samples=0), made):
        with pytest.raises(TypeError, match=f"'{wrong}'.*'{nearest}'"):
            call(**{wrong: 3})


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 6, "truncation": True},
        {"max_length": 6},
        {"truncation": "longest_first"},
        {"truncation": "only_first", "max_length": 6},
        {"padding": "max_length", "max_length": 12},
        {"padding": "max_length"},
        {"padding": True},
        {"padding": "longest"},
        {"padding": False},
        {"padding": "do_not_pad"},
        {"pad_to_multiple_of": 8},
        {"padding_side": "left"},
        {"add_special_tokens": False},
        {"return_token_type_ids": False},
        {"return_attention_mask": False},
        {"text_pair": "No."},
        {"verbose": False},
    ],
    ids=str,
)
def test_tokenizer_arguments_are_accepted(options, small, small_stock):
    found = small(TEXTS, **options)
    assert len(found) == 3
    assert_close(found, [small(text, **options)[0] for text in TEXTS])
    # Without max_length, the stock pipeline pads to the tokenizer's 512, which is too long for this model.
    if options != {"padding": "max_length"}:
        assert small(TEXTS[0], num_samples=0, **options) == small_stock(TEXTS[0], **options)
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, **options)
    assert_close(made(TEXTS), found)


@pytest.mark.parametrize("option", [{"add_special_tokens": False}, {"max_length": 5}, {"text_pair": "No."}], ids=str)
def test_tokenizer_arguments_have_an_effect(option, small):
    assert np.abs(small.predict_proba(TEXTS, **option) - small.predict_proba(TEXTS)).max() > 1e-3


@pytest.mark.parametrize(
    "option", ["return_tensors", "return_overflowing_tokens", "is_split_into_words", "text_target"]
)
def test_tokenizer_arguments_set_by_the_pipeline_raise(option, small):
    with pytest.raises(TypeError, match=option):
        small(TEXTS, **{option: True})


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"num_samples": -1}, "-1"),
        ({"num_samples": True}, "True"),
        ({"num_samples": 1.5}, r"1\.5"),
        ({"num_samples": "20"}, "'20'"),
        ({"num_samples": None}, "None"),
        ({"masks": "x"}, "'x'.*'balanced'.*'bernoulli'"),
        ({"masks": None}, "None"),
        ({"seed": 0.5}, r"0\.5"),
        ({"seed": None}, "None"),
        ({"function_to_apply": "argmax"}, "'argmax'.*'softmax'"),
        ({"function_to_apply": 5}, "5"),
    ],
    ids=str,
)
def test_options_out_of_range_raise(options, shown, small):
    with pytest.raises(ValueError, match=shown):
        small(TEXTS, **options)
    with pytest.raises(ValueError, match=shown):
        pipeline(TASK, model=small.model, tokenizer=small.tokenizer, **options)


@pytest.mark.parametrize("batch_size", [0, -1, True, 2.0, "a"])
@pytest.mark.parametrize("num_samples", [2, 0])
def test_batch_size_out_of_range_raises(batch_size, num_samples, small):
    with pytest.raises(ValueError, match=f"batch_size={batch_size!r}"):
        small(TEXTS, batch_size=batch_size, num_samples=num_samples)
    with pytest.raises(ValueError, match=f"batch_size={batch_size!r}"):
        small.predict_proba(TEXTS, batch_size=batch_size)
    with pytest.raises(ValueError, match=f"batch_size={batch_size!r}"):
        pipeline(TASK, model=small.model, tokenizer=small.tokenizer, batch_size=batch_size)


@pytest.mark.parametrize(
    ("call", "kind", "shown"),
    [
        (lambda ours: ours((text for text in TEXTS), num_sample=3), TypeError, "num_sample"),  # before the first text
        (lambda ours: ours(TEXTS, pad_to_multiple_of=0), ValueError, "pad_to_multiple_of=0"),
        (lambda ours: ours.sample_proba(TEXTS, num_samples=0), ValueError, "num_samples=0"),
        (lambda ours: ours.sample_proba(TEXTS, top_k=2), TypeError, "top_k"),
        (lambda ours: ours.predict_proba(TEXTS, top_k=2), TypeError, "top_k"),
        *(
            (lambda ours, first=first: ours.sample_proba(TEXTS, first_sample=first), ValueError, "first_sample")
            for first in (-5, 1.5, "a", True)
        ),
    ],
)
def test_calls_that_cannot_be_answered_raise(call, kind, shown, small):
    with pytest.raises(kind, match=shown):
        call(small)


@pytest.mark.parametrize("option", ["return_offsets_mapping", "return_special_tokens_mask", "return_length"])
def test_extra_tokenizer_outputs_are_ignored(option, small):
    assert_close(small(TEXTS, **{option: True}), small(TEXTS))


def test_numpy_integers_are_accepted(small):
    """For example from `for seed in np.arange(3)`."""
    found = small(TEXTS, num_samples=np.int64(3), seed=np.int32(4))
    assert found == small(TEXTS, num_samples=3, seed=4)
    assert type(found[0]["num_samples"]) is int


def test_model_without_dropout_raises_at_the_first_sampled_call(tiny, bayesian, tokenizer):
    model = tiny("llama", attention_dropout=0.0, pad_token_id=0)
    model.config._name_or_path = "somebody/llama"
    with pytest.raises(ValueError, match=r"somebody/llama.*LlamaForSequenceClassification.*num_samples=0"):
        bayesian(model)(TEXTS)
    ours = bayesian(model, num_samples=0)
    assert ours(TEXTS) == pipeline("text-classification", model=model, tokenizer=tokenizer)(TEXTS)
    assert ours.dropout_sites == []
    assert ours.predict_proba(TEXTS).shape == (3, 2)
    with pytest.raises(ValueError, match="no active dropout"):
        ours(TEXTS, num_samples=5)


@pytest.mark.parametrize("method", ["predict_proba", "sample_proba", "calibrate"])
def test_threshold_raises_for_arrays_and_names_the_alternative(method, small):
    labels = ([0] * len(TEXTS),) if method == "calibrate" else ()
    with pytest.raises(TypeError, match=r"'threshold'.*classifier\(texts, threshold=0\.5\)"):
        getattr(small, method)(TEXTS, *labels, threshold=0.5)
