"""Attention with dropout of its weights.

PyTorch's fused attention without dropout never holds all weights of a text. With dropout, on a CPU, it does: heads x
length x length numbers for each row, written and read by every operation. Here, heads and queries are split into tiles
(`tiles.py`). On a CPU, the tiles of long texts hold one row each: its queries, keys and values are read where they are,
and the result is written where it belongs. All passes of a group read their bits from the same words, which are made
once for each tile.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from .dropping import drop, zero_negative
from .masks import Mask
from .tiles import one_row_at_a_time, tile_size, tiles

_FEW = 2**20  # up to this many weights, one call of each operation for all short rows is faster than tiles


def attention_with_dropout(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    mask: Mask,
    p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    """Softmax(q k^T scale + mask), with dropout, times v, as in PyTorch's reference for scaled_dot_product_attention.

    A query that may attend to no key gives 0, and a mask may come with `is_causal`. There are no gradients.

    Args:
        query: Queries. *Shape:* (..., heads, L, E).
        key: Keys; may have fewer heads. *Shape:* (..., S, E).
        value: Values; may have fewer heads. *Shape:* (..., S, V).
        attn_mask: Boolean mask (True may be attended to) or a float mask that is added to the scores; None for none.
        mask: Dropout mask of the weights. *Shape:* (..., heads, L, S).
        p: Probability that a weight is dropped.
        is_causal: Whether a query only attends to keys at its own or an earlier position.
        scale: Factor of the scores; None for 1 / sqrt(E).
        enable_gqa: Whether to repeat the heads of `key` and `value` to match those of `query`.
    """
    scale = query.size(-1) ** -0.5 if scale is None else scale
    weights = prod(query.shape[1:-1]) * key.size(-2)  # of a row
    many = len(query) * weights > _FEW or one_row_at_a_time(weights, query.device)
    if many and p < 1 and mask.rows_first and query.ndim == key.ndim == value.ndim == 4 and not _autocasts(query):
        repeats = query.size(1) // key.size(1) if enable_gqa else 1
        if key.shape[:2] == value.shape[:2] == (query.size(0), query.size(1) // repeats):
            bias = None if attn_mask is None else _bias(attn_mask, query.dtype)
            return _in_tiles(query, key, value, bias, mask, p, is_causal, scale, repeats)
    if enable_gqa:
        key, value = (x.repeat_interleave(query.size(-3) // x.size(-3), -3) for x in (key, value))
    scores = (query * scale) @ key.transpose(-2, -1)
    if is_causal:
        scores.masked_fill_(_later(0, scores.size(-2), scores.size(-1), scores.device), float("-inf"))
    bias = None if attn_mask is None else _bias(attn_mask, scores.dtype)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))  # a sum would be NaN where a hidden score is infinite
    elif bias is not None:
        scores = scores + bias
    output = drop(torch.softmax(scores, -1), mask, p) @ value
    return output if bias is None else _without_empty(output, bias, is_causal)


def _in_tiles(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    mask: Mask,
    p: float,
    is_causal: bool,
    scale: float,
    repeats: int,
) -> Tensor:
    """The same for tensors of *shape* (texts * samples, heads, length, width) and a mask that has their rows."""
    rows, heads, length, _ = query.shape
    keys, count, most = key.size(2), len(mask.samples), tile_size(query.device)
    units, alone = most // (keys * mask.groups), one_row_at_a_time(heads * length * keys, query.device)
    if alone:
        units = min(units, heads * length)  # those of one text
    output = query.new_empty(rows, heads, length, value.size(3))  # contiguous, so that a product can be written into it
    # *Shape:* (texts, samples, heads, length, width).
    q, k, v, o = (torch.unflatten(x, 0, (mask.texts, count)) for x in (query, key, value, output))
    b = None if bias is None else torch.unflatten(bias.expand(rows, heads, -1, keys), 0, (mask.texts, count))
    nothing = query.new_empty(1, 1, 1)
    for texts, some, queries in tiles((mask.texts, heads, length), units):
        end = min(queries.stop, keys) if is_causal else keys  # a causal query attends to no later key
        words = mask.words(texts, (some, queries, slice(0, end)))
        causal = None
        if is_causal:
            later = _later(queries.start, queries.stop - queries.start, end, query.device)
            causal = query.new_zeros(later.shape).masked_fill_(later, float("-inf"))
        step = 1 if alone else mask.samples_at_once(words, most)
        left, target = (x[texts, :, some, queries] for x in (q, o))
        right, own_values = (_heads(x[texts], some, repeats)[..., :end, :] for x in (k, v))
        lefts, rights, values = (_in_turn(x, step) for x in (left, right.transpose(-1, -2), own_values))
        targets = target[0].unbind(0) if alone else torch.split(target, step, 1)
        hidden = None
        if b is not None:
            hidden = _in_turn(b[texts, :, some, queries if b.size(3) > 1 else slice(None), :end], step)
        for i, signs in enumerate(mask.parts(words, step)):
            added = causal
            if hidden is not None:
                added = hidden[i] if causal is None else hidden[i] + causal
            shape = (len(lefts[i]), lefts[i].size(1), end)
            scores = mask.workspace.empty("scores", shape, query.dtype, query.device)
            sum_with, beta = (nothing, 0) if added is None else (added, 1)
            torch.baddbmm(sum_with, lefts[i], rights[i], beta=beta, alpha=scale, out=scores)
            torch.softmax(scores, -1, out=scores)
            # One view for all, because a tile of one sample at a time and several groups has one text.
            zero_negative(scores, signs.view(shape))
            if alone:
                torch.baddbmm(nothing, scores, values[i], beta=0, alpha=1 / (1 - p), out=targets[i])
            else:
                product = torch.baddbmm(nothing, scores, values[i], beta=0, alpha=1 / (1 - p))
                targets[i].copy_(product.view(targets[i].shape))
    return output if bias is None else _without_empty(output, bias, is_causal)


def _in_turn(x: Tensor, step: int) -> Sequence[Tensor]:
    """The matrices of x, *shape* (texts, samples, heads, ...), `step` samples at a time. *Shape:* (matrices, ...)."""
    if len(x) == step == 1:
        return x[0].unbind(0)  # nothing is copied
    return [part.flatten(0, 2) for part in torch.split(x, step, 1)]


def _heads(x: Tensor, some: slice, repeats: int) -> Tensor:
    """The heads of x, *shape* (texts, samples, heads, ...), that these heads of the queries use; each for `repeats`."""
    if repeats == 1:
        return x[:, :, some]
    used = x[:, :, some.start // repeats : -(-some.stop // repeats)].repeat_interleave(repeats, 2)
    return used[:, :, some.start % repeats :][:, :, : some.stop - some.start]


def _bias(attn_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What to add to the scores. *Shape:* that of the mask, with one query where all queries have the same mask."""
    if attn_mask.ndim == 1:
        attn_mask = attn_mask[None]
    if attn_mask.stride(-2) == 0:
        attn_mask = attn_mask[..., :1, :]
    if attn_mask.dtype != torch.bool:
        bias = attn_mask.to(dtype)
        if dtype != torch.float16:
            return bias
        # A score may bring the lowest number of float16 to -inf. Half of it hides a key as well.
        return torch.where(bias.isneginf(), bias, bias.clamp(min=torch.finfo(dtype).min / 2))
    return torch.zeros_like(attn_mask, dtype=dtype).masked_fill_(~attn_mask, float("-inf"))


def _without_empty(output: Tensor, bias: Tensor, is_causal: bool) -> Tensor:
    """The output, with 0 where a query may attend to no key, as in the fused kernels. Such a softmax is undefined."""
    hidden = bias == float("-inf")
    if is_causal:
        hidden = hidden | _later(0, output.size(-2), bias.size(-1), bias.device)
    return output.masked_fill_(hidden.all(-1, keepdim=True), 0.0)


def _later(start: int, queries: int, keys: int, device: torch.device) -> Tensor:
    """Whether each key comes after each of the queries that begin at `start`. *Shape:* (queries, keys)."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).triu_(start + 1)


def _autocasts(x: Tensor) -> bool:
    """Whether PyTorch converts x in some operations; the others would then get another dtype."""
    kind = x.device.type
    return torch.amp.autocast_mode.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
