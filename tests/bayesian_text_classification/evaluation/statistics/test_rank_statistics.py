"""Rank statistics compared with scikit-learn, repeated rows and hand calculation."""

import numpy as np
import pytest
from bayesian_text_classification.evaluation.statistics.rank_statistics import auroc, false_positive_rate, tied
from sklearn.metrics import roc_auc_score, roc_curve


def drawn():
    random = np.random.default_rng(0)
    scores = np.round(random.normal(0, 1, 60), 1)  # with ties
    positive = (random.random(60) < 0.3).astype(float)
    weights = np.stack([np.bincount(random.integers(0, 60, 60), minlength=60) for _ in range(5)]).astype(float)
    return scores, positive, weights


def test_weighted_values_match_scikit_learn_on_repeated_rows():
    scores, positive, weights = drawn()
    for w, area, rate in zip(
        weights.astype(int),
        auroc(scores, positive, weights),
        false_positive_rate(scores, positive, weights, 0.8),
        strict=True,
    ):
        truth, repeated = np.repeat(positive, w), np.repeat(scores, w)
        assert area == pytest.approx(roc_auc_score(truth, repeated))
        rates, recalls, _ = roc_curve(truth, repeated, drop_intermediate=False)
        assert rate == pytest.approx(rates[np.flatnonzero(recalls >= 0.8)[0]])


def rate(inside, outside):
    scores, positive = np.r_[inside, outside], np.repeat([0.0, 1.0], [len(inside), len(outside)])
    return false_positive_rate(scores, positive, np.ones((1, len(scores))), 0.95)[0]


def test_false_positive_rate_by_hand():
    # 95% of 20 is 19: the threshold is the second lowest, 2.
    assert rate([0.0, 1.0, 2.0, 9.0], np.arange(1, 21.0)) == 0.5
    assert rate([0.0, 1.0], [1.0]) == 0.5


def test_only_positive_or_only_negative_rows_give_nan():
    scores, ones = np.arange(3.0), np.ones((1, 3))
    for positive in (np.zeros(3), np.ones(3)):
        assert np.isnan(auroc(scores, positive, ones)).all()
        assert np.isnan(false_positive_rate(scores, positive, ones, 0.95)).all()


def test_ties_are_no_wider_than_the_rounding():
    dense = np.arange(30) / 10
    np.testing.assert_allclose(tied(dense, np.full(30, 0.45)), np.repeat([0, 0.5, 1, 1.5, 2, 2.5], 5))
    np.testing.assert_array_equal(tied(dense[::-1], np.zeros(30)), dense[::-1])


def test_the_rounding_of_the_lowest_row_counts():
    np.testing.assert_array_equal(tied(np.array([0.9, 0, 0.1, 1.1]), np.array([0.01, 1, 0.01, 0.01])), [0, 0, 0, 1.1])
