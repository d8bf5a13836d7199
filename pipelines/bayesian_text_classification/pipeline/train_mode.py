"""Keeps off everything that `train()` mode turns on besides dropout.

That is: LayerDrop, router jitter, gradient checkpointing, batch statistics, buffer updates, and attention kernels that
apply dropout internally.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

# Attributes of configs and modules that turn on noise other than dropout.
_LAYERDROP = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop")
_JITTER = ("jitter_noise", "router_jitter_noise", "input_jitter_noise", "moe_jitter_eps")


def switch_off_other_noise(model: nn.Module) -> None:
    """Turn off LayerDrop and gradient checkpointing for good, and use an attention whose dropout is a visible call."""
    config = getattr(model, "config", None)
    for owner in (config, *model.modules()):
        for name in (*_LAYERDROP, "gradient_checkpointing"):
            value = getattr(owner, name, None)
            if value:
                setattr(owner, name, type(value)(0))
    if config is not None and getattr(config, "_attn_implementation", "sdpa") not in ("eager", "sdpa"):
        # Flash and flex attention apply dropout inside their kernels.
        model.set_attn_implementation("sdpa" if getattr(model, "_supports_sdpa", True) else "eager")  # type: ignore[operator]


@contextmanager
def train_mode(model: nn.Module) -> Iterator[None]:
    """Run in `train()` mode without router jitter, batch statistics or buffer updates; then return to `eval()` mode."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.eval()  # in training mode it would use the statistics of the batch
    try:
        with _own_buffers(model), _no_jitter(model), _no_layerdrop(model):
            yield
    finally:
        model.eval()


@contextmanager
def _no_jitter(model: nn.Module) -> Iterator[None]:
    """Turn router jitter off while in train() mode. It stays on in eval(), where Phi-MoE reads it as a threshold."""
    found = [
        (module, name, getattr(module, name))
        for module in model.modules()
        for name in _JITTER
        if getattr(module, name, None)
    ]
    for module, name, _ in found:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in found:
            setattr(module, name, value)


def _no_layerdrop(model: nn.Module) -> AbstractContextManager[object]:
    """Keep every layer without drawing a number for it, as transformers before 5.22 does even at a rate of 0."""
    has_rate = any(hasattr(module, name) for module in model.modules() for name in _LAYERDROP)
    return _KeepLayers() if has_rate else nullcontext()


class _KeepLayers(TorchFunctionMode):
    """Answers `torch.rand([])`, the number that LayerDrop compares with its rate, with 1."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.rand and args == ([],) and not kwargs:
            return torch.ones(())
        return func(*args, **(kwargs or {}))


@contextmanager
def _own_buffers(model: nn.Module) -> Iterator[None]:
    """Use clones of the buffers shared with the caller, because training mode may update running statistics."""
    shared = [(module, name, buffer) for module in model.modules() for name, buffer in module._buffers.items()]
    clones = {id(buffer): buffer.clone() for _, _, buffer in shared if buffer is not None}
    for module, name, buffer in shared:
        module._buffers[name] = None if buffer is None else clones[id(buffer)]
    try:
        yield
    finally:
        for module, name, buffer in shared:
            module._buffers[name] = buffer
