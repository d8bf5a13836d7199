"""Which texts and samples go through the model together: batches of similar length under a token budget."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from .masks import GROUP_SIZE
from .tiles import even

# Budgets that a batch of one group may take: on a CPU five passes of 512 tokens, or ten of 256. A model of half the
# width takes half the memory, so ten passes of 512 tokens stay together and share their draw.
_LENIENCE = 5 / 3
_USUAL_WIDTH = 768

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
        lenient: Whether a batch of passes of one group, whose balanced masks have one draw, may take two thirds more,
            or up to 3.3 times as many if the model is narrow. Only as long as memory lasts and nobody has set the
            budget.

    Args:
        tokens: The first budget.
        width: Hidden size of the model; None if it is not known.
    """

    def __init__(self, tokens: int, width: int | None = None) -> None:
        self.tokens, self.lenient = tokens, True
        self._lenience = _LENIENCE * min(max(_USUAL_WIDTH / (width or _USUAL_WIDTH), 1), 2)

    def set(self, tokens: int) -> None:
        """Take another budget; the same number changes nothing."""
        if tokens != self.tokens:
            self.tokens, self.lenient = tokens, False

    def halve(self, failed: int) -> None:
        """Lower the budget after a batch of `failed` tokens did not fit: to at most half as many.

        A batch above the budget lowers it by one token only. The number then shows that the budget is not the first.
        """
        if failed > self.tokens and self.lenient:
            self.set(max(self.tokens - 1, 1))
        else:
            self.tokens = max(min(self.tokens, failed) // 2, 1)
        self.lenient = False

    def rows(self, length: int, samples: int) -> int:
        """The most rows of this length in a batch of one text with this many samples."""
        length, group = max(length, 1), min(GROUP_SIZE, samples)
        rows = max(self.tokens // length, 1)
        if rows >= group:
            return rows
        most = int(self.tokens * (self._lenience if self.lenient else 1)) // length
        return even(group, most)  # parts of a group that differ little from each other


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
        samples: The passes of each text. They stay in one batch unless a single text exceeds the budget. Then batches
            have whole groups of passes, or passes of one group.
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
        left = samples
        while left:
            most = budget.rows(longest, len(samples))
            whole = max(most // GROUP_SIZE, 1) * GROUP_SIZE - left.start % GROUP_SIZE  # up to the end of a group
            yield Batch(texts, left[: min(most, whole)])
            left = left[min(most, whole) :]
