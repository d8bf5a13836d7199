"""Intercepts every dropout call of a forward pass and lets a callback answer it.

Transformers 5 calls dropout in several ways: through `nn.Dropout` modules, through `F.dropout`, and inside
`scaled_dot_product_attention(dropout_p=...)`. All of them are functions that a `TorchFunctionMode` intercepts, in its
own thread only. `nn.MultiheadAttention` calls dropout inside a single function, whose body is run under the mode.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .attention import attention_with_dropout
from .dropping import alpha_drop, drop
from .masks import Mask
from .rates import OWN, Rates


@dataclass(frozen=True)
class Call:
    """One call of a dropout function.

    Attributes:
        kind: What is dropped; see `DropoutSite`.
        p: Probability that a unit is dropped: the call's own, or that of `Rates`.
        on: The call's own `training` argument.
        shape: Shape of the tensor that the mask multiplies.
        input: Input of the function; for attention the query, which has the weights' leading dimensions.
        inserted: Whether the call's own p is 0.
        module: Path of the module that makes the call.
    """

    kind: str
    p: float
    on: bool
    shape: tuple[int, ...]
    input: Tensor
    inserted: bool = False
    module: str = ""


Answer = Callable[[Call], Mask | None]  # None: the identity


class DropoutCalls(TorchFunctionMode):
    """Passes every dropout call to `answer` while active in this thread, whatever its `training` flag.

    A call whose p is 0 at these `rates` is the identity. `other_draw` is called with the name of each other function
    that draws random numbers, before it runs.
    """

    def __init__(
        self, answer: Answer, other_draw: Callable[[str], None] = lambda name: None, rates: Rates = OWN
    ) -> None:
        super().__init__()
        self._answer, self._other_draw, self._rates = answer, other_draw, rates

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:  # it calls dropout inside, and a mode is inactive while it handles a call
                return _open_multi_head_attention(*args, **kwargs)
        kind = _KINDS.get(func)
        if kind is None:
            if func in _DRAWS:
                self._other_draw(func.__name__)
            return func(*args, **kwargs)
        return self._dropout(kind, _UNBATCHED.get(func), *args, **kwargs)

    def _dropout(
        self,
        kind: str,
        unbatched: int | None,
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
        train: bool | None = None,
    ) -> Tensor:
        on = training if train is None else train
        inserted, p = p <= 0, self._rates.of(p)
        if p <= 0:
            return input
        shape = tuple(input.shape)
        if kind.startswith("feature"):
            channels = 1 if input.ndim == unbatched else 2
            shape = (*shape[:channels], *[1] * (input.ndim - channels))
        mask = self._answer(Call(kind, p, on, shape, input, inserted))
        if mask is None:
            return input
        output = alpha_drop(input, mask, p) if kind.endswith("alpha") else drop(input, mask, p)
        return input.copy_(output) if inplace else output

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        mask = None
        inserted, dropout_p = dropout_p <= 0, self._rates.of(dropout_p)
        if dropout_p > 0:
            shape = (*query.shape[:-1], key.shape[-2])
            mask = self._answer(Call("attention", dropout_p, True, shape, query, inserted))
        if mask is None:
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
            )
        return attention_with_dropout(query, key, value, attn_mask, mask, dropout_p, is_causal, scale, enable_gqa)


def count_active_calls(model: nn.Module, inputs: Mapping[str, Tensor]) -> int:
    """Number of dropout calls with p > 0 that are on in one forward pass of `model` in its current mode.

    In that pass, every dropout call is the identity.
    """
    calls: list[Call] = []
    with torch.no_grad(), DropoutCalls(calls.append):
        model(**inputs)
    return sum(call.on for call in calls)


# PyTorch's function without the dispatch in its first lines, which would hand the whole call back to the mode.
_open_multi_head_attention = types.FunctionType(
    F.multi_head_attention_forward.__code__,
    {**vars(F), "has_torch_function": lambda tensors: False},
    argdefs=F.multi_head_attention_forward.__defaults__,
)

_KINDS = {
    F.dropout: "dropout",
    torch.dropout: "dropout",
    F.dropout1d: "feature",
    F.dropout2d: "feature",
    F.dropout3d: "feature",
    torch.feature_dropout: "feature",
    F.feature_alpha_dropout: "feature alpha",
    torch.feature_alpha_dropout: "feature alpha",
    F.alpha_dropout: "alpha",
    torch.alpha_dropout: "alpha",
}

# Number of dimensions at which these functions take the first dimension as channels, because there is no batch.
_UNBATCHED = {F.dropout1d: 2, F.dropout3d: 4}

# Other functions and Tensor methods that read the global random state. The probe detects every draw on a short text.
# Draws that only happen on longer texts, and not through these functions (NumPy, in-place dropout), go undetected.
_DRAWS = {F.gumbel_softmax} | {
    getattr(owner, name)
    for owner, names in {
        torch: "bernoulli multinomial normal poisson rand rand_like randint randint_like randn randn_like randperm "
        "binomial _standard_gamma _sample_dirichlet",
        Tensor: "bernoulli multinomial bernoulli_ cauchy_ exponential_ geometric_ log_normal_ normal_ random_ uniform_",
    }.items()
    for name in names.split()
}
