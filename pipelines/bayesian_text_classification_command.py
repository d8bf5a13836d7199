"""The entry point of the command `bayesian-text-classification`: Ctrl-C is one line and exit code 130 at any moment.

SIGTERM, as schedulers send it, is one line and 143.

It stands outside the package, whose import takes seconds.
"""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

later = ""  # what is said behind "interrupted": a command that can go on says so here
_stderr = 2


def main() -> None:
    """Run the command."""
    global _stderr
    with suppress(OSError):  # there is none where a caller has closed it
        _stderr = os.dup(2)  # stays what it is where others turn stderr away for a while
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell has it ignored (`nohup`, `&`)
        signal.signal(signal.SIGINT, _interrupted)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupted)
    # The command loads the metric by its path; `evaluate.load("ece")` is a matter of whoever imports the package.
    os.environ["BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE"] = "1"
    from bayesian_text_classification.cli import main as run

    run()


def _interrupted(number: int, frame: FrameType | None) -> None:
    """Leave at once: a KeyboardInterrupt is swallowed by some libraries, printed by others, and waits for threads."""
    show_cursor = b"\x1b[?25h\n" if sys.stderr.isatty() else b""  # which the progress bar hides
    word = "interrupted" if number == signal.SIGINT else "terminated"
    os.write(_stderr, show_cursor + f"{word}{later}\n".encode())  # `print` may be what was interrupted
    os._exit(128 + number)
