"""Pictures of a comparison. Everything drawn here was computed in `evaluation.py`."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .evaluation import Arm, Sweep

# Okabe & Ito (2008): told apart with every common colour vision deficiency, and in print.
COLOURS = {"frequentist": "#D55E00", "baal": "#E69F00", "bayesian": "#0072B2"}
TITLES = {"frequentist": "Frequentist", "baal": "BaaL (patch_module)", "bayesian": "Bayesian"}
_GAP = "#999999"


def reliability_diagrams(arms: Sequence[Arm]) -> Figure:
    """Reliability diagrams (DeGroot & Fienberg 1983) side by side: accuracy against confidence, and texts per bin.

    A bar below the diagonal is overconfident; the hatched gap, weighted by the count below, is what ECE adds up.
    """
    figure = _figure(3.6 * len(arms), 4.8)
    grid = figure.subplots(2, len(arms), sharex=True, sharey="row", height_ratios=(3, 1), squeeze=False)
    for column, arm in enumerate(arms):
        _reliability(grid[0][column], grid[1][column], arm)
    grid[0][0].set_ylabel("accuracy")
    grid[1][0].set_ylabel("texts")
    return figure


def sweep_curves(sweep: Sweep) -> Figure:
    """ECE and accuracy against the number of samples: median and 5 to 95 % band over orders of the pool."""
    part = f"a random {sweep.texts:,} of {sweep.all_texts:,}" if sweep.texts < sweep.all_texts else f"{sweep.texts:,}"
    figure = _figure(9.0, 3.8)
    for axes, curve, measure, title in zip(
        figure.subplots(1, 2), (sweep.ece, sweep.accuracy), ("ece", "accuracy"), ("ECE", "accuracy"), strict=True
    ):
        low, middle, high = curve
        axes.fill_between(sweep.sizes, low, high, color=COLOURS["bayesian"], alpha=0.25, linewidth=0, label="5 to 95 %")
        axes.plot(sweep.sizes, middle, color=COLOURS["bayesian"], label="Bayesian, median order")
        level = getattr(sweep.frequentist, measure)
        axes.axhline(level, color=COLOURS["frequentist"], linestyle="--", label="Frequentist")
        axes.set_xlabel("number of samples")
        axes.set_title(f"{title}, {part} texts", fontsize=10)
        axes.set_xlim(sweep.sizes[0], sweep.sizes[-1])
        axes.margins(y=0.15)
        axes.grid(alpha=0.25)
    figure.axes[0].legend(frameon=False)
    return figure


def _reliability(top: Axes, bottom: Axes, arm: Arm) -> None:
    bins = arm.measures.reliability
    width = bins.edges[1] - bins.edges[0]
    filled = [
        (edge, accuracy, confidence)
        for edge, accuracy, confidence in zip(bins.edges, bins.accuracy, bins.mean_confidence, strict=False)
        if accuracy is not None and confidence is not None
    ]
    lefts, accuracies, confidences = zip(*filled, strict=True)
    colour = COLOURS[arm.name]
    top.bar(lefts, accuracies, width, align="edge", color=colour, edgecolor="white", label="accuracy")
    gaps = [confidence - accuracy for accuracy, confidence in zip(accuracies, confidences, strict=True)]
    style = {"facecolor": "none", "edgecolor": _GAP, "hatch": "///", "linewidth": 0.8}
    top.bar(lefts, gaps, width, bottom=accuracies, align="edge", label="gap to mean confidence", **style)
    top.plot([0, 1], [0, 1], color="black", linestyle=":", linewidth=1)
    top.set_title(f"{TITLES[arm.name]}\nECE {arm.measures.ece:.4f}   accuracy {arm.measures.accuracy:.4f}", fontsize=10)
    top.set_xlim(0, 1)
    top.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    top.set_ylim(0, 1)
    top.legend(frameon=False, fontsize=8, loc="upper left")
    bottom.bar(bins.edges[:-1], bins.counts, width, align="edge", color=colour, edgecolor="white")
    bottom.set_xlabel("confidence")
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    """A figure of its own canvas: no global state of pyplot, no window, safe in threads."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
