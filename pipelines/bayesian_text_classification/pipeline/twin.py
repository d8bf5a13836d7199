"""The stochastic twin of a classifier: forward passes with every dropout site active.

MC-Dropout (Gal & Ghahramani 2016, arXiv:1506.02142) averages forward passes in which dropout stays on. Two obvious ways
to keep it on are wrong in transformers 5. Replacing `nn.Dropout` modules misses attention dropout, which is functional
and gated on the attention module's own `training` flag. `model.train()` also turns on LayerDrop, router jitter,
gradient checkpointing and BatchNorm updates (`train_mode.py`).

The twin is a private copy of the module tree. It shares every parameter and buffer with the caller's model, which is
never modified. It is probed once (`probe.py`). Inference runs in `eval()` mode; the `training` flag is set only on
modules that read it to decide whether to call dropout at all. Every dropout call that the probe found gets a keyed mask
(`masks.py`). A model that draws other random numbers in `eval()` mode is rejected.

Ordinary passes, with dropout off, need no probe: they run on a twin of their own class.
"""

import copy
import warnings
from collections.abc import Hashable
from dataclasses import replace

import torch
from torch import Tensor, nn

from .block_outputs import add_output_dropout
from .features import add_tap, pooled, taking
from .forward import Forward, Inputs
from .onednn_linear import use_the_whole_processor
from .probe import DropoutSite, Encode, mean_rate, padding_changes_logits, probe
from .rates import OWN, Rates
from .rotary import Limit, frequency_group, make_stateless
from .snapshot import Snapshot
from .spread import Spread
from .train_mode import switch_off_other_noise
from .workspace import keep_freed_memory


class _Twin:
    """A private copy of a classifier, whose passes do not modify the original.

    Args:
        model: Any sequence classifier that maps the encoded texts to logits. *Shape:* (texts, classes).
        dtype: Dtype of the forward passes. If it differs from the model's dtype, the twin holds converted copies of the
            weights.
        like: A twin of the same model in its current state, to share these copies with.

    Attributes:
        parameters: Those of the caller's model.
    """

    needs_equal_lengths: bool
    _model: nn.Module
    _converted: bool
    _snapshot: Snapshot
    _frequency_limits: list[Limit]

    def __init__(self, model: nn.Module, dtype: torch.dtype | None, like: "_Twin | None" = None) -> None:
        keep_freed_memory()
        self.parameters = list(model.parameters())
        if like is not None:
            self._converted, self._snapshot = like._converted, like._snapshot
            self._model, self._frequency_limits = shared_copy(like._model), like._frequency_limits
            self._forward = Forward(self._model)
            return
        self._converted = dtype is not None and dtype != _dtype(model)
        self._snapshot = Snapshot(model, with_values=self._converted)
        self._model = shared_copy(model)
        if self._converted:
            # Stop sharing first: `to` would convert the caller's parameters in place.
            self._model = copy.deepcopy(self._model).to(dtype=dtype)
        switch_off_other_noise(self._model)
        allow_batches(self._model)
        self._frequency_limits = make_stateless(self._model)
        add_tap(self._model)
        use_the_whole_processor(self._model)
        self._forward = Forward(self._model)

    def is_current(self) -> bool:
        """Whether the caller's model is still what was copied: modules, tensors, dtypes, devices, settings.

        A twin with converted weights also detects changes of the originals in place; see `Snapshot`.
        """
        return self._snapshot.holds()

    def frequency_group(self, length: int) -> int:
        """A number for a padded length in tokens; texts with different numbers cannot share a batch."""
        return frequency_group(self._frequency_limits, length)

    def logits(self, inputs: Inputs) -> Tensor:
        """Deterministic logits with dropout off. *Shape:* (texts, classes)."""
        return self._forward.logits(inputs)

    def logits_and_features(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Deterministic logits, and features (`features.py`). *Shape:* (texts, classes), (texts, features).

        Raises:
            ValueError: The model has no hidden states to take them from.
        """
        with taking() as taken:
            logits = self.logits(inputs)
        return logits, pooled(taken, inputs)


class OrdinaryTwin(_Twin):
    """Runs ordinary passes of `model`, with dropout off. No dropout is needed, and none is looked for.

    Args:
        model: Any sequence classifier that maps the encoded texts to logits. *Shape:* (texts, classes).
        encode: Function that turns texts into the model's inputs, padded to one length.
        can_pad: Whether texts of unequal length may share a batch at all.
        dtype: Dtype of the forward passes.

    Attributes:
        needs_equal_lengths: Whether padding is ruled out, because it changes a text's logits.

    Raises:
        ValueError: The model draws random numbers in `eval()` mode.
    """

    def __init__(
        self, model: nn.Module, encode: Encode, *, can_pad: bool = True, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(model, dtype)
        self._model.eval()
        self.needs_equal_lengths = padding_changes_logits(self._forward, encode, can_pad=can_pad)


class StochasticTwin(_Twin):
    """Runs stochastic forward passes of `model` without modifying it.

    Args:
        model: Any sequence classifier that maps the encoded texts to logits. *Shape:* (texts, classes).
        encode: Function that turns texts into the model's inputs, padded to one length. Only the probe uses it.
        can_pad: Whether texts of unequal length may share a batch at all.
        dtype: Dtype of the forward passes. If it differs from the model's dtype, the twin holds converted copies of the
            weights.
        inserts: Whether sites whose own rate is 0 are sites too. Where only attention weights are dropped, dropout is
            then also added behind attention and MLP (`block_outputs.py`).
        like: See `_Twin`.

    Attributes:
        pilots: How much the samples vary; see `TextSampler.spread`.
        beyond_dropout: Path of a module that does more than dropout in `train()` mode; None if there is none.
        needs_equal_lengths: Whether padding is ruled out. It is if padding changes a text's output (with or without
            dropout), or if a site that all texts share has a shape that depends on the length.
        loops_over_samples: Whether a site has no batch dimension, so samples cannot be rows of one batch.
        loops_over_texts: Whether a site mixes the rows of a batch so that the probe cannot separate them. Every row
            then runs by itself.

    Raises:
        ValueError: The model also draws random numbers in `eval()` mode, or fails to run in `train()` mode. A later
            pass raises it too, if only longer texts make the model draw.
        RuntimeError: A dropout call cannot be reached, or the number of calls depends on the input in a way that
            running each text by itself does not fix.
    """

    def __init__(
        self,
        model: nn.Module,
        encode: Encode,
        *,
        can_pad: bool = True,
        dtype: torch.dtype | None = None,
        inserts: bool = False,
        like: _Twin | None = None,
    ) -> None:
        super().__init__(model, dtype, like)
        rates = Rates(inserted=0.1) if inserts else OWN  # any rate will do
        found = probe(self._forward, encode, can_pad=can_pad, rates=rates)
        if inserts and found.attention_alone:
            add_output_dropout(self._model, {site.name for site in found.sites})
            found = probe(self._forward, encode, can_pad=can_pad, rates=rates)
        if found.beyond_dropout is not None:
            warnings.warn(
                f"{type(model).__name__} does more than dropout in train() mode, in {found.beyond_dropout!r}: with "
                "every dropout call off, it draws random numbers or gives other logits than in eval() mode. That stays "
                "off, and so does any dropout that cannot be on without it. Neither contributes to the samples.",
                UserWarning,
                stacklevel=2,
            )
        self._plan, self._own_sites = found.plan, found.sites
        self.pilots: dict[Hashable, Spread] = {}
        self.beyond_dropout = found.beyond_dropout
        self.needs_equal_lengths = found.needs_equal_lengths
        self.loops_over_samples = found.plan.loops_over_samples
        self.loops_over_texts = found.plan.loops_over_texts

    def sites(self, rates: Rates = OWN) -> tuple[DropoutSite, ...]:
        """Every dropout site with p > 0 at these rates that full `train()` mode activates, in order of first call."""
        sites = (replace(site, p=rates.of(site.p)) for site in self._own_sites)
        return tuple(site for site in sites if site.p > 0)

    def dropout_rate(self, rates: Rates = OWN) -> float:
        """Mean rate of the dropout calls in one pass; 0 without dropout."""
        return mean_rate(self.sites(rates))

    def sample_logits(self, inputs: Inputs, samples: range, *, seed: int, balanced: bool, rates: Rates = OWN) -> Tensor:
        """Logits of the passes `samples` for each text. *Shape:* (texts, len(samples), classes).

        The samples of a text are rows of one batch, which then holds texts x samples rows. Rates above 0 for sites
        whose own rate is 0 need a twin that `inserts` them; a twin that does is for no others.
        """
        return self._forward.sample_logits(inputs, samples, self._plan, seed=seed, balanced=balanced, rates=rates)


def allow_batches(model: nn.Module) -> None:
    """Set a missing `config.pad_token_id` to an id that no token has, because a decoder without one rejects batches.

    The model then takes the last token as the last real one, which is right as long as nothing is padded.
    """
    config = getattr(model, "config", None)
    text_config = config.get_text_config() if config is not None and hasattr(config, "get_text_config") else None
    if text_config is not None and getattr(text_config, "pad_token_id", None) is None:
        text_config.pad_token_id = -1


def shared_copy(model: nn.Module) -> nn.Module:
    """A copy of the module tree and its config that shares every parameter and buffer: no extra memory for weights."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
