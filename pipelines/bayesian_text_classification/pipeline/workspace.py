"""Memory that the operations of one forward pass use again and again."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor


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
