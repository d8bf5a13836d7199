"""Exported checkpoints, read by transformers alone: its scores are those of the calibrated logits.

The expected scores are `softmax(logits / T)` of the model's own logits in float64, without this package.
"""

import copy
import json
import re
import warnings

import numpy as np
import pytest
import torch
from architectures import TEXTS, adapted, make, tokenizer_for
from bayesian_text_classification import PlattScaling, TemperatureScaling, load
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
WITHOUT_PASS = {"layoutlmv2": (ImportError, "detectron2")}


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


# --- every architecture ---------------------------------------------------------------------------------------------


USUAL = {"albert", "bart", "bert", "distilbert", "gpt2", "llama", "qwen2", "t5", "xlnet"}  # the others are slow


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in USUAL else pytest.mark.slow) for name in TYPES if name not in WITHOUT_PASS],
)
def test_stock_scores_are_those_of_the_tempered_logits(name, exported, same_model):
    """No type is refused: the logits of all come from one linear layer."""
    model, tokenizer = make(name, "eager"), tokenizer_for(name)
    with same_model(model):
        folder = exported(model, TEMPERATURE, tokenizer=tokenizer)
    expected = softmax(logits_of(model, tokenizer, TEXTS) / T)
    assert np.abs(expected - softmax(logits_of(model, tokenizer, TEXTS))).max() > 1e-3  # the temperature matters
    np.testing.assert_allclose(stock_scores(folder, TEXTS), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", WITHOUT_PASS)
def test_types_without_an_ordinary_pass_are_refused(name, exported, tmp_path):
    kind, message = WITHOUT_PASS[name]
    with pytest.raises(kind, match=message):
        exported(make(name, "eager"), TEMPERATURE, tokenizer=tokenizer_for(name))
    assert not list(tmp_path.iterdir())


# --- other calibrations and models ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_lower_precision_are_written_in_float32(dtype, tiny, exported, tokenizer):
    model = tiny("bert", num_labels=3).to(dtype)
    folder = exported(model, TEMPERATURE)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    assert next(model.parameters()).dtype == dtype
    expected = softmax(logits_of(copy.deepcopy(model).float(), tokenizer, TEXTS) / T)
    np.testing.assert_allclose(stock_scores(folder, TEXTS), expected, rtol=0, atol=1e-6)


def test_buffers_of_lower_precision_are_computed_anew(tiny, exported, tokenizer):
    """Rotary frequencies, which a checkpoint does not hold: its logits are near those of the model, not equal."""
    model = tiny("llama", pad_token_id=0).bfloat16()
    rounded = softmax(logits_of(copy.deepcopy(model).float(), tokenizer, TEXTS) / T)
    found = stock_scores(exported(model, TEMPERATURE), TEXTS)
    np.testing.assert_allclose(found, rounded, rtol=0, atol=1e-2)
    assert np.abs(found - rounded).max() > 1e-5


LABELS = {"num_labels": 3, "problem_type": "multi_label_classification"}
BIASES, SLOPED = (0.5, -0.75, 0.25), PLATT["ordinary"]


@pytest.mark.parametrize(
    ("name", "settings", "scaling", "scores"),
    [
        ("bert", {"num_labels": 3}, TemperatureScaling(T, BIASES), lambda logits: softmax(logits / T + BIASES)),
        ("roberta", LABELS, SLOPED, lambda logits: sigmoid(logits * SLOPED.slopes + SLOPED.biases)),
        ("distilbert", {"num_labels": 1}, PlattScaling((0.6,), (-1.5,)), lambda logits: sigmoid(logits * 0.6 - 1.5)),
    ],
    ids=["biases", "independent labels", "one output"],
)
def test_slopes_and_biases(name, settings, scaling, scores, tiny, exported, tokenizer):
    model = tiny(name, **settings)
    expected = scores(logits_of(model, tokenizer, TEXTS))
    np.testing.assert_allclose(stock_scores(exported(model, {"ordinary": scaling}), TEXTS), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_an_adapter_is_merged(name, exported, same_model):
    model, tokenizer = adapted(make(name, "eager")), tokenizer_for(name)
    with same_model(model):
        folder = exported(model, TEMPERATURE, tokenizer=tokenizer)
    assert not list(folder.glob("adapter*"))
    expected = softmax(logits_of(model, tokenizer, TEXTS) / T)
    np.testing.assert_allclose(stock_scores(folder, TEXTS), expected, rtol=0, atol=1e-6)


def test_a_trained_head_of_an_adapter_is_folded(tiny, exported, tokenizer):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny("bert", num_labels=3), LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))
    with torch.no_grad():
        model.base_model.model.classifier.modules_to_save["default"].weight.mul_(-2)
    folder = exported(model.eval(), TEMPERATURE)
    expected = softmax(logits_of(model, tokenizer, TEXTS) / T)
    np.testing.assert_allclose(stock_scores(folder, TEXTS), expected, rtol=0, atol=1e-6)


def test_a_calibrated_classifier_from_a_folder(tiny, bayesian, tokenizer, tmp_path):
    """From `calibrate` to the scores of a stock pipeline. The folder has no code of this package."""
    classifier = bayesian(tiny("bert", num_labels=3), num_samples=0)
    labels = [*classifier.predict_proba(TEXTS * 4, num_samples=0).argmax(1)[:-3], 0, 1, 2]
    classifier.calibrate(TEXTS * 4, labels, num_samples=0)
    classifier.save_pretrained(tmp_path / "calibrated")
    load(tmp_path / "calibrated").export(tmp_path / "served")
    config = json.loads((tmp_path / "served" / "config.json").read_text())
    assert not {"bayesian_text_classification", "custom_pipelines", "auto_map"} & set(config)
    names = {path.name for path in (tmp_path / "served").iterdir()}
    assert names == {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    answers = pipeline("text-classification", model=str(tmp_path / "served"))(TEXTS)
    for answer, own in zip(answers, classifier(TEXTS), strict=True):
        assert answer == {"label": own["label"], "score": pytest.approx(own["score"], abs=1e-6)}


def test_the_code_of_a_saved_folder_exports_too(tiny, bayesian, tokenizer, tmp_path):
    """Its calibration has classes of its own."""
    classifier = bayesian(tiny("bert", num_labels=3), num_samples=0)
    classifier.calibration = {"ordinary": TemperatureScaling(T, BIASES)}
    classifier.save_pretrained(tmp_path / "calibrated")
    copied = pipeline(model=str(tmp_path / "calibrated"), trust_remote_code=True)
    assert type(copied) is not type(classifier)
    copied.export(tmp_path / "served")
    expected = softmax(logits_of(classifier.model, tokenizer, TEXTS) / T + BIASES)
    np.testing.assert_allclose(stock_scores(tmp_path / "served", TEXTS), expected, rtol=0, atol=1e-6)


def test_a_bias_that_the_config_can_turn_on(exported):
    model, tokenizer = make("modernbert-decoder", "eager"), tokenizer_for("modernbert-decoder")
    assert model.classifier.bias is None
    folder = exported(model, {"ordinary": TemperatureScaling(T, (1.0, 0.0, -1.0))}, tokenizer=tokenizer)
    assert json.loads((folder / "config.json").read_text())["classifier_bias"] is True
    assert model.classifier.bias is None and not model.config.classifier_bias
    expected = softmax(logits_of(model, tokenizer, TEXTS) / T + [1, 0, -1])
    np.testing.assert_allclose(stock_scores(folder, TEXTS), expected, rtol=0, atol=1e-6)


def test_the_limit_of_the_model_is_that_of_the_tokenizer(tiny, exported, roberta_tokenizer):
    """A stock pipeline truncates by the tokenizer's limit, and this one has none."""
    assert roberta_tokenizer.model_max_length > 10**9
    model = tiny("roberta", num_labels=3, pad_token_id=1)
    folder = exported(model, TEMPERATURE, tokenizer=roberta_tokenizer)
    assert roberta_tokenizer.model_max_length > 10**9
    served = pipeline("text-classification", model=str(folder), truncation=True)
    assert served("good film " * 100)[0]["score"] > 0


# --- refusals -------------------------------------------------------------------------------------------------------


def test_scores_without_a_calibration_are_refused(small, tmp_path):
    classifier = copy.copy(small)
    line = r"classifier\.calibrate\(texts, labels, num_samples=0\)"
    with pytest.raises(NotCalibratedError, match=f"they are not calibrated; call {line}"):
        classifier.export(tmp_path / "served")
    classifier.calibration = {"dropout": TemperatureScaling(2.0)}
    with pytest.raises(NotCalibratedError, match=f"only its sampled scores are calibrated; call {line}"):
        classifier.export(tmp_path / "served")
    assert not list(tmp_path.iterdir())


def test_a_model_can_be_exported_as_it_is(small, small_stock, tmp_path):
    with pytest.warns(UserWarning, match=r"it leaves out its samples \(num_samples=20\)"):
        small.export(tmp_path / "served", uncalibrated=True)
    served = pipeline("text-classification", model=str(tmp_path / "served"))
    assert served(TEXTS) == small_stock(TEXTS)
    assert "They were not calibrated." in (tmp_path / "served" / "README.md").read_text()


def test_one_warning_names_what_is_left_out(tiny, bayesian, tmp_path):
    classifier = bayesian(tiny("bert", num_labels=3), num_samples=0, max_length=16)
    classifier.calibration = TEMPERATURE
    classifier.learn_scope([f"{text} {i}" for text in TEXTS for i in range(30)])
    classifier.threshold, classifier.novelty_level = 0.5, 0.05
    with pytest.warns(UserWarning) as caught:
        classifier.export(tmp_path / "served")
    (message,) = [str(one.message) for one in caught if one.filename == __file__]
    assert message == "an export is one ordinary pass; it leaves out threshold=0.5, novelty_level=0.05, max_length=16"


def test_an_ensemble_is_refused(tiny, bayesian, tmp_path):
    classifier = bayesian([tiny("bert", num_labels=3) for _ in range(2)])
    with pytest.raises(ExportError, match=r"an ensemble of 2 models.*classifier\.distill\(texts\)"):
        classifier.export(tmp_path / "served")


def test_a_full_folder_is_refused_and_stays(small, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not an empty folder"):
        small.export(tmp_path, uncalibrated=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(ValueError, match=r"to='tflite'; it must be one of 'transformers', 'onnx'"):
        small.export(tmp_path / "served", to="tflite")


def test_an_offset_without_a_bias_is_refused(tiny, exported, tmp_path):
    with pytest.raises(ExportError, match=r"\(score\) has no bias.*num_samples=0, method='temperature'\), or pass to="):
        exported(tiny("llama", num_labels=3, pad_token_id=0), {"ordinary": TemperatureScaling(T, (1, 0, -1))})
    model = tiny("llama", num_labels=1, pad_token_id=0)
    with pytest.raises(ExportError, match=r"cannot add the offset of this calibration; pass to='onnx'"):
        exported(model, {"ordinary": PlattScaling((0.5,), (1.0,))})
    assert not list(tmp_path.iterdir())


def test_numbers_and_another_activation_are_refused(tiny, bayesian, tmp_path):
    numbers = bayesian(tiny("bert", num_labels=1, problem_type="regression"), num_samples=0)
    with pytest.raises(ExportError, match=r"numbers have no calibration.*uncalibrated=True"):
        numbers.export(tmp_path / "served")
    numbers.export(tmp_path / "served", uncalibrated=True)
    other = bayesian(tiny("bert", num_labels=3), num_samples=0, function_to_apply="sigmoid")
    other.calibration = PLATT
    with pytest.raises(ExportError, match="problem_type = 'multi_label_classification'"):
        other.export(tmp_path / "other")
    other.model.config.problem_type = "multi_label_classification"
    other.export(tmp_path / "other")


def test_quantized_weights_are_refused(tiny, bayesian, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is deprecated
        model = torch.ao.quantization.quantize_dynamic(tiny("bert", num_labels=3), {nn.Linear}, dtype=torch.qint8)
    classifier = bayesian(model, num_samples=0)
    classifier.calibration = TEMPERATURE
    with pytest.raises(ExportError, match=r"weights are quantized.*load the model without quantization"):
        classifier.export(tmp_path / "served")


class Doubled(BertForSequenceClassification):
    """What transformers loads instead is BERT itself, with other logits."""

    def forward(self, **inputs):
        outputs = super().forward(**inputs)
        outputs.logits = 2 * outputs.logits
        return outputs


def test_another_class_of_a_known_type_is_refused(tiny, exported, tmp_path):
    model = tiny("bert", num_labels=3)
    model.__class__ = Doubled
    for there in (False, True):  # in a new folder, and in an empty one
        with pytest.raises(ExportError, match="transformers loads another model from what Doubled saves"):
            exported(model, TEMPERATURE)
        assert [path.name for path in tmp_path.rglob("*")] == ["served"] * there
        (tmp_path / "served").mkdir(exist_ok=True)
    empty = (tmp_path / "served").stat().st_ino
    exported(tiny("bert", num_labels=3), TEMPERATURE)
    assert (tmp_path / "served").stat().st_ino == empty and (tmp_path / "served" / "config.json").exists()


def test_another_tokenizer_of_a_type_is_refused(exported, tmp_path):
    with pytest.raises(ExportError, match="AutoTokenizer makes other tokens in a folder of model type 'qwen2'"):
        exported(make("qwen2", "eager"), TEMPERATURE, tokenizer=tokenizer_for("bert"))
    assert not list(tmp_path.iterdir())


def test_a_tied_last_layer_is_refused(tiny, exported):
    model = tiny("bert", num_labels=32)
    model.classifier.weight = model.bert.pooler.dense.weight
    with pytest.raises(ExportError, match=r"uses the weights of classifier in bert\.pooler\.dense too"):
        exported(model, TEMPERATURE)


# --- the last layer -------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """Mean of embeddings, then a head."""

    def __init__(self, head):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embedding = nn.Embedding(50, 8)
            self.one, self.other, self.conv = nn.Linear(8, 3), nn.Linear(8, 3), Conv1D(3, 8)
            self.parts = nn.ModuleList(nn.Linear(8, 1) for _ in range(3))
            nn.init.normal_(self.conv.weight)
        self.head = head

    def forward(self, input_ids):
        return {"logits": self.head(self, self.embedding(input_ids).mean(1))}


INPUTS = [{"input_ids": torch.arange(start, start + 5)[None]} for start in (1, 11, 25)]
LINE = Affine(torch.tensor([0.5, 2.0, 1.3]).double(), torch.tensor([1.0, 0.0, -2.0]).double())
HEADS = {
    "one layer": (lambda m, x: m.one(x), "one"),
    "Conv1D": (lambda m, x: m.conv(x), "conv"),
    "a layer for each label": (lambda m, x: torch.cat([part(x) for part in m.parts], 1), "parts.0, parts.1, parts.2"),
    "another layer of the same size before": (lambda m, x: m.other(x) * 0 + m.one(x), "one"),
    "mean over two tokens": (lambda m, x: (m.one(x) + m.one(2 * x)) / 2, "one"),
}
NOT_HEADS = {
    "mean of two layers": lambda m, x: (m.one(x) + m.other(x)) / 2,
    "tanh": lambda m, x: 300 * torch.tanh(m.one(x) / 300),
    "log-softmax": lambda m, x: m.one(x).log_softmax(-1),
    "normalized": lambda m, x: nn.functional.normalize(m.one(x)),
    "weights without their layer": lambda m, x: x @ m.one.weight.T + m.one.bias,
    "the bias twice": lambda m, x: m.one(x) + m.one.bias,
}


@pytest.mark.parametrize("name", HEADS)
def test_the_last_layer_is_found_and_changed(name):
    head, where = HEADS[name]
    model = Small(head)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    shared = copy.deepcopy(model, {id(one): one for one in model.parameters()})
    assert fold(shared, LINE, INPUTS) == where
    for one in INPUTS:
        torch.testing.assert_close(
            Forward(shared).logits(one).double(), LINE(Forward(model).logits(one)), rtol=0, atol=1e-6
        )
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", NOT_HEADS)
def test_logits_that_are_not_of_one_layer_are_refused(name):
    model = Small(NOT_HEADS[name])
    expected = [Forward(model).logits(one) for one in INPUTS]
    with pytest.raises(ExportError, match=r"Small.s logits do not come from a linear layer alone|not add the bias"):
        fold(model, LINE, INPUTS)
    assert all(torch.equal(Forward(model).logits(one), before) for one, before in zip(INPUTS, expected, strict=True))


def test_a_limit_that_the_texts_do_not_reach_is_refused():
    model = Small(NOT_HEADS["tanh"])
    temperature = Affine(torch.full((3,), 0.5).double(), torch.zeros(3).double())
    with pytest.raises(ExportError, match="not come from a linear layer alone"):
        fold(model, temperature, INPUTS)


def test_the_code_of_the_card_runs(tiny, exported):
    folder = exported(tiny("bert", num_labels=3), TEMPERATURE)
    card = (folder / "README.md").read_text()
    assert "Temperature 1.7 is part of" in card and "score = softmax(logits / T)" in card
    assert str(folder) not in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(code.replace("<this folder>", str(folder)), {})


def test_a_classifier_without_dropout_leaves_out_no_samples(tiny, bayesian, tmp_path):
    classifier = bayesian(tiny("llama", num_labels=3, attention_dropout=0.0, pad_token_id=0))
    assert classifier.sampling.num_samples == 20
    classifier.calibration = TEMPERATURE
    classifier.export(tmp_path / "served")  # our warnings are errors here


def test_attention_of_a_gpu_is_replaced(tiny, exported, tokenizer):
    model = tiny("bert", num_labels=3)
    expected = softmax(logits_of(model, tokenizer, TEXTS) / T)
    model.config._attn_implementation_internal = "flash_attention_2"  # as loaded where there is a GPU
    folder = exported(model, TEMPERATURE)
    assert model.config._attn_implementation == "flash_attention_2"
    np.testing.assert_allclose(stock_scores(folder, TEXTS), expected, rtol=0, atol=1e-6)
