"""What few samples do to a score and to the uncertainties: two classes, and 150.

    python -m benchmarks.pipeline.few_samples --clinc150 MODEL FILE FILE

The same samples pick a label and estimate its score, so the score is too high on average. Mutual information is too
low. MODEL is that of `training/clinc150.py`, with the questions of `test.tsv` and those of `oos_test.tsv`, which fit no
class. The embedded model has the 300 hard reviews. Limits are means of 400 samples with another seed.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from bayesian_text_classification import load, load_labeled_texts
from bayesian_text_classification.pipeline.uncertainty import Uncertainty, over_classes
from tqdm import tqdm, trange

from benchmarks.common import Array, read_texts, root_mean_square, stratified
from benchmarks.results import table, write_section

COUNTS = (4, 10, 20)
TOLERANCES = (0.05, 0.02)
LIMIT_SEED = 10**6


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clinc150", type=Path, nargs=3, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    embedded, questions = load(), load(args.clinc150[0])
    cases = [
        ("reviews, 2 classes", embedded, load_labeled_texts("hard", embedded.model.config.id2label).texts),
        ("questions, 150 classes", questions, stratified(read_texts(args.clinc150[1]), 300)),
        ("questions that fit none of the 150 classes", questions, stratified(read_texts(args.clinc150[2]), 300)),
    ]
    rows = [row for name, ours, texts in cases for row in rows_of(f"{len(texts)} {name}", ours, texts, args.seeds)]
    header = ["texts", "samples", "score: bias", "mutual information", "entropy", "RMSE", "RMSE, delta method"]
    body = (
        f"Means over {args.seeds} seeds. The bias is that of the score of the winning label. Mutual information and "
        "predictive entropy are shares of their limits. The RMSE is that of the mutual information, as it is and with "
        "the delta method's correction.\n\n"
    )
    command = f"python -m benchmarks.pipeline.few_samples --clinc150 MODEL FILE FILE --seeds {args.seeds}"
    write_section("Few samples", command, body + table(header, rows))


def rows_of(case: str, ours: Any, texts: list[str], seeds: int) -> list[list[str]]:
    """A table row for each number of samples, and for each tolerance."""
    with tqdm(desc=f"{case}: limits", total=400 * len(texts), unit="pass") as bar:
        limit = over_classes(ours.sample_proba(texts, num_samples=400, seed=LIMIT_SEED, progress=bar.update))
    rows = []
    for count in COUNTS:
        drawn = [
            over_classes(ours.sample_proba(texts, num_samples=count, seed=seed))
            for seed in trange(seeds, desc=f"{case}, {count} samples")
        ]
        bias = np.mean([one.mean.max(1) - picked(limit.mean, one.mean.argmax(1)) for one in drawn])
        shares = (share(drawn, limit, name) for name in ("mutual_information", "predictive_entropy"))
        apart = np.array([one.mutual_information - limit.mutual_information for one in drawn])
        added = np.array([(one.std**2 / (count - 1) / np.maximum(one.mean, 1e-9)).sum(1) / 2 for one in drawn])
        errors = (f"{root_mean_square(error):.4f}" for error in (apart, apart + added))
        rows.append([case, str(count), f"{bias:+.4f}", *(f"{one:.0%}" for one in shares), *errors])
    for tolerance in TOLERANCES:
        bias, used = [], []
        for seed in trange(seeds, desc=f"{case}, tolerance {tolerance}"):
            results = ours(texts, num_samples=100, tolerance=tolerance, seed=seed)
            ids = np.array([ours.model.config.label2id[one["label"]] for one in results])
            bias.append(np.array([one["score"] for one in results]) - picked(limit.mean, ids))
            used.append(np.mean([one["num_samples"] for one in results]))
        samples = f"{np.mean(used):.1f} on average (tolerance {tolerance})"
        rows.append([case, samples, f"{np.mean(bias):+.4f}", "", "", "", ""])
    return rows


def share(drawn: list[Uncertainty], limit: Uncertainty, name: str) -> float:
    """The mean of an uncertainty, of its limit."""
    return float(np.mean([getattr(one, name).mean() for one in drawn]) / getattr(limit, name).mean())


def picked(probabilities: Array, classes: Array) -> Array:
    """The probability of one class in each row."""
    return np.take_along_axis(probabilities, classes[:, None], 1)[:, 0]


if __name__ == "__main__":
    main()
