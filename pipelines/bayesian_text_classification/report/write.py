"""The files of a report: a page, all numbers and settings as JSON, a section for a model card, and pictures."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..evaluation.arms import Arm
from ..evaluation.comparison import Comparison, error_rates
from ..evaluation.sample_sweep import Sweep
from ..evaluation.statistics.predictions import BINS
from ..evaluation.verdict import Verdict, verdict
from ..files.disk import replace_file, staged_beside, write_whole
from ..loading.labeled_texts import LabeledTexts
from .card import model_card
from .figures import pictures
from .html import as_html
from .recipe import recipe
from .settings import ReportSettings, versions

SCHEMA_VERSION = 1  # of `report.json`; raise it when a key is removed or changes its meaning


def write_report(
    folder: str | os.PathLike[str],
    comparison: Comparison,
    data: LabeledTexts,
    names: Sequence[str],
    settings: ReportSettings,
    found: Verdict | None = None,
) -> list[Path]:
    """Write `report.html`, `report.json`, `model-card.md`, and each picture as PNG and SVG.

    Args:
        folder: Created if it does not exist. Files of an earlier report are replaced.
        comparison: The comparison to report.
        data: The texts it was measured on. The page shows some of them, `report.json` none.
        names: Class names in the order of their ids.
        settings: Settings of the run.
        found: The verdict on the comparison, if it has been computed already.

    Returns:
        The paths of all files.

    Raises:
        OSError: The folder cannot be written to.
    """
    target, found = Path(folder), verdict(comparison) if found is None else found
    target.mkdir(parents=True, exist_ok=True)
    paths = [target / name for name in ("report.html", "report.json", "model-card.md")]
    shown = pictures(comparison)
    write_whole(paths[0], as_html(comparison, data, names, settings, found, shown))
    text = json.dumps(_finite(as_dict(comparison, data, settings, found)), indent=2, allow_nan=False)
    write_whole(paths[1], text + "\n")
    write_whole(paths[2], model_card(comparison, found, settings))
    for picture in shown:
        for ending in ("png", "svg"):
            paths.append(target / f"{picture.name}.{ending}")
            with staged_beside(paths[-1]) as (staged, path):
                picture.figure.savefig(staged, format=ending)
                replace_file(staged, path)
    return paths


def as_dict(comparison: Comparison, data: LabeledTexts, settings: ReportSettings, found: Verdict) -> dict[str, Any]:
    """The content of `report.json`."""
    code = recipe(comparison, settings.sources, found.limit)
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": {"kind": found.outcome, "sentences": [found.headline, *found.lines]},
        "advice": found.advice,
        "recommended": comparison.recommended if comparison.conclusive else None,
        "decided_by": [
            asdict(one) for one in (comparison.recommendation.lost, comparison.recommendation.won) if one is not None
        ],
        "recipe": None if code is None else asdict(code),
        "settings": {**settings.as_dict(), "n_bins": BINS},
        # The name is in the settings.
        "data": {"rows": len(data.texts), "part_of": data.part_of, "distinct_texts": comparison.distinct},
        "arms": {arm.name: _arm(arm, comparison, data) for arm in comparison.arms},
        "beyond_temperature": {
            name: {key: asdict(value) for key, value in found.items()}
            for name, found in comparison.beyond_temperature.items()
        },
        "student_minus_sampling": {key: asdict(one) for key, one in comparison.student_minus_sampling.items()},
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
        "prediction_sets": None if comparison.sets is None else asdict(comparison.sets),
        "sweep": None if comparison.sweep is None else _sweep(comparison.sweep),
        "versions": versions(),
    }


def _sweep(sweep: Sweep) -> dict[str, Any]:
    return {
        "sizes": sweep.sizes,
        "pool": sweep.pool,
        "orders": sweep.orders,
        "texts": sweep.texts,
        "all_texts": sweep.all_texts,
        "percentiles": [5, 50, 95],
        **{name: curve.tolist() for name, curve in sweep.curves.items()},
        "distances": sweep.distances.tolist(),
        "frequentist": sweep.frequentist,
        "recommended": sweep.recommended,
    }


def _arm(arm: Arm, comparison: Comparison, data: LabeledTexts) -> dict[str, Any]:
    entry: dict[str, Any] = {
        **asdict(arm.cost),
        "temperature": arm.temperature,
        "scaling": None if arm.scaling is None else arm.scaling.saved(),
        **{key: asdict(value) for key, value in arm.estimates.items()},
        "null_ece": asdict(arm.null_ece),
        "differences": {key: asdict(value) for key, value in arm.differences.items()},
        "reliability": asdict(arm.reliability),
    }
    if arm.by_label:
        entry["labels"] = {
            comparison.names[label]: {key: asdict(one) for key, one in found.items()}
            for label, found in arm.by_label.items()
        }
    if data.kinds:
        entry["error_rate_by_kind"] = error_rates(arm.probabilities, comparison.labels, data.kinds)
    return entry


def _finite(value: Any) -> Any:
    """Undefined values as None: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
