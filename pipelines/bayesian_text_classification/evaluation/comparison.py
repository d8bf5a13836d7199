"""From arrays to a comparison: arms, measures, verdicts on differences, a recommendation. No model, no timing."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pipeline.masks import GROUP_SIZE
from ..pipeline.rates import Dropout
from ..pipeline.uncertainty import Uncertainty
from .arms import Arm, Cost, Labels, MeasuredArms, Probabilities, of_student
from .fits import Fit
from .heads import CONFIDENCE, ArmName, Head, head_of
from .out_of_scope import BOTH, NOVELTY, Detection, detect, mean_ranks
from .outputs import NO_SAMPLES, Novelty, Outputs, numbered
from .prediction_sets import MeasuredSets, measured_sets
from .recommendation import Recommendation, recommendation
from .sample_sweep import Sweep, rows_of_sweep, sample_sweep
from .statistics.intervals import Difference, distinct

LEVEL = 0.05  # share of the in-scope texts that a scope may refuse


@dataclass(frozen=True)
class Comparison:
    """The arms, the effect of sampling on top of a scaling, and the sample sweep.

    Attributes:
        labels: True labels, in the form of `Outputs`. *Shape:* (texts,) or (texts, labels).
        arms: The arms in this order: frequentist, frequentist_temperature, student and student_temperature (if there is
            a student), baal (if it was run), bayesian and bayesian_temperature (if there are samples), ensemble and
            ensemble_temperature (if there are several models), saved (if the classifier was saved with a calibration).
            For independent labels, "platt" takes the place of "temperature".
        beyond_temperature: For "student", "bayesian" and "ensemble", if there are such arms: each measure of the arm
            with a scaling minus that of the frequentist arm with one, by its key.
        uncertainty: Uncertainty of each text, from the Bayesian arm's samples; None without samples.
        out_of_scope: How well each score detects the out-of-scope texts. Empty if none were given.
        novelty: Their novelty, and that of the measured texts; None without a scope.
        sets: The arms' prediction sets; None if they were not measured (`with_sets`).
        sweep: Measures against the number of samples. None for fewer than two samples.
        recommendation: The recommended arm, and the comparisons that decided.
        calibrated_on: Number of other texts that the scalings were fitted on. None if they were fitted on these.
        shared_texts: Number of measured texts that are also among those. They flatter the arms with a scaling.
        determined: Whether the labels determine a best scaling without the prior, for all arms that have one.
        names: Names of the classes.
        groups: Number of each text's group of copies, from 0. None if all texts are distinct. *Shape:* (texts,).
        dropout: The option `dropout` of the samples.
        one_dropout: Whether all samples were drawn at that dropout; else each fifth of the texts has its own choice.
        notes: What else to know about the run, one sentence each.
        unsampled: Why there are no samples, if there are none.
        student_minus_sampling: Each measure of the student with a scaling minus that of the Bayesian arm with one, by
            its key. Empty if one of them was not measured.
    """

    labels: Labels
    arms: tuple[Arm, ...]
    beyond_temperature: dict[str, dict[str, Difference]]
    uncertainty: Uncertainty | None
    out_of_scope: list[Detection]
    sweep: Sweep | None
    recommendation: Recommendation
    calibrated_on: int | None
    shared_texts: int
    determined: bool
    names: tuple[str, ...]
    groups: NDArray[np.intp] | None = None
    dropout: Dropout = None
    notes: tuple[str, ...] = ()
    unsampled: str = NO_SAMPLES
    novelty: Novelty | None = None
    sets: MeasuredSets | None = None
    student_minus_sampling: dict[str, Difference] = field(default_factory=dict)
    one_dropout: bool = True

    def with_sets(self, coverage: float, *, seed: int = 0) -> "Comparison":
        """The comparison with prediction sets of this coverage; see `measured_sets`, also for the ValueError."""
        return replace(self, sets=measured_sets(self.arms, self.labels, self.groups, coverage, seed=seed))

    @property
    def novelty_level(self) -> float | None:
        """The level to deploy: 0.05, if novelty detects the out-of-scope texts significantly better than the entropy.

        The entropy is that of the ordinary model. None without a scope, or with too few held-out texts for the level;
        and if a student is recommended, whose own scope was not measured.
        """
        found = [one for one in self.out_of_scope if one.score == NOVELTY]
        if self.novelty is None or of_student(self.recommended) or found[0].differences["auroc"].verdict != "better":
            return None
        return LEVEL if 1 / (self.novelty.held_out + 1) <= LEVEL else None

    @property
    def not_refused(self) -> NDArray[np.bool_]:
        """Which measured texts get an answer at that level. *Shape:* (texts,)."""
        if self.novelty is None or self.novelty_level is None:
            return np.ones(len(self.labels), dtype=bool)
        return np.asarray(self.novelty.p_inside > self.novelty_level)

    @property
    def recommended(self) -> ArmName:
        """Name of the recommended arm."""
        return self.recommendation.arm

    @property
    def head(self) -> Head:
        """How the arms are measured."""
        return head_of(self.labels)

    @property
    def distinct(self) -> int:
        """Number of distinct texts."""
        return distinct(len(self.labels), self.groups)

    @property
    def sampled(self) -> bool:
        """Whether there are samples."""
        return self.uncertainty is not None

    @property
    def several_models(self) -> bool:
        """Whether there is an ensemble."""
        return any(arm.name == "ensemble" for arm in self.arms)

    @property
    def with_student(self) -> bool:
        """Whether there is a student."""
        return any(arm.name == "student" for arm in self.arms)

    @property
    def conclusive(self) -> bool:
        """Whether there are enough answers for a recommendation."""
        others = [arm for arm in self.arms if arm.name in self.head.candidates and arm.differences]
        return self.recommended != "frequentist" or all(arm.differences["nll"].enough for arm in others)

    @property
    def rival(self) -> Arm:
        """The arm that the ordinary model is compared with: the Bayesian one, or without samples the scaled one."""
        return self.arm("bayesian") if self.sampled else self.scaled("frequentist")

    def scaled(self, name: ArmName) -> Arm:
        """The arm that adds a scaling to the arm with this name."""
        return self.arm(self.head.scaled[name])

    def is_mixed(self, arm: Arm) -> bool:
        """Whether the arm's texts were sampled at several dropouts, so that no classifier has its scaling."""
        return arm.name.startswith("bayesian") and not self.one_dropout

    def call_options(self, arm: Arm) -> dict[str, Any]:
        """Options of a call that give the probabilities of an arm, before its scaling.

        It is a call of the classifier, or of the student for the student's arms. The arm "saved" needs none.
        """
        if arm.name == "saved":
            return {}
        if arm.name.startswith("frequentist") or of_student(arm.name):
            return {"num_samples": 0}
        options: dict[str, Any] = {"num_samples": arm.cost.passes}
        if self.several_models:
            options["posterior"] = "ensemble" if arm.name.startswith("ensemble") else "dropout"
        if arm.name.startswith("bayesian") and self.dropout is not None:
            options["dropout"] = self.dropout
        return options

    def arm(self, name: str) -> Arm:
        """The arm with this name."""
        return next(arm for arm in self.arms if arm.name == name)


def compare_outputs(outputs: Outputs, *, seed: int = 0) -> Comparison:
    """Measure the arms on the same resamples, and compare them.

    Args:
        outputs: Probabilities from this package or from your own model.
        seed: Seed of the resamples and of the sample orders in the sweep.
    """
    growing = GrowingComparison(seed, others=outputs.calibration is not None)
    growing.add(outputs)
    return growing.whole()


class GrowingComparison:
    """A comparison of outputs that come one after the other. Each arm is measured once, when its outputs are there.

    Args:
        seed: Seed of the resamples and of the sample orders in the sweep.
        others: Whether the scalings are fitted on other texts. Arms with a scaling then wait for `Outputs.calibration`.
    """

    def __init__(self, seed: int, *, others: bool) -> None:
        self._seed, self._others = seed, others
        self._arms: list[Arm] = []
        self._fits: list[tuple[Probabilities, Labels]] = []
        self._beyond: dict[str, dict[str, Difference]] = {}

    def add(self, outputs: Outputs) -> list[Arm]:
        """Measure and return the new arms. `outputs` holds those of the last call too, unchanged."""
        if not self._arms:
            self._labels, self._groups = np.asarray(outputs.labels, dtype=np.int64), numbered(outputs.groups)
            self._head = head_of(self._labels)
            self._measured = MeasuredArms(self._head, self._labels, self._seed, self._groups)
        self._outputs, before = outputs, len(self._arms)
        samples, members, known = outputs.samples, outputs.members, outputs.calibration
        self._measure_both("frequentist", outputs.ordinary, None if known is None else known.ordinary)
        if outputs.student is not None:
            self._measure_both("student", outputs.student.ordinary, outputs.student.calibration)
        if outputs.baal is not None:
            self._measure("baal", outputs.baal)
        if samples is not None:
            cost = Cost(passes=np.shape(samples)[2])
            self._measure_both("bayesian", samples, None if known is None else known.averaged, cost)
        if members is not None:
            cost = Cost(passes=np.shape(members.samples)[2])
            self._measure_both("ensemble", members.samples, members.averaged, cost)
        if outputs.saved is not None:
            self._measure("saved", outputs.saved)
        return self._arms[before:]

    def _has(self, name: ArmName) -> bool:
        return any(arm.name == name for arm in self._arms)

    def _measure(self, name: ArmName, p: Probabilities, cost: Cost | None = None, fit: Fit | None = None) -> None:
        if not self._has(name):
            self._arms.append(self._measured.arm(name, p, self._outputs.costs.get(name, cost), fit))

    def _measure_both(
        self, name: ArmName, values: Probabilities, p_known: Probabilities | None, cost: Cost | None = None
    ) -> None:
        """Without and with a scaling.

        Args:
            name: The arm without one.
            values: Its probabilities, or those of its samples. *Shape:* (texts, classes) or (texts, classes, samples).
            p_known: Its probabilities of the texts that the scaling is fitted on. *Shape:* (texts, classes).
            cost: Its cost, if it was not measured.
        """
        scaled, known = self._head.scaled[name], self._outputs.calibration
        if self._has(scaled):
            return
        p = np.asarray(values)
        p = p.mean(2, dtype=np.float64) if p.ndim == 3 else p
        self._measure(name, p, cost)
        if known is None and self._others:
            return
        others = None if known is None else (np.asarray(p_known), np.asarray(known.labels))
        self._fits.append(others or (p, self._labels))
        self._measure(scaled, p, cost, self._head.fitted(p, self._labels, others, self._groups))
        if name != "frequentist":
            self._beyond[name] = self._measured.differences(scaled, self._head.scaled["frequentist"])

    def whole(self) -> Comparison:
        """The comparison of all arms so far."""
        outputs, head, labels, known = self._outputs, self._head, self._labels, self._outputs.calibration
        samples = None if outputs.samples is None else np.asarray(outputs.samples)
        uncertainty = None if samples is None else head.uncertainty(samples, GROUP_SIZE)
        names = range(np.shape(outputs.ordinary)[1]) if outputs.names is None else outputs.names
        return Comparison(
            labels,
            tuple(self._arms),
            self._beyond,
            uncertainty,
            _detections(outputs, head, uncertainty, self._seed),
            _sweep(outputs, labels, self._seed),
            recommendation(self._measured, head, self._arms),
            None if known is None else len(known.labels),
            0 if known is None else known.shared,
            all(head.determined(p, y) for p, y in self._fits),
            tuple(map(str, names)),
            self._groups,
            outputs.dropout,
            outputs.notes,
            outputs.unsampled,
            outputs.novelty,
            student_minus_sampling=self._student_minus_sampling(),
            one_dropout=outputs.one_dropout,
        )

    def _student_minus_sampling(self) -> dict[str, Difference]:
        student, sampled = self._head.scaled["student"], self._head.scaled["bayesian"]
        both = self._has(student) and self._has(sampled)
        return self._measured.differences(student, sampled) if both else {}


def _sweep(outputs: Outputs, labels: Labels, seed: int) -> Sweep | None:
    """The effect of the number of samples; None for fewer than two."""
    pool, rows = outputs.pool, outputs.pool_rows
    if pool is None and outputs.samples is not None:
        rows = rows_of_sweep(len(labels), seed)
        pool = np.asarray(outputs.samples)[rows]
    if pool is None or pool.shape[2] < 2:
        return None
    rows = np.arange(len(labels)) if rows is None else rows
    return sample_sweep(pool, labels[rows], np.asarray(outputs.ordinary)[rows], seed=seed, all_texts=len(labels))


def error_rates(probabilities: Probabilities, labels: Labels, kinds: Sequence[str]) -> dict[str, float]:
    """Share of misclassified texts (or labels) of each kind, by its name."""
    names, rows = np.asarray(kinds), head_of(labels).predictions(np.asarray(probabilities), np.asarray(labels))
    wrong = 1 - rows.correct
    return {str(name): float(wrong[names == name].mean()) for name in np.unique(names)}


def _detections(outputs: Outputs, head: Head, uncertainty: Uncertainty | None, seed: int) -> list[Detection]:
    if outputs.outside is None:
        return []
    ordinary, samples = (None if one is None else np.asarray(one) for one in outputs.outside)
    assert ordinary is not None
    inside = {"frequentist": head.scores(head.uncertainty(np.asarray(outputs.ordinary)[:, :, None]))}
    outside = {"frequentist": head.scores(head.uncertainty(ordinary[:, :, None]))}
    if outputs.student is not None and outputs.student.outside is not None:
        for scores, p in ((inside, outputs.student.ordinary), (outside, outputs.student.outside)):
            scores["student"] = head.scores(head.uncertainty(np.asarray(p)[:, :, None]))
    if uncertainty is not None and samples is not None:
        inside["bayesian"] = head.scores(uncertainty, True)
        outside["bayesian"] = head.scores(head.uncertainty(samples), True)
    if outputs.members is not None and outputs.members.outside is not None:
        for scores, p in ((inside, outputs.members.samples), (outside, outputs.members.outside)):
            scores["ensemble"] = head.scores(head.uncertainty(np.asarray(p)), True)
    if outputs.novelty is not None:
        given = outputs.novelty.inside, outputs.novelty.outside
        both = mean_ranks(given, (inside["frequentist"][CONFIDENCE], outside["frequentist"][CONFIDENCE]))
        for scores, distance, rank in zip((inside, outside), given, both, strict=True):
            scores["scope"] = {NOVELTY: np.asarray(distance), BOTH: rank}
    groups = numbered(outputs.groups), numbered(outputs.outside_groups)
    return detect(inside, outside, seed=seed, groups=groups)
