"""Linear layers in float32 through the library that uses the whole processor.

PyTorch multiplies float32 matrices with Intel's MKL, which leaves AVX-512 unused on processors of other makers; oneDNN,
which comes with PyTorch too and computes in bfloat16 there, does not. On an AMD EPYC (Zen 5) it is twice as fast, with
one thread or two; the answers differ in their last bits.
"""

import functools
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAST = 2**20  # multiplications below which calling oneDNN costs more than it brings


def use_the_whole_processor(model: nn.Module) -> None:
    """Let the plain linear layers of `model` compute by `linear`, where that is the faster way on this machine."""
    if _mkl_is_slow():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = _Linear


def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear of (..., inputs) and (outputs, inputs): (..., outputs); without gradient through oneDNN if that pays."""
    if not _is_plain(input) or not _is_plain(weight) or input.shape[-1:] != weight.shape[1:]:
        return F.linear(input, weight, bias)
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or input[..., 0].numel() * weight.numel() < _LEAST:
        return F.linear(input, weight, bias)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product


class _Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def _is_plain(tensor: Tensor) -> bool:
    """Not quantised, nested or sparse, nor of another type or device."""
    ordinary = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and not tensor.is_nested
    return ordinary and tensor.dtype == torch.float32 and tensor.device.type == "cpu"


@functools.cache
def _mkl_is_slow() -> bool:
    mkl, onednn = torch.backends.mkl, torch.backends.mkldnn
    both = mkl.is_available() and onednn.is_available()  # type: ignore[no-untyped-call]
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    reachable = both and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # what torch.compile calls for a linear layer
    return reachable and wide and "GenuineIntel" not in _processor()


def _processor() -> str:
    """A text that holds the maker's name."""
    linux = Path("/proc/cpuinfo")
    return linux.read_text() if linux.exists() else platform.processor()
