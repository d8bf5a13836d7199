"""A comparison in words: what to do, and how the models differ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .accepting import Limit, accepting, answers_of, called, distinct_texts, limit_of, number_of_texts
from .arms import Arm, of_student
from .comparison import Comparison
from .heads import ENTROPY, ONE_LABEL, ArmName
from .out_of_scope import LEAST_OUTSIDE, NOVELTY
from .prediction_sets import sentences
from .recommendation import MATTERS, Contest
from .sample_sweep import enough_samples
from .statistics.intervals import LEAST_ROWS, Difference
from .statistics.spiegelhalter import spiegelhalter
from .words import IN_SENTENCE, WORDS, rounded, significance

_ALWAYS = ("ece", "nll", "brier", "error_auroc", "accuracy")  # measures that have a sentence of their own
# What a verdict needs.
_BOTH_SCOPES = f"{LEAST_ROWS} in-scope and {LEAST_ROWS} out-of-scope texts"
_AT_RECALL = f"{LEAST_ROWS} in-scope and {LEAST_OUTSIDE} out-of-scope texts"
# Why a difference has no interval.
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
        limit: The threshold of the recommended arm; None if there is none.
    """

    outcome: Literal["change", "keep", "unknown"]
    headline: str
    lines: list[str]
    advice: list[str]
    limit: Limit | None = None


def verdict(comparison: Comparison, targets: Sequence[float] | None = None) -> Verdict:
    """What to do, and how the Bayesian arm (or without samples, the scaled one) differs from the ordinary model.

    `targets` are the error rates among accepted texts for which thresholds are searched; see `accepting`.
    """
    before, after, best = comparison.arm("frequentist"), comparison.rival, comparison.arm(comparison.recommended)
    keys = [measure.key for measure in comparison.head.measures]
    lines = [
        *_miscalibrated(comparison),
        *_why(comparison),
        _calibration(comparison),
        _sentence(comparison, "ece", after),
    ]
    if comparison.distinct < len(comparison.labels):
        lines.append(
            f"{distinct_texts(comparison)} among {len(comparison.labels):,}. Copies say nothing new, so intervals, "
            "verdicts and thresholds count each text once."
        )
    if comparison.distinct < LEAST_ROWS:
        lines.append(f"No difference is called significant on fewer than {LEAST_ROWS} texts.")
    lines += _already_calibrated(comparison)
    for key in ("nll", "brier", "error_auroc"):
        if key in keys:
            lines.append(_sentence(comparison, key, after))
    lines.append(_accuracy(comparison, after, "sampling" if comparison.sampled else comparison.head.scaling))
    lines += _losses(comparison, after, [key for key in keys if key not in _ALWAYS])
    if best.name not in (before.name, after.name, "student", "ensemble"):  # the last two have lines of their own
        lines += _losses(comparison, best, keys)
    lines.append(_scalings(comparison))
    lines += comparison.notes
    if comparison.with_student:
        lines += _other_model(comparison, "student", "the student") + _beside_sampling(comparison)
    if comparison.several_models:
        lines += _other_model(comparison, "ensemble", "the ensemble")
    if any(arm.name == "saved" for arm in comparison.arms):
        saved = comparison.arm("saved")
        lines += [f"As saved, {_sentence(comparison, key, saved)}" for key in ("ece", "nll")]
    lines += _out_of_scope(comparison)
    lines += [] if comparison.sets is None else sentences(comparison.sets)
    limit = limit_of(comparison, best, targets) if comparison.conclusive else None
    return Verdict(_outcome(comparison), _headline(comparison), lines, advice(comparison, targets), limit)


def advice(comparison: Comparison, targets: Sequence[float] | None = None) -> list[str]:
    """What to do, one line for each point. The first carries out the recommendation."""
    best, wrong = comparison.arm(comparison.recommended), WORDS[comparison.head].wrong
    lines = [
        _how(best, comparison)
        if comparison.conclusive
        else f"Evaluate again on more texts drawn the same way, until each model {wrong}."
    ]
    if comparison.sweep is not None and comparison.sweep.texts >= LEAST_ROWS:  # a few texts say little about others
        lines.append(enough_samples(comparison.sweep, several=comparison.labels[0].size > 1))
    return [*lines, *accepting(comparison, best, targets), *_refusing(comparison)]


def _headline(comparison: Comparison) -> str:
    before, best = comparison.arm("frequentist"), comparison.arm(comparison.recommended)
    words = WORDS[comparison.head]
    if not comparison.conclusive:
        return (
            f"No recommendation on {distinct_texts(comparison)}: it takes at least {words.answers} from "
            f"each model, and there are fewer.{_needed(comparison)}"
        )
    nll, ece = ((before.estimates[key].value, best.estimates[key].value) for key in ("nll", "ece"))
    scaling = comparison.head.scaling
    if best.name == "saved":
        scaling = f"a new {scaling[2:]}" if scaling.startswith("a ") else f"new {scaling}"
    rivals = [scaling, *["the student"] * comparison.with_student, *["sampling"] * comparison.sampled]
    rivals += ["the ensemble"] * comparison.several_models
    others = f"{scaling[0].upper()}{scaling[1:]} does not improve"
    if len(rivals) > 1:
        others = f"Neither {' nor '.join(rivals)} improves"
    if best.name == "saved":
        return (
            f"Recommended: the classifier as it was saved (NLL {nll[1]:.4f}, ECE {ece[1]:.4f}; the ordinary model has "
            f"{nll[0]:.4f} and {ece[0]:.4f}). {others} its NLL both significantly and by at least {MATTERS:.0%}."
        )
    if best.name == before.name:
        return (
            f"Recommended: the ordinary model as it is (NLL {nll[0]:.4f}, ECE {ece[0]:.4f}). {others} its NLL "
            f"both significantly and by at least {MATTERS:.0%}."
        )
    passes = best.cost.passes
    cost = f"for {passes} passes per text instead of 1" if passes > 1 else "without more passes"
    if best.name.startswith("ensemble"):
        cost += f", one of each of {passes} models"
    if of_student(best.name):
        cost = "for 1 pass per text as before, of another model"
        cost += f" (sampling takes {comparison.rival.cost.passes} passes)" * comparison.sampled
    return (
        f"Recommended: {IN_SENTENCE[best.name]}. The NLL goes from {nll[0]:.4f} to {nll[1]:.4f} and the ECE from "
        f"{ece[0]:.4f} to {ece[1]:.4f}, {cost}."
    )


def _needed(comparison: Comparison) -> str:
    """How many texts a recommendation would take; empty if that is not known."""
    if comparison.head is not ONE_LABEL:
        return ""
    groups = np.arange(len(comparison.labels)) if comparison.groups is None else comparison.groups
    right = [answers_of(comparison, arm)[1] for arm in comparison.arms if arm.name in comparison.head.candidates]
    fewest = min(len(np.unique(groups[answers])) for one in right for answers in (one, ~one))
    if not 0 < fewest < LEAST_ROWS:
        return ""
    return f" At these rates, that is about {rounded(-(-comparison.distinct * LEAST_ROWS // fewest)):,} texts."


def _outcome(comparison: Comparison) -> Literal["change", "keep", "unknown"]:
    if not comparison.conclusive:
        return "unknown"
    return "keep" if comparison.recommended in ("frequentist", "saved") else "change"


def _miscalibrated(comparison: Comparison) -> list[str]:
    """Whether the ordinary model is overconfident; no line if its ECE may be noise."""
    before, words = comparison.arm("frequentist"), WORDS[comparison.head]
    ece, noise, bins = before.estimates["ece"].value, before.null_ece.high, before.reliability
    if not ece > noise:
        return []
    filled = [i for i, count in enumerate(bins.counts) if count]
    weights = [bins.counts[i] for i in filled]
    confidence, share = (
        np.average(np.array(one, np.float64)[filled], weights=weights) for one in (bins.mean_confidence, bins.accuracy)
    )
    gap = float(confidence - share)
    high, low, means = words.directions
    what = (high if gap > 0 else low) if abs(gap) > ece / 2 else "miscalibrated in both directions"
    return [
        f"The ordinary model is {what}: {means.format(confidence, share)}. Its ECE of {ece:.4f} is above the range "
        f"that sampling noise gives a perfectly calibrated model on {distinct_texts(comparison)} (up to "
        f"{noise:.4f})."
    ]


def _why(comparison: Comparison) -> list[str]:
    """The comparisons that decided: why nothing cheaper, and why nothing more expensive."""
    found = comparison.recommendation
    sentences = []
    if comparison.conclusive and found.lost is not None:
        sentences.append(_contest(comparison, found.lost, found.lost.base, "needs no fit"))
    if comparison.conclusive and found.won is not None:
        sentences.append(_contest(comparison, found.won, found.won.rival, "has to be fitted"))
    return sentences


def _contest(comparison: Comparison, found: Contest, other: ArmName, fit: str) -> str:
    """Why `other`, one of the two arms, is not recommended. `fit` tells them apart if they take as many passes."""
    base, rival, words = comparison.arm(found.base), comparison.arm(found.rival), WORDS[comparison.head]
    names = IN_SENTENCE | {"frequentist": "the model as it is"}
    before, after = (arm.estimates["nll"].value for arm in (base, rival))
    passes = comparison.arm(other).cost.passes
    if of_student(found.base) != of_student(found.rival):
        fit = "is another model" if of_student(other) else "needs no other model"
    elif other == "saved":
        fit = "needs no new fit"
    cost = fit if base.cost.passes == rival.cost.passes else f"takes {passes} pass{'es' * (passes > 1)} per text"
    difference = significance(found.nll, words.answers, words.few) + _small(found.nll, before)
    return (
        f"Why not {names[other]}, which {cost}? With {names[rival.name]} instead of "
        f"{names[base.name]}, the NLL goes from {before:.4f} to {after:.4f}, {difference}."
    )


def _calibration(comparison: Comparison) -> str:
    """The verdict on the ECE in words."""
    before, after, words = comparison.arm("frequentist"), comparison.rival, WORDS[comparison.head]
    subject = "The Bayesian model is" if comparison.sampled else f"With {comparison.head.scaling}, the model is"
    off = (
        f"On average its {words.off} off by {100 * after.estimates['ece'].value:.1f} percentage points, compared "
        f"with {100 * before.estimates['ece'].value:.1f} for the ordinary model."
    )
    difference = after.differences["ece"].verdict
    if difference == "cannot tell":
        texts = distinct_texts(comparison)
        how = "worse" if after.differences["ece"].value > 0 else "better"
        return f"On {texts}, {_lowered(subject)} not significantly {how} calibrated. {off}"
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
    ece = "Both ECEs are" if both else f"The {IN_SENTENCE[calibrated[0].name]} ECE is"
    noise = (
        f"{ece} in the range that sampling noise gives a perfectly calibrated model on "
        f"{distinct_texts(comparison)}: {which}."
    )
    if comparison.head is not ONE_LABEL:
        found = [line for arm in calibrated for line in _in_spite_of_ece(comparison, arm)]
        if found:
            return [" ".join([noise, *found])]
    return [f"{noise} {'Both models' if both else 'That model'} may already be calibrated."]


def _in_spite_of_ece(comparison: Comparison, arm: Arm) -> list[str]:
    """A sentence about independent labels that are not calibrated, though their pooled ECE may be noise."""
    labels = comparison.labels
    found = spiegelhalter(np.asarray(arm.probabilities, np.float64), labels, comparison.groups)
    if not (found.rejects or found.labels):
        return []
    words = f"But the {IN_SENTENCE[arm.name]} model is not calibrated (Spiegelhalter's test"
    if found.rejects:
        how = "too extreme" if found.z > 0 else "too close to 0.5"
        words = f"But the probabilities of the {IN_SENTENCE[arm.name]} model are {how} (Spiegelhalter's test, z = "
        words += f"{found.z:.1f}"
    if not found.labels or labels.shape[1] == 1:
        return [f"{words})."]
    shown = ", ".join(comparison.names[label] for label in found.labels[:3]) + ", ..." * (len(found.labels) > 3)
    return [f"{words}). Label by label, it rejects {len(found.labels)} of {labels.shape[1]}: {shown}."]


def _losses(comparison: Comparison, after: Arm, keys: Sequence[str]) -> list[str]:
    """A line for each of these measures in which an arm is significantly worse."""
    return [
        f"Warning for {IN_SENTENCE[after.name]}: {_sentence(comparison, key, after)}"
        for key in keys
        if after.differences[key].verdict == "worse"
    ]


def _scalings(comparison: Comparison) -> str:
    cold, own = comparison.scaled("frequentist"), "its own Platt scaling"
    line = (
        f"{'Platt scaling' if cold.temperature is None else f'A temperature of {cold.temperature:.2f}'} without "
        f"sampling reaches an ECE of {cold.estimates['ece'].value:.4f} and an NLL of "
        f"{cold.estimates['nll'].value:.4f}."
    )
    if not comparison.sampled:
        return f"{line} {_fitted(comparison)} Nothing was sampled: {comparison.unsampled}"
    warm = comparison.scaled("bayesian")
    if warm.temperature is not None:
        own = "its own temperature"
    sampled = f"Sampling with {own} reaches {warm.estimates['ece'].value:.4f} and {warm.estimates['nll'].value:.4f}."
    return " ".join([line, sampled, *_beyond(comparison, "bayesian", "sampling"), _fitted(comparison)])


def _decided(comparison: Comparison, base: ArmName, rival: ArmName) -> bool:
    """Whether these two arms, with a scaling, decided. They have a line then."""
    found, pair = comparison.recommendation, (comparison.head.scaled[base], comparison.head.scaled[rival])
    return comparison.conclusive and pair in [
        (one.base, one.rival) for one in (found.lost, found.won) if one is not None
    ]


def _beyond(comparison: Comparison, way: ArmName, what: str) -> list[str]:
    """The effect of `what` where both arms have a scaling, if these two did not decide."""
    if _decided(comparison, "frequentist", way):
        return []
    words, difference = WORDS[comparison.head], comparison.beyond_temperature[way]["nll"]
    return [
        f"Effect of {what} on the NLL when both have {comparison.head.scaling}: "
        f"{significance(difference, words.answers, words.few)}."
    ]


def _other_model(comparison: Comparison, way: ArmName, what: str) -> list[str]:
    """How an arm of other models than the ordinary one differs from it."""
    own, said = comparison.arm(way), ("ece", "nll", "accuracy")
    others = [measure.key for measure in comparison.head.measures if measure.key not in said]
    return [
        *(f"With {what}, {_sentence(comparison, key, own)}" for key in ("ece", "nll")),
        f"With {what}: {_accuracy(comparison, own, 'it')}",
        *_losses(comparison, own, others),
        *_beyond(comparison, way, what),
    ]


def _beside_sampling(comparison: Comparison) -> list[str]:
    """How the student differs from sampling, where both have a scaling: in NLL, and where it is significantly worse."""
    words, lines = WORDS[comparison.head], []
    for key, difference in comparison.student_minus_sampling.items():
        said = key == "nll" and not _decided(comparison, "student", "bayesian")
        if said or (key != "nll" and difference.verdict == "worse"):
            lines.append(
                f"{'Warning: ' * (not said)}{comparison.head.title(key)} of the student minus that of sampling when "
                f"both have {comparison.head.scaling}: {significance(difference, words.answers, words.few)}."
            )
    return lines


def _sentence(comparison: Comparison, key: str, after: Arm) -> str:
    before, title = comparison.arm("frequentist"), comparison.head.title(key)
    if math.isnan(after.differences[key].value):
        return f"{title}: not defined here."
    values = f"from {before.estimates[key].value:.4f} to {after.estimates[key].value:.4f}"
    difference = after.differences[key]
    remark = _small(difference, before.estimates[key].value) if key == "nll" else ""
    words = WORDS[comparison.head]
    return f"{title}: {values}, {significance(difference, words.answers, words.few)}{remark}."


def _small(difference: Difference, nll: float) -> str:
    """A remark about a significant difference from this NLL that is too small to matter; else empty."""
    small = abs(difference.value) < MATTERS * nll and difference.verdict != "cannot tell"
    return ", but too small to matter" if small else ""


def _accuracy(comparison: Comparison, after: Arm, what: str) -> str:
    """The verdict on the accuracy of an arm. `what` is the subject of the sentence if it is worse."""
    before, difference = comparison.arm("frequentist"), after.differences["accuracy"]
    words, least = WORDS[comparison.head], f"{LEAST_ROWS} texts"
    values = f"from {before.estimates['accuracy'].value:.4f} to {after.estimates['accuracy'].value:.4f}"
    if difference.verdict == "worse":
        return f"Warning: {what} costs accuracy here: {values}, {significance(difference, least, words.few)}."
    return f"Accuracy: {values}, {significance(difference, least, words.few)}."


def _fitted(comparison: Comparison) -> str:
    words = WORDS[comparison.head]
    several = comparison.sampled or comparison.several_models or comparison.with_student
    which = words.fitted if several else words.fitted_once
    if comparison.calibrated_on is None:
        if not comparison.determined:
            return words.undetermined.format("these labels")
        return f"{which} fitted on these texts, and the measures are corrected for that."
    others = number_of_texts(comparison.calibrated_on, "" if comparison.shared_texts else "other")
    line = f"{which} fitted on {others}."
    if not comparison.determined:
        line += " " + words.undetermined.format("their labels")
    if comparison.shared_texts:
        line += (
            f" Warning: {comparison.shared_texts:,} of the texts measured here are among them, which makes the arms "
            f"with {comparison.head.scaling} look better than they are."
        )
    return line


def _out_of_scope(comparison: Comparison) -> list[str]:
    """A line for each arm that is compared with the ordinary model, and for novelty; none without such texts."""
    if not comparison.out_of_scope:
        return []
    # The same score for all arms, chosen before looking at the data: picking the best of several would favor one arm.
    before, *others = (one for one in comparison.out_of_scope if one.score in (ENTROPY, NOVELTY))
    if not others:
        return [
            f"Detecting {len(before.outside):,} out-of-scope texts by predictive entropy: AUROC "
            f"{before.auroc.value:.4f}. At 95% recall, {before.false_positive_rate.value:.1%} of the in-scope texts "
            "are flagged by mistake."
        ]
    by = {way: f"{ENTROPY} of the {way}" for way in ("student", "ensemble")} | {"scope": "novelty, in one pass"}
    sentences = []
    for after in others:
        auroc, rate = (
            significance(after.differences[key], least, _FEW_OUTSIDE, "texts in all")
            for key, least in (("auroc", _BOTH_SCOPES), ("false_positive_rate", _AT_RECALL))
        )
        sentences.append(
            f"Detecting {len(before.outside):,} out-of-scope texts by {by.get(after.arm, ENTROPY)}: AUROC from "
            f"{before.auroc.value:.4f} to {after.auroc.value:.4f}, {auroc}. At 95% recall, the share of in-scope texts "
            f"flagged by mistake goes from {before.false_positive_rate.value:.4f} to "
            f"{after.false_positive_rate.value:.4f}, {rate}."
        )
    return sentences


def _refusing(comparison: Comparison) -> list[str]:
    """What a novelty level does; none unless it is to be deployed."""
    level = comparison.novelty_level
    if comparison.novelty is not None and of_student(comparison.recommended):
        return ["Novelty was measured for the ordinary model. To know that of the student, evaluate it as the model."]
    if comparison.novelty is None or level is None:
        return []
    outside, inside = ((p <= level).mean() for p in (comparison.novelty.p_outside, comparison.novelty.p_inside))
    return [
        f"Novelty detects the out-of-scope texts better than the entropy. classifier.novelty_level = {level:g} refuses "
        f"{outside:.0%} of them, and {inside:.1%} of the in-scope texts, after classifier.learn_scope."
    ]


def _how(arm: Arm, comparison: Comparison) -> str:
    if arm.name == "saved":
        return f"Use the classifier as it is: {called(arm, {})}."
    call, load = called(arm, comparison.call_options(arm)), "Load the student. " * of_student(arm.name)
    if arm.scaling is None:
        return f"{load}Use {call}."
    found = "fits Platt scaling" if arm.temperature is None else f"finds a temperature of {arm.temperature:.6g}"
    if comparison.is_mixed(arm):
        found = f"fits {comparison.head.scaling} for this dropout"
    fit = call.replace("(texts", ".calibrate(texts, labels")
    return f"{load}Call {fit}, which {found} on these texts, and then {call}."
