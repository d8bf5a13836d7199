"""Intervals of a difference in calibration if an arm's gaps have a shape that no temperature fits.

    python -m benchmarks.evaluation.gap_shapes [--runs N]

By simulation, with known truth. Each row has a confidence of an arm and the probability that its answer is right; the
shape is that probability as a function of the confidence. The other arm is calibrated, with that probability as its
confidence, or it is the same arm with a temperature that was fitted on these rows. A width is that of the mean
interval, as a share of the range that holds 95% of the values.
"""

import argparse
import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
from bayesian_text_classification.evaluation.statistics.predictions import Predictions
from scipy import special

from benchmarks.attack import MANY, MEASURE, width
from benchmarks.common import Array
from benchmarks.evaluation.calibrated_arm import compared, true_difference
from benchmarks.results import table, write_section
from benchmarks.simulation import over_seeds

TEXTS = 872
HEADER = (
    "the arm's gaps",
    "compared with",
    "difference in",
    "truth, standard errors",
    "interval holds it",
    "width",
    "significant",
)
LOWEST, HIGHEST = 0.5 + 1e-6, 1 - 1e-6  # confidences; at .5, two classes would be tied
# The probability that an answer is right, as a function of its confidence.
SHAPES: dict[str, Callable[[Array], Array]] = {
    "every confidence too high by .03": lambda confidence: confidence - 0.03,
    "every confidence too high by .06": lambda confidence: confidence - 0.06,
    "every confidence too low by .04": lambda confidence: confidence + 0.04,
    "one label in ten drawn by chance": lambda confidence: 0.05 + 0.9 * confidence,
    "only confidences above .9 too high, the highest by .07": lambda confidence: np.where(
        confidence > 0.9, 0.9 + 0.3 * (confidence - 0.9), confidence
    ),
    "only confidences below .8 too high, by up to .18": lambda confidence: np.where(
        confidence < 0.8, 0.5 + 0.4 * (confidence - 0.5), confidence
    ),
    "a wave, up to .05 too low and too high": lambda confidence: (
        confidence + 0.05 * np.sin(4 * np.pi * (confidence - 0.5))
    ),
    "too low and too high by .05 in turn, from bin to bin": lambda confidence: (
        confidence + 0.05 * np.where(np.floor(10 * confidence) % 2, 1, -1)
    ),
}


def arms_of(random: np.random.Generator, rows: int, shape: str) -> tuple[Predictions, Predictions]:
    """An arm whose gaps have this shape, and a calibrated arm that gives the same answers: either class, by chance."""
    confidence = special.expit(np.abs(random.normal(0, 2.5, rows)))
    right = np.clip(SHAPES[shape](confidence), LOWEST, HIGHEST)
    answers = random.integers(2, size=rows)
    labels = np.where(random.random(rows) < right, answers, 1 - answers)

    def arm(confidence: Array) -> Predictions:
        second = np.where(answers, confidence, 1 - confidence)
        return Predictions.of(np.stack([1 - second, second], 1), labels)

    return arm(np.clip(confidence, LOWEST, HIGHEST)), arm(right)


def of_shape(seed: int, shape: str, key: str, fitted: bool) -> tuple[float, float, float, bool, float]:
    """The difference from the calibrated arm, or from the same arm with a temperature, as `compared` returns it."""
    first, calibrated = arms_of(np.random.default_rng(seed), TEXTS, shape)
    return compared(first, first if fitted else calibrated, key, seed, fitted)


def shape_rows(key: str, runs: int) -> list[list[str]]:
    """How often the interval holds the truth, for each shape and both other arms."""
    rows = []
    for shape, fitted in itertools.product(SHAPES, (False, True)):
        found = np.array(over_seeds(partial(of_shape, shape=shape, key=key, fitted=fitted), runs, shape))
        value, low, high, told, temperatures = found.T
        first, calibrated = arms_of(np.random.default_rng(0), MANY, shape)
        truth = true_difference(first, first if fitted else calibrated, key, temperatures)
        held = (low <= truth) & (truth <= high)
        other = "itself, with a temperature" if fitted else "a calibrated arm"
        apart = f"{truth / value.std():+.1f}"
        rows.append(
            [shape, other, MEASURE[key].title, apart, f"{held.mean():.1%}", width(found[:, :4]), f"{told.mean():.0%}"]
        )
    return rows


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    rows = [row for key in ("ece", "class_wise_ece") for row in shape_rows(key, runs)]
    body = f"{runs} runs of each case, {TEXTS} texts. Intervals of 95%.\n\n" + table(HEADER, rows)
    write_section(
        "Differences by the shape of the gaps", f"python -m benchmarks.evaluation.gap_shapes --runs {runs}", body
    )


if __name__ == "__main__":
    main()
