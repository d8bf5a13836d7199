"""How well a classifier's uncertainty tells texts that it was not made for from those that it was."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .intervals import (
    LEAST_ROWS,
    Difference,
    Estimate,
    judged,
    normal_interval,
    share_interval,
    weights_of_resamples,
    wilson,
)
from .rank_statistics import Array, auroc, false_positive_rate

RECALL = 0.95
LEAST_OUTSIDE = 100  # texts out of scope, for an interval of the rate at that recall, which five in a hundred decide
ENTROPY = "predictive entropy"

Scores = Mapping[str, NDArray[np.floating]]


@dataclass(frozen=True)
class Detection:
    """One score of one arm as a detector; the higher, the more likely out of scope. Intervals are at 95 %.

    Attributes:
        arm: "frequentist" or "bayesian".
        score: "1 - max probability", "predictive entropy" or "mutual information".
        inside: scores of the texts in scope.
        outside: scores of the texts out of scope.
        auroc: the probability that a text out of scope scores higher than one in scope.
        false_positive_rate: share of the texts in scope that are flagged where 95 % of those out of scope are.
        differences: "auroc" and "false_positive_rate" less those of the first arm's score of that name, or of its
            predictive entropy where it has none of that name, on the same texts; empty for the first arm.
    """

    arm: str
    score: str
    inside: Array
    outside: Array
    auroc: Estimate
    false_positive_rate: Estimate
    differences: dict[str, Difference] = field(default_factory=dict)


def detect(inside: Mapping[str, Scores], outside: Mapping[str, Scores], *, seed: int = 0) -> list[Detection]:
    """Each score of each arm as a detector of what is out of scope.

    Texts in scope and texts out of scope are resampled apart, the same ones for every score.

    Args:
        inside: for each arm its scores of the texts in scope, by their names. *Shape:* (texts,) each. The first arm is
            what the others are compared with.
        outside: the same of the texts out of scope.
        seed: of the resamples behind the intervals.
    """
    first = next(iter(inside))
    base = {name: _Measured(scores, outside[first][name], seed) for name, scores in inside[first].items()}
    found = [one.detection(first, name) for name, one in base.items()]
    for arm in list(inside)[1:]:
        for name, scores in inside[arm].items():
            rival = base[name] if name in base else base[ENTROPY]
            found.append(_Measured(scores, outside[arm][name], seed).detection(arm, name, rival))
    return found


class _Measured:
    """AUROC and false positive rate of one score, on the texts and on their resamples."""

    def __init__(self, inside: NDArray[np.floating], outside: NDArray[np.floating], seed: int) -> None:
        self.inside, self.outside = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
        self._minority = min(len(inside), len(outside))
        scores = np.concatenate([self.inside, self.outside])
        strange = np.repeat([0.0, 1.0], [len(inside), len(outside)])

        def both(weights: Array) -> tuple[Array, Array]:
            return auroc(scores, strange, weights), false_positive_rate(scores, strange, weights, RECALL)

        area, rate = both(np.ones((1, len(scores))))
        self.values = {"auroc": float(area[0]), "false_positive_rate": float(rate[0])}
        draws = (weights_of_resamples(len(part), seed + i) for i, part in enumerate((inside, outside)))
        drawn = [both(np.concatenate(pair, axis=1)) for pair in zip(*draws, strict=True)]
        areas, rates = map(np.concatenate, zip(*drawn, strict=True))
        self.resamples = {"auroc": areas, "false_positive_rate": rates}

    def detection(self, arm: str, score: str, base: "_Measured | None" = None) -> Detection:
        """The result, beside that of `base`."""
        estimates = {}
        for key, value in self.values.items():
            low, high = math.nan, math.nan
            if self._known(key):
                low, high = share_interval(value, self.resamples[key], self._minority)
            estimates[key] = Estimate(value, low, high)
        differences = {} if base is None else {key: self._less(base, key) for key in self.values}
        return Detection(
            arm,
            score,
            self.inside,
            self.outside,
            estimates["auroc"],
            estimates["false_positive_rate"],
            differences,
        )

    def _less(self, base: "_Measured", key: str) -> Difference:
        value = self.values[key] - base.values[key]
        low, high = math.nan, math.nan
        if self._known(key):
            drawn = self.resamples[key] - base.resamples[key]
            low, high = normal_interval(value, drawn)
            if not np.ptp(drawn) and self.values[key] in (0, 1):  # no resample differs, and yet the truth may
                least, most = wilson(self._minority, self._minority)
                low, high = value - (most - least), value + (most - least)
        count = len(self.inside) + len(self.outside)
        return judged(value, low, high, key == "auroc", count, enough=self._minority >= LEAST_ROWS)

    def _known(self, key: str) -> bool:
        return key == "auroc" or len(self.outside) >= LEAST_OUTSIDE
