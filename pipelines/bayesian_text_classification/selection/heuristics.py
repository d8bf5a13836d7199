"""Which unlabelled texts a person should label first: BaaL's heuristics on this library's samples."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special

from ..pipeline.randomness import unmoved_random_state

HEURISTICS = ("bald", "entropy", "margin", "variance", "batch_bald")


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
