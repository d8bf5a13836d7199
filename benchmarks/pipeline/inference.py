"""Speed and error side by side: the stock pipeline, the 2021 method, a good hand-written loop, and this library.

    python -m benchmarks.pipeline.inference --dataset FILE

FILE is tab-separated with the columns label and text, such as SST-2's validation split. `--sentences` of its texts are
used, at equal steps of length. The models are the embedded classifier and one of DistilBERT-base's size with random
weights.

Time: in each repetition all arms run once, interleaved, and the median over the repetitions counts.

Error: the root mean square distance of the positive class' probability to the arm's own limit, on the embedded model.
The limit is the mean of `--reference` independent samples of the same dropout sites, and its noise is subtracted. From
several tolerances, the benchmark uses the largest one that is as exact as 20 independent samples on these sentences.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from baal.bayesian.dropout import patch_module
from bayesian_text_classification import TASK
from bayesian_text_classification.pipeline import text_sampler as module
from bayesian_text_classification.pipeline.sampling import Draws, Passes, until_precise
from bayesian_text_classification.pipeline.twin import StochasticTwin
from tqdm import tqdm
from transformers import PreTrainedModel, pipeline
from transformers.utils import logging

from benchmarks.common import (
    Array,
    distilbert_shaped,
    embedded,
    read_sentences,
    root_mean_square,
    sample_in_a_loop,
    sorted_batches,
    stratified,
    tokenizer,
)
from benchmarks.results import table, write_section

SAMPLES = 20  # independent samples whose error is the reference
MOST = 100  # the most samples of a text with a tolerance
TOLERANCES = (0.12, 0.11, 0.1, 0.09, 0.08, 0.02)
SEEDS = 8  # runs that measure the error of a balanced or stopped arm
STOCK_BATCHES = (8, 16, 32)
LOOP_BATCHES = (8, 32)  # rows per batch of the loop: with few sentences, small batches pad less
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Error:
    """Error of an arm on the embedded model.

    Attributes:
        rmse: Distance to the arm's own limit.
        passes: Mean number of passes per text.
        bias: Distance of that limit from the limit of all dropout sites.
    """

    rmse: float
    passes: float
    bias: float = 0.0


@dataclass
class Arm:
    """One way to classify all sentences. A run makes `passes` per text; `seconds` scales to `total` passes if given."""

    name: str
    run: Callable[[], Any]
    passes: float = 1.0
    error: Error | None = None
    total: float | None = None
    times: list[float] = field(default_factory=list)

    @property
    def per_pass(self) -> float:
        """Median seconds for one pass over all sentences."""
        return statistics.median(self.times) / self.passes

    @property
    def seconds(self) -> float:
        """Median seconds for all passes over all sentences."""
        return self.per_pass * (self.total or self.passes)


def main() -> None:
    """Measure both models and write their sections of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=60)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--reference", type=int, default=300, help="independent samples for each limit")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    args = parser.parse_args()
    logging.set_verbosity_error()
    texts = stratified(read_sentences(args.dataset)[0], args.sentences)
    errors, counts = measure_errors(texts, args.reference)
    for name, build in (("DistilBERT-base's size", distilbert_shaped), ("the embedded model", embedded)):
        arms = make_arms(build, texts, errors, counts, args.dtypes)
        run_interleaved(list(arms.values()), args.repetitions)
        options = f"--sentences {args.sentences} --repetitions {args.repetitions} --reference {args.reference}"
        options += f" --dtypes {' '.join(args.dtypes)}"
        command = f"python -m benchmarks.pipeline.inference --dataset validation.tsv {options}"
        write_section(f"Inference, {name}", command, report(arms, len(texts), args.repetitions, args.dtypes))


def measure_errors(texts: Sequence[str], reference: int) -> tuple[dict[str, Error], dict[str, Array]]:
    """Errors on the embedded model in float32, and the number of samples per text in one run of each stopped arm."""
    batches = sorted_batches(texts, LOOP_BATCHES[0])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        every = sample_in_a_loop(embedded(torch.float32).train(), batches, reference)
        patched = sample_in_a_loop(patch_module(embedded(torch.float32), inplace=True).eval(), batches, reference)
    limit, noise = every.mean(1), every.var(1, ddof=1).mean() / reference
    ours = pipeline(TASK, model=embedded(torch.float32), tokenizer=tokenizer())

    def measured(**options: Any) -> tuple[Error, Array]:
        results = [ours(texts, seed=seed, **options) for seed in tqdm(range(SEEDS), str(options))]
        positive = np.array(
            [[r["score"] if r["label"] == "POSITIVE" else 1 - r["score"] for r in rs] for rs in results]
        )
        counts = np.array([[r["num_samples"] for r in rs] for rs in results])
        rmse = np.sqrt(max(root_mean_square(positive - limit) ** 2 - noise, 0.0))
        return Error(float(rmse), float(counts.mean())), counts[0]

    errors = {
        "independent": Error(float(np.sqrt(every.var(1, ddof=1).mean() / SAMPLES)), SAMPLES),
        "2021": Error(
            float(np.sqrt(patched.var(1, ddof=1).mean() / SAMPLES)), SAMPLES, root_mean_square(patched.mean(1) - limit)
        ),
    }
    counts = {}
    errors[f"balanced, {SAMPLES} samples"], _ = measured(num_samples=SAMPLES)
    for tolerance in TOLERANCES:
        name = f"tolerance {tolerance}"
        errors[name], counts[name] = measured(num_samples=MOST, tolerance=tolerance)
    # The largest tolerance that is as exact as the reference, and 0.02 for comparison.
    good = [name for name in counts if errors[name].rmse <= errors["independent"].rmse]
    return errors, {
        name: counts[name] for name in good[:1] + [name for name in ("tolerance 0.02",) if name not in good[:1]]
    }


def make_arms(
    build: Callable[[torch.dtype], PreTrainedModel],
    texts: Sequence[str],
    errors: dict[str, Error],
    counts: dict[str, Array],
    dtypes: Sequence[str],
) -> dict[str, Arm]:
    """The arms for one model. Stopped arms take as many samples of each text as the embedded model needed."""
    texts, encode = list(texts), tokenizer()
    stock = pipeline("text-classification", model=build(torch.float32), tokenizer=encode)
    patched = pipeline("text-classification", model=patch_module(build(torch.float32), inplace=True), tokenizer=encode)
    arms = {
        "stock": Arm("stock pipeline, batch 1, float32", lambda: [stock(text) for text in texts]),
        "2021": Arm(
            "2021 method: BaaL, batch 1, float32",
            lambda: [patched(text) for text in texts],
            error=errors["2021"],
            total=SAMPLES,
        ),
    }
    for size in STOCK_BATCHES:
        run = lambda size=size: stock(texts, batch_size=size)  # noqa: E731
        arms[f"stock {size}"] = Arm(f"stock pipeline, batch {size}, float32", run)
    for dtype in dtypes:
        arms |= {f"{key} {dtype}": arm for key, arm in arms_of(build, dtype, texts, errors, counts).items()}
    return arms


def arms_of(
    build: Callable[[torch.dtype], PreTrainedModel],
    dtype: str,
    texts: list[str],
    errors: dict[str, Error],
    counts: dict[str, Array],
) -> dict[str, Arm]:
    """The loop and this library in one dtype."""
    loop, ours = build(DTYPES[dtype]).train(), pipeline(TASK, model=build(DTYPES[dtype]), tokenizer=tokenizer())
    recorded, twin = record(ours, texts), ours._sampler.twin()
    repeated = [
        {name: value.repeat_interleave(len(samples), 0) for name, value in inputs.items()}
        for inputs, samples in recorded
    ]
    return {
        **{
            f"loop {size}": Arm(
                f"train() in a loop, sorted batches of {size}, {dtype}",
                partial(sample_in_a_loop, loop, sorted_batches(texts, size), 4),
                passes=4,
                total=SAMPLES,
                error=errors["independent"],
            )
            for size in LOOP_BATCHES
        },
        "deterministic": Arm(
            f"our batches of 20 copies, no dropout, {dtype}", lambda: [twin.logits(rows) for rows in repeated], SAMPLES
        ),
        "products": Arm(
            f"our batches of 20 copies, linear layers only, {dtype}", linear_layers(twin._model, repeated), SAMPLES
        ),
        "masked": Arm(
            f"our batches of 20 copies, balanced masks, {dtype}",
            lambda: [twin.sample_logits(rows, samples, seed=0, balanced=True) for rows, samples in recorded],
            SAMPLES,
        ),
        "balanced": Arm(
            f"ours, {SAMPLES} samples, {dtype}",
            lambda: ours(texts),
            SAMPLES,
            error=errors[f"balanced, {SAMPLES} samples"],
        ),
        **{
            name: Arm(f"ours, {name}, {dtype}", stopped(ours, texts, needed), float(needed.mean()), errors[name])
            for name, needed in counts.items()
        },
    }


def record(ours: Any, texts: list[str]) -> list[tuple[dict[str, torch.Tensor], range]]:
    """Record the batches that a call with 20 samples runs."""
    _ = ours.spread  # runs the pilot, which the first call would do
    batches = []
    original = StochasticTwin.sample_logits

    def spy(self: StochasticTwin, inputs: Any, samples: range, **options: Any) -> torch.Tensor:
        batches.append((inputs, samples))
        return original(self, inputs, samples, **options)

    with patch.object(StochasticTwin, "sample_logits", spy):
        ours(texts)
    return batches


def linear_layers(model: torch.nn.Module, batches: Sequence[Any]) -> Callable[[], None]:
    """A function that runs only the model's linear layers, on inputs with the shapes that they get from the batches."""
    calls: list[tuple[torch.nn.Module, torch.Tensor]] = []
    inputs: dict[torch.Size, torch.Tensor] = {}

    def keep(layer: torch.nn.Module, args: tuple[torch.Tensor]) -> None:
        calls.append((layer, inputs.setdefault(args[0].shape, torch.randn_like(args[0]))))

    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    with torch.inference_mode():
        for rows in batches:
            model(**rows)
    for hook in hooks:
        hook.remove()

    @torch.inference_mode()
    def run() -> None:
        for layer, x in calls:
            layer(x)

    return run


def stopped(ours: Any, texts: list[str], needed: Array) -> Callable[[], Any]:
    """A call with a tolerance in which text i stops after `needed[i]` samples, whatever its standard error is."""

    def until_needed(passes: Passes, count: int, most: int, tolerance: float, error: Any) -> Draws:
        active = np.arange(count)

        def standard_error(samples: Array) -> Array:
            nonlocal active
            error(samples)  # its cost is part of the run
            sure = needed[active] <= samples.shape[2]
            active = active[~sure]
            return np.where(sure, 0.0, np.inf)

        return until_precise(passes, count, most, tolerance, standard_error)

    def run() -> Any:
        with patch.object(module, "until_precise", until_needed):
            results = ours(texts, num_samples=MOST, tolerance=1e-9)
        assert [result["num_samples"] for result in results] == needed.tolist()
        return results

    return run


def run_interleaved(arms: Sequence[Arm], repetitions: int) -> None:
    """Run every arm in turn, `repetitions` times, after one warm-up turn."""
    for repetition in tqdm(range(repetitions + 1), "time"):
        for arm in arms:
            started = time.perf_counter()
            arm.run()
            if repetition:
                arm.times.append(time.perf_counter() - started)


def report(arms: dict[str, Arm], texts: int, repetitions: int, dtypes: Sequence[str]) -> str:
    """Table of all arms, and the ratios that the goals are about."""
    stock = arms["stock"].per_pass
    rows = []
    for arm in arms.values():
        error = arm.error
        rows.append(
            [
                arm.name,
                f"{arm.per_pass / texts * 1e3:.2f}",
                f"{arm.per_pass / stock:.3f}",
                f"{arm.total or arm.passes:.1f}",
                f"{arm.seconds / texts * 1e3:.1f}",
                f"{error.rmse:.4f}" if error else "",
                f"{error.bias:.4f}" if error else "",
            ]
        )
    header = ["arm", "ms per pass", "relative to stock", "passes per text", "ms per text", "RMSE", "bias"]
    lines = [
        f"{texts} sentences, median of {repetitions} interleaved runs. RMSE: error of the embedded model in float32 "
        "relative to each arm's own limit. Bias: distance of that limit from the limit of all dropout sites.",
        "",
        table(header, rows),
        "",
    ]
    for dtype in dtypes:
        loop = min((arms[f"loop {size} {dtype}"] for size in LOOP_BATCHES), key=lambda arm: arm.seconds)
        goal = loop.error
        assert goal is not None
        exact = [arm for key, arm in arms.items() if key.endswith(dtype) and key.startswith(("balanced", "tolerance"))]
        best = min((arm for arm in exact if arm.error and arm.error.rmse <= goal.rmse), key=lambda arm: arm.seconds)
        masked, plain = arms[f"masked {dtype}"], arms[f"deterministic {dtype}"]
        lines += [
            f"- {dtype}: with an error no larger than that of {SAMPLES} independent samples ({goal.rmse:.4f}), "
            f"{best.name!r} is {arms['2021'].seconds / best.seconds:.1f} times faster than the 2021 method and "
            f"{loop.seconds / best.seconds:.1f} times faster than the faster loop.",
            f"- {dtype}: on the same batches, a pass with masks takes {masked.per_pass / plain.per_pass:.3f} times as "
            f"long as one without. A whole pipeline pass takes {arms[f'balanced {dtype}'].per_pass / stock:.3f} stock "
            f"passes, of which the linear layers take {arms[f'products {dtype}'].per_pass / stock:.3f}.",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
