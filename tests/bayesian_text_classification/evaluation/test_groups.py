"""Copies of a text say nothing new: intervals and verdicts on repeated rows are those of the distinct rows."""

import numpy as np
import pytest
from bayesian_text_classification.evaluation import Outputs, compare_outputs, verdict
from bayesian_text_classification.evaluation.statistics.estimates import difference, estimate, null_of, resample
from bayesian_text_classification.evaluation.statistics.intervals import mean_interval
from bayesian_text_classification.evaluation.statistics.predictions import Predictions
from bayesian_text_classification.pipeline.temperature import fit_temperature, leave_one_out
from interval_cases import MEASURE


def drawn(rows=200, classes=3, seed=0):
    """Labels, and the probabilities of a sharp and of a noisier arm."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 1.5, (rows, classes))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(1)

    def arm(sharpness):
        powers = np.exp(sharpness * (logits + random.normal(0, 0.4, logits.shape)))
        return powers / powers.sum(1, keepdims=True)

    return labels, arm(1.5), arm(1.0)


def repeated(p, labels, copies, seed=1):
    """Every row `copies` times, in a random order, and the number of each row's text."""
    groups = np.random.default_rng(seed).permutation(np.tile(np.arange(len(labels)), copies))
    return Predictions.of(p[groups], labels[groups], groups=groups)


@pytest.mark.parametrize("key", MEASURE)
@pytest.mark.parametrize("copies", [1, 3])
def test_every_row_repeated_gives_the_estimates_and_verdicts_of_the_distinct_rows(key, copies):
    labels, first, second = drawn()
    once = [resample(Predictions.of(p, labels)) for p in (first, second)]
    often = [resample(repeated(p, labels, copies)) for p in (first, second)]
    # The expected AURC over the orders of three copies is not exactly that of one.
    tolerance = {"rel": 0.05} if key == "aurc" and copies > 1 else {"rel": 1e-6, "abs": 1e-9}
    a, b = estimate(MEASURE[key], once[0]), estimate(MEASURE[key], often[0])
    if key == "ece":  # the metric draws its own resamples, and cannot know about copies
        assert (b.low, b.high) == pytest.approx((a.low, a.high), abs=0.01)
    else:
        assert (b.value, b.low, b.high) == pytest.approx((a.value, a.low, a.high), nan_ok=True, **tolerance)
    a, b = difference(MEASURE[key], *once), difference(MEASURE[key], *often)
    assert (b.value, b.low, b.high) == pytest.approx((a.value, a.low, a.high), nan_ok=True, **tolerance)
    assert (a.verdict, a.enough) == (b.verdict, b.enough)


def test_without_groups_copies_shorten_the_intervals():
    labels, first, _ = drawn()
    rows = repeated(first, labels, 3)
    bare = Predictions.of(rows.probabilities, rows.labels)
    widths = [
        np.subtract(*[getattr(estimate(MEASURE["nll"], resample(one)), end) for end in ("high", "low")])
        for one in (rows, bare)
    ]
    assert widths[0] / widths[1] == pytest.approx(3**0.5, rel=0.03)


def test_groups_of_unequal_size_have_the_spread_of_a_ratio():
    """Truth: the spread of `sum / count` over resampled groups."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(400), random.integers(1, 6, 400))
    values = random.normal(0, 1, 400)[groups] + random.normal(0, 0.2, len(groups))
    rows = Predictions(np.full((len(groups), 2), 0.5), np.zeros(len(groups), int), groups=groups)
    found = rows.over_draws(values)
    assert found.shape == (400,) and found.mean() == pytest.approx(values.mean())
    sums, sizes = np.bincount(groups, weights=values), np.bincount(groups)
    chosen = random.integers(0, 400, (4_000, 400))
    spread = (sums[chosen].sum(1) / sizes[chosen].sum(1)).std()
    low, high = mean_interval(found)
    assert (high - low) / 2 / 1.966 == pytest.approx(spread, rel=0.05)


def test_null_band_of_copies_is_that_of_the_distinct_rows():
    labels, _, second = drawn(400, 2)
    once = null_of(resample(Predictions.of(second, labels)))
    often = null_of(resample(repeated(second, labels, 3)))
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high), rel=0.1)


def test_leave_one_out_leaves_out_all_copies():
    labels, first, _ = drawn(60)
    groups = np.repeat(np.arange(60), 3)
    p, y = first[groups], labels[groups]
    found = leave_one_out(p, y, fit_temperature(p, y), groups)
    for group in (0, 17, 59):
        others = groups != group
        assert found[groups == group] == pytest.approx(fit_temperature(p[others], y[others]), rel=1e-3)


def test_a_null_difference_of_repeated_rows_is_rarely_significant():
    """Two equally good arms: asked for 5%, at most 8% of 300 runs; without groups, copies make it about 25%."""
    told = {True: 0, False: 0}
    for seed in range(300):
        random = np.random.default_rng(seed)
        logits = random.normal(0, 1.8, (150, 2))
        labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
        arms = [np.exp(logits + random.normal(0, 0.5, logits.shape)) for _ in range(2)]
        groups = np.tile(np.arange(150), 3)
        for known in told:
            own = groups if known else None
            rows = [Predictions.of((p / p.sum(1, keepdims=True))[groups], labels[groups], groups=own) for p in arms]
            found = difference(MEASURE["nll"], *(resample(one, measures=[MEASURE["nll"]]) for one in rows))
            told[known] += found.verdict != "cannot tell"
    assert told[True] <= 24 < 45 < told[False]


def test_a_comparison_of_copies_has_the_verdicts_of_the_distinct_texts():
    labels, first, second = drawn(300, 2)
    texts = np.array([f"text {i}" for i in range(300)])
    rows = np.random.default_rng(0).permutation(np.tile(np.arange(300), 3))
    samples = np.stack([second, second[:, ::-1] * 0.1 + second * 0.9], 2)
    once = compare_outputs(Outputs(labels, first, samples, groups=texts))
    often = compare_outputs(Outputs(labels[rows], first[rows], samples[rows], groups=texts[rows]))
    assert once.groups is None and (once.distinct, often.distinct) == (300, 300)
    assert once.recommended == often.recommended
    for arm in once.arms:
        other = often.arm(arm.name)
        assert other.temperature == pytest.approx(arm.temperature, rel=0.02) if arm.temperature else True
        for key in ("nll", "accuracy", "brier"):
            a, b = arm.estimates[key], other.estimates[key]
            assert (b.low, b.high) == pytest.approx((a.low, a.high), rel=0.03), (arm.name, key)
    words = verdict(often)
    assert not [line for line in [words.headline, *words.lines, *words.advice] if "900 texts" in line]
    assert any(line.startswith("300 distinct texts among 900.") for line in words.lines)
    assert [line.split(" keeps ")[1:] for line in words.advice if " keeps " in line] == [
        line.split(" keeps ")[1:] for line in verdict(once).advice if " keeps " in line
    ]


def test_sentences_about_copies_count_distinct_texts():
    """30 texts, each three times: too few for a recommendation or a threshold, however often they are repeated."""
    labels, first, second = drawn(30, 2)
    rows, samples = np.tile(np.arange(30), 3), np.stack([second, second], 2)
    once = verdict(compare_outputs(Outputs(labels, first, samples)))
    often = verdict(compare_outputs(Outputs(labels[rows], first[rows], samples[rows], groups=rows)))
    assert once.headline.startswith("No recommendation on 30 texts: ") and "At these rates" in once.headline
    assert often.headline == once.headline.replace("30 texts", "30 distinct texts")
    threshold = "no threshold was found"
    (line,), (other,) = ([line for line in one.advice if threshold in line] for one in (once, often))
    assert line.startswith("On 30 texts, ") and other == line.replace("On 30 texts", "On 30 distinct texts")


def test_wrong_groups_raise():
    labels, first, second = drawn(30, 2)
    with pytest.raises(ValueError, match=r"groups has the shape \(3,\); it must hold one .* for each of 30 rows"):
        Outputs(labels, first, second[:, :, None], groups=[1, 2, 3])
    for name in ("groups", "outside_groups"):
        missing = {"outside": (first, None), name: np.array([*range(29), None], object)}
        with pytest.raises(ValueError, match=rf"{name}\[29\] is missing; give each row its group"):
            Outputs(labels, first, **missing)
    with pytest.raises(ValueError, match=r"groups is .*generator.* pass a list"):
        Outputs(labels, first, groups=(i for i in range(30)))
    with pytest.raises(ValueError, match="outside must be given, as outside_groups is"):
        Outputs(labels, first, outside_groups=range(30))
