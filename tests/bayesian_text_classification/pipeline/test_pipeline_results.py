"""The numbers of a result, and when sampling stops."""

import numpy as np
import pytest
import torch
from bayesian_text_classification.pipeline import text_sampler as module
from bayesian_text_classification.pipeline.batching import TokenBudget
from bayesian_text_classification.pipeline.uncertainty import over_classes
from pipeline_cases import MANY, PAIRS, ROWS, TASK, TEXTS, assert_close
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

# --- numbers ----------------------------------------------------------------------------------------------------------


def test_sample_proba_has_the_shape_that_baal_uses(small):
    samples = small.sample_proba(TEXTS, num_samples=7)
    assert samples.shape == (3, 3, 7) and samples.dtype == np.float32
    np.testing.assert_allclose(samples.sum(1), 1, atol=1e-5)
    mean = small.predict_proba(TEXTS, num_samples=7)
    assert mean.shape == (3, 3) and mean.dtype == np.float32
    np.testing.assert_allclose(samples.mean(2), mean, atol=1e-6)


def test_score_is_the_largest_mean_probability(small):
    mean = small.predict_proba(TEXTS)
    for result, row in zip(small(TEXTS), mean, strict=True):
        assert result["score"] == pytest.approx(row.max(), abs=1e-6)
        assert result["label"] == small.model.config.id2label[int(row.argmax())]


def test_probabilities_rather_than_logits_are_averaged(small):
    samples = small.sample_proba(TEXTS, num_samples=20, function_to_apply="none").astype(float)
    exp = np.exp(samples)
    expected = (exp / exp.sum(1, keepdims=True)).mean(2)
    np.testing.assert_allclose(small.predict_proba(TEXTS, num_samples=20), expected, atol=1e-6)
    logits = np.exp(samples.mean(2))
    assert np.abs(expected - logits / logits.sum(1, keepdims=True)).max() > 1e-3


def test_uncertainty_matches_the_samples(small):
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


def test_more_samples_extend_the_same_sequence(small):
    whole = small.sample_proba(TEXTS, num_samples=25)
    np.testing.assert_allclose(small.sample_proba(TEXTS, num_samples=13), whole[..., :13], atol=1e-5)
    later = small.sample_proba(TEXTS, num_samples=8, first_sample=13)
    np.testing.assert_allclose(later, whole[..., 13:21], atol=1e-5)


def test_str_is_one_text_for_arrays_too(small):
    """A str is not iterated letter by letter."""
    for method in (small.sample_proba, small.predict_proba):
        np.testing.assert_allclose(method(TEXTS[0]), method(TEXTS[:1]), atol=1e-5)


@pytest.mark.parametrize("given", [[], ()])
def test_no_texts_return_empty_arrays(given, small):
    assert small.sample_proba(given, num_samples=4).shape == (0, 3, 4)
    assert small.predict_proba(given).shape == (0, 3)


def test_arrays_accept_streams_and_pairs(small):
    np.testing.assert_allclose(small.predict_proba(t for t in TEXTS), small.predict_proba(TEXTS), atol=1e-5)
    np.testing.assert_allclose(small.predict_proba(KeyDataset(ROWS, "text")), small.predict_proba(TEXTS), atol=1e-5)
    assert small.predict_proba(PAIRS).shape == (2, 3)


def test_predict_proba_with_zero_samples_matches_stock(small, small_stock):
    expected = [{e["label"]: e["score"] for e in result} for result in small_stock(TEXTS, top_k=None)]
    found = small.predict_proba(TEXTS, num_samples=0)
    np.testing.assert_allclose(found, [[row[name] for name in ("bad", "fine", "good")] for row in expected], atol=1e-6)


def test_progress_counts_every_pass(small):
    heard = []
    small.sample_proba(TEXTS, num_samples=5, batch_size=2, progress=heard.append)
    assert sum(heard) == 15 and len(heard) == 2
    heard.clear()
    assert len(small(TEXTS, num_samples=5, batch_size=2, progress=heard.append)) == 3 and sum(heard) == 15
    heard.clear()
    assert len(small(TEXTS, num_samples=0, progress=heard.append)) == 3 and heard == [3]
    assert len(list(small(iter(TEXTS), num_samples=0, progress=heard.append))) == 3 and heard == [3, 1, 1, 1]


def test_seeds_give_different_but_repeatable_samples(small):
    a, b = small.sample_proba(TEXTS, seed=1), small.sample_proba(TEXTS, seed=2)
    assert np.abs(a - b).max() > 1e-2
    np.testing.assert_array_equal(a, small.sample_proba(TEXTS, seed=1))
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, seed=1)
    np.testing.assert_array_equal(a, made.sample_proba(TEXTS))


def test_masks_can_be_set_at_construction_or_call(small):
    bernoulli = small.sample_proba(TEXTS, masks="bernoulli")
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, masks="bernoulli")
    np.testing.assert_array_equal(made.sample_proba(TEXTS), bernoulli)
    assert np.abs(bernoulli - small.sample_proba(TEXTS, masks="balanced")).max() > 1e-2


@pytest.mark.parametrize("masks", ["balanced", "bernoulli"])
def test_standard_error_matches_the_distance_to_many_samples(masks, small):
    """The z-scores of the mean over 60 seeds have a spread of about 1."""
    truth = small.predict_proba(TEXTS[:1], num_samples=4000, masks="balanced", seed=10**6)[0].max()
    z = [(r["score"] - truth) / r["standard_error"]
         for seed in range(60) for r in small(TEXTS[:1], seed=seed, masks=masks, num_samples=20)]  # fmt: skip
    assert 0.6 < np.sqrt(np.mean(np.square(z))) < 1.4


# --- stopping early ---------------------------------------------------------------------------------------------------


def test_standard_error_knows_how_much_the_samples_of_the_model_vary(small):
    summary = over_classes(small.sample_proba(TEXTS, num_samples=10), 10, small.spread)
    found = [result["standard_error"] for result in small(TEXTS, num_samples=10)]
    winners = np.arange(len(TEXTS)), summary.mean.argmax(1)
    np.testing.assert_allclose(found, np.minimum(summary.standard_error, summary.std)[winners], rtol=1e-4)


def test_text_is_sampled_until_its_standard_error_is_below_tolerance(small):
    """The result equals that of a call with exactly the number of samples that the text needed."""
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


def test_tolerance_stops_a_text_at_the_same_count_in_any_batch(small):
    options = {"num_samples": 60, "tolerance": 0.03, "top_k": None}
    together = small(MANY, **options)
    assert_close(together, small(MANY[::-1], **options, batch_size=2)[::-1])
    assert_close(together, [small([text], **options)[0] for text in MANY])
    assert [r[0]["num_samples"] for r in together] == [small(text, **options)[0]["num_samples"] for text in MANY]
    assert_close(together, list(small((text for text in MANY), **options)))


def test_tolerance_can_be_set_at_construction_or_call(small):
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, num_samples=60, tolerance=0.03)
    assert made(TEXTS) == small(TEXTS, num_samples=60, tolerance=0.03)
    assert made(TEXTS, tolerance=None) == small(TEXTS, num_samples=60)
    assert [result["num_samples"] for result in made(TEXTS, tolerance=1e-9)] == [60] * 3
    assert [result["num_samples"] for result in made(TEXTS, tolerance=1e9)] == [4] * 3, "never zero samples"
    assert made(TEXTS, num_samples=1) == small(TEXTS, num_samples=1)
    assert made(TEXTS, num_samples=0) == small(TEXTS, num_samples=0)


def test_tolerance_applies_to_the_standard_error_of_raw_outputs(small):
    for result in small(MANY, function_to_apply="none", num_samples=60, tolerance=0.2):
        assert result["standard_error"] < 0.2 or result["num_samples"] == 60


def test_tolerance_applies_to_every_label_of_a_multi_label_model(tiny, bayesian):
    ours = bayesian(tiny("bert", num_labels=3, problem_type="multi_label_classification"), num_samples=60)
    for result in ours(MANY, tolerance=0.05, top_k=None):
        assert max(entry["standard_error"] for entry in result) < 0.05 or result[0]["num_samples"] == 60


def test_sample_proba_ignores_a_default_tolerance_and_rejects_an_explicit_one(small):
    with pytest.raises(TypeError, match="tolerance"):
        small.sample_proba(TEXTS, tolerance=0.1)
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, num_samples=7, tolerance=1e9)
    assert made.sample_proba(TEXTS).shape == (3, 3, 7)


def test_batch_that_runs_out_of_memory_is_halved(small, monkeypatch):
    """Also when only some texts are still being sampled."""
    expected = small(MANY, num_samples=60, tolerance=0.03)
    original, sizes = module.StochasticTwin.sample_logits, []

    def with_little_memory(self, inputs, samples, **options):
        rows = inputs["input_ids"].numel() * len(samples)
        sizes.append(rows)
        if rows > 200:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(self, inputs, samples, **options)

    monkeypatch.setattr(module.StochasticTwin, "sample_logits", with_little_memory)
    monkeypatch.setitem(small._text_sampler._budgets, "cpu", TokenBudget(2048))
    assert_close(small(MANY, num_samples=60, tolerance=0.03), expected)
    assert small._text_sampler._budgets["cpu"].tokens <= 200 and max(sizes) > 200
    sizes.clear()
    small(MANY)
    assert max(sizes) <= 200, "a size that ran out of memory must not be tried again"


# --- other kinds of models --------------------------------------------------------------------------------------------


def test_multi_label_models_use_sigmoid_with_an_entropy_per_label(tiny, bayesian):
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


def test_regression_averages_raw_outputs_without_entropy(tiny, bayesian):
    ours = bayesian(tiny("bert", num_labels=1, problem_type="regression"))
    samples = ours.sample_proba(TEXTS).astype(float)
    assert samples.shape == (3, 1, 20)
    for result, x in zip(ours(TEXTS), samples, strict=True):
        assert result["score"] == pytest.approx(x.mean(), abs=1e-6)
        assert result["score_std"] == pytest.approx(x.std(), abs=1e-6)
        assert result["predictive_entropy"] is result["expected_entropy"] is result["mutual_information"] is None


def test_one_logit_uses_sigmoid(tiny, bayesian):
    from scipy import stats

    ours = bayesian(tiny("bert", num_labels=1))
    raw = ours.sample_proba(TEXTS, function_to_apply="none").astype(float)
    assert raw.std() > 0.01
    expected = (1 / (1 + np.exp(-raw))).mean(2)[:, 0]
    for result, score in zip(ours(TEXTS), expected, strict=True):
        assert result["score"] == pytest.approx(score, abs=1e-6)
        assert result["predictive_entropy"] == pytest.approx(stats.entropy([score, 1 - score]), abs=1e-5)


@pytest.mark.parametrize("at", ["construction", "call"])
def test_function_to_apply_sets_the_activation(at, small):
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


def test_raw_outputs_are_averaged_without_entropy(small):
    raw = small.sample_proba(TEXTS, function_to_apply="none").astype(float).mean(2)
    for result, row in zip(small(TEXTS, function_to_apply="none"), raw, strict=True):
        assert result["score"] == pytest.approx(row.max(), abs=1e-5)
        assert result["predictive_entropy"] is None


def test_function_default_in_a_call_overrides_the_constructor(small):
    made = pipeline(TASK, model=small.model, tokenizer=small.tokenizer, function_to_apply="none")
    np.testing.assert_array_equal(made.sample_proba(TEXTS, function_to_apply="default"), small.sample_proba(TEXTS))


def test_top_k_zero_returns_empty_lists_as_in_stock(small, small_stock):
    assert small_stock("A film.", top_k=0) == small("A film.", top_k=0) == []
    assert small_stock(["A film."] * 2, top_k=0) == small(["A film."] * 2, top_k=0) == [[], []]
    assert small("A film.", top_k=0, threshold=0.99) == []
    assert small("A film.", top_k=0, num_samples=0) == []


def test_batches_accept_one_text_or_none(small):
    ((indices, inputs),) = small.batches("good")
    assert list(indices) == [0] and inputs["input_ids"].shape[0] == 1
    assert list(small.batches([])) == []
