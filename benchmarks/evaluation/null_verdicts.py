"""How often a difference is called significant where nothing differs, by simulation.

    python -m benchmarks.evaluation.null_verdicts [--runs N]

A width is that of the mean interval, as a share of the range that holds 95% of the values.
"""

import argparse
from collections.abc import Callable

import numpy as np
from bayesian_text_classification.evaluation.statistics.measures import MEASURES

from benchmarks.attack import differences, softmax_world, tempered, width
from benchmarks.common import Array
from benchmarks.results import table, write_section
from benchmarks.simulation import over_seeds


def needless_temperature(seed: int) -> Array:
    """A calibrated model with and without a temperature."""
    (plain,) = softmax_world(np.random.default_rng(seed), 400, 3, (1.0, 0.0))
    return differences(tempered(plain), plain, seed)


def equally_good(seed: int) -> Array:
    """Two models whose errors differ but are equally large."""
    return differences(*softmax_world(np.random.default_rng(seed), 400, 3, (0.8, 0.5), (0.8, 0.5)), seed)


def equally_good_with_temperatures(seed: int) -> Array:
    """The same with temperatures."""
    first, second = softmax_world(np.random.default_rng(seed), 400, 3, (1.6, 0.5), (1.6, 0.5))
    return differences(tempered(first), tempered(second), seed)


NULLS: dict[str, Callable[[int], Array]] = {
    "a calibrated model is called different with a temperature": needless_temperature,
    "one of two equally good models is called better": equally_good,
    "one of two equally good models with temperatures is called better": equally_good_with_temperatures,
}


def null_rows(runs: int) -> list[list[str]]:
    """Shares of significant differences, by measure, and for all ten measures together."""
    rows = []
    for question, draw in NULLS.items():
        found = np.array(over_seeds(draw, runs, question))
        for k, measure in enumerate(MEASURES):
            case = f"{measure.title}, 400 texts; width {width(found[:, k])}"
            rows.append([question, case, "5%", f"{found[:, k, 3].mean():.1%}"])
        rows.append([question, "by at least one of the ten measures", "", f"{found[:, :, 3].any(1).mean():.1%}"])
    return rows


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2_000)
    runs = parser.parse_args().runs
    body = f"{runs} runs of each case.\n\n" + table(["question", "case", "asked", "measured"], null_rows(runs))
    write_section(
        "Verdicts where nothing differs", f"python -m benchmarks.evaluation.null_verdicts --runs {runs}", body
    )


if __name__ == "__main__":
    main()
