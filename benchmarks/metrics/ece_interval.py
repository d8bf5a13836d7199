"""How often the metric's 95% interval covers the true value, by simulation.

    python -m benchmarks.metrics.ece_interval [--simulations N]

Confidences from 1/2 to 1 come from two distributions, with 872 rows as in SST-2's validation split. The model's
accuracy at confidence c is c - d (2 c - 1). The truth is the same measure on four million rows.
"""

import argparse
from typing import Any

import numpy as np
from bayesian_text_classification.metric import load_metric_module
from tqdm import tqdm

from benchmarks.results import table, write_section

ROWS, MANY = 872, 4_000_000
LAWS = {"spread out, Beta(3, 1)": (3.0, 1.0), "mostly confident, Beta(1.2, 0.3)": (1.2, 0.3)}
OVERCONFIDENCE = (0.0, 0.02, 0.055, 0.08, 0.12, 0.2)
MEASURES: dict[str, dict[str, Any]] = {
    "l1, 10 bins": {"n_bins": 10},
    "l1, 15 bins": {"n_bins": 15},
    "l1, 10 quantile bins": {"n_bins": 10, "binning": "quantile"},
    "l2, 10 bins": {"n_bins": 10, "norm": "l2"},
    "max, 10 bins": {"n_bins": 10, "norm": "max"},
}


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=500)
    simulations = parser.parse_args().simulations
    rows = []
    for name, options in MEASURES.items():
        for law, parameters in LAWS.items():
            for d in OVERCONFIDENCE:
                found = measure(parameters, d, options, tqdm(range(simulations), f"{name}, {law}, {d}"))
                rows.append([f"{name}, {law}", *found])
    header = ["measure, confidences", "truth", "measured", "bias", "width", "interval covers truth", "in null band"]
    body = f"{ROWS} rows, means over {simulations} simulations per line, 1,000 resamples.\n\n" + table(header, rows)
    write_section("Coverage of the metric's interval", "python -m benchmarks.metrics.ece_interval", body)


def measure(law: tuple[float, float], d: float, options: dict[str, Any], seeds: Any) -> list[str]:
    """Compute one line of the table."""
    metric, random = load_metric_module(), np.random.default_rng(0)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        confidence = (1 + random.beta(*law, count)) / 2
        return confidence, random.random(count) < confidence - d * (2 * confidence - 1)

    truth = metric.expected_calibration_error(*drawn(MANY), binary=True, **options)
    found = []
    for seed in seeds:
        data = drawn(ROWS)
        value = metric.expected_calibration_error(*data, binary=True, **options)
        chance = metric.bootstrap(*data, seed=seed, binary=True, **options)
        low, high = chance.interval
        null = chance.null_interval[0] <= value <= chance.null_interval[1]
        found.append((value, chance.bias, high - low, low <= truth <= high, null))
    value, bias, width, holds, null = np.mean(found, axis=0)
    return [f"{truth:.4f}", f"{value:.4f}", f"{bias:.4f}", f"{width:.3f}", f"{holds:.1%}", f"{null:.1%}"]


if __name__ == "__main__":
    main()
