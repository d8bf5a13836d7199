"""Sets of labels that hold the true one with a given probability (split conformal prediction, Vovk et al. 2005).

    lac:  1 - p_y                       (Sadinle et al. 2019, arXiv:1609.00451): the smallest sets on average
    aps:  sum of p_j > p_y, plus u p_y  (Romano et al. 2020, arXiv:2006.02544): larger sets for harder texts

A set holds the labels whose score is at most a quantile of the scores of true labels on calibration texts. For
independent labels the same rule is conformal risk control (Angelopoulos et al. 2024, arXiv:2208.02814): the expected
share of a text's labels that its set misses is at most 1 - coverage.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .class_clusters import NO_CLUSTER, clusters_of

Array = NDArray[np.float64]
Score = Literal["lac", "aps"]
SCORES: tuple[Score, ...] = get_args(Score)
By = Literal["all", "class"]
BYS: tuple[By, ...] = get_args(By)

_SAME = 1e-5  # 1 - score is equal if it differs by less, relatively: the same text, in another batch
_ROUNDING = 1e-9  # of coverage times a number of texts


@dataclass(frozen=True, eq=False)
class PredictionSets:
    """What `conformalize` has fitted: scores of true labels, from which sets of any coverage follow.

    Attributes:
        score: "lac" or "aps".
        by: Whether the coverage is that of "all" texts together or of each "class".
        independent: Whether the labels are independent, so that a text may have several.
        classes: Label of each pair of a calibration text and one of its labels. *Shape:* (pairs,).
        scores: Score of each pair, ascending. *Shape:* (pairs,).
        weights: 1 / number of labels of the text, for independent labels; else 1. *Shape:* (pairs,).
        chooses: Whether each pair has chosen the clusters, and is not used for their quantiles. *Shape:* (pairs,).
        clusters: Cluster of each label; -1: none. *Shape:* (labels,).
        made_by: How the probabilities were made: samples, dropout, calibration. Sets are for such probabilities alone.
    """

    score: Score
    by: By
    independent: bool
    classes: NDArray[np.int64]
    scores: Array
    weights: Array
    chooses: NDArray[np.bool_]
    clusters: NDArray[np.int64]
    made_by: str = ""

    @property
    def num_texts(self) -> int:
        """Number of calibration texts that have a label."""
        return round(float(self.weights.sum()))

    def of(self, probabilities: NDArray[np.floating], coverage: float, uniforms: Array) -> NDArray[np.bool_]:
        """Whether each label is in the set of each text. *Shape:* (texts, labels).

        Args:
            probabilities: *Shape:* (texts, labels).
            coverage: Probability that a set holds the true label, between 0 and 1.
            uniforms: u of each text, for "aps"; see `uniforms`. *Shape:* (texts,).
        """
        p = np.asarray(probabilities, dtype=np.float64)
        found = 1 - scores_of(self.score, p, uniforms) >= (1 - self.limits(coverage)) * (1 - _SAME)
        if self.score == "aps" and len(p):
            found[np.arange(len(p)), p.argmax(1)] = True
        return np.asarray(found)

    def limits(self, coverage: float) -> Array:
        """The largest score of a label in a set; infinite if every set holds the label. *Shape:* (labels,).

        By class, it is that of the label's own texts if there are enough; else that of its cluster; else of all texts.
        """
        of_all = self._limit(np.ones(len(self.scores), dtype=bool), self.weights, coverage)
        limits = np.full(len(self.clusters), of_all)
        if self.by == "all":
            return limits
        each = np.ones(len(self.scores))
        for label, cluster in enumerate(self.clusters):
            own = self._limit(self.classes == label, each, coverage)
            if np.isinf(own) and cluster != NO_CLUSTER:
                own = self._limit((self.clusters[self.classes] == cluster) & ~self.chooses, each, coverage)
            limits[label] = own if np.isfinite(own) else of_all
        return limits

    def exact_labels(self, coverage: float) -> NDArray[np.bool_]:
        """Whether each label has enough texts of its own for this coverage. *Shape:* (labels,)."""
        return np.bincount(self.classes, minlength=len(self.clusters)) >= texts_needed(coverage)

    def check_coverage(self, coverage: float) -> None:
        """Raise ValueError if there are too few calibration texts for this coverage."""
        if (needed := texts_needed(coverage)) > self.num_texts:
            n = self.num_texts
            raise ValueError(
                f"coverage={coverage:g} needs at least {needed:,} labeled texts, and the prediction sets have {n:,}; "
                f"call classifier.conformalize with more, or pass coverage={_rounded_down(n / (n + 1)):g}"
            )

    def _limit(self, which: NDArray[np.bool_], weights: Array, coverage: float) -> float:
        """The smallest score above which the weight of pairs, plus 1, is at most 1 - coverage of their number plus 1.

        With weights of 1 it is the ceil(coverage (n + 1))-th smallest score.
        """
        scores, w = self.scores[which], weights[which]
        allowed = (1 - coverage) * (w.sum() + 1) - 1 + _ROUNDING
        if allowed < 0:
            return np.inf
        from_here = np.append(np.cumsum(w[::-1])[::-1], 0.0)
        above = from_here[np.searchsorted(scores, scores, side="right")]
        return float(scores[np.argmax(above <= allowed)])

    def __str__(self) -> str:
        by = "" if self.by == "all" else " by class"
        return f"{self.score}{by}, {self.num_texts:,} texts"

    def digest(self) -> str:
        """A hash of the arrays."""
        found = hashlib.blake2b(digest_size=16)
        for array in self.saved().values():
            found.update(str(array.dtype).encode() + np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def saved(self) -> dict[str, NDArray[Any]]:
        """The arrays of a file."""
        return {name: np.asarray(value) for name, value in vars(self).items()}

    @classmethod
    def of_saved(cls, arrays: Mapping[str, NDArray[Any]]) -> "PredictionSets":
        """The sets of the arrays of a file."""
        single = ("score", "by", "independent", "made_by")
        values: dict[str, Any] = {
            field.name: arrays[field.name].item() if field.name in single else np.array(arrays[field.name])
            for field in fields(cls)
        }
        return cls(**values)


def fitted_sets(
    probabilities: NDArray[np.floating],
    targets: NDArray[np.integer],
    *,
    score: Score,
    by: By,
    uniforms: Array,
    chooses: NDArray[np.bool_],
    made_by: str = "",
) -> PredictionSets:
    """Fit prediction sets.

    Args:
        probabilities: *Shape:* (texts, labels).
        targets: Class ids, *shape* (texts,); for independent labels 0 and 1, (texts, labels).
        score: "lac" or "aps".
        by: "all" or "class".
        uniforms: u of each text, for "aps". *Shape:* (texts,).
        chooses: For "class", whether each text chooses the clusters; the others give their quantiles.
            *Shape:* (texts,).
        made_by: How the probabilities were made.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    independent = targets.ndim == 2
    rows, classes = np.nonzero(targets) if independent else (np.arange(len(p)), targets)
    scores = scores_of(score, p, uniforms)[rows, classes]
    weights = 1 / np.bincount(rows, minlength=len(p))[rows]
    order = np.argsort(scores, kind="stable")
    classes, scores, chosen = classes[order].astype(np.int64), scores[order], chooses[rows][order]
    if by == "class":
        clusters = clusters_of(classes, scores, chosen, p.shape[1])
    else:
        clusters = np.full(p.shape[1], NO_CLUSTER, dtype=np.int64)
    return PredictionSets(score, by, independent, classes, scores, weights[order], chosen, clusters, made_by)


def scores_of(score: Score, p: Array, uniforms: Array) -> Array:
    """The score of each label of each text; small if it fits. *Shape:* (texts, labels).

    Args:
        score: "lac" or "aps".
        p: Probabilities. *Shape:* (texts, labels).
        uniforms: u of each text, for "aps". *Shape:* (texts,).
    """
    if score == "lac":
        return 1 - p
    order = np.argsort(-p, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=1)
    found = np.empty_like(p)
    np.put_along_axis(found, order, np.cumsum(ranked, axis=1) - ranked + uniforms[:, None] * ranked, axis=1)
    return found


def uniforms_of(texts: Sequence[Sequence[int]], seed: int) -> Array:
    """A number in [0, 1) for each text: a hash of its token ids and the seed. *Shape:* (texts,).

    The hash is not that of the dropout masks, so the numbers are independent of them.
    """
    key = str(seed).encode()

    def number(ids: Sequence[int]) -> int:
        data = np.asarray(ids, dtype="<i8").tobytes()
        digest = hashlib.blake2b(data + key, digest_size=8, person=b"prediction sets").digest()
        return int.from_bytes(digest, "little") >> 11

    return np.array([number(ids) for ids in texts], dtype=np.float64) / 2**53


def texts_needed(coverage: float) -> int:
    """The smallest number of calibration texts whose sets are not all labels: ceil(1 / (1 - coverage)) - 1."""
    return max(int(np.ceil((1 - _ROUNDING) / (1 - coverage))) - 1, 1)


def _rounded_down(value: float) -> float:
    """A number of three digits after the point that is at most `value`."""
    return float(np.floor(value * 1000) / 1000)
