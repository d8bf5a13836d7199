"""Platt scaling of independent labels, and temperature scaling with biases, as functions of arrays."""

import numpy as np
import pytest
from bayesian_text_classification.pipeline.fitting import fitted
from bayesian_text_classification.pipeline.platt import fit_platt, influence_on_pairs
from bayesian_text_classification.pipeline.scaling import PlattScaling, TemperatureScaling, scaling_of_saved
from bayesian_text_classification.pipeline.temperature import fit_bias_corrected
from bayesian_text_classification.pipeline.uncertainty import over_labels
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression


def world(texts, rates, seed=0, slope=0.6, bias=-0.4):
    """Probabilities of labels whose true logits are `slope` times the model's, plus `bias`; and labels."""
    random = np.random.default_rng(seed)
    logits = special.logit(rates) + random.normal(0, 2, (texts, len(rates)))
    return special.expit(logits), (random.random(logits.shape) < special.expit(slope * logits + bias)).astype(int)


def nll(p, y):
    return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean())


def pairs_of(p, y):
    fit = fit_platt(p, y)
    return fit.slopes, fit.biases


def test_one_label_is_logistic_regression_with_the_prior():
    p, y = world(4_000, [0.3])
    (slope,), (bias,) = pairs_of(p, y)
    x = special.logit(p[:, 0])

    def loss(at):
        z = np.exp(at[0]) * x + at[1]
        return (np.logaddexp(0, z) - y[:, 0] * z).sum()

    best = optimize.minimize(loss, [0.0, 0.0]).x  # without the prior, which weighs less than one text
    assert (np.log(slope), bias) == pytest.approx(tuple(best), abs=5e-3)
    peer = LogisticRegression(C=1e9).fit(x[:, None], y[:, 0])
    assert (slope, bias) == pytest.approx((peer.coef_[0, 0], peer.intercept_[0]), abs=5e-3)


def test_frequent_labels_keep_their_own_pair():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20_000, 2))
    true = np.stack([0.5 * logits[:, 0] + 1, 1.5 * logits[:, 1] - 1], 1)
    slopes, biases = pairs_of(special.expit(logits), random.random(true.shape) < special.expit(true))
    assert slopes == pytest.approx([0.5, 1.5], abs=0.06) and biases == pytest.approx([1, -1], abs=0.06)


def test_a_label_that_never_applies_gets_about_the_common_pair():
    p, y = world(2_000, [0.3] * 6)
    y[:, 0] = 0
    few = np.arange(2_000) < 15  # 15 texts say little about the first label
    slopes, biases = pairs_of(p[few], y[few])
    assert np.ptp(slopes) < 1 and np.isfinite(biases).all()
    slopes, biases = pairs_of(p, y)
    assert biases[0] < biases[1:].min() and slopes.min() > 0


def test_rare_labels_gain_from_the_common_pair():
    """Labels with few positives: a lower NLL on new texts than that of each label's own Platt scaling."""
    rates = np.full(20, 0.01)
    fresh, truth = world(20_000, rates, seed=1)
    own, shared = [], []
    for seed in range(5):
        p, y = world(400, rates, seed=seed + 2)
        slopes, biases = pairs_of(p, y)
        shared.append(nll(PlattScaling(tuple(slopes), tuple(biases)).apply(fresh), truth))
        pairs = [pairs_of(p[:, [k]], y[:, [k]]) for k in range(20)]
        alone = PlattScaling(tuple(float(a[0]) for a, _ in pairs), tuple(float(b[0]) for _, b in pairs))
        own.append(nll(alone.apply(fresh), truth))
    best = nll(special.expit(0.6 * special.logit(fresh) - 0.4), truth)
    assert max(np.subtract(shared, own)) < 0
    assert np.mean(shared) - best < (np.mean(own) - best) / 2


def test_the_order_of_texts_does_not_change():
    p, y = world(300, [0.3, 0.05, 0.01])
    scaled = fitted("platt", p, y).apply(p)
    for k in range(3):
        assert (np.argsort(scaled[:, k]) == np.argsort(p[:, k])).all()


@settings(max_examples=15)
@given(st.integers(1, 5), st.integers(1, 12), st.integers(0, 99))
def test_any_labels_give_finite_pairs(labels, texts, seed):
    random = np.random.default_rng(seed)
    p = random.choice([0.0, 1.0, 0.5, 1e-30, 1 - 1e-7], (texts, labels))
    slopes, biases = pairs_of(p.astype(np.float32), random.integers(0, 2, p.shape))
    assert (slopes > 0).all() and np.isfinite([slopes, biases]).all()
    assert np.isfinite(PlattScaling(tuple(slopes), tuple(biases)).apply(p)).all()


def test_labels_that_all_apply_or_never_are_refused():
    for value, words in ((0, "no label applies to all"), (1, "every label applies to all")):
        with pytest.raises(ValueError, match=words):
            fitted("platt", np.full((4, 2), 0.5), np.full((4, 2), value))


def test_biases_match_a_general_optimizer():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (500, 3))
    p, y = special.softmax(logits, 1), (logits / 1.7 + [0.5, 0, -0.5] + random.gumbel(size=(500, 3))).argmax(1)

    def loss(at):
        z = np.log(p) / np.exp(at[0]) + at[1:]
        return (special.logsumexp(z, axis=1) - z[np.arange(500), y]).sum() + (at[0] ** 2 + (at[1:] ** 2).sum()) / 2

    best = optimize.minimize(loss, np.zeros(4)).x
    temperature, biases = fit_bias_corrected(p, y)
    assert temperature == pytest.approx(np.exp(best[0]), rel=1e-4)
    assert biases == pytest.approx(best[1:] - best[1:].mean(), abs=1e-4)


def test_biases_follow_a_shift_of_the_classes():
    """A calibrated model, and classes that are twice and half as frequent as in training."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (40_000, 2))
    y = (logits + np.log([2, 0.5]) + random.gumbel(size=logits.shape)).argmax(1)
    temperature, biases = fit_bias_corrected(special.softmax(logits, 1), y)
    assert temperature == pytest.approx(1, abs=0.05) and biases == pytest.approx([np.log(2), -np.log(2)], abs=0.05)


def test_uncertainty_of_a_scaled_label_follows_the_derivative():
    samples = np.random.default_rng(0).beta(2, 8, (30, 3, 20))
    scaling = PlattScaling((0.5, 1.0, 2.0), (0.3, 0.0, -1.0))
    plain, found = over_labels(samples, 10), over_labels(samples, 10, scaling=scaling)
    m, q = plain.mean, found.mean
    np.testing.assert_allclose(q, special.expit([0.5, 1.0, 2.0] * special.logit(m) + [0.3, 0.0, -1.0]))
    slope = [0.5, 1.0, 2.0] * q * (1 - q) / (m * (1 - m))
    np.testing.assert_allclose(found.std, slope * plain.std)
    np.testing.assert_allclose(found.standard_error, slope * plain.standard_error)
    np.testing.assert_allclose(found.predictive_entropy, found.expected_entropy + found.mutual_information)
    ratio = plain.mutual_information / plain.predictive_entropy
    np.testing.assert_allclose(found.mutual_information, ratio * found.predictive_entropy)


def test_spread_of_a_scaled_label_is_that_of_scaled_averages():
    random = np.random.default_rng(0)
    scaling = PlattScaling((0.7,), (0.5,))
    drawn = random.beta(5, 15, (4_000, 1, 20))
    found = over_labels(drawn, scaling=scaling)
    assert found.standard_error.mean() == pytest.approx(scaling.apply(drawn.mean(2)).std(), rel=0.1)


@pytest.mark.parametrize(
    "scaling",
    [
        TemperatureScaling(1.5),
        TemperatureScaling(0.5, (0.25, -0.25), masks="balanced", dropout_rate=0.1),
        PlattScaling((0.5, 2.0), (0.0, -1.0), masks="bernoulli", dropout_rate=0.2),
    ],
)
def test_scalings_survive_json(scaling):
    import json

    assert scaling_of_saved(json.loads(json.dumps(scaling.saved()))) == scaling


def test_invalid_scalings_raise():
    for slopes, biases in (((0.0,), (0.0,)), ((1.0, 1.0), (0.0,)), ((float("inf"),), (0.0,)), ((1.0,), (np.nan,))):
        with pytest.raises(ValueError, match="a positive finite slope and a finite bias for every label"):
            PlattScaling(slopes, biases)


@pytest.mark.parametrize("rates", [[0.3], [0.3, 0.1, 0.02, 0.01]])
def test_influence_is_what_leaving_out_a_text_changes(rates):
    p, y = world(600, rates, seed=3)
    fit = fit_platt(p, y)
    moves = influence_on_pairs(p, y, fit)
    chosen = np.arange(0, 600, 25)
    without = np.array([fit_platt(np.delete(p, i, 0), np.delete(y, i, 0)).pairs for i in chosen]) - fit.pairs
    apart = np.abs(-moves[chosen] - without)
    # The precision of the prior, which is refitted too, makes the rest of the difference.
    assert np.sqrt((apart**2).mean()) < 0.15 * np.sqrt((without**2).mean())
    assert np.corrcoef(-moves[chosen].ravel(), without.ravel())[0, 1] > 0.98
