"""Which texts and samples go through the model together: batches of similar length under a token budget."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Some texts (indices) and the samples of each that one forward pass takes: len(texts) * len(samples) rows."""

    texts: Sequence[int]
    samples: range

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return len(self.texts) * len(self.samples)


class TokenBudget:
    """The most padded tokens (rows x longest length) of a batch; smaller for good once a batch did not fit in memory.

    Attributes:
        tokens: at least one row is taken, however long it is.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def halve(self, failed: int) -> None:
        """Batches of `failed` tokens do not fit: from now on half as many at the most."""
        self.tokens = max(min(self.tokens, failed) // 2, 1)


def windows(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Consecutive lists of `size` items, the last one shorter: memory does not grow with the input."""
    iterator = iter(items)
    while window := list(islice(iterator, size)):
        yield window


def plan(
    lengths: Sequence[int],
    samples: range,
    budget: TokenBudget,
    *,
    max_texts: int | None = None,
    apart: Sequence[int] | None = None,
    samples_are_rows: bool = True,
) -> Iterator[Batch]:
    """Batches that cover every text and every sample once, the longest texts first (of those with one `apart`).

    Args:
        lengths: tokens of each text.
        samples: the passes of each text. They stay in one batch unless a single text alone is over the budget.
        budget: looked at before each batch, so that one that shrinks meanwhile is kept to.
        max_texts: the most texts in a batch.
        apart: a number for each text; texts of different numbers never share a batch.
        samples_are_rows: a forward pass holds all samples of its texts; otherwise one after the other.
    """
    apart = [0] * len(lengths) if apart is None else apart
    order = sorted(range(len(lengths)), key=lambda i: (apart[i], -lengths[i]))
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        rows = max(budget.tokens // max(longest, 1), 1)
        count = max(min(rows // (len(samples) if samples_are_rows else 1), max_texts or len(order)), 1)
        texts = [i for i in order[start : start + count] if apart[i] == apart[order[start]]]
        start += len(texts)
        together = rows if samples_are_rows else len(samples)
        for first in range(0, len(samples), together):
            yield Batch(texts, samples[first : first + together])
