"""Ctrl-C is one line and exit code 130 at any moment, SIGTERM, as schedulers send it, one line and 143."""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

_stderr = 2
_later = ""


def answer_signals() -> None:
    """From now on, unless a shell has them ignored (`nohup`, `&`) or a caller answers them."""
    global _stderr
    with suppress(OSError):  # there is none where a caller has closed it
        _stderr = os.dup(2)  # stays what it is where others turn stderr away for a while
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupted)


def say_later(words: str) -> None:
    """What is said behind "interrupted": how to resume a command that can be."""
    global _later
    _later = words


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Leave at once: a KeyboardInterrupt is swallowed by some libraries, printed by others, and waits for threads."""
    show_cursor = b"\x1b[?25h\n" if sys.stderr.isatty() else b""  # which the progress bar hides
    word = "interrupted" if number == signal.SIGINT else "terminated"
    os.write(_stderr, show_cursor + f"{word}{_later}\n".encode())  # `print` may be what was interrupted
    os._exit(128 + number)
