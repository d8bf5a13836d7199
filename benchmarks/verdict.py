"""How often the intervals of the report hold the truth, and how often its verdicts are wrong, by simulation.

    python benchmarks/verdict.py [--simulations N]

Two models on the same rows: their logits are the true ones times a sharpness, with noise of their own. The truth is the
measure of two million rows. Null cases have two models of equal sharpness and noise; the other cases have a difference
in sharpness, and of each measure those rows count at which the true difference is three times its standard error.
"""

import argparse

import numpy as np
from bayesian_text_classification.intervals import difference, estimate, resample
from bayesian_text_classification.measures import MEASURES, Scored
from results import table, write_section
from tqdm import tqdm

ROWS, MANY = 872, 2_000_000
SHARPNESS, NOISE = 1.6, 0.5


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1_000)
    simulations = parser.parse_args().simulations
    random = np.random.default_rng(0)
    nothing = run(random, 0.0, simulations, "null")
    something = {tilt: run(random, tilt, simulations, f"tilt {tilt}") for tilt in (-0.12, -0.25, -0.5)}
    rows = []
    for measure in MEASURES:
        key = measure.key
        # Of the tilts the one whose true difference is nearest to three standard errors.
        tilt = min(something, key=lambda tilt: abs(something[tilt][key]["effect"] - 3))
        effect = something[tilt][key]
        rows.append(
            [
                measure.title,
                f"{nothing[key]['covered']:.1%}",
                f"{nothing[key]['difference covered']:.1%}",
                f"{effect['difference covered']:.1%}",
                f"{nothing[key]['told']:.1%}",
                f"{effect['effect']:.1f}",
                f"{effect['right']:.1%}",
                f"{effect['wrong']:.1%}",
            ]
        )
    header = [
        "measure",
        "interval holds truth",
        "of a null difference",
        "of a true difference",
        "null case told",
        "true difference / its error",
        "told rightly",
        "told wrongly",
    ]
    body = f"{ROWS} rows, {simulations} simulations of each case, 1,000 resamples.\n\n" + table(header, rows)
    write_section("Intervals and verdicts", f"python benchmarks/verdict.py --simulations {simulations}", body)


def run(random: np.random.Generator, tilt: float, simulations: int, name: str) -> dict[str, dict[str, float]]:
    """What happens to each measure where the first model is `tilt` sharper than the second."""
    truths = [{m.key: m.value(rows) for m in MEASURES} for rows in models(random, MANY, tilt)]
    found: dict[str, list[tuple[bool, bool, str, float]]] = {m.key: [] for m in MEASURES}
    for seed in tqdm(range(simulations), name):
        first, second = models(random, ROWS, tilt)
        mine, theirs = resample([first], seed=seed), resample([second], seed=seed)
        for m in MEASURES:
            own = estimate(m, first, mine)
            told = difference(m, first, second, mine, theirs)
            gap = truths[0][m.key] - truths[1][m.key]
            inside = own.low <= truths[0][m.key] <= own.high
            found[m.key].append((inside, told.low <= gap <= told.high, told.verdict, told.value))
    results = {}
    for m in MEASURES:
        inside, both, verdicts, values = zip(*found[m.key], strict=True)
        gap = truths[0][m.key] - truths[1][m.key]
        right = "better" if (gap > 0) == m.higher_is_better else "worse"
        results[m.key] = {
            "covered": float(np.mean(inside)),
            "difference covered": float(np.mean(both)),
            "told": float(np.mean([verdict != "cannot tell" for verdict in verdicts])),
            "right": float(np.mean([verdict == right for verdict in verdicts])),
            "wrong": float(np.mean([verdict not in (right, "cannot tell") for verdict in verdicts])),
            "effect": abs(gap) / float(np.std(values)),
        }
    return results


def models(random: np.random.Generator, rows: int, tilt: float) -> tuple[Scored, Scored]:
    """Two models on the same rows."""
    z = random.normal(0, 2.5, rows)
    labels = (random.random(rows) < 1 / (1 + np.exp(-z))).astype(int)

    def scored(sharpness: float) -> Scored:
        p = 1 / (1 + np.exp(-sharpness * (z + NOISE * random.normal(size=rows))))
        return Scored.of(np.stack([1 - p, p], 1), labels)

    return scored(SHARPNESS + tilt), scored(SHARPNESS)


if __name__ == "__main__":
    main()
