"""Refuse probabilities that are NaN."""

import numpy as np

from ...wording import row_name
from ..arms import Probabilities


def refuse_nan(probabilities: Probabilities) -> None:
    """Raise ValueError that names the first text whose probabilities are NaN. *Shape:* (texts, ...)."""
    (bad,) = np.nonzero(np.isnan(probabilities).reshape(len(probabilities), -1).any(1))
    if bad.size:
        raise ValueError(
            f"the model's probabilities are NaN for {bad.size} of {len(probabilities)} texts, first for "
            f"{row_name(int(bad[0]))}; its weights are damaged or need a wider dtype"
        )


def finite(probabilities: Probabilities) -> Probabilities:
    """The probabilities, if none is NaN; else raise ValueError as `refuse_nan` does."""
    refuse_nan(probabilities)
    return probabilities
