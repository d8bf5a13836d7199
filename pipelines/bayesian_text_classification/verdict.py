"""A comparison in words: is the ensemble more trustworthy, by how much, and what to do."""

import math
from dataclasses import dataclass

import numpy as np

from .arms import Arm
from .evaluation import Comparison
from .intervals import Difference
from .measures import MEASURES
from .out_of_scope import ENTROPY
from .selection import threshold_for

TARGETS = (0.05, 0.02, 0.01)  # error rates among accepted texts that a threshold is looked for
_TITLES = {measure.key: measure.title for measure in MEASURES}


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes:
        kind: "better", "worse" or "cannot tell", for the ECE of the Bayesian arm.
        headline: one sentence.
        lines: what else must be known, a sentence each.
    """

    kind: str
    headline: str
    lines: list[str]


def verdict(comparison: Comparison) -> Verdict:
    """Of the Bayesian arm against the frequentist one, and of both with temperatures."""
    before, after = comparison.arm("frequentist"), comparison.arm("bayesian")
    rows, told = len(before.probabilities), after.differences["ece"]
    change = f"ECE from {before.estimates['ece'].value:.4f} to {after.estimates['ece'].value:.4f}, {_interval(told)}"
    headline = {
        "better": f"The Bayesian ensemble is better calibrated: {change}.",
        "worse": f"The Bayesian ensemble is worse calibrated: {change}.",
        "cannot tell": f"These {rows:,} texts cannot tell whether the Bayesian ensemble is better calibrated: {change}"
        f"{_needed(told)}.",
    }[told.verdict]
    lines = []
    null = before.null_ece
    if before.estimates["ece"].value <= null.high:
        lines.append(
            f"The frequentist ECE is no more than chance gives a perfectly calibrated model on {rows:,} texts (up to "
            f"{null.high:.4f}): there may be nothing to mend."
        )
    for key in ("nll", "brier", "error_auroc"):
        lines.append(_sentence(key, before, after))
    lines.append(_accuracy(before, after))
    cold, both = comparison.arm("frequentist_temperature"), comparison.arm("bayesian_temperature")
    beyond = comparison.beyond_temperature["nll"]
    lines.append(
        f"The rival, a temperature of {cold.temperature:.2f} without any sampling, reaches an ECE of "
        f"{cold.estimates['ece'].value:.4f} and an NLL of {cold.estimates['nll'].value:.4f}; the ensemble with a "
        f"temperature of its own {both.estimates['ece'].value:.4f} and {both.estimates['nll'].value:.4f}. What "
        f"sampling does to the NLL on top of the temperature: {_told(beyond)}."
    )
    if comparison.out_of_scope:
        lines.append(_out_of_scope(comparison))
    return Verdict(told.verdict, headline, lines)


def advice(comparison: Comparison, labels: list[int]) -> list[str]:
    """What to do, one sentence each."""
    best = min(comparison.arms, key=lambda arm: arm.estimates["nll"].value)
    lines = [
        f"Lowest NLL: {_plain(best.name)} ({best.estimates['nll'].value:.4f}; the verdicts say whether that may be "
        f"chance). {_HOW[best.name]}"
    ]
    sweep = comparison.sweep
    if sweep.recommended is None:
        lines.append(f"Up to {sweep.sizes[-1]} samples the measures still move: use more than that.")
    else:
        lines.append(
            f"{sweep.recommended} samples are enough: from there on the scores are within 0.02 of their limit (root "
            f"mean square over the texts), and the NLL is within 2 % of that of {sweep.pool} samples."
        )
    p = comparison.arm("bayesian").probabilities
    correct = p.argmax(1) == np.asarray(labels)
    found = [(target, threshold_for(p.max(1), correct, target)) for target in TARGETS]
    for target, threshold in found:
        if threshold is not None:
            least = math.ceil(threshold.threshold * 1e6) / 1e6  # never below what was tested
            lines.append(
                f"classifier(texts, threshold={least:g}), without calibrate, keeps the error among accepted texts "
                f"below {target:.0%} (with {threshold.confidence:.0%} confidence, for texts such as these); here it "
                f"accepts {threshold.accepted / threshold.rows:.0%} of them."
            )
    missed = [f"{target:.0%}" for target, threshold in found if threshold is None]
    if missed:
        lines.append(
            f"No threshold can be promised to keep the error among accepted texts below {' or '.join(missed)} on the "
            f"evidence of {len(p):,} texts."
        )
    return lines


def _sentence(key: str, before: Arm, after: Arm) -> str:
    values = f"from {before.estimates[key].value:.4f} to {after.estimates[key].value:.4f}"
    if np.isnan(after.differences[key].value):
        return f"{_TITLES[key]}: not defined here."
    return f"{_TITLES[key]} {values}: {_told(after.differences[key])}."


def _accuracy(before: Arm, after: Arm) -> str:
    told = after.differences["accuracy"]
    values = f"from {before.estimates['accuracy'].value:.4f} to {after.estimates['accuracy'].value:.4f}"
    if told.verdict == "worse":
        return f"Warning: MC-Dropout costs accuracy here: {values}, {_interval(told)}."
    return f"Accuracy {values}: {_told(told)}."


def _out_of_scope(comparison: Comparison) -> str:
    # The same score of both, chosen before the data: the best of several would flatter the arm that has more of them.
    before, after = (one for one in comparison.out_of_scope if one.score == ENTROPY)
    area, rate = after.differences["auroc"], after.differences["false_positive_rate"]
    return (
        f"Finding {len(before.outside):,} texts out of scope by predictive entropy: AUROC from "
        f"{before.auroc.value:.4f} to {after.auroc.value:.4f}: {_told(area)}. Where 95 % of them are found, the share "
        f"of texts in scope that are flagged too goes from {before.false_positive_rate.value:.4f} to "
        f"{after.false_positive_rate.value:.4f}: {_told(rate)}."
    )


def _told(told: Difference) -> str:
    if told.verdict != "cannot tell":
        return f"{told.verdict}, {_interval(told)}"
    return f"this data cannot tell, {_interval(told)}{_needed(told)}"


def _interval(told: Difference) -> str:
    return f"difference {told.value:+.4f} (95 % interval {told.low:+.4f} to {told.high:+.4f})"


def _needed(told: Difference) -> str:
    return (
        "" if told.rows_needed is None else f"; about {rounded(told.rows_needed):,} texts could, if that is the truth"
    )


def rounded(number: int) -> int:
    """To two digits: no more of a number of texts is known."""
    step: int = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // step) * step


def _plain(name: str) -> str:
    return name.replace("_temperature", " + temperature").replace("baal", "BaaL").replace("bayesian", "Bayesian")


_HOW = {
    "frequentist": "The ordinary pipeline will do.",
    "frequentist_temperature": "One number does it: divide the logits by the temperature before the softmax.",
    "baal": "It misses dropout sites and is not reproducible: prefer the Bayesian arm.",
    "bayesian": 'Use pipeline("bayesian-text-classification") as it is.',
    "bayesian_temperature": "Use the pipeline, and classifier.calibrate(texts, labels) once.",
}
