"""Temperature scaling: SciPy's optimiser, scikit-learn's log loss, and what it must leave alone."""

import numpy as np
import pytest
from bayesian_text_classification.temperature import LEAST, MOST, apply_temperature, fit_temperature, leave_one_out
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss


def drawn(rows, classes, sharpness, seed):
    """Rows whose temperature is `sharpness`: labels drawn from softmax(z), probabilities softmax(sharpness z)."""
    random = np.random.default_rng(seed)
    z = random.normal(0, 1.5, (rows, classes))
    labels = (softmax(z, axis=1).cumsum(1) < random.random(rows)[:, None]).sum(1)
    return softmax(sharpness * z, axis=1), labels


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("classes", [2, 5])
def test_it_is_the_minimum_that_scipy_finds(classes, sharpness):
    p, labels = drawn(500, classes, sharpness, 0)

    def loss(log_temperature):
        return log_loss(labels, apply_temperature(p, np.exp(log_temperature)), labels=range(classes))

    peer = np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x)
    assert fit_temperature(p, labels) == pytest.approx(peer, rel=1e-5)


def test_it_finds_the_temperature_that_the_rows_were_made_with():
    p, labels = drawn(200_000, 3, 2.5, 1)
    assert fit_temperature(p, labels) == pytest.approx(2.5, rel=0.02)


def test_two_rows_by_hand():
    # Three of four labels are right at a confidence of 0.9: the tempered confidence must be 3/4.
    p, labels = np.array([[0.1, 0.9]] * 4), np.array([1, 1, 1, 0])
    temperature = fit_temperature(p, labels)
    assert temperature == pytest.approx(np.log(9) / np.log(3))
    np.testing.assert_allclose(apply_temperature(p, temperature), [[0.25, 0.75]] * 4)


def test_where_there_is_no_best_temperature_it_stays_in_bounds():
    p = np.array([[0.1, 0.9], [0.7, 0.3]])
    assert fit_temperature(p, np.array([1, 0])) == pytest.approx(LEAST)
    assert fit_temperature(p, np.array([0, 1])) == pytest.approx(MOST)
    assert fit_temperature(np.full((3, 2), 0.5), np.array([0, 1, 1])) == 1.0


@given(st.integers(0, 99), st.sampled_from([0.3, 1.7, 10.0]))
def test_order_and_sums_stay_and_temperatures_multiply(seed, temperature):
    p = np.random.default_rng(seed).dirichlet(np.ones(4), 20)
    tempered = apply_temperature(p, temperature)
    np.testing.assert_allclose(tempered.sum(1), 1, atol=1e-12)
    np.testing.assert_array_equal(np.argsort(tempered, 1), np.argsort(p, 1))
    back = apply_temperature(tempered, 1 / temperature)
    np.testing.assert_allclose(back, p, atol=1e-9)


def test_no_temperature_is_no_change_to_the_bit():
    p = np.random.default_rng(0).dirichlet(np.ones(4), 20).astype(np.float32)
    np.testing.assert_array_equal(apply_temperature(p, 1.0), p)


def test_probabilities_of_nought_are_taken():
    p = np.array([[0.0, 1.0]] * 3 + [[1.0, 0.0]], dtype=np.float32)
    labels = np.array([1, 1, 0, 0])
    assert np.isfinite(apply_temperature(p, fit_temperature(p, labels))).all()
    np.testing.assert_allclose(apply_temperature(p, fit_temperature(p, labels))[0, 1], 0.75, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_leaving_one_out_is_fitting_on_the_others(classes):
    p, labels = drawn(150, classes, 2.0, 3)
    whole = fit_temperature(p, labels)
    found = leave_one_out(p, labels, whole)
    exact = np.array([fit_temperature(np.delete(p, i, 0), np.delete(labels, i)) for i in range(150)])
    np.testing.assert_allclose(found, exact, rtol=6e-3)
    assert np.abs(found - exact).max() < 0.1 * np.abs(exact - whole).max()


@pytest.mark.parametrize(("rows", "wrong"), [(20, 1), (60, 1), (40, 3)])
def test_leaving_one_out_is_exact_where_one_row_decides(rows, wrong):
    p = np.random.default_rng(0).uniform(0.6, 0.99, rows)
    p = np.stack([1 - p, p], 1)
    labels = np.array([0] * wrong + [1] * (rows - wrong))
    found = leave_one_out(p, labels, fit_temperature(p, labels))
    exact = np.array([fit_temperature(np.delete(p, i, 0), np.delete(labels, i)) for i in range(rows)])
    np.testing.assert_allclose(found, exact, rtol=0.01)


def test_leaving_one_out_stays_at_a_bound_where_the_others_do():
    p = np.array([0.55, 0.58, 0.62, *[0.9] * 10])
    p = np.stack([1 - p, p], 1)
    for label, bound in ((1, LEAST), (0, MOST)):
        labels = np.full(13, label)
        np.testing.assert_allclose(leave_one_out(p, labels, fit_temperature(p, labels)), bound, rtol=1e-3)


def test_what_is_no_number_is_refused():
    with pytest.raises(ValueError, match="a probability is NaN"):
        fit_temperature(np.array([[np.nan, 1.0], [0.5, 0.5]]), np.array([0, 1]))


def test_leaving_one_out_of_rows_without_a_best_temperature_stays_in_bounds():
    p = np.array([[0.1, 0.9], [0.7, 0.3]])
    for labels in ([1, 0], [0, 1]):
        found = leave_one_out(p, np.array(labels), fit_temperature(p, np.array(labels)))
        assert ((found >= LEAST) & (found <= MOST)).all()
    np.testing.assert_array_equal(leave_one_out(np.full((3, 2), 0.5), np.array([0, 1, 1]), 1.0), 1.0)


def test_each_text_may_have_its_own_temperature():
    p = np.random.default_rng(0).dirichlet(np.ones(3), 4)
    each = np.array([1.0, 2.0, 0.5, 1.0])
    expected = [apply_temperature(p[i : i + 1], float(t))[0] for i, t in enumerate(each)]
    np.testing.assert_array_equal(apply_temperature(p, each), expected)
