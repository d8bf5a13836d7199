"""What the probabilities of a model stand for, and how they are measured: one label, or independent labels."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..pipeline.temperature import determined
from ..pipeline.uncertainty import Uncertainty, over_classes, over_labels
from .fits import Fit, Groups, Known, Labels, PlattPairs, Probabilities, Temperatures
from .statistics.estimates import estimate, null_by_draws, null_of, resample
from .statistics.intervals import Estimate
from .statistics.label_measures import LABEL_MEASURES, OF_EACH_LABEL, pooled_ece
from .statistics.label_predictions import LabelPredictions, effective_counts, pooled
from .statistics.measures import MEASURES, Measure
from .statistics.predictions import Predictions, Sums, unweighted
from .statistics.strategies import Resamples

ArmName = Literal[
    "frequentist",
    "frequentist_temperature",
    "frequentist_platt",
    "student",
    "student_temperature",
    "student_platt",
    "baal",
    "bayesian",
    "bayesian_temperature",
    "bayesian_platt",
    "ensemble",
    "ensemble_temperature",
    "ensemble_platt",
    "saved",
]
CONFIDENCE = "1 - max probability"
ENTROPY = "predictive entropy"
MOST_LABELS = 100  # labels with estimates of their own


class Head(ABC):
    """How probabilities are measured, scaled and summarized.

    Attributes:
        measures: What is measured.
        scaling: What `scaled` adds, in words.
        scaled: The arm that adds a scaling to an arm.
    """

    measures: ClassVar[tuple[Measure, ...]]
    scaling: ClassVar[str]
    scaled: ClassVar[Mapping[ArmName, ArmName]]

    def title(self, key: str) -> str:
        """Name of a measure for people."""
        return next(measure.title for measure in self.measures if measure.key == key)

    @property
    def candidates(self) -> tuple[ArmName, ...]:
        """Arms that may be recommended, besides "saved"."""
        return (*self.scaled, *self.scaled.values())

    @abstractmethod
    def predictions(self, probabilities: Probabilities, labels: Labels, groups: Groups = None) -> Predictions:
        """The rows of an arm without a scaling."""

    @abstractmethod
    def fitted(self, probabilities: Probabilities, labels: Labels, known: Known = None, groups: Groups = None) -> Fit:
        """Fit the scaling of an arm on `known` rows and labels. Without them, fit it on the rows themselves."""

    @abstractmethod
    def determined(self, probabilities: Probabilities, labels: Labels) -> bool:
        """Whether the labels determine a best scaling without the prior."""

    @abstractmethod
    def null_ece(self, drawn: Resamples) -> Estimate:
        """The mean and the 95% band of the ECE on these rows if the probabilities were right."""

    @abstractmethod
    def bins(self, rows: Predictions) -> Sums:
        """The sums over the bins of the ECE."""

    @abstractmethod
    def bin_trials(self, rows: Predictions) -> NDArray[np.float64]:
        """Number of independent events in each bin. *Shape:* (bins,)."""

    @abstractmethod
    def by_label(self, rows: Predictions, seed: int) -> dict[int, dict[str, Estimate]]:
        """Estimates of each label's own measures, if there are independent labels."""

    @abstractmethod
    def uncertainty(self, samples: Probabilities, group_size: int = 1) -> Uncertainty:
        """The uncertainty of each text. *Shape:* (texts, classes, samples)."""

    @abstractmethod
    def entropy(self, values: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """An entropy of an `Uncertainty` as one number for each text. *Shape:* (texts,)."""

    def confidence(self, probabilities: Probabilities) -> NDArray[np.float64]:
        """The probability of each text's answer. *Shape:* (texts,)."""
        return np.asarray(probabilities.max(1), np.float64)

    def scores(self, summary: Uncertainty, sampled: bool = False) -> dict[str, NDArray[np.float64]]:
        """Scores that may reveal an out-of-scope text. *Shape:* (texts,) each."""
        p = self.confidence(summary.mean)
        scores = {CONFIDENCE: 1 - p, ENTROPY: self.entropy(summary.predictive_entropy)}
        return scores | ({"mutual information": self.entropy(summary.mutual_information)} if sampled else {})


class OneLabel(Head):
    """Probabilities of classes, one of which is true."""

    measures = MEASURES
    scaling = "a temperature"
    scaled: ClassVar[Mapping[ArmName, ArmName]] = {
        "frequentist": "frequentist_temperature",
        "student": "student_temperature",
        "bayesian": "bayesian_temperature",
        "ensemble": "ensemble_temperature",
    }

    def predictions(self, probabilities: Probabilities, labels: Labels, groups: Groups = None) -> Predictions:
        """Rows that sum to 1."""
        return Predictions.of(probabilities, labels, groups)

    def fitted(self, probabilities: Probabilities, labels: Labels, known: Known = None, groups: Groups = None) -> Fit:
        """A temperature."""
        return Temperatures.fitted(probabilities, labels, known, groups)

    def determined(self, probabilities: Probabilities, labels: Labels) -> bool:
        """Whether there is a best temperature."""
        return determined(probabilities, labels)

    def null_ece(self, drawn: Resamples) -> Estimate:
        """That of the metric, except for copies of a text."""
        return null_of(drawn)

    def bins(self, rows: Predictions) -> Sums:
        """Bins of the confidence."""
        return unweighted(rows).confidence_sums

    def bin_trials(self, rows: Predictions) -> NDArray[np.float64]:
        """Every row."""
        return np.asarray(self.bins(rows).counts[0], np.float64)

    def by_label(self, rows: Predictions, seed: int) -> dict[int, dict[str, Estimate]]:
        """None: a class is only measured together with the others."""
        return {}

    def uncertainty(self, samples: Probabilities, group_size: int = 1) -> Uncertainty:
        """With the entropies of one label among the classes."""
        return over_classes(samples, group_size)

    def entropy(self, values: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """The entropy itself."""
        assert values is not None  # probabilities have entropies
        return values


class IndependentLabels(Head):
    """Probabilities of labels, any number of which may apply. *Shape:* (texts, labels) for the true labels too."""

    measures: ClassVar[tuple[Measure, ...]] = LABEL_MEASURES
    scaling = "Platt scaling"
    scaled: ClassVar[Mapping[ArmName, ArmName]] = {
        "frequentist": "frequentist_platt",
        "student": "student_platt",
        "bayesian": "bayesian_platt",
        "ensemble": "ensemble_platt",
    }

    def predictions(self, probabilities: Probabilities, labels: Labels, groups: Groups = None) -> Predictions:
        """Rows with all labels."""
        return LabelPredictions.of(probabilities, labels, groups)

    def fitted(self, probabilities: Probabilities, labels: Labels, known: Known = None, groups: Groups = None) -> Fit:
        """A slope and a bias for each label."""
        return PlattPairs.fitted(probabilities, labels, known)

    def determined(self, probabilities: Probabilities, labels: Labels) -> bool:
        """Whether some labels apply and some do not."""
        return bool(labels.min() != labels.max())

    def null_ece(self, drawn: Resamples) -> Estimate:
        """With the correlations between the labels of a text."""
        return null_by_draws(drawn, pooled_ece)

    def bins(self, rows: Predictions) -> Sums:
        """Bins of the probabilities of all labels."""
        return pooled(unweighted(rows).column_sums)

    def bin_trials(self, rows: Predictions) -> NDArray[np.float64]:
        """Pairs of a text and a label, as far as they are independent."""
        assert isinstance(rows, LabelPredictions)
        return effective_counts(rows)

    def by_label(self, rows: Predictions, seed: int) -> dict[int, dict[str, Estimate]]:
        """ECE, accuracy, NLL and Brier score of each label, or of the 100 most frequent ones."""
        assert isinstance(rows, LabelPredictions)
        chosen = np.sort(np.argsort(-rows.labels.sum(0), kind="stable")[:MOST_LABELS])
        found = {}
        for label in chosen.tolist():
            drawn = resample(rows.of_label(label), seed=seed, measures=OF_EACH_LABEL)
            found[label] = {measure.key: estimate(measure, drawn) for measure in OF_EACH_LABEL}
        return found

    def uncertainty(self, samples: Probabilities, group_size: int = 1) -> Uncertainty:
        """With the entropies of each label."""
        return over_labels(samples, group_size)

    def entropy(self, values: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """The entropies of a text's labels, added up."""
        assert values is not None  # probabilities have entropies
        return np.asarray(values.sum(1))


class OneOutput(IndependentLabels):
    """Probability of the only label, which applies or does not."""

    measures = tuple(measure for measure in LABEL_MEASURES if measure.key != "class_wise_ece")  # that is the ECE

    def confidence(self, probabilities: Probabilities) -> NDArray[np.float64]:
        """That of "no" where it is larger."""
        return np.asarray(np.maximum(probabilities, 1 - probabilities)[:, 0], np.float64)


ONE_LABEL, INDEPENDENT_LABELS, ONE_OUTPUT = OneLabel(), IndependentLabels(), OneOutput()


def head_of(labels: Labels) -> Head:
    """The head for true labels of this shape: class ids (texts,), or 0 and 1 for each label (texts, labels)."""
    if np.ndim(labels) != 2:
        return ONE_LABEL
    return ONE_OUTPUT if np.shape(labels)[1] == 1 else INDEPENDENT_LABELS
