"""The command `bayesian-text-classification`: one file a command, and the only place that speaks of `--flags`.

It stands outside the package, whose import takes seconds, so that help, typos and Ctrl-C are answered at once.
"""

import os

from .interrupts import answer_signals


def main() -> None:
    """Run the command."""
    answer_signals()
    # The command loads the metric by its path; `evaluate.load("ece")` is a matter of whoever imports the package.
    os.environ["BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE"] = "1"
    from .app import run

    run()
