"""Probabilities of independent labels, any number of which may apply to a text.

A row is a text with all its labels. Labels of one text depend on each other, so resamples draw whole texts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...pipeline.scaling import logits, sigmoid
from ...pipeline.temperature import SMALLEST
from .predictions import BINS, Array, Fitted, PerRow, Predictions, Sums, Values, Weighted, unweighted

_SIGNS = 100  # sets of random signs at once


@dataclass(frozen=True)
class LabelPredictions(Predictions):
    """Rows with the probability of each label, and 1 where the label applies.

    Attributes:
        probabilities: *Shape:* (rows, labels).
        labels: 0 or 1. *Shape:* (rows, labels).
        label: The only label that is here, as an index among all of them; None: all are here.
    """

    label: int | None = None

    @classmethod
    def of(
        cls,
        probabilities: NDArray[np.floating],
        labels: NDArray[np.integer],
        groups: NDArray[np.intp] | None = None,
    ) -> "LabelPredictions":
        """Convert probabilities of any precision."""
        return cls(np.asarray(probabilities, np.float64), np.asarray(labels, np.int64), groups)

    def of_label(self, label: int) -> "LabelPredictions":
        """The rows with this label alone."""
        fitted = self.fitted.of_label(label) if isinstance(self.fitted, FittedPairs) else None
        return LabelPredictions(self.probabilities[:, [label]], self.labels[:, [label]], self.groups, fitted, label)

    def like(self, other: Predictions) -> Predictions:
        """The rows with the only label that `other` has, or with all of them."""
        label = other.label if isinstance(other, LabelPredictions) else None
        return self if label is None or self.label is not None else self.of_label(label)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Whether a probability above 0.5 says right that the label applies. *Shape:* (rows, labels)."""
        return np.asarray((self.probabilities > 0.5) == self.labels)

    @cached_property
    def correct(self) -> Array:
        """Share of the labels that are right. *Shape:* (rows,)."""
        return np.asarray(self.right.mean(1))

    @cached_property
    def errors(self) -> int:
        """Number of draws with a wrong label."""
        return self._draws_among(np.asarray(~self.right.all(1), np.bool_))

    @property
    def minority(self) -> int:
        """Number of draws with a wrong label, with a right one, or with one that applies, whichever is smallest."""
        right, applies = (np.asarray(one.any(1), np.bool_) for one in (self.right, self.labels))
        return min(self.errors, self._draws_among(right), self._draws_among(applies))

    @cached_property
    def columns(self) -> list[tuple[Array, Array]]:
        """Probability of each label, and whether it applies."""
        return list(zip(self.probabilities.T, self.labels.T.astype(np.float64), strict=True))

    @cached_property
    def nll(self) -> Array:
        """Binary cross-entropy in nats, averaged over the labels. *Shape:* (rows,)."""
        own = np.where(self.labels == 1, self.probabilities, 1 - self.probabilities)
        return np.asarray(-np.log(np.maximum(own, SMALLEST)).mean(1))

    @cached_property
    def brier(self) -> Array:
        """`(p - y)^2`, averaged over the labels. *Shape:* (rows,)."""
        return np.asarray(((self.probabilities - self.labels) ** 2).mean(1))

    def as_if_right(self, random: np.random.Generator, rounds: int) -> Iterator[Weighted]:
        """Flip the signs of a text's errors p - y, all at once, `rounds` times. Copies of a text are flipped together.

        If the probabilities are right, errors are 0 on average, and flipped errors have the same covariances, those
        between labels included. Independent labels from the probabilities would not (a wild bootstrap, Davison and
        Hinkley 1997, section 6.2.4). In each bin of a label, the errors are scaled to the variance p (1 - p) that they
        would have, because those of a model that is off are larger.
        """
        for first in range(0, rounds, _SIGNS):
            signs = np.asarray(random.choice([-1.0, 1.0], (min(_SIGNS, rounds - first), self.draws)), np.float64)
            yield Flipped(self, signs if self.groups is None else signs[:, self.groups])


class Flipped(Weighted):
    """Rows whose errors have other signs: `weights` are the signs. *Shape:* (rounds, rows)."""

    @cached_property
    def total(self) -> Array:
        """Number of rows. *Shape:* (rounds,)."""
        return np.full(len(self.weights), float(len(self.rows.labels)))

    @cached_property
    def column_sums(self) -> list[Sums]:
        """Bin sums of each label; gaps have the flipped errors."""
        found = []
        for bins, (p, y) in zip(self.rows.column_bins, self.rows.columns, strict=True):
            place = np.zeros((len(bins), BINS))
            expected, found_in = (np.bincount(bins, weights=one, minlength=BINS) for one in (p * (1 - p), (p - y) ** 2))
            scale = np.sqrt(np.divide(expected, found_in, out=np.zeros(BINS), where=found_in > 0))
            place[np.arange(len(bins)), bins] = (p - y) * scale[bins]
            counts, sums = (np.bincount(bins, weights=one, minlength=BINS)[None] for one in (np.ones(len(bins)), p))
            gaps = self.weights @ place
            found.append(Sums(np.broadcast_to(counts, gaps.shape), np.broadcast_to(sums, gaps.shape), sums - gaps))
        return found


@dataclass(frozen=True)
class FittedPairs(Fitted):
    """A slope and a bias for each label (Platt scaling) that were fitted on the measured rows.

    Attributes:
        left_out: The rows, each at the pairs that the other groups give, to first order.
        raw: Log odds before the scaling. *Shape:* (rows, labels).
        pairs: Log slope and bias of each label. *Shape:* (labels, 2).
        influence: Influence of each row on the pairs. *Shape:* (rows, labels, 2).
    """

    left_out: LabelPredictions
    raw: Array
    pairs: Array
    influence: Array

    @classmethod
    def of(cls, rows: LabelPredictions, before: Array, pairs: Array, influence: Array) -> "FittedPairs":
        """From the scaled rows, and their probabilities `before`."""
        raw = logits(before)
        own = influence if rows.groups is None else _summed(influence, rows.groups)[rows.groups]
        slopes, biases = np.exp(pairs[:, 0] - own[:, :, 0]), pairs[:, 1] - own[:, :, 1]
        left_out = LabelPredictions(sigmoid(slopes * raw + biases), rows.labels, rows.groups)
        return cls(left_out, raw, pairs, influence)

    def of_label(self, label: int) -> "FittedPairs":
        """The pair of one label."""
        one = [label]
        return FittedPairs(self.left_out.of_label(label), self.raw[:, one], self.pairs[one], self.influence[:, one])

    def noise(self, per_row: PerRow) -> tuple[Array, float]:
        """See `Fitted.noise`. Slopes and curvatures are differences over one standard error of each number.

        `per_row` is a mean over labels, so each label is moved by itself.
        """
        rows = self.left_out
        own = self.influence if rows.groups is None else _summed(self.influence, rows.groups)
        errors = np.sqrt((own**2).sum(0))  # the jackknife's. *Shape:* (labels, 2)
        slopes, curvatures = np.zeros_like(errors), np.zeros_like(errors)
        for label, pair in enumerate(self.pairs):
            base = self._mean(per_row, label, pair)
            for number in np.flatnonzero(errors[label]).tolist():
                step = np.zeros(2)
                step[number] = errors[label, number]
                up, down = (self._mean(per_row, label, pair + move) for move in (step, -step))
                slopes[label, number] = (up - down) / (2 * errors[label, number])
                curvatures[label, number] = up + down - 2 * base
        moves = len(self.raw) * np.einsum("ika,ka->i", self.influence, slopes)
        return moves - moves.mean(), float(np.sqrt((curvatures**2).sum() / 2))

    def refitted(self, rows: Predictions, measures: Sequence[Values], weights: Array) -> Array:
        """See `Fitted.refitted`."""
        count = len(self.raw)
        pairs = self.pairs + ((weights - 1) @ self.influence.reshape(count, -1)).reshape(len(weights), -1, 2)
        found = np.empty((len(measures), 2, len(weights)))
        for i, pair in enumerate(pairs):
            data = Weighted(self._at(pair), np.stack([weights[i], np.ones(count)]))
            for k, values in enumerate(measures):
                found[k, :, i] = values(data)
        return found

    def _at(self, pairs: Array) -> LabelPredictions:
        rows = self.left_out
        return LabelPredictions(sigmoid(np.exp(pairs[:, 0]) * self.raw + pairs[:, 1]), rows.labels, rows.groups)

    def _mean(self, per_row: PerRow, label: int, pair: Array) -> float:
        """What one label at a pair adds to the mean of `per_row`."""
        rows, count = self.left_out, len(self.pairs)
        p = sigmoid(np.exp(pair[0]) * self.raw[:, [label]] + pair[1])
        one = LabelPredictions(p, rows.labels[:, [label]], rows.groups, label=label)
        return float(per_row(one).mean()) / count


def _summed(influence: Array, groups: NDArray[np.intp]) -> Array:
    """Influence of each group. *Shape:* (groups, labels, 2)."""
    found = np.zeros((int(groups.max()) + 1, *influence.shape[1:]))
    np.add.at(found, groups, influence)
    return found


def pooled(sums: Sequence[Sums]) -> Sums:
    """The sums of all labels in the same bins."""
    return Sums(*(np.sum([getattr(one, name) for one in sums], axis=0) for name in ("counts", "confidence", "hits")))


def effective_counts(rows: LabelPredictions) -> Array:
    """Effective number of pairs of a text and a label in each bin (Kish 1965). *Shape:* (bins,).

    The share of a bin's pairs whose label applies varies as much as that of so many independent pairs. Labels of one
    text, and copies of a text, are drawn together. At least 1, and at most the number of distinct pairs.
    """
    sums = pooled(unweighted(rows).column_sums)
    counts = sums.counts[0]
    share = sums.hits[0] / np.maximum(counts, 1)
    apart: NDArray[np.float64] = np.zeros((len(rows.labels), BINS))
    texts = np.arange(len(rows.labels))
    for bins, (_, y) in zip(rows.column_bins, rows.columns, strict=True):
        apart[texts, bins] += y - share[bins]
    if rows.groups is not None:
        apart = np.stack([np.bincount(rows.groups, weights=column) for column in apart.T], 1)
    spread, most = (apart**2).sum(0), counts * counts * share * (1 - share)
    texts_in = np.zeros((len(rows.labels), BINS), bool)
    for bins in rows.column_bins:
        texts_in[texts, bins] = True
    alone = np.array([rows._draws_among(column) for column in texts_in.T], np.float64)  # if all of a bin's are equal
    effective = np.divide(most, spread, out=alone, where=spread > 0)
    return np.asarray(np.clip(effective, 1, np.maximum(counts * rows.draws / len(rows.labels), 1)))
