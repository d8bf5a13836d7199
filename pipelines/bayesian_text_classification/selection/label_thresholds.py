"""Choose a score threshold for each of several independent labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .groups import Groups, checked_groups, of_groups
from .thresholds import Threshold, bits, check_shares, threshold_for, upper_bound


def label_thresholds(
    scores: NDArray[np.floating],
    labels: NDArray[np.integer],
    names: Sequence[str] | Mapping[int, str],
    *,
    precision: float | None = None,
    recall: float | None = None,
    confidence: float = 0.9,
    groups: Groups | None = None,
) -> dict[str, Threshold]:
    """Find a threshold for each label that keeps its precision, or its recall, with probability >= `confidence`.

    For a precision, this is `threshold_for` on each label: the lowest threshold at which at most `1 - precision` of the
    accepted texts lack the label. For a recall, it is the highest threshold that at least this share of the texts with
    the label reaches. It is an order statistic of their scores, whose coverage has a beta distribution (a one-sided
    tolerance limit, Wilks 1941), so the level holds exactly for scores without ties.

    The confidence is that of each label by itself. Of ten labels at a confidence of 0.9, expect one to miss its target.

    Args:
        scores: Probability of each label. *Shape:* (rows, labels).
        labels: 1 where the label applies, else 0. *Shape:* (rows, labels).
        names: Names of the labels: a list, or the model's `id2label`.
        precision: Smallest share of accepted texts that have the label, in (0, 1). Give this or `recall`.
        recall: Smallest share of the texts with the label that are accepted, in (0, 1).
        confidence: Probability that the target is kept, in (0, 1).
        groups: What rows belong together: their texts, pairs (`{"text": ..., "text_pair": ...}`), or other names or
            numbers. None: each row counts. *Shape:* (rows,).

    Returns:
        The thresholds by name, without the labels that have none. In each, `target` and `bound` are error rates: of the
        accepted texts for a precision, of the texts with the label for a recall. To use them:
        `classifier.threshold = {name: found.threshold for name, found in thresholds.items()}`.

    Raises:
        ValueError: Not exactly one target is given, one is out of range, the arrays do not match, a score is NaN, or a
            group is missing.
    """
    scores = np.asarray(scores, np.float64)
    happened = bits(labels, "labels must be rows of 0 and 1, one for each label, such as [[1, 0], [1, 1]]")
    if (precision is None) == (recall is None):
        raise ValueError("give precision= or recall=, and not both")
    if len(set(names.values() if isinstance(names, Mapping) else names)) < len(names):
        raise ValueError("two labels have the same name; give every label a name of its own")
    if scores.ndim != 2 or scores.shape != happened.shape or len(names) != scores.shape[1]:
        raise ValueError(
            f"scores have shape {scores.shape}, labels {happened.shape}, and there are {len(names)} names; pass scores "
            "and labels of shape (rows, labels)"
        )
    if not len(scores):
        raise ValueError("there are no rows; pass at least one")
    if groups is not None:
        groups = checked_groups(groups, len(scores))  # once for all labels
    given = {"recall": recall} if precision is None else {"precision": precision}
    check_shares(**given, confidence=confidence)
    if np.isnan(scores).any():
        row, label = np.argwhere(np.isnan(scores))[0]
        raise ValueError(f"scores[{row}][{label}] is NaN, which cannot be ranked; remove that row")
    found = {}
    for k in range(scores.shape[1]):
        if precision is not None:
            chosen = threshold_for(scores[:, k], happened[:, k], 1 - precision, confidence=confidence, groups=groups)
        else:
            chosen = _for_recall(scores[:, k], happened[:, k], float(recall or 0), confidence, groups)
        if chosen is not None:
            found[names[k]] = chosen
    return found


def _for_recall(
    scores: NDArray[np.floating],
    happened: NDArray[np.bool_],
    recall: float,
    confidence: float,
    groups: NDArray[Any] | None,
) -> Threshold | None:
    """The highest score of a text with the label that keeps the recall; None if even the lowest does not."""
    own: NDArray[np.floating] = scores[happened]
    if groups is not None and own.size:  # the lowest score of each group
        own = -of_groups(-own, np.full(len(own), True), groups[happened])[0]
    own = np.sort(own)
    rows = len(own)
    # P(score >= the r-th lowest) ~ Beta(rows - r + 1, r)
    kept = np.flatnonzero(stats.beta.sf(recall, rows - np.arange(rows), np.arange(rows) + 1) >= confidence)
    if not kept.size:
        return None
    threshold = own[kept[-1]]
    missed = int((own < threshold).sum())
    bound = float(upper_bound(missed, rows, confidence))
    return Threshold(float(threshold), 1 - recall, confidence, rows - missed, rows, missed, bound)
