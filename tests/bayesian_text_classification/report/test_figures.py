"""Figures show the numbers they are given."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from bayesian_text_classification.evaluation.recommendation import Recommendation
from bayesian_text_classification.evaluation.run import compare
from bayesian_text_classification.loading.labeled_texts import LabeledTexts
from bayesian_text_classification.metric import load_metric_module
from bayesian_text_classification.report.figures import (
    COLORS,
    TITLES,
    confidence_histograms,
    inline_svg,
    pictures,
    reliability_diagrams,
    risk_coverage_curves,
    sweep_curves,
)

pytestmark = pytest.mark.usefixtures("few_resamples")

TEXTS = ["a wonderful film", "dull and far too long", "not as bad as they say", "I want my money back", "fine"]
DATA = LabeledTexts("five texts", TEXTS, [1, 0, 1, 0, 1], [])


@pytest.fixture(scope="module")
def comparison(classifier):
    return compare(classifier, DATA, num_samples=4, seed=3)


def test_gaps_in_the_reliability_diagram_add_up_to_the_ece(comparison):
    axes = reliability_diagrams(comparison.arms).axes
    for arm, top, bottom in zip(comparison.arms, axes[::2], axes[1::2], strict=True):
        counts = {round(bar.get_x(), 6): bar.get_height() for bar in bottom.containers[0]}
        gaps = {round(bar.get_x(), 6): abs(bar.get_height()) for bar in top.containers[1]}
        total = sum(counts[x] * gap for x, gap in gaps.items()) / len(TEXTS)
        ece = load_metric_module().expected_calibration_error(arm.probabilities, comparison.labels)
        assert total == pytest.approx(ece, abs=1e-6)
        if arm.temperature is None:  # a fitted temperature's ECE is corrected
            assert total == pytest.approx(arm.estimates["ece"].value)
        assert sum(counts.values()) == len(TEXTS)
        assert top.get_title().startswith(TITLES[arm.name])


def test_the_layout_is_computed_once_and_no_pixel_changes(comparison):
    picture, *_ = pictures(comparison)
    saved = []
    for figure in (picture.figure, reliability_diagrams(comparison.arms)):
        file = io.BytesIO()
        figure.savefig(file, format="png")
        saved.append(file.getvalue())
    assert saved[0] == saved[1]
    assert all(one.figure.get_layout_engine() is None for one in pictures(comparison))


def test_curves_show_the_sweep(comparison):
    sweep = comparison.sweep
    figure = sweep_curves(sweep)
    assert figure.get_suptitle() == "Number of samples, 5 texts"
    for axes, name in zip(figure.axes, ("ece", "accuracy", "nll", "distances"), strict=True):
        median, *levels = axes.lines
        expected = sweep.distances if name == "distances" else sweep.curves[name][1]
        np.testing.assert_array_equal(median.get_ydata(), expected)
        if name in sweep.frequentist:
            assert set(levels[0].get_ydata()) == {sweep.frequentist[name]}


def test_a_panel_of_zeros_has_a_range(comparison):
    curves = comparison.sweep.curves | {"accuracy": np.zeros_like(comparison.sweep.curves["accuracy"])}
    frequentist = comparison.sweep.frequentist | {"accuracy": 0.0}
    panel = sweep_curves(replace(comparison.sweep, curves=curves, frequentist=frequentist)).axes[1]
    low, high = panel.get_ylim()
    assert low == 0 and high >= 1e-3


def test_risk_and_coverage_end_at_the_error_rate(comparison):
    (axes,) = risk_coverage_curves(comparison, comparison.labels).axes
    arms = [arm for arm in comparison.arms if arm.temperature is None]
    for arm, line in zip(arms, axes.lines, strict=True):
        assert line.get_xdata()[-1] == 1.0
        assert line.get_ydata()[-1] == pytest.approx(1 - arm.estimates["accuracy"].value)
        assert f"AURC {arm.estimates['aurc'].value:.4f}" in line.get_label()


@pytest.fixture(scope="module")
def taught(classifier):
    """With a student, which is the model itself here."""
    return compare(classifier, DATA, num_samples=4, seed=3, student=classifier, out_of_scope=["2 + 2 = 4"])


@pytest.mark.parametrize("arm", ["student", pytest.param("student_temperature", marks=pytest.mark.slow)])
def test_a_recommended_student_is_in_every_picture(arm, taught):
    test_the_recommended_arm_is_in_every_picture(arm, replace(taught, out_of_scope=[]))
    shown = {picture.name: picture.figure for picture in pictures(taught)}
    titles = {axes.get_title().partition("\n")[0] for axes in shown["reliability"].axes}
    assert {"Student", "Student + temperature"} <= titles
    assert sum(axes.get_title().startswith("Student, AUROC") for axes in shown["out-of-scope"].axes) == 2
    assert set(COLORS) == {name for name in TITLES if name != "scope"}


@pytest.mark.parametrize(
    "arm",
    ["frequentist", "bayesian_temperature"]
    + [pytest.param(arm, marks=pytest.mark.slow) for arm in ("frequentist_temperature", "bayesian")],
)
def test_the_recommended_arm_is_in_every_picture(arm, comparison):
    for picture in pictures(replace(comparison, recommendation=Recommendation(arm))):
        words = [text.get_text() for axes in picture.figure.axes for text in axes.texts]
        for axes in picture.figure.axes:
            words += [axes.get_title(), *axes.get_legend_handles_labels()[1]]
        names = [re.split(r"[,\n]", word)[0] for word in words]
        assert TITLES[arm] in names, picture.name


def test_a_model_without_samples_has_its_pictures(comparison):
    arms = tuple(arm for arm in comparison.arms if arm.name in ("frequentist", "frequentist_temperature"))
    shown = pictures(replace(comparison, arms=arms, uncertainty=None, sweep=None, out_of_scope=[]))
    assert [picture.name for picture in shown] == ["reliability", "risk-coverage", "confidence"]


def test_histograms_count_every_text(comparison):
    for axes in confidence_histograms(comparison, comparison.labels).axes:
        shown = [text.get_text() for text in axes.get_legend().get_texts()]
        assert sum(int(re.search(r"[(]([0-9,]+)[)]", text)[1]) for text in shown) == len(TEXTS)


def test_inlined_pictures_use_the_page_color_and_unique_ids(comparison):
    ids = []
    for picture in pictures(comparison):
        markup = inline_svg(picture.figure, picture.name)
        assert markup.startswith("<svg") and markup.rstrip().endswith("</svg>")
        assert "currentColor" in markup and "#000000" not in markup and "#ffffff" not in markup
        assert "<metadata" not in markup
        ids.append(set(re.findall(r'id="([mp][0-9a-f]{10})"', markup)))
    assert all(ids)
    assert sum(map(len, ids)) == len(set.union(*ids))  # a page holds all of them
