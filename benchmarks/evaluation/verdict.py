"""How often the report's intervals cover the truth, and how often its verdicts are wrong, by simulation.

    python -m benchmarks.evaluation.verdict [--simulations N]

Two arms share the same rows. Their logits are the true ones times a sharpness, with separate errors. Each arm averages
the probabilities of ten passes. The noise of the passes is drawn anew in every simulation, like the dropout masks of a
run. The truth is the measure on half a million rows.

In a null case the arms are equally good. In the others the first arm is worse in every way: sharper, and with larger
errors. How much worse is chosen separately for each measure, so that its true difference is three times its standard
error.

Cheap measures get four times as many simulations, and so does every measure in the last table. In the third table, NLL
and Brier get 32 times as many.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from bayesian_text_classification.evaluation.arms import MeasuredArms
from bayesian_text_classification.evaluation.fits import Labels, Probabilities, Temperatures
from bayesian_text_classification.evaluation.heads import ONE_LABEL
from bayesian_text_classification.evaluation.statistics.estimates import difference, estimate, resample
from bayesian_text_classification.evaluation.statistics.intervals import LEAST_ROWS, Difference, Estimate
from bayesian_text_classification.evaluation.statistics.measures import MEASURES, Measure
from bayesian_text_classification.evaluation.statistics.predictions import Predictions
from bayesian_text_classification.evaluation.statistics.strategies import RowMean
from scipy import integrate, optimize, special, stats

from benchmarks.common import Array
from benchmarks.results import table, write_section
from benchmarks.simulation import over_seeds

MEASURE = {measure.key: measure for measure in MEASURES}
MANY = 500_000  # rows that give the truth
PASSES, SHARPNESS, ERROR, NOISE = 10, 1.6, 0.5, 0.5
EFFECT = 3  # the true difference, in standard errors
HARMS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2)
PILOTS = 4_000  # simulations per harm, to find the harm with that effect
CHEAP = 4  # factor on the simulations for measures with a closed form, and for AUROC
MEANS = 32  # factor on the simulations for NLL and Brier in the third table
ALIKE = 0.0

Logits = Callable[[Array], Array]  # logits of the first of two classes, as a function of normal deviates


@dataclass(frozen=True)
class World:
    """Texts whose class probabilities are known."""

    classes: int
    rows: int
    spread: float  # of the logits

    def draw(self, random: np.random.Generator, rows: int, harm: float) -> tuple[Labels, Array, Array]:
        """Draw labels and the probabilities of two arms, of which the first is worse by `harm`."""
        logits = random.normal(0, self.spread, (rows, self.classes))
        labels = (logits + random.gumbel(size=logits.shape)).argmax(1)  # a draw from the softmax

        def arm(harm: float) -> Array:
            own = (SHARPNESS + harm) * (logits + random.normal(0, ERROR + harm, logits.shape))
            mean = np.zeros(logits.shape)
            for _ in range(PASSES):
                powers = np.exp(own + random.normal(0, NOISE, logits.shape))
                mean += powers / powers.sum(1, keepdims=True) / PASSES
            return mean

        return labels, arm(harm), arm(ALIKE)


class Told(NamedTuple):
    """The report on one measure: the first arm, the difference from the second, and that with temperatures."""

    key: str
    estimate: Estimate
    difference: Difference
    beyond: Difference


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1_000)
    simulations = parser.parse_args().simulations
    two, twenty = World(2, 872, 1.8), World(20, 1_000, 2.5)
    near = [f"{100 * np.sqrt(0.95 * 0.05 / count):.1f}" for count in simulations * np.array([1, CHEAP, MEANS])]
    body = (
        f"1,000 resamples. {simulations} simulations of each case. {CHEAP} times as many for accuracy, NLL, Brier and "
        f"AUROC of errors, for squares in the second table, and for all measures in the last table. {MEANS} times as "
        f"many in the third table. Shares near 95% have standard errors of {near[0]}, {near[1]} and {near[2]} "
        f"percentage points.\n\n"
        f"Two equally good arms:\n\n{null_table((two, twenty), simulations)}\n\n"
        f"Arms that differ but are equally far from calibrated, so the true difference is 0. How often a difference is "
        f"significant:\n\n"
        f"{kinks_table(simulations)}\n\n"
        f"One overconfident and one underconfident arm with equal cost. How often a difference is significant (never "
        f"with fewer than {LEAST_ROWS} wrong answers):\n\n"
        f"{costs_table(simulations)}\n\n"
        f"The first arm is worse, {two.rows} rows of {two.classes} classes:\n\n{harm_table(two, simulations)}"
    )
    write_section(
        "Intervals and verdicts", f"python -m benchmarks.evaluation.verdict --simulations {simulations}", body
    )


def null_table(worlds: tuple[World, ...], simulations: int) -> str:
    """Intervals and verdicts if there is no true difference."""
    header = [
        "classes, rows",
        "measure",
        "interval covers truth",
        "interval of the difference covers 0",
        "difference is significant",
    ]
    header.append("the same with temperatures")
    rows = []
    for world in worlds:
        labels, first, _ = world.draw(np.random.default_rng(0), MANY, ALIKE)
        many = Predictions.of(first, labels)
        truth = {measure.key: measure.value(many) for measure in MEASURES}
        found = defaultdict(list)
        title = f"equally good, {world.classes} classes"
        for run in over_seeds(partial(null_case, world=world, full=simulations), CHEAP * simulations, title):
            for told in run:
                found[told.key].append(told)
        for measure in MEASURES:
            all_told, value = found[measure.key], truth[measure.key]
            rows.append(
                [
                    f"{world.classes}, {world.rows}",
                    measure.title,
                    covered([told.estimate for told in all_told], value),
                    covered([told.difference for told in all_told], 0.0),
                    share(told.difference.verdict != "cannot tell" for told in all_told),
                    share(told.beyond.verdict != "cannot tell" for told in all_told),
                ]
            )
    return table(header, rows)


def null_case(seed: int, world: World, full: int) -> list[Told]:
    """Verdicts of the report if both arms are equally good: on every measure for the first `full` seeds."""
    labels, *arms = world.draw(np.random.default_rng(seed), world.rows, ALIKE)
    return list((in_full if seed <= full else often)(labels, *arms, seed))


def in_full(labels: Labels, first: Probabilities, second: Probabilities, seed: int) -> Iterator[Told]:
    """Compute every measure as the report does."""
    arms = MeasuredArms(ONE_LABEL, labels, seed)
    for name, p in (("second", second), ("first", first)):
        found = arms.arm(name, p)
        arms.arm(f"{name} tempered", p, fit=Temperatures.fitted(p, labels))
    beyond = arms.differences("first tempered", "second tempered")
    for key, one in found.estimates.items():
        yield Told(key, one, found.differences[key], beyond[key])


def often(labels: Labels, first: Probabilities, second: Probabilities, seed: int) -> Iterator[Told]:
    """Compute only the cheap measures."""
    pair = [Predictions.of(p, labels) for p in (first, second)]
    fits = [Temperatures.fitted(p, labels) for p in (first, second)]
    tempered = [fit.predictions(p, labels) for fit, p in zip(fits, (first, second), strict=True)]
    for measure in MEASURES:
        if measure.strategy.resamples_interval and measure.key != "error_auroc":  # these need all resamples
            continue
        yield Told(
            measure.key,
            estimate(measure, resample(pair[0], seed=seed, measures=[measure])),
            resampled(*pair, measure, seed),
            resampled(*tempered, measure, seed),
        )


def is_cheap(measure: Measure) -> bool:
    """Whether the difference has a closed form, or cheap resamples."""
    return not measure.strategy.resamples_difference or measure.key == "error_auroc"


def kinks_table(simulations: int) -> str:
    """Null cases for measures of calibration, with arms that differ: 872 texts of two classes."""
    measures = [MEASURE[key] for key in ("ece", "class_wise_ece", "l2_ece", "brier_reliability")]
    rows = []
    for name in KINKS:
        told = defaultdict(list)
        for run in over_seeds(partial(kink, name=name, full=simulations), CHEAP * simulations, name):
            for key, significant in run.items():
                told[key].append(significant)
        rows.append([name, *(share(told[measure.key]) for measure in measures)])
    return table(["case", *(measure.title for measure in measures)], rows)


def kink(seed: int, name: str, full: int) -> dict[str, bool]:
    """Whether there is a verdict: on every measure of calibration for the first `full` seeds, else on cheap ones."""
    labels, *arms = KINKS[name](np.random.default_rng(seed))
    first, second = (Predictions.of(np.stack([1 - p, p], 1), labels) for p in arms)
    measures = (MEASURE[key] for key in ("ece", "class_wise_ece", "l2_ece", "brier_reliability"))
    return {
        measure.key: resampled(first, second, measure, seed).verdict != "cannot tell"
        for measure in measures
        if seed <= full or is_cheap(measure)
    }


def opposite(random: np.random.Generator, gap: float) -> tuple[Labels, Array, Array]:
    """Labels, and two arms with equal errors in opposite directions."""
    truth = random.uniform(0.55, 0.95, 872)
    return luck(random, truth), truth + gap, truth - gap


def calibrated(random: np.random.Generator, spread: float) -> tuple[Labels, Array, Array]:
    """Labels, an arm that always returns its mean confidence, and an arm that returns the truth."""
    truth = 1 / (1 + np.exp(-random.normal(0, spread, 872)))
    doubt = np.minimum(truth, 1 - truth).mean()
    return luck(random, truth), np.where(truth > 0.5, 1 - doubt, doubt), truth


def as_wrong(random: np.random.Generator, gap: float) -> tuple[Labels, Array, Array]:
    """Labels, an arm with a constant confidence, and an arm with varying confidence; their errors are separate."""
    confidence, up = random.uniform(0.52, 0.99 - gap, 872), random.random(872) < 0.5
    labels = luck(random, np.where(up, confidence, 1 - confidence))
    right = random.random(872) < 0.75
    chosen = np.where(right, labels, 1 - labels)
    return labels, np.where(chosen == 1, 0.75 + gap, 0.25 - gap), np.where(up, confidence + gap, 1 - confidence - gap)


def luck(random: np.random.Generator, truth: Array) -> Labels:
    """Draw labels that are 1 with these probabilities."""
    return (random.random(len(truth)) < truth).astype(np.int64)


KINKS = {
    "one overconfident by .005, one underconfident by .005": lambda random: opposite(random, 0.005),
    "one overconfident by .01, one underconfident by .01": lambda random: opposite(random, 0.01),
    "one overconfident by .02, one underconfident by .02": lambda random: opposite(random, 0.02),
    "one overconfident by .03, one underconfident by .03": lambda random: opposite(random, 0.03),
    "one overconfident by .04, one underconfident by .04": lambda random: opposite(random, 0.04),
    "both calibrated, one with constant confidence": lambda random: calibrated(random, 2.5),
    "both overconfident by .03, one with constant confidence": lambda random: as_wrong(random, 0.03),
    "both overconfident by .1, one with constant confidence": lambda random: as_wrong(random, 0.1),
}


def costs_table(simulations: int) -> str:
    """Null cases for NLL and Brier, with arms that differ."""
    measures = [MEASURE["nll"], MEASURE["brier"]]
    rows = []
    for name, (truth, sure) in COSTS.items():
        modest = {measure.key: as_dear(measure, truth, sure) for measure in measures}
        for count in (200, 400, 872):
            told = over_seeds(
                partial(cost, name=name, modest=modest, count=count), MEANS * simulations, f"{name}, {count} rows"
            )
            rows.append([name, str(count), *(share(run[measure.key] for run in told) for measure in measures)])
    return table(["case", "rows", *(measure.title for measure in measures)], rows)


def cost(seed: int, name: str, modest: dict[str, float], count: int) -> dict[str, bool]:
    """Whether there is a verdict. `modest` has the factor of the second arm's logits for each measure."""
    random, (truth, sure) = np.random.default_rng(seed), COSTS[name]
    z = random.normal(size=count)
    labels = luck(random, special.expit(-truth(z)))
    first = two_classes(sure(z), labels)
    pairs = {key: (first, two_classes(factor * sure(z), labels)) for key, factor in modest.items()}
    return {key: resampled(*pair, MEASURE[key], 0).verdict != "cannot tell" for key, pair in pairs.items()}


def as_dear(measure: Measure, truth: Logits, sure: Logits) -> float:
    """Factor for the logits of an overconfident arm that makes it underconfident at the same cost."""

    def cost(factor: float) -> float:
        def at(z: float) -> float:
            logit, right = np.full(2, sure(np.float64(z))), special.expit(truth(np.float64(z)))
            assert isinstance(measure.strategy, RowMean)
            each = measure.strategy.per_row(two_classes(factor * logit, np.array([0, 1])))
            return float(stats.norm.pdf(z) * (right * each[0] + (1 - right) * each[1]))

        return float(integrate.quad(at, -8, 8, points=[0.0])[0])

    least = optimize.minimize_scalar(cost, bounds=(0, 1), method="bounded").x
    return float(optimize.brentq(lambda factor: cost(factor) - cost(1.0), 0, least))


def two_classes(logits: Array, labels: Labels) -> Predictions:
    """Rows with these logits for the first of two classes."""
    return Predictions.of(special.expit(np.stack([logits, -logits], 1)), labels)


def everywhere(p: float) -> Logits:
    """The same probability for all rows."""
    return lambda z: np.full_like(z, special.logit(p))


COSTS: dict[str, tuple[Logits, Logits]] = {
    "one has confidence .97 in answers that are right 90% of the time": (everywhere(0.9), everywhere(0.97)),
    "one has 1.6 times the true logits, 80% of answers right": (lambda z: 2.5 * z, lambda z: 4 * z),
    "one has 1.8 times the true logits, 90% of answers right": (lambda z: 5 * z, lambda z: 9 * z),
}


def harm_table(world: World, simulations: int) -> str:
    """Verdicts if the first arm is worse by three standard errors."""
    header = ["measure", "true difference / standard error", "interval covers it", "significant, right direction"]
    header.append("significant, wrong direction")
    gaps, effects = pilot(world)
    rows = []
    for key, measure in MEASURE.items():
        harm = float(np.interp(EFFECT, effects[key], HARMS))
        gap = float(np.interp(harm, HARMS, gaps[key]))
        worse = "worse" if (gap < 0) == measure.higher_is_better else "better"
        told = over_seeds(partial(of_one, world=world, harm=harm, key=key), CHEAP * simulations, measure.title)
        rows.append(
            [
                measure.title,
                f"{abs(gap) / np.std([one.value for one in told]):.2f}",
                share(one.low <= gap <= one.high for one in told),
                share(one.verdict == worse for one in told),
                share(one.verdict not in (worse, "cannot tell") for one in told),
            ]
        )
    return table(header, rows)


def pilot(world: World, pilots: int = PILOTS) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """True difference for each measure and each of `HARMS`, and the same in standard errors."""
    gaps, effects = defaultdict(list), defaultdict(list)
    for harm in HARMS:
        true = gaps_of(0, world, MANY, harm)
        some = over_seeds(partial(gaps_of, world=world, rows=world.rows, harm=harm), pilots, f"pilot, harm {harm}")
        for key in MEASURE:
            gaps[key].append(true[key])
            effects[key].append(abs(true[key]) / float(np.std([one[key] for one in some])))
    return gaps, effects


def gaps_of(seed: int, world: World, rows: int, harm: float) -> dict[str, float]:
    """The difference of two arms in each measure."""
    labels, *arms = world.draw(np.random.default_rng(seed), rows, harm)
    first, second = (Predictions.of(p, labels) for p in arms)
    return {key: measure.value(first) - measure.value(second) for key, measure in MEASURE.items()}


def of_one(seed: int, world: World, harm: float, key: str) -> Difference:
    """The report's verdict on one measure's difference."""
    labels, *arms = world.draw(np.random.default_rng(seed), world.rows, harm)
    first, second = (Predictions.of(p, labels) for p in arms)
    return resampled(first, second, MEASURE[key], seed)


def resampled(rows: Predictions, base: Predictions, measure: Measure, seed: int) -> Difference:
    """Compute the difference as the report does."""
    fitted = rows.fitted is not None and not measure.strategy.from_left_out
    measures = [measure] if measure.strategy.resamples_difference or fitted else []
    return difference(measure, *(resample(one, seed=seed, measures=measures) for one in (rows, base)))


def covered(estimates: Sequence[Estimate | Difference], truth: float) -> str:
    """How often the intervals cover the truth, among those that exist."""
    given = [one for one in estimates if not np.isnan(one.low)]
    if not given:
        return "no interval"
    held = share(one.low <= truth <= one.high for one in given)
    return held if len(given) == len(estimates) else f"{held} of {len(given) / len(estimates):.0%} with an interval"


def share(happened: Iterable[bool]) -> str:
    """Format how often this happened, in percent."""
    return f"{np.mean(list(happened)):.1%}"


if __name__ == "__main__":
    main()
