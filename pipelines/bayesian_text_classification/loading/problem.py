"""What a model decides: one label among several, independent labels, yes or no, or a number."""

import os
from typing import Any

from ..pipeline.options import Activation
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from .labeled_texts import LabeledTexts, load_labeled_texts


def check_probabilities(classifier: BayesianTextClassificationPipeline) -> Activation:
    """The classifier's activation. Raises ValueError if its scores are not probabilities."""
    activation, config = classifier.activation, classifier.model.config
    if activation == "none":
        raise ValueError(
            f"the model predicts numbers (problem_type {config.problem_type!r}), not labels; use predict, which takes "
            "every model"
        )
    if activation == "softmax" and config.num_labels < 2:
        raise ValueError(
            "the model has one output, whose softmax is always 1; load it with function_to_apply='sigmoid'"
        )
    return activation


def has_independent_labels(classifier: BayesianTextClassificationPipeline) -> bool:
    """Whether several labels may apply to a text, or none."""
    return classifier.activation == "sigmoid" and classifier.model.config.num_labels > 1


def labeled_texts_for(
    classifier: BayesianTextClassificationPipeline, source: str | os.PathLike[str], **columns: Any
) -> LabeledTexts:
    """`load_labeled_texts` with the labels in the form that the classifier takes: sets of ids for independent labels.

    Raises:
        ValueError: The classifier's scores are not probabilities.
        DataError: As `load_labeled_texts`.
    """
    check_probabilities(classifier)
    several = has_independent_labels(classifier)
    return load_labeled_texts(source, classifier.model.config.id2label, multi_label=several, **columns)
