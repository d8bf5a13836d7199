"""Import time of the package, beyond the imports that every Transformers pipeline needs.

    python -m benchmarks.imports

Each time is measured in a fresh process.
"""

import statistics
import subprocess
import sys

from benchmarks.results import write_section

BASE = "import torch; from transformers import TextClassificationPipeline, AutoModelForSequenceClassification"
CODE = f"import time; {BASE}; started = time.perf_counter(); {{}}; print(time.perf_counter() - started)"
REPETITIONS = 9


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    times = [seconds("import bayesian_text_classification") for _ in range(REPETITIONS + 1)][1:]
    body = (
        f"`import bayesian_text_classification` takes {statistics.median(times) * 1e3:.0f} ms (median of {REPETITIONS} "
        f"fresh processes, {min(times) * 1e3:.0f} to {max(times) * 1e3:.0f}) after `{BASE}`."
    )
    write_section("Import", "python -m benchmarks.imports", body)


def seconds(statement: str) -> float:
    """Time of the statement in a fresh process that has already imported the base."""
    done = subprocess.run([sys.executable, "-c", CODE.format(statement)], capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
