"""The global random states: how to preserve them, and how to find the module that draws from them."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

T = TypeVar("T")


@contextmanager
def unmoved_random_state() -> Iterator["_RandomState"]:
    """Restore the global random state on exit, whatever happens inside."""
    state = _RandomState()
    try:
        yield state
    finally:
        state.restore()


def first_to_draw(run: Callable[[], T], names: Mapping[nn.Module, str]) -> tuple[T, str | None]:
    """The result of `run()`, and the path of the module in which it first draws from the global random state.

    The path is None if nothing is drawn, and "" if the draw is in none of the modules in `names`. The state is
    restored. Checking the state at every module boundary takes longer than a small forward pass. So the run is repeated
    with these checks only if it drew something.
    """
    with unmoved_random_state() as state:
        result = run()
        if not state.moved():
            return result, None
    found: list[str] = []
    with unmoved_random_state() as state:

        def look(path: str) -> None:
            if not found and state.moved():
                found.append(path)

        with running_modules(names, look):
            run()
    return result, found[0] if found else ""


@contextmanager
def running_modules(
    names: Mapping[nn.Module, str], at_boundary: Callable[[str], object] = lambda name: None
) -> Iterator[list[str]]:
    """Yield a list that holds, while active, the paths of the modules that are running, outermost first.

    Args:
        names: The modules to follow and their paths.
        at_boundary: Function called whenever a module begins or ends, with the path of the module that was running
            until then.
    """
    running: list[str] = []

    def enter(module: nn.Module, args: Any) -> None:
        at_boundary(running[-1] if running else "")
        running.append(names[module])

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        at_boundary(running.pop())

    handles = [h for m in names for h in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))]
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


class _RandomState:
    """The global random states of PyTorch (on the CPU and on each CUDA device in use), NumPy and Python."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self.cuda = torch.cuda.get_rng_state_all() if in_use else []
        self.numpy: Any = np.random.get_state()  # noqa: NPY002  # the legacy state is the global one
        self.python = random.getstate()

    def moved(self) -> bool:
        now = _RandomState()
        pairs = zip([self.cpu, *self.cuda], [now.cpu, *now.cuda], strict=False)
        return (
            any(not torch.equal(before, after) for before, after in pairs)
            or any(not np.array_equal(before, after) for before, after in zip(self.numpy, now.numpy, strict=True))
            or self.python != now.python
        )

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        np.random.set_state(self.numpy)  # noqa: NPY002
        random.setstate(self.python)
