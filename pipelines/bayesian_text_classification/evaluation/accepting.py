"""Advice on thresholds: which texts or labels an arm can accept at an error rate, and what is reachable otherwise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..selection.groups import of_groups
from ..selection.label_thresholds import label_thresholds
from ..selection.thresholds import lower_bound, rows_for, threshold_for
from .arms import Arm, of_student
from .comparison import Comparison
from .heads import INDEPENDENT_LABELS
from .words import rounded

CONFIDENCE = 0.9
TARGETS = (0.05, 0.02, 0.01)  # error rates among accepted texts for which a threshold is searched
LABEL_TARGETS = (0.2, 0.1, 0.05)  # for each of several labels, which has fewer texts
_SHARES = (0.2, 0.5, 0.8)  # of the texts, most confident first, whose error rates show what is reachable


def accepting(comparison: Comparison, arm: Arm, targets: Sequence[float] | None = None) -> list[str]:
    """What thresholds the arm has for error rates among accepted texts, one line for each point.

    By default these are 5%, 2% and 1%; for each of several labels 20%, 10% and 5%.
    """
    if comparison.is_mixed(arm):
        own = "without --dropout" if comparison.dropout is None else f"with --dropout {comparison.dropout}"
        return [
            "Each fifth of the texts was sampled with its own dropout here, so a threshold from all of them fits no "
            f"single classifier. Run evaluate {own} to get one."
        ]
    if comparison.head is INDEPENDENT_LABELS:
        return _of_labels(comparison, arm, targets or LABEL_TARGETS)
    return _of_texts(comparison, arm, targets or TARGETS)


@dataclass(frozen=True)
class Limit:
    """A threshold to deploy.

    Attributes:
        threshold: The lowest score of an accepted text; or that of each label, by its name.
        target: Error rate among accepted texts that it stays below.
    """

    threshold: float | dict[str, float]
    target: float

    @property
    def promise(self) -> str:
        """What holds for accepted texts, in words."""
        return f"error among accepted texts below {percent(self.target)}, with {CONFIDENCE:.0%} confidence"


def limit_of(comparison: Comparison, arm: Arm, targets: Sequence[float] | None = None) -> Limit | None:
    """The threshold for the first of these error rates that has one and needs one.

    None if there is none, and for an arm whose texts have several dropouts. Of independent labels, half must have one,
    because the others are never accepted.
    """
    several = comparison.head is INDEPENDENT_LABELS
    if comparison.is_mixed(arm):
        return None
    for target in targets or (LABEL_TARGETS if several else TARGETS):
        if several:
            found = _label_thresholds(comparison, arm, target)
            if 2 * len(found) >= comparison.labels.shape[1]:
                return Limit(found, target)
            continue
        scores, correct = answers_of(comparison, arm)
        kept = comparison.not_refused  # what a novelty level refuses is not accepted
        groups = None if comparison.groups is None else comparison.groups[kept]
        one = threshold_for(scores[kept], correct[kept], target, confidence=CONFIDENCE, groups=groups)
        if one is not None and one.accepted < one.rows:
            return Limit(_shorter(one.threshold), target)
    return None


def answers_of(comparison: Comparison, arm: Arm) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The score of each text's answer, that of "no" included for a model with one output, and whether it is right."""
    p = arm.probabilities
    if comparison.labels.ndim == 2:
        correct = ((p > 0.5) == comparison.labels)[:, 0]
    else:
        correct = p.argmax(1) == comparison.labels
    return comparison.head.confidence(p), correct


def _label_thresholds(comparison: Comparison, arm: Arm, target: float) -> dict[str, float]:
    """Thresholds of the labels that have one."""
    found = label_thresholds(
        arm.probabilities,
        comparison.labels,
        comparison.names,
        precision=1 - target,
        confidence=CONFIDENCE,
        groups=comparison.groups,
    )
    return {name: _shorter(one.threshold) for name, one in found.items()}


def _of_texts(comparison: Comparison, arm: Arm, targets: Sequence[float]) -> list[str]:
    """Thresholds of the score."""
    lines: list[str] = []
    scores, correct = answers_of(comparison, arm)
    found = [
        (target, threshold_for(scores, correct, target, confidence=CONFIDENCE, groups=comparison.groups))
        for target in targets
    ]
    for target, threshold in found:
        if threshold is not None and threshold.accepted == threshold.rows:
            lines.append(
                f"The error is below {percent(target)} without a threshold, with {CONFIDENCE:.0%} confidence for texts "
                "like these."
            )
        elif threshold is not None:
            lines.append(
                f"{_call(comparison, arm, _shorter(threshold.threshold))} keeps the error "
                f"among accepted texts below {percent(target)}, with {CONFIDENCE:.0%} confidence for texts like these. "
                f"Here it accepts {threshold.accepted / threshold.rows:.0%} of the texts."
            )
    missed = [target for target, threshold in found if threshold is None]
    if missed:
        lines.append(
            f"On {distinct_texts(comparison)}, no threshold was found that keeps the error among accepted texts below "
            f"{listed([percent(target) for target in missed], 'or')} with {CONFIDENCE:.0%} confidence. "
            f"{_reachable(scores, correct, missed, comparison.groups)}"
        )
    return lines


def _of_labels(comparison: Comparison, arm: Arm, targets: Sequence[float]) -> list[str]:
    """Thresholds of each label."""
    lines, missed, names = [], [], comparison.names
    for target in targets:
        thresholds = _label_thresholds(comparison, arm, target)
        if not thresholds:
            missed.append(target)
            continue
        lines.append(
            f"For {len(thresholds)} of {len(names)} labels, a threshold keeps the error among the texts that get the "
            f"label below {percent(target)}, with {CONFIDENCE:.0%} confidence for each label by itself: "
            f"{_call(comparison, arm, thresholds)}. The other labels are then never accepted."
        )
    if missed:
        needed = listed([f"{rows_for(0.0, target, CONFIDENCE):,}" for target in missed])
        lines.append(
            f"On {distinct_texts(comparison)}, no label has a threshold that keeps the error among the "
            f"texts that get it below {listed([percent(target) for target in missed], 'or')} with {CONFIDENCE:.0%} "
            f"confidence. That takes at least {needed} texts above the threshold of the label, and more if some of "
            "them are wrong."
        )
    return lines


def _shorter(threshold: float) -> float:
    """A threshold with six digits, and never below the one that was tested."""
    return up if (up := math.ceil(threshold * 1e6) / 1e6) < 1 else threshold


def called(arm: Arm, options: Mapping[str, Any]) -> str:
    """A call with these options, as code: of the classifier, or of the student for its arms."""
    name = "student" if of_student(arm.name) else "classifier"
    return f"{name}({', '.join(['texts', *(f'{key}={value!r}' for key, value in options.items())])})"


def _call(comparison: Comparison, arm: Arm, threshold: float | dict[str, float]) -> str:
    after = "" if arm.scaling is None else " at that temperature" if arm.temperature else " after that calibration"
    return called(arm, {**comparison.call_options(arm), "threshold": threshold}) + after


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
        f"Among the most confident {listed([f'{share:.0%}' for share in errors])} of the texts, "
        f"{listed([f'{error:.1%}' for error in errors.values()])} of the answers are wrong."
    )
    takes: list[str] = []
    hopeless = []
    for target in targets:
        # Of all these shares, the one that needs the fewest: a stricter target then never takes fewer texts.
        needs = [rows_for(error, target, CONFIDENCE) / share for share, error in errors.items() if error < target]
        if needs:
            needed = rounded(math.ceil(min(needs)))
            number = f"at least about {needed:,}" if needed > len(scores) else "more"
            takes.append(f"{percent(target)} {number}" if takes else f"{percent(target)} would take {number} texts")
        elif all(lower_bound(wrong[share], accepted[share], CONFIDENCE) > target for share in _SHARES):
            hopeless.append(percent(target))
    line += f" At these rates, {listed(takes)}." if takes else ""
    return line + (f" More texts would hardly help to get below {listed(hopeless, 'or')}." if hopeless else "")


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.3g}%"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Words as in a sentence."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def number_of_texts(number: int, adjective: str = "") -> str:
    """A number of texts in words."""
    return f"{number:,} {adjective}{' ' * bool(adjective)}{'text' if number == 1 else 'texts'}"


def distinct_texts(comparison: Comparison) -> str:
    """The number of distinct measured texts in words."""
    return number_of_texts(comparison.distinct, "distinct" * (comparison.distinct < len(comparison.labels)))
