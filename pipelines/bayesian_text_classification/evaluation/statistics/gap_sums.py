"""The interval for a difference of two sums of absolute gaps, such as two ECEs."""

import math
from dataclasses import dataclass

import numpy as np

from .intervals import Interval, normal_interval
from .predictions import Array

# Chosen by simulation: differences from an arm that is calibrated or a little off are covered, and null differences are
# rarely significant.
CLEARLY = 2.5  # standard errors that a sum may exceed its noise, or a distance be too small, by chance
_USUAL = 0.9  # standard errors that the sum of a calibrated arm often exceeds its noise
_CALIBRATED = -0.5, 0.2  # standard errors above its noise up to which an arm counts as calibrated, fully and at all
_OFF = 2.5, 3.0  # in standard errors of a gap: its bin counts fully below the first, not at all above the second
_SHARED = 1 / 3  # share of the noise of one sum that the other one has too


@dataclass(frozen=True)
class GapSum:
    """A sum of absolute gaps in one arm.

    Attributes:
        value: The sum.
        resampled: The sum on resamples of the rows. *Shape:* (resamples,).
        gaps: The absolute gaps. Their sum is `value`, but for the correction of a fit. *Shape:* (bins,).
        noise_by_bin: What the gaps would be on average if the arm were calibrated, from sampling noise alone. *Shape:*
            (bins,).
    """

    value: float
    resampled: Array
    gaps: Array
    noise_by_bin: Array

    @property
    def noise(self) -> float:
        """What the sum would be if the arm were calibrated."""
        return float(self.noise_by_bin.sum())

    @property
    def possible_noise(self) -> float:
        """How much noise may have added to the sum.

        All of `noise` for a sum up to 0.9 standard errors above it, less beyond, and nothing from 2.5 on. The resamples
        show what noise adds to an arm that is off, and too little of what it adds to a calibrated one. So the larger of
        the two is used. An arm whose gaps are all in a few bins has more noise than either says: see
        `possible_noise_of_rest`.
        """
        added = self.noise * _faded(self.value - self.noise, self.standard_error, _USUAL, CLEARLY)
        return max(added, float(self.resampled.mean()) - self.value)

    @property
    def possible_noise_of_rest(self) -> float:
        """How much noise may have added in the bins that are not clearly off, judged by these bins alone.

        A bin counts up to a gap of 2.5 standard errors, partly beyond, and not at all from 3 on. Its share of the
        variance of the sum is that of the noise.
        """
        errors = self.noise_by_bin * math.sqrt(math.pi / 2)  # the mean size of a normal gap is sqrt(2 / pi) of them
        sizes = np.divide(self.gaps, errors, out=np.full(len(errors), np.inf), where=errors > 0)
        counted = np.clip((_OFF[1] - sizes) / (_OFF[1] - _OFF[0]), 0, 1)
        noise = float(counted @ self.noise_by_bin)
        if not noise:
            return 0.0
        excess = self.value - float((1 - counted) @ self.gaps) - noise
        shares = errors / errors.max()  # their squares cannot underflow
        share = float(np.linalg.norm(counted * shares) / np.linalg.norm(shares))
        return noise * _faded(excess, share * self.standard_error, _USUAL, CLEARLY)

    @property
    def calibrated(self) -> float:
        """To what degree the arm counts as calibrated.

        1 for a sum at least 0.5 standard errors below its noise, 0 from 0.2 standard errors above it on.
        """
        return _faded(self.value - self.noise, self.standard_error, *_CALIBRATED)

    @property
    def standard_error(self) -> float:
        """Standard deviation of the resamples."""
        return float(self.resampled.std(ddof=1))

    @property
    def high(self) -> float:
        """Upper end of an interval for the sum on many rows."""
        return normal_interval(self.value, self.resampled)[1]


def gaps_interval(mine: GapSum, theirs: GapSum, *, most: float) -> Interval:
    """Interval for a difference d of two sums of absolute gaps, which have a kink where a gap is 0.

    It starts from `d +- z s`, with the standard deviation s of the resamples, and extends.

    - *Kink.* Suppose one arm is overconfident and the other is underconfident. Then noise in the labels decides which
      one looks better, and resamples vary too little around that outcome. Their mean shows it, because it is closer to
      0. So the end near 0 extends by the distance of the mean from d, as far as the verdict depends on it.
    - *Noise.* The sum of a calibrated arm is all noise, and a large gap has none. The true difference may be larger
      than d by the noise in `theirs`, and the upper end extends by it. The same labels make part of the noise in
      `mine`, so the upper end extends by less if there is any. It extends up to the upper end of `mine` alone and up to
      `most`, because `theirs` is not negative. The lower end mirrors that.
    - *Few bins.* A sum may be large because of a few bins alone. Then its size says nothing about the noise in the
      others. So the upper end extends at least by how much more noise `theirs` may have than `mine` in the bins that
      are not clearly off. The lower end mirrors that. This holds the truth too rarely if `mine` is off a little in all
      bins: then it may seem to have all of its noise, and has little. Subtracting only a third of it would cover that
      case, but find fewer true differences and make intervals from a calibrated arm much wider.
    - *Moving along.* If `theirs` is calibrated, d is too small by its noise. So where the interval is clear of 0, its
      lower end moves along, to the degree that `theirs` counts as calibrated. This changes no verdict, and intervals of
      large differences are narrower.

    `benchmarks/evaluation/` shows how often the interval is right: `calibrated_arm.py`, `gap_shapes.py`,
    `least_width.py`, `null_verdicts.py` and `verdict.py`.

    Args:
        mine: The sum from which the other one is subtracted.
        theirs: The other sum.
        most: Largest difference of the two, in either direction, if their bins are equal.
    """
    value, apart = mine.value - theirs.value, mine.resampled - theirs.resampled
    low, high = normal_interval(value, apart)
    pull = float(apart.mean()) - value
    # Noise and few bins: how far the ends extend.
    lower = max(min(_noisier(mine, theirs), low + min(theirs.high, most)), 0.0)
    higher = max(min(_noisier(theirs, mine), min(mine.high, most) - high), 0.0)
    # Kink: the farther of that end and the pulled one.
    low, high = (
        min(_toward_zero(low, max(-pull, 0.0)), low - lower),
        max(-_toward_zero(-high, max(pull, 0.0)), high + higher),
    )
    # Moving along.
    low_along, high_along = higher * theirs.calibrated, lower * mine.calibrated
    return _from_zero(low, low_along, value), -_from_zero(-high, high_along, -value)


def _noisier(one: GapSum, other: GapSum) -> float:
    """How much more noise may have added to `one` than to `other`."""
    whole = one.possible_noise - _SHARED * other.possible_noise
    return max(whole, one.possible_noise_of_rest - other.possible_noise_of_rest)


def _faded(excess: float, error: float, start: float, end: float) -> float:
    """1 for an excess up to `start` standard errors, 0 from `end` on, and linear between.

    With an error of 0, 1 up to 0 and 0 above it.
    """
    if not error:
        return float(excess <= 0)
    return min(max((end - excess / error) / (end - start), 0.0), 1.0)


def _from_zero(low: float, distance: float, value: float) -> float:
    """Raise a positive lower end by up to this distance: at most to twice its value, and two thirds of the way up."""
    return low + min(distance, low, (value - low) * 2 / 3) if low > 0 else low


def _toward_zero(low: float, distance: float) -> float:
    """Lower a lower end by up to this distance: in full if it then reaches 0, not at all from twice the distance."""
    return min(low, max(low - distance, 2 * (low - distance)))
