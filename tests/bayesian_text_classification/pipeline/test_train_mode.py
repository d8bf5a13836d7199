import pytest
import torch
from torch import nn


def test_layerdrop_stays_off(tiny, encode, twin_of, recwarn, samples, calls_of, texts):
    dropped = tiny("bart", encoder_layerdrop=0.5, decoder_layerdrop=0.5)
    twin, inputs = twin_of(dropped), encode(texts)
    assert calls_of(twin) == 24
    assert torch.equal(samples(twin, inputs, 20), samples(twin_of(tiny("bart")), inputs, 20))
    assert (dropped.model.encoder.layerdrop, dropped.config.encoder_layerdrop) == (0.5, 0.5)
    assert not [warning for warning in recwarn if "more than dropout" in str(warning.message)]


def test_gradient_checkpointing_stays_off(tiny, encode, twin_of, samples, texts):
    model = tiny("bert")
    expected = samples(twin_of(model), encode(texts))
    model.gradient_checkpointing_enable()
    assert torch.equal(samples(twin_of(model.train()), encode(texts)), expected)
    assert model.is_gradient_checkpointing


class Steps(nn.Module):
    """Counts training steps in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.steps += 1
        return x


class Norm(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


MOVING = {
    "BatchNorm": lambda: Norm(nn.BatchNorm1d(16)),
    "InstanceNorm": lambda: Norm(nn.InstanceNorm1d(16, track_running_stats=True)),
    "spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16)),
    "own buffer": Steps,
}


@pytest.mark.filterwarnings("ignore:.*does more than dropout")
@pytest.mark.parametrize("name", MOVING)
def test_buffers_that_training_updates_do_not_change(name, encode, twin_of, same_model, samples, own, texts):
    """The twin shares these buffers with the caller."""
    model = own(nn.Sequential(MOVING[name](), nn.Dropout(0.1)))
    with same_model(model):
        twin = twin_of(model)
        samples(twin, encode(texts))


def test_batchnorm_stays_in_eval_mode(encode, twin_of, own, texts):
    model = own(nn.Sequential(Norm(nn.BatchNorm1d(16)), nn.Dropout(0.1)))
    model.subject[0].norm.running_mean.fill_(3.0)
    twin, inputs = twin_of(model), encode(texts)
    with torch.no_grad():
        torch.testing.assert_close(twin.logits(inputs), model(**inputs)["logits"])
    assert twin.beyond_dropout is None


class Jitter(nn.Module):
    """Mixtral's noise in train() mode. Phi-MoE also reads this attribute in eval() mode, as a threshold."""

    def __init__(self):
        super().__init__()
        self.jitter_noise = 0.25
        self.drop = nn.Dropout(0.1)

    def forward(self, x):
        if self.training and self.jitter_noise > 0:
            x = x * torch.empty_like(x).uniform_(1 - self.jitter_noise, 1 + self.jitter_noise)
        return self.drop(x)


def test_jitter_stays_off_and_keeps_its_value(encode, twin_of, calls_of, own):
    twin = twin_of(own(Jitter()))
    assert (twin.beyond_dropout, calls_of(twin)) == (None, 1)
    assert twin._model.subject.jitter_noise == 0.25


@pytest.mark.parametrize("setting", ["flex_attention", "flash_attention_2"])
@pytest.mark.parametrize("architecture", ["bert", "llama", "modernbert"])
def test_flash_and_flex_attention_become_sdpa(architecture, setting, tiny, encode, twin_of, same_model, samples, texts):
    """Their dropout is inside a kernel. The caller's setting does not change."""
    model = tiny(architecture, **({"pad_token_id": 0} if architecture == "llama" else {}))
    expected = samples(twin_of(model), encode(texts))
    model.config._attn_implementation_internal = setting
    with same_model(model):
        twin = twin_of(model)
        assert torch.equal(samples(twin, encode(texts)), expected)
    assert (model.config._attn_implementation, twin._model.config._attn_implementation) == (setting, "sdpa")
