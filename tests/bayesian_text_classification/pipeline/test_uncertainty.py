import numpy as np
import pytest
from bayesian_text_classification.pipeline.scaling import TemperatureScaling
from bayesian_text_classification.pipeline.spread import Spread
from bayesian_text_classification.pipeline.temperature import apply_temperature
from bayesian_text_classification.pipeline.uncertainty import (
    error_of_score,
    over_classes,
    over_labels,
    over_outputs,
    standard_error,
    standard_error_of_probability,
    summarized,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

LN2 = np.log(2)


def probabilities(texts=5, classes=4, samples=20, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(classes), (texts, samples)).transpose(0, 2, 1)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("spread", [Spread(0.2, 0.5), None])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_the_error_that_a_tolerance_watches_is_that_of_the_summary(activation, spread, scaled):
    p, scaling = probabilities(), TemperatureScaling(2.0) if scaled and activation == "softmax" else None
    found = error_of_score(p, activation, 10, spread, scaling)
    summary = summarized(p, activation, 10, spread, scaling)
    expected = summary.standard_error.max(1)
    if activation != "sigmoid":
        expected = summary.standard_error[np.arange(5), summary.mean.argmax(1)]
    np.testing.assert_array_equal(found, expected)


# --- entropies ------------------------------------------------------------------------------------------------------


def test_uncertainties_of_classes_match_hand_calculation():
    """Two certain samples that contradict each other: the full bit of uncertainty is the model's."""
    found = over_classes(np.array([[[1.0, 0.0], [0.0, 1.0]]]))
    assert found.mean.tolist() == [[0.5, 0.5]]
    assert found.std.tolist() == [[0.5, 0.5]]
    assert found.predictive_entropy == pytest.approx([LN2])
    assert found.expected_entropy == pytest.approx([0.0])
    assert found.mutual_information == pytest.approx([LN2])
    # s^2 = (.25 + .25) / 1, shrunk toward .1 / 4 with 2 degrees of freedom, over two samples.
    assert found.standard_error == pytest.approx(np.full((1, 2), np.sqrt((2 * 0.025 + 1 * 0.5) / 3 / 2)))


def test_equal_samples_have_only_data_uncertainty():
    found = over_classes(np.full((1, 2, 7), 0.5))
    assert found.predictive_entropy == pytest.approx([LN2])
    assert found.expected_entropy == pytest.approx([LN2])
    assert found.mutual_information.tolist() == [0.0]
    assert found.std.tolist() == [[0.0, 0.0]]


def test_entropies_match_scipy_in_nats():
    p = probabilities()
    found = over_classes(p)
    np.testing.assert_allclose(found.predictive_entropy, stats.entropy(p.mean(2), axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.expected_entropy, stats.entropy(p, axis=1).mean(1), rtol=1e-12)


def test_entropies_match_baal():
    from baal.active.heuristics import BALD, Entropy

    p = probabilities(texts=30)
    found = over_classes(p)
    np.testing.assert_allclose(BALD().compute_score(p), found.mutual_information, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(Entropy().compute_score(p), found.predictive_entropy, rtol=1e-9)


def test_independent_labels_have_their_own_entropies():
    p = np.random.default_rng(1).uniform(size=(3, 4, 9))
    found = over_labels(p)
    both = np.stack([p, 1 - p])
    expected = stats.entropy(both, axis=0).mean(2)
    np.testing.assert_allclose(found.predictive_entropy, stats.entropy(both.mean(3), axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.expected_entropy, expected, rtol=1e-12)
    assert found.mutual_information.shape == (3, 4)


def test_uncertainties_of_independent_labels_match_hand_calculation():
    found = over_labels(np.array([[[0.0, 1.0], [0.5, 0.5]]]))
    assert found.predictive_entropy == pytest.approx(np.array([[LN2, LN2]]))
    assert found.mutual_information == pytest.approx(np.array([[LN2, 0.0]]))


def test_raw_outputs_have_no_entropy():
    found = over_outputs(np.array([[[1.0, 3.0]]]))
    assert (found.mean.item(), found.std.item(), found.standard_error.item()) == (2.0, 1.0, 1.0)
    assert found.predictive_entropy is found.expected_entropy is found.mutual_information is None


def test_float32_samples_are_summarized_in_float64():
    """The spread of nearly certain samples, a few float32 ulps below 1, is not lost."""
    p = np.float32(1) - np.arange(1, 101, dtype=np.float32) * np.float32(2**-24)
    samples = np.stack([p, 1 - p])[None]
    found = over_classes(samples)
    assert found.mean.dtype == np.float64
    assert found.std[0, 0] == pytest.approx(samples[0, 0].astype(np.float64).std(), rel=1e-12)


simplexes = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).dirichlet(np.full(3, 0.05), (2, 6)).transpose(0, 2, 1)
)


@settings(max_examples=200)
@given(simplexes, st.sampled_from([over_classes, over_labels]))
def test_total_uncertainty_is_data_plus_model(p, summarize):
    found = summarize(p)
    assert (found.mutual_information >= 0).all()
    np.testing.assert_allclose(
        found.predictive_entropy, found.expected_entropy + found.mutual_information, rtol=0, atol=1e-14
    )


@settings(max_examples=100)
@given(simplexes, st.sampled_from([over_classes, over_labels]))
def test_identical_samples_have_no_model_uncertainty(p, summarize):
    same = np.repeat(p[:, :, :1], 5, axis=2)
    assert summarize(same).mutual_information == pytest.approx(0, abs=1e-14)
    assert summarize(same).std == pytest.approx(0, abs=1e-14)


@settings(max_examples=50)
@given(simplexes, st.permutations(range(6)))
def test_order_of_independent_samples_does_not_matter(p, order):
    a, b = over_classes(p), over_classes(p[:, :, order])
    for name in ("mean", "std", "standard_error", "mutual_information"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-14)


# --- standard error -------------------------------------------------------------------------------------------------


def test_independent_samples_have_the_textbook_standard_error():
    x = np.random.default_rng(0).normal(size=(3, 2, 17))
    np.testing.assert_allclose(standard_error(x), stats.sem(x, axis=2), rtol=1e-12)


@pytest.mark.parametrize("count", [4, 10, 20])
@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_prior_keeps_coverage_of_confident_texts(count, spread):
    """A confident text: the logit is Gaussian around 5, so nearly all probabilities are .99 and a few are not."""
    rng = np.random.default_rng(0)
    x = 1 / (1 + np.exp(-rng.normal(5, spread, size=(4000, 1, count))))
    truth = (1 / (1 + np.exp(-rng.normal(5, spread, size=10**6)))).mean()
    shrunk, plain = (
        (np.abs(x.mean(2) - truth) < 1.96 * error(x)).mean()
        for error in (standard_error_of_probability, standard_error)
    )
    assert shrunk > 0.93 > 0.91 > plain


def test_the_prior_is_that_of_the_model():
    """The samples of some models vary a third as much as they can. The prior for unknown models is too small then."""
    x = np.random.default_rng(0).uniform(size=(20_000, 1, 10))  # a variance of m (1 - m) / 3
    held = {
        share: (np.abs(x.mean(2) - 0.5) <= 1.96 * standard_error_of_probability(x, 1, Spread(share, 1.0))).mean()
        for share in (0.1, 1 / 3)
    }
    assert held[0.1] < 0.905 < 0.92 < held[1 / 3] < 0.96


def test_many_samples_outweigh_the_prior():
    x = np.random.default_rng(0).beta(8, 2, size=(5, 2, 2000))
    for group_size in (1, 10):
        found, plain = standard_error_of_probability(x, group_size), standard_error(x, group_size)
        np.testing.assert_allclose(found, plain, rtol=0.02)


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.sampled_from([1, 10]))
def test_probability_and_complement_have_the_same_standard_error(seed, count, group_size):
    p = np.random.default_rng(seed).beta(0.3, 0.5, size=(3, 1, count))
    np.testing.assert_allclose(
        standard_error_of_probability(p, group_size), standard_error_of_probability(1 - p, group_size), atol=1e-12
    )


@pytest.mark.parametrize("group_size", [1, 10])
def test_one_sample_has_no_standard_error(group_size):
    for error in (standard_error, standard_error_of_probability):
        assert np.isnan(error(np.ones((2, 3, 1)), group_size)).all()


@pytest.mark.parametrize("count", range(2, 45))
def test_two_or_more_samples_have_a_standard_error(count):
    x = np.random.default_rng(count).uniform(size=(2, 3, count))
    for error in (standard_error, standard_error_of_probability):
        assert (error(x, 10) > 0).all()


@pytest.mark.parametrize("count", [2, 9, 10, 19])
def test_fewer_than_two_complete_groups_count_as_independent(count):
    x = np.random.default_rng(0).uniform(size=(2, 3, count))
    np.testing.assert_allclose(standard_error(x, 10), stats.sem(x, axis=2))


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_balanced_variance_lies_between_both_estimates(seed, groups):
    x = np.random.default_rng(seed).uniform(size=(1, 1, groups * 10))
    naive = stats.sem(x, axis=2) ** 2
    between = stats.sem(x.reshape(1, 1, groups, 10).mean(3), axis=2) ** 2
    found = standard_error(x, 10) ** 2
    assert np.minimum(naive, between) - 1e-15 <= found <= np.maximum(naive, between) + 1e-15


def stratified(texts, count, rng):
    """Sums of 40 units' main effects; each unit is dropped in exactly one of ten passes: (texts, 1, count), mean 0."""
    effects = rng.normal(size=(texts, 40, 1))
    order = rng.permuted(np.tile(np.arange(10), (texts, 40, count // 10, 1)), axis=3).reshape(texts, 40, count)
    noise = rng.normal(size=(texts, 1, count))
    return (effects * ((order == 0) - 0.1)).sum(1, keepdims=True) * 0.3 + 0.3 * noise


@pytest.mark.parametrize("count", [20, 50, 100])
def test_intervals_of_balanced_samples_have_coverage(count):
    """At least 95% of the intervals contain the true mean 0. They are shorter than those of independent samples."""
    x = stratified(2000, count, np.random.default_rng(0))
    error = standard_error(x, 10)
    covered = (np.abs(x.mean(2)) < 1.96 * error).mean()
    assert covered > 0.95 - 4 * np.sqrt(0.05 * 0.95 / 2000)
    assert error.mean() < 0.97 * stats.sem(x, axis=2).mean()


# --- at a temperature -----------------------------------------------------------------------------------------------


def test_two_classes_at_a_temperature_follow_the_derivative():
    """q = m^(1/T) / (m^(1/T) + (1 - m)^(1/T)) has the derivative q (1 - q) / (T m (1 - m))."""
    p = np.random.default_rng(0).beta(8, 3, (6, 1, 20))
    samples, group_size = np.concatenate([p, 1 - p], 1), 10
    for temperature in (0.5, 3.0):
        plain, found = (
            over_classes(samples, group_size),
            over_classes(samples, group_size, scaling=TemperatureScaling(temperature)),
        )
        m, q = plain.mean, found.mean
        np.testing.assert_allclose(q, m ** (1 / temperature) / (m ** (1 / temperature)).sum(1, keepdims=True))
        slope = q * (1 - q) / (temperature * m * (1 - m))
        np.testing.assert_allclose(found.std, plain.std * slope)
        np.testing.assert_allclose(found.standard_error, plain.standard_error * slope)


def test_spread_at_a_temperature_is_that_of_tempered_averages():
    """For several classes, against averages that are drawn again and again and then tempered."""
    random = np.random.default_rng(0)
    for temperature in (0.7, 2.5):
        drawn = random.dirichlet([40, 15, 6, 3], (4_000, 1, 20)).transpose(0, 1, 3, 2)[:, 0]
        found = over_classes(drawn, scaling=TemperatureScaling(temperature))
        np.testing.assert_allclose(found.mean.std(0), np.sqrt((found.standard_error**2).mean(0)), rtol=0.25)
        alone = over_classes(drawn[:1], scaling=TemperatureScaling(temperature))
        each = np.stack([apply_temperature(drawn[0, :, [t]], temperature)[0] for t in range(20)], 1)
        np.testing.assert_allclose(alone.std[0], each.std(1), rtol=0.3)


@given(
    arrays(np.float32, (3, 5, 4), elements=st.floats(0, 1, width=32)).filter(lambda x: (x.sum(1) > 0).all()),
    st.floats(0.01, 100),
)
def test_everything_at_a_temperature_is_finite_and_adds_up(raw, temperature):
    """Probabilities of 0, single certain samples and extreme temperatures included."""
    found = over_classes(raw / raw.sum(1, keepdims=True), 1, scaling=TemperatureScaling(temperature))
    for values in (found.mean, found.std, found.standard_error, found.mutual_information, found.expected_entropy):
        assert np.isfinite(values).all() and (values >= 0).all()
    most = np.sqrt(found.mean * np.clip(1 - found.mean, 0, None))  # no probability of this mean varies more
    assert (found.std <= most * (1 + 1e-9)).all() and (found.standard_error <= most * (1 + 1e-9)).all()
    np.testing.assert_allclose(found.expected_entropy + found.mutual_information, found.predictive_entropy)
    np.testing.assert_allclose(found.mean.sum(1), 1)


def test_a_temperature_of_one_changes_nothing():
    p = probabilities()
    plain, found = over_classes(p, 10), over_classes(p, 10, scaling=TemperatureScaling(1.0))
    for name in ("mean", "std", "standard_error", "predictive_entropy", "expected_entropy", "mutual_information"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), rtol=1e-12)
    near = over_classes(p, 10, scaling=TemperatureScaling(1 + 1e-9))
    for name in ("mean", "std", "standard_error", "predictive_entropy", "expected_entropy", "mutual_information"):
        np.testing.assert_allclose(getattr(near, name), getattr(plain, name), rtol=1e-6)
