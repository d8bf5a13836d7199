"""The stochastic twin of a classifier: which dropout sites it has, and forward passes with all of them on.

MC-Dropout (Gal & Ghahramani 2016, arXiv:1506.02142) averages forward passes in which dropout stays on. Two obvious ways
to keep it on are wrong in transformers 5. Replacing `nn.Dropout` modules misses attention dropout, which is functional
and gated on the attention module's own `training` flag. `model.train()` also turns on LayerDrop, router jitter,
gradient checkpointing and BatchNorm updates.

The twin is a private copy of the module tree that shares every parameter and buffer with the caller's model, which is
never touched. It is probed once: a full `train()` forward shows which calls of dropout exist, and the same forward with
those calls made the identity must equal `eval()` and leave the random state unmoved, or the model has randomness that
the twin cannot see. Where a site holds the texts is read off its shapes and confirmed by changing one text of three; a
site that cannot be told apart makes every row run alone.

Inference runs in `eval()` mode, with the flag set only on modules that read it to decide whether to call dropout at
all, and every call that the probe found is answered with a mask (`masks.py`). A model that draws random numbers of its
own in that mode is refused.
"""

import copy
import inspect
import random
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
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
        batch_dim: which dimension of its input holds the texts; None where all texts share one mask, or where rows run
            alone because it cannot be told.
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
        needs_equal_lengths: nothing may be padded, because the output of a text changes when it is, without dropout or
            with it, or because a site that all texts share has a shape that depends on the length.
        loops_over_samples: a site has no batch dimension, so samples cannot be rows of one batch.
        loops_over_texts: a site mixes the rows of a batch in a way that the probe cannot tell apart, so that every row
            runs alone.

    Raises:
        ValueError: the model draws random numbers in `eval()` mode too (also raised by a later pass, where only longer
            texts make it do so), or refuses to run in `train()` mode.
        RuntimeError: the number of dropout calls depends on the input, or a call cannot be reached.
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
        return self._run(inputs, _ignore)

    @torch.no_grad()
    def sample_logits(self, inputs: Inputs, samples: range, *, seed: int, balanced: bool) -> Tensor:
        """Logits of the passes `samples` for each text: (texts, len(samples), classes).

        The samples of a text are rows of one batch, which then holds texts x samples rows.
        """
        texts = len(inputs["input_ids"])
        if self.loops_over_texts and texts > 1:
            alone = [{name: value[i : i + 1] for name, value in inputs.items()} for i in range(texts)]
            return torch.cat([self.sample_logits(row, samples, seed=seed, balanced=balanced) for row in alone])
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        keys = text_keys(inputs["input_ids"], mask)
        starts = (mask != 0).long().argmax(1)
        shifted = starts if bool(starts.any()) else None

        def run(part: range) -> Tensor:
            masks = KeyedMasks(keys, shifted, part, len(self._layouts), seed=seed, balanced=balanced)
            rows = {name: value.repeat_interleave(len(part), 0) for name, value in inputs.items()}
            sampler = _Sampler(self._layouts, masks, None if bool(mask.all()) else self._folds, texts * len(part))
            return self._run(rows, sampler).view(texts, len(part), -1)

        if self.loops_over_samples or self.loops_over_texts:
            return torch.cat([run(range(t, t + 1)) for t in samples], 1)
        return run(samples)

    def _run(self, inputs: Inputs, answer: Answer, may_draw: bool = False) -> Tensor:
        extra = {"use_cache": False} if self._takes_use_cache else {}
        with DropoutCalls(answer, _ignore if may_draw else self._refuse_draw):
            outputs = self._model(**inputs, **extra)
        if isinstance(answer, _Sampler):
            answer.check_complete()
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
        return logits if isinstance(logits, Tensor) else torch.as_tensor(logits)

    @torch.no_grad()
    def _probe(self, encode: Encode, can_pad: bool) -> None:
        short, long = "a b c", "a b c d e f g"
        pair, triple, longer = encode([short] * 2), encode([short] * 3), encode([long] * 2)
        ids = triple["input_ids"][0]
        different = [encode([text])["input_ids"][0] for text in ("d e f", "x y z")]
        same_length = [ids.flip(0), *(other for other in different if other.shape == ids.shape)]
        self._model.eval()
        with _unmoved_random_state():
            self._run(pair, _ignore, may_draw=True)  # BigBird replaces modules of itself at its first short text
            names = {module: name for name, module in self._model.named_modules()}
            active = self._full_train_calls(pair, names, self._reproducible_logits(pair, names))
            recorded = self._turn_on(pair, names, active)
            # Layouts by comparison: another number of texts shows the batch dimension, another length the positions.
            others = [self._calls(triple), self._calls(longer)]
            if any(len(calls) != len(recorded) for calls in others):
                raise _path_depends_on_input(max(map(len, others)), len(recorded))
            self._layouts: list[Layout | None] = [
                _layout(*(call.shape for call in calls)) if key in active else None
                for key, *calls in zip(_ordinals(recorded), recorded, *others, strict=True)
            ]
            self._folds = [
                None if layout is None else _fold(layout, call.shape, long_call.shape)
                for layout, call, long_call in zip(self._layouts, recorded, others[1], strict=True)
            ]
            common = [layout for layout in self._layouts if layout is not None and layout.batch_dim is None]
            self.loops_over_samples = bool(common)
            self.needs_equal_lengths = any(layout.length_dims for layout in common)
            self.loops_over_texts = any(layout is _ALONE for layout in self._layouts)
            self.loops_over_texts |= not self._rows_are_apart(triple, same_length)
            if self.loops_over_texts:
                # A row alone has any layout that gives each unit a number.
                self._layouts = [
                    layout and (_ALONE if layout.batch_dim is not None else layout) for layout in self._layouts
                ]
                self.needs_equal_lengths = True
            elif can_pad:
                self.needs_equal_lengths |= self._padding_matters(encode, short, long)
        sites: dict[tuple[str, str, float, int | None], DropoutSite] = {}
        for call, layout in zip(recorded, self._layouts, strict=True):
            if layout is not None:
                batch_dim = None if self.loops_over_texts else layout.batch_dim
                key = (call.module, call.kind, call.p, batch_dim)
                before = sites[key].calls if key in sites else 0
                sites[key] = DropoutSite(call.module, call.kind, call.p, before + 1, batch_dim)
        self.sites = tuple(sites.values())

    def _reproducible_logits(self, inputs: Inputs, names: Mapping[nn.Module, str]) -> Tensor:
        """Deterministic logits of a model that is deterministic."""
        with _unmoved_random_state() as state, _tracing(self._model, names, state.moved) as trace:
            logits = self._run(inputs, _ignore, may_draw=True)
            if state.moved():
                self._refuse_draw(trace.suspect or "its forward")
        return logits

    def _refuse_draw(self, where: str) -> None:
        raise ValueError(
            f"{type(self._model).__name__} draws random numbers in eval() mode too, in {where!r}: the same text has no "
            "fixed answer, with or without dropout. Use another model."
        )

    def _calls(self, inputs: Inputs) -> list[Call]:
        calls: list[Call] = []
        self._run(inputs, _Recorder(calls, _Trace()))
        return calls

    def _rows_are_apart(self, three: Inputs, others: Sequence[Tensor]) -> bool:
        """Whether each call's input holds the rows where its layout says, seen by changing the middle one of three."""
        before = self._calls(three)
        for other in others:
            ids = three["input_ids"].clone()
            ids[1] = other
            after = self._calls({**three, "input_ids": ids})
            if len(before) != len(after):
                raise _path_depends_on_input(len(after), len(before))
            for layout, a, b in zip(self._layouts, before, after, strict=True):
                dim = None if layout is None else layout.batch_dim
                if dim is not None and not _only_the_middle_changes(dim, a.input, b.input):
                    return False
        return True

    def _padding_matters(self, encode: Encode, short: str, long: str) -> bool:
        """Whether a longer text in the batch changes what a text gets, without dropout or with it."""
        alone, twice, padded = encode([short]), encode([short] * 2), encode([long, short])
        exact, several = self.logits(alone)[0], self.logits(twice)[0]
        # Another shape takes other kernels: the same text twice, not padded, shows what that alone changes.
        floor = 10 * _distance(exact, several) + _rounding(exact)
        if _distance(exact, self.logits(padded)[1]) > floor:
            return True
        try:
            drawn, beside, among = (
                self.sample_logits(inputs, range(1), seed=0, balanced=True)[row]
                for inputs, row in ((alone, 0), (twice, 1), (padded, 1))
            )
        except RuntimeError:
            return True  # a mask does not fit: the site's size is no multiple of the rows once some are padded
        return _distance(drawn, among) > 10 * _distance(drawn, beside) + _rounding(drawn)

    def _full_train_calls(
        self, inputs: Inputs, names: Mapping[nn.Module, str], expected: Tensor
    ) -> set[tuple[str, int]]:
        """The dropout calls of full `train()` mode, as in `_ordinals`, and the proof.

        With each of those calls made the identity, the pass must equal `expected` and consume no randomness.
        """
        calls: list[Call] = []
        self._model.train()
        for module in self._model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.eval()  # in training it computes with the batch's own statistics
        with (
            _own_buffers(self._model),
            _no_jitter(self._model),
            _unmoved_random_state() as state,
            _tracing(self._model, names, state.moved) as trace,
        ):
            try:
                actual = self._run(inputs, _Recorder(calls, trace), may_draw=True)
            except ValueError as error:
                reason = " ".join(str(error).split())
                raise ValueError(
                    f"{type(self._model).__name__} refuses train() mode for a short text: {reason}"
                ) from error
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
        return {key for key, call in zip(_ordinals(calls), calls, strict=True) if call.on}

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
                self._run(inputs, _Recorder(calls, trace), may_draw=True)
            if trace.suspect is not None and modules[trace.suspect].training:
                modules[trace.suspect].training = False
                active -= {call for call in active if call[0] == trace.suspect}
                continue
            reached = set(_ordinals(calls))
            if active <= reached:
                break
            for owner, _ordinal in active - reached:
                modules[owner].training = True
        if active - reached:
            missing = sorted({owner for owner, _ordinal in active - reached})
            raise RuntimeError(f"{type(self._model).__name__}: dropout cannot be reached in {', '.join(missing)}")
        return calls


def _ignore(call: object) -> None:
    """The identity for every call of dropout; no objection to any other draw."""


class _Recorder:
    """Appends each call with the module that made it; the answer is the identity."""

    def __init__(self, calls: list[Call], trace: "_Trace") -> None:
        self._calls, self._trace = calls, trace

    def __call__(self, call: Call) -> None:
        self._calls.append(
            replace(call, input=call.input.clone(), module=self._trace.current)
        )  # may be changed in place


class _Sampler:
    """Answers the i-th call of a pass with the mask for the layout that the probe found for the i-th call.

    Where texts are padded, `folds` holds the parts of a text that the probe saw in each call's batch dimension.
    """

    def __init__(
        self, layouts: Sequence[Layout | None], masks: KeyedMasks, folds: Sequence[int | None] | None, rows: int
    ) -> None:
        self._layouts, self._masks, self._folds, self._rows, self._next = layouts, masks, folds, rows, 0

    def __call__(self, call: Call) -> Tensor | None:
        index = self._next
        self._next += 1
        if index >= len(self._layouts):
            self.check_complete()
        layout = self._layouts[index]
        if layout is None:
            return None
        if layout.batch_dim is not None:
            self._check_fold(call.shape, layout.batch_dim, self._folds[index] if self._folds is not None else None)
        return self._masks.keep(index, call.shape, call.p, layout, call.input.dtype)

    def _check_fold(self, shape: tuple[int, ...], dim: int, expected: int | None) -> None:
        fold, rest = divmod(shape[dim], self._rows)
        if rest or (expected is not None and fold != expected):
            raise RuntimeError(
                f"dropout on {shape} has {shape[dim]} parts for {self._rows} rows, not {expected or 'equally many'} "
                "each as in the probe: its masks cannot be keyed in a padded batch. Pass padding=False."
            )

    def check_complete(self) -> None:
        """Raise if the pass did not make exactly the calls that the probe saw."""
        if self._next != len(self._layouts):
            raise _path_depends_on_input(self._next, len(self._layouts))


def _path_depends_on_input(calls: int, expected: int) -> RuntimeError:
    return RuntimeError(
        f"this forward pass called dropout {calls} times or more, the probe saw {expected}: "
        "the model's path depends on its input, so its masks cannot be keyed by call"
    )


def _ordinals(calls: Sequence[Call]) -> list[tuple[str, int]]:
    """Each call as (module, ordinal within the module)."""
    used: Counter[str] = Counter()
    keys = []
    for call in calls:
        keys.append((call.module, used[call.module]))
        used[call.module] += 1
    return keys


# Right for one row alone, whose whole input is the text's whatever its dimensions mean.
_ALONE = Layout(0)


def _layout(shape: Sequence[int], more_texts: Sequence[int], longer: Sequence[int]) -> Layout:
    """The meaning of each dimension from the shapes of one call for 2 texts, 3 texts and 2 longer texts."""
    if not len(shape) == len(more_texts) == len(longer):
        return _ALONE
    batch = [d for d, (two, three) in enumerate(zip(shape, more_texts, strict=True)) if two != three]
    if not batch:
        return Layout(None, tuple(d for d, (a, b) in enumerate(zip(shape, longer, strict=True)) if a != b))
    if len(batch) > 1 or shape[batch[0]] * 3 != more_texts[batch[0]] * 2:
        return _ALONE
    dim = batch[0]
    folded = shape[dim] // 2 > 1
    # Take the batch dimension out, keeping what is folded into it, and see which of the rest grows with the length.
    rest = [*shape[:dim], *([shape[dim] // 2] if folded else []), *shape[dim + 1 :]]
    rest_longer = [*longer[:dim], *([longer[dim] // 2] if folded else []), *longer[dim + 1 :]]
    return Layout(dim, tuple(d for d, (a, b) in enumerate(zip(rest, rest_longer, strict=True)) if a != b))


def _fold(layout: Layout, shape: Sequence[int], longer: Sequence[int]) -> int | None:
    """Parts of a text that the batch dimension holds; None where the probe saw longer texts have more of them."""
    if layout.batch_dim is None or shape[layout.batch_dim] != longer[layout.batch_dim]:
        return None
    return shape[layout.batch_dim] // 2


def _only_the_middle_changes(dim: int, before: Tensor, after: Tensor) -> bool:
    """Whether two inputs differ in the middle third of their dimension `dim` alone.

    Inputs that no text enters (positions) do not differ at all: then the dimension must hold the rows and nothing else.
    """
    if before.shape != after.shape or before.size(dim) % 3:
        return False
    x, y = before.float(), after.float()
    differs = ~torch.isclose(x, y, rtol=4 * torch.finfo(before.dtype).eps, atol=1e-6, equal_nan=True)
    rows = differs.movedim(dim, 0).flatten(1).any(1).view(3, -1).any(1).tolist()
    return rows == [False, True, False] or (not any(rows) and before.size(dim) == 3)


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


# Attributes of modules that switch on noise other than dropout, or work that only training needs.
_LAYERDROP = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop")
_JITTER = ("jitter_noise", "router_jitter_noise", "input_jitter_noise", "moe_jitter_eps")


def _switch_off_other_noise(model: nn.Module) -> None:
    """LayerDrop and gradient checkpointing off; attention in a form whose dropout is a call."""
    config = getattr(model, "config", None)
    for owner in (config, *model.modules()):
        for name in (*_LAYERDROP, "gradient_checkpointing"):
            value = getattr(owner, name, None)
            if value:
                setattr(owner, name, type(value)(0))
    if config is not None and getattr(config, "_attn_implementation", "sdpa") not in ("eager", "sdpa"):
        # Flash and flex drop inside their kernels.
        model.set_attn_implementation("sdpa" if getattr(model, "_supports_sdpa", True) else "eager")  # type: ignore[operator]
    allow_batches(model)


@contextmanager
def _no_jitter(model: nn.Module) -> Iterator[None]:
    """Router jitter off for a pass in train() mode; never in eval(), where Phi-MoE reads it as a threshold."""
    found = [
        (module, name, getattr(module, name))
        for module in model.modules()
        for name in _JITTER
        if getattr(module, name, None)
    ]
    for module, name, _ in found:
        setattr(module, name, 0.0)
    try:
        yield
    finally:
        for module, name, value in found:
            setattr(module, name, value)


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
    """The global random states: PyTorch's on the CPU and on each CUDA device in use, NumPy's and Python's."""

    def __init__(self) -> None:
        self.cpu = torch.get_rng_state()
        in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        self.cuda = torch.cuda.get_rng_state_all() if in_use else []
        self.numpy = np.random.get_state()  # noqa: NPY002  # the legacy state is the global one
        self.python = random.getstate()

    def moved(self) -> bool:
        now = _RandomState()
        pairs = zip([self.cpu, *self.cuda], [now.cpu, *now.cuda], strict=False)
        return (
            any(not torch.equal(before, after) for before, after in pairs)
            or any(not np.array_equal(before, after) for before, after in zip(self.numpy, now.numpy, strict=True))
            or self.python != now.python
        )

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        np.random.set_state(self.numpy)  # noqa: NPY002
        random.setstate(self.python)


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
    """Which module is running, and the one that was when the random state first moved."""

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
        if moved is not None and trace.suspect is None and moved():
            trace.suspect = trace.current
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
