"""The stochastic twin of a classifier: forward passes with all of its dropout on.

MC-Dropout (Gal & Ghahramani 2016, arXiv:1506.02142) averages forward passes in which dropout stays on. Two obvious ways
to keep it on are wrong in transformers 5. Replacing `nn.Dropout` modules misses attention dropout, which is functional
and gated on the attention module's own `training` flag. `model.train()` also turns on LayerDrop, router jitter,
gradient checkpointing and BatchNorm updates (`train_mode.py`).

The twin is a private copy of the module tree that shares every parameter and buffer with the caller's model, which is
never touched. It is probed once (`probe.py`). Inference runs in `eval()` mode, with the flag set only on modules that
read it to decide whether to call dropout at all, and every call that the probe found is answered with a mask
(`masks.py`). A model that draws random numbers of its own in that mode is refused.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from .forward import Forward, Inputs
from .onednn_linear import use_the_whole_processor
from .probe import Encode, probe
from .train_mode import switch_off_other_noise


class StochasticTwin:
    """Stochastic forward passes of `model`, which stays as it is.

    Args:
        model: any sequence classifier: called with the encoded texts, it returns logits of shape (texts, classes).
        encode: turns texts into the model's inputs, padded to one length; used by the probe alone.
        can_pad: whether texts of unequal length may share a batch at all.
        dtype: run in this dtype. Where it differs from the model's own, the twin holds converted copies of the weights.

    Attributes:
        sites: every dropout site with p > 0 that full `train()` mode activates, in order of their first call.
        hidden_randomness: path of the first module with randomness that is not a dropout call; None if there is none.
        needs_equal_lengths: nothing may be padded, because the output of a text changes when it is, without dropout or
            with it, or because a site that all texts share has a shape that depends on the length.
        loops_over_samples: a site has no batch dimension, so samples cannot be rows of one batch.
        loops_over_texts: a site mixes the rows of a batch in a way that the probe cannot tell apart, so that every row
            runs alone.

    Raises:
        ValueError: the model draws random numbers in `eval()` mode too (also raised by a later pass, where only longer
            texts make it do so), or refuses to run in `train()` mode.
        RuntimeError: a call of dropout cannot be reached, or the number of calls depends on the input in a way that
            running each text alone does not mend.
    """

    def __init__(
        self, model: nn.Module, encode: Encode, *, can_pad: bool = True, dtype: torch.dtype | None = None
    ) -> None:
        self._source = model
        self._converted = dtype is not None and dtype != _dtype(model)
        self._snapshot = _snapshot(model, with_versions=self._converted)
        self._model = shared_copy(model)
        if self._converted:
            # Break the sharing first: `to` would convert the caller's parameters in place.
            self._model = copy.deepcopy(self._model).to(dtype=dtype)
        switch_off_other_noise(self._model)
        allow_batches(self._model)
        use_the_whole_processor(self._model)
        self._forward = Forward(self._model)
        found = probe(self._forward, encode, can_pad=can_pad)
        self._plan = found.plan
        self.sites = found.sites
        self.hidden_randomness = found.hidden_randomness
        self.needs_equal_lengths = found.needs_equal_lengths
        self.loops_over_samples = found.plan.loops_over_samples
        self.loops_over_texts = found.plan.loops_over_texts

    def is_current(self) -> bool:
        """Whether the caller's model is still the one that was copied: modules, tensors, dtypes, devices, settings.

        A converted copy of the weights follows in-place changes too, but for those through `.data`, of which PyTorch
        keeps no account (`weight.data.zero_()`; `weight.data = ...` is seen).
        """
        return _snapshot(self._source, with_versions=self._converted) == self._snapshot

    def logits(self, inputs: Inputs) -> Tensor:
        """Deterministic logits, dropout off: (texts, classes)."""
        return self._forward.logits(inputs)

    def sample_logits(self, inputs: Inputs, samples: range, *, seed: int, balanced: bool) -> Tensor:
        """Logits of the passes `samples` for each text: (texts, len(samples), classes).

        The samples of a text are rows of one batch, which then holds texts x samples rows.
        """
        return self._forward.sample_logits(inputs, samples, self._plan, seed=seed, balanced=balanced)


def allow_batches(model: nn.Module) -> None:
    """Give a decoder without `config.pad_token_id`, which refuses batches, one that no token has.

    The last token then counts as the last real one, which is right where nothing is padded.
    """
    config = getattr(model, "config", None)
    text_config = config.get_text_config() if config is not None and hasattr(config, "get_text_config") else None
    if text_config is not None and getattr(text_config, "pad_token_id", None) is None:
        text_config.pad_token_id = -1


def shared_copy(model: nn.Module) -> nn.Module:
    """The module tree and its config copied, every parameter and buffer shared: no extra memory for weights."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _snapshot(model: nn.Module, with_versions: bool) -> list[Any]:
    """Everything that the copy depends on, comparable with ==: objects by identity, plain settings by value."""
    state: list[Any] = []
    for module in model.modules():
        state.append(_Same(module))
        for name, value in vars(module).items():
            if name == "training":
                continue
            if isinstance(value, dict):
                state.append([(key, _plain(item, with_versions)) for key, item in value.items()])
            else:
                state.append((name, _plain(value, with_versions)))
    config = getattr(model, "config", None)
    if config is not None:
        state.append([(key, _plain(value, False)) for key, value in vars(config).items()])
    return state


def _plain(value: Any, with_versions: bool) -> Any:
    if isinstance(value, (bool, int, float, str, type(None), torch.dtype)):
        return value
    if isinstance(value, Tensor):
        # In-place changes move the version (inference tensors have none), `.data = ...` the pointer alone.
        counted = with_versions and not value.is_inference()
        version = (value._version if counted else None, value.data_ptr() if with_versions else None)
        return (_Same(value), value.dtype, value.device, version)
    if isinstance(value, (list, tuple, set, frozenset)):  # PEFT keeps the names of merged adapters in a list
        return (type(value), [_plain(item, with_versions) for item in value])
    return _Same(value)


class _Same:
    """Equal if it is the same object; holds the object, so that its id is not given to another."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]  # never a key
