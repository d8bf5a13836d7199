"""Splits large tensors into tiles that stay in a processor's cache.

A mask takes a dozen simple operations per unit. On whole tensors, each operation reads and writes main memory. On tiles
of this size, most of it stays in the cache, and memory does not grow with the square of the length.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

import torch

_PER_THREAD = 2**17  # numbers in a tile. With fewer, calling operations takes longer than they do.
_LEAST_PER_THREAD = 2**15  # numbers of a row that is a tile by itself
_ON_ACCELERATORS = 2**24  # not measured


def tile_size(device: torch.device) -> int:
    """The most numbers in a tile. The threads of a CPU share a tile, and each works in its own cache."""
    return _PER_THREAD * torch.get_num_threads() if device.type == "cpu" else _ON_ACCELERATORS


def one_row_at_a_time(numbers: int, device: torch.device) -> bool:
    """Whether tiles of rows with so many numbers each should not hold several rows.

    On a CPU, rows of different samples must be copied to be processed together, which takes as long as an operation.
    But a row must be large enough to keep all threads busy: PyTorch gives each of them at least 2^15 numbers.
    """
    return device.type == "cpu" and numbers >= _LEAST_PER_THREAD * torch.get_num_threads()


def tiles(sizes: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Yield tiles of at most `most` numbers, and at least one, that cover a tensor of these sizes, in order.

    Inner dimensions stay whole for as long as they fit.
    """
    split = next((d for d in range(len(sizes)) if prod(sizes[d + 1 :]) <= most), len(sizes) - 1)
    if not prod(sizes):
        yield tuple(slice(0, size) for size in sizes)
        return
    inner = tuple(slice(0, size) for size in sizes[split + 1 :])
    step = even(sizes[split], most // prod(sizes[split + 1 :]))
    for *outer, start in product(*map(range, sizes[:split]), range(0, sizes[split], step)):
        yield (*(slice(i, i + 1) for i in outer), slice(start, min(start + step, sizes[split])), *inner)


def even(size: int, most: int) -> int:
    """The size of parts, at most `most` and at least 1, that differ little from each other."""
    return -(-size // -(-size // max(most, 1)))
