"""Whether a student should keep small linear heads for the model's part of the uncertainty, beside its scores.

    python -m benchmarks.distillation.uncertainty_heads --name NAME --texts FILE... --tests FILE... --kept FOLDER
        [--model M] [--strange FILE]

The files are those of `student.py`, with labels that exclude each other. Two heads learn from the features of the
student: ridge regression of the logarithm of the teacher's mutual information, and of that of its `score_std`. The
penalty is chosen by leave-one-out. Each score ranks the test texts: do the student's wrong answers come first? With
`--strange`, also: do texts of other kinds come before the test texts? A difference is that from the entropy of the
student's single pass, with the 95% interval of 1,000 resamples of the texts. "All three" is a logistic regression on
the logarithms of the entropy and of both heads, fitted on the other half of the texts. `--kept FOLDER` keeps the
teacher's scores and the student.
"""

from pathlib import Path
from typing import Any

import numpy as np
from bayesian_text_classification import load
from bayesian_text_classification.evaluation.statistics.intervals import weights_of_resamples
from bayesian_text_classification.evaluation.statistics.rank_statistics import auroc
from bayesian_text_classification.pipeline.masks import GROUP_SIZE
from bayesian_text_classification.pipeline.uncertainty import summarized
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from benchmarks.common import Array, read_texts
from benchmarks.distillation.common import add_training, chosen_texts, command_of, kept, options_of, parser_of, tests_of
from benchmarks.results import table, write_section

PENALTIES = np.geomspace(0.1, 1e5, 13)
LEAST = 1e-12  # of a mutual information or a standard deviation, before its logarithm
ENTROPY = "entropy of the student"


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = parser_of(str(__doc__))
    add_training(parser)
    parser.add_argument("--strange", type=Path, help="texts of other kinds")
    args = parser.parse_args()
    teacher = load(args.model, num_samples=args.samples)
    tests, classes = tests_of(args, teacher)
    texts = chosen_texts(args, set(tests), args.max_texts)
    options = options_of(args, args.how[0])
    with tqdm(desc="student", unit="pass") as bar:
        checkpoints = args.kept / f"{args.name}-with-heads"
        student = teacher.distill(texts, checkpoints=checkpoints, seed=0, progress=bar.update, **options)

    known = of_samples(kept(args, f"drawn-{len(texts)}", lambda: teacher.sample_proba(texts, seed=0)))
    _, features = of_one_pass(student, texts)
    heads = {
        name: make_pipeline(StandardScaler(), RidgeCV(PENALTIES)).fit(features, log(known[name])) for name in known
    }

    def scores_of(some: list[str], name: str) -> dict[str, Array]:
        p, own = of_one_pass(student, some)
        entropy = summarized(p[:, :, None], student.activation).predictive_entropy
        found = {ENTROPY: entropy, "1 - its largest probability": 1 - p.max(1)}
        found |= {f"head for {name}": np.exp(head.predict(own)) for name, head in heads.items()}
        drawn = of_samples(kept(args, f"drawn-{name}", lambda: teacher.sample_proba(some, seed=0)))
        return found | {f"{name} of {args.samples} samples": values for name, values in drawn.items()}

    ours = scores_of(tests, "tests")
    wrong = of_one_pass(student, tests)[0].argmax(1) != classes
    columns = {"finds wrong answers": rows(ours, wrong)}
    body = f"{len(texts):,} texts without labels, {len(tests):,} test texts, {wrong.sum():,} wrong answers"
    if args.strange:
        strange = sorted(set(read_texts(args.strange)) - {*texts, *tests})
        theirs = scores_of(strange, "strange")
        both = {name: np.concatenate([ours[name], theirs[name]]) for name in ours}
        columns["finds other texts"] = rows(both, np.arange(len(both[ENTROPY])) >= len(tests))
        body += f", {len(strange):,} texts of other kinds"
    names = list(next(iter(columns.values())))
    cells = [[name, *(cell for found in columns.values() for cell in found[name])] for name in names]
    header = ["score", *(cell for name in columns for cell in (f"{name}: AUROC", "less entropy"))]
    write_section(
        f"Heads for uncertainty, {args.name}",
        command_of("uncertainty_heads", args),
        f"{body}.\n\n{table(header, cells)}",
    )


def of_samples(drawn: Array) -> dict[str, Array]:
    """What the samples of each text say about the model. *Shape:* (texts, classes, samples); (texts,) each."""
    found = summarized(drawn, "softmax", GROUP_SIZE)
    winners = np.take_along_axis(found.std, found.mean.argmax(1)[:, None], 1)[:, 0]
    return {"mutual_information": np.asarray(found.mutual_information), "score_std": winners}


def of_one_pass(student: Any, texts: list[str]) -> tuple[Array, Array]:
    """Probabilities and features of an ordinary pass. *Shape:* (texts, classes), (texts, features)."""
    call = {"activation": student.activation, "tokenizer_options": {}, "batch_size": None}
    p, features = (np.concatenate(part) for part in zip(*student._sampler.features(texts, **call), strict=True))
    return p.astype(np.float64), features.astype(np.float64)


def rows(scores: dict[str, Array], positive: Array) -> dict[str, list[str]]:
    """The AUROC of each score, and its difference from that of the entropy."""
    scores = scores | {"all three: entropy and both heads": combined(scores, positive)}
    once = np.ones((1, len(positive)))
    values, drawn = {}, {}
    for name, score in scores.items():
        values[name] = float(auroc(score, positive * 1.0, once)[0])
        parts = [auroc(score, positive * 1.0, weights) for weights in weights_of_resamples(len(positive), 0)]
        drawn[name] = np.concatenate(parts)
    found = {}
    for name in scores:
        apart = drawn[name] - drawn[ENTROPY]
        difference = f"{values[name] - values[ENTROPY]:+.4f} ± {1.96 * apart.std(ddof=1):.4f}"
        found[name] = [f"{values[name]:.4f}", "" if name == ENTROPY else difference]
    return found


def combined(scores: dict[str, Array], positive: Array) -> Array:
    """The log odds of a positive text, from a fit on the other half of the texts. *Shape:* (texts,)."""
    names = [ENTROPY, "head for mutual_information", "head for score_std"]
    inputs = np.stack([log(scores[name]) for name in names], 1)
    half = np.random.default_rng(0).permutation(len(positive)) % 2 == 0
    found = np.empty(len(positive))
    for part in (half, ~half):
        fit = make_pipeline(StandardScaler(), LogisticRegression()).fit(inputs[~part], positive[~part])
        found[part] = fit.decision_function(inputs[part])
    return found


def log(values: Array) -> Array:
    """The logarithm of values that may be 0."""
    return np.asarray(np.log(np.maximum(values, LEAST)))


if __name__ == "__main__":
    main()
