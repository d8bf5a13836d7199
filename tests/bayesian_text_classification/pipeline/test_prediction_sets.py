"""Prediction sets from probabilities: against MAPIE, the definitions, and exact laws."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from bayesian_text_classification.pipeline import prediction_sets as module
from bayesian_text_classification.pipeline.class_clusters import LEAST_TEXTS, NO_CLUSTER, clusters_of, k_means
from bayesian_text_classification.pipeline.prediction_sets import (
    PredictionSets,
    fitted_sets,
    scores_of,
    texts_needed,
    uniforms_of,
)
from hypothesis import given
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier
from scipy.stats import betabinom, binomtest, chisquare
from sklearn.cluster import KMeans


def drawn(texts, classes=5, seed=0, sharpness=0.4):
    """Probabilities, labels drawn from flatter ones, and uniform numbers."""
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.full(classes, sharpness), size=texts)
    truth = 0.8 * p + 0.2 / classes
    labels = (random.random(texts)[:, None] > truth.cumsum(1)).sum(1)
    return p, labels, random.random(texts)


def several(texts, labels=6, seed=0):
    """Probabilities of independent labels, and the labels: of some texts none."""
    random = np.random.default_rng(seed)
    p = random.beta(0.5, 1.5, size=(texts, labels))
    return p, (random.random((texts, labels)) < p).astype(np.int64)


def sets_for(p, targets, u=None, score="lac", by="all", chooses=None):
    u = np.zeros(len(p)) if u is None else u
    chooses = np.arange(len(p)) % 2 == 0 if chooses is None else chooses
    return fitted_sets(p, targets, score=score, by=by, uniforms=u, chooses=chooses)


class Known(np.random.RandomState):
    """Gives MAPIE the numbers that ours get; MAPIE subtracts what we add."""

    def __new__(cls, *numbers):
        return super().__new__(cls)

    def __init__(self, *numbers):
        super().__init__(0)
        self.numbers = list(numbers)

    def uniform(self, *args, size=None, **options):
        return self.numbers.pop(0).reshape(size)


class OfMapie:
    """A classifier whose features are its probabilities."""

    def __init__(self, classes):
        self.classes_ = np.arange(classes)

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        return x

    def predict(self, x):
        return x.argmax(1)

    def __sklearn_is_fitted__(self):
        return True


def of_mapie(score, coverage, known, targets, new, u_known, u_new):
    numbers = Known(1 - u_known, 1 - u_new[:, None])
    peer = SplitConformalClassifier(
        OfMapie(known.shape[1]), confidence_level=coverage, conformity_score=score, prefit=True, random_state=numbers
    )
    peer.conformalize(known, targets)
    more = {"include_last_label": "randomized"} if score == "aps" else {}
    return peer.predict_set(new, conformity_score_params=more)[1][:, :, 0]


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("score", ["lac", "aps"])
def test_sets_are_those_of_mapie(score, coverage, monkeypatch):
    """MAPIE's aps does not favor the likeliest label."""
    if score == "aps":
        monkeypatch.setattr(module, "scores_of", lambda score, p, u: module.cumulated(p, u))
    known, targets, u_known = drawn(400)
    new, _, u_new = drawn(500, seed=1)
    found = sets_for(known, targets, u_known, score).of(new, coverage, u_new)
    expected = of_mapie(score, coverage, known, targets, new, u_known, u_new)
    np.testing.assert_array_equal(found, expected)
    assert 0 < found.mean() < 1


@given(st.integers(1, 60), st.fractions(Fraction(1, 50), Fraction(49, 50)), st.integers(0, 2**32))
def test_the_limit_is_the_score_of_the_right_rank(texts, coverage, seed):
    p, labels, _ = drawn(texts, seed=seed)
    rank = ceil(coverage * (texts + 1))
    scores = np.sort(1 - p[np.arange(texts), labels])
    expected = scores[rank - 1] if rank <= texts else np.inf
    assert set(sets_for(p, labels).limits(float(coverage))) == {expected}


@pytest.mark.parametrize(("score", "by"), [("lac", "all"), ("aps", "all"), ("lac", "class")])
def test_coverage_has_its_exact_law(score, by):
    """Over many draws, the number of covered new texts is beta-binomial; by class, that of every class is."""
    n, new, coverage, runs = 39, 20, 0.9, 1_500
    classes = 1 if by == "all" else 2
    counts = np.zeros((classes, new + 1), dtype=int)
    for run in range(runs):
        p, labels, u = drawn(20 * (n + new) if by == "class" else n + new, 3, seed=run)
        for k in range(classes):
            rows = np.arange(len(p)) if by == "all" else np.flatnonzero(labels == k)[: n + new]
            known, others = rows[:n], rows[n : n + new]
            assert len(others) == new
            sets = sets_for(p[known], labels[known], u[known], score, by)
            inside = sets.of(p[others], coverage, u[others])[np.arange(new), labels[others]]
            counts[k, inside.sum()] += 1
    rank = ceil(coverage * (n + 1))
    law = betabinom(new, rank, n + 1 - rank).pmf(np.arange(new + 1))
    for found in counts:
        common = law * runs >= 5
        observed, expected = np.append(found[common], found[~common].sum()), np.append(law[common], law[~common].sum())
        assert chisquare(observed, expected * runs).pvalue > 1e-3


def test_aps_of_an_accurate_model_is_one_label():
    """If the likeliest label is right more often than the coverage, it is enough."""
    p, labels, u = drawn(2_000, sharpness=0.05)
    right = p.argmax(1) == labels
    labels = np.where(right | (np.arange(2_000) % 2 == 0), p.argmax(1), labels)
    assert (p.argmax(1) == labels).mean() > 0.87
    assert (sets_for(p, labels, u, "aps").of(p, 0.85, u).sum(1) == 1).all()


def test_aps_adds_the_likeliest_label():
    p, labels, u = drawn(200)
    sets = sets_for(p, labels, u, "aps")
    inside = sets.of(p, 0.05, u)
    assert inside[np.arange(200), p.argmax(1)].all() and (inside.sum(1) == 1).mean() > 0.9
    assert (sets_for(p, labels).of(p, 0.05, u).sum(1) == 0).any()  # sets of lac may be empty


def test_scores_of_a_row_by_hand():
    p = np.array([[0.5, 0.2, 0.3]])
    np.testing.assert_allclose(scores_of("lac", p, np.array([0.7])), [[0.5, 0.8, 0.7]])
    # 0.5 + 0.3 + 0.7 * 0.2; 0.5 + 0.7 * 0.3; the likeliest label has 0, not 0.7 * 0.5
    np.testing.assert_allclose(scores_of("aps", p, np.array([0.7])), [[0, 0.94, 0.71]])
    np.testing.assert_allclose(module.cumulated(p, np.array([0.7])), [[0.35, 0.94, 0.71]])


@given(st.integers(0, 2**32), st.sampled_from([0.3, 0.5, 0.8, 0.9]))
def test_the_limit_for_independent_labels_is_that_of_risk_control(seed, coverage):
    """The smallest limit at which (sum of shares missed + 1) / (n + 1) is at most 1 - coverage, tried one by one."""
    p, targets = several(40, seed=seed)
    rows = targets.any(1)
    n = rows.sum()

    def missed(limit):
        inside = 1 - p[rows] <= limit
        return ((targets[rows] == 1) & ~inside).sum(1) / targets[rows].sum(1)

    candidates = np.sort((1 - p)[targets == 1])
    fits = [limit for limit in candidates if (missed(limit).sum() + 1) / (n + 1) <= 1 - coverage + 1e-12]
    sets = sets_for(p, targets)
    assert sets.num_texts == n and sets.independent
    assert set(sets.limits(coverage)) == {min(fits, default=np.inf)}


def test_the_expected_share_of_missed_labels_is_bounded():
    """An average over 2,000 draws; also by label, where it is the share of the texts that have the label."""
    coverage, runs, shares, caught = 0.8, 2_000, [], np.zeros((3, 2))
    for run in range(runs):
        p, targets = several(41, 3, seed=run)
        if not targets[-1].any():
            continue
        known, held = slice(0, 40), (p[40:], targets[40] == 1)
        inside = sets_for(p[known], targets[known]).of(held[0], coverage, np.zeros(1))[0]
        shares.append((held[1] & ~inside).sum() / held[1].sum())
        by_class = sets_for(p[known], targets[known], by="class").of(held[0], coverage, np.zeros(1))[0]
        caught += np.stack([held[1] & by_class, held[1]], axis=1)
    error = np.std(shares) / np.sqrt(len(shares))
    assert np.mean(shares) <= 0.2 + 3 * error and np.mean(shares) > 0.12
    for hits, count in caught:
        assert binomtest(int(hits), int(count), coverage, alternative="less").pvalue > 1e-3


def test_classes_with_enough_texts_have_their_own_limit():
    p, labels, u = drawn(3_000, 4)
    sets = sets_for(p, labels, u, by="class")
    assert sets.exact_labels(0.95).all() and not sets.exact_labels(0.9999).any()
    for k in range(4):
        own = labels == k
        assert sets.limits(0.95)[k] == sets_for(p[own], labels[own]).limits(0.95)[0]


def test_rare_classes_share_the_scores_of_classes_like_them():
    """Two kinds of classes, easy and hard, with 12 texts each: each gets the limit of its kind, from half the texts."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(60), 12)
    own = np.where(labels < 30, random.uniform(0.8, 1.0, len(labels)), random.uniform(0.2, 0.6, len(labels)))
    p = np.repeat(((1 - own) / 59)[:, None], 60, axis=1)
    p[np.arange(len(p)), labels] = own
    chooses = np.arange(len(labels)) % 2 == 0
    sets = sets_for(p, labels, by="class", chooses=chooses)
    assert not sets.exact_labels(0.95).any()
    assert len(set(sets.clusters[:30])) == len(set(sets.clusters[30:])) == len(set(sets.clusters)) - 1 == 1
    limits = sets.limits(0.95)
    for part in (labels < 30, labels >= 30):
        kept = part & ~chooses
        assert set(limits[np.unique(labels[part])]) == {sets_for(p[kept], labels[kept]).limits(0.95)[0]}
    assert sets.describe(0.95) == "lac by class, 720 texts (60 classes: 60 by those of 2 clusters)"
    assert sets.describe(0.9) == "lac by class, 720 texts (60 classes: 60 by their own texts)"
    everything = sets_for(p, labels).limits(0.95)[0]
    few = [i for i in range(len(labels)) if labels[i] != 7 or i % 12 < LEAST_TEXTS - 1]
    rare = sets_for(p[few], labels[few], by="class", chooses=chooses[few])
    assert rare.clusters[7] == NO_CLUSTER and (np.delete(rare.clusters, 7) >= 0).all()
    assert rare.limits(0.95)[7] == pytest.approx(everything, abs=0.02)
    assert sets_for(p, labels, by="class", chooses=chooses).limits(0.9999).min() == np.inf


def test_clusters_need_150_texts_each():
    random = np.random.default_rng(0)
    classes, scores = np.repeat(np.arange(30), 10), random.random(300)
    chooses = np.arange(300) % 2 == 0
    assert set(clusters_of(classes, scores, chooses, 30)) == {0}  # 150 are kept for quantiles
    assert set(clusters_of(classes[1:], scores[1:], np.arange(1, 300) % 2 == 1, 30)) == {NO_CLUSTER}
    assert clusters_of(classes, scores, chooses, 31)[30] == NO_CLUSTER


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_k_means_is_as_good_as_that_of_scikit_learn(number):
    random = np.random.default_rng(number)
    points = random.normal(size=(150, 5)) + 3 * random.normal(size=(4, 5))[random.integers(4, size=150)]
    weights = random.uniform(1, 5, size=150)
    found = k_means(points, weights, number)

    def cost(clusters):
        parts = [(points[clusters == k], weights[clusters == k]) for k in set(clusters)]
        return sum(w @ ((x - np.average(x, axis=0, weights=w)) ** 2).sum(1) for x, w in parts)

    peer = KMeans(number, n_init=10, random_state=0).fit(points, sample_weight=weights)
    assert cost(found) <= 1.01 * peer.inertia_
    assert (found == k_means(points, weights, number)).all()


def test_k_means_of_equal_points():
    assert len(k_means(np.zeros((5, 2)), np.ones(5), 3)) == 5


def test_many_classes_are_quick():
    """150,000 classes, of which 1,000 have texts: the limits take no loop over classes, and clusters are few."""
    random = np.random.default_rng(0)
    classes = np.repeat(np.arange(1_000), 40)
    pairs = module.Pairs(np.arange(40_000), classes, random.random(40_000) * (1 + classes % 7))
    sets = module.sets_of_pairs(
        pairs, 150_000, score="lac", by="class", independent=False, chooses=np.arange(40_000) % 2 == 0
    )
    assert 1 < len(set(sets.clusters)) <= 51
    assert sets.limits(0.95) is sets.limits(0.95) and sets.limits(0.95).shape == (150_000,)
    assert sets.exact_labels(0.95).sum() == 1_000


@given(st.integers(1, 5_000))
def test_the_number_of_texts_that_a_coverage_needs(texts):
    coverage = texts / (texts + 1)
    assert texts_needed(coverage) == texts
    p, labels, _ = drawn(texts, 2)
    assert np.isfinite(sets_for(p, labels).limits(coverage)).all()
    assert texts == 1 or np.isinf(sets_for(p[1:], labels[1:]).limits(coverage)).all()


def test_too_few_texts_are_refused_with_a_number_that_works():
    p, labels, _ = drawn(60, 2)
    sets = sets_for(p, labels)
    with pytest.raises(ValueError, match=r"coverage=0.99 needs at least 99 labeled texts, and .* have 60; ") as caught:
        sets.check_coverage(0.99)
    advised = float(str(caught.value).rpartition("coverage=")[2])
    sets.check_coverage(advised)
    assert advised > 0.98
    nothing = sets_for(np.full((3, 2), 0.5), np.zeros((3, 2), dtype=int))
    with pytest.raises(ValueError, match=r"the prediction sets have 0; call classifier.conformalize with more$"):
        nothing.check_coverage(0.5)


def test_repeated_texts_count_as_often_as_they_are_there():
    """A share of equal scores is covered whole, also when another batch changes their last bits."""
    p = np.array([[0.9, 0.1]] * 50 + [[0.6, 0.4]] * 50)
    sets = sets_for(p, np.array([0] * 50 + [1] * 50))
    assert sets.of(p * (1 + 1e-7), 0.9, np.zeros(100)).tolist() == [[True, False]] * 50 + [[True, True]] * 50


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_a_limit_near_1_does_not_admit_every_label(score):
    """An overconfident model gives true labels a probability of 1e-7; labels below that stay out."""
    row = np.array([1 - 1.1e-7, 1e-7, 1e-8, 0])
    p = np.tile(row, (100, 1))
    sets = sets_for(p, np.array([0] * 90 + [1] * 10), np.zeros(100), score)
    assert sets.of(p, 0.95, np.zeros(100))[0].tolist() == [True, True, False, False]


def test_numbers_of_texts_are_uniform_and_fixed():
    texts = [[i, i % 7, 3] for i in range(20_000)]
    u = uniforms_of(texts, 0)
    assert ((u >= 0) & (u < 1)).all()
    assert chisquare(np.histogram(u, 20, (0, 1))[0]).pvalue > 1e-3
    assert (uniforms_of(texts[::-1], 0)[::-1] == u).all()
    assert abs(np.corrcoef(u, uniforms_of(texts, 1))[0, 1]) < 0.03
    # 2**53 u, from the hash of the ids 1 and 2 as 16 bytes and of the seed "0"
    assert uniforms_of([[1, 2]], 0)[0] * 2**53 % 1 == 0 and uniforms_of([], 0).shape == (0,)


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_sets_are_saved_as_arrays(score, tmp_path):
    p, labels, u = drawn(500)
    sets = sets_for(p, labels, u, score, "class")
    np.savez(tmp_path / "sets.npz", **sets.saved())
    with np.load(tmp_path / "sets.npz", allow_pickle=False) as arrays:
        again = PredictionSets.of_saved(arrays)
    assert again.digest() == sets.digest() and str(again) == str(sets) == f"{score} by class, 500 texts"
    assert (again.of(p, 0.9, u) == sets.of(p, 0.9, u)).all()
    assert type(again.score) is str and type(again.independent) is bool
    assert sets_for(p, labels, u, score).digest() != sets.digest()
