"""Runs the passes of each text: a fixed number, or as many as its score needs, in batches that fit in memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .batching import Apart, Batch, TokenBudget, plan
from .failures import cannot_run, is_out_of_memory, may_blame_text
from .inputs import unrunnable
from .masks import GROUP_SIZE

# A text's standard error is checked after a few passes, then after each complete group. A few passes give a poor
# estimate of their own spread, so a text stops there only if it is far below the tolerance. Half a group would lose
# what makes a complete one exact. benchmarks/pipeline/standard_error.py measures the effect.
FIRST_LOOK, FIRST_SHARE = 4, 0.25

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Draws:
    """The samples of several texts.

    Attributes:
        values: Samples; entries past `counts` are undefined. *Shape:* (texts, classes, samples).
        counts: Number of samples of each text. *Shape:* (texts,).
        novelty: Distance of each text from the classifier's scope; None if there is none. *Shape:* (texts,).
    """

    values: Values
    counts: NDArray[np.int64]
    novelty: NDArray[np.float64] | None = None

    def not_finite(self) -> list[int]:
        """Indices of the texts with a NaN among their samples, or as novelty."""
        bad = {int(i) for texts, samples in self.by_count() for i in texts[np.isnan(samples).any((1, 2))]}
        strange = [] if self.novelty is None else np.flatnonzero(np.isnan(self.novelty)).tolist()
        return sorted(bad | set(strange))

    def means(self) -> NDArray[np.float64]:
        """The mean of each text over its own samples. *Shape:* (texts, classes)."""
        means = np.empty(self.values.shape[:2])
        for texts, samples in self.by_count():
            means[texts] = samples.mean(2, dtype=np.float64)
        return means

    def by_count(self) -> Iterator[tuple[NDArray[np.intp], Values]]:
        """Yield the texts (indices) with each count, and their samples. *Shape:* (texts, classes, count)."""
        for count in np.unique(self.counts):
            texts = np.flatnonzero(self.counts == count)
            yield texts, self.values[texts, :, :count]


@dataclass(frozen=True)
class Passes:
    """Forward passes over some texts, in batches.

    Attributes:
        run: A function from texts (indices) and samples to values of *shape* (texts, samples, classes).
        lengths: Number of tokens of each text.
        budget: Token budget of a batch. If memory runs out, it is halved and the work continues.
        max_texts: The most texts in a batch.
        apart: A key for each text; texts with different keys never share a batch.
        samples_are_rows: Whether the samples of a text go through the model together or one after the other.
        progress: Called after each batch with its number of rows.
        first: Number of the first text, for error messages.
    """

    run: Callable[[Sequence[int], range], Values]
    lengths: Sequence[int]
    budget: TokenBudget
    max_texts: int | None = None
    apart: Sequence[Apart] | None = None
    samples_are_rows: bool = True
    progress: Callable[[int], None] | None = None
    first: int = 0

    def __call__(self, texts: Sequence[int], samples: range) -> Values:
        """Compute the `samples` of the `texts`, at least one of each. *Shape:* (texts, classes, samples).

        If a batch fails, its texts run one by one. Raises InputError for those that fail alone.
        """
        output: Values | None = None
        failed: dict[int, str] = {}
        for batch, values in self._all(texts, samples, failed):
            if output is None:
                output = np.empty((len(texts), values.shape[2], len(samples)), np.float32)
            first = batch.samples.start - samples.start
            output[batch.texts, :, first : first + len(batch.samples)] = values.swapaxes(1, 2)
            if self.progress is not None:
                self.progress(batch.rows)
        if failed:
            raise unrunnable({self.first + i: failed[i] for i in sorted(failed)}, len(self.lengths))
        assert output is not None
        return output

    def _all(self, texts: Sequence[int], samples: range, failed: dict[int, str]) -> Iterator[tuple[Batch, Values]]:
        """Yield batches of indices into `texts`, and their values. Add the texts that fail alone to `failed`."""
        lengths = [self.lengths[i] for i in texts]
        apart = None if self.apart is None else [self.apart[i] for i in texts]
        batches = plan(
            lengths,
            samples,
            self.budget,
            max_texts=self.max_texts,
            apart=apart,
            samples_are_rows=self.samples_are_rows,
        )
        for batch in batches:
            rows = batch.rows if self.samples_are_rows else len(batch.texts)  # in one forward pass
            try:
                values = self.run([texts[i] for i in batch.texts], batch.samples)
            except Exception as error:
                halves = is_out_of_memory(error) and rows > 1
                if not halves and not may_blame_text(error):
                    raise
                reason = cannot_run(error)
            else:
                yield batch, values
                continue
            # Outside the handler, whose exception keeps the tensors of the failed pass alive.
            parts = [batch.texts] if halves else [[i] for i in batch.texts]
            if halves:
                self.budget.halve(rows * max(lengths[i] for i in batch.texts))
                if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                    torch.cuda.empty_cache()
            elif len(parts) == 1:
                failed[texts[batch.texts[0]]] = reason
                continue
            for own in parts:
                for part, values in self._all([texts[i] for i in own], batch.samples, failed):
                    yield Batch([own[i] for i in part.texts], part.samples), values


def fixed(passes: Passes, texts: int, samples: range) -> Draws:
    """Draw the same samples of every text."""
    return Draws(passes(range(texts), samples), np.full(texts, len(samples)))


def until_precise(
    passes: Passes, texts: int, most: int, tolerance: float, error: Callable[[Values], NDArray[np.float64]]
) -> Draws:
    """Sample each text until the standard error of its score drops below `tolerance`.

    After each check, the texts below the limit stop and the others continue together.

    Args:
        passes: Passes over the texts.
        texts: Number of texts.
        most: The most samples of a text.
        tolerance: Limit of the standard error, in units of the score.
        error: A function from samples, *shape* (texts, classes, samples), to standard errors, *shape* (texts,).
    """
    left: list[tuple[NDArray[np.intp], Values]] = []
    active: NDArray[np.intp] = np.arange(texts)
    values: Values | None = None  # of the active texts only: `most` may be far more than any text needs
    done = 0
    for look, share in _looks(most):
        drawn = passes(active.tolist(), range(done, look))
        values = drawn if values is None else np.concatenate([values, drawn], axis=2)
        done = look
        leaves = error(values) < share * tolerance if look < most else np.full(len(active), True)
        left.append((active[leaves], values[leaves]))
        active, values = active[~leaves], values[~leaves]
        if not active.size:
            break
    counts = np.zeros(texts, np.int64)
    output = np.empty((texts, left[0][1].shape[1], done), np.float32)
    for who, samples in left:
        counts[who] = samples.shape[2]
        output[who, :, : samples.shape[2]] = samples
    return Draws(output, counts)


def joined(parts: Iterable[NDArray[np.floating]], *shape: int) -> NDArray[np.float32]:
    """The parts, one after the other; with no parts, no texts of this `shape`. *Shape:* (texts, *shape)."""
    arrays = [part.astype(np.float32, copy=False) for part in parts]
    return np.concatenate(arrays) if arrays else np.empty((0, *shape), np.float32)


def _looks(most: int) -> Iterator[tuple[int, float]]:
    """Yield the passes done at each check, up to `most`, and the share of the tolerance that stops a text there."""
    if most > FIRST_LOOK:
        yield FIRST_LOOK, FIRST_SHARE
    for look in range(GROUP_SIZE, most, GROUP_SIZE):
        yield look, 1.0
    yield most, 1.0
