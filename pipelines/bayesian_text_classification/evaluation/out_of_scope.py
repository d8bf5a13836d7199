"""How well a classifier's uncertainty separates out-of-scope texts from in-scope texts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from .heads import ENTROPY
from .statistics.intervals import (
    LEAST_ROWS,
    Difference,
    Estimate,
    distinct,
    judged,
    normal_interval,
    share_interval,
    weights_of_resamples,
    wilson,
)
from .statistics.rank_statistics import Array, auroc, false_positive_rate

NOVELTY, BOTH = "novelty", "novelty and 1 - max probability"  # scores of a scope
RECALL = 0.95
LEAST_OUTSIDE = 100  # out-of-scope texts for an interval of the rate at that recall, which 5% of them decide

Scores = Mapping[str, NDArray[np.floating]]
Groups = NDArray[np.intp] | None


@dataclass(frozen=True)
class Detection:
    """One score of one arm as a detector: the higher, the more likely out of scope. The intervals are 95% intervals.

    Attributes:
        arm: "frequentist", "student", "bayesian", "ensemble" or "scope".
        score: "1 - max probability", "predictive entropy" or "mutual information"; of a scope, "novelty", or its mean
            rank with "1 - max probability" of the ordinary model.
        inside: Scores of the in-scope texts.
        outside: Scores of the out-of-scope texts.
        auroc: Probability that an out-of-scope text scores higher than an in-scope text.
        false_positive_rate: Share of the in-scope texts that are flagged when 95% of the out-of-scope texts are.
        differences: "auroc" and "false_positive_rate" minus those of the first arm on the same texts. The first arm's
            score is the one with the same name, or its predictive entropy if there is none. Empty for the first arm.
    """

    arm: str
    score: str
    inside: Array
    outside: Array
    auroc: Estimate
    false_positive_rate: Estimate
    differences: dict[str, Difference] = field(default_factory=dict)


def detect(
    inside: Mapping[str, Scores],
    outside: Mapping[str, Scores],
    *,
    seed: int = 0,
    groups: tuple[Groups, Groups] = (None, None),
) -> list[Detection]:
    """Measure each score of each arm as a detector of out-of-scope texts.

    In-scope and out-of-scope texts are resampled separately, with the same draws for every score.

    Args:
        inside: Scores of the in-scope texts for each arm, by the name of the score. The other arms are compared with
            the first arm. *Shape:* (texts,) each.
        outside: Scores of the out-of-scope texts, in the same form.
        seed: Seed of the resamples behind the intervals.
        groups: Number of each in-scope and of each out-of-scope text's group of copies, from 0; None: all are distinct.
    """
    first = next(iter(inside))
    base = {name: _Measured(scores, outside[first][name], seed, groups) for name, scores in inside[first].items()}
    found = [one.detection(first, name) for name, one in base.items()]
    for arm in list(inside)[1:]:
        for name, scores in inside[arm].items():
            rival = base[name] if name in base else base[ENTROPY]
            found.append(_Measured(scores, outside[arm][name], seed, groups).detection(arm, name, rival))
    return found


def mean_ranks(*scores: tuple[NDArray[np.floating], NDArray[np.floating]]) -> tuple[Array, Array]:
    """The mean rank of each in-scope and each out-of-scope text among all of them, over several scores."""
    count = len(scores[0][0])
    mean = np.mean([rankdata(np.concatenate(pair)) for pair in scores], axis=0)
    return mean[:count], mean[count:]


class _Measured:
    """AUROC and false positive rate of one score, on the texts and on resamples of them."""

    def __init__(
        self, inside: NDArray[np.floating], outside: NDArray[np.floating], seed: int, groups: tuple[Groups, Groups]
    ) -> None:
        self.inside, self.outside = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
        parts = list(zip((inside, outside), groups, strict=True))
        self._distinct = [distinct(len(part), of) for part, of in parts]
        self._minority = min(self._distinct)
        scores = np.concatenate([self.inside, self.outside])
        strange = np.repeat([0.0, 1.0], [len(inside), len(outside)])

        def both(weights: Array) -> tuple[Array, Array]:
            return auroc(scores, strange, weights), false_positive_rate(scores, strange, weights, RECALL)

        area, rate = both(np.ones((1, len(scores))))
        self.values = {"auroc": float(area[0]), "false_positive_rate": float(rate[0])}
        draws = (weights_of_resamples(len(part), seed + i, of) for i, (part, of) in enumerate(parts))
        drawn = [both(np.concatenate(pair, axis=1)) for pair in zip(*draws, strict=True)]
        areas, rates = map(np.concatenate, zip(*drawn, strict=True))
        self.resamples = {"auroc": areas, "false_positive_rate": rates}

    def detection(self, arm: str, score: str, base: "_Measured | None" = None) -> Detection:
        """The result, with its differences from `base` if there is one."""
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
            if not np.ptp(drawn) and self.values[key] in (0, 1):  # the truth may differ even if no resample does
                least, most = wilson(self._minority, self._minority)
                low, high = value - (most - least), value + (most - least)
        return judged(value, low, high, key == "auroc", sum(self._distinct), enough=self._minority >= LEAST_ROWS)

    def _known(self, key: str) -> bool:
        return key == "auroc" or self._distinct[1] >= LEAST_OUTSIDE
