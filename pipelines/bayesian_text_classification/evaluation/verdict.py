"""A comparison in words: what to do, and how the models differ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..selection.thresholds import lower_bound, of_groups, rows_for, threshold_for
from .arms import TITLES, Arm, ArmName
from .comparison import MATTERS, Comparison
from .out_of_scope import ENTROPY, LEAST_OUTSIDE
from .sample_sweep import Sweep
from .statistics.intervals import LEAST_ROWS, Difference
from .statistics.measures import MEASURES

CONFIDENCE = 0.9
TARGETS = (0.05, 0.02, 0.01)  # error rates among accepted texts for which a threshold is searched
_SHARES = (0.2, 0.5, 0.8)  # of the texts, most confident first, whose error rates show what is reachable
_ALWAYS = ("ece", "nll", "brier", "error_auroc", "accuracy")  # measures that have a sentence of their own
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
        outcome: "change" if something other than the classifier as it is is recommended, "keep" if it is, and
            "unknown" if there is too little data.
        headline: The recommendation, its effect and its cost.
        lines: How the models differ, one line for each point.
        advice: What to do, one line for each point. The first carries out the recommendation.
    """

    outcome: Literal["change", "keep", "unknown"]
    headline: str
    lines: list[str]
    advice: list[str]


def verdict(comparison: Comparison, targets: Sequence[float] = TARGETS) -> Verdict:
    """What to do, and how the Bayesian arm (or without samples, the temperature) differs from the ordinary model.

    `targets` are the error rates among accepted texts for which thresholds are searched.
    """
    before, after, best = comparison.arm("frequentist"), comparison.rival, comparison.arm(comparison.recommended)
    rows = len(comparison.labels)
    lines = [_calibration(comparison), _sentence("ece", before, after)]
    if comparison.distinct < rows:
        lines.append(
            f"{_texts(comparison.distinct, 'distinct')} among {rows:,}. Copies say nothing new, so intervals, "
            "verdicts, thresholds and temperatures count each text once."
        )
    if comparison.distinct < LEAST_ROWS:
        lines.append(f"No difference is called significant on fewer than {LEAST_ROWS} texts.")
    lines += _already_calibrated(comparison)
    for key in ("nll", "brier", "error_auroc"):
        lines.append(_sentence(key, before, after))
    lines.append(_accuracy(before, after))
    lines += _losses(before, after, [key for key in _MEASURES if key not in _ALWAYS])
    if best.name not in (before.name, after.name):
        lines += _losses(before, best, list(_MEASURES))
    lines.append(_temperatures(comparison))
    lines += comparison.notes
    if any(arm.name == "saved" for arm in comparison.arms):
        saved = comparison.arm("saved")
        lines += [f"As saved, {_sentence(key, before, saved)}" for key in ("ece", "nll")]
    if comparison.out_of_scope:
        lines.append(_out_of_scope(comparison))
    return Verdict(_outcome(comparison), _headline(comparison), lines, advice(comparison, targets))


def advice(comparison: Comparison, targets: Sequence[float] = TARGETS) -> list[str]:
    """What to do, one line for each point. The first carries out the recommendation."""
    best, passes = comparison.arm(comparison.recommended), comparison.rival.cost.passes
    lines = [
        _how(best.name, passes, best.temperature)
        if comparison.conclusive
        else f"Evaluate again on more texts drawn the same way, until each model has {LEAST_ROWS} wrong answers."
    ]
    if comparison.sweep is not None and comparison.sweep.texts >= LEAST_ROWS:  # a few texts say little about others
        lines.append(_enough_samples(comparison.sweep))
    p = best.probabilities
    scores, correct = p.max(1), p.argmax(1) == comparison.labels
    found = [
        (target, threshold_for(scores, correct, target, confidence=CONFIDENCE, groups=comparison.groups))
        for target in targets
    ]
    for target, threshold in found:
        if threshold is not None:
            least = threshold.threshold
            if (up := math.ceil(least * 1e6) / 1e6) < 1:  # shorter, and never below the threshold that was tested
                least = up
            lines.append(
                f"{_accepting(best.name, passes, least)} keeps the error among accepted texts below "
                f"{_percent(target)}, with {CONFIDENCE:.0%} confidence for texts like these. Here it accepts "
                f"{threshold.accepted / threshold.rows:.0%} of the texts."
            )
    missed = [target for target, threshold in found if threshold is None]
    if missed:
        lines.append(
            f"On {_texts(len(p))}, no threshold was found that keeps the error among accepted texts below "
            f"{_listed([_percent(target) for target in missed], 'or')} with {CONFIDENCE:.0%} confidence. "
            f"{_reachable(scores, correct, missed, comparison.groups)}"
        )
    return lines


def _headline(comparison: Comparison) -> str:
    before, best = comparison.arm("frequentist"), comparison.arm(comparison.recommended)
    if not comparison.conclusive:
        return (
            f"No recommendation on {_texts(len(comparison.labels))}: it takes at least {LEAST_ROWS} right and "
            f"{LEAST_ROWS} wrong answers from each model, and there are fewer."
        )
    nll, ece = ((before.estimates[key].value, best.estimates[key].value) for key in ("nll", "ece"))
    new = "new " if best.name == "saved" else ""
    others = f"A {new}temperature does not improve"
    if comparison.sampled:
        others = f"Neither a {new}temperature nor sampling improves"
    if best.name == "saved":
        return (
            f"Recommended: the classifier as it was saved (NLL {nll[1]:.4f}, ECE {ece[1]:.4f}; the ordinary model has "
            f"{nll[0]:.4f} and {ece[0]:.4f}). {others} its NLL significantly and by at least {MATTERS:.0%}."
        )
    if best.name == before.name:
        return (
            f"Recommended: the ordinary model as it is (NLL {nll[0]:.4f}, ECE {ece[0]:.4f}). {others} its NLL "
            f"significantly and by at least {MATTERS:.0%}."
        )
    passes = best.cost.passes
    cost = f"for {passes} passes per text instead of 1" if passes > 1 else "without more passes"
    return (
        f"Recommended: {_IN_SENTENCE[best.name]}. The NLL goes from {nll[0]:.4f} to {nll[1]:.4f} and the ECE from "
        f"{ece[0]:.4f} to {ece[1]:.4f}, {cost}."
    )


def _outcome(comparison: Comparison) -> Literal["change", "keep", "unknown"]:
    if not comparison.conclusive:
        return "unknown"
    return "keep" if comparison.recommended in ("frequentist", "saved") else "change"


def _calibration(comparison: Comparison) -> str:
    """The verdict on the ECE in words."""
    before, after = comparison.arm("frequentist"), comparison.rival
    subject = "The Bayesian model is" if comparison.sampled else "With a temperature, the model is"
    off = (
        f"On average its confidence is off by {100 * after.estimates['ece'].value:.1f} percentage points, compared "
        f"with {100 * before.estimates['ece'].value:.1f} for the ordinary model."
    )
    difference = after.differences["ece"].verdict
    if difference == "cannot tell":
        return f"On {_texts(len(comparison.labels))}, {_lowered(subject)} not significantly better calibrated. {off}"
    return f"{subject} significantly {difference} calibrated. {off}"


def _lowered(sentence: str) -> str:
    return sentence[0].lower() + sentence[1:]


def _already_calibrated(comparison: Comparison) -> list[str]:
    """A line about models whose ECE may be noise; none if there are none."""
    arms = [comparison.arm("frequentist")] + ([comparison.rival] if comparison.sampled else [])
    calibrated = [arm for arm in arms if arm.estimates["ece"].value <= arm.null_ece.high]
    if not calibrated:
        return []
    which = " and ".join(f"{arm.estimates['ece'].value:.4f} (up to {arm.null_ece.high:.4f})" for arm in calibrated)
    both = len(calibrated) == 2
    ece = "Both ECEs are" if both else f"The {_IN_SENTENCE[calibrated[0].name]} ECE is"
    return [
        f"{ece} in the range that sampling noise gives a perfectly calibrated model on "
        f"{_texts(len(comparison.labels))}: {which}. {'Both models' if both else 'That model'} may already be "
        "calibrated."
    ]


def _losses(before: Arm, after: Arm, keys: Sequence[str]) -> list[str]:
    """A line for each of these measures in which an arm is significantly worse."""
    return [
        f"Warning for {_IN_SENTENCE[after.name]}: {_sentence(key, before, after)}"
        for key in keys
        if after.differences[key].verdict == "worse"
    ]


def _temperatures(comparison: Comparison) -> str:
    cold = comparison.arm("frequentist_temperature")
    line = (
        f"A temperature of {cold.temperature:.2f} without sampling reaches an ECE of {cold.estimates['ece'].value:.4f} "
        f"and an NLL of {cold.estimates['nll'].value:.4f}."
    )
    if not comparison.sampled:
        return f"{line} {_fitted(comparison)} Nothing was sampled: {_NO_SAMPLES}"
    warm = comparison.arm("bayesian_temperature")
    return (
        f"{line} Sampling with its own temperature reaches {warm.estimates['ece'].value:.4f} and "
        f"{warm.estimates['nll'].value:.4f}. Effect of sampling on the NLL when both have a temperature: "
        f"{_significance(comparison.beyond_temperature['nll'])}. {_fitted(comparison)}"
    )


def _reachable(
    scores: NDArray[np.floating],
    correct: NDArray[np.bool_],
    targets: Sequence[float],
    groups: NDArray[np.intp] | None,
) -> str:
    """Error rates among the most confident texts, and how many texts a threshold would need at least."""
    if groups is not None:
        scores, correct = of_groups(scores, correct, groups)
    order = np.argsort(-scores, kind="stable")
    accepted = {share: max(round(share * len(order)), 1) for share in _SHARES}
    wrong = {share: int((~correct[order[:rows]]).sum()) for share, rows in accepted.items()}
    errors = {share: wrong[share] / accepted[share] for share in _SHARES}
    line = (
        f"Among the most confident {_listed([f'{share:.0%}' for share in errors])} of the texts, "
        f"{_listed([f'{error:.1%}' for error in errors.values()])} of the answers are wrong."
    )
    hopeless = []
    for target in targets:
        share = max((share for share, error in errors.items() if error < target), default=None)
        if share is not None:
            needed = rounded(math.ceil(rows_for(errors[share], target, CONFIDENCE) / share))
            number = f"at least about {needed:,}" if needed > len(scores) else "more"
            line += f" At these rates, {_percent(target)} would take {number} texts."
        elif all(lower_bound(wrong[share], accepted[share], CONFIDENCE) > target for share in _SHARES):
            hopeless.append(_percent(target))
    return line + (f" More texts would hardly help to get below {_listed(hopeless, 'or')}." if hopeless else "")


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _listed(words: Sequence[str], last: str = "and") -> str:
    """Words as in a sentence."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


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
    difference = after.differences[key]
    small = key == "nll" and abs(difference.value) < MATTERS * before.estimates[key].value
    remark = ", but too small to matter" if small and difference.verdict != "cannot tell" else ""
    return f"{_MEASURES[key]}: {values}, {_significance(difference)}{remark}."


def _accuracy(before: Arm, after: Arm) -> str:
    difference = after.differences["accuracy"]
    values = f"from {before.estimates['accuracy'].value:.4f} to {after.estimates['accuracy'].value:.4f}"
    if difference.verdict == "worse":
        return f"Warning: sampling costs accuracy here: {values}, {_significance(difference)}."
    return f"Accuracy: {values}, {_significance(difference, least=f'{LEAST_ROWS} texts')}."


def _fitted(comparison: Comparison) -> str:
    which = "The temperatures were" if comparison.sampled else "The temperature was"
    if comparison.calibrated_on is None:
        if not comparison.determined:
            return _UNDETERMINED.format(which="these labels")
        return f"{which} fitted on these texts, and the measures are corrected for that."
    others = _texts(comparison.calibrated_on, "" if comparison.shared_texts else "other")
    line = f"{which} fitted on {others}."
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
    before, *others = (one for one in comparison.out_of_scope if one.score == ENTROPY)
    if not others:
        return (
            f"Detecting {len(before.outside):,} out-of-scope texts by predictive entropy: AUROC "
            f"{before.auroc.value:.4f}. At 95% recall, {before.false_positive_rate.value:.1%} of the in-scope texts "
            "are flagged by mistake."
        )
    (after,) = others
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
    if name == "saved":
        return "Use the classifier as it is: classifier(texts)."
    call = f"classifier(texts, num_samples={passes if 'bayesian' in name else 0})"
    if temperature is None:
        return f"Use {call}."
    return (
        f"Call {call.replace('(texts', '.calibrate(texts, labels')}, which finds a temperature of {temperature:.6g} on "
        f"these texts, and then {call}."
    )


def _accepting(name: ArmName, passes: int, least: float) -> str:
    samples = "" if name == "saved" else f", num_samples={passes if 'bayesian' in name else 0}"
    tempered = " at that temperature" if "temperature" in name else ""
    return f"classifier(texts{samples}, threshold={least!r}){tempered}"


def _texts(number: int, adjective: str = "") -> str:
    return f"{number:,} {adjective}{' ' * bool(adjective)}{'text' if number == 1 else 'texts'}"


def rounded(number: int) -> int:
    """A number of texts rounded up to two digits: more are not known."""
    step: int = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // step) * step


_NO_SAMPLES = (
    "the model has no active dropout, or num_samples is 0. To sample, fine-tune it with dropout (for example "
    "attention_dropout=0.1 in its config), or keep LoRA adapters unmerged."
)
_UNDETERMINED = (
    "Warning: {which} do not determine a temperature (every answer is right, or the correct class gets no more "
    "probability than the others). Only the prior keeps it away from 0 and infinity."
)
