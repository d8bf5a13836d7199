"""A progress bar for calls that nobody else shows the progress of."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from transformers.utils import logging

Progress = Callable[[int], None]

DELAY = 5.0  # seconds before a bar appears


@contextmanager
def progress_bar(progress: Progress | None, total: int | None, unit: str = "pass") -> Iterator[Progress]:
    """Yield a function that takes the number of further passes: `progress`, or that of a bar if it is None.

    The bar appears after 5 seconds, in a terminal or a notebook. `transformers.utils.logging.disable_progress_bar()`
    turns it off.

    Args:
        progress: What the caller wants to be called.
        total: Number of all passes, if it is known.
        unit: What is counted, in the singular.
    """
    if progress is not None:
        yield progress
        return
    off = True if sys.stderr is None or total == 0 else None  # None: off unless stderr is a terminal
    with logging.tqdm(total=total, unit=unit, delay=DELAY, leave=False, disable=off) as bar:
        yield bar.update
