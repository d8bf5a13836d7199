"""Rank unlabeled texts for labeling, with BaaL's heuristics on this library's samples."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special

from ..pipeline.randomness import unmoved_random_state

HEURISTICS = ("bald", "entropy", "margin", "variance", "batch_bald")


def rank(
    samples: NDArray[np.floating], heuristic: str = "bald", *, batch: int = 10, seed: int = 0
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Rank texts for labeling, and score each text with one of BaaL's heuristics.

    Args:
        samples: Probabilities from stochastic passes. *Shape:* (texts, classes, samples).
        heuristic: "bald" (mutual information), "entropy" (predictive), "variance" (of the probabilities), "margin"
            (smallest first), or "batch_bald" (Kirsch et al. 2019, arXiv:1906.08158). The last one chooses `batch` texts
            that carry different information. Each is the one that adds most to those before it. The remaining texts
            follow in the order of "bald".
        batch: Number of texts that "batch_bald" chooses.
        seed: Seed of the random draws of "batch_bald".

    Returns:
        Indices of the texts in the order to label them, and the score of each text in the original order. For
        "batch_bald", the score is the mutual information, in nats, between the model and the labels of all texts chosen
        so far, and 0 for texts that are not chosen. *Shape:* (texts,) for both.

    Raises:
        ValueError: The heuristic is unknown, or the samples have another shape.
    """
    p = np.clip(np.asarray(samples, dtype=np.float64), 0, 1)  # BaaL treats values outside [0, 1] as logits
    if p.ndim != 3:
        raise ValueError(f"samples have the shape {p.shape}; expected (texts, classes, samples)")
    if heuristic not in HEURISTICS:
        raise ValueError(f"heuristic={heuristic!r}; it must be one of {', '.join(map(repr, HEURISTICS))}")
    from baal.active import heuristics  # configures structlog for the whole process and takes a second

    simple = {
        "bald": heuristics.BALD,
        "entropy": heuristics.Entropy,
        "margin": heuristics.Margin,
        "variance": heuristics.Variance,
    }
    with unmoved_random_state():  # BaaL draws random numbers even when it does not need them
        if heuristic != "batch_bald":
            order, scores = simple[heuristic]().get_ranks(p)
            return order, scores
        torch.manual_seed(seed % 2**63)
        order, scores = heuristics.BatchBALD(num_samples=min(batch, len(p)) - 1).get_ranks(p)
        rest, _ = heuristics.BALD().get_ranks(p)
    # BaaL's scores grow with each choice because they do not subtract the expected entropies of earlier ones.
    chosen = order[: np.count_nonzero(scores)][::-1]
    expected = special.entr(p[chosen]).sum(1).mean(1)
    scores[chosen[1:]] -= expected[:-1].cumsum()
    return np.concatenate([chosen, rest[~np.isin(rest, chosen)]]), scores
