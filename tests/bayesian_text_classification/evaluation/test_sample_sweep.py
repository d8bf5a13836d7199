"""The sweep over the number of samples: its ends, its orders, and the recommended number."""

import numpy as np
import pytest
from bayesian_text_classification.evaluation.sample_sweep import group_order, rows_of_sweep, sample_sweep
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


@pytest.mark.parametrize("samples", [15, 20, 180])
def test_distances_are_those_of_independent_samples(samples):
    """Truth: the variance of the largest coordinate of a Dirichlet."""
    random = np.random.default_rng(0)
    pool = random.dirichlet([3, 1, 1], (2_000, samples)).swapaxes(1, 2)
    sweep = sample_sweep(pool, random.integers(0, 3, 2_000), pool[:, :, 0])
    spread = np.sqrt(0.6 * 0.4 / (3 + 1 + 1 + 1))
    assert sweep.sizes == list(range(1, min(samples, 60) + 1))
    np.testing.assert_allclose(sweep.distances, spread / np.sqrt(sweep.sizes), rtol=0.05)


def balanced(texts, groups, rate=0.2, size=10, seed=0):
    """Probabilities that fall by 0.3 in the passes that drop a unit: two of each group of ten. The limit is 0.84."""
    random = np.random.default_rng(seed)
    dropped = random.permuted(np.tile(np.arange(size) < rate * size, (texts, groups, 1)), axis=2)
    noise = random.normal(0, 0.01, dropped.shape)
    p = np.clip(0.9 - 0.3 * dropped + noise, 0, 1).reshape(texts, -1)
    return np.stack([1 - p, p], 1)


def test_balanced_groups_are_near_their_limit():
    """A group of ten drops the unit exactly twice, so only the noise is left: 0.01 / sqrt(10)."""
    pool = balanced(3_000, 2)
    sweep = sample_sweep(pool, np.ones(len(pool), int), pool[:, :, 0])
    assert sweep.distances[9] == pytest.approx(0.01 / np.sqrt(10), rel=0.05)
    assert sweep.distances[19] == pytest.approx(0.01 / np.sqrt(20), rel=0.05)
    assert sweep.distances[0] == pytest.approx(np.hypot(0.3 * 0.4, 0.01), rel=0.05)  # one pass: sqrt(0.2 x 0.8) = 0.4
    expected = [np.sqrt((balanced(3_000, 1, seed=1)[:, 1, :size].mean(1) - 0.84).var()) for size in (3, 6, 9)]
    np.testing.assert_allclose(sweep.distances[[2, 5, 8]], expected, rtol=0.05)


def test_recommended_size_is_where_scores_and_nll_settle():
    """Twenty samples tell how many more it takes: as many as measured in 10,000 others."""
    for concentration in (2.0, 20.0):
        pool, labels = drawn(texts=3_000, samples=20, concentration=concentration)
        enough = sample_sweep(pool, labels, pool[:, :, 0]).recommended
        variance = 1 / 3 * 2 / 3 / (3 * concentration + 1)
        by_score = variance / 0.02**2
        # To second order, the NLL of a mean of T samples is above its limit by variance / (2 T p^2) at p = 1/3.
        by_nll = variance / (2 * (1 / 3) ** 2 * 0.02 * np.log(3))
        expected = max(by_score, by_nll)
        assert enough == pytest.approx(expected, rel=0.1) if expected < 200 else enough is None
    pool, labels = drawn(texts=300, samples=20, concentration=0.2)
    assert sample_sweep(pool, labels, pool[:, :, 0]).recommended is None


def test_samples_that_agree_need_no_others():
    pool = np.full((30, 2, 4), 0.5)
    sweep = sample_sweep(pool, np.zeros(30, int), pool[:, :, 0])
    assert sweep.recommended == 1 and (sweep.distances == 0).all()


def test_many_texts_are_a_seeded_random_part():
    assert (rows_of_sweep(5, 0) == np.arange(5)).all()
    rows = rows_of_sweep(3_000, 1)
    assert len(set(rows)) == 2_000 and (np.diff(rows) > 0).all()
    assert (rows == rows_of_sweep(3_000, 1)).all() and (rows != rows_of_sweep(3_000, 2)).any()


def test_orders_permute_whole_groups():
    order = group_order(180, np.random.default_rng(0))
    assert sorted(order) == list(range(180))
    groups = order.reshape(18, 10) // 10
    assert (groups == groups[:, :1]).all()
    assert list(groups[:, 0]) != list(range(18))
    assert (np.diff(order[:10]) < 0).any()
