"""Which texts to accept, and which a person should see first.

A threshold on the score that keeps the error among accepted texts below a target, with a guarantee; and an order of
unlabelled texts by BaaL's heuristics on this library's samples.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special, stats

from .randomness import unmoved_random_state

# The walk of `threshold_for`: so many steps at most, from the fewest rows at which half the errors that the target
# allows would pass; where there are too few rows for that, none.
_STEPS = 40
_AT_START = (0.5, 0.0)

HEURISTICS = ("bald", "entropy", "margin", "variance", "batch_bald")


@dataclass(frozen=True)
class Threshold:
    """A threshold and what it does on the rows it was chosen on.

    Attributes:
        threshold: texts with this score or more are accepted.
        target: of the error rate among accepted texts.
        confidence: with which it is kept.
        accepted: rows accepted.
        rows: all rows.
        errors: wrong rows among the accepted ones.
        bound: upper confidence bound of the error rate among accepted texts, at most the target.
    """

    threshold: float
    target: float
    confidence: float
    accepted: int
    rows: int
    errors: int
    bound: float


def threshold_for(
    scores: NDArray[np.floating], correct: NDArray[np.bool_], target: float, *, confidence: float = 0.9
) -> Threshold | None:
    """The lowest threshold at which P(wrong | score >= threshold) <= target, with probability >= `confidence`.

    The k-th highest score is a threshold. Given it, the errors among the rows above are binomial, and the bound of
    Clopper and Pearson (1934) holds at any k. Thresholds are tried by fixed-sequence testing (Bauer 1991; Angelopoulos
    et al. 2021, Learn then Test, arXiv:2110.01052, section 3): k begins where half the errors that the target allows
    would pass (none, where the rows are too few for that), and grows by a fortieth of the rows until the first that
    fails. The sequence of k depends on the number of rows alone, so that every test has the whole level; as the
    thresholds are themselves drawn, it is kept up to terms of order 1/k. It is assumed that later texts are drawn as
    the rows were, and nothing of the model. In simulations at least 90 of 100 thresholds kept a promise of 90 %.

    Args:
        scores: *Shape:* (rows,).
        correct: whether the predicted label was right. *Shape:* (rows,).
        target: the largest error rate among accepted texts, in (0, 1).
        confidence: in (0, 1).

    Returns:
        None where this walk finds no threshold: there are too few rows, or too many errors among the surest.

    Raises:
        ValueError: target or confidence out of range, arrays that do not fit together, or a score that is NaN.
    """
    scores, correct = np.asarray(scores, dtype=np.float64), np.asarray(correct, dtype=bool)
    for name, value in (("target", target), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value!r}; it must lie between 0 and 1")
    if scores.ndim != 1 or scores.shape != correct.shape or not scores.size:
        raise ValueError(f"scores have the shape {scores.shape} and correct {correct.shape}; give one of each per row")
    if np.isnan(scores).any():
        raise ValueError(f"scores[{int(np.isnan(scores).argmax())}] is NaN; it has no place in an order")
    rows, sizes = len(scores), np.arange(1, len(scores) + 1)
    for share in _AT_START:
        promising = upper_bound(np.floor(share * target * sizes).astype(int), sizes, confidence) <= target
        if promising.any():
            break
    else:
        return None
    ranks = np.unique([*range(int(promising.argmax()), rows - 1, max(rows // _STEPS, 1)), rows - 1])
    thresholds = -np.sort(-scores)[ranks]
    # All rows of equal scores are accepted together.
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


def upper_bound(errors: NDArray[np.integer], trials: NDArray[np.integer], confidence: float) -> NDArray[np.float64]:
    """One-sided upper confidence bound of a rate (Clopper and Pearson 1934): 1 where there are no trials."""
    errors, trials = np.asarray(errors), np.asarray(trials)
    failed = errors >= trials
    bound = stats.beta.ppf(confidence, errors + 1, np.where(failed, 1, trials - errors))
    return np.where(failed, 1.0, bound)


def rank(
    samples: NDArray[np.floating], heuristic: str = "bald", *, batch: int = 10, seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The order in which a person should label texts, and the score of each text by BaaL's heuristic.

    Args:
        samples: probabilities of stochastic passes. *Shape:* (texts, classes, samples).
        heuristic: "bald" (mutual information), "entropy" (predictive), "variance" (of the probabilities), "margin"
            (small ones first), or "batch_bald", which chooses `batch` texts that say different things (Kirsch et al.
            2019, arXiv:1906.08158), each next one the one that adds most; the others follow in the order of "bald".
        batch: of "batch_bald".
        seed: of the draws of "batch_bald".

    Returns:
        Indices of the texts, *shape* (texts,), and scores, *shape* (texts,), in the order of the texts. Of "batch_bald"
        it is the mutual information, in nats, of the model and the labels of all texts chosen so far, and 0 for others.

    Raises:
        ValueError: an unknown heuristic, or samples of another shape.
    """
    p = np.clip(np.asarray(samples, dtype=np.float64), 0, 1)  # BaaL takes numbers beyond for logits
    if p.ndim != 3:
        raise ValueError(f"samples have the shape {p.shape}; expected (texts, classes, samples)")
    if heuristic not in HEURISTICS:
        raise ValueError(f"heuristic={heuristic!r}; it must be one of {', '.join(map(repr, HEURISTICS))}")
    from baal.active import heuristics  # it configures structlog for the whole process and costs a second

    simple = {
        "bald": heuristics.BALD,
        "entropy": heuristics.Entropy,
        "margin": heuristics.Margin,
        "variance": heuristics.Variance,
    }
    with unmoved_random_state():  # BaaL draws even where it has no use for it
        if heuristic != "batch_bald":
            order, scores = simple[heuristic]().get_ranks(p)
            return order, scores
        torch.manual_seed(seed % 2**63)
        order, scores = heuristics.BatchBALD(num_samples=min(batch, len(p)) - 1).get_ranks(p)
        rest, _ = heuristics.BALD().get_ranks(p)
    # BaaL's scores grow with each choice: they lack the expected entropies of the earlier ones.
    chosen = order[: np.count_nonzero(scores)][::-1]
    expected = special.entr(p[chosen]).sum(1).mean(1)
    scores[chosen[1:]] -= expected[:-1].cumsum()
    return np.concatenate([chosen, rest[~np.isin(rest, chosen)]]), scores
