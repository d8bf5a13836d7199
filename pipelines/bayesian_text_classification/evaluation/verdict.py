"""A comparison in words: is the ensemble more trustworthy, by how much, and what to do."""

import math
from dataclasses import dataclass

from ..selection.thresholds import threshold_for
from . import intervals
from .arms import TITLES, Arm
from .comparison import MORE_EXPENSIVE, Comparison
from .intervals import LEAST_ROWS, Difference
from .measures import MEASURES
from .out_of_scope import ENTROPY

CONFIDENCE = 0.9
TARGETS = (0.05, 0.02, 0.01)  # error rates among accepted texts that a threshold is looked for
_BOTH, _EITHER = "texts of both kinds together", "texts of either kind"
_PLAIN = {name: title[0].lower() + title[1:] if title.startswith("F") else title for name, title in TITLES.items()}
_TITLES = {measure.key: measure.title for measure in MEASURES}


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes:
        outcome: of the ECE of the Bayesian arm.
        headline: one sentence.
        lines: what else must be known, a sentence each.
        advice: what to do, a sentence each.
    """

    outcome: intervals.Verdict
    headline: str
    lines: list[str]
    advice: list[str]


def verdict(comparison: Comparison) -> Verdict:
    """Of the Bayesian arm against the frequentist one, and of both with temperatures."""
    before, after = comparison.arm("frequentist"), comparison.arm("bayesian")
    rows, told = len(comparison.labels), after.differences["ece"]
    off = (
        f"its confidence is off by {100 * after.estimates['ece'].value:.1f} percentage points on average, that of the "
        f"ordinary model by {100 * before.estimates['ece'].value:.1f}"
    )
    headline = {
        "better": f"The Bayesian ensemble is better calibrated: {off}.",
        "worse": f"The Bayesian ensemble is worse calibrated: {off}.",
        "cannot tell": f"{_these(rows)} cannot tell whether the Bayesian ensemble is better calibrated: {off}.",
    }[told.verdict]
    lines = [_sentence("ece", before, after)]
    if rows < LEAST_ROWS:
        lines.append(f"Fewer than {LEAST_ROWS} texts tell nothing of this kind.")
    innocent = [arm for arm in (before, after) if arm.estimates["ece"].value <= arm.null_ece.high]
    if innocent:
        which = " and ".join(f"{arm.estimates['ece'].value:.4f} (up to {arm.null_ece.high:.4f})" for arm in innocent)
        names = "Both ECEs are" if len(innocent) == 2 else f"The {_PLAIN[innocent[0].name]} ECE is"
        lines.append(
            f"{names} no more than chance gives a perfectly calibrated model on {_texts(rows)}: {which}. There may be "
            "nothing to mend."
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
        f"sampling does to the NLL on top of the temperature: {_told(beyond)}. {_fitted(comparison)}"
    )
    if comparison.out_of_scope:
        lines.append(_out_of_scope(comparison))
    return Verdict(told.verdict, headline, lines, advice(comparison))


def advice(comparison: Comparison) -> list[str]:
    """What to do, one sentence each."""
    best = comparison.arm(comparison.recommended)
    passes = comparison.arm("bayesian").cost.passes
    if best.name == "frequentist" and not all(
        comparison.arm(name).differences["nll"].enough for name in MORE_EXPENSIVE
    ):
        first = (
            f"Nothing is recommended: that takes {LEAST_ROWS} right and {LEAST_ROWS} wrong answers of each model, and "
            "there are fewer."
        )
    else:
        first = (
            f"Recommended: {_PLAIN[best.name]}, with an NLL of {best.estimates['nll'].value:.4f}; nothing dearer is "
            f"told to be better. {_HOW[best.name].format(passes=passes, temperature=best.temperature)}"
        )
    lines = [first]
    if comparison.saved_temperature != 1:
        lines.append(
            f"The model was saved with a temperature of {comparison.saved_temperature:.2f}, which none of these "
            "numbers has: set classifier.temperature = 1, or calibrate anew, before you rely on them."
        )
    sweep = comparison.sweep
    if sweep is not None and sweep.recommended is None:
        lines.append(f"Up to {sweep.sizes[-1]} samples the scores or the NLL still move: whoever samples needs more.")
    elif sweep is not None:
        lines.append(
            f"{sweep.recommended} samples are enough: from there on the scores are within 0.02 of their limit (root "
            f"mean square over the texts), and the NLL is within 2 % of that of {sweep.pool} samples."
        )
    p = best.deployed  # at the temperature of all rows; those of single rows would tell their labels
    correct = p.argmax(1) == comparison.labels
    found = [(target, threshold_for(p.max(1), correct, target, confidence=CONFIDENCE)) for target in TARGETS]
    for target, threshold in found:
        if threshold is not None:
            least = threshold.threshold
            if (up := math.ceil(least * 1e6) / 1e6) < 1:  # shorter, and never below what was tested
                least = up
            accept = _ACCEPT[best.name].format(passes=passes, least=repr(least))
            lines.append(
                f"{accept} keeps the error among accepted texts below {target:.0%} (with {CONFIDENCE:.0%} confidence, "
                f"for texts such as these); here it accepts {threshold.accepted / threshold.rows:.0%} of them."
            )
    missed = [f"{target:.0%}" for target, threshold in found if threshold is None]
    if missed:
        several = ", ".join(missed[:-1]) + " or " * (len(missed) > 1) + missed[-1]
        lines.append(
            f"No threshold was found that keeps the error among accepted texts below {several} (with {CONFIDENCE:.0%} "
            f"confidence), on the evidence of {_texts(len(p))}."
        )
    return lines


def _sentence(key: str, before: Arm, after: Arm) -> str:
    values = f"from {before.estimates[key].value:.4f} to {after.estimates[key].value:.4f}"
    if math.isnan(after.differences[key].value):
        return f"{_TITLES[key]}: not defined here."
    return f"{_TITLES[key]} {values}: {_told(after.differences[key])}."


def _fitted(comparison: Comparison) -> str:
    if comparison.calibrated_on is None:
        if not comparison.determined:
            return _UNDETERMINED.format(which="these labels")
        return "Each text has the temperature that all the others give."
    others = _texts(comparison.calibrated_on, "" if comparison.shared_texts else "other")
    line = f"The temperatures were fitted on {others}."
    if not comparison.determined:
        line += " " + _UNDETERMINED.format(which="their labels")
    if comparison.shared_texts:
        line += (
            f" Warning: {comparison.shared_texts:,} of the texts measured here are among those, which flatters the "
            "arms with a temperature."
        )
    return line


def _accuracy(before: Arm, after: Arm) -> str:
    told = after.differences["accuracy"]
    values = f"from {before.estimates['accuracy'].value:.4f} to {after.estimates['accuracy'].value:.4f}"
    if told.verdict == "worse":
        return f"Warning: MC-Dropout costs accuracy here: {values}, {_interval(told)}."
    return f"Accuracy {values}: {_told(told, few='texts')}."


def _out_of_scope(comparison: Comparison) -> str:
    # The same score of both, chosen before the data: the best of several would flatter the arm that has more of them.
    before, after = (one for one in comparison.out_of_scope if one.score == ENTROPY)
    area, rate = after.differences["auroc"], after.differences["false_positive_rate"]
    return (
        f"Finding {len(before.outside):,} texts out of scope by predictive entropy: AUROC from "
        f"{before.auroc.value:.4f} to {after.auroc.value:.4f}: {_told(area, _BOTH, _EITHER)}. Where 95 % of them are "
        f"found, the share of texts in scope that are flagged too goes from {before.false_positive_rate.value:.4f} to "
        f"{after.false_positive_rate.value:.4f}: {_told(rate, _BOTH, _EITHER)}."
    )


def _told(told: Difference, what: str = "texts", few: str = "right or wrong answers") -> str:
    """The verdict with its interval; `what` could tell, `few` are those that it needs 20 of."""
    if told.verdict != "cannot tell":
        return f"{told.verdict}, {_interval(told)}"
    reason = "" if told.enough else f", with fewer than {LEAST_ROWS} {few}"
    return f"this data cannot tell{reason}, {_interval(told)}{_needed(told, what)}"


def _interval(told: Difference) -> str:
    if math.isnan(told.low):
        return f"difference {told.value:+.4f} (too few for an interval)"
    return f"difference {told.value:+.4f} (95 % interval {told.low:+.4f} to {told.high:+.4f})"


def _needed(told: Difference, what: str = "texts") -> str:
    if told.rows_needed is None:
        return ""
    return f"; about {rounded(told.rows_needed):,} {what} could, if that is the truth"


def _texts(number: int, kind: str = "") -> str:
    return f"{number:,} {kind}{' ' * bool(kind)}{'text' if number == 1 else 'texts'}"


def _these(number: int) -> str:
    return f"{'This' if number == 1 else 'These'} {_texts(number)}"


def rounded(number: int) -> int:
    """To two digits: no more of a number of texts is known."""
    step: int = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // step) * step


_UNDETERMINED = (
    "Warning: {which} alone have no best temperature (every answer is right, or the model gives them no more than "
    "other classes): what keeps temperatures from 0 and infinity chose it."
)
_HOW = {
    "frequentist": "The ordinary pipeline will do.",
    "frequentist_temperature": "One number does it: divide the logits by {temperature:.3f} before the softmax.",
    "bayesian": 'Use pipeline("bayesian-text-classification", num_samples={passes}) as it is.',
    "bayesian_temperature": 'Use pipeline("bayesian-text-classification", num_samples={passes}) with '
    "classifier.temperature = {temperature:.6g}, which classifier.calibrate(texts, labels) gives on these texts.",
}
_ACCEPT = {
    "frequentist": "To accept the ordinary model's answers whose score is at least {least}",
    "frequentist_temperature": "To accept the ordinary model's answers whose score at that temperature is at least "
    "{least}",
    "bayesian": "classifier(texts, num_samples={passes}, threshold={least})",
    "bayesian_temperature": "classifier(texts, num_samples={passes}, threshold={least}), at that temperature,",
}
