"""ONNX graphs: ONNX Runtime gives the calibrated logits of PyTorch, alone and in padded batches of any length."""

import functools
import sys
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from architectures import TEXTS, adapted, make, tokenizer_for
from bayesian_text_classification import PlattScaling, TemperatureScaling
from bayesian_text_classification.distillation import onnx_graph
from bayesian_text_classification.distillation.affine import ExportError
from transformers import AutoTokenizer

# Each takes seconds, so these stand for all types; an export checks every graph that it writes.
USUAL = ["bert"]
MORE = ["modernbert", "qwen3", "albert", "deberta-v2", "distilbert", "electra", "llama", "mpnet", "roberta", "t5"]
NO_GRAPH = ["longformer", "xlnet"]  # of the types whose code PyTorch's exporter or ONNX Runtime does not accept

T = 1.7
TEMPERATURE = {"ordinary": TemperatureScaling(T)}


@pytest.fixture
def graph(exported):
    """Exports a model as a graph, and returns the folder."""
    return functools.partial(exported, to="onnx")


def runtime_logits(folder, texts):
    """Logits of ONNX Runtime for one batch, with the tokenizer of the folder. *Shape:* (texts, labels)."""
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    rows = AutoTokenizer.from_pretrained(folder)(list(texts), padding=True, return_tensors="np")
    (logits,) = session.run(["logits"], {one.name: rows[one.name] for one in session.get_inputs()})
    return logits


def torch_logits(model, tokenizer, texts):
    rows = tokenizer(list(texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"]).logits.double().numpy()


def check(folder, model, tokenizer, scaled):
    for texts in (TEXTS[:1], TEXTS[1:], TEXTS * 3):
        expected = scaled(torch_logits(model, tokenizer, texts))
        np.testing.assert_allclose(runtime_logits(folder, texts), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", [*USUAL, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_runtime_gives_the_tempered_logits(name, graph, same_model):
    model, tokenizer = make(name, "sdpa" if name == "bert" else "eager"), tokenizer_for(name)
    with same_model(model):
        folder = graph(model, TEMPERATURE, tokenizer=tokenizer)
    files = {path.name for path in folder.iterdir()}
    assert files == {"README.md", "config.json", "model.onnx", "tokenizer.json", "tokenizer_config.json"}
    check(folder, model, tokenizer, lambda logits: logits / T)


@pytest.mark.slow
@pytest.mark.parametrize("name", NO_GRAPH)
def test_types_without_a_graph_are_refused_by_name(name, graph, tmp_path):
    with pytest.raises(ExportError, match=r"has no ONNX graph: .*; pass to='transformers'"):
        graph(make(name, "eager"), TEMPERATURE, tokenizer=tokenizer_for(name))
    assert not list(tmp_path.iterdir())


def test_a_graph_holds_an_offset_where_the_weights_cannot(graph, tiny, tokenizer):
    model = tiny("llama", num_labels=1, pad_token_id=0)
    folder = graph(model, {"ordinary": PlattScaling((0.5,), (1.5,))})
    check(folder, model, tokenizer, lambda logits: 0.5 * logits + 1.5)


def test_independent_labels_of_an_adapter_in_half_precision(graph, tokenizer):
    model, words = adapted(make("roberta", "eager")).bfloat16(), tokenizer_for("roberta")
    model.config.problem_type = "multi_label_classification"
    scaling = PlattScaling((0.5, 1.3, 2.0), (0.7, 0.0, -1.1))
    folder = graph(model, {"ordinary": scaling}, tokenizer=words)
    check(folder, model.float(), words, lambda logits: logits * scaling.slopes + scaling.biases)


def test_a_model_of_single_texts_is_refused(graph, tiny, tmp_path):
    with pytest.raises(ExportError, match=r'has no pad_token_id.*set "pad_token_id": 0 in the config.json'):
        graph(tiny("gpt2", num_labels=3), TEMPERATURE)
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_model_is_shown_as_it_is(exported, tiny, monkeypatch):
    def fail(*args):
        raise ValueError("an error of the model")

    monkeypatch.setattr(onnx_graph, "Forward", lambda model: SimpleNamespace(logits=fail))
    with pytest.raises(ValueError, match=r"^an error of the model$"):
        exported(tiny("bert", num_labels=3), TEMPERATURE, to="onnx")


def test_another_answer_of_the_runtime_is_refused(graph, tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_graph._Graph, "forward", lambda graph, *values: values[0][:, :3] * 1.0)
    with pytest.raises(ExportError, match=r"BertForSeq.*: the logits of its graph in ONNX Runtime are .* away"):
        graph(tiny("bert", num_labels=3), TEMPERATURE)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named(graph, tiny, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr(onnx_graph.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ImportError, match=r'needs onnxscript: pip install "bayesian-text-classification\[onnx\]"'):
        graph(tiny("bert", num_labels=3), TEMPERATURE)
    assert not list(tmp_path.iterdir())
