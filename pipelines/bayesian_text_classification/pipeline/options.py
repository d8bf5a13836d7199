"""The options of a call: what they may be, and which of them are saved with a model."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from .masks import GROUP_SIZE, MASKS

# Arguments of the tokenizer that decide how many rows come back or in what form.
_OWN_TOKENIZER_ARGUMENTS = {
    "text",
    "text_target",
    "text_pair_target",
    "return_tensors",
    "return_overflowing_tokens",
    "is_split_into_words",
    "kwargs",
}


@dataclass(frozen=True)
class Options:
    """How texts are sampled, and which answers are accepted.

    Attributes:
        num_samples: passes for each text; the most of them where there is a tolerance. 0: the ordinary pipeline.
        tolerance: stop once the standard error of a text's score is below it; None: never.
        seed: any integer.
        masks: "balanced" or "bernoulli".
        threshold: the least score of an accepted text; None: every text is accepted.

    Raises:
        ValueError: one of them is out of range.
    """

    num_samples: int = 20
    tolerance: float | None = None
    seed: int = 0
    masks: str = "balanced"
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name in ("num_samples", "seed"):
            if isinstance(getattr(self, name), np.integer):
                object.__setattr__(self, name, int(getattr(self, name)))
        if not is_int(self.num_samples) or self.num_samples < 0:
            raise ValueError(f"num_samples={self.num_samples!r}; it must be an integer of at least 0")
        if self.tolerance is not None and not (is_real(self.tolerance) and 0 < self.tolerance < np.inf):
            raise ValueError(
                f"tolerance={self.tolerance!r}; it must be a positive number, the standard error of a score at which "
                "sampling stops (such as 0.02), or None"
            )
        if not is_int(self.seed):
            raise ValueError(f"seed={self.seed!r}; it must be an integer")
        if self.masks not in MASKS:
            raise ValueError(f"masks={self.masks!r}; it must be one of {', '.join(map(repr, MASKS))}")
        if self.threshold is not None and not (is_real(self.threshold) and 0 <= self.threshold <= 1):
            raise ValueError(
                f"threshold={self.threshold!r}; it must lie in [0, 1], the least score of an accepted text, or be None"
            )
        for name in ("tolerance", "threshold"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))

    @property
    def group_size(self) -> int:
        """Samples that share one draw."""
        return GROUP_SIZE if self.masks == "balanced" else 1

    def updated(self, given: dict[str, Any]) -> "Options":
        """With those that are among `given`, out of which they are taken."""
        return replace(self, **{name: given.pop(name) for name in NAMES if name in given})

    def saved(self) -> dict[str, Any]:
        """Those that are saved with a model, ready for JSON."""
        return {name: value for name, value in asdict(self).items() if name in SAVED}


NAMES = tuple(field.name for field in fields(Options))
SAVED = tuple(name for name in NAMES if name != "seed")
OF_CALLS = (*NAMES, "top_k", "function_to_apply", "batch_size", "num_workers")  # but for those of the tokenizer


def check_call_options(given: Mapping[str, Any]) -> None:
    """What can be said of a call's own options before there is a model: ValueError where one is out of range."""
    Options(**{name: given[name] for name in NAMES if name in given})
    check_batch_size(given.get("batch_size"))


def check_batch_size(batch_size: Any) -> None:
    """ValueError where it is no number of texts."""
    if batch_size is not None and not (is_int(batch_size) and batch_size >= 1):
        raise ValueError(f"batch_size={batch_size!r}; it must be an integer of at least 1, the most texts in a batch")


def check_tokenizer_options(names: Iterable[str], call: Callable[..., Any]) -> None:
    """TypeError, with the nearest option, unless all are arguments of a tokenizer's `call` that a user may choose."""
    legal = set(inspect.signature(call).parameters) - _OWN_TOKENIZER_ARGUMENTS
    for name in names:
        if name in _OWN_TOKENIZER_ARGUMENTS:
            raise TypeError(f"{name!r} is set by the pipeline itself")
        if name not in legal:
            near = difflib.get_close_matches(name, [*legal, *OF_CALLS], n=1, cutoff=0.0)
            raise TypeError(f"unknown option {name!r}; the nearest is {near[0]!r}")


def as_dtype(dtype: Any) -> torch.dtype | None:
    """A floating-point type, or the type of that name; None for "auto", which `pipeline()` passes on by default."""
    found = getattr(torch, dtype, None) if isinstance(dtype, str) and dtype != "auto" else dtype
    if isinstance(found, torch.dtype) and found.is_floating_point:
        return found
    if found in (None, "auto") and dtype in (None, "auto"):
        return None
    raise ValueError(f"dtype={dtype!r}; it must be a floating-point type or its name, such as 'float32' or 'bfloat16'")


def is_int(value: object) -> bool:
    """Whether it is an integer of Python, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether it is a real number of Python or NumPy, and no truth value."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
