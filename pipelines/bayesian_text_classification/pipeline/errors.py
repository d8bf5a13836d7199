"""Errors that this library raises, and how it quotes those of others."""

from collections.abc import Mapping
from typing import Any


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


def in_one_line(error: BaseException) -> str:
    """The whole message of an error without line breaks, or the name of its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
