"""The command `bayesian-text-classification`: one file per command, and the only place that names `--flags`.

It is outside the package, whose import takes seconds, so that help, typos and Ctrl-C are answered at once.
"""

import gc
import os

from .interrupts import answer_signals


def main() -> None:
    """Run the command."""
    answer_signals()
    gc.set_threshold(10_000)  # with the default of 700, the imports take a sixth longer: they leave little garbage
    # The command loads the metric by its path, so it need not write to Evaluate's cache.
    os.environ["BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE"] = "1"
    from .app import run

    run()
