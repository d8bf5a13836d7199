"""How well a classifier's uncertainty tells texts that it was not made for from those that it was."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .intervals import Estimate, normal_interval, weights_of_resamples
from .measures import Array, auroc

RECALL = 0.95


@dataclass(frozen=True)
class Detection:
    """One score of one arm as a detector; the higher, the more likely out of scope.

    Attributes:
        arm: "frequentist" or "bayesian".
        score: "1 - max probability", "predictive entropy" or "mutual information".
        inside: scores of the texts in scope.
        outside: scores of the texts out of scope.
        auroc: the probability that a text out of scope scores higher than one in scope, with its 95 % interval.
        false_positive_rate: share of the texts in scope that are flagged where 95 % of those out of scope are.
    """

    arm: str
    score: str
    inside: Array
    outside: Array
    auroc: Estimate
    false_positive_rate: float


def detect(
    arm: str, inside: Mapping[str, NDArray[np.floating]], outside: Mapping[str, NDArray[np.floating]], *, seed: int = 0
) -> list[Detection]:
    """Each score of an arm as a detector of what is out of scope.

    Args:
        arm: its name.
        inside: scores by their names, of the texts in scope. *Shape:* (texts,) each.
        outside: the same of the texts out of scope.
        seed: of the resamples behind the intervals.
    """
    found = []
    for name, scores in inside.items():
        both = np.concatenate([scores, outside[name]]).astype(np.float64)
        strange = np.concatenate([np.zeros(len(scores)), np.ones(len(outside[name]))])
        value = float(auroc(both, strange, np.ones((1, len(both))))[0])
        resampled = [auroc(both, strange, w) for w in weights_of_resamples(len(both), seed)]
        low, high = normal_interval(value, np.concatenate(resampled))
        found.append(
            Detection(
                arm,
                name,
                np.asarray(scores, np.float64),
                np.asarray(outside[name], np.float64),
                Estimate(value, max(low, 0.0), min(high, 1.0)),
                false_positive_rate(scores, outside[name]),
            )
        )
    return found


def false_positive_rate(inside: NDArray[np.floating], outside: NDArray[np.floating], recall: float = RECALL) -> float:
    """Share of `inside` at or above the highest threshold that at least `recall` of `outside` reach.

    Args:
        inside: scores of the texts in scope. *Shape:* (texts,).
        outside: scores of the texts out of scope. *Shape:* (texts,).
        recall: share of `outside` that must be flagged.
    """
    needed = int(np.ceil(recall * len(outside) - 1e-9))
    threshold = np.sort(outside)[::-1][max(needed, 1) - 1]
    return float((inside >= threshold).mean())
