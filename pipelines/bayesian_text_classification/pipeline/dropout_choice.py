"""Chooses the dropout rates of the samples by the likelihood of held-out labels, each with its own calibration.

The choice is the first candidate whose mean loss is within one standard error of the best one's: the one-standard-error
rule (Breiman et al. 1984, "Classification and regression trees", sec. 3.4.3), with the standard error of the paired
difference.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fitting import Method, fit
from .inputs import text_key
from .options import Options
from .probe import DropoutSite
from .rates import Dropout, Rates
from .temperature import SMALLEST

INSERTED = (0.02, 0.05, 0.1, 0.2)  # for sites whose own rate is 0
FACTORS = (0.5, 1.0, 2.0, 3.0)  # of rates above 0
FOLDS = 5


def candidates(own: Sequence[DropoutSite], with_inserted: Sequence[DropoutSite]) -> tuple[Dropout, ...]:
    """Options `dropout` to choose from. The model's own rates come first, then small changes before large ones.

    Args:
        own: The sites with the model's own rates.
        with_inserted: The sites with inserted dropout. It is a candidate if most calls are inserted.
    """
    found: list[Dropout] = []
    if own:
        most = max(site.p for site in own)
        factors = sorted((one for one in FACTORS if one * most < 1), key=lambda one: (one != 1, one))
        found += [Rates(factor=one).option for one in factors]
    calls = [site.calls * (1 if site.inserted else -1) for site in with_inserted]
    return (*found, *INSERTED) if sum(calls) > 0 else tuple(found)


def fold_of_each(groups: NDArray[np.intp], folds: int = FOLDS) -> NDArray[np.intp]:
    """A fold for each text, so that the texts of a group share one. Groups are numbered from 0. *Shape:* (texts,)."""
    count = int(groups.max()) + 1
    order = np.random.default_rng(0).permutation(count)
    return np.asarray(order % min(folds, count))[groups]


def held_out_losses(
    method: Method, probabilities: NDArray[np.floating], targets: NDArray[np.integer], groups: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Negative log-likelihood of each text after a calibration that was fitted on the other folds. *Shape:* (texts,).

    Args:
        method: How the probabilities are calibrated.
        probabilities: *Shape:* (texts, classes).
        targets: Class ids, *shape* (texts,); for independent labels 0 and 1, (texts, labels). Their losses are added.
        groups: Number of each text's group, from 0; copies of a text share one. *Shape:* (texts,).

    Raises:
        ValueError: There is only one group.
    """
    if groups.max() < 1:
        raise ValueError(
            'dropout="auto" compares rates on held-out texts, so it needs at least 3 different texts; pass more (a few '
            "hundred), or choose a rate, such as dropout=0.1"
        )
    folds, losses = fold_of_each(groups), np.empty(len(targets))
    for fold in np.unique(folds):
        held = folds == fold
        scaled = fit(method, probabilities[~held], targets[~held]).apply(probabilities[held])
        losses[held] = losses_of(scaled, targets[held])
    return losses


def chosen(losses: NDArray[np.float64], groups: NDArray[np.intp]) -> int:
    """Index of the first candidate within one standard error of the best. *Shape:* (candidates, texts), (texts,)."""
    means = losses.mean(1)
    best = int(means.argmin())
    differences = losses - losses[best]
    of_groups = np.array([np.bincount(groups, weights=row) for row in differences - differences.mean(1, keepdims=True)])
    errors = np.sqrt((of_groups**2).sum(1)) / losses.shape[1]
    return int(np.flatnonzero(means - means[best] <= errors)[0])


def best_options(
    options: Sequence[Options],
    averages: Callable[[Options], NDArray[np.floating]],
    method: Method,
    targets: NDArray[np.integer],
    groups: NDArray[np.intp],
) -> tuple[Options, NDArray[np.floating]]:
    """The chosen options, and the probabilities that they give.

    Args:
        options: The candidates, the cheapest first.
        averages: Computes the probabilities for some options. *Shape:* (texts, classes).
        method: How they are calibrated.
        targets: As in `held_out_losses`.
        groups: As in `held_out_losses`.

    Raises:
        ValueError: All texts are the same.
    """
    found = [averages(one) for one in options]
    losses = np.array([held_out_losses(method, p, targets, groups) for p in found])
    best = chosen(losses, groups)
    return options[best], found[best]


def groups_of(texts: Sequence[Any]) -> NDArray[np.intp]:
    """The same number for equal texts, from 0. *Shape:* (texts,)."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text_key(text), len(numbers)) for text in texts], np.intp)


def losses_of(probabilities: NDArray[np.float64], targets: NDArray[np.integer]) -> NDArray[np.float64]:
    """Negative log-likelihood of each text's targets; for independent labels, the sum over them. *Shape:* (texts,)."""
    if targets.ndim == 1:
        return np.asarray(-np.log(np.maximum(probabilities[np.arange(len(targets)), targets], SMALLEST)))
    of_truth = np.where(targets == 1, probabilities, 1 - probabilities)
    losses: NDArray[np.float64] = -np.log(np.maximum(of_truth, SMALLEST)).sum(1)
    return losses
