"""Intervals and verdicts, compared with SciPy's bootstrap and with simulations in which the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from bayesian_text_classification.evaluation.statistics.estimates import difference, estimate, resample
from bayesian_text_classification.evaluation.statistics.intervals import (
    RESAMPLES,
    gain_interval,
    judged,
    mean_interval,
    share_interval,
)
from bayesian_text_classification.evaluation.statistics.measures import MEASURES
from bayesian_text_classification.evaluation.statistics.predictions import Predictions
from bayesian_text_classification.metric import load_metric_module
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from interval_cases import MEASURE, beside, pair
from scipy import integrate, optimize, special, stats

CLOSED_FORMS = {"accuracy", "nll", "brier"}


def test_every_arm_gets_the_same_resamples():
    first, second = pair(200, 0)
    found = resample(first, seed=3).values
    assert {key: len(values) for key, values in found.items()} == dict.fromkeys(
        MEASURE.keys() - CLOSED_FORMS, RESAMPLES
    )
    for key, values in resample(first, seed=3).values.items():
        np.testing.assert_array_equal(values, found[key])
    assert (resample(first, seed=4).values["ece"] != found["ece"]).any()
    # The two arms share their labels, so their resampled measures are correlated.
    other = resample(second, seed=3).values
    assert np.corrcoef(found["aurc"], other["aurc"])[0, 1] > 0.8


def test_ece_is_resampled_once_for_its_interval():
    """The metric resamples it. The interval does not need the draws for differences of the ECE."""
    rows, _ = pair(200, 0)
    drawn = resample(rows, measures=[])
    assert "ece" not in drawn.values
    assert estimate(MEASURE["ece"], drawn).known


@pytest.mark.parametrize("key", ["ece", "error_auroc", "aurc", "brier_resolution", "l2_ece"])
def test_spread_of_resamples_matches_scipys_bootstrap(key):
    rows, _ = pair(150, 2)

    def statistic(chosen):
        return MEASURE[key].value(Predictions(rows.probabilities[chosen], rows.labels[chosen]))

    peer = stats.bootstrap((np.arange(150),), statistic, n_resamples=1_000, vectorized=False, method="basic", rng=1)
    ours = resample(rows).values[key]
    assert ours.std() == pytest.approx(peer.standard_error, rel=0.15)
    assert ours.mean() == pytest.approx(peer.bootstrap_distribution.mean(), abs=0.2 * peer.standard_error)
    found = estimate(MEASURE[key], resample(rows))
    if key in ("ece", "brier_resolution"):
        low, high = np.quantile(ours, [0.025, 0.975])
        assert found.high - found.value == pytest.approx((high - low) / 2)
        assert found.low == pytest.approx(peer.confidence_interval.low, abs=0.3 * peer.standard_error)
    elif key == "aurc":
        assert np.log(found.high / found.low) / 2 == pytest.approx(1.96 * np.log(ours).std(), rel=0.01)
    else:
        assert (found.high - found.low) / 2 == pytest.approx(1.96 * ours.std(), rel=0.01)


def test_interval_of_a_biased_measure_matches_the_metric():
    rows, _ = pair(872, 3)
    found = estimate(MEASURE["ece"], resample(rows))
    peer = load_metric_module().bootstrap(rows.probabilities, rows.labels).interval
    assert (found.low, found.high) == pytest.approx(peer, abs=0.003)  # other draws


@pytest.mark.parametrize("key", ["class_wise_ece", "brier_reliability", "brier_resolution"])
def test_intervals_for_many_classes_cover_the_truth_unless_the_bias_is_too_large(key):
    random, measure = np.random.default_rng(0), MEASURE[key]

    def drawn(count, classes, sharpness):
        logits = random.normal(0, 2.5, (count, classes))
        labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
        powers = np.exp(sharpness * logits)
        return Predictions.of(powers / powers.sum(1, keepdims=True), labels)

    truth, held = measure.value(drawn(200_000, 4, 1.6)), 0
    for seed in range(25):
        rows = drawn(1_000, 4, 1.6)
        found = estimate(measure, resample(rows, seed=seed, measures=[measure]))
        held += found.low <= truth <= found.high
    assert held >= 21
    # With 100 classes, most bins have one row or none, so the sampling noise cannot be estimated.
    rows = drawn(1_000, 100, 1.0)
    found = estimate(measure, resample(rows, measures=[measure]))
    assert found.value > 0 and np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize("errors", [0, 1, 9])
def test_with_few_errors_only_accuracy_has_an_interval(errors):
    """For 120 rows that are all right, Hall's interval for the NLL ended at a third of the truth.

    With three errors in 300 rows, the bootstrap interval for AUROC covered the truth in 58 of 100 cases.
    """
    p = np.random.default_rng(0).uniform(0.6, 1, 300)
    rows = Predictions.of(np.stack([p, 1 - p], 1), (np.arange(300) < errors).astype(int))
    drawn = resample(rows)
    for key in MEASURE.keys() - {"accuracy"}:
        found, told = estimate(MEASURE[key], drawn), difference(MEASURE[key], drawn, drawn)
        assert not found.known and np.isnan([found.low, found.high, told.low, told.high]).all()
        assert np.isnan(found.value) == (key == "error_auroc" and not errors)
        assert told.verdict == "cannot tell" and told.rows_needed is None
    assert estimate(MEASURE["accuracy"], drawn).low > 0.9


@pytest.mark.parametrize("sign", [1, -1])
def test_rows_needed_uses_the_end_closer_to_0(sign):
    """It exceeds the number of rows, even if the interval extends farther on the other side."""
    ends = sorted((sign * -0.002, sign * 0.03))
    found = judged(sign * 0.024, *ends, False, 300, enough=True)
    assert found.rows_needed == np.ceil(300 * ((1 + 0.8416 / 1.96) * 0.026 / 0.024) ** 2)


def test_detector_without_errors_has_wilsons_interval():
    """For 50 trials without a miss, Wilson's interval for the rate is 0 to 7%."""
    assert share_interval(1.0, np.ones(100), 50) == pytest.approx((0.9286, 1.0), abs=1e-4)
    assert share_interval(0.0, np.zeros(100), 50) == pytest.approx((0.0, 0.0714), abs=1e-4)
    drawn = np.repeat([0.0, 0.5], 50)  # another threshold, another rate
    assert share_interval(0.0, drawn, 50) == pytest.approx((0.0, 1.96 * drawn.std(ddof=1)), abs=1e-4)


def test_accuracy_interval_matches_scipy():
    rows, _ = pair(150, 2)
    found = estimate(MEASURE["accuracy"], resample(rows))
    wilson = stats.binomtest(int(rows.correct.sum()), 150).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(wilson.low), pytest.approx(wilson.high))


def test_symmetric_values_have_students_interval():
    values = np.random.default_rng(0).normal(size=75)
    values = np.concatenate([values, -values]) + 3
    student = stats.t.interval(0.95, 149, values.mean(), stats.sem(values))
    assert mean_interval(values) == pytest.approx(student)


def test_skewed_values_have_halls_interval():
    """At the ends of the interval, Hall's published transformation equals Student's quantile over root n."""
    rows, base = pair(150, 2, tilt=1)
    found, told = estimate(MEASURE["nll"], resample(rows, measures=[])), beside(MEASURE["nll"], rows, base)
    for values, interval in ((rows.nll, found), (rows.nll - base.nll, told)):
        skewness = (((values - values.mean()) / values.std(ddof=1)) ** 3).mean()
        assert abs(skewness) > 0.5
        for end, sign in ((interval.low, 1), (interval.high, -1)):
            w = (values.mean() - end) / values.std(ddof=1)
            transformed = w + skewness * w**2 / 3 + skewness**2 * w**3 / 27 + skewness / (6 * 150)
            assert transformed == pytest.approx(sign * stats.t.ppf(0.975, 149) / np.sqrt(150))


@settings(max_examples=200)
@given(hnp.arrays(float, st.integers(2, 40), elements=st.floats(-1e6, 1e6)), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_mean_interval_contains_the_mean_and_scales_with_the_unit(values, unit, shift):
    low, high = mean_interval(values)
    assert low <= values.mean() <= high
    near = {"rel": 1e-6, "abs": 1e-9 * (np.abs(values).max() + abs(shift / unit) + 1)}
    turned = mean_interval(shift - unit * values)
    assert ((shift - turned[1]) / unit, (shift - turned[0]) / unit) == (
        pytest.approx(low, **near),
        pytest.approx(high, **near),
    )


def test_halls_interval_covers_skewed_means_better_than_students():
    """For 40 log-normal values, Student's interval covers the mean in 89 of 100 cases."""
    random, held = np.random.default_rng(0), np.zeros(2)
    for _ in range(2_000):
        values = random.lognormal(size=40)
        student = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
        for which, (low, high) in enumerate((mean_interval(values), student)):
            held[which] += low <= np.exp(0.5) <= high
    assert held[1] / 2_000 < 0.91 < 0.925 < held[0] / 2_000


def test_arm_does_not_differ_from_itself():
    rows, _ = pair(100, 0)
    again = resample(rows)
    for measure in MEASURES:
        found = difference(measure, again, again)
        assert (found.value, found.verdict, found.rows_needed) == (0.0, "cannot tell", None)


def test_verdict_follows_the_direction_of_the_measure():
    sharp, plain = pair(4_000, 0, tilt=1.5)
    resamples = resample(sharp), resample(plain)
    assert difference(MEASURE["nll"], *resamples).verdict == "worse"
    assert difference(MEASURE["nll"], *resamples[::-1]).verdict == "better"
    good, bad = pair(4_000, 0, noise=0)[0], pair(4_000, 0, noise=3)[0]
    resamples = resample(good), resample(bad)
    for key in ("accuracy", "brier_resolution"):
        assert difference(MEASURE[key], *resamples).verdict == "better"
        assert difference(MEASURE[key], *resamples[::-1]).verdict == "worse"


def test_a_difference_that_only_rounding_made_needs_no_number_of_rows():
    assert judged(1e-17, -0.01, 0.01, True, 400, enough=True).rows_needed is None
    assert judged(0.001, -0.01, 0.01, True, 400, enough=True).rows_needed > 400


def test_rows_needed_matches_the_power_formula():
    first, second = pair(400, 5, tilt=0.06)
    found = difference(MEASURE["nll"], resample(first), resample(second))
    assert found.verdict == "cannot tell"
    differences = first.nll - second.nll
    expected = 400 * ((1.96 + 0.8416) * differences.std(ddof=1) / np.sqrt(400) / differences.mean()) ** 2
    assert found.rows_needed == pytest.approx(expected, rel=0.02)


def test_undefined_measure_has_no_interval_and_no_verdict():
    rows = Predictions.of(np.array([[0.9, 0.1], [0.2, 0.8]] * 5), np.array([0, 1] * 5))
    resamples = resample(rows)
    found = estimate(MEASURE["error_auroc"], resamples)
    assert np.isnan([found.value, found.low, found.high]).all()
    told = difference(MEASURE["error_auroc"], resamples, resamples)
    assert np.isnan(told.value) and told.verdict == "cannot tell" and told.rows_needed is None


def test_intervals_stay_in_the_range_of_their_measure():
    p = np.array([[0.9, 0.1]] * 24 + [[0.6, 0.4]] * 24)
    rows = Predictions.of(p, np.array([0] * 22 + [1] * 2 + [0] * 4 + [1] * 20))  # most errors are in uncertain rows
    resamples = resample(rows)
    for measure in MEASURES:
        found = estimate(measure, resamples)
        assert 0 <= found.low <= found.value <= found.high <= measure.most


def test_one_text_has_no_mean_interval():
    rows = Predictions.of(np.array([[0.9, 0.1]]), np.array([0]))
    found = estimate(MEASURE["nll"], resample(rows))
    assert found.value == pytest.approx(-np.log(0.9)) and np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize("rows", [20, 50, 100, 200, 400])
@pytest.mark.parametrize("key", ["nll", "brier"])
def test_few_wrong_rows_give_no_significant_cost(rows, key):
    """Accuracy 0.95. One arm has confidence 0.99, and the other a confidence with the same cost."""
    risk = {
        "nll": lambda c: -0.95 * np.log(c) - 0.05 * np.log(1 - c),
        "brier": lambda c: 0.95 * (1 - c) ** 2 + 0.05 * c**2,
    }[key]
    equal = optimize.brentq(lambda c: risk(c) - risk(0.99), 0.6, 0.949)
    random, told = np.random.default_rng(0), 0
    for _ in range(300):
        labels = (random.random(rows) < 0.05).astype(int)
        mine, theirs = (Predictions.of(np.tile([c, 1 - c], (rows, 1)), labels) for c in (0.99, equal))
        told += beside(MEASURE[key], mine, theirs).verdict != "cannot tell"
    assert told / 300 <= 0.05


def test_overconfident_and_underconfident_arms_of_equal_cost_rarely_differ():
    """With 400 rows, Student's t called 7 of 100 NLL differences significant."""

    def risk(scale):
        def of(z):
            costs = special.log_expit(scale * z), special.log_expit(-scale * z)
            return -(special.expit(z) * costs[0] + special.expit(-z) * costs[1]) * stats.norm.pdf(z, scale=5)

        return 2 * integrate.quad(of, 0, 40)[0]

    equal = optimize.brentq(lambda scale: risk(scale) - risk(1.8), 0.1, 0.9)
    random, told = np.random.default_rng(0), 0
    for _ in range(2_000):
        z = random.normal(0, 5, 400)
        labels = (random.random(400) < special.expit(z)).astype(int)
        rows, base = (Predictions.of(special.expit(np.stack([-s * z, s * z], 1)), labels) for s in (1.8, equal))
        told += beside(MEASURE["nll"], rows, base).verdict != "cannot tell"
    assert told <= stats.binom.ppf(0.99, 2_000, 0.05)


@pytest.mark.parametrize("seed", range(5))
def test_interval_of_a_difference_contains_it(seed):
    rows, base = pair(60, seed, tilt=seed / 2, noise=2)
    drawn = [resample(rows), resample(base)]
    for shift in (0.0, 1.0, -1.0):
        noises = {key: value + shift / 10 for key, value in drawn[0].noise_by_bin.items()}
        for key, measure in MEASURE.items():
            found = difference(measure, replace(drawn[0], noise_by_bin=noises), drawn[1])
            assert found.low <= found.value <= found.high, (key, shift)


@pytest.mark.parametrize("count", [1, 2, 3, 19])
def test_few_rows_give_no_verdict(count):
    first, second = pair(count, 7, tilt=3.0)
    for measure in MEASURES:
        found = difference(measure, resample(first), resample(second))
        assert found.verdict == "cannot tell"
        estimate(measure, resample(first))


@pytest.mark.parametrize(("lost", "gained", "verdict"), [(4, 0, "cannot tell"), (5, 0, "cannot tell"), (7, 0, "worse"),
                                                         (0, 0, "cannot tell"), (12, 6, "cannot tell")])  # fmt: skip
def test_accuracy_verdict_matches_mcnemars_exact_test(lost, gained, verdict):
    p = np.tile([0.2, 0.8], (300, 1))
    labels = np.ones(300, int)
    before, after = p.copy(), p.copy()
    after[:lost] = [0.8, 0.2]
    before[lost : lost + gained] = [0.8, 0.2]
    rows, base = Predictions.of(after, labels), Predictions.of(before, labels)
    found = difference(MEASURE["accuracy"], resample(rows), resample(base))
    assert found.verdict == verdict
    exact = stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    assert (exact < 0.05) == (verdict == "worse")
    assert found.low < found.value < found.high or lost + gained == 0
    assert found.low < 0 and (found.high > 0) == (verdict == "cannot tell")


def test_interval_of_a_gain_by_hand():
    """Three standard errors from 1 at a cost of 1: 2 - 3^2 = -7, with the spread 2 * 3. The root is 3 with spread 1."""
    half = 1.96 * 6
    assert gain_interval(-7.0, (-7 - half, -7 + half), 1.0) == pytest.approx((1 - 4.96**2, 1.5 - 1.04**2), abs=1e-3)
    assert gain_interval(1.0, (0.0, 2.0), 1.0) == pytest.approx((1 - 2.96**2, 1.5), abs=1e-3)
    assert gain_interval(2.0, (2.0, 2.0), 1.0) == pytest.approx((1 - 1.96**2, 2.0), abs=1e-3)  # no gain at all
    assert gain_interval(-1.0, (-2.0, 0.0), 0.0) == (-2.0, 0.0)
