"""The standard errors of several models, whose samples vary differently: with and without the pilot.

    python -m benchmarks.pipeline.spread --sst2 FILE --clinc150 MODEL FILE --goemotions MODEL FILE --kept FOLDER

The files are tab-separated with a column text; the models are those of `training/`. SST-2's sentences are for the
embedded model and for a BERT with random weights. The limit of each score is the mean of 2,000 samples of its text. The
estimates are from disjoint windows of samples with another seed. Without the pilot, the prior is that of an unknown
model, which was tuned on the embedded one. In most models a few of the texts account for most of the variance, so a
small number of texts says little. `--kept` keeps the samples of each model.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bayesian_text_classification import load
from bayesian_text_classification.pipeline.masks import GROUP_SIZE
from bayesian_text_classification.pipeline.spread import UNKNOWN, Spread
from bayesian_text_classification.pipeline.uncertainty import Uncertainty, summarized
from tqdm import tqdm
from transformers import BertConfig, BertForSequenceClassification, pipeline

from benchmarks.common import Array, read_texts, root_mean_square, stratified, tokenizer
from benchmarks.results import table, write_section

COUNTS = (4, 10, 20, 40)
TOLERANCE, MOST = 0.02, 200
WINDOWS_SEED, LIMIT_SEED = 10**6, 2 * 10**6  # samples with a tolerance have a third one


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sst2", type=Path, required=True)
    parser.add_argument("--clinc150", type=Path, nargs=2, required=True)
    parser.add_argument("--goemotions", type=Path, nargs=2, required=True)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="such as CLINC150; without it, all models")
    parser.add_argument("--texts", type=int, default=200, help="texts of each model, at equal steps of length")
    parser.add_argument("--samples", type=int, default=200, help="samples of each text, for the estimates")
    parser.add_argument("--limit", type=int, default=2_000, help="samples of each text whose mean is the limit")
    parser.add_argument("--kept", type=Path, required=True, help="folder for the samples of each model")
    args = parser.parse_args()
    cases = [
        ("embedded", load(), args.sst2),
        ("random BERT", random_bert(0.02), args.sst2),
        ("random BERT, large weights, dropout 0.5", random_bert(0.2, 0.5), args.sst2),
        ("CLINC150", load(args.clinc150[0]), args.clinc150[1]),
        ("GoEmotions", load(args.goemotions[0]), args.goemotions[1]),
    ]
    rows, stops = [], []
    for name, ours, file in cases:
        if name not in (args.only or [name]):
            continue
        texts = stratified(read_texts(file), args.texts)
        samples = kept_samples(args.kept, name, ours, texts, args.samples, WINDOWS_SEED)
        limit = kept_samples(args.kept, name, ours, texts, args.limit, LIMIT_SEED).mean(2, dtype=np.float64)
        rows += accuracy_rows(name, ours, samples, limit)
        stops.append(stopping_row(name, ours, texts, limit))
    body = (
        f"{args.texts} texts of each model, {args.samples} samples of each; the limit is the mean of {args.limit:,} "
        "samples with another seed. The first numbers are the root mean square of the standard errors, as a share of "
        "that of the true errors, and how many intervals of 1.96 standard errors hold the limit. The last column: how "
        "many could, because a standard error is at most the standard deviation of the samples.\n\n"
        + table(["model", "samples", "without the pilot", "held", "with the pilot", "held ", "at most"], rows)
        + f"\n\nMean passes of a text at tolerance {TOLERANCE} (at most {MOST}):\n\n"
        + table(["model", "without the pilot", "with the pilot", "RMSE without", "RMSE with"], stops)
    )
    options = f"--texts {args.texts} --samples {args.samples} --limit {args.limit}"
    title = "Standard errors of other models"
    if args.only:
        options, title = f"{options} --only {' '.join(args.only)}", f"{title}: {', '.join(args.only)}"
    files = "--sst2 FILE --clinc150 MODEL FILE --goemotions MODEL FILE --kept FOLDER"
    write_section(title, f"python -m benchmarks.pipeline.spread {files} {options}", body)


def random_bert(scale: float, rate: float = 0.1) -> Any:
    """A classifier with random weights of a scale. With that of an untrained model, its samples hardly vary."""
    config = BertConfig(
        num_hidden_layers=4,
        hidden_size=256,
        num_attention_heads=4,
        intermediate_size=1024,
        initializer_range=scale,
        hidden_dropout_prob=rate,
        attention_probs_dropout_prob=rate,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForSequenceClassification(config).eval()
    return pipeline("bayesian-text-classification", model=model, tokenizer=tokenizer())


def errors_of(found: Uncertainty, limit: Array, activation: str) -> list[Array]:
    """Standard errors as they are shown, the largest that may be shown, and true errors. *Shape:* (scores,) each.

    Of the winner, or of every label.
    """
    each = [np.minimum(found.standard_error, found.std), found.std, np.abs(found.mean - limit)]
    if activation == "sigmoid":
        return [values.ravel() for values in each]
    best = found.mean.argmax(1)[:, None]
    return [np.take_along_axis(values, best, 1)[:, 0] for values in each]


def kept_samples(folder: Path, name: str, ours: Any, texts: list[str], count: int, seed: int) -> Array:
    """Samples of an earlier run, or of now. *Shape:* (texts, classes, samples)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace(' ', '-')}-{len(texts)}-{count}-{seed}.npy"
    if not path.exists():
        with tqdm(desc=name, total=len(texts) * count, unit="pass") as bar:
            drawn = ours.sample_proba(texts, num_samples=count, seed=seed, progress=bar.update)
        np.save(path, drawn)
    return np.asarray(np.load(path))


def accuracy_rows(name: str, ours: Any, samples: Array, limit: Array) -> list[list[str]]:
    """Rows for fixed numbers of samples."""
    rows, total = [], samples.shape[2]
    for count in COUNTS:
        # Whole groups apart, so that each window has the samples that a call would have.
        windows = [samples[:, :, i : i + count] for i in range(0, total - count + 1, max(count, GROUP_SIZE))]
        cells = []
        for spread in (UNKNOWN, ours.spread):
            found = [summarized(one, ours.activation, GROUP_SIZE, spread) for one in windows]
            parts = [errors_of(one, limit, ours.activation) for one in found]
            shown, most, true = (np.concatenate(part) for part in zip(*parts, strict=True))
            cells.append(f"{root_mean_square(shown) / root_mean_square(true):.2f}")
            cells.append(f"{np.mean(true <= 1.96 * shown):.1%}")
        rows.append([name, str(count), *cells, f"{np.mean(true <= 1.96 * most):.1%}"])
    return rows


def stopping_row(name: str, ours: Any, texts: list[str], limit: Array) -> list[str]:
    """Mean passes with a tolerance, and the distance to the limit."""
    passes, distances = [], []
    own: Spread = ours.spread
    for spread in (UNKNOWN, own):
        ours.spread = spread
        results = ours(texts, top_k=None, num_samples=MOST, tolerance=TOLERANCE)
        scores = np.zeros_like(limit)
        for row, found in zip(scores, results, strict=True):
            for one in found:
                row[ours.model.config.label2id[one["label"]]] = one["score"]
        passes.append(f"{np.mean([one[0]['num_samples'] for one in results]):.1f}")
        distances.append(f"{root_mean_square(scores - limit):.4f}")
    ours.spread = own
    return [name, *passes, *distances]


if __name__ == "__main__":
    main()
