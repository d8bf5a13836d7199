"""The results of a comparison for a model card on the Hub: `EvalResult` metadata and a section."""

import re

from huggingface_hub import EvalResult, ModelCardData

from ..evaluation.arms import TITLES, Arm, of_student
from ..evaluation.comparison import Comparison
from ..evaluation.heads import INDEPENDENT_LABELS
from ..evaluation.statistics.measures import MEASURES
from ..evaluation.verdict import Verdict
from .settings import ReportSettings

_KEYS = ("ece", "accuracy", "nll", "brier")
_NAMES = {measure.key: measure.title for measure in MEASURES}


def model_card(comparison: Comparison, found: Verdict, settings: ReportSettings) -> str:
    """A card with front matter (`model-index`) and one section. `push` merges both into the model's own card.

    Args:
        comparison: The results.
        found: The verdict on them.
        settings: Settings of the run. Folders of this machine are removed from paths.
    """
    data = ModelCardData(
        model_name=settings.model_name,
        eval_results=eval_results(comparison, settings),
        tags=["mc-dropout"] if comparison.sampled else None,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{section(comparison, found, settings)}"


def eval_results(comparison: Comparison, settings: ReportSettings) -> list[EvalResult]:
    """ECE, accuracy, NLL and Brier score of the arms, as metadata for the Hub.

    Without those of BaaL, and of a student: they would be results of another model than that of the card.
    """
    dataset, over = settings.dataset_name, " over all labels" if comparison.head is INDEPENDENT_LABELS else ""
    return [
        EvalResult(
            task_type="text-classification",
            dataset_type=re.sub(r"[^\w./-]+", "-", dataset.lower()),
            dataset_name=dataset,
            dataset_config=settings.config,
            dataset_split=settings.split,
            metric_type=key,
            metric_name=f"{_NAMES[key]}{over}, {TITLES[arm.name]}{_passes(arm)}",
            metric_value=round(arm.estimates[key].value, 6),
        )
        for arm in comparison.arms
        if arm.name != "baal" and not of_student(arm.name)
        for key in _KEYS
    ]


def _passes(arm: Arm) -> str:
    """The passes of an arm in words, after a comma; empty for one."""
    what = "models" if arm.name.startswith("ensemble") else "samples"
    return f", {arm.cost.passes} {what}" if arm.cost.passes > 1 else ""


def section(comparison: Comparison, found: Verdict, settings: ReportSettings) -> str:
    """Markdown: the verdict, and a table with 95% intervals."""
    several = comparison.head is INDEPENDENT_LABELS
    header = ["", *(f"{_NAMES[key]}{' over all labels' * several}" for key in _KEYS)]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * len(_KEYS)]
    for arm in comparison.arms:
        cells = [arm.estimates[key] for key in _KEYS]
        shown = [f"{cell.value:.4f}" + f" ({cell.low:.4f} to {cell.high:.4f})" * cell.known for cell in cells]
        lines.append("| " + " | ".join([TITLES[arm.name], *shown]) + " |")
    distinct = f" ({comparison.distinct:,} distinct)" * (comparison.distinct < len(comparison.labels))
    samples = f" with {comparison.rival.cost.passes} samples" if comparison.sampled else ""
    return (
        "## Calibration\n\n"
        f"Measured on {len(comparison.labels):,} texts{distinct} of {settings.dataset_name}"
        f"{samples}. 95% intervals are in parentheses, if there are enough errors for one.\n\n"
        + "\n".join(lines)
        + "\n\n"
        f"**{found.headline}**\n\n" + "\n".join(f"- {line}" for line in found.lines) + "\n"
    )
