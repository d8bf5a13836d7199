"""Two Ray Data workers with one thread each, compared with one process with two threads, on the same texts.

    python -m benchmarks.scale.ray_workers [--rounds 3]

For Ray, the time runs from the first answers of both workers to the last one, because workers start only once per job.
Needs the extra `[ray]` and two otherwise idle cores.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import ray
import torch
from bayesian_text_classification.loading.classifiers import load_classifier
from bayesian_text_classification.scale.predict import predict_dataset

from benchmarks.results import table, write_section
from benchmarks.scale.million_texts import save_model, texts

MODELS = {"the embedded model, 4 samples": (10_240, 4), "tiny model, 4 samples": (98_304, 4)}


def main() -> None:
    """Measure both in turn, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = []
    with tempfile.TemporaryDirectory() as name:
        save_model(Path(name))
        for title, (count, samples) in MODELS.items():
            model = None if "embedded" in title else name
            found = list(texts(count))
            ones, manies, starts = [], [], []
            for _ in range(rounds):
                ones.append(one_process(model, found, samples))
                many, start = two_workers(model, found, samples)
                manies.append(many)
                starts.append(start)
                print(title, ones[-1], many, start, file=sys.stderr)
            ratios = [many / one for many, one in zip(manies, ones, strict=True)]
            rows.append(
                [title, f"{statistics.median(ones):,.0f}", f"{statistics.median(manies):,.0f}",
                 f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                 f"{statistics.median(starts):.0f}"]
            )  # fmt: skip
    ray.shutdown()
    header = ["texts per second", "one process, two threads", "two workers", "ratio", "seconds to the first answers"]
    write_section("Ray", "python -m benchmarks.scale.ray_workers", table(header, rows))


def one_process(model: str | None, found: list[str], samples: int) -> float:
    """Texts per second of the pipeline with two threads."""
    torch.set_num_threads(2)
    classifier = load_classifier(model, "cpu", num_samples=samples)
    classifier(found[:64])
    started = time.perf_counter()
    for _ in classifier(iter(found)):
        pass
    return len(found) / (time.perf_counter() - started)


def two_workers(model: str | None, found: list[str], samples: int) -> tuple[float, float]:
    """Texts per second from the first answers to the last, and seconds until the first answer."""
    dataset = ray.data.from_items([{"text": text} for text in found], override_num_blocks=len(found) // 1024)
    started = time.perf_counter()
    answers = predict_dataset(dataset, model, workers=2, device="cpu", num_samples=samples).iter_batches(
        batch_size=None, batch_format="pyarrow", prefetch_batches=0
    )
    looks, rows = [], []
    for batch in answers:
        looks.append(time.perf_counter())
        rows.append(batch.num_rows)
    assert sum(rows) == len(found)
    return sum(rows[2:]) / (looks[-1] - looks[1]), looks[0] - started  # both workers have answered once


if __name__ == "__main__":
    main()
