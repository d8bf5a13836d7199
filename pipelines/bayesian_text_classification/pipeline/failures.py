"""Why a forward pass failed: no memory, a dead device, or a text that the model cannot run on."""

import torch

from .errors import in_one_line

_ACCELERATOR_ERROR = getattr(torch, "AcceleratorError", torch.OutOfMemoryError)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out. Devices raise different errors; the CPU allocator and MPS raise a plain RuntimeError."""
    words = ("out of memory", "can't allocate memory", "not enough memory", "STATUS_ALLOC_FAILED")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)


def may_blame_text(error: Exception) -> bool:
    """Whether the pass may succeed with other texts. After an error of the device, none does."""
    return not is_out_of_memory(error) and not isinstance(error, _ACCELERATOR_ERROR)


def cannot_run(error: Exception) -> str:
    """The error as the reason why a text cannot be classified, in one line."""
    line = in_one_line(error)
    return f"the model cannot run on it: {line if len(line) <= 300 else line[:297] + '...'}"
