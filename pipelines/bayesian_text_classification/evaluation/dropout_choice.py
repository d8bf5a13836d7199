"""The dropout of the sampled arms, chosen without the texts that it is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..pipeline.dropout_choice import chosen, fold_of_each, held_out_losses
from ..pipeline.fitting import Method
from ..pipeline.rates import Dropout

Probabilities = NDArray[np.floating]
Labels = NDArray[np.integer]
Groups = NDArray[np.intp]


@dataclass(frozen=True)
class DropoutChoice:
    """What was chosen, and from what.

    Attributes:
        dropout: The choice on all texts.
        candidates: What it was chosen from.
        losses: Mean NLL of each candidate on held-out texts, with a calibration of its own.
        in_folds: The choice without each fold of the measured texts; empty if it was made on other texts.
    """

    dropout: Dropout
    candidates: tuple[Dropout, ...]
    losses: tuple[float, ...]
    in_folds: tuple[Dropout, ...] = ()

    @property
    def sentence(self) -> str:
        """The choice in words."""
        losses = ", ".join(f"{shown(one)}: {loss:.4f}" for one, loss in zip(self.candidates, self.losses, strict=True))
        best = self.candidates[self.losses.index(min(self.losses))]
        why = "the best" if best == self.dropout else f"the first within one standard error of the best, {shown(best)}"
        said = f"Dropout was chosen by the calibrated NLL of held-out texts ({losses}): {shown(self.dropout)}, {why}"
        if not self.in_folds:
            return f"{said}, on the calibration texts."
        folds = ", ".join(map(shown, self.in_folds))
        return f"{said}. Each fifth of the texts is measured with the choice on the other four fifths ({folds})."


def shown(dropout: Dropout) -> str:
    """An option `dropout` in words."""
    return "the model's own rates" if dropout is None else str(dropout)


def choice_on_others(
    candidates: Sequence[Dropout],
    averages: Sequence[Probabilities],
    method: Method,
    labels: Labels,
    groups: Groups,
) -> DropoutChoice:
    """Choose on texts that are not measured, from the averages of each candidate. *Shape:* (texts, classes) each."""
    losses = np.array([held_out_losses(method, p, labels, groups) for p in averages])
    return DropoutChoice(candidates[chosen(losses, groups)], tuple(candidates), tuple(losses.mean(1).tolist()))


def choice_in_folds(
    candidates: Sequence[Dropout],
    samples: Sequence[Probabilities],
    method: Method,
    labels: Labels,
    groups: Groups,
) -> tuple[DropoutChoice, Probabilities]:
    """Choose on the measured texts, for each fifth of them on the other four.

    Args:
        candidates: What to choose from.
        samples: The samples of each candidate. *Shape:* (texts, classes, samples) each.
        method: How the averages are calibrated.
        labels: As in `held_out_losses`.
        groups: As in `held_out_losses`.

    Returns:
        The choice, and the samples of each text at the dropout that was chosen without it.
    """
    means = [one.mean(2, dtype=np.float64) for one in samples]

    def best_on(rows: NDArray[np.bool_]) -> tuple[int, NDArray[np.float64]]:
        own = np.unique(groups[rows], return_inverse=True)[1]
        losses = np.array([held_out_losses(method, p[rows], labels[rows], own) for p in means])
        return chosen(losses, own), losses.mean(1)

    best, losses = best_on(np.full(len(labels), True))
    folds, apart, in_folds = fold_of_each(groups), samples[best].copy(), []
    for fold in np.unique(folds):
        held = folds == fold
        own, _ = best_on(~held)
        in_folds.append(candidates[own])
        apart[held] = samples[own][held]
    return DropoutChoice(candidates[best], tuple(candidates), tuple(losses.tolist()), tuple(in_folds)), apart
