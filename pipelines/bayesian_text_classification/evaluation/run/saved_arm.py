"""The arm of the calibration that a classifier was saved with."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...pipeline.calibration import SCORES, way_of
from ...pipeline.pipeline import BayesianTextClassificationPipeline
from ...pipeline.scaling import Scaling
from ..arms import ARM_MASKS, Cost
from ..outputs import Outputs
from .nan import refuse_nan


def own_passes(classifier: BayesianTextClassificationPipeline) -> int:
    """Passes per text of the classifier's default calls, if no other arm has them, as for an ensemble with dropout."""
    options = classifier.sampling
    return options.num_samples if options.posterior == "ensemble+dropout" else 0


def with_saved(
    outputs: Outputs,
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[Any],
    advance: Callable[[int], None],
) -> Outputs:
    """The outputs with the probabilities of the classifier's default calls, if they are not those of another arm.

    A saved calibration is measured on the samples of this run.
    """
    way = way_of(classifier.sampling)
    scaling, p, cost = classifier.calibration.get(way), outputs.ordinary, outputs.costs["frequentist"]
    if own_passes(classifier):
        return _with_own_passes(outputs, classifier, texts, advance)
    if scaling is None:
        if not classifier.calibration:
            return outputs
        note = f"The classifier was saved with a calibration, but not for its default, {SCORES[way]}."
        return replace(outputs, notes=(*outputs.notes, note))
    why = _not_measured(outputs, classifier, scaling)
    if why:
        note = f"The calibration that the classifier was saved with ({scaling}) was not measured: {why}."
        return replace(outputs, notes=(*outputs.notes, note))
    made = "one ordinary pass"
    if way == "ensemble":
        assert outputs.members is not None
        p, cost = outputs.members.samples.mean(2, dtype=np.float64), outputs.costs["ensemble"]
        made = f"one pass of each of {cost.passes} models"
    elif way == "dropout":
        assert outputs.samples is not None
        p, cost = outputs.samples.mean(2, dtype=np.float64), outputs.costs["bayesian"]
        made = f"{cost.passes} samples with {ARM_MASKS} masks"
    saved = scaling.apply(p)
    note = (
        f'"As saved" has the calibration that the classifier was saved with ({scaling}), on {made}. If it was fitted '
        "on these texts, it looks better than it is."
    )
    return replace(outputs, saved=saved, costs={**outputs.costs, "saved": cost}, notes=(*outputs.notes, note))


def _with_own_passes(
    outputs: Outputs,
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[Any],
    advance: Callable[[int], None],
) -> Outputs:
    started = time.perf_counter()
    p = refuse_nan(classifier.predict_proba(texts, progress=advance))
    cost = Cost(own_passes(classifier), seconds=time.perf_counter() - started)
    scaling = classifier.calibration.get(way_of(classifier.sampling))
    fitted = "without a calibration" if scaling is None else f"with the calibration that it was saved with ({scaling})"
    posterior = f'posterior="{classifier.sampling.posterior}"'
    note = f'"As saved" is the classifier {fitted}, in {cost.passes} passes ({posterior}).'
    return replace(outputs, saved=p, costs={**outputs.costs, "saved": cost}, notes=(*outputs.notes, note))


def _not_measured(outputs: Outputs, classifier: BayesianTextClassificationPipeline, scaling: Scaling) -> str:
    """Why the saved calibration does not fit what was run; empty if it does."""
    way = way_of(classifier.sampling)
    if way == "ensemble":
        return "the ensemble did not run" if outputs.members is None else ""
    if way == "ordinary":
        return ""
    if outputs.samples is None:
        return "nothing was sampled"
    if not outputs.one_dropout:
        return "the dropout was chosen for each fifth of the texts"
    measured = replace(classifier.sampling, masks=ARM_MASKS, dropout=outputs.dropout)
    if scaling.is_for(measured, outputs.dropout_rate):
        return ""
    return f"the samples here have {classifier.sampling.other_draws(measured) or 'another mean dropout rate'}"
