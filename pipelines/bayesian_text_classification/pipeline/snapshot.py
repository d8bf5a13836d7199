"""Whether a model is still what was copied. Each call asks, so the answer takes a fraction of a millisecond."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


class Snapshot:
    """The modules, tensors, dtypes, devices and settings of a model at one time.

    Objects are compared by identity or by ==, containers by what they hold. Whether a module is in `train()` mode does
    not count.

    Args:
        model: The model.
        with_values: Whether changes of a tensor in place count too. The exception is a change through `.data`, which
            PyTorch does not track: `weight.data.zero_()` goes unnoticed, `weight.data = ...` is detected.
    """

    def __init__(self, model: nn.Module, *, with_values: bool) -> None:
        self._with_values = with_values
        places = [vars(module) for module in model.modules()]
        config = getattr(model, "config", None)
        if config is not None:
            places.append(vars(config))
        self._saved = [(place, _copied(place)) for place in places]
        self._order = self._names()
        # Where tensors are, because two tensors may be equal but not the same.
        self._tensors = [(inner, key) for place in places for inner, key in _tensors_in(place)]
        self._states = self._state()

    def holds(self) -> bool:
        """Whether the model has not changed since."""
        try:
            for place, saved in self._saved:
                if "training" in saved:
                    saved["training"] = place.get("training")
                if place != saved:
                    return False
        except (RuntimeError, ValueError):  # another tensor or array, which == compares number by number
            return False
        states = self._state()
        same = len(states) == len(self._states) and all(
            mine[0] is other[0] and mine[1:] == other[1:] for mine, other in zip(states, self._states, strict=True)
        )
        return same and self._names() == self._order

    def _names(self) -> list[list[str]]:
        """Names of submodules, whose order == between dictionaries ignores."""
        return [list(place["_modules"]) for place, _ in self._saved if "_modules" in place]

    def _state(self) -> list[tuple[Any, ...]]:
        states = []
        for place, key in self._tensors:
            tensor = place.get(key)
            if not isinstance(tensor, Tensor):
                continue
            values: tuple[int | None, ...] = ()
            if self._with_values:
                # In-place changes raise the version (inference tensors have none); `.data = ...` changes the pointer.
                values = None if tensor.is_inference() else tensor._version, tensor.data_ptr()
            states.append((tensor, tensor.dtype, tensor.device, *values))
        return states


def _copied(value: Any) -> Any:
    """A copy of nested containers; everything else is the same object."""
    if type(value) in (list, tuple):
        return type(value)(map(_copied, value))
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}  # equal to an ordered one
    return set(value) if type(value) is set else value


def _tensors_in(place: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the dictionary and the key of each tensor, at most one level deep."""
    for key, value in place.items():
        if isinstance(value, Tensor):
            yield place, key
        elif isinstance(value, dict):
            yield from ((value, inner) for inner, item in value.items() if isinstance(item, Tensor))
