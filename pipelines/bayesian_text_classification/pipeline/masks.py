"""Keyed, balanced dropout masks.

A mask is a pure function of (seed, text, call, sample, unit). Whether a unit is dropped depends on nothing else: not on
the batch, the order, the padding, the process or the device. `text` is a 64-bit hash of the text's own token ids.
`call` is the ordinal of the dropout call in one forward pass. `unit` is a coordinate inside the dropout's input; it
counts positions from the text's first real token.

The generator is counter-based (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): a 32-bit integer
hash r(unit) under a 64-bit key of (seed, text, call, group). Integer arithmetic wraps the same way on every device.

Balanced masks stratify the samples (Stein 1987, "Large sample properties of simulations using Latin hypercube
sampling"). The G passes of a group share r, which picks the passes that drop the unit: a random subset of floor(pG) or
ceil(pG) of them (`subsets.py`). Each single pass is still Bernoulli(p). Over the whole group, a unit is dropped exactly
its share of times. Independent ("bernoulli") masks are the case G = 1.

The decisions of all passes of a group are the bits of one small integer per unit, computed once per group. A pass reads
its own bit. Shifted to the sign position and back, the bit fills a word as wide as the dropout's input with ones or
zeros. A bitwise "and" with the input then drops the unit. Boolean masks are three to five times slower on a CPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .subsets import subsets_for

GROUP_SIZE = 10  # passes that share one draw; p = 0.1 then drops each unit exactly once per group
MASKS = ("balanced", "bernoulli")
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the width in bytes of the floating-point type

# Unit (i, j, k) has the number i + j a + k a^2 (mod 2^32). No size enters, because padding may change any of them. Two
# units share a number only if the vector between them lies in the dual lattice of the multiplier a. Its shortest vector
# is 55,631 long in two dimensions and 1,577 in three (Steele and Vigna 2022, "Computationally easy, spectrally good
# multipliers").
_STRIDE = 0x915F77F5
_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, as a signed integer


@dataclass(frozen=True)
class Layout:
    """The meaning of the dimensions of one dropout call's input.

    Attributes:
        batch_dim: Dimension that holds the rows of the batch; None if the input has no batch dimension. It may be
            folded, (rows * k) with the rows outermost. It then counts as two dimensions, rows and k.
        length_dims: The dimensions that grow with the length of the text. They are counted without the batch dimension,
            but with a folded k.
    """

    batch_dim: int | None
    length_dims: tuple[int, ...] = ()


# The layout for a row that runs by itself: the whole input belongs to the text, whatever its dimensions mean. Compare
# by identity: a pooled output, (texts, width), has an equal layout but does not need to run by itself.
ALONE = Layout(0)


def text_keys(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """One 64-bit key per text: a hash of its real tokens, in order, that ignores the padding.

    Args:
        input_ids: Token ids, integers. *Shape:* (texts, length).
        attention_mask: Nonzero at real tokens. *Shape:* (texts, length).

    Returns:
        The keys, int64. *Shape:* (texts,).
    """
    real = attention_mask != 0
    position = real.long().cumsum(1)  # 1 at the first real token, on whichever side the padding is
    mixed = _mix64(input_ids.long() + position * _GOLDEN)
    return _mix64((mixed * real).sum(1) + real.sum(1))


class KeyedMasks:
    """The masks of one forward pass over rows (text 0, sample 0), (text 0, sample 1), ..., (text 1, sample 0), ...

    Args:
        keys: Text keys from `text_keys`, int64. *Shape:* (texts,).
        starts: Index of each text's first real token; None if every text begins at 0. *Shape:* (texts,).
        samples: The samples of each text that are rows of this pass. Balanced samples a..b lie in groups
            a // GROUP_SIZE .. b // GROUP_SIZE, so a text's samples may be split over several passes.
        calls: Number of dropout calls in the forward pass.
        seed: Any integer.
        balanced: Whether each group of samples shares one draw; otherwise each sample has its own.
    """

    def __init__(
        self, keys: Tensor, starts: Tensor | None, samples: range, calls: int, *, seed: int, balanced: bool
    ) -> None:
        self.samples = samples
        self._texts = len(keys)
        self._group_size = GROUP_SIZE if balanced else 1
        self._starts = starts
        self._spans = _spans(samples, self._group_size)
        # All keys of the pass at once, (calls, texts, groups): only a few integers per text.
        device = keys.device
        first, last = samples.start // self._group_size, -(-samples.stop // self._group_size)
        call = torch.arange(calls, device=device)[:, None, None]
        group = torch.arange(first, last, device=device)
        self._keys = _keys(keys[:, None], call, group, seed)
        self._common = _keys(torch.zeros_like(keys[:1, None]), call, group, seed)

    def keep(self, call: int, shape: Sequence[int], p: float, layout: Layout, dtype: torch.dtype) -> Tensor:
        """The mask of dropout call number `call`, for an input of `shape` and `dtype`.

        Returns:
            Integers as wide as `dtype`: all bits set where the unit is kept, 0 where it is dropped. *Shape:* `shape`.
        """
        dims = list(shape)
        if layout.batch_dim is not None:
            folded = dims[layout.batch_dim] // (self._texts * len(self.samples))
            dims[layout.batch_dim : layout.batch_dim + 1] = [] if folded == 1 else [folded]
        keys = (self._common if layout.batch_dim is None else self._keys)[call]  # (texts or 1, groups)
        subsets = subsets_for(p, self._group_size, keys.device)
        words = subsets.of(self._draw(keys, dims, layout)).to(INTEGERS[dtype.itemsize])
        bits = self._bits(words, dims)  # (texts or 1, samples, *dims)
        if layout.batch_dim is None:
            return bits.view(*shape)  # one sample, whose mask all texts share
        return bits.flatten(0, 1).movedim(0, layout.batch_dim).reshape(*shape)

    def _bits(self, words: Tensor, dims: Sequence[int]) -> Tensor:
        """The bit of each pass, spread over the whole word: (texts, groups, *dims) to (texts, samples, *dims)."""
        width = 8 * words.element_size()
        bits = words.new_empty(len(words), len(self.samples), *dims)
        done = 0
        for groups, passes in self._spans:
            part = words[:, groups].unsqueeze(2)
            count = part.shape[1] * len(passes)
            to_sign = [width - 1 - _place(t, self._group_size) for t in passes]
            shifts = torch.tensor(to_sign, dtype=words.dtype, device=words.device).view(-1, *[1] * len(dims))
            view = bits[:, done : done + count].view(len(words), part.shape[1], len(passes), *dims)
            torch.bitwise_left_shift(part, shifts, out=view)
            done += count
        return bits.bitwise_right_shift_(width - 1)  # an arithmetic shift: the sign fills the word

    def _draw(self, keys: Tensor, dims: Sequence[int], layout: Layout) -> Tensor:
        """r(unit), int32, uniform over all 2^32 values. *Shape:* (texts or 1, groups, *dims)."""
        low, high = keys.to(torch.int32), (keys >> 32).to(torch.int32)
        draw = low.view(*keys.shape, *[1] * len(dims))
        for d, size in enumerate(dims):
            coordinate = torch.arange(size, dtype=torch.int32, device=keys.device)
            coordinate = coordinate.view(*[-1 if i == d else 1 for i in range(len(dims))])
            if d in layout.length_dims and self._starts is not None and layout.batch_dim is not None:
                coordinate = coordinate - self._starts.to(torch.int32).view(-1, *[1] * (1 + len(dims)))
            draw = draw + coordinate * _signed32(pow(_STRIDE, d, 2**32))
        return _hash32(draw, high.view(*keys.shape, *[1] * len(dims)))


def _spans(samples: range, size: int) -> list[tuple[slice, range]]:
    """The samples as runs of groups in which every group takes the same passes. Groups count from the first one."""
    first = samples.start // size
    spans: list[tuple[slice, range]] = []
    start = samples.start
    while start < samples.stop:
        group, place = divmod(start, size)
        whole = (samples.stop - start) // size if place == 0 else 0
        stop = start + whole * size if whole else min(samples.stop, (group + 1) * size)
        passes = range(size) if whole else range(place, place + stop - start)
        spans.append((slice(group - first, group - first + max(whole, 1)), passes))
        start = stop
    return spans


def _keys(text: Tensor, call: Tensor, group: Tensor, seed: int) -> Tensor:
    where = _mix64(call * _GOLDEN + group + _signed64(seed * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D))
    return _mix64(text ^ where)


def _hash32(x: Tensor, key: Tensor) -> Tensor:
    """Two rounds of multiply and shift ("lowbias32", Wellons 2018), with the second key mixed in between them.

    The last shift of the original is left out. It only moves high bits into low bits, and readers of the draw use the
    high bits. `x` is overwritten.
    """
    x ^= (x >> 16).bitwise_and_(0xFFFF)  # the "and" turns the arithmetic shift into a logical one
    x *= 0x7FEB352D
    x ^= key
    x ^= (x >> 15).bitwise_and_(0x1FFFF)
    x *= _signed32(0x846CA68B)
    return x


def _mix64(x: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection on 64-bit integers."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _signed64(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _signed64(0x94D049BB133111EB)
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _place(t: int, group_size: int) -> int:
    """The bit of pass t in a word."""
    return (3 if group_size % 3 else 1) * t % group_size


def _signed32(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def _signed64(x: int) -> int:
    return (x + 2**63) % 2**64 - 2**63
