"""Memory that the operations of forward passes use again and again."""

import ctypes
import os
import sys
from collections.abc import Sequence
from functools import cache
from math import prod

import torch
from torch import Tensor

# Of glibc's <malloc.h>, and the environment variables that set the same limits, as GLIBC_TUNABLES may.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LIMITS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


class Workspace:
    """Tensors that live until the next request under the same name.

    Large tensors that are allocated for each operation come from the system each time, and the page faults take longer
    than the operations.
    """

    def __init__(self) -> None:
        # By name, dtype and device: all of the memory, and the last view of it.
        self._memory: dict[tuple[str, torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def empty(self, name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor with undefined numbers; it shares memory with earlier ones of this name."""
        place = name, dtype, device
        memory, last = self._memory.get(place, (None, None))
        if last is not None and last.shape == shape:
            return last  # a new view takes as long as calling an operation
        size = prod(shape)
        if memory is None or memory.numel() < size:
            self._memory.pop(place, None)
            memory = last = None  # freed before the larger one is allocated
            memory = torch.empty(size, dtype=dtype, device=device)
        view = memory[:size].view(shape)
        self._memory[place] = memory, view
        return view


@cache
def keep_freed_memory() -> None:
    """Let the C library keep the memory that operations free, for the next ones.

    glibc returns a large block to the system when it is freed, and also what is free at the end of the heap. The next
    operation then waits for the page faults of its result: 5 to 10% of a pass of long texts. This raises both limits
    for the process (mallopt(3)), which keeps up to 128 MiB of free memory. Limits that the environment sets stay where
    they are. With other C libraries, nothing changes.
    """
    chosen = any(name in os.environ for name in _LIMITS) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    mallopt = None if chosen or sys.platform != "linux" else getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**25)  # the highest one that glibc accepts
        mallopt(_M_TRIM_THRESHOLD, 2**27)  # the largest batches need 100 MB in a layer
