"""Latency of one sentence, as a service sees it, and how much of it is not the model.

    python -m benchmarks.pipeline.latency [--threads N] [--repetitions N]

The time of the model is that of its forward passes, masks included. The rest is the tokenizer, batches, averages and
results. Medians.
"""

import argparse
import statistics
import time
from typing import Any
from unittest.mock import patch

import torch
from bayesian_text_classification import TASK
from bayesian_text_classification.pipeline.forward import Forward
from transformers import pipeline

from benchmarks.common import distilbert_shaped, embedded, tokenizer
from benchmarks.results import table, write_section

SENTENCE = "A joy from start to finish, even if it takes its time in the middle of the film."
MODELS = {"the embedded model": embedded, "DistilBERT-base's size": distilbert_shaped}
CALLS: dict[str, dict[str, Any]] = {
    "20 samples": {"num_samples": 20},
    "tolerance 0.02, at most 20": {"num_samples": 20, "tolerance": 0.02},
}


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=50)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name, build in MODELS.items():
        ours = pipeline(TASK, model=build(torch.float32), tokenizer=tokenizer(), device="cpu")
        for call, options in CALLS.items():
            whole, model = (statistics.median(times) for times in timed(ours, options, args.repetitions))
            rows.append([f"{name}, {call}", f"{whole * 1e3:.1f}", f"{model * 1e3:.1f}", f"{1 - model / whole:.1%}"])
    header = ["one sentence", "ms", "of which the model", "the rest"]
    command = f"python -m benchmarks.pipeline.latency --threads {args.threads} --repetitions {args.repetitions}"
    write_section("Latency", command, table(header, rows))


def timed(ours: Any, options: dict[str, Any], repetitions: int) -> tuple[list[float], list[float]]:
    """Seconds of each call, and of the forward passes in it."""
    original, passes = Forward.logits, [0.0]

    def spy(self: Forward, *args: Any, **kwargs: Any) -> torch.Tensor:
        started = time.perf_counter()
        try:
            return original(self, *args, **kwargs)
        finally:
            passes[0] += time.perf_counter() - started

    whole, model = [], []
    with patch.object(Forward, "logits", spy):
        for repetition in range(repetitions + 3):
            passes[0], started = 0.0, time.perf_counter()
            ours(SENTENCE, **options)
            if repetition >= 3:
                whole.append(time.perf_counter() - started)
                model.append(passes[0])
    return whole, model


if __name__ == "__main__":
    main()
