"""How narrow an interval for a difference of two ECEs can be, if it has to hold whatever the gaps are.

    python -m benchmarks.evaluation.least_width [--runs N]

Two arms have as many gaps as there are bins. The observed gaps are normal around the true ones, with a known standard
error of 1, and those of both arms in a bin are correlated. The measure is the sum of the absolute gaps of the first arm
minus that of the second. The gaps of an arm have one size and random signs. An arm whose gaps are 0 is calibrated. In
the second table, the second arm has gaps in a few bins only.

The mean length of an interval is the integral, over all values t, of the probability that it contains t (Pratt 1961).
An interval that holds 95% for all gaps is a test at 5% of each t. So it contains t at least as often as the most
powerful test accepts gaps whose difference is t (Neyman and Pearson 1933). The gaps for t have one size in each arm,
and random signs. Any choice of them gives a bound, and a better choice would raise it.
"""

import argparse
import itertools
import math
from functools import partial

import numpy as np
from bayesian_text_classification.evaluation.statistics.gap_sums import GapSum, gaps_interval
from bayesian_text_classification.evaluation.statistics.intervals import RESAMPLES
from scipy import integrate, special

from benchmarks.common import Array
from benchmarks.results import table, write_section
from benchmarks.simulation import over_seeds

# Number of gaps, correlation of the arms, and sizes of both arms' gaps in standard errors.
CASES = (
    (5, 0.5, (0.0, 0.0)), (10, 0.0, (0.0, 0.0)), (10, 0.5, (0.0, 0.0)), (10, 0.9, (0.0, 0.0)), (30, 0.5, (0.0, 0.0)),
    (10, 0.5, (1.0, 0.0)), (10, 0.5, (3.0, 0.0)), (30, 0.5, (1.0, 0.0)), (30, 0.5, (3.0, 0.0)),
    (10, 0.5, (2.0, 1.0)), (10, 0.9, (2.0, 1.0)), (30, 0.5, (2.0, 1.0)), (10, 0.5, (3.0, 2.0)),
    (5, 0.95, (2.0, 1.0)), (100, 0.9, (1.0, 0.5)),
)  # fmt: skip
# Number of gaps, correlation of the arms, size of the first arm's gaps, and number and size of the second arm's gaps.
FEW = (
    (10, 0.5, 1.0, 1, 5.0), (10, 0.5, 1.0, 2, 5.0), (10, 0.5, 1.0, 4, 5.0), (10, 0.9, 1.0, 1, 8.0),
    (10, 0.5, 0.8, 1, 10.0), (10, 0.5, 5.0, 1, 5.0), (30, 0.5, 1.0, 3, 5.0), (30, 0.5, 1.0, 5, 5.0),
    (30, 0.5, 1.0, 6, 5.0), (30, 0.5, 5.0, 3, 5.0),
)  # fmt: skip
HEADER = ("number of gaps", "correlation", "sizes of the gaps", "least width, 95%", "least width, 92%", "ours, 95%",
          "ours holds the truth", "first is higher", "second is higher")  # fmt: skip
FEW_HEADER = ("number of gaps", "correlation", "sizes of the gaps", "truth", "ours, 95%", "ours holds the truth",
              "first is higher", "second is higher")  # fmt: skip
DRAWS = 20_000  # for the bound
CHANGES = np.linspace(0, 6, 41)  # of a size, in standard errors. A larger change than 6 would only raise the bound.
Sizes = tuple[float, float]  # of the gaps of both arms


def noise(random: np.random.Generator, draws: int, gaps: int, correlation: float) -> tuple[Array, Array]:
    """Noise of the gaps of both arms. *Shape:* (draws, gaps) each."""
    first, own = random.normal(size=(2, draws, gaps))
    return first, correlation * first + math.sqrt(1 - correlation**2) * own


def likelihood(first: Array, second: Array, sizes: Sizes, correlation: float) -> Array:
    """Log likelihood of gaps of these sizes and of random signs, up to a constant. *Shape:* (draws,)."""
    terms = []
    for one, other in itertools.product((-1, 1), (-1, 1)):
        x, y = first - one * sizes[0], second - other * sizes[1]
        terms.append((x**2 - 2 * correlation * x * y + y**2) / (-2 * (1 - correlation**2)))
    return np.asarray(special.logsumexp(terms, axis=0).sum(1))


def accepts(other: Sizes, true: Sizes, gaps: int, correlation: float, level: float) -> float:
    """How often the most powerful test at `level` accepts gaps of the sizes `other`."""
    random, ratios = np.random.default_rng(0), []
    for sizes in (other, true):
        both = noise(random, DRAWS, gaps, correlation)
        found = [one + size * random.choice([-1, 1], one.shape) for one, size in zip(both, sizes, strict=True)]
        ratios.append(likelihood(*found, other, correlation) - likelihood(*found, true, correlation))
    accepted = float(np.mean(ratios[1] >= np.quantile(ratios[0], level)))
    return min(accepted, 1 - level)  # for equal sizes every ratio is 0, which looks as if the test always accepted


def least_length(gaps: int, correlation: float, true: Sizes, level: float) -> float:
    """A bound for the mean length, over the signs, of an interval that holds `1 - level` whatever the gaps are."""

    def likeliest(*others: Sizes) -> float:
        return max(accepts(other, true, gaps, correlation, level) for other in others if min(other) >= 0)

    first, second = true
    upper = [likeliest((first + size, second), (first, second - size)) for size in CHANGES]
    lower = [likeliest((first, second + size), (first - size, second)) for size in CHANGES]
    return gaps * float(integrate.trapezoid(lower, CHANGES) + integrate.trapezoid(upper, CHANGES))


def ours(seed: int, sizes: tuple[Array, Array], correlation: float) -> tuple[float, float]:
    """The ends of our interval. `sizes` has those of the gaps of both arms. *Shape:* (gaps,) each."""
    random, sums, gaps = np.random.default_rng(seed), [], len(sizes[0])
    observed, again = noise(random, 1, gaps, correlation), noise(random, RESAMPLES, gaps, correlation)
    for size, one, more in zip(sizes, observed, again, strict=True):
        seen = (one + size * random.choice([-1, 1], gaps))[0]
        calibrated = np.full(gaps, math.sqrt(2 / math.pi))
        sums.append(GapSum(float(np.abs(seen).sum()), np.abs(seen + more).sum(1), np.abs(seen), calibrated))
    return gaps_interval(*sums, most=math.inf)


def measured(sizes: tuple[Array, Array], correlation: float, runs: int, title: str) -> tuple[float, list[str]]:
    """The range that holds 95% of the differences, and the cells about our interval."""
    low, high = np.array(over_seeds(partial(ours, sizes=sizes, correlation=correlation), runs, title)).T
    random = np.random.default_rng(0)
    both = noise(random, 5 * DRAWS, len(sizes[0]), correlation)
    first, second = (
        np.abs(one + size * random.choice([-1, 1], one.shape)).sum(1) for size, one in zip(sizes, both, strict=True)
    )
    spread, truth = float(np.subtract(*np.quantile(first - second, [0.975, 0.025]))), sizes[0].sum() - sizes[1].sum()
    held, width = np.mean((low <= truth) & (truth <= high)), f"{(high - low).mean() / spread:.2f}"
    return spread, [width, f"{held:.1%}", f"{np.mean(low > 0):.1%}", f"{np.mean(high < 0):.1%}"]


def row(gaps: int, correlation: float, true: Sizes, runs: int) -> list[str]:
    """The bounds and our interval, as shares of the range that holds 95% of the differences."""
    sizes = np.full(gaps, true[0]), np.full(gaps, true[1])
    spread, cells = measured(sizes, correlation, runs, f"{gaps} gaps, {correlation}, {true}")
    least = (f"{least_length(gaps, correlation, true, level) / spread:.2f}" for level in (0.05, 0.08))
    return [str(gaps), str(correlation), f"{true[0]:g} and {true[1]:g}", *least, *cells]


def few_row(gaps: int, correlation: float, first: float, count: int, second: float, runs: int) -> list[str]:
    """Our interval if all gaps of the second arm are in a few bins."""
    sizes = np.full(gaps, first), np.where(np.arange(gaps) < count, second, 0.0)
    name = f"{first:g} in all, and {second:g} in {count}"
    _, cells = measured(sizes, correlation, runs, f"{gaps} gaps, {correlation}, {name}")
    return [str(gaps), str(correlation), name, f"{gaps * first - count * second:+g}", *cells]


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2_000)
    runs = parser.parse_args().runs
    body = (
        f"{runs} runs of each case. A width is that of the mean interval, as a share of the range that holds 95% of "
        "the differences. Sizes are in standard errors. An interval that holds whatever the gaps are has at least the "
        "least width, on average over the signs of the gaps (within .01, the error of the simulation). An arm is "
        "higher if the difference is significant.\n\n"
    )
    body += table(HEADER, [row(*case, runs) for case in CASES])
    body += "\n\nAll gaps of the second arm are in a few bins:\n\n"
    body += table(FEW_HEADER, [few_row(*case, runs) for case in FEW])
    write_section("The least width of an interval", f"python -m benchmarks.evaluation.least_width --runs {runs}", body)


if __name__ == "__main__":
    main()
