"""Maps to calibrated probabilities: a temperature for classes, Platt scaling for independent labels."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .options import Activation, Options, is_real
from .rates import Dropout
from .temperature import SMALLEST, apply_temperature, softmax

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Scaling(ABC):
    """A map to calibrated probabilities, and the samples that it was fitted for.

    Attributes:
        masks: Dropout masks of the samples; None: it applies to any masks, or there were no samples.
        dropout_rate: Mean dropout rate of the samples; None: it applies at any rate, or there were no samples.
        dropout: The option `dropout` of the samples.
    """

    activation: ClassVar[Activation]  # of the model's outputs that it applies to

    masks: str | None = None
    dropout_rate: float | None = None
    dropout: Dropout = None

    @abstractmethod
    def apply(self, probabilities: NDArray[np.floating]) -> Array:
        """The calibrated probabilities. *Shape:* (texts, classes) both."""

    @abstractmethod
    def moved(self, changes: Array, mean: Array, scaled: Array) -> Array:
        """How small changes of the mean change the scaled mean, to first order. *Shape:* (texts, classes, changes).

        Args:
            changes: Changes of the mean. *Shape:* (texts, classes, changes).
            mean: The probabilities. *Shape:* (texts, classes).
            scaled: `apply(mean)`. *Shape:* (texts, classes).
        """

    @abstractmethod
    def moved_variance(self, mean: Array, scaled: Array) -> Array:
        """Variance of what `moved` returns for changes with the covariance of one draw from the mean.

        That is `diag(m) - m m'` for classes, and `m (1 - m)` for each of several labels. *Shape:* (texts, classes).
        """

    @property
    @abstractmethod
    def labels(self) -> int | None:
        """Number of classes or labels that it is for; None: any."""

    @property
    @abstractmethod
    def numbers(self) -> tuple[float, ...]:
        """What was fitted, as one row of numbers: equal for two scalings that change scores alike."""

    def is_for(self, options: Options, dropout_rate: float) -> bool:
        """Whether it was fitted for samples like these."""
        if self.dropout_rate is not None:
            same_rate = math.isclose(self.dropout_rate, dropout_rate, rel_tol=1e-6) and self.dropout == options.dropout
            return same_rate and self.masks in (None, options.masks)
        return self.masks in (None, options.masks)

    def saved(self) -> dict[str, Any]:
        """The fields that are not empty, as JSON values."""
        return {name: value for name, value in asdict(self).items() if value not in (None, ())}

    def __str__(self) -> str:
        samples = [] if self.masks is None else [f"{self.masks} masks"]
        samples += [] if self.dropout_rate is None else [f"mean dropout rate {self.dropout_rate:.3g}"]
        samples += [] if self.dropout is None else [f"dropout={self.dropout!r}"]
        return self._described() + f" ({', '.join(samples)})" * bool(samples)

    @abstractmethod
    def _described(self) -> str:
        """What was fitted, in words."""


@dataclass(frozen=True)
class TemperatureScaling(Scaling):
    """`softmax(log(p) / temperature + biases)`.

    Guo et al. 2017, arXiv:1706.04599; with biases, Alexandari et al. 2020, arXiv:1901.06852.

    Attributes:
        temperature: Above 1 if the model was overconfident; 1 changes nothing.
        biases: One number per class, or empty for none.

    Raises:
        ValueError: The temperature is not a positive finite number, or a bias is not finite.
    """

    activation: ClassVar[Activation] = "softmax"

    temperature: float
    biases: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (is_real(self.temperature) and 0 < self.temperature < math.inf):
            raise ValueError(
                f"temperature={self.temperature!r}; it must be a positive finite number; 1 changes nothing"
            )
        if not all(map(math.isfinite, self.biases)):
            raise ValueError(f"biases={self.biases!r}; they must be finite numbers, one per class")
        object.__setattr__(self, "temperature", float(self.temperature))
        object.__setattr__(self, "biases", tuple(map(float, self.biases)))

    def apply(self, probabilities: NDArray[np.floating]) -> Array:
        """The calibrated probabilities. *Shape:* (texts, classes) both."""
        tempered = apply_temperature(probabilities, self.temperature)
        return softmax(np.log(np.maximum(tempered, SMALLEST)) + self.biases) if self.biases else tempered

    def moved(self, changes: Array, mean: Array, scaled: Array) -> Array:
        """`q_c / T (dm_c / m_c - sum_k q_k dm_k / m_k)`, for the scaled probabilities q."""
        relative = changes * np.divide(1, mean, out=np.zeros_like(mean), where=mean > 0)[:, :, None]
        q = scaled[:, :, None]
        return np.asarray(q / self.temperature * (relative - (q * relative).sum(1, keepdims=True)))

    def moved_variance(self, mean: Array, scaled: Array) -> Array:
        """`(q_c / T)^2 ((1 - 2 q_c) / m_c + sum_k q_k^2 / m_k)`; the part `m m'` drops out."""
        q, inverse = scaled, np.divide(1, mean, out=np.zeros_like(mean), where=mean > 0)
        return np.asarray(
            (q / self.temperature) ** 2 * ((1 - 2 * q) * inverse + (q**2 * inverse).sum(1, keepdims=True))
        )

    @property
    def labels(self) -> int | None:
        """Number of classes; None without biases."""
        return len(self.biases) or None

    @property
    def numbers(self) -> tuple[float, ...]:
        """The temperature and the biases."""
        return (self.temperature, *self.biases)

    def _described(self) -> str:
        return f"temperature {self.temperature:.4g}" + " and a bias per class" * bool(self.biases)


@dataclass(frozen=True)
class PlattScaling(Scaling):
    """`sigmoid(slope_k logit(p_k) + bias_k)` for each label k (Platt 1999, "Probabilistic outputs for SVMs").

    Attributes:
        slopes: One positive number per label; 1 changes nothing.
        biases: One number per label; 0 changes nothing.

    Raises:
        ValueError: A slope is not a positive finite number, or there is not one bias for each slope.
    """

    activation: ClassVar[Activation] = "sigmoid"

    slopes: tuple[float, ...]
    biases: tuple[float, ...]

    def __post_init__(self) -> None:
        positive = all(0 < slope < math.inf for slope in self.slopes)
        if len(self.slopes) != len(self.biases) or not positive or not all(map(math.isfinite, self.biases)):
            raise ValueError("PlattScaling needs a positive finite slope and a finite bias for every label")
        object.__setattr__(self, "slopes", tuple(map(float, self.slopes)))
        object.__setattr__(self, "biases", tuple(map(float, self.biases)))

    def apply(self, probabilities: NDArray[np.floating]) -> Array:
        """The calibrated probabilities. *Shape:* (texts, labels) both."""
        return sigmoid(np.array(self.slopes) * logits(probabilities) + self.biases)

    def moved(self, changes: Array, mean: Array, scaled: Array) -> Array:
        """`slope q (1 - q) dm / (m (1 - m))`, for the scaled probability q."""
        return changes * self._slope(mean, scaled)[:, :, None]

    def moved_variance(self, mean: Array, scaled: Array) -> Array:
        """The square of the slope of `moved`, times `m (1 - m)`."""
        return self._slope(mean, scaled) ** 2 * mean * (1 - mean)

    def _slope(self, mean: Array, scaled: Array) -> Array:
        spread = mean * (1 - mean)
        return np.divide(self.slopes * scaled * (1 - scaled), spread, out=np.zeros_like(mean), where=spread > 0)

    @property
    def labels(self) -> int | None:
        """Number of labels."""
        return len(self.slopes)

    @property
    def numbers(self) -> tuple[float, ...]:
        """The slopes and the biases."""
        return (*self.slopes, *self.biases)

    def _described(self) -> str:
        if len(self.slopes) == 1:
            return f"Platt scaling with slope {self.slopes[0]:.4g} and bias {self.biases[0]:.4g}"
        least, most = min(self.slopes), max(self.slopes)
        return f"Platt scaling of {len(self.slopes)} labels with slopes from {least:.3g} to {most:.3g}"


def scaling_of_saved(values: Mapping[str, Any]) -> Scaling:
    """The scaling in a model's saved options. Raises ValueError if a later version saved it in another form."""
    known = {field.name for kind in (TemperatureScaling, PlattScaling) for field in fields(kind)}
    if unknown := sorted(set(values) - known):
        raise ValueError(
            f"the saved calibration has {unknown[0]!r}, which this version does not know; upgrade "
            "bayesian-text-classification"
        )
    given: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return PlattScaling(**given) if "slopes" in given else TemperatureScaling(**given)


def logits(probabilities: NDArray[np.floating]) -> Array:
    """`log(p / (1 - p))`, finite. *Shape:* that of `probabilities`."""
    p = np.asarray(probabilities, np.float64)
    return np.asarray(np.log(np.maximum(p, SMALLEST)) - np.log(np.maximum(1 - p, _LEAST_COMPLEMENT)))


_LEAST_COMPLEMENT = 2.0**-25  # float32 probabilities closer to 1 than this are 1


def sigmoid(values: Array) -> Array:
    """`1 / (1 + exp(-x))`, without overflow."""
    return np.asarray((1 + np.tanh(values / 2)) / 2)
