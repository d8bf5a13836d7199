"""How much the samples of a model vary, from a pilot: the prior of the standard errors of texts with few samples."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .masks import GROUP_SIZE
from .rates import Dropout
from .scaling import logits

PILOT_SAMPLES = 2 * GROUP_SIZE
PILOT_TEXTS = 64  # the most calibration texts that take the place of the pilot's
# Texts of several kinds and lengths. They never change: the standard errors of a model depend on them.
PILOT = (
    "A wonderful film.",
    "The plot is thin, but the actors save it.",
    "I would not recommend this to anyone.",
    "Where is my order? It should have arrived last week.",
    "Please cancel my subscription.",
    "What a day!",
    "The results were published on Monday.",
    "He said that he would come, and then he did not.",
    "It's fine, I guess.",
    "Can you tell me how far it is from the station to the hotel?",
    "No.",
    "The battery lasts two days, which is more than I expected for the price.",
    "Thanks for your help with this.",
    "The government announced new rules for small companies on Friday.",
    "Not bad at all, although the second half drags and the ending makes little sense.",
    "I am so angry about this that I do not know what to say.",
)
EXPECTED_BALANCE = 0.42  # prior of `Spread.balance`, which is 0.07 to 0.51 in five models with a dropout rate of 0.1
_HIGH_RATE = 0.25  # dropout rate above which balance is not expected to help
_BALANCE_OF_PAIRS = GROUP_SIZE / (GROUP_SIZE - 1)  # of what pairs of units do together, exact (see `subsets.py`)
_TEXTS = 5  # its weight, in texts that vary equally
_LEAST_BALANCE = 1e-3
_MOST_SHARE = 0.3


@dataclass(frozen=True)
class Spread:
    """How much the samples of a model vary.

    Attributes:
        share: Variance of a probability over the samples, as a share of m (1 - m), the most that its mean m allows.
        log_odds: Variance of its log odds.
        balance: Variance of the mean of a balanced group of samples, as a share of that of independent samples.
        dropout_rate: Mean dropout rate of the samples; None: any.
        dropout: The option `dropout` of the samples.
        activation: What made probabilities of the outputs; None: anything.
    """

    share: float
    balance: float
    log_odds: float = 0.0
    dropout_rate: float | None = None
    dropout: Dropout = None
    activation: str | None = None

    def shares(self, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expected variance of probabilities with these means, as shares of m (1 - m). *Shape:* that of `mean`.

        The larger one of two: `share`, and that of normal log odds with variance v, `(exp(v) - 1) m (1 - m)` for a
        small m, at most 0.3. `share` alone would be near 0 for a model that is sure of all texts of the pilot, whatever
        it does with an unsure one.
        """
        most = np.clip(mean * (1 - mean), 0, None)
        of_log_odds = np.minimum(math.expm1(min(self.log_odds, 10.0)) * most, _MOST_SHARE)
        return np.asarray(np.maximum(self.share, of_log_odds))

    def variance_of_mean(self, count: int, group_size: int) -> float:
        """Variance of the mean of `count` samples, as a share of that of one sample.

        The samples of a group are equally correlated, by `(balance - 1) / (group_size - 1)`. Groups are independent.
        """
        if group_size == 1:
            return 1 / count
        groups, rest = divmod(count, group_size)
        correlation = (self.balance - 1) / (group_size - 1)
        return (groups * group_size * self.balance + rest * (1 + max(rest - 1, 0) * correlation)) / count**2

    def is_for(self, dropout_rate: float, dropout: Dropout, activation: str) -> bool:
        """Whether it describes samples at these rates, with this activation."""
        if self.dropout_rate is not None:
            same = math.isclose(self.dropout_rate, dropout_rate, rel_tol=1e-6) and self.dropout == dropout
            return same and self.activation in (None, activation)
        return self.activation in (None, activation)

    def saved(self) -> dict[str, Any]:
        """The fields that are not None, as JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


UNKNOWN = Spread(0.1, 1.0)  # where nothing was measured; for most models at a dropout rate of 0.1, it is cautious


def spread_of(
    samples: NDArray[np.floating], dropout_rate: float, activation: str, dropout: Dropout = None
) -> Spread | None:
    """Estimate the spread from two balanced groups of samples of each text.

    `log_odds` is the mean over texts and classes. `share` is the sum of the variances over texts and classes, divided
    by that of m (1 - m). `balance` compares the variance of the two group means, which has one degree of freedom per
    text, with that of single samples. Its logarithm is shrunk toward that of 0.42, which counts as five texts that vary
    equally: in a model with two classes, a few of the texts account for most of the variance. At dropout rates above
    0.25 it is at least 10/9, which is exact if all the variance comes from pairs of units: groups balance single units,
    and at such rates little of the variance comes from those. With what a pilot found at a rate of 0.5, intervals of
    1.96 standard errors held only 85% of the limits.

    Args:
        samples: Probabilities. *Shape:* (texts, classes, 2 groups).
        dropout_rate: Mean dropout rate of the samples.
        activation: What made probabilities of the outputs.
        dropout: The option `dropout` of the samples.

    Returns:
        The spread; None if the samples do not vary, or are not finite.
    """
    p = np.asarray(samples, np.float64)
    mean, variances = p.mean(2), p.var(2, ddof=1)
    most = float((mean * (1 - mean)).sum())
    of_texts = variances.sum(1) / GROUP_SIZE
    total = float(of_texts.sum())
    if not math.isfinite(total) or total <= 0 or most <= 0:
        return None
    groups = p.reshape(*mean.shape, 2, GROUP_SIZE).mean(3)
    texts = total**2 / float((of_texts**2).sum())  # that vary equally
    found = max(float(groups.var(2, ddof=1).sum()) / total, _LEAST_BALANCE)
    log = math.log(found) + 1 / texts  # log(x) of a mean x of so many squares is low by about this much
    balance = math.exp((_TEXTS * math.log(EXPECTED_BALANCE) + texts * log) / (_TEXTS + texts))
    if dropout_rate > _HIGH_RATE:
        balance = max(balance, _BALANCE_OF_PAIRS)
    odds = float(logits(p).var(2, ddof=1).mean())
    return Spread(float(variances.sum()) / most, balance, odds, dropout_rate, dropout, activation)


def spread_of_saved(options: Mapping[str, Any]) -> Spread | None:
    """The spread in a model's saved options; None if there is none."""
    given = options.get("spread") or {}
    names = {one.name for one in fields(Spread)}  # a later version may save more
    return Spread(**{name: value for name, value in given.items() if name in names}) if given else None
