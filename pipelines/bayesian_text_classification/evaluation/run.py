"""Run the frequentist model, BaaL's patched copy and the samples on the same labeled texts: from a model to arrays.

Temperature scaling is the fair baseline: one number and no extra passes. So the frequentist and the Bayesian arm also
come with a temperature, or with Platt scaling for independent labels. Their measures are for texts that it was not
fitted on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..loading.labelled_texts import LabelledTexts
from ..loading.problem import check_probabilities
from ..pipeline.calibration import SCORES, way_of
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.probe import mean_rate
from ..pipeline.targets import labeled
from ..wording import row_name, text_key
from .arms import Cost, Probabilities
from .baal_arm import baal_probabilities, patched_by_baal
from .comparison import Calibration, Comparison, Outputs, compare_outputs
from .heads import head_of
from .sample_sweep import MOST_TEXTS, POOL

ARM_MASKS = "balanced"  # dropout masks of the Bayesian arms


def compare(
    classifier: BayesianTextClassificationPipeline,
    data: LabelledTexts,
    *,
    calibration: LabelledTexts | None = None,
    out_of_scope: Sequence[Any] = (),
    num_samples: int = 20,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Run the arms on the same texts, measure them on the same resamples, and sweep the number of samples.

    Args:
        classifier: A classifier whose scores are probabilities: of one label among several, or of independent labels.
        data: Labeled texts.
        calibration: Other labeled texts to fit the scalings on. Without them, they are fitted on `data`, and the
            measures are corrected for that; see `Temperatures`.
        out_of_scope: Texts that the classifier was not built for.
        num_samples: Number of passes of the BaaL arm and of the Bayesian arms. Without dropout, or for 0, there are no
            such arms.
        seed: Seed of both arms' dropout, of the resamples and of the sample orders in the sweep.
        progress: Function that is called with the number of rows done (a row is one text in one pass). `total_rows`
            gives the total.

    Raises:
        ValueError: The classifier's scores are not probabilities (a regression model), or are NaN.
    """
    outputs = outputs_of(
        classifier,
        data,
        calibration=calibration,
        out_of_scope=out_of_scope,
        num_samples=num_samples,
        seed=seed,
        progress=progress,
    )
    return compare_outputs(outputs, seed=seed)


def outputs_of(
    classifier: BayesianTextClassificationPipeline,
    data: LabelledTexts,
    *,
    calibration: LabelledTexts | None = None,
    out_of_scope: Sequence[Any] = (),
    num_samples: int = 20,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Outputs:
    """Compute the arrays of `compare`, which documents the arguments and the errors.

    The pool of the sweep continues the Bayesian arm's samples. Each pass runs once: the two Bayesian arms share their
    passes, and so do the two frequentist arms.
    """
    activation = check_probabilities(classifier)
    advance, as_saved, classifier = progress or (lambda rows: None), classifier, classifier.uncalibrated()
    texts, labels = labeled(data.texts, data.labels, classifier.model.config, activation)

    names = [str(classifier.model.config.id2label[i]) for i in range(classifier.model.config.num_labels)]
    if activation == "sigmoid" and len(set(names)) < len(names):
        raise ValueError("two labels of the model have the same name; give every label its own in config.id2label")

    def ordinary(texts: Sequence[Any]) -> Probabilities:
        return _finite(classifier.predict_proba(texts, num_samples=0, progress=advance))

    started = time.perf_counter()
    point = ordinary(texts)
    frequentist = Cost(1, seconds=time.perf_counter() - started)
    costs: dict[str, Cost] = {"frequentist": frequentist, head_of(labels).scaled["frequentist"]: frequentist}
    known = None
    if calibration is not None:
        others = set(map(text_key, calibration.texts))
        shared = sum(text_key(text) in others for text in texts)
        given, known_labels = labeled(calibration.texts, calibration.labels, classifier.model.config, activation)
        known = Calibration(known_labels, ordinary(given), shared=shared)
    found = Outputs(
        labels,
        point,
        calibration=known,
        outside=(ordinary(out_of_scope), None) if out_of_scope else None,
        costs=costs,
        groups=np.asarray(list(map(text_key, texts))),
        names=names,
        outside_groups=np.asarray(list(map(text_key, out_of_scope))) if out_of_scope else None,
    )
    if num_samples and classifier.dropout_sites:
        found = _with_samples(found, classifier, data, calibration, out_of_scope, num_samples, seed, advance)
    return _with_saved(found, as_saved)


def _with_samples(
    outputs: Outputs,
    classifier: BayesianTextClassificationPipeline,
    data: LabelledTexts,
    calibration: LabelledTexts | None,
    out_of_scope: Sequence[Any],
    num_samples: int,
    seed: int,
    advance: Callable[[int], None],
) -> Outputs:
    """The outputs with those of BaaL's copy and of the samples."""

    def sampled(texts: Sequence[Any], first: int = 0, count: int = num_samples) -> Probabilities:
        options: dict[str, Any] = {"first_sample": first, "num_samples": count, "seed": seed, "masks": ARM_MASKS}
        return _finite(classifier.sample_proba(texts, progress=advance, **options))

    model = patched_by_baal(classifier)
    started = time.perf_counter()
    patched, sites, calls = baal_probabilities(model, classifier, data.texts, num_samples, seed, advance)
    baal = Cost(num_samples, sites, calls, time.perf_counter() - started)
    refuse_nan(patched)

    started = time.perf_counter()
    samples = sampled(data.texts)
    seconds, reached = time.perf_counter() - started, classifier.dropout_sites
    bayesian = Cost(num_samples, len(reached), sum(site.calls for site in reached), seconds)

    rows = np.arange(len(data.texts))
    if len(rows) > MOST_TEXTS:
        rows = np.sort(np.random.default_rng(seed % 2**64).permutation(rows)[:MOST_TEXTS])
    pool = samples[rows]
    if num_samples < POOL:
        rest = sampled([data.texts[i] for i in rows], num_samples, POOL - num_samples)
        pool = np.concatenate([pool, rest], axis=2)

    known, outside = outputs.calibration, outputs.outside
    if known is not None and calibration is not None:
        known = replace(known, averaged=sampled(calibration.texts).mean(2, dtype=np.float64))
    if outside is not None:
        outside = (outside[0], sampled(out_of_scope))
    return replace(
        outputs,
        samples=samples,
        baal=patched,
        calibration=known,
        outside=outside,
        pool=pool,
        pool_rows=rows,
        costs={
            **outputs.costs,
            "baal": baal,
            "bayesian": bayesian,
            head_of(outputs.labels).scaled["bayesian"]: bayesian,
        },
        dropout_rate=mean_rate(reached),
    )


def _with_saved(outputs: Outputs, classifier: BayesianTextClassificationPipeline) -> Outputs:
    """The outputs with the probabilities of a calibrated classifier's default calls, but with this run's samples."""
    way = way_of(classifier.sampling)
    scaling, p, cost = classifier.calibration.get(way), outputs.ordinary, outputs.costs["frequentist"]
    if scaling is None:
        if not classifier.calibration:
            return outputs
        note = f"The classifier was saved with a calibration, but not for its default, {SCORES[way]}."
        return replace(outputs, notes=(note,))
    made = "one ordinary pass"
    if way == "dropout":
        measured = replace(classifier.sampling, masks=ARM_MASKS)
        if outputs.samples is None or not scaling.is_for(measured, outputs.dropout_rate):
            note = (
                f"The calibration that the classifier was saved with ({scaling}) was not measured: "
                f"{'nothing was sampled' if outputs.samples is None else f'the samples here have {ARM_MASKS} masks'}."
            )
            return replace(outputs, notes=(note,))
        p, cost = outputs.samples.mean(2, dtype=np.float64), outputs.costs["bayesian"]
        made = f"{cost.passes} samples with {ARM_MASKS} masks"
    saved = scaling.apply(p)
    note = f'"As saved" has the calibration that the classifier was saved with ({scaling}), on {made}.'
    return replace(outputs, saved=saved, costs={**outputs.costs, "saved": cost}, notes=(note,))


def total_rows(texts: int, num_samples: int, other_texts: int = 0) -> int:
    """Number of rows (a text in one pass) that `compare` runs; `other_texts` are for calibration and out of scope."""
    own = texts * (1 + 2 * num_samples) + other_texts * (1 + num_samples)
    return own + (max(POOL - num_samples, 0) * min(texts, MOST_TEXTS) if num_samples else 0)


def refuse_nan(probabilities: Probabilities) -> None:
    """Raise ValueError that names the first text whose probabilities are NaN. *Shape:* (texts, ...)."""
    (bad,) = np.nonzero(np.isnan(probabilities).reshape(len(probabilities), -1).any(1))
    if bad.size:
        raise ValueError(
            f"the model's probabilities are NaN for {bad.size} of {len(probabilities)} texts, first for "
            f"{row_name(int(bad[0]))}; its weights are damaged or need a wider dtype"
        )


def _finite(probabilities: Probabilities) -> Probabilities:
    refuse_nan(probabilities)
    return probabilities
