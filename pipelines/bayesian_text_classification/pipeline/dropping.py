"""What dropout does to a tensor, given its mask."""

import torch
from torch import Tensor

from .masks import Mask
from .tiles import tile_size, tiles


def drop(x: Tensor, mask: Mask, p: float) -> Tensor:
    """The kept units of x, scaled by 1 / (1 - p); 0 elsewhere. *Shape:* that of x. There are no gradients."""
    if p >= 1:
        return torch.zeros_like(x)
    mask = mask.as_type(x.dtype)  # under autocast, x may have another type than the call's input
    kept = torch.empty_like(x)
    if not mask.rows_first or mask.shape != x.shape:
        return scale_positive(x, mask.whole(), 1 / (1 - p), out=kept)
    source, target = (torch.unflatten(one, 0, (mask.texts, len(mask.samples))) for one in (x, kept))
    most = tile_size(x.device)
    for texts, *units in tiles((mask.texts, *mask.units), most // mask.groups):
        words = mask.words(texts, units)
        step = mask.samples_at_once(words, most)
        tile = (texts, slice(None), *units)
        sources, targets = (torch.split(one[tile], step, 1) for one in (source, target))
        for i, signs in enumerate(mask.parts(words, step)):
            scale_positive(sources[i], signs, 1 / (1 - p), out=targets[i])
    return kept


def alpha_drop(x: Tensor, mask: Mask, p: float) -> Tensor:
    """Set dropped units to SELU's negative limit, then restore mean and variance (Klambauer et al. 2017, sec. 3)."""
    if p >= 1:
        return torch.zeros_like(x)
    limit = -1.7580993408473766
    a = float(((1 - p) * (1 + p * limit**2)) ** -0.5)
    return torch.where(mask.whole() > 0, x, limit) * a - a * limit * p


def scale_positive(x: Tensor, signs: Tensor, factor: float, out: Tensor) -> Tensor:
    """Multiply x by `factor` where `signs` is positive, by 0 where it is negative. *Shape:* that of x and `out`.

    On a CPU, this is the gradient of an ELU that is flat below 0, with `signs` as the ELU's result: one operation that
    selects and scales. As in PyTorch's dropout on a CPU, 0 times NaN or infinity is NaN.
    """
    if x.device.type != "cpu":
        return out.copy_(torch.where(signs > 0, x * factor, 0.0))
    result: Tensor = torch.ops.aten.elu_backward.grad_input(x, 0.0, factor, 0.0, True, signs, grad_input=out)
    return result


def zero_negative(x: Tensor, signs: Tensor) -> None:
    """Set x to 0 in place, also where it is NaN, where `signs` of the same *shape* is negative.

    This is the gradient of a ReLU: one operation.
    """
    torch.ops.aten.threshold_backward.grad_input(x, signs, 0.0, grad_input=x)
