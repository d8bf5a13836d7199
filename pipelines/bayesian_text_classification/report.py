"""What a comparison leaves behind: `report.json` with every number and setting, and the pictures."""

import importlib.metadata
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .data import LabelledTexts
from .evaluation import BINS, Arm, Comparison, error_rates
from .figures import reliability_diagrams, sweep_curves

_PACKAGES = (
    "bayesian-text-classification",
    "torch",
    "transformers",
    "evaluate",
    "datasets",
    "baal",
    "numpy",
    "scikit-learn",
)


def write_report(folder: Path, comparison: Comparison, data: LabelledTexts, settings: dict[str, Any]) -> list[Path]:
    """Write `report.json`, `reliability.png` and `samples.png`; returns their paths.

    Args:
        folder: one that exists.
        comparison: what to report.
        data: the texts it was measured on; no text is written.
        settings: of the run; any JSON values.
    """
    paths = [folder / name for name in ("report.json", "reliability.png", "samples.png")]
    paths[0].write_text(json.dumps(as_dict(comparison, data, settings), indent=2) + "\n", encoding="utf-8")
    reliability_diagrams(comparison.arms).savefig(paths[1])
    sweep_curves(comparison.sweep).savefig(paths[2])
    return paths


def as_dict(comparison: Comparison, data: LabelledTexts, settings: dict[str, Any]) -> dict[str, Any]:
    """The content of `report.json`."""
    sweep = comparison.sweep
    return {
        "settings": {**settings, "n_bins": BINS},
        "data": {"name": data.name, "rows": len(data.texts)},
        "arms": {arm.name: _arm(arm, data) for arm in comparison.arms},
        "sweep": {
            "sizes": sweep.sizes,
            "pool": sweep.pool,
            "orders": sweep.orders,
            "texts": sweep.texts,
            "all_texts": sweep.all_texts,
            "percentiles": [5, 50, 95],
            "ece": sweep.ece.tolist(),
            "accuracy": sweep.accuracy.tolist(),
            "frequentist": {"ece": sweep.frequentist.ece, "accuracy": sweep.frequentist.accuracy},
        },
        "versions": {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()},
    }


def _arm(arm: Arm, data: LabelledTexts) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "passes": arm.passes,
        "dropout_sites": arm.dropout_sites,
        "dropout_calls": arm.dropout_calls,
        "seconds": arm.seconds,
        **asdict(arm.measures),
    }
    if data.kinds:
        entry["error_rate_by_kind"] = error_rates(arm.probabilities, data.labels, data.kinds)
    return entry


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from a copy of the folder
        return None
