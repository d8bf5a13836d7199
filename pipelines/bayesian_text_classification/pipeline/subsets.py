"""Which passes of a balanced group drop a unit: a random subset, as in a Latin hypercube.

A Latin hypercube (McKay, Beckman and Conover 1979) gives each unit a random permutation of the G passes of a group. The
passes in the first pG places drop the unit. These passes are a uniformly random subset of k = floor(pG) passes. With
probability pG - k, they are one more. So each pass drops the unit with probability p.

Random subsets keep units as independent as balance allows. For two units a and b,

    Var sum_t (a_t - p)(b_t - p)  =  G p^2 (1 - p)^2 (1 + 1 / (G - 1))        if pG is an integer,

which is 1.11 times the variance of independent masks for G = 10, at every p. If all units took the passes in one cyclic
order, the factor would be 1.11 at p = 0.1, 1.7 at 0.2 and 3.6 at 0.5.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations

import torch
from torch import Tensor

# The bit of each pass in a word. When it is shifted to the sign, the bits below it become the exponent. Bits 10, 5 and
# 0 are always 1, and bits 11, 6 and 1 are always 0. An exponent has at least five bits, so it has one of each, and the
# word is a normal and finite number of any floating-point type. The bits descend, so a word is shifted in place from
# one pass to the next.
BIT_OF_PASS = (15, 14, 13, 12, 9, 8, 7, 4, 3, 2)
_ONES = 1 << 10 | 1 << 5 | 1
_EXTRA = 16  # a cell's extra pass is this many bits above its subset
_DRAW_BITS = 27  # bits of a draw that are used


@dataclass(frozen=True)
class Subsets:
    """Equally likely subsets of the passes of a group.

    A draw u, uniform in [0, 1), falls into one of the `cells`. It lies at f = `cells` u - floor(`cells` u) inside it.

    Attributes:
        words: One integer per cell. Bit `BIT_OF_PASS[t]` is 1 if the cell's subset has pass t. 16 bits above, the bit
            of the cell's extra pass is 1. *Shape:* (cells,), int32.
        bits: Precision of u and of f, in bits.
        end: The extra pass is in the subset too if f 2^bits < `end`. 0: there are no extra passes.
    """

    words: Tensor
    bits: int
    end: int

    def of(self, draw: Tensor, spare: Tensor | None = None) -> Tensor:
        """The subset that each draw picks. `draw` is int32, of which the high bits are used.

        `draw` and `spare`, memory for as many numbers, are overwritten.

        Returns:
            Words of which bit `BIT_OF_PASS[t]` is 1 if pass t drops the unit. The high 16 bits are undefined.
        """
        bits, low = int32(self.bits), int32((1 << self.bits) - 1)
        point = draw.bitwise_right_shift_(int32(32 - self.bits)).bitwise_and_(low).mul_(int32(len(self.words)))
        if not self.end:
            return self._words_at(point.bitwise_right_shift_(bits), spare)
        takes_extra = (point & low).sub_(int32(self.end)).bitwise_right_shift_(int32(31))  # all bits, or none
        words = self._words_at(point.bitwise_right_shift_(bits), spare)
        return takes_extra.bitwise_and_(words >> int32(_EXTRA)).bitwise_xor_(words)

    def _words_at(self, cells: Tensor, spare: Tensor | None) -> Tensor:
        out = torch.empty_like(cells) if spare is None else spare
        if len(self.words) == 1:
            return out.copy_(self.words.expand(cells.shape))
        torch.index_select(self.words, 0, cells.view(-1), out=out.view(-1))
        return out


@cache
def int32(x: int) -> Tensor:
    """The low 32 bits of x as a scalar on the CPU, which operations with tensors of any device accept.

    For a Python number they take a microsecond longer.
    """
    return torch.tensor((x + 2**31) % 2**32 - 2**31, dtype=torch.int32, device="cpu")


@lru_cache(maxsize=256)
def subsets_for(p: float, size: int, device: torch.device) -> Subsets:
    """The subsets of a group of `size` passes for dropout with probability `p`; `size` is 1 or 10."""
    unit = 1 << _DRAW_BITS
    whole, rest = divmod(min(round(p * size * unit), size * unit), unit)
    bits_of = [1 << BIT_OF_PASS[3 * t % size] for t in range(size)]  # this order keeps the samples of version 0.1.0
    cells = []
    for subset in combinations(bits_of, whole):
        extras = [bit << _EXTRA for bit in bits_of if bit not in subset] if rest else [0]
        cells += [sum(subset, _ONES) | extra for extra in extras]
    bits = min(_DRAW_BITS, 31 - len(cells).bit_length())  # cells 2^bits is below 2^31
    end = round(rest * 2.0 ** (bits - _DRAW_BITS))
    signed = [cell - (cell >> 31 << 32) for cell in cells]  # the extra pass may be the highest of 32 bits
    return Subsets(torch.tensor(signed, dtype=torch.int32, device=device), bits, end)
