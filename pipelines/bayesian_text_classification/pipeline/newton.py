"""Newton's method with step halving, for several small problems at once."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Derivatives = Callable[[Array], tuple[Array, Array, Array]]

_STEPS = 50
_HALVINGS = 30
_ENOUGH = 1e-8  # a step that counts as none


def minimized(start: Array, derivatives: Derivatives) -> tuple[Array, Array]:
    """Minimize smooth functions from their losses, gradients and positive definite curvatures.

    Args:
        start: Where to start. *Shape:* (problems, numbers).
        derivatives: Function of such an array that returns losses (problems,), gradients (problems, numbers) and
            curvatures (problems, numbers, numbers). The curvature may be the expected one (Fisher scoring).

    Returns:
        The minima, of the shape of `start`, and the curvatures there.
    """
    at, (loss, gradient, curvature) = start, derivatives(start)
    for _ in range(_STEPS):
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        step /= np.maximum(np.abs(step).max(1, keepdims=True), 1)  # a step of more than 1 is not trusted
        for _ in range(_HALVINGS):
            found = derivatives(at - step)
            worse = ~(found[0] <= loss + 1e-12)  # NaN too
            if not worse.any():
                break
            step[worse] /= 2
        at = at - step
        loss, gradient, curvature = found
        if np.abs(step).max() < _ENOUGH:
            break
    return at, curvature
