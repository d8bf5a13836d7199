"""Peak memory compared with the stock pipeline on the same texts, and memory during a long stream.

    python -m benchmarks.pipeline.memory --dataset FILE

FILE is tab-separated with the columns label and text. Each measurement is a separate process. For the pipelines it is
the peak resident set, on the texts of FILE and, the median of five processes, on texts of 512 tokens. For the streams
it is the resident memory at some points.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.results import table, write_section

TEXTS = 872  # the most texts from the file
STREAM = 200_000
LONG, LONG_TEXTS, LONG_STREAM = 512, 4, 2_000  # tokens of a long text, number of them for a pipeline and for a stream
MODELS = ("the embedded model", "DistilBERT-base's size")


def main() -> None:
    """Run the measurements one after the other and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # in the separate processes
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.dataset)))
        return
    rows = []
    for texts, processes in (("texts of the file", 1), (f"texts of {LONG} tokens", 5)):
        for model in MODELS:
            whats = (f"{task}/{model}/{texts}" for task in ("text-classification", "ours"))
            peaks = ([run(what, args.dataset)[0] for _ in range(processes)] for what in whats)
            stock, ours = map(statistics.median, peaks)
            rows.append([f"{model}, {texts}", f"{stock:.0f}", f"{ours:.0f}", f"{ours / stock:.3f}"])
    first, half, last = run("stream", args.dataset)
    early, late = run("long stream", args.dataset)
    body = table(["peak memory, MiB", "stock pipeline", "ours, 20 samples", "ratio"], rows) + (
        f"\n\nA stream of {STREAM:,} texts, tiny model: {first:.0f} MiB after a tenth of it, {half:.0f} MiB after half "
        f"of it, {last:.0f} MiB at the end. {LONG_STREAM:,} texts of {LONG} tokens, tiny model, 2 samples: "
        f"{early:.0f} MiB after a tenth of them, {late:.0f} MiB at the end."
    )
    write_section("Memory", "python -m benchmarks.pipeline.memory --dataset validation.tsv", body)


def run(what: str, dataset: Path) -> list[float]:
    """Run one measurement in a separate process."""
    command = [sys.executable, "-m", "benchmarks.pipeline.memory", "--dataset", str(dataset), "--measure", what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(what: str, dataset: Path) -> list[float]:
    """Memory in MiB: the peak of one pipeline over the texts, or three points of a stream."""
    import torch
    from bayesian_text_classification import TASK
    from transformers import AutoModelForSequenceClassification, BertConfig, pipeline

    from benchmarks.common import distilbert_shaped, embedded, read_sentences, tokenizer
    from benchmarks.pipeline.cost import of_length

    if what.endswith("stream"):
        config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        model = AutoModelForSequenceClassification.from_config(config).eval()
        long, parts = what.startswith("long"), (STREAM // 10, STREAM // 2 - STREAM // 10, STREAM - STREAM // 2)
        if long:
            parts = LONG_STREAM // 10, LONG_STREAM - LONG_STREAM // 10
        texts = iter(of_length(LONG, LONG_STREAM)) if long else stream()
        results = iter(pipeline(TASK, model=model, tokenizer=tokenizer(), num_samples=2)(texts))
        looks = []
        for part in parts:
            for _ in range(part):
                next(results)
            looks.append(resident())
        return looks
    task, name, kind = what.split("/", 2)
    build = dict(zip(MODELS, (embedded, distilbert_shaped), strict=True))[name]
    task = TASK if task == "ours" else task
    classifier = pipeline(task, model=build(torch.float32), tokenizer=tokenizer())
    classifier(of_length(LONG, LONG_TEXTS) if str(LONG) in kind else read_sentences(dataset)[0][:TEXTS])
    return [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]


def stream() -> Iterator[str]:
    """Distinct texts of different lengths."""
    for i in range(STREAM):
        yield f"film number {i}" + " and so on" * (i % 7)


def resident() -> float:
    """Current resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
