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

The decisions of all passes of a group are the bits of one small integer per unit, its word, computed once per group. A
pass shifts its own bit to the place of the sign. The word, read as a floating-point number, is then negative where the
pass drops the unit, and one operation with the input selects and scales (`dropping.py`). Boolean masks are three to
five times slower on a CPU. A mask may be made in tiles (`tiles.py`), because no unit depends on another.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from .subsets import BIT_OF_PASS, Subsets, int32, subsets_for
from .tiles import even
from .workspace import Workspace

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
        self._group_size = GROUP_SIZE if balanced else 1
        self._starts = starts
        self._workspace = Workspace()
        # All keys of the pass at once, (calls, texts, groups): only a few integers per text.
        device = keys.device
        first, last = samples.start // self._group_size, -(-samples.stop // self._group_size)
        call = torch.arange(calls, device=device)[:, None, None]
        group = torch.arange(first, last, device=device)
        self._keys = _halves(_keys(keys[:, None], call, group, seed))
        self._common = _halves(_keys(torch.zeros_like(keys[:1, None]), call, group, seed))
        self._places: dict[Hashable, list[Tensor]] = {}

    def mask(
        self, call: int, shape: Sequence[int], p: float, layout: Layout, dtype: torch.dtype, device: torch.device
    ) -> "Mask":
        """The mask of dropout call number `call`, for an input of this `shape`, `dtype` and `device`."""
        units, dim, folded = list(shape), layout.batch_dim, 1
        texts = 1 if dim is None else self._keys[0].size(1)
        if dim is not None:
            folded = units[dim] // (texts * len(self.samples))
            units[dim : dim + 1] = [] if folded == 1 else [folded]
        low, high = (half[call].to(device) for half in (self._common if dim is None else self._keys))
        return Mask(
            samples=self.samples,
            texts=texts,
            units=tuple(units),
            rows_first=dim == 0 and folded == 1,
            shape=tuple(shape),
            _dim=dim,
            _dtype=dtype,
            _group_size=self._group_size,
            _subsets=subsets_for(p, self._group_size, device),
            _low=low.view(*low.shape, *[1] * len(units)),
            _high=high.view(*high.shape, *[1] * len(units)),
            _places=self._places_of(tuple(units), layout, device),
            workspace=self._workspace,
        )

    def _places_of(self, units: tuple[int, ...], layout: Layout, device: torch.device) -> list[Tensor]:
        """The coordinates along each dimension, times its stride. *Shape:* (texts or 1, 1, 1, ..., size, ..., 1)."""
        starts = self._starts if layout.batch_dim is not None else None
        key = units, layout.length_dims, starts is None, device
        if key not in self._places:
            found = self._places[key] = []
            for d, size in enumerate(units):
                place = torch.arange(size, dtype=torch.int32, device=device)
                place = place.view(1, 1, *[-1 if i == d else 1 for i in range(len(units))])
                if d in layout.length_dims and starts is not None:
                    place = place - starts.to(device, torch.int32).view(-1, 1, *[1] * len(units))
                found.append(place * int32(pow(_STRIDE, d, 2**32)))
        return self._places[key]


@dataclass(frozen=True)
class Mask:
    """The mask of one dropout call: as a whole, or in parts, with the same decisions.

    `words` are one small integer per unit and group of samples. Signs are numbers of the type of the call's input:
    positive where the unit is kept, negative where it is dropped; only the sign counts. Both are valid until the next
    ones of this mask or of another one of the pass, because they share memory.

    Attributes:
        samples: The samples of each text.
        texts: Number of texts; 1 if they share the mask.
        units: Sizes of the input's dimensions without the rows; a folded k is the first of them.
        rows_first: Whether the input has the *shape* (texts * samples, *units), so that a part of the mask belongs to a
            part of the input.
        shape: That of the call's input; 1 along a dimension that shares its units.
        workspace: Memory of the pass.
    """

    samples: range
    texts: int
    units: tuple[int, ...]
    rows_first: bool
    shape: tuple[int, ...]
    workspace: Workspace
    _dim: int | None
    _dtype: torch.dtype
    _group_size: int
    _subsets: Subsets
    _low: Tensor  # halves of the keys. *Shape:* (texts or 1, groups, 1, ...)
    _high: Tensor
    _places: list[Tensor]

    @property
    def groups(self) -> int:
        """Number of groups of samples: words of each unit."""
        return self._low.size(1)

    def as_type(self, dtype: torch.dtype) -> "Mask":
        """The same mask with signs of another floating-point type."""
        return replace(self, _dtype=dtype)

    def whole(self) -> Tensor:
        """The signs of all rows. *Shape:* `shape`."""
        signs = self._signs(self.words(slice(None), [slice(0, size) for size in self.units]), self.samples)
        if self._dim is None:
            return signs.view(self.shape)  # one sample, whose mask all texts share
        return signs.flatten(0, 1).movedim(0, self._dim).reshape(self.shape)

    def words(self, texts: slice, units: Sequence[slice]) -> Tensor:
        """The words of some texts and units, for all groups of samples. *Shape:* (texts, groups, *units)."""
        draw, high = self._low[texts], self._high[texts]
        places = [
            (place[texts] if len(place) > 1 else place).narrow(2 + d, part.start, part.stop - part.start)
            for d, (place, part) in enumerate(zip(self._places, units, strict=True))
        ]
        for place in places[:-1]:
            draw = draw + place
        shape = (*draw.shape[:2], *(part.stop - part.start for part in units))
        x, spare = (self.workspace.empty(name, shape, torch.int32, draw.device) for name in ("words", "spare words"))
        draw = torch.add(draw, places[-1], out=x) if places else x.copy_(draw)
        _hash32(draw, high, spare)
        return self._subsets.of(draw, spare).to(INTEGERS[self._dtype.itemsize])

    def samples_at_once(self, words: Tensor, most: int) -> int:
        """How many samples have at most `most` signs of the units that `words` belong to; at least 1."""
        return even(len(self.samples), most // max(words[:, 0].numel(), 1))

    def parts(self, words: Tensor, step: int) -> Iterator[Tensor]:
        """Yield the signs of the units that `words` belong to, for `step` samples at a time, in order.

        *Shape:* (texts, samples, *units). The signs of one sample are the words of its group, shifted in place.
        """
        if step > 1:
            for first in range(0, len(self.samples), step):
                yield self._signs(words, self.samples[first : first + step])
            return
        for groups, passes in _spans(self.samples, self._group_size, self.samples.start // self._group_size):
            for group in range(groups.start, groups.stop):
                own = words[:, group, None]
                signs, at_sign = own.view(self._dtype), 8 * own.element_size() - 1  # the bit that is there now
                for t in passes:
                    own.bitwise_left_shift_(int32(at_sign - BIT_OF_PASS[t]))
                    at_sign = BIT_OF_PASS[t]
                    yield signs

    def _signs(self, words: Tensor, samples: range) -> Tensor:
        """The signs of some samples, from words of texts and units. *Shape:* (texts, samples, *units)."""
        signs = self.workspace.empty("signs", (len(words), len(samples), *words.shape[2:]), words.dtype, words.device)
        width, done = 8 * words.element_size(), 0
        for groups, passes in _spans(samples, self._group_size, self.samples.start // self._group_size):
            part = words[:, groups].unsqueeze(2)
            count = part.shape[1] * len(passes)
            shifts = _shifts(width, passes, words.dtype, words.device)
            view = signs[:, done : done + count].view(len(words), part.shape[1], len(passes), *words.shape[2:])
            torch.bitwise_left_shift(part, shifts.view(-1, *[1] * (words.ndim - 2)), out=view)
            done += count
        return signs.view(self._dtype)


@lru_cache(maxsize=256)
def _shifts(width: int, passes: range, dtype: torch.dtype, device: torch.device) -> Tensor:
    """How far to shift a word of `width` bits to the left, so that the bit of each pass becomes its sign."""
    return torch.tensor([width - 1 - BIT_OF_PASS[t] for t in passes], dtype=dtype, device=device)


def _spans(samples: range, size: int, first: int) -> list[tuple[slice, range]]:
    """The samples as runs of groups in which every group takes the same passes. Groups count from number `first`."""
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


def _hash32(x: Tensor, key: Tensor, spare: Tensor) -> Tensor:
    """Two rounds of multiply and shift ("lowbias32", Wellons 2018), with the second key mixed in between them.

    The last shift of the original is left out. It only moves high bits into low bits, and readers of the draw use the
    high bits. `x` and `spare` are overwritten.
    """
    x ^= torch.bitwise_right_shift(x, int32(16), out=spare).bitwise_and_(int32(0xFFFF))  # "and": the shift is logical
    x *= int32(0x7FEB352D)
    x ^= key
    x ^= torch.bitwise_right_shift(x, int32(15), out=spare).bitwise_and_(int32(0x1FFFF))
    x *= int32(0x846CA68B)
    return x


def _halves(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The low and the high 32 bits. *Shape:* that of the keys, each."""
    return keys.to(torch.int32), (keys >> 32).to(torch.int32)


def _mix64(x: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection on 64-bit integers."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _signed64(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _signed64(0x94D049BB133111EB)
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _signed64(x: int) -> int:
    return (x + 2**63) % 2**64 - 2**63
