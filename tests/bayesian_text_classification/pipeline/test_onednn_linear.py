from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from bayesian_text_classification.pipeline import onednn_linear as module
from bayesian_text_classification.pipeline.onednn_linear import linear, use_the_whole_processor
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


@pytest.fixture
def slow_mkl(monkeypatch):
    monkeypatch.setattr(module, "_mkl_is_slow", lambda: True)


def onednn_calls(run):
    """The result of `run()` without gradients, and the number of linear layers that oneDNN computes in it."""
    with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        result = run()
    return result, sum(event.name == "mkldnn::_linear_pointwise" for event in profile.events())


@given(
    leading=st.sampled_from([(512,), (16, 32), (2, 4, 64), (1, 700)]),
    inputs=st.integers(1, 200),
    outputs=st.integers(1, 200),
    biased=st.booleans(),
    turned=st.booleans(),
)
@settings(max_examples=60)
def test_products_match_exact_arithmetic(leading, inputs, outputs, biased, turned):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = torch.randn(*leading, inputs)
        layer = nn.Linear(inputs, outputs, bias=biased).requires_grad_(False)
    if turned and len(leading) > 1:
        x = x.transpose(0, 1)  # sequence-first models pass views
    bias = None if layer.bias is None else layer.bias.double()
    exact = F.linear(x.double(), layer.weight.double(), bias)
    with torch.no_grad(), patch.object(module, "_LEAST", 0):
        found = linear(x, layer.weight, layer.bias)
    assert found.shape == exact.shape
    assert torch.allclose(found.double(), exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_only_large_products_go_through_onednn(threads):
    layer = nn.Linear(64, 512).requires_grad_(False)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for rows, expected in ((31, 0), (32, 1)):
            x = torch.ones(rows, 64)
            assert onednn_calls(lambda x=x: linear(x, layer.weight, layer.bias))[1] == expected
    finally:
        torch.set_num_threads(before)


def test_with_gradients_pytorchs_own_linear_is_used():
    layer, x = nn.Linear(64, 64), torch.ones(1024, 64)
    linear(x, layer.weight, layer.bias).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize(
    "odd",
    [
        lambda: torch.ones(1024, 64).to_sparse(),
        lambda: torch.nested.nested_tensor([torch.ones(600, 64), torch.ones(500, 64)]),
        lambda: torch.ones(1024, 64).double(),
        lambda: torch.ones(1024, 63),
        lambda: torch.tensor(1.0),
    ],
    ids=["sparse", "nested", "float64", "narrow", "a number"],
)
def test_other_inputs_get_pytorchs_result_or_error(odd):
    layer = nn.Linear(64, 64).requires_grad_(False)

    def outcome(function):
        try:
            return str(function(odd(), layer.weight, layer.bias))
        except RuntimeError as error:
            return str(error)

    with torch.no_grad():
        assert outcome(linear) == outcome(F.linear)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_use_pytorchs_own_linear(dtype):
    layer = nn.Linear(64, 64, dtype=dtype).requires_grad_(False)
    x = torch.ones(1024, 64, dtype=dtype)
    found, count = onednn_calls(lambda: linear(x, layer.weight, layer.bias))
    assert count == 0
    assert torch.equal(found, layer(x))


def test_autocast_is_respected():
    layer, x = nn.Linear(64, 64).requires_grad_(False), torch.ones(1024, 64)
    with torch.autocast("cpu", torch.bfloat16):
        found, count = onednn_calls(lambda: linear(x, layer.weight, layer.bias))
        assert torch.equal(found, layer(x))
    assert (found.dtype, count) == (torch.bfloat16, 0)


def test_only_plain_linear_layers_change(slow_mkl):
    class Own(nn.Linear):
        def forward(self, input):
            return super().forward(input) + 1

    model = nn.Sequential(nn.Linear(4, 4), Own(4, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    before = [type(layer) for layer in model]
    use_the_whole_processor(model)
    assert [type(layer) is kind for layer, kind in zip(model, before, strict=True)] == [False, True, True]
    assert isinstance(model[0], nn.Linear)


def test_the_twin_uses_onednn_and_the_callers_model_does_not(slow_mkl, classifier, encode, twin_of, samples, texts):
    model, inputs = classifier.model, encode([" ".join(texts)] * 4)
    twin = twin_of(model, dtype=torch.float32)
    found, count = onednn_calls(lambda: samples(twin, inputs))
    assert count > 0
    assert all(type(layer) is not module._Linear for layer in model.modules())
    with patch.object(module, "_LEAST", 2**62):
        expected, count = onednn_calls(lambda: samples(twin, inputs))
    assert count == 0
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("capability", "processor", "slow"),
    [
        ("AVX512", "vendor_id : AuthenticAMD", True),
        ("AVX512_VNNI", "AMD64 Family 26 Model 2 Stepping 1, AuthenticAMD", True),
        ("AVX512", "vendor_id : GenuineIntel", False),
        ("AVX2", "vendor_id : AuthenticAMD", False),
        ("DEFAULT", "arm", False),
    ],
)
def test_processors_of_intel_and_without_avx512_keep_mkl(capability, processor, slow, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(module, "_processor", lambda: processor)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert module._mkl_is_slow.__wrapped__() is slow


def test_the_vendor_of_this_processor_is_found():
    assert any(maker in module._processor() for maker in ("Intel", "AMD", "CPU implementer", "arm"))
