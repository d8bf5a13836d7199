import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

# --- every way to call dropout ----------------------------------------------------------------------------------------


class Channels(nn.Module):
    """(batch, length, width) -> (batch, width, length, ...) and back, for dropout of whole channels."""

    def __init__(self, module, extra):
        super().__init__()
        self.inner, self.extra = module, extra

    def forward(self, x):
        x = x.transpose(1, 2)
        x = self.inner(x.reshape(*x.shape, *[1] * self.extra))
        return x.reshape(x.shape[:3]).transpose(1, 2)


class Functional(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.2, self.training) + F.dropout(x, p=0.2, training=self.training)


class Gated(nn.Module):
    """Like attention in transformers: p is 0 unless the module is in train() mode."""

    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.2 if self.training else 0.0)


class Torch(nn.Module):
    """Bypasses torch.nn.functional."""

    def forward(self, x):
        return torch.dropout(x, 0.2, self.training)


class Inplace(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.2, inplace=True)

    def forward(self, x):
        x = x * 1
        self.drop(x)
        return x


class Twice(nn.Module):
    """One module under two names, called twice under one of them."""

    def __init__(self):
        super().__init__()
        self.one = self.other = nn.Dropout(0.2)

    def forward(self, x):
        return self.other(torch.relu(self.one(self.one(x))))


class Attention(nn.Module):
    """PyTorch's multi-head attention, which calls dropout inside a function of torch.nn.functional."""

    def __init__(self, need_weights=False):
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 4, dropout=0.2, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x):
        return self.inner(x, x, x, need_weights=self.need_weights)[0]


def encoder_layer(**options):
    return nn.TransformerEncoderLayer(16, 4, 32, dropout=0.2, batch_first=True, **options)


OWN = {
    "Dropout": (lambda: nn.Dropout(0.2), 1),
    "Dropout1d": (lambda: Channels(nn.Dropout1d(0.2), 0), 1),
    "Dropout2d": (lambda: Channels(nn.Dropout2d(0.2), 1), 1),
    "Dropout3d": (lambda: Channels(nn.Dropout3d(0.2), 2), 1),
    "AlphaDropout": (lambda: nn.AlphaDropout(0.2), 1),
    "FeatureAlphaDropout": (lambda: Channels(nn.FeatureAlphaDropout(0.2), 0), 1),
    "functional": (Functional, 2),
    "gated attention": (Gated, 1),
    "torch.dropout": (Torch, 1),
    "in place": (Inplace, 1),
    "twice": (Twice, 3),
    "MultiheadAttention": (Attention, 1),
    "MultiheadAttention with weights": (lambda: Attention(True), 1),
    "TransformerEncoder": (lambda: nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=False), 8),
    "TransformerEncoder, nested": (lambda: nn.TransformerEncoder(encoder_layer(), 2), 8),
}


@pytest.mark.parametrize("name", OWN)
def test_custom_models_are_sampled_like_train_mode(name, encode, twin_of, samples, calls_of, own):
    """All calls are found, the mean matches train() mode, and a text has the same samples alone and in a batch."""
    make, calls = OWN[name]
    model, inputs = own(make()), encode(["a good film", "a bad film"])
    twin = twin_of(model)
    assert calls_of(twin) == calls
    keyed = twin.sample_logits(inputs, range(1000), seed=0, balanced=True).double()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rows = {key: value.repeat_interleave(1000, 0) for key, value in inputs.items()}
        native = copy.deepcopy(model).train()(**rows)["logits"].view(2, 1000, 2).double()
    error = ((native.var(1) + keyed.var(1)) / 1000).sqrt()
    assert ((native.mean(1) - keyed.mean(1)).abs() / error).max() < 4.5
    np.testing.assert_allclose(keyed.std(1), native.std(1), rtol=0.15)
    alone = samples(twin, encode(["a bad film"]))
    torch.testing.assert_close(samples(twin, inputs)[1:], alone, rtol=0, atol=1e-5)


def test_an_aliased_dropout_is_one_site(twin_of, own):
    (site,) = twin_of(own(Twice())).sites()
    assert (site.name, site.calls) == ("subject.one", 3)


def test_whole_channels_are_dropped(encode, twin_of, samples, own):
    """Dropout1d: a channel is dropped at all positions or at none."""
    model = own(Channels(nn.Dropout1d(0.5), 0))
    outputs = []
    twin = twin_of(model)
    twin._model.subject.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    samples(twin, encode(["a good film"]), 20)
    zero = outputs[-1] == 0
    assert torch.equal(zero.all(1), zero.any(1))
    assert 0.3 < zero.float().mean() < 0.7


class Pooled(nn.Module):
    """A subject on the mean over positions, (batch, width), or on the text as an image, (batch, 4, 2, width / 8)."""

    def __init__(self, module, image):
        super().__init__()
        self.module, self.image = module, image

    def forward(self, x):
        pooled = x.mean(1)
        pooled = pooled.view(len(x), 4, 2, -1) if self.image else pooled
        return self.module(pooled).view(len(x), 1, -1).expand_as(x)


@pytest.mark.parametrize(("module", "image"), [(nn.Dropout1d, False), (nn.Dropout3d, True)])
def test_without_a_batch_dimension_whole_rows_are_dropped(module, image, encode, twin_of, own, texts):
    """PyTorch takes the first of two (Dropout1d) or four dimensions (Dropout3d) as channels: here, the texts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = torch.ones(2000, 4, 2, 2) if image else torch.ones(2000, 16)
        native = module(0.3)(x).flatten(1) == 0
    assert torch.equal(native.all(1), native.any(1))
    twin = twin_of(own(Pooled(module(0.3), image)))
    outputs = []
    twin._model.subject.module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    twin.sample_logits(encode(texts), range(1000), seed=0, balanced=True)
    zero = outputs[-1].flatten(1) == 0
    assert torch.equal(zero.all(1), zero.any(1))
    assert zero.all(1).float().mean() == pytest.approx(0.3, abs=0.001)  # balanced: 3 of 10 passes
    assert native.all(1).float().mean() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("module", [nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_p_of_one_drops_everything(module, encode, twin_of, samples, own, texts):
    model = own(module(1.0))
    found = samples(twin_of(model), encode(texts))
    torch.testing.assert_close(found, model.out.bias.detach().expand_as(found))
