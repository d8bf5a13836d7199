"""Models that transformers loads with at most a warning, and that must be refused."""

import contextlib
import json
from pathlib import Path

import pytest
import torch
from bayesian_text_classification.loading import classifiers
from bayesian_text_classification.loading.classifiers import ModelError, available_devices, load_classifier
from safetensors.torch import load_file, save_file


@pytest.fixture
def saved(tiny, tokenizer, tmp_path):
    """Saves a tiny model and a tokenizer (None saves no tokenizer) to a folder, and returns its path."""

    def save(architecture="bert", tokenizer=tokenizer, part=None, **settings):
        model = tiny(architecture, **settings)
        folder = tmp_path / "model"
        (model if part is None else getattr(model, part)).save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        return str(folder)

    return save


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"part": "bert"}, "its checkpoint lacks classifier.bias, classifier.weight, which would be initialized at"),
        ({"tokenizer": None}, "its tokenizer has 0 tokens, but the model has 30,522; the tokenizer's files are"),
        ({"architecture": "gpt2", "tokenizer": None}, "its tokenizer has 0 tokens, but the model has 30,522"),
        ({"architecture": "t5", "tokenizer": None}, "its tokenizer has 1 tokens, but the model has 30,522"),
        ({"vocab_size": 400_000}, "its tokenizer has 30,517 tokens, but the model has 400,000"),
        ({"vocab_size": 20_000}, "its tokenizer has token ids up to 30,521, but the model only accepts ids below"),
    ],
)  # fmt: skip
def test_incomplete_models_raise_in_one_line(saved, model, message):
    folder = saved(**model)
    with pytest.raises(ModelError) as caught:
        load_classifier(folder)
    assert str(caught.value).startswith(f"cannot load {folder!r}: {message}")
    assert "\n" not in str(caught.value)


def test_embedding_table_may_be_rounded_up(saved):
    assert load_classifier(saved(vocab_size=30_720)).predict_proba(["good"]).shape == (1, 2)


def test_device_and_dtype_are_passed_on(saved):
    assert "cpu" in available_devices()
    classifier = load_classifier(saved(), "cpu", "bfloat16")
    assert classifier.device == torch.device("cpu")
    assert classifier.model.dtype == classifier.run_dtype == torch.bfloat16
    assert load_classifier(saved()).run_dtype == torch.float32


@pytest.fixture
def adapter(saved, tmp_path):
    """Saves an adapter whose base model has no head."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    def save(**settings):
        base = saved(part="bert")
        model = AutoModelForSequenceClassification.from_pretrained(base)
        config = LoraConfig(**{"target_modules": ["query", "value"], "lora_dropout": 0.1, **settings})
        adapted = get_peft_model(model, config)
        adapted.save_pretrained(tmp_path / "adapter")
        return str(tmp_path / "adapter"), adapted.eval()

    return save


def test_adapter_may_contain_the_head_that_its_base_lacks(adapter, tokenizer):
    folder, adapted = adapter(task_type="SEQ_CLS")
    with torch.no_grad():
        expected = adapted(**tokenizer(["good"], return_tensors="pt")).logits.softmax(-1)
    found = load_classifier(folder).predict_proba(["good"], num_samples=0)
    assert torch.allclose(torch.tensor(found), expected, atol=1e-6)


@pytest.mark.parametrize("targets", [["query"], ["query", "classifier"]])
def test_adapter_without_a_head_raises(adapter, targets):
    folder, _ = adapter(target_modules=targets)
    with pytest.raises(ModelError, match=r"lacks classifier\.bias, classifier\.weight, which would be initialized"):
        load_classifier(folder)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], "its weights are damaged (Error while deserializing header"),
        (lambda whole: whole[:-1], "its weights are damaged (Error while deserializing header"),
        (lambda whole: b"", "its weights are damaged (Error while deserializing header"),
        (lambda whole: b"<html>not found</html>" * 99, "its weights are damaged (Error while deserializing header"),
    ],
    ids=["half", "a byte less", "nothing", "a web page"],
)
def test_damaged_weights_raise_in_one_line(saved, damaged, message):
    folder = saved()
    weights = Path(folder) / "model.safetensors"
    weights.write_bytes(damaged(weights.read_bytes()))
    with pytest.raises(ModelError) as caught:
        load_classifier(folder)
    assert str(caught.value).startswith(f"cannot load {folder!r}: {message}") and "\n" not in str(caught.value)


class Bomb:
    """An object whose unpickling creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def pickled(folder, safe, pickle, more):
    """Convert the weights of a folder to the old pickle format of PyTorch."""
    weights = load_file(folder / safe)
    (folder / safe).unlink()
    torch.save({**weights, **more}, folder / pickle)


def test_pickled_weights_need_allow_pickle(saved, tmp_path):
    folder = Path(saved())
    expected = load_classifier(str(folder)).predict_proba(["good"])
    pickled(folder, "model.safetensors", "pytorch_model.bin", {})
    with pytest.raises(ModelError, match=r"it has no model\.safetensors; .* pass allow_pickle=True to load the"):
        load_classifier(str(folder))
    assert load_classifier(str(folder), allow_pickle=True).predict_proba(["good"]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_pickles_never_run_code(saved, tmp_path, allow_pickle):
    folder = Path(saved())
    pickled(folder, "model.safetensors", "pytorch_model.bin", {"more": Bomb(tmp_path / "taken")})
    with pytest.raises(ModelError):
        load_classifier(str(folder), allow_pickle=allow_pickle)
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_pickled_adapters_raise(adapter, tmp_path, allow_pickle):
    folder = Path(adapter(task_type="SEQ_CLS")[0])
    pickled(folder, "adapter_model.safetensors", "adapter_model.bin", {"more": Bomb(tmp_path / "taken")})
    with pytest.raises(ModelError, match=r"it has no adapter_model\.safetensors; pickled adapters are not loaded"):
        load_classifier(str(folder), allow_pickle=allow_pickle)
    assert not (tmp_path / "taken").exists()


def test_pickled_adapters_saved_with_their_model_raise(adapter, tmp_path, bayesian):
    from transformers import AutoModelForSequenceClassification

    _, adapted = adapter(task_type="SEQ_CLS")
    folder = tmp_path / "whole"
    bayesian(adapted).save_pretrained(folder)
    load_classifier(str(folder))
    pickled(folder / "adapter", "adapter_model.safetensors", "adapter_model.bin", {})
    for load in (load_classifier, lambda name: bayesian(AutoModelForSequenceClassification.from_pretrained(name))):
        with pytest.raises(ValueError, match=r"it has no adapter_model\.safetensors; pickled adapters are not loaded"):
            load(str(folder))


@pytest.mark.parametrize("model_type", ["bert", "unheard-of"])
def test_code_in_the_model_folder_is_not_run(saved, tmp_path, model_type):
    folder = Path(saved())
    code = f"import pathlib; pathlib.Path({str(tmp_path / 'taken')!r}).touch()"
    (folder / "code.py").write_text(code)
    names = ("AutoConfig", "AutoModelForSequenceClassification", "AutoTokenizer")
    for file in ("config.json", "tokenizer_config.json"):
        config = json.loads((folder / file).read_text())
        config |= {"model_type": model_type, "auto_map": dict.fromkeys(names, "code.Mine")}
        (folder / file).write_text(json.dumps(config))
    with contextlib.suppress(ModelError):  # a bert may load as a plain bert
        load_classifier(str(folder))
    assert not (tmp_path / "taken").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_or_infinite_weights_raise(saved, value):
    folder = Path(saved())
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][0] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="input 0: the model's outputs for it are NaN or infinite"):
        load_classifier(str(folder))(["good"])


def test_more_class_names_than_outputs_raise(saved):
    folder = Path(saved())
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(i): f"L{i}" for i in range(5)}
    config["label2id"] = {f"L{i}": i for i in range(5)}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ModelError, match=r"classifier\.bias of shape \(2,\), but its config expects \(5,\); the number of"
    ):
        load_classifier(str(folder))


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "a/b/c", "~/mine"])
def test_a_missing_folder_is_called_that(name):
    with pytest.raises(ModelError, match=r": no such folder; pass the folder of a model, or its id on the Hub"):
        load_classifier(name)


def test_an_adapter_without_peft_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "adapter_config.json").write_text("{}")
    monkeypatch.setattr(classifiers, "is_peft_available", lambda: False)
    with pytest.raises(ModelError, match="it is a LoRA adapter, which needs peft: pip install peft"):
        load_classifier(tmp_path)
