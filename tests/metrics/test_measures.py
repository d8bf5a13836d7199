"""Class-wise ECE, quantile bins, norms and debiasing: values computed by hand, equivalences, and properties."""

import math

import numpy as np
import pytest
from bayesian_text_classification.metric import load_metric_module
from hypothesis import given
from hypothesis import strategies as st

ece = load_metric_module()

PROBABILITIES = st.floats(0, 1)
BINS = st.integers(1, 20)


@st.composite
def scored(draw, most=30):
    """Probabilities of the positive class, and labels."""
    p = draw(st.lists(PROBABILITIES | st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), min_size=1, max_size=most))
    return p, draw(st.lists(st.integers(0, 1), min_size=len(p), max_size=len(p)))


@st.composite
def classified(draw, most=12):
    """Rows of three probabilities, and labels."""
    counts = st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any)
    rows = np.array(draw(st.lists(counts, min_size=1, max_size=most)), dtype=float)
    labels = draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    return rows / rows.sum(1, keepdims=True), labels


# Class-wise (Kull et al. 2019)


def test_class_wise_by_hand():
    rows, labels = [[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.25, 0.75]], [0, 1, 1, 1]
    # Class 0, bin [.2, .3): two rows of .25, none in class 0, gap .25. Bin [.7, .8): one of two is, gap .25.
    # Class 1, bin [.2, .3): one of two rows is in class 1, gap .25. Bin [.7, .8): both are, gap .25. Means .25 and .25.
    assert ece.expected_calibration_error(rows, labels, class_wise=True) == 0.25
    assert ece.expected_calibration_error(rows, labels) == 0.0  # the top-label confidence is right on average


def test_class_wise_ece_is_not_the_ece_of_each_true_class():
    # baal's ECE_PerCLs bins the rows of one true class; Kull et al. bin all rows by the probability of one class.
    rows, labels = [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]], [0, 1]
    # Classes 0 and 1: both rows in [.5, .6), one of two, gap 0. Class 2: both in [0, .1), none, gap 0.
    assert ece.expected_calibration_error(rows, labels, class_wise=True) == 0.0


@given(classified(), BINS, st.sampled_from(ece.BINNINGS))
def test_class_wise_ece_is_the_mean_over_the_classes(data, n_bins, binning):
    rows, labels = data
    each = [
        ece.expected_calibration_error(rows[:, k], np.array(labels) == k, n_bins, binning=binning, binary=True)
        for k in range(3)
    ]
    found = ece.expected_calibration_error(rows, labels, n_bins, binning=binning, class_wise=True)
    assert found == pytest.approx(np.mean(each), abs=1e-15)


# Norms


def test_norms_by_hand():
    p, labels = [0.25, 0.25, 0.25, 0.25, 0.875, 0.875], [0, 1, 0, 0, 1, 0]
    # Bin [.2, .3): 4 rows, 1/4, gap 0. Bin [.8, .9): 2 rows, 1/2, gap .375.
    assert ece.expected_calibration_error(p, labels, binary=True) == 2 / 6 * 0.375
    assert ece.expected_calibration_error(p, labels, binary=True, norm="max") == 0.375
    l2 = ece.expected_calibration_error(p, labels, binary=True, norm="l2")
    assert l2 == pytest.approx(math.sqrt(2 / 6 * 0.375**2), abs=1e-15)
    # Expected noise: [.2, .3): 1/4 * 3/4 / 3 = 1/16. [.8, .9): 1/2 * 1/2 / 1 = 1/4 > .375^2, so the sum is negative.
    assert ece.expected_calibration_error(p, labels, binary=True, norm="l2", debias=True) == 0.0


def test_debiasing_by_hand():
    p, labels = [0.25] * 4 + [1.0] * 2 + [0.55], [0, 1, 0, 0, 0, 0, 1]
    # [.2, .3): 4 rows, gap 0, noise 1/16. [.9, 1]: 2 rows, gap 1, noise 0. [.5, .6): one row, counts as 0.
    # (4 * (0 - 1/16) + 2 * (1 - 0) + 0) / 7 = 1.75 / 7 = 1/4
    assert ece.expected_calibration_error(p, labels, binary=True, norm="l2", debias=True) == 0.5


def test_class_wise_l2_and_max_combine_the_gaps_of_all_classes():
    rows, labels = [[0.75, 0.25, 0.0], [0.75, 0.25, 0.0]], [0, 2]
    # Gaps: class 0 .25; class 1 .25; class 2 .5; each over all rows.
    l2 = ece.expected_calibration_error(rows, labels, class_wise=True, norm="l2")
    assert l2 == pytest.approx(math.sqrt((0.25**2 + 0.25**2 + 0.5**2) / 3), abs=1e-15)
    assert ece.expected_calibration_error(rows, labels, class_wise=True, norm="max") == 0.5


@given(scored(), BINS, st.sampled_from(ece.BINNINGS))
def test_l1_is_at_most_l2_and_l2_at_most_max(data, n_bins, binning):
    l1, l2, largest = (
        ece.expected_calibration_error(*data, n_bins, binning=binning, norm=norm, binary=True)
        for norm in ("l1", "l2", "max")
    )
    assert 0 <= l1 <= l2 + 1e-12 <= largest + 2e-12 <= 1 + 2e-12
    assert ece.expected_calibration_error(*data, n_bins, binning=binning, norm="l2", debias=True, binary=True) <= l2


def test_debiasing_removes_the_bias():
    # For a calibrated model, the mean squared error is sampling noise, and the mean of the debiased one is 0.
    random = np.random.default_rng(0)
    plain, debiased = [], []
    for _ in range(300):
        p = random.random(400)
        sums = [ece.bin_sums(p, random.random(400) < p, binary=True)]
        plain.append(ece.calibration_error(sums, "l2") ** 2)
        counts, accuracy = np.array(sums[0].counts), sums[0].accuracy
        chance = (counts / 400 * accuracy * (1 - accuracy) / (counts - 1)).sum()
        debiased.append(plain[-1] - chance)
    assert np.mean(plain) > 15 * abs(np.mean(debiased))


# Quantile bins


def test_quantile_edges_by_hand():
    assert ece.quantile_edges([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 3) == [0.0, 0.3, 0.5, 1.0]
    assert ece.quantile_edges([0.9], 10) == [0.0, 1.0]
    assert ece.quantile_edges([0.2, 0.7, 0.7, 0.7], 2) == [0.0, 0.7, 1.0]
    assert ece.quantile_edges([0.5, 1.0, 1.0], 3) == [0.0, 1.0, 1.0]  # the last bin is [1, 1]


def test_a_constant_predictor_has_one_bin():
    # relplot and others split ties. That gives 0.0, or a value that depends on the order of the rows.
    p, labels = [0.7] * 10, [1, 0] * 5
    value = ece.expected_calibration_error(p, labels, binning="quantile", binary=True)
    assert value == pytest.approx(0.2, abs=1e-15)


def test_equal_confidences_are_never_split():
    p = np.array([0.2] * 3 + [0.6] * 5 + [0.9] * 2)
    sums = ece.bin_sums(p, np.ones(10, int), edges=ece.quantile_edges(p, 5), binary=True)
    assert sums.counts == (3, 5, 2)


@given(scored(), BINS, st.randoms(use_true_random=False))
def test_quantile_bins_do_not_depend_on_the_order_of_the_rows(data, n_bins, random):
    rows = list(zip(*data, strict=True))
    random.shuffle(rows)
    for norm in ("l1", "l2", "max"):
        options = {"binning": "quantile", "norm": norm, "binary": True}
        shuffled = ece.expected_calibration_error([p for p, _ in rows], [y for _, y in rows], n_bins, **options)
        assert shuffled == ece.expected_calibration_error(*data, n_bins, **options)


@given(st.lists(PROBABILITIES, min_size=1, max_size=60, unique=True), BINS)
def test_quantile_bins_of_distinct_values_differ_by_at_most_one_row(p, n_bins):
    sums = ece.bin_sums(p, [1] * len(p), edges=ece.quantile_edges(p, n_bins), binary=True)
    assert len(sums.counts) == min(n_bins, len(p))
    assert max(sums.counts) - min(sums.counts) <= 1


# Properties of all variants


@given(classified(), BINS, st.sampled_from(ece.BINNINGS), st.sampled_from(["l1", "l2", "max"]), st.booleans())
def test_duplicated_rows_do_not_change_the_value(data, n_bins, binning, norm, class_wise):
    rows, labels = data
    options = {"binning": binning, "norm": norm, "class_wise": class_wise}
    value = ece.expected_calibration_error(rows, labels, n_bins, **options)
    assert 0 <= value <= 1
    twice = ece.expected_calibration_error(np.concatenate([rows, rows]), labels * 2, n_bins, **options)
    assert twice == value


@given(classified(), st.integers(0, 12), BINS)
def test_class_wise_and_quantile_shards_merge_exactly(data, cut, n_bins):
    rows, labels = data
    parts = [(rows[:cut], labels[:cut]), (rows[cut:], labels[cut:])]
    parts = [part for part in parts if len(part[0])]
    edges = [ece.quantile_edges(rows[:, k], n_bins) for k in range(3)]
    for own, options in ((None, {}), (edges, {"binning": "quantile"})):
        shards = [ece.class_wise_bin_sums(*part, n_bins, edges=own) for part in parts]
        merged = shards[0] if len(shards) == 1 else [a + b for a, b in zip(*shards, strict=True)]
        whole = ece.expected_calibration_error(rows, labels, n_bins, class_wise=True, **options)
        assert ece.calibration_error(merged) == whole
        assert all(sum(sums.counts) == len(rows) for sums in merged)


def test_the_error_of_a_calibrated_predictor_converges_to_zero():
    random = np.random.default_rng(1)
    for norm in ("l1", "l2", "max"):
        values = []
        for rows in (100, 10_000, 1_000_000):
            p = random.random(rows)
            labels = random.random(rows) < p
            values.append(ece.expected_calibration_error(p, labels, norm=norm, binning="quantile", binary=True))
        assert values[0] > values[1] > values[2]
        assert values[2] < 0.005


# Errors


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"binning": "equal"}, "binning is 'equal'; it must be one of 'uniform', 'quantile'"),
        ({"norm": "linf"}, "norm is 'linf'; it must be one of 'l1', 'l2', 'max'"),
        ({"debias": True}, "debias is True and norm is 'l1'; debiasing is defined only for norm=\"l2\""),
        ({"class_wise": "yes"}, "class_wise is 'yes'; it must be True or False"),
        ({"confidence_level": 95}, "confidence_level is 95; it must lie between 0 and 1, such as 0.95"),
        ({"confidence_level": 1.0}, "confidence_level is 1.0; it must lie between 0 and 1"),
        ({"debias": True, "norm": "l2", "confidence_level": 0.9}, "debias is True and confidence_level is given"),
        ({"seed": -1, "confidence_level": 0.9}, "seed is -1; it must be an integer of at least 0"),
    ],
    ids=str,
)
def test_invalid_options_raise(options, sentence, metric):
    with pytest.raises(ValueError) as error:
        metric().compute(predictions=[[0.5, 0.5]], references=[0], **options)
    assert sentence in str(error.value)


def test_class_wise_in_binary_raises(metric):
    with pytest.raises(
        ValueError, match="class_wise is True, but predictions holds only the probability of the positive"
    ):
        metric("binary").compute(predictions=[0.5], references=[0], class_wise=True)


@pytest.mark.parametrize(
    "edges", [[0, 0.5], [0.1, 1], [0, 0.5, 0.5, 1], [0, 0.7, 0.3, 1], [0, np.nan, 1], [0], [[0, 1]]], ids=str
)
def test_edges_that_do_not_ascend_from_0_to_1_raise(edges):
    with pytest.raises(ValueError, match="must be numbers that ascend from 0 to 1"):
        ece.bin_sums([0.5], [1], edges=edges, binary=True)


@pytest.mark.parametrize("n_bins", [np.int8(127), np.uint8(255)])
@pytest.mark.parametrize("binning", ece.BINNINGS)
def test_n_bins_may_be_a_narrow_numpy_integer(n_bins, binning):
    data = [0.2, 0.7, 0.71], [0, 1, 1]
    found = ece.expected_calibration_error(*data, n_bins, binning=binning, binary=True)
    assert found == ece.expected_calibration_error(*data, int(n_bins), binning=binning, binary=True)


def test_adding_sums_over_different_edges_raises():
    with pytest.raises(ValueError, match="edges differ"):
        ece.bin_sums([0.5], [1], 2, binary=True) + ece.bin_sums([0.5], [1], edges=[0, 0.4, 1], binary=True)


@pytest.mark.parametrize("values", [[], [[0.5]], [[[0.5]]]], ids=str)
def test_quantile_edges_of_an_invalid_shape_raise(values):
    with pytest.raises(ValueError, match=r"confidence has shape .* give at least one number in \[0, 1\]"):
        ece.quantile_edges(values)
