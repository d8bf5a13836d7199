"""Intervals of a difference that a fitted temperature makes, where the model needs little of it or none.

    python -m benchmarks.evaluation.mild_temperature [--runs N]

By simulation, with known truth: a model, and the same model with a temperature that was fitted on the measured texts. A
width is that of the mean interval, as a share of the range that holds 95% of the values.
"""

import argparse
import itertools
from functools import partial

import numpy as np

from benchmarks.attack import MANY, MEASURE, softmax_world, width
from benchmarks.evaluation.calibrated_arm import compared, true_difference
from benchmarks.results import table, write_section
from benchmarks.simulation import over_seeds

# The arm, as in `softmax_world`, and the number of texts and of classes.
CASES = {
    "the true logits": ((1.0, 0.0), 872, 2),
    "1.05 times the true logits": ((1.05, 0.0), 872, 2),
    "1.1 times the true logits": ((1.1, 0.0), 872, 2),
    "1.2 times the true logits": ((1.2, 0.0), 872, 2),
    "1.4 times the true logits": ((1.4, 0.0), 872, 2),
    "0.85 times the true logits": ((0.85, 0.0), 872, 3),
    "1.1 times the true logits, with errors": ((1.1, 0.3), 400, 3),
    "1.2 times the true logits, with errors": ((1.2, 0.3), 200, 5),
}
KEYS = ("nll", "brier", "brier_reliability")
HEADER = ("the model", "difference in", "truth, standard errors", "interval holds it", "width", "significant")


def of_case(seed: int, case: str, key: str) -> tuple[float, float, float, bool, float]:
    """The difference of the model from itself with a temperature, as `compared` returns it."""
    arm, texts, classes = CASES[case]
    (plain,) = softmax_world(np.random.default_rng(seed), texts, classes, arm)
    return compared(plain, plain, key, seed, fitted=True)


def case_row(case: str, key: str, runs: int) -> list[str]:
    """How often the interval holds the truth, and how often there is a verdict."""
    found = np.array(over_seeds(partial(of_case, case=case, key=key), runs, f"{case}, {key}"))
    value, low, high, told, temperatures = found.T
    arm, texts, classes = CASES[case]
    (many,) = softmax_world(np.random.default_rng(0), MANY, classes, arm)
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
