"""The stochastic twin of a classifier: which dropout sites it has, and forward passes with all of them on.

MC-Dropout (Gal & Ghahramani 2016, arXiv:1506.02142) averages forward passes in which dropout stays on. Two obvious ways
to keep it on are wrong in transformers 5. Replacing `nn.Dropout` modules misses attention dropout, which is functional
and gated on the attention module's own `training` flag. `model.train()` also turns on LayerDrop, router jitter,
gradient checkpointing and BatchNorm updates.

The twin is a private copy of the module tree that shares every parameter and buffer with the caller's model, which is
never touched. It is probed once: a full `train()` forward shows which calls of dropout exist, and the same forward with
those calls made the identity must equal `eval()` and leave the random state unmoved, or the model has randomness that
the twin cannot see. Inference then runs in `eval()` mode, with the flag set only on modules that read it to decide
whether to call dropout at all, and every call that the probe found is answered with a mask (`masks.py`).
"""

import copy
import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .dropout import Answer, Call, DropoutCalls
from .masks import KeyedMasks, Layout, text_keys

Inputs = Mapping[str, Tensor]
Encode = Callable[[Sequence[str]], Inputs]


@dataclass(frozen=True)
class DropoutSite:
    """One module that applies dropout; a module that does so in several ways has a site for each.

    Attributes:
        name: the module's path in the model.
        kind: "dropout" (single units), "feature" (whole channels), "alpha" and "feature alpha" (for SELU), "attention"
            (the weights inside scaled_dot_product_attention).
        p: probability that a unit is dropped.
        calls: calls in one forward pass.
        batch_dim: which dimension of its input holds the texts; None where all texts share one mask.
    """

    name: str
    kind: str
    p: float
    calls: int
    batch_dim: int | None


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
        needs_equal_lengths: nothing may be padded, because the deterministic output of a text changes when it is, or
            because a site that all texts share has a shape that depends on the length.
        loops_over_samples: a site has no batch dimension, so samples cannot be rows of one batch.
    """

    def __init__(
        self, model: nn.Module, encode: Encode, *, can_pad: bool = True, dtype: torch.dtype | None = None
    ) -> None:
        self._source = model
        self._converted = dtype is not None and dtype != _dtype(model)
        self._snapshot = _snapshot(model, with_versions=self._converted)
        self._model = _private_copy(model)
        if self._converted:
            # Break the sharing first: `to` would convert the caller's parameters in place.
            self._model = copy.deepcopy(self._model).to(dtype=dtype)
        _switch_off_other_noise(self._model)
        self._takes_use_cache = "use_cache" in inspect.signature(self._model.forward).parameters
        self._probe(encode, can_pad)

    def is_current(self) -> bool:
        """Whether the caller's model is still the one that was copied: modules, tensors, dtypes, devices, settings."""
        return _snapshot(self._source, with_versions=self._converted) == self._snapshot

    @torch.no_grad()
    def logits(self, inputs: Inputs) -> Tensor:
        """Deterministic logits, dropout off: (texts, classes)."""
        return self._run(inputs, lambda call: None)

    @torch.no_grad()
    def sample_logits(self, inputs: Inputs, samples: range, *, seed: int, balanced: bool) -> Tensor:
        """Logits of the passes `samples` for each text: (texts, len(samples), classes).

        The samples of a text are rows of one batch, which then holds texts x samples rows.
        """
        texts = len(inputs["input_ids"])
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        keys = text_keys(inputs["input_ids"], mask)
        starts = (mask != 0).long().argmax(1)
        shifted = starts if bool(starts.any()) else None

        def run(part: range) -> Tensor:
            masks = KeyedMasks(keys, shifted, part, len(self._layouts), seed=seed, balanced=balanced)
            rows = {name: value.repeat_interleave(len(part), 0) for name, value in inputs.items()}
            return self._run(rows, _Sampler(self._layouts, masks)).view(texts, len(part), -1)

        if self.loops_over_samples:
            return torch.cat([run(range(t, t + 1)) for t in samples], 1)
        return run(samples)

    def _run(self, inputs: Inputs, answer: Answer) -> Tensor:
        extra = {"use_cache": False} if self._takes_use_cache else {}
        with DropoutCalls(answer):
            outputs = self._model(**inputs, **extra)
        if isinstance(answer, _Sampler):
            answer.check_complete()
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
        return logits if isinstance(logits, Tensor) else torch.as_tensor(logits)

    @torch.no_grad()
    def _probe(self, encode: Encode, can_pad: bool) -> None:
        short, long = "a b c", "a b c d e f g"
        pair, triple, longer = encode([short] * 2), encode([short] * 3), encode([long] * 2)
        names = {module: name for name, module in self._model.named_modules()}

        self._model.eval()
        expected = self._run(pair, lambda call: None)
        active = self._full_train_calls(pair, names, expected)
        recorded = self._turn_on(pair, names, active)
        # Layouts by comparison: another number of texts shows the batch dimension, another length the positions.
        shapes = [[call.shape for call in recorded]]
        for inputs in (triple, longer):
            calls: list[Call] = []
            self._run(inputs, calls.append)
            shapes.append([call.shape for call in calls])
        self._layouts: list[Layout | None] = []
        used: Counter[str] = Counter()
        sites: dict[tuple[str, str, float, int | None], DropoutSite] = {}
        for call, *by_input in zip(recorded, *shapes, strict=True):
            ordinal = used[call.module]
            used[call.module] += 1
            if (call.module, ordinal) not in active:
                self._layouts.append(None)
                continue
            layout = _layout(*by_input)
            self._layouts.append(layout)
            key = (call.module, call.kind, call.p, layout.batch_dim)
            before = sites[key].calls if key in sites else 0
            sites[key] = DropoutSite(call.module, call.kind, call.p, before + 1, layout.batch_dim)
        self.sites = tuple(sites.values())
        common = [layout for layout in self._layouts if layout is not None and layout.batch_dim is None]
        self.loops_over_samples = bool(common)
        self.needs_equal_lengths = any(layout.length_dims for layout in common)
        if can_pad:
            alone, twice = self.logits(encode([short]))[0], self.logits(encode([short] * 2))[0]
            padded = self.logits(encode([short, long]))[0]
            # Another shape takes other kernels: the same text twice, not padded, shows what that alone changes.
            floor = 10 * _distance(alone, twice) + _rounding(alone)
            self.needs_equal_lengths |= _distance(alone, padded) > floor

    def _full_train_calls(
        self, inputs: Inputs, names: Mapping[nn.Module, str], expected: Tensor
    ) -> set[tuple[str, int]]:
        """The dropout calls of full `train()` mode, as (module, ordinal within the module), and the proof.

        With each of those calls made the identity, the pass must equal `expected` and consume no randomness.
        """
        calls: list[Call] = []
        self._model.train()
        for module in self._model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.eval()  # in training it computes with the batch's own statistics
        with (
            _own_buffers(self._model),
            _unmoved_random_state() as state,
            _tracing(self._model, names, state.moved) as trace,
        ):
            actual = self._run(inputs, _Recorder(calls, trace))
            moved = state.moved()
        self._model.eval()
        self.hidden_randomness: str | None = None
        if moved or _distance(actual, expected) > _rounding(expected):  # the same kernels on the same shapes
            self.hidden_randomness = trace.suspect or type(self._model).__name__
            warnings.warn(
                f"{type(self._model).__name__} has randomness that is not dropout, in {self.hidden_randomness!r}: "
                "with every dropout call off, train() mode still differs from eval(). It stays off here, and so does "
                "dropout that cannot be on without it: neither is part of the samples.",
                UserWarning,
                stacklevel=2,
            )
        ordinal: Counter[str] = Counter()
        active = set()
        for call in calls:
            if call.on:
                active.add((call.module, ordinal[call.module]))
            ordinal[call.module] += 1
        return active

    def _turn_on(self, inputs: Inputs, names: Mapping[nn.Module, str], active: set[tuple[str, int]]) -> list["Call"]:
        """Set the flags that make the twin reach every active call, and return its calls, in order.

        Most code calls dropout in `eval()` too, with p and `training=False`; those calls need no flag, and their
        owners keep it off (LayerDrop lives in such owners). Attention passes p = 0 unless its own flag is set. An
        owner whose flag would also turn on randomness that no mask can key stays off as a whole.
        """
        modules = {name: module for module, name in names.items()}
        reached: set[tuple[str, int]] = set()
        calls: list[Call] = []
        for _attempt in range(2 + len(modules)):
            calls.clear()
            with _unmoved_random_state() as state, _tracing(self._model, names, state.moved) as trace:
                self._run(inputs, _Recorder(calls, trace))
            if trace.suspect is not None and modules[trace.suspect].training:
                modules[trace.suspect].training = False
                active -= {call for call in active if call[0] == trace.suspect}
                continue
            ordinal: Counter[str] = Counter()
            reached.clear()
            for call in calls:
                reached.add((call.module, ordinal[call.module]))
                ordinal[call.module] += 1
            if active <= reached:
                break
            for owner, _ordinal in active - reached:
                modules[owner].training = True
        if active - reached:
            missing = sorted({owner for owner, _ordinal in active - reached})
            raise RuntimeError(f"{type(self._model).__name__}: dropout cannot be reached in {', '.join(missing)}")
        return calls


class _Recorder:
    """Appends each call with the module that made it; the answer is the identity."""

    def __init__(self, calls: list[Call], trace: "_Trace") -> None:
        self._calls, self._trace = calls, trace

    def __call__(self, call: Call) -> None:
        self._calls.append(replace(call, module=self._trace.current))


class _Sampler:
    """Answers the i-th call of a pass with the mask for the layout that the probe found for the i-th call."""

    def __init__(self, layouts: Sequence[Layout | None], masks: KeyedMasks) -> None:
        self._layouts, self._masks, self._next = layouts, masks, 0

    def __call__(self, call: Call) -> Tensor | None:
        index = self._next
        self._next += 1
        if index >= len(self._layouts):
            self.check_complete()
        layout = self._layouts[index]
        return None if layout is None else self._masks.keep(index, call.shape, call.p, layout, call.dtype)

    def check_complete(self) -> None:
        """Raise if the pass did not make exactly the calls that the probe saw."""
        if self._next != len(self._layouts):
            raise RuntimeError(
                f"this forward pass called dropout {self._next} times or more, the probe saw {len(self._layouts)}: "
                "the model's path depends on its input, so its masks cannot be keyed by call"
            )


def _layout(shape: Sequence[int], more_texts: Sequence[int], longer: Sequence[int]) -> Layout:
    """The meaning of each dimension from the shapes of one call for 2 texts, 3 texts and 2 longer texts."""
    batch = [d for d, (two, three) in enumerate(zip(shape, more_texts, strict=True)) if two != three]
    if not batch:
        return Layout(None, tuple(d for d, (a, b) in enumerate(zip(shape, longer, strict=True)) if a != b))
    dim = batch[0]
    folded = shape[dim] // 2 > 1
    # Take the batch dimension out, keeping what is folded into it, and see which of the rest grows with the length.
    rest = [*shape[:dim], *([shape[dim] // 2] if folded else []), *shape[dim + 1 :]]
    rest_longer = [*longer[:dim], *([longer[dim] // 2] if folded else []), *longer[dim + 1 :]]
    return Layout(dim, tuple(d for d, (a, b) in enumerate(zip(rest, rest_longer, strict=True)) if a != b))


def _private_copy(model: nn.Module) -> nn.Module:
    """The module tree copied, every parameter and buffer shared: no extra memory for weights."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def allow_batches(model: nn.Module) -> None:
    """Give a decoder without `config.pad_token_id`, which refuses batches, one that no token has.

    The last token then counts as the last real one, which is right where nothing is padded.
    """
    config = getattr(model, "config", None)
    text_config = config.get_text_config() if config is not None and hasattr(config, "get_text_config") else None
    if text_config is not None and getattr(text_config, "pad_token_id", None) is None:
        text_config.pad_token_id = -1


# Attributes that switch on noise other than dropout, or work that only training needs, and their neutral value.
_OTHER_NOISE: dict[str, Any] = {
    "layerdrop": 0.0,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
    "jitter_noise": 0.0,
    "router_jitter_noise": 0.0,
    "input_jitter_noise": 0.0,
    "moe_jitter_eps": 0.0,
    "gradient_checkpointing": False,
}


def _switch_off_other_noise(model: nn.Module) -> None:
    """LayerDrop, jitter and gradient checkpointing off; attention in a form whose dropout is a call."""
    config = getattr(model, "config", None)
    for owner in (config, *model.modules()):
        for name, neutral in _OTHER_NOISE.items():
            if owner is not None and getattr(owner, name, None) not in (None, neutral):
                setattr(owner, name, neutral)
    if config is not None and getattr(config, "_attn_implementation", "sdpa") not in ("eager", "sdpa"):
        model.set_attn_implementation("sdpa")  # type: ignore[operator]  # flash and flex drop inside their kernels
    allow_batches(model)


def _dtype(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _distance(a: Tensor, b: Tensor) -> float:
    """Largest difference of two logits; 0 where both are NaN."""
    return float((a.float() - b.float()).abs().nan_to_num(0.0).max())


def _rounding(logits: Tensor) -> float:
    """What the order of arithmetic alone may change in `logits`."""
    return 16 * torch.finfo(logits.dtype).eps * max(1.0, float(logits.float().abs().nan_to_num(0.0).max()))


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
    return _Same(value)


class _Same:
    """Equal if it is the same object; holds the object, so that its id is not given to another."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]  # never a key


class _RandomState:
    """PyTorch's global random state on the CPU and on each CUDA device in use."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self.cuda = torch.cuda.get_rng_state_all() if in_use else []

    def moved(self) -> bool:
        now = _RandomState()
        pairs = zip([self.cpu, *self.cuda], [now.cpu, *now.cuda], strict=False)
        return any(not torch.equal(before, after) for before, after in pairs)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)


@contextmanager
def _unmoved_random_state() -> Iterator[_RandomState]:
    """The caller finds the global random state as it was, whatever the probe meets."""
    state = _RandomState()
    try:
        yield state
    finally:
        state.restore()


@contextmanager
def _own_buffers(model: nn.Module) -> Iterator[None]:
    """Clones in place of the buffers that are shared with the caller: training mode may move running statistics."""
    shared = [(module, name, buffer) for module in model.modules() for name, buffer in module._buffers.items()]
    clones = {id(buffer): buffer.clone() for _, _, buffer in shared if buffer is not None}
    for module, name, buffer in shared:
        module._buffers[name] = None if buffer is None else clones[id(buffer)]
    try:
        yield
    finally:
        for module, name, buffer in shared:
            module._buffers[name] = buffer


class _Trace:
    """Which module is running, and the first one to finish after the random state had moved under it."""

    def __init__(self) -> None:
        self.stack: list[str] = []
        self.suspect: str | None = None

    @property
    def current(self) -> str:
        return self.stack[-1] if self.stack else ""


@contextmanager
def _tracing(
    model: nn.Module, names: Mapping[nn.Module, str], moved: Callable[[], bool] | None = None
) -> Iterator[_Trace]:
    trace = _Trace()

    def enter(module: nn.Module, args: Any) -> None:
        trace.stack.append(names[module])

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        name = trace.stack.pop()
        if moved is not None and trace.suspect is None and moved():
            trace.suspect = name

    handles = [h for m in names for h in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))]
    try:
        yield trace
    finally:
        for handle in handles:
            handle.remove()
