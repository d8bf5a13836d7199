"""The interval for a difference of two sums of absolute gaps, such as two ECEs."""

from dataclasses import dataclass

from .intervals import Interval, normal_interval
from .predictions import Array

# Chosen by simulation: differences from an arm that is calibrated or a little off are covered, and null differences are
# rarely significant.
CLEARLY = 2.5  # standard errors that a sum may exceed its noise, or a distance be too small, by chance
_USUAL = 0.9  # standard errors that the sum of a calibrated arm often exceeds its noise
_CALIBRATED = -0.5, 0.2  # standard errors above its noise up to which an arm counts as calibrated, fully and at all
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
    def bias(self) -> float:
        """How much noise may have added to the sum.

        All of `noise` for a sum up to 0.9 standard errors above it, less beyond, and nothing from 2.5 on. The resamples
        show what noise adds to an arm that is off, and too little of what it adds to a calibrated one. So the larger of
        the two is used. An arm whose gaps are all in a few bins has more noise than either says.
        """
        return max(self.noise * self._remaining(_USUAL, CLEARLY), float(self.resampled.mean()) - self.value)

    @property
    def calibrated(self) -> float:
        """To what degree the arm counts as calibrated.

        1 for a sum at least 0.5 standard errors below its noise, 0 from 0.2 standard errors above it on.
        """
        return self._remaining(*_CALIBRATED)

    def _remaining(self, start: float, end: float) -> float:
        """1 up to `start`, 0 from `end` on, and linear between: in standard errors that the sum exceeds its noise.

        If all resamples are equal, 1 up to the noise and 0 above it.
        """
        excess, error = self.value - self.noise, self.standard_error
        if not error:
            return float(excess <= 0)
        return min(max((end - excess / error) / (end - start), 0.0), 1.0)

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
    - The sum of a calibrated arm is all noise, and that of an arm with large gaps in all bins has none. The true
      difference may be larger than d by the noise in `theirs`, and the upper end extends by it. The same labels make
      part of the noise in `mine`, so the upper end extends by less if there is any. It extends up to the upper end of
      `mine` alone and up to `most`, because `theirs` is not negative. The lower end mirrors that.
    - If `theirs` is calibrated, d is too small by its noise. So where the interval is clear of 0, its lower end moves
      along, to the degree that `theirs` counts as calibrated. This changes no verdict, and intervals of large
      differences are narrower.

    If the gaps of one arm are in a few bins and those of the other in all, the first arm looks worse than it is, and
    the interval holds the truth too rarely.

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
    lower = max(min(mine.bias - _SHARED * theirs.bias, low + min(theirs.high, most)), 0.0)
    higher = max(min(theirs.bias - _SHARED * mine.bias, min(mine.high, most) - high), 0.0)
    low, high = (
        min(_toward_zero(low, max(-pull, 0.0)), low - lower),
        max(-_toward_zero(-high, max(pull, 0.0)), high + higher),
    )
    low_along, high_along = higher * theirs.calibrated, lower * mine.calibrated
    return _from_zero(low, low_along, value), -_from_zero(-high, high_along, -value)


def _from_zero(low: float, distance: float, value: float) -> float:
    """Raise a positive lower end by up to this distance: at most to twice its value, and two thirds of the way up."""
    return low + min(distance, low, (value - low) * 2 / 3) if low > 0 else low


def _toward_zero(low: float, distance: float) -> float:
    """Lower a lower end by up to this distance: in full if it then reaches 0, not at all from twice the distance."""
    return min(low, max(low - distance, 2 * (low - distance)))
