"""Memory that the operations of forward passes use again and again."""

from collections.abc import Sequence
from functools import cache
from math import prod

import torch
from torch import Tensor

_LARGEST = 2**25 - 2**13  # bytes; glibc heeds freed blocks of up to 32 MiB, headers included


class Workspace:
    """Tensors that live until the next request under the same name.

    Large tensors that are allocated for each operation come from the system each time, and the page faults take longer
    than the operations.
    """

    def __init__(self) -> None:
        self._memory: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def empty(self, name: str, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor with undefined numbers; it shares memory with earlier ones of this name."""
        size, place = prod(shape), (name, dtype, device)
        if place not in self._memory or self._memory[place].numel() < size:
            self._memory.pop(place, None)  # freed before the larger one is allocated
            self._memory[place] = torch.empty(size, dtype=dtype, device=device)
        return self._memory[place][:size].view(shape)


@cache
def keep_freed_memory() -> None:
    """Let the C library keep the memory that operations free, for the next ones.

    glibc returns a freed block to the system if it is larger than all blocks freed before, and what is free at the end
    of the heap if that is twice as large. The next operation then waits for the page faults of its result: 5 to 10% of
    a pass of long texts. A freed block of up to 32 MiB raises both limits for the process (mallopt(3), "dynamic mmap
    threshold"). This one is not touched, so it takes no memory. Up to 64 MiB that are free at the end of the heap then
    stay with the process. `MALLOC_TRIM_THRESHOLD_` in the environment keeps the limits where they are. With other C
    libraries, nothing changes.
    """
    torch.empty(_LARGEST, dtype=torch.uint8, device="cpu")
