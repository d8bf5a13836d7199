"""A calibration of one pass as a line for each label: `slope_k x_k + offset_k`, for the logits x."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..pipeline.errors import BayesianTextClassificationError
from ..pipeline.scaling import PlattScaling, Scaling, TemperatureScaling, scaling_of_saved


class ExportError(BayesianTextClassificationError):
    """The classifier cannot be exported in this way. The message says what to do instead."""


class NotCalibratedError(ExportError):
    """There is no calibration of the ordinary scores."""


@dataclass(frozen=True)
class Affine:
    """A line for each label, in float64.

    Attributes:
        slopes: 1/T, or the slopes of a Platt scaling. *Shape:* (labels,).
        offsets: What is added. *Shape:* (labels,).
    """

    slopes: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, scaling: Scaling | None, labels: int) -> "Affine":
        """The line for each label that gives the scores of a scaling; None changes nothing.

        `softmax(log softmax(x) / T + b) = softmax(x / T + b)`, and `logit(sigmoid(x)) = x`, so that scalings of
        probabilities are lines on logits.
        """
        slopes, offsets = [1.0] * labels, [0.0] * labels
        if isinstance(scaling, TemperatureScaling):
            slopes = [1 / scaling.temperature] * labels
            offsets = list(scaling.biases) or offsets
        elif isinstance(scaling, PlattScaling):
            slopes, offsets = list(scaling.slopes), list(scaling.biases)
        elif scaling is not None:
            raise TypeError(f"{scaling!r} is neither a TemperatureScaling nor a PlattScaling")
        return cls(torch.tensor(slopes, dtype=torch.float64), torch.tensor(offsets, dtype=torch.float64))

    @property
    def has_offsets(self) -> bool:
        """Whether anything is added."""
        return bool((self.offsets != 0).any())

    @property
    def changes_nothing(self) -> bool:
        """Whether the logits stay as they are."""
        return not self.has_offsets and bool((self.slopes == 1).all())

    def __call__(self, logits: Tensor) -> Tensor:
        """The calibrated logits, in float64. *Shape:* (texts, labels) both."""
        return logits.double() * self.slopes + self.offsets


def calibrated_line(classifier: Any, uncalibrated: bool = False) -> tuple[Scaling | None, Affine]:
    """The calibration of a classifier's ordinary scores, and its line for each label.

    Args:
        classifier: The pipeline.
        uncalibrated: Whether to leave the logits as they are.

    Raises:
        NotCalibratedError: The ordinary scores have no calibration, and `uncalibrated` was not passed.
        ExportError: The classifier has several models, predicts numbers, or has another activation than its config.
    """
    if len(classifier.members) > 1:
        raise ExportError(
            f"this classifier is an ensemble of {len(classifier.members)} models, and an export is one model; call "
            "classifier.distill(texts), which makes one model of their averages, and export that"
        )
    config = classifier.model.config
    if uncalibrated:
        return None, Affine.of(None, config.num_labels)
    if classifier._activation_of(config) == "none":
        raise ExportError(
            "this model predicts numbers, and numbers have no calibration; to export it as it is, pass "
            "uncalibrated=True"
        )
    if problem := why_a_server_differs(classifier):
        raise ExportError(problem)
    fitted = classifier.calibration.get("ordinary")
    if fitted is None:
        known = "only its sampled scores are" if classifier.calibration else "they are not"
        raise NotCalibratedError(
            f"an export has the calibrated scores of one ordinary pass, and {known} calibrated; call "
            "classifier.calibrate(texts, labels, num_samples=0), or pass uncalibrated=True to export the model as it is"
        )
    scaling = scaling_of_saved(fitted.saved())  # the code of a saved folder has classes of its own
    return scaling, Affine.of(scaling, config.num_labels)


def why_a_server_differs(classifier: Any) -> str:
    """Why a server would give other scores than this classifier, and what to do; empty if it would not.

    A server goes by the config, and knows nothing of `function_to_apply`.
    """
    config, activation = classifier.model.config, classifier.activation
    stock = classifier._activation_of(config)
    if activation == stock:
        return ""
    problem = {"softmax": "single_label_classification", "sigmoid": "multi_label_classification"}.get(activation)
    way_out = (
        "load it again without function_to_apply"
        if problem is None or (problem.startswith("single") and config.num_labels == 1)
        else f"set classifier.model.config.problem_type = {problem!r}, which is saved with the model"
    )
    return (
        f"function_to_apply={activation!r} is an option of this classifier, and a server goes by the model's config, "
        f"which stands for {stock!r}; {way_out}"
    )
