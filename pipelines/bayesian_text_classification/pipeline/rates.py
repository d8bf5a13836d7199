"""Dropout rates of the samples: those of the model, or others, which it was not trained with."""

import math
import re
from dataclasses import dataclass

import numpy as np

Dropout = float | str | None  # the option `dropout`: see `Rates.of_option`


@dataclass(frozen=True)
class Rates:
    """The rate of each dropout site in a sampled pass, given its own rate in the model.

    Attributes:
        factor: Factor of the rates above 0.
        inserted: Rate of the sites whose own rate is 0; 0 leaves them off.
    """

    factor: float = 1.0
    inserted: float = 0.0

    @classmethod
    def of_option(cls, dropout: Dropout) -> "Rates":
        """The rates for the option `dropout`.

        Args:
            dropout: A number above 0 and below 1 is the rate of all sites whose own rate is 0. A factor from "0.01x" to
                "100x" multiplies the model's own rates. None or "1x": the model's own rates.

        Raises:
            ValueError: It is something else.
        """
        if dropout is None:
            return cls()
        factor = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?x", dropout.strip()) if isinstance(dropout, str) else None
        if factor is not None and 0.01 <= float(factor[1]) <= 100:
            return cls(factor=round(float(factor[1]), 4))
        try:
            rate = math.nan if isinstance(dropout, (bool, np.bool_, bytes)) else float(dropout)
        except (TypeError, ValueError):
            rate = math.nan
        if not 0 < rate < 1:
            if isinstance(dropout, str) and dropout == "auto":
                raise ValueError(
                    'dropout="auto" is for calibrate and evaluate; call classifier.calibrate(texts, labels, '
                    'dropout="auto") first, which also sets the dropout of later calls'
                )
            raise ValueError(
                f"dropout={dropout!r}; it must be a rate above 0 and below 1 for the sites whose own rate is 0, such "
                'as 0.1, or a factor from "0.01x" to "100x" of the model\'s own rates, such as "2x" '
                "(num_samples=0 is for no dropout)"
            )
        return cls(inserted=rate)

    @property
    def option(self) -> Dropout:
        """The option `dropout` that gives these rates, in one form for all that are equal."""
        if self.inserted:
            return self.inserted
        return None if self.factor == 1 else f"{self.factor:g}x"

    def of(self, own: float) -> float:
        """The rate of a site whose own rate is `own`."""
        return self.factor * own if own > 0 else self.inserted


OWN = Rates()
