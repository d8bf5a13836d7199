"""Prediction sets of a comparison's arms: against their definition, an exact law, and draws with a known truth."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from bayesian_text_classification.evaluation import compare_outputs, verdict
from bayesian_text_classification.evaluation.outputs import Outputs
from bayesian_text_classification.evaluation.prediction_sets import measured_sets
from bayesian_text_classification.loading import LabeledTexts
from bayesian_text_classification.report import ReportSettings, write_report
from scipy.special import softmax
from scipy.stats import betabinom

pytestmark = pytest.mark.usefixtures("few_resamples")


def drawn(rows=600, classes=6, samples=4, seed=0):
    """Labels, an ordinary model, and samples whose mean is closer to the truth."""
    random = np.random.default_rng(seed)
    truth = random.normal(0, 2, (rows, classes))
    p = softmax(truth, axis=1)
    labels = (random.random(rows)[:, None] > p.cumsum(1)).sum(1)
    noise = random.normal(0, 1.5, (rows, classes, samples + 1))
    found = softmax(truth[:, :, None] + noise, axis=1)
    return labels, found[:, :, 0], found[:, :, 1:]


@pytest.fixture(scope="module")
def comparison():
    labels, ordinary, samples = drawn()
    return compare_outputs(Outputs(labels, ordinary, samples)).with_sets(0.9)


def test_sets_are_fitted_on_one_half_and_measured_on_the_other(comparison):
    """By the definition, with the halves found again from the numbers of texts."""
    sets, labels = comparison.sets, comparison.labels
    assert (sets.fitted_on, sets.measured_on, sets.coverage) == (300, 300, 0.9)
    first = np.isin(np.arange(600), np.random.default_rng(0).permutation(np.arange(600))[:300])
    assert [one.arm for one in sets.arms] == ["frequentist_temperature", "bayesian_temperature"]
    for one in sets.arms:
        p = comparison.arm(one.arm).probabilities
        limit = np.sort(1 - p[first, labels[first]])[271 - 1]  # ceil(0.9 x 301)
        inside = 1 - p[~first] <= limit
        held, sizes = inside[np.arange(300), labels[~first]], inside.sum(1)
        right = p[~first].argmax(1) == labels[~first]
        assert one.coverage == held.mean() and one.size == sizes.mean() and one.empty == (sizes == 0).mean()
        assert (one.size_if_right, one.size_if_wrong) == (sizes[right].mean(), sizes[~right].mean())
        shares = [held[labels[~first] == k].mean() for k in range(6)]
        assert one.worst == int(np.argmin(shares)) and one.worst_counts[0] / one.worst_counts[1] == min(shares)
    assert sets.band == tuple(betabinom(300, 271, 30).ppf([0.025, 0.975]) / 300)
    assert sets.band[0] <= sets.arms[0].coverage <= sets.band[1]
    assert sets.arms[0].difference is None and sets.arms[1].difference.value < 0
    assert sets.arms[1].difference.value == sets.arms[1].size - sets.arms[0].size


def test_the_interval_of_the_difference_in_size_holds_the_truth():
    """The mean over many draws is the truth; 95% intervals hold it in most draws, not in all."""
    differences = []
    for seed in range(60):
        labels, ordinary, samples = drawn(160, 5, 2, seed)
        arms = [
            SimpleNamespace(name=f"{i}", scaling=1, probabilities=p) for i, p in enumerate((ordinary, samples.mean(2)))
        ]
        differences.append(measured_sets(arms, labels, None, 0.8, seed=seed).arms[1].difference)
    truth = np.mean([one.value for one in differences])
    assert 0.88 <= np.mean([one.low <= truth <= one.high for one in differences]) < 1
    assert truth < 0 and "worse" not in {one.verdict for one in differences}


def test_copies_stay_together_and_have_no_band():
    labels, ordinary, _ = drawn(200)
    groups = np.repeat(np.arange(200), 3)
    once = compare_outputs(Outputs(labels, ordinary)).with_sets(0.9)
    copied = compare_outputs(Outputs(np.repeat(labels, 3), np.repeat(ordinary, 3, axis=0), groups=groups)).with_sets(
        0.9
    )
    assert copied.sets.band is None and once.sets.band is not None
    assert (copied.sets.fitted_on, copied.sets.measured_on) == (300, 300)
    assert copied.sets.arms[0].coverage == pytest.approx(once.sets.arms[0].coverage, abs=0.02)


def test_independent_labels():
    random = np.random.default_rng(0)
    p = random.beta(0.5, 1.5, (400, 5))
    labels = (random.random((400, 5)) < p).astype(int)
    found = compare_outputs(Outputs(labels, p)).with_sets(0.8)
    sets, (one,) = found.sets, found.sets.arms
    assert sets.independent and sets.band is None and sets.fitted_on + sets.measured_on == labels.any(1).sum()
    assert 0.7 < one.coverage < 0.9 and 1 < one.size < 5
    told = " ".join(verdict(found).lines)
    assert "for a coverage of 0.8, frequentist + Platt: " in told
    assert "of the labels of a text are in its set, and a set has" in told


@pytest.mark.parametrize("seed", range(5))
def test_texts_without_a_label_do_not_count(seed):
    """40 of 60 texts have a label: enough, whichever half they are in."""
    random = np.random.default_rng(0)
    p = random.random((60, 3))
    labels = (random.random((60, 3)) < p).astype(int)
    labels[np.flatnonzero(~labels.any(1)), 0] = 1
    labels[:20] = 0
    sets = compare_outputs(Outputs(labels, p)).with_sets(0.9, seed=seed).sets
    assert (sets.fitted_on, sets.measured_on) == (20, 20)


@pytest.mark.parametrize(("rows", "coverage", "needed"), [(30, 0.9, 40), (100, 0.99, 198)])
def test_too_few_texts_are_refused(rows, coverage, needed):
    labels, ordinary, _ = drawn(rows)
    with pytest.raises(ValueError, match=f"needs at least {needed} distinct texts with a label, half of them to fit"):
        compare_outputs(Outputs(labels, ordinary)).with_sets(coverage)
    labels, ordinary, _ = drawn(needed)
    assert compare_outputs(Outputs(labels, ordinary)).with_sets(coverage).sets.fitted_on == needed // 2


def test_no_label_is_the_worst_with_few_texts():
    labels, ordinary, _ = drawn(100, 40)
    (one, *_) = compare_outputs(Outputs(labels, ordinary)).with_sets(0.9).sets.arms
    assert one.worst is None


def test_the_report_has_them(comparison, tmp_path):
    names = [f"class {k}" for k in range(6)]
    data = LabeledTexts("some", [f"text {i}" for i in range(600)], comparison.labels.tolist(), [])
    write_report(tmp_path, comparison, data, names, ReportSettings("a model", "some data", coverage=0.9))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["prediction_sets"]["arms"][1]["size"] == comparison.sets.arms[1].size
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Prediction sets</h2>" in page and "label covered least" in page
    told = " ".join(report["verdict"]["sentences"])
    assert "of the sets hold the true label, and a set has" in told and "(95% of draws)." in told
    assert "fitted on 300 of the texts and measured on 300 others; 85.0% to 94.3% is normal" in told
    assert "fewer than with frequentist + temperature (95% interval -" in told
    assert "classifier.conformalize(texts, labels, coverage=0.9) adds such sets to every result" in told
    without = replace(comparison, sets=None)
    assert "rediction sets" not in " ".join(verdict(without).lines)
