"""Errors that this library raises."""

from collections.abc import Sequence
from typing import Any


class BayesianTextClassificationError(ValueError):
    """Base of every error class of this library; the message is one line for the user.

    Arguments that are out of range raise a plain ValueError, and unknown ones a TypeError.
    """


class InputError(BayesianTextClassificationError):
    """Some of the inputs cannot be classified, regardless of the others.

    Attributes:
        inputs: Numbers of these inputs, from 0.
        reason: What is wrong with each of them.
    """

    def __init__(self, message: str, inputs: Sequence[int], reason: str) -> None:
        super().__init__(message)
        self.inputs, self.reason = tuple(inputs), reason

    def __reduce__(self) -> Any:  # pickle rebuilds an exception from its message only, and workers pickle it
        return type(self), (str(self), self.inputs, self.reason)
