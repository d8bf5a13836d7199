"""Choose a score threshold that keeps the error rate among accepted texts below a target."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ..pipeline.inputs import shown
from .groups import Groups, checked_groups, of_groups

# `threshold_for` tests at most this many steps. It starts at the fewest rows at which half the errors that the target
# allows would pass. If there are too few rows for that, it starts where no errors would pass.
_STEPS = 40
_AT_START = (0.5, 0.0)


@dataclass(frozen=True)
class Threshold:
    """A threshold, and its effect on the rows it was chosen on.

    Attributes:
        threshold: Score from which texts are accepted (inclusive).
        target: Target for the error rate among accepted texts.
        confidence: Probability that the target is kept.
        accepted: Number of accepted rows; with `groups`, of groups, here and below.
        rows: Number of all rows.
        errors: Number of wrong rows among the accepted ones.
        bound: Upper confidence bound of the error rate among accepted texts, at most the target.
    """

    threshold: float
    target: float
    confidence: float
    accepted: int
    rows: int
    errors: int
    bound: float


def threshold_for(
    scores: NDArray[np.floating],
    correct: NDArray[np.bool_],
    target: float,
    *,
    confidence: float = 0.9,
    groups: Groups | None = None,
) -> Threshold | None:
    """Find the lowest threshold at which P(wrong | score >= threshold) <= target, with probability >= `confidence`.

    The k-th highest score is a threshold. Given it, the errors among the rows above are binomial, and the bound of
    Clopper and Pearson (1934) holds at any k. Thresholds are tried by fixed-sequence testing (Bauer 1991; Angelopoulos
    et al. 2021, Learn then Test, arXiv:2110.01052, section 3). k starts where half the errors that the target allows
    would pass (or no errors, if there are too few rows for that). It grows by a fortieth of the rows until the first
    threshold that fails.

    The sequence of k depends only on the number of rows, so every test uses the full level. The thresholds themselves
    are random, so the level holds up to terms of order 1/k. The only assumption is that later texts are drawn like the
    rows; nothing is assumed about the model. In simulations, at most 10 of 100 thresholds missed a target that
    was promised with 90% confidence.

    Copies of a text carry no information of their own. Five copies of each text would let 19 of 100 thresholds miss
    their target. Pass `groups` if texts repeat: each group then counts once. It has its highest score, and is wrong if
    any of its rows is.

    Args:
        scores: Score of each row. *Shape:* (rows,).
        correct: Whether the predicted label was right. *Shape:* (rows,).
        target: Largest error rate among accepted texts, in (0, 1).
        confidence: Probability that the target is kept, in (0, 1).
        groups: What rows belong together: their texts, pairs (`{"text": ..., "text_pair": ...}`), or other names or
            numbers. None: each row counts. *Shape:* (rows,).

    Returns:
        The threshold, or None if there is none: too few rows, or too many errors among the most confident.

    Raises:
        ValueError: `target` or `confidence` is out of range, the arrays do not match, a score is NaN, a group is
            missing, or `correct` holds something other than True and False.
    """
    scores = np.asarray(scores, np.float64)
    correct = bits(correct, "correct must hold True or False for each row; np.equal(predicted, labels) gives that")
    check_shares(target=target, confidence=confidence)
    if scores.ndim != 1 or scores.shape != correct.shape or not scores.size:
        raise ValueError(f"scores have shape {scores.shape} and correct has {correct.shape}; pass one of each per row")
    if np.isnan(scores).any():
        raise ValueError(f"scores[{int(np.isnan(scores).argmax())}] is NaN, which cannot be ranked; remove that row")
    if groups is not None:
        scores, correct = of_groups(scores, correct, checked_groups(groups, len(scores)))
    rows, sizes = len(scores), np.arange(1, len(scores) + 1)
    for share in _AT_START:
        promising = upper_bound(np.floor(share * target * sizes).astype(int), sizes, confidence) <= target
        if promising.any():
            break
    else:
        return None
    ranks = np.unique([*range(int(promising.argmax()), rows - 1, max(rows // _STEPS, 1)), rows - 1])
    thresholds = -np.sort(-scores)[ranks]
    # Rows with equal scores are accepted together.
    accepted = np.searchsorted(np.sort(-scores), -thresholds, side="right")
    errors = np.searchsorted(np.sort(-scores[~correct]), -thresholds, side="right")
    bounds = upper_bound(errors, accepted, confidence)
    failed = np.flatnonzero(bounds > target)
    last = (int(failed[0]) if failed.size else len(ranks)) - 1
    if last < 0:
        return None
    return Threshold(
        float(thresholds[last]),
        target,
        confidence,
        int(accepted[last]),
        rows,
        int(errors[last]),
        float(bounds[last]),
    )


def check_shares(**values: Any) -> None:
    """Raise ValueError, with the name, unless each value is a number between 0 and 1, both excluded."""
    for name, value in values.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float | np.integer | np.floating)
            or not 0 < value < 1
        ):
            raise ValueError(f"{name} is {shown(value)}; it must be a number between 0 and 1")


def bits(values: Any, refusal: str) -> NDArray[np.bool_]:
    """The values as booleans. Raises ValueError with this message unless all are True and False, or 1 and 0."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
        raise ValueError(refusal)
    return array.astype(bool)


def upper_bound(errors: ArrayLike, trials: ArrayLike, confidence: float) -> NDArray[np.float64]:
    """Compute the one-sided upper confidence bound of a rate (Clopper and Pearson 1934). It is 1 without trials."""
    errors, trials = np.asarray(errors), np.asarray(trials)
    failed = errors >= trials
    bound = stats.beta.ppf(confidence, errors + 1, np.where(failed, 1, trials - errors))
    return np.where(failed, 1.0, bound)


def rows_for(rate: float, target: float, confidence: float) -> int:
    """The fewest accepted rows whose upper bound reaches the target if this share of them is wrong, below the target.

    Raises:
        ValueError: The rate is not below the target.
    """
    if not 0 <= rate < target:
        raise ValueError(f"rate={rate!r}; it must be at least 0 and below the target of {target}")

    def fails(rows: int) -> bool:
        return bool(upper_bound(np.float64(rate * rows), np.int64(rows), confidence) > target)

    most = 1
    while fails(most):
        most *= 2
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if fails(middle) else (least, middle)
    return most


def lower_bound(errors: int, trials: int, confidence: float) -> float:
    """Compute the one-sided lower confidence bound of a rate (Clopper and Pearson 1934)."""
    return float(stats.beta.ppf(1 - confidence, errors, trials - errors + 1)) if errors else 0.0
