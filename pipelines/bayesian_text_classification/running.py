"""Which module of a model is running."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def running_modules(
    names: Mapping[nn.Module, str], at_boundary: Callable[[str], object] = lambda name: None
) -> Iterator[list[str]]:
    """While active, a list that holds the paths of the modules that are running, outermost first.

    Args:
        names: the modules to follow and their paths.
        at_boundary: told, whenever a module begins or ends, the path of the one that was running up to there.
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
