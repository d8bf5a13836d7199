"""Run the frequentist model, BaaL's patched copy and the samples on the same labeled texts: from a model to arrays.

Temperature scaling is the fair baseline: one number and no extra passes. So the frequentist and the Bayesian arm also
come with a temperature, or with Platt scaling for independent labels. Their measures are for texts that it was not
fitted on.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...loading.labeled_texts import LabeledTexts
from ...loading.problem import check_probabilities
from ...pipeline.dropout_choice import groups_of
from ...pipeline.fitting import METHODS
from ...pipeline.inputs import text_key
from ...pipeline.pipeline import BayesianTextClassificationPipeline
from ...pipeline.probe import DropoutSite, mean_rate
from ...pipeline.progress import progress_bar
from ...pipeline.rates import Dropout, Rates
from ...pipeline.targets import labeled
from ..arms import ARM_MASKS, OPTIONAL_ARMS, Arm, Cost, OptionalArm, Probabilities
from ..comparison import Comparison, GrowingComparison
from ..dropout_choice import choice_in_folds, choice_on_others
from ..heads import head_of
from ..outputs import Calibration, Outputs
from ..sample_sweep import rows_of_sweep
from .baal_arm import baal_probabilities, patched_by_baal
from .ensemble_arm import with_members
from .nan import refuse_nan
from .novelty import with_novelty, with_scope
from .saved_arm import notes_of_threshold, own_passes, with_saved
from .student_arm import check_student, check_unseen, with_student


def compare(
    classifier: BayesianTextClassificationPipeline,
    data: LabeledTexts,
    *,
    calibration: LabeledTexts | None = None,
    out_of_scope: Sequence[Any] = (),
    scope: Sequence[Any] = (),
    scope_held_out: Sequence[Any] | None = None,
    num_samples: int = 20,
    sweep: int = 0,
    dropout: Dropout = None,
    arms: Collection[OptionalArm] = OPTIONAL_ARMS,
    student: BayesianTextClassificationPipeline | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    on_arm: Callable[[Arm], None] | None = None,
) -> Comparison:
    """Run the arms on the same texts, measure them on the same resamples, and sweep the number of samples.

    Args:
        classifier: A classifier whose scores are probabilities: of one label among several, or of independent labels.
            An ensemble (`load([...])`) gets arms of its own; all other arms are of its first model.
        data: Labeled texts.
        calibration: Other labeled texts to fit the scalings on. Without them, they are fitted on `data`, and the
            measures are corrected for that; see `Temperatures`.
        out_of_scope: Texts that the classifier was not built for.
        scope: Texts like those that it was built for, to measure how well novelty detects the others
            (`learn_scope`). Measured texts among them are left out. Without them, a saved scope is measured.
        scope_held_out: Other such texts, which it was not trained on; None: half of `scope`.
        num_samples: Number of passes of the BaaL arm and of the Bayesian arms. Without dropout, or for 0, there are no
            such arms.
        sweep: Number of further passes, for a longer and finer curve of the effect of the number of samples. They run
            on at most 2,000 texts.
        dropout: Dropout of the Bayesian arms, as in a call; None: the classifier's default. "auto" chooses from
            `classifier.dropout_candidates()`: on `calibration`, else on `data` in five folds of distinct texts, so that
            no text is measured with a choice that it took part in.
        arms: What to run besides the ordinary model, where there is such an arm: "baal", "bayesian", "ensemble".
        student: A second model with the same labels (matched by name), such as one that `distill` made of the first. It
            gets arms of its own, of one ordinary pass. The measured texts must not be among those that it was made
            from.
        seed: Seed of both arms' dropout, of the resamples and of the sample orders in the sweep.
        progress: Function that is called with the number of rows done (a row is one text in one pass). `total_rows`
            gives the total. None: a bar appears after 5 seconds, in a terminal or a notebook.
        on_arm: Function that is called with each arm as soon as it is measured, in the order of `Comparison.arms`; the
            ordinary model's comes first, after one pass (and after the scope, if there is one).

    Raises:
        ValueError: The classifier's scores are not probabilities (a regression model), or are NaN; an arm is unknown;
            or the student has other labels, or was distilled on a measured text.
    """
    growing = GrowingComparison(seed, others=calibration is not None)
    for outputs in _stages(
        classifier,
        data,
        calibration,
        out_of_scope,
        (scope, scope_held_out),
        num_samples,
        sweep,
        dropout,
        arms,
        student,
        seed,
        progress,
    ):
        for arm in growing.add(outputs):
            if on_arm is not None:
                on_arm(arm)
    return growing.whole()


def outputs_of(
    classifier: BayesianTextClassificationPipeline,
    data: LabeledTexts,
    *,
    calibration: LabeledTexts | None = None,
    out_of_scope: Sequence[Any] = (),
    scope: Sequence[Any] = (),
    scope_held_out: Sequence[Any] | None = None,
    num_samples: int = 20,
    sweep: int = 0,
    dropout: Dropout = None,
    arms: Collection[OptionalArm] = OPTIONAL_ARMS,
    student: BayesianTextClassificationPipeline | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Outputs:
    """Compute the arrays of `compare`, which documents the arguments and the errors.

    The further passes of the sweep continue the Bayesian arm's samples. The two Bayesian arms share their passes, and
    so do the two frequentist arms and the two of a student. With a scope, there is one more ordinary pass, for novelty.
    """
    *_, outputs = _stages(
        classifier,
        data,
        calibration,
        out_of_scope,
        (scope, scope_held_out),
        num_samples,
        sweep,
        dropout,
        arms,
        student,
        seed,
        progress,
    )
    return outputs


def _stages(
    classifier: BayesianTextClassificationPipeline,
    data: LabeledTexts,
    calibration: LabeledTexts | None,
    out_of_scope: Sequence[Any],
    scope: tuple[Sequence[Any], Sequence[Any] | None],
    num_samples: int,
    sweep: int,
    dropout: Dropout,
    arms: Collection[OptionalArm],
    student: BayesianTextClassificationPipeline | None,
    seed: int,
    progress: Callable[[int], None] | None,
) -> Iterator[Outputs]:
    """Yield the outputs so far, each time with those of a further arm."""
    if unknown := set(arms) - set(OPTIONAL_ARMS):
        raise ValueError(f"arms={sorted(unknown)}; they must be some of {', '.join(map(repr, OPTIONAL_ARMS))}")
    activation = check_probabilities(classifier)
    candidates = _candidates(classifier, num_samples, dropout, arms)
    if sweep and not candidates:
        why = _why_unsampled(num_samples, arms)
        raise ValueError(f"sweep={sweep} takes further samples, and nothing is sampled: {why}")
    if len(scope[0]) and not out_of_scope:
        raise ValueError("scope needs out_of_scope: texts that the scope is to tell apart")
    texts, labels = labeled(data.texts, data.labels, classifier.model.config, activation)
    names = [str(classifier.model.config.id2label[i]) for i in range(classifier.model.config.num_labels)]
    if activation == "sigmoid" and len(set(names)) < len(names):
        raise ValueError("two labels of the model have the same name; give every label its own in config.id2label")

    check_unseen("classifier", classifier, texts, out_of_scope)
    if student is not None:
        check_student(student, classifier, texts, out_of_scope)

    more: dict[str, Any] = {"calibration": calibration, "out_of_scope": out_of_scope, "num_samples": num_samples}
    more |= {"sweep": sweep, "dropout": dropout, "arms": arms, "scope": scope[0], "scope_held_out": scope[1]}
    more["student"] = student
    total = total_rows(classifier, data, **more) if progress is None else None
    as_saved, classifier = classifier, classifier.uncalibrated()
    with progress_bar(progress, total) as advance:

        def ordinary(texts: Sequence[Any]) -> Probabilities:
            return refuse_nan(classifier.predict_proba(texts, num_samples=0, progress=advance))

        scoped, notes = with_scope(as_saved, [*texts, *out_of_scope], *scope, advance)
        started = time.perf_counter()
        point = ordinary(texts)
        frequentist = Cost(1, seconds=time.perf_counter() - started)
        costs: dict[str, Cost] = {"frequentist": frequentist, head_of(labels).scaled["frequentist"]: frequentist}
        found = Outputs(
            labels,
            point,
            costs=costs,
            groups=np.asarray(list(map(text_key, texts))),
            names=names,
            unsampled=_why_unsampled(num_samples, arms),
            notes=(*notes, *notes_of_threshold(as_saved)),
        )
        yield found
        given = None
        if calibration is not None:
            others = set(map(text_key, calibration.texts))
            shared = sum(text_key(text) in others for text in texts)
            given, known_labels = labeled(calibration.texts, calibration.labels, classifier.model.config, activation)
            found = replace(found, calibration=Calibration(known_labels, ordinary(given), shared=shared))
            yield found
        if out_of_scope:
            groups = np.asarray(list(map(text_key, out_of_scope)))
            found = replace(found, outside=(ordinary(out_of_scope), None), outside_groups=groups)
            found = with_novelty(found, scoped, texts, out_of_scope, advance)
        if student is not None:
            found = with_student(found, student, classifier, texts, given, out_of_scope, advance)
            yield found
        run = _Sampling(classifier, num_samples, sweep, seed, advance)
        if _has_baal(classifier, num_samples, arms):
            found = _with_baal(found, run, data)
            yield found
        if candidates:
            found = _with_samples(found, run, candidates, data, calibration, out_of_scope)
            yield found
        if "ensemble" in arms and len(classifier.members) > 1:
            found = with_members(found, classifier, texts, given, out_of_scope, advance)
            yield found
        passes = own_passes(as_saved, num_samples, dropout, bool(candidates))
        yield with_saved(found, as_saved, texts, passes, seed, advance)


def _why_unsampled(num_samples: int, arms: Collection[OptionalArm]) -> str:
    """Why there are no samples, if there are none."""
    if num_samples == 0:
        return "num_samples is 0."
    if "bayesian" not in arms:
        return "the Bayesian arm was left out."
    return (
        "the model has no active dropout. To see what sampling would do to it, pass --dropout 0.1, or --dropout auto "
        "to choose the rate (the argument dropout in Python)."
    )


def _sites(classifier: BayesianTextClassificationPipeline, dropout: Dropout) -> list[DropoutSite]:
    """Where a sampled pass of the (first) model applies dropout."""
    return list(classifier.sites_for({"posterior": "dropout", "dropout": dropout}))


def _has_baal(classifier: BayesianTextClassificationPipeline, num_samples: int, arms: Collection[OptionalArm]) -> bool:
    """Whether there is BaaL's arm, at the model's own rates."""
    return num_samples > 0 and "baal" in arms and bool(_sites(classifier, None))


def _candidates(
    classifier: BayesianTextClassificationPipeline, num_samples: int, dropout: Dropout, arms: Collection[OptionalArm]
) -> tuple[Dropout, ...]:
    """What the Bayesian arms' dropout is, or is chosen from; empty if there are no such arms."""
    if num_samples == 0 or "bayesian" not in arms:
        return ()
    if dropout == "auto":
        return classifier.dropout_candidates()
    own = Rates.of_option(classifier.sampling.dropout if dropout is None else dropout).option
    if own is None and not _sites(classifier, None):
        return ()
    return (own,)  # rates that the model cannot be sampled at are refused later


@dataclass(frozen=True)
class _Sampling:
    """How the Bayesian arms are sampled."""

    classifier: BayesianTextClassificationPipeline
    passes: int
    further: int
    seed: int
    advance: Callable[[int], None]

    def __call__(
        self, texts: Sequence[Any], dropout: Dropout, first: int = 0, count: int | None = None
    ) -> Probabilities:
        """The samples of some texts. *Shape:* (texts, classes, samples)."""
        return refuse_nan(
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
    data: LabeledTexts,
    calibration: LabeledTexts | None,
    out_of_scope: Sequence[Any],
) -> Outputs:
    """The outputs with those of the samples. Several candidates: the dropout is chosen from them."""
    classifier, head = sampled.classifier, head_of(outputs.labels)
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
    reached = _sites(classifier, dropout)
    bayesian = Cost(sampled.passes, len(reached), sum(site.calls for site in reached), seconds[dropout])

    one_dropout = samples is at_choice or bool(np.array_equal(samples, at_choice))
    pool, rows = None, rows_of_sweep(len(data.texts), sampled.seed)
    if sampled.further:
        rest = sampled([data.texts[i] for i in rows], dropout, sampled.passes, sampled.further)
        pool = np.concatenate([at_choice[rows], rest], axis=2)
    elif not one_dropout and sampled.passes > 1:
        pool = at_choice[rows]
    if outside is not None:
        outside = (outside[0], sampled(out_of_scope, dropout))
    return replace(
        outputs,
        samples=samples,
        calibration=known,
        outside=outside,
        pool=pool,
        pool_rows=None if pool is None else rows,
        one_dropout=one_dropout,
        costs={**outputs.costs, "bayesian": bayesian, head.scaled["bayesian"]: bayesian},
        dropout="1x" if dropout is None and classifier.sampling.dropout is not None else dropout,
        dropout_rate=mean_rate(reached),
        notes=notes,
    )


def _with_baal(outputs: Outputs, sampled: _Sampling, data: LabeledTexts) -> Outputs:
    """The outputs with those of BaaL's copy of the model, at the model's own rates."""
    classifier, passes = sampled.classifier, sampled.passes
    model = patched_by_baal(classifier)
    started = time.perf_counter()
    patched, sites, calls = baal_probabilities(model, classifier, data.texts, passes, sampled.seed, sampled.advance)
    cost = Cost(passes, sites, calls, time.perf_counter() - started)
    return replace(outputs, baal=refuse_nan(patched), costs={**outputs.costs, "baal": cost})


def total_rows(
    classifier: BayesianTextClassificationPipeline,
    data: LabeledTexts,
    *,
    calibration: LabeledTexts | None = None,
    out_of_scope: Sequence[Any] = (),
    scope: Sequence[Any] = (),
    scope_held_out: Sequence[Any] | None = None,
    num_samples: int = 20,
    sweep: int = 0,
    dropout: Dropout = None,
    arms: Collection[OptionalArm] = OPTIONAL_ARMS,
    student: BayesianTextClassificationPipeline | None = None,
) -> int:
    """Number of rows (a text in one pass) that `compare` runs with these arguments."""
    texts, others, outside = len(data.texts), 0 if calibration is None else len(calibration.texts), len(out_of_scope)
    rows = (texts + others + outside) * (1 if student is None else 2)
    if outside and (scope or classifier.scope is not None):
        rows += texts + outside + len(scope) + len(scope_held_out or ())
    count = len(_candidates(classifier, num_samples, dropout, arms))
    if _has_baal(classifier, num_samples, arms):
        rows += num_samples * texts
    if count:
        of_arms = texts + others * count if others else texts * count
        rows += num_samples * (of_arms + outside) + sweep * len(rows_of_sweep(texts, 0))
    if "ensemble" in arms and len(classifier.members) > 1:
        rows += len(classifier.members) * (texts + others + outside)
    return rows + texts * own_passes(classifier, num_samples, dropout, count > 0)
