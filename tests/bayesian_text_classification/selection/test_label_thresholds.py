"""Thresholds of independent labels: by hand, against each other, and how often they keep what they promise."""

import numpy as np
import pytest
from bayesian_text_classification import label_thresholds, threshold_for
from scipy import stats


def drawn(rows, seed, labels=2):
    """Scores that are the probability of the label."""
    random = np.random.default_rng(seed)
    scores = random.beta(0.5, 1.5, (rows, labels))
    return scores, (random.random(scores.shape) < scores).astype(int)


def test_precision_is_threshold_for_on_each_label():
    scores, labels = drawn(2_000, 0)
    found = label_thresholds(scores, labels, ["a", "b"], precision=0.8)
    for k, name in enumerate("ab"):
        assert found[name] == threshold_for(scores[:, k], labels[:, k] == 1, 1 - 0.8)


def test_recall_by_hand():
    # Ten texts with the label, scores .1 to 1. All reach the lowest: P(coverage >= r) = 1 - r^10 for it.
    scores = np.arange(1, 11)[:, None] / 10
    (found,) = label_thresholds(scores, np.ones((10, 1), int), ["a"], recall=0.7).values()
    # 1 - .7^10 = .972 and, for the second lowest, 1 - .7^10 - 10 * .3 * .7^9 = .851 < .9.
    assert (found.threshold, found.errors, found.accepted, found.rows) == (0.1, 0, 10, 10)
    (lower,) = label_thresholds(scores, np.ones((10, 1), int), ["a"], recall=0.7, confidence=0.85).values()
    assert (lower.threshold, lower.errors) == (0.2, 1)
    assert label_thresholds(scores, np.ones((10, 1), int), ["a"], recall=0.9) == {}  # 1 - .9^10 = .65
    assert found.bound == pytest.approx(1 - 0.1 ** (1 / 10))  # Clopper and Pearson without errors


@pytest.mark.parametrize(("target", "share"), [("precision", 0.5), ("recall", 0.75)])
def test_a_promise_is_kept_in_nine_of_ten_runs(target, share):
    missed = []
    for seed in range(300):
        found = label_thresholds(*drawn(800, seed, 1), ["a"], **{target: share}).get("a")
        if found is None:  # rows that promise nothing
            missed.append(False)
            continue
        t = found.threshold
        have = stats.beta(1.5, 1.5)  # scores of texts with the label: density proportional to s times that of all
        every = stats.beta(0.5, 1.5)
        value = have.sf(t) if target == "recall" else have.sf(t) * 0.25 / every.sf(t)  # the mean score is .25
        missed.append(value < share)
    assert 0.02 < np.mean(missed) <= 0.13  # 10% expected at most; 2 standard errors more


def test_copies_count_once():
    scores, labels = drawn(300, 1)
    rows = np.tile(np.arange(300), 4)
    for target in ({"precision": 0.8}, {"recall": 0.8}):
        once = label_thresholds(scores, labels, ["a", "b"], **target)
        assert label_thresholds(scores[rows], labels[rows], ["a", "b"], groups=rows, **target) == once


def test_a_label_without_a_threshold_is_left_out():
    scores, labels = drawn(300, 2)
    scores[:, 1] = labels[:, 1] * 0.9
    labels[:, 0] = 0
    assert set(label_thresholds(scores, labels, {0: "a", 1: "b"}, precision=0.4)) == {"b"}
    assert set(label_thresholds(scores, labels, {0: "a", 1: "b"}, recall=0.6)) == {"b"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "give precision= or recall="),
        ({"precision": 0.5, "recall": 0.5}, "and not both"),
        ({"precision": 1.0}, "precision is 1.0 (float); it must be a number between 0 and 1"),
        ({"precision": "0.9"}, "precision is '0.9' (str); it must be a number"),
        ({"recall": 0.5, "confidence": 0}, "confidence is 0 (int); it must"),
        ({"recall": 0.5, "names": ["a"]}, "there are 1 names"),
        ({"recall": 0.5, "groups": np.zeros(7)}, "groups has the shape (7,); it must hold one name"),
        ({"recall": 0.5, "scores": np.empty((0, 2)), "labels": np.empty((0, 2))}, "there are no rows"),
        ({"recall": 0.5, "labels": np.full((300, 2), 0.5)}, "labels must be rows of 0 and 1, one for each label"),
        ({"recall": 0.5, "labels": [["a"], ["a", "b"]]}, "labels must be rows of 0 and 1, one for each label"),
        ({"recall": 0.5, "names": ["a", "a"]}, "two labels have the same name"),
        ({"recall": 0.5, "scores": np.full((300, 2), np.nan)}, "scores[0][0] is NaN"),
    ],
)
def test_refusals(change, words):
    scores, labels = drawn(300, 0)
    with pytest.raises(ValueError) as error:
        label_thresholds(**{"scores": scores, "labels": labels, "names": ["a", "b"], **change})
    assert words in str(error.value)
