import pytest
import torch
import torch.nn.functional as F
from bayesian_text_classification.pipeline.masks import ALONE, Layout
from bayesian_text_classification.pipeline.probe import fold_of, layout_of
from torch import nn

# Shapes of one call for 2 texts of length 5, 3 of length 5 and 2 of length 9; then the layout and the parts per text.
SHAPES = {
    "hidden states": ((2, 5, 32), (3, 5, 32), (2, 9, 32), Layout(0, (0,)), 1),
    "attention weights": ((2, 4, 5, 5), (3, 4, 5, 5), (2, 4, 9, 9), Layout(0, (1, 2)), 1),
    "length first": ((5, 2, 32), (5, 3, 32), (9, 2, 32), Layout(1, (0,)), 1),
    "heads folded in": ((8, 5, 5), (12, 5, 5), (8, 9, 9), Layout(0, (1, 2)), 4),
    "windows folded in": ((2, 6, 32), (3, 6, 32), (4, 6, 32), Layout(0), None),
    "positions": ((5, 32), (5, 32), (9, 32), Layout(None, (0,)), None),
    "no ratio of 2 to 3": ((7, 32), (9, 32), (15, 32), ALONE, None),
    "two that grow": ((2, 2, 5), (3, 3, 5), (2, 2, 9), ALONE, 1),
    "another number of dimensions": ((2, 5), (3, 5), (2, 9, 1), ALONE, 1),
}


@pytest.mark.parametrize("case", SHAPES)
def test_layout_and_fold_are_derived_from_shapes(case):
    two, three, longer, layout, fold = SHAPES[case]
    found = layout_of(two, three, longer)
    assert (found, found is ALONE) == (layout, layout is ALONE)
    assert fold_of(found, two, longer) == fold


def test_the_batch_dimension_is_found(tiny, twin_of):
    assert {site.batch_dim for site in twin_of(tiny("xlnet")).sites()} >= {1}
    deberta = twin_of(tiny("deberta-v2"))
    assert None in {site.batch_dim for site in deberta.sites()}
    assert deberta.loops_over_samples
    assert not twin_of(tiny("bert")).loops_over_samples


class HeadsFirst(nn.Module):
    """Drops (heads * batch, length, width / heads), made from (batch, length, width): the batch is innermost."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        batch, length, width = x.shape
        folded = x.view(batch, length, 4, width // 4).permute(2, 0, 1, 3).reshape(-1, length, width // 4)
        return self.drop(folded).view(4, batch, length, width // 4).permute(1, 2, 0, 3).reshape(x.shape)


class Chosen(nn.Module):
    """Drops units of selected tokens, packed. Their number depends on the texts, as in a mixture of experts."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        chosen = x[..., 0] > 0
        output = x.clone()
        output[chosen] = self.drop(x[chosen])
        return output


class Mixed(nn.Module):
    """Has two dimensions that grow with the number of texts."""

    def forward(self, x):
        weights = torch.eye(len(x)).to(x)[:, :, None, None].expand(-1, -1, *x.shape[1:])
        return (F.dropout(weights, 0.2, self.training) * x).sum(1)


@pytest.mark.parametrize("module", [HeadsFirst, Chosen, Mixed])
def test_rows_that_cannot_be_separated_run_by_themselves(module, encode, twin_of, samples, own):
    twin = twin_of(own(module()))
    assert (twin.loops_over_texts, twin.needs_equal_lengths) == (True, True)
    assert {site.batch_dim for site in twin.sites()} == {None}
    texts = ["a good film", "a bad film", "no such film"]
    together = samples(twin, encode(texts), 7)
    assert together.std(1).max() > 0
    for i, text in enumerate(texts):
        torch.testing.assert_close(together[i], samples(twin, encode([text]), 7)[0], rtol=0, atol=1e-6)
    assert not torch.equal(together[0], together[1])


def test_rows_that_can_be_separated_share_a_batch(tiny, twin_of):
    for architecture in ("bert", "xlnet", "deberta-v2", "bart"):
        assert not twin_of(tiny(architecture)).loops_over_texts


class Windows(nn.Module):
    """Pads to whole windows and folds them into the batch, like Longformer and its relatives."""

    def __init__(self, window):
        super().__init__()
        self.drop, self.window = nn.Dropout(0.2), window

    def forward(self, x):
        padded = F.pad(x, (0, 0, 0, -x.shape[1] % self.window))
        dropped = self.drop(padded.reshape(-1, self.window, x.shape[-1]))
        return dropped.view(padded.shape)[:, : x.shape[1]]


def test_windows_that_the_probe_detects_need_equal_lengths(encode, twin_of, own):
    """Alone, the short text has one window; in a batch with the long one, two. Its units would get other numbers."""
    twin = twin_of(own(Windows(6)))
    assert (twin.needs_equal_lengths, twin.loops_over_texts) == (True, False)


def test_windows_that_the_probe_misses_raise_in_padded_batches(encode, twin_of, samples, own):
    twin = twin_of(own(Windows(16)))
    long = " ".join(["film"] * 20)
    assert not twin.needs_equal_lengths
    with pytest.raises(RuntimeError, match="padding=False"):
        samples(twin, encode([long, "a good film"]))
    equal = samples(twin, encode([long, " ".join(["bad"] * 20)]))
    torch.testing.assert_close(equal[1:], samples(twin, encode([" ".join(["bad"] * 20)])), rtol=0, atol=1e-6)


def test_a_dimension_that_only_grows_beyond_the_probe_is_harmless(encode, twin_of, samples, own):
    """Longformer pads to its window of 512, so the probe cannot know that this dimension is the length."""

    class Padded(nn.Module):
        def forward(self, x):
            padded = F.pad(x, (0, 0, 0, -x.shape[1] % 16))
            heads = padded.view(*padded.shape[:2], 4, 4).transpose(1, 2)
            dropped = F.dropout(heads, 0.2, self.training)
            return dropped.transpose(1, 2).reshape(padded.shape)[:, : x.shape[1]]

    twin = twin_of(own(Padded()))
    together = samples(twin, encode([" ".join(["film"] * 20), "a good film"]))
    torch.testing.assert_close(together[1:], samples(twin, encode(["a good film"])), rtol=0, atol=1e-6)
