"""What `calibrate` has fitted, for each way to get probabilities.

The probabilities of one ordinary pass and the averages over dropout masks need different temperatures. Each way has its
own, and what was fitted for one is never applied to another.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .options import Options, is_real

Way = Literal["ordinary", "dropout"]
SCORES: dict[Way, str] = {"ordinary": "ordinary scores (num_samples=0)", "dropout": "sampled scores"}  # in sentences


def way_of(options: Options) -> Way:
    """How a call with these options gets its probabilities."""
    return "dropout" if options.num_samples else "ordinary"


@dataclass(frozen=True)
class Scaling:
    """`softmax(log(p) / temperature)`, and the samples that it was fitted for.

    Attributes:
        temperature: Above 1 if the model was overconfident; 1 changes nothing.
        masks: Dropout masks of the samples; None: it applies to any masks, or there were no samples.
        dropout_rate: Mean dropout rate of the samples; None: it applies at any rate, or there were no samples.

    Raises:
        ValueError: The temperature is not a positive finite number.
    """

    temperature: float
    masks: str | None = None
    dropout_rate: float | None = None

    def __post_init__(self) -> None:
        if not (is_real(self.temperature) and 0 < self.temperature < math.inf):
            raise ValueError(
                f"temperature={self.temperature!r}; it must be a positive finite number; 1 changes nothing"
            )
        object.__setattr__(self, "temperature", float(self.temperature))

    def is_for(self, masks: str, dropout_rate: float) -> bool:
        """Whether it was fitted for samples like these."""
        same_rate = self.dropout_rate is None or math.isclose(self.dropout_rate, dropout_rate, rel_tol=1e-6)
        return same_rate and self.masks in (None, masks)

    def __str__(self) -> str:
        samples = [] if self.masks is None else [f"{self.masks} masks"]
        samples += [] if self.dropout_rate is None else [f"mean dropout rate {self.dropout_rate:.3g}"]
        return f"temperature {self.temperature:.4g}" + f" ({', '.join(samples)})" * bool(samples)


class Calibration(Mapping[Way, Scaling]):
    """The fitted scalings by way: "ordinary" for `num_samples=0`, "dropout" for samples. It never changes."""

    def __init__(self, scalings: Mapping[Way, Scaling] | None = None) -> None:
        """Raise TypeError if this is not a mapping of "ordinary" and "dropout" to `Scaling`."""
        self._scalings: dict[Way, Scaling] = dict({} if scalings is None else scalings)
        for way, scaling in self._scalings.items():
            if way not in SCORES or not isinstance(scaling, Scaling):
                legal = " and ".join(map(repr, SCORES))
                raise TypeError(
                    f"the calibration has {way!r}: {scaling!r}; it must map {legal} to Scaling(temperature)"
                )

    def __getitem__(self, way: Way) -> Scaling:
        return self._scalings[way]

    def __iter__(self) -> Iterator[Way]:
        return iter(self._scalings)

    def __len__(self) -> int:
        return len(self._scalings)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.items())))

    def __repr__(self) -> str:
        shown = "; ".join(f"{way}: {scaling}" for way, scaling in self.items())
        return f"<calibration: {shown or 'none'}>"

    def temperature(self, way: Way) -> float:
        """The temperature of scores that are made in this way; 1.0 if none was fitted."""
        return self._scalings[way].temperature if way in self._scalings else 1.0

    def replaced(self, way: Way, scaling: Scaling | None) -> "Calibration":
        """A copy with another scaling of `way`; None removes it."""
        others = {one: known for one, known in self.items() if one != way}
        return Calibration(others if scaling is None else {**others, way: scaling})

    def saved(self) -> dict[str, Any]:
        """The scalings as JSON values."""
        return {
            way: {name: value for name, value in asdict(scaling).items() if value is not None}
            for way, scaling in self.items()
        }

    @classmethod
    def of_saved(cls, options: Mapping[str, Any]) -> "Calibration":
        """The calibration in a model's saved options. Version 0.1 saved one temperature, for sampled scores."""
        if options.get("temperature", 1.0) != 1.0:
            return cls({"dropout": Scaling(options["temperature"])})
        return cls({way: Scaling(**values) for way, values in (options.get("calibration") or {}).items()})
