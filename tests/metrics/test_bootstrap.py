"""The interval and the null value: closed forms, SciPy's bootstrap, and coverage."""

import numpy as np
import pytest
from bayesian_text_classification.metric import load_metric_module
from scipy import stats

ece = load_metric_module()


def overconfident(rows, seed=0):
    """Confidences and labels of a model whose accuracy is below its confidence."""
    random = np.random.default_rng(seed)
    p = (1 + random.random(rows)) / 2
    return p, random.random(rows) < p - 0.15 * (2 * p - 1)


def test_the_null_value_of_one_bin_follows_the_binomial():
    # n rows of confidence 1/2 in one bin: the ECE of a calibrated model is |X / n - 1/2| with a binomial X.
    n = 100
    chance = ece.bootstrap([0.5] * n, [0, 1] * (n // 2), 1, confidence_level=0.9, binary=True)
    law = stats.binom(n, 0.5)
    k = np.arange(n + 1)
    mean = (np.abs(k / n - 0.5) * law.pmf(k)).sum()
    spread = np.sqrt((np.abs(k / n - 0.5) ** 2 * law.pmf(k)).sum() - mean**2)
    assert chance.null == pytest.approx(mean, abs=4 * spread / np.sqrt(ece.RESAMPLES))
    assert chance.null_interval[0] == 0.0  # P(X = n / 2) = .08 > .05: the 5% quantile is 0
    assert chance.null_interval[1] == pytest.approx(law.ppf(0.975) / n - 0.5, abs=0.011)


def test_the_ends_of_the_interval_of_one_bin():
    # 400 rows of confidence .8, of which 320 are correct: the value is 0, a resample gives |X / n - .8|, X is binomial.
    n = 400
    chance = ece.bootstrap([0.8] * n, [1] * 320 + [0] * 80, 1, binary=True)
    x = np.arange(n + 1)
    distance, mass = np.abs(x / n - 0.8), stats.binom(n, 0.8).pmf(x)
    order = np.argsort(distance)
    low, high = (distance[order][np.searchsorted(np.cumsum(mass[order]), tail)] for tail in (0.025, 0.975))
    assert chance.interval[0] == 0.0
    assert chance.interval[1] == pytest.approx((high - low) / 2, abs=0.002)  # the basic bootstrap would give 0
    assert chance.bias == pytest.approx((distance * mass).sum(), abs=0.002)


def test_the_interval_agrees_with_scipys_bootstrap():
    p, labels = overconfident(300)

    def statistic(rows):
        return ece.expected_calibration_error(p[rows], labels[rows], binary=True)

    value = statistic(np.arange(300))
    peer = stats.bootstrap((np.arange(300),), statistic, n_resamples=1_000, vectorized=False, method="basic", rng=1)
    chance = ece.bootstrap(p, labels, binary=True)
    resampled = peer.bootstrap_distribution
    tolerance = 5 * resampled.std() / np.sqrt(1_000)
    assert chance.bias == pytest.approx(resampled.mean() - value, abs=tolerance)
    assert chance.interval[0] == pytest.approx(max(peer.confidence_interval.low, 0), abs=3 * tolerance)
    low, high = np.quantile(resampled, [0.025, 0.975])
    assert chance.interval[1] == pytest.approx(value + (high - low) / 2, abs=3 * tolerance)


@pytest.mark.parametrize("norm", ece.NORMS)
@pytest.mark.parametrize("debias", [False, True])
def test_a_resample_equal_to_the_data_has_its_value(norm, debias):
    # A resample that draws every row once equals the data.
    if debias and norm != "l2":
        pytest.skip("not defined")
    p, labels = overconfident(50)
    columns = ece._Columns(p, labels.astype(np.int64), False, False)
    edges = columns.edges(10, "uniform")

    class Once:
        def integers(self, low, high, shape):
            return np.broadcast_to(np.arange(50), shape)

    (sums, *_) = columns._resampled([ece.bins_of(p, edges[0])], 10, Once())
    found = ece.error_from_sums(*sums, norm=norm, debias=debias)
    value = ece.expected_calibration_error(p, labels, norm=norm, debias=debias, binary=True)
    np.testing.assert_allclose(np.sqrt(found) if norm == "l2" else found, value, atol=1e-12)


def test_labels_of_the_null_value_are_drawn_from_the_probabilities():
    # Rows with probability 1 always measure 0. The class-wise null value of two classes is that of the binary column.
    sure = np.eye(3)[[0, 1, 2, 2]]
    assert ece.bootstrap(sure, [0, 1, 0, 0], class_wise=True).null_interval == (0.0, pytest.approx(0.0, abs=2e-12))
    p, labels = overconfident(400)
    both = np.stack([1 - p, p], 1)
    two = ece.bootstrap(both, labels.astype(int), class_wise=True)
    one = ece.bootstrap(p, labels, binary=True)
    assert two.null == pytest.approx(one.null, rel=0.05)
    assert two.null_interval == pytest.approx(one.null_interval, abs=0.004)


def test_the_class_wise_null_value_matches_a_simulation_of_three_classes():
    random = np.random.default_rng(5)
    rows = random.dirichlet([1, 1, 1], 300)
    measured = []
    for _ in range(300):
        labels = np.array([random.choice(3, p=row) for row in rows])
        measured.append(ece.expected_calibration_error(rows, labels, class_wise=True))
    chance = ece.bootstrap(rows, labels, class_wise=True)
    assert chance.null == pytest.approx(np.mean(measured), abs=5 * np.std(measured) / np.sqrt(300))
    assert chance.null_interval == pytest.approx(np.quantile(measured, [0.025, 0.975]), rel=0.1)


def test_the_seed_fixes_the_result_and_global_random_state_is_unchanged(same_random_state):
    data = overconfident(100)
    with same_random_state():
        first, again, other = (ece.bootstrap(*data, seed=seed, binary=True) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("p", [0.9999, 0.99999, 0.999999])
def test_a_confident_model_that_is_always_right_is_inside_its_intervals(p):
    """All draws are equal, except for the rounding of their sums."""
    value = ece.expected_calibration_error([p] * 872, [1] * 872, binary=True)
    chance = ece.bootstrap([p] * 872, [1] * 872, binary=True)
    for low, high in (chance.interval, chance.null_interval):
        assert low <= value <= high


def test_blocks_cover_all_resamples():
    for rows in (1, 872, 10**6, 10**9):
        assert sum(ece._blocks(rows)) == ece.RESAMPLES


def test_memory_is_limited_to_one_block_for_many_classes_and_bins():
    import tracemalloc

    rows = np.random.default_rng(0).dirichlet(np.ones(60), 20)
    tracemalloc.start()
    ece.bootstrap(rows, np.arange(20), 600, class_wise=True)  # 60 x 600 bins x 1,000 draws would be 290 MB per sum
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 2**20


def test_a_higher_confidence_level_widens_the_interval():
    data = overconfident(300)
    narrow, wide = (ece.bootstrap(*data, confidence_level=level, binary=True) for level in (0.5, 0.99))
    assert wide.interval[0] < narrow.interval[0] < narrow.interval[1] < wide.interval[1]
    assert wide.null_interval[0] < narrow.null_interval[0] < narrow.null_interval[1] < wide.null_interval[1]


def test_the_metric_returns_the_bootstrap_with_confidence_level(metric):
    p, labels = overconfident(200)
    rows = np.stack([1 - p, p], 1)
    found = metric().compute(predictions=rows, references=labels.astype(int), confidence_level=0.9, seed=2)
    chance = ece.bootstrap(rows, labels.astype(int), confidence_level=0.9, seed=2)
    assert found == {
        "ece": ece.expected_calibration_error(rows, labels.astype(int)),
        "ece_interval": list(chance.interval),
        "ece_bias": chance.bias,
        "null_ece": chance.null,
        "null_interval": list(chance.null_interval),
    }
    assert chance.interval[0] <= found["ece"] <= chance.interval[1]


def test_the_interval_covers_the_truth_and_the_null_band_a_calibrated_model():
    """A coarse check. The numbers of the metric card come from benchmarks/metrics/ece_interval.py."""
    random = np.random.default_rng(0)

    def drawn(rows, d):
        p = (1 + random.beta(3, 1, rows)) / 2
        return p, random.random(rows) < p - d * (2 * p - 1)

    for d, attribute in ((0.12, "interval"), (0.0, "null_interval")):
        truth = ece.expected_calibration_error(*drawn(2_000_000, d), binary=True)
        held = []
        for seed in range(120):
            data = drawn(400, d)
            low, high = getattr(ece.bootstrap(*data, seed=seed, binary=True), attribute)
            value = truth if attribute == "interval" else ece.expected_calibration_error(*data, binary=True)
            held.append(low <= value <= high)
        # With 120 draws at 95%, coverage falls below 89% once in 400 runs.
        assert np.mean(held) > 0.89, attribute
