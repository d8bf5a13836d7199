"""How close a student is to its teacher: by hand, and against SciPy."""

import math

import numpy as np
import pytest
from bayesian_text_classification.distillation.closeness import closeness
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy


def test_two_texts_by_hand():
    teacher = np.array([[0.8, 0.2], [0.4, 0.6]])
    student = np.array([[0.5, 0.5], [0.7, 0.3]])
    found = closeness(teacher, student, "softmax")
    first = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    second = 0.4 * math.log(0.4 / 0.7) + 0.6 * math.log(0.6 / 0.3)
    assert found.kl == pytest.approx((first + second) / 2)
    assert found.rms == pytest.approx(math.sqrt((0.3**2 + 0.3**2) / 2))  # of the labels that the teacher gives
    assert found.agreement == 0.5


def test_independent_labels_by_hand():
    found = closeness(np.array([[0.9, 0.2]]), np.array([[0.6, 0.6]]), "sigmoid")
    first = 0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4)
    second = 0.2 * math.log(0.2 / 0.6) + 0.8 * math.log(0.8 / 0.4)
    assert found.kl == pytest.approx(first + second)
    assert found.rms == pytest.approx(math.sqrt((0.3**2 + 0.4**2) / 2))
    assert found.agreement == 0.5


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_divergence_is_that_of_scipy(seed, classes):
    rng = np.random.default_rng(seed)
    teacher, student = rng.dirichlet(np.ones(classes), (2, 7))
    found = closeness(teacher, student, "softmax")
    assert found.kl == pytest.approx(entropy(teacher, student, axis=1).mean(), rel=1e-6)
    same = closeness(teacher, teacher, "softmax")
    assert (same.kl, same.rms, same.agreement) == (0, 0, 1)


def test_probabilities_of_zero_give_a_finite_divergence():
    found = closeness(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), "softmax")
    assert math.isfinite(found.kl) and found.kl > 10
