"""Statistics where an adversary looks: repeated texts, few errors, high dropout rates. By simulation, with known truth.

    python -m benchmarks.attack [--runs N]

Cells with verdicts and thresholds get N runs each; intervals of the AURC, which need resamples, a quarter as many.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from bayesian_text_classification import TASK
from bayesian_text_classification.evaluation.estimates import difference, estimate, resample
from bayesian_text_classification.evaluation.measures import MEASURES, Measure
from bayesian_text_classification.evaluation.predictions import Predictions
from bayesian_text_classification.pipeline.uncertainty import standard_error_of_probability
from bayesian_text_classification.selection import threshold_for
from scipy import special
from tqdm import trange
from transformers import BertConfig, BertForSequenceClassification, pipeline

from benchmarks.common import Array, tokenizer
from benchmarks.results import table, write_section

MEASURE = {measure.key: measure for measure in MEASURES}
MANY = 1_000_000  # rows that give the truth
WORDS = ("a", "good", "film", "bad", "very", "not", "it", "was", "what", "the", "and", "but", "long", "dull", "fine")


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2_000)
    runs = parser.parse_args().runs
    rows = [
        *(copies_row(key, known, runs) for key in ("nll", "brier", "accuracy") for known in (True, False)),
        *(threshold_row(copies, known, runs) for copies, known in ((1, True), (5, True), (5, False))),
        *(aurc_row(texts, runs // 4) for texts in (300, 500)),
        *error_rows((10, 20, 40)),
    ]
    body = f"{runs} runs of a verdict or a threshold, {runs // 4} of an interval.\n\n" + table(
        ["question", "case", "asked", "measured"], rows
    )
    write_section("Where an adversary looks", f"python -m benchmarks.attack --runs {runs}", body)


def copies_row(key: str, known: bool, runs: int) -> list[str]:
    """Two equally good arms, every text three times."""
    measure, texts, significant = MEASURE[key], 300, 0
    groups = np.tile(np.arange(texts), 3)
    for seed in trange(runs, desc=f"copies, {key}"):
        random = np.random.default_rng(seed)
        logits = random.normal(0, 1.8, (texts, 2))
        labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
        arms = [special.softmax(logits + random.normal(0, 0.5, logits.shape), 1) for _ in range(2)]
        drawn = [
            resample(Predictions.of(p[groups], labels[groups], groups=groups if known else None), measures=[measure])
            for p in arms
        ]
        significant += difference(measure, *drawn).verdict != "cannot tell"
    return [
        f"{measure.title} of equally good arms is called different",
        f"{texts} texts three times, {'with' if known else 'without'} `groups`",
        "5%",
        f"{significant / runs:.1%}",
    ]


def threshold_row(copies: int, known: bool, runs: int) -> list[str]:
    """Thresholds for an error rate of 10%, with 90% confidence."""
    missed, texts = 0, 200
    rows = np.tile(np.arange(texts), copies)
    for seed in trange(runs, desc=f"thresholds, {copies} copies"):
        random = np.random.default_rng(seed)
        scores = random.uniform(0, 1, texts)
        correct = random.random(texts) < 0.75 + 0.25 * scores
        found = threshold_for(scores[rows], correct[rows], 0.1, groups=rows if known else None)
        missed += found is not None and 0.25 * (1 - found.threshold) / 2 > 0.1  # P(wrong | score >= t)
    often = "once" if copies == 1 else f"{copies} times"
    case = f"{texts} texts {often}, {'with' if known else 'without'} `groups`"
    return ["a threshold misses its target", case, "at most 10%", f"{missed / runs:.1%}"]


def aurc_row(texts: int, runs: int) -> list[str]:
    """The interval of the AURC where few answers are wrong."""
    measure = MEASURE["aurc"]
    random = np.random.default_rng(0)
    truth, right = few_errors(random, MANY)
    many = Predictions.of(truth, right)
    value, accuracy = measure.value(many), many.correct.mean()
    low, high, values = sampled(lambda seed: few_errors(np.random.default_rng(seed), texts), measure, runs)
    held = (low <= value) & (value <= high)
    width = (high - low).mean() / np.subtract(*np.quantile(values, [0.975, 0.025]))
    case = f"{texts} texts, accuracy {accuracy:.2f}; width {width:.2f} of the range of 95% of the values"
    return ["the interval of the AURC holds the truth", case, "95%", f"{held.mean():.1%}"]


def few_errors(random: np.random.Generator, texts: int) -> tuple[Array, np.ndarray]:
    """Probabilities and labels of a model that is right in 94 of 100 answers, and overconfident."""
    logit = random.normal(0, 10, texts)
    labels = (random.random(texts) < special.expit(logit)).astype(np.int64)
    p = special.expit(1.6 * logit + random.normal(0, 1, texts))
    return np.stack([1 - p, p], 1), labels


def sampled(draw: Callable[[int], tuple[Array, np.ndarray]], measure: Measure, runs: int) -> tuple[Array, Array, Array]:
    """Ends of the intervals, and the values, of runs that have an interval. *Shape:* (runs,) each."""
    found = []
    for seed in trange(runs, desc=measure.title):
        drawn = resample(Predictions.of(*draw(seed + 1)), seed=seed, measures=[measure])
        found.append(estimate(measure, drawn))
    known = [one for one in found if one.known]
    low, high, values = (np.array([getattr(one, name) for one in known]) for name in ("low", "high", "value"))
    return low, high, values


def error_rows(counts: tuple[int, ...]) -> list[list[str]]:
    """Whether 1.96 standard errors hold the limit of the score, at a dropout rate of 0.5."""
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, random.integers(4, 12))) for _ in range(300)]
    config = BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, hidden_dropout_prob=0.5,
        attention_probs_dropout_prob=0.5, num_labels=2, max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertForSequenceClassification(config).eval()
        for weight in model.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, 0, 0.2)
    ours = pipeline(TASK, model=model, tokenizer=tokenizer())
    limit = ours.sample_proba(texts, num_samples=4_000, seed=10**6).mean(2, dtype=np.float64)
    rows = []
    for count in counts:
        held = []
        for seed in trange(10, desc=f"standard error, {count} samples"):
            samples = ours.sample_proba(texts, num_samples=count, seed=seed)
            error = standard_error_of_probability(samples, 10)
            held.append(np.abs(samples.mean(2, dtype=np.float64) - limit) <= 1.96 * error)
        case = f"two layers of BERT, p = 0.5, {count} samples"
        rows.append(["1.96 standard errors hold the limit", case, "93 to 99%", f"{np.mean(held):.1%}"])
    return rows


if __name__ == "__main__":
    main()
