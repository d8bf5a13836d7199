"""Cost of a sampled pass by the length of the texts, side by side with what it replaces.

    python -m benchmarks.length [--threads N] [--repetitions N] [--lengths N...] [--models NAME...] [--dtypes NAME...]

In each repetition all arms run once, interleaved, on the same texts, and medians count. Times are CPU times of the
process, which other programs on the machine disturb less than they do the clock; the clock's are in the last column.
The arms are

- deterministic: the rows of our batches (each text 20 times), without dropout;
- masked: the same batches with balanced masks;
- ours: the pipeline from texts to results, 20 samples;
- stock: one pass of the stock pipeline, text by text;
- loop: the model in `train()` mode in a loop over sorted batches, one pass.

The curve goes to docs/how-to/length.svg.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from bayesian_text_classification import TASK
from matplotlib.figure import Figure
from tqdm import tqdm
from transformers import PreTrainedModel, pipeline
from transformers.utils import logging

from benchmarks.common import distilbert_shaped, embedded, sample_in_a_loop, sorted_batches, tokenizer
from benchmarks.pipeline.cost import of_length
from benchmarks.pipeline.inference import DTYPES, record
from benchmarks.results import table, write_section

SAMPLES = 20
LENGTHS = (25, 64, 128, 256, 512)  # tokens
RATIOS = (("masked", "deterministic"), ("ours", "stock"), ("loop", "stock"), ("loop", "ours"))
HEADER = ["tokens", "deterministic, ms", *(" / ".join(pair) for pair in RATIOS), "ours / stock, clock"]
TOKENS = 256  # of all texts of one length, about
MODELS = {"embedded": embedded, "distilbert-size": distilbert_shaped}
TITLES = {"embedded": "the embedded model", "distilbert-size": "DistilBERT-base's size"}
PICTURE = Path(__file__).parents[1] / "docs" / "how-to" / "length.svg"

Build = Callable[[torch.dtype], PreTrainedModel]
Times = dict[str, list[tuple[float, float]]]  # CPU time and the clock's, per pass of a text, by arm


def main() -> None:
    """Measure, and write a section of RESULTS.md for each model and dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.set_verbosity_error()
    options = f"--threads {args.threads} --repetitions {args.repetitions} --lengths {' '.join(map(str, args.lengths))}"
    for name, dtype in itertools.product(args.models, args.dtypes):
        found = {
            length: measured(MODELS[name], DTYPES[dtype], length, args.repetitions)
            for length in tqdm(args.lengths, f"{name}, {dtype}")
        }
        lines = [[str(length), *row(one)] for length, one in found.items()]
        body = f"{args.repetitions} repetitions. Ratios are those of one pass.\n\n{table(HEADER, lines)}"
        command = f"python -m benchmarks.length {options} --models {name} --dtypes {dtype}"
        write_section(f"Cost by length, {TITLES[name]}, {dtype}", command, body)
        if (name, dtype) == ("embedded", "float32"):
            titles = {"train() in a loop": "loop", "this library": "ours"}
            draw(list(found), {t: [ratio(one, arm, "stock") for one in found.values()] for t, arm in titles.items()})


def measured(
    build: Callable[[torch.dtype], PreTrainedModel], dtype: torch.dtype, length: int, repetitions: int
) -> Times:
    """Times of all arms on the same texts."""
    texts = of_length(length, max(TOKENS // length, 1))
    ours = pipeline(TASK, model=build(dtype), tokenizer=tokenizer(), dtype=dtype, device="cpu", num_samples=SAMPLES)
    stock = pipeline("text-classification", model=build(dtype), tokenizer=tokenizer(), dtype=dtype, device="cpu")
    loop, batches, twin = build(dtype).train(), record(ours, texts), ours._sampler.twin()
    rows = [{key: x.repeat_interleave(len(some), 0) for key, x in inputs.items()} for inputs, some in batches]
    arms: dict[str, tuple[Callable[[], object], int]] = {
        "deterministic": (lambda: [twin.logits(one) for one in rows], SAMPLES),
        "masked": (lambda: [twin.sample_logits(x, some, seed=0, balanced=True) for x, some in batches], SAMPLES),
        "ours": (lambda: ours(texts), SAMPLES),
        "stock": (lambda: [stock(text) for text in texts], 1),
        "loop": (partial(sample_in_a_loop, loop, sorted_batches(texts, 8), 1), 1),
    }
    found: Times = {name: [] for name in arms}
    with torch.inference_mode():
        for repetition in range(repetitions + 1):
            for name, (run, passes) in arms.items():
                before = time.process_time(), time.perf_counter()
                run()
                spent = (time.process_time() - before[0]) / passes, (time.perf_counter() - before[1]) / passes
                if repetition:
                    found[name].append((spent[0] / len(texts), spent[1] / len(texts)))
    return found


def ratio(found: Times, arm: str, base: str, clock: bool = False) -> float:
    """Median over the repetitions of the ratio of two arms."""
    pairs = zip(found[arm], found[base], strict=True)
    return statistics.median(mine[clock] / other[clock] for mine, other in pairs)


def row(found: Times) -> list[str]:
    """The numbers of one line."""
    one = statistics.median(cpu for cpu, _ in found["deterministic"]) * 1e3
    ratios = [*(ratio(found, *pair) for pair in RATIOS), ratio(found, "ours", "stock", clock=True)]
    return [f"{one:.1f}", *(f"{value:.2f}" for value in ratios)]


def draw(tokens: Sequence[int], arms: dict[str, Sequence[float]]) -> None:
    """Plot one sampled pass against the number of tokens, in passes of the stock pipeline."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    for (title, values), color in zip(arms.items(), ("#D55E00", "#0072B2"), strict=True):
        axes.plot(tokens, values, "o-", color=color, label=title)
    axes.axhline(1, color="#80868f", linestyle="--")
    axes.set(xlabel="tokens of a text", ylabel="passes of the stock pipeline", title="One sampled pass", ylim=(0, None))
    axes.set_xticks(tokens)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()
