"""Thresholds checked against SciPy and simulation, and rankings against BaaL."""

import numpy as np
import pytest
import torch
from bayesian_text_classification.pipeline.uncertainty import over_classes
from bayesian_text_classification.selection.heuristics import HEURISTICS, rank
from bayesian_text_classification.selection.thresholds import rows_for, threshold_for, upper_bound
from scipy import special, stats


@pytest.mark.parametrize(("rate", "target"), [(0.0, 0.05), (0.01, 0.02), (0.03, 0.05), (0.1, 0.3)])
def test_rows_for_is_the_least_number_that_reaches_the_target(rate, target):
    found = rows_for(rate, target, 0.9)

    def bound(rows):  # at a whole number of errors it is that of Clopper and Pearson
        return stats.beta.ppf(0.9, rate * rows + 1, rows - rate * rows)

    assert bound(found) <= target < bound(found - 1)
    assert rows_for(0.0, 0.05, 0.9) == 45  # by hand: .95^45 <= .1
    with pytest.raises(ValueError, match="below the target of"):
        rows_for(target, target, 0.9)


def test_upper_bound_is_that_of_clopper_and_pearson():
    for errors, trials in ((0, 1), (0, 50), (3, 50), (49, 50), (50, 50)):
        peer = stats.binomtest(errors, trials).proportion_ci(confidence_level=0.8, method="exact").high
        assert upper_bound(np.array([errors]), np.array([trials]), 0.9)[0] == pytest.approx(peer)  # 10% on each side
    assert upper_bound(np.array([0]), np.array([0]), 0.9)[0] == 1.0
    assert upper_bound(np.array([0]), np.array([22]), 0.9)[0] == pytest.approx(1 - 0.1 ** (1 / 22))  # by hand


def drawn(rows, random, spread=3.2, sharpness=2.0):
    """Scores of an overconfident model, and whether its answers are right. One in six or seven is wrong."""
    z = np.abs(random.normal(0, spread, rows))
    return 1 / (1 + np.exp(-sharpness * z)), random.random(rows) < 1 / (1 + np.exp(-z))


@pytest.mark.parametrize(
    ("target", "rows", "spread", "often"),
    [
        (0.05, 872, 3.2, 0.95),
        (0.1, 300, 3.2, 0.95),
        pytest.param(0.02, 3_000, 3.2, 0.9, marks=pytest.mark.slow),
        (0.1, 872, 1.6, 0.7),
        (0.05, 300, 1.6, 0),
    ],
)
def test_threshold_keeps_its_target_with_the_stated_confidence(target, rows, spread, often):
    """Simulate with a known truth: the error rate among the accepted of 400,000 texts."""
    random = np.random.default_rng(0)
    scores, correct = drawn(400_000, random, spread)
    order = np.argsort(-scores)
    risk = np.cumsum(~correct[order]) / np.arange(1, len(order) + 1)
    broken = found = 0
    for _ in range(400):
        threshold = threshold_for(*drawn(rows, random, spread), target)
        if threshold is not None:
            found += 1
            accepted = np.searchsorted(-scores[order], -threshold.threshold, side="right")
            broken += risk[accepted - 1] > target
    assert broken / 400 <= 0.1
    assert found / 400 >= often  # returning no threshold would keep the promise trivially


def test_at_most_one_in_ten_thresholds_fails_in_the_hardest_case():
    """The hardest case: the scores carry no information, and the error rate is just above the target."""
    random = np.random.default_rng(1)
    scores = [random.random(500) for _ in range(1_000)]
    found = [threshold_for(one, random.random(500) > 0.101, 0.1) for one in scores]
    assert 0.02 <= np.mean([one is not None for one in found]) <= 0.1 + 3 * np.sqrt(0.09 / 1_000)


def test_lower_targets_accept_fewer_texts():
    scores, correct = drawn(5_000, np.random.default_rng(1))
    found = [threshold_for(scores, correct, target) for target in (0.1, 0.05, 0.02)]
    assert all(one.bound <= one.target and one.errors <= one.target * one.accepted for one in found)
    assert found[0].accepted > found[1].accepted > found[2].accepted > 500
    first = found[1]
    kept = scores >= first.threshold
    assert (first.accepted, first.errors, first.rows) == (kept.sum(), (kept & ~correct).sum(), 5_000)


def test_all_rows_are_accepted_if_all_are_right_and_none_if_many_are_wrong():
    assert threshold_for(np.full(500, 0.99), np.arange(500) % 5 > 0, 0.05) is None  # one in five is wrong
    found = threshold_for(np.full(500, 0.7), np.full(500, True), 0.05)
    assert (found.threshold, found.accepted, found.errors) == (0.7, 500, 0)


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, float("nan"), "0.1", None, True, [0.1], 10**400, np.zeros((3, 30))])
@pytest.mark.parametrize("name", ["target", "confidence"])
def test_target_or_confidence_out_of_range_raises(name, value):
    with pytest.raises(ValueError, match=f"^{name} is .*; it must be a number between 0 and 1$"):
        threshold_for(np.ones(3), np.ones(3, bool), **{"target": 0.1, name: value})


@pytest.mark.parametrize("correct", [["True", "False", "True"], [1, 0, np.nan], [2, 0, 1], [None, True, False]])
def test_only_true_and_false_are_right_or_wrong(correct):
    """Python takes the text "False", and the NaN of a join, for true. All rows would count as right."""
    with pytest.raises(ValueError, match=r"correct must hold True or False .* np.equal\(predicted, labels\)"):
        threshold_for(np.ones(3), correct, 0.1)


def test_ones_and_the_comparison_that_the_error_names_are_taken():
    found = threshold_for(np.ones(100), np.full(100, True), 0.1)
    names = np.array(["good", "bad"] * 50, object)
    assert found and threshold_for(np.ones(100), [1.0] * 100, 0.1) == found
    assert threshold_for(np.ones(100), np.equal(names, names.tolist()), 0.1) == found


def test_copies_count_once():
    """Truth: the threshold of the distinct rows."""
    random = np.random.default_rng(0)
    scores = random.uniform(0.5, 1, 800)
    correct = random.random(800) < 0.9 + 0.1 * scores
    texts = np.array([f"text {i}" for i in range(800)])
    copies = random.permutation(np.repeat(np.arange(800), random.integers(1, 6, 800)))
    once = threshold_for(scores, correct, 0.05)
    assert threshold_for(scores[copies], correct[copies], 0.05, groups=texts[copies]) == once
    assert threshold_for(scores[copies], correct[copies], 0.05) != once
    spaced = [f" {text}\n" if i % 2 else text.replace(" ", "  ") for i, text in enumerate(texts[copies])]
    assert threshold_for(scores[copies], correct[copies], 0.05, groups=spaced) == once


def test_a_group_is_wrong_if_any_of_its_rows_is():
    scores, groups = np.repeat(np.linspace(0.9, 1, 200), 2), np.repeat(np.arange(200), 2)
    right = threshold_for(scores, np.full(400, True), 0.05, groups=groups)
    assert (right.accepted, right.rows, right.errors) == (200, 200, 0)
    half = threshold_for(scores, np.arange(400) % 2 == 0, 0.05, groups=groups)
    assert half is None
    mixed = threshold_for(np.arange(400) % 2 / 2, np.full(400, True), 0.05, groups=groups)  # scores 0 and 0.5
    assert (mixed.threshold, mixed.accepted) == (0.5, 200)
    with pytest.raises(ValueError, match=r"groups has the shape \(3,\); it must hold one .* for each of 400 rows"):
        threshold_for(scores, np.full(400, True), 0.05, groups=[1, 2, 3])


@pytest.mark.parametrize("copies", [1, 5])
def test_thresholds_of_repeated_texts_keep_their_target(copies):
    """At most 40 of 400 may miss a target of 10%; without `groups`, five copies miss it far more often."""
    random, missed = np.random.default_rng(0), {"with groups": 0, "without": 0}
    for _ in range(400):
        scores = random.uniform(0, 1, 200)
        correct = random.random(200) < 0.75 + 0.25 * scores
        rows = np.tile(np.arange(200), copies)
        for name, groups in (("with groups", rows), ("without", None)):
            found = threshold_for(scores[rows], correct[rows], 0.1, groups=groups)
            # P(wrong | score >= t) is 0.25 (1 - t) / 2
            missed[name] += found is not None and 0.25 * (1 - found.threshold) / 2 > 0.1
    assert missed["with groups"] <= 48
    assert (missed["without"] > 60) == (copies == 5)


def test_mismatched_arrays_raise():
    for scores, correct in ((np.ones(3), np.ones(2, bool)), (np.ones(0), np.ones(0, bool)), (np.ones((2, 2)), True)):
        with pytest.raises(ValueError, match="pass one of each per row"):
            threshold_for(scores, correct, 0.1)


def samples(texts=30, seed=0):
    return np.random.default_rng(seed).dirichlet([1, 1, 1], (texts, 20)).swapaxes(1, 2).astype(np.float32)


def test_rankings_match_the_librarys_uncertainties():
    p = samples()
    summary = over_classes(p)
    ordered = np.sort(summary.mean, 1)
    expected = {
        "bald": -summary.mutual_information,
        "entropy": -summary.predictive_entropy,
        "margin": ordered[:, -1] - ordered[:, -2],
        "variance": -(summary.std**2).mean(1),
    }
    for heuristic, key in expected.items():
        order, scores = rank(p, heuristic)
        np.testing.assert_array_equal(order, np.argsort(key))
        np.testing.assert_allclose(np.abs(scores), np.abs(key), atol=1e-6)


def test_batch_bald_avoids_duplicates(same_random_state):
    # Ten copies of the most uncertain text, plus others. BALD chooses the copies, BatchBALD does not.
    p = samples(20, seed=3)
    first = rank(p, "bald")[0][0]
    p = np.concatenate([np.repeat(p[first : first + 1], 10, 0), p])
    with same_random_state():
        order, _ = rank(p, "batch_bald", batch=6, seed=1)
    assert sorted(order) == list(range(30))
    assert (rank(p, "bald")[0][:6] < 11).sum() >= 5
    assert (order[:6] < 10).sum() <= 2
    torch.rand(1)  # the global random state has no effect
    np.testing.assert_array_equal(order, rank(p, "batch_bald", batch=6, seed=1)[0])


def test_batch_bald_scores_are_the_cumulative_mutual_information():
    p = samples(40)
    order, scores = rank(p, "batch_bald", batch=6, seed=1)
    bald, alone = rank(p, "bald")
    told = scores[order[:6]]
    assert order[0] == bald[0] and told[0] == pytest.approx(alone[bald[0]])
    assert (np.diff(told) > -0.05).all() and told[-1] > told[0]  # with tolerance, because BaaL samples
    assert (scores[order[6:]] == 0).all() and (told <= np.log(p.shape[2]) + 0.05).all()
    for k in range(1, 3):  # by definition, over all label combinations of the texts chosen so far
        joint = np.einsum("as,bs->abs" if k == 1 else "as,bs,cs->abcs", *p[order[: k + 1]])
        entropy = special.entr(joint.mean(-1)).sum()
        expected = special.entr(p[order[: k + 1]]).sum(1).mean(1).sum()
        assert told[k] == pytest.approx(entropy - expected, abs=0.05)


def test_few_rows_without_errors_give_the_clopper_pearson_bound():
    found = threshold_for(np.linspace(0.5, 1, 60), np.ones(60, bool), 0.05)
    assert (found.accepted, found.errors) == (60, 0) and found.bound == pytest.approx(1 - 0.1 ** (1 / 60))
    assert threshold_for(np.linspace(0.5, 1, 44), np.ones(44, bool), 0.05) is None  # 1 - 0.1 ** (1 / 44) is above 5%


def test_nan_score_raises():
    with pytest.raises(ValueError, match=r"scores\[1\] is NaN"):
        threshold_for(np.array([0.5, np.nan]), np.ones(2, bool), 0.05)


@pytest.mark.parametrize("heuristic", HEURISTICS)
def test_single_text_can_be_ranked(heuristic):
    assert rank(samples(1), heuristic)[0].tolist() == [0]


def test_unknown_heuristic_or_wrong_shape_raises():
    with pytest.raises(ValueError, match=r"heuristic='bold'; it must be one of 'bald', 'entropy'"):
        rank(samples(), "bold")
    with pytest.raises(ValueError, match=r"expected \(texts, classes, samples\)"):
        rank(samples()[0])
    labels = np.random.default_rng(0).random((5, 3, 10))
    with pytest.raises(ValueError, match=r"do not add up to 1 over the classes; .* pass over_labels='mean' or"):
        rank(labels)
    assert len(rank(labels, over_labels="mean")[0]) == 5
