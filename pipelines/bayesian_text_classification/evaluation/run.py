"""Run the frequentist model, BaaL's patched copy and the samples on the same labeled texts: from a model to arrays.

Temperature scaling is the fair baseline: one number and no extra passes. So the frequentist and the Bayesian arm also
come with a temperature, or with Platt scaling for independent labels. Their measures are for texts that it was not
fitted on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..loading.labelled_texts import LabelledTexts
from ..loading.problem import check_probabilities
from ..pipeline.calibration import SCORES, way_of
from ..pipeline.dropout_choice import groups_of
from ..pipeline.fitting import METHODS
from ..pipeline.inputs import text_key
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.probe import mean_rate
from ..pipeline.rates import Dropout, Rates
from ..pipeline.scaling import Scaling
from ..pipeline.targets import labeled
from ..wording import row_name
from .arms import Cost, Probabilities
from .baal_arm import baal_probabilities, patched_by_baal
from .comparison import Comparison, compare_outputs
from .dropout_choice import choice_in_folds, choice_on_others
from .heads import head_of
from .outputs import Calibration, Outputs
from .sample_sweep import MOST_TEXTS, POOL

ARM_MASKS = "balanced"  # dropout masks of the Bayesian arms


def compare(
    classifier: BayesianTextClassificationPipeline,
    data: LabelledTexts,
    *,
    calibration: LabelledTexts | None = None,
    out_of_scope: Sequence[Any] = (),
    num_samples: int = 20,
    dropout: Dropout = None,
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
        dropout: Dropout of the Bayesian arms, as in a call; None: the classifier's default. "auto" chooses from
            `classifier.dropout_candidates()`: on `calibration`, else on `data` in five folds of distinct texts, so that
            no text is measured with a choice that it took part in.
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
        dropout=dropout,
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
    dropout: Dropout = None,
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
    candidates = _candidates(classifier, num_samples, dropout)
    if candidates:
        run = _Sampling(classifier, num_samples, seed, advance)
        found = _with_samples(found, run, candidates, data, calibration, out_of_scope)
    if as_saved.sampling.num_samples and as_saved.sampling.posterior != "dropout":
        return _with_ensemble(found, as_saved, texts, advance)
    return _with_saved(found, as_saved)


def _candidates(
    classifier: BayesianTextClassificationPipeline, num_samples: int, dropout: Dropout
) -> tuple[Dropout, ...]:
    """What the Bayesian arms' dropout is, or is chosen from; empty if nothing is sampled."""
    if num_samples == 0:
        return ()
    if dropout == "auto":
        return classifier.dropout_candidates()
    own = Rates.of_option(classifier.sampling.dropout if dropout is None else dropout).option
    if own is None and not classifier.sites_for({"dropout": None}):
        return ()
    return (own,)  # rates that the model cannot be sampled at are refused later


@dataclass(frozen=True)
class _Sampling:
    """How the Bayesian arms are sampled."""

    classifier: BayesianTextClassificationPipeline
    passes: int
    seed: int
    advance: Callable[[int], None]

    def __call__(
        self, texts: Sequence[Any], dropout: Dropout, first: int = 0, count: int | None = None
    ) -> Probabilities:
        """The samples of some texts. *Shape:* (texts, classes, samples)."""
        return _finite(
            self.classifier.sample_proba(
                texts,
                first_sample=first,
                num_samples=self.passes if count is None else count,
                seed=self.seed,
                masks=ARM_MASKS,
                dropout=dropout,
                posterior="dropout",
                progress=self.advance,
            )
        )


def _with_samples(
    outputs: Outputs,
    sampled: _Sampling,
    candidates: tuple[Dropout, ...],
    data: LabelledTexts,
    calibration: LabelledTexts | None,
    out_of_scope: Sequence[Any],
) -> Outputs:
    """The outputs with those of BaaL's copy and of the samples. Several candidates: the dropout is chosen from them."""
    classifier, head = sampled.classifier, head_of(outputs.labels)
    if classifier.sites_for({"dropout": None}):
        outputs = _with_baal(outputs, sampled, data)

    known, outside, notes = outputs.calibration, outputs.outside, outputs.notes
    dropout, method = candidates[0], METHODS[classifier.activation][0]
    seconds: dict[Dropout, float] = {}

    def timed(dropout: Dropout) -> Probabilities:
        started = time.perf_counter()
        samples = sampled(data.texts, dropout)
        seconds[dropout] = time.perf_counter() - started
        return samples

    if known is not None and calibration is not None:
        averages = [sampled(calibration.texts, one).mean(2, dtype=np.float64) for one in candidates]
        if len(candidates) > 1:
            groups = groups_of(calibration.texts)
            choice = choice_on_others(candidates, averages, method, known.labels, groups)
            dropout, notes = choice.dropout, (*notes, choice.sentence)
        known, samples = replace(known, averaged=averages[candidates.index(dropout)]), timed(dropout)
        at_choice = samples
    elif len(candidates) > 1:
        drawn = [timed(one) for one in candidates]
        choice, samples = choice_in_folds(candidates, drawn, method, outputs.labels, groups_of(data.texts))
        dropout, notes = choice.dropout, (*notes, choice.sentence)
        at_choice = drawn[candidates.index(dropout)]
    else:
        samples = at_choice = timed(dropout)
    if dropout is not None:
        rate = "inserted with a rate of" if isinstance(dropout, float) else "at"
        own = "" if isinstance(dropout, float) else " the model's own rates"
        notes = (*notes, f"Dropout is {rate} {dropout}{own}, which the model was not trained with.")
    reached = classifier.sites_for({"dropout": dropout})
    bayesian = Cost(sampled.passes, len(reached), sum(site.calls for site in reached), seconds[dropout])

    rows = np.arange(len(data.texts))
    if len(rows) > MOST_TEXTS:
        rows = np.sort(np.random.default_rng(sampled.seed % 2**64).permutation(rows)[:MOST_TEXTS])
    pool = at_choice[rows]
    if sampled.passes < POOL:
        rest = sampled([data.texts[i] for i in rows], dropout, sampled.passes, POOL - sampled.passes)
        pool = np.concatenate([pool, rest], axis=2)
    if outside is not None:
        outside = (outside[0], sampled(out_of_scope, dropout))
    return replace(
        outputs,
        samples=samples,
        calibration=known,
        outside=outside,
        pool=pool,
        pool_rows=rows,
        one_dropout=samples is at_choice or bool(np.array_equal(samples, at_choice)),
        costs={**outputs.costs, "bayesian": bayesian, head.scaled["bayesian"]: bayesian},
        dropout="1x" if dropout is None and classifier.sampling.dropout is not None else dropout,
        dropout_rate=mean_rate(reached),
        notes=notes,
    )


def _with_baal(outputs: Outputs, sampled: _Sampling, data: LabelledTexts) -> Outputs:
    """The outputs with those of BaaL's copy of the model, at the model's own rates."""
    classifier, passes = sampled.classifier, sampled.passes
    model = patched_by_baal(classifier)
    started = time.perf_counter()
    patched, sites, calls = baal_probabilities(model, classifier, data.texts, passes, sampled.seed, sampled.advance)
    cost = Cost(passes, sites, calls, time.perf_counter() - started)
    refuse_nan(patched)
    return replace(outputs, baal=patched, costs={**outputs.costs, "baal": cost})


def _with_ensemble(
    outputs: Outputs,
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[Any],
    advance: Callable[[int], None],
) -> Outputs:
    """The outputs with the probabilities of an ensemble's default calls. All other arms are of its first model."""
    started, passes = time.perf_counter(), classifier.sampling.num_samples
    p = _finite(classifier.predict_proba(texts, progress=advance))
    cost = Cost(passes, seconds=time.perf_counter() - started)
    scaling = classifier.calibration.get(way_of(classifier.sampling))
    fitted = "without a calibration" if scaling is None else f"with the calibration that it was saved with ({scaling})"
    note = (
        f'"As saved" is the ensemble of {len(classifier.members)} models {fitted}, in {passes} passes. The other arms '
        "are of its first model."
    )
    return replace(outputs, saved=p, costs={**outputs.costs, "saved": cost}, notes=(*outputs.notes, note))


def _with_saved(outputs: Outputs, classifier: BayesianTextClassificationPipeline) -> Outputs:
    """The outputs with the probabilities of a calibrated classifier's default calls, but with this run's samples."""
    way = way_of(classifier.sampling)
    scaling, p, cost = classifier.calibration.get(way), outputs.ordinary, outputs.costs["frequentist"]
    if scaling is None:
        if not classifier.calibration:
            return outputs
        note = f"The classifier was saved with a calibration, but not for its default, {SCORES[way]}."
        return replace(outputs, notes=(*outputs.notes, note))
    made = "one ordinary pass"
    if way == "dropout":
        why = _not_measured(outputs, classifier, scaling)
        if why:
            note = f"The calibration that the classifier was saved with ({scaling}) was not measured: {why}."
            return replace(outputs, notes=(*outputs.notes, note))
        assert outputs.samples is not None
        p, cost = outputs.samples.mean(2, dtype=np.float64), outputs.costs["bayesian"]
        made = f"{cost.passes} samples with {ARM_MASKS} masks"
    saved = scaling.apply(p)
    note = f'"As saved" has the calibration that the classifier was saved with ({scaling}), on {made}.'
    return replace(outputs, saved=saved, costs={**outputs.costs, "saved": cost}, notes=(*outputs.notes, note))


def _not_measured(outputs: Outputs, classifier: BayesianTextClassificationPipeline, scaling: Scaling) -> str:
    """Why the samples do not have the saved calibration; empty if they have it."""
    if outputs.samples is None:
        return "nothing was sampled"
    if not outputs.one_dropout:
        return "the dropout was chosen for each fifth of the texts"
    measured = replace(classifier.sampling, masks=ARM_MASKS, dropout=outputs.dropout)
    if scaling.is_for(measured, outputs.dropout_rate):
        return ""
    return f"the samples here have {classifier.sampling.other_draws(measured) or 'another mean dropout rate'}"


def total_rows(
    classifier: BayesianTextClassificationPipeline,
    data: LabelledTexts,
    *,
    calibration: LabelledTexts | None = None,
    out_of_scope: Sequence[Any] = (),
    num_samples: int = 20,
    dropout: Dropout = None,
) -> int:
    """Number of rows (a text in one pass) that `compare` runs with these arguments."""
    texts, others, outside = len(data.texts), 0 if calibration is None else len(calibration.texts), len(out_of_scope)
    rows, count = texts + others + outside, len(_candidates(classifier, num_samples, dropout))
    if count:
        baal = texts if classifier.sites_for({"dropout": None}) else 0
        of_arms = texts + others * count if others else texts * count
        rows += num_samples * (baal + of_arms + outside)
        rows += max(POOL - num_samples, 0) * min(texts, MOST_TEXTS)
    if classifier.sampling.posterior != "dropout":
        rows += texts * classifier.sampling.num_samples
    return rows


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
