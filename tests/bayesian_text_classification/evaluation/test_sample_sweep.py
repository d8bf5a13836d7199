"""The sweep over the number of samples: its ends, its orders, and the recommended number."""

import numpy as np
import pytest
from bayesian_text_classification.evaluation.sample_sweep import group_order, sample_sweep
from bayesian_text_classification.evaluation.statistics.predictions import Predictions
from interval_cases import MEASURE


def drawn(texts=40, samples=30, concentration=1.0):
    random = np.random.default_rng(0)
    pool = random.dirichlet([concentration] * 3, (texts, samples)).swapaxes(1, 2)  # (texts, classes, samples)
    return pool, random.integers(0, 3, texts)


def test_sweep_ends_at_the_mean_of_the_whole_pool():
    pool, labels = drawn()
    sweep = sample_sweep(pool, labels, pool[:, :, 0], sizes=[1, 10, 30])
    whole = Predictions.of(pool.mean(2), labels)
    for key in ("ece", "accuracy", "nll"):
        assert sweep.curves[key][:, 2] == pytest.approx([MEASURE[key].value(whole)] * 3)
        assert (np.diff(sweep.curves[key], axis=0) >= 0).all()
        assert sweep.frequentist[key] == pytest.approx(MEASURE[key].value(Predictions.of(pool[:, :, 0], labels)))
    assert sweep.curves["ece"][2, 0] > sweep.curves["ece"][0, 0]  # one sample: orders differ


def test_rmse_falls_like_that_of_independent_samples():
    pool, labels = drawn(texts=400, samples=180)
    sweep = sample_sweep(pool, labels, pool[:, :, 0], sizes=[1, 4, 16, 64])
    spread = np.sqrt(1 / 3 * 2 / 3 / 4)  # of one coordinate of a flat Dirichlet over three
    np.testing.assert_allclose(sweep.curves["rmse"][1], spread / np.sqrt([1, 4, 16, 64]), rtol=0.06)


def test_recommended_size_is_where_scores_and_nll_settle():
    pool, labels = drawn(texts=300, samples=180, concentration=20.0)
    sweep = sample_sweep(pool, labels, pool[:, :, 0])
    enough = sweep.recommended - 1
    assert (sweep.curves["rmse"][2, enough:] <= 0.02).all()
    assert sweep.curves["rmse"][2, enough - 1] > 0.02 or (
        np.abs(sweep.curves["nll"][[0, 2], enough - 1] - sweep.curves["nll"][1, -1]).max() > 0.01
    )
    assert sample_sweep(pool, labels, pool[:, :, 0], sizes=[1, 2]).recommended is None


def test_orders_permute_whole_groups():
    order = group_order(180, np.random.default_rng(0))
    assert sorted(order) == list(range(180))
    groups = order.reshape(18, 10) // 10
    assert (groups == groups[:, :1]).all()
    assert list(groups[:, 0]) != list(range(18))
    assert (np.diff(order[:10]) < 0).any()
