"""How scores are made: everything that changes their distribution. Prediction sets are for scores of one origin."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .calibration import SCORES, Way, has_masks, way_of
from .options import Activation, Options
from .scaling import Scaling


@dataclass(frozen=True)
class ScoreOrigin:
    """How scores are made. All values are JSON values.

    Attributes:
        way: "ordinary", or the posterior of the samples.
        activation: How logits become scores.
        sampling: The options that change the samples.
        tokenizer: The tokenizer options that change the tokens.
        calibration: Numbers of the calibration; None without one.
    """

    way: Way
    activation: Activation
    sampling: Mapping[str, Any]
    tokenizer: Mapping[str, Any]
    calibration: list[float] | None

    @classmethod
    def of_call(
        cls, options: Options, activation: Activation, scaling: Scaling | None, tokenizer: Mapping[str, Any]
    ) -> "ScoreOrigin":
        """The origin of the scores of a call."""
        way = way_of(options)
        names = ["num_samples", "tolerance"] * (way != "ordinary") + ["masks", "dropout"] * has_masks(way)
        sampling = {name: getattr(options, name) for name in names}
        numbers = None if scaling is None else list(map(float, scaling.numbers))
        return cls.of_saved(cls(way, activation, sampling, tokenizer, numbers).saved())

    def saved(self) -> str:
        """The origin as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def of_saved(cls, text: str) -> "ScoreOrigin":
        """The origin of JSON. Raises ValueError if it is none."""
        try:
            return cls(**json.loads(text))
        except TypeError as error:
            raise ValueError(f"{text!r} does not say how scores are made") from error

    def why_not(self, other: "ScoreOrigin", *, calibrated: bool = True) -> str:
        """Why what was fitted to these scores is not for others, as "they are for ..."; empty if it is.

        Args:
            other: Origin of the other scores.
            calibrated: Whether the calibrations must be the same too.
        """
        if self.way != other.way:
            return f"they are for {SCORES[self.way]}"
        differ: dict[str, Any] = {} if self.activation == other.activation else {"activation": self.activation}
        for mine, theirs in ((self.sampling, other.sampling), (self.tokenizer, other.tokenizer)):
            differ |= {name: mine.get(name) for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)}
        if differ:
            return "they are for " + ", ".join(f"{name}={value!r}" for name, value in differ.items())
        if calibrated and self.calibration != other.calibration:
            return "they are for scores with another calibration"
        return ""
