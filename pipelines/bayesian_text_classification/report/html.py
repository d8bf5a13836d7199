"""`report.html`: the comparison on one self-contained page, without network access or scripts."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from ..evaluation.arms import TITLES
from ..evaluation.comparison import Comparison, error_rates
from ..evaluation.statistics.intervals import Difference, Estimate
from ..evaluation.verdict import Verdict
from ..evaluation.words import rounded
from ..loading.labeled_texts import LabeledTexts
from .figures import Picture, inline_svg
from .recipe import recipe
from .settings import ReportSettings, versions
from .tables import note_on_measures, tables


def as_html(
    comparison: Comparison,
    data: LabeledTexts,
    names: Sequence[str],
    settings: ReportSettings,
    found: Verdict,
    pictures: Sequence[Picture],
) -> str:
    """The page. Everything that comes from data or settings is escaped, pictures are inlined, and nothing is loaded.

    Args:
        comparison: The comparison to report.
        data: The texts it was measured on.
        names: Class names in the order of their ids.
        settings: Settings of the run.
        found: The verdict on the comparison.
        pictures: Pictures of the comparison.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        title="How far can this classifier be trusted?",
        subtitle=f"{settings.model_name}, {data.size} of {settings.dataset_name}"
        + f", {comparison.rival.cost.passes} samples" * comparison.sampled,
        verdict=found,
        recipe=recipe(comparison, settings.sources, found.limit),
        table=_table(comparison),
        figures=[
            {"title": one.title, "svg": inline_svg(one.figure, one.name), "caption": one.caption} for one in pictures
        ],
        detections=[
            {
                "name": f"{TITLES[one.arm]}: {one.score}",
                "cells": [
                    _cell(one.auroc, one.differences.get("auroc")),
                    _cell(one.false_positive_rate, one.differences.get("false_positive_rate")),
                ],
            }
            for one in comparison.out_of_scope
        ],
        kinds=_kinds(comparison, data),
        note_on_measures=note_on_measures(comparison),
        tables=tables(comparison, data, names),
        settings=[
            (name.replace("_", " "), ", ".join(value) if isinstance(value, tuple) else value)
            for name, value in settings.as_dict().items()
            if value is not None
        ]
        + [(f"version of {name}", version) for name, version in versions().items() if version is not None],
    )


def _table(comparison: Comparison) -> dict[str, Any]:
    rows = []
    for measure in comparison.head.measures:
        cells = [_cell(arm.estimates[measure.key], arm.differences.get(measure.key)) for arm in comparison.arms]
        direction = "higher is better" if measure.higher_is_better else "lower is better"
        rows.append({"title": measure.title, "direction": direction, "cells": cells})
    bands = [
        f"{TITLES[arm.name]} {arm.null_ece.low:.4f} to {arm.null_ece.high:.4f}"
        for arm in comparison.arms
        # The noise of a scaling that was fitted on the same texts is not in the band.
        if arm.scaling is None or comparison.calibrated_on is not None
    ]
    note = (
        "From sampling noise alone, a perfectly calibrated model with the same confidences would show an ECE in "
        f"these 95% ranges: {'; '.join(bands)}. "
        + "; ".join(
            f"{TITLES[arm.name]}: {arm.scaling}"
            for arm in comparison.arms
            if arm.scaling is not None and not comparison.is_mixed(arm)
        )
        + "."
    )
    return {"arms": [TITLES[arm.name] for arm in comparison.arms], "rows": rows, "note": note}


def _cell(estimate: Estimate, difference: Difference | None) -> dict[str, str]:
    if math.isnan(estimate.value):
        return {"value": "not defined", "interval": "", "verdict": "", "style": ""}
    cell = {
        "value": f"{estimate.value:.4f}",
        "interval": f"{estimate.low:.4f} to {estimate.high:.4f}" if estimate.known else "no interval",
        "verdict": "",
        "style": "",
    }
    if difference is not None and not math.isnan(difference.value):
        words, style = _SHOWN[difference.verdict]
        needed = "" if difference.rows_needed is None else f" ({rounded(difference.rows_needed):,})"
        cell |= {"verdict": f"{difference.value:+.4f}, {words}{needed}", "style": style}
    return cell


_SHOWN = {
    "better": ("significantly better", "better"),
    "worse": ("significantly worse", "worse"),
    "cannot tell": ("no significant difference", "neutral"),
}


def _kinds(comparison: Comparison, data: LabeledTexts) -> dict[str, Any] | None:
    if not data.kinds:
        return None
    rates = [error_rates(arm.probabilities, comparison.labels, data.kinds) for arm in comparison.arms]
    rows = [[name, *(f"{rate[name]:.1%}" for rate in rates)] for name in rates[0]]
    return {"arms": [TITLES[arm.name] for arm in comparison.arms], "rows": rows}
