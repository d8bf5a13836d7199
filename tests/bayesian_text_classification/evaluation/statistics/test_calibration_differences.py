"""Differences of calibration errors: gaps have a kink at 0, and noise adds to them. By simulation, with known truth."""

import numpy as np
import pytest
from bayesian_text_classification.evaluation.fits import Temperatures
from bayesian_text_classification.evaluation.statistics import strategies
from bayesian_text_classification.evaluation.statistics.estimates import difference, estimate, noise_by_bin, resample
from bayesian_text_classification.evaluation.statistics.gap_sums import GapSum, gaps_interval
from bayesian_text_classification.evaluation.statistics.intervals import mean_interval
from bayesian_text_classification.evaluation.statistics.predictions import Predictions, Weighted, unweighted
from bayesian_text_classification.metric import load_metric_module
from bayesian_text_classification.pipeline.temperature import apply_temperature
from interval_cases import MEASURE, beside, pair
from scipy import special, stats


def told_share(draw, keys, cases):
    """How often a difference is significant."""
    told = dict.fromkeys(keys, 0)
    for seed in range(cases):
        labels, *both = draw(np.random.default_rng(seed))
        rows, base = (Predictions.of(np.stack([1 - p, p], 1), labels) for p in both)
        measures = [MEASURE[key] for key in keys if MEASURE[key].strategy.resamples_difference]
        drawn = [resample(one, seed=seed, measures=measures) for one in (rows, base)]
        for key in keys:
            told[key] += difference(MEASURE[key], *drawn).verdict != "cannot tell"
    return {key: count / cases for key, count in told.items()}


def opposite(random, gap=0.02):
    """Arms with equal errors in opposite directions."""
    truth = random.uniform(0.55, 0.95, 872)
    return (random.random(872) < truth).astype(int), truth + gap, truth - gap


def calibrated(random):
    """Two calibrated arms. The first always returns its mean confidence, so it fills fewer bins."""
    truth = 1 / (1 + np.exp(-random.normal(0, 2.5, 872)))
    constant = np.where(truth > 0.5, 1, 0) + np.where(truth > 0.5, -1, 1) * np.minimum(truth, 1 - truth).mean()
    return (random.random(872) < truth).astype(int), constant, truth


def as_wrong(random):
    """Arms equally wrong in the same direction, with separate errors. The first always returns its mean confidence."""
    confidence, up = random.uniform(0.52, 0.89, 872), random.random(872) < 0.5
    labels = (random.random(872) < np.where(up, confidence, 1 - confidence)).astype(int)
    said = np.where(random.random(872) < 0.75, labels, 1 - labels)
    return labels, np.where(said == 1, 0.85, 0.15), np.where(up, confidence + 0.1, 0.9 - confidence)


@pytest.mark.parametrize(
    ("draw", "cases", "most"),
    [
        # Noise favors the more confident arm: `d +- z s` was significant in 1 of 10 cases, class-wise in 1 of 4.
        (calibrated, 25, 0.08),
        pytest.param(calibrated, 60, 0.05, marks=pytest.mark.slow),
        # Label noise decides which one looks better: `d +- z s` was significant in 1 of 8 cases, 1 of 3 for n = 50.
        pytest.param(opposite, 60, 0.1, marks=pytest.mark.slow),
        # Noise favors the more confident arm by 2/3 of a standard error if both are calibrated, but not here.
        pytest.param(as_wrong, 60, 0.1, marks=pytest.mark.slow),
    ],
)
def test_arms_whose_ranks_are_noise_are_rarely_significant(draw, cases, most):
    assert max(told_share(draw, ("ece", "class_wise_ece"), cases).values()) <= most


def gap_sum(value, noise=0.0, around=None, spread=0.01):
    """A sum whose resamples have this mean and standard deviation."""
    drawn = (around if around is not None else value) + spread * np.sqrt(0.5) * np.array([-1.0, 1.0])
    return GapSum(value, drawn, np.array([value]), np.array([noise]))


SURE = {"spread": 0.0}


@pytest.mark.parametrize(
    ("mine", "theirs", "most", "expected"),
    [
        # d = 0.1, s = 0.01, and nothing to correct.
        (gap_sum(0.15), gap_sum(0.05, **SURE), 1.0, (0.0804, 0.1196)),
        # The mean of the resamples is 0.004 closer to 0. The verdict does not depend on it, so nothing changes.
        (gap_sum(0.15, around=0.146), gap_sum(0.05, **SURE), 1.0, (0.0804, 0.1196)),
        # d - z s = 0.0004. The resamples' mean is 0.004 closer to 0, and the end moves all the way.
        (gap_sum(0.07, around=0.066), gap_sum(0.05, **SURE), 1.0, (-0.0036, 0.0396)),
        # d - z s = 0.0104: between once and twice the distance, it moves by less, so the end stays positive.
        (gap_sum(0.08, around=0.072), gap_sum(0.05, **SURE), 1.0, (0.0048, 0.0496)),
        # The other sum is no larger than its noise: the true difference may be larger by all of it. The lower end is
        # far from 0, and moves along, but no further than two thirds of the way to d.
        (gap_sum(0.11), gap_sum(0.01, noise=0.01, **SURE), 1.0, (0.0904, 0.1296)),
        (gap_sum(0.15), gap_sum(0.05, noise=0.05, **SURE), 1.0, (0.0935, 0.1696)),
        # No larger than the first sum: its upper end is 0.1696.
        (gap_sum(0.15), gap_sum(0.05, noise=0.09, **SURE), 1.0, (0.0935, 0.1696)),
        # And no larger than `most`, but never below `d + z s`.
        (gap_sum(0.15), gap_sum(0.05, noise=0.05, **SURE), 0.15, (0.0935, 0.15)),
        # d - z s = 0.0052. It moves to twice that, and the verdict stays what it is.
        (gap_sum(0.0748), gap_sum(0.05, noise=0.05, **SURE), 1.0, (0.0104, 0.0944)),
        (gap_sum(0.15), gap_sum(0.05, noise=0.05, **SURE), 0.09, (0.0804, 0.1196)),
        # The other sum is its noise, which counts as calibrated to 2/7, so the lower end moves by that part.
        (gap_sum(0.11), gap_sum(0.01, noise=0.01, spread=0.001), 1.0, (0.0852, 0.1276)),
        # The other arm is off, and noise adds 0.004 to its resamples, as it may have added to the sum.
        (gap_sum(0.15), gap_sum(0.05, around=0.054, **SURE), 1.0, (0.0804, 0.1236)),
        # Both may be noise, and a third of it is the same.
        (gap_sum(0.05, noise=0.05), gap_sum(0.05, noise=0.05, **SURE), 1.0, (-0.05, 0.0529)),
    ],
)
def test_interval_of_a_difference_of_gaps(mine, theirs, most, expected):
    assert gaps_interval(mine, theirs, most=most) == pytest.approx(expected, abs=1e-4)
    low, high = gaps_interval(theirs, mine, most=most)
    assert (-high, -low) == pytest.approx(expected, abs=1e-4)


def test_noise_explains_less_of_a_sum_the_further_it_exceeds_the_noise():
    assert gap_sum(0.028, noise=0.02).possible_noise == gap_sum(0.01, noise=0.02).possible_noise == 0.02
    assert gap_sum(0.037, noise=0.02).possible_noise == pytest.approx(
        0.01
    )  # 1.7 standard errors, half way from .9 to 2.5
    assert gap_sum(0.05, noise=0.02).possible_noise == gap_sum(0.05, noise=0.02, **SURE).possible_noise == 0
    assert gap_sum(0.05, noise=0.02, around=0.053).possible_noise == pytest.approx(0.003)


def test_an_arm_counts_as_calibrated_if_its_sum_is_below_its_noise():
    assert gap_sum(0.05, noise=0.1).calibrated == gap_sum(0.095, noise=0.1).calibrated == 1
    assert gap_sum(0.1, noise=0.1).calibrated == pytest.approx(2 / 7)
    assert gap_sum(0.102, noise=0.1).calibrated == pytest.approx(0, abs=1e-9)
    assert (gap_sum(0.1, noise=0.1, **SURE).calibrated, gap_sum(0.101, noise=0.1, **SURE).calibrated) == (1, 0)


def test_bins_that_are_clearly_off_say_nothing_about_the_others():
    spread = 0.01 * np.sqrt(0.5) * np.array([-1.0, 1.0])
    # 0.2 is 8 standard errors of its bin: only the other bin and its noise are left, and its gap is that noise.
    one = GapSum(0.22, 0.22 + spread, np.array([0.2, 0.02]), np.array([0.02, 0.02]))
    assert (one.possible_noise, one.possible_noise_of_rest) == (0, pytest.approx(0.02))
    # 2.75 standard errors of its bin are half way from 2.5 to 3: half of the bin is left, and 1 1/2 bins of noise. The
    # standard error is that of 1 1/4 of 2 bins. The rest exceeds its noise by 1.7 of them, half way from .9 to 2.5.
    gap = 2.75 * 0.02 * np.sqrt(np.pi / 2)
    error = (gap / 2 + 0.02 - 0.03) / 1.7 / np.sqrt(1.25 / 2)
    half = GapSum(gap + 0.02, gap + 0.02 + error / 0.01 * spread, np.array([gap, 0.02]), np.array([0.02, 0.02]))
    assert half.possible_noise_of_rest == pytest.approx(0.015)
    assert gap_sum(0.1, noise=0.01).possible_noise_of_rest == 0  # no bin is left
    assert gap_sum(0.1, noise=0.0).possible_noise_of_rest == 0  # nor where there is no noise
    # A bin without noise is clearly off: the rest has a gap of .02, 1 standard error of .02 above its noise.
    sure = GapSum(0.24, 0.24 + 2 * spread, np.array([0.2, 0.04]), np.array([0.0, 0.02]))
    assert sure.possible_noise_of_rest == pytest.approx(0.02 * 1.5 / 1.6)
    # A fit lowered the value by .012. All of it counts for the rest, which then exceeds its noise by 1.4.
    fitted = GapSum(0.228, 0.228 + spread / 0.01 * 0.008 / 1.4, np.array([0.2, 0.04]), np.array([0.0, 0.02]))
    assert fitted.possible_noise_of_rest == pytest.approx(0.02 * 1.1 / 1.6)


def test_noise_that_is_too_small_to_square_is_noise():
    """Probabilities of 1e-170 have it."""
    one = GapSum(1e-170, np.full(2, 1e-170), np.array([1e-170, 0.0]), np.array([1e-170, 0.0]))
    assert one.possible_noise_of_rest == 1e-170


def test_an_interval_extends_by_the_noise_that_the_other_arm_has_more_of():
    """One bin of `off` is clearly off. Its other bin may be all noise, and `even` has less noise left, or none."""
    spread = 0.001 * np.sqrt(0.5) * np.array([-1.0, 1.0])
    off = GapSum(0.22, 0.22 + spread, np.array([0.2, 0.02]), np.array([0.02, 0.02]))
    even = GapSum(0.3, 0.3 - spread, np.array([0.15, 0.15]), np.array([0.02, 0.02]))
    assert (off.possible_noise, even.possible_noise, off.possible_noise_of_rest, even.possible_noise_of_rest) == (
        0,
        0,
        pytest.approx(0.02),
        0,
    )
    plain = 0.002 * 1.96
    left = GapSum(0.303, 0.303 - spread, np.array([0.15, 0.15, 0.003]), np.array([0.02, 0.02, 0.003]))
    assert (left.possible_noise, left.possible_noise_of_rest) == (0, pytest.approx(0.003))
    for other, more in ((even, 0.02), (left, 0.017)):
        value = other.value - 0.22
        found = gaps_interval(other, off, most=np.inf)
        assert found == pytest.approx((value - plain, value + plain + more), abs=1e-5)
        assert gaps_interval(off, other, most=np.inf) == pytest.approx((-found[1], -found[0]))


def test_a_difference_takes_the_gaps_and_the_noise_of_each_bin_from_the_rows():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 3_000)
    right = np.where(confidence >= 0.9, confidence - 0.15, confidence)
    labels, sums, drawn = (random.random(3_000) < right).astype(int), [], []
    for p in (confidence, right + 0.07):
        rows, bins = Predictions.of(np.stack([1 - p, p], 1), labels), (p * 10).astype(int)
        drawn.append(resample(rows, measures=[MEASURE["ece"]]))
        gaps, noise = np.abs(np.bincount(bins, p - labels, 10)) / 3_000, drawn[-1].noise_by_bin["ece"]
        assert noise == pytest.approx(np.sqrt(np.bincount(bins, p * (1 - p), 10) * 2 / np.pi) / 3_000, rel=0.3)
        sums.append(GapSum(gaps.sum(), drawn[-1].values["ece"], gaps, noise))
    found = difference(MEASURE["ece"], *drawn)
    assert (found.low, found.high) == pytest.approx(gaps_interval(*sums, most=1))
    assert sums[0].possible_noise_of_rest > 2 * sums[0].possible_noise  # so the interval depends on the bins


def test_gaps_with_a_fitted_temperature_are_those_at_the_common_one(monkeypatch):
    sums, random = [], np.random.default_rng(0)
    monkeypatch.setattr(strategies, "gaps_interval", lambda *both, most: sums.extend(both) or (0, 0))
    p, labels = random.dirichlet(np.ones(2), 200), random.integers(0, 2, 200)
    fit = Temperatures.fitted(p, labels)
    rows = fit.predictions(p, labels)
    drawn = resample(rows, measures=[MEASURE["ece"]])
    difference(MEASURE["ece"], drawn, drawn)
    at_common = Predictions.of(apply_temperature(p, fit.temperature), labels)
    assert sums[0].gaps == pytest.approx(MEASURE["ece"].strategy.gaps(unweighted(at_common))[0])
    assert sums[0].value == estimate(MEASURE["ece"], drawn).value != pytest.approx(sums[0].gaps.sum())


def in_first(gaps, count, size):
    """Gaps that are 0 but in the first bins."""
    return np.where(np.arange(gaps) < count, size, 0.0)


@pytest.mark.parametrize(
    ("first", "second", "widest"),
    [
        (np.full(10, 2), np.full(10, 1), 1.45),
        pytest.param(np.full(10, 3), np.full(10, 1), 1.45, marks=pytest.mark.slow),
        pytest.param(np.full(30, 2), np.full(30, 1), 1.5, marks=pytest.mark.slow),
        pytest.param(np.full(10, 2), np.zeros(10), 1.4, marks=pytest.mark.slow),
        (np.full(30, 3), np.zeros(30), 1.8),
        (np.full(10, 5), in_first(10, 1, 5), 1.7),
        (np.full(30, 5), in_first(30, 3, 5), 2.1),
    ],
)
def test_differences_cover_the_truth_for_gaps_of_any_signs(first, second, widest):
    """Gaps of these sizes in standard errors, observed with normal noise.

    If the lower end moved along for every `theirs`, 82% were covered for 2 and 1. If what noise may add faded from the
    noise itself on, 85% were covered for 30 gaps of 3 and 0. If no end moved along, the width was 1.9 in that case. If
    bins that are clearly off counted for the others too, 86 and 54% were covered in the last two cases.
    """
    random, found, sums, gaps = np.random.default_rng(0), [], [], len(first)
    for _ in range(1_000):
        own, shared = random.normal(size=(2, gaps)), random.normal(size=gaps)
        again, again_shared = random.normal(size=(300, 2, gaps)), random.normal(size=(300, 1, gaps))
        observed = np.sqrt(0.5) * (own + shared) + np.stack([first, second]) * random.choice([-1, 1], (2, gaps))
        drawn = np.abs(observed + np.sqrt(0.5) * (again + again_shared)).sum(2)
        sizes, noise = np.abs(observed), np.full(gaps, np.sqrt(2 / np.pi))
        arms = [GapSum(float(sizes[k].sum()), drawn[:, k], sizes[k], noise) for k in (0, 1)]
        found.append(gaps_interval(*arms, most=np.inf))
        sums.append(arms[0].value - arms[1].value)
    (low, high), truth = np.transpose(found), first.sum() - second.sum()
    assert np.mean((low <= truth) & (truth <= high)) >= 0.91
    assert np.mean(high - low) / np.subtract(*np.quantile(sums, [0.975, 0.025])) < widest


def coverage(drawn, key):
    """Share of 100 intervals that hold the truth, how many there are, and their width relative to the values' range."""
    measure = MEASURE[key]
    many = drawn(np.random.default_rng(0), 400_000)
    truth = measure.value(many[0]) - measure.value(many[1])
    found = []
    for seed in range(100):
        arms = drawn(np.random.default_rng(seed), 872)
        one = difference(measure, *(resample(arm, seed=seed, measures=[measure]) for arm in arms))
        found.append((one.value, one.low, one.high))
    values, low, high = np.transpose(found)
    known = ~np.isnan(low)
    held = (low <= truth) & (truth <= high)
    width = (high - low)[known].mean() / np.subtract(*np.quantile(values, [0.975, 0.025]))
    return held[known].mean(), known.sum(), width


@pytest.mark.slow  # many simulated runs
@pytest.mark.parametrize("key", ["ece", "class_wise_ece"])
@pytest.mark.parametrize(
    ("sharpness", "errors", "widest"), [(1.15, 0, 1.4), (1.3, 0, 1.4), (2.2, 0, 1.2), (1.6, 0.5, 1.4)]
)
def test_differences_from_a_calibrated_arm_cover_the_truth(key, sharpness, errors, widest):
    """Its ECE is all noise, which pulls the difference toward 0. `d +- z s` covered 63 to 85 of 100."""

    def drawn(random, rows):
        logits = random.normal(0, 1.8, (rows, 2))
        labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
        noisy = sharpness * (logits + errors * random.normal(0, 1, logits.shape))
        return [Predictions.of(special.softmax(arm, 1), labels) for arm in (noisy, logits)]

    held, given, width = coverage(drawn, key)
    assert given == 100 if key == "ece" else given >= 20
    assert held >= 0.88 and width < widest


@pytest.mark.slow  # many simulated runs
@pytest.mark.parametrize("key", ["ece", "class_wise_ece"])
@pytest.mark.parametrize(
    "right",
    [
        lambda confidence: confidence - 0.06,
        lambda confidence: np.where(confidence > 0.9, 0.9 + 0.3 * (confidence - 0.9), confidence),
        lambda confidence: confidence + 0.05 * np.where(np.floor(10 * confidence) % 2, 1, -1),
    ],
    ids=["all too high", "only the highest", "up and down"],
)
def test_differences_cover_the_truth_for_gaps_that_no_temperature_fits(right, key):
    """`right` is the probability that an answer is right, by its confidence. A calibrated arm has that confidence."""

    def drawn(random, rows):
        confidence = special.expit(np.abs(random.normal(0, 2.5, rows)))
        calibrated = np.clip(right(confidence), 0.5, 1 - 1e-6)
        labels = (random.random(rows) >= calibrated).astype(int)
        return [Predictions.of(np.stack([p, 1 - p], 1), labels) for p in (np.minimum(confidence, 1 - 1e-6), calibrated)]

    held, given, width = coverage(drawn, key)
    assert held >= 0.88 and given == 100 and width < 1.55


def test_confidences_on_both_sides_of_an_edge():
    """The arms differ by .002, but one has two bins and the other only one. Their gaps cancel in that one."""
    random, held = np.random.default_rng(0), 0
    confidence = np.where(np.arange(1_000) < 500, [[0.699], [0.701]], [[0.701], [0.7015]])
    for seed in range(30):
        labels = (random.random(1_000) > np.where(np.arange(1_000) < 500, 0.6, 0.8)).astype(int)
        arms = [Predictions.of(np.stack([p, 1 - p], 1), labels) for p in confidence]
        drawn = [resample(one, seed=seed, measures=[MEASURE["ece"]]) for one in arms]
        found = difference(MEASURE["ece"], *drawn)
        held += found.low <= 0.099 - 0.00125 <= found.high
    assert held >= 26


def test_a_class_wise_difference_has_no_interval_where_a_value_has_none():
    """With 100 classes, the class-wise ECE of a calibrated model is all noise."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2.5, (500, 100))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
    measure = MEASURE["class_wise_ece"]
    drawn = [resample(Predictions.of(special.softmax(s * logits, 1), labels), measures=[measure]) for s in (1.0, 1.3)]
    assert not all(estimate(measure, one).known for one in drawn)
    found = difference(measure, *drawn)
    assert np.isnan([found.low, found.high]).all() and (found.verdict, found.rows_needed) == ("cannot tell", None)


def test_a_class_wise_difference_does_not_have_an_interval_by_chance():
    """The value of a calibrated arm has one if its noise is large by chance, and then the difference is too small."""
    measure, held, values_with = MEASURE["class_wise_ece"], 0, 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        logits = random.normal(0, 1.8, (400, 3))
        labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
        arms = [Predictions.of(special.softmax(s * logits, 1), labels) for s in (2.2, 1.0)]
        drawn = [resample(one, seed=seed, measures=[measure]) for one in arms]
        values_with += all(estimate(measure, one).known for one in drawn)
        found = difference(measure, *drawn)
        assert not np.isnan(found.low)
        held += found.low <= 0.0898 <= found.high  # the difference on a million rows
    assert 0 < values_with < 13 and held >= 17


def test_squares_interval_covers_the_difference_with_and_without_noise():
    labels, *both = calibrated(np.random.default_rng(0))
    rows, base = (Predictions.of(np.stack([1 - p, p], 1), labels) for p in both)
    measure = MEASURE["brier_reliability"]
    mine, theirs = measure.strategy.of(rows), measure.strategy.of(base)
    found, noise = beside(measure, rows, base), mine.noise - theirs.noise
    low, high = mean_interval(mine.per_row - theirs.per_row)
    assert noise < -(high - low) / 20  # the more confident arm has less noise
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high - noise))
    turned = beside(measure, base, rows)
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))


@pytest.mark.parametrize("draw", [opposite, lambda random: opposite(random, 0.04), calibrated, as_wrong])
def test_false_positive_rate_of_squares_is_at_most_nominal(draw):
    told = told_share(draw, ("l2_ece", "brier_reliability"), cases=150)
    assert max(told.values()) <= stats.binom.ppf(0.999, 150, 0.05) / 150


def test_noise_matches_the_metrics_null_value():
    rows, _ = pair(300, 3)
    found = noise_by_bin(rows)
    null = load_metric_module().bootstrap(rows.probabilities, rows.labels).null
    assert found["ece"].sum() == pytest.approx(null, rel=0.1) and set(found) == {"ece", "class_wise_ece"}


def test_noise_of_each_bin_is_that_of_a_normal_gap():
    random = np.random.default_rng(0)
    p = special.softmax(random.normal(0, 1, (20_000, 3)), 1)
    found = noise_by_bin(Predictions.of(p, p.argmax(1)))
    expected = [np.sqrt(np.bincount((one * 10).astype(int), one * (1 - one), 10) * 2 / np.pi) for one in p.T]
    assert found["class_wise_ece"] == pytest.approx(np.concatenate(expected) / 60_000, rel=0.3)


@pytest.mark.parametrize("key", ["ece", "class_wise_ece"])
def test_gaps_add_up_to_the_measure(key):
    random = np.random.default_rng(0)
    p = random.dirichlet(np.ones(3), 200)
    rows = Predictions.of(p, random.integers(0, 3, 200))
    data = Weighted(rows, random.multinomial(200, np.full(200, 1 / 200), 5).astype(float))
    gaps = MEASURE[key].strategy.gaps(data)
    assert gaps.shape == (5, 10 if key == "ece" else 30)
    assert gaps.sum(1) == pytest.approx(MEASURE[key].values(data))


def test_a_gap_is_that_of_its_bin_and_class():
    rows = Predictions.of(np.array([[0.75, 0.15, 0.1], [0.05, 0.45, 0.5], [0.22, 0.43, 0.35]]), np.array([0, 1, 1]))
    found = MEASURE["class_wise_ece"].strategy.gaps(unweighted(rows))[0].reshape(3, 10) * 9
    expected = np.zeros((3, 10))
    expected[0, [0, 2, 7]] = 0.05, 0.22, 0.25
    expected[1, [1, 4]] = 0.15, 2 - 0.45 - 0.43
    expected[2, [1, 3, 5]] = 0.1, 0.35, 0.5  # a bin holds its lower edge
    assert found == pytest.approx(expected)


def test_rows_that_are_all_right_do_not_justify_high_confidence():
    """For 20 right answers, an accuracy of .9 is as good an explanation as .999."""
    labels = np.zeros(20, int)
    rows, base = (Predictions.of(np.tile([p, 1 - p], (20, 1)), labels) for p in (0.999, 0.9))
    drawn = resample(rows), resample(base)
    for key in ("ece", "class_wise_ece", "l2_ece", "brier_reliability"):
        assert difference(MEASURE[key], *drawn).verdict == "cannot tell"


@pytest.mark.parametrize(("gap", "base_gap"), [(0.12, 0.06), (0.1, 0.0), (0.1, -0.05)])
def test_intervals_for_a_difference_of_roots_cover_the_truth(gap, base_gap):
    random, held = np.random.default_rng(0), 0
    for _ in range(150):
        truth = random.uniform(0.5, 0.87, 872)
        labels = (random.random(872) < truth).astype(int)
        rows, base = (Predictions.of(np.stack([1 - p, p], 1), labels) for p in (truth + gap, truth + base_gap))
        found = beside(MEASURE["l2_ece"], rows, base)
        held += found.low <= gap - abs(base_gap) <= found.high
    assert held >= stats.binom.ppf(0.001, 150, 0.94)


def test_roots_near_zero_have_a_finite_interval():
    """Both roots are 0, because the gaps are not larger than sampling noise."""
    random = np.random.default_rng(5)
    truth = random.uniform(0.5, 1, 200)
    labels = (random.random(200) < truth).astype(int)
    rows, base = (Predictions.of(np.stack([1 - p, p], 1), labels) for p in (truth, np.clip(truth + 0.01, 0, 1)))
    assert MEASURE["l2_ece"].value(rows) == MEASURE["l2_ece"].value(base) == 0
    found = beside(MEASURE["l2_ece"], rows, base)
    assert -0.1 < found.low < 0 < found.high < 0.1 and found.verdict == "cannot tell"
