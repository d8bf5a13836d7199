"""What `calibrate` has fitted, for each way to get probabilities.

The probabilities of one ordinary pass and the averages over dropout masks need different temperatures. Each way has its
own, and what was fitted for one is never applied to another.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from .options import Options, Posterior
from .scaling import Scaling, TemperatureScaling, scaling_of_saved

Way = Literal["ordinary"] | Posterior
SCORES: dict[Way, str] = {  # in sentences
    "ordinary": "ordinary scores (num_samples=0)",
    "dropout": "sampled scores",
    "ensemble": "scores of the ensemble",
    "ensemble+dropout": "scores of the ensemble with dropout",
}


def way_of(options: Options) -> Way:
    """How a call with these options gets its probabilities."""
    return options.posterior if options.num_samples else "ordinary"


def has_masks(way: Way) -> bool:
    """Whether scores that are made in this way depend on dropout masks."""
    return way in ("dropout", "ensemble+dropout")


class Calibration(Mapping[Way, Scaling]):
    """The fitted scalings by way: "ordinary" for `num_samples=0`, else the posterior. It never changes."""

    def __init__(self, scalings: Mapping[Way, Scaling] | None = None) -> None:
        """Raise TypeError if this is not a mapping of ways to `Scaling`."""
        given = {} if scalings is None else scalings
        if not isinstance(given, Mapping):
            raise TypeError(
                f"the calibration is {given!r}; pass that of another classifier, or "
                '{"ordinary": bayesian_text_classification.TemperatureScaling(2.0)}'
            )
        # A classifier that was loaded with the code of a saved folder has classes of its own.
        self._scalings: dict[Way, Scaling] = {
            way: scaling_of_saved(scaling.saved()) if hasattr(scaling, "saved") else scaling
            for way, scaling in dict(given).items()
        }
        for way, scaling in self._scalings.items():
            if way not in SCORES or not isinstance(scaling, Scaling):
                legal = ", ".join(map(repr, SCORES))
                raise TypeError(
                    f"the calibration has {way!r}: {scaling!r}; it must map {legal} to a scaling, such as "
                    "bayesian_text_classification.TemperatureScaling(2.0)"
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
        scaling = self.get(way)
        return scaling.temperature if isinstance(scaling, TemperatureScaling) else 1.0

    def numbers(self, way: Way) -> tuple[float, ...]:
        """What was fitted for scores that are made in this way; that of temperature 1 if nothing was."""
        return self._scalings[way].numbers if way in self._scalings else (1.0,)

    def replaced(self, way: Way, scaling: Scaling | None) -> "Calibration":
        """A copy with another scaling of `way`; None removes it."""
        others = {one: known for one, known in self.items() if one != way}
        return Calibration(others if scaling is None else {**others, way: scaling})

    def saved(self) -> dict[str, Any]:
        """The scalings as JSON values."""
        return {way: scaling.saved() for way, scaling in self.items()}

    @classmethod
    def of_saved(cls, options: Mapping[str, Any]) -> "Calibration":
        """The calibration in a model's saved options. Version 0.1 saved one temperature, for sampled scores."""
        if options.get("temperature", 1.0) != 1.0:
            return cls({"dropout": TemperatureScaling(options["temperature"])})
        return cls({way: scaling_of_saved(values) for way, values in (options.get("calibration") or {}).items()})
