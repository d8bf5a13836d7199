"""How much the samples of a model vary: the arithmetic, and when the pilot runs."""

import numpy as np
import pytest
from bayesian_text_classification import BayesianTextClassificationPipeline, load
from bayesian_text_classification.pipeline.spread import PILOT, UNKNOWN, Spread, spread_of
from bayesian_text_classification.pipeline.text_sampler import TextSampler
from bayesian_text_classification.pipeline.uncertainty import standard_error_of_probability
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

TEXTS = ["a wonderful film", "dull and far too long", "not as bad as they say"]
LABELED = [f"text number {i} of {i % 7}" for i in range(40)]


def balanced(random, texts, *, share, balance, classes=2, samples=20, means=None):
    """Probabilities with a variance of `share` m (1 - m), whose groups of ten have correlated samples."""
    m = random.uniform(0.1, 0.9, (texts, 1)) if means is None else means
    groups = samples // 10
    common = random.normal(size=(texts, groups, 1)) * np.sqrt(balance / 10)
    own = random.normal(size=(texts, groups, 10))
    own = (own - own.mean(2, keepdims=True)) * np.sqrt((1 - balance / 10) / 0.9)
    z = (common + own).reshape(texts, samples)  # variance 1, and balance / 10 of the mean of ten
    p = m + z * np.sqrt(share * m * (1 - m))
    return np.stack([p, 1 - p], 1)


@pytest.mark.parametrize(("share", "balance"), [(0.002, 0.1), (0.01, 0.4), (0.02, 1.0)])
def test_many_texts_give_share_and_balance(share, balance):
    found = spread_of(balanced(np.random.default_rng(0), 4_000, share=share, balance=balance), 0.1, "softmax")
    assert (found.share, found.balance) == (pytest.approx(share, rel=0.06), pytest.approx(balance, rel=0.1))
    assert found.is_for(0.1, None, "softmax") and not found.is_for(0.1, "2x", "softmax")
    assert not found.is_for(0.2, None, "softmax") and not found.is_for(0.1, None, "sigmoid")


def test_a_few_texts_hardly_say_how_groups_are_balanced():
    random = np.random.default_rng(0)
    found = [spread_of(balanced(random, 16, share=0.01, balance=0.1), 0.1, "softmax").balance for _ in range(200)]
    assert 0.09 < np.median(found) < 0.2 and np.quantile(found, 0.95) < 0.3
    alone = balanced(random, 16, share=1e-9, balance=0.1)
    alone[0] = balanced(random, 1, share=0.01, balance=0.1)[0]  # all the variance is that of one text
    assert 0.15 < spread_of(alone, 0.1, "softmax").balance < 0.6


def test_a_model_that_is_sure_of_the_pilot_still_expects_unsure_texts_to_vary():
    """Noise of variance 1 in the log odds; all texts of the pilot are near 0. Intervals of an unsure text hold."""
    random = np.random.default_rng(0)
    sure = special.expit(-7 + random.normal(size=(16, 1, 20)))
    found = spread_of(sure, 0.1, "sigmoid")
    assert found.share < 0.01 and found.log_odds == pytest.approx(1, rel=0.2)
    for middle in (-4, -2, 0):
        limit = special.expit(middle + random.normal(size=100_000)).mean()
        x = special.expit(middle + random.normal(size=(4_000, 1, 10)))
        own = Spread(found.share, 1.0, found.log_odds)  # these samples are independent
        held = np.abs(x.mean(2) - limit) <= 1.96 * standard_error_of_probability(x, 1, own)
        assert held.mean() > 0.86


def of_pairs(random, texts, groups, units=12):
    """Probabilities at a dropout rate of 0.5 whose log odds are all sums over pairs of units."""
    order = random.random((texts, groups, units, 10)).argsort(3)
    dropped = np.where(order < 5, 1.0, -1.0)  # each unit drops a random half of the passes
    weights = np.triu(random.normal(0, 0.2, (texts, 1, units, units)), 1)
    odds = np.einsum("tgup,tguv,tgvp->tgp", dropped, weights.repeat(groups, 1), dropped, optimize=True)
    p = special.expit(odds.reshape(texts, 10 * groups))
    return np.stack([p, 1 - p], 1)


def test_at_high_rates_the_standard_error_is_that_of_pairs():
    """Balance makes the variance of what pairs of units do 10/9 times as large, whatever a short pilot finds."""
    random = np.random.default_rng(0)
    p = of_pairs(random, 300, 200)
    groups = p.reshape(300, 2, 200, 10).swapaxes(0, 2)
    true = groups.mean(3).var(0).mean()
    assert 10 * true / p.var(2).mean() == pytest.approx(10 / 9, abs=0.02)
    luck = balanced(random, 16, share=0.3, balance=0.2)  # the pilot's groups happen to agree
    assert spread_of(luck, 0.2, "softmax").balance < 1
    own = spread_of(luck, 0.5, "softmax")
    shown = [standard_error_of_probability(one.swapaxes(0, 1), 10, own) ** 2 for one in groups]
    assert np.mean(shown) == pytest.approx(true, rel=0.03)


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_samples_that_say_nothing_give_no_spread(value):
    assert spread_of(np.full((16, 2, 20), value), 0.1, "softmax") is None


@given(st.integers(2, 60), st.floats(0.01, 1.5), st.sampled_from([1, 10]))
def test_variance_of_the_mean_is_that_of_correlated_samples(count, balance, group_size):
    """Against the sum of the covariance matrix."""
    group = np.arange(count) // group_size
    same = group[:, None] == group
    correlation = (balance - 1) / 9 if group_size == 10 else 0.0
    expected = np.where(np.eye(count, dtype=bool), 1.0, same * correlation).sum() / count**2
    assert Spread(0.1, balance).variance_of_mean(count, group_size) == pytest.approx(expected)


@pytest.fixture
def fresh(tiny, bayesian):
    """A pipeline that nobody has called."""
    return bayesian(tiny("bert", num_labels=3))


@pytest.fixture
def passes(monkeypatch):
    """The number of texts of each pilot."""
    counted = []
    before = TextSampler.measured_spread

    def counting(self, texts, *rest):
        counted.append(len(list(texts)))
        return before(self, texts, *rest)

    monkeypatch.setattr(TextSampler, "measured_spread", counting)
    return counted


def test_the_pilot_runs_once_and_only_for_standard_errors(fresh, passes):
    fresh(TEXTS, num_samples=0)
    fresh.predict_proba(TEXTS, num_samples=4)
    fresh.sample_proba(TEXTS, num_samples=4)
    assert passes == []
    first = fresh(TEXTS, num_samples=4)
    assert passes == [len(PILOT)]
    assert fresh(TEXTS, num_samples=4) == first and fresh.predict_proba(TEXTS, tolerance=0.1).shape == (3, 3)
    assert passes == [len(PILOT)]


def test_the_spread_is_saved_and_not_measured_again(fresh, passes, tmp_path):
    expected = fresh(TEXTS, num_samples=10)
    fresh.save_pretrained(tmp_path / "new")
    assert len(passes) == 1
    again = load(tmp_path / "new")
    assert again.spread == fresh.spread and again(TEXTS, num_samples=10) == expected
    assert len(passes) == 1


def test_a_changed_model_is_measured_anew(tiny, bayesian, passes):
    import torch

    ours = bayesian(tiny("bert"))
    before = ours.spread
    with torch.no_grad():
        ours.model.classifier.weight.mul_(3.0)
    assert ours.spread != before and len(passes) == 2
    for module in ours.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.4
    assert ours.spread.dropout_rate == pytest.approx(0.4) and len(passes) == 3


def test_a_saved_spread_of_another_dropout_rate_is_not_used(tiny, bayesian, passes):
    ours = bayesian(tiny("bert"))
    ours.spread = Spread(0.5, 0.5, dropout_rate=0.3)
    assert ours.spread.share < 0.5 and len(passes) == 1
    ours.spread = Spread(0.5, 0.5)
    assert ours.spread == Spread(0.5, 0.5) and len(passes) == 1


def test_calibrate_measures_its_own_texts(fresh, passes):
    pilot, labels = fresh.spread, [i % 2 for i in range(len(LABELED))]
    fresh.calibrate(LABELED[:10], labels[:10], num_samples=4)
    assert fresh.spread == pilot and len(passes) == 1  # fewer texts than the pilot has
    fresh.calibrate(LABELED, labels, num_samples=0)
    assert len(passes) == 1
    fresh.calibrate(LABELED, labels, num_samples=4)
    assert passes == [len(PILOT), len(LABELED)]
    samples = fresh.sample_proba(LABELED, num_samples=20, seed=0, masks="balanced")
    expected = spread_of(samples, fresh.spread.dropout_rate, "softmax")
    assert fresh.spread == expected != pilot


@pytest.mark.parametrize("count", [2, 4, 10, 13, 20])
def test_no_standard_error_exceeds_the_spread_of_the_samples(fresh, count):
    for result in fresh(LABELED, num_samples=count):
        assert 0 <= result["standard_error"] <= result["score_std"]


def test_what_cannot_be_measured_is_neither_guessed_nor_saved(tiny, bayesian, monkeypatch):
    monkeypatch.setattr(TextSampler, "measured_spread", lambda *arguments: None)
    ours = bayesian(tiny("bert"))
    assert ours.spread == UNKNOWN and ours(TEXTS, num_samples=4)[0]["standard_error"] >= 0
    assert "spread" not in ours.saved_options()


def test_models_without_dropout_and_numbers_are_saved_without_a_spread(tiny, bayesian, tmp_path):
    still = bayesian(tiny("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    number = bayesian(tiny("bert", num_labels=1, problem_type="regression"))
    for ours in (still, number):
        assert "spread" not in ours.saved_options()


def test_one_sample_has_no_standard_error_and_needs_no_pilot(fresh, passes):
    assert fresh(TEXTS, num_samples=1)[0]["standard_error"] is None and passes == []


def test_a_known_spread_is_saved_by_a_classifier_that_does_not_sample(fresh):
    fresh.spread = Spread(0.2, 0.3, activation="softmax")
    ordinary = BayesianTextClassificationPipeline(model=fresh.model, tokenizer=fresh.tokenizer, num_samples=0)
    assert "spread" not in ordinary.saved_options()
    ordinary.spread = fresh.spread
    assert ordinary.saved_options()["spread"] == {
        "share": 0.2,
        "balance": 0.3,
        "log_odds": 0.0,
        "activation": "softmax",
    }


def test_a_known_spread_is_dropped_with_the_weights_that_it_was_for(fresh, passes):
    import torch

    fresh.spread = Spread(0.5, 0.5)
    assert fresh.spread == Spread(0.5, 0.5)
    with torch.no_grad():
        fresh.model.classifier.weight.mul_(0.01)
    assert fresh.spread != Spread(0.5, 0.5) and len(passes) == 1


def test_threads_share_one_pilot(fresh, passes):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: fresh([text], num_samples=4)[0], TEXTS * 4))
    assert passes == [len(PILOT)] and found[:3] * 4 == found
