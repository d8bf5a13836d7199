"""The frequentist model, BaaL's patched copy and the Bayesian ensemble on the same labelled texts, and their verdicts.

Temperature scaling is the honest rival: one number, no further passes. So the frequentist and the Bayesian arm come
with a temperature too, fitted on other rows than those that it is measured on.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from .data import LabelledTexts
from .dropout import count_active_calls
from .intervals import MASK_DRAWS, Difference, Estimate, Resamples, difference, estimate, resample, wilson
from .masks import GROUP_SIZE
from .measures import BINS, MEASURES, Scored
from .messages import row_name
from .metric import load_metric_module
from .out_of_scope import Detection, detect
from .pipeline import BayesianTextClassificationPipeline
from .sweep import MOST_TEXTS, POOL, Sweep, group_order, sample_sweep
from .temperature import apply_temperature, fit_temperature, leave_one_out
from .twin import allow_batches
from .uncertainty import Uncertainty, over_classes

MASKS = "balanced"  # of the Bayesian arms

Probabilities = NDArray[np.floating]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Reliability:
    """The bins of a reliability diagram: B + 1 edges, and what each bin holds; of an empty bin None.

    `accuracy_interval` is Wilson's, at 95 %.
    """

    edges: list[float]
    counts: list[int]
    mean_confidence: list[float | None]
    accuracy: list[float | None]
    accuracy_interval: list[tuple[float, float] | None]


@dataclass(frozen=True)
class Arm:
    """One way to get probabilities, measured.

    Attributes:
        name: "frequentist", "frequentist_temperature", "baal", "bayesian" or "bayesian_temperature".
        passes: forward passes for each text.
        dropout_sites: modules whose dropout is on.
        dropout_calls: calls of dropout that are on in one pass; a module may be called more than once.
        seconds: wall-clock time of all passes.
        temperature: fitted on all rows; the probabilities of an evaluation row come from temperatures of other rows.
        probabilities: (texts, classes).
        estimates: each of `MEASURES` by its key.
        null_ece: what a perfectly calibrated model with these probabilities would measure, with its 95 % band.
        reliability: the bins behind the ECE.
        differences: each measure less the frequentist arm's, by its key; empty for that arm itself.
    """

    name: str
    passes: int
    dropout_sites: int
    dropout_calls: int
    seconds: float
    temperature: float | None
    probabilities: Probabilities
    estimates: dict[str, Estimate]
    null_ece: Estimate
    reliability: Reliability
    differences: dict[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The arms, what temperature scaling leaves for the ensemble to do, and the sample sweep.

    Attributes:
        arms: frequentist, frequentist_temperature, baal, bayesian, bayesian_temperature.
        beyond_temperature: each measure of bayesian_temperature less that of frequentist_temperature, by its key.
        uncertainty: of each text, from the Bayesian arm's samples.
        out_of_scope: how well each score finds the texts out of scope; empty where none were given.
        sweep: measures against the number of samples.
    """

    arms: tuple[Arm, ...]
    beyond_temperature: dict[str, Difference]
    uncertainty: Uncertainty
    out_of_scope: list[Detection]
    sweep: Sweep

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)


def compare(
    classifier: BayesianTextClassificationPipeline,
    data: LabelledTexts,
    *,
    calibration: LabelledTexts | None = None,
    out_of_scope: Sequence[str] = (),
    num_samples: int = 20,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Run the arms on the same texts, measure them on the same resamples, and sweep the number of samples.

    The pool of the sweep continues the Bayesian arm's samples. Each pass is made once: the two Bayesian arms share
    theirs, and so do the two frequentist ones.

    Args:
        classifier: of one label among at least two classes.
        data: labelled texts.
        calibration: other labelled texts to fit the temperatures on; without them each text of `data` is scored with
            the temperature of all the others.
        out_of_scope: texts that the classifier was not made for.
        num_samples: passes of the BaaL arm and of the Bayesian arms.
        seed: of both arms' dropout, of the resamples and the orders of the sweep.
        progress: called with the number of rows (a text in one pass) done; `total_rows` says how many there will be.

    Raises:
        ValueError: the classifier is not of one label among at least two classes, has no dropout, or gives
            probabilities that are no numbers.
    """
    check_one_label(classifier)
    labels = np.asarray(data.labels, dtype=np.int64)
    advance = progress or (lambda rows: None)

    started = time.perf_counter()
    point = classifier.predict_proba(data.texts, num_samples=0, progress=advance)
    point_seconds = time.perf_counter() - started
    refuse_nan(point)

    model = _patched_by_baal(classifier)
    started = time.perf_counter()
    patched, baal_sites, baal_calls = _baal_probabilities(model, classifier, data.texts, num_samples, seed, advance)
    baal_seconds = time.perf_counter() - started
    refuse_nan(patched)

    started = time.perf_counter()
    samples = classifier.sample_proba(data.texts, progress=advance, num_samples=num_samples, seed=seed, masks=MASKS)
    seconds = time.perf_counter() - started
    mean = samples.mean(2, dtype=np.float64)
    refuse_nan(mean)

    rows = np.arange(len(labels))
    if len(rows) > MOST_TEXTS:
        rows = np.sort(np.random.default_rng(seed % 2**64).permutation(rows)[:MOST_TEXTS])
    pool = samples[rows]
    if num_samples < POOL:
        texts = [data.texts[i] for i in rows]
        rest = classifier.sample_proba(
            texts, progress=advance, first_sample=num_samples, num_samples=POOL - num_samples, seed=seed, masks=MASKS
        )
        refuse_nan(rest.mean(2))
        pool = np.concatenate([pool, rest], axis=2)

    known = None
    if calibration is not None:
        known = (
            np.asarray(calibration.labels),
            classifier.predict_proba(calibration.texts, num_samples=0, progress=advance),
            classifier.sample_proba(
                calibration.texts, progress=advance, num_samples=num_samples, seed=seed, masks=MASKS
            ).mean(2, dtype=np.float64),
        )
        for p in known[1:]:
            refuse_nan(p)
    cold = _temperatures(point, labels, None if known is None else (known[1], known[0]))
    warm = _temperatures(mean, labels, None if known is None else (known[2], known[0]))
    draws = _mask_draws(pool, num_samples, seed) if len(rows) == len(labels) else []

    sites = classifier.dropout_sites
    reach = (len(sites), sum(site.calls for site in sites))
    measured = _Measured(labels, seed)
    frequentist = measured.arm("frequentist", 1, (0, 0), point_seconds, point)
    arms = (
        frequentist,
        measured.arm("frequentist_temperature", 1, (0, 0), point_seconds, point, temperatures=cold),
        measured.arm("baal", num_samples, (baal_sites, baal_calls), baal_seconds, patched),
        measured.arm("bayesian", num_samples, reach, seconds, mean, draws),
        measured.arm("bayesian_temperature", num_samples, reach, seconds, mean, draws, warm),
    )
    sweep = sample_sweep(pool, labels[rows], point[rows], seed=seed, all_texts=len(labels))
    beyond = measured.differences("bayesian_temperature", "frequentist_temperature")
    uncertainty = over_classes(samples, GROUP_SIZE)
    detections = []
    if out_of_scope:
        alone = classifier.predict_proba(out_of_scope, num_samples=0, progress=advance)
        several = classifier.sample_proba(
            out_of_scope, progress=advance, num_samples=num_samples, seed=seed, masks=MASKS
        )
        refuse_nan(alone)
        refuse_nan(several.mean(2))
        before = _scores(over_classes(point[:, :, None])), _scores(over_classes(alone[:, :, None]))
        after = _scores(uncertainty, True), _scores(over_classes(several), True)
        detections = [*detect("frequentist", *before, seed=seed), *detect("bayesian", *after, seed=seed)]
    return Comparison(arms, beyond, uncertainty, detections, sweep)


def total_rows(texts: int, num_samples: int, other_texts: int = 0) -> int:
    """How many rows (a text in one pass) `compare` runs; `other_texts` are those of calibration and out of scope."""
    own = texts * (1 + 2 * num_samples) + other_texts * (1 + num_samples)
    return own + max(POOL - num_samples, 0) * min(texts, MOST_TEXTS)


def check_one_label(classifier: BayesianTextClassificationPipeline) -> None:
    """ValueError unless the classifier gives one label among at least two classes."""
    config = classifier.model.config
    if config.num_labels < 2 or config.problem_type in ("regression", "multi_label_classification"):
        raise ValueError(
            f"the model has {config.num_labels} output(s) and problem_type {config.problem_type!r}; "
            "the comparison needs one label among at least two classes"
        )


def error_rates(probabilities: Probabilities, labels: Sequence[int], kinds: Sequence[str]) -> dict[str, float]:
    """Share of wrong texts of each kind, by name."""
    wrong = np.asarray(probabilities).argmax(1) != np.asarray(labels)
    groups = np.asarray(kinds)
    return {str(kind): float(wrong[groups == kind].mean()) for kind in np.unique(groups)}


def _scores(summary: Uncertainty, sampled: bool = False) -> dict[str, NDArray[np.float64]]:
    """What may tell a text that is out of scope."""
    assert summary.predictive_entropy is not None and summary.mutual_information is not None
    scores = {"1 - max probability": 1 - summary.mean.max(1), "predictive entropy": summary.predictive_entropy}
    return scores | ({"mutual information": summary.mutual_information} if sampled else {})


class _Measured:
    """Arms on the same rows and the same resamples."""

    def __init__(self, labels: Labels, seed: int) -> None:
        self._labels, self._seed = labels, seed
        self._rows: dict[str, Scored] = {}
        self._resamples: dict[str, Resamples] = {}

    def arm(
        self,
        name: str,
        passes: int,
        reach: tuple[int, int],
        seconds: float,
        probabilities: Probabilities,
        draws: Sequence[Probabilities] = (),
        temperatures: "_Temperatures | None" = None,
    ) -> Arm:
        """Measure `probabilities`, and their `draws` with other masks, beside the first arm that was measured."""

        def scored(p: Probabilities) -> Scored:
            if temperatures is None:
                return Scored.of(p, self._labels)
            return Scored.of(temperatures.of(p), self._labels, apply_temperature(p, temperatures.all_rows))

        rows = scored(probabilities)
        self._rows[name] = rows
        several = [scored(draw) for draw in draws] or [rows]
        self._resamples[name] = resamples = resample(several, seed=self._seed)
        module = load_metric_module()
        bins = module.bin_sums(rows.probabilities, rows.labels, n_bins=BINS)
        chance = module.bootstrap(rows.probabilities, rows.labels, n_bins=BINS, seed=self._seed % 2**64)
        estimates = {measure.key: estimate(measure, rows, resamples) for measure in MEASURES}
        estimates["ece"] = Estimate(bins.ece, *chance.interval)
        first = next(iter(self._rows))
        return Arm(
            name,
            passes,
            *reach,
            seconds,
            None if temperatures is None else temperatures.all_rows,
            probabilities if temperatures is None else temperatures.of(probabilities),
            estimates,
            Estimate(chance.null, *chance.null_interval),
            Reliability(
                **bins.as_dict(),
                accuracy_interval=[
                    wilson(*bin_) if bin_[1] else None for bin_ in zip(bins.correct, bins.counts, strict=True)
                ],
            ),
            {} if first == name else self.differences(name, first),
        )

    def differences(self, name: str, base: str) -> dict[str, Difference]:
        """Every measure of one arm less that of another."""
        rows, resamples = self._rows, self._resamples
        return {
            measure.key: difference(measure, rows[name], rows[base], resamples[name], resamples[base])
            for measure in MEASURES
        }


@dataclass(frozen=True)
class _Temperatures:
    """The temperature of each row, fitted on others: (rows,); and that of all rows."""

    of_rows: NDArray[np.float64]
    all_rows: float

    def of(self, probabilities: Probabilities) -> Probabilities:
        """Rows at their temperatures."""
        return apply_temperature(probabilities, self.of_rows)


def _temperatures(
    probabilities: Probabilities, labels: Labels, known: tuple[Probabilities, Labels] | None
) -> _Temperatures:
    """From `known` rows and labels; else of each row from all the others."""
    if known is not None:
        temperature = fit_temperature(*known)
        return _Temperatures(np.full(len(labels), temperature), temperature)
    temperature = fit_temperature(probabilities, labels)
    return _Temperatures(leave_one_out(probabilities, labels, temperature), temperature)


def _mask_draws(pool: NDArray[np.floating], num_samples: int, seed: int) -> list[Probabilities]:
    """The means over `num_samples` of the pool's samples, in whole groups, as other seeds would give them."""
    random = np.random.default_rng([seed % 2**64, 1])
    orders = [group_order(pool.shape[2], random)[:num_samples] for _ in range(MASK_DRAWS)]
    return [pool[:, :, order].mean(2, dtype=np.float64) for order in orders]


def refuse_nan(probabilities: Probabilities) -> None:
    """ValueError that names the first text whose probabilities are no numbers."""
    (bad,) = np.nonzero(np.isnan(probabilities).any(1))
    if bad.size:
        raise ValueError(
            f"the model's probabilities are NaN for {bad.size} of {len(probabilities)} texts, first for "
            f"{row_name(int(bad[0]))}; its weights are damaged, or need a wider dtype"
        )


def _patched_by_baal(classifier: BayesianTextClassificationPipeline) -> torch.nn.Module:
    """A copy with BaaL's dropout modules, in eval mode, in the dtype that the other arms run in."""
    # Imported here: it configures structlog for the whole process and costs a second.
    from baal.bayesian.dropout import patch_module

    model = copy.deepcopy(classifier.model).to(dtype=classifier.run_dtype)
    allow_batches(model)
    patched: torch.nn.Module = patch_module(model, inplace=True).eval()
    return patched


def _baal_probabilities(
    model: torch.nn.Module,
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[str],
    passes: int,
    seed: int,
    advance: Callable[[int], None],
) -> tuple[Probabilities, int, int]:
    """The 2021 experiment: `passes` runs of the patched `model`, probabilities averaged.

    Returns (texts, classes), and how many modules of BaaL's and how many dropout calls are on in one pass.
    """
    mean = np.zeros((len(texts), classifier.model.config.num_labels))
    reach = (0, 0)
    # `manual_seed` below reseeds every device.
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if in_use else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode():
        torch.manual_seed(seed % 2**63)
        for indices, inputs in classifier.batches(texts):
            reach = reach if any(reach) else _reach(model, inputs)
            for _pass in range(passes):
                logits = model(**inputs).logits
                mean[list(indices)] += logits.float().softmax(-1).cpu().numpy() / passes
                advance(len(indices))
    return mean, *reach


def _reach(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """How many of BaaL's dropout modules one pass runs, and how many dropout calls are on in it."""
    from baal.bayesian.dropout import Dropout, Dropout2d

    reached = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: reached.add(module))
        for module in model.modules()
        if isinstance(module, (Dropout, Dropout2d)) and module.p > 0
    ]
    calls = count_active_calls(model, inputs)
    for hook in hooks:
        hook.remove()
    return len(reached), calls
