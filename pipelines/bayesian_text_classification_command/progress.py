"""Progress of long work, on stderr: a bar in a terminal, elsewhere a line after 5 seconds and then every 15."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from .console import STDERR

FIRST, EVERY = 5.0, 15.0  # seconds until the first line, and between lines


class Passes(Protocol):
    """The passes of a run, and the results that are known before its end."""

    def __call__(self, more: int) -> None:
        """Count further passes."""

    def show(self, results: Table, line: str) -> None:
        """Show the results so far: in a terminal all of them, elsewhere a line with the last one."""


@contextmanager
def passes_progress(what: str, total: int) -> Iterator[Passes]:
    """Show the passes done of all passes.

    Args:
        what: What is done, such as "sampling".
        total: Number of passes: of texts, each through the model once.
    """
    if not STDERR.is_terminal:
        yield _PassLines(what, total)
        return
    with _PassBar(what, total) as bar:
        yield bar


class _PassLines:
    """Passes in a log."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done, self._lines = what, total, 0, _Lines()

    def __call__(self, more: int) -> None:
        self._done += more
        share = self._done / self._total
        self._lines.show(f"{self._what}: {self._done:,} of {self._total:,} passes", self._done, share)

    def show(self, results: Table, line: str) -> None:
        if self._done < self._total:  # else all results follow at once
            print(line, file=sys.stderr, flush=True)


class _PassBar(Progress):
    """Passes in a terminal: a bar below the results so far. Both disappear at the end, but stay if the run fails."""

    def __init__(self, what: str, total: int) -> None:
        self._results: Table | None = None
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        super().__init__(*columns, console=STDERR, transient=True)
        self._task = self.add_task(what, total=total)

    def __call__(self, more: int) -> None:
        self.advance(self._task, more)

    def show(self, results: Table, line: str) -> None:
        self._results = results
        self.refresh()

    def __exit__(self, kind: type[BaseException] | None, *more: Any) -> None:
        self.live.transient = kind is None or self._results is None
        super().__exit__(kind, *more)

    def get_renderables(self) -> Iterator[RenderableType]:
        if self._results is not None:
            yield self._results
        yield self.make_tasks_table(self.tasks)


@contextmanager
def texts_progress() -> Iterator[Callable[[float, float | None], None]]:
    """Show texts done, texts per second and the time left.

    Yields a function that takes the number of further texts, and the share of the input that is done, if it is known.
    """
    if not STDERR.is_terminal:
        lines, texts = _Lines(), 0.0

        def count(more: float, done: float | None) -> None:
            nonlocal texts
            texts += more
            lines.show(f"{texts:,.0f} texts", texts, done)

        yield count
        return
    columns = (
        SpinnerColumn(),
        BarColumn(),
        TextColumn("{task.fields[texts]:,.0f} texts, {task.fields[speed]} per second"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=STDERR, transient=True) as progress:
        task = progress.add_task("", total=None, texts=0.0, speed="0")
        texts, started = 0.0, time.monotonic()

        def show(more: float, done: float | None) -> None:
            nonlocal texts
            texts += more
            speed = texts / max(time.monotonic() - started, 1e-9)
            total = None if done is None else 1.0
            progress.update(task, total=total, completed=done or 0.0, texts=texts, speed=_rate(speed))

        yield show


class _Lines:
    """Lines on stderr, at most one in 15 seconds."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._next = self._started + FIRST
        self._before = 0.0  # share of an earlier run, whose time is not known

    def show(self, what: str, count: float, done: float | None) -> None:
        """Print what is done, how fast, and the time left, if it is time for a line. The end needs none.

        Args:
            what: What is done so far.
            count: The same as a number.
            done: The same as a share of all, if it is known.
        """
        now = time.monotonic()
        if not count:  # rows of an earlier run
            self._before = done or 0.0
        if now < self._next or not count or (done or 0.0) >= 1:
            return
        seconds, own = now - self._started, (done or 0.0) - self._before
        left = f", {_left(seconds * (1 - done) / own)}" if done is not None and own > 0 else ""
        print(f"{what}, {_rate(count / seconds)} per second{left}", file=sys.stderr, flush=True)
        self._next = now + EVERY


def _rate(speed: float) -> str:
    return f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"


def _left(seconds: float) -> str:
    return f"{duration(seconds)} left"


def duration(seconds: float) -> str:
    """A duration in words: about how long something takes."""
    if seconds < 90:
        return f"about {seconds:.0f} s"
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"
