"""Further places for dropout in models whose only dropout is in the attention weights, as in most decoders.

These are the outputs of the attention and of the MLP of each block. BERT and the original transformer have dropout
there too (Vaswani et al. 2017, arXiv:1706.03762, sec. 5.4).
"""

from collections.abc import Collection
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


def add_output_dropout(model: nn.Module, attentions: Collection[str]) -> None:
    """Add a call of dropout with p = 0 behind the attention and the MLP of each block of `model`, which is changed.

    A block is the smallest module around one of the `attentions` with another child that is no single layer: its MLP.
    Other blocks of the same classes, such as those with another kind of attention, are treated alike. Norms are left
    alone, and a module that several blocks share is one place.

    Args:
        model: A private copy of the model.
        attentions: Paths of the modules that drop attention weights.
    """
    blocks = {type(block) for path in attentions if (block := _block_around(model, path)) is not None}
    found = [child for block in model.modules() if type(block) in blocks for child in block.children()]
    for child in dict.fromkeys(found):
        if _is_part(child):
            child.register_forward_hook(_dropped)


def _block_around(model: nn.Module, path: str) -> nn.Module | None:
    """The smallest module around the one at `path` with another part, except the model itself and containers."""
    while path:
        path, _, own = path.rpartition(".")
        module = model.get_submodule(path)
        if not path or isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.Sequential)):
            continue
        if any(_is_part(child) for name, child in module.named_children() if name != own):
            return module
    return None


def _is_part(module: nn.Module) -> bool:
    """Whether a child of a block is its attention or its MLP: it has weight matrices, in modules of its own."""
    norm = "norm" in type(module).__name__.lower()
    matrices = any(weight.ndim > 1 for weight in module.parameters())
    return matrices and not norm and any(True for _ in module.children())


def _dropped(module: nn.Module, args: Any, output: Any) -> Any:
    """The module's output after a call of dropout. The first of several outputs is the one for the residual stream."""
    if isinstance(output, Tensor):
        return F.dropout(output, 0.0)
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        return (F.dropout(output[0], 0.0), *output[1:])
    return output
