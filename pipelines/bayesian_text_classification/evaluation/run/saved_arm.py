"""The arm of the calibration that a classifier was saved with."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...pipeline.calibration import SCORES, Way, way_of
from ...pipeline.fitting import Method, fit
from ...pipeline.pipeline import BayesianTextClassificationPipeline
from ...pipeline.rates import Dropout
from ...pipeline.scaling import Scaling, TemperatureScaling
from ..arms import ARM_MASKS, Cost, Labels, Probabilities
from ..outputs import Outputs
from .nan import refuse_nan


def own_passes(
    classifier: BayesianTextClassificationPipeline, num_samples: int, dropout: Dropout, sampled: bool
) -> int:
    """Passes per text that the arm needs besides those of the other arms; with a tolerance, the most.

    The other arguments are those of the run, and whether it samples with dropout at all.
    """
    options = classifier.sampling
    if options.posterior == "ensemble+dropout":
        return options.num_samples
    if not sampled or way_of(options) != "dropout" or classifier.calibration.get("dropout") is None:
        return 0
    of_run = (num_samples, None, ARM_MASKS, options.dropout if dropout is None else dropout)
    same = (options.num_samples, options.tolerance, options.masks, options.dropout) == of_run
    return 0 if same else options.num_samples


def notes_of_threshold(classifier: BayesianTextClassificationPipeline) -> tuple[str, ...]:
    """A note if the classifier was saved with a threshold."""
    if classifier.threshold is None:
        return ()
    return (
        f"The classifier was saved with threshold={classifier.threshold!r}. All texts are measured, including those "
        "below it. Of the code for the arms, only that of the classifier as saved keeps it.",
    )


def with_saved(
    outputs: Outputs,
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[Any],
    passes: int,
    seed: int,
    advance: Callable[[int], None],
) -> Outputs:
    """The outputs with the probabilities of the classifier's default calls, if they are not those of another arm.

    `passes` are its `own_passes`. There is no such arm if the calibration was fitted on these texts: it would be
    measured on what it has seen, beside arms that were not.
    """
    way, apart = way_of(classifier.sampling), classifier.sampling.posterior == "ensemble+dropout"
    saved = classifier.calibration.get(way)
    if saved is None and not apart:
        return _without(outputs, classifier, way)
    if why := _not_measured(outputs, way):
        note = f"The calibration that the classifier was saved with ({saved}) was not measured: {why}."
        return replace(outputs, notes=(*outputs.notes, note))
    scaling = None if saved is None else classifier.scaling_for({})
    if scaling is None and not apart:
        return _without(outputs, classifier, way)
    p, cost = outputs.ordinary, outputs.costs["frequentist"]
    if passes:
        started = time.perf_counter()
        p, used = _own_scores(classifier, texts, seed, advance)
        cost = Cost(used, seconds=time.perf_counter() - started)
    elif way == "ensemble":
        assert outputs.members is not None
        p, cost = outputs.members.samples.mean(2, dtype=np.float64), outputs.costs["ensemble"]
    elif way == "dropout":
        assert outputs.samples is not None
        p, cost = outputs.samples.mean(2, dtype=np.float64), outputs.costs["bayesian"]
    stops = classifier.sampling.tolerance is not None
    if scaling is not None and not stops and _was_fitted_on(scaling, p, outputs.labels):
        note = (
            f"The calibration that the classifier was saved with ({scaling}) was fitted on these texts, so there is no "
            'arm "As saved": it would look better than it is.'
        )
        return replace(outputs, notes=(*outputs.notes, note))
    fitted = "without a calibration" if scaling is None else f"with the calibration that it was saved with ({scaling})"
    note = f'"As saved" is the classifier {fitted}, on {_made(classifier, way, cost)}.'
    if scaling is not None:
        note += " If it was fitted on some of these texts, it looks better than it is."
        p = p if stops else scaling.apply(p)
    return replace(outputs, saved=p, costs={**outputs.costs, "saved": cost}, notes=(*outputs.notes, note))


def _without(outputs: Outputs, classifier: BayesianTextClassificationPipeline, way: Way) -> Outputs:
    """The outputs without the arm: no calibration is for default calls."""
    if not classifier.calibration:
        return outputs
    note = f"The classifier was saved with a calibration, but not for its default, {SCORES[way]}."
    return replace(outputs, notes=(*outputs.notes, note))


def _own_scores(
    classifier: BayesianTextClassificationPipeline, texts: Sequence[Any], seed: int, advance: Callable[[int], None]
) -> tuple[Probabilities, int]:
    """Probabilities of default calls, and the mean number of passes per text, rounded.

    They have their scaling only if there is a tolerance, because sampling stops by the standard error of scaled scores.
    """
    done = 0

    def count(rows: int) -> None:
        nonlocal done
        done += rows
        advance(rows)

    called = classifier.uncalibrated() if classifier.sampling.tolerance is None else classifier
    p = refuse_nan(called.predict_proba(texts, seed=seed, progress=count))
    return p, max(round(done / len(texts)), 1)


def _was_fitted_on(scaling: Scaling, p: Probabilities, labels: Labels) -> bool:
    """Whether these texts give the same scaling again."""
    method: Method = "platt" if scaling.activation == "sigmoid" else "temperature"
    if isinstance(scaling, TemperatureScaling) and scaling.biases:
        method = "bias-corrected"
    numbers = fit(method, p, labels).numbers
    return len(numbers) == len(scaling.numbers) and bool(np.allclose(numbers, scaling.numbers, rtol=1e-3, atol=1e-4))


def _made(classifier: BayesianTextClassificationPipeline, way: Way, cost: Cost) -> str:
    """What its scores are made of."""
    options = classifier.sampling
    if way == "ordinary":
        return "one ordinary pass"
    if way == "ensemble":
        return f"one pass of each of {cost.passes} models"
    dropout = "" if options.dropout is None else f" (dropout={options.dropout!r})"
    samples = f"{cost.passes} sample{'s' * (cost.passes != 1)} with {options.masks} masks{dropout}"
    if options.tolerance is not None:
        return f"{samples} on average, until the standard error is below {options.tolerance:g}"
    return samples if way == "dropout" else f'{samples} (posterior="{way}")'


def _not_measured(outputs: Outputs, way: Way) -> str:
    """Why the saved calibration cannot be measured in this run; empty if it can."""
    if way == "ensemble":
        return "the ensemble did not run" if outputs.members is None else ""
    return "nothing was sampled" if way == "dropout" and outputs.samples is None else ""
