"""Rank unlabeled texts for labeling, with BaaL's heuristics on this library's samples."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special

from ..pipeline.randomness import unmoved_random_state

HEURISTICS = ("bald", "entropy", "margin", "variance", "batch_bald")


OVER_LABELS = ("mean", "max")


def rank(
    samples: NDArray[np.floating],
    heuristic: str = "bald",
    *,
    batch: int = 10,
    seed: int = 0,
    over_labels: str | None = None,
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
        over_labels: For samples of independent labels: how the scores of a text's labels become one, "mean" or "max".
            Each label is a choice between two classes. None: the samples are probabilities of classes.

    Returns:
        Indices of the texts in the order to label them, and the score of each text in the original order. For
        "batch_bald", the score is the mutual information, in nats, between the model and the labels of all texts chosen
        so far, and 0 for texts that are not chosen. *Shape:* (texts,) for both.

    Raises:
        ValueError: The heuristic or `over_labels` is unknown, the samples have another shape or do not add up to 1 over
            the classes, or "batch_bald" is given for independent labels.
    """
    if over_labels is not None:
        return _rank_labels(np.asarray(samples, dtype=np.float64), heuristic, over_labels)
    p = np.clip(np.asarray(samples, dtype=np.float64), 0, 1)  # BaaL treats values outside [0, 1] as logits
    if p.ndim != 3:
        raise ValueError(f"samples have the shape {p.shape}; expected (texts, classes, samples)")
    if not np.allclose(p.sum(1), 1, atol=1e-2):
        raise ValueError(
            "the samples do not add up to 1 over the classes; for independent labels, or one output, pass "
            "over_labels='mean' or over_labels='max'"
        )
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


def _rank_labels(
    samples: NDArray[np.float64], heuristic: str, over_labels: str
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """`rank` for independent labels: each label of each text is scored as a choice between two classes."""
    if over_labels not in OVER_LABELS:
        raise ValueError(f"over_labels={over_labels!r}; it must be 'mean' or 'max'")
    if heuristic == "batch_bald":
        raise ValueError("heuristic='batch_bald' needs classes; for independent labels use heuristic='bald'")
    if samples.ndim != 3:
        raise ValueError(f"samples have the shape {samples.shape}; expected (texts, labels, samples)")
    texts, labels, passes = samples.shape
    pairs = np.stack([1 - samples, samples], 2).reshape(texts * labels, 2, passes)
    each = rank(pairs, heuristic)[1].reshape(texts, labels)
    smallest = heuristic == "margin"  # the only one whose smallest score comes first
    scores = each.mean(1) if over_labels == "mean" else each.min(1) if smallest else each.max(1)
    return np.argsort(scores if smallest else -scores, kind="stable"), scores
