"""Quality and calibration of the probabilities of independent labels, averaged over the labels."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .label_predictions import pooled
from .measures import (
    MEASURES,
    Measure,
    class_wise_ece,
    errors_of_classes,
    gaps_of_classes,
    mean_of,
    reliability,
    resolution,
    squares_of_reliability,
    squares_of_resolution,
)
from .predictions import Array, Predictions, Values, Weighted
from .strategies import Gaps, GapsOfFewBins, LabelShare, RowSquares, Squares

_ONE_LABEL = {measure.key: measure for measure in MEASURES}


def pooled_ece(data: Weighted) -> Array:
    """Binary ECE of the pairs of a text and a label, over 10 bins of equal width."""
    return pooled(data.column_sums).error()


def gaps_of_pairs(data: Weighted) -> Array:
    """The parts of `pooled_ece`: the absolute gap of each bin. *Shape:* (resamples, bins)."""
    sums = pooled(data.column_sums)
    return np.asarray(np.abs(sums.gaps) / sums.counts.sum(1, keepdims=True))


def _per_label(values: Values) -> Values:
    """A sum over the labels as their mean."""
    return lambda data: values(data) / data.rows.probabilities.shape[1]


def _squares_per_label(of: Callable[[Predictions], Squares]) -> RowSquares:
    def mean(rows: Predictions) -> Squares:
        found, labels = of(rows), rows.probabilities.shape[1]
        return Squares(found.per_row / labels, found.noise / labels)

    return RowSquares(mean)


LABEL_MEASURES = (
    Measure("ece", "ECE", False, pooled_ece, GapsOfFewBins(errors_of_classes, gaps_of_pairs)),
    Measure("accuracy", "accuracy", True, mean_of(lambda rows: rows.correct), LabelShare()),
    _ONE_LABEL["nll"],
    replace(_ONE_LABEL["brier"], most=1.0),
    Measure("class_wise_ece", "label-wise ECE", False, class_wise_ece, Gaps(errors_of_classes, gaps_of_classes)),
    replace(
        _ONE_LABEL["brier_reliability"],
        values=_per_label(reliability),
        strategy=_squares_per_label(squares_of_reliability),
        most=1.0,
    ),
    replace(
        _ONE_LABEL["brier_resolution"],
        values=_per_label(resolution),
        strategy=_squares_per_label(squares_of_resolution),
        most=1.0,
    ),
)
OF_EACH_LABEL = tuple(measure for measure in LABEL_MEASURES if measure.key in ("ece", "accuracy", "nll", "brier"))
