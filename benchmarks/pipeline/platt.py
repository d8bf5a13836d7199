"""Platt scaling of independent labels, next to scikit-learn's for each label by itself, on GoEmotions.

    python training/goemotions.py --data FOLDER --output MODEL
    python -m benchmarks.pipeline.platt --model MODEL --data FOLDER [--draws N]

FOLDER holds `validation.tsv`, which both are fitted on, and `test.tsv`, which measures them. Both get the same ordinary
scores. A label counts as rare in a draw with fewer than 50 positives. Labels with fewer than two positives are left out
of a draw, because scikit-learn cannot fit them.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from bayesian_text_classification import load
from bayesian_text_classification.pipeline.fitting import fitted
from bayesian_text_classification.pipeline.scaling import logits
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from tqdm import trange

from benchmarks.common import Array
from benchmarks.results import table, write_section

TEXTS = 500  # of a draw
RARE, LEAST = 50, 2  # positives


class Scores(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """A fitted classifier whose decision function is its input."""

    def fit(self, x: Array, y: Array) -> "Scores":
        """Set the classes."""
        self.classes_ = np.array([0, 1])
        return self

    def decision_function(self, x: Array) -> Array:
        """The only column."""
        return x[:, 0]

    def predict(self, x: Array) -> Array:
        """1 where the decision function is positive."""
        return (x[:, 0] > 0).astype(int)


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=20)
    args = parser.parse_args()
    classifier = load(args.model)
    names = classifier.model.config.label2id
    (p, y), (fresh, truth) = (scored(classifier, args.data / f"{split}.tsv", names) for split in ("validation", "test"))

    raw, ours, peer = nll(fresh, truth), nll(our_scaling(p, y, fresh), truth), nll(peer_scaling(p, y, fresh), truth)
    rows = [[f"all {len(p):,} texts, all labels", *(f"{one.mean():.5f}" for one in (raw, ours, peer)), "", ""]]
    found = []
    random = np.random.default_rng(0)
    for _ in trange(args.draws, desc="draws"):
        drawn = random.permutation(len(p))[:TEXTS]
        positives = y[drawn].sum(0)
        rare, known = positives < RARE, positives >= LEAST
        own = [nll(scale(p[drawn], y[drawn], fresh), truth) for scale in (our_scaling, peer_scaling)]
        found.append([(one[part].mean(), part.sum()) for part in (rare & known, ~rare) for one in (raw, *own)])
    values = np.array(found)[:, :, 0]
    for k, kind in enumerate((f"fewer than {RARE} positives", f"{RARE} positives or more")):
        raw_mean, ours_mean, peer_mean = values[:, 3 * k : 3 * k + 3].mean(0)
        apart = values[:, 3 * k + 1] - values[:, 3 * k + 2]
        half = stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart))
        labels = np.mean([one[3 * k][1] for one in found])
        rows.append(
            [
                f"{args.draws} draws of {TEXTS} texts, {labels:.1f} labels with {kind}",
                f"{raw_mean:.5f}",
                f"{ours_mean:.5f}",
                f"{peer_mean:.5f}",
                f"{apart.mean():+.5f}",
                f"{half:.5f}",
            ]
        )
    body = (
        "Mean NLL of a label on the test texts; the difference is ours minus scikit-learn's, with its 95% interval.\n\n"
    )
    header = ["fitted on", "no calibration", "ours", "scikit-learn", "difference", "+-"]
    command = f"python -m benchmarks.pipeline.platt --model goemotions-model --data goemotions --draws {args.draws}"
    write_section("Platt scaling of independent labels", command, body + table(header, rows))


def scored(classifier: object, path: Path, names: dict[str, int]) -> tuple[Array, Array]:
    """Ordinary scores of the texts of a file, and 0 or 1 for each label. *Shape:* (texts, labels) both."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    labels = np.zeros((len(rows), len(names)))
    for i, row in enumerate(rows):
        labels[i, [names[name] for name in row["label"].split(",")]] = 1
    return classifier.predict_proba([row["text"] for row in rows], num_samples=0), labels  # type: ignore[attr-defined]


def our_scaling(p: Array, y: Array, fresh: Array) -> Array:
    """`fresh` scaled as `calibrate` does."""
    return fitted("platt", p, y.astype(int)).apply(fresh)


def peer_scaling(p: Array, y: Array, fresh: Array) -> Array:
    """`fresh` scaled by `CalibratedClassifierCV(method="sigmoid")`, label by label."""
    columns = []
    for k in range(p.shape[1]):
        if y[:, k].sum() < LEAST:
            columns.append(fresh[:, k])
            continue
        x = logits(p[:, [k]])
        peer = CalibratedClassifierCV(FrozenEstimator(Scores().fit(x, y[:, k])), method="sigmoid", cv=2)
        columns.append(peer.fit(x, y[:, k]).predict_proba(logits(fresh[:, [k]]))[:, 1])
    return np.stack(columns, 1)


def nll(p: Array, y: Array) -> Array:
    """Mean NLL of each label. *Shape:* (labels,)."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean(0))


if __name__ == "__main__":
    main()
