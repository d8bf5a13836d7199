"""The base class for what a pipeline takes from its sampler: dropout sites, spread, token budget and dtype."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .calibrated import KINDS, CalibratedPipeline
from .dropout_choice import INSERTED, candidates
from .encoding import Encoded, Encoder
from .ensemble import EnsembleSampler
from .inputs import form_of
from .members import Members, are_adapters_of_one_base, check_code
from .options import MEMBERS, NAMES, POSTERIORS, Options, check_batch_size, default_count
from .probe import DropoutSite
from .progress import Progress, progress_bar
from .rates import OWN, Dropout, Rates
from .sampling import Draws, joined
from .scaling import Scaling
from .spread import UNKNOWN, Spread
from .text_sampler import TextSampler

Call = dict[str, Any]  # arguments of `TextSampler.samples`


class SampledPipeline(CalibratedPipeline):
    """A pipeline with a `TextSampler` of its model."""

    _text_sampler: TextSampler
    _members: Members
    _requested_dtype: torch.dtype | None

    @property
    def dropout_sites(self) -> list[DropoutSite]:
        """Every module that applies dropout with p > 0 in a sampled pass with the default options."""
        return self.sites_for({})

    def sites_for(self, options: Mapping[str, Any]) -> list[DropoutSite]:
        """Every module that applies dropout with p > 0 in a sampled pass with these options of a call."""
        return list(self._sampler.sites(self._draws_for(options).rates))

    @property
    def batch_tokens(self) -> int:
        """The most tokens (rows x length, with padding) in a batch; halved when memory runs out.

        Until then, and until it is set, passes of one long text may take two thirds more, or up to 3.3 times as many if
        the model is narrow.
        """
        return self._sampler.batch_tokens

    @batch_tokens.setter
    def batch_tokens(self, value: int) -> None:
        self._sampler.batch_tokens = value

    @property
    def truncation(self) -> dict[str, Any]:
        """Tokenizer options that truncate to the model's limit. Pass them to calls with `num_samples=0`."""
        return self._sampler.encoder.truncation

    @property
    def encoder(self) -> Encoder:
        """The tokenizer, with the model's limits."""
        return self._sampler.encoder

    @property
    def run_dtype(self) -> torch.dtype:
        """The dtype of the twin's passes: `dtype` if given, else the model's (float32 if that is float16 on a CPU)."""
        if self._requested_dtype is not None:
            return self._requested_dtype
        # Half-precision checkpoints save space, but float16 arithmetic is slow and imprecise on a CPU.
        own: torch.dtype = self.model.dtype
        return torch.float32 if own == torch.float16 and self.device.type == "cpu" else own

    @property
    def _sampler(self) -> TextSampler:
        """The sampler with the current model, tokenizer, device and dtype: callers may replace them."""
        sampler = self._text_sampler
        sampler.model, sampler.tokenizer = self.model, self.tokenizer
        sampler.device, sampler.dtype = self.device, self.run_dtype
        return sampler

    @property
    def spread(self) -> Spread:
        """How much samples with the default options vary, for their standard errors. A pilot measures it at first use.

        Set it to use another value, or to None for a new pilot. It is dropped if the weights change. Raises ValueError
        if the model has no active dropout.
        """
        return self.spread_for({})

    @spread.setter
    def spread(self, value: Spread | None) -> None:
        self._sampler.know(value)

    def spread_for(self, options: Mapping[str, Any]) -> Spread:
        """The spread of samples of a call with these options; see `spread`."""
        return self._sampler.spread(self.activation_for(options), self._draws_for(options).rates)

    def _samples(
        self, texts: Iterable[Any], options: Options, *, progress: Progress | None, **how: Any
    ) -> Iterator[tuple[Encoded, Draws]]:
        """The samples of `TextSampler.samples`, with a progress bar if `progress` is None."""
        passes = passes_of(options, scoped=how.get("scope") is not None)
        total = passes * len(texts) if isinstance(texts, Sized) and form_of(texts) != "one" else None
        with progress_bar(progress, total) as advance:
            yield from self._sampler.samples(texts, options, progress=advance, **how)

    def dropout_candidates(self) -> tuple[Dropout, ...]:
        """What `calibrate(..., dropout="auto")` chooses from, besides one ordinary pass."""
        sampler = self._sampler
        return candidates(sampler.sites(OWN), sampler.sites(Rates(inserted=INSERTED[0])))

    def _candidates(self, options: Options) -> list[Options]:
        """The options that `calibrate(..., dropout="auto")` chooses from, the cheapest first."""
        if options.num_samples == 0:
            raise ValueError('dropout="auto" needs samples, and num_samples is 0; pass num_samples=20')
        if options.posterior != "dropout":
            raise ValueError(
                'dropout="auto" is for one model; an ensemble takes dropout as it is given, such as dropout=0.1 with '
                'posterior="ensemble+dropout"'
            )
        sampled = [replace(options, dropout=dropout) for dropout in self.dropout_candidates()]
        return [replace(options, num_samples=0), *sampled]

    def saved_options(self) -> dict[str, Any]:
        """The options that are saved with the model, as JSON values. A classifier that samples is measured first."""
        spread, count = self._sampler.known_spread(), len(self._members.models)
        if spread is None and self.sampling.num_samples > 1 and self.sampling.posterior == "dropout":
            with contextlib.suppress(ValueError, RuntimeError):  # without dropout, or a model that cannot be probed
                spread = self.spread
        found = super().saved_options() | ({} if spread in (None, UNKNOWN) else {"spread": spread.saved()})
        return found | ({MEMBERS: count} if count > 1 else {})

    def _all_members(self, members: Members) -> Members:
        """The members on the pipeline's device, with those that were saved next to an only model."""
        models, tokenizers = (self.model, *members.models[1:]), (self.tokenizer, *members.tokenizers[1:])
        found = Members(models, tokenizers).with_saved()
        for number, model in enumerate(found.models[1:], start=2):
            own, first = (self._activation_of(one.config) for one in (model, self.model))
            if own != first:
                raise ValueError(
                    f"model {number} of the ensemble is {KINDS[own]}, and model 1 is {KINDS[first]}; the members must "
                    "be of one kind (config.problem_type and the number of labels)"
                )
            if getattr(model, "hf_device_map", None) is None and not getattr(model, "is_quantized", False):
                model.to(self.device)
            model.eval()
        return found

    @property
    def members(self) -> tuple[Any, ...]:
        """The models of the ensemble, the pipeline's own `model` first; that one alone if there is no other."""
        return (self.model, *self._members.models[1:])

    @property
    def tokenizers(self) -> tuple[Any, ...]:
        """The tokenizers of `members`."""
        return (self.tokenizer, *self._members.tokenizers[1:])

    def _count_for(self, given: Mapping[str, Any]) -> dict[str, Any]:
        posterior, count = given.get("posterior", self.sampling.posterior), len(self._members.models)
        if given.get("posterior") == "ensemble":  # whose samples have no dropout, whatever the default is
            given = {"dropout": None, **given}
        if posterior == self.sampling.posterior or "num_samples" in given or posterior not in POSTERIORS:
            return dict(given)
        return {**given, "num_samples": default_count(posterior, count)}

    def _check_members(self, options: Options, first_sample: int = 0) -> None:
        count, asked, posterior = len(self._members.models), options.num_samples, options.posterior
        if posterior == "dropout" or not asked:
            return
        if count == 1:
            raise ValueError(
                f"posterior={posterior!r} needs several models; load them with bayesian_text_classification.load([...])"
            )
        if posterior == "ensemble" and asked + first_sample > count:
            first = f" from first_sample={first_sample}" * (first_sample > 0)
            raise ValueError(
                f"num_samples={asked}{first}; an ensemble of {count} models has {count} samples: pass "
                f'num_samples={count}, or posterior="ensemble+dropout" and a multiple of {count}'
            )
        if posterior == "ensemble" and options.dropout is not None:
            raise ValueError(
                f"dropout={options.dropout!r} is for samples with dropout; pass "
                f'posterior="ensemble+dropout", or dropout=None'
            )
        if posterior == "ensemble+dropout" and (asked % count or first_sample % count):
            raise ValueError(
                f"num_samples={asked}; each of {count} models takes equally many samples with dropout: pass a multiple "
                f"of {count}" + f", and as first_sample too (now {first_sample})" * (first_sample % count > 0)
            )

    def _check_whole(self, options: Options) -> None:
        """Raise ValueError if these are scores of a part of the ensemble, whose calibration is that of all models."""
        count = len(self._members.models)
        if options.posterior == "ensemble" and 0 < options.num_samples < count:
            raise ValueError(
                f"num_samples={options.num_samples}; an ensemble of {count} models takes one pass of each: pass "
                f"num_samples={count}, or load fewer models"
            )

    def _orders(self) -> list[list[int]]:
        sampler = self._sampler
        return [member.order for member in sampler.others] if isinstance(sampler, EnsembleSampler) else []

    def _members_to_save(self) -> Members:
        members = replace(self._members, models=self.members)
        are_adapters_of_one_base(members)
        check_code(members)
        options = self.sampling
        if options.num_samples > 0 and options.posterior != "ensemble":
            try:
                self._dropout_rate(options)
            except ValueError as error:
                raise ValueError(f"the classifier would fail at every call: {error}") from error
            except RuntimeError:  # a model that cannot be probed
                pass
        return members

    def _can_sample(self) -> bool:
        try:
            return len(self._members.models) > 1 or not self._sampler.why_not(self.sampling.rates)
        except (ValueError, RuntimeError):  # a model that cannot be probed
            return False

    def _groups(self, options: Options) -> tuple[int, bool]:
        """How many samples belong together, and whether they are those of a member."""
        if options.posterior == "dropout":
            return options.group_size, False
        return (1 if options.posterior == "ensemble" else options.num_samples // len(self._members.models)), True

    def _dropout_rate(self, options: Options) -> float:
        return self._sampler.dropout_rate(options)

    def _for_call(self, kwargs: Mapping[str, Any]) -> tuple[Call, dict[str, Any]]:
        """The arguments of `TextSampler.samples` for a call, and its postprocessing options."""
        check_batch_size(kwargs.get("batch_size"))
        tokenizer_options, answers = self._merged(kwargs)
        activation = self._activation(answers.get("function_to_apply"))
        batch_size = kwargs.get("batch_size") or self._batch_size
        return {"activation": activation, "tokenizer_options": tokenizer_options, "batch_size": batch_size}, answers

    def _for_arrays(self, kwargs: dict[str, Any]) -> tuple[Options, Call]:
        """The options of a method that returns arrays, and its arguments of `TextSampler.samples`."""
        if "top_k" in kwargs:
            raise TypeError("'top_k' is not accepted here: the arrays hold every class")
        if kwargs.get("novelty_level") is not None:
            raise TypeError(
                "'novelty_level' is not accepted here: the arrays hold every text; classifier.novelty(texts) says how "
                "new each is"
            )
        if kwargs.get("coverage") is not None:
            raise TypeError(
                "'coverage' is not accepted here: the arrays hold every label; "
                f"classifier(texts, coverage={kwargs['coverage']!r}) gives the sets"
            )
        if "threshold" in kwargs:
            raise TypeError(
                "'threshold' is not accepted here: the arrays hold every text; "
                f"classifier(texts, threshold={kwargs['threshold']!r}) shows which texts are accepted"
            )
        options = self._draws_for(kwargs)
        remove_options(kwargs)
        return options, self._for_call(kwargs)[0]

    def _draws_for(self, given: Mapping[str, Any]) -> Options:
        """The options of a call without what is decided from its scores: threshold and coverage."""
        return self.with_options({**given, "threshold": None, "coverage": None})

    def _averages(
        self, texts: Iterable[Any], scaling: Scaling | None, progress: Progress | None, options: Options, call: Call
    ) -> NDArray[np.float32]:
        """`predict_proba` with an explicit scaling, which may differ from the pipeline's."""
        self._check_whole(options)
        samples = self._samples(texts, options, progress=progress, scaling=scaling, **call)
        means = (draws.means() if scaling is None else scaling.apply(draws.means()) for _, draws in samples)
        return joined(means, self.model.config.num_labels)


def passes_of(options: Options, *, scoped: bool) -> int:
    """Passes per text of a call. Novelty takes one more, unless an ordinary pass is among them."""
    return max(options.num_samples, 1) + (scoped and options.num_samples > 0 and options.posterior != "ensemble")


def remove_options(kwargs: dict[str, Any]) -> None:
    """Remove the options of a call from its arguments. The others are for the tokenizer and the results."""
    for name in NAMES:
        kwargs.pop(name, None)
