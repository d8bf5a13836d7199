"""Intervals of a difference in calibration where one arm is calibrated, so that its ECE is all noise.

    python -m benchmarks.evaluation.calibrated_arm [--runs N]

By simulation, with known truth. A width is that of the mean interval, as a share of the range that holds 95% of the
values.
"""

import argparse
import itertools
from functools import partial

import numpy as np
from bayesian_text_classification.evaluation.statistics.estimates import difference, resample
from bayesian_text_classification.evaluation.statistics.predictions import Predictions
from bayesian_text_classification.pipeline.temperature import fit_temperature

from benchmarks.attack import MANY, MEASURE, at_temperature, softmax_world, tempered, width
from benchmarks.common import Array
from benchmarks.results import table, write_section
from benchmarks.simulation import over_seeds

# One arm, the number of rows and of classes; the other arm is calibrated.
AGAINST_CALIBRATED = {
    "1.15 times the true logits": ((1.15, 0.0), 872, 2),
    "1.3 times the true logits": ((1.3, 0.0), 872, 2),
    "1.3 times the true logits, few texts": ((1.3, 0.0), 300, 2),
    "2.2 times the true logits": ((2.2, 0.0), 872, 2),
    "1.6 times the true logits, with errors": ((1.6, 0.7), 872, 2),
}
# The ECE has ten bins for any number of classes, the class-wise ECE ten for each.
MORE_CLASSES = {
    "1.15 times the true logits, three classes": ((1.15, 0.0), 872, 3),
    "1.3 times the true logits, with errors, three classes, few texts": ((1.3, 0.5), 400, 3),
    "1.3 times the true logits, with errors, three classes": ((1.3, 0.5), 872, 3),
    "2.2 times the true logits, three classes, few texts": ((2.2, 0.0), 400, 3),
    "1.3 times the true logits, with errors, five classes": ((1.3, 0.5), 872, 5),
}
CASES = {"ece": AGAINST_CALIBRATED, "class_wise_ece": AGAINST_CALIBRATED | MORE_CLASSES}


def compared(
    first: Predictions, second: Predictions, key: str, seed: int, fitted: bool
) -> tuple[float, float, float, bool, float]:
    """Value, interval and verdict of a difference, and the temperature that the second arm gets, if any."""
    temperature = fit_temperature(second.probabilities, second.labels) if fitted else 1.0
    arms = (first, tempered(second) if fitted else second)
    drawn = [resample(one, seed=seed, measures=[MEASURE[key]]) for one in arms]
    found = difference(MEASURE[key], *drawn)
    return found.value, found.low, found.high, found.verdict != "cannot tell", temperature


def true_difference(first: Predictions, second: Predictions, key: str, temperatures: Array) -> float:
    """The difference on many rows, averaged over the temperatures that the second arm gets."""
    measure, grid = MEASURE[key], np.unique(np.linspace(temperatures.min(), temperatures.max(), 9))
    values = [measure.value(at_temperature(second, one)) for one in grid]
    return measure.value(first) - float(np.interp(temperatures, grid, values).mean())


def against_calibrated(seed: int, case: str, key: str, fitted: bool) -> tuple[float, float, float, bool, float]:
    """The difference from a calibrated arm, as `compared` returns it."""
    arm, texts, classes = CASES[key][case]
    first, second = softmax_world(np.random.default_rng(seed), texts, classes, arm, arm if fitted else (1.0, 0.0))
    return compared(first, second, key, seed, fitted)


def one_calibrated_rows(key: str, runs: int) -> list[list[str]]:
    """Intervals of a difference if one arm is calibrated, so that its ECE is all noise."""
    rows = []
    for (case, (arm, texts, classes)), fitted in itertools.product(CASES[key].items(), (False, True)):
        found = over_seeds(partial(against_calibrated, case=case, key=key, fitted=fitted), runs, case)
        known = np.array([one for one in found if not np.isnan(one[1])])
        value, low, high, told, temperatures = known.T
        many = softmax_world(np.random.default_rng(0), MANY, classes, arm, arm if fitted else (1.0, 0.0))
        truth = true_difference(*many, key, temperatures)
        rows.append(
            [
                f"the interval of a difference in {MEASURE[key].title} holds the truth",
                f"{case}, compared with {'its temperature' if fitted else 'the true ones'}; {texts} texts; "
                f"{abs(truth) / value.std():.1f} standard errors, significant in {told.mean():.0%}; "
                f"width {width(known[:, :4])}; interval in {len(value) / runs:.0%}",
                "95%",
                f"{np.mean((low <= truth) & (truth <= high)):.1%}",
            ]
        )
    return rows


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    rows = [row for key in CASES for row in one_calibrated_rows(key, runs)]
    body = f"{runs} runs of each case.\n\n" + table(["question", "case", "asked", "measured"], rows)
    write_section(
        "Differences from a calibrated arm", f"python -m benchmarks.evaluation.calibrated_arm --runs {runs}", body
    )


if __name__ == "__main__":
    main()
