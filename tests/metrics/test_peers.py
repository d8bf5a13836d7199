"""Comparison with other libraries: equality where they are right, and the correct value by hand where they are wrong.

`benchmarks/metrics/peers.py` writes a table of their wrong values, because these change with their releases.
"""

import numpy as np
import pytest
import torch
from baal.utils.metrics import ECE as BaalECE
from bayesian_text_classification.metric import load_metric_module
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

ece = load_metric_module()


@pytest.fixture(scope="module")
def data():
    """Distinct probabilities of two classes, none near an edge of 10 or 15 bins, and labels."""
    random = np.random.default_rng(0)
    p = np.unique(random.random(4000))
    p = p[(np.abs(p * 30 - np.round(p * 30)) > 1e-3)]
    random.shuffle(p)
    return np.stack([1 - p, p], 1), (random.random(len(p)) < p**1.5).astype(int)


# Where the other libraries are right


def baal_ece(predictions, references, n_bins):
    peer = BaalECE(n_bins=n_bins)
    peer.update(torch.tensor(predictions, dtype=torch.float64), torch.tensor(references))
    return float(peer.value)


def interior_rows(n_bins, rows=400, classes=4):
    """Rows whose largest probability is well inside its bin, where all conventions agree."""
    rng = np.random.default_rng(n_bins)
    confidence = (rng.integers((n_bins + 1) // 2, n_bins, rows) + rng.uniform(0.2, 0.8, rows)) / n_bins
    rest = rng.dirichlet(np.ones(classes - 1), rows) * (1 - confidence)[:, None]
    return rng.permuted(np.column_stack([confidence, rest]), axis=1), rng.integers(0, classes, rows)


@pytest.mark.parametrize("n_bins", [2, 7, 10, 15, 30])
def test_top_label_ece_equals_torchmetrics_and_baal_away_from_edges(n_bins):
    rows, labels = interior_rows(n_bins)
    value = ece.expected_calibration_error(rows, labels, n_bins)
    peer = multiclass_calibration_error(torch.tensor(rows), torch.tensor(labels), rows.shape[1], n_bins=n_bins)
    assert value == pytest.approx(peer.item(), abs=1e-6)  # torchmetrics always computes in float32
    assert value == pytest.approx(baal_ece(rows, labels, n_bins), abs=1e-12)


def test_binary_ece_equals_torchmetrics_away_from_edges():
    rng = np.random.default_rng(0)
    p, labels = rng.integers(0, 10, 200) / 10 + rng.uniform(0.02, 0.08, 200), rng.integers(0, 2, 200)
    peer = binary_calibration_error(torch.tensor(p), torch.tensor(labels), n_bins=10)
    assert ece.expected_calibration_error(p, labels, binary=True) == pytest.approx(peer.item(), abs=1e-6)


@pytest.mark.parametrize(("norm", "theirs"), [("l1", "l1"), ("l2", "l2"), ("max", "max")])
def test_norms_equal_torchmetrics(data, norm, theirs):
    rows, labels = data
    value = ece.expected_calibration_error(rows[:, 1], labels, norm=norm, binary=True)
    peer = binary_calibration_error(torch.tensor(rows[:, 1]), torch.tensor(labels), n_bins=10, norm=theirs)
    assert value == pytest.approx(peer.item(), abs=1e-6)


@pytest.mark.slow  # needs the extra dev
def test_l1_and_max_equal_netcal(data):
    import netcal.metrics

    rows, labels = data
    for peer, norm in ((netcal.metrics.ECE, "l1"), (netcal.metrics.MCE, "max")):
        value = ece.expected_calibration_error(rows[:, 1], labels, norm=norm, binary=True)
        assert value == pytest.approx(peer(10).measure(rows[:, 1], labels), abs=1e-12)


@pytest.mark.slow  # needs the extra dev
def test_quantile_bins_equal_relplot(data):
    import relplot

    rows, labels = data
    rows, labels = rows[:3000], labels[:3000]
    value = ece.expected_calibration_error(rows[:, 1], labels, binning="quantile", binary=True)
    assert value == pytest.approx(relplot.metrics.binnedECE(rows[:, 1], labels, nbins=10), abs=2e-3)


@pytest.mark.slow  # needs the extra dev
def test_l2_and_debiasing_equal_the_code_of_kumar_et_al(data):
    import calibration as verified

    rows, labels = data
    bins = verified.get_equal_prob_bins(rows[:, 1], num_bins=10)
    binned = verified.bin(list(zip(rows[:, 1], labels, strict=True)), bins)
    for debias, peer in ((False, verified.plugin_ce(binned) ** 2), (True, verified.unbiased_square_ce(binned))):
        value = ece.expected_calibration_error(rows[:, 1], labels, norm="l2", debias=debias, binary=True)
        assert value == pytest.approx(np.sqrt(peer), abs=1e-12)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_the_reliability_curve_equals_scikit_learn(data, strategy):
    rows, labels = data
    rows, labels = rows[:1000], labels[:1000]
    accuracy, confidence = calibration_curve(labels, rows[:, 1], n_bins=10, strategy=strategy)
    edges = ece.quantile_edges(rows[:, 1], 10) if strategy == "quantile" else None
    sums = ece.bin_sums(rows[:, 1], labels, 10, edges=edges, binary=True)
    # scikit-learn uses NumPy's quantiles, which lie between two values; our edges are values.
    tolerance = 1e-12 if strategy == "uniform" else 0.01
    np.testing.assert_allclose(sums.accuracy, accuracy, atol=tolerance)
    np.testing.assert_allclose(sums.mean_confidence, confidence, atol=tolerance)


# Where they are wrong. The numbers in the names group the ways in which ECE goes wrong.


def test_1_a_confidence_of_one_has_no_separate_bin_and_is_not_clipped():
    rows, labels = [[0.05, 0.95], [0.0, 1.0]], [1, 0]
    assert ece.expected_calibration_error(rows, labels) == 0.475  # |1/2 - 1.95/2|
    perfect = np.eye(2)[[0, 1, 1]]
    assert ece.expected_calibration_error(perfect, [0, 1, 1]) == 0.0


def test_1_a_confidence_of_zero_counts():
    # Two rows in [0, .1): mean probability .025, one positive. |1/2 - .025|
    p, labels = np.array([0.0, 0.05]), np.array([1, 0])
    assert ece.expected_calibration_error(p, labels, binary=True) == 0.475


def test_2_edges_differ_from_those_of_linspace_and_floor():
    assert [ece.bin_sums([x], [1], binary=True).counts.index(1) for x in (0.3, 0.6, 0.7)] == [3, 6, 7]


def test_3_ties_share_a_bin_in_any_row_order():
    random = np.random.default_rng(0)
    p = random.choice([0.2, 0.4, 0.6, 0.8], 400)
    labels = (random.random(400) < p).astype(int)
    # By hand: each value is a bin.
    truth = sum(abs(labels[p == x].sum() - x * (p == x).sum()) for x in (0.2, 0.4, 0.6, 0.8)) / 400
    found = set()
    for _ in range(20):
        order = random.permutation(400)
        found.add(ece.expected_calibration_error(p[order], labels[order], binning="quantile", binary=True))
    assert len(found) == 1
    assert found.pop() == pytest.approx(truth, abs=1e-15)


def test_3_a_constant_predictor_has_one_bin():
    p, labels = np.full(100, 0.3), np.array([1] * 50 + [0] * 50)
    assert ece.expected_calibration_error(p, labels, binning="quantile", binary=True) == pytest.approx(0.2)


def test_4_rows_are_weighted_equally_not_bins():
    p, labels = [0.0, 0.0, 0.0, 0.5], [0, 0, 0, 1]
    assert ece.expected_calibration_error(p, labels, binary=True) == 0.125  # 3/4 * 0 + 1/4 * .5


def test_4_classes_come_from_the_columns():
    assert ece.expected_calibration_error([[0.2, 0.2, 0.6], [0.6, 0.2, 0.2]], [0, 0]) == pytest.approx(0.1)


@pytest.mark.parametrize("value", [float("nan"), 1.5])
def test_5_a_value_that_is_not_a_probability_raises(value):
    p, labels = np.array([0.2, value]), np.array([0, 1])
    with pytest.raises(ValueError, match=r"predictions\[1\] is"):
        ece.expected_calibration_error(p, labels, binary=True)


def test_5_empty_input_raises():
    with pytest.raises(ValueError, match="predictions is empty"):
        ece.expected_calibration_error([], [], binary=True)


def test_5_logits_are_never_guessed():
    logits = torch.tensor([-1.0, 0.5])
    with pytest.raises(ValueError, match="from_logits=True"):
        ece.expected_calibration_error(logits, [0, 1], binary=True)


def test_6_top_label_and_binary_ece_differ_on_the_same_array(data):
    rows, labels = data
    top, binary = (
        ece.expected_calibration_error(rows, labels),
        ece.expected_calibration_error(rows[:, 1], labels, binary=True),
    )
    assert abs(top - binary) > 0.01


def test_6_class_wise_ece_is_not_the_ece_of_each_true_class():
    rows, labels = np.array([[0.5, 0.3, 0.2]] * 10), np.array([0] * 5 + [1] * 3 + [2] * 2)
    assert ece.expected_calibration_error(rows, labels, class_wise=True) == pytest.approx(0, abs=1e-15)


def test_7_sums_do_not_lose_rows_as_float32_does():
    # The cause is at 2^24, where float32 has no odd numbers. benchmarks/metrics/ece.py shows it at 40 million rows.
    assert np.float32(2**24) + np.float32(1) == np.float32(2**24)
    sums = ece.bin_sums(np.full(3, 0.7, np.float32), [1, 0, 1], binary=True)
    many = ece.BinSums(
        sums.edges, *(tuple(x * 2**24 for x in part) for part in (sums.counts, sums.confidence, sums.correct))
    )
    assert many.ece == sums.ece == abs(2 - 3 * float(np.float32(0.7))) / 3


def test_8_the_ece_of_few_rows_exceeds_the_truth():
    random = np.random.default_rng(0)
    p = (1 + random.beta(3, 1, 872)) / 2
    chance = ece.bootstrap(p, random.random(872) < p, 15, binary=True)
    assert 0.010 < chance.null < 0.024  # the truth is 0
