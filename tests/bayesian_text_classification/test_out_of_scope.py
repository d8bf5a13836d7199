"""Detectors of what is out of scope: scikit-learn, and hand arithmetic."""

import numpy as np
import pytest
from bayesian_text_classification.out_of_scope import detect, false_positive_rate
from sklearn.metrics import roc_auc_score, roc_curve


def drawn(seed=0):
    random = np.random.default_rng(seed)
    return np.round(random.normal(0, 1, 400), 1), np.round(random.normal(1, 1, 150), 1)  # with ties


def test_the_area_is_scikit_learns():
    inside, outside = drawn()
    (found,) = detect("bayesian", {"entropy": inside}, {"entropy": outside})
    truth = np.r_[np.zeros(400), np.ones(150)]
    assert found.auroc.value == pytest.approx(roc_auc_score(truth, np.r_[inside, outside]))
    assert found.auroc.low < found.auroc.value < found.auroc.high
    assert (found.arm, found.score, len(found.inside), len(found.outside)) == ("bayesian", "entropy", 400, 150)


def test_its_interval_holds_the_truth():
    truth = 0.7602499  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
    found = [detect("x", {"s": inside}, {"s": outside})[0].auroc for inside, outside in map(drawn, range(200))]
    assert 0.92 <= np.mean([one.low <= truth <= one.high for one in found]) <= 0.98


def test_the_interval_ends_at_one():
    found = detect("x", {"s": np.arange(30.0)}, {"s": np.arange(28.0, 60.0)})[0].auroc
    assert found.low < found.value < found.high == 1.0


def test_false_positives_are_scikit_learns():
    inside, outside = drawn()
    rates, recalls, _ = roc_curve(np.r_[np.zeros(400), np.ones(150)], np.r_[inside, outside], drop_intermediate=False)
    assert false_positive_rate(inside, outside) == pytest.approx(rates[np.flatnonzero(recalls >= 0.95)[0]])


def test_false_positives_by_hand():
    # 95 % of twenty are nineteen: the threshold is the second lowest, 2.
    assert false_positive_rate(np.array([0.0, 1.0, 2.0, 9.0]), np.arange(1, 21.0)) == 0.5
    assert false_positive_rate(np.array([0.0, 1.0]), np.array([1.0])) == 0.5
