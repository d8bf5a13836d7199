import copy
import itertools
import json
import pickle
import threading
import warnings

import datasets
import numpy as np
import pandas
import pytest
import torch
from bayesian_text_classification import BayesianTextClassificationPipeline
from bayesian_text_classification import pipeline as module
from bayesian_text_classification.batching import TokenBudget
from transformers import AutoTokenizer, PreTrainedTokenizerFast, pipeline
from transformers.pipelines.pt_utils import KeyDataset, KeyPairDataset

TASK = "bayesian-text-classification"
TEXTS = ["A wonderful film.", "Dull, and far too long for what little it has to say.", "It was fine, I suppose."]
PAIRS = [{"text": "A film.", "text_pair": "It was good."}, {"text": "Another film.", "text_pair": "No."}]
KEYS = ["label", "score", "score_std", "standard_error", "predictive_entropy", "expected_entropy", "mutual_information",
        "num_samples", "truncated"]  # fmt: skip
ROWS = datasets.Dataset.from_dict({"text": TEXTS, "other": ["so", "and", "so"]})


def numbers(results):
    """All results flattened to (label, numbers), to compare with a tolerance."""
    if isinstance(results, dict):
        values = [results.get(key) for key in KEYS[1:-1]]
        return [(results["label"], [np.nan if value is None else value for value in values])]
    return [entry for result in results for entry in numbers(result)]


def assert_close(a, b, atol=1e-5):
    a, b = numbers(a), numbers(b)
    assert [label for label, _ in a] == [label for label, _ in b]
    np.testing.assert_allclose([v for _, v in a], [v for _, v in b], rtol=0, atol=atol)


@pytest.fixture(scope="module")
def small(tiny, tokenizer):
    """A tiny BERT with three classes in our pipeline: for all that does not ask what the model says."""
    model = tiny(
        "bert", num_labels=3, id2label={0: "bad", 1: "fine", 2: "good"}, label2id={"bad": 0, "fine": 1, "good": 2}
    )
    return pipeline(TASK, model=model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def small_stock(small):
    """Transformers' pipeline on the same model."""
    return pipeline("text-classification", model=small.model, tokenizer=small.tokenizer)


# --- inputs and shapes ----------------------------------------------------------------------------------------------

EAGER = {
    "list": (TEXTS, TEXTS),
    "one": (TEXTS[:1], TEXTS[:1]),
    "tuple": (tuple(TEXTS), TEXTS),
    "empty list": ([], []),
    "empty tuple": ((), []),
    "column": (ROWS["text"], TEXTS),
    "array": (np.array(TEXTS), TEXTS),
    "series": (pandas.Series(TEXTS, index=[5, 5, 1]), TEXTS),
    "list of pairs": (PAIRS, PAIRS),
    "mixed": ([TEXTS[0], PAIRS[0], {"text": TEXTS[1]}], [TEXTS[0], PAIRS[0], TEXTS[1]]),
    "old pairs": ([[["A film.", "It was good."]], [["Another film.", "No."]]], PAIRS),
}


class Lengthy(torch.utils.data.Dataset):
    """A torch Dataset that knows its length and does not raise IndexError."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return TEXTS[index % 3]


LAZY = {
    "generator": (lambda: (text for text in TEXTS), TEXTS),
    "map": (lambda: map(str, TEXTS), TEXTS),
    "iterator": (lambda: iter(TEXTS), TEXTS),
    "empty generator": (lambda: (text for text in []), []),
    "generator of pairs": (lambda: (pair for pair in PAIRS), PAIRS),
    "KeyDataset": (lambda: KeyDataset(ROWS, "text"), TEXTS),
    "KeyPairDataset": (
        lambda: KeyPairDataset(ROWS, "text", "other"),
        [{"text": a, "text_pair": b} for a, b in zip(TEXTS, ["so", "and", "so"], strict=True)],
    ),
    "torch Dataset": (Lengthy, TEXTS),
    "datasets.Dataset": (lambda: ROWS.select_columns("text"), TEXTS),
    "IterableDataset": (lambda: ROWS.select_columns("text").to_iterable_dataset(), TEXTS),
}


@pytest.mark.parametrize("name", EAGER)
def test_lists_give_lists(name, small):
    given, items = EAGER[name]
    found = small(given)
    assert type(found) is list and len(found) == len(items)
    expected = [small(item)[0] if isinstance(item, str) else small(item) for item in items]
    assert_close(found, expected)
    assert all(list(result) == KEYS for result in found)


@pytest.mark.parametrize("name", LAZY)
def test_generators_and_datasets_give_lazy_iterators(name, small):
    make, items = LAZY[name]
    found = small(make())
    assert not isinstance(found, list)
    # A dataset that never ends would hang: one more than there are.
    assert_close(list(itertools.islice(found, len(items) + 1)), small(items))


@pytest.mark.parametrize("name", ["KeyDataset", "torch Dataset", "datasets.Dataset"])
def test_results_of_a_dataset_have_its_length_and_can_be_read_again(name, small, small_stock):
    """As in stock: tqdm knows the total."""
    found = small(LAZY[name][0]())
    assert len(found) == 3
    assert list(found) == list(found) != []


def test_an_endless_generator_gives_its_first_answer(small):
    found = small((f"film {i}" for i in itertools.count()), num_samples=1)
    assert next(iter(found))["num_samples"] == 1


def test_a_generator_is_read_no_further_than_a_window(small, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 4)
    numbers = itertools.count()
    found = iter(small((f"film {i}" for i in numbers), num_samples=1))
    assert next(numbers) == 0  # nothing is read before the first answer is asked for
    next(found)
    assert next(numbers) <= 5


@pytest.mark.parametrize("window", [1, 2, 3])
def test_the_window_does_not_change_answers(small, monkeypatch, window):
    expected = small(TEXTS)
    monkeypatch.setattr(module, "WINDOW", window)
    assert_close(small(TEXTS), expected)
    assert_close(list(small(text for text in TEXTS)), expected)


def test_a_string_gives_a_list_and_a_pair_a_dict_as_in_stock(small, small_stock):
    for item in (TEXTS[0], PAIRS[0], {"text": TEXTS[0]}):
        assert type(small(item)) is type(small_stock(item))
    assert list(small(TEXTS[0])[0]) == list(small(PAIRS[0])) == KEYS


def shape(results):
    return [shape(result) for result in results] if isinstance(results, list) else "dict"


@pytest.mark.parametrize("at", ["construction", "call"])
@pytest.mark.parametrize("top_k", [1, 2, 3, 10, None])
@pytest.mark.parametrize("given", [TEXTS[0], TEXTS, PAIRS[0], PAIRS, []], ids=["str", "list", "pair", "pairs", "none"])
def test_top_k_gives_the_shapes_of_stock(at, top_k, given, small):
    made, call = ({"top_k": top_k}, {}) if at == "construction" else ({}, {"top_k": top_k})
    ours = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, num_samples=2, **made)
    stock = pipeline("text-classification", model=small.model, tokenizer=small.tokenizer, **made)
    expected = stock(given, **call) if given != [] else []  # stock raises IndexError
    assert shape(ours(given, **call)) == shape(expected)
    assert shape(ours(given, num_samples=0, **call)) == shape(expected)


def test_all_scores_of_a_text_sum_to_one_and_are_sorted(classifier):
    for result in classifier(TEXTS, top_k=None, num_samples=3):
        scores = [entry["score"] for entry in result]
        assert sum(scores) == pytest.approx(1, abs=1e-6)
        assert scores == sorted(scores, reverse=True)
        assert {entry["label"] for entry in result} == {"POSITIVE", "NEGATIVE"}


def test_with_top_k_each_label_has_its_own_score_and_spread_and_the_keys_of_the_text(small):
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


# --- what the numbers are -------------------------------------------------------------------------------------------


def test_sample_proba_has_baals_order(small):
    samples = small.sample_proba(TEXTS, num_samples=7)
    assert samples.shape == (3, 3, 7) and samples.dtype == np.float32
    np.testing.assert_allclose(samples.sum(1), 1, atol=1e-5)
    mean = small.predict_proba(TEXTS, num_samples=7)
    assert mean.shape == (3, 3) and mean.dtype == np.float32
    np.testing.assert_allclose(samples.mean(2), mean, atol=1e-6)


def test_the_score_is_the_largest_mean_probability(small):
    mean = small.predict_proba(TEXTS)
    for result, row in zip(small(TEXTS), mean, strict=True):
        assert result["score"] == pytest.approx(row.max(), abs=1e-6)
        assert result["label"] == small.model.config.id2label[int(row.argmax())]


def test_probabilities_are_averaged_not_logits(small):
    samples = small.sample_proba(TEXTS, num_samples=20, function_to_apply="none").astype(float)
    exp = np.exp(samples)
    expected = (exp / exp.sum(1, keepdims=True)).mean(2)
    np.testing.assert_allclose(small.predict_proba(TEXTS, num_samples=20), expected, atol=1e-6)
    logits = np.exp(samples.mean(2))
    assert np.abs(expected - logits / logits.sum(1, keepdims=True)).max() > 1e-3


def test_the_uncertainty_is_that_of_the_samples(small):
    from scipy import stats

    samples = small.sample_proba(TEXTS).astype(float)
    for result, p in zip(small(TEXTS), samples, strict=True):
        assert result["predictive_entropy"] == pytest.approx(stats.entropy(p.mean(1)), abs=1e-6)
        assert result["expected_entropy"] == pytest.approx(stats.entropy(p).mean(), abs=1e-6)
        total = result["expected_entropy"] + result["mutual_information"]
        assert result["predictive_entropy"] == pytest.approx(total, abs=1e-12)
        assert result["mutual_information"] > 0
        assert result["score_std"] == pytest.approx(p[p.mean(1).argmax()].std(), abs=1e-6)


def test_one_sample_has_no_standard_error_and_no_model_uncertainty(small):
    (result,) = small(TEXTS[0], num_samples=1)
    assert result["standard_error"] is None
    assert (result["mutual_information"], result["score_std"]) == (pytest.approx(0, abs=1e-12), 0.0)


def test_more_samples_begin_with_the_fewer_ones(small):
    whole = small.sample_proba(TEXTS, num_samples=25)
    np.testing.assert_allclose(small.sample_proba(TEXTS, num_samples=13), whole[..., :13], atol=1e-5)
    later = small.sample_proba(TEXTS, num_samples=8, first_sample=13)
    np.testing.assert_allclose(later, whole[..., 13:21], atol=1e-5)


def test_a_string_is_one_text_for_arrays_too(small):
    """Not a sequence of letters."""
    for method in (small.sample_proba, small.predict_proba):
        np.testing.assert_allclose(method(TEXTS[0]), method(TEXTS[:1]), atol=1e-5)


@pytest.mark.parametrize("given", [[], ()])
def test_no_texts_give_empty_arrays(given, small):
    assert small.sample_proba(given, num_samples=4).shape == (0, 3, 4)
    assert small.predict_proba(given).shape == (0, 3)


def test_arrays_take_streams_and_pairs(small):
    np.testing.assert_allclose(small.predict_proba(t for t in TEXTS), small.predict_proba(TEXTS), atol=1e-5)
    np.testing.assert_allclose(small.predict_proba(KeyDataset(ROWS, "text")), small.predict_proba(TEXTS), atol=1e-5)
    assert small.predict_proba(PAIRS).shape == (2, 3)


def test_predict_proba_without_samples_is_the_model_itself(small, small_stock):
    expected = [{e["label"]: e["score"] for e in result} for result in small_stock(TEXTS, top_k=None)]
    found = small.predict_proba(TEXTS, num_samples=0)
    np.testing.assert_allclose(found, [[row[name] for name in ("bad", "fine", "good")] for row in expected], atol=1e-6)


def test_progress_hears_of_every_pass(small):
    heard = []
    small.sample_proba(TEXTS, num_samples=5, batch_size=2, progress=heard.append)
    assert sum(heard) == 15 and len(heard) == 2


def test_seeds_differ_and_repeat(small):
    a, b = small.sample_proba(TEXTS, seed=1), small.sample_proba(TEXTS, seed=2)
    assert np.abs(a - b).max() > 1e-2
    np.testing.assert_array_equal(a, small.sample_proba(TEXTS, seed=1))
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, seed=1)
    np.testing.assert_array_equal(a, made.sample_proba(TEXTS))


def test_masks_are_chosen_at_construction_or_call(small):
    bernoulli = small.sample_proba(TEXTS, masks="bernoulli")
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, masks="bernoulli")
    np.testing.assert_array_equal(made.sample_proba(TEXTS), bernoulli)
    assert np.abs(bernoulli - small.sample_proba(TEXTS, masks="balanced")).max() > 1e-2


@pytest.mark.parametrize("masks", ["balanced", "bernoulli"])
def test_the_standard_error_is_the_distance_to_many_samples(masks, small):
    """Over 60 seeds the z-scores of the mean have a spread of about one."""
    truth = small.predict_proba(TEXTS[:1], num_samples=4000, masks="balanced", seed=10**6)[0].max()
    z = [(r["score"] - truth) / r["standard_error"]
         for seed in range(60) for r in small(TEXTS[:1], seed=seed, masks=masks, num_samples=20)]  # fmt: skip
    assert 0.6 < np.sqrt(np.mean(np.square(z))) < 1.4


# --- stopping early -------------------------------------------------------------------------------------------------


def test_a_text_is_sampled_until_its_standard_error_is_below_the_tolerance(small):
    """The answer is that of a call with the number of samples that the text turned out to need."""
    options = {"num_samples": 60, "tolerance": 0.03}
    results = small(MANY, **options)
    counts = [result["num_samples"] for result in results]
    looks = [4, 10, 20, 30, 40, 50, 60]
    assert len(set(counts)) > 1
    assert all(type(count) is int and count in looks for count in counts)
    for text, result in zip(MANY, results, strict=True):
        count = result["num_samples"]
        assert_close(small([text], num_samples=count), [result])
        assert result["standard_error"] < 0.03 or count == 60
        for earlier in looks[: looks.index(count)]:
            bound = 0.03 / 4 if earlier == 4 else 0.03
            assert small([text], num_samples=earlier)[0]["standard_error"] >= bound
    np.testing.assert_allclose(
        small.predict_proba(MANY, **options).max(1), [result["score"] for result in results], atol=1e-6
    )


def test_a_tolerance_stops_each_text_alone_as_in_a_batch(small):
    options = {"num_samples": 60, "tolerance": 0.03, "top_k": None}
    together = small(MANY, **options)
    assert_close(together, small(MANY[::-1], **options, batch_size=2)[::-1])
    assert_close(together, [small([text], **options)[0] for text in MANY])
    assert [r[0]["num_samples"] for r in together] == [small(text, **options)[0]["num_samples"] for text in MANY]
    assert_close(together, list(small((text for text in MANY), **options)))


def test_a_tolerance_is_given_at_construction_or_call(small):
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, num_samples=60, tolerance=0.03)
    assert made(TEXTS) == small(TEXTS, num_samples=60, tolerance=0.03)
    assert made(TEXTS, tolerance=None) == small(TEXTS, num_samples=60)
    assert [result["num_samples"] for result in made(TEXTS, tolerance=1e-9)] == [60] * 3
    assert [result["num_samples"] for result in made(TEXTS, tolerance=1e9)] == [4] * 3, "never zero samples"
    assert made(TEXTS, num_samples=1) == small(TEXTS, num_samples=1)
    assert made(TEXTS, num_samples=0) == small(TEXTS, num_samples=0)


def test_raw_outputs_stop_at_the_error_that_they_report(small):
    for result in small(MANY, function_to_apply="none", num_samples=60, tolerance=0.2):
        assert result["standard_error"] < 0.2 or result["num_samples"] == 60


def test_every_label_of_a_multi_label_model_is_sure_enough(tiny, bayesian):
    ours = bayesian(tiny("bert", num_labels=3, problem_type="multi_label_classification"), num_samples=60)
    for result in ours(MANY, tolerance=0.05, top_k=None):
        assert max(entry["standard_error"] for entry in result) < 0.05 or result[0]["num_samples"] == 60


def test_all_samples_of_every_text_have_no_tolerance(small):
    with pytest.raises(TypeError, match="tolerance"):
        small.sample_proba(TEXTS, tolerance=0.1)
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, num_samples=7, tolerance=1e9)
    assert made.sample_proba(TEXTS).shape == (3, 3, 7)


def test_a_batch_that_does_not_fit_into_memory_is_halved(small, monkeypatch):
    """Also where only some answers are left to sample."""
    expected = small(MANY, num_samples=60, tolerance=0.03)
    original, sizes = module.StochasticTwin.sample_logits, []

    def with_little_memory(self, inputs, samples, **options):
        rows = inputs["input_ids"].numel() * len(samples)
        sizes.append(rows)
        if rows > 200:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(self, inputs, samples, **options)

    monkeypatch.setattr(module.StochasticTwin, "sample_logits", with_little_memory)
    monkeypatch.setitem(small._budgets, "cpu", TokenBudget(2048))
    assert_close(small(MANY, num_samples=60, tolerance=0.03), expected)
    assert small._budgets["cpu"].tokens <= 200 and max(sizes) > 200
    sizes.clear()
    small(MANY)
    assert max(sizes) <= 200, "what did not fit once is tried again"


# --- other kinds of models ------------------------------------------------------------------------------------------


def test_multi_label(tiny, bayesian):
    from scipy import stats

    ours = bayesian(tiny("bert", num_labels=3, problem_type="multi_label_classification"))
    samples = ours.sample_proba(TEXTS)
    raw = ours.sample_proba(TEXTS, function_to_apply="none")
    np.testing.assert_allclose(samples, 1 / (1 + np.exp(-raw)), atol=1e-6)
    for result, p in zip(ours(TEXTS, top_k=None), samples.astype(float), strict=True):
        assert len({entry["predictive_entropy"] for entry in result}) == 3
        for entry in result:
            q = p[ours.model.config.label2id[entry["label"]]]
            both = np.stack([q, 1 - q])
            assert entry["score"] == pytest.approx(q.mean(), abs=1e-6)
            assert entry["predictive_entropy"] == pytest.approx(stats.entropy(both.mean(1)), abs=1e-5)
            assert entry["expected_entropy"] == pytest.approx(stats.entropy(both).mean(), abs=1e-5)


def test_regression(tiny, bayesian):
    ours = bayesian(tiny("bert", num_labels=1, problem_type="regression"))
    samples = ours.sample_proba(TEXTS).astype(float)
    assert samples.shape == (3, 1, 20)
    for result, x in zip(ours(TEXTS), samples, strict=True):
        assert result["score"] == pytest.approx(x.mean(), abs=1e-6)
        assert result["score_std"] == pytest.approx(x.std(), abs=1e-6)
        assert result["predictive_entropy"] is result["expected_entropy"] is result["mutual_information"] is None


def test_one_logit_is_a_sigmoid(tiny, bayesian):
    from scipy import stats

    ours = bayesian(tiny("bert", num_labels=1))
    raw = ours.sample_proba(TEXTS, function_to_apply="none").astype(float)
    assert raw.std() > 0.01
    expected = (1 / (1 + np.exp(-raw))).mean(2)[:, 0]
    for result, score in zip(ours(TEXTS), expected, strict=True):
        assert result["score"] == pytest.approx(score, abs=1e-6)
        assert result["predictive_entropy"] == pytest.approx(stats.entropy([score, 1 - score]), abs=1e-5)


@pytest.mark.parametrize("at", ["construction", "call"])
def test_function_to_apply(at, small):
    def scores(name):
        if at == "call":
            return small.sample_proba(TEXTS, function_to_apply=name)
        made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, function_to_apply=name)
        return made.sample_proba(TEXTS)

    raw = scores("none").astype(float)
    assert raw.min() < 0 or raw.max() > 1
    np.testing.assert_allclose(scores("sigmoid"), 1 / (1 + np.exp(-raw)), atol=1e-6)
    np.testing.assert_allclose(scores("SOFTMAX"), np.exp(raw) / np.exp(raw).sum(1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(scores("default"), small.sample_proba(TEXTS))
    np.testing.assert_array_equal(scores(None), small.sample_proba(TEXTS))


def test_raw_outputs_are_averaged_and_have_no_entropy(small):
    raw = small.sample_proba(TEXTS, function_to_apply="none").astype(float).mean(2)
    for result, row in zip(small(TEXTS, function_to_apply="none"), raw, strict=True):
        assert result["score"] == pytest.approx(row.max(), abs=1e-5)
        assert result["predictive_entropy"] is None


def test_default_at_a_call_is_the_rule_of_the_model_again(small):
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, function_to_apply="none")
    np.testing.assert_array_equal(made.sample_proba(TEXTS, function_to_apply="default"), small.sample_proba(TEXTS))


# --- zero samples = the stock pipeline ------------------------------------------------------------------------------

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
def test_zero_samples_are_the_stock_pipeline_to_the_bit(form, options, small, small_stock):
    ours, expected = small(FORMS[form](), num_samples=0, **options), small_stock(FORMS[form](), **options)
    if form in ("generator", "KeyDataset", "KeyPairDataset"):
        assert not isinstance(ours, list)
        ours, expected = list(ours), list(expected)
    assert ours == expected


@pytest.mark.parametrize("given", [TEXTS[0], TEXTS], ids=["str", "list"])
def test_the_embedded_model_without_samples_is_stock_to_the_bit(given, classifier, stock):
    """In the caller's float16, too."""
    assert classifier(given, num_samples=0) == stock(given)
    assert classifier(given, num_samples=0, top_k=None) == stock(given, top_k=None)


@pytest.mark.parametrize("form", ["tuple", "empty list", "column", "map", "iterator"])
def test_zero_samples_take_what_stock_does_not(form, small, small_stock):
    given, items = EAGER[form] if form in EAGER else (LAZY[form][0](), LAZY[form][1])
    assert list(small(given, num_samples=0)) == (small_stock(items) if items else [])


def test_constructed_with_zero_samples_it_is_stock_and_never_probes(small, small_stock, monkeypatch):
    monkeypatch.setattr(module, "StochasticTwin", None)
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, num_samples=0, top_k=2, batch_size=2)
    assert made(TEXTS) == small_stock(TEXTS, top_k=2, batch_size=2)


@pytest.mark.parametrize("settings", [{"problem_type": "multi_label_classification"}, {"num_labels": 1},
                                      {"num_labels": 1, "problem_type": "regression"}], ids=str)  # fmt: skip
def test_zero_samples_are_stock_for_other_kinds_of_models(settings, tiny, bayesian, tokenizer):
    model = tiny("bert", **settings)
    stock = pipeline("text-classification", model=model, tokenizer=tokenizer)
    assert bayesian(model)(TEXTS, num_samples=0, top_k=None) == stock(TEXTS, top_k=None)


def test_with_samples_the_labels_and_order_are_those_of_stock(tiny, tokenizer):
    """With dropout so small that it cannot matter, the scores are stock's as well."""
    model = tiny("bert", num_labels=3, hidden_dropout_prob=1e-7, attention_probs_dropout_prob=1e-7)
    ours, stock = (
        pipeline(task, model=model, tokenizer=tokenizer, top_k=None) for task in (TASK, "text-classification")
    )
    for ours_, stock_ in zip(ours(TEXTS + PAIRS), stock(TEXTS + PAIRS), strict=True):
        assert [entry["label"] for entry in ours_] == [entry["label"] for entry in stock_]
        np.testing.assert_allclose([e["score"] for e in ours_], [e["score"] for e in stock_], atol=1e-5)


# --- errors ---------------------------------------------------------------------------------------------------------


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
def test_wrong_inputs_are_shown_and_numbered(given, shown, num_samples, small):
    with pytest.raises((TypeError, ValueError), match=shown):
        small(given, num_samples=num_samples)


def test_a_dict_with_another_key_is_refused_unless_stock_answers(small, small_stock):
    given = {"text": "a", "pair": "b"}
    with pytest.raises(ValueError, match="text_pair"):
        small(given)
    assert small(given, num_samples=0) == small_stock(given)


def test_a_wrong_item_of_a_stream_is_numbered_from_the_start(small, monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 2)
    with pytest.raises(ValueError, match="input 3 is None"):
        list(small((text for text in [*TEXTS, None]), num_samples=1))


@pytest.mark.parametrize("wrong", ["num_sample", "nsamples", "truncate", "topk", "seeds", "maxlength"])
def test_an_unknown_option_is_named_with_the_nearest_legal_one(wrong, small):
    nearest = {"num_sample": "num_samples", "nsamples": "num_samples", "truncate": "truncation", "topk": "top_k",
               "seeds": "seed", "maxlength": "max_length"}[wrong]  # fmt: skip
    match = f"'{wrong}'.*'{nearest}'"
    with pytest.raises(TypeError, match=match):
        small(TEXTS, **{wrong: 3})
    with pytest.raises(TypeError, match=match):
        small(TEXTS, num_samples=0, **{wrong: 3})
    with pytest.raises(TypeError, match=match):
        small.predict_proba(TEXTS, **{wrong: 3})
    with pytest.raises(TypeError, match=match):
        pipeline(TASK, model=small.model, tokenizer=small.tokenizer, **{wrong: 3})


def test_an_unknown_option_of_a_stream_is_refused_at_once(small):
    with pytest.raises(TypeError, match="num_sample"):
        small((text for text in TEXTS), num_sample=3)


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
def test_arguments_of_the_tokenizer_stay_legal(options, small, small_stock):
    found = small(TEXTS, **options)
    assert len(found) == 3
    assert_close(found, [small(text, **options)[0] for text in TEXTS])
    # Stock pads to the tokenizer's 512, which this model does not take, where no length is given.
    if options != {"padding": "max_length"}:
        assert small(TEXTS[0], num_samples=0, **options) == small_stock(TEXTS[0], **options)
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, **options)
    assert_close(made(TEXTS), found)


@pytest.mark.parametrize("option", [{"add_special_tokens": False}, {"max_length": 5}, {"text_pair": "No."}], ids=str)
def test_arguments_of_the_tokenizer_have_an_effect(option, small):
    assert np.abs(small.predict_proba(TEXTS, **option) - small.predict_proba(TEXTS)).max() > 1e-3


@pytest.mark.parametrize(
    "option", ["return_tensors", "return_overflowing_tokens", "is_split_into_words", "text_target"]
)
def test_arguments_that_the_pipeline_owns_are_refused(option, small):
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
def test_options_out_of_range_are_shown(options, shown, small):
    with pytest.raises(ValueError, match=shown):
        small(TEXTS, **options)
    with pytest.raises(ValueError, match=shown):
        pipeline(TASK, model=small.model, tokenizer=small.tokenizer, **options)


@pytest.mark.parametrize("batch_size", [0, -1, True, 2.0, "a"])
@pytest.mark.parametrize("num_samples", [2, 0])
def test_a_batch_size_out_of_range_is_shown(batch_size, num_samples, small):
    with pytest.raises(ValueError, match=f"batch_size={batch_size!r}"):
        small(TEXTS, batch_size=batch_size, num_samples=num_samples)
    with pytest.raises(ValueError, match=f"batch_size={batch_size!r}"):
        small.predict_proba(TEXTS, batch_size=batch_size)
    with pytest.raises(ValueError, match=f"batch_size={batch_size!r}"):
        pipeline(TASK, model=small.model, tokenizer=small.tokenizer, batch_size=batch_size)


@pytest.mark.parametrize("first_sample", [-5, 1.5, "a", True])
def test_a_first_sample_out_of_range_is_shown(first_sample, small):
    with pytest.raises(ValueError, match="first_sample"):
        small.sample_proba(TEXTS, first_sample=first_sample)


def test_arrays_hold_every_class(small):
    for method in (small.sample_proba, small.predict_proba):
        with pytest.raises(TypeError, match="top_k"):
            method(TEXTS, top_k=2)


@pytest.mark.parametrize("option", ["return_offsets_mapping", "return_special_tokens_mask", "return_length"])
def test_what_is_no_input_of_the_model_is_left_out(option, small):
    assert_close(small(TEXTS, **{option: True}), small(TEXTS))


def test_padding_to_a_multiple_of_nothing_is_refused(small):
    with pytest.raises(ValueError, match="pad_to_multiple_of=0"):
        small(TEXTS, pad_to_multiple_of=0)


def test_numpys_integers_are_integers(small):
    """`for seed in np.arange(3)`."""
    found = small(TEXTS, num_samples=np.int64(3), seed=np.int32(4))
    assert found == small(TEXTS, num_samples=3, seed=4)
    assert type(found[0]["num_samples"]) is int


def test_zero_samples_have_no_samples_to_give(small):
    with pytest.raises(ValueError, match="num_samples=0"):
        small.sample_proba(TEXTS, num_samples=0)


def test_a_model_without_dropout_is_refused_at_construction(tiny, bayesian, tokenizer):
    model = tiny("llama", attention_dropout=0.0, pad_token_id=0)
    model.config._name_or_path = "somebody/llama"
    with pytest.raises(ValueError, match=r"somebody/llama.*LlamaForSequenceClassification.*num_samples=0"):
        bayesian(model)
    ours = bayesian(model, num_samples=0)
    assert ours(TEXTS) == pipeline("text-classification", model=model, tokenizer=tokenizer)(TEXTS)
    assert ours.dropout_sites == []
    assert ours.predict_proba(TEXTS).shape == (3, 2)
    with pytest.raises(ValueError, match="no active dropout"):
        ours(TEXTS, num_samples=5)


# --- length ---------------------------------------------------------------------------------------------------------


def of_length(tokens):
    """A text of so many tokens, with [CLS] and [SEP]."""
    return " ".join(["film"] * (tokens - 2))


def test_truncated_says_so_from_one_token_over_the_limit(small):
    """The limit is the smaller of the tokenizer's (512) and the model's (64)."""
    found = small([of_length(n) for n in (63, 64, 65, 600)], num_samples=2)
    assert [result["truncated"] for result in found] == [False, False, True, True]
    assert_close(found[1:2], found[2:3])


def test_truncated_at_the_embedded_models_limit(classifier):
    found = classifier([of_length(512), of_length(513), "good"], num_samples=1)
    assert [result["truncated"] for result in found] == [False, True, False]


def test_truncated_follows_the_callers_length(small):
    found = small([of_length(6), of_length(7)], max_length=6)
    assert [result["truncated"] for result in found] == [False, True]


def test_a_pair_is_truncated_as_a_whole(small):
    fits, over = ({"text": of_length(20), "text_pair": " ".join(["long"] * n)} for n in (43, 44))
    assert [r["truncated"] for r in small([fits, over], num_samples=2)] == [False, True]
    assert [r["truncated"] for r in small([fits, over, "alone"], num_samples=2)] == [False, True, False]


def test_a_max_length_over_the_models_limit_does_not_crash(small):
    (result,) = small(of_length(100), max_length=10_000, num_samples=2)
    assert result["truncated"] is True


def test_truncation_gives_no_warning_about_length(small, caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(of_length(600), num_samples=1)
    assert "longer than" not in caplog.text


def test_truncation_leaves_the_tokenizer_as_it_was(small):
    before = small.tokenizer._tokenizer.truncation, small.tokenizer._tokenizer.padding
    small([of_length(600), "good"], num_samples=1)
    assert len(small.tokenizer(of_length(600))["input_ids"]) == 600
    assert before == (small.tokenizer._tokenizer.truncation, small.tokenizer._tokenizer.padding)


@pytest.fixture(scope="module")
def roberta_tokenizer():
    """As RoBERTa's: padding is token 1, and no limit is known."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<s>", "<pad>", "</s>", "<unk>", "film", "good", "bad", "a", "b", "c", "d", "e", "f", "g"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", sep_token="</s>",
                                   cls_token="<s>", unk_token="<unk>", pad_token="<pad>")  # fmt: skip


@pytest.mark.parametrize("architecture", ["roberta", "mpnet"])
def test_roberta_has_two_positions_fewer_than_it_says(architecture, tiny, roberta_tokenizer):
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


def test_an_empty_text_is_a_text(small):
    found = small(["", "good", ""])
    assert_close(found[:1], found[2:])


# --- the same answer everywhere -------------------------------------------------------------------------------------

MANY = [f"{word} film{' and so on' * i}" for i, word in enumerate(["a good", "a bad", "an odd", "no", "the last"] * 2)]


@pytest.mark.parametrize("masks", ["balanced", "bernoulli"])
def test_batch_size_and_order_do_not_change_answers(masks, small):
    expected = small(MANY, masks=masks)
    for batch_size in (1, 3, 8, 100):
        assert_close(small(MANY, batch_size=batch_size, masks=masks), expected)
    assert_close(small(MANY[::-1], masks=masks)[::-1], expected)
    assert_close([small(text, masks=masks)[0] for text in MANY], expected)


@pytest.mark.parametrize(
    "architecture",
    ["distilbert", "roberta", "bart", "albert", "mpnet", "deberta-v2", "t5", "xlnet", "fnet", "gpt2", "llama"],
)
def test_a_text_alone_is_the_text_in_a_batch(architecture, tiny, bayesian):
    ours = bayesian(tiny(architecture), num_samples=3)
    together = ours(MANY[:5])
    assert_close(together, [ours(text)[0] for text in MANY[:5]])
    assert len({round(result["score"], 6) for result in together}) == 5, "the model must tell these texts apart"


def test_batch_size_caps_the_texts_of_a_batch(small, monkeypatch):
    seen = []
    original = module.StochasticTwin.sample_logits

    def spy(self, inputs, samples, **options):
        seen.append(len(inputs["input_ids"]))
        return original(self, inputs, samples, **options)

    monkeypatch.setattr(module.StochasticTwin, "sample_logits", spy)
    monkeypatch.setitem(small._budgets, "cpu", TokenBudget(10**6))  # nothing else limits a batch
    small(MANY, batch_size=3)
    assert max(seen) <= 3 and sum(seen) == len(MANY)
    seen.clear()
    pipeline(TASK, model=small.model, tokenizer=small.tokenizer, batch_size=2)(MANY)
    assert max(seen) == 2
    seen.clear()
    small(MANY)
    assert seen == [len(MANY)]


def test_the_token_budget_does_not_change_answers(small, monkeypatch):
    expected = small(MANY)
    monkeypatch.setitem(small._budgets, "cpu", TokenBudget(64))
    assert_close(small(MANY), expected)


def test_another_process_gives_the_same_answer(classifier, python):
    code = """
import json, sys
from transformers import pipeline
import bayesian_text_classification
print(json.dumps(pipeline("bayesian-text-classification")(json.loads(sys.argv[1]), num_samples=7, seed=3)))
"""
    texts = [*TEXTS[::-1], "Another neighbour in the batch, and quite a long one at that."]
    other = json.loads(python(code, json.dumps(texts), OMP_NUM_THREADS="2"))
    assert_close(other[:3][::-1], classifier(TEXTS, num_samples=7, seed=3))


def test_left_padding_gives_the_same_answer(tiny, tokenizer, bayesian):
    ours = bayesian(tiny("llama", pad_token_id=0))
    assert_close(ours(TEXTS, padding_side="left"), ours(TEXTS, padding_side="right"))


def test_threads_give_the_answers_of_one_after_the_other(small):
    expected = [small(text, seed=i)[0] for i, text in enumerate(MANY)]
    found: list = [None] * len(MANY)

    def work(worker):
        for i in range(worker, len(MANY), 4):
            found[i] = small([MANY[i], of_length(5 + i)], seed=i)[0]

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_close(found, expected)


def test_the_global_random_state_stays(tiny, bayesian, same_random_state):
    model = tiny("bart")
    with same_random_state():
        ours = bayesian(model)
        ours(TEXTS)
        ours(TEXTS, masks="bernoulli", num_samples=3)
        ours.predict_proba(TEXTS)
        ours.predict_proba(TEXTS, num_samples=0)
        # Not ours(TEXTS, num_samples=0): stock's DataLoader draws a seed for its workers.


def test_a_global_seed_does_not_matter(small):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = small(TEXTS)
        torch.manual_seed(2)
        assert small(TEXTS) == first


# --- models as they come --------------------------------------------------------------------------------------------


def test_the_default_model_is_the_embedded_one(classifier, package):
    assert isinstance(classifier, BayesianTextClassificationPipeline)
    embedded = pipeline(TASK, model=str(package / "embedded" / "model"))
    assert_close(embedded("A good film.", num_samples=3), classifier("A good film.", num_samples=3))
    assert classifier("A wonderful film.", num_samples=3)[0]["label"] == "POSITIVE"


def test_an_instance_keeps_its_mode_and_weights(tiny, bayesian):
    model = tiny("bert").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    ours = bayesian(model)
    found = ours(TEXTS)
    assert ours.model is model
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert modes == [part.training for part in model.modules()]
    assert found == bayesian(model.eval())(TEXTS)


def test_zero_samples_of_an_instance_in_train_mode_repeat(tiny, bayesian, tokenizer):
    """Without dropout means without: not the one mask that the mode of the moment brings."""
    ours = bayesian(tiny("bert").train())
    stock = pipeline("text-classification", model=tiny("bert"), tokenizer=tokenizer)
    expected = [result["score"] for result in stock(TEXTS)]
    np.testing.assert_allclose(ours.predict_proba(TEXTS, num_samples=0).max(1), expected, atol=1e-6)


@pytest.mark.parametrize("change", ["p", "module", "dtype", "in place"])
def test_a_changed_model_gives_changed_answers(change, tiny, bayesian):
    model = tiny("bert")
    ours = bayesian(model)
    before = ours.sample_proba(TEXTS)
    if change == "p":
        model.dropout.p = 0.6
    elif change == "module":
        model.classifier = torch.nn.Linear(32, 2)
    elif change == "dtype":
        model.to(torch.float64)
    else:
        with torch.no_grad():
            model.classifier.weight.neg_()
    after = ours.sample_proba(TEXTS)
    np.testing.assert_array_equal(after, bayesian(model).sample_proba(TEXTS))
    difference = np.abs(after - before).max()
    assert difference < 1e-5 if change == "dtype" else difference > 1e-3


def spied_dtypes(ours, monkeypatch):
    seen = set()
    original = module.StochasticTwin.sample_logits

    def spy(self, *args, **options):
        logits = original(self, *args, **options)
        seen.add(logits.dtype)
        return logits

    monkeypatch.setattr(module.StochasticTwin, "sample_logits", spy)
    ours(TEXTS)
    return seen


@pytest.mark.parametrize("options", [{}, {"dtype": "auto"}, {"dtype": None}], ids=str)
def test_float16_runs_in_float32_on_a_cpu(options, tiny, bayesian, monkeypatch):
    model = tiny("bert").half()
    ours = bayesian(model, **options)
    assert spied_dtypes(ours, monkeypatch) == {torch.float32}
    assert model.dtype == ours.model.dtype == torch.float16


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16, "float16", torch.float64, "float32"])
@pytest.mark.parametrize("own", [torch.float32, torch.float16])
def test_a_passed_dtype_is_obeyed_for_an_instance(dtype, own, tiny, bayesian, monkeypatch):
    model = tiny("bert").to(own)
    ours = bayesian(model, dtype=dtype)
    assert spied_dtypes(ours, monkeypatch) == {getattr(torch, dtype) if isinstance(dtype, str) else dtype}
    assert model.dtype == own, "the caller's weights are not converted"


def test_a_passed_dtype_is_obeyed_for_a_name(package, monkeypatch):
    ours = pipeline(TASK, model=str(package / "embedded" / "model"), dtype="bfloat16", num_samples=1)
    assert spied_dtypes(ours, monkeypatch) == {torch.bfloat16}


def test_the_embedded_model_runs_in_float32(classifier, monkeypatch):
    assert classifier.model.dtype == torch.float16
    assert spied_dtypes(classifier, monkeypatch) == {torch.float32}


def test_bfloat16_instances_keep_their_dtype(tiny, bayesian, monkeypatch):
    model = tiny("bert").to(torch.bfloat16)
    ours = bayesian(model)
    assert spied_dtypes(ours, monkeypatch) == {torch.bfloat16}
    assert model.dtype == torch.bfloat16
    probabilities = ours.sample_proba(TEXTS)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)  # the softmax is in float32


def test_new_weights_of_a_float16_model_are_followed(tiny, bayesian):
    model = tiny("bert").half()
    ours = bayesian(model)
    before = ours.predict_proba(TEXTS)
    with torch.no_grad():
        model.classifier.weight.neg_()
    assert np.abs(ours.predict_proba(TEXTS) - before).max() > 1e-3


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_decoder_without_a_padding_token(architecture, tiny, bayesian):
    """Stock refuses batches; ours must neither crash nor take padding for the last token."""
    model = tiny(architecture)
    assert model.config.pad_token_id is None
    ours = bayesian(model)
    assert_close(ours(MANY), [ours(text)[0] for text in MANY])
    assert_close(ours(MANY, batch_size=3), ours(MANY))
    assert model.config.pad_token_id is None
    no_pad = copy.deepcopy(ours.tokenizer)
    no_pad.pad_token = None
    assert_close(bayesian(model, tokenizer=no_pad)(MANY), ours(MANY))


def test_an_empty_text_without_special_tokens_is_named(tiny, roberta_tokenizer, python, tmp_path):
    """GPT-2's tokenizer makes no token of it; planning batches of texts without length must come to an end."""
    bare = copy.deepcopy(roberta_tokenizer)
    from tokenizers.processors import TemplateProcessing

    bare._tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    model = tiny("gpt2", vocab_size=20)
    model.save_pretrained(tmp_path)
    bare.save_pretrained(tmp_path)
    code = """
import faulthandler, sys
faulthandler.dump_traceback_later(30, exit=True)
from transformers import pipeline
import bayesian_text_classification
try:
    print(len(pipeline("bayesian-text-classification", model=sys.argv[1], num_samples=2)(["good film", ""])))
except ValueError as error:
    assert "input 1" in str(error), error
    print("ValueError")
"""
    assert python(code, tmp_path) == "ValueError\n"


@pytest.fixture
def lora(tiny):
    from peft import LoraConfig, get_peft_model

    def make(**settings):
        base = tiny("bert", num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            config = LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], init_lora_weights=False,
                                **{"lora_dropout": 0.2, **settings})  # fmt: skip
            return get_peft_model(base, config).eval()

    return make


def test_lora_adapters_are_sampled(lora, bayesian):
    ours = bayesian(lora())
    assert sum(site.calls for site in ours.dropout_sites) == 4
    assert {site.p for site in ours.dropout_sites} == {0.2}
    assert ours.sample_proba(TEXTS).std(2).max() > 1e-3
    assert_close(ours(MANY), [ours(text)[0] for text in MANY])


def test_a_saved_adapter_folder_is_a_model(lora, bayesian, tiny, tokenizer, tmp_path):
    base = tiny("bert", num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    adapted = lora()
    adapted.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    adapted.save_pretrained(tmp_path / "adapter")
    ours = pipeline(TASK, model=str(tmp_path / "adapter"))
    expected = bayesian(adapted)
    # The number of classes is the base's only where its folder says so.
    assert ours.model.config.num_labels == 3
    np.testing.assert_allclose(ours.sample_proba(TEXTS), expected.sample_proba(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda ours: pickle.loads(pickle.dumps(ours))], ids=["deepcopy", "pickle"]
)
def test_a_copied_pipeline_gives_the_same_answers(how, small):
    small(TEXTS)
    other = how(small)
    assert other.model is not small.model
    assert_close(other(TEXTS), small(TEXTS))
    assert other(TEXTS, num_samples=0) == small(TEXTS, num_samples=0)


def test_what_pipeline_itself_takes_is_taken(package):
    folder = str(package / "embedded" / "model")
    ours = pipeline(
        TASK, model=folder, tokenizer=AutoTokenizer.from_pretrained(folder), revision=None, use_fast=True, token=None,
        device="cpu", trust_remote_code=False, model_kwargs={"attn_implementation": "eager"}, num_samples=2,
        num_workers=0, batch_size=4, local_files_only=True,
    )  # fmt: skip
    assert ours("good")[0]["num_samples"] == 2


def test_batches_are_those_of_a_deterministic_pass(small):
    found = list(small.batches(MANY, batch_size=3))
    assert sorted(i for indices, _ in found for i in indices) == list(range(len(MANY)))
    for indices, inputs in found:
        assert len(indices) <= 3
        with torch.no_grad():
            expected = small.model(**inputs).logits.softmax(-1)
        np.testing.assert_allclose(small.predict_proba([MANY[i] for i in indices], num_samples=0), expected, atol=1e-6)


def test_another_model_in_the_pipeline_is_the_one_that_answers(tiny, bayesian):
    ours, other = bayesian(tiny("bert")), tiny("distilbert")
    before = ours(TEXTS)
    ours.model = other
    assert_close(ours(TEXTS), bayesian(other)(TEXTS))
    assert ours(TEXTS) != before


def test_an_adapter_that_is_merged_in_place_is_seen(lora, bayesian):
    """PEFT then adds it to the shared weights: a twin that still ran it would apply it twice."""
    model = lora()
    ours = bayesian(model)
    assert ours.dropout_sites
    model.merge_adapter()
    with pytest.raises(ValueError, match="no active dropout"):
        ours(TEXTS)
    model.unmerge_adapter()
    assert_close(ours(TEXTS), bayesian(model)(TEXTS))


@pytest.mark.parametrize("padding", [{"padding": "max_length", "max_length": 60}, {"pad_to_multiple_of": 60}], ids=str)
def test_the_token_budget_counts_the_padding_that_is_asked_for(padding, small, monkeypatch):
    original, sizes = module.StochasticTwin.sample_logits, []

    def spy(self, inputs, samples, **options):
        sizes.append(inputs["input_ids"].numel() * len(samples))
        return original(self, inputs, samples, **options)

    monkeypatch.setattr(module.StochasticTwin, "sample_logits", spy)
    monkeypatch.setitem(small._budgets, "cpu", TokenBudget(300))
    assert_close(small(MANY, num_samples=5, **padding), small(MANY, num_samples=5))
    assert max(sizes) <= 300


def test_a_compiled_instance_is_sampled_as_the_plain_one(tiny, bayesian):
    """What torch.compile wraps has no parameters of its own to copy."""
    model = tiny("bert")
    compiled = bayesian(torch.compile(model, backend="eager"))
    assert_close(compiled(TEXTS), bayesian(model)(TEXTS))


def test_num_workers_at_a_call_is_legal(small):
    assert_close(small(TEXTS, num_workers=0), small(TEXTS))


def test_dropout_sites_are_listed(small):
    sites = small.dropout_sites
    assert type(sites) is list and sum(site.calls for site in sites) == 8
    assert sites[0].name == "bert.embeddings.dropout"


def test_zero_samples_take_a_dict_with_arguments_of_the_tokenizer(small, small_stock):
    given = {"text": TEXTS[0], "text_pair": TEXTS[1], "truncation": True, "max_length": 5}
    assert small(given, num_samples=0) == small_stock(given)
    assert small([given], num_samples=0) == small_stock([given])


def test_a_multi_label_dict_has_the_standard_error_of_its_own_label(tiny, bayesian):
    classifier = bayesian(tiny("bert", num_labels=3, problem_type="multi_label_classification"))
    errors = {entry["standard_error"] for entry in classifier(TEXTS[0], top_k=None)}
    assert len(errors) == 3


@pytest.mark.parametrize("dtype", ["fp16", 16, "int8", torch.int64])
def test_a_wrong_dtype_is_named(tiny, tokenizer, dtype):
    with pytest.raises(ValueError, match="dtype="):
        BayesianTextClassificationPipeline(model=tiny("bert"), tokenizer=tokenizer, dtype=dtype)


def test_it_is_built_under_inference_mode(tiny, bayesian):
    with torch.inference_mode():
        assert bayesian(tiny("bert"), dtype="bfloat16")(TEXTS[0])[0]["score"] > 0


def test_a_site_that_all_texts_share_leaves_the_batch_to_texts(tiny, bayesian):
    """DeBERTa's passes go one after the other; each holds as many texts as the budget allows."""
    ours = bayesian(tiny("deberta-v2"))
    passes = []
    ours._twin()._model.register_forward_pre_hook(
        lambda module, args, kwargs: passes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    ours(["a film of great merit"] * 64, num_samples=10)
    assert len(passes) == 10
    assert {rows for rows, _length in passes} == {64}


def test_a_limit_of_few_tokens_is_kept_in_the_probe(tiny, tokenizer):
    """Both texts of the probe are cut to one length: what depends on it is not known, and nothing is padded."""
    short = copy.deepcopy(tokenizer)
    short.model_max_length = 4
    ours = pipeline(TASK, model=tiny("bert", max_position_embeddings=4), tokenizer=short)
    assert ours._twin().needs_equal_lengths
    found = ours(["no", *TEXTS])
    assert [result["truncated"] for result in found] == [False, True, True, True]
    assert_close(found, [ours(text)[0] for text in ["no", *TEXTS]])


def test_a_tokenizer_that_makes_one_token_of_all_letters(tiny):
    """The probe compares a short text with a longer one, whatever it takes to make one."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, ",": 2, ";": 3, ".": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Split(",", "isolated")
    own = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    ours = pipeline(TASK, model=tiny("bert"), tokenizer=own)
    texts = ["a", "a,b", "a,b,c,d,,e"]
    assert not ours._twin().needs_equal_lengths
    assert_close(ours(texts), [ours(text)[0] for text in texts])
    assert_close(ours(texts, padding_side="left"), ours(texts, padding_side="right"))
