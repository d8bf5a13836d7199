"""Measures of independent labels: equal to the metric and to scikit-learn, with intervals that draw whole texts."""

import numpy as np
import pytest
from bayesian_text_classification.evaluation.heads import INDEPENDENT_LABELS
from bayesian_text_classification.evaluation.statistics.estimates import difference, estimate, noise_by_bin, resample
from bayesian_text_classification.evaluation.statistics.label_measures import LABEL_MEASURES
from bayesian_text_classification.evaluation.statistics.label_predictions import LabelPredictions, effective_counts
from bayesian_text_classification.evaluation.statistics.measures import MEASURES
from bayesian_text_classification.evaluation.statistics.predictions import Predictions, Weighted
from bayesian_text_classification.metric import load_metric_module
from scipy import special, stats
from sklearn.metrics import brier_score_loss, hamming_loss, log_loss

MEASURE = {measure.key: measure for measure in LABEL_MEASURES}


def texts_with_labels(random, rows, *, shared=0.0, scale=1.0, labels=6):
    """Probabilities and labels. `shared` is the correlation of the labels of a text, given their probabilities."""
    logits = random.normal(0, 1.3, (rows, labels)) - np.linspace(0, 3, labels)
    luck = np.sqrt(shared) * random.normal(size=(rows, 1)) + np.sqrt(1 - shared) * random.normal(size=(rows, labels))
    return special.expit(scale * logits), (stats.norm.cdf(luck) < special.expit(logits)).astype(int)


def test_values_are_those_of_the_metric_and_of_scikit_learn():
    p, y = texts_with_labels(np.random.default_rng(0), 500, scale=1.5)
    rows, module = LabelPredictions.of(p, y), load_metric_module()
    each = zip(p.T, y.T, strict=True)
    expected = {
        "ece": module.bin_sums(p.ravel(), y.ravel(), n_bins=10, binary=True).ece,
        "class_wise_ece": module.expected_calibration_error(p, y, multilabel=True),
        "accuracy": 1 - hamming_loss(y, p > 0.5),
        "nll": log_loss(y.ravel(), p.ravel()),
        "brier": np.mean([brier_score_loss(own, q) for q, own in each]),
    }
    found = {key: MEASURE[key].value(rows) for key in expected}
    assert found == pytest.approx(expected, abs=1e-12)


def test_rows_are_compared_on_the_label_that_one_of_them_has():
    rows = LabelPredictions.of(*texts_with_labels(np.random.default_rng(0), 20))
    one = rows.of_label(2)
    assert rows.like(rows) is rows and one.like(rows) is one and one.like(rows.of_label(3)) is one
    assert rows.like(one).label == 2 and (rows.like(one).probabilities == one.probabilities).all()


@pytest.mark.parametrize(("key", "bins"), [("ece", 10), ("class_wise_ece", 60)])
def test_gaps_add_up_to_the_measure(key, bins):
    random = np.random.default_rng(0)
    rows = LabelPredictions.of(*texts_with_labels(random, 200))
    data = Weighted(rows, random.multinomial(200, np.full(200, 1 / 200), 5).astype(float))
    gaps = MEASURE[key].strategy.gaps(data)
    assert gaps.shape == (5, bins) and gaps.sum(1) == pytest.approx(MEASURE[key].values(data))


def test_one_label_has_the_brier_parts_of_two_classes():
    p, y = texts_with_labels(np.random.default_rng(0), 500, labels=1)
    one, two = LabelPredictions.of(p, y), Predictions.of(np.hstack([1 - p, p]), y[:, 0])
    binary = {measure.key: measure.value(two) for measure in MEASURES}
    assert all(MEASURE[key].value(one) == pytest.approx(binary[key]) for key in MEASURE if key != "ece")
    assert MEASURE["ece"].value(one) == MEASURE["class_wise_ece"].value(one)  # of P(1), not of the larger probability


@pytest.mark.parametrize(("key", "cases"), [("nll", 100), ("brier", 100), ("accuracy", 100), ("ece", 40)])
def test_intervals_hold_the_truth_although_the_labels_of_a_text_belong_together(key, cases):
    """With a correlation of .8 within texts, intervals over pairs of a text and a label would be half as wide."""
    measure, shape = MEASURE[key], {"shared": 0.8, "scale": 1.6}
    truth, held = measure.value(LabelPredictions.of(*texts_with_labels(np.random.default_rng(0), 300_000, **shape))), 0
    for seed in range(1, cases + 1):
        rows = LabelPredictions.of(*texts_with_labels(np.random.default_rng(seed), 400, **shape))
        found = estimate(measure, resample(rows, seed=seed, measures=[measure]))
        held += found.low <= truth <= found.high
    assert held >= stats.binom.ppf(0.01, cases, 0.95)


def test_noise_of_a_calibrated_model_has_the_correlation_of_its_labels():
    """The noise of the pooled ECE is larger if the labels of a text belong together; drawing each label misses that."""
    expected, found = {}, {}
    for shared in (0.0, 0.8):
        random = np.random.default_rng(0)
        drawn = [LabelPredictions.of(*texts_with_labels(random, 400, shared=shared)) for _ in range(150)]
        expected[shared] = np.mean([MEASURE["ece"].value(rows) for rows in drawn])
        found[shared] = np.mean([noise_by_bin(rows, measures=[MEASURE["ece"]])["ece"].sum() for rows in drawn[:20]])
        assert found[shared] == pytest.approx(expected[shared], rel=0.06)
        bands = [INDEPENDENT_LABELS.null_ece(resample(rows, measures=[])) for rows in drawn[:60]]
        inside = [band.low <= MEASURE["ece"].value(rows) <= band.high for rows, band in zip(drawn, bands, strict=False)]
        assert np.mean(inside) >= 0.88
    assert expected[0.8] > 1.15 * expected[0.0]


def test_copies_of_texts_say_nothing_new():
    p, y = texts_with_labels(np.random.default_rng(0), 300, scale=1.5)
    once, groups = LabelPredictions.of(p, y), np.tile(np.arange(300), 3)
    thrice = LabelPredictions.of(np.tile(p, (3, 1)), np.tile(y, (3, 1)), groups)
    for measure in LABEL_MEASURES:
        one, three = (estimate(measure, resample(rows, measures=[measure])) for rows in (once, thrice))
        assert (one.value, one.low, one.high) == pytest.approx(
            (three.value, three.low, three.high), rel=0.05, abs=2e-4, nan_ok=True
        )
    assert effective_counts(thrice) == pytest.approx(effective_counts(once), rel=1e-9)


def test_bins_count_pairs_as_far_as_they_are_independent():
    """Equal labels of a text are one draw; independent ones are as many draws as there are pairs."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, (4_000, 1))
    same = LabelPredictions.of(np.full((4_000, 5), 0.55), np.tile(y, (1, 5)))
    apart = LabelPredictions.of(np.full((4_000, 5), 0.55), random.integers(0, 2, (4_000, 5)))
    assert effective_counts(same)[5] == pytest.approx(4_000)
    assert effective_counts(apart)[5] == pytest.approx(20_000, rel=0.05)


@pytest.mark.parametrize(
    ("cases", "most", "noise", "shape", "measures"),
    [
        # 5% are 1 and 3; more than these have a probability of .003.
        (20, 4, 0.5, {"shared": 0.5}, LABEL_MEASURES),
        pytest.param(60, 9, 0.5, {"shared": 0.5}, LABEL_MEASURES, marks=pytest.mark.slow),
        (200, 16, 0.03, {"labels": 3}, [MEASURE["accuracy"]]),  # nearly equal
    ],
)
def test_equally_good_models_are_rarely_called_different(cases, most, noise, shape, measures):
    told = {measure.key: 0 for measure in measures}
    for seed in range(cases):
        random = np.random.default_rng(seed)
        p, y = texts_with_labels(random, 300, **shape)
        arms = [special.expit(special.logit(p) + random.normal(0, noise, p.shape)) for _ in range(2)]
        drawn = [resample(LabelPredictions.of(arm, y), seed=seed, measures=measures) for arm in arms]
        for measure in measures:
            told[measure.key] += difference(measure, *drawn).verdict != "cannot tell"
    assert max(told.values()) <= most, told


def test_a_verdict_needs_labels_that_apply():
    """A model that is right about 500 texts without any label says nothing about labels."""
    p = np.full((500, 3), 0.01)
    for applying, known in ((0, False), (15, True)):
        y = np.zeros((500, 3), int)
        y[:applying, 0] = 1
        rows = LabelPredictions.of(p, y)
        assert rows.minority == applying and rows.errors == applying
        assert estimate(MEASURE["nll"], resample(rows, measures=[MEASURE["nll"]])).known is known


@pytest.mark.parametrize("labels", [1, 28])
def test_a_few_answers_that_flip_are_no_verdict_on_accuracy(labels):
    """Three of 400 flip, all for the worse: McNemar's exact test gives p = 1/4."""
    random = np.random.default_rng(0)
    p, y = texts_with_labels(random, 400, labels=labels)
    worse, flips = p.copy(), 0
    for i in range(400):
        if flips < 3 and (p[i, 0] > 0.5) == y[i, 0]:
            worse[i, 0], flips = 1 - p[i, 0], flips + 1
    drawn = [resample(LabelPredictions.of(one, y), measures=[MEASURE["accuracy"]]) for one in (worse, p)]
    found = difference(MEASURE["accuracy"], *drawn)
    assert found.verdict == "cannot tell" and found.low < found.value < 0 < found.high


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_band_is_that_of_labels_drawn_from_the_probabilities(scale):
    """However wrong the model is. The labels are independent here, so that they can be drawn."""
    random = np.random.default_rng(0)
    p, y = texts_with_labels(random, 500, scale=scale)
    found = INDEPENDENT_LABELS.null_ece(resample(LabelPredictions.of(p, y), measures=[]))
    draws = [LabelPredictions.of(p, (random.random(p.shape) < p).astype(int)) for _ in range(200)]
    values = [MEASURE["ece"].value(rows) for rows in draws]
    assert found.value == pytest.approx(np.mean(values), rel=0.08)
    assert found.high == pytest.approx(np.quantile(values, 0.975), rel=0.12)
