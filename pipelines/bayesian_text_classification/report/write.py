"""What a comparison leaves behind: a page, every number and setting, a section for a model card, and pictures."""

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..evaluation.arms import Arm
from ..evaluation.measures import BINS
from ..evaluation.run import Comparison, error_rates
from ..evaluation.verdict import advice, verdict
from ..files.disk import publish, staged_beside, write_whole
from ..loading.labelled_texts import LabelledTexts
from ..pipeline.versions import version_of
from .card import model_card
from .figures import pictures
from .html import as_html

_PACKAGES = (
    "bayesian-text-classification",
    "torch",
    "transformers",
    "evaluate",
    "datasets",
    "baal",
    "numpy",
    "scipy",
)


def write_report(
    folder: Path, comparison: Comparison, data: LabelledTexts, names: Sequence[str], settings: dict[str, Any]
) -> list[Path]:
    """Write `report.html`, `report.json`, `model-card.md`, and each picture as PNG and SVG; returns their paths.

    Args:
        folder: one that exists.
        comparison: what to report.
        data: the texts it was measured on. The page shows some of them, `report.json` none.
        names: of the classes, by id.
        settings: of the run; any JSON values.
    """
    paths = [folder / name for name in ("report.html", "report.json", "model-card.md")]
    shown = pictures(comparison, data.labels)
    write_whole(paths[0], as_html(comparison, data, names, settings, shown))
    text = json.dumps(_finite(as_dict(comparison, data, settings)), indent=2, allow_nan=False)
    write_whole(paths[1], text + "\n")
    write_whole(paths[2], model_card(comparison, len(data.texts), settings))
    for picture in shown:
        for ending in ("png", "svg"):
            paths.append(folder / f"{picture.name}.{ending}")
            with staged_beside(paths[-1]) as (staged, path):
                picture.figure.savefig(staged, format=ending)
                publish(staged, path)
    return paths


def as_dict(comparison: Comparison, data: LabelledTexts, settings: dict[str, Any]) -> dict[str, Any]:
    """The content of `report.json`."""
    sweep, found = comparison.sweep, verdict(comparison)
    return {
        "verdict": {"kind": found.kind, "sentences": [found.headline, *found.lines]},
        "advice": advice(comparison, data.labels),
        "settings": {**settings, "n_bins": BINS},
        "data": {"rows": len(data.texts)},  # its name is among the settings
        "arms": {arm.name: _arm(arm, data) for arm in comparison.arms},
        "beyond_temperature": {key: asdict(value) for key, value in comparison.beyond_temperature.items()},
        "out_of_scope": [
            {
                "arm": one.arm,
                "score": one.score,
                "auroc": asdict(one.auroc),
                "false_positive_rate": asdict(one.false_positive_rate),
                "differences": {key: asdict(value) for key, value in one.differences.items()},
                "texts": len(one.outside),
            }
            for one in comparison.out_of_scope
        ],
        "sweep": {
            "sizes": sweep.sizes,
            "pool": sweep.pool,
            "orders": sweep.orders,
            "texts": sweep.texts,
            "all_texts": sweep.all_texts,
            "percentiles": [5, 50, 95],
            **{name: curve.tolist() for name, curve in sweep.curves.items()},
            "frequentist": sweep.frequentist,
            "recommended": sweep.recommended,
        },
        "versions": {name: version_of(name) for name in _PACKAGES} | {"python": platform.python_version()},
    }


def _arm(arm: Arm, data: LabelledTexts) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "passes": arm.passes,
        "dropout_sites": arm.dropout_sites,
        "dropout_calls": arm.dropout_calls,
        "seconds": arm.seconds,
        "temperature": arm.temperature,
        **{key: asdict(value) for key, value in arm.estimates.items()},
        "null_ece": asdict(arm.null_ece),
        "differences": {key: asdict(value) for key, value in arm.differences.items()},
        "reliability": asdict(arm.reliability),
    }
    if data.kinds:
        entry["error_rate_by_kind"] = error_rates(arm.probabilities, data.labels, data.kinds)
    return entry


def _finite(value: Any) -> Any:
    """JSON has no NaN: null for what is not defined."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
