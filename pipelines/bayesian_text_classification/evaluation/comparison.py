"""From arrays to a comparison: arms, measures, verdicts on differences, a recommendation. No model, no timing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pipeline.masks import GROUP_SIZE
from ..pipeline.rates import Dropout
from ..pipeline.uncertainty import Uncertainty
from .arms import Arm, Cost, Labels, MeasuredArms, Probabilities
from .fits import Fit
from .heads import ArmName, Head, head_of
from .out_of_scope import Detection, detect
from .outputs import Outputs, numbered
from .sample_sweep import Sweep, sample_sweep
from .statistics.intervals import Difference, distinct

MATTERS = 0.01  # the least relative gain in NLL that is worth a more expensive arm


@dataclass(frozen=True)
class Comparison:
    """The arms, the effect of sampling on top of a scaling, and the sample sweep.

    Attributes:
        labels: True labels, in the form of `Outputs`. *Shape:* (texts,) or (texts, labels).
        arms: The arms in this order: frequentist, frequentist_temperature, baal (if it was run), bayesian and
            bayesian_temperature (if there are samples), saved (if the classifier was saved with a calibration). For
            independent labels, "platt" takes the place of "temperature".
        beyond_temperature: Each measure of the Bayesian arm with a scaling minus that of the frequentist one, by its
            key. Empty without samples.
        uncertainty: Uncertainty of each text, from the Bayesian arm's samples; None without samples.
        out_of_scope: How well each score detects the out-of-scope texts. Empty if none were given.
        sweep: Measures against the number of samples. None if no pool was given.
        recommended: The cheapest arm whose NLL no more expensive arm improves significantly and by at least 1%. An arm
            "saved" counts as cheaper than the arm with a new scaling and as many passes.
        calibrated_on: Number of other texts that the scalings were fitted on. None if they were fitted on these.
        shared_texts: Number of measured texts that are also among those. They flatter the arms with a scaling.
        determined: Whether the labels determine a best scaling without the prior, for all arms that have one.
        names: Names of the classes.
        groups: Number of each text's group of copies, from 0. None if all texts are distinct. *Shape:* (texts,).
        dropout: The option `dropout` of the samples.
        notes: What else to know about the run, one sentence each.
    """

    labels: Labels
    arms: tuple[Arm, ...]
    beyond_temperature: dict[str, Difference]
    uncertainty: Uncertainty | None
    out_of_scope: list[Detection]
    sweep: Sweep | None
    recommended: ArmName
    calibrated_on: int | None
    shared_texts: int
    determined: bool
    names: tuple[str, ...]
    groups: NDArray[np.intp] | None = None
    dropout: Dropout = None
    notes: tuple[str, ...] = ()

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
    def conclusive(self) -> bool:
        """Whether there are enough answers for a recommendation."""
        others = [arm for arm in self.arms if arm.name in self.head.candidates and arm.differences]
        return self.recommended != "frequentist" or all(arm.differences["nll"].enough for arm in others)

    @property
    def rival(self) -> Arm:
        """The arm that the ordinary model is compared with: the Bayesian one, or without samples the scaled one."""
        return self.arm("bayesian") if self.sampled else self.scaled("frequentist")

    def scaled(self, name: str) -> Arm:
        """The arm that adds a scaling to the arm with this name."""
        return self.arm(self.head.scaled[name])

    def call_options(self, arm: Arm) -> dict[str, Any]:
        """Options of a classifier's call that give the probabilities of an arm, before its scaling.

        The arm "saved" needs none.
        """
        if arm.name == "saved":
            return {}
        if "bayesian" not in arm.name:
            return {"num_samples": 0}
        dropout = {} if self.dropout is None else {"dropout": self.dropout}
        return {"num_samples": arm.cost.passes, **dropout}

    def arm(self, name: str) -> Arm:
        """The arm with this name."""
        return next(arm for arm in self.arms if arm.name == name)


def compare_outputs(outputs: Outputs, *, seed: int = 0) -> Comparison:
    """Measure the arms on the same resamples, and compare them.

    Args:
        outputs: Probabilities from this package or from your own model.
        seed: Seed of the resamples and of the sample orders in the sweep.
    """
    labels, ordinary = np.asarray(outputs.labels, dtype=np.int64), np.asarray(outputs.ordinary)
    known, groups, head = outputs.calibration, numbered(outputs.groups), head_of(labels)
    measured, arms = MeasuredArms(head, labels, seed, groups), []
    if known is not None:
        known = replace(known, labels=np.asarray(known.labels), ordinary=np.asarray(known.ordinary))
    fits = [(ordinary, labels) if known is None else (known.ordinary, known.labels)]

    def measure(name: ArmName, p: Probabilities, cost: Cost | None = None, fit: Fit | None = None) -> None:
        arms.append(measured.arm(name, p, outputs.costs.get(name, cost), fit))

    cold = head.fitted(ordinary, labels, None if known is None else fits[0], groups)
    measure("frequentist", ordinary)
    measure(head.scaled["frequentist"], ordinary, fit=cold)
    if outputs.baal is not None:
        measure("baal", outputs.baal)
    uncertainty, beyond = None, {}
    if outputs.samples is not None:
        samples = np.asarray(outputs.samples)
        mean, averaged = samples.mean(2, dtype=np.float64), Cost(passes=samples.shape[2])
        if known is None:
            fits.append((mean, labels))
        else:
            assert known.averaged is not None  # checked by `Outputs`
            fits.append((np.asarray(known.averaged), known.labels))
        warm = head.fitted(mean, labels, None if known is None else fits[1], groups)
        measure("bayesian", mean, averaged)
        measure(head.scaled["bayesian"], mean, averaged, warm)
        uncertainty = head.uncertainty(samples, GROUP_SIZE)
        beyond = measured.differences(head.scaled["bayesian"], head.scaled["frequentist"])
    if outputs.saved is not None:
        measure("saved", outputs.saved)
    sweep = None
    if outputs.pool is not None:
        rows = np.arange(len(labels)) if outputs.pool_rows is None else outputs.pool_rows
        sweep = sample_sweep(outputs.pool, labels[rows], ordinary[rows], seed=seed, all_texts=len(labels))
    return Comparison(
        labels,
        tuple(arms),
        beyond,
        uncertainty,
        _detections(outputs, head, uncertainty, seed),
        sweep,
        _recommended(measured, head, arms),
        None if known is None else len(known.labels),
        0 if known is None else known.shared,
        all(head.determined(p, y) for p, y in fits),
        tuple(map(str, range(ordinary.shape[1]) if outputs.names is None else outputs.names)),
        groups,
        outputs.dropout,
        outputs.notes,
    )


def error_rates(probabilities: Probabilities, labels: Labels, groups: Sequence[str]) -> dict[str, float]:
    """Share of misclassified texts (or labels) in each group, by the group's name."""
    names, rows = np.asarray(groups), head_of(labels).predictions(np.asarray(probabilities), np.asarray(labels))
    wrong = 1 - rows.correct
    return {str(name): float(wrong[names == name].mean()) for name in np.unique(names)}


def _recommended(measured: MeasuredArms, head: Head, arms: Sequence[Arm]) -> ArmName:
    """The cheapest arm that no more expensive one beats in NLL: significantly, and by at least 1%."""
    by_name = {arm.name: arm for arm in arms}
    order = [name for name in head.candidates if name in by_name]
    if "saved" in by_name:
        made = "bayesian" if by_name["saved"].cost.passes > 1 else "frequentist"
        order.insert(order.index(head.scaled[made]), "saved")

    nll = next(measure for measure in head.measures if measure.key == "nll")

    def beats(name: ArmName, base: ArmName) -> bool:
        gain = measured.difference(nll, name, base)
        return gain.verdict == "better" and -gain.value >= MATTERS * by_name[base].estimates["nll"].value

    return next(name for i, name in enumerate(order) if not any(beats(other, name) for other in order[i + 1 :]))


def _detections(outputs: Outputs, head: Head, uncertainty: Uncertainty | None, seed: int) -> list[Detection]:
    if outputs.outside is None:
        return []
    ordinary, samples = (None if one is None else np.asarray(one) for one in outputs.outside)
    assert ordinary is not None
    inside = {"frequentist": head.scores(head.uncertainty(np.asarray(outputs.ordinary)[:, :, None]))}
    outside = {"frequentist": head.scores(head.uncertainty(ordinary[:, :, None]))}
    if uncertainty is not None and samples is not None:
        inside["bayesian"] = head.scores(uncertainty, True)
        outside["bayesian"] = head.scores(head.uncertainty(samples), True)
    groups = numbered(outputs.groups), numbered(outputs.outside_groups)
    return detect(inside, outside, seed=seed, groups=groups)
