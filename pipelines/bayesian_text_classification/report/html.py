"""`report.html`: the comparison on one self-contained page, without network access or scripts."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from ..evaluation.arms import TITLES
from ..evaluation.comparison import Comparison, error_rates
from ..evaluation.statistics.intervals import Difference, Estimate
from ..evaluation.statistics.measures import MEASURES
from ..evaluation.verdict import Verdict, rounded
from ..loading.labelled_texts import LabelledTexts
from .figures import Picture, inline_svg
from .recipe import recipe
from .settings import ReportSettings, versions

MISTAKES = 12  # rows of the table of mistakes
LONGEST = 300  # the most characters of a text in it
CLASSES = 30  # rows of the table of classes
CONFUSIONS = 10  # rows of the table of confused classes


def as_html(
    comparison: Comparison,
    data: LabelledTexts,
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
    number = f"{len(data.texts):,} {'text' if len(data.texts) == 1 else 'texts'}"
    return environment.get_template("report.html.jinja").render(
        title="How far can this classifier be trusted?",
        subtitle=f"{settings.model_name}, {number} of {settings.dataset_name}"
        + f", {comparison.rival.cost.passes} samples" * comparison.sampled,
        verdict=found,
        recipe=recipe(comparison, settings.sources),
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
        groups=_groups(comparison, data),
        mistakes=_mistakes(comparison, data, names),
        classes=_classes(comparison, names),
        confusions=_confusions(comparison, names),
        recommended=TITLES[comparison.recommended],
        sampled=comparison.sampled,
        settings=[(name.replace("_", " "), value) for name, value in settings.as_dict().items() if value is not None]
        + [(f"version of {name}", version) for name, version in versions().items() if version is not None],
    )


def _table(comparison: Comparison) -> dict[str, Any]:
    rows = []
    for measure in MEASURES:
        cells = [_cell(arm.estimates[measure.key], arm.differences.get(measure.key)) for arm in comparison.arms]
        direction = "higher is better" if measure.higher_is_better else "lower is better"
        rows.append({"title": measure.title, "direction": direction, "cells": cells})
    bands = [
        f"{TITLES[arm.name]} {arm.null_ece.low:.4f} to {arm.null_ece.high:.4f}"
        for arm in comparison.arms
        # The noise of a temperature that was fitted on the same texts is not in the band.
        if arm.temperature is None or comparison.calibrated_on is not None
    ]
    note = (
        "From sampling noise alone, a perfectly calibrated model with the same confidences would show an ECE in "
        f"these 95% ranges: {'; '.join(bands)}. Temperatures: "
        + ", ".join(
            f"{TITLES[arm.name]} {arm.temperature:.3f}" for arm in comparison.arms if arm.temperature is not None
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


def _groups(comparison: Comparison, data: LabelledTexts) -> dict[str, Any] | None:
    if not data.groups:
        return None
    rates = [error_rates(arm.probabilities, data.labels, data.groups) for arm in comparison.arms]
    rows = [[name, *(f"{rate[name]:.1%}" for rate in rates)] for name in rates[0]]
    return {"arms": [TITLES[arm.name] for arm in comparison.arms], "rows": rows}


def _mistakes(comparison: Comparison, data: LabelledTexts, names: Sequence[str]) -> list[dict[str, str]]:
    before, after = comparison.arm("frequentist").probabilities, comparison.rival.probabilities
    labels, uncertainty = np.asarray(data.labels), comparison.uncertainty
    (wrong,) = np.nonzero(before.argmax(1) != labels)
    shown = []
    for i in wrong[np.argsort(-before[wrong].max(1), kind="stable")][:MISTAKES]:
        text = data.texts[i]
        shown.append(
            {
                "text": text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()} ...",
                "label": names[labels[i]],
                "before": names[before[i].argmax()],
                "before_score": f"{before[i].max():.3f}",
                "after": names[after[i].argmax()],
                "after_score": f"{after[i].max():.3f}",
                "data": "" if uncertainty is None else f"{_at(uncertainty.expected_entropy, i):.3f}",
                "model": "" if uncertainty is None else f"{_at(uncertainty.mutual_information, i):.3f}",
            }
        )
    return shown


def _at(values: NDArray[np.float64] | None, index: int) -> float:
    assert values is not None  # probabilities over classes have entropies
    return float(values[index])


def _classes(comparison: Comparison, names: Sequence[str]) -> dict[str, Any]:
    """Texts, recall, precision and mean confidence of each class that has texts; the worst recall first.

    The numbers are those of the recommended arm.
    """
    p, labels = comparison.arm(comparison.recommended).probabilities, comparison.labels
    said, rows = p.argmax(1), []
    for i, name in enumerate(names):
        own, predicted = labels == i, said == i
        right = int((own & predicted).sum())
        rows.append(
            (
                right / own.sum() if own.any() else 2.0,  # after all others
                [
                    name,
                    f"{int(own.sum()):,}",
                    f"{right / own.sum():.1%}" if own.any() else "",
                    f"{right / predicted.sum():.1%}" if predicted.any() else "",
                    f"{p[predicted].max(1).mean():.1%}" if predicted.any() else "",
                ],
            )
        )
    rows.sort(key=lambda row: row[0])
    shown = [cells for recall, cells in rows if recall <= 1][:CLASSES]
    return {"rows": shown, "others": sum(recall <= 1 for recall, _ in rows) - len(shown)}


def _confusions(comparison: Comparison, names: Sequence[str]) -> list[list[str]]:
    """The most frequent mistakes of the recommended arm: true class, predicted class, texts."""
    said, labels = comparison.arm(comparison.recommended).probabilities.argmax(1), comparison.labels
    pairs = Counter(zip(labels[said != labels].tolist(), said[said != labels].tolist(), strict=True))
    return [[names[true], names[predicted], f"{count:,}"] for (true, predicted), count in pairs.most_common(CONFUSIONS)]
