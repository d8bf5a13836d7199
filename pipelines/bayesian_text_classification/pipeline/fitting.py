"""Fit the calibration of a model's probabilities to true labels."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .options import Activation
from .platt import fit_platt
from .scaling import PlattScaling, Scaling, TemperatureScaling
from .temperature import determined, fit_bias_corrected, fit_temperature

Method = Literal["temperature", "bias-corrected", "platt"]
METHODS: dict[Activation, tuple[Method, ...]] = {
    "softmax": ("temperature", "bias-corrected"),
    "sigmoid": ("platt",),
    "none": (),
}


def check_method(method: Method | None, activation: Activation, config: Any) -> Method:
    """The method that is used: the first one for this activation by default.

    Raises:
        ValueError: The model has no probabilities, or the method is not one for its kind of probabilities.
    """
    if activation == "none":
        raise ValueError(
            "calibrate needs probabilities, and this model predicts numbers (a regression model, or "
            "function_to_apply='none'); use its predictions as they are"
        )
    if activation == "softmax" and config.num_labels < 2:
        raise ValueError(
            "calibrate needs at least two classes, because the softmax of one output is always 1; load the model with "
            "function_to_apply='sigmoid'"
        )
    legal = METHODS[activation]
    if method is None:
        return legal[0]
    if method not in legal:
        others = " or ".join(f"method={name!r}" for name in legal)
        kind = "a model that chooses one label" if activation == "softmax" else "a model of independent labels"
        if config.num_labels == 1:
            kind = "a model with one output"
        reason = f"method={method!r}" if method in get_args(Method) else f"there is no method={method!r}"
        raise ValueError(f"{reason}; {kind} takes {others}")
    return method


def fitted(
    method: Method, probabilities: NDArray[np.floating], targets: NDArray[np.integer], **samples: Any
) -> Scaling:
    """Fit a scaling.

    Args:
        method: A result of `check_method`.
        probabilities: *Shape:* (texts, classes).
        targets: Class ids, *shape* (texts,); for independent labels 0 and 1, (texts, labels).
        **samples: The samples that the probabilities are means of, as in `Scaling`.

    Raises:
        ValueError: The targets do not determine a scaling.
    """
    if method == "platt":
        _check_both(targets)
    elif not determined(probabilities, targets):
        raise ValueError(
            f"no temperature is best for these {len(targets)} texts: the model gets all of them right, or most of "
            "them wrong; add texts, some that it gets right and some that it gets wrong"
        )
    return fit(method, probabilities, targets, **samples)


def fit(method: Method, probabilities: NDArray[np.floating], targets: NDArray[np.integer], **samples: Any) -> Scaling:
    """Like `fitted`, but where the targets do not determine a scaling, the prior decides."""
    if method == "platt":
        pairs = fit_platt(probabilities, targets)
        return PlattScaling(tuple(pairs.slopes.tolist()), tuple(pairs.biases.tolist()), **samples)
    if method == "bias-corrected":
        temperature, biases = fit_bias_corrected(probabilities, targets)
        return TemperatureScaling(temperature, tuple(biases.tolist()), **samples)
    return TemperatureScaling(fit_temperature(probabilities, targets), **samples)


def _check_both(targets: NDArray[np.integer]) -> None:
    """Raise ValueError unless there are labels that apply and labels that do not."""
    if targets.min() == targets.max():
        state = "every label applies" if targets.max() else "no label applies"
        raise ValueError(
            f"no Platt scaling is best for these {len(targets)} texts, because {state} to all of them; add texts of "
            "the other kind"
        )
