"""Many threads on one pipeline for a long time: same answers, no memory growth, no errors.

    python -m benchmarks.scale.soak [--minutes 10] [--threads 8]

Every thread sends parts of the same texts, as one text, a list or a stream, with changing options. Each answer is
compared with the answer from before the threads started.
"""

import argparse
import gc
import random
import statistics
import threading
import time
from typing import Any

from bayesian_text_classification import BayesianTextClassificationPipeline
from bayesian_text_classification.loading.classifiers import load_classifier

from benchmarks.results import table, write_section
from benchmarks.scale.million_texts import resident, texts

TEXTS = 60
GROWTH = 30  # MiB of tolerance for memory that each thread's allocator keeps
OPTIONS: list[dict[str, Any]] = [
    {"num_samples": 4},
    {"num_samples": 10, "seed": 1},
    {"num_samples": 4, "masks": "bernoulli"},
    {"num_samples": 20, "tolerance": 0.05},
    {"num_samples": 0},
    {"num_samples": 4, "top_k": None},
    {"num_samples": 4, "threshold": 0.9},
]


def main() -> None:
    """Run, and write a section of RESULTS.md. Exit with code 1 if an answer differed, memory grew or a call failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=8)
    args = parser.parse_args()
    calls, wrong, looks = soak(load_classifier(device="cpu"), args.minutes * 60, args.threads)
    tenth = max(len(looks) // 10, 1)
    early, half, last = (statistics.median(looks[i * tenth : (i + 1) * tenth]) for i in (1, 4, 9))
    body = table(
        [
            "minutes",
            "threads",
            "calls",
            "wrong or failed",
            "MiB in the second tenth of the run",
            "MiB in the fifth tenth",
            "MiB in the last tenth",
        ],
        [[f"{args.minutes:g}", args.threads, f"{calls:,}", len(wrong), f"{early:.0f}", f"{half:.0f}", f"{last:.0f}"]],
    )
    write_section("Soak", "python -m benchmarks.scale.soak", body)
    if wrong or last > half + GROWTH:
        raise SystemExit("\n".join([*wrong[:5], f"{half:.0f} MiB, then {last:.0f} MiB"]))


def soak(
    classifier: BayesianTextClassificationPipeline, seconds: float, threads: int
) -> tuple[int, list[str], list[float]]:
    """Number of calls, their failures, and resident memory in MiB at every second."""
    inputs = list(texts(TEXTS))
    expected = [classifier(inputs, **options) for options in OPTIONS]
    calls, wrong, end = [0] * threads, [], time.monotonic() + seconds

    def work(number: int) -> None:
        draw = random.Random(number)
        while time.monotonic() < end:
            which = draw.randrange(len(OPTIONS))
            chosen = draw.sample(range(TEXTS), draw.randint(1, 12))
            part: Any = [inputs[i] for i in chosen]
            form = draw.choice(["one", "list", "stream"])
            try:
                if form == "one":
                    chosen, found = chosen[:1], [classifier(part[0], **OPTIONS[which])]
                    found = found[0] if isinstance(found[0], list) and "top_k" not in OPTIONS[which] else found
                else:
                    found = list(classifier(part if form == "list" else iter(part), **OPTIONS[which]))
                for i, answer in zip(chosen, found, strict=True):
                    if not same(answer, expected[which][i]):
                        wrong.append(f"{OPTIONS[which]}, {form}: {answer} instead of {expected[which][i]}")
            except Exception as error:  # any error is a finding
                wrong.append(f"{OPTIONS[which]}, {form}: {type(error).__name__}: {error}")
            calls[number] += 1

    pool = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for thread in pool:
        thread.start()
    looks = []
    while any(thread.is_alive() for thread in pool):
        gc.collect()
        looks.append(resident())
        time.sleep(min(1.0, seconds / 20))
    return sum(calls), wrong, looks


def same(found: Any, expected: Any) -> bool:
    """Whether answers are equal, numbers within 1e-5. With early stopping, rounding may move the stop."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, dict):
        if found.get("num_samples") != expected.get("num_samples"):
            return abs(found["score"] - expected["score"]) < 0.1
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, float):
        return abs(found - expected) <= 1e-5
    return bool(found == expected)


if __name__ == "__main__":
    main()
