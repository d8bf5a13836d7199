"""What the dimensions of a dropout call's input mean, read off its shapes and values in passes that differ in one way.

Another number of texts shows the batch dimension, another length the positions. Another text in the middle of three
confirms which rows are whose.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .masks import Layout

# Right for one row alone, whose whole input is the text's whatever its dimensions mean. Told by identity: a pooled
# output, (texts, width), has an equal layout and need not run alone.
ALONE = Layout(0)


def layout_of(shape: Sequence[int], more_texts: Sequence[int], longer: Sequence[int]) -> Layout:
    """The meaning of each dimension from the shapes of one call for 2 texts, 3 texts and 2 longer texts."""
    if not len(shape) == len(more_texts) == len(longer):
        return ALONE
    batch = [d for d, (two, three) in enumerate(zip(shape, more_texts, strict=True)) if two != three]
    if not batch:
        return Layout(None, tuple(d for d, (a, b) in enumerate(zip(shape, longer, strict=True)) if a != b))
    if len(batch) > 1 or shape[batch[0]] * 3 != more_texts[batch[0]] * 2:
        return ALONE
    dim = batch[0]
    folded = shape[dim] // 2 > 1
    # Take the batch dimension out, keeping what is folded into it, and see which of the rest grows with the length.
    rest = [*shape[:dim], *([shape[dim] // 2] if folded else []), *shape[dim + 1 :]]
    rest_longer = [*longer[:dim], *([longer[dim] // 2] if folded else []), *longer[dim + 1 :]]
    return Layout(dim, tuple(d for d, (a, b) in enumerate(zip(rest, rest_longer, strict=True)) if a != b))


def fold_of(layout: Layout | None, shape: Sequence[int], longer: Sequence[int]) -> int | None:
    """Parts of a text that the batch dimension holds; None where longer texts have more of them.

    `shape` and `longer` are those of one call for 2 texts and for 2 longer texts.
    """
    if layout is None or layout.batch_dim is None or shape[layout.batch_dim] != longer[layout.batch_dim]:
        return None
    return shape[layout.batch_dim] // 2


def only_the_middle_changes(dim: int, before: Tensor, after: Tensor) -> bool:
    """Whether two inputs differ in the middle third of their dimension `dim` alone.

    Inputs that no text enters (positions) do not differ at all: then the dimension must hold the rows and nothing else.
    """
    if before.shape != after.shape or before.size(dim) % 3:
        return False
    x, y = before.float(), after.float()
    differs = ~torch.isclose(x, y, rtol=4 * torch.finfo(before.dtype).eps, atol=1e-6, equal_nan=True)
    rows = differs.movedim(dim, 0).flatten(1).any(1).view(3, -1).any(1).tolist()
    return rows == [False, True, False] or (not any(rows) and before.size(dim) == 3)
