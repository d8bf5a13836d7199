"""Scalings that an arm gets: fitted on the measured rows, or on others."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..pipeline.platt import PlattFit, fit_platt, influence_on_pairs
from ..pipeline.scaling import PlattScaling, Scaling, TemperatureScaling
from ..pipeline.temperature import LEAST, MOST, apply_temperature, fit_temperature, influence, leave_one_out
from .statistics.label_predictions import FittedPairs, LabelPredictions
from .statistics.predictions import FittedTemperature, Predictions

Probabilities = NDArray[np.floating]
Labels = NDArray[np.int64]
Groups = NDArray[np.intp] | None
Known = tuple[Probabilities, Labels] | None

_AROUND = np.arange(-6, 7) / 2  # temperatures around a fitted one, in standard errors of 1/T


class Fit(ABC):
    """A scaling of an arm.

    A scaling that was fitted on the measured rows flatters them. What is estimated is the procedure: fit on this many
    rows, then predict new ones. Means over rows, such as the NLL, are measured at leave-one-out scalings. Other
    measures, such as the ECE, are corrected by refits on resamples; see `resample`. As without a scaling, an ECE
    includes what noise adds on this many rows, and its interval is for many rows.
    """

    @property
    @abstractmethod
    def scaling(self) -> Scaling:
        """The scaling, fitted on the measured rows or on others."""

    @abstractmethod
    def predictions(self, probabilities: Probabilities, labels: Labels, groups: Groups = None) -> Predictions:
        """The rows after the scaling."""


@dataclass(frozen=True)
class Temperatures(Fit):
    """Temperatures of an arm.

    Attributes:
        temperature: The temperature, fitted on the measured rows or on others.
        left_out: Temperature of each row from all rows of other groups. None if the temperature was fitted on others.
            *Shape:* (rows,).
    """

    temperature: float
    left_out: NDArray[np.float64] | None = None

    @classmethod
    def fitted(
        cls, probabilities: Probabilities, labels: Labels, known: Known = None, groups: Groups = None
    ) -> "Temperatures":
        """Fit one temperature on `known` rows and labels. Without them, fit it on the rows themselves."""
        if known is not None:
            return cls(fit_temperature(*known))
        temperature = fit_temperature(probabilities, labels)
        return cls(temperature, leave_one_out(probabilities, labels, temperature, groups))

    @property
    def scaling(self) -> Scaling:
        """The temperature."""
        return TemperatureScaling(self.temperature)

    def predictions(self, probabilities: Probabilities, labels: Labels, groups: Groups = None) -> Predictions:
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
        return replace(rows, fitted=FittedTemperature(at(self.left_out), at(1.0), moves, error, speeds, around, middle))


@dataclass(frozen=True)
class PlattPairs(Fit):
    """Platt scaling of an arm: a slope and a bias for each label.

    Attributes:
        fit: The pairs.
        on_rows: Whether they were fitted on the measured rows.
    """

    fit: PlattFit
    on_rows: bool

    @classmethod
    def fitted(cls, probabilities: Probabilities, labels: Labels, known: Known = None) -> "PlattPairs":
        """Fit the pairs on `known` rows and labels. Without them, fit them on the rows themselves."""
        return cls(fit_platt(probabilities, labels), True) if known is None else cls(fit_platt(*known), False)

    @property
    def scaling(self) -> Scaling:
        """The pairs."""
        return PlattScaling(tuple(self.fit.slopes.tolist()), tuple(self.fit.biases.tolist()))

    def predictions(self, probabilities: Probabilities, labels: Labels, groups: Groups = None) -> LabelPredictions:
        """The rows after the scaling."""
        rows = LabelPredictions.of(self.scaling.apply(probabilities), labels, groups)
        if not self.on_rows:
            return rows
        moves = influence_on_pairs(probabilities, labels, self.fit)
        return replace(rows, fitted=FittedPairs.of(rows, np.asarray(probabilities, np.float64), self.fit.pairs, moves))
