"""LoRA adapters on one base as an ensemble."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from bayesian_text_classification import BayesianTextClassificationPipeline, load
from bayesian_text_classification.loading.classifiers import ModelError
from pipeline_cases import TEXTS


@pytest.fixture(scope="module")
def model(tiny):
    return tiny("bert", num_labels=3)


@pytest.fixture(scope="module")
def adapters(model, saved_to, tmp_path_factory):
    """The folders of a base, of a copy of it, and of two LoRA adapters on it."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapters")
    saved_to(folder / "base", model), saved_to(folder / "copy", model)
    for seed in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"], init_lora_weights=False)
            get_peft_model(copy.deepcopy(model), config).save_pretrained(folder / str(seed))
    return folder


def test_adapters_on_one_base_are_an_ensemble_that_holds_the_base_once(adapters, tmp_path):
    ours = load(adapters / "base", adapters=[adapters / "0", adapters / "1"])
    weights = [{p.data_ptr() for name, p in model.named_parameters() if "query.base" in name} for model in ours.members]
    assert weights[0] == weights[1] and weights[0]
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    alone = []
    for seed in range(2):
        base = AutoModelForSequenceClassification.from_pretrained(adapters / "base")
        model = PeftModel.from_pretrained(base, adapters / str(seed)).eval()
        words = AutoTokenizer.from_pretrained(adapters / "base")(TEXTS, padding=True, return_tensors="pt")
        with torch.no_grad():
            alone.append(model(**words).logits.softmax(-1).numpy())
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    np.testing.assert_allclose(ours.sample_proba(TEXTS), np.stack(alone, 2), rtol=0, atol=1e-5)
    ours.save_pretrained(tmp_path)
    assert sorted(path.name for path in (tmp_path / "members" / "1").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    again = load(tmp_path)
    assert again(TEXTS) == ours(TEXTS)
    again.save_pretrained(tmp_path / "again")  # the adapters still share their base
    assert load(tmp_path / "again")(TEXTS) == ours(TEXTS)


def test_a_listed_classifier_keeps_the_adapter_that_was_saved_with_it(adapters, tmp_path):
    from peft import PeftModel

    base = load(adapters / "base")
    for seed in "01":
        model = PeftModel.from_pretrained(copy.deepcopy(base.model), adapters / seed)
        BayesianTextClassificationPipeline(model=model, tokenizer=base.tokenizer).save_pretrained(tmp_path / seed)
    both = load([tmp_path / "0", tmp_path / "1"])
    for k, seed in enumerate("01"):
        alone = load(tmp_path / seed).predict_proba(TEXTS, num_samples=0)
        np.testing.assert_allclose(both.sample_proba(TEXTS)[:, :, k], alone, rtol=0, atol=1e-6)


def test_adapters_may_bring_the_head_that_their_base_lacks(adapters, model, saved_to, tmp_path):
    saved_to(tmp_path / "encoder", model.base_model)
    ours = load(tmp_path / "encoder", adapters=[adapters / "0", adapters / "1"])
    expected = load(adapters / "base", adapters=[adapters / "0", adapters / "1"])
    np.testing.assert_allclose(ours.sample_proba(TEXTS), expected.sample_proba(TEXTS), rtol=0, atol=1e-6)
    with pytest.raises(ModelError, match="its checkpoint lacks classifier"):
        load(tmp_path / "encoder")


def test_an_adapter_beside_a_model_is_not_saved_in_part(adapters, tmp_path):
    mixed = load([adapters / "base", adapters / "copy"])
    from peft import PeftModel

    models = [PeftModel.from_pretrained(copy.deepcopy(mixed.model), adapters / "0"), mixed.members[1]]
    ours = BayesianTextClassificationPipeline(model=models, tokenizer=mixed.tokenizer)
    with pytest.raises(ValueError, match="can be saved if all members are adapters of one base"):
        ours.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_adapter_of_another_model_is_loaded_with_a_warning(adapters, tmp_path, recwarn):
    pair = [adapters / "0", adapters / "1"]
    moved = tmp_path / "base"
    shutil.copytree(adapters / "base", moved)
    load(moved, adapters=pair)  # folders move, and keep their names
    recwarn.clear()
    for seed in (0, 1):
        _say_base(adapters / str(seed), tmp_path / str(seed), "somebody/base")
    named_alike = [tmp_path / "0", tmp_path / "1"]
    load(moved, adapters=named_alike)
    assert not [one for one in recwarn if "was trained on" in str(one.message)]
    moved.rename(tmp_path / "other")
    with pytest.warns(UserWarning, match=r"the adapter .*0 was trained on base but is loaded on other; unless these"):
        load(tmp_path / "other", adapters=named_alike)


def _say_base(adapter, target, base):
    shutil.copytree(adapter, target)
    path = target / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": base}))


def test_an_adapter_that_does_not_load_is_named(adapters):
    with pytest.raises(ModelError, match=r"^cannot load the adapter '.*base': it has no adapter_model\.safetensors"):
        load(adapters / "base", adapters=[adapters / "0", adapters / "base"])
    with pytest.raises(ModelError, match=r"missing: no such folder; pass the folder of a PEFT adapter, or its id"):
        load(adapters / "base", adapters=[adapters / "0", adapters / "missing"])
    with pytest.raises(ValueError, match=r"the ensemble has .*0 twice"):
        load(adapters / "base", adapters=[adapters / "0", adapters / "0"])
    with pytest.raises(
        ModelError, match=r"^cannot load the adapter '.*0': its weights do not fit the shapes of the model's; "
    ):
        load(adapters=[adapters / "0", adapters / "1"])  # the embedded model is larger
