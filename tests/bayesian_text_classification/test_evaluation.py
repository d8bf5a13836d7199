"""The comparison: measures against scikit-learn, torchmetrics and hand arithmetic; the arms against the pipeline."""

import numpy as np
import pytest
from bayesian_text_classification import evaluation
from bayesian_text_classification.data import LabelledTexts
from bayesian_text_classification.evaluation import compare, error_rates, measure, sample_sweep, total_rows
from bayesian_text_classification.figures import reliability_diagrams, sweep_curves
from sklearn.metrics import log_loss

TEXTS = [
    "a wonderful film",
    "dull and far too long",
    "not as bad as they say",
    "I want my money back",
    "fine, I suppose",
]
DATA = LabelledTexts("five texts", TEXTS, [1, 0, 1, 0, 1], ["a", "a", "b", "b", "b"])


@pytest.fixture(scope="module")
def comparison(classifier):
    rows = []
    result = compare(classifier, DATA, num_samples=4, seed=3, progress=rows.append)
    assert sum(rows) == total_rows(len(TEXTS), 4)
    return result


def test_measures_by_hand():
    # Confidences .9 and .8 in bins [.9, 1] and [.8, .9); the first is right, the second wrong.
    m = measure(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1]))
    assert m.accuracy == 0.5
    assert m.ece == pytest.approx((abs(1 - 0.9) + abs(0 - 0.8)) / 2)
    assert m.nll == pytest.approx(-(np.log(0.9) + np.log(0.2)) / 2)
    assert m.brier == pytest.approx((0.1**2 + 0.8**2) / 2)
    assert m.reliability.counts == [0] * 8 + [1, 1]
    assert m.reliability.accuracy[8:] == [0.0, 1.0]
    assert m.reliability.accuracy[:8] == [None] * 8


def test_brier_of_three_classes_is_the_sum_over_classes():
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]])
    assert measure(p, np.array([0, 2])).brier == pytest.approx(
        ((0.5**2 + 0.3**2 + 0.2**2) + (0.1**2 + 0.8**2 + 0.9**2)) / 2
    )


def test_ece_agrees_with_torchmetrics_on_interior_values():
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    random = np.random.default_rng(0)
    p = random.dirichlet([2, 1, 1], 500)
    labels = random.integers(0, 3, 500)
    theirs = multiclass_calibration_error(torch.tensor(p), torch.tensor(labels), num_classes=3, n_bins=10)
    assert measure(p, labels).ece == pytest.approx(float(theirs), abs=1e-6)


def test_a_class_absent_from_the_labels_still_counts():
    p = np.array([[0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    assert measure(p, np.array([1, 0])).nll == pytest.approx(log_loss([1, 0], p, labels=[0, 1, 2]))


def test_frequentist_arm_is_the_stock_pipeline(comparison, stock):
    scores = [{d["label"]: d["score"] for d in dicts} for dicts in stock(TEXTS, top_k=None)]
    expected = [[s["NEGATIVE"], s["POSITIVE"]] for s in scores]
    # The stock pipeline keeps the half-precision weights' arithmetic in half precision.
    np.testing.assert_allclose(comparison.arms[0].probabilities, expected, atol=5e-3)
    assert comparison.arms[0].dropout_sites == comparison.arms[0].dropout_calls == 0


def test_bayesian_arm_is_the_pipeline(comparison, classifier):
    expected = classifier.predict_proba(TEXTS, num_samples=4, seed=3)
    np.testing.assert_allclose(comparison.arms[2].probabilities, expected, atol=1e-6)


def test_baal_arm_reaches_fewer_sites_because_attention_dropout_is_functional(comparison, classifier):
    """facts: BERT, 6 of 8 in 2 layers; here 6 layers: 1 + 2 x 6 + 1 modules, and 6 attention calls more."""
    _, baal, bayesian = comparison.arms
    assert baal.dropout_sites == baal.dropout_calls == 14
    assert bayesian.dropout_sites == bayesian.dropout_calls == 20 == len(classifier.dropout_sites)


def test_a_module_that_is_called_twice_is_one_site(tiny, bayesian):
    """facts: RoBERTa 9 calls, 7 of them BaaL's; its head calls one dropout module twice."""
    arms = compare(bayesian(tiny("roberta")), DATA, num_samples=2).arms
    assert [arm.dropout_sites for arm in arms] == [0, 6, 8]
    assert [arm.dropout_calls for arm in arms] == [0, 7, 9]


def test_baal_arm_is_random_and_seeded_and_leaves_the_global_state(classifier, same_random_state):
    model = evaluation._patched_by_baal(classifier)
    with same_random_state():
        first, *_ = evaluation._baal_probabilities(model, classifier, TEXTS, 2, 0, lambda rows: None)
    again, *_ = evaluation._baal_probabilities(model, classifier, TEXTS, 2, 0, lambda rows: None)
    other, *_ = evaluation._baal_probabilities(model, classifier, TEXTS, 2, 1, lambda rows: None)
    assert (first == again).all()
    assert (first != other).any()
    np.testing.assert_allclose(first.sum(1), 1, atol=1e-6)


def test_sweep_ends_at_the_mean_of_the_whole_pool():
    random = np.random.default_rng(0)
    pool = random.dirichlet([1, 1, 1], (40, 30)).swapaxes(1, 2)  # (texts, classes, samples)
    labels = random.integers(0, 3, 40)
    sweep = sample_sweep(pool, labels, pool[:, :, 0], sizes=[1, 10, 30])
    whole = measure(pool.mean(2), labels)
    assert sweep.ece[:, 2] == pytest.approx([whole.ece] * 3)
    assert sweep.accuracy[:, 2] == pytest.approx([whole.accuracy] * 3)
    assert (np.diff(sweep.ece, axis=0) >= 0).all()
    assert sweep.ece[2, 0] > sweep.ece[0, 0]  # one sample: orders differ
    assert sweep.frequentist == measure(pool[:, :, 0], labels)


def test_sweep_permutes_whole_groups():
    order = evaluation._group_order(180, np.random.default_rng(0))
    assert sorted(order) == list(range(180))
    groups = order.reshape(18, 10) // 10
    assert (groups == groups[:, :1]).all()
    assert list(groups[:, 0]) != list(range(18))
    assert (np.diff(order[:10]) < 0).any()


def test_sweep_pool_has_three_times_the_largest_size(comparison):
    assert comparison.sweep.sizes == list(range(1, 61))
    assert comparison.sweep.pool == 180


def test_sweep_is_of_the_texts_in_the_table(comparison):
    assert comparison.sweep.texts == comparison.sweep.all_texts == len(TEXTS)
    assert comparison.sweep.frequentist == comparison.arms[0].measures
    assert comparison.sweep.frequentist.ece > 0


def test_sweep_is_of_a_seeded_part_of_very_many_texts_and_says_so(tiny, bayesian, monkeypatch):
    classifier = bayesian(tiny("bert"))
    monkeypatch.setattr(evaluation, "SWEEP_TEXTS", 3)
    rows = []
    found = [
        compare(classifier, DATA, num_samples=2, seed=seed, progress=rows.append).sweep.frequentist.nll
        for seed in (0, 0, 1)
    ]
    assert found[0] == found[1] != found[2]
    assert sum(rows) == 3 * total_rows(len(TEXTS), 2) == 3 * (5 * (1 + 2 * 2) + 3 * 178)
    sweep = compare(classifier, DATA, num_samples=2).sweep
    assert (sweep.texts, sweep.all_texts) == (3, 5)
    assert [axes.get_title() for axes in sweep_curves(sweep).axes] == [
        "ECE, a random 3 of 5 texts", "accuracy, a random 3 of 5 texts",
    ]  # fmt: skip


def test_gaps_in_the_reliability_diagram_add_up_to_the_ece(comparison):
    axes = reliability_diagrams(comparison.arms).axes
    for arm, top, bottom in zip(comparison.arms, axes[:3], axes[3:], strict=True):
        counts = {bar.get_x(): bar.get_height() for bar in bottom.containers[0]}
        gaps = {bar.get_x(): abs(bar.get_height()) for bar in top.containers[1]}
        assert sum(counts[x] * gap for x, gap in gaps.items()) / len(TEXTS) == pytest.approx(arm.measures.ece)
        assert sum(counts.values()) == len(TEXTS)


def test_curves_are_those_of_the_sweep(comparison):
    sweep = comparison.sweep
    for axes, curve, level in zip(
        sweep_curves(sweep).axes,
        (sweep.ece, sweep.accuracy),
        (sweep.frequentist.ece, sweep.frequentist.accuracy),
        strict=True,
    ):
        median, frequentist = axes.lines
        assert median.get_ydata().tolist() == curve[1].tolist()
        assert set(frequentist.get_ydata()) == {level}


def test_pictures_of_all_texts_say_how_many(comparison):
    assert [axes.get_title() for axes in sweep_curves(comparison.sweep).axes] == ["ECE, 5 texts", "accuracy, 5 texts"]


def test_probabilities_that_are_nan_name_their_row(tiny, bayesian, tokenizer):
    import torch

    model = tiny("bert")
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[tokenizer.convert_tokens_to_ids("money")] = torch.nan
    with pytest.raises(ValueError, match=r"are NaN for 1 of 5 texts, first for row 4 \(the first text is row 1\)"):
        compare(bayesian(model), DATA, num_samples=2)


def test_error_rates_by_kind():
    p = np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    assert error_rates(p, [1, 0, 0], ["x", "x", "y"]) == {"x": 0.5, "y": 0.0}


@pytest.mark.parametrize(
    "settings", [{"num_labels": 1}, {"num_labels": 3, "problem_type": "multi_label_classification"}]
)
def test_other_problems_than_one_label_are_refused(tiny, bayesian, settings):
    with pytest.raises(ValueError, match="needs one label among at least two classes"):
        compare(bayesian(tiny("bert", **settings)), DATA)


def test_a_decoder_without_a_pad_token_is_compared_too(tiny, bayesian):
    """GPT-2 refuses batches without `pad_token_id`, in BaaL's copy as in the twin."""
    classifier = bayesian(tiny("gpt2", num_labels=2))
    result = compare(classifier, DATA, num_samples=2)
    assert [arm.dropout_calls for arm in result.arms] == [0, 5, 7]
    assert classifier.model.config.pad_token_id is None


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_any_integer_is_a_seed(tiny, bayesian, seed):
    arms = compare(bayesian(tiny("bert")), DATA, num_samples=2, seed=seed).arms
    assert np.isfinite([arm.measures.nll for arm in arms]).all()
