"""Keyed, balanced dropout masks.

A mask is a pure function of (seed, text, call, sample, unit): whether a unit is dropped depends on nothing else, not on
the batch, the order, the padding, the process or the device. `text` is a 64-bit hash of the text's own token ids,
`call` the ordinal of the dropout call in one forward pass, `unit` a coordinate inside the dropout's input that counts
positions from the text's first real token.

The generator is counter-based (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a 32-bit integer
hash r(unit) under a 64-bit key of (seed, text, call, group). Integer arithmetic wraps alike on every device.

Balanced masks stratify the samples (Stein 1987, "Large sample properties of simulations using Latin hypercube
sampling"): the passes t = 0..G-1 of one group share r, and pass t drops the unit if and only if

    (r + offset_t) mod 2^32  <  p * 2^32,        offset_t = 2^32 * (s t mod G) / G,   s coprime to G.

Each single pass is exactly Bernoulli(p), because r is uniform; over the whole group a unit is dropped floor(pG) or
ceil(pG) times, in exactly its share. Independent ("bernoulli") masks are the case G = 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

GROUP_SIZE = 10  # passes that share one draw; p = 0.1 then drops each unit exactly once a group
MASKS = ("balanced", "bernoulli")

# Unit (i, j, k) is number i + j a + k a^2 (mod 2^32). No size enters, because padding may change any of them. Two units
# share a number only if the vector between them lies in the dual lattice of the multiplier a, whose shortest vector is
# 55,631 long in two dimensions and 1,577 in three (Steele and Vigna 2022, "Computationally easy, spectrally good
# multipliers").
_STRIDE = 0x915F77F5
_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, as a signed integer


@dataclass(frozen=True)
class Layout:
    """What the dimensions of one dropout call's input mean.

    Attributes:
        batch_dim: the dimension that holds the rows of the batch; None if the input has no batch dimension. The
            dimension may be folded, (rows * k) with the rows outermost: it then counts as two dimensions, rows and k.
        length_dims: which of the remaining dimensions (the batch dimension taken out, a folded k counted) grow with
            the length of the text.
    """

    batch_dim: int | None
    length_dims: tuple[int, ...] = ()


def text_keys(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """One 64-bit key per text: a hash of its real tokens in their order, whatever the padding.

    Args:
        input_ids: (texts, length), integers.
        attention_mask: (texts, length), nonzero at real tokens.

    Returns:
        (texts,), int64.
    """
    real = attention_mask != 0
    position = real.long().cumsum(1)  # 1 at the first real token, wherever the padding is
    mixed = _mix64(input_ids.long() + position * _GOLDEN)
    return _mix64((mixed * real).sum(1) + real.sum(1))


class KeyedMasks:
    """The masks of one forward pass over rows (text 0, sample 0), (text 0, sample 1), ..., (text 1, sample 0), ...

    Args:
        keys: (texts,), int64, from `text_keys`.
        starts: (texts,), the index of each text's first real token; None if every text begins at 0.
        samples: the samples of each text that are rows of this pass. Balanced samples a..b lie in groups
            a // GROUP_SIZE .. b // GROUP_SIZE, so that a text's samples may come in several passes.
        calls: how many dropout calls the forward pass makes.
        seed: any integer.
        balanced: one draw for each group of samples, or one for each sample.
    """

    def __init__(
        self, keys: Tensor, starts: Tensor | None, samples: range, calls: int, *, seed: int, balanced: bool
    ) -> None:
        self.samples = samples
        self._texts = len(keys)
        self._group_size = GROUP_SIZE if balanced else 1
        self._starts = starts
        self._groups = range(samples.start // self._group_size, -(-samples.stop // self._group_size))
        # Every key of the pass at once, (calls, groups, texts): a few integers a text.
        device = keys.device
        call = torch.arange(calls, device=device)[:, None, None]
        group = torch.tensor(list(self._groups), device=device)[:, None]
        self._keys = _keys(keys, call, group, seed)
        self._common = _keys(torch.zeros_like(keys[:1]), call, group, seed)

    def keep(self, call: int, shape: Sequence[int], p: float, layout: Layout) -> Tensor:
        """True where the dropout call number `call`, on an input of `shape`, keeps the unit; bool, of that shape."""
        common = layout.batch_dim is None
        dims = list(shape)
        if layout.batch_dim is not None:
            rows = self._texts * len(self.samples)
            folded = dims[layout.batch_dim] // rows
            dims[layout.batch_dim : layout.batch_dim + 1] = [] if folded == 1 else [folded]
        keys = (self._common if common else self._keys)[call]  # (groups, texts or 1)
        kept = torch.cat([self._keep_group(i, keys[i], dims, p, layout) for i in range(len(self._groups))], dim=1)
        if layout.batch_dim is None:
            return kept.view(*shape)  # one text-free mask, one sample
        kept = kept.flatten(0, 1).movedim(0, layout.batch_dim)
        return kept.reshape(*shape)

    def _keep_group(self, index: int, keys: Tensor, dims: Sequence[int], p: float, layout: Layout) -> Tensor:
        """(texts, samples of this group, *dims), bool."""
        size = self._group_size
        first = self._groups[index] * size
        inside = range(max(self.samples.start, first) - first, min(self.samples.stop, first + size) - first)
        draw = self._draw(keys, dims, layout).unsqueeze(1)
        offsets = torch.tensor([_offset(t, size) for t in inside], dtype=torch.int32, device=draw.device)
        # Unsigned comparison in signed integers: the offset of -2^31 is already in `_offset`.
        threshold = min(round(p * 2**32), 2**32 - 1) - 2**31
        return (draw + offsets.view(1, -1, *[1] * len(dims))) >= threshold

    def _draw(self, keys: Tensor, dims: Sequence[int], layout: Layout) -> Tensor:
        """r(unit): (texts or 1, *dims), int32, uniform over all 2^32 values."""
        low, high = keys.to(torch.int32), (keys >> 32).to(torch.int32)
        draw = low.view(-1, *[1] * len(dims))
        for d, size in enumerate(dims):
            coordinate = torch.arange(size, dtype=torch.int32, device=keys.device)
            coordinate = coordinate.view(*[-1 if i == d else 1 for i in range(len(dims))])
            if d in layout.length_dims and self._starts is not None and layout.batch_dim is not None:
                coordinate = coordinate - self._starts.to(torch.int32).view(-1, *[1] * len(dims))
            draw = draw + coordinate * _signed32(pow(_STRIDE, d, 2**32))
        return _hash32(draw, high.view(-1, *[1] * len(dims)))


def _keys(text: Tensor, call: Tensor, group: Tensor, seed: int) -> Tensor:
    where = _mix64(call * _GOLDEN + group + _signed64(seed * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D))
    return _mix64(text ^ where)


def _hash32(x: Tensor, key: Tensor) -> Tensor:
    """Two rounds of multiply and shift ("lowbias32", Wellons 2018), the second key entering between them.

    The last shift of the original is left out: it only moves high bits into low ones, and a comparison with a
    threshold reads the high ones.
    """
    x = x ^ ((x >> 16) & 0xFFFF)  # the bitwise and makes the arithmetic shift a logical one
    x *= 0x7FEB352D
    x ^= key
    x ^= (x >> 15) & 0x1FFFF
    x *= _signed32(0x846CA68B)
    return x


def _mix64(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64-bit integers."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _signed64(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _signed64(0x94D049BB133111EB)
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _offset(t: int, group_size: int) -> int:
    """offset_t - 2^31. The stride 3 spreads the first passes of a group, for groups that are not filled."""
    stride = 3 if group_size % 3 else 1
    return _signed32(2**32 * (stride * t % group_size) // group_size + 2**31)


def _signed32(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def _signed64(x: int) -> int:
    return (x + 2**63) % 2**64 - 2**63
