"""Coverage and size of prediction sets over random splits, from one pass and from averaged probabilities.

    python training/clinc150.py --data FOLDER --output MODEL
    python -m benchmarks.evaluation.prediction_sets --name NAME --model MODEL --data FOLDER --validation val.tsv

FOLDER holds the validation file and `test.tsv` (columns label and text, no quoting). The temperatures are fitted on the
validation texts. Each split fits the sets on one half of the test texts and measures them on the other half. By class,
the pool is validation and test texts together, and each class is split by itself. A range is that of the exact law.
"""

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
from bayesian_text_classification import load
from bayesian_text_classification.metric import load_metric_module
from bayesian_text_classification.pipeline.fitting import fit
from bayesian_text_classification.pipeline.prediction_sets import SCORES, PredictionSets, fitted_sets
from bayesian_text_classification.pipeline.targets import class_ids
from numpy.typing import NDArray
from scipy.stats import betabinom, binom

from benchmarks.common import Array
from benchmarks.results import table, write_section

SPLITS, COVERAGES = 200, (0.95, 0.99)
LOW = 0.88  # coverage of a class that is called low


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="name of the data")
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--validation", default="validation.tsv")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--kept", type=Path, help="file for the probabilities, which a later run reads")
    args = parser.parse_args()
    found = probabilities(args)
    ways = {
        name: [
            fit("temperature", found[f"{name} val"], found["labels val"]).apply(found[f"{name} {part}"])
            for part in PARTS
        ]
        for name in ("one pass", "samples")
    }
    labels = [found[f"labels {part}"] for part in PARTS]
    rows = [
        row(name, score, coverage, p, labels[1])
        for coverage in COVERAGES
        for score in SCORES
        for name, (_, p) in ways.items()
    ]
    body = f"{len(labels[1]):,} test texts, {SPLITS} random splits into halves.\n\n"
    body += table(
        ["coverage", "sets", "probabilities", "mean coverage", "splits inside the range", "mean size", "empty"], rows
    )
    (_, one), (_, many) = ways.values()
    body += "\n\n" + " ".join(difference(one, many, labels[1], coverage, args.samples) for coverage in COVERAGES)
    body += "\n\n" + by_class(np.concatenate([found[f"one pass {part}"] for part in PARTS]), np.concatenate(labels))
    command = f"--name {args.name} --model MODEL --data FOLDER --validation {args.validation} --samples {args.samples}"
    write_section(f"Prediction sets, {args.name}", f"python -m benchmarks.evaluation.prediction_sets {command}", body)


PARTS = ("val", "test")


def probabilities(args: argparse.Namespace) -> dict[str, Any]:
    """Probabilities and labels of the validation and the test texts, measured once."""
    if args.kept is not None and args.kept.exists():
        with np.load(args.kept) as arrays:
            return dict(arrays)
    classifier = load(args.model, num_samples=args.samples)
    found: dict[str, Any] = {}
    for part, name in zip(PARTS, (args.validation, "test.tsv"), strict=True):
        with (args.data / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        names = classifier.model.config.id2label.values()
        given = [row["label"] if row["label"] in names else int(row["label"]) for row in rows]
        found[f"labels {part}"] = class_ids(given, classifier.model.config)
        texts = [row["text"] for row in rows]
        found[f"one pass {part}"] = classifier.predict_proba(texts, num_samples=0)
        found[f"samples {part}"] = classifier.uncalibrated().predict_proba(texts)
    if args.kept is not None:
        np.savez(args.kept, **found)
    return found


def sets_of(p: Array, labels: NDArray[np.int64], score: Any, by: Any = "all", u: Any = None) -> PredictionSets:
    """Prediction sets fitted on these texts."""
    u = np.zeros(len(p)) if u is None else u
    return fitted_sets(p, labels, score=score, by=by, uniforms=u, chooses=np.arange(len(p)) % 2 == 0)


def row(name: str, score: str, coverage: float, p: Array, labels: NDArray[np.int64]) -> list[str]:
    """A row of the table: coverage and size over the splits."""
    random, half = np.random.default_rng(0), len(p) // 2
    u = random.random(len(p))
    low, high = load_metric_module("prediction_set_coverage").coverage_band(len(p) - half, coverage, half)
    shares, sizes, empty = [], [], []
    for _ in range(SPLITS):
        order = random.permutation(len(p))
        known, new = order[:half], order[half:]
        inside = sets_of(p[known], labels[known], score, u=u[known]).of(p[new], coverage, u[new])
        shares.append(inside[np.arange(len(new)), labels[new]].mean())
        sizes.append(inside.sum(1).mean())
        empty.append((inside.sum(1) == 0).mean())
    within = sum(low - 1e-9 <= share <= high + 1e-9 for share in shares)
    return [
        f"{coverage:.0%}",
        score,
        name,
        f"{np.mean(shares):.2%}",
        f"{within} of {SPLITS}",
        f"{np.mean(sizes):.3f}",
        f"{np.mean(empty):.1%}",
    ]


def difference(one: Array, many: Array, labels: NDArray[np.int64], coverage: float, samples: int) -> str:
    """What samples do to the mean size of lac, over the splits."""
    random, half, found = np.random.default_rng(0), len(labels) // 2, []
    for _ in range(SPLITS):
        order = random.permutation(len(labels))
        known, new = order[:half], order[half:]
        sizes = [
            sets_of(p[known], labels[known], "lac").of(p[new], coverage, np.zeros(len(new))).sum() for p in (many, one)
        ]
        found.append((sizes[0] - sizes[1]) / len(new))
    low, high = np.quantile(found, [0.025, 0.975])
    return (
        f"At {coverage:.0%} with lac, {samples} samples change the mean size by {np.mean(found):+.3f} ({low:+.3f} to "
        f"{high:+.3f} in 95% of the splits)."
    )


def by_class(p: Array, labels: NDArray[np.int64]) -> str:
    """Coverage of each class at 95%, with as many texts of it to fit as to measure."""
    random, coverage = np.random.default_rng(1), COVERAGES[0]
    classes = np.unique(labels)
    counts = np.bincount(labels)[classes] // 2
    covered, low = np.zeros((SPLITS, len(classes))), []
    for split in range(SPLITS):
        known, new = [], []
        for one, count in zip(classes, counts, strict=True):
            order = random.permutation(np.flatnonzero(labels == one))
            known += order[:count].tolist()
            new += order[count : 2 * count].tolist()
        sets = sets_of(p[known], labels[known], "lac", "class")
        assert sets.exact_labels(coverage)[classes].all()
        inside = sets.of(p[new], coverage, np.zeros(len(new)))[np.arange(len(new)), labels[new]]
        covered[split] = [inside[labels[new] == one].mean() for one in classes]
        low.append(int((covered[split] < LOW - 1e-9).sum()))
    n = int(counts[0])
    assert (counts == n).all()
    rank = int(np.ceil(coverage * (n + 1) - 1e-9))
    chance = float(betabinom.cdf(np.ceil(LOW * n - 1e-9) - 1, n, rank, n + 1 - rank))
    fewest, most = binom.ppf([0.025, 0.975], len(classes), chance)
    within = sum(fewest <= count <= most for count in low)
    means = covered.mean(0)
    return (
        f"By class at {coverage:.0%}, {n} texts of each of {len(classes)} classes to fit and as many to measure: the "
        f"mean coverage of a class over {SPLITS} splits is {means.min():.2%} to {means.max():.2%}. Between {min(low)} "
        f"and {max(low)} classes of a split are under {LOW:.0%}; the exact central 95% range is {fewest:.0f} to "
        f"{most:.0f}, and {within} of {SPLITS} splits are in it."
    )


if __name__ == "__main__":
    main()
