"""Signals: Ctrl-C gives one line and exit code 130 at any moment. SIGTERM, from schedulers, gives one line and 143."""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

_stderr = 2
_later = ""


def answer_signals() -> None:
    """Handle SIGINT and SIGTERM from now on, unless they are ignored (`nohup`, `&`) or the caller handles them."""
    global _stderr
    with suppress(OSError):  # a caller may have closed it
        _stderr = os.dup(2)  # stays valid while others redirect stderr
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupted)


def say_later(words: str) -> None:
    """Text to print after "interrupted", such as how to resume."""
    global _later
    _later = words


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Exit at once. A KeyboardInterrupt is swallowed by some libraries, printed by others, and waits for threads."""
    show_cursor = b"\x1b[?25h\n" if sys.stderr.isatty() else b""  # the progress bar hides it
    word = "interrupted" if number == signal.SIGINT else "terminated"
    os.write(_stderr, show_cursor + f"{word}{_later}\n".encode())  # the signal may have interrupted a `print`
    os._exit(128 + number)
