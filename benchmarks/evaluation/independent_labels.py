"""Intervals and verdicts for independent labels, where the labels of a text belong together.

    python -m benchmarks.evaluation.independent_labels [--runs N]

By simulation, with known truth: 500 texts with ten labels, which apply to 1% to 50% of them. Given their probabilities,
the labels of a text have a correlation of 0.6. A width is that of the mean interval, as a share of the range that holds
95% of the values. An interval of one label needs ten texts that have it. Where only some of the runs have an interval,
the shares and widths are those of these runs, and there are two or four times as many runs.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
from bayesian_text_classification.evaluation.fits import PlattPairs
from bayesian_text_classification.evaluation.statistics.estimates import difference, estimate, resample
from bayesian_text_classification.evaluation.statistics.label_measures import LABEL_MEASURES, OF_EACH_LABEL
from bayesian_text_classification.evaluation.statistics.label_predictions import LabelPredictions
from scipy import special, stats

from benchmarks.attack import width
from benchmarks.common import Array
from benchmarks.results import table, write_section
from benchmarks.simulation import over_seeds

TEXTS, LABELS, TOGETHER = 500, 10, 0.6
MANY = 200_000  # texts that give the truth
MORE_FITS, MORE_OF_RAREST = 2, 4  # times as many runs where only some have an interval
MEASURED_FITS = 5  # one fit in so many is measured on them; the truth is the mean over fits
SHARP, BLURRED = (1.6, 0.0), (1.2, 0.8)  # times the true log odds, with errors of a size
FREQUENT, RARE, RAREST = 0, LABELS - 4, LABELS - 3  # labels that apply to 50%, 4% and 2% of the texts


def draw(random: np.random.Generator, texts: int, *arms: tuple[float, float]) -> tuple[Array, list[Array]]:
    """True labels, and the probabilities of arms with the true log odds plus errors of a size, times a sharpness."""
    middle = special.logit(np.geomspace(0.5, 0.01, LABELS))
    odds = middle * 1.3 + random.normal(0, 1.5, (texts, LABELS))
    luck = np.sqrt(TOGETHER) * random.normal(size=(texts, 1))
    luck = luck + np.sqrt(1 - TOGETHER) * random.normal(size=odds.shape)
    labels = (stats.norm.cdf(luck) < special.expit(odds)).astype(np.int64)
    return labels, [special.expit(sharp * (odds + random.normal(0, 1, odds.shape) * size)) for sharp, size in arms]


def rows_of(p: Array, labels: Array, fit: bool) -> tuple[LabelPredictions, PlattPairs | None]:
    """The rows of an arm, with a Platt scaling that is fitted on them if `fit`."""
    if not fit:
        return LabelPredictions.of(p, labels), None
    pairs = PlattPairs.fitted(p, labels)
    return pairs.predictions(p, labels), pairs


def truths(pairs: PlattPairs | None, arm: tuple[float, float]) -> Array:
    """The measures of an arm on many texts. *Shape:* (measures,)."""
    labels, (p,) = draw(np.random.default_rng(0), MANY, arm)
    rows = LabelPredictions.of(p if pairs is None else pairs.scaling.apply(p), labels)
    return np.array([measure.value(rows) for measure in LABEL_MEASURES])


def one_arm(seed: int, arm: tuple[float, float], fit: bool) -> Array:
    """Value, ends and truth of each measure, or NaN without a fit and in four of five runs. *Shape:* (measures, 4)."""
    labels, (p,) = draw(np.random.default_rng(seed), TEXTS, arm)
    rows, pairs = rows_of(p, labels, fit)
    drawn = resample(rows, seed=seed, measures=LABEL_MEASURES)
    found = [estimate(measure, drawn) for measure in LABEL_MEASURES]
    known = truths(pairs, arm) if fit and seed % MEASURED_FITS == 0 else np.full(len(found), np.nan)
    return np.array([(one.value, one.low, one.high, true) for one, true in zip(found, known, strict=True)])


def one_label(seed: int, label: int) -> Array:
    """Value, ends and NaN of each measure of one label. *Shape:* (measures, 4)."""
    labels, (p,) = draw(np.random.default_rng(seed), TEXTS, SHARP)
    drawn = resample(LabelPredictions.of(p, labels).of_label(label), seed=seed, measures=OF_EACH_LABEL)
    found = [estimate(measure, drawn) for measure in OF_EACH_LABEL]
    return np.array([(one.value, one.low, one.high, np.nan) for one in found])


def two_arms(seed: int, arms: tuple[tuple[float, float], tuple[float, float]], fits: tuple[bool, bool]) -> Array:
    """Value, ends and whether there is a verdict, for the difference of each measure. *Shape:* (measures, 4)."""
    labels, both = draw(np.random.default_rng(seed), TEXTS, *arms)
    drawn = []
    for p, fit in zip(both, fits, strict=True):
        drawn.append(resample(rows_of(p, labels, fit)[0], seed=seed, measures=LABEL_MEASURES))
    found = [difference(measure, *drawn) for measure in LABEL_MEASURES]
    return np.array([(one.value, one.low, one.high, one.verdict != "cannot tell") for one in found])


def needless(seed: int) -> Array:
    """A calibrated model with and without Platt scaling, in the form of `two_arms`; a verdict is "better".

    Platt scaling makes it worse, by the noise of the fit.
    """
    labels, (p,) = draw(np.random.default_rng(seed), TEXTS, (1.0, 0.0))
    drawn = [resample(rows_of(p, labels, fit)[0], seed=seed, measures=LABEL_MEASURES) for fit in (True, False)]
    found = [difference(measure, *drawn) for measure in LABEL_MEASURES]
    return np.array([(one.value, one.low, one.high, one.verdict == "better") for one in found])


def nearly_equal(seed: int) -> Array:
    """Two models that differ in a few answers, in the form of `two_arms`."""
    random = np.random.default_rng(seed)
    labels, (p,) = draw(random, TEXTS, SHARP)
    both = [special.expit(special.logit(p) + random.normal(0, 0.05, p.shape)) for _ in range(2)]
    drawn = [resample(LabelPredictions.of(one, labels), seed=seed, measures=LABEL_MEASURES) for one in both]
    found = [difference(measure, *drawn) for measure in LABEL_MEASURES]
    return np.array([(one.value, one.low, one.high, one.verdict != "cannot tell") for one in found])


def coverage(question: str, case: str, titles: list[str], found: Array, truth: Array) -> list[list[str]]:
    """Rows with the share of intervals that hold the truth. *Shape:* (runs, measures, 4) and (measures,)."""
    rows = []
    for k, title in enumerate(titles):
        known = found[~np.isnan(found[:, k, 1]), k]
        held = f"{np.mean((known[:, 1] <= truth[k]) & (truth[k] <= known[:, 2])):.1%}" if len(known) else ""
        spread = f"width {width(known)}; " if len(known) else ""
        rows.append(
            [question, f"{title}, {case}; {spread}interval in {len(known) / len(found):.0%}", "92 to 98%", held]
        )
    return rows


def false_verdicts(question: str, run: Callable[[int], Array], runs: int) -> list[list[str]]:
    """Rows with the share of significant differences where there is none."""
    found, titles = np.array(over_seeds(run, runs, question)), [measure.title for measure in LABEL_MEASURES]
    rows = [[question, title, "5%", f"{found[:, k, 3].mean():.1%}"] for k, title in enumerate(titles)]
    return [*rows, [question, "by at least one of the seven measures", "", f"{found[:, :, 3].any(1).mean():.1%}"]]


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    titles, rows = [measure.title for measure in LABEL_MEASURES], []
    plain = np.array(over_seeds(partial(one_arm, arm=SHARP, fit=False), runs, "value"))
    rows += coverage("the interval holds the truth", "1.6 times the true log odds", titles, plain, truths(None, SHARP))
    scaled = np.array(over_seeds(partial(one_arm, arm=SHARP, fit=True), MORE_FITS * runs, "with Platt scaling"))
    case = "with a Platt scaling that was fitted on the same texts"
    rows += coverage("the interval holds the truth", case, titles, scaled, np.nanmean(scaled[:, :, 3], 0))
    whole, (p,) = draw(np.random.default_rng(0), MANY, SHARP)
    for label in (FREQUENT, RARE, RAREST):
        own = LabelPredictions.of(p, whole).of_label(label)
        many = runs * (MORE_OF_RAREST if label == RAREST else 1)
        found = np.array(over_seeds(partial(one_label, label=label), many, f"label {label}"))
        case = f"one label that applies to {own.labels.mean():.0%} of the texts"
        truth = np.array([measure.value(own) for measure in OF_EACH_LABEL])
        names = [measure.title for measure in OF_EACH_LABEL]
        rows += coverage("the interval holds the truth", case, names, found, truth)
    apart = np.array(over_seeds(partial(two_arms, arms=(SHARP, BLURRED), fits=(False, False)), runs, "difference"))
    truth = truths(None, SHARP) - truths(None, BLURRED)
    case = "1.6 times the true log odds, minus 1.2 times these with errors"
    rows += coverage("the interval of a difference holds the truth", case, titles, apart, truth)
    alike = partial(two_arms, arms=(BLURRED, BLURRED), fits=(False, False))
    rows += false_verdicts("one of two equally good models is called better", alike, runs)
    with_fits = partial(two_arms, arms=(BLURRED, BLURRED), fits=(True, True))
    rows += false_verdicts("one of two equally good models with Platt scaling is called better", with_fits, runs)
    rows += false_verdicts("one of two models that hardly differ is called better", nearly_equal, runs)
    rows += false_verdicts("a calibrated model is called better with Platt scaling", needless, runs)
    fits, rarest = MORE_FITS * runs, MORE_OF_RAREST * runs
    body = f"{runs} runs of each case; {fits} with a Platt scaling on the same texts, {rarest} of the rarest label.\n\n"
    body += table(["question", "case", "asked", "measured"], rows)
    write_section("Independent labels", f"python -m benchmarks.evaluation.independent_labels --runs {runs}", body)


if __name__ == "__main__":
    main()
