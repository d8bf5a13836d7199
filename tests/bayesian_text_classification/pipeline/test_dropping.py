import pytest
import torch
from bayesian_text_classification.pipeline import tiles
from bayesian_text_classification.pipeline.dropping import alpha_drop, drop
from bayesian_text_classification.pipeline.masks import KeyedMasks, Layout
from torch.nn import functional as F

CPU = torch.device("cpu")
SAMPLES = range(4, 17)  # parts of two groups
ROWS = 3 * len(SAMPLES)
CASES = {
    "hidden": ((ROWS, 7, 6), Layout(0, (0,))),
    "pooled": ((ROWS, 6), Layout(0)),
    "rows last": ((7, 6, ROWS), Layout(2, (0,))),
    "folded": ((ROWS * 2, 7, 6), Layout(0, (1,))),
    "no text": ((ROWS, 0, 6), Layout(0, (0,))),
}


def mask_of(shape, layout, p, dtype=torch.float32, starts=None):
    keyed = KeyedMasks(torch.tensor([5, -7, 11]), starts, SAMPLES, 1, seed=2, balanced=True)
    return keyed.mask(0, shape, p, layout, dtype, CPU)


@pytest.mark.parametrize("size", [1, 40, 2**17])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", CASES)
def test_dropped_units_are_zero_and_the_others_are_scaled(case, dtype, size, monkeypatch):
    monkeypatch.setattr(tiles, "_PER_THREAD", size)
    shape, layout = CASES[case]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    for p in (0.1, 0.25, 0.9):
        mask = mask_of(shape, layout, p, dtype, torch.tensor([0, 2, 1]))
        assert torch.equal(drop(x, mask, p), torch.where(mask.whole() > 0, x * (1 / (1 - p)), 0))


def test_a_mask_fits_an_input_of_another_type_and_any_strides():
    shape, layout = CASES["hidden"]
    x = torch.randn(7, ROWS, 6, generator=torch.Generator().manual_seed(0)).transpose(0, 1)
    expected = drop(x.contiguous(), mask_of(shape, layout, 0.3), 0.3)
    for dtype in (torch.bfloat16, torch.float64, torch.float16):
        assert torch.equal(drop(x, mask_of(shape, layout, 0.3, dtype), 0.3), expected)


def test_a_mask_of_channels_drops_them_whole():
    x = torch.randn(ROWS, 4, 9) + 9
    kept = drop(x, mask_of((ROWS, 4, 1), Layout(0), 0.3), 0.3) != 0
    assert torch.equal(kept.all(-1), kept.any(-1)) and 0 < kept[..., 0].float().mean() < 1


def test_alpha_dropout_moves_what_is_kept_as_pytorch_does():
    torch.manual_seed(0)
    x = torch.randn(ROWS, 5_000)
    mask = mask_of(tuple(x.shape), Layout(0), 0.2)
    found, kept = alpha_drop(x, mask, 0.2), mask.whole() > 0
    theirs = F.alpha_dropout(x, 0.2, training=True)
    dropped = theirs[0].mode().values  # the one value that repeats
    assert torch.allclose(found[~kept], dropped)
    scale, shift = (found[kept][1] - found[kept][0]) / (x[kept][1] - x[kept][0]), found[~kept][0]
    assert torch.allclose(found[kept], x[kept] * scale + (shift + 1.7580993 * scale), atol=1e-4)
    assert abs(found.mean()) < 0.02 and abs(found.std() - 1) < 0.02


def test_a_mask_takes_no_more_memory_than_a_tile(monkeypatch):
    monkeypatch.setattr(tiles, "_PER_THREAD", 1_000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    mask = mask_of((ROWS, 70, 60), Layout(0, (0,)), 0.1)
    drop(torch.ones(ROWS, 70, 60), mask, 0.1)
    assert max(memory.numel() for memory, _ in mask.workspace._memory.values()) <= 1_000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_stay_visible_as_in_pytorch(value):
    x = torch.full((ROWS, 40), value)
    assert not drop(x, mask_of((ROWS, 40), Layout(0), 0.5), 0.5).isfinite().any()
    assert not F.dropout(x, 0.5).isfinite().any()
