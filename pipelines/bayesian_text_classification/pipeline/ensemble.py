"""Several models as one: the answers of the members are the samples of an ensemble.

Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty estimation using deep ensembles",
arXiv:1612.01474. Each member runs in a `TextSampler` of its own, so members may differ in architecture and tokenizer.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .batching import windows
from .encoding import Encoded
from .inputs import items_of
from .options import Activation, Options
from .sampling import Draws
from .scope import Scope
from .text_sampler import WINDOW, TextSampler


@dataclass(frozen=True)
class Member:
    """Another model of an ensemble than the first.

    Attributes:
        sampler: Draws its samples.
        order: Its class ids in the order of the first model's classes.
    """

    sampler: TextSampler
    order: list[int]


class EnsembleSampler(TextSampler):
    """A `TextSampler` of the first model that also draws from the others, where the options ask for it.

    Args:
        models: The members, at least two, with the same labels.
        tokenizers: Their tokenizers, one for each model.
        device: The device of all models.
        dtype: The dtype of the passes.

    Raises:
        ValueError: Two members have different labels.
    """

    def __init__(
        self, models: Sequence[Any], tokenizers: Sequence[Any], device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(models[0], tokenizers[0], device, dtype)
        self.others = []
        for number, (model, tokenizer) in enumerate(zip(models[1:], tokenizers[1:], strict=True), start=2):
            sampler = TextSampler(model, tokenizer, device, dtype)
            sampler._lock, sampler._budgets = self._lock, self._budgets  # members may share a tokenizer
            self.others.append(Member(sampler, order_of_labels(models[0].config, model.config, number)))

    def samples(
        self,
        texts: Iterable[Any],
        options: Options,
        activation: Activation,
        *,
        first: int = 0,
        first_sample: int = 0,
        scope: Scope | None = None,
        **how: Any,
    ) -> Iterator[tuple[Encoded, Draws]]:
        """Yield the samples of each text, one window of texts at a time.

        For "ensemble", sample t is the ordinary pass of member t. For "ensemble+dropout", each member draws an equal
        share of the samples, and those of a member are next to each other. Novelty is that of the first model.
        """
        if options.num_samples == 0 or options.posterior == "dropout":
            given: dict[str, Any] = {"first": first, "first_sample": first_sample, "scope": scope}
            yield from super().samples(texts, options, activation, **given, **how)
            return
        chosen = [Member(self, list(range(self.model.config.num_labels))), *self.others]
        own, start = replace(options, num_samples=0, posterior="dropout"), 0
        if options.posterior == "ensemble":
            chosen = chosen[first_sample : first_sample + options.num_samples]
        else:
            own, start = replace(own, num_samples=options.num_samples // len(chosen)), first_sample // len(chosen)
        for member in self.others:
            member.sampler.device, member.sampler.dtype = self.device, self.dtype
        each = [replace(own, seed=options.seed + number) for number in range(len(chosen))]  # masks of their own
        if own.num_samples:
            each = [
                self._with_dropout(one, member, i) for i, (one, member) in enumerate(zip(each, chosen, strict=True))
            ]
        for window in windows(items_of(texts), WINDOW):
            drawn = [
                next(
                    member.sampler.samples(
                        window,
                        own,
                        activation,
                        first=first,
                        first_sample=start,
                        scope=scope if member.sampler is self else None,
                        **how,
                    )
                )
                for member, own in zip(chosen, each, strict=True)
            ]
            values = [draws.values[:, member.order] for member, (_, draws) in zip(chosen, drawn, strict=True)]
            cut = [any(flags) for flags in zip(*(encoded.truncated for encoded, _ in drawn), strict=True)]
            joined = np.concatenate(values, axis=2)
            counts = np.full(len(joined), joined.shape[2])
            yield replace(drawn[0][0], truncated=cut), Draws(joined, counts, drawn[0][1].novelty)
            first += len(window)

    def dropout_rate(self, options: Options) -> float:
        """As in `TextSampler`; with dropout in each model, the mean over the models."""
        if options.posterior == "dropout":
            return super().dropout_rate(options)
        own, models = replace(options, posterior="dropout"), [Member(self, []), *self.others]
        each = [(member.sampler, self._with_dropout(own, member, i)) for i, member in enumerate(models)]
        return sum(TextSampler.dropout_rate(sampler, one) for sampler, one in each) / len(each)

    def _with_dropout(self, options: Options, member: Member, number: int) -> Options:
        """The options of a member's samples. A member with rates of its own keeps them where dropout is inserted.

        Raises ValueError if the member has no dropout at these rates.
        """
        sites = member.sampler.sites(options.rates)
        if options.rates.inserted and sites and not any(site.inserted for site in sites):
            options = replace(options, dropout=None)
        if reason := member.sampler.why_not(options.rates):
            raise ValueError(f'model {number + 1} of the ensemble: {reason}; posterior="ensemble" needs no dropout')
        return options

    def __copy__(self) -> "EnsembleSampler":
        """An ensemble of the same models; see `TextSampler`."""
        other = super().__copy__()
        assert isinstance(other, EnsembleSampler)
        other.others = [replace(member, sampler=copy.copy(member.sampler)) for member in self.others]
        for member in other.others:
            member.sampler._budgets = other._budgets
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for member in self.others:
            member.sampler._lock, member.sampler._budgets = self._lock, self._budgets


def order_of_labels(first: Any, other: Any, number: int) -> list[int]:
    """The class ids of a member's labels, in the order of the first model's.

    Args:
        first: Config of the first model.
        other: Config of the member.
        number: The member's number, from 1, for the error.

    Raises:
        ValueError: The two do not have the same labels.
    """
    order = matched_labels(first, other)
    if order is None:
        raise ValueError(
            f"model {number} of the ensemble has the labels {list(other.id2label.values())}, and model 1 has "
            f"{list(first.id2label.values())}; the members need the same labels, each with a name of its own: set "
            "config.id2label and config.label2id"
        )
    return order


def matched_labels(first: Any, other: Any) -> list[int] | None:
    """The class ids of a model's labels, in the order of the first model's; None if the names are not the same."""
    names = [first.id2label[i] for i in range(first.num_labels)]
    own = {other.id2label[i]: i for i in range(other.num_labels)}
    if len(set(names)) < len(names) or set(names) != set(own) or len(own) < other.num_labels:
        return None
    return [own[name] for name in names]
