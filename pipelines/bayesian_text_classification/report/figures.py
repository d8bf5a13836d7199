"""Pictures of a comparison. Everything drawn here was computed in `evaluation/`."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..evaluation.arms import TITLES, Arm
from ..evaluation.comparison import Comparison
from ..evaluation.out_of_scope import Detection
from ..evaluation.sample_sweep import Sweep
from ..evaluation.statistics.measures import risk_coverage

# Okabe & Ito (2008): distinguishable with every common color vision deficiency, and in print.
COLORS = {
    "frequentist": "#D55E00",
    "frequentist_temperature": "#CC79A7",
    "baal": "#E69F00",
    "bayesian": "#0072B2",
    "bayesian_temperature": "#009E73",
    "saved": "#56B4E9",
}
_DASHES = {
    "frequentist": "--",
    "frequentist_temperature": ":",
    "baal": "-.",
    "bayesian": "-",
    "bayesian_temperature": (0, (5, 1, 1, 1, 1, 1)),
    "saved": (0, (1, 1)),
}
_GAP = "#808080"
_PLAIN = {"alpha": 0.6, "color": "#56B4E9"}
_HATCHED = {"alpha": 0.6, "facecolor": "#D55E00", "edgecolor": "#5E2900", "hatch": "//", "linewidth": 0}
_PANELS = {"ece": "ECE", "accuracy": "accuracy", "nll": "NLL", "rmse": "distance of the score to its limit (RMSE)"}


@dataclass(frozen=True)
class Picture:
    """A figure with its file name, title and caption."""

    name: str
    title: str
    figure: Figure
    caption: str


def pictures(comparison: Comparison) -> list[Picture]:
    """All pictures of a comparison, in the order of a report."""
    sweep, labels = comparison.sweep, comparison.labels
    flattered = comparison.calibrated_on is None
    shown = [
        Picture(
            "reliability",
            "Reliability",
            reliability_diagrams(comparison.arms),
            "Accuracy against confidence in ten bins. Bars below the dotted line are overconfident. Whiskers are 95% "
            "intervals of the accuracy; the lower row shows the number of texts in each bin."
            + " The temperatures were fitted on these texts. The ECE is corrected for that, the bars are not."
            * flattered,
        ),
        Picture(
            "risk-coverage",
            "Risk against coverage",
            risk_coverage_curves(comparison, labels),
            "The error rate among accepted texts, if the most confident texts are accepted first.",
        ),
        Picture(
            "confidence",
            "Confidence of right and wrong answers",
            confidence_histograms(comparison, labels),
            "A trustworthy model is less confident when it is wrong.",
        ),
    ]
    if sweep is not None:
        best = comparison.arm(comparison.recommended)
        caption = f"Median and 5% to 95% band over {sweep.orders} random orders of {sweep.pool} samples."
        shown.insert(1, Picture("samples", "Number of samples", sweep_curves(sweep, best), caption))
    if comparison.out_of_scope:
        shown.append(
            Picture(
                "out-of-scope",
                "Out-of-scope texts",
                out_of_scope_histograms(comparison.out_of_scope),
                "Scores of in-scope and out-of-scope texts. Less overlap makes a better detector.",
            )
        )
    return shown


def reliability_diagrams(arms: Sequence[Arm]) -> Figure:
    """Reliability diagrams (DeGroot & Fienberg 1983) side by side: accuracy against confidence, and texts per bin.

    A bar below the diagonal is overconfident. The ECE adds up the hatched gaps, weighted by the counts below, except
    that it is corrected for a temperature that was fitted on these texts. Whiskers are 95% Wilson intervals of the
    bins' accuracy.
    """
    across = min(len(arms), 3)
    down = -(-len(arms) // across)
    figure = _figure(3.2 * across, 4.2 * down)
    most = max(max(arm.reliability.counts) for arm in arms)
    cells = figure.subfigures(down, across, squeeze=False).ravel()
    for i, arm in enumerate(arms):
        top, bottom = cells[i].subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _reliability(top, bottom, arm)
        bottom.set_ylim(0, 1.05 * most)
        if i % across == 0:
            top.set_ylabel("accuracy")
            bottom.set_ylabel("texts")
    # In its own cell if one is free, else below: inside a diagram it would cover bars.
    handles = figure.axes[0].get_legend_handles_labels()
    if len(arms) < len(cells):
        cells[-1].legend(*handles, frameon=False, fontsize=9, loc="upper left")
    else:
        figure.legend(*handles, frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    return figure


def sweep_curves(sweep: Sweep, recommended: Arm | None = None) -> Figure:
    """Four measures against the number of samples: median and 5% to 95% band over orders of the pool.

    A recommended arm with a temperature is a line: it has its own number of samples, or none.
    """
    part = f"a random {sweep.texts:,} of {sweep.all_texts:,}" if sweep.texts < sweep.all_texts else f"{sweep.texts:,}"
    figure = _figure(9.0, 6.4)
    figure.suptitle(f"Number of samples, {part} texts", fontsize=11)
    for axes, (name, title) in zip(figure.subplots(2, 2).flat, _PANELS.items(), strict=True):
        low, middle, high = sweep.curves[name]
        axes.fill_between(sweep.sizes, low, high, color=COLORS["bayesian"], alpha=0.25, linewidth=0, label="5% to 95%")
        axes.plot(sweep.sizes, middle, color=COLORS["bayesian"], label="Bayesian, median order")
        if name in sweep.frequentist:
            level = sweep.frequentist[name]
            axes.axhline(level, color=COLORS["frequentist"], linestyle="--", label="Frequentist")
        if recommended is not None and recommended.temperature is not None and name in recommended.estimates:
            style = {"color": COLORS[recommended.name], "linestyle": _DASHES[recommended.name]}
            axes.axhline(recommended.estimates[name].value, **style, label=TITLES[recommended.name])
        if sweep.recommended is not None:
            axes.axvline(sweep.recommended, color=_GAP, linestyle=":", label=f"enough: {sweep.recommended}")
        axes.set_xlabel("number of samples")
        axes.set_title(title, fontsize=10)
        axes.set_xlim(sweep.sizes[0], sweep.sizes[-1])
        axes.margins(y=0.15)
        bottom, top = axes.get_ylim()
        axes.set_ylim(max(bottom, 0.0), max(top, 1e-3))  # if all values are 0, there is no range
        _plain(axes)
    # Below all panels: inside one it would cover a line.
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def risk_coverage_curves(comparison: Comparison, labels: NDArray[np.integer]) -> Figure:
    """The error rate among accepted texts, most confident first, against the share that is accepted.

    Of the arms with a temperature, only a recommended one is shown: it hardly changes the order of the texts.
    """
    figure = _figure(5.6, 4.0)
    axes = figure.subplots()
    for arm in comparison.arms:
        if arm.name == "saved" or (arm.temperature is not None and arm.name != comparison.recommended):
            continue
        share, risk = risk_coverage(arm.probabilities, labels)
        area = arm.estimates["aurc"].value
        label = f"{TITLES[arm.name]}, AURC {area:.4f}"
        axes.plot(share, risk, color=COLORS[arm.name], linestyle=_DASHES[arm.name], label=label)
    axes.set_xlabel("share of texts accepted")
    axes.set_ylabel("error rate among them")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=9)
    _plain(axes)
    return figure


def confidence_histograms(comparison: Comparison, labels: NDArray[np.integer]) -> Figure:
    """Histograms of the confidence of right and wrong answers."""
    wanted = {"frequentist", comparison.rival.name, "bayesian_temperature", comparison.recommended}
    names = [arm.name for arm in comparison.arms if arm.name in wanted]
    figure = _figure(3.2 * len(names), 3.0)
    for axes, name in zip(figure.subplots(1, len(names), sharex=True), names, strict=True):
        p = comparison.arm(name).probabilities
        correct = p.argmax(1) == labels
        edges = np.linspace(0, 1, 21)
        for chosen, label, style in ((correct, "right", _PLAIN), (~correct, "wrong", _HATCHED)):
            share = np.full(chosen.sum(), 1 / max(int(chosen.sum()), 1))
            axes.hist(p[chosen].max(1), edges, weights=share, label=f"{label} ({chosen.sum():,})", **style)
        axes.set_title(TITLES[name], fontsize=10)
        axes.set_xlabel("confidence")
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        _plain(axes)
    figure.axes[0].set_ylabel("share of these texts")
    return figure


def out_of_scope_histograms(detections: Sequence[Detection]) -> Figure:
    """Histograms of each score for in-scope and out-of-scope texts."""
    figure = _figure(9.6, 3.0 * -(-len(detections) // 3))
    grid = figure.subplots(-(-len(detections) // 3), 3, squeeze=False)
    for axes, one in zip(grid.flat, detections, strict=False):
        edges = np.linspace(0, max(one.inside.max(), one.outside.max(), 1e-9), 31)
        for scores, label, style in ((one.inside, "in-scope", _PLAIN), (one.outside, "out-of-scope", _HATCHED)):
            axes.hist(scores, edges, weights=np.full(len(scores), 1 / len(scores)), label=label, **style)
        axes.set_title(f"{TITLES[one.arm]}, AUROC {one.auroc.value:.4f}", fontsize=10)
        axes.set_xlabel(one.score)
        _plain(axes)
    for axes in grid.flat[len(detections) :]:
        axes.set_axis_off()
    figure.axes[0].legend(frameon=False, fontsize=8)
    for row in grid:
        row[0].set_ylabel("share of these texts")
    return figure


def inline_svg(figure: Figure, name: str) -> str:
    """The figure as markup for a page: no background, and black becomes the color of the page's text."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    markup = buffer.getvalue()
    markup = markup[markup.index("<svg") :]
    width = round(figure.get_figwidth() * 96)
    markup = re.sub(r'(<svg[^>]*?) width="[^"]*"', rf'\1 style="max-width: {width}px"', markup, count=1)
    markup = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", markup, count=1)
    markup = re.sub(r"<metadata>.*?</metadata>", "", markup, flags=re.DOTALL)
    return markup.replace("#000000", "currentColor")


def _reliability(top: Axes, bottom: Axes, arm: Arm) -> None:
    bins = arm.reliability
    width = bins.edges[1] - bins.edges[0]
    filled = [i for i, count in enumerate(bins.counts) if count]
    lefts = np.array([bins.edges[i] for i in filled])
    accuracies = np.array([bins.accuracy[i] for i in filled], dtype=float)
    confidences = np.array([bins.mean_confidence[i] for i in filled], dtype=float)
    color = COLORS[arm.name]
    top.bar(lefts, accuracies, width * 0.96, align="edge", color=color, label="accuracy")
    style = {"facecolor": "none", "edgecolor": _GAP, "hatch": "///", "linewidth": 0.8}
    gap = "gap to mean confidence"
    top.bar(lefts, confidences - accuracies, width * 0.96, bottom=accuracies, align="edge", label=gap, **style)
    ends = np.array([bins.accuracy_interval[i] for i in filled], dtype=float).T
    half_widths = np.abs(ends - accuracies)
    top.errorbar(lefts + width / 2, accuracies, half_widths, fmt="none", ecolor="#000000", elinewidth=0.9, capsize=2)
    top.plot([0, 1], [0, 1], color="#000000", linestyle=":", linewidth=1)
    numbers = f"ECE {arm.estimates['ece'].value:.4f}   accuracy {arm.estimates['accuracy'].value:.4f}"
    top.set_title(f"{TITLES[arm.name]}\n{numbers}", fontsize=9)
    top.set_xlim(0, 1)
    top.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    top.set_ylim(0, 1)
    bottom.bar(bins.edges[:-1], bins.counts, width * 0.96, align="edge", color=color)
    bottom.set_xlabel("confidence")
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)


def _plain(axes: Axes) -> None:
    axes.grid(alpha=0.25, color=_GAP)
    axes.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    """A figure with its own canvas: no pyplot state, no window, safe in threads."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
