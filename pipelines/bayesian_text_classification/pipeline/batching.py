"""Which texts and samples go through the model together: batches of similar length under a token budget."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from .masks import GROUP_SIZE

_LENIENCE = 4  # budgets that a group of passes may take

T = TypeVar("T")
Apart = tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """Texts (indices), and the samples of each, that are run together: len(texts) * len(samples) rows."""

    texts: Sequence[int]
    samples: range

    @property
    def rows(self) -> int:
        """Number of rows in the batch."""
        return len(self.texts) * len(self.samples)


class TokenBudget:
    """The most padded tokens (rows x longest length) in a batch; shrinks for good when a batch runs out of memory.

    Attributes:
        tokens: The current budget. A batch has at least one row, however long it is.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def halve(self, failed: int) -> None:
        """Lower the budget after a batch of `failed` tokens did not fit: to at most half as many."""
        self.tokens = max(min(self.tokens, failed) // 2, 1)


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield consecutive lists of `size` items, the last one possibly shorter. Memory does not grow with the input."""
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


def plan(
    lengths: Sequence[int],
    samples: range,
    budget: TokenBudget,
    *,
    max_texts: int | None = None,
    apart: Sequence[Apart] | None = None,
    samples_are_rows: bool = True,
) -> Iterator[Batch]:
    """Yield batches that cover every sample of every text once, longest texts first among those with equal `apart`.

    Args:
        lengths: Number of tokens of each text.
        samples: The passes of each text. They stay in one batch unless a single text exceeds the budget. The passes of
            a group, whose masks have one draw, stay in one batch up to four times the budget.
        budget: Token budget. It is read before each batch, so a budget that shrinks in between is respected.
        max_texts: The most texts in a batch.
        apart: A key for each text; texts with different keys never share a batch.
        samples_are_rows: Whether a forward pass holds all samples of its texts, or one sample at a time.
    """
    apart = [()] * len(lengths) if apart is None else apart
    order = sorted(range(len(lengths)), key=lambda i: (apart[i], -lengths[i]))
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        rows = max(budget.tokens // max(longest, 1), 1)
        count = max(min(rows // (len(samples) if samples_are_rows else 1), max_texts or len(order)), 1)
        texts = [i for i in order[start : start + count] if apart[i] == apart[order[start]]]
        start += len(texts)
        if not samples_are_rows or rows >= len(samples):
            yield Batch(texts, samples)
            continue
        group = min(GROUP_SIZE, len(samples))
        if rows < group and group * longest <= _LENIENCE * budget.tokens:
            rows = group
        for part in _parts(samples, rows):
            yield Batch(texts, part)


def _parts(samples: range, most: int) -> Iterator[range]:
    """Split samples into parts of at most `most` that hold whole groups, or lie in one."""
    start = samples.start
    while start < samples.stop:
        stop = start - start % GROUP_SIZE + max(most // GROUP_SIZE, 1) * GROUP_SIZE
        part = range(start, min(stop, start + most, samples.stop))
        yield part
        start = part.stop
