"""The interval for a difference of two sums of absolute gaps, such as two ECEs."""

from dataclasses import dataclass

from .intervals import Interval, normal_interval
from .predictions import Array

# Chosen by simulation: differences from a calibrated arm are covered, and null differences are rarely significant.
CLEARLY = 2.5  # standard errors that a sum may exceed its noise, or a distance be too small, by chance
_SHARED = 1 / 3  # share of the noise of one sum that the other one has too


@dataclass(frozen=True)
class GapSum:
    """A sum of absolute gaps in one arm.

    Attributes:
        value: The sum.
        resampled: The sum on resamples of the rows. *Shape:* (resamples,).
        noise: What the sum would be if the arm were calibrated, from sampling noise alone.
    """

    value: float
    resampled: Array
    noise: float

    @property
    def by_chance(self) -> float:
        """How much of the sum may be noise: all of `noise` for a sum up to that, nothing 2.5 standard errors above."""
        beyond, clear = max(self.value - self.noise, 0.0), CLEARLY * self.standard_error
        return self.noise * (1 - min(beyond / clear, 1.0)) if clear else self.noise * (not beyond)

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

    - Suppose one arm is overconfident and the other is underconfident. Then noise in the labels decides which one looks
      better, and resamples vary too little around that outcome. Their mean shows it, because it is closer to 0. So the
      end near 0 extends by the distance of the mean from d, as far as the verdict depends on it.
    - The sum of a calibrated arm is all noise, and that of an arm with large gaps has none. If `theirs` may be
      calibrated, the true difference may be larger than d by that noise, and the upper end extends by it. If `mine` may
      be calibrated too, the same labels make part of its noise, so the upper end extends by less. It extends up to the
      upper end of `mine` alone and up to `most`, because `theirs` is not negative. The lower end mirrors that.
    - The same noise makes d too small, so where the interval is clear of 0, its other end moves along. This
      changes no verdict, and intervals of large differences are narrower.

    `benchmarks/evaluation/` shows how often the interval is right: `calibrated_arm.py`, `gap_shapes.py`,
    `null_verdicts.py` and `verdict.py`.

    Args:
        mine: The sum from which the other one is subtracted.
        theirs: The other sum.
        most: Largest difference of the two, in either direction, if their bins are equal.
    """
    value, apart = mine.value - theirs.value, mine.resampled - theirs.resampled
    low, high = normal_interval(value, apart)
    pull = float(apart.mean()) - value
    lower = max(min(mine.by_chance - _SHARED * theirs.by_chance, low + min(theirs.high, most)), 0.0)
    higher = max(min(theirs.by_chance - _SHARED * mine.by_chance, min(mine.high, most) - high), 0.0)
    low, high = (
        min(_toward_zero(low, max(-pull, 0.0)), low - lower),
        max(-_toward_zero(-high, max(pull, 0.0)), high + higher),
    )
    return _from_zero(low, higher, value), -_from_zero(-high, lower, -value)


def _from_zero(low: float, distance: float, value: float) -> float:
    """Raise a positive lower end by up to this distance: at most to twice its value, and two thirds of the way up."""
    return low + min(distance, low, (value - low) * 2 / 3) if low > 0 else low


def _toward_zero(low: float, distance: float) -> float:
    """Lower a lower end by up to this distance: in full if it then reaches 0, not at all from twice the distance."""
    return min(low, max(low - distance, 2 * (low - distance)))
