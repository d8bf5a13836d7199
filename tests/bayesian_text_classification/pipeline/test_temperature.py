"""Temperature scaling against SciPy's optimizer and scikit-learn's log loss, and what it must not change."""

import numpy as np
import pytest
from bayesian_text_classification.pipeline.temperature import (
    apply_temperature,
    determined,
    fit_temperature,
    influence,
    leave_one_out,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss


def drawn(rows, classes, sharpness, seed):
    """Rows whose temperature is `sharpness`: labels drawn from softmax(z), probabilities softmax(sharpness z)."""
    random = np.random.default_rng(seed)
    z = random.normal(0, 1.5, (rows, classes))
    labels = (softmax(z, axis=1).cumsum(1) < random.random(rows)[:, None]).sum(1)
    return softmax(sharpness * z, axis=1), labels


def loss(p, labels, log_temperature):
    """The objective that `fit_temperature` minimizes, with scikit-learn's log loss."""
    tempered = apply_temperature(p, np.exp(log_temperature))
    return log_loss(labels, tempered, labels=range(p.shape[1]), normalize=False) + log_temperature**2 / 2


@pytest.mark.parametrize("rows", [8, 500])
@pytest.mark.parametrize("sharpness", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("classes", [2, 5])
def test_fitted_temperature_is_the_minimum_that_scipy_finds(classes, sharpness, rows):
    p, labels = drawn(rows, classes, sharpness, 0)
    options = {"bounds": (-4, 4), "method": "bounded", "options": {"xatol": 1e-9}}
    peer = np.exp(minimize_scalar(lambda log_temperature: loss(p, labels, log_temperature), **options).x)
    assert fit_temperature(p, labels) == pytest.approx(peer, rel=1e-4)


@pytest.mark.parametrize(
    ("rows", "excess", "right"), [(30, 0.005, 27), (30, 0.01, 24), (50, 0.002, 50), (20, 0.005, 20)]
)
def test_on_nearly_uniform_rows_the_lower_of_two_minima_is_found(rows, excess, right):
    """The prior has a minimum at T = 1, the labels may have another one near 0."""
    p, labels = np.tile([[0.5 + excess, 0.5 - excess]], (rows, 1)), (np.arange(rows) >= right).astype(int)
    grid = np.linspace(np.log(0.01), np.log(100), 3001)
    z = special.logit(0.5 + excess) / np.exp(grid)  # by hand, as all rows are alike
    minima = right * np.logaddexp(0, -z) + (rows - right) * np.logaddexp(0, z) + grid**2 / 2
    assert minima[[0, 2000]] == pytest.approx([loss(p, labels, grid[at]) for at in (0, 2000)])
    assert ((minima[:-2] > minima[1:-1]) & (minima[1:-1] < minima[2:])).sum() + (minima[0] < minima[1]) == 2
    assert loss(p, labels, np.log(fit_temperature(p, labels))) <= min(minima) + 1e-6


def test_fit_recovers_the_true_temperature():
    p, labels = drawn(200_000, 3, 2.5, 1)
    assert fit_temperature(p, labels) == pytest.approx(2.5, rel=0.02)


def test_temperature_matches_hand_calculation():
    # Three of four labels are right at a confidence of 0.9. With many rows, the tempered confidence must be 3/4.
    p, labels = np.array([[0.1, 0.9]] * 40_000), np.array([1, 1, 1, 0] * 10_000)
    temperature = fit_temperature(p, labels)
    assert temperature == pytest.approx(np.log(9) / np.log(3), rel=1e-3)
    np.testing.assert_allclose(apply_temperature(p, temperature)[0], [0.25, 0.75], atol=1e-3)


def test_all_right_or_all_wrong_labels_keep_the_temperature_moderate():
    random = np.random.default_rng(0)
    p = np.tile([0.02, 0.98], (100, 1))
    right, wrong, one_wrong = np.ones(100, int), np.zeros(100, int), np.ones(100, int)
    one_wrong[0] = 0
    assert 0.2 < fit_temperature(p, right) < 1 < fit_temperature(p, wrong) < 90  # nearly uniform
    assert [determined(p, labels) for labels in (right, wrong, one_wrong)] == [False, False, True]
    assert not determined(p[:4], np.array([0, 1, 0, 1]))
    assert fit_temperature(np.full((3, 2), 0.5), np.array([0, 1, 1])) == pytest.approx(1.0)
    # One error among many: the temperature without it must not make its loss explode.
    confident = np.stack([0.001 * random.random(872), np.ones(872)], 1)
    confident /= confident.sum(1, keepdims=True)
    one_wrong = np.ones(872, int)
    one_wrong[0] = 0
    found = leave_one_out(confident, one_wrong, fit_temperature(confident, one_wrong))
    own = apply_temperature(confident, found)[0, 0]
    assert -np.log(own) < 3 * -np.log(confident[0, 0])


@given(st.integers(0, 99), st.sampled_from([0.3, 1.7, 10.0]))
def test_tempering_keeps_order_and_sums_and_temperatures_multiply(seed, temperature):
    p = np.random.default_rng(seed).dirichlet(np.ones(4), 20)
    tempered = apply_temperature(p, temperature)
    np.testing.assert_allclose(tempered.sum(1), 1, atol=1e-12)
    np.testing.assert_array_equal(np.argsort(tempered, 1), np.argsort(p, 1))
    back = apply_temperature(tempered, 1 / temperature)
    np.testing.assert_allclose(back, p, atol=1e-9)


def test_temperature_of_one_changes_nothing():
    p = np.random.default_rng(0).dirichlet(np.ones(4), 20).astype(np.float32)
    np.testing.assert_array_equal(apply_temperature(p, 1.0), p)


def test_probabilities_of_zero_are_accepted():
    p = np.array([[0.0, 1.0]] * 3 + [[1.0, 0.0]], dtype=np.float32)
    labels = np.array([1, 1, 0, 0])
    tempered = apply_temperature(p, fit_temperature(p, labels))
    assert np.isfinite(tempered).all() and 0.75 < tempered[0, 1] < 0.99


@pytest.mark.parametrize("classes", [2, 4])
def test_leave_one_out_matches_fitting_on_the_others(classes):
    p, labels = drawn(150, classes, 2.0, 3)
    whole = fit_temperature(p, labels)
    found = leave_one_out(p, labels, whole)
    exact = np.array([fit_temperature(np.delete(p, i, 0), np.delete(labels, i)) for i in range(150)])
    np.testing.assert_allclose(found, exact, rtol=6e-3)
    assert np.abs(found - exact).max() < 0.1 * np.abs(exact - whole).max()


@pytest.mark.parametrize(("rows", "wrong"), [(20, 1), (60, 1), (40, 3)])
def test_leave_one_out_is_accurate_when_one_row_dominates(rows, wrong):
    p = np.random.default_rng(0).uniform(0.6, 0.99, rows)
    p = np.stack([1 - p, p], 1)
    labels = np.array([0] * wrong + [1] * (rows - wrong))
    found = leave_one_out(p, labels, fit_temperature(p, labels))
    exact = np.array([fit_temperature(np.delete(p, i, 0), np.delete(labels, i)) for i in range(rows)])
    np.testing.assert_allclose(found, exact, rtol=0.01)


@pytest.mark.parametrize("classes", [2, 5])
def test_influence_is_the_effect_of_one_row_more_and_its_spread_that_of_the_fit(classes):
    p, labels = drawn(400, classes, 1.5, 0)
    whole = fit_temperature(p, labels)
    moves = influence(p, labels, whole)
    for i in (0, 7, 99):
        more = fit_temperature(np.concatenate([p, p[[i]]]), np.append(labels, labels[i]))
        assert 1 / more - 1 / whole == pytest.approx(moves[i] / 400, rel=0.1, abs=1e-4)
    fits = [1 / fit_temperature(*drawn(400, classes, 1.5, seed)) for seed in range(1, 200)]
    assert np.std(fits) == pytest.approx(moves.std() / 400**0.5, rel=0.2)


def test_nan_probability_raises():
    with pytest.raises(ValueError, match="a probability is NaN"):
        fit_temperature(np.array([[np.nan, 1.0], [0.5, 0.5]]), np.array([0, 1]))


def test_leave_one_out_of_two_rows_matches_fitting_on_the_other():
    p = np.array([[0.1, 0.9], [0.7, 0.3]])
    for labels in (np.array([1, 0]), np.array([0, 1])):
        found = leave_one_out(p, labels, fit_temperature(p, labels))
        exact = [fit_temperature(p[[1 - i]], labels[[1 - i]]) for i in range(2)]
        np.testing.assert_allclose(found, exact, rtol=0.01)


def test_each_text_may_have_its_own_temperature():
    p = np.random.default_rng(0).dirichlet(np.ones(3), 4)
    each = np.array([1.0, 2.0, 0.5, 1.0])
    expected = [apply_temperature(p[i : i + 1], float(t))[0] for i, t in enumerate(each)]
    np.testing.assert_array_equal(apply_temperature(p, each), expected)
