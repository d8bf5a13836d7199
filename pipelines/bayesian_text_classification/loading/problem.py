"""What a model decides: one label among several, independent labels, yes or no, or a number."""

import os
from typing import Any

from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.uncertainty import Activation
from .labelled_texts import LabelledTexts, load_labelled_texts


def check_probabilities(classifier: BayesianTextClassificationPipeline) -> Activation:
    """The classifier's activation. Raises ValueError if its scores are not probabilities."""
    activation, config = classifier.activation, classifier.model.config
    if activation == "none":
        raise ValueError(
            f"the model predicts {config.num_labels} number(s) (problem_type {config.problem_type!r}), not labels; use "
            "predict, which takes every model"
        )
    if activation == "softmax" and config.num_labels < 2:
        raise ValueError(
            "the model has one output, whose softmax is always 1; load it with function_to_apply='sigmoid'"
        )
    return activation


def has_independent_labels(classifier: BayesianTextClassificationPipeline) -> bool:
    """Whether several labels may apply to a text, or none."""
    return classifier.activation == "sigmoid" and classifier.model.config.num_labels > 1


def labelled_texts_for(
    classifier: BayesianTextClassificationPipeline, source: str | os.PathLike[str], **columns: Any
) -> LabelledTexts:
    """`load_labelled_texts` with the labels in the form that the classifier takes.

    Raises:
        ValueError: The classifier's scores are not probabilities.
        DataError: As `load_labelled_texts`.
    """
    check_probabilities(classifier)
    names = classes_of(classifier)
    return load_labelled_texts(source, names, multi_label=has_independent_labels(classifier), **columns)


def classes_of(classifier: BayesianTextClassificationPipeline) -> dict[int, str]:
    """Names of the classes that labels are read as. A model with one output has two: its label applies, or not."""
    names = dict(classifier.model.config.id2label)
    return names if len(names) > 1 else {0: f"not {names[0]}", 1: names[0]}
