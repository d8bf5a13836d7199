"""How `calibrate(..., dropout="auto")` chooses the dropout."""

from dataclasses import replace

import numpy as np
import pytest
from bayesian_text_classification import load
from bayesian_text_classification.pipeline import dropout_choice
from bayesian_text_classification.pipeline.dropout_choice import (
    INSERTED,
    candidates,
    chosen,
    fold_of_each,
    groups_of,
    held_out_losses,
)
from bayesian_text_classification.pipeline.fitting import fit
from bayesian_text_classification.pipeline.probe import DropoutSite
from hypothesis import given
from hypothesis import strategies as st

NONE = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MANY = [f"{word} film, number {i}" for i in range(15) for word in ("a good", "a bad")]


def site(p, calls=1, inserted=False):
    return DropoutSite("name", "dropout", p, calls, 0, inserted)


def labels_of(ours, **options):
    """Labels of which the model gets four in five right."""
    answers = ours.predict_proba(MANY, **options).argmax(1).tolist()
    return [answer if i % 5 else (answer + 1) % 3 for i, answer in enumerate(answers)]


# --- candidates -------------------------------------------------------------------------------------------------------


def test_candidates_fit_the_model():
    own, inserted = site(0.1), site(0.1, 3, True)
    assert candidates([own], [own]) == (None, "0.5x", "2x", "3x")
    assert candidates([site(0.4)], [site(0.4)]) == (None, "0.5x", "2x")  # no rate above 1
    assert candidates([], [inserted]) == INSERTED
    assert candidates([own], [own, inserted]) == (None, "0.5x", "2x", "3x", *INSERTED)
    assert candidates([site(0.1, 4)], [site(0.1, 4), inserted]) == (None, "0.5x", "2x", "3x")
    assert candidates([], []) == ()


# --- losses and the rule ----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60))
def test_copies_share_a_fold_and_folds_are_even(members):
    groups = groups_of(list(map(str, members)))
    folds = fold_of_each(groups)
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    sizes = [len(set(groups[folds == fold])) for fold in set(folds)]
    assert max(sizes) - min(sizes) <= 1 and len(sizes) == min(5, groups.max() + 1)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_each_text_is_measured_with_a_calibration_from_the_other_folds(method):
    random = np.random.default_rng(0)
    several = method == "platt"
    p = random.uniform(0.05, 0.95, (40, 3)) if several else random.dirichlet(np.ones(3), 40)
    targets = random.integers(0, 2, (40, 3)) if several else random.integers(0, 3, 40)
    groups = np.arange(40)
    losses = held_out_losses(method, p, targets, groups)
    for i in (0, 17, 39):
        others = fold_of_each(groups) != fold_of_each(groups)[i]
        (q,) = fit(method, p[others], targets[others]).apply(p[i : i + 1])
        expected = -np.log(np.where(targets[i] == 1, q, 1 - q)).sum() if several else -np.log(q[targets[i]])
        assert losses[i] == pytest.approx(expected)


@pytest.mark.parametrize(("shift", "expected"), [(-0.001, 0), (0.001, 1)])
def test_the_first_candidate_within_one_standard_error_is_chosen(shift, expected):
    """By hand: four differences with mean 0.1 and standard error sqrt(4 * 0.2^2) / 4 = 0.1."""
    losses = np.array([[1.3, 0.9, 1.3, 0.9], [1.0, 1.0, 1.0, 1.0]])
    losses[0] += shift
    assert chosen(losses, np.arange(4)) == expected


def test_of_equal_candidates_the_first_is_chosen():
    assert chosen(np.ones((3, 4)), np.arange(4)) == 0


def test_copies_count_as_one_text():
    """With four copies of each text, the standard error of the difference is that of the distinct texts."""
    difference = np.array([0.3, -0.1, 0.3, -0.1]) - 1e-6
    losses = np.stack([1 + np.repeat(difference, 4), np.ones(16)])
    assert chosen(losses, np.repeat(np.arange(4), 4)) == 0
    assert chosen(losses, np.arange(16)) == 1


# --- calibrate --------------------------------------------------------------------------------------------------------


@pytest.fixture
def still(tiny, bayesian):
    return bayesian(tiny("bert", num_labels=3, **NONE), num_samples=10)


def test_calibrate_chooses_the_rate_whose_samples_explain_the_labels(still, tmp_path):
    """The labels are the answers of samples at a rate of 0.2, so that rate is the best."""
    texts = [f"{word} film, number {i}" for i in range(60) for word in ("a good", "a bad", "an odd")]
    p = still.sample_proba(texts, num_samples=10, dropout=0.2).mean(2, dtype=np.float64)
    random = np.random.default_rng(0)
    labels = [int(random.choice(3, p=row / row.sum())) for row in p]
    still.calibrate(texts, labels, dropout="auto")
    losses = np.array(
        [
            held_out_losses("temperature", still.uncalibrated().predict_proba(texts, **options), np.array(labels),
                            np.arange(len(texts)))
            for options in ({"num_samples": 0}, *({"dropout": rate, "num_samples": 10} for rate in INSERTED))
        ]
    )  # fmt: skip
    best = chosen(losses, np.arange(len(texts)))
    expected = (None, *INSERTED)[best]
    assert still.sampling.dropout == expected and best > 0
    assert still.calibration["dropout"].dropout == expected
    still.save_pretrained(tmp_path)
    assert load(tmp_path)(texts[:2]) == still(texts[:2])


def test_where_no_sample_helps_the_ordinary_pass_is_the_choice(still):
    labels = labels_of(still, num_samples=0)
    still.calibrate(MANY, labels, dropout="auto")
    assert still.sampling.num_samples == 0 and list(still.calibration) == ["ordinary"]
    assert set(still(MANY[0])[0]) == {"label", "score"}
    still.calibrate(MANY, labels, num_samples=10, dropout=0.1)
    assert set(still.calibration) == {"ordinary", "dropout"}


def test_a_model_with_rates_gets_a_factor(tiny, bayesian):
    ours = bayesian(tiny("bert", num_labels=3), num_samples=10)
    assert ours.dropout_candidates() == (None, "0.5x", "2x", "3x")
    passes = []
    ours.calibrate(MANY, labels_of(ours, dropout="3x"), dropout="auto", progress=passes.append)
    assert sum(passes) == len(MANY) * (1 + 4 * 10)
    best = "dropout" if ours.sampling.num_samples else "ordinary"
    assert ours.calibration[best].dropout == ours.sampling.dropout


def test_a_failed_choice_changes_nothing(still, monkeypatch):
    before = still.sampling, still.calibration
    with pytest.raises(ValueError, match="no temperature is best"):
        still.calibrate(MANY, still.predict_proba(MANY, num_samples=0).argmax(1), dropout="auto")  # all are right
    assert (still.sampling, still.calibration) == before


def test_options_and_calibration_change_in_one_step(still, monkeypatch):
    """Another thread never sees the new default with the old calibration."""
    seen = []
    before = type(still).__setattr__

    def watch(self, name, value):
        if name == "_settings":
            seen.append((value.options.num_samples, set(value.calibration)))
        before(self, name, value)

    monkeypatch.setattr(type(still), "__setattr__", watch)
    still.calibrate(MANY, labels_of(still, num_samples=0), dropout="auto")
    assert seen == [(0, {"ordinary"})]


def test_a_threshold_for_other_scores_is_dropped(still):
    still.threshold = 0.8
    still._settings = replace(still._settings, threshold_for=replace(still.sampling, dropout=0.1))
    with pytest.warns(UserWarning, match=r"threshold=0\.8 is dropped: it was chosen for sampled scores"):
        still.calibrate(MANY, labels_of(still, num_samples=0), dropout="auto")
    assert still.threshold is None


def test_the_choice_is_made_again_after_the_ordinary_pass_was_chosen(still):
    labels = labels_of(still, num_samples=0)
    for _ in range(2):
        still.calibrate(MANY, labels, dropout="auto")
        assert still.sampling.num_samples == 0


@pytest.mark.parametrize("problem", [{"problem_type": "multi_label_classification"}, {"num_labels": 1}])
def test_independent_labels_and_one_output_choose_too(tiny, bayesian, problem):
    ours = bayesian(tiny("bert", **{"num_labels": 3, **NONE, **problem}), num_samples=10)
    p = ours.predict_proba(MANY, num_samples=0)
    labels = (p > np.median(p, 0)) ^ (np.arange(len(MANY)) % 5 == 0)[:, None]
    ours.calibrate(MANY, labels[:, 0].tolist() if p.shape[1] == 1 else labels.astype(int), dropout="auto")
    assert ours.sampling.num_samples in (0, 10) and len(ours.calibration) == 1


def test_the_choice_keeps_the_options_that_it_was_made_with(tiny, bayesian, monkeypatch):
    ours, options = bayesian(tiny("bert", num_labels=3)), {"num_samples": 10, "masks": "bernoulli"}
    labels = labels_of(ours, dropout="2x", **options)
    monkeypatch.setattr(dropout_choice, "chosen", lambda losses, groups: 3)  # after one ordinary pass, 1x and 0.5x
    ours.calibrate(MANY, labels, dropout="auto", **options)
    found = ours.sampling
    assert (found.num_samples, found.masks, found.dropout) == (10, "bernoulli", "2x")
    assert (ours.calibration["dropout"].masks, ours.calibration["dropout"].dropout) == ("bernoulli", "2x")


def test_what_cannot_choose_says_so(still):
    with pytest.raises(ValueError, match="needs samples, and num_samples is 0; pass num_samples=20"):
        still.calibrate(MANY, labels_of(still, num_samples=0), dropout="auto", num_samples=0)
    with pytest.raises(ValueError, match="needs at least 3 different texts; pass more"):
        still.calibrate(MANY[:1] * 3, [0, 1, 2], dropout="auto")
    with pytest.raises(ValueError, match="is for calibrate and evaluate"):
        still(MANY[0], dropout="auto")
