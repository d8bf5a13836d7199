"""Refuse probabilities that are NaN."""

import numpy as np

from ...wording import row_name
from ..arms import Probabilities


def refuse_nan(probabilities: Probabilities) -> Probabilities:
    """The probabilities. Raises ValueError that names the first text where they are NaN. *Shape:* (texts, ...)."""
    (bad,) = np.nonzero(np.isnan(probabilities).reshape(len(probabilities), -1).any(1))
    if bad.size:
        raise ValueError(
            f"the model's probabilities are NaN for {bad.size} of {len(probabilities)} texts, first for "
            f"{row_name(int(bad[0]))}; its weights are damaged or need a wider dtype"
        )
    return probabilities
