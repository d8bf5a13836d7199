"""Sets of labels that hold the true one with a given probability (split conformal prediction, Vovk et al. 2005).

    lac:  1 - p_y                       (Sadinle et al. 2019, arXiv:1609.00451): the smallest sets on average
    aps:  sum of p_j > p_y, plus u p_y  (Romano et al. 2020, arXiv:2006.02544): larger sets for harder texts

With aps, the score of the likeliest label is 0, so it is in every set.

A set holds the labels whose score is at most a quantile of the scores of true labels on calibration texts. For
independent labels the same rule is conformal risk control (Angelopoulos et al. 2024, arXiv:2208.02814): the expected
share of a text's labels that its set misses is at most 1 - coverage.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NoReturn, get_args

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


@dataclass(frozen=True, eq=False, repr=False)
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
        made_by: How the probabilities were made, as in `ScoreOrigin.saved`. Sets are for such probabilities alone.
        weights_of_model: Some of the weights of the model; see `some_weights`. Empty if not known.
    """

    score: Score
    by: By
    independent: bool
    classes: NDArray[np.int64]
    scores: Array
    weights: Array
    chooses: NDArray[np.bool_]
    clusters: NDArray[np.int64]
    made_by: str = "{}"
    weights_of_model: Array = field(default_factory=lambda: np.empty(0))
    _limits: dict[float, Array] = field(default_factory=dict, init=False, repr=False)  # by coverage

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
        return np.asarray(1 - scores_of(self.score, p, uniforms) >= (1 - self.limits(coverage)) * (1 - _SAME))

    def limits(self, coverage: float) -> Array:
        """The largest score of a label in a set; infinite if every set holds the label. *Shape:* (labels,).

        By class, it is that of the label's own texts if there are enough; else that of its cluster; else of all texts.
        """
        if coverage not in self._limits:
            self._limits[coverage] = self._new_limits(coverage)
        return self._limits[coverage]

    def _new_limits(self, coverage: float) -> Array:
        of_all = _limit(self.scores, self.weights, coverage)
        limits = np.full(len(self.clusters), of_all)
        if self.by == "all":
            return limits
        of_clusters, own = self._cluster_limits(coverage), self.exact_labels(coverage)
        shared = np.isin(self.clusters, list(of_clusters)) & ~own
        limits[shared] = [of_clusters[int(cluster)] for cluster in self.clusters[shared]]
        order = np.lexsort((self.scores, self.classes))
        counts = np.bincount(self.classes, minlength=len(limits))
        ranks = np.ceil(coverage * (counts + 1) - _ROUNDING).astype(np.int64)
        starts = np.cumsum(counts) - counts
        limits[own] = self.scores[order][(starts + ranks - 1)[own]]
        return limits

    def _cluster_limits(self, coverage: float) -> dict[int, float]:
        """The limit of each cluster that has enough texts, by its number."""
        kept, of_pairs = ~self.chooses, self.clusters[self.classes]
        found = {}
        for cluster in np.unique(self.clusters[self.clusters != NO_CLUSTER]).tolist():
            scores = self.scores[kept & (of_pairs == cluster)]
            limit = _limit(scores, np.ones(len(scores)), coverage)
            if np.isfinite(limit):
                found[cluster] = limit
        return found

    def describe(self, coverage: float) -> str:
        """What the sets of this coverage rest on, in words: texts, and by class how many classes have their own."""
        if self.by == "all":
            return str(self)
        own, clusters = self.exact_labels(coverage), self._cluster_limits(coverage)
        shared = np.isin(self.clusters, list(clusters)) & ~own
        parts = {
            "by their own texts": own,
            f"by those of {len(clusters):,} clusters": shared,
            "by all texts": ~own & ~shared,
        }
        counts = ", ".join(f"{which.sum():,} {how}" for how, which in parts.items() if which.any())
        return f"{self} ({len(own):,} classes: {counts})"

    def exact_labels(self, coverage: float) -> NDArray[np.bool_]:
        """Whether each label has enough texts of its own for this coverage. *Shape:* (labels,)."""
        return np.bincount(self.classes, minlength=len(self.clusters)) >= texts_needed(coverage)

    def check_coverage(self, coverage: float) -> None:
        """Raise ValueError if there are too few calibration texts for this coverage."""
        if texts_needed(coverage) > self.num_texts:
            refuse_number(self.num_texts, coverage)

    def __repr__(self) -> str:
        return f"<prediction sets: {self}>"

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
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self) if field.init}

    @classmethod
    def of_saved(cls, arrays: Mapping[str, NDArray[Any]]) -> "PredictionSets":
        """The sets of the arrays of a file."""
        single = ("score", "by", "independent", "made_by")
        values: dict[str, Any] = {
            field.name: arrays[field.name].item() if field.name in single else np.array(arrays[field.name])
            for field in fields(cls)
            if field.init
        }
        return cls(**values)


def _limit(scores: Array, weights: Array, coverage: float) -> float:
    """The smallest score above which the weight of pairs, plus 1, is at most 1 - coverage of their weight plus 1.

    With weights of 1 it is the ceil(coverage (n + 1))-th smallest score. `scores` ascend.
    """
    allowed = (1 - coverage) * (weights.sum() + 1) - 1 + _ROUNDING
    if allowed < 0:
        return np.inf
    from_here = np.append(np.cumsum(weights[::-1])[::-1], 0.0)
    above = from_here[np.searchsorted(scores, scores, side="right")]
    return float(scores[np.argmax(above <= allowed)])


def fitted_sets(
    probabilities: NDArray[np.floating],
    targets: NDArray[np.integer],
    *,
    score: Score,
    by: By,
    uniforms: Array,
    chooses: NDArray[np.bool_],
    made_by: str = "{}",
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
    return sets_of_pairs(
        pairs_of(score, probabilities, targets, uniforms),
        probabilities.shape[1],
        score=score,
        by=by,
        independent=targets.ndim == 2,
        chooses=chooses,
        made_by=made_by,
    )


@dataclass(frozen=True)
class Pairs:
    """Calibration texts with their labels: one pair for each label of a text.

    Attributes:
        texts: Number of the text. *Shape:* (pairs,).
        classes: Its label. *Shape:* (pairs,).
        scores: Score of the label. *Shape:* (pairs,).
    """

    texts: NDArray[np.int64]
    classes: NDArray[np.int64]
    scores: Array


def pairs_of(
    score: Score, probabilities: NDArray[np.floating], targets: NDArray[np.integer], uniforms: Array, first: int = 0
) -> Pairs:
    """The pairs of some texts; `first` is the number of the first one. The arguments are those of `fitted_sets`."""
    p = np.asarray(probabilities, dtype=np.float64)
    rows, classes = np.nonzero(targets) if targets.ndim == 2 else (np.arange(len(p)), targets)
    scores = scores_of(score, p, uniforms)[rows, classes]
    return Pairs(rows.astype(np.int64) + first, classes.astype(np.int64), scores)


def joined_pairs(parts: Sequence[Pairs]) -> Pairs:
    """The pairs of several parts."""
    texts, classes, scores = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("texts", "classes", "scores")
    )
    return Pairs(texts, classes, scores)


def sets_of_pairs(
    pairs: Pairs,
    labels: int,
    *,
    score: Score,
    by: By,
    independent: bool,
    chooses: NDArray[np.bool_],
    made_by: str = "{}",
    weights_of_model: Array | None = None,
) -> PredictionSets:
    """Prediction sets from the scores of true labels.

    Args:
        pairs: The pairs of all texts.
        labels: Number of labels.
        score: "lac" or "aps".
        by: "all" or "class".
        independent: Whether the labels are independent.
        chooses: Whether each text chooses the clusters. *Shape:* (texts,).
        made_by: How the probabilities were made.
        weights_of_model: Some of the weights of the model.
    """
    weights = 1 / np.bincount(pairs.texts)[pairs.texts] if len(pairs.texts) else np.empty(0)
    order = np.argsort(pairs.scores, kind="stable")
    classes, scores, chosen = pairs.classes[order], pairs.scores[order], chooses[pairs.texts][order]
    if by == "class":
        clusters = clusters_of(classes, scores, chosen, labels)
    else:
        clusters = np.full(labels, NO_CLUSTER, dtype=np.int64)
    known = np.empty(0) if weights_of_model is None else weights_of_model
    return PredictionSets(score, by, independent, classes, scores, weights[order], chosen, clusters, made_by, known)


def scores_of(score: Score, p: Array, uniforms: Array) -> Array:
    """The score of each label of each text; small if it fits. *Shape:* (texts, labels).

    Args:
        score: "lac" or "aps".
        p: Probabilities. *Shape:* (texts, labels).
        uniforms: u of each text, for "aps". *Shape:* (texts,).
    """
    if score == "lac":
        return 1 - p
    found = cumulated(p, uniforms)
    if len(p):
        found[np.arange(len(p)), p.argmax(1)] = 0
    return found


def cumulated(p: Array, uniforms: Array) -> Array:
    """The sum of all larger probabilities of the text, plus u times its own; at most 1. *Shape:* (texts, labels)."""
    order = np.argsort(-p, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=1)
    found = np.empty_like(p)
    np.put_along_axis(found, order, np.cumsum(ranked, axis=1) - ranked + uniforms[:, None] * ranked, axis=1)
    return np.minimum(found, 1)


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


def refuse_number(texts: int, coverage: float) -> NoReturn:
    """Raise ValueError, because there are too few labeled texts for this coverage."""
    lower = f", or pass coverage={_rounded_down(texts / (texts + 1)):g}" if texts else ""
    raise ValueError(
        f"coverage={coverage:g} needs at least {texts_needed(coverage):,} labeled texts, and the prediction sets have "
        f"{texts:,}; call classifier.conformalize with more{lower}"
    )


def _rounded_down(value: float) -> float:
    """A number of three digits after the point that is at most `value`."""
    return float(np.floor(value * 1000) / 1000)
