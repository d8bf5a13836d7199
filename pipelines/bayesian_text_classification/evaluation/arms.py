"""Arms of a comparison: probabilities of the same rows in several ways, measured on the same resamples."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..metric import load_metric_module
from ..pipeline.temperature import apply_temperature, fit_temperature, leave_one_out
from .estimates import difference, estimate, resample
from .intervals import Difference, Estimate, wilson
from .measures import MEASURES
from .predictions import BINS, Predictions
from .strategies import Resamples

Probabilities = NDArray[np.floating]
Labels = NDArray[np.int64]

ArmName = Literal["frequentist", "frequentist_temperature", "baal", "bayesian", "bayesian_temperature"]

TITLES: dict[str, str] = {
    "frequentist": "Frequentist",
    "frequentist_temperature": "Frequentist + temperature",
    "baal": "BaaL (patch_module)",
    "bayesian": "Bayesian",
    "bayesian_temperature": "Bayesian + temperature",
}


@dataclass(frozen=True)
class Cost:
    """What an arm's probabilities took.

    Attributes:
        passes: forward passes for each text.
        dropout_sites: modules whose dropout is on.
        dropout_calls: calls of dropout that are on in one pass; a module may be called more than once.
        seconds: wall-clock time of all passes; NaN where nobody took it.
    """

    passes: int = 1
    dropout_sites: int = 0
    dropout_calls: int = 0
    seconds: float = float("nan")


@dataclass(frozen=True)
class Reliability:
    """The bins of a reliability diagram: B + 1 edges, and what each bin holds; of an empty bin None.

    `accuracy_interval` is Wilson's, at 95 %.
    """

    edges: list[float]
    counts: list[int]
    mean_confidence: list[float | None]
    accuracy: list[float | None]
    accuracy_interval: list[tuple[float, float] | None]


@dataclass(frozen=True)
class Arm:
    """One way to get probabilities, measured.

    Attributes:
        name: see `ArmName`.
        cost: what it took.
        temperature: fitted on all rows, while each row is scored with that of all the others; or on other rows. None
            for an arm without.
        untempered: the probabilities before the temperature. *Shape:* (texts, classes).
        probabilities: *Shape:* (texts, classes).
        estimates: each of `MEASURES` by its key.
        null_ece: what a perfectly calibrated model with these probabilities would measure, with its 95 % band.
        reliability: the bins behind the ECE.
        differences: each measure less the first arm's, by its key; empty for that arm itself.
    """

    name: ArmName
    cost: Cost
    temperature: float | None
    untempered: Probabilities
    probabilities: Probabilities
    estimates: dict[str, Estimate]
    null_ece: Estimate
    reliability: Reliability
    differences: dict[str, Difference] = field(default_factory=dict)

    @property
    def deployed(self) -> Probabilities:
        """What the arm gives in production, at its one temperature: (texts, classes)."""
        return self.untempered if self.temperature is None else apply_temperature(self.untempered, self.temperature)


@dataclass(frozen=True)
class Temperatures:
    """The temperature of each row, fitted on others: (rows,); and that of all rows."""

    of_rows: NDArray[np.float64]
    all_rows: float

    @classmethod
    def fitted(
        cls, probabilities: Probabilities, labels: Labels, known: tuple[Probabilities, Labels] | None = None
    ) -> "Temperatures":
        """From other rows and labels that are `known`; else of each row from all the others."""
        if known is not None:
            temperature = fit_temperature(*known)
            return cls(np.full(len(labels), temperature), temperature)
        temperature = fit_temperature(probabilities, labels)
        return cls(leave_one_out(probabilities, labels, temperature), temperature)


class MeasuredArms:
    """Arms on the same rows and the same resamples."""

    def __init__(self, labels: Labels, seed: int) -> None:
        self._labels, self._seed = labels, seed
        self._drawn: dict[str, Resamples] = {}

    def arm(
        self,
        name: ArmName,
        probabilities: Probabilities,
        cost: Cost | None = None,
        temperatures: Temperatures | None = None,
    ) -> Arm:
        """Measure `probabilities`, beside the first arm that was measured."""
        tempered, ranked = probabilities, None
        if temperatures is not None:
            tempered = apply_temperature(probabilities, temperatures.of_rows)
            ranked = apply_temperature(probabilities, temperatures.all_rows)
        rows = Predictions.of(tempered, self._labels, ranked)
        self._drawn[name] = drawn = resample(rows, seed=self._seed)
        bins = load_metric_module().bin_sums(rows.probabilities, rows.labels, n_bins=BINS)
        first = next(iter(self._drawn))
        return Arm(
            name,
            cost or Cost(),
            None if temperatures is None else temperatures.all_rows,
            probabilities,
            tempered,
            {measure.key: estimate(measure, drawn) for measure in MEASURES},
            Estimate(drawn.ece.null, *drawn.ece.null_interval),
            Reliability(
                **bins.as_dict(),
                accuracy_interval=[
                    wilson(*bin_) if bin_[1] else None for bin_ in zip(bins.correct, bins.counts, strict=True)
                ],
            ),
            {} if first == name else self.differences(name, first),
        )

    def differences(self, name: ArmName, base: str) -> dict[str, Difference]:
        """Every measure of one arm less that of another."""
        mine, theirs = self._drawn[name], self._drawn[base]
        return {measure.key: difference(measure, mine, theirs) for measure in MEASURES}
