"""Whose line a warning names: that of the user's code, not of this library or of one that calls it."""

import sys
from pathlib import Path

_HERE = Path(__file__).parents[1]  # also holds the code of a saved folder, where all files lie together
_HOSTS = ("transformers", "torch", "evaluate")


def frames_of_libraries() -> int:
    """How many callers of the caller, from the innermost, belong to this library or its hosts: not the user's code."""
    count, frame = 0, sys._getframe(2)
    while frame is not None and frame.f_back is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _HOSTS and _HERE not in Path(frame.f_code.co_filename).parents:
            break
        count, frame = count + 1, frame.f_back
    return count
