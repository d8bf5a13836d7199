"""How well novelty finds texts that a model was not made for, at what rate of false alarms, against other scores.

    python training/clinc150.py --data FOLDER --output MODEL
    python -m benchmarks.evaluation.novelty --name NAME --model MODEL --data FOLDER --validation val.tsv \
        --outside "out of scope=FOLDER/oos_test.tsv" "another domain=FILE"

Without --model it is the embedded one.

FOLDER holds `train.tsv`, the validation file and `test.tsv` (columns label and text, no quoting). The scope is learned
from the training texts, and its p-values come from the validation texts. In the control, the training texts have random
labels, so only the covariance of all texts is left.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from bayesian_text_classification import BayesianTextClassificationPipeline, load
from bayesian_text_classification.evaluation.out_of_scope import Detection, detect
from bayesian_text_classification.pipeline.scope import Scope, scope_of
from bayesian_text_classification.pipeline.uncertainty import summarized
from scipy.stats import betabinom, rankdata

from benchmarks.common import Array, read_texts
from benchmarks.results import table, write_section

LEVEL, SPLITS = 0.05, 50


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="name of the data")
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--validation", default="validation.tsv")
    parser.add_argument("--outside", nargs="+", required=True, metavar="NAME=FILE")
    parser.add_argument("--most", type=int, default=5_000, help="the most training texts to learn from")
    parser.add_argument("--most-outside", type=int, default=1_000, help="the most texts of each other kind")
    parser.add_argument("--samples", type=int, default=20)
    args = parser.parse_args()
    random = np.random.default_rng(0)
    classifier = load(args.model, num_samples=0)
    train, held_out, inside = (read_texts(args.data / name) for name in ("train.tsv", args.validation, "test.tsv"))
    train = sorted(set(train) - set(held_out) - set(inside))
    train = [train[i] for i in random.permutation(len(train))[: args.most]]
    scope = classifier.learn_scope(train, held_out=held_out)

    run = {"activation": classifier.activation, "tokenizer_options": {}, "batch_size": None}
    p, features = (np.concatenate(part) for part in zip(*classifier._sampler.features(train, **run), strict=True))
    control = scope_of(features, random.permutation(p.argmax(1)), features)
    ours = scores_of(classifier, control, inside, args.samples)
    rows = []
    for name, path in (pair.split("=", 1) for pair in args.outside):
        strange = sorted(set(read_texts(Path(path))) - {*train, *held_out, *inside})
        strange = [strange[i] for i in random.permutation(len(strange))[: args.most_outside]]
        theirs = scores_of(classifier, control, strange, args.samples)
        ours["both"], theirs["both"] = combined(ours, theirs)
        groups = [
            {"other": {"predictive entropy": part[f"entropy, {args.samples} samples"]}, "scores": part}
            for part in (ours, theirs)
        ]
        found = detect(*groups)
        rows += [row(name, one) for one in found if one.arm == "scores"]
    header = ["texts", "score", "AUROC", "minus entropy of samples", "false alarms at 95% recall", "minus"]
    names = {"both": "novelty and 1 - max probability, by rank"}
    body = table(header, [[names.get(cell, cell) for cell in one] for one in rows])
    half, classes = len(train) // 2, p.argmax(1)
    fitted = scope_of(features[:half], classes[:half], features[half:])
    test_features = np.concatenate([part for _, part in classifier._sampler.features(inside, **run)])
    wrong = (fitted.p_values(fitted.distances(test_features)) <= LEVEL).mean()
    body += "\n\n" + alarms(scope, ours["novelty"])
    body += f" If training texts were held out, {wrong:.2%} would be flagged."
    model, data = " --model MODEL" * bool(args.model), f"--data FOLDER --validation {args.validation}"
    command = f'--name "{args.name}"{model} {data} --outside NAME=FILE... --samples {args.samples}'
    write_section(f"Novelty, {args.name}", f"python -m benchmarks.evaluation.novelty {command}", body)


def scores_of(
    classifier: BayesianTextClassificationPipeline, control: Scope, texts: list[str], samples: int
) -> dict[str, Array]:
    """Every score of each text: higher is stranger. *Shape:* (texts,) each."""
    call = {"activation": classifier.activation, "tokenizer_options": {}, "batch_size": None}
    p, features = (np.concatenate(part) for part in zip(*classifier._sampler.features(texts, **call), strict=True))
    one = summarized(p[:, :, None], classifier.activation)
    many = summarized(classifier.sample_proba(texts, num_samples=samples), classifier.activation, 10)
    assert one.predictive_entropy is not None and many.predictive_entropy is not None
    entropies = [
        values if values.ndim == 1 else values.mean(1) for values in (one.predictive_entropy, many.predictive_entropy)
    ]
    return {
        "1 - max probability": 1 - p.max(1).astype(np.float64),
        "entropy": entropies[0],
        f"entropy, {samples} samples": entropies[1],
        "novelty": classifier.scope.distances(features),
        "control: novelty with random labels": control.distances(features),
    }


def combined(ours: dict[str, Array], theirs: dict[str, Array]) -> tuple[Array, Array]:
    """The mean rank by novelty and by 1 - max probability, among all texts."""
    ranks = [
        rankdata(np.concatenate([part[key] for part in (ours, theirs)])) for key in ("novelty", "1 - max probability")
    ]
    mean, count = np.mean(ranks, axis=0), len(ours["novelty"])
    return mean[:count], mean[count:]


def row(name: str, found: Detection) -> list[str]:
    """A row of the table."""
    cells = [name, found.score, f"{found.auroc.value:.4f}", "", f"{found.false_positive_rate.value:.3f}", ""]
    if not found.score.endswith(" samples"):
        for place, key in ((3, "auroc"), (5, "false_positive_rate")):
            one = found.differences[key]
            cells[place] = f"{one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
    return cells


def alarms(scope: Scope, inside: Array) -> str:
    """How many texts of the scope are flagged at 5%, over random splits."""
    random, shares, within = np.random.default_rng(1), [], 0
    pool, n = np.concatenate([scope.held_out, inside]), len(scope.held_out)
    m, alpha = len(pool) - n, int(np.floor(LEVEL * (n + 1) + 1e-9))
    # The share of all texts that are flagged has the distribution Beta(alpha, n + 1 - alpha) over the held-out texts.
    low, high = betabinom.ppf([0.025, 0.975], m, alpha, n + 1 - alpha)
    for _ in range(SPLITS):
        order = random.permutation(len(pool))
        split = replace(scope, held_out=np.sort(pool[order[:n]]))
        count = int((split.p_values(pool[order[n:]]) <= LEVEL).sum())
        shares.append(count / m)
        within += bool(low <= count <= high)
    return (
        f"At level {LEVEL:.0%}, {np.mean(shares):.2%} of the texts of the scope are flagged: the mean of {SPLITS} "
        f"random splits into {n:,} held-out and {m:,} measured texts, {min(shares):.2%} to {max(shares):.2%}. {within} "
        f"of {SPLITS} splits are in the exact 95% range of {low / m:.2%} to {high / m:.2%}."
    )


if __name__ == "__main__":
    main()
