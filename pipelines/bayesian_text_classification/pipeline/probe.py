"""Finds out which dropout calls a classifier makes, what their inputs hold, and how texts may share a batch.

A forward pass in full `train()` mode shows which dropout calls exist. The same pass with those calls made the identity
must equal `eval()` and leave the random state unchanged. Otherwise a module does more than dropout, which has no keyed
mask. The batch dimension of a site is inferred from its input shapes, then confirmed by changing one text of three. If
the rows of a site cannot be separated, every row runs by itself.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .dropout import Call
from .errors import in_one_line
from .forward import Forward, Inputs, PaddingError, PathError, Plan, Recorder, numbers_of
from .masks import ALONE, Layout
from .randomness import first_to_draw, running_modules, unmoved_random_state
from .rates import OWN, Rates
from .train_mode import train_mode

Encode = Callable[[Sequence[str]], Inputs]
_Key = tuple[str, bool, int]  # of a call, as in `_ordinals`


@dataclass(frozen=True)
class DropoutSite:
    """One module that applies dropout. A module that applies it in several ways has one site for each.

    Attributes:
        name: Path of the module in the model.
        kind: "dropout" (single units), "feature" (whole channels), "alpha" and "feature alpha" (for SELU), "attention"
            (the weights inside scaled_dot_product_attention).
        p: Probability that a unit is dropped, by the model itself or by the option `dropout`.
        calls: Number of calls in one forward pass.
        batch_dim: Dimension of the input that holds the texts. None if all texts share one mask, or if it could not be
            determined and rows run by themselves.
        inserted: Whether its own rate in the model is 0.
    """

    name: str
    kind: str
    p: float
    calls: int
    batch_dim: int | None
    inserted: bool = False


def mean_rate(sites: Iterable[DropoutSite]) -> float:
    """Mean rate of the dropout calls of one pass; 0 without dropout."""
    rates = [site.p for site in sites for _ in range(site.calls)]
    return sum(rates) / len(rates) if rates else 0.0


@dataclass(frozen=True)
class Found:
    """The findings of `probe`.

    Attributes:
        plan: How to answer each dropout call in a stochastic pass.
        sites: Every dropout site that full `train()` mode activates at the rates of the probe, in order of first call,
            with its own rate in the model.
        beyond_dropout: Path of a module that does more than dropout in `train()` mode, the first that draws random
            numbers if any does, or the name of the model if it takes several; None if there is none.
        needs_equal_lengths: Whether padding is ruled out.
        attention_alone: Whether there are sites, and all of them drop attention weights. Sites of a LoRA adapter do not
            count.
    """

    plan: Plan
    sites: tuple[DropoutSite, ...]
    beyond_dropout: str | None
    needs_equal_lengths: bool
    attention_alone: bool


def probe(forward: Forward, encode: Encode, *, can_pad: bool, rates: Rates = OWN) -> Found:
    """Analyze the model of `forward`, and set the flags of modules that call dropout only in `train()` mode.

    Args:
        forward: Forward passes of a private copy, with all other noise switched off (`train_mode.py`).
        encode: Function that turns texts into the model's inputs, padded to one length.
        can_pad: Whether texts of unequal length may share a batch at all.
        rates: The rates of the sites. The findings hold for all rates that leave the same sites off.

    Raises:
        ValueError: The model also draws random numbers in `eval()` mode, or fails to run in `train()` mode.
        RuntimeError: The number of dropout calls already differs among short texts, or a call cannot be reached.
    """
    short, long = _short_and_long(encode)
    pair, triple, longer = encode([short] * 2), encode([short] * 3), encode([long] * 2)
    forward.model.eval()
    with unmoved_random_state():
        forward.logits(pair, may_draw=True)  # BigBird replaces some of its own modules at its first short text
        names = {module: name for name, module in forward.model.named_modules()}
        active, beyond, expected = _full_train_calls(forward, pair, names, rates)
        calls, active = _turn_on(forward, pair, names, active, expected, rates)
        # A different number of texts reveals the batch dimension; a different length reveals the position dimensions.
        more_texts, long_texts = (_calls(forward, inputs, len(calls), rates) for inputs in (triple, longer))
        compared = list(zip(_ordinals(calls), calls, more_texts, long_texts, strict=True))
        layouts = tuple(
            layout_of(call.shape, more.shape, long_call.shape) if key in active else None
            for key, call, more, long_call in compared
        )
        folds = tuple(
            fold_of(layout, call.shape, long_call.shape)
            for layout, (_key, call, _more, long_call) in zip(layouts, compared, strict=True)
        )
        common = [layout for layout in layouts if layout is not None and layout.batch_dim is None]
        needs_equal_lengths = any(layout.length_dims for layout in common)
        of_model = [layout for layout, call in zip(layouts, calls, strict=True) if "lora_" not in call.module]
        kinds = {len(layout.length_dims) > 1 for layout in of_model if layout is not None}  # weights: queries x keys
        alone = not _rows_are_apart(forward, layouts, triple, more_texts, encode, rates)
        if alone:
            # For a row that runs by itself, any layout that numbers its units will do.
            layouts = tuple(layout and (ALONE if layout.batch_dim is not None else layout) for layout in layouts)
        plan = Plan(layouts, numbers_of(calls), folds, loops_over_samples=bool(common), loops_over_texts=alone)
        # If the long text is cut to the length of the short one (a limit of a few tokens), the effect of the length is
        # unknown.
        needs_equal_lengths |= alone or longer["input_ids"].shape[1] <= pair["input_ids"].shape[1]
        needs_equal_lengths |= can_pad and _padding_matters(forward, plan, encode, short, long, rates)
    return Found(plan, _sites(calls, plan), beyond, needs_equal_lengths, kinds == {True})


def _full_train_calls(
    forward: Forward, inputs: Inputs, names: Mapping[nn.Module, str], rates: Rates
) -> tuple[set[_Key], str | None, Tensor]:
    """The active dropout calls of full `train()` mode, as in `_ordinals`, what else the mode does, and the logits.

    With each of those calls made the identity, the pass must equal `eval()` and draw no random numbers. If it does, the
    second value is None; otherwise it is the path of a module where this fails, or the name of the model if it takes
    several. The logits are those of `eval()`.
    """
    name = type(forward.model).__name__
    expected, draws = first_to_draw(lambda: forward.logits(inputs, may_draw=True), names)
    if draws is not None:
        forward.refuse_draw(draws or "its forward")
    with train_mode(forward.model):
        try:
            (actual, calls), draws = first_to_draw(lambda: _record(forward, inputs, names, rates), names)
        except ValueError as error:
            reason = in_one_line(error)
            raise ValueError(f"{name} cannot run in train() mode on a short text: {reason}") from error
        beyond = draws
        if draws is None and _distance(actual, expected) > _rounding(expected):  # the same kernels on the same shapes
            modules = {path: module for module, path in names.items()}
            changing = (
                path for path in _training(modules) if _changes_logits(forward, inputs, modules, path, expected)
            )
            beyond = next(changing, "")
    active = {key for key, call in zip(_ordinals(calls), calls, strict=True) if call.on}
    return active, name if beyond == "" else beyond, expected


def _turn_on(
    forward: Forward,
    inputs: Inputs,
    names: Mapping[nn.Module, str],
    active: set[_Key],
    expected: Tensor,
    rates: Rates,
) -> tuple[list[Call], set[_Key]]:
    """Set the flags that make the model reach every active call. Returns all calls, in order, and the active ones.

    Most code also calls dropout in `eval()` mode, with p and `training=False`. Those calls need no flag, and the flags
    of their owners stay off (LayerDrop lives in such owners). Attention passes p = 0 unless its own flag is set. If the
    flag of an owner would also turn on randomness that no mask can key, or change the logits in another way, the whole
    owner stays off. If it takes several flags to change them, all owners that need one do. `expected` holds the logits
    of `eval()` mode.
    """
    modules = {name: module for module, name in names.items()}
    missing: set[_Key] = set()
    for _attempt in range(2 + len(modules)):
        (logits, calls), draws = first_to_draw(lambda: _record(forward, inputs, names, rates), names)
        more = {draws} if draws is not None and modules[draws].training else set()
        missing = active - set(_ordinals(calls))
        if not more and not missing and _distance(logits, expected) > _rounding(expected):
            on = _training(modules)
            more = {name for name in on if _changes_logits(forward, inputs, modules, name, expected)} or set(on)
        if more:
            for owner in more:
                modules[owner].training = False
            active = {call for call in active if call[0] not in more}
            continue
        if not missing:
            return calls, active
        for owner, _inserted, _ordinal in missing:
            modules[owner].training = True
    owners = ", ".join(sorted({owner for owner, _inserted, _ordinal in missing}))
    raise RuntimeError(f"{type(forward.model).__name__}: dropout cannot be turned on in {owners}")


def _training(modules: Mapping[str, nn.Module]) -> list[str]:
    return [name for name, module in modules.items() if module.training]


def _changes_logits(
    forward: Forward, inputs: Inputs, modules: Mapping[str, nn.Module], name: str, expected: Tensor
) -> bool:
    """Whether the logits differ from `expected` without dropout if only the flag of this module is set."""
    flags = {one: modules[one].training for one in _training(modules)}
    for one in flags:
        modules[one].training = one == name
    try:
        return _distance(forward.logits(inputs, may_draw=True), expected) > _rounding(expected)
    finally:
        for one, flag in flags.items():
            modules[one].training = flag


def _record(
    forward: Forward, inputs: Inputs, names: Mapping[nn.Module, str], rates: Rates
) -> tuple[Tensor, list[Call]]:
    """The logits of a pass in which every dropout call is the identity, and those calls with their modules."""
    with running_modules(names) as running:
        recorder = Recorder(running)
        logits = forward.logits(inputs, recorder, may_draw=True, rates=rates)
    return logits, recorder.calls


def _calls(forward: Forward, inputs: Inputs, expected: int, rates: Rates) -> list[Call]:
    """The dropout calls of a pass. Raises PathError unless there are `expected` of them."""
    recorder = Recorder()
    forward.logits(inputs, recorder, rates=rates)
    if len(recorder.calls) != expected:
        raise PathError(len(recorder.calls), expected)
    return recorder.calls


def _ordinals(calls: Sequence[Call]) -> list[_Key]:
    """Each call as its module, whether it is inserted, and its ordinal among such calls of the module.

    The attention of some models has a rate of its own in `train()` mode, and passes 0 in `eval()` mode.
    """
    used: Counter[tuple[str, bool]] = Counter()
    keys = []
    for call in calls:
        keys.append((call.module, call.inserted, used[call.module, call.inserted]))
        used[call.module, call.inserted] += 1
    return keys


def _rows_are_apart(
    forward: Forward,
    layouts: Sequence[Layout | None],
    three: Inputs,
    before: Sequence[Call],
    encode: Encode,
    rates: Rates,
) -> bool:
    """Whether each call's input holds the rows where its layout says, tested by changing the middle one of three rows.

    `three` is the same text three times; `before` holds the calls for it.
    """
    if any(layout is ALONE for layout in layouts):
        return False
    same = three["input_ids"][0]
    different = [encode([text])["input_ids"][0] for text in ("d e f", "x y z")]
    for other in (same.flip(0), *(other for other in different if other.shape == same.shape)):
        ids = three["input_ids"].clone()
        ids[1] = other
        after = _calls(forward, {**three, "input_ids": ids}, len(layouts), rates)
        for layout, a, b in zip(layouts, before, after, strict=True):
            dim = None if layout is None else layout.batch_dim
            if dim is not None and not only_the_middle_changes(dim, a.input, b.input):
                return False
    return True


def padding_changes_logits(forward: Forward, encode: Encode, *, can_pad: bool) -> bool:
    """Whether texts of unequal length cannot share a batch of ordinary passes, which run in `eval()` mode.

    Raises:
        ValueError: The model draws random numbers in `eval()` mode.
    """
    short, long = _short_and_long(encode)
    with unmoved_random_state():
        forward.logits(encode([short]), may_draw=True)  # BigBird replaces some of its own modules at its first text
        if encode([long])["input_ids"].shape[1] <= encode([short])["input_ids"].shape[1]:
            return True  # the long text is cut, so the effect of the length is unknown
        return can_pad and _logits_depend_on_padding(forward, encode, short, long)


def _short_and_long(encode: Encode) -> tuple[str, str]:
    """Two texts of different length in tokens, if the tokenizer allows it."""
    short, *longs = "a b c", "a b c d e f g", "a, b; c. d! e? f - g: 1 2 3"
    # A tokenizer may map all letters to one unknown token, so the second candidate has other characters.
    least = encode([short])["input_ids"].shape[1]
    return short, max(longs, key=lambda text: encode([text])["input_ids"].shape[1] > least)


def _logits_depend_on_padding(forward: Forward, encode: Encode, short: str, long: str) -> bool:
    """Whether a longer text in the batch changes the logits of a text without dropout."""
    alone, twice, padded = encode([short]), encode([short] * 2), encode([long, short])
    exact, several = forward.logits(alone)[0], forward.logits(twice)[0]
    # Other shapes use other kernels. The same text twice, without padding, shows how much that changes by itself.
    floor = 10 * _distance(exact, several) + _rounding(exact)
    return _distance(exact, forward.logits(padded)[1]) > floor


def _padding_matters(forward: Forward, plan: Plan, encode: Encode, short: str, long: str, rates: Rates) -> bool:
    """Whether a longer text in the batch changes the logits of a text, without dropout or with it."""
    if _logits_depend_on_padding(forward, encode, short, long):
        return True
    alone, twice, padded = encode([short]), encode([short] * 2), encode([long, short])
    try:
        drawn, beside, among = (
            forward.sample_logits(inputs, range(1), plan, seed=0, balanced=True, rates=rates)[row]
            for inputs, row in ((alone, 0), (twice, 1), (padded, 1))
        )
    except PaddingError:
        return True  # a mask does not fit: the site's size is not a multiple of the rows once some are padded
    return _distance(drawn, among) > 10 * _distance(drawn, beside) + _rounding(drawn)


def _sites(calls: Sequence[Call], plan: Plan) -> tuple[DropoutSite, ...]:
    """The active calls, grouped by module, kind, rate and batch dimension."""
    counts: Counter[tuple[str, str, float, int | None, bool]] = Counter()
    for call, layout in zip(calls, plan.layouts, strict=True):
        if layout is not None:
            own, dim = 0.0 if call.inserted else call.p, None if plan.loops_over_texts else layout.batch_dim
            counts[call.module, call.kind, own, dim, call.inserted] += 1
    return tuple(DropoutSite(*key[:3], count, *key[3:]) for key, count in counts.items())


def layout_of(shape: Sequence[int], more_texts: Sequence[int], longer: Sequence[int]) -> Layout:
    """The meaning of each dimension, from the shapes of one call for 2 texts, 3 texts and 2 longer texts."""
    if not len(shape) == len(more_texts) == len(longer):
        return ALONE
    batch = [d for d, (two, three) in enumerate(zip(shape, more_texts, strict=True)) if two != three]
    if not batch:
        return Layout(None, tuple(d for d, (a, b) in enumerate(zip(shape, longer, strict=True)) if a != b))
    if len(batch) > 1 or shape[batch[0]] * 3 != more_texts[batch[0]] * 2:
        return ALONE
    dim = batch[0]
    folded = shape[dim] // 2 > 1
    # Without the batch dimension, but with what is folded into it: which dimensions grow with the length?
    rest = [*shape[:dim], *([shape[dim] // 2] if folded else []), *shape[dim + 1 :]]
    rest_longer = [*longer[:dim], *([longer[dim] // 2] if folded else []), *longer[dim + 1 :]]
    return Layout(dim, tuple(d for d, (a, b) in enumerate(zip(rest, rest_longer, strict=True)) if a != b))


def fold_of(layout: Layout | None, shape: Sequence[int], longer: Sequence[int]) -> int | None:
    """Number of parts per text that the batch dimension holds; None if longer texts have a different number.

    None also if the call has no batch dimension. `shape` and `longer` are the shapes of one call for 2 texts and for 2
    longer texts.
    """
    if layout is None or layout.batch_dim is None or shape[layout.batch_dim] != longer[layout.batch_dim]:
        return None
    return shape[layout.batch_dim] // 2


def only_the_middle_changes(dim: int, before: Tensor, after: Tensor) -> bool:
    """Whether two inputs differ only in the middle third of dimension `dim`.

    Inputs that do not depend on the text (positions) do not differ at all. Then the dimension must hold the rows and
    nothing else.
    """
    if before.shape != after.shape or before.size(dim) % 3:
        return False
    x, y = before.float(), after.float()
    differs = ~torch.isclose(x, y, rtol=4 * torch.finfo(before.dtype).eps, atol=1e-6, equal_nan=True)
    rows = differs.movedim(dim, 0).flatten(1).any(1).view(3, -1).any(1).tolist()
    return rows == [False, True, False] or (not any(rows) and before.size(dim) == 3)


def _distance(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference between two sets of logits; NaN differences count as 0."""
    return float((a.float() - b.float()).abs().nan_to_num(0.0).max())


def _rounding(logits: Tensor) -> float:
    """How much the order of arithmetic by itself may change `logits`."""
    return 16 * torch.finfo(logits.dtype).eps * max(1.0, float(logits.float().abs().nan_to_num(0.0).max()))
