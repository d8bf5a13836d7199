"""A comparison in words: is the Bayesian model better calibrated, by how much, and what to do."""

import math
from dataclasses import dataclass

from ..selection.thresholds import threshold_for
from .arms import TITLES, Arm, ArmName
from .comparison import MORE_EXPENSIVE, Comparison
from .intervals import LEAST_ROWS, Difference, Outcome
from .measures import MEASURES
from .out_of_scope import ENTROPY, LEAST_OUTSIDE
from .sample_sweep import Sweep

CONFIDENCE = 0.9
TARGETS = (0.05, 0.02, 0.01)  # error rates among accepted texts for which a threshold is searched
_IN_SENTENCE = {name: title.replace("Frequentist", "frequentist") for name, title in TITLES.items()}
_MEASURES = {measure.key: measure.title for measure in MEASURES}
# What a verdict needs.
_ANSWERS = f"{LEAST_ROWS} right and {LEAST_ROWS} wrong answers"
_BOTH_SCOPES = f"{LEAST_ROWS} in-scope and {LEAST_ROWS} out-of-scope texts"
_AT_RECALL = f"{LEAST_ROWS} in-scope and {LEAST_OUTSIDE} out-of-scope texts"
# Why a difference has no interval.
_FEW_ANSWERS = "too few right or wrong answers for an interval"
_FEW_OUTSIDE = f"an interval needs at least {LEAST_OUTSIDE} out-of-scope texts"


@dataclass(frozen=True)
class Verdict:
    """The answer.

    Attributes:
        outcome: How the ECE of the Bayesian arm compares with that of the frequentist arm.
        headline: One or two sentences.
        lines: What else to know, one line for each point.
        advice: What to do, one line for each point. The first is the recommendation.
    """

    outcome: Outcome
    headline: str
    lines: list[str]
    advice: list[str]


def verdict(comparison: Comparison) -> Verdict:
    """The Bayesian arm against the frequentist one, and both with a temperature."""
    before, after = comparison.arm("frequentist"), comparison.arm("bayesian")
    rows, difference = len(comparison.labels), after.differences["ece"]
    off = (
        f"On average its confidence is off by {100 * after.estimates['ece'].value:.1f} percentage points, compared "
        f"with {100 * before.estimates['ece'].value:.1f} for the ordinary model."
    )
    headline = {
        "better": f"The Bayesian model is significantly better calibrated. {off}",
        "worse": f"The Bayesian model is significantly worse calibrated. {off}",
        "cannot tell": f"On {_texts(rows)}, the Bayesian model's calibration is not significantly different. {off}",
    }[difference.verdict]
    lines = [_sentence("ece", before, after)]
    if comparison.distinct < rows:
        lines.append(
            f"{_texts(comparison.distinct, 'distinct')} among {rows:,}. Copies say nothing new, so intervals, "
            "verdicts, thresholds and temperatures count each text once."
        )
    if comparison.distinct < LEAST_ROWS:
        lines.append(f"No difference is called significant on fewer than {LEAST_ROWS} texts.")
    calibrated = [arm for arm in (before, after) if arm.estimates["ece"].value <= arm.null_ece.high]
    if calibrated:
        which = " and ".join(f"{arm.estimates['ece'].value:.4f} (up to {arm.null_ece.high:.4f})" for arm in calibrated)
        both = len(calibrated) == 2
        ece = "Both ECEs are" if both else f"The {_IN_SENTENCE[calibrated[0].name]} ECE is"
        models = "Both models" if both else "That model"
        lines.append(
            f"{ece} in the range that sampling noise gives a perfectly calibrated model on {_texts(rows)}: {which}. "
            f"{models} may already be calibrated."
        )
    for key in ("nll", "brier", "error_auroc"):
        lines.append(_sentence(key, before, after))
    lines.append(_accuracy(before, after))
    cold, warm = comparison.arm("frequentist_temperature"), comparison.arm("bayesian_temperature")
    lines.append(
        f"A temperature of {cold.temperature:.2f} without sampling reaches an ECE of {cold.estimates['ece'].value:.4f} "
        f"and an NLL of {cold.estimates['nll'].value:.4f}. Sampling with its own temperature reaches "
        f"{warm.estimates['ece'].value:.4f} and {warm.estimates['nll'].value:.4f}. Effect of sampling on the NLL when "
        f"both have a temperature: {_significance(comparison.beyond_temperature['nll'])}. {_fitted(comparison)}"
    )
    if comparison.out_of_scope:
        lines.append(_out_of_scope(comparison))
    return Verdict(difference.verdict, headline, lines, advice(comparison))


def advice(comparison: Comparison) -> list[str]:
    """What to do, one line for each point. The first is the recommendation."""
    best = comparison.arm(comparison.recommended)
    passes = comparison.arm("bayesian").cost.passes
    if best.name == "frequentist" and not all(
        comparison.arm(name).differences["nll"].enough for name in MORE_EXPENSIVE
    ):
        first = (
            f"No recommendation: it takes at least {LEAST_ROWS} right and {LEAST_ROWS} wrong answers from each model, "
            "and there are fewer."
        )
    else:
        first = (
            f"Recommended: {_IN_SENTENCE[best.name]} (NLL {best.estimates['nll'].value:.4f}). No more expensive option "
            f"is significantly better. {_how(best.name, passes, best.temperature)}"
        )
    lines = [first]
    if comparison.saved_temperature != 1:
        lines.append(
            f"The model was saved with a temperature of {comparison.saved_temperature:.2f}, and none of these numbers "
            "use it. Set classifier.temperature = 1, or calibrate again, before you rely on them."
        )
    if comparison.sweep is not None and comparison.sweep.texts >= LEAST_ROWS:  # a few texts say little about others
        lines.append(_enough_samples(comparison.sweep))
    p = best.probabilities
    correct = p.argmax(1) == comparison.labels
    found = [
        (target, threshold_for(p.max(1), correct, target, confidence=CONFIDENCE, groups=comparison.groups))
        for target in TARGETS
    ]
    for target, threshold in found:
        if threshold is not None:
            least = threshold.threshold
            if (up := math.ceil(least * 1e6) / 1e6) < 1:  # shorter, and never below the threshold that was tested
                least = up
            lines.append(
                f"{_accepting(best.name, passes, least)} keeps the error among accepted texts below {target:.0%}, with "
                f"{CONFIDENCE:.0%} confidence for texts like these. Here it accepts "
                f"{threshold.accepted / threshold.rows:.0%} of the texts."
            )
    missed = [f"{target:.0%}" for target, threshold in found if threshold is None]
    if missed:
        several = ", ".join(missed[:-1]) + " or " * (len(missed) > 1) + missed[-1]
        lines.append(
            f"On {_texts(len(p))}, no threshold was found that keeps the error among accepted texts below {several} "
            f"with {CONFIDENCE:.0%} confidence."
        )
    return lines


def _enough_samples(sweep: Sweep) -> str:
    if sweep.recommended is None:
        return f"The scores or the NLL still change at {sweep.sizes[-1]} samples. If you sample, use more."
    return (
        f"{sweep.recommended} samples are enough. From there on, scores stay within 0.02 of their limit (root mean "
        f"square over the texts), and the NLL within 2% of its value at {sweep.pool} samples."
    )


def _sentence(key: str, before: Arm, after: Arm) -> str:
    if math.isnan(after.differences[key].value):
        return f"{_MEASURES[key]}: not defined here."
    values = f"from {before.estimates[key].value:.4f} to {after.estimates[key].value:.4f}"
    return f"{_MEASURES[key]}: {values}, {_significance(after.differences[key])}."


def _accuracy(before: Arm, after: Arm) -> str:
    difference = after.differences["accuracy"]
    values = f"from {before.estimates['accuracy'].value:.4f} to {after.estimates['accuracy'].value:.4f}"
    if difference.verdict == "worse":
        return f"Warning: sampling costs accuracy here: {values}, {_significance(difference)}."
    return f"Accuracy: {values}, {_significance(difference, least=f'{LEAST_ROWS} texts')}."


def _fitted(comparison: Comparison) -> str:
    if comparison.calibrated_on is None:
        if not comparison.determined:
            return _UNDETERMINED.format(which="these labels")
        return "The temperatures were fitted on these texts, and the measures are corrected for that."
    others = _texts(comparison.calibrated_on, "" if comparison.shared_texts else "other")
    line = f"The temperatures were fitted on {others}."
    if not comparison.determined:
        line += " " + _UNDETERMINED.format(which="their labels")
    if comparison.shared_texts:
        line += (
            f" Warning: {comparison.shared_texts:,} of the texts measured here are among them, which makes the arms "
            "with a temperature look better than they are."
        )
    return line


def _out_of_scope(comparison: Comparison) -> str:
    # The same score for both, chosen before looking at the data: picking the best of several would favor one arm.
    before, after = (one for one in comparison.out_of_scope if one.score == ENTROPY)
    auroc, rate = (
        _significance(after.differences[key], "texts in all", least, _FEW_OUTSIDE)
        for key, least in (("auroc", _BOTH_SCOPES), ("false_positive_rate", _AT_RECALL))
    )
    return (
        f"Detecting {len(before.outside):,} out-of-scope texts by predictive entropy: AUROC from "
        f"{before.auroc.value:.4f} to {after.auroc.value:.4f}, {auroc}. At 95% recall, the share of in-scope texts "
        f"flagged by mistake goes from {before.false_positive_rate.value:.4f} to "
        f"{after.false_positive_rate.value:.4f}, {rate}."
    )


def _significance(
    difference: Difference, what: str = "texts", least: str = _ANSWERS, no_interval: str = _FEW_ANSWERS
) -> str:
    """The verdict with its interval, or with the reason for `no_interval`.

    Also how many of `what` the difference would need, and the `least` that a verdict needs.
    """
    if math.isnan(difference.low):
        interval = f"difference {difference.value:+.4f}, {no_interval}"
    else:
        interval = f"difference {difference.value:+.4f}, 95% interval {difference.low:+.4f} to {difference.high:+.4f}"
    if difference.verdict != "cannot tell":
        return f"significantly {difference.verdict} ({interval})"
    reason = "" if difference.enough else f"; a verdict needs at least {least}"
    needed = ""
    if difference.rows_needed is not None:
        count = f"{rounded(difference.rows_needed):,} {what}"
        needed = f"; a difference this large would need about {count} to detect (80% power)"
    return f"no significant difference ({interval}{reason}{needed})"


def _how(name: ArmName, passes: int, temperature: float | None) -> str:
    if name == "frequentist":
        return "Use classifier(texts, num_samples=0)."
    if name == "frequentist_temperature":
        return (
            "Call classifier.calibrate(texts, labels, num_samples=0), which finds a temperature of "
            f"{temperature:.6g} on these texts, and then classifier(texts, num_samples=0)."
        )
    use = f'Use pipeline("bayesian-text-classification", num_samples={passes})'
    if name == "bayesian":
        return f"{use}."
    return (
        f"{use} and set classifier.temperature = {temperature:.6g}, the value that classifier.calibrate(texts, labels) "
        "finds on these texts."
    )


def _accepting(name: ArmName, passes: int, least: float) -> str:
    return {
        "frequentist": f"classifier(texts, num_samples=0, threshold={least!r})",
        "frequentist_temperature": f"classifier(texts, num_samples=0, threshold={least!r}) at that temperature",
        "bayesian": f"classifier(texts, num_samples={passes}, threshold={least!r})",
        "bayesian_temperature": f"classifier(texts, num_samples={passes}, threshold={least!r}) at that temperature",
    }[name]


def _texts(number: int, adjective: str = "") -> str:
    return f"{number:,} {adjective}{' ' * bool(adjective)}{'text' if number == 1 else 'texts'}"


def rounded(number: int) -> int:
    """A number of texts rounded up to two digits: more are not known."""
    step: int = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // step) * step


_UNDETERMINED = (
    "Warning: {which} do not determine a temperature (every answer is right, or the correct class gets no more "
    "probability than the others). Only the prior keeps it away from 0 and infinity."
)
