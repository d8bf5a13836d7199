"""The settings with which vLLM calibrates the scores of the original weights: `activation((logit - mean) / sigma)`."""

from typing import Any

from .affine import ExportError, calibrated_line


def pooler_settings(classifier: Any) -> dict[str, float]:
    """`logit_mean` and `logit_sigma` of vLLM's `--pooler-config`, for the calibration of the ordinary scores.

    vLLM has one number for all labels, so that a temperature is `logit_sigma = T`, and the Platt scaling
    `slope x + bias` of a model with one output is `logit_mean = -bias / slope` and `logit_sigma = 1 / slope`. They are
    for the weights that the classifier has. An export needs none: there, the calibration would apply twice.

    Raises:
        ExportError: There is no calibration of the ordinary scores, it differs between labels, or the weights that vLLM
            would load are not those of the classifier (an adapter).
    """
    _, line = calibrated_line(classifier)
    slope, offset = float(line.slopes[0]), float(line.offsets[0])
    if not (bool((line.slopes == slope).all()) and bool((line.offsets == offset).all())):
        raise ExportError(
            "vLLM has one logit_mean and one logit_sigma for all labels, and this calibration differs between them; "
            "pass to='transformers', whose weights hold it and which vLLM loads as it is"
        )
    if hasattr(classifier.model, "peft_config"):
        raise ExportError(
            "this model has an adapter, which vLLM would not merge; pass to='transformers', whose weights hold adapter "
            "and calibration and which vLLM loads as it is"
        )
    settings = {"logit_mean": -offset / slope} if offset else {}
    return {**settings, "logit_sigma": 1 / slope}
