"""Cost of a million texts: core hours by length, number of samples, tolerance and dtype.

    python -m benchmarks.pipeline.cost --dataset FILE

FILE is tab-separated with the columns label and text. The tolerance is tested on its texts. Texts of a given length are
random words. All PyTorch threads run. Core hours are wall-clock hours times the number of threads.
"""

import argparse
import random
import time
from pathlib import Path
from typing import Any

import torch
from bayesian_text_classification import TASK
from transformers import pipeline

from benchmarks.common import distilbert_shaped, embedded, read_sentences, stratified, tokenizer
from benchmarks.results import table, write_section

LENGTHS = (16, 64, 256)  # tokens
SAMPLES = (0, 10, 20, 40)
TOLERANCES = (0.05, 0.03, 0.02, 0.01)
MODELS = {"embedded (6 layers, 384 wide)": embedded, "DistilBERT-base's size (6, 768)": distilbert_shaped}
SECONDS = 3.0  # the least duration of a measurement
TEXTS = 200  # number of texts from the dataset


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    args = parser.parse_args()
    rows = []
    for title, build in MODELS.items():
        for dtype in (torch.float32, torch.bfloat16):
            classifier = pipeline(TASK, model=build(dtype), tokenizer=tokenizer(), dtype=dtype, device="cpu")
            for length in LENGTHS:
                texts = of_length(length, max(1024 // length, 4))
                hours = [core_hours(classifier, texts, num_samples=samples) for samples in SAMPLES]
                rows.append([f"{title}, {str(dtype).removeprefix('torch.')}, {length} tokens", *map(shown, hours)])
                print(rows[-1], flush=True)
    classifier = pipeline(TASK, model=embedded(torch.float32), tokenizer=tokenizer(), device="cpu")
    sentences = stratified(read_sentences(args.dataset)[0], TEXTS)
    fixed = core_hours(classifier, sentences, num_samples=100)
    early = []
    for tolerance in TOLERANCES:
        used = [answer["num_samples"] for answer in classifier(sentences, num_samples=100, tolerance=tolerance)]
        hours = core_hours(classifier, sentences, num_samples=100, tolerance=tolerance)
        early.append([tolerance, f"{sum(used) / len(used):.1f}", shown(hours), f"{hours / fixed:.2f}"])
    body = (
        "Core hours per million texts.\n\n"
        + table(["model", *(f"{samples} samples" for samples in SAMPLES)], rows)
        + f"\n\n{TEXTS} sentences of the dataset, embedded model, float32, at most 100 samples ({shown(fixed)} core "
        "hours without a tolerance):\n\n"
        + table(["tolerance", "mean samples", "core hours", "relative to 100 samples each"], early)
    )
    write_section("What a million texts cost", "python -m benchmarks.pipeline.cost --dataset validation.tsv", body)


def of_length(tokens: int, count: int) -> list[str]:
    """Create texts with this many tokens, including the two special tokens."""
    draw = random.Random(0)
    words = ["film", "plot", "good", "bad", "long", "dull", "joy", "never", "quite", "again"]
    return [" ".join(draw.choices(words, k=tokens - 2)) for _ in range(count)]


def core_hours(classifier: Any, texts: list[str], **options: Any) -> float:
    """Core hours for a million texts like these."""
    classifier(texts[:1], **options)
    done, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < SECONDS:
        classifier(texts, **options)
        done += len(texts)
    return seconds / done * 1e6 / 3600 * torch.get_num_threads()


def shown(hours: float) -> str:
    """Format with two significant digits, or as an integer from 100 on."""
    return f"{hours:.2g}" if hours < 100 else f"{hours:.0f}"


if __name__ == "__main__":
    main()
