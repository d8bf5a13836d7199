"""A million texts in a file: memory, speed relative to the pipeline, kills, and growth of cost with file size.

    python -m benchmarks.scale.million_texts [--rows 1000000]

Texts are short and the model is tiny, so the cost is that of everything around the model. Runs in a temporary folder,
which needs about a gigabyte. The curves go to docs/how-to/growth.svg.
"""

import argparse
import csv
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.results import table, write_section

COMMAND = str(Path(sysconfig.get_path("scripts")) / "bayesian-text-classification")
SAMPLES = 4
KILLS = 10
ROUNDS = 10  # of the speed comparison
PICTURE = Path(__file__).parents[2] / "docs" / "how-to" / "growth.svg"
_WORDS = (
    "a the good bad film plot long dull joy bore never ever not quite what one would call worth seeing again at all"
)
WORDS = _WORDS.split(" ")


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)  # in the separate processes
    args = parser.parse_args()
    if args.measure:
        what, *paths = args.measure
        print(json.dumps({"file": one_file, "speeds": speeds}[what](*map(Path, paths))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, whole = folder / "model", folder / "texts.csv"
        save_model(model)
        write_texts(whole, args.rows)
        runs = []
        for rows in sorted({*(10**k for k in range(2, 7) if 10**k < args.rows), args.rows}):
            part = folder / "part.csv"
            write_texts(part, rows)
            runs.append((rows, measured("file", model, part, folder / "answers.csv")))
            print(*runs[-1], file=sys.stderr)
        check_order(whole, folder / "answers.csv")
        ours, theirs = zip(*measured("speeds", model, whole, folder / "speed.csv"), strict=True)
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        kills, identical = killed(model, whole, folder, folder / "answers.csv", runs[-1][1]["seconds"])
    last = runs[-1][1]
    draw([(rows, run["seconds"], run["peak"]) for rows, run in runs])
    shown = [
        [f"{rows:,}", f"{run['seconds']:.1f}", f"{rows / run['seconds']:,.0f}", f"{run['peak']:.0f}"]
        for rows, run in runs
    ]
    body = (
        table(["texts", "seconds", "texts per second", "peak memory, MiB"], shown)
        + f"\n\nTiny model, {SAMPLES} samples, CSV to CSV, one thread, without process startup. Memory in the last "
        f"line: {last['first']:.0f} MiB at 10% of the file, {last['last']:.0f} MiB at 99%. Every row appears once, in "
        f"order.\n\nSpeed relative to the pipeline by itself, on {ROUNDS} parts of the file in turn: "
        f"{statistics.median(ratios):.3f} (median; {min(ratios):.3f} to {max(ratios):.3f}).\n\n"
        f"Killed (SIGKILL) {len(kills)} times at random moments, at rows {', '.join(f'{rows:,}' for rows in kills)}, "
        f"and resumed with --resume: the output is {'byte-identical' if identical else 'NOT IDENTICAL'}."
    )
    write_section("A million texts", "python -m benchmarks.scale.million_texts", body)


def save_model(folder: Path) -> None:
    """Save a one-layer BERT with random weights, and the embedded model's tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification, BertConfig

    from benchmarks.common import tokenizer

    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)


def texts(rows: int) -> Iterator[str]:
    """Random texts of 1 to 16 words."""
    draw = random.Random(0)
    for _ in range(rows):
        yield " ".join(draw.choices(WORDS, k=draw.randint(1, 16)))


def write_texts(path: Path, rows: int) -> None:
    """Write a CSV file with a number for each text."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows(enumerate(texts(rows)))


def measured(what: str, *paths: Path) -> Any:
    """Run one measurement in a separate process with one thread."""
    command = [sys.executable, "-m", "benchmarks.scale.million_texts", "--measure", what, *map(str, paths)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def one_file(model: Path, source: Path, target: Path) -> dict[str, float]:
    """Seconds, and memory in MiB at 10% of the file, at 99%, and at the peak."""
    from bayesian_text_classification.files.sources import source_of
    from bayesian_text_classification.loading.classifiers import load_classifier
    from bayesian_text_classification.scale.predict import predict_file

    classifier = load_classifier(str(model), "cpu", num_samples=SAMPLES)
    classifier(["a first text"])
    looks: dict[str, float] = {}

    def look(rows: float, done: float | None) -> None:
        for name, share in (("first", 0.1), ("last", 0.99)):
            if name not in looks and (done or 0) >= share:
                looks[name] = resident()

    started = time.perf_counter()
    predict_file(classifier, source_of(str(source)), target, ".csv", progress=look)
    seconds = time.perf_counter() - started
    return {**looks, "seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def speeds(model: Path, source: Path, target: Path) -> list[tuple[float, float]]:
    """Texts per second of `predict_file` and of the pipeline, on one part of the file after the other."""
    from bayesian_text_classification.files.sources import source_of
    from bayesian_text_classification.loading.classifiers import load_classifier
    from bayesian_text_classification.scale.predict import predict_file

    classifier = load_classifier(str(model), "cpu", num_samples=SAMPLES)
    found = []
    with source.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows)
        total = sum(1 for _ in rows)
    with source.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows)
        for i in range(ROUNDS):
            part = [text for _, text in islice(rows, total // ROUNDS)]
            path = target.with_name("speed-in.csv")
            with path.open("w", newline="", encoding="utf-8") as out:
                csv.writer(out).writerows([["id", "text"], *enumerate(part)])

            def ours(path: Path = path) -> None:
                predict_file(classifier, source_of(str(path)), target, ".csv")

            def theirs(part: list[str] = part) -> None:
                for _ in classifier(iter(part)):
                    pass

            seconds = {}
            for run in (ours, theirs) if i % 2 else (theirs, ours):
                started = time.perf_counter()
                run()
                seconds[run] = time.perf_counter() - started
            found.append((len(part) / seconds[ours], len(part) / seconds[theirs]))
    return found


def check_order(source: Path, target: Path) -> None:
    """Check that each row appears once, in order, with its cells."""
    with source.open(newline="", encoding="utf-8") as a, target.open(newline="", encoding="utf-8") as b:
        for there, here in zip(csv.DictReader(a), csv.DictReader(b), strict=True):
            assert there == {name: here[name] for name in there} and here["score"] and not here["error"]


def killed(model: Path, source: Path, folder: Path, expected: Path, seconds: float) -> tuple[list[int], bool]:
    """Kill the command at random moments and resume it. Return the rows done at each kill, and whether bytes match."""
    target = folder / "killed.csv"
    command = [COMMAND, "predict", "--input", source, "--output", target, "--model", model, "--num-samples", SAMPLES,
               "--device", "cpu", "--resume"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    draw, rows = random.Random(0), []
    progress = target.with_name("killed.csv.progress")
    for _ in range(KILLS):
        before = progress.stat().st_mtime_ns if progress.exists() else 0
        process = subprocess.Popen(list(map(str, command)), env=environment, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (progress.exists() and progress.stat().st_mtime_ns > before):
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 1.6 * seconds / KILLS))  # on average it gets through most of the file
        process.send_signal(signal.SIGKILL)
        process.wait()
        if target.exists():
            raise SystemExit("the command ended before the last kill; run it on more rows")
        rows.append(json.loads(progress.read_text())["rows"])
    subprocess.run(list(map(str, command)), env=environment, check=True, stderr=subprocess.DEVNULL)
    return rows, target.read_bytes() == expected.read_bytes()


def resident() -> float:
    """Current resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def draw(points: list[tuple[int, float, float]]) -> None:
    """Plot seconds and memory against the number of texts, on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows, seconds, peak = zip(*points, strict=True)
    left.loglog(rows, seconds, "o-", color="#0072B2")
    left.loglog(rows, [seconds[-1] / rows[-1] * n for n in rows], "--", color="#80868f", label="linear growth")
    left.set(xlabel="texts", ylabel="seconds", title="Time")
    left.legend(frameon=False)
    right.semilogx(rows, peak, "o-", color="#D55E00")
    right.set(xlabel="texts", ylabel="MiB", title="Peak memory", ylim=(0, 1.2 * max(peak)))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:  # the figure is never half-written
        figure.savefig(Path(folder) / PICTURE.name, metadata={"Date": None})
        shutil.move(Path(folder) / PICTURE.name, PICTURE)


if __name__ == "__main__":
    main()
