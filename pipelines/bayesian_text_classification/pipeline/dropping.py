"""What dropout does to a tensor, given its mask."""

import torch
from torch import Tensor

from .masks import INTEGERS, Mask


def drop(x: Tensor, mask: Mask, p: float) -> Tensor:
    """The kept units of x, scaled by 1 / (1 - p); 0 elsewhere. *Shape:* that of x."""
    if p >= 1:
        return torch.zeros_like(x)
    # Under autocast, x may have another width than the call's input. Sign extension fits the mask to any width.
    kept = integers(x) & mask.whole().to(integers(x).dtype)
    return kept.view(x.dtype).mul_(1 / (1 - p))


def alpha_drop(x: Tensor, bits: Tensor, p: float) -> Tensor:
    """Set dropped units to SELU's negative limit, then restore mean and variance (Klambauer et al. 2017, sec. 3)."""
    if p >= 1:
        return torch.zeros_like(x)
    limit = -1.7580993408473766
    a = float(((1 - p) * (1 + p * limit**2)) ** -0.5)
    return torch.where(bits != 0, x, limit) * a - a * limit * p


def integers(x: Tensor) -> Tensor:
    """The bits of x as integers of the same width. *Shape:* that of x."""
    return x.view(INTEGERS[x.dtype.itemsize])
