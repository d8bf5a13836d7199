"""Accuracy of the standard error, and savings from balanced masks and early stopping.

    python -m benchmarks.pipeline.standard_error --dataset FILE [--sentences N]

FILE is tab-separated with the columns label and text, such as SST-2's validation split. The embedded model runs in
float32. The limit of each score is the mean of `--reference` samples with a separate seed. Everything else is compared
with it under other seeds, and the limit's noise is subtracted.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bayesian_text_classification import TASK
from bayesian_text_classification.pipeline.masks import GROUP_SIZE
from tqdm import tqdm
from transformers import pipeline
from transformers.utils import logging

from benchmarks.common import Array, embedded, read_sentences, root_mean_square, stratified, tokenizer
from benchmarks.results import table, write_section

TOLERANCES = (0.1, 0.05, 0.03, 0.02, 0.01)
MOST = 200  # the most samples of a text with a tolerance
REFERENCE_SEED = 10**6


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=872, help="number of sentences, at equal steps of length")
    parser.add_argument("--reference", type=int, default=2_000, help="samples for each limit")
    parser.add_argument("--seeds", type=int, default=6)
    args = parser.parse_args()
    logging.set_verbosity_error()
    texts = stratified(read_sentences(args.dataset)[0], args.sentences)
    ours = pipeline(TASK, model=embedded(torch.float32), tokenizer=tokenizer())
    with tqdm(desc="limits", total=len(texts) * args.reference, unit="pass") as bar:
        limits = ours.sample_proba(texts, num_samples=args.reference, seed=REFERENCE_SEED, progress=bar.update)
    samples = limits[:, 1]
    rows = [*fixed_rows(ours, texts, samples, args.seeds), *stopped_rows(ours, texts, samples, args.seeds)]
    header = ["samples", "mean", "RMSE", "of independent", "within 1.96 std. errors", "stopped: within 2 tolerances"]
    body = (
        f"{len(texts)} sentences, {args.seeds} {'seed' if args.seeds == 1 else 'seeds'} each, "
        f"limits from {args.reference} samples. "
        "'of independent': the number of samples relative to the number of independent samples with the same RMSE.\n\n"
    )
    options = f"--sentences {args.sentences} --reference {args.reference} --seeds {args.seeds}"
    command = f"python -m benchmarks.pipeline.standard_error --dataset validation.tsv {options}"
    write_section("Coverage of the standard error", command, body + table(header, rows))


def fixed_rows(ours: Any, texts: list[str], reference: Array, seeds: int) -> list[list[str]]:
    """Table rows for fixed numbers of balanced and independent samples."""
    rows = []
    for masks, counts in (("balanced", (4, 10, 20, 40)), ("bernoulli", (10, 20))):
        for count in counts:
            name = f"{count}, {masks}"
            results = [ours(texts, num_samples=count, seed=seed, masks=masks) for seed in tqdm(range(seeds), desc=name)]
            rows.append(row(name, results, reference))
    return rows


def stopped_rows(ours: Any, texts: list[str], reference: Array, seeds: int) -> list[list[str]]:
    """Table rows for tolerances."""
    rows = []
    for tolerance in TOLERANCES:
        name = f"tolerance {tolerance}"
        results = [
            ours(texts, num_samples=MOST, tolerance=tolerance, seed=seed) for seed in tqdm(range(seeds), desc=name)
        ]
        rows.append(row(name, results, reference, tolerance))
    return rows


def row(name: str, results: list[list[dict[str, Any]]], reference: Array, tolerance: float | None = None) -> list[str]:
    """Compare one way of sampling, with `results` (seeds, texts), with the reference."""
    limit, independent = reference.mean(1, dtype=np.float64), float(reference.var(1, ddof=1, dtype=np.float64).mean())
    whole = reference.shape[1] // GROUP_SIZE * GROUP_SIZE
    means = reference[:, :whole].reshape(len(reference), -1, GROUP_SIZE).mean(2, dtype=np.float64)
    noise = float((means.var(1, ddof=1) / means.shape[1]).mean())
    positive = np.array([[r["score"] if r["label"] == "POSITIVE" else 1 - r["score"] for r in rs] for rs in results])
    errors = np.array([[r["standard_error"] for r in rs] for rs in results])
    counts = np.array([[r["num_samples"] for r in rs] for rs in results])
    distance = np.abs(positive - limit)
    squared = max(root_mean_square(distance) ** 2 - noise, 1e-12)
    early = counts < MOST
    return [
        name,
        f"{counts.mean():.1f}",
        f"{np.sqrt(squared):.4f}",
        f"{counts.mean() / (independent / squared):.2f}",
        f"{(distance <= 1.96 * errors).mean():.1%}",
        "" if tolerance is None else f"{(distance[early] <= 2 * tolerance).mean():.1%}",
    ]


if __name__ == "__main__":
    main()
