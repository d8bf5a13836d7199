"""How often the metric's 95 % interval holds the true value, by simulation.

    python benchmarks/ece_interval.py [--simulations N]

Confidences from 1/2 to 1 under two laws, 872 rows as in SST-2's validation split; a model whose accuracy at confidence
c is c - d (2 c - 1). The truth is the binned ECE of four million rows.
"""

import argparse

import numpy as np
from bayesian_text_classification.metric import load_metric_module
from results import table, write_section
from tqdm import tqdm

ROWS, MANY = 872, 4_000_000
LAWS = {"spread out, Beta(3, 1)": (3.0, 1.0), "nearly all sure, Beta(1.2, 0.3)": (1.2, 0.3)}
OVERCONFIDENCE = (0.0, 0.02, 0.055, 0.08, 0.12, 0.2)


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=500)
    args = parser.parse_args()
    metric = load_metric_module()
    random = np.random.default_rng(0)
    rows = []
    for n_bins in (10, 15):
        for law, (a, b) in LAWS.items():
            for d in OVERCONFIDENCE:

                def drawn(count: int, a: float = a, b: float = b, d: float = d) -> tuple[np.ndarray, np.ndarray]:
                    confidence = (1 + random.beta(a, b, count)) / 2
                    return confidence, random.random(count) < confidence - d * (2 * confidence - 1)

                truth = metric.expected_calibration_error(*drawn(MANY), n_bins, binary=True)
                found = []
                for seed in tqdm(range(args.simulations), f"{n_bins} bins, {law}, {d}"):
                    data = drawn(ROWS)
                    value = metric.expected_calibration_error(*data, n_bins, binary=True)
                    chance = metric.bootstrap(*data, n_bins, seed=seed, binary=True)
                    holds = chance.interval[0] <= truth <= chance.interval[1]
                    null = chance.null_interval[0] <= value <= chance.null_interval[1]
                    found.append((value, chance.bias, chance.interval[1] - chance.interval[0], holds, null))
                value, bias, width, holds, null = np.mean(found, axis=0)
                rows.append(
                    [
                        f"{n_bins}, {law}",
                        f"{truth:.4f}",
                        f"{value:.4f}",
                        f"{bias:.4f}",
                        f"{width:.3f}",
                        f"{holds:.1%}",
                        f"{null:.1%}",
                    ]
                )
    header = ["bins, confidences", "true ECE", "measured", "its bias", "width", "interval holds truth", "in null band"]
    body = f"{ROWS} rows, means over {args.simulations} simulations each, 1,000 resamples.\n\n" + table(header, rows)
    write_section("Coverage of the metric's interval", "python benchmarks/ece_interval.py", body)


if __name__ == "__main__":
    main()
