"""Measures by key, and models whose measures and differences have intervals to test."""

import numpy as np
from bayesian_text_classification.evaluation.statistics.estimates import difference, resample
from bayesian_text_classification.evaluation.statistics.measures import MEASURES
from bayesian_text_classification.evaluation.statistics.predictions import Predictions

MEASURE = {measure.key: measure for measure in MEASURES}


def beside(measure, rows, base):
    """Difference of a measure whose interval has a closed form."""
    return difference(measure, *(resample(one, measures=[]) for one in (rows, base)))


def chances(logits):
    """The probabilities of two classes. *Shape:* (rows, 2, ...)."""
    p = 1 / (1 + np.exp(-logits))
    return np.stack([1 - p, p], 1)


def truth(rows, seed, spread=2):
    """A generator, logits of the second of two classes, and labels that follow them."""
    random = np.random.default_rng(seed)
    z = random.normal(0, spread, rows)
    return random, z, (random.random(rows) < 1 / (1 + np.exp(-z))).astype(int)


def pair(rows, seed, tilt=0.0, noise=0.3):
    """Two models on the same labels, with separate noise. The first model's logits are 1 + `tilt` times as large."""
    random, z, labels = truth(rows, seed, 1.5)

    def scored(factor):
        return Predictions.of(chances(factor * (1.3 * z + noise * random.normal(size=rows))), labels)

    return scored(1.0 + tilt), scored(1.0)
