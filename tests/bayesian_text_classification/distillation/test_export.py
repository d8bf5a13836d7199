"""Exported checkpoints, read by transformers alone: its scores are those of the calibrated logits.

The expected scores are `softmax(logits / T)` of the model's own logits in float64, without this package.
"""

import copy
import json
import os

import numpy as np
import pytest
import torch
from architectures import TEXTS, adapted, make, tokenizer_of_words
from bayesian_text_classification import BayesianTextClassificationPipeline, PlattScaling, TemperatureScaling, load
from bayesian_text_classification.distillation.affine import Affine, ExportError, NotCalibratedError
from bayesian_text_classification.distillation.last_layer import fold
from bayesian_text_classification.pipeline.forward import Forward
from torch import nn
from transformers import BertForSequenceClassification, pipeline
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as TYPES
from transformers.pytorch_utils import Conv1D

T = 1.7
TEMPERATURE = {"ordinary": TemperatureScaling(T)}
PLATT = {"ordinary": PlattScaling((0.5, 1.3, 2.0), (0.7, 0.0, -1.1))}

# Types that have no ordinary pass, with the error that a user gets.
WITHOUT_PASS = {
    "layoutlmv2": (ImportError, "detectron2"),
    "reformer": (ValueError, r"draws random numbers in eval\(\) mode"),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def logits_of(model, tokenizer, texts):
    """The model's own logits in eval mode, text by text, in float64."""
    model = copy.deepcopy(model).eval()
    rows = [tokenizer(text, return_tensors="pt") for text in texts]
    rows = [{name: row[name] for name in ("input_ids", "attention_mask")} for row in rows]
    with torch.no_grad():
        return np.concatenate([model(**row).logits.double().numpy() for row in rows])


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


def stock_scores(folder, texts):
    """Scores of the stock pipeline in the order of the labels. *Shape:* (texts, labels)."""
    served = pipeline("text-classification", model=str(folder), top_k=None)
    names = served.model.config.id2label
    answers = [{entry["label"]: entry["score"] for entry in answer} for answer in served(list(texts))]
    return np.array([[answer[names[i]] for i in range(len(names))] for answer in answers])


@pytest.fixture
def exported(bayesian, tmp_path):
    """Exports a model with a calibration of its ordinary scores, and returns the folder."""

    def make_folder(model, calibration, **options):
        classifier = bayesian(model, num_samples=0, **options)
        classifier.calibration = calibration
        classifier.export(tmp_path / "served")
        return tmp_path / "served"

    return make_folder


# --- every architecture ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in TYPES if name not in WITHOUT_PASS])
def test_stock_scores_are_those_of_the_tempered_logits(name, exported, same_model):
    """No type is refused: the logits of all come from one linear layer."""
    model, tokenizer = make(name, "eager"), tokenizer_of_words()
    with same_model(model):
        folder = exported(model, TEMPERATURE, tokenizer=tokenizer)
    expected = softmax(logits_of(model, tokenizer, TEXTS) / T)
    assert np.abs(expected - softmax(logits_of(model, tokenizer, TEXTS))).max() > 1e-3  # the temperature matters
    np.testing.assert_allclose(stock_scores(folder, TEXTS), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", WITHOUT_PASS)
def test_types_without_an_ordinary_pass_are_refused(name, exported, tmp_path):
    kind, message = WITHOUT_PASS[name]
    with pytest.raises(kind, match=message):
        exported(make(name, "eager"), TEMPERATURE, tokenizer=tokenizer_of_words())
    assert not list(tmp_path.iterdir())
