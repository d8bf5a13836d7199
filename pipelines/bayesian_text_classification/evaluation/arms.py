"""Arms of a comparison: probabilities of the same rows in several ways, measured on the same resamples."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..metric import load_metric_module
from ..pipeline.temperature import apply_temperature, fit_temperature, leave_one_out
from .intervals import Difference, Estimate, Resamples, by_chance, difference, estimate, resample, wilson
from .measures import BINS, MEASURES, Scored

Probabilities = NDArray[np.floating]
Labels = NDArray[np.int64]


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
        name: "frequentist", "frequentist_temperature", "baal", "bayesian" or "bayesian_temperature".
        passes: forward passes for each text.
        dropout_sites: modules whose dropout is on.
        dropout_calls: calls of dropout that are on in one pass; a module may be called more than once.
        seconds: wall-clock time of all passes.
        temperature: fitted on all rows, while each row is scored with that of all the others; or on other rows.
        probabilities: (texts, classes).
        estimates: each of `MEASURES` by its key.
        null_ece: what a perfectly calibrated model with these probabilities would measure, with its 95 % band.
        reliability: the bins behind the ECE.
        differences: each measure less the frequentist arm's, by its key; empty for that arm itself.
    """

    name: str
    passes: int
    dropout_sites: int
    dropout_calls: int
    seconds: float
    temperature: float | None
    probabilities: Probabilities
    estimates: dict[str, Estimate]
    null_ece: Estimate
    reliability: Reliability
    differences: dict[str, Difference] = field(default_factory=dict)


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

    def of(self, probabilities: Probabilities) -> Probabilities:
        """Rows at their temperatures."""
        return apply_temperature(probabilities, self.of_rows)


class MeasuredArms:
    """Arms on the same rows and the same resamples."""

    def __init__(self, labels: Labels, seed: int) -> None:
        self._labels, self._seed = labels, seed
        self._rows: dict[str, Scored] = {}
        self._resamples: dict[str, Resamples] = {}
        self._chance: dict[str, dict[str, float]] = {}

    def arm(
        self,
        name: str,
        passes: int,
        reach: tuple[int, int],
        seconds: float,
        probabilities: Probabilities,
        temperatures: Temperatures | None = None,
    ) -> Arm:
        """Measure `probabilities`, beside the first arm that was measured."""
        if temperatures is None:
            rows = Scored.of(probabilities, self._labels)
        else:
            ranked = apply_temperature(probabilities, temperatures.all_rows)
            rows = Scored.of(temperatures.of(probabilities), self._labels, ranked)
        self._rows[name] = rows
        self._resamples[name] = resamples = resample(rows, seed=self._seed)
        self._chance[name] = by_chance(rows, seed=self._seed)
        module = load_metric_module()
        bins = module.bin_sums(rows.probabilities, rows.labels, n_bins=BINS)
        chance = module.bootstrap(rows.probabilities, rows.labels, n_bins=BINS, seed=self._seed % 2**64)
        estimates = {measure.key: estimate(measure, rows, resamples) for measure in MEASURES}
        if estimates["ece"].known:  # to the digit what evaluate.load("ece") says of these rows
            estimates["ece"] = Estimate(bins.ece, *chance.interval)
        first = next(iter(self._rows))
        return Arm(
            name,
            passes,
            *reach,
            seconds,
            None if temperatures is None else temperatures.all_rows,
            probabilities if temperatures is None else temperatures.of(probabilities),
            estimates,
            Estimate(chance.null, *chance.null_interval),
            Reliability(
                **bins.as_dict(),
                accuracy_interval=[
                    wilson(*bin_) if bin_[1] else None for bin_ in zip(bins.correct, bins.counts, strict=True)
                ],
            ),
            {} if first == name else self.differences(name, first),
        )

    def differences(self, name: str, base: str) -> dict[str, Difference]:
        """Every measure of one arm less that of another."""
        rows, resamples, chance = self._rows, self._resamples, self._chance
        return {
            measure.key: difference(
                measure,
                rows[name],
                rows[base],
                resamples[name],
                resamples[base],
                chance[name].get(measure.key, 0.0) - chance[base].get(measure.key, 0.0),
            )
            for measure in MEASURES
        }
