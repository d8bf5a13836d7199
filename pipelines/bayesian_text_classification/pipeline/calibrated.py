"""The base class for what belongs to calibrated scores: temperatures, and the threshold that they are compared with."""

import copy
import threading
import warnings
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from .calibration import SCORES, Calibration, Way, has_masks, way_of
from .callers import frames_of_libraries
from .options import NAMES, Activation, Options
from .prediction_sets import PredictionSets
from .publishable import PublishablePipeline
from .scaling import Scaling, TemperatureScaling

KINDS: dict[Activation, str] = {
    "softmax": "a model that chooses one label",
    "sigmoid": "a model of independent labels",
    "none": "a model that predicts numbers",
}

# Held while settings are replaced, so that no change of another thread is lost. All classifiers share it, because one
# with a lock of its own could not be pickled.
CHANGES = threading.RLock()

_Own = TypeVar("_Own", bound="CalibratedPipeline")


@dataclass(frozen=True)
class Settings:
    """What a call reads once, so that another thread may calibrate meanwhile.

    Attributes:
        options: Default options of a call.
        calibration: What was fitted.
        threshold_for: Options of the scores that the default threshold was chosen for.
        sets: Prediction sets; None if there are none.
    """

    options: Options
    calibration: Calibration
    threshold_for: Options
    sets: PredictionSets | None = None


class CalibratedPipeline(PublishablePipeline):
    """A pipeline whose scores are calibrated, each way to make them by itself.

    A threshold belongs to the scores that it was chosen for. If they change, it is dropped with a warning.
    """

    _settings: Settings

    def _set_calibration(self, options: Options, saved: Mapping[str, Any], threshold_is_saved: bool) -> None:
        """Set the options and the saved calibration, and check the threshold that was saved with it or given."""
        self._said: set[Hashable] = set()
        self._settings = Settings(options, Calibration.of_saved(saved), options)
        if options.threshold is None:
            return
        if not threshold_is_saved:
            self._check_threshold(options.threshold)
            return
        # Version 0.1 did not save the way, and its thresholds were for sampled scores.
        chosen_for: Way = saved.get("threshold_way", "dropout")
        if chosen_for != way_of(options):
            self._drop_threshold(f"it was chosen for {SCORES[chosen_for]}")
        elif not self._fits(options.threshold):
            self._drop_threshold(f"it does not fit the scores of {KINDS[self.activation]}")
        elif has_masks(chosen_for):
            before = replace(options, masks=saved.get("masks", options.masks), dropout=saved.get("dropout"))
            if others := options.other_draws(before):
                self._drop_threshold(f"it was chosen for {others}")

    @property
    def sampling(self) -> Options:
        """Default options of a call: how texts are sampled, and which answers are accepted."""
        return self._settings.options

    @property
    def calibration(self) -> Calibration:
        """What `calibrate` has fitted, for ordinary and for sampled scores. Set it to that of another classifier."""
        return self._settings.calibration

    @calibration.setter
    def calibration(self, value: Mapping[Way, Scaling]) -> None:
        with CHANGES:
            self._replace(Calibration(value), self.sampling)

    def _change(self, options: Mapping[str, Any], **others: Any) -> None:
        """Change some default options, and other settings, in one step."""
        with CHANGES:
            changed = replace(self._settings.options, **options)
            self._settings = replace(self._settings, options=changed, **others)

    def _replace(self, calibration: Calibration, options: Options) -> None:
        """Set calibration and default options in one step. A threshold goes, with a warning, if its scores change."""
        before = self._settings
        for scaling in calibration.values():
            self._check_scaling(scaling)
        way, threshold, reason = way_of(before.threshold_for), options.threshold, ""
        if calibration.numbers(way) != before.calibration.numbers(way):
            reason = "the scores that it was chosen for have another calibration now"
        elif way_of(options) != way and options != before.options:
            reason = f"it was chosen for {SCORES[way]}"
        elif has_masks(way) and options.other_draws(before.threshold_for) and options != before.options:
            reason = f"it was chosen for {options.other_draws(before.threshold_for)}"
        if threshold is None or not reason:
            self._settings = replace(before, options=options, calibration=calibration)
            return
        self._settings = replace(before, options=replace(options, threshold=None), calibration=calibration)
        self._say_dropped(threshold, reason)

    @property
    def temperature(self) -> float:
        """Temperature of the sampled scores; 1.0 changes nothing. Setting it replaces what was fitted for them.

        For an ensemble, they are those of its posterior. Raises ValueError if the model does not choose one label, and
        the new value is not 1.
        """
        return self.calibration.temperature(self.sampling.posterior)

    @temperature.setter
    def temperature(self, value: float) -> None:
        scaling = TemperatureScaling(value)
        if self.activation != "softmax" and scaling.numbers == (1.0,):
            return  # what it has always been
        with CHANGES:
            way = self.sampling.posterior
            if scaling.numbers != self.calibration.numbers(way):
                self.calibration = self.calibration.replaced(way, None if value == 1 else scaling)

    @property
    def threshold(self) -> float | Mapping[str, float] | None:
        """Default lowest score of an accepted text, or of each accepted label by name; None: all are accepted."""
        threshold = self.sampling.threshold
        return dict(threshold) if isinstance(threshold, Mapping) else threshold

    @threshold.setter
    def threshold(self, value: float | Mapping[str, float] | None) -> None:
        options = replace(self.sampling, threshold=value)
        if value is not None:
            self._check_threshold(value)
            least = 1 / max(self.model.config.num_labels, 2)  # of one output, the answer may be no
            if not isinstance(options.threshold, Mapping) and options.threshold < least:
                message = f"threshold={value!r} accepts every text: the winner's score is at least {least:.3g} here"
                warnings.warn(message, UserWarning, stacklevel=2)
        self._change({"threshold": value}, threshold_for=options)

    @property
    def activation(self) -> Activation:
        """How logits become scores: "softmax" (one label among several), "sigmoid" (independent labels) or "none"."""
        return self._activation(self.defaults.get("function_to_apply"))

    def activation_for(self, options: Mapping[str, Any]) -> Activation:
        """The activation of a call with these options, which may have `function_to_apply`."""
        given = {name: value for name, value in options.items() if name == "function_to_apply"}
        return self._activation(self._merged(given)[1].get("function_to_apply"))

    def uncalibrated(self: _Own) -> _Own:
        """A pipeline of the same model and options without calibration, threshold and prediction sets."""
        other = copy.copy(self)
        options = replace(self.sampling, threshold=None, coverage=None)
        other._settings = replace(self._settings, options=options, calibration=Calibration(), sets=None)
        return other

    def with_options(self, given: Mapping[str, Any]) -> Options:
        """The options of a call: those that are `given`, else the defaults.

        A default threshold that was chosen for other scores is not used, with one warning.
        """
        return self._options_for(given, self._settings)

    def saved_options(self) -> dict[str, Any]:
        """The options that are saved with the model, as JSON values."""
        way = {} if self.threshold is None else {"threshold_way": way_of(self._settings.threshold_for)}
        return {"calibration": self.calibration.saved(), **self.sampling.saved(), **way}

    def scaling_for(self, options: Mapping[str, Any]) -> Scaling | None:
        """The scaling of the scores of a call with these options; None if they have none, maybe with a warning."""
        return self._scaling_for(self.with_options(options), self.activation_for(options), self.calibration)

    @abstractmethod
    def _check_members(self, options: Options, first_sample: int = 0) -> None:
        """Raise ValueError if the model, or the ensemble, cannot give such samples."""

    @abstractmethod
    def _count_for(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call with the number of samples that is the default of its posterior."""

    @abstractmethod
    def _dropout_rate(self, options: Options) -> float:
        """Mean rate of the dropout calls in one pass. Raises ValueError without dropout."""

    @abstractmethod
    def _with_coverage(self, options: Options, given: Mapping[str, Any], settings: Settings) -> Options:
        """The options of a call, without coverage if the prediction sets are for other scores."""

    @abstractmethod
    def _warn_of_learned(self, texts: Sequence[Any], consequence: str) -> None:
        """Warn the caller of the calling method if a student is fitted on texts that it learned from."""

    @abstractmethod
    def _warn_of_samples(self, options: Options) -> None:
        """Warn once if the samples of a call are not what the classifier is for."""

    def _options_for(self, given: Mapping[str, Any], settings: Settings) -> Options:
        options = self._with_coverage(self._with_threshold(given, settings), given, settings)
        self._warn_of_samples(options)
        return options

    def _with_threshold(self, given: Mapping[str, Any], settings: Settings) -> Options:
        given = self._count_for(given)
        options = replace(settings.options, **{name: given[name] for name in NAMES if name in given})
        self._check_members(options)
        if options.threshold is None or "threshold" in given:
            return options
        way, scaling, chosen_for = way_of(options), settings.calibration.get(way_of(options)), settings.threshold_for
        if way != way_of(chosen_for):
            other = SCORES[way_of(chosen_for)]
        elif has_masks(way) and options.other_draws(chosen_for):
            other = options.other_draws(chosen_for)
        elif has_masks(way) and scaling is not None and not scaling.is_for(options, self._dropout_rate(options)):
            other = "another dropout rate"
        else:
            return options
        self._warn_once(
            f"threshold={options.threshold!r} was chosen for {other}, so it is not used for these scores; to use it "
            f"for them too, pass threshold={options.threshold!r} in the call"
        )
        return replace(options, threshold=None)

    def _scaling_for(self, options: Options, activation: Activation, calibration: Calibration) -> Scaling | None:
        """The scaling of scores that are made in this way. Warns once if only other scores were calibrated.

        Raises ValueError if they need samples and there is no dropout.
        """
        way = way_of(options)
        rate = self._dropout_rate(options) if has_masks(way) else 0.0
        known = {one: scaling for one, scaling in calibration.items() if scaling.activation == activation}
        if not known:
            if calibration and activation != "none":
                self._warn_once(
                    f"function_to_apply={activation!r} gives scores that are not calibrated, only those of "
                    f"{self.activation!r} are; leave it out to get those"
                )
            return None
        if way not in known:
            (other, *_) = known
            self._warn_once(
                f"{SCORES[way]} are not calibrated, only {SCORES[other]} are; to calibrate them too, call "
                f"classifier.calibrate(texts, labels, {self._asked(options)})",
                about=(way, other),
            )
            return None
        scaling = known[way]
        if has_masks(way) and not scaling.is_for(options, rate):
            self._warn_once(
                f"these scores are not calibrated: what was fitted ({scaling}) is for samples with other masks or at "
                f"another dropout rate; call classifier.calibrate(texts, labels, {self._asked(options)})",
                about=(way, options.masks, options.dropout),
            )
            return None
        return scaling

    def _asked(self, options: Options) -> str:
        """Arguments of `calibrate` that fit scores like those of a call with these options."""
        names = ["num_samples"] if options.num_samples == 0 else ["num_samples", "masks", "dropout", "posterior"]
        changed = [name for name in names if getattr(options, name) != getattr(self.sampling, name)]
        return ", ".join(f"{name}={getattr(options, name)!r}" for name in changed or names[:1])

    def _check_scaling(self, scaling: Scaling) -> None:
        """Raise ValueError unless a scaling is for scores like this model's."""
        count = self.model.config.num_labels
        if scaling.activation != self.activation:
            raise ValueError(
                f"{scaling} is for {KINDS[scaling.activation]}, and this is {KINDS[self.activation]}; call "
                "classifier.calibrate(texts, labels)"
            )
        if scaling.labels not in (None, count):
            raise ValueError(
                f"{scaling} is for {scaling.labels} labels, and the model has {count}; call "
                "classifier.calibrate(texts, labels)"
            )

    def _check_threshold(self, threshold: float | Mapping[str, float]) -> None:
        check_threshold(threshold, self.activation, self.model.config)

    def _fits(self, threshold: float | Mapping[str, float]) -> bool:
        """Whether a threshold can work with this model's scores."""
        try:
            self._check_threshold(threshold)
        except ValueError:
            return False
        return True

    def _drop_threshold(self, reason: str) -> None:
        dropped = self.threshold
        self._change({"threshold": None})
        self._say_dropped(dropped, reason)

    def _say_dropped(self, threshold: float | Mapping[str, float] | None, reason: str) -> None:
        chooser = "threshold_for" if self.activation == "softmax" else "label_thresholds"
        advice = "" if self.activation == "none" else f"; choose a new one with bayesian_text_classification.{chooser}"
        if threshold is not None and self._fits(threshold):
            advice += f", or keep it with classifier.threshold = {threshold!r}"
        warnings.warn(f"threshold={threshold!r} is dropped: {reason}{advice}", UserWarning, stacklevel=4)

    def _warn_once(self, message: str, about: Hashable = None) -> None:
        """Warn, at the caller's line, unless it was said. `about` is what tells it from others; None: its words."""
        key = message if about is None else about
        if key not in self._said:
            self._said.add(key)
            warnings.warn(message, UserWarning, stacklevel=2 + frames_of_libraries())


def check_threshold(threshold: float | Mapping[str, float], activation: Activation, config: Any) -> None:
    """Raise ValueError if a threshold cannot work with scores of this activation, or names no label of the model."""
    labels = list(config.id2label.values())
    if activation == "none":
        raise ValueError(
            f"threshold={threshold!r} needs probabilities, and this model predicts numbers; pass threshold=None"
        )
    if activation == "softmax" or len(labels) == 1:
        if isinstance(threshold, Mapping):
            raise ValueError(
                f"threshold={dict(threshold)!r} is for independent labels; this model takes one number, such as "
                "threshold=0.8"
            )
        return
    example = {labels[0]: 0.8}
    if not isinstance(threshold, Mapping):
        raise ValueError(
            f"threshold={threshold!r} is for a model that chooses one label; this one has independent labels: pass a "
            f"threshold for each, such as threshold={example!r} (label_thresholds finds them)"
        )
    for name in threshold:
        if name not in labels:
            raise ValueError(f"threshold has {name!r}, which is not a label of the model; the labels are {labels}")
