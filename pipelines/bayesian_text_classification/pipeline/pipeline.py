"""`pipeline("bayesian-text-classification")`: Hugging Face text classification with MC-Dropout."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .answers import ordinary_labels, ranked_labels, results_in_text_order, winning_labels, with_novelty
from .calibrated import CHANGES, check_threshold
from .calibration import has_masks, way_of
from .dropout_choice import best_options, groups_of
from .encoding import Encoded
from .ensemble import EnsembleSampler
from .fitting import Method, check_method, fitted
from .inputs import LazyResults, form_of, not_finite, text_hash, text_key
from .members import Members
from .one_pass import OnePassPipeline
from .options import Options, Posterior, as_dtype, check_batch_size, is_int
from .prediction_sets import PredictionSets
from .progress import Progress
from .rates import Dropout
from .sampled import Call, remove_options
from .sampling import Draws, joined
from .saving import Saved, resolved, saved_options, with_adapter
from .scaling import Scaling, TemperatureScaling
from .scope import Scope
from .scoped import saved_scope
from .spread import PILOT, PILOT_TEXTS, UNKNOWN, spread_of_saved
from .targets import labeled
from .text_sampler import TextSampler
from .uncertainty import summarized

TASK = "bayesian-text-classification"


class BayesianTextClassificationPipeline(OnePassPipeline):
    """Text classification whose score is the mean over `num_samples` dropout masks, with uncertainty estimates.

        score = mean_t softmax(f(x, mask_t))        (MC-Dropout, Gal & Ghahramani 2016, arXiv:1506.02142)

    Every dropout site of the model is stochastic, attention included. The model itself is never changed.

    Inputs are those of `text-classification`. A str, or a dict with "text" and "text_pair", is one text. A list, tuple
    or `datasets` column of them returns a list; a generator or a torch Dataset such as `KeyDataset` returns a lazy
    iterator. A lazy iterator reads 1,024 texts and sorts them by length before it yields the first result. Texts longer
    than the model's limit are truncated.

    Args:
        num_samples: Forward passes with dropout per text; with `tolerance`, the maximum. 0 runs one ordinary pass:
            that of the stock pipeline on the caller's own model, unless there is a calibration or a threshold for it,
            or a scope.
        tolerance: Stop sampling a text once the standard error of its score drops below this value (of every label's
            score, for a multi-label model). It is checked after 4 passes, against a quarter of this value, and then
            after every 10. None: every text gets all passes.
        seed: Any integer. The same text, seed and model give the same answer in any batch, order or process.
        masks: "balanced" (each unit is dropped in exactly its share of ten passes) or "bernoulli" (independent passes).
        dropout: Dropout rate of the sites whose own rate is 0, such as 0.1, for a model that was trained without: all
            calls of dropout, attention weights, and in most decoders the outputs of attention and MLP. Nobody trained
            for it: compare first (`evaluate`). Or a factor of the model's own rates, such as "2x". None: the model's
            own rates.
        threshold: A text with a score below this value gets no label (see `__call__`). None: every text gets one. For a
            model of independent labels, the lowest score of each accepted label, by its name; a label without one is
            never accepted. A threshold belongs to the way the scores are made (ordinary or sampled) and to their
            calibration: if either changes, it is dropped with a warning.
        posterior: What a sample is. "dropout": a pass with dropout. "ensemble": the ordinary pass of one of several
            models (their default, with as many samples as models). "ensemble+dropout": a pass of one of them with
            dropout, equally many of each, so `num_samples` is a multiple of their number. For the last two, there is no
            `tolerance`, and `standard_error` is s / sqrt(K) over the means of the K models.
        novelty_level: A text gets no label if its `novelty_p_value` is at most this: at most this share of the texts
            that the classifier was made for. It needs a scope; see `learn_scope`. None: every text gets a label.
        coverage: Probability that the prediction set of a text holds its true label. It needs prediction sets; see
            `conformalize`. None: results have no sets.
        **kwargs: Arguments of `text-classification`: `model` (one, or a list of models with the same labels),
            `tokenizer` (one, or one for each model), `device`, `dtype`, `top_k`, `function_to_apply`, `batch_size` (the
            most texts in a batch), and arguments of the tokenizer's call. Each call also accepts `num_samples`,
            `tolerance`, `seed`, `masks`, `dropout`, `threshold`, `posterior`, `novelty_level` and `coverage`.

    Attributes:
        calibration: What `calibrate` has fitted, for ordinary and for sampled scores; saved with the model.
        temperature: Temperature of the sampled scores; 1.0 if there is none.
        scope: What `learn_scope` has learned; None if nothing. It is saved with the model.
        prediction_sets: What `conformalize` has fitted; None if nothing. It is saved with the model.
        members: The models: one, or those of an ensemble.

    Raises:
        InputError: A text tokenizes to zero tokens, or the model's outputs for it are NaN or infinite and give no
            score. The error is a ValueError and holds the numbers of these inputs.
        ValueError: An option is out of range, or the threshold does not fit the model: one number for one label or one
            output, a dict for independent labels, and none for numbers. A call with samples raises it if the model has
            no active dropout and `dropout` inserts none.
        TypeError: An option is unknown.
    """

    def __init__(
        self,
        num_samples: int | Saved = Saved(Options.num_samples),
        tolerance: float | Saved | None = Saved(Options.tolerance),
        seed: int = 0,
        masks: str | Saved = Saved(Options.masks),
        dropout: Dropout | Saved = Saved(Options.dropout),
        threshold: float | Mapping[str, float] | Saved | None = Saved(Options.threshold),
        posterior: Posterior | Saved = Saved(Options.posterior),
        novelty_level: float | Saved | None = Saved(Options.novelty_level),
        coverage: float | Saved | None = Saved(Options.coverage),
        **kwargs: Any,
    ) -> None:
        given: dict[str, Any] = {"num_samples": num_samples, "tolerance": tolerance, "masks": masks}
        given |= {"dropout": dropout, "posterior": posterior, "threshold": threshold, "novelty_level": novelty_level}
        given["coverage"] = coverage
        members = Members.given(kwargs.get("model"), kwargs.get("tokenizer"))
        kwargs |= {"model": members.models[0], "tokenizer": members.tokenizers[0]}
        listed = len(members.models) > 1
        if listed:  # what was saved with one of them is not for all
            given = members.defaults(given)
        options = Options(seed=seed, **resolved(given, None if listed else members.models[0]))
        check_batch_size(kwargs.get("batch_size"))
        self._requested_dtype = as_dtype(kwargs.get("dtype") or kwargs.get("torch_dtype"))
        kwargs.pop("local_files_only", None)  # `pipeline()` passes it on after using it
        if listed:
            members = replace(members, models=tuple(map(with_adapter, members.models)))
            kwargs["model"] = members.models[0]
        elif kwargs["model"] is not None:
            kwargs["model"] = with_adapter(kwargs["model"])
        super().__init__(**kwargs)
        self._members = self._all_members(members)
        place = self.device, self.run_dtype
        if len(self.members) > 1:
            self._text_sampler = EnsembleSampler(self.members, self._members.tokenizers, *place)
        else:
            self._text_sampler = TextSampler(self.model, self.tokenizer, *place)
        saved = {} if listed else saved_options(self.model.config)
        self.spread = spread_of_saved(saved)
        self._check_members(options)
        self._check_whole(options)
        self._sampler.know_scope(saved_scope(self.model, saved))
        self._set_calibration(options, saved, isinstance(threshold, Saved))
        self._scope_for(options)  # a saved level without its scope would accept everything
        self._calibrated_on = {}
        self._load_sets(saved)
        self._load_distillation(saved)

    def __call__(self, inputs: Any, *, progress: Progress | None = None, **kwargs: Any) -> Any:
        """Classify the text(s).

        Args:
            inputs: The text or texts, as described for the class.
            progress: Called after each batch with the number of passes (rows) in it, or with the number of texts for
                `num_samples=0`. None: a bar appears after 5 seconds, in a terminal or a notebook.
            **kwargs: Options for this call only.

        Returns:
            The same shapes as `text-classification`: a list with one dict for a str, a dict for a pair, a list for a
            list, an iterator for a generator or dataset. With `top_k`, each dict becomes a list of dicts. Keys:

            - label, score: the winning label and its probability, averaged over the samples. The same samples pick the
              label, so the score is too high on average: by 0.008 with 4 samples and 0.001 with 10 (300 reviews, two
              classes; `benchmarks/pipeline/few_samples.py`).
            - score_std: standard deviation of that probability over the samples.
            - standard_error: standard error of the score as an estimate of the mean over infinitely many samples, at
              most the winner's `score_std`; None for one sample. It also rests on `spread`, which a pilot measures
              before the first result: 20 samples of each of 16 fixed texts.
            - predictive_entropy, expected_entropy, mutual_information: total, data and model uncertainty in nats; None
              for raw outputs.
            - num_samples, truncated.

            With `top_k`, each dict has its own label, score and score_std, and repeats the text's other keys. For a
            multi-label model, each label also has its own standard error and entropies.

            With `num_samples=0`, there are only label and score, as in the stock pipeline. Without a calibration, a
            threshold, a scope and a coverage they are its own, bit for bit. With one of these, texts longer than the
            model's limit are truncated, and texts run in batches, which changes the last digits.

            With `threshold`, there are three more keys: abstained, reason and candidate. If the score is below the
            threshold, abstained is True, label is None, candidate is the winning label, and reason says whether the
            text or the model is to blame. With `top_k` the labels stay, and there is no candidate. A model with one
            output, whose score s is that of the label, abstains where max(s, 1 - s) is below the threshold. For a model
            of independent labels, the only further key is accepted: whether the label reaches its own threshold.

            With a scope, there are also novelty and novelty_p_value (see `learn_scope`). With `novelty_level`, a text
            whose p-value is at most that abstains in the same way, and none of its independent labels is accepted.

            With `coverage`, there is also prediction_set: the labels that the text could have, each a dict of label and
            score (see `conformalize`). A text that abstains has one too.
        """
        form, settings = form_of(inputs), self._settings  # fixed for this call, even if another thread calibrates
        options = self._options_for(kwargs, settings)
        self._check_whole(options)
        remove_options(kwargs)
        call, answers = self._for_call(kwargs)
        activation = call["activation"]
        if options.threshold is not None:
            check_threshold(options.threshold, activation, self.model.config)
        scope = self._scope_for(options)
        plain = options.num_samples == 0 and options.threshold is None and scope is None and options.coverage is None
        if plain and self._scaling_for(options, activation, settings.calibration) is None:
            return super().__call__(inputs, progress=progress, **kwargs)

        def results() -> Iterator[Any]:
            scaling = self._scaling_for(options, activation, settings.calibration)
            samples = self._samples(inputs, options, progress=progress, scaling=scaling, scope=scope, **call)
            return self._answers(samples, options, scaling, (scope, settings.sets), call, answers)

        if form == "one":
            (result,) = results()
            return [result] if isinstance(inputs, str) and "top_k" not in kwargs else result
        if form == "list":
            return list(results())
        return LazyResults(inputs, results) if isinstance(inputs, Sized) else results()

    def sample_proba(
        self, texts: Iterable[Any], *, first_sample: int = 0, progress: Progress | None = None, **kwargs: Any
    ) -> NDArray[np.float32]:
        """Compute per-pass probabilities: float32, NaN if outputs are not finite. *Shape:* (texts, classes, samples).

        Args:
            texts: The texts, in any form that a call accepts.
            first_sample: Number of the first pass; the last is `first_sample + num_samples - 1`. A later call can thus
                continue where an earlier one stopped. The samples of an ensemble are in the order of its models; with
                dropout, those of a model are next to each other.
            progress: Called after each batch with the number of passes (rows) in it.
            **kwargs: Options of a call, except `top_k`, `threshold` and `tolerance`.
        """
        if "tolerance" in kwargs:
            raise TypeError("'tolerance' is not accepted here: sample_proba returns num_samples samples of every text")
        if not is_int(first_sample) or first_sample < 0:
            raise ValueError(f"first_sample={first_sample!r}; it must be an integer of at least 0")
        options, call = self._for_arrays({"tolerance": None, **kwargs})
        if options.num_samples == 0:
            raise ValueError("num_samples=0; sample_proba needs at least 1")
        self._check_members(options, first_sample)
        if options.posterior == "dropout" and (reason := self._sampler.why_not(options.rates)):
            raise ValueError(reason)
        samples = self._samples(texts, options, first_sample=first_sample, progress=progress, **call)
        values = (draws.values for _, draws in samples)
        return joined(values, self.model.config.num_labels, options.num_samples)

    def predict_proba(
        self, texts: Iterable[Any], *, progress: Progress | None = None, **kwargs: Any
    ) -> NDArray[np.float32]:
        """Compute averaged probabilities: float32, NaN if outputs are not finite. *Shape:* (texts, classes).

        They are calibrated, if `calibrate` was called for such scores. `num_samples=0` computes them without dropout.

        Args:
            texts: The texts, in any form that a call accepts.
            progress: Called after each batch with the number of passes (rows) in it.
            **kwargs: Options of a call, except `top_k` and `threshold`.
        """
        options, call = self._for_arrays(kwargs)
        scaling = self._scaling_for(options, call["activation"], self.calibration)
        return self._averages(texts, scaling, progress, options, call)

    def calibrate(
        self,
        texts: Sequence[Any],
        labels: Sequence[Any],
        *,
        method: Method | None = None,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> float | Scaling:
        """Calibrate the scores on labeled texts, and use it from now on for scores that are made the same way.

            temperature:     softmax(log(m) / T)            (Guo et al. 2017, arXiv:1706.04599)
            bias-corrected:  softmax(log(m) / T + b)        (Alexandari et al. 2020, arXiv:1901.06852)
            platt:           sigmoid(a_k logit(m_k) + b_k)  for each label k (Platt 1999); a_k is positive

        m is the mean over the samples, or the ordinary pass for `num_samples=0`: each way has a calibration of its own.
        The fit maximizes the likelihood of the labels. `log T` and the biases of "bias-corrected" have standard normal
        priors. That of `log T` weighs less than one text, those of the biases as much as a few texts of the class.
        Labels share a prior that is fitted to all of them (see `fit_platt`).

        Without biases the winning label does not change. `sample_proba` never changes. All keys of a result belong to
        the calibrated score: `score_std` and `standard_error` by the delta method, and the two parts of the entropy
        share its total in the proportion that they have without calibration. `save_pretrained` saves the calibration.
        To undo it, set `calibration` to what it was, or to {}.

        For sampled scores, up to 64 of at least 16 texts also measure `spread` anew; `spread = None` undoes that.

        `dropout="auto"` also chooses how to sample, and makes it the default of later calls. The candidates are one
        ordinary pass, the model's own rates times 0.5, 1, 2 and 3, and inserted rates of 0.02, 0.05, 0.1 and 0.2 where
        most sites have none; each runs on every text. Each has a calibration of its own, fitted on four fifths of the
        texts and measured on the last fifth, in turn. The choice is the cheapest one whose NLL is within one standard
        error of the best; equally expensive ones go by the size of the change. `sampling` shows it: `num_samples=0` for
        the ordinary pass.

        Args:
            texts: Several texts, as in a call. Do not measure on the same texts later.
            labels: The true classes of the texts, as ids or names. For a model of independent labels, the ids or names
                of each text's labels, or a row of 0 and 1. For a model with one output, 0 or 1.
            method: "temperature" or "bias-corrected" for a model that chooses one label, "platt" for one of independent
                labels; None: the first of them.
            progress: Called after each batch with the number of passes (rows) in it.
            **kwargs: Options of a call, except `top_k` and `threshold`. `dropout` may also be "auto".

        Returns:
            T in [0.01, 100]; above 1 if the model was overconfident. For "platt", a `PlattScaling`.

        Raises:
            ValueError: The model predicts numbers, its outputs are not finite, a label is not one of its classes, the
                numbers of texts and labels differ, or the labels do not determine a calibration: every answer is right,
                too many are wrong, or all labels apply to every text, or none to any.
        """
        choose = isinstance(kwargs.get("dropout"), str) and kwargs["dropout"] == "auto"
        if choose:
            few = {} if self.sampling.num_samples else {"num_samples": Options.num_samples}
            kwargs = {**few, **kwargs, "dropout": None}
        options, call = self._for_arrays(kwargs)
        if call["activation"] != self.activation:
            raise ValueError(
                "calibrate takes function_to_apply only from the constructor: the calibration is for all later calls"
            )
        method = check_method(method, call["activation"], self.model.config)
        texts, targets = labeled(texts, labels, self.model.config, call["activation"])
        self._warn_of_learned(texts, "the calibration will be too confident")

        def averages(options: Options) -> NDArray[np.float32]:
            p = self._averages(texts, None, progress, options, call)
            if np.isnan(p).any():
                raise ValueError(
                    "the model's outputs are NaN or infinite; its weights are damaged or need a wider dtype"
                )
            return p

        if choose:
            options, p = best_options(self._candidates(options), averages, method, targets, groups_of(texts))
        else:
            p = averages(options)
        way, samples = way_of(options), {}
        if has_masks(way):
            rate = self._dropout_rate(options)
            samples = {"masks": options.masks, "dropout_rate": rate, "dropout": options.dropout}
        scaling = fitted(method, p, targets, **samples)
        names = ("num_samples", "masks", "dropout") if choose else ()
        with CHANGES:  # another thread may have calibrated other scores meanwhile
            default = replace(self.sampling, **{name: getattr(options, name) for name in names})
            self._calibrated_on = {**self._calibrated_on, way: frozenset(text_hash(text_key(text)) for text in texts)}
            self._replace(self.calibration.replaced(way, scaling), default)
        if way == "dropout" and len(texts) >= len(PILOT):  # the standard errors of an ensemble need no spread
            some = texts[:: -(-len(texts) // PILOT_TEXTS)]
            asked = call["activation"], options.dropout, call["tokenizer_options"], call["batch_size"]
            self.spread = self._sampler.measured_spread(some, *asked)
        return scaling.temperature if isinstance(scaling, TemperatureScaling) else scaling

    def batches(self, texts: Iterable[Any], **kwargs: Any) -> Iterator[tuple[Sequence[int], dict[str, Tensor]]]:
        """Yield the batches that one ordinary pass would run: text indices, and the model's inputs for them."""
        _, call = self._for_arrays(kwargs)
        yield from self._sampler.batches(texts, call["tokenizer_options"], call["batch_size"])

    def __copy__(self) -> "BayesianTextClassificationPipeline":
        """A pipeline of the same model and options. What is set on it later does not affect the original."""
        other = object.__new__(type(self))
        other.__dict__.update(vars(self), _text_sampler=copy.copy(self._text_sampler), _said=set(self._said))
        return other

    def _answers(
        self,
        samples: Iterable[tuple[Encoded, Draws]],
        options: Options,
        scaling: Scaling | None,
        known: tuple[Scope | None, PredictionSets | None],
        call: Call,
        asked: Mapping[str, Any],
    ) -> Iterator[Any]:
        """Yield the result of each text. `known` holds scope and prediction sets; None for what it does not have."""
        scope, sets = known
        names, first, activation = self.model.config.id2label, 0, call["activation"]
        group_size, of_members = self._groups(options)
        spread = None if of_members else UNKNOWN
        shown: dict[str, Any] = {"own_entropies": activation == "sigmoid", "threshold": options.threshold}
        legacy, top_k = asked.get("_legacy", True), asked.get("top_k", 1)

        def described(values: NDArray[np.float32]) -> Iterator[Any]:
            if not options.num_samples:
                p = values[:, :, 0].astype(np.float64) if scaling is None else scaling.apply(values[:, :, 0])
                best = 1 if legacy else top_k
                return ordinary_labels(p, names, top_k=best, legacy=legacy, threshold=options.threshold)
            summary = summarized(values, activation, group_size, spread, scaling)
            if legacy:
                return winning_labels(summary, names, values.shape[2], **shown)
            return ranked_labels(summary, names, values.shape[2], top_k=top_k, **shown)

        for encoded, draws in samples:
            if bad := draws.not_finite():
                raise not_finite([first + i for i in bad], len(encoded))
            first += len(encoded)
            if options.num_samples:
                if options.num_samples > 1 and not of_members:  # one sample has no standard error
                    spread = self._sampler.spread(activation, options.rates, call["batch_size"])
                results = results_in_text_order(draws, described, encoded.truncated)
            else:
                results = results_in_text_order(draws, described)
            if scope is not None and draws.novelty is not None:
                results = with_novelty(results, draws.novelty, scope.p_values(draws.novelty), options.novelty_level)
            yield from self._with_sets(results, sets, options, scaling, encoded, draws)
            del encoded, draws, results  # before the next window is made
