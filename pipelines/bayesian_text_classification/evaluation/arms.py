"""Arms of a comparison: several sets of probabilities for the same rows, measured on the same resamples."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..metric import load_metric_module
from ..pipeline.temperature import LEAST, MOST, apply_temperature, fit_temperature, influence, leave_one_out
from .statistics.estimates import difference, estimate, null_of, resample
from .statistics.intervals import Difference, Estimate, wilson
from .statistics.measures import MEASURES
from .statistics.predictions import BINS, Fitted, Predictions, Sums, unweighted
from .statistics.strategies import Resamples

Probabilities = NDArray[np.floating]
Labels = NDArray[np.int64]

_AROUND = np.arange(-6, 7) / 2  # temperatures around a fitted one, in standard errors of 1/T

ArmName = Literal["frequentist", "frequentist_temperature", "baal", "bayesian", "bayesian_temperature", "saved"]

TITLES: dict[str, str] = {
    "frequentist": "Frequentist",
    "frequentist_temperature": "Frequentist + temperature",
    "baal": "BaaL (patch_module)",
    "bayesian": "Bayesian",
    "bayesian_temperature": "Bayesian + temperature",
    "saved": "As saved",
}


@dataclass(frozen=True)
class Cost:
    """Cost of an arm's probabilities.

    Attributes:
        passes: Forward passes per text.
        dropout_sites: Modules with active dropout.
        dropout_calls: Active dropout calls in one pass. A module may be called more than once.
        seconds: Wall-clock time of all passes; NaN if it was not measured.
    """

    passes: int = 1
    dropout_sites: int = 0
    dropout_calls: int = 0
    seconds: float = float("nan")


@dataclass(frozen=True)
class Reliability:
    """Bins of a reliability diagram: B + 1 edges and the contents of each bin.

    An empty bin has None for everything but its count. `accuracy_interval` is Wilson's 95% interval.
    """

    edges: list[float]
    counts: list[int]
    mean_confidence: list[float | None]
    accuracy: list[float | None]
    accuracy_interval: list[tuple[float, float] | None]

    @classmethod
    def of(cls, sums: Sums) -> "Reliability":
        """From the sums over the bins of one set of rows."""
        bins = list(zip(sums.counts[0].astype(int).tolist(), sums.confidence[0], sums.hits[0], strict=True))
        return cls(
            list(load_metric_module().uniform_edges(BINS)),
            [count for count, _, _ in bins],
            [float(confidence / count) if count else None for count, confidence, _ in bins],
            [float(hits / count) if count else None for count, _, hits in bins],
            [wilson(int(hits), count) if count else None for count, _, hits in bins],
        )


@dataclass(frozen=True)
class Arm:
    """One way to get probabilities, and its measurements.

    Attributes:
        name: One of `ArmName`.
        cost: Cost of the probabilities.
        temperature: Temperature fitted on all rows, or on other rows. In the first case, the estimates are for new
            texts; see `Temperatures`. None for an arm without a temperature.
        probabilities: Probabilities at that temperature, as in production. *Shape:* (texts, classes).
        estimates: Estimate of each of `MEASURES`, by its key.
        null_ece: ECE that a perfectly calibrated model with these probabilities would show, with its 95% band. The
            noise of a temperature is not in it.
        reliability: Bins of these rows. If the temperature was fitted on them, the ECE is corrected, the bins are not.
        differences: Each measure minus that of the first arm, by its key. Empty for the first arm.
    """

    name: ArmName
    cost: Cost
    temperature: float | None
    probabilities: Probabilities
    estimates: dict[str, Estimate]
    null_ece: Estimate
    reliability: Reliability
    differences: dict[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class Temperatures:
    """Temperatures of an arm.

    A temperature that was fitted on the measured rows flatters them. What is estimated is the procedure: fit on this
    many rows, then predict new ones. Means over rows, such as the NLL, are measured at leave-one-out temperatures.
    Other measures, such as the ECE, are corrected by refits on resamples; see `resample`. As without a temperature, an
    ECE includes what noise adds on this many rows, and its interval is for many rows.

    Attributes:
        temperature: The temperature, fitted on the measured rows or on others.
        left_out: Temperature of each row from all rows of other groups. None if the temperature was fitted on others.
            *Shape:* (rows,).
    """

    temperature: float
    left_out: NDArray[np.float64] | None = None

    @classmethod
    def fitted(
        cls,
        probabilities: Probabilities,
        labels: Labels,
        known: tuple[Probabilities, Labels] | None = None,
        groups: NDArray[np.intp] | None = None,
    ) -> "Temperatures":
        """Fit one temperature on `known` rows and labels. Without them, fit it on the rows themselves."""
        if known is not None:
            return cls(fit_temperature(*known))
        temperature = fit_temperature(probabilities, labels)
        return cls(temperature, leave_one_out(probabilities, labels, temperature, groups))

    def predictions(
        self, probabilities: Probabilities, labels: Labels, groups: NDArray[np.intp] | None = None
    ) -> Predictions:
        """The rows at the temperature."""

        def at(temperature: float | NDArray[np.float64]) -> Predictions:
            return Predictions.of(apply_temperature(probabilities, temperature), labels, groups)

        rows = at(self.temperature)
        if self.left_out is None:
            return rows
        speed, moves = 1 / self.temperature, influence(probabilities, labels, self.temperature)
        error = float(rows.over_draws(moves).std()) / math.sqrt(rows.draws)
        speeds = np.unique(np.clip(speed + error * _AROUND, 1 / MOST, 1 / LEAST))
        middle = int(np.argmin(np.abs(speeds - speed)))
        around = tuple(rows if k == middle else at(1 / one) for k, one in enumerate(speeds))
        return replace(rows, fitted=Fitted(at(self.left_out), moves, error, speeds, around, middle))


class MeasuredArms:
    """Measures arms on the same rows and the same resamples."""

    def __init__(self, labels: Labels, seed: int, groups: NDArray[np.intp] | None = None) -> None:
        self._labels, self._seed, self._groups = labels, seed, groups
        self._drawn: dict[str, Resamples] = {}

    def arm(
        self,
        name: ArmName,
        probabilities: Probabilities,
        cost: Cost | None = None,
        temperatures: Temperatures | None = None,
    ) -> Arm:
        """Measure `probabilities`, and their differences from the first arm that was measured."""
        if temperatures is None:
            rows = Predictions.of(probabilities, self._labels, self._groups)
        else:
            rows = temperatures.predictions(probabilities, self._labels, self._groups)
        self._drawn[name] = drawn = resample(rows, seed=self._seed)
        first = next(iter(self._drawn))
        return Arm(
            name,
            cost or Cost(),
            None if temperatures is None else temperatures.temperature,
            probabilities if temperatures is None else rows.probabilities,
            {measure.key: estimate(measure, drawn) for measure in MEASURES},
            null_of(drawn),
            Reliability.of(unweighted(rows).confidence_sums),
            {} if first == name else self.differences(name, first),
        )

    def differences(self, name: ArmName, base: str) -> dict[str, Difference]:
        """Every measure of one arm minus that of another."""
        mine, theirs = self._drawn[name], self._drawn[base]
        return {measure.key: difference(measure, mine, theirs) for measure in MEASURES}
