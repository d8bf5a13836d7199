"""The options of a call: their legal values, and which of them are saved with a model."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

import numpy as np
import torch

from .masks import GROUP_SIZE, MASKS
from .rates import Dropout, Rates

Posterior = Literal["dropout", "ensemble", "ensemble+dropout"]
POSTERIORS: tuple[Posterior, ...] = get_args(Posterior)
Activation = Literal["sigmoid", "softmax", "none"]  # for independent labels, one label among several, raw outputs
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

SCOPE = "scope"  # says in the saved options that there is a scope, and is its folder
PREDICTION_SETS = "prediction_sets"  # the same for prediction sets
MEMBERS = "members"  # the saved number of models of an ensemble, and the folder of all but the first: 1, 2, ...

# Tokenizer arguments that decide how many rows it returns, or in what form.
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
        num_samples: Passes per text; with `tolerance`, the maximum. 0: the ordinary pipeline.
        tolerance: Stop sampling a text once the standard error of its score drops below this value; None: never.
        seed: Any integer.
        masks: "balanced" or "bernoulli".
        dropout: Rate of the sites whose own rate is 0, a factor of the model's own rates, or None; see `Rates`.
        posterior: What a sample is: a pass with dropout, the ordinary pass of a member of an ensemble, or a pass of a
            member with dropout.
        threshold: The lowest score of an accepted text, or for independent labels that of each accepted label, by its
            name; None: everything is accepted.
        novelty_level: The largest p-value of a text that is too new to be classified; None: none is.
        coverage: Probability that the prediction set of a text holds its true label; None: there are no sets.

    Raises:
        ValueError: An option is out of range.
    """

    num_samples: int = 20
    tolerance: float | None = None
    seed: int = 0
    masks: str = "balanced"
    dropout: Dropout = None
    posterior: Posterior = "dropout"
    threshold: float | Mapping[str, float] | None = field(default=None, hash=False)  # a dict has no hash
    novelty_level: float | None = None
    coverage: float | None = None

    def __post_init__(self) -> None:
        for name in ("num_samples", "seed"):
            if isinstance(getattr(self, name), np.integer):
                object.__setattr__(self, name, int(getattr(self, name)))
        if not is_int(self.num_samples) or self.num_samples < 0:
            raise ValueError(f"num_samples={self.num_samples!r}; it must be an integer of at least 0")
        if self.tolerance is not None and not (is_real(self.tolerance) and 0 < self.tolerance < np.inf):
            raise ValueError(
                f"tolerance={self.tolerance!r}; it must be a positive number (sampling stops once the standard error "
                "of a score drops below it; try 0.02) or None"
            )
        if not is_int(self.seed):
            raise ValueError(f"seed={self.seed!r}; it must be an integer")
        if self.masks not in MASKS:
            raise ValueError(f"masks={self.masks!r}; it must be one of {', '.join(map(repr, MASKS))}")
        object.__setattr__(self, "dropout", self.rates.option)
        if self.posterior not in POSTERIORS:
            raise ValueError(f"posterior={self.posterior!r}; it must be one of {', '.join(map(repr, POSTERIORS))}")
        if self.posterior != "dropout" and self.tolerance is not None:
            raise ValueError(
                f"tolerance={self.tolerance!r} is for samples with dropout, and posterior={self.posterior!r} takes "
                "equally many of each member; pass tolerance=None"
            )
        if self.tolerance is not None:
            object.__setattr__(self, "tolerance", float(self.tolerance))
        if self.threshold is not None:
            object.__setattr__(self, "threshold", _checked_threshold(self.threshold))
        if self.novelty_level is not None:
            if not (is_real(self.novelty_level) and 0 < self.novelty_level < 1):
                raise ValueError(
                    f"novelty_level={self.novelty_level!r}; it must lie between 0 and 1 (the share of texts of the "
                    "scope that may be refused; try 0.01), or be None"
                )
            object.__setattr__(self, "novelty_level", float(self.novelty_level))
        if self.coverage is not None:
            if not (is_real(self.coverage) and 0 < self.coverage < 1):
                raise ValueError(
                    f"coverage={self.coverage!r}; it must lie between 0 and 1 (the probability that a prediction set "
                    "holds the true label; try 0.95), or be None"
                )
            object.__setattr__(self, "coverage", float(self.coverage))

    @property
    def group_size(self) -> int:
        """Number of samples that share one random draw."""
        return GROUP_SIZE if self.masks == "balanced" else 1

    @property
    def rates(self) -> Rates:
        """Dropout rates of the samples."""
        return Rates.of_option(self.dropout)

    def other_draws(self, other: "Options") -> str:
        """The options of `other` by which its passes have other masks, for the same seed; empty if they do not."""
        differ = (name for name in ("masks", "dropout") if getattr(self, name) != getattr(other, name))
        return ", ".join(f"{name}={getattr(other, name)!r}" for name in differ)

    def saved(self) -> dict[str, Any]:
        """The options that are saved with a model, as JSON values."""
        own = {
            "dropout": None,
            "posterior": "dropout",
            "novelty_level": None,
            "coverage": None,
        }  # not saved, for folders like those of earlier versions
        return {
            name: value
            for name, value in asdict(self).items()
            if name in SAVED and not (name in own and value == own[name])
        }


def default_count(posterior: Posterior, models: int) -> int:
    """The default number of samples: one of each model, or with dropout 20, rounded up to a multiple of its models."""
    if posterior == "ensemble":
        return models
    return Options.num_samples if posterior == "dropout" else -(-Options.num_samples // models) * models


NAMES = tuple(field.name for field in fields(Options))
SAVED = tuple(name for name in NAMES if name != "seed")
OF_CALLS = (*NAMES, "top_k", "function_to_apply", "batch_size", "num_workers")  # besides the tokenizer's


def check_call_options(given: Mapping[str, Any]) -> None:
    """Check a call's own options without a model. Raises ValueError if one is out of range."""
    Options(**{name: given[name] for name in NAMES if name in given})
    check_batch_size(given.get("batch_size"))


def check_batch_size(batch_size: Any) -> None:
    """Raise ValueError unless `batch_size` is None or a positive integer."""
    if batch_size is not None and not (is_int(batch_size) and batch_size >= 1):
        raise ValueError(f"batch_size={batch_size!r}; it must be an integer of at least 1 (the most texts in a batch)")


def check_tokenizer_options(names: Iterable[str], call: Callable[..., Any]) -> None:
    """Raise TypeError with the closest option unless all `names` are tokenizer `call` arguments open to users."""
    legal = set(inspect.signature(call).parameters) - _OWN_TOKENIZER_ARGUMENTS
    for name in names:
        if name in _OWN_TOKENIZER_ARGUMENTS:
            raise TypeError(f"{name!r} is set by the pipeline; leave it out")
        if name not in legal:
            near = difflib.get_close_matches(name, [*legal, *OF_CALLS], n=1, cutoff=0.0)
            raise TypeError(f"unknown option {name!r}; did you mean {near[0]!r}?")


def as_dtype(dtype: Any) -> torch.dtype | None:
    """A floating-point dtype, given as such or by name; None for "auto", which `pipeline()` passes by default."""
    found = getattr(torch, dtype, None) if isinstance(dtype, str) and dtype != "auto" else dtype
    if isinstance(found, torch.dtype) and found.is_floating_point:
        return found
    if found in (None, "auto") and dtype in (None, "auto"):
        return None
    raise ValueError(f"dtype={dtype!r}; it must be a floating-point type or its name, such as 'float32' or 'bfloat16'")


def _checked_threshold(threshold: Any) -> float | dict[str, float]:
    """A number or a dict of numbers, as floats. Raises ValueError unless all of them lie in [0, 1]."""
    each = threshold if isinstance(threshold, Mapping) else {"": threshold}
    if not all(is_real(value) and 0 <= value <= 1 for value in each.values()):
        raise ValueError(
            f"threshold={threshold!r}; it must lie in [0, 1] (the lowest score that is accepted), or be None, or for "
            "independent labels a dict of such numbers by label"
        )
    found = {str(name): float(value) for name, value in each.items()}
    return found if isinstance(threshold, Mapping) else found[""]


def is_int(value: object) -> bool:
    """Whether `value` is a Python int but not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_real(value: object) -> bool:
    """Whether `value` is a real number of Python or NumPy but not a bool."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
