"""Rotary embeddings whose frequencies depend on the length of the batch (dynamic and LongRoPE scaling).

Transformers picks the frequencies in the forward pass, from the padded length of the batch, and stores them in the
module. So a long text would change the answers of the texts beside it, and of texts that come later or from another
thread. Here no call leaves anything in the module, and texts whose frequencies differ do not share a batch.
"""

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

Limit = tuple[str, int]  # a kind of scaling, and the length in tokens beyond which it changes the frequencies


def make_stateless(model: nn.Module) -> list[Limit]:
    """Let each rotary embedding of `model` compute on a copy of itself, in the state in which it was built.

    Returns:
        The limits of these embeddings, for `frequency_group`.
    """
    found: list[Limit] = []
    for module in model.modules():
        if limits := _limits(module):
            found += limits
            module.forward = _Stateless(module)
    return found


def frequency_group(limits: Sequence[Limit], length: int) -> int:
    """A number for a padded length in tokens. Lengths with equal numbers have equal frequencies."""
    groups = (length if "dynamic" in kind else limit for kind, limit in limits if length > limit)
    return max(groups, default=0)


class _Stateless:
    """The forward of a rotary embedding, on a copy whose frequencies are the original ones."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        own = copy.copy(self._module)
        own.__dict__.pop("forward", None)
        own._buffers = dict(self._module._buffers)
        for name in [name for name in (*own._buffers, *vars(own)) if name.endswith("original_inv_freq")]:
            setattr(own, name.replace("original_inv_freq", "inv_freq"), getattr(own, name).clone())
        for name in [name for name in vars(own) if name.endswith("max_seq_len_cached")]:
            setattr(own, name, own.original_max_seq_len)
        return own.forward(*args, **kwargs)


def _limits(module: nn.Module) -> list[Limit]:
    """The limits of a rotary embedding; none if its frequencies are fixed, or for another module."""
    kinds: Any = getattr(module, "rope_type", None)
    config: Any = getattr(module, "config", None)
    parameters = getattr(config, "rope_parameters", None)
    if not kinds or not isinstance(parameters, dict):
        return []
    of_layers = [(kind, parameters[layer]) for layer, kind in kinds.items()] if isinstance(kinds, dict) else []
    found: list[Limit] = []
    for kind, settings in of_layers or [(kinds, parameters)]:
        if "dynamic" in kind:
            found.append((kind, config.max_position_embeddings))
        elif kind == "longrope":
            found.append((kind, int(settings["original_max_position_embeddings"])))
    return found
