"""What this library raises."""

from collections.abc import Sequence
from typing import Any


class BayesianTextClassificationError(ValueError):
    """The base of every error class of this library; the message is one line for the user.

    Arguments that are out of range are plain ValueErrors, and unknown ones TypeErrors.
    """


class InputError(BayesianTextClassificationError):
    """Some of the inputs cannot be classified, whatever the others are.

    Attributes:
        inputs: their numbers, from 0.
        reason: what is wrong with each of them.
    """

    def __init__(self, message: str, inputs: Sequence[int], reason: str) -> None:
        super().__init__(message)
        self.inputs, self.reason = tuple(inputs), reason

    def __reduce__(self) -> Any:  # an exception is rebuilt from its message alone, where a worker raised it
        return type(self), (str(self), self.inputs, self.reason)
