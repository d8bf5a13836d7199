import pytest
import torch
import torch.nn.functional as F
from bayesian_text_classification.pipeline import attention, tiles
from bayesian_text_classification.pipeline.attention import attention_with_dropout
from bayesian_text_classification.pipeline.masks import ALONE, KeyedMasks, Layout
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

WEIGHTS = Layout(0, (1, 2))  # (rows, heads, length, length)
CPU = torch.device("cpu")
CASES = ["plain", "causal", "bool mask", "float mask", "minimum mask", "padding mask", "one mask", "causal and mask",
         "causal and padding", "gqa", "scale", "other width", "fewer queries", "fewer keys"]  # fmt: skip


def inputs_of(case, texts=2, samples=3, length=5):
    """Query, key, value of (texts x samples, 4 heads, length, 8), and options."""
    generator, rows = torch.Generator().manual_seed(0), texts * samples
    keys = length - 2 if case == "fewer keys" else length
    query = torch.randn(rows, 4, length, 8, generator=generator)
    key, value = (torch.randn(rows, 2 if case == "gqa" else 4, keys, 8, generator=generator) for _ in range(2))
    mask = torch.rand(rows, 1, length, length, generator=generator) > 0.3
    mask[0, 0, 2] = False  # a query that may not attend to anything
    options = {
        "causal": {"is_causal": True},
        "bool mask": {"attn_mask": mask},
        "float mask": {"attn_mask": torch.randn(rows, 4, length, length, generator=generator)},
        "minimum mask": {"attn_mask": torch.where(mask, 0.0, torch.finfo(torch.float32).min)},
        "padding mask": {"attn_mask": mask[:, :, :1].expand(-1, -1, length, -1)},
        "one mask": {"attn_mask": mask[0, 0]},
        "causal and mask": {"attn_mask": torch.randn(rows, 1, 1, length, generator=generator), "is_causal": True},
        "causal and padding": {"attn_mask": torch.arange(length) > 1, "is_causal": True},
        "gqa": {"enable_gqa": True, "is_causal": True},
        "scale": {"scale": 0.3},
        "fewer queries": {"is_causal": True},
        "fewer keys": {"is_causal": True},
    }.get(case, {})
    if case == "other width":
        value = torch.randn(rows, 4, length, 3, generator=generator)
    if case == "fewer queries":
        query = query[:, :, :3]
    return query, key, value, options


def mask_of(query, key, p, samples, layout=WEIGHTS, first=0):
    texts = len(query) // samples
    keyed = KeyedMasks(
        torch.arange(1, texts + 1) * 0x9E3779B97F4A7C1, None, range(first, first + samples), 1, seed=0, balanced=True
    )
    return keyed.mask(0, (*query.shape[:-1], key.shape[-2]), p, layout, query.dtype, CPU)


def ours(query, key, value, mask, p, attn_mask=None, is_causal=False, scale=None, enable_gqa=False):
    return attention_with_dropout(query, key, value, attn_mask, mask, p, is_causal, scale, enable_gqa)


def expected(query, key, value, mask, p, attn_mask=None, is_causal=False, scale=None, enable_gqa=False):
    """By the definition."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.size(1) // x.size(1), 1) for x in (key, value))
    scores = query @ key.mT * (query.size(-1) ** -0.5 if scale is None else scale)
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1) > 0, float("-inf"))
    if attn_mask is not None:
        bias = torch.where(attn_mask, 0.0, float("-inf")) if attn_mask.dtype == torch.bool else attn_mask
        scores = scores + bias
    return (scores.softmax(-1).nan_to_num(0.0) * (mask.whole() > 0) / (1 - p)) @ value


@pytest.mark.parametrize("layout", [WEIGHTS, ALONE])
@pytest.mark.parametrize("case", [case for case in CASES if "and" not in case])  # PyTorch takes one of the two
def test_attention_that_keeps_everything_equals_pytorchs(case, layout):
    query, key, value, options = inputs_of(case, texts=1)
    if layout is ALONE:
        query, key, value = query[:1], key[:1], value[:1]
        if len(options.get("attn_mask", "")) == 3:
            options["attn_mask"] = options["attn_mask"][:1]
    mask = mask_of(query, key, 0.0, len(query), layout)
    found = ours(query, key, value, mask, 0.5, **options)
    torch.testing.assert_close(found * 0.5, F.scaled_dot_product_attention(query, key, value, **options), rtol=1e-5,
                               atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("alone", [True, False])  # as on a CPU and as elsewhere
@pytest.mark.parametrize("size", [1, 30, 200, 10**6])
@pytest.mark.parametrize("case", CASES)
def test_the_size_of_the_tiles_does_not_matter(case, size, alone, monkeypatch):
    monkeypatch.setattr(tiles, "_PER_THREAD", size)
    monkeypatch.setattr(attention, "one_row_at_a_time", lambda numbers, device: alone)
    monkeypatch.setattr(attention, "_FEW", 0)
    query, key, value, options = inputs_of(case, samples=13)  # two groups
    mask = mask_of(query, key, 0.3, 13, first=4)
    found = ours(query, key, value, mask, 0.3, **options)
    torch.testing.assert_close(found, expected(query, key, value, mask, 0.3, **options), rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tiles_of_any_shape_equal_the_definition(data):
    texts, samples, length = (data.draw(st.integers(1, most)) for most in (3, 12, 9))
    case, size = data.draw(st.sampled_from(CASES[:8])), data.draw(st.integers(1, 2_000))
    p = data.draw(st.sampled_from([0.05, 0.1, 0.5, 0.9]))
    query, key, value, options = inputs_of(case, texts, samples, max(length, 3))
    mask = mask_of(query, key, p, samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "_PER_THREAD", size)
        patch.setattr(attention, "_FEW", data.draw(st.sampled_from([0, 10**6])))
        alone = data.draw(st.booleans())
        patch.setattr(attention, "one_row_at_a_time", lambda numbers, device: alone)
        found = ours(query, key, value, mask, p, **options)
    torch.testing.assert_close(found, expected(query, key, value, mask, p, **options), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("few", [0, 2**20])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype, few, monkeypatch):
    monkeypatch.setattr(attention, "_FEW", few)
    query, key, value, _ = inputs_of("plain", samples=10)
    exact = ours(query, key, value, mask_of(query, key, 0.1, 10), 0.1)
    query, key, value = (x.to(dtype) for x in (query, key, value))
    found = ours(query, key, value, mask_of(query, key, 0.1, 10), 0.1)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), exact, rtol=0, atol=1e-6 if dtype == torch.float64 else 0.03)


@pytest.mark.parametrize("few", [0, 2**20])
def test_everything_is_dropped_at_a_rate_of_one(few, monkeypatch):
    monkeypatch.setattr(attention, "_FEW", few)
    query, key, value, _ = inputs_of("plain")
    assert not ours(query, key, value, mask_of(query, key, 1.0, 3), 1.0).any()


@pytest.mark.parametrize("few", [0, 2**20])
def test_attention_runs_under_autocast(few, monkeypatch):
    monkeypatch.setattr(attention, "_FEW", few)
    query, key, value, _ = inputs_of("plain")
    mask = mask_of(query, key, 0.1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = ours(query, key, value, mask, 0.1)
    torch.testing.assert_close(found.float(), expected(query, key, value, mask, 0.1), rtol=0, atol=0.03)


def test_keys_and_values_with_other_numbers_of_heads():
    query, key, value, _ = inputs_of("plain", texts=1)
    key, value = key[:, :2], value[:, :1]
    found = ours(query, key, value, mask_of(query, key, 0.0, 3), 0.0, enable_gqa=True)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(query, key, value, enable_gqa=True))


@pytest.mark.parametrize("few", [0, 2**20])
def test_the_lowest_number_of_a_mask_hides_all_keys_in_half_precision_too(few, monkeypatch):
    """A score may bring it to -inf, and a softmax of nothing but -inf is NaN."""
    monkeypatch.setattr(attention, "_FEW", few)
    query, value = (torch.full((1, 2, 3, 64), 3.0, dtype=torch.float16) for _ in range(2))
    hidden = torch.zeros(1, 1, 3, 3, dtype=torch.float16)
    hidden[:, :, 1], hidden[:, :, :, 2] = torch.finfo(torch.float16).min, torch.finfo(torch.float16).min
    value[:, :, 2] = 100.0
    found = ours(query, -query, value, mask_of(query, query, 0.0, 1), 0.0, attn_mask=hidden)
    assert found.isfinite().all() and torch.equal(found[:, :, [0, 2]], torch.full((1, 2, 2, 64), 3.0).half())


@pytest.mark.parametrize("few", [0, 2**20])
@pytest.mark.parametrize("how", ["mask", "causal"])
def test_infinite_scores_of_hidden_keys_do_not_count(how, few, monkeypatch):
    """In half precision, scores at padding may overflow."""
    monkeypatch.setattr(attention, "_FEW", few)
    query = torch.ones(1, 2, 3, 4, dtype=torch.float16)
    key, value = torch.ones_like(query), torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0)).half()
    key[:, :, 2] = torch.finfo(torch.float16).max
    options = {"is_causal": True} if how == "causal" else {"attn_mask": torch.tensor([[True, True, False]])}
    found = ours(query, key, value, mask_of(query, key, 0.0, 1), 0.0, **options)
    wanted = F.scaled_dot_product_attention(query, key, value, **options)
    torch.testing.assert_close(found[:, :, :2], wanted[:, :, :2], rtol=0, atol=0.01)


def test_attention_runs_on_a_device_without_autocast():
    query, key, value = (x.to("meta") for x in inputs_of("plain")[:3])
    keyed = KeyedMasks(torch.zeros(2, dtype=torch.long), None, range(3), 1, seed=0, balanced=True)
    mask = keyed.mask(0, (*query.shape[:-1], 5), 0.1, WEIGHTS, query.dtype, query.device)
    assert ours(query, key, value, mask, 0.1).shape == query.shape


class Largest(TorchDispatchMode):
    """The largest tensor that any operation returns, in elements."""

    found = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.found = max(self.found, result.untyped_storage().nbytes() // result.element_size())
        return result


def test_all_weights_of_a_text_are_never_in_memory():
    query, key, value = (torch.randn(10, 12, 400, 32) for _ in range(3))
    mask = mask_of(query, key, 0.1, 10)
    with Largest() as largest:
        ours(query, key, value, mask, 0.1)
    assert largest.found <= query.numel() < 10 * 12 * 400 * 400 / 10


class Copies(TorchDispatchMode):
    """Names of the operations that copy."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("clone", "copy_", "_to_copy", "_reshape_copy"):
            self.found.add(name)
        return func(*args, **(kwargs or {}))


def test_nothing_is_copied_for_long_texts(monkeypatch):
    """With the layout that transformers gives the heads."""
    monkeypatch.setattr(tiles, "_LEAST_PER_THREAD", 1)  # however many threads there are
    query, key, value = (torch.randn(10, 200, 12, 8).transpose(1, 2) for _ in range(3))
    mask = mask_of(query, key, 0.1, 10)
    with Copies() as copies:
        found = ours(query, key, value, mask, 0.1)
    assert copies.found == set()
    torch.testing.assert_close(found, expected(query, key, value, mask, 0.1), rtol=1e-5, atol=1e-6)
