"""The comparison of independent labels and of models with one output, from arrays to words."""

import numpy as np
import pytest
from bayesian_text_classification.evaluation import Outputs, compare_outputs, verdict
from bayesian_text_classification.evaluation.outputs import Calibration
from bayesian_text_classification.evaluation.sample_sweep import sample_sweep
from scipy import special

pytestmark = pytest.mark.usefixtures("few_resamples")


def drawn(texts=300, labels=4, samples=10, scale=1.8, seed=0, noise=0.7):
    random = np.random.default_rng(seed)
    odds = random.normal(0, 1.5, (texts, labels)) - np.linspace(0, 2, labels)
    y = (random.random(odds.shape) < special.expit(odds)).astype(int)
    moved = odds[:, :, None] + random.normal(0, noise, (texts, labels, samples))
    return y, special.expit(scale * odds), special.expit(scale * moved)


def test_arms_measures_and_words():
    y, p, samples = drawn()
    found = compare_outputs(Outputs(y, p, samples, baal=samples.mean(2), names=["a", "b", "c", "d"]))
    assert [arm.name for arm in found.arms] == [
        "frequentist", "frequentist_platt", "baal", "bayesian", "bayesian_platt",
    ]  # fmt: skip
    assert found.recommended == "frequentist_platt" and found.uncertainty.mutual_information.shape == y.shape
    assert found.arm("frequentist").estimates["brier"].value == pytest.approx(((p - y) ** 2).mean())
    assert list(found.arm("bayesian").by_label) == [0, 1, 2, 3]
    said = verdict(found)
    words = " ".join([said.headline, *said.lines, *said.advice])
    assert "frequentist + Platt" in said.headline and "temperature" not in words and "right and" not in words
    assert "its probabilities are off by" in words


def test_one_output_equals_its_two_classes_where_both_are_defined():
    y, p, _ = drawn(labels=1)
    one, two = compare_outputs(Outputs(y[:, 0], p)), compare_outputs(Outputs(y[:, 0], np.hstack([1 - p, p])))
    for key in ("nll", "accuracy", "brier", "brier_reliability", "brier_resolution"):
        mine, theirs = (each.arm("frequentist").estimates[key] for each in (one, two))
        assert (mine.value, mine.low, mine.high) == pytest.approx(
            (theirs.value, theirs.low, theirs.high), rel=1e-6, nan_ok=True
        )
    thresholds = [[line for line in verdict(each).advice if "threshold=" in line] for each in (one, two)]
    assert len(thresholds[0]) == len(thresholds[1])


def test_lists_and_calibration_texts():
    y, p, _ = drawn()
    others = drawn(seed=1)[:2]
    arrays = compare_outputs(Outputs(y, p, calibration=Calibration(others[0], others[1])))
    lists = compare_outputs(
        Outputs(y.tolist(), p.tolist(), calibration=Calibration(others[0].tolist(), others[1].tolist()))
    )
    assert lists.arm("frequentist_platt").scaling == arrays.arm("frequentist_platt").scaling
    assert arrays.calibrated_on == len(others[0]) and lists.determined


def test_few_texts_say_so_in_the_words_of_labels():
    y, p, _ = drawn(texts=60)
    none = compare_outputs(Outputs(np.zeros_like(y), p))
    said = verdict(none)
    assert said.outcome == "unknown" and "20 with one that applies" in said.headline
    assert "too few texts with a wrong label" in " ".join(said.lines)
    assert "Warning: these labels do not determine a Platt scaling" in " ".join(said.lines)


def test_a_scaling_that_costs_accuracy_is_not_called_sampling():
    """The label applies to all texts of the calibration, and its probabilities are near 0.5, so all move across it."""
    y, p, _ = drawn(texts=400, labels=1)
    p = np.where(y == 1, 0.51, 0.49) + np.random.default_rng(0).normal(0, 0.005, p.shape)
    others = Calibration(np.ones_like(y), p)
    found = compare_outputs(Outputs(y, p, calibration=others))
    lines = " ".join(verdict(found).lines)
    assert "Warning: Platt scaling costs accuracy here" in lines and "sampling costs" not in lines


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"labels": np.full((300, 4), 2)}, r"labels must hold 0 or 1 for each of 4 labels of 300 texts"),
        ({"ordinary": np.full((300, 4), 1.5)}, "ordinary must hold probabilities: numbers from 0 to 1"),
        ({"names": ["a", "b"]}, "names holds 2 names; it must hold one for each of 4 classes"),
        ({"names": ["a", "a", "b", "c"]}, "two labels have the same name"),
    ],
)
def test_wrong_arrays_are_refused(given, words):
    y, p, _ = drawn()
    with pytest.raises(ValueError, match=words):
        Outputs(**{"labels": y, "ordinary": p, **given})


def test_out_of_scope_scores_of_one_output_know_that_no_is_an_answer():
    y, p, _ = drawn(labels=1, scale=3.0)
    strange = np.random.default_rng(0).uniform(0.4, 0.6, (200, 1))
    one = compare_outputs(Outputs(y, p, outside=(strange, None))).out_of_scope
    two = compare_outputs(Outputs(y[:, 0], np.hstack([1 - p, p]), outside=(np.hstack([1 - strange, strange]), None)))
    for mine, theirs in zip(one, two.out_of_scope, strict=True):
        assert mine.auroc.value == pytest.approx(theirs.auroc.value)


def test_more_labels_do_not_need_fewer_samples():
    """One label of each text is unsure, and all others are near 0. The number of samples is that of the unsure one."""
    random, enough = np.random.default_rng(0), []
    for labels in (1, 20):
        pool = np.full((60, labels, 180), 1e-4)
        pool[:, 0] = np.clip(0.5 + random.normal(0, 0.1, (60, 180)), 0, 1)
        y = (random.random((60, labels)) < pool.mean(2)).astype(int)
        enough.append(sample_sweep(pool, y, pool.mean(2)).recommended)
    assert enough[0] > 10 and enough[1] > 0.7 * enough[0]
