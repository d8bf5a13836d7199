"""Cost of a student in the stock pipeline, relative to its teacher's ordinary pass there.

    python -m benchmarks.distillation.cost

A student of the embedded model is saved, and the stock pipeline loads its folder, in a process that has not imported
this library. The two sides take turns there, in float32, with one thread and all texts of a call in one batch. The
numbers are medians of the ratios of their CPU times, with the middle half in parentheses. The answers show which one is
the student.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from bayesian_text_classification import load

from benchmarks.pipeline.cost import of_length
from benchmarks.pipeline.posteriors import LENGTHS, TOKENS, shown
from benchmarks.results import table, write_section

STOCK = """
import json, sys, time
import torch
from transformers import pipeline

student, teacher, rounds, texts = *sys.argv[1:3], int(sys.argv[3]), json.load(sys.stdin)
torch.set_num_threads(1)
same = {"device": "cpu", "dtype": torch.float32}  # the teacher's weights are float16
sides = [pipeline("text-classification", model=folder, **same) for folder in (student, teacher)]
assert "bayesian_text_classification" not in sys.modules
found = []
for number in range(rounds + 1):
    seconds, scores = {}, {}
    for side in sorted((0, 1), reverse=bool(number % 2)):
        started = time.process_time()
        scores[side] = [one["score"] for one in sides[side](texts, batch_size=len(texts))]
        seconds[side] = time.process_time() - started
    assert scores[0] != scores[1]
    found.append(seconds[0] / seconds[1])
print(json.dumps(found[1:]))
"""


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    teacher, rows = load(), []
    with tempfile.TemporaryDirectory() as place:
        student = teacher.distill(of_length(25, 1_000), how="head")
        student.save_pretrained(f"{place}/student")
        teacher.save_pretrained(f"{place}/teacher")
        for length in LENGTHS:
            found = ratios_of(Path(place), of_length(length, max(TOKENS // length, 1)), rounds)
            rows.append([f"{length} tokens", shown(found)])
            print(rows[-1], flush=True)
    body = f"The embedded model, {rounds} rounds, one thread.\n\n" + table(["", "student / teacher"], rows)
    write_section("Cost of a student", f"python -m benchmarks.distillation.cost --rounds {rounds}", body)


def ratios_of(folder: Path, texts: list[str], rounds: int) -> np.ndarray:
    """CPU time of the student over that of its teacher, in each round. *Shape:* (rounds,)."""
    command = [sys.executable, "-c", STOCK, str(folder / "student"), str(folder / "teacher"), str(rounds)]
    done = subprocess.run(command, input=json.dumps(texts), stdout=subprocess.PIPE, text=True, check=True)
    return np.array(json.loads(done.stdout))


if __name__ == "__main__":
    main()
