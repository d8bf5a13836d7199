"""Models that transformers loads with a warning at most, and that the command must not score."""

import pytest
import torch
from bayesian_text_classification.loading import ModelError, available_devices, load_classifier


@pytest.fixture
def saved(tiny, tokenizer, tmp_path):
    """Writes a tiny model and a tokenizer (None: no files of one) to a folder; gives its path."""

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
        ({"part": "bert"}, "its checkpoint has no classifier.bias, classifier.weight, which would be random numbers"),
        ({"tokenizer": None}, "its tokenizer knows 0 tokens and the model 30,522; the tokenizer's files are missing"),
        ({"architecture": "gpt2", "tokenizer": None}, "its tokenizer knows 0 tokens and the model 30,522"),
        ({"architecture": "t5", "tokenizer": None}, "its tokenizer knows 1 tokens and the model 30,522"),
        ({"vocab_size": 400_000}, "its tokenizer knows 30,517 tokens and the model 400,000"),
        ({"vocab_size": 20_000}, "its tokenizer has token ids up to 30,521 and the model only those below 20,000"),
    ],
)  # fmt: skip
def test_incomplete_models_are_refused_in_one_line(saved, model, message):
    folder = saved(**model)
    with pytest.raises(ModelError) as caught:
        load_classifier(folder)
    assert str(caught.value).startswith(f"cannot load {folder!r}: {message}")
    assert "\n" not in str(caught.value)


def test_a_table_of_words_may_be_rounded_up(saved):
    assert load_classifier(saved(vocab_size=30_720)).predict_proba(["good"]).shape == (1, 2)


def test_device_and_dtype_are_handed_on(saved):
    assert "cpu" in available_devices()
    classifier = load_classifier(saved(), "cpu", "bfloat16")
    assert classifier.device == torch.device("cpu")
    assert classifier.model.dtype == classifier.run_dtype == torch.bfloat16
    assert load_classifier(saved()).run_dtype == torch.float32


@pytest.fixture
def adapter(saved, tmp_path):
    """Writes an adapter of a base without a head."""
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


def test_an_adapter_may_bring_the_head_that_its_base_lacks(adapter, tokenizer):
    folder, adapted = adapter(task_type="SEQ_CLS")
    with torch.no_grad():
        expected = adapted(**tokenizer(["good"], return_tensors="pt")).logits.softmax(-1)
    found = load_classifier(folder).predict_proba(["good"], num_samples=0)
    assert torch.allclose(torch.tensor(found), expected, atol=1e-6)


@pytest.mark.parametrize("targets", [["query"], ["query", "classifier"]])
def test_an_adapter_without_a_head_is_refused(adapter, targets):
    folder, _ = adapter(target_modules=targets)
    with pytest.raises(ModelError, match=r"no classifier\.bias, classifier\.weight, which would be random"):
        load_classifier(folder)
