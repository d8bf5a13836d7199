"""The features of a text: the mean of the encoder's last hidden states in an ordinary pass.

A hook on the encoder hands its output over, so that features cost no further pass. It does nothing in other passes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

NO_STATES = "the model has no hidden states that show what a text looks like to it"

_TAKEN: ContextVar[list[Any] | None] = ContextVar("taken", default=None)


def add_tap(model: nn.Module) -> None:
    """Add the hook to a private copy of a classifier; a copy of that has it too.

    It is on the encoder (the `base_model` of transformers). In a model without one, it is on all linear layers, and the
    input of the last one that runs counts.
    """
    encoder = _encoder(model)
    if encoder is not None:
        encoder.register_forward_hook(_take_output)
        return
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(_take_input)


@contextmanager
def taking() -> Iterator[list[Any]]:
    """Yield a list that the passes of this thread add the encoder's outputs to."""
    taken: list[Any] = []
    before = _TAKEN.set(taken)
    try:
        yield taken
    finally:
        _TAKEN.reset(before)


def pooled(taken: list[Any], inputs: Mapping[str, Tensor]) -> Tensor:
    """The features of each row, in float32. *Shape:* (texts, features).

    They are the mean over the tokens of the last hidden states. An encoder that shortens its input (Funnel) gives the
    state of its first position.

    Raises:
        ValueError: The encoder gave no hidden states.
    """
    ids = inputs["input_ids"]
    states = _states(taken[-1]) if taken else None
    if states is None or not states.is_floating_point() or states.ndim not in (2, 3) or len(states) != len(ids):
        raise ValueError(NO_STATES)
    if states.ndim == 2:
        return states.float()
    if states.shape[1] != ids.shape[1]:
        return states[:, 0].float()
    weights = inputs.get("attention_mask", torch.ones_like(ids)).unsqueeze(-1).to(states.device)
    total = torch.where(weights != 0, states.float(), 0.0).sum(1)
    return total / (weights != 0).sum(1).clamp(min=1)


def _encoder(model: nn.Module) -> nn.Module | None:
    """The part of a transformers model below its head, also inside PEFT's wrapper; None if there is none."""
    for module in model.modules():
        prefix = getattr(module, "base_model_prefix", None)
        inner = getattr(module, prefix, None) if isinstance(prefix, str) and prefix else None
        if isinstance(inner, nn.Module) and inner is not module:
            return inner
    return None


def _states(output: Any) -> Tensor | None:
    """The last hidden states in an encoder's output."""
    if isinstance(output, Mapping):
        output = output.get("last_hidden_state", next(iter(output.values()), None))
    elif isinstance(output, (tuple, list)):
        output = output[0] if output else None
    return output if isinstance(output, Tensor) else None


def _take_output(module: nn.Module, args: Any, output: Any) -> None:
    taken = _TAKEN.get()
    if taken is not None:
        taken.append(output)


def _take_input(module: nn.Module, args: Any) -> None:
    taken = _TAKEN.get()
    if taken is not None and args:
        taken.append(args[0])
