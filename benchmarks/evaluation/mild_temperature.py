"""Intervals of a difference that a fitted temperature makes, where the model needs little of it or none.

    python -m benchmarks.evaluation.mild_temperature [--runs N]

By simulation, with known truth: a model, and the same model with a temperature that was fitted on the measured texts. A
width is that of the mean interval, as a share of the range that holds 95% of the values.
"""

import argparse
import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
from bayesian_text_classification.evaluation.statistics.predictions import Predictions
from scipy import special

from benchmarks.attack import MANY, MEASURE, softmax_world, width
from benchmarks.evaluation.calibrated_arm import compared, true_difference
from benchmarks.results import table, write_section
from benchmarks.simulation import over_seeds

Draw = Callable[[np.random.Generator, int, int], Predictions]  # of a number of texts and of classes


def scaled(sharpness: float, errors: float = 0.0) -> Draw:
    """The true logits plus errors of a size, times a sharpness: up to the errors, one temperature is right."""
    return lambda random, texts, classes: softmax_world(random, texts, classes, (sharpness, errors))[0]


def mixed(sharpness: float, share: float, others: float) -> Draw:
    """The true logits times a sharpness for a share of the texts, and times another one for the others."""

    def draw(random: np.random.Generator, texts: int, classes: int) -> Predictions:
        logits = random.normal(0, 1.8, (texts, classes))
        labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
        factors = np.where(random.random((texts, 1)) < share, sharpness, others)
        return Predictions.of(special.softmax(factors * logits, 1), labels)

    return draw


def mislabeled(share: float) -> Draw:
    """A confident model that is calibrated, but for a share of the labels that are drawn by chance."""

    def draw(random: np.random.Generator, texts: int, classes: int) -> Predictions:
        logits = random.normal(0, 5, (texts, classes))
        labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
        labels = np.where(random.random(texts) < share, random.integers(0, classes, texts), labels)
        return Predictions.of(special.softmax(logits, 1), labels)

    return draw


# What draws the model, and the number of texts and of classes.
CASES = {
    "the true logits": (scaled(1.0), 872, 2),
    "1.05 times the true logits": (scaled(1.05), 872, 2),
    "1.1 times the true logits": (scaled(1.1), 872, 2),
    "1.2 times the true logits": (scaled(1.2), 872, 2),
    "1.4 times the true logits": (scaled(1.4), 872, 2),
    "0.85 times the true logits": (scaled(0.85), 872, 3),
    "1.1 times the true logits, with errors": (scaled(1.1, 0.3), 400, 3),
    "1.2 times the true logits, with errors": (scaled(1.2, 0.3), 200, 5),
    "3 times the true logits for 30% of the texts, .5 times for the others": (mixed(3.0, 0.3, 0.5), 300, 2),
    "2.2 times the true logits for 30% of the texts, .5 times for the others": (mixed(2.2, 0.3, 0.5), 600, 2),
    "the true logits, and 5% of the labels drawn by chance": (mislabeled(0.05), 300, 2),
}
KEYS = ("nll", "brier", "brier_reliability")
HEADER = ("the model", "difference in", "truth, standard errors", "interval holds it", "width", "significant")


def of_case(seed: int, case: str, key: str) -> tuple[float, float, float, bool, float]:
    """The difference of the model from itself with a temperature, as `compared` returns it."""
    draw, texts, classes = CASES[case]
    plain = draw(np.random.default_rng(seed), texts, classes)
    return compared(plain, plain, key, seed, fitted=True)


def case_row(case: str, key: str, runs: int) -> list[str]:
    """How often the interval holds the truth, and how often there is a verdict."""
    found = np.array(over_seeds(partial(of_case, case=case, key=key), runs, f"{case}, {key}"))
    value, low, high, told, temperatures = found.T
    draw, texts, classes = CASES[case]
    many = draw(np.random.default_rng(0), MANY, classes)
    truth = true_difference(many, many, key, temperatures)
    return [
        f"{case}; {texts} texts, {classes} classes",
        MEASURE[key].title,
        f"{truth / value.std():+.1f}",
        f"{np.mean((low <= truth) & (truth <= high)):.1%}",
        width(found[:, :4]),
        f"{told.mean():.0%}",
    ]


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    rows = [case_row(case, key, runs) for key, case in itertools.product(KEYS, CASES)]
    body = f"{runs} runs of each case. Intervals of 95%.\n\n" + table(HEADER, rows)
    title = "Differences by a mild temperature"
    write_section(title, f"python -m benchmarks.evaluation.mild_temperature --runs {runs}", body)


if __name__ == "__main__":
    main()
