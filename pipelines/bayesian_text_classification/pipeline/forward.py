"""The forward passes of a classifier: without dropout, with its dropout calls recorded, or with keyed masks.

The classifier stays in the mode it is in. In every kind of pass, this module answers every dropout call.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .dropout import Answer, Call, DropoutCalls
from .errors import BayesianTextClassificationError
from .masks import ALONE, KeyedMasks, Layout, Mask, text_keys
from .rates import OWN, Rates

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Plan:
    """How to answer each dropout call of a pass, by its ordinal, and what may be rows of one batch.

    Attributes:
        layouts: What the dimensions of each call's input mean; None for a call that stays off.
        numbers: Number of each call in the keys of its masks. Inserted calls come after all others.
        folds: Number of parts per text that each call's batch dimension holds; None if the number is not fixed.
        loops_over_samples: Whether samples cannot be rows of one batch.
        loops_over_texts: Whether texts cannot be rows of one batch either.
    """

    layouts: tuple[Layout | None, ...]
    numbers: tuple[int, ...]
    folds: tuple[int | None, ...]
    loops_over_samples: bool
    loops_over_texts: bool


def numbers_of(calls: Sequence[Call]) -> tuple[int, ...]:
    """Numbers of calls: first those with a rate of their own, then the inserted ones. They keep their order."""
    order = sorted(range(len(calls)), key=lambda i: calls[i].inserted)  # stable
    return tuple(sorted(range(len(calls)), key=order.__getitem__))


def ignore(call: object) -> None:
    """Make a dropout call the identity; as the handler of other random draws, allow them."""


class Forward:
    """Runs forward passes of `model`, which maps the encoded texts to logits of shape (texts, classes)."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        takes_use_cache = "use_cache" in inspect.signature(model.forward).parameters
        self.options = {"use_cache": False} if takes_use_cache else {}

    @torch.no_grad()
    def logits(self, inputs: Inputs, answer: Answer = ignore, may_draw: bool = False, rates: Rates = OWN) -> Tensor:
        """Logits of one pass. *Shape:* (texts, classes).

        `answer` answers each dropout call at these rates; without it, the logits are deterministic. Raises ValueError
        if the model draws other random numbers, unless `may_draw`.
        """
        with DropoutCalls(answer, ignore if may_draw else self.refuse_draw, rates):
            outputs = self.model(**inputs, **self.options)
        logits = outputs["logits"] if isinstance(outputs, Mapping) else outputs[0]
        return logits if isinstance(logits, Tensor) else torch.as_tensor(logits)

    @torch.no_grad()
    def sample_logits(
        self, inputs: Inputs, samples: range, plan: Plan, *, seed: int, balanced: bool, rates: Rates = OWN
    ) -> Tensor:
        """Logits of the passes `samples` for each text. *Shape:* (texts, len(samples), classes).

        The samples of a text are rows of one batch, which then holds texts x samples rows. If a pass makes other calls
        than the plan lists and nothing is padded, each text runs by itself, with masks keyed by its own calls.
        """
        texts = len(inputs["input_ids"])
        how: dict[str, Any] = {"seed": seed, "balanced": balanced, "rates": rates}
        if plan.loops_over_texts and texts > 1:
            alone = [{name: value[i : i + 1] for name, value in inputs.items()} for i in range(texts)]
            return torch.cat([self.sample_logits(row, samples, plan, **how) for row in alone])
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        keys = text_keys(inputs["input_ids"], mask)
        starts = (mask != 0).long().argmax(1)
        shifted = starts if bool(starts.any()) else None
        folds = None if bool(mask.all()) else plan.folds

        def run(part: range) -> Tensor:
            masks = KeyedMasks(keys, shifted, part, len(plan.layouts), seed=seed, balanced=balanced)
            rows = {name: value.repeat_interleave(len(part), 0) for name, value in inputs.items()}
            sampler = _Sampler(plan, masks, folds, texts * len(part))
            logits = self.logits(rows, sampler, rates=rates)
            sampler.check_complete()
            return logits.view(texts, len(part), -1)

        try:
            if plan.loops_over_samples or plan.loops_over_texts:
                return torch.cat([run(range(t, t + 1)) for t in samples], 1)
            return run(samples)
        except PathError as error:
            if folds is not None:
                raise PaddingError(f"{error}. This batch is padded; pass padding=False.") from error
            own = replace(plan, loops_over_texts=True)
            if texts == 1:
                recorder = Recorder()
                self.logits(inputs, recorder, rates=rates)
                count, numbers = len(recorder.calls), numbers_of(recorder.calls)
                own = Plan((ALONE,) * count, numbers, (None,) * count, loops_over_samples=True, loops_over_texts=True)
            if None in plan.layouts or own == plan:
                raise  # a call on the new path may be one that must stay off; or the path depends on the masks
        return self.sample_logits(inputs, samples, own, **how)

    def refuse_draw(self, where: str) -> None:
        """Raise the error for a random draw in `where`, the name of a function or a module."""
        raise ValueError(
            f"{type(self.model).__name__} also draws random numbers in eval() mode, in {where!r}: its answer to a text "
            "is not deterministic, with or without dropout. Use another model."
        )


class Recorder:
    """Records each dropout call with the innermost of the `running` modules; the answer is the identity."""

    def __init__(self, running: Sequence[str] = ()) -> None:
        self.calls: list[Call] = []
        self._running = running

    def __call__(self, call: Call) -> None:
        """Record `call`."""
        module = self._running[-1] if self._running else ""
        self.calls.append(replace(call, input=call.input.clone(), module=module))  # the model may change it in place


class _Sampler:
    """Answers the i-th call of a pass with the mask for the i-th layout of a plan.

    If texts are padded, `folds` holds the number of parts per text that the probe saw in each call's batch dimension.
    """

    def __init__(self, plan: Plan, masks: KeyedMasks, folds: Sequence[int | None] | None, rows: int) -> None:
        self._plan, self._masks, self._folds, self._rows, self._next = plan, masks, folds, rows, 0

    def __call__(self, call: Call) -> Mask | None:
        index = self._next
        self._next += 1
        if index >= len(self._plan.layouts):
            self.check_complete()
        layout = self._plan.layouts[index]
        if layout is None:
            return None
        if layout.batch_dim is not None:
            self._check_fold(call.shape, layout.batch_dim, self._folds[index] if self._folds is not None else None)
        # On the input's device, because the model may be spread over several.
        where = call.input.dtype, call.input.device
        return self._masks.mask(self._plan.numbers[index], call.shape, call.p, layout, *where)

    def _check_fold(self, shape: tuple[int, ...], dim: int, expected: int | None) -> None:
        fold, rest = divmod(shape[dim], self._rows)
        if rest or (expected is not None and fold != expected):
            raise PaddingError(
                f"a dropout input of shape {shape} has {shape[dim]} parts for {self._rows} rows; the probe saw "
                f"{expected or 'equally many'} in each row. The masks of a padded batch cannot be keyed here; pass "
                "padding=False."
            )

    def check_complete(self) -> None:
        """Raise PathError unless the pass made as many calls as the probe saw."""
        if self._next != len(self._plan.layouts):
            raise PathError(self._next, len(self._plan.layouts))


class PaddingError(BayesianTextClassificationError, RuntimeError):
    """A padded batch whose masks cannot be keyed."""


class PathError(BayesianTextClassificationError, RuntimeError):
    """A pass made more or fewer dropout calls than expected."""

    def __init__(self, calls: int, expected: int) -> None:
        super().__init__(
            f"this forward pass called dropout {calls} times or more; {expected} calls were expected. "
            "The model's path depends on its input, so its masks cannot be keyed by call"
        )
