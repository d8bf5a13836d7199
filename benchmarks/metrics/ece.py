"""The metric on very many rows, compared with torchmetrics: time, memory, and the value itself.

    python -m benchmarks.metrics.ece

Ten million rows of two classes in float32 and float64, with all checks. The arms run in turn, and the median counts.
Memory is the peak resident set of a separate process, minus what it held after the input was created. Forty million
float32 rows show which sums stay accurate. Evaluate's own way (Arrow files, a new metric each time) is timed on fewer
rows.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import evaluate
import numpy as np
from bayesian_text_classification.metric import load_metric_module, metric_folder

from benchmarks.results import table, write_section

ROWS = 10_000_000
MANY = 40_000_000
THROUGH_EVALUATE = 1_000_000


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--memory", choices=("float32", "float64"), help=argparse.SUPPRESS)  # in a separate process
    args = parser.parse_args()
    if args.memory:
        print(json.dumps(memory(args.memory)))
        return
    rows = []
    for dtype in ("float32", "float64"):
        data = made(ROWS, dtype)
        times = interleaved({"ours": lambda data=data: ours(*data), "peer": peer(*data)}, args.repetitions)
        beyond = json.loads(
            subprocess.run(
                [sys.executable, "-m", "benchmarks.metrics.ece", "--memory", dtype],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        mine, theirs = statistics.median(times["ours"]), statistics.median(times["peer"])
        rows.append([dtype, f"{mine:.2f} s", f"{theirs:.2f} s", f"{mine / theirs:.2f}", f"{beyond:.0f} MiB"])
    header = [f"{ROWS:,} rows", "ours", "torchmetrics", "ratio", "memory beyond the input"]
    body = [table(header, rows), "", f"Medians of {args.repetitions} interleaved runs, two classes, 10 bins."]
    body += ["", *many(), "", through_evaluate()]
    write_section("The metric", "python -m benchmarks.metrics.ece", "\n".join(body))


def made(rows: int, dtype: str) -> tuple[Any, Any]:
    """Probabilities and labels for two classes, from a slightly overconfident model."""
    random = np.random.default_rng(0)
    positive = random.random(rows, dtype=np.float32).astype(dtype)
    labels = (random.random(rows, dtype=np.float32) < 0.1 + 0.8 * positive).astype(np.int64)
    return np.stack([1 - positive, positive], axis=1), labels


def ours(predictions: Any, references: Any) -> float:
    """The pure function."""
    value: float = load_metric_module().expected_calibration_error(predictions, references)
    return value


def peer(predictions: Any, references: Any) -> Callable[[], Any]:
    """The same computation in torchmetrics, with its checks."""
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    rows, labels = torch.from_numpy(predictions), torch.from_numpy(references)
    return lambda: multiclass_calibration_error(rows, labels, 2, n_bins=10)


def interleaved(arms: dict[str, Callable[[], Any]], repetitions: int) -> dict[str, list[float]]:
    """Seconds of each arm. The arms run in turn, after one warm-up turn."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for repetition in range(repetitions + 1):
        for name, run in arms.items():
            started = time.perf_counter()
            run()
            if repetition:
                times[name].append(time.perf_counter() - started)
    return times


def memory(dtype: str) -> float:
    """Peak memory in MiB, minus what is resident with the input."""
    predictions, references = made(1_000, dtype)
    ours(predictions, references)
    predictions, references = made(ROWS, dtype)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets the peak
    before = status("VmRSS")
    ours(predictions, references)
    return (status("VmHWM") - before) / 1024


def status(key: str) -> int:
    """Memory in KiB, as the kernel reports it for this process."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key + ":"))


def many() -> list[str]:
    """Forty million rows with the same confidence, so the true value is known exactly."""
    confidence, correct = np.float32(0.7), round(0.7091 * MANY)
    predictions = np.empty((MANY, 2), np.float32)
    predictions[:, 0], predictions[:, 1] = 1 - confidence, confidence
    references = (np.arange(MANY) < correct).astype(np.int64)
    truth = correct / MANY - float(confidence)
    return [
        f"{MANY:,} float32 rows, true value {truth:.10f}: ours {ours(predictions, references):.10f}, torchmetrics "
        f"{peer(predictions, references)().item():.10f}."
    ]


def through_evaluate() -> str:
    """Time Evaluate's class on an array."""
    predictions, references = made(THROUGH_EVALUATE, "float64")

    def run() -> None:
        metric = evaluate.load(str(metric_folder()))
        metric.compute(predictions=predictions, references=references)

    times = interleaved({"evaluate": run, "ours": lambda: ours(predictions, references)}, 3)
    whole, pure = (statistics.median(times[name]) for name in ("evaluate", "ours"))
    return (
        f"{THROUGH_EVALUATE:,} float64 rows take {whole:.1f} s with `evaluate.load(...).compute(...)`, and "
        f"{pure:.2f} s with only the function."
    )


if __name__ == "__main__":
    main()
