"""Further places for dropout in models whose only dropout is in the attention weights, as in most decoders.

These are the outputs of the attention and of the MLP of each block, before they are added to the residual stream: where
BERT and the original transformer have dropout too (Vaswani et al. 2017, arXiv:1706.03762, sec. 5.4).
"""

from collections.abc import Collection
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def add_output_dropout(model: nn.Module, attentions: Collection[str]) -> None:
    """Add a call of dropout with p = 0 behind the attention and the MLP of each block of `model`, which is changed.

    A block is the smallest module around one of the `attentions` that holds another child with weight matrices. Each
    such child is taken for an MLP. Other blocks of the same classes, such as those with another kind of attention, are
    treated alike.

    Args:
        model: A private copy of the model.
        attentions: Paths of the modules that drop attention weights.
    """
    blocks = {type(block) for path in attentions if (block := _block_around(model, path)) is not None}
    for module in list(model.modules()):
        if type(module) in blocks:
            for child in module.children():
                if _has_matrices(child):
                    child.register_forward_hook(_dropped)


def _block_around(model: nn.Module, path: str) -> nn.Module | None:
    """The smallest module around the one at `path` that holds another child with weight matrices."""
    while path:
        path, _, own = path.rpartition(".")
        module = model.get_submodule(path)
        if any(_has_matrices(child) for name, child in module.named_children() if name != own):
            return module
    return None


def _has_matrices(module: nn.Module) -> bool:
    return any(weight.ndim > 1 for weight in module.parameters())


def _dropped(module: nn.Module, args: Any, output: Any) -> Any:
    """The module's output after a call of dropout. The first of several outputs is the one for the residual stream."""
    if isinstance(output, Tensor):
        return F.dropout(output, 0.0)
    return (F.dropout(output[0], 0.0), *output[1:])
