"""The sweep over the number of samples: its ends, its orders, and the recommended number."""

import numpy as np
import pytest
from bayesian_text_classification.evaluation.sample_sweep import group_order, rows_of_sweep, sample_sweep
from bayesian_text_classification.evaluation.statistics.predictions import Predictions
from interval_cases import MEASURE

pytestmark = pytest.mark.usefixtures("few_resamples")


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


@pytest.mark.parametrize("samples", [20, 30, 180])
def test_distances_are_those_of_independent_samples(samples):
    """Truth: the variance of the largest coordinate of a Dirichlet."""
    random = np.random.default_rng(0)
    pool = random.dirichlet([3, 1, 1], (2_000, samples)).swapaxes(1, 2)
    sweep = sample_sweep(pool, random.integers(0, 3, 2_000), pool[:, :, 0])
    spread = np.sqrt(0.6 * 0.4 / (3 + 1 + 1 + 1))
    assert sweep.sizes == list(range(1, min(samples, 60) + 1)) and len(sweep.distances) > samples * (samples < 60)
    np.testing.assert_allclose(sweep.distances, spread / np.sqrt(range(1, len(sweep.distances) + 1)), rtol=0.06)


def balanced(texts, groups, rate=0.2, size=10, seed=0, noise=0.01, fall=0.3):
    """Probabilities that are lower in the passes that drop a unit: two of each group of ten. The limit is 0.84."""
    random = np.random.default_rng(seed)
    dropped = random.permuted(np.tile(np.arange(size) < rate * size, (texts, groups, 1)), axis=2)
    p = np.clip(0.84 + fall * (rate - dropped) + random.normal(0, noise, dropped.shape), 0, 1).reshape(texts, -1)
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


@pytest.mark.parametrize(("rate", "noise"), [(0.2, 0.0), (0.2, 0.001)])
def test_one_sample_is_as_far_as_it_is_however_well_groups_are_balanced(rate, noise):
    pool = balanced(3_000, 2, rate, noise=noise)
    sweep = sample_sweep(pool, np.ones(len(pool), int), pool[:, :, 0])
    assert sweep.distances[0] == pytest.approx(0.3 * 0.4, rel=0.05)
    assert sweep.distances[9] == pytest.approx(noise / np.sqrt(10), abs=0.0015)
    # 0.12 at one sample; between the groups 0.3 x the standard deviation of a mean without replacement.
    for count in (13, 15, 17):
        without = 0.3 * 0.4 * np.sqrt((count - 10) * (1 - (count - 11) / 9)) / count
        assert sweep.distances[count - 1] == pytest.approx(without, rel=0.1)


def test_from_the_recommended_size_on_scores_stay_near_their_limit():
    """Balanced samples are near their limit at 10, and farther away at 11 to 17. Truth: other groups."""
    pool = balanced(3_000, 2, fall=0.6)
    enough = sample_sweep(pool, np.ones(len(pool), int), pool[:, :, 0]).recommended
    others = balanced(5_000, 3, fall=0.6, seed=1)[:, 1]
    far = [count for count in range(1, 31) if np.sqrt(((others[:, :count].mean(1) - 0.84) ** 2).mean()) > 0.02]
    assert 10 not in far and far[-1] + 1 == pytest.approx(enough, abs=1) and enough > 11


@pytest.mark.parametrize("concentration", [0.5, 4.0, 20.0])
def test_recommended_size_is_where_scores_settle(concentration):
    """Twenty samples tell how many more it takes. Truth: the variance of a coordinate of a Dirichlet."""
    random = np.random.default_rng(0)
    pool = random.dirichlet(np.array([3, 1, 1]) * concentration / 5, (3_000, 20)).swapaxes(1, 2)
    expected = 0.6 * 0.4 / (concentration + 1) / 0.02**2
    enough = sample_sweep(pool, np.zeros(3_000, int), pool[:, :, 0]).recommended
    assert enough == pytest.approx(expected, rel=0.1) if expected < 200 else enough is None


def test_the_nll_may_settle_later_than_the_scores():
    """A true class of little probability: the NLL of a mean is above its limit by variance / (2 T p^2)."""
    random = np.random.default_rng(0)
    p = np.clip(random.normal(0.05, 0.02, (4_000, 20)), 1e-3, 1)  # the score, 1 - p, is near its limit at one sample
    pool = np.stack([p, 1 - p], 1)
    labels = np.where(np.arange(4_000) % 10 == 0, 0, 1)
    sweep = sample_sweep(pool, labels, pool[:, :, 0])
    assert sweep.distances[0] == pytest.approx(0.02, rel=0.05)
    many = np.clip(random.normal(0.05, 0.02, (4_000, 500)), 1e-3, 1)
    limit = -(0.1 * np.log(many.mean()) + 0.9 * np.log(1 - many.mean()))

    def nll(count):
        mean = many[:, : 500 // count * count].reshape(4_000, -1, count).mean(2)
        return -(0.1 * np.log(mean).mean() + 0.9 * np.log(1 - mean).mean())

    expected = next(count for count in range(1, 50) if nll(count) - limit <= 0.02 * limit)
    assert expected > 1 and sweep.recommended == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("samples", [2, 5, 10, 19])
def test_few_samples_give_a_rough_number(samples):
    """As if groups were balanced as they usually are: an estimate from balanced samples is not many times too high."""
    pool = balanced(2_000, 2, noise=0.05)
    whole = sample_sweep(pool, np.ones(2_000, int), pool[:, :, 0]).recommended
    rough = sample_sweep(pool[:, :, :samples], np.ones(2_000, int), pool[:, :, 0]).recommended
    assert whole / 2 <= rough <= 2 * whole


def test_independent_labels_have_the_label_that_is_farthest():
    random = np.random.default_rng(0)
    p = np.clip(0.5 + random.normal(0, 0.1, (2_000, 5, 20)), 0, 1)
    sweep = sample_sweep(p, random.integers(0, 2, (2_000, 5)), p[:, :, 0])
    expected = np.sqrt((np.abs(random.normal(0, 0.1, (100_000, 5))).max(1) ** 2).mean())
    np.testing.assert_allclose(sweep.distances[[0, 9, 19]], expected / np.sqrt([1, 10, 20]), rtol=0.07)


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
