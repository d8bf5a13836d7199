"""Tables of the recommended arm's answers: by class or label, and the worst mistakes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..evaluation.arms import TITLES
from ..evaluation.comparison import Comparison
from ..evaluation.heads import INDEPENDENT_LABELS, ONE_LABEL, ONE_OUTPUT, Head
from ..evaluation.prediction_sets import MeasuredSets
from ..evaluation.statistics.intervals import Estimate
from ..loading.labeled_texts import LabeledTexts
from ..pipeline.inputs import text_and_pair

MISTAKES = 12  # rows of the table of mistakes
LONGEST = 300  # the most characters of a text in it
CLASSES = 30  # rows of the table of classes or labels
CONFUSIONS = 10  # rows of the table of confused classes

_ABOUT: dict[Head, str] = {
    INDEPENDENT_LABELS: "ECE: of all pairs of a text and a label. Label-wise ECE: averaged over the labels, as in the "
    "metric's config multilabel. Accuracy: the share of labels that are right at a probability of 0.5. NLL and Brier "
    "score: averaged over the labels. Intervals draw whole texts. ",
    ONE_OUTPUT: "ECE: of the probability of the label, as in the metric's config binary. Accuracy: at a probability of "
    "0.5. ",
}

Cell = tuple[str, str]  # what it says, and a remark in small print


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Attributes:
        title: Its heading; empty if it continues the table before it.
        note: What it shows.
        header: Names of the columns.
        rows: Cells of each row.
        after: A remark below it.
    """

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    after: str = ""


def tables(comparison: Comparison, data: LabeledTexts, names: Sequence[str]) -> list[Table]:
    """The tables that a comparison of its kind has."""
    sets = [] if comparison.sets is None else [_sets(comparison.sets, names)]
    if comparison.head is ONE_LABEL:
        return [*sets, *_classes(comparison, names), _mistakes(comparison, data, names)]
    return [*sets, *_labels(comparison, names), _mistaken_labels(comparison, data, names)]


def note_on_measures(comparison: Comparison) -> str:
    """How to read the table of measures."""
    few = "ten texts with a wrong label, with a right one or with one that applies"
    verdict, about = "20 of each of these, for accuracy 20 texts", _ABOUT.get(comparison.head, "")
    if comparison.head is ONE_LABEL:
        few, verdict = "ten right or ten wrong answers", "20 right and 20 wrong answers, for accuracy 20 texts"
    count = {6: "six", 7: "seven", 10: "ten"}[len(comparison.head.measures)]
    return (
        f"{about}Each cell shows the value, its 95% interval, and the difference from the frequentist model on the "
        f"same texts. No interval: there are fewer than {few}, or so few texts per bin that sampling noise dominates "
        "the value. (For the parts of the Brier score, the difference may still be significant.) No significant "
        "difference: the interval of the difference contains 0, or there is too little data: a verdict needs "
        f"{verdict}. The number in parentheses is how many texts it would take to detect a difference this large (80% "
        f"power). Of the {count} verdicts on a second model that is in truth equally good, at least one is "
        "significant in 10 to 16% of runs. Choose the measures you care about before you look."
    )


def _sets(sets: MeasuredSets, names: Sequence[str]) -> Table:
    """The prediction sets of each arm."""
    rows: list[list[Cell]] = []
    for one in sets.arms:
        less = one.difference
        remark = "" if less is None else f"{less.value:+.3f}, {less.low:+.3f} to {less.high:+.3f}"
        covered, texts = one.worst_counts
        share = f"{covered / texts:.1%}" if texts else ""
        sizes = [f"{size:.2f}" if size == size else "" for size in (one.size_if_right, one.size_if_wrong)]
        rows.append(
            [
                (TITLES[one.arm], ""),
                (f"{one.coverage:.1%}", ""),
                (f"{one.size:.3f}", remark),
                *((size, "") for size in sizes),
                (f"{one.empty:.1%}", ""),
                ("", "") if one.worst is None else (f"{names[one.worst]}, {share}", f"{covered:,} of {texts:,} texts"),
            ]
        )
    normal = "" if sets.band is None else f" {sets.band[0]:.1%} to {sets.band[1]:.1%} is normal (95% of draws)."
    return Table(
        "Prediction sets",
        f"Sets of labels that should hold the true one with a probability of {sets.coverage:g}, fitted on "
        f"{sets.fitted_on:,} of the texts and measured on {sets.measured_on:,} others.{normal} Small numbers: the "
        "difference in size from the first row, with its 95% interval. Label covered least: among labels with at "
        "least 10 measured texts. With many labels, one is low by chance. If the model is right more often than the "
        "coverage, some sets are empty.",
        ["", "coverage", "labels per set", "size if right", "size if wrong", "empty sets", "label covered least"],
        rows,
    )


def _classes(comparison: Comparison, names: Sequence[str]) -> list[Table]:
    """Each class that has texts, the worst recall first, and the most frequent confusions."""
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
    others = sum(recall <= 1 for recall, _ in rows) - len(shown)
    pairs = Counter(zip(labels[said != labels].tolist(), said[said != labels].tolist(), strict=True))
    confused = [[names[a], names[b], f"{count:,}"] for (a, b), count in pairs.most_common(CONFUSIONS)]
    found = [
        Table(
            "Classes",
            f"{TITLES[comparison.recommended]}. Recall: the share of a class's texts that get its label. Precision: "
            "the share of the texts with that label that belong to the class; an honest mean confidence is close to "
            "it.",
            ["class", "texts", "recall", "precision", "mean confidence"],
            _plain(shown),
            f"And {others} more with a higher recall." if others else "",
        )
    ]
    if confused:
        found.append(Table("", "", ["true class", "predicted class", "texts"], _plain(confused)))
    return found


def _labels(comparison: Comparison, names: Sequence[str]) -> list[Table]:
    """Each label with its own measures, the largest ECE first; none for a model with one output."""
    before, best = comparison.arm("frequentist"), comparison.arm(comparison.recommended)
    if len(names) == 1:
        return []
    order = sorted(best.by_label, key=lambda label: -best.by_label[label]["ece"].value)
    rows = []
    for label in order[:CLASSES]:
        first = [] if best is before else [_cell(before.by_label[label]["ece"])]
        own = [_cell(best.by_label[label][key]) for key in ("ece", "nll", "brier", "accuracy")]
        rows.append([(names[label], ""), (f"{int(comparison.labels[:, label].sum()):,}", ""), *first, *own])
    title = TITLES[best.name]
    others = len(names) - len(rows)
    measured = "" if len(best.by_label) == len(names) else f" Only the {len(best.by_label)} most frequent are measured."
    return [
        Table(
            "Labels",
            f"{title}, each label by itself, with 95% intervals where at least ten texts have it and the model is "
            "right and wrong on at least ten.",
            [
                "label",
                "texts with it",
                *([] if best is before else ["ECE, frequentist"]),
                *(f"{name}, {title.lower()}" for name in ("ECE", "NLL", "Brier", "accuracy")),
            ],
            rows,
            f"The largest ECEs; {others} more labels are in report.json.{measured}" if others else "",
        )
    ]


def _mistakes(comparison: Comparison, data: LabeledTexts, names: Sequence[str]) -> Table:
    before, after = comparison.arm("frequentist").probabilities, comparison.rival.probabilities
    labels = comparison.labels
    (wrong,) = np.nonzero(before.argmax(1) != labels)
    rows = []
    for i in wrong[np.argsort(-before[wrong].max(1), kind="stable")][:MISTAKES]:
        answers = [names[labels[i]]]
        for p in (before, after):
            answers += [names[p[i].argmax()], f"{p[i].max():.3f}"]
        rows.append([_shortened(data.texts[i]), *answers, *_uncertainty(comparison, i)])
    return _overconfident(
        comparison,
        "The frequentist model's most confident wrong answers, and the answers of the {rival} to the same texts.",
        ["true label", "frequentist", "confidence", "{rival}", "confidence"],
        rows,
    )


def _mistaken_labels(comparison: Comparison, data: LabeledTexts, names: Sequence[str]) -> Table:
    before, after = comparison.arm("frequentist").probabilities, comparison.rival.probabilities
    apart = np.where(comparison.labels == 1, 1 - before, before)
    rows = []
    for place in np.argsort(-apart, axis=None, kind="stable")[:MISTAKES]:
        i, label = map(int, divmod(int(place), len(names)))
        if apart[i, label] > 0.5:
            answers = [
                "yes" if comparison.labels[i, label] else "no",
                f"{before[i, label]:.3f}",
                f"{after[i, label]:.3f}",
            ]
            rows.append([_shortened(data.texts[i]), names[label], *answers, *_uncertainty(comparison, i, label)])
    return _overconfident(
        comparison,
        "Labels on which the frequentist model is wrong with the most confidence: the probability that it gives them, "
        "and that of the {rival}.",
        ["label", "applies", "frequentist", "{rival}"],
        rows,
    )


def _overconfident(comparison: Comparison, note: str, header: list[str], rows: list[list[str]]) -> Table:
    rival = "Bayesian model" if comparison.sampled else f"model with {comparison.head.scaling}"
    if comparison.sampled:
        note += (
            " Data uncertainty (expected entropy): single samples are unsure. Model uncertainty (mutual information): "
            "the samples disagree with each other, as they do on texts unlike the training data. Both are in nats. If "
            "both are low, neither model notices the mistake."
        )
    columns = ["text", *(name.format(rival=rival) for name in header)]
    columns += ["data uncertainty", "model uncertainty"] * comparison.sampled
    title = "The most overconfident mistakes"
    if not rows:
        return Table(title, "None.", [], [])
    return Table(title, note.format(rival=rival), columns, _plain(rows))


def _uncertainty(comparison: Comparison, text: int, label: int | None = None) -> list[str]:
    """Data and model uncertainty of a text, or of one label of it; nothing without samples."""
    found = comparison.uncertainty
    if found is None:
        return []
    place = text if label is None else (text, label)
    return [f"{_at(found.expected_entropy, place):.3f}", f"{_at(found.mutual_information, place):.3f}"]


def _at(values: NDArray[np.float64] | None, place: int | tuple[int, int]) -> float:
    assert values is not None  # probabilities have entropies
    return float(values[place])


def _shortened(item: Any) -> str:
    text = " | ".join(part for part in text_and_pair(item) if part is not None)
    return text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()} ..."


def _cell(estimate: Estimate) -> Cell:
    return f"{estimate.value:.4f}", f"{estimate.low:.4f} to {estimate.high:.4f}" if estimate.known else "no interval"


def _plain(rows: Sequence[Sequence[str]]) -> list[list[Cell]]:
    return [[(cell, "") for cell in row] for row in rows]
