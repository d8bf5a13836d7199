"""Measures compared with scikit-learn, the metric, brute force and hand calculation; resamples with repeated rows."""

import itertools

import numpy as np
import pytest
from bayesian_text_classification.evaluation.statistics.measures import MEASURES, risk_coverage
from bayesian_text_classification.evaluation.statistics.predictions import Predictions, Weighted
from bayesian_text_classification.metric import load_metric_module
from bayesian_text_classification.pipeline.temperature import apply_temperature
from hypothesis import given, settings
from hypothesis import strategies as st
from interval_cases import MEASURE
from scipy.special import softmax
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score


def drawn(rows, classes, seed=0):
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(classes, 0.6), rows)
    labels = np.where(random.random(rows) < 0.6, p.argmax(1), random.integers(0, classes, rows))
    return p, labels


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("count", [700, 15])  # with 15 rows, bins hold one row each
def test_measures_match_scikit_learn_and_the_metric(classes, count):
    p, labels = drawn(count, classes)
    rows, ids = Predictions.of(p, labels), list(range(classes))
    metric = load_metric_module()
    entropy = -(p * np.log(p)).sum(1)
    peers = {
        "accuracy": accuracy_score(labels, p.argmax(1)),
        "nll": log_loss(labels, p, labels=ids),
        "brier": brier_score_loss(labels, p if classes > 2 else p[:, 1], labels=ids),
        "ece": metric.expected_calibration_error(p, labels),
        "class_wise_ece": metric.expected_calibration_error(p, labels, class_wise=True),
        "l2_ece": metric.expected_calibration_error(p, labels, norm="l2", debias=True),
        "error_auroc": roc_auc_score(p.argmax(1) != labels, entropy),
    }
    for key, expected in peers.items():
        assert MEASURE[key].value(rows) == pytest.approx(expected, abs=1e-9), key


def test_brier_decomposition_by_hand():
    # Two bins: p = .25 (four rows, one positive) and p = .75 (four rows, two positive).
    p = np.array([0.25] * 4 + [0.75] * 4)
    rows = Predictions.of(np.stack([1 - p, p], 1), np.array([1, 0, 0, 0, 1, 1, 0, 0]))
    assert MEASURE["brier_reliability"].value(rows) == pytest.approx((0 + 0.25**2) / 2)
    assert MEASURE["brier_resolution"].value(rows) == pytest.approx(((0.25 - 0.375) ** 2 + (0.5 - 0.375) ** 2) / 2)
    # Values do not vary inside a bin, so the identity is exact.
    parts = [MEASURE[key].value(rows) for key in ("brier_reliability", "brier_resolution")]
    assert MEASURE["brier"].value(rows) == pytest.approx(parts[0] - parts[1] + 0.375 * 0.625)


@pytest.mark.parametrize("key", ["brier_reliability", "brier_resolution", "l2_ece"])
@pytest.mark.parametrize("classes", [2, 4])
def test_squares_are_row_means_with_jackknife_spread(key, classes):
    rows, measure = Predictions.of(*drawn(300, classes)), MEASURE[key]
    few = Predictions.of(*drawn(25, classes, seed=5 if classes == 4 else 3))  # some bins hold one row
    root = key == "l2_ece"
    if root:
        assert measure.value(few) ** 2 == pytest.approx(
            max(measure.strategy.of(few).per_row.mean() - measure.strategy.of(few).noise, 0)
        )
    squares = measure.strategy.of(rows)
    value = squares.per_row.mean()
    assert measure.value(rows) == pytest.approx(np.sqrt(value - squares.noise) if root else value)
    # The effect of slightly more weight on one row is the definition of the infinitesimal jackknife.
    heavier = np.ones((300, 300)) + 1e-6 * np.eye(300)
    moved = measure.values(Weighted(rows, heavier)) - measure.value(rows)
    if root:
        moved *= 2 * measure.value(rows)  # of its square; the noise also moves, by less than a twentieth
    np.testing.assert_allclose(300 * moved / 1e-6, squares.per_row - value, atol=0.05 if root else 1e-4)


@pytest.mark.parametrize("key", ["brier_reliability", "brier_resolution", "l2_ece"])
def test_noise_in_squares_is_removed_on_average(key):
    """Each bin has one probability, which is right. Without noise there is no gap, and the resolution is known."""
    random = np.random.default_rng(0)
    p = np.repeat([0.55, 0.65, 0.75, 0.85], 60)
    truth = np.var([0.55, 0.65, 0.75, 0.85]) if key == "brier_resolution" else 0
    found = []
    for _ in range(400):
        rows = Predictions.of(np.stack([1 - p, p], 1), (random.random(240) < p).astype(int))
        squares = MEASURE[key].strategy.of(rows)
        found.append(squares.per_row.mean() - squares.noise - truth)
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(400) < squares.noise / 2


def test_area_under_the_risk_coverage_curve_by_hand():
    # By confidence: right, wrong, right; risks 0, 1/2, 1/3.
    rows = Predictions.of(np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), np.array([0, 0, 0]))
    assert MEASURE["aurc"].value(rows) == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    assert MEASURE["error_auroc"].value(rows) == 0.5  # the wrong row is more confident than one of the two right rows
    share, risk = risk_coverage(rows.probabilities, rows.labels)
    np.testing.assert_allclose(share, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(risk, [0, 1 / 2, 1 / 3])


def test_ties_in_confidence_average_over_all_orders():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 1, 1])
    wrong = p.argmax(1) != labels
    areas = [np.mean(np.cumsum(wrong[[0, *order, 4]]) / np.arange(1, 6)) for order in itertools.permutations([1, 2, 3])]
    assert MEASURE["aurc"].value(Predictions.of(p, labels)) == pytest.approx(np.mean(areas))
    assert MEASURE["error_auroc"].value(Predictions.of(p, labels)) == pytest.approx(
        roc_auc_score(wrong, -(p * np.log(p)).sum(1))
    )


def test_confidences_that_differ_by_rounding_are_ties():
    """The entropies of a row and its permutation differ in the last bit; all errors are in one of the two kinds."""
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.7, 0.2]] * 50)
    labels = np.where(np.arange(100) % 10 == 8, 1, np.arange(100) % 2)
    rows = Predictions.of(p, labels)
    assert MEASURE["error_auroc"].value(rows) == pytest.approx(0.5)
    assert MEASURE["aurc"].value(rows) == pytest.approx(rows.errors / 100, abs=0.02)


LOGITS = [[1.5, 0.2, -0.6], [8.0, -3.0, -2.0], [0.0, 0.0, 0.0], [3.0, 1.0, -2.0], [4.0, -4.0], [10.0, -10.0]]


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("logits", LOGITS)
def test_confidences_that_float32_rounds_apart_are_ties(logits, temperature):
    """One classifier is always equally sure, but its logits and their softmax are rounded in float32."""
    random = np.random.default_rng(0)
    moved = np.float32(logits) * (1 + random.uniform(-1, 1, (400, len(logits))).astype(np.float32) * np.float32(2**-23))
    rounded = np.float32(softmax(moved, 1) * (1 + random.integers(-1, 2, moved.shape) * 2**-24))
    labels = (np.arange(400) % 4 == 0) * 1
    rows = Predictions.of(apply_temperature(rounded, temperature), labels)
    assert len(np.unique(rounded[:, 1])) > 2
    if logits[0] > 0:
        assert MEASURE["error_auroc"].value(rows) == pytest.approx(0.5, abs=1e-12)
        assert MEASURE["aurc"].value(rows) == pytest.approx(0.25, abs=1e-12)
    assert len(np.unique(rows.doubt)) == len(np.unique(rows.entropy)) == 1


@pytest.mark.parametrize("scale", [1e-3, 1.0, 12.0])
def test_other_confidences_are_no_ties(scale):
    """Near-uniform, ordinary and extreme rows keep their order: ranks are those of exact arithmetic."""
    random = np.random.default_rng(0)
    logits = random.normal(0, scale, (2_000, 2))
    p, labels = softmax(logits, 1), random.integers(0, 2, 2_000)
    rows = Predictions.of(p, labels)
    sure = np.abs(logits[:, 0] - logits[:, 1])
    assert MEASURE["error_auroc"].value(rows) == pytest.approx(roc_auc_score(1 - rows.correct, -sure), abs=1e-4)
    assert roc_auc_score(1 - rows.correct, rows.doubt) == pytest.approx(
        roc_auc_score(1 - rows.correct, -sure), abs=1e-4
    )


def test_every_measure_of_cost_has_one_floor():
    """A probability of 0 costs as much in an arm with a temperature as in one without."""
    p, labels = np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([1, 0])
    plain = Predictions.of(p, labels).nll
    tempered = Predictions.of(apply_temperature(p, np.array([1.0000001, 1.0])), labels).nll
    assert plain[0] == pytest.approx(tempered[0], rel=1e-6) == pytest.approx(87.34, abs=0.01)


def test_without_errors_auroc_is_nan_and_aurc_is_zero():
    rows = Predictions.of(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 1]))
    assert np.isnan(MEASURE["error_auroc"].value(rows))
    assert MEASURE["aurc"].value(rows) == 0.0


@given(seed=st.integers(0, 10**6), classes=st.sampled_from([2, 3]), rows=st.integers(2, 30))
@settings(max_examples=60)
def test_integer_weights_give_the_values_of_repeated_rows(seed, classes, rows):
    random = np.random.default_rng(seed)
    p = np.round(random.dirichlet(np.ones(classes), rows), 1) + 0.01  # with ties
    p /= p.sum(1, keepdims=True)
    labels = random.integers(0, classes, rows)
    weights = np.stack([np.bincount(random.integers(0, rows, rows), minlength=rows) for _ in range(3)]).astype(float)
    for measure in MEASURES:
        found = measure.values(Weighted(Predictions.of(p, labels), weights))
        for value, repeats in zip(found, weights.astype(int), strict=True):
            again = measure.value(Predictions.of(np.repeat(p, repeats, 0), np.repeat(labels, repeats)))
            assert value == pytest.approx(again, abs=1e-9, nan_ok=True), measure.key


def test_float32_rows_and_zero_probabilities_give_finite_values():
    p = np.array([[1.0, 0.0], [0.3, 0.7]], dtype=np.float32)
    rows = Predictions.of(p, np.array([1, 1]))
    assert np.isfinite(MEASURE["nll"].value(rows))
    np.testing.assert_allclose(rows.entropy[0], 0, atol=1e-12)
