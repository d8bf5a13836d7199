"""The results of a comparison for a model's page on the Hub: `EvalResult` metadata, and a section of its card."""

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..evaluation.measures import MEASURES
from ..evaluation.run import Comparison
from ..evaluation.verdict import verdict
from ..wording import without_folder
from .figures import TITLES

_KEYS = ("ece", "accuracy", "nll", "brier")
_NAMES = {measure.key: measure.title for measure in MEASURES}


def model_card(comparison: Comparison, rows: int, settings: Mapping[str, Any]) -> str:
    """A card of front matter (`model-index`) and one section; a model's own card may take both over.

    Args:
        comparison: the results.
        rows: texts that they were measured on.
        settings: of the run: "model", "dataset", "config", "split", "num_samples". Paths of files lose their folders.
    """
    data = ModelCardData(
        model_name=without_folder(settings["model"]),
        eval_results=eval_results(comparison, settings),
        tags=["mc-dropout"],
    )
    return f"---\n{data.to_yaml()}\n---\n\n{section(comparison, rows, settings)}"


def eval_results(comparison: Comparison, settings: Mapping[str, Any]) -> list[EvalResult]:
    """ECE, accuracy, NLL and Brier score of every arm but BaaL's, as the Hub's metadata have them."""
    dataset = without_folder(settings["dataset"])
    return [
        EvalResult(
            task_type="text-classification",
            dataset_type=re.sub(r"[^\w./-]+", "-", str(dataset).lower()),
            dataset_name=str(dataset),
            dataset_config=settings.get("config"),
            dataset_split=settings.get("split"),
            metric_type=key,
            metric_name=f"{_NAMES[key]}, {TITLES[arm.name]}" + (f", {arm.passes} samples" if arm.passes > 1 else ""),
            metric_value=round(arm.estimates[key].value, 6),
        )
        for arm in comparison.arms
        if arm.name != "baal"
        for key in _KEYS
    ]


def section(comparison: Comparison, rows: int, settings: Mapping[str, Any]) -> str:
    """Markdown: the verdict, and a table with 95 % intervals."""
    header = ["", *(_NAMES[key] for key in _KEYS)]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * len(_KEYS)]
    for arm in comparison.arms:
        cells = [arm.estimates[key] for key in _KEYS]
        shown = [f"{cell.value:.4f}" + f" ({cell.low:.4f} to {cell.high:.4f})" * cell.known for cell in cells]
        lines.append("| " + " | ".join([TITLES[arm.name], *shown]) + " |")
    found = verdict(comparison)
    return (
        "## Calibration\n\n"
        f"Measured on {rows:,} texts of {without_folder(settings['dataset'])} with "
        f"{comparison.arm('bayesian').passes} samples; 95 % intervals in brackets, where wrong answers are enough for "
        "one.\n\n" + "\n".join(lines) + "\n\n"
        f"**{found.headline}**\n\n" + "\n".join(f"- {line}" for line in found.lines) + "\n"
    )
