"""Spiegelhalter's test: by hand, its level, and copies."""

import numpy as np
import pytest
from bayesian_text_classification.evaluation.statistics.spiegelhalter import spiegelhalter
from scipy import special, stats


def test_by_hand():
    p, labels = np.array([[0.9], [0.2], [0.6]]), np.array([[0], [1], [1]])
    s, v = [-0.9 * -0.8, 0.8 * 0.6, 0.4 * -0.2], [0.09 * 0.64, 0.16 * 0.36, 0.24 * 0.04]
    assert spiegelhalter(p, labels).z == pytest.approx(sum(s) / sum(v) ** 0.5)


def test_a_label_that_is_there_twice_says_nothing_new():
    p, y = drawn(0)
    assert spiegelhalter(p[:, [0, 0]], y[:, [0, 0]]).z == pytest.approx(spiegelhalter(p[:, :1], y[:, :1]).z, rel=0.03)


def drawn(seed, sharp=1.0, texts=600):
    """Six labels that are correlated within a text, the last two rare."""
    random = np.random.default_rng(seed)
    odds = random.normal(size=(texts, 6)) * 1.5 - np.array([0, 0, 0, 0, 2, 3])
    common = 0.8 * random.normal(size=(texts, 1)) + 0.6 * random.normal(size=odds.shape)
    return special.expit(sharp * odds), (stats.norm.cdf(common) < special.expit(odds)).astype(int)


def test_a_calibrated_model_is_rarely_rejected_though_labels_are_correlated():
    found = [spiegelhalter(*drawn(seed)) for seed in range(1_000)]
    assert np.std([one.z for one in found]) == pytest.approx(1, abs=0.07)
    assert np.mean([one.rejects for one in found]) == pytest.approx(0.025, abs=0.015)
    assert np.mean([bool(one.labels) for one in found]) < 0.04
    assert np.mean([one.rejects or bool(one.labels) for one in found]) < 0.065


def test_what_is_off_is_found_and_copies_say_nothing_new():
    p, y = drawn(0, sharp=1.6)
    found = spiegelhalter(p, y)
    assert found.z > 4 and found.rejects and 0 in found.labels
    assert spiegelhalter(*drawn(0, sharp=0.6)).z < -4
    again = np.tile(np.arange(len(y)), 3)
    copies = spiegelhalter(p[again], y[again], again)
    assert copies.z == pytest.approx(found.z) and copies.labels == found.labels


def test_a_label_of_few_texts_has_no_test_of_its_own():
    p, y = np.full((50, 2), 0.9), np.zeros((50, 2), int)
    y[:9, 0] = y[:10, 1] = 1
    assert spiegelhalter(p, y).labels == [1]
