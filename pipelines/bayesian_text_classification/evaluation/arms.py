"""Arms of a comparison: several sets of probabilities for the same rows, measured on the same resamples."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..metric import load_metric_module
from ..pipeline.scaling import Scaling, TemperatureScaling
from .fits import Fit
from .heads import ArmName, Head
from .statistics.estimates import difference, estimate, resample
from .statistics.intervals import Difference, Estimate, wilson
from .statistics.measures import Measure
from .statistics.predictions import BINS, Sums
from .statistics.strategies import Resamples

Probabilities = NDArray[np.floating]
Labels = NDArray[np.int64]

TITLES: dict[str, str] = {
    "frequentist": "Frequentist",
    "frequentist_temperature": "Frequentist + temperature",
    "frequentist_platt": "Frequentist + Platt",
    "student": "Student",
    "student_temperature": "Student + temperature",
    "student_platt": "Student + Platt",
    "baal": "BaaL (patch_module)",
    "bayesian": "Bayesian",
    "bayesian_temperature": "Bayesian + temperature",
    "bayesian_platt": "Bayesian + Platt",
    "ensemble": "Ensemble",
    "ensemble_temperature": "Ensemble + temperature",
    "ensemble_platt": "Ensemble + Platt",
    "saved": "As saved",
    "scope": "Scope",  # of out-of-scope detection alone
}
OptionalArm = Literal["baal", "bayesian", "ensemble"]
OPTIONAL_ARMS: tuple[OptionalArm, ...] = ("baal", "bayesian", "ensemble")  # what runs besides the ordinary model
ARM_MASKS = "balanced"  # dropout masks of the Bayesian arms


def of_student(name: str) -> bool:
    """Whether the arm with this name is of a student, which is another model at the cost of the ordinary one."""
    return name.startswith("student")


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
    def of(cls, sums: Sums, trials: NDArray[np.float64]) -> "Reliability":
        """From the sums over the bins of one set of rows, and the number of independent rows in each bin."""
        bins = list(zip(sums.counts[0].astype(int).tolist(), sums.confidence[0], sums.hits[0], strict=True))
        return cls(
            list(load_metric_module().uniform_edges(BINS)),
            [count for count, _, _ in bins],
            [float(confidence / count) if count else None for count, confidence, _ in bins],
            [float(hits / count) if count else None for count, _, hits in bins],
            [
                wilson(float(hits / count) * number, number) if count else None
                for (count, _, hits), number in zip(bins, trials.tolist(), strict=True)
            ],
        )


@dataclass(frozen=True)
class Arm:
    """One way to get probabilities, and its measurements.

    Attributes:
        name: One of `ArmName`.
        cost: Cost of the probabilities.
        scaling: Temperature or Platt scaling, fitted on all rows, or on other rows. In the first case, the estimates
            are for new texts; see `Fit`. None for an arm without one.
        probabilities: Probabilities after that scaling, as in production. *Shape:* (texts, classes).
        estimates: Estimate of each measure of the head, by its key.
        null_ece: ECE that a perfectly calibrated model with these probabilities would show, with its 95% band. The
            noise of a scaling is not in it.
        reliability: Bins of these rows. If the scaling was fitted on them, the ECE is corrected, the bins are not.
        differences: Each measure minus that of the first arm, by its key. Empty for the first arm.
        by_label: For independent labels, estimates of each label's own measures, by its id. Else empty.
    """

    name: ArmName
    cost: Cost
    scaling: Scaling | None
    probabilities: Probabilities
    estimates: dict[str, Estimate]
    null_ece: Estimate
    reliability: Reliability
    differences: dict[str, Difference] = field(default_factory=dict)
    by_label: dict[int, dict[str, Estimate]] = field(default_factory=dict)

    @property
    def temperature(self) -> float | None:
        """The temperature; None for an arm without one."""
        return self.scaling.temperature if isinstance(self.scaling, TemperatureScaling) else None


class MeasuredArms:
    """Measures arms on the same rows and the same resamples."""

    def __init__(self, head: Head, labels: Labels, seed: int, groups: NDArray[np.intp] | None = None) -> None:
        self._head, self._labels, self._seed, self._groups = head, labels, seed, groups
        self._drawn: dict[str, Resamples] = {}
        self._known: dict[tuple[str, str, str], Difference] = {}

    def arm(self, name: ArmName, probabilities: Probabilities, cost: Cost | None = None, fit: Fit | None = None) -> Arm:
        """Measure `probabilities`, and their differences from the first arm that was measured."""
        head, measures = self._head, self._head.measures
        predictions = head.predictions if fit is None else fit.predictions
        rows = predictions(probabilities, self._labels, self._groups)
        self._drawn[name] = drawn = resample(rows, seed=self._seed, measures=measures)
        first = next(iter(self._drawn))
        return Arm(
            name,
            cost or Cost(),
            None if fit is None else fit.scaling,
            probabilities if fit is None else rows.probabilities,
            {measure.key: estimate(measure, drawn) for measure in measures},
            head.null_ece(drawn),
            Reliability.of(head.bins(rows), head.bin_trials(rows)),
            {} if first == name else self.differences(name, first),
            head.by_label(rows, self._seed),
        )

    def differences(self, name: ArmName, base: str) -> dict[str, Difference]:
        """Every measure of one arm minus that of another."""
        return {measure.key: self.difference(measure, name, base) for measure in self._head.measures}

    def difference(self, measure: Measure, name: ArmName, base: str) -> Difference:
        """A measure of one arm minus that of another."""
        place = measure.key, name, base
        if place not in self._known:
            self._known[place] = difference(measure, self._drawn[name], self._drawn[base])
        return self._known[place]
