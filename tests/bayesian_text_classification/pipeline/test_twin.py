import copy

import pytest
import torch
from torch import nn

# --- the caller's model -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("architecture", ["bert", "bart", "gpt2", "xlnet"])
def test_the_callers_model_is_unchanged(
    architecture, training, tiny, encode, twin_of, same_random_state, same_model, samples, texts
):
    model, inputs = tiny(architecture).train(training), encode(texts[:1])
    with same_random_state(), same_model(model):
        twin = twin_of(model, can_pad=model.config.pad_token_id is not None)
        samples(twin, inputs)
        twin.logits(inputs)
    assert all(value.grad is None and value.requires_grad for value in model.parameters())


def test_train_mode_does_not_change_the_answers(tiny, encode, twin_of, samples, texts):
    model, inputs = tiny("bart"), encode(texts)
    expected = samples(twin_of(model), inputs)
    assert torch.equal(samples(twin_of(model.train()), inputs), expected)
    assert torch.equal(twin_of(model).logits(inputs), twin_of(model.eval()).logits(inputs))


def test_switching_to_train_mode_keeps_the_twin_current(tiny, twin_of):
    model = tiny("bert")
    twin = twin_of(model)
    model.train()
    assert twin.is_current()


@pytest.mark.parametrize("architecture", ["bert", "bart", "albert", "t5"])
def test_weights_are_shared_and_take_no_extra_memory(architecture, tiny, twin_of):
    model = tiny(architecture)
    twin = twin_of(model)
    mine, theirs = twin._model, model
    assert mine is not theirs
    for kind in ("named_parameters", "named_buffers"):
        ours, caller = dict(getattr(mine, kind)()), dict(getattr(theirs, kind)())
        assert ours.keys() == caller.keys()
        assert all(ours[name] is caller[name] for name in ours)


def test_another_dtype_only_converts_a_copy(tiny, encode, twin_of, samples, texts):
    model, inputs = tiny("bert").half(), encode(texts)
    twin = twin_of(model, dtype=torch.float32)
    assert samples(twin, inputs).dtype == torch.float32
    assert {value.dtype for value in model.parameters()} == {torch.float16}
    float32 = copy.deepcopy(model).float()
    torch.testing.assert_close(samples(twin, inputs), samples(twin_of(float32), inputs), rtol=0, atol=1e-5)


# --- when the twin is stale -------------------------------------------------------------------------------------------


def rename_weights(model):
    model.classifier.weight = nn.Parameter(model.classifier.weight.detach() * 2)


def change_p(model):
    model.dropout.p = 0.3


def replace_module(model):
    model.classifier = nn.Linear(32, 2)


def half(model):
    model.half()


def double(model):
    model.to(torch.float64)


def attention(model):
    model.set_attn_implementation("eager")


def attention_dropout(model):
    model.bert.encoder.layer[0].attention.self.dropout.p = 0.4


def no_more_pads(model):
    model.config.pad_token_id = None


def hook(model):
    model.classifier.register_forward_hook(lambda module, inputs, output: output * 2)


def adapter(model):
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(target_modules=["query"], lora_dropout=0.1), model)


@pytest.mark.parametrize(
    "change",
    [rename_weights, change_p, replace_module, half, double, attention, attention_dropout, no_more_pads, hook, adapter],
)
def test_a_changed_model_makes_the_twin_stale(change, tiny, twin_of):
    model = tiny("bert")
    twin = twin_of(model)
    assert twin.is_current()
    change(model)
    assert not twin.is_current()


@pytest.mark.parametrize("how", ["in place", "state dict", "data", "optimizer"])
def test_the_twin_follows_new_values_of_the_same_weights(how, tiny, encode, twin_of, samples, texts):
    model, inputs = tiny("bert"), encode(texts)
    twin = twin_of(model)
    new = tiny("bert")
    with torch.no_grad():
        for value in new.parameters():
            value.mul_(1.1)
    if how == "in place":
        with torch.no_grad():
            for value in model.parameters():
                value.mul_(1.1)
    elif how == "state dict":
        model.load_state_dict(new.state_dict())
    elif how == "data":
        for value, other in zip(model.parameters(), new.parameters(), strict=True):
            value.data = other.data
    else:
        for value in model.parameters():
            value.grad = -0.1 * value.detach()
        torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert twin.is_current()
    torch.testing.assert_close(samples(twin, inputs), samples(twin_of(new), inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["in place", "data"])
def test_new_weight_values_make_a_converted_twin_stale(how, tiny, twin_of):
    """The float32 copy does not see the new values."""
    model = tiny("bert").half()
    twin = twin_of(model, dtype=torch.float32)
    assert twin.is_current()
    with torch.no_grad():
        if how == "in place":
            model.classifier.weight.mul_(2)
        else:
            model.classifier.weight.data = model.classifier.weight.data * 2
    assert not twin.is_current()
