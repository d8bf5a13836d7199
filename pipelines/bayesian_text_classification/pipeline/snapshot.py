"""Whether a model is still what was copied. Each call asks, so the answer takes a fraction of a millisecond."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = (bool, int, float, str, type(None), torch.dtype)
_ORDERED = ("_modules", "_forward_hooks", "_forward_pre_hooks")  # dictionaries whose order matters


class Snapshot:
    """The modules, tensors, dtypes, devices and settings of a model at one time.

    Numbers and names compare by value, other objects by identity, containers by what they hold. Whether a module is in
    `train()` mode does not count.

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
        self._tensors = [found for place in places for found in _tensors_in(place)]
        self._states = self._state()

    def holds(self) -> bool:
        """Whether the model has not changed since."""
        for place, saved in self._saved:
            if "training" in saved:
                saved["training"] = place.get("training")
            if saved != place:
                return False
        return self._state() == self._states and self._names() == self._order

    def _names(self) -> list[list[Any]]:
        """Keys of some dictionaries, whose order == ignores."""
        return [list(place[name]) for place, _ in self._saved for name in _ORDERED if name in place]

    def _state(self) -> list[tuple[Any, ...]]:
        """Dtype and device of each tensor; with its version and address if values count."""
        states: list[tuple[Any, ...]] = []
        for tensor in self._tensors:
            values: tuple[int | None, ...] = ()
            if self._with_values:
                # In-place changes raise the version (inference tensors have none); `.data = ...` changes the pointer.
                values = None if tensor.is_inference() else tensor._version, tensor.data_ptr()
            states.append((tensor.dtype, tensor.device, *values))
        return states


class _Same:
    """Equal to one object only. It keeps that alive, so that no other object can get its id."""

    __slots__ = ("value",)
    __array_ufunc__ = None  # NumPy arrays leave the comparison to this class
    __hash__ = None  # type: ignore[assignment]  # never a key

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return other is self.value


def _copied(value: Any, outer: tuple[int, ...] = ()) -> Any:
    """A copy of nested containers, in which each object that is not plain is equal only to itself."""
    if isinstance(value, _PLAIN):
        return value
    if id(value) in outer:  # a container that holds itself
        return _Same(value)
    outer = (*outer, id(value))
    if isinstance(value, dict):
        return {key: _copied(item, outer) for key, item in value.items()}  # equal to an ordered one
    if isinstance(value, list):
        return [_copied(item, outer) for item in value]
    if isinstance(value, tuple):
        return tuple(_copied(item, outer) for item in value)
    return type(value)(value) if type(value) in (set, frozenset) else _Same(value)


def _tensors_in(value: Any, outer: tuple[int, ...] = ()) -> Iterator[Tensor]:
    """Yield the tensors in nested containers."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)) and id(value) not in outer:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item, (*outer, id(value)))
