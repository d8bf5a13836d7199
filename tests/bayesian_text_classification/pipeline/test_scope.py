"""Scopes from features: distances and p-values, against scikit-learn, SciPy and exact laws."""

from dataclasses import replace

import numpy as np
import pytest
from bayesian_text_classification.pipeline import scope as module
from bayesian_text_classification.pipeline.inputs import first_half
from bayesian_text_classification.pipeline.scope import Scope, scope_of, shrunk_covariance
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.covariance import LedoitWolf, ledoit_wolf


def drawn(texts=200, width=6, classes=3, seed=0):
    """Features around a mean for each class, with correlated deviations."""
    random = np.random.default_rng(seed)
    labels = np.arange(texts) % classes
    mixed = random.normal(size=(width, width))
    return 5 + 4 * random.normal(size=(classes, width))[labels] + random.normal(size=(texts, width)) @ mixed, labels


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 2**32))
def test_the_covariance_is_that_of_scikit_learn(texts, width, seed):
    x = np.random.default_rng(seed).normal(size=(texts, width)) @ np.diag(np.arange(1, width + 1))
    np.testing.assert_allclose(shrunk_covariance(x), ledoit_wolf(x, assume_centered=True)[0], rtol=1e-9, atol=1e-12)


def test_distances_are_those_of_scikit_learn():
    x, labels = drawn()
    found = scope_of(x, labels, x[:20])
    means = np.stack([unit(x)[labels == k].mean(0) for k in range(3)])
    fitted = LedoitWolf(assume_centered=True).fit(unit(x) - means[labels])
    new, _ = drawn(50, seed=1)
    expected = np.sqrt(np.min([fitted.mahalanobis(unit(new) - mean) for mean in means], axis=0))
    np.testing.assert_allclose(found.distances(new), expected, rtol=1e-4)


def test_wide_features_keep_the_largest_directions(monkeypatch):
    """With 4 of 6 directions, the other two share the mean of their variances."""
    x, labels = drawn()
    monkeypatch.setattr(module, "MOST_NUMBERS", 6 * (3 + 4))
    monkeypatch.setattr(module, "LEAST_DIRECTIONS", 1)
    found = scope_of(x, labels, x[:20])
    assert found.directions.shape == (6, 4) and found.means.size + found.directions.size <= 42
    means = np.stack([unit(x)[labels == k].mean(0) for k in range(3)])
    variances, vectors = np.linalg.eigh(ledoit_wolf(unit(x) - means[labels], assume_centered=True)[0])
    variances[:2] = variances[:2].mean()
    inverse = vectors @ np.diag(1 / variances) @ vectors.T
    new, _ = drawn(50, seed=1)
    apart = unit(new)[:, None] - means
    expected = np.sqrt(np.einsum("tci,ij,tcj->tc", apart, inverse, apart).min(1))
    np.testing.assert_allclose(found.distances(new), expected, rtol=1e-4)


@pytest.mark.parametrize(("width", "classes"), [(384, 150), (1024, 150), (1024, 1_500)])
def test_a_scope_of_150_classes_takes_at_most_5_mb(width, classes):
    x, labels = drawn(3_000, width, classes)
    found = scope_of(x, labels, x[:20])
    size = sum(array.nbytes for array in found.saved().values())
    assert size <= 5.01e6 if classes == 150 else found.directions.shape[1] == 64


def test_lengths_and_copies_of_classes_do_not_matter():
    x, labels = drawn()
    found, longer = scope_of(x, labels, x[:20]), scope_of(3 * x, labels + 10, 0.5 * x[:20])
    np.testing.assert_allclose(longer.distances(7 * x), found.distances(x), rtol=1e-6)
    np.testing.assert_allclose(longer.held_out, found.held_out, rtol=1e-6)


@pytest.mark.parametrize("features", [np.zeros((3, 6)), np.full((3, 6), np.nan)])
def test_features_of_length_zero_have_a_distance_and_nan_has_none(features):
    x, labels = drawn()
    found = scope_of(x, labels, x[:20])
    distances = found.distances(features)
    assert np.isfinite(distances).all() != np.isnan(features).any()
    assert np.isnan(found.p_values(distances)).all() == np.isnan(features).any()


def test_a_class_of_equal_texts_has_a_distance():
    """All deviations are 0, and so is the covariance."""
    x = np.repeat(np.eye(2), 30, axis=0)
    found = scope_of(x, np.repeat([0, 1], 30), x)
    assert np.isfinite(found.distances(np.array([[1.0, 0.0], [1.0, 1.0]]))).all()
    assert (found.p_values(found.distances(x)) == 1).all()


def test_p_values_count_the_held_out_texts_that_are_at_least_as_far():
    scope = Scope(np.zeros((1, 1), np.float32), np.zeros((1, 0), np.float32), 1.0, np.array([1.0, 2.0, 2.0, 5.0]))
    found = scope.p_values(np.array([0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 9.0]))
    np.testing.assert_allclose(found, np.array([5, 5, 4, 4, 2, 2, 1]) / 5)
    # The same text in another batch differs in the last bits of float32.
    assert (scope.p_values(np.array([2.0, 5.0]) * (1 + 1e-6)) == scope.p_values(np.array([2.0, 5.0]))).all()


def test_the_share_of_false_alarms_is_the_level():
    """Over many draws of held-out texts, P(p <= a) is at most a, and nearly a."""
    random, alarms, runs, level = np.random.default_rng(0), 0, 4_000, 0.1
    for _ in range(runs):
        distances = random.exponential(size=30)
        scope = Scope(np.zeros((1, 1), np.float32), np.zeros((1, 0), np.float32), 1.0, np.sort(distances[1:]))
        alarms += bool(scope.p_values(distances[:1])[0] <= level)
    assert binomtest(alarms, runs, level).pvalue > 0.001


@pytest.mark.parametrize(("level", "needed"), [(0.05, 19), (0.01, 99), (0.5, 1), (0.3, 3), (1 / 49, 48), (1 / 3, 2)])
def test_a_level_needs_enough_held_out_texts(level, needed):
    scope = Scope(np.zeros((1, 1), np.float32), np.zeros((1, 0), np.float32), 1.0, np.arange(1.0, needed + 1))
    scope.check_level(level)
    assert scope.p_values(np.array([1e9]))[0] <= level + 1e-12  # it can be reached
    if needed == 1:
        return
    few = replace(scope, held_out=scope.held_out[1:])
    with pytest.raises(ValueError, match=f"needs at least {needed} held-out texts, and the scope has") as caught:
        few.check_level(level)
    few.check_level(float(str(caught.value).rpartition("novelty_level=")[2]))  # the advice works


def test_a_scope_is_saved_as_arrays(tmp_path):
    x, labels = drawn()
    found = scope_of(x, labels, x[:20])
    np.savez(tmp_path / "scope.npz", **found.saved())
    with np.load(tmp_path / "scope.npz", allow_pickle=False) as arrays:
        again = Scope.of_saved(arrays)
    assert again.digest() == found.digest() and (again.distances(x) == found.distances(x)).all()
    assert replace(found, rest=1.0).digest() != found.digest()


def test_halves_are_fixed_by_the_text():
    keys = [f"text {i}" for i in range(2_001)]
    half = first_half(keys)
    assert half == first_half(keys[::-1] * 2) and len(half) == 1_000
    low = sum(int(key.removeprefix("text ")) < 1_000 for key in half)
    assert binomtest(low, 1_000).pvalue > 0.001
