"""Errors that this library raises, and how it quotes those of others."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parents[1]  # also holds the code of a saved folder, where all files lie together
_HOSTS = ("transformers", "torch", "evaluate")


class BayesianTextClassificationError(ValueError):
    """Base of every error class of this library; the message is one line for the user.

    Arguments that are out of range raise a plain ValueError, and unknown ones a TypeError.
    """


class InputError(BayesianTextClassificationError):
    """Some of the inputs cannot be classified, regardless of the others.

    Attributes:
        reasons: What is wrong with each of these inputs, by its number, from 0.
    """

    def __init__(self, message: str, reasons: Mapping[int, str]) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)

    @property
    def inputs(self) -> tuple[int, ...]:
        """Numbers of these inputs."""
        return tuple(self.reasons)

    def __reduce__(self) -> Any:  # pickle rebuilds an exception from its message only, and workers pickle it
        return type(self), (str(self), self.reasons)


def frames_of_libraries() -> int:
    """How many callers of the caller, from the innermost, belong to this library or its hosts: not the user's code."""
    count, frame = 0, sys._getframe(2)
    while frame is not None and frame.f_back is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in _HOSTS and _HERE not in Path(frame.f_code.co_filename).parents:
            break
        count, frame = count + 1, frame.f_back
    return count


def in_one_line(error: BaseException) -> str:
    """The whole message of an error without line breaks, or the name of its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
