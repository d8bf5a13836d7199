import hashlib

import numpy as np
import pytest
import torch
from bayesian_text_classification.pipeline import masks
from bayesian_text_classification.pipeline.masks import GROUP_SIZE, KeyedMasks, Layout, text_keys
from bayesian_text_classification.pipeline.subsets import int32
from bayesian_text_classification.pipeline.tiles import tiles
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

RATES = [0.1, 0.15, 0.33, 0.5, 0.9]
HIDDEN = Layout(0, (0,))  # (rows, length, width)
ATTENTION = Layout(0, (1, 2))  # (rows, heads, length, length)
CPU = torch.device("cpu")
LEVEL = 1e-6  # over the few hundred checks below, a truly random mask fails once in thousands of runs


def encode(texts, side="right", width=None):
    """Padded (input_ids, attention_mask) for lists of token ids."""
    width = max(map(len, texts), default=0) if width is None else width
    ids, real = torch.zeros(len(texts), width, dtype=torch.long), torch.zeros(len(texts), width, dtype=torch.long)
    for row, text in enumerate(texts):
        place = slice(0, len(text)) if side == "right" else slice(width - len(text), width)
        ids[row, place], real[row, place] = torch.tensor(text, dtype=torch.long), 1
    return ids, real


def draw(texts=((1, 2, 3),), samples=range(10), *, p=0.1, seed=0, balanced=True, call=0, side="right", width=None,
         layout=HIDDEN, inner=16):  # fmt: skip
    """Masks (texts, samples, *unit dimensions) of a call whose length is that of the padded texts."""
    ids, real = encode(texts, side, width)
    starts = (real != 0).long().argmax(1) if side == "left" else None
    keyed = KeyedMasks(text_keys(ids, real), starts, samples, 4, seed=seed, balanced=balanced)
    length = ids.shape[1]
    unit = (length, inner) if layout == HIDDEN else (inner, length, length)
    shape = (len(texts) * len(samples), *unit)
    return keeps(keyed, call, shape, p, layout).view(len(texts), len(samples), *unit)


def keeps(keyed, call, shape, p, layout, dtype=torch.float32):
    """The mask as booleans, after checking that it is valid."""
    signs = keyed.mask(call, shape, p, layout, dtype, CPU).whole()
    assert signs.shape == shape and signs.dtype == dtype
    assert (signs.abs() >= torch.finfo(dtype).tiny).all() and signs.isfinite().all()  # normal numbers, so signs count
    return signs > 0


def large(p, *, balanced=False, samples=range(200), **options):
    """The masks of one text with 50 tokens and 64 features: (samples, 50, 64)."""
    return draw([list(range(50))], samples, p=p, balanced=balanced, inner=64, **options)[0]


def faults(kept, p):
    """How masks (passes, positions, features) differ from independent Bernoulli(p) drops; empty if they do not.

    Drops are counted per pass, position, feature and unit, and drops of neighbors are compared. Each sum of squared
    standardized counts is tested against both tails of its chi-square distribution, because a lattice is too regular.
    """
    dropped = (~kept).double().numpy()
    found = []

    def judge(name, counts, trials, rate):
        z2 = (counts - trials * rate) ** 2 / (trials * rate * (1 - rate))
        statistic, degrees = z2.sum(), z2.size
        if not chi2.ppf(LEVEL, degrees) < statistic < chi2.isf(LEVEL, degrees):
            found.append(name)

    for name, axes in {"all": (0, 1, 2), "pass": (1, 2), "position": (0, 2), "feature": (0, 1), "unit": (0,)}.items():
        counts = np.atleast_1d(dropped.sum(axes))
        judge(name, counts, dropped.size / counts.size, p)
    for axis in range(3):
        for lag in (1, 2, 3, 8):
            first, second = np.split(dropped, [dropped.shape[axis] - lag], axis)[0], np.split(dropped, [lag], axis)[1]
            # Non-overlapping pairs would be independent. Centered overlapping products also are, to first order.
            products = ((first - p) * (second - p)).sum() / (p * (1 - p))
            if products**2 / first.size > chi2.isf(LEVEL, 1):
                found.append(f"neighbors {lag} apart along {['pass', 'position', 'feature'][axis]}")
    return found


def correlation(a, b):
    return np.corrcoef(a.double().numpy().ravel(), b.double().numpy().ravel())[0, 1]


@pytest.mark.parametrize("p", RATES)
def test_independent_passes_are_bernoulli(p):
    assert faults(large(p), p) == []


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("place", [0, 3, 9])
def test_each_single_pass_of_a_balanced_group_is_bernoulli(p, place):
    passes = torch.stack([large(p, balanced=True, samples=range(t, t + 1))[0] for t in range(place, 1000, 10)])
    assert faults(passes, p) == []


@pytest.mark.parametrize("p", RATES)
def test_a_balanced_group_drops_each_unit_exactly_its_share_of_times(p):
    groups = (~large(p, balanced=True)).view(20, GROUP_SIZE, 50, 64).sum(1)
    assert set(groups.unique().tolist()) <= {int(np.floor(p * 10 + 1e-9)), int(np.ceil(p * 10 - 1e-9))}
    mean = groups.double().mean().item() / 10
    assert abs(mean - p) < 6 * np.sqrt(p * (1 - p) / groups.numel())


def test_the_passes_of_a_group_drop_different_units():
    dropped = ~large(0.1, balanced=True, samples=range(10))
    assert (dropped.sum(0) == 1).all()
    assert dropped.view(10, -1).sum(1).min() > 0


@pytest.mark.parametrize(
    "weak",
    [
        lambda x, key, spare: x ^ key,
        lambda x, key, spare: (x * 0x7FEB352D) ^ key,  # a single multiplication gives a lattice
        lambda x, key, spare: x * 1 + key,
    ],
)
def test_the_mask_checks_detect_a_weak_hash(monkeypatch, weak):
    monkeypatch.setattr(masks, "_hash32", weak)
    assert faults(large(0.1), 0.1) != []


def test_the_mask_checks_detect_a_wrong_rate():
    assert "all" in faults(large(0.11), 0.1)


texts_of_tokens = st.lists(st.lists(st.integers(0, 30_000), min_size=1, max_size=9), min_size=1, max_size=5)


@settings(max_examples=60)
@given(
    texts_of_tokens,
    st.data(),
    st.sampled_from(RATES),
    st.sampled_from([HIDDEN, ATTENTION]),
    st.booleans(),
    st.sampled_from(["left", "right"]),
    st.integers(0, 4),
)
def test_a_text_has_the_same_mask_in_any_batch(texts, data, p, layout, balanced, side, extra):
    """Other texts, their order, and the amount and side of padding do not matter."""
    batch = data.draw(st.lists(st.sampled_from(range(len(texts))), min_size=1, max_size=6))
    chosen = [texts[i] for i in batch]
    width = max(map(len, chosen)) + extra
    together = draw(chosen, p=p, layout=layout, balanced=balanced, side=side, width=width)
    for row, text in enumerate(chosen):
        alone = draw([text], p=p, layout=layout, balanced=balanced)[0]
        real = slice(0, len(text)) if side == "right" else slice(width - len(text), width)
        index = (row, slice(None), real) if layout == HIDDEN else (row, slice(None), slice(None), real, real)
        assert torch.equal(together[index], alone)


@pytest.mark.parametrize("balanced", [True, False])
def test_partial_groups_agree_with_the_whole(balanced):
    texts = [[5, 6, 7], [8, 9]]
    whole = draw(texts, range(30), balanced=balanced)
    for part in (range(7), range(10, 25), range(9, 11), range(3, 4), range(29, 30)):
        assert torch.equal(draw(texts, part, balanced=balanced), whole[:, part.start : part.stop])
    split = [draw(texts, part, balanced=balanced) for part in (range(0, 4), range(4, 17), range(17, 30))]
    assert torch.equal(torch.cat(split, 1), whole)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"seed": -1},
        {"seed": 2**40},
        {"call": 1},
        {"samples": range(10, 20)},
        {"texts": [[*range(49), 50]]},
        {"texts": [list(range(49, -1, -1))]},
    ],
)
@pytest.mark.parametrize("balanced", [True, False])
def test_another_seed_text_call_or_group_is_independent(other, balanced):
    common = {"texts": [list(range(50))], "p": 0.5, "inner": 64, "balanced": balanced}
    a, b = draw(**common), draw(**{**common, **other})
    assert abs(correlation(a[0, 0], b[0, 0])) < 5 / np.sqrt(a[0, 0].numel())
    shuffled = torch.stack([a[0, i].roll(i + 1, 0) for i in range(10)])
    assert abs(correlation(shuffled, b)) < 5 / np.sqrt(3200)  # the ten passes of a group share one draw


def test_bernoulli_passes_are_independent_of_each_other():
    kept = large(0.5, samples=range(20)).flatten(1).double().numpy()
    pairs = np.corrcoef(kept)[np.triu_indices(20, 1)]
    assert np.abs(pairs).max() < 5.5 / np.sqrt(kept.shape[1])


def test_masks_of_many_texts_are_independent():
    """Texts that differ in one token must not get related masks. Compares all pairs, one row per text."""
    kept = draw([[7, token, 9] for token in range(40)], range(1), p=0.5, inner=1024).flatten(1).double().numpy()
    pairs = np.corrcoef(kept)[np.triu_indices(40, 1)]
    assert np.abs(pairs).max() < 5.5 / np.sqrt(kept.shape[1])
    assert abs(np.square(pairs).mean() * kept.shape[1] - 1) < 0.2


def test_a_batch_at_dimension_one_has_the_same_masks():
    """XLNet is sequence-first."""
    ids, real = encode([[1, 2, 3], [4, 5, 6]])
    keyed = KeyedMasks(text_keys(ids, real), None, range(5), 4, seed=0, balanced=True)
    first = keeps(keyed, 2, (10, 3, 8), 0.33, HIDDEN)
    assert torch.equal(keeps(keyed, 2, (3, 10, 8), 0.33, Layout(1, (0,))), first.movedim(0, 1))


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_folded_batch_dimension_counts_as_two(side):
    ids, real = encode([[1, 2, 3], [4, 5]], side)
    starts = real.argmax(1) if side == "left" else None
    keyed = KeyedMasks(text_keys(ids, real), starts, range(5), 4, seed=0, balanced=True)
    plain = keeps(keyed, 1, (10, 4, 3, 8), 0.33, Layout(0, (1,)))
    assert torch.equal(keeps(keyed, 1, (40, 3, 8), 0.33, Layout(0, (1,))), plain.flatten(0, 1))
    sequence_first = (
        keeps(keyed, 1, (3, 40, 8), 0.33, Layout(1, (0,))).movedim(0, 1).unflatten(0, (10, 4)).movedim(2, 1)
    )
    assert torch.equal(sequence_first, keeps(keyed, 1, (10, 3, 4, 8), 0.33, Layout(0, (0,))))


def test_without_a_batch_dimension_all_texts_share_the_mask():
    """DeBERTa drops its table of relative positions, once for the batch."""
    layout = Layout(None, (0,))
    seen = []
    for texts in ([[1, 2, 3]], [[4, 5, 6], [7, 8]], [[1], [2], [3]]):
        ids, real = encode(texts, "left")
        keyed = KeyedMasks(text_keys(ids, real), real.argmax(1), range(4, 5), 4, seed=3, balanced=True)
        seen.append(keeps(keyed, 0, (32, 16), 0.5, layout))
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])
    assert seen[0].shape == (32, 16)
    keyed = KeyedMasks(text_keys(ids, real), None, range(5, 6), 4, seed=3, balanced=False)
    other = keeps(keyed, 0, (32, 16), 0.5, layout)
    assert abs(correlation(seen[0], other)) < 5 / np.sqrt(512)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("balanced", [True, False])
def test_masks_are_the_same_for_every_dtype_width(dtype, balanced):
    ids, real = encode([[1, 2, 3], [4, 5]])
    keyed = KeyedMasks(text_keys(ids, real), None, range(3, 27), 4, seed=0, balanced=balanced)
    for p in RATES:
        expected = keeps(keyed, 1, (48, 3, 8), p, HIDDEN)
        assert torch.equal(keeps(keyed, 1, (48, 3, 8), p, HIDDEN, dtype), expected)


def test_left_padding_shifts_masks_with_the_text_in_both_length_dimensions():
    right, left = (draw([[1, 2, 3, 4]], layout=ATTENTION, side=side, width=9, p=0.5)[0] for side in ("right", "left"))
    assert torch.equal(right[..., :4, :4], left[..., 5:, 5:])


def test_every_unit_of_a_long_attention_has_its_own_draw():
    """Coordinates must not collide: the last row of one head is not the first row of the next."""
    kept = draw([list(range(300))], range(1), p=0.5, layout=ATTENTION, inner=12)[0, 0]
    rows = kept.flatten(0, 1).double().numpy()
    assert len({row.tobytes() for row in rows}) == len(rows)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_mask_does_not_depend_on_the_sizes_of_its_dimensions(dim):
    """Longformer pads to a multiple of its window, and short texts do not show the probe which dimension that is."""
    ids, real = encode([[1, 2, 3], [4, 5]])
    keyed = KeyedMasks(text_keys(ids, real), None, range(5), 4, seed=0, balanced=True)
    small = (10, 4, 3, 8)
    larger = [size + 5 * (d == dim) for d, size in enumerate(small)]
    for layout in (Layout(0), Layout(0, (1,)), Layout(0, (1, 2))):
        found = keeps(keyed, 1, tuple(larger), 0.33, layout).narrow(dim, 0, small[dim])
        assert torch.equal(found, keeps(keyed, 1, small, 0.33, layout))


def test_text_keys_depend_only_on_the_real_tokens_and_their_order():
    right, left = text_keys(*encode([[5, 6, 7], [8]], "right", 6)), text_keys(*encode([[5, 6, 7], [8]], "left", 4))
    assert torch.equal(right, left)
    assert right.dtype == torch.int64
    different = [[5, 6, 7], [7, 6, 5], [5, 6], [6, 7], [5, 6, 7, 0], [0, 5, 6, 7], [5, 5, 6, 7], [0], [0, 0], [1]]
    assert len(set(text_keys(*encode(different)).tolist())) == len(different)


def test_text_keys_do_not_collide():
    generator = torch.Generator().manual_seed(0)
    ids = torch.unique(torch.randint(0, 50, (200_000, 6), generator=generator), dim=0)
    assert len(torch.unique(text_keys(ids, torch.ones_like(ids)))) == len(ids)


def test_the_bits_are_the_same_in_every_process():
    """Golden value: changing these bits changes every user's answers and needs a release note."""
    texts = [[101, 2204, 2143, 102], [101, 102]]
    digest = hashlib.sha256()
    for layout, balanced, side in ((HIDDEN, True, "right"), (ATTENTION, True, "left"), (HIDDEN, False, "right")):
        digest.update(
            draw(texts, range(3, 23), p=0.1, seed=7, layout=layout, balanced=balanced, side=side).numpy().tobytes()
        )
    assert digest.hexdigest()[:16] == "691dd2838afa90fe"


# Texts, their starts, samples, shape, layout; and the digests of balanced and of independent masks in version 0.2.0.
STORED = {
    "long attention": (2, None, range(10), (20, 12, 130, 130), ATTENTION, "e72fb1ad663101e7", "0f6845c8cd08c122"),
    "attention, groups": (3, (0, 5, 11), range(3, 20), (51, 3, 40, 40), ATTENTION, "2bebfedc0f021156",
                          "c4753bb3c0c6b3fd"),
    "long hidden": (2, None, range(10), (20, 300, 384), HIDDEN, "d9133bfedb485cdd", "c4ffc7a256b1bdbd"),
    "hidden, groups": (3, (7, 0, 1), range(15, 40), (75, 33, 48), HIDDEN, "8bcaafee464e44c1", "509e0736617eb2a8"),
    "pooled": (3, None, range(20), (60, 64), Layout(0), "95b350a3434c2620", "d40332ce0df6606d"),
}  # fmt: skip


def in_tiles(mask, most=5_000):
    """The signs of a mask, made in small tiles of units and of samples."""
    shape = (mask.texts, len(mask.samples), *mask.units)
    found = torch.empty(shape, dtype=mask.whole().dtype)
    for i, (texts, *units) in enumerate(tiles((mask.texts, *mask.units), most)):
        words = mask.words(texts, units)
        step = mask.samples_at_once(words, (1, 4 * most)[i % 2])  # one sample at a time, or several
        tile = found[(texts, slice(None), *units)]
        for target, signs in zip(tile.split(step, 1), mask.parts(words, step), strict=True):
            target.copy_(signs)
    return found.flatten(0, 1)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("case", STORED)
def test_the_bits_are_those_of_the_first_versions_as_a_whole_and_in_tiles(case, balanced):
    count, starts, samples, shape, layout, *digests = STORED[case]
    keys = torch.tensor([0x123456789ABCDEF, -0x3F1E2D3C4B5A697, 42])[:count]
    starts = None if starts is None else torch.tensor(starts)
    whole, parts = hashlib.sha256(), hashlib.sha256()
    for p in (0.05, 0.1, 0.15, 0.3, 0.5):
        for dtype in (torch.float32, torch.bfloat16):
            mask = KeyedMasks(keys, starts, samples, 3, seed=11, balanced=balanced).mask(
                2, shape, p, layout, dtype, CPU
            )
            whole.update((mask.whole() > 0).numpy().tobytes())
            parts.update((in_tiles(mask) > 0).numpy().tobytes())
    assert whole.hexdigest()[:16] == parts.hexdigest()[:16] == digests[not balanced]


@pytest.mark.parametrize("p", [1e-7, 1 - 1e-7, 1.0])
def test_extreme_rates_drop_the_right_share(p):
    kept = large(p, samples=range(5)).double().mean().item()
    assert abs(kept - (1 - p)) < 1e-4


def test_masks_do_not_depend_on_the_default_device():
    int32.cache_clear()
    try:
        with torch.device("meta"):
            first = KeyedMasks(torch.arange(1, device=CPU), None, range(2), 1, seed=0, balanced=True).mask(
                0, (2, 3), 0.1, HIDDEN, torch.float32, CPU
            )
            signs = first.whole()
        assert signs.device == CPU and torch.equal(signs, first.whole())
    finally:
        int32.cache_clear()
