"""The base class for what belongs to calibrated scores: temperatures, and the threshold that they are compared with."""

import copy
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from .calibration import SCORES, Calibration, Scaling, way_of
from .options import NAMES, Options
from .publishable import PublishablePipeline
from .uncertainty import Activation

_Own = TypeVar("_Own", bound="CalibratedPipeline")


class CalibratedPipeline(PublishablePipeline):
    """A pipeline whose scores are calibrated, each way to make them by itself.

    A threshold belongs to the scores that it was chosen for. If they change, it is dropped with a warning.
    """

    _options: Options

    def _set_calibration(self, saved: Mapping[str, Any], threshold_is_saved: bool) -> None:
        """Set the saved calibration, and check the threshold that was saved with it or given."""
        self._calibration, self._said = Calibration.of_saved(saved), set[str]()
        self._threshold_way = way_of(self._options)
        if self._options.threshold is None:
            return
        chosen_for = saved.get("threshold_way", self._threshold_way)
        if threshold_is_saved and chosen_for != self._threshold_way:
            self._drop_threshold(f"it was chosen for {SCORES[chosen_for]}")
        else:
            check_threshold(self._options.threshold, self._activation(self.defaults.get("function_to_apply")))

    @property
    def calibration(self) -> Calibration:
        """What `calibrate` has fitted, for ordinary and for sampled scores. Set it to that of another classifier."""
        return self._calibration

    @calibration.setter
    def calibration(self, value: Calibration) -> None:
        before, way = self._calibration, self._threshold_way
        self._calibration = value
        if self._options.threshold is not None and value.get(way) != before.get(way):
            self._drop_threshold("the scores that it was chosen for have another calibration now")

    @property
    def temperature(self) -> float:
        """Temperature of the sampled scores; 1.0 changes nothing. Setting it replaces what was fitted for them."""
        scaling = self._calibration.get("dropout")
        return 1.0 if scaling is None else scaling.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        scaling = Scaling(value)
        self.calibration = self._calibration.replaced("dropout", None if value == 1 else scaling)

    @property
    def threshold(self) -> float | None:
        """Default lowest score of an accepted text; None: every text is accepted."""
        return self._options.threshold

    @threshold.setter
    def threshold(self, value: float | None) -> None:
        options = replace(self._options, threshold=value)
        if value is not None:
            check_threshold(value, self._activation(self.defaults.get("function_to_apply")))
        self._options, self._threshold_way = options, way_of(options)

    def uncalibrated(self: _Own) -> _Own:
        """A pipeline of the same model and options without calibration and threshold."""
        other = copy.copy(self)
        other._options, other._calibration = replace(self._options, threshold=None), Calibration()
        return other

    def saved_options(self) -> dict[str, Any]:
        """The options that are saved with the model, as JSON values."""
        way = {} if self.threshold is None else {"threshold_way": self._threshold_way}
        return {"calibration": self._calibration.saved(), **self._options.saved(), **way}

    @abstractmethod
    def _dropout_rate(self) -> float:
        """Mean rate of the dropout calls in one pass. Raises ValueError without dropout."""

    def _temperature_for(self, options: Options, activation: Activation, calibration: Calibration) -> float:
        """The temperature of scores that are made in this way. Warns once if only other scores were calibrated.

        Raises ValueError if they need samples and there is no dropout.
        """
        way = way_of(options)
        rate = self._dropout_rate() if way == "dropout" else 0.0
        scaling = calibration.get(way)
        if activation != "softmax" or not calibration:
            return 1.0
        if scaling is None:
            (other, *_) = calibration
            self._warn_once(
                f"{SCORES[way]} are not calibrated, only {SCORES[other]} are; to calibrate them too, call "
                f"classifier.calibrate(texts, labels, num_samples={options.num_samples})"
            )
            return 1.0
        if way == "dropout" and not scaling.is_for(options.masks, rate):
            self._warn_once(
                f"these scores are not calibrated: what was fitted ({scaling}) is for samples with other masks or at "
                f"another dropout rate; call classifier.calibrate(texts, labels, masks={options.masks!r})"
            )
            return 1.0
        return scaling.temperature

    def with_options(self, given: Mapping[str, Any]) -> Options:
        """The options of a call: those that are `given`, else the defaults.

        A default threshold that was chosen for other scores is not used, with one warning.
        """
        options = replace(self._options, **{name: given[name] for name in NAMES if name in given})
        way = way_of(options)
        if options.threshold is None or "threshold" in given or way == self._threshold_way:
            return options
        self._warn_once(
            f"threshold={options.threshold!r} was chosen for {SCORES[self._threshold_way]}, so it is not used for "
            f"{SCORES[way]}; to use it there too, pass threshold={options.threshold!r} in the call"
        )
        return replace(options, threshold=None)

    def _drop_threshold(self, reason: str) -> None:
        dropped, self._options = self._options.threshold, replace(self._options, threshold=None)
        warnings.warn(
            f"threshold={dropped!r} is dropped: {reason}; choose a new one with threshold_for(scores, correct, target)",
            UserWarning,
            stacklevel=3,
        )

    def _warn_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            warnings.warn(message, UserWarning, stacklevel=3)


def check_threshold(threshold: float, activation: Activation) -> None:
    """Raise ValueError if a threshold cannot work with scores of this activation."""
    if activation != "softmax":
        raise ValueError(
            f"threshold={threshold!r} needs probabilities that sum to 1 over the classes; pass threshold=None"
        )
