"""The base class for what belongs to prediction sets: fitting them, and their coverage."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .answers import with_sets
from .calibrated import Settings
from .calibration import Calibration, way_of
from .encoding import PADDING, Encoded
from .errors import in_one_line
from .inputs import halves_of_rows, text_and_pair, text_hash, text_key
from .options import NAMES, OF_CALLS, PREDICTION_SETS, Activation, Options
from .prediction_sets import (
    BYS,
    SCORES,
    By,
    Pairs,
    PredictionSets,
    Score,
    joined_pairs,
    pairs_of,
    refuse_number,
    sets_of_pairs,
    texts_needed,
    uniforms_of,
)
from .progress import Progress
from .sampling import Draws
from .saved_arrays import UNREADABLE, file_of, read_arrays, write_arrays
from .scaling import Scaling
from .scope import same_weights
from .scoped import ScopedPipeline
from .score_origin import ScoreOrigin
from .targets import labeled
from .text_sampler import some_weights

_USUAL = {"coverage": 0.95, "by": "all", "score": "lac"}  # of `conformalize`
_FIT = "call classifier.conformalize(texts, labels{})"


class ConformalPipeline(ScopedPipeline):
    """A pipeline whose results may hold prediction sets."""

    _calibrated_on: Mapping[str, frozenset[int]]  # hashes of the texts of `calibrate`, by the way of the scores

    @property
    def prediction_sets(self) -> PredictionSets | None:
        """What `conformalize` has fitted; None if nothing. Set it to that of another classifier of the same model."""
        return self._settings.sets

    @prediction_sets.setter
    def prediction_sets(self, value: PredictionSets | None) -> None:
        if value is None:
            self._change({"coverage": None}, sets=None)
            return
        value = PredictionSets.of_saved(value.saved())  # that of code from a saved folder has classes of its own
        self._check_sets(value)
        if self.coverage is not None:
            value.check_coverage(self.coverage)
        self._change({}, sets=value)

    @property
    def coverage(self) -> float | None:
        """Default probability that the prediction set of a text holds its true label; None: there are no sets."""
        return self.sampling.coverage

    @coverage.setter
    def coverage(self, value: float | None) -> None:
        _checked_sets(self._settings.sets, replace(self.sampling, coverage=value))
        self._change({"coverage": value})

    def conformalize(
        self,
        texts: Sequence[Any],
        labels: Sequence[Any],
        *,
        coverage: float = 0.95,
        by: By = "all",
        score: Score = "lac",
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> PredictionSets:
        """Fit prediction sets on labeled texts, and add `prediction_set` to every result from now on.

        A set lists the labels that a text could have, each with its score, by descending score. It holds the true label
        with a probability of at least `coverage`, on average over draws of these texts and of a text like them (split
        conformal prediction). With n texts, the coverage of texts to come is drawn from Beta(k, n + 1 - k),
        k = ceil(coverage (n + 1)): for 0.95 and n = 1,000, 93.6 to 96.3% in 95% of draws. Repeated texts make it vary
        more. A later call may ask for another `coverage`: all scores are kept.

        The sets are for scores that are made in the same way: ordinary or sampled, with the same `num_samples`,
        `tolerance`, masks, dropout and calibration. A later `calibrate` of these scores drops them with a warning, and
        so does a change of the default options. `save_pretrained` saves them.

        Args:
            texts: Several texts, as in a call. The model must not have been trained on them, nor calibrated. Pass them
                as they come; repeated texts count as often as they are there.
            labels: Their true labels, as for `calibrate`. For independent labels, texts without a label do not count,
                and `coverage` is the expected share of a text's labels that its set holds.
            coverage: Between 0 and 1. It needs at least ceil(1 / (1 - coverage)) - 1 texts: 19 for 0.95.
            by: "all": the coverage is that of all texts together. "class": it is that of every class that has as many
                texts. Others share the scores of classes like them (clusters, Ding et al. 2023), or of all texts, and
                their coverage is approximate; `PredictionSets.describe` counts them.
            score: "lac": the smallest sets on average; a set may be empty. "aps": larger sets for harder texts, whose
                coverage depends less on the text; the label with the highest score is always in. For independent
                labels, there is only "lac".
            progress: Called after each batch with the number of passes (rows) in it. None: a bar appears after 5
                seconds, in a terminal or a notebook.
            **kwargs: Options of a call, except `top_k` and `threshold`.

        Returns:
            The sets, as `prediction_sets`.

        Raises:
            ValueError: The model predicts numbers, its outputs are not finite, a label is unknown, or there are too few
                texts.
        """
        options, call = self._for_arrays(kwargs)
        activation = call["activation"]
        replace(self.sampling, coverage=coverage)  # checks it
        if activation != self.activation:
            raise ValueError(
                "conformalize takes function_to_apply only from the constructor: the sets are for all later calls"
            )
        _check_kind(activation, self.model.config, by, score)
        texts, targets = labeled(texts, labels, self.model.config, activation)
        for i, item in enumerate(texts):
            text_and_pair(item, f"input {i}")  # an error names the text
        count = len(texts) if targets.ndim == 1 else int(targets.any(1).sum())
        if count < texts_needed(coverage):
            refuse_number(count, coverage)
        self._warn_of_learned(texts, f"the coverage may fall short of {coverage:g}")
        keys, way = list(map(text_key, texts)), way_of(options)
        scaling = self._scaling_for(options, activation, self.calibration)
        known = self._calibrated_on.get(way, frozenset()) if scaling is not None else frozenset()
        if shared := sum(text_hash(key) in known for key in keys):
            warnings.warn(
                f"{shared:,} of the {len(texts):,} texts were also passed to calibrate, so the coverage may fall short "
                f"of {coverage:g}; pass other texts",
                UserWarning,
                stacklevel=2,
            )
        parts: list[Pairs] = []
        first = 0
        for encoded, draws in self._samples(texts, options, progress=progress, scaling=scaling, **call):
            p = draws.means() if scaling is None else scaling.apply(draws.means())
            if np.isnan(p).any():
                raise ValueError(
                    "the model's outputs are NaN or infinite; its weights are damaged or need a wider dtype"
                )
            own = targets[first : first + len(p)]
            parts.append(pairs_of(score, p, own, uniforms_of(encoded.rows["input_ids"], options.seed), first))
            first += len(p)
        sets = sets_of_pairs(
            joined_pairs(parts),
            self.model.config.num_labels,
            score=score,
            by=by,
            independent=targets.ndim == 2,
            chooses=halves_of_rows(keys),
            made_by=ScoreOrigin.of_call(
                options, activation, scaling, self._own_tokenizer_options(call["tokenizer_options"])
            ).saved(),
            weights_of_model=some_weights(self.model),
        )
        if by == "class" and not sets.exact_labels(coverage).any():
            warnings.warn(
                f"no class has the {texts_needed(coverage):,} texts that a coverage of {coverage:g} needs, so it is "
                f"approximate for each ({sets.describe(coverage)}); pass more texts",
                UserWarning,
                stacklevel=2,
            )
        self._change({"coverage": coverage}, sets=sets)
        if why := self._why_not(sets, self.sampling, {}, self.calibration):
            warnings.warn(
                f"calls with the default options have no prediction sets: {why}; pass these options in each call, or "
                "load the classifier with them",
                UserWarning,
                stacklevel=2,
            )
        return sets

    def saved_options(self) -> dict[str, Any]:
        """The options that are saved with the model, as JSON values."""
        return super().saved_options() | ({PREDICTION_SETS: True} if self.prediction_sets is not None else {})

    def _save_arrays(self, folder: Any) -> None:
        super()._save_arrays(folder)
        if self.prediction_sets is not None:
            write_arrays(folder, PREDICTION_SETS, self.prediction_sets.saved())

    def _load_sets(self, saved: Mapping[str, Any]) -> None:
        """Use the sets that were saved next to the model. Warn if they are not there."""
        options = self.sampling
        if not saved.get(PREDICTION_SETS):
            _checked_sets(None, options)
            return
        try:
            sets = PredictionSets.of_saved(read_arrays(self.model, PREDICTION_SETS))
            self._check_sets(sets)
        except UNREADABLE as error:
            reason = in_one_line(error)
            self._change({"coverage": None})
            warnings.warn(
                f"the prediction sets did not load from {file_of(PREDICTION_SETS)} ({reason}), so results have none; "
                f"{_FIT.format('')}, and write the folder with classifier.save_pretrained",
                UserWarning,
                stacklevel=3,
            )
            return
        _checked_sets(sets, options)
        self._change({}, sets=sets)

    def _check_sets(self, sets: PredictionSets) -> None:
        """Raise ValueError unless the sets have the labels of the model, and are for its weights."""
        if len(sets.clusters) != self.model.config.num_labels:
            raise ValueError(
                f"the prediction sets have {len(sets.clusters)} labels, and the model has "
                f"{self.model.config.num_labels}; {_FIT.format('')}"
            )
        ScoreOrigin.of_saved(sets.made_by)
        if not same_weights(some_weights(self.model), sets.weights_of_model):
            raise ValueError(f"the prediction sets are for other weights; {_FIT.format('')}")

    def _with_coverage(self, options: Options, given: Mapping[str, Any], settings: Settings) -> Options:
        """The options of a call, without coverage if the sets are for other scores: it warns once.

        Raises ValueError for such scores if `given` has a coverage, or if there are no sets.
        """
        if (sets := _checked_sets(settings.sets, options)) is None:
            return options
        if not (why := self._why_not(sets, options, given, settings.calibration)):
            return options
        fit = self._fit_for(sets, options, given)
        if "coverage" in given:
            raise ValueError(f"coverage={options.coverage:g}: no prediction sets for these scores: {why}; {fit}")
        self._warn_once(f"results have no prediction sets: {why}; {fit}")
        return replace(options, coverage=None)

    def _why_not(
        self, sets: PredictionSets, options: Options, given: Mapping[str, Any], calibration: Calibration
    ) -> str:
        """Why the sets are not for the scores of a call with these options; empty if they are."""
        if not same_weights(some_weights(self.model), sets.weights_of_model):
            return "they are for other weights of the model"
        activation = self.activation_for(given)
        scaling = self._scaling_for(options, activation, calibration)
        tokenizer_options = self._own_tokenizer_options(self._merged(_of_tokenizer(given))[0])
        now = ScoreOrigin.of_call(options, activation, scaling, tokenizer_options)
        return ScoreOrigin.of_saved(sets.made_by).why_not(now)

    def _fit_for(self, sets: PredictionSets, options: Options, given: Mapping[str, Any]) -> str:
        """The call that fits sets for these options."""
        if (activation := self.activation_for(given)) != self.activation:
            return f"load the classifier with function_to_apply={activation!r}, and {_FIT.format('')}"
        names = ["num_samples"] + ["tolerance", "masks", "dropout", "posterior"] * (options.num_samples > 0)
        asked = {name: getattr(options, name) for name in names}
        asked = {name: value for name, value in asked.items() if value != getattr(self.sampling, name)}
        asked |= {name: given[name] for name in given if name not in OF_CALLS}
        kind: dict[str, Any] = {"coverage": options.coverage, "by": sets.by, "score": sets.score}
        asked = {name: value for name, value in kind.items() if value != _USUAL[name]} | asked
        return _FIT.format("".join(f", {name}={value!r}" for name, value in asked.items()))

    def _own_tokenizer_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Tokenizer options that change scores: not padding, and not a truncation to the model's limit."""
        usual = {"truncation": True, "max_length": self._sampler.encoder.length_limit(), **dict.fromkeys(PADDING)}
        return {name: value for name, value in options.items() if name not in usual or usual[name] not in (None, value)}

    def _with_sets(
        self,
        results: Iterator[Any],
        sets: PredictionSets | None,
        options: Options,
        scaling: Scaling | None,
        encoded: Encoded,
        draws: Draws,
    ) -> Iterator[Any]:
        """The results with the prediction set of each text; unchanged without sets."""
        if sets is None or options.coverage is None:
            return results
        p = draws.means() if scaling is None else scaling.apply(draws.means())
        inside = sets.of(p, options.coverage, uniforms_of(encoded.rows["input_ids"], options.seed))
        return with_sets(results, p, inside, self.model.config.id2label)

    def _replace(self, calibration: Calibration, options: Options) -> None:
        before, sets = self._settings, self._settings.sets
        super()._replace(calibration, options)
        if sets is None:
            return
        origin = ScoreOrigin.of_saved(sets.made_by)
        if calibration.numbers(origin.way) != before.calibration.numbers(origin.way):
            self._drop_sets("their scores have another calibration now")
            return
        now, then = (
            ScoreOrigin.of_call(one, self.activation, None, origin.tokenizer) for one in (options, before.options)
        )
        if now != then and (why := origin.why_not(now, calibrated=False)):
            self._drop_sets(why)

    def _drop_sets(self, why: str) -> None:
        self.prediction_sets = None
        warnings.warn(f"the prediction sets are dropped: {why}; {_FIT.format('')}", UserWarning, stacklevel=4)


def _checked_sets(sets: PredictionSets | None, options: Options) -> PredictionSets | None:
    """The sets, if `options` ask for a coverage. Raises ValueError if there are none, or too few texts for it."""
    if options.coverage is None:
        return None
    if sets is None:
        raise ValueError(
            f"coverage={options.coverage:g} needs prediction sets; {_FIT.format('')}, or pass coverage=None"
        )
    sets.check_coverage(options.coverage)
    return sets


def _check_kind(activation: Activation, config: Any, by: By, score: Score) -> None:
    """Raise ValueError if a model has no such prediction sets."""
    if score not in SCORES:
        raise ValueError(f"score={score!r}; it must be one of {', '.join(map(repr, SCORES))}")
    if by not in BYS:
        raise ValueError(f"by={by!r}; it must be one of {', '.join(map(repr, BYS))}")
    if activation == "none":
        raise ValueError("prediction sets need probabilities, and this model predicts numbers; use them as they are")
    if activation == "softmax" and config.num_labels < 2:
        raise ValueError(
            "prediction sets need at least two classes, because the softmax of one output is always 1; load the model "
            "with function_to_apply='sigmoid'"
        )
    if activation == "sigmoid" and score != "lac":
        raise ValueError(f"score={score!r} is for a model that chooses one label; independent labels take score='lac'")


def _of_tokenizer(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in NAMES}
