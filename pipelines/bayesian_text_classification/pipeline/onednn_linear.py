"""Runs float32 linear layers through oneDNN on processors where MKL leaves AVX-512 unused.

PyTorch multiplies float32 matrices with Intel's MKL, which does not use AVX-512 on processors of other vendors. oneDNN
does. It also ships with PyTorch, which uses it for bfloat16. On an AMD EPYC (Zen 5), oneDNN is twice as fast, with one
thread or two. The results differ in their last bits.
"""

import functools
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAST = 2**20  # with fewer multiplications, the overhead of calling oneDNN outweighs the gain


def use_the_whole_processor(model: nn.Module) -> None:
    """Make the plain linear layers of `model` use `linear`, if that is faster on this machine."""
    if _mkl_is_slow():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = _Linear


def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear of (..., inputs) and (outputs, inputs), through oneDNN if that pays off and no gradient is needed.

    *Shape:* (..., outputs).
    """
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
    """Whether a tensor is an ordinary dense float32 CPU tensor: not quantized, nested, sparse or a subclass."""
    ordinary = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and not tensor.is_nested
    return ordinary and tensor.dtype == torch.float32 and tensor.device.type == "cpu"


@functools.cache
def _mkl_is_slow() -> bool:
    mkl, onednn = torch.backends.mkl, torch.backends.mkldnn
    both = mkl.is_available() and onednn.is_available()  # type: ignore[no-untyped-call]
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    reachable = both and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # what torch.compile uses for linear layers
    return reachable and wide and "GenuineIntel" not in _processor()


def _processor() -> str:
    """A text that contains the vendor's name."""
    linux = Path("/proc/cpuinfo")
    return linux.read_text() if linux.exists() else platform.processor()
