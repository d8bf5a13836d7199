"""Statistics where an adversary looks: fitted temperatures, repeated texts, few errors.

    python -m benchmarks.attack [--runs N]

By simulation, with known truth. Verdicts on copies and thresholds get N runs each, everything else a quarter as many. A
width is that of the mean interval, as a share of the range that holds 95% of the values. Other attacks have files of
their own: `evaluation/null_verdicts.py`, `evaluation/calibrated_arm.py`, `evaluation/gap_shapes.py` and
`pipeline/few_samples.py`.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
from bayesian_text_classification.evaluation.fits import Temperatures
from bayesian_text_classification.evaluation.statistics.estimates import difference, estimate, resample
from bayesian_text_classification.evaluation.statistics.measures import MEASURES, Measure
from bayesian_text_classification.evaluation.statistics.predictions import Predictions
from bayesian_text_classification.pipeline.temperature import apply_temperature
from bayesian_text_classification.selection import threshold_for
from scipy import special
from tqdm import trange

from benchmarks.common import Array
from benchmarks.evaluation.verdict import HARMS, World, of_one, pilot
from benchmarks.results import table, write_section
from benchmarks.simulation import over_seeds

MEASURE = {measure.key: measure for measure in MEASURES}
MANY = 1_000_000  # rows that give the truth
EFFECT = 3.5  # of the true difference that must be found, in standard errors


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2_000)
    runs = parser.parse_args().runs
    rows = [
        *fresh_rows(runs // 4),
        *power_rows(runs // 4),
        *(copies_row(key, known, runs) for key in ("nll", "brier", "accuracy") for known in (True, False)),
        *(threshold_row(copies, known, runs) for copies, known in ((1, True), (5, True), (5, False))),
        *(aurc_row(texts, runs // 4) for texts in (300, 500)),
    ]
    body = f"{runs} runs of a verdict on copies or a threshold, {runs // 4} of everything else.\n\n" + table(
        ["question", "case", "asked", "measured"], rows
    )
    write_section("Where an adversary looks", f"python -m benchmarks.attack --runs {runs}", body)


def softmax_world(
    random: np.random.Generator, rows: int, classes: int, *arms: tuple[float, float]
) -> list[Predictions]:
    """Arms on the same rows. Each has the true logits plus errors of a size, times a sharpness: `(sharpness, size)`."""
    logits = random.normal(0, 1.8, (rows, classes))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
    return [
        Predictions.of(special.softmax(sharpness * (logits + random.normal(0, 1, logits.shape) * size), 1), labels)
        for sharpness, size in arms
    ]


def tempered(rows: Predictions) -> Predictions:
    """The rows at a temperature that is fitted on them."""
    return Temperatures.fitted(rows.probabilities, rows.labels).predictions(rows.probabilities, rows.labels)


def differences(first: Predictions, second: Predictions, seed: int) -> Array:
    """Value, low end, high end and whether there is a verdict, for each measure. *Shape:* (measures, 4)."""
    drawn = [resample(one, seed=seed) for one in (first, second)]
    found = [difference(measure, *drawn) for measure in MEASURES]
    return np.array([(one.value, one.low, one.high, one.verdict != "cannot tell") for one in found])


def width(found: Array) -> str:
    """Mean width of intervals, as a share of the range that holds 95% of the values. *Shape:* (runs, 4)."""
    value, low, high, _ = found[~np.isnan(found[:, 1])].T
    spread = float(np.subtract(*np.quantile(value, [0.975, 0.025]))) if len(value) else 0.0
    return f"{(high - low).mean() / spread:.2f}" if spread > 1e-9 else "none"


def of_fresh_rows(seed: int) -> Array:
    """The ECE with a fitted temperature: on the rows of the fit, corrected, and on fresh rows."""
    random, measure = np.random.default_rng(seed), MEASURE["ece"]
    (plain,) = softmax_world(random, 872, 2, (1.6, 0.5))
    fit = Temperatures.fitted(plain.probabilities, plain.labels)
    drawn = resample(fit.predictions(plain.probabilities, plain.labels), seed=seed, measures=[measure])
    others = (softmax_world(random, 872, 2, (1.6, 0.5)) for _ in range(4))
    fresh = [measure.value(at_temperature(other, fit.temperature)) for (other,) in others]
    return np.array([measure.value(drawn.rows), estimate(measure, drawn).value, np.mean(fresh)])


def fresh_rows(runs: int) -> list[list[str]]:
    """The ECE of the procedure that fits a temperature."""
    own, corrected, fresh = np.mean(over_seeds(of_fresh_rows, runs, "fresh rows"), axis=0)
    question, asked = "mean ECE with a fitted temperature, 872 texts", f"{fresh:.4f}"
    return [
        [question, "on fresh texts", "", f"{fresh:.4f}"],
        [question, "on the texts of the fit", asked, f"{own:.4f}"],
        [question, "reported: corrected by refits", asked, f"{corrected:.4f}"],
    ]


def at_temperature(rows: Predictions, temperature: float) -> Predictions:
    """The rows at another temperature."""
    return Predictions.of(apply_temperature(rows.probabilities, temperature), rows.labels)


def power_rows(runs: int) -> list[list[str]]:
    """How often a true difference of about 3.5 standard errors is found, and how wide its interval is."""
    world, rows = World(2, 872, 1.8), []
    gaps, effects = pilot(world, 1_000)
    for key, measure in MEASURE.items():
        harm = float(np.interp(EFFECT, effects[key], HARMS))
        gap = float(np.interp(harm, HARMS, gaps[key]))
        found = np.array(over_seeds(partial(harmed, world=world, harm=harm, key=key), runs, measure.title))
        case = f"{measure.title}, 872 texts, {abs(gap) / found[:, 0].std():.2f} standard errors; width {width(found)}"
        rows.append(["a true difference is significant", case, "at least 85%", f"{found[:, 3].mean():.1%}"])
    return rows


def harmed(seed: int, world: World, harm: float, key: str) -> tuple[float, float, float, bool]:
    """Value, interval and verdict where the first arm is worse."""
    found = of_one(seed, world, harm, key)
    return found.value, found.low, found.high, found.verdict != "cannot tell"


def with_copies(seed: int, key: str, known: bool) -> bool:
    """Whether two equally good arms are called different if every text comes three times."""
    groups, random = np.tile(np.arange(300), 3), np.random.default_rng(seed)
    logits = random.normal(0, 1.8, (300, 2))
    labels = (logits + random.gumbel(size=logits.shape)).argmax(1)
    arms = [special.softmax(logits + random.normal(0, 0.5, logits.shape), 1) for _ in range(2)]
    drawn = [
        resample(Predictions.of(p[groups], labels[groups], groups if known else None), measures=[MEASURE[key]])
        for p in arms
    ]
    return difference(MEASURE[key], *drawn).verdict != "cannot tell"


def copies_row(key: str, known: bool, runs: int) -> list[str]:
    """Two equally good arms, every text three times."""
    told = over_seeds(partial(with_copies, key=key, known=known), runs, f"copies, {key}")
    case = f"{MEASURE[key].title}, 300 texts three times, {'with' if known else 'without'} `groups`"
    return ["one of two equally good models is called better", case, "5%", f"{np.mean(told):.1%}"]


def misses(seed: int, copies: int, known: bool) -> bool:
    """Whether a threshold for an error rate of 10% exceeds it."""
    random, rows = np.random.default_rng(seed), np.tile(np.arange(200), copies)
    scores = random.uniform(0, 1, 200)
    correct = random.random(200) < 0.75 + 0.25 * scores
    found = threshold_for(scores[rows], correct[rows], 0.1, groups=rows if known else None)
    return found is not None and 0.25 * (1 - found.threshold) / 2 > 0.1  # P(wrong | score >= t)


def threshold_row(copies: int, known: bool, runs: int) -> list[str]:
    """Thresholds for an error rate of 10%, with 90% confidence."""
    missed = over_seeds(partial(misses, copies=copies, known=known), runs, f"thresholds, {copies} copies")
    often = "once" if copies == 1 else f"{copies} times"
    case = f"200 texts {often}, {'with' if known else 'without'} `groups`"
    return ["a threshold misses its target", case, "at most 10%", f"{np.mean(missed):.1%}"]


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


if __name__ == "__main__":
    main()
