"""Pictures of a comparison. Everything drawn here was computed in `evaluation/`."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ..evaluation.arms import TITLES, Arm, Probabilities
from ..evaluation.comparison import Comparison
from ..evaluation.heads import ONE_LABEL
from ..evaluation.out_of_scope import Detection
from ..evaluation.sample_sweep import Sweep
from ..evaluation.statistics.measures import risk_coverage

# Okabe & Ito (2008): distinguishable with every common color vision deficiency, and in print. Their palette has no two
# more that show black whiskers, so the ensemble is purple and the student brown; their dashes differ too.
COLORS = {
    "frequentist": "#D55E00",
    "frequentist_temperature": "#CC79A7",
    "baal": "#E69F00",
    "bayesian": "#0072B2",
    "bayesian_temperature": "#009E73",
    "frequentist_platt": "#CC79A7",
    "bayesian_platt": "#009E73",
    "student": "#8C510A",
    "student_temperature": "#BF9B5F",
    "student_platt": "#BF9B5F",
    "ensemble": "#6A51A3",
    "ensemble_temperature": "#9E9AC8",
    "ensemble_platt": "#9E9AC8",
    "saved": "#56B4E9",
}
_DASHES = {
    "frequentist": "--",
    "frequentist_temperature": ":",
    "baal": "-.",
    "bayesian": "-",
    "bayesian_temperature": (0, (5, 1, 1, 1, 1, 1)),
    "frequentist_platt": ":",
    "bayesian_platt": (0, (5, 1, 1, 1, 1, 1)),
    "student": (0, (6, 2)),
    "student_temperature": (0, (6, 2, 1, 2)),
    "student_platt": (0, (6, 2, 1, 2)),
    "ensemble": (0, (4, 1)),
    "ensemble_temperature": (0, (1, 2)),
    "ensemble_platt": (0, (1, 2)),
    "saved": (0, (1, 1)),
}
_CURVES = ("frequentist", "bayesian")  # arms that the picture of the number of samples has anyway
_GAP = "#808080"
_DOTS = 40  # labels in the picture of each label's ECE
_PLAIN = {"alpha": 0.6, "color": "#56B4E9"}
_HATCHED = {"alpha": 0.6, "facecolor": "#D55E00", "edgecolor": "#5E2900", "hatch": "//", "linewidth": 0}
_PANELS = {
    "ece": "ECE",
    "accuracy": "accuracy",
    "nll": "NLL",
    "distances": "distance of the score from its limit (RMSE)",
}


@dataclass(frozen=True)
class Words:
    """How a reliability diagram calls its axes, and whether the counts have a log scale."""

    share: str = "accuracy"
    probability: str = "confidence"
    rows: str = "texts"
    log: bool = False


LABEL_WORDS = Words("share that applies", "probability", "pairs", True)  # most probabilities are near 0


@dataclass(frozen=True)
class Picture:
    """A figure with its file name, title and caption."""

    name: str
    title: str
    figure: Figure
    caption: str


def pictures(comparison: Comparison) -> list[Picture]:
    """All pictures of a comparison, in the order of a report."""
    shown = _of_one_label(comparison) if comparison.head is ONE_LABEL else _of_labels(comparison)
    sweep = comparison.sweep
    if sweep is not None:
        best = comparison.arm(comparison.recommended)
        caption = f"Median and 5% to 95% band over {sweep.orders} random orders of {sweep.pool} samples."
        if sweep.sizes[-1] == sweep.pool:
            caption += " They are the same samples in every order, so the band ends in a point."
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
    for picture in shown:
        _fix_layout(picture.figure)
    return shown


def _of_one_label(comparison: Comparison) -> list[Picture]:
    labels = comparison.labels
    return [
        Picture(
            "reliability",
            "Reliability",
            reliability_diagrams(comparison.arms),
            "Accuracy against confidence in ten bins. Bars below the dotted line are overconfident. Whiskers are 95% "
            "intervals of the accuracy; the lower row shows the number of texts in each bin."
            + " The temperatures were fitted on these texts. The ECE is corrected for that, the bars are not."
            * (comparison.calibrated_on is None),
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


def _of_labels(comparison: Comparison) -> list[Picture]:
    shown = [
        Picture(
            "reliability",
            "Reliability",
            reliability_diagrams(comparison.arms, LABEL_WORDS),
            "How often a label applies against its probability, in ten bins of pairs of a text and a label. Bars "
            "below the dotted line: the probabilities are too high. Whiskers are 95% intervals that take the labels of "
            "a text as one draw; the lower row shows the number of pairs in each bin, on a log scale."
            + " The Platt scalings were fitted on these texts. The ECE is corrected for that, the bars are not."
            * (comparison.calibrated_on is None),
        ),
        Picture(
            "confidence",
            "Probabilities of labels that apply and of others",
            label_histograms(comparison),
            "A trustworthy model gives high probabilities to few labels that do not apply.",
        ),
    ]
    if len(comparison.names) > 1:
        shown.insert(
            1,
            Picture(
                "labels",
                "ECE of each label",
                label_dots(comparison),
                "Whiskers are 95% intervals, where there are enough texts for one."
                + f" These are the {_DOTS} labels with the largest ECE." * (len(comparison.names) > _DOTS),
            ),
        )
    return shown


def reliability_diagrams(arms: Sequence[Arm], words: Words | None = None) -> Figure:
    """Reliability diagrams (DeGroot & Fienberg 1983) side by side: accuracy against confidence, and texts per bin.

    A bar below the diagonal is overconfident. The ECE adds up the hatched gaps, weighted by the counts below, except
    that it is corrected for a temperature that was fitted on these texts. Whiskers are 95% Wilson intervals of the
    bins' accuracy.
    """
    across = min(len(arms), 3)
    down = -(-len(arms) // across)
    figure = _figure(3.2 * across, 4.2 * down)
    words = words or Words()
    most = max(max(arm.reliability.counts) for arm in arms)
    cells = figure.subfigures(down, across, squeeze=False).ravel()
    for i, arm in enumerate(arms):
        top, bottom = cells[i].subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _reliability(top, bottom, arm, words)
        if words.log:
            bottom.set_yscale("log")
        bottom.set_ylim(0.7 if words.log else 0, most * (2 if words.log else 1.05))
        if i % across == 0:
            top.set_ylabel(words.share)
            bottom.set_ylabel(words.rows)
    # In its own cell if one is free, else below: inside a diagram it would cover bars.
    handles = figure.axes[0].get_legend_handles_labels()
    if len(arms) < len(cells):
        cells[-1].legend(*handles, frameon=False, fontsize=9, loc="upper left")
    else:
        figure.legend(*handles, frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    return figure


def sweep_curves(sweep: Sweep, recommended: Arm | None = None) -> Figure:
    """Four measures against the number of samples: median and 5% to 95% band over orders of the pool.

    Another recommended arm than these two is a line: it has its own number of samples, or none.
    """
    part = f"a random {sweep.texts:,} of {sweep.all_texts:,}" if sweep.texts < sweep.all_texts else f"{sweep.texts:,}"
    figure = _figure(9.0, 6.4)
    figure.suptitle(f"Number of samples, {part} texts", fontsize=11)
    for axes, (name, title) in zip(figure.subplots(2, 2).flat, _PANELS.items(), strict=True):
        sizes, middle = list(range(1, len(sweep.distances) + 1)), sweep.distances
        if name in sweep.curves:
            sizes, (low, middle, high) = sweep.sizes, sweep.curves[name]
            band = {"color": COLORS["bayesian"], "alpha": 0.25, "linewidth": 0, "label": "5% to 95%"}
            axes.fill_between(sizes, low, high, **band)
        axes.plot(sizes, middle, color=COLORS["bayesian"], label="Bayesian, median order")
        if name in sweep.frequentist:
            level = sweep.frequentist[name]
            axes.axhline(level, color=COLORS["frequentist"], linestyle="--", label="Frequentist")
        if recommended is not None and recommended.name not in _CURVES and name in recommended.estimates:
            style = {"color": COLORS[recommended.name], "linestyle": _DASHES[recommended.name]}
            axes.axhline(recommended.estimates[name].value, **style, label=TITLES[recommended.name])
        if sweep.recommended is not None and sweep.recommended <= sizes[-1]:
            axes.axvline(sweep.recommended, color=_GAP, linestyle=":", label=f"enough: {sweep.recommended}")
        axes.set_xlabel("number of samples")
        axes.set_title(title, fontsize=10)
        axes.set_xlim(sizes[0], sizes[-1])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
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

    Of the arms with a scaling, only a recommended one is shown: it hardly changes the order of the texts.
    """
    figure = _figure(5.6, 4.0)
    axes = figure.subplots()
    for arm in comparison.arms:
        if arm.name == "saved" or (arm.scaling is not None and arm.name != comparison.recommended):
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

    def split(p: Probabilities) -> tuple[Probabilities, NDArray[np.bool_]]:
        return p.max(1), p.argmax(1) == labels

    figure = _split_histograms(comparison, split, ("right", "wrong"), "confidence")
    figure.axes[0].set_ylabel("share of these texts")
    return figure


def label_histograms(comparison: Comparison) -> Figure:
    """Histograms of the probabilities of labels that apply, and of those that do not."""
    applies = comparison.labels == 1
    figure = _split_histograms(comparison, lambda p: (p, applies), ("applies", "does not"), "probability")
    for axes in figure.axes:
        axes.set_yscale("log")
        axes.legend(frameon=False, fontsize=8, loc="upper center")
    figure.axes[0].set_ylabel("share of these pairs")
    return figure


def _split_histograms(
    comparison: Comparison,
    split: Callable[[Probabilities], tuple[Probabilities, NDArray[np.bool_]]],
    names: tuple[str, str],
    what: str,
) -> Figure:
    """Two histograms for each of the main arms: of the values that `split` chooses, and of the others."""
    arms = [arm for arm in comparison.arms if arm.name in _compared(comparison)]
    figure, edges = _figure(3.2 * len(arms), 3.0), np.linspace(0, 1, 21)
    for axes, arm in zip(figure.subplots(1, len(arms), sharex=True), arms, strict=True):
        values, first = split(arm.probabilities)
        for chosen, name, style in ((first, names[0], _PLAIN), (~first, names[1], _HATCHED)):
            share = np.full(chosen.sum(), 1 / max(int(chosen.sum()), 1))
            axes.hist(values[chosen], edges, weights=share, label=f"{name} ({chosen.sum():,})", **style)
        axes.set_title(TITLES[arm.name], fontsize=10)
        axes.set_xlabel(what)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        _plain(axes)
    return figure


def label_dots(comparison: Comparison) -> Figure:
    """The ECE of each label in the frequentist arm and in the recommended one (or its rival), the largest on top."""
    first = comparison.arm("frequentist")
    last = comparison.rival if comparison.recommended == "frequentist" else comparison.arm(comparison.recommended)
    order = sorted(first.by_label, key=lambda label: first.by_label[label]["ece"].value)[-_DOTS:]
    figure = _figure(7.0, 1.2 + 0.24 * len(order))
    axes = figure.subplots()
    for arm, shift in ((first, 0.12), (last, -0.12)):
        found = [arm.by_label[label]["ece"] for label in order]
        values = np.array([one.value for one in found])
        ends = np.array([(one.low, one.high) if one.known else (one.value, one.value) for one in found]).T
        axes.errorbar(
            values,
            np.arange(len(order)) + shift,
            xerr=np.abs(ends - values),
            fmt="o",
            markersize=4,
            elinewidth=0.9,
            color=COLORS[arm.name],
            label=TITLES[arm.name],
        )
    axes.set_yticks(range(len(order)), [comparison.names[label] for label in order], fontsize=8)
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_xlim(left=0)
    axes.set_xlabel("ECE")
    figure.legend(*axes.get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    _plain(axes)
    return figure


def _compared(comparison: Comparison) -> set[str]:
    """Arms in the histograms."""
    scaled = {comparison.scaled("bayesian").name} if comparison.sampled else set()
    return {"frequentist", comparison.rival.name, comparison.recommended} | scaled


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


def _reliability(top: Axes, bottom: Axes, arm: Arm, words: Words) -> None:
    bins = arm.reliability
    width = bins.edges[1] - bins.edges[0]
    filled = [i for i, count in enumerate(bins.counts) if count]
    lefts = np.array([bins.edges[i] for i in filled])
    accuracies = np.array([bins.accuracy[i] for i in filled], dtype=float)
    confidences = np.array([bins.mean_confidence[i] for i in filled], dtype=float)
    color = COLORS[arm.name]
    top.bar(lefts, accuracies, width * 0.96, align="edge", color=color, label=words.share)
    style = {"facecolor": "none", "edgecolor": _GAP, "hatch": "///", "linewidth": 0.8}
    gap = f"gap to mean {words.probability}"
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
    bottom.set_xlabel(words.probability)
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)


def _plain(axes: Axes) -> None:
    axes.grid(alpha=0.25, color=_GAP)
    axes.spines[["top", "right"]].set_visible(False)


def _fix_layout(figure: Figure) -> None:
    """Compute the layout now, and not for every file again, which takes longer than to draw the file."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    # "none" would leave a placeholder, for which `savefig` draws everything twice; None is what the settings say.
    with matplotlib.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False}):
        figure.set_layout_engine(None)


def _figure(width: float, height: float) -> Figure:
    """A figure with its own canvas: no pyplot state, no window, safe in threads."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
