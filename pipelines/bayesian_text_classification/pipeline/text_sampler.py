"""From texts to samples. `TextSampler` owns the twin, the lock and the token budget; later stages see only arrays."""

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .batching import Apart, TokenBudget, plan, windows
from .encoding import Encoded, Encoder
from .errors import InputError
from .inputs import items_of
from .options import Activation, Options, is_int
from .probe import DropoutSite
from .progress import Progress
from .rates import OWN, Dropout, Rates
from .sampling import Draws, Passes, fixed, until_precise
from .scaling import Scaling
from .scope import Scope
from .spread import PILOT, PILOT_SAMPLES, UNKNOWN, Spread, spread_of
from .twin import OrdinaryTwin, StochasticTwin
from .uncertainty import error_of_score

WINDOW = 1024  # texts tokenized and sorted together; a stream holds one window in memory
_ORDINARY = Options(num_samples=0)
TOKENS_PER_BATCH = {"cpu": 1_536, "cuda": 16_384}  # rows x length; leaves room for the batch's attention weights


class TextSampler:
    """Draws samples of texts from a model with dropout on, or runs one ordinary pass for `num_samples=0`.

    Calls from several threads are safe. The model is never changed. The caller may replace the attributes at any time.

    Attributes:
        model: A sequence classifier.
        tokenizer: The model's tokenizer.
        device: The device that the model is on.
        dtype: The dtype of the sampled passes.
    """

    def __init__(self, model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.model, self.tokenizer, self.device, self.dtype = model, tokenizer, device, dtype
        self._lock = threading.Lock()
        self._twins: dict[bool, StochasticTwin] = {}  # by whether they insert dropout
        self._ordinary: OrdinaryTwin | None = None  # only until there is a stochastic twin, which runs such passes too
        self._settings: tuple[Any, ...] = ()  # the caller's settings when the twins were created
        self._pilot_lock = threading.Lock()
        self._known: tuple[Spread | None, tuple[int, int, bytes]] = (None, (0, 0, b""))  # for this version of the model
        self._scope: tuple[Scope | None, tuple[int, int, bytes]] = (None, (0, 0, b""))  # the same
        width = getattr(model.config.get_text_config(), "hidden_size", None)
        self._budgets = {kind: TokenBudget(tokens, width) for kind, tokens in TOKENS_PER_BATCH.items()}

    def samples(
        self,
        texts: Iterable[Any],
        options: Options,
        activation: Activation,
        *,
        tokenizer_options: dict[str, Any],
        batch_size: int | None,
        first: int = 0,
        first_sample: int = 0,
        scaling: Scaling | None = None,
        scope: Scope | None = None,
        progress: Progress | None = None,
    ) -> Iterator[tuple[Encoded, Draws]]:
        """Yield the samples of each text, one window of texts at a time.

        If a text's outputs are NaN or infinite, its samples contain NaN.

        Args:
            texts: The texts, in any form that a call of the pipeline accepts.
            options: The number of samples, the seed, the masks, the dropout rates and the tolerance.
            activation: Activation applied to the logits.
            tokenizer_options: Arguments of the tokenizer's call.
            batch_size: The most texts in a batch; None: no such limit.
            first: Number of the first text, for error messages.
            first_sample: Number of the first pass.
            scaling: Calibration of the scores that the tolerance applies to. The samples have none.
            scope: What novelty is the distance from. It takes the features of an ordinary pass: that of
                `num_samples=0`, else a further one.
            progress: Called after each batch with the number of passes (rows) in it.
        """
        tolerance = options.tolerance if options.num_samples > 1 else None

        def error(drawn: NDArray[np.float32], spread: Spread) -> NDArray[np.float64]:
            return error_of_score(drawn, activation, options.group_size, spread, scaling)

        def drawn(encoded: Encoded, **how: Any) -> Draws:
            if options.num_samples == 0:
                return self._ordinary_draws(encoded, activation, scope, **how)
            passes = self._passes(encoded, options, activation, **how)
            if tolerance is None:
                draws = fixed(passes, len(encoded), range(first_sample, first_sample + options.num_samples))
            else:
                of_score = partial(error, spread=self.spread(activation, options.rates, batch_size))
                draws = until_precise(passes, len(encoded), options.num_samples, tolerance, of_score)
            if scope is None:
                return draws
            return replace(draws, novelty=self._ordinary_draws(encoded, activation, scope, **how).novelty)

        for window in windows(items_of(texts), WINDOW):
            encoded = self.encoder.encode(window, tokenizer_options, first)
            yield encoded, drawn(encoded, batch_size=batch_size, progress=progress, first=first)
            first += len(window)
            del encoded  # before the next window is tokenized

    def features(
        self,
        texts: Iterable[Any],
        activation: Activation,
        *,
        tokenizer_options: dict[str, Any],
        batch_size: int | None,
        progress: Progress | None = None,
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Yield the probabilities and the features of an ordinary pass, one window of texts at a time.

        *Shape:* (texts, classes), (texts, features). If a text's outputs are NaN or infinite, its probabilities are
        NaN. Raises ValueError if the model has no hidden states to take features from.
        """
        first = 0
        for window in windows(items_of(texts), WINDOW):
            encoded = self.encoder.encode(window, tokenizer_options, first)
            passes = self._passes(
                encoded, _ORDINARY, activation, batch_size, progress, first, extra=lambda features: features
            )
            first += len(window)
            values = fixed(passes, len(encoded), range(1)).values[:, :, 0]
            classes = self.model.config.num_labels
            yield values[:, :classes], values[:, classes:]

    def _ordinary_draws(self, encoded: Encoded, activation: Activation, scope: Scope | None, **how: Any) -> Draws:
        """One ordinary pass of each text, with its novelty if there is a scope."""
        if scope is None:
            return fixed(self._passes(encoded, _ORDINARY, activation, **how), len(encoded), range(1))
        passes = self._passes(encoded, _ORDINARY, activation, **how, extra=lambda x: scope.distances(x)[:, None])
        draws = fixed(passes, len(encoded), range(1))
        return replace(draws, values=draws.values[:, :-1], novelty=draws.values[:, -1, 0].astype(np.float64))

    def spread(self, activation: Activation, rates: Rates, batch_size: int | None = None) -> Spread:
        """How much the model's samples vary: what is known, else what a pilot finds at first use.

        The pilot is 20 samples of each of 16 fixed texts, with seed 0. It is deterministic, and repeated if the model
        has changed. Raises ValueError if the model has no active dropout.
        """
        twin = self.sampling_twin(rates)
        if activation == "none":
            return UNKNOWN
        known = self.known_spread()
        if known is not None and known.is_for(twin.dropout_rate(rates), rates.option, activation):
            return known
        place = activation, rates, self._version(twin.parameters)
        with self._pilot_lock:
            if place not in twin.pilots:
                twin.pilots[place] = self.measured_spread(PILOT, activation, rates.option, {}, batch_size) or UNKNOWN
            return twin.pilots[place]

    def known_spread(self) -> Spread | None:
        """The spread that `know` was given, if the model has not changed since."""
        spread, version = self._known
        return spread if spread is not None and version == self._version() else None

    def know(self, spread: Spread | None) -> None:
        """Use this spread from now on, as long as the model does not change. None: measure it."""
        self._known = spread, self._version()

    def known_scope(self) -> Scope | None:
        """The scope that `know_scope` was given, if the model has not changed since."""
        scope, version = self._scope
        return scope if scope is not None and version == self._version() else None

    def has_scope(self) -> bool:
        """Whether there is a scope, for these weights or for earlier ones."""
        return self._scope[0] is not None

    def know_scope(self, scope: Scope | None) -> None:
        """Use this scope from now on, as long as the model does not change."""
        self._scope = scope, self._version()

    def _version(self, parameters: Sequence[Tensor] | None = None) -> tuple[int, int, bytes]:
        """The model, the version of its weights, which changes in place raise, and some of the weights.

        Fused optimizers change weights without raising their version. `parameters` are the model's, if they are known.
        """
        parameters = list(self.model.parameters()) if parameters is None else parameters
        counters = sum(0 if one.is_inference() else one._version for one in parameters)
        return id(self.model), counters, _some_of(parameters).tobytes()

    def measured_spread(
        self,
        texts: Iterable[Any],
        activation: Activation,
        dropout: Dropout,
        tokenizer_options: dict[str, Any],
        batch_size: int | None = None,
    ) -> Spread | None:
        """The spread of 20 samples of each of these texts; None if it cannot be measured on such texts."""
        options = Options(num_samples=PILOT_SAMPLES, dropout=dropout)
        drawn = self.samples(texts, options, activation, tokenizer_options=tokenizer_options, batch_size=batch_size)
        try:
            values = np.concatenate([draws.values for _, draws in drawn])
        except InputError:  # such as a tokenizer that makes no token of a text
            return None
        return spread_of(values, self.twin(options.rates).dropout_rate(options.rates), activation, dropout)

    def batches(
        self, texts: Iterable[Any], tokenizer_options: dict[str, Any], batch_size: int | None
    ) -> Iterator[tuple[Sequence[int], dict[str, Tensor]]]:
        """Yield the batches that one ordinary pass over `texts` would run: indices and inputs."""
        items = list(items_of(texts))
        if not items:
            return
        encoded = self.encoder.encode(items, tokenizer_options)
        apart = self._apart(encoded, self.ordinary_twin())
        for batch in plan(encoded.padded_lengths, range(1), self._budget, max_texts=batch_size, apart=apart):
            yield batch.texts, self.encoder.tensors(encoded, batch.texts, self.device)

    def twin(self, rates: Rates = OWN) -> StochasticTwin:
        """The stochastic twin of the model in its current state, for samples at these rates."""
        inserts = rates.inserted > 0
        with self._lock:
            twin = self._current(inserts)
            if twin is None:
                model, can_pad, _, dtype = self._settings
                self._ordinary = None  # frees its weights, if they were converted
                other = self._current(not inserts)
                twin = StochasticTwin(
                    model, self._probe_inputs, can_pad=can_pad, dtype=dtype, inserts=inserts, like=other
                )
                self._twins = {inserts: twin} if other is None else {inserts: twin, not inserts: other}
        return twin

    def ordinary_twin(self) -> OrdinaryTwin | StochasticTwin:
        """A twin of the model in its current state that runs ordinary passes. It is not probed for dropout."""
        with self._lock:
            found: OrdinaryTwin | StochasticTwin | None = self._current(False) or self._current(True)
            if found is None and self._ordinary is not None and self._ordinary.is_current():
                found = self._ordinary
            if found is None:
                model, can_pad, _, dtype = self._settings
                found = self._ordinary = OrdinaryTwin(model, self._probe_inputs, can_pad=can_pad, dtype=dtype)
        return found

    def _current(self, inserts: bool) -> StochasticTwin | None:
        """The twin that inserts dropout or not, or None if there is none of the model in its current state."""
        model: Any = getattr(self.model, "_orig_mod", self.model)  # unwraps torch.compile
        settings = (model, self.encoder.can_pad, self.tokenizer.padding_side, self.dtype)
        if settings != self._settings:
            self._twins, self._ordinary, self._settings = {}, None, settings
        twin = self._twins.get(inserts)
        return twin if twin is not None and twin.is_current() else None

    def sampling_twin(self, rates: Rates) -> StochasticTwin:
        """The twin of the model, for samples at these rates. Raises ValueError if they cannot be drawn."""
        twin = self.twin(rates)
        if reason := self._why_not(twin.sites(rates), rates):
            raise ValueError(f"{reason}, or pass num_samples=0 for ordinary text classification")
        return twin

    def dropout_rate(self, options: Options) -> float:
        """Mean rate of the dropout calls of a sampled pass. Raises ValueError if there are none at these rates."""
        return self.sampling_twin(options.rates).dropout_rate(options.rates)

    def why_not(self, rates: Rates) -> str:
        """Why the model cannot be sampled at these rates, and what to do about it; empty if it can."""
        return self._why_not(self.sites(rates), rates)

    def _why_not(self, sites: Sequence[DropoutSite], rates: Rates) -> str:
        name = getattr(self.model.config, "_name_or_path", "") or "the model"
        who, option = f"{name} ({type(self.model).__name__})", rates.option
        if rates.inserted and not any(site.inserted for site in sites):
            if sites:
                advice = 'pass dropout=None, or a factor of these rates, such as "2x"'
                return f"dropout={option!r} is for sites whose own rate is 0, and all of {who} have rates; {advice}"
            return f"{who} calls no dropout at all, so none can be inserted; use another model"
        if not sites:
            return (
                f"{who} has no active dropout, so there is nothing to sample; pass dropout=0.1 to insert dropout that "
                "it was not trained with (evaluate shows what that does)"
            )
        own = max(site.p for site in sites) / rates.factor
        if rates.factor * own >= 1 > own:
            raised = f"would raise a rate of {own:.3g} to {rates.factor * own:.3g}"
            return f"dropout={option!r} {raised}; pass a factor below {1 / own:.4g}"
        return ""

    def sites(self, rates: Rates) -> tuple[DropoutSite, ...]:
        """Every dropout site of a sampled pass at these rates."""
        return self.twin(rates).sites(rates)

    @property
    def encoder(self) -> Encoder:
        """The tokenizer, with the model's limits."""
        return Encoder(self.tokenizer, self.model, self._lock)

    @property
    def batch_tokens(self) -> int:
        """The most tokens (rows x length, with padding) in a batch; halved when memory runs out.

        Until then, and until it is set, passes of one long text may take two thirds more, or up to 3.3 times as many
        if the model is narrow.
        """
        return self._budget.tokens

    @batch_tokens.setter
    def batch_tokens(self, value: int) -> None:
        if not is_int(value) or value < 1:
            raise ValueError(f"batch_tokens={value!r}; it must be an integer of at least 1")
        self._budget.set(value)

    def _passes(
        self,
        encoded: Encoded,
        options: Options,
        activation: Activation,
        batch_size: int | None,
        progress: Progress | None,
        first: int,
        extra: Callable[[NDArray[np.float32]], NDArray[np.floating]] | None = None,
    ) -> Passes:
        """Stochastic passes, or one ordinary pass for `num_samples=0`.

        `extra` maps the features of an ordinary pass to further columns behind the probabilities.
        """
        sampling = self.sampling_twin(options.rates) if options.num_samples else None
        twin, encoder = sampling or self.ordinary_twin(), self.encoder

        def run(texts: Sequence[int], samples: range) -> NDArray[np.float32]:
            with self._placement():
                inputs = encoder.tensors(encoded, texts, self.device)
                further = None
                if sampling is None and extra is not None:
                    logits, features = twin.logits_and_features(inputs)
                    logits, further = logits.unsqueeze(1), extra(features.cpu().numpy()).astype(np.float32)
                elif sampling is None:
                    logits = twin.logits(inputs).unsqueeze(1)
                else:
                    how: dict[str, Any] = {"balanced": options.masks == "balanced", "rates": options.rates}
                    logits = sampling.sample_logits(inputs, samples, seed=options.seed, **how)
                finite = logits.isfinite().all(-1, keepdim=True)  # sigmoid(inf) would be a confident 1
                probabilities = activated(logits.float(), activation).where(finite, torch.nan)
                values: NDArray[np.float32] = probabilities.cpu().numpy()
            return values if further is None else np.concatenate([values, further[:, None]], axis=2)

        apart = self._apart(encoded, twin)
        lengths, samples_are_rows = encoded.padded_lengths, sampling is None or not sampling.loops_over_samples
        return Passes(run, lengths, self._budget, batch_size, apart, samples_are_rows, progress, first)

    def _apart(self, encoded: Encoded, twin: OrdinaryTwin | StochasticTwin) -> list[Apart]:
        """A key for each text; only texts with equal keys may share a batch.

        If padding is not possible, a key has the length. It always has the number of end-of-sequence tokens, because
        BART and T5 reject a batch whose rows differ in it, and the group of the model's rotary frequencies.
        """
        pads = self.encoder.may_pad(encoded) and not twin.needs_equal_lengths
        lengths = [0] * len(encoded) if pads else [-length for length in encoded.lengths]
        groups = map(twin.frequency_group, encoded.padded_lengths)
        ends = self.encoder.end_counts(encoded)
        return list(zip(lengths, map(int, encoded.pairs), ends, groups, strict=True))

    def _probe_inputs(self, texts: Sequence[str]) -> dict[str, Tensor]:
        encoder = self.encoder
        rows = self.tokenizer(list(texts), padding=encoder.can_pad, return_tensors="pt", **encoder.truncation)
        return {name: values.to(self.device) for name, values in rows.items()}

    def _placement(self) -> AbstractContextManager[Any]:
        """A context in which new tensors go to the device with this index."""
        of_device = getattr(torch.get_device_module(self.device), "device", None)
        return nullcontext() if self.device.type in ("cpu", "mps") or of_device is None else of_device(self.device)

    @property
    def _budget(self) -> TokenBudget:
        return self._budgets.get(self.device.type, self._budgets["cpu"])

    def __copy__(self) -> "TextSampler":
        """A sampler of the same model, with its own token budgets. It shares the lock, which guards the tokenizer."""
        other = object.__new__(type(self))
        budgets = {kind: copy.copy(budget) for kind, budget in self._budgets.items()}
        other.__dict__.update(vars(self), _budgets=budgets, _twins=dict(self._twins))
        return other

    def __getstate__(self) -> dict[str, Any]:
        gone: dict[str, Any] = {"_lock": None, "_pilot_lock": None, "_twins": {}, "_ordinary": None}
        spread, scope = self.known_spread(), self.known_scope()
        return {**vars(self), **gone, "_settings": (), "_known": spread, "_scope": scope}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock(), _pilot_lock=threading.Lock())
        self.know(state["_known"])
        self.know_scope(state["_scope"])


def some_weights(model: nn.Module) -> NDArray[np.float64]:
    """One weight of each of up to 16 parameters, the last ones among them. *Shape:* (weights,).

    Training changes some of them, and reading them takes a tenth of a millisecond.
    """
    return _some_of(list(model.parameters()))


def _some_of(parameters: Sequence[Tensor]) -> NDArray[np.float64]:
    known = [one for one in parameters if one.is_floating_point() and one.numel() and one.device.type != "meta"]
    chosen = known[:: -(-len(known) // 12) or 1] + known[-4:]
    with torch.no_grad():
        return np.array([one.reshape(-1)[one.numel() // 2].item() for one in chosen], np.float64)


def activated(logits: Tensor, activation: Activation) -> Tensor:
    """Probabilities of logits; the logits themselves for "none". *Shape:* that of `logits`."""
    if activation == "softmax":
        return logits.softmax(-1)
    return logits.sigmoid() if activation == "sigmoid" else logits
