"""Time of the whole `evaluate` command compared with its sampling: statistics, figures and page are the difference.

    python -m benchmarks.evaluation.comparison --dataset FILE [more options of bayesian-text-classification evaluate]

The command runs in this process. The time inside the calls that run the model counts as sampling.
"""

import sys
import time
from pathlib import Path
from typing import Any

from bayesian_text_classification import BayesianTextClassificationPipeline
from bayesian_text_classification.evaluation.run import from_model
from bayesian_text_classification_command.app import app

from benchmarks.results import table, write_section


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    arguments = sys.argv[1:]
    sampling = [0.0]

    def timed(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                sampling[0] += time.perf_counter() - started

        return call

    for name in ("sample_proba", "predict_proba"):
        setattr(BayesianTextClassificationPipeline, name, timed(getattr(BayesianTextClassificationPipeline, name)))
    from_model.baal_probabilities = timed(from_model.baal_probabilities)
    started = time.perf_counter()
    if app(["evaluate", *arguments], standalone_mode=False):  # the exit code of a failure
        sys.exit(2)
    whole = time.perf_counter() - started
    shown = " ".join(Path(argument).name if Path(argument).exists() else argument for argument in arguments)
    body = table(
        ["whole command, s", "sampling, s", "ratio"],
        [[f"{whole:.1f}", f"{sampling[0]:.1f}", f"{whole / sampling[0]:.3f}"]],
    )
    write_section("The whole comparison", f"python -m benchmarks.evaluation.comparison {shown}", body)


if __name__ == "__main__":
    main()
