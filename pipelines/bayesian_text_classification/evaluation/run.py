"""The frequentist model, BaaL's patched copy and the Bayesian ensemble on the same labelled texts, and their verdicts.

Temperature scaling is the honest rival: one number, no further passes. So the frequentist and the Bayesian arm come
with a temperature too, fitted on other rows than those that it is measured on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..loading.labelled_texts import LabelledTexts
from ..pipeline.masks import GROUP_SIZE
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.temperature import determined
from ..pipeline.uncertainty import Uncertainty, over_classes
from ..wording import row_name
from .arms import Arm, MeasuredArms, Probabilities, Temperatures
from .baal_arm import baal_probabilities, patched_by_baal
from .intervals import Difference
from .out_of_scope import ENTROPY, Detection, detect
from .sample_sweep import MOST_TEXTS, POOL, Sweep, sample_sweep

MASKS = "balanced"  # of the Bayesian arms
DEARER = ("frequentist_temperature", "bayesian", "bayesian_temperature")  # than the ordinary model, in this order


@dataclass(frozen=True)
class Comparison:
    """The arms, what temperature scaling leaves for the ensemble to do, and the sample sweep.

    Attributes:
        arms: frequentist, frequentist_temperature, baal, bayesian, bayesian_temperature.
        beyond_temperature: each measure of bayesian_temperature less that of frequentist_temperature, by its key.
        uncertainty: of each text, from the Bayesian arm's samples.
        out_of_scope: how well each score finds the texts out of scope; empty where none were given.
        sweep: measures against the number of samples.
        recommended: the cheapest arm whose NLL no dearer one is told to better; see `_recommended`.
        calibrated_on: how many other texts the temperatures were fitted on; None: each on all texts but one.
        shared_texts: texts that are among those too, which flatters the arms with a temperature.
        saved_temperature: that the classifier came with; no arm has it.
        determined: whether the labels alone have a best temperature, of both arms that have one.
    """

    arms: tuple[Arm, ...]
    beyond_temperature: dict[str, Difference]
    uncertainty: Uncertainty
    out_of_scope: list[Detection]
    sweep: Sweep
    recommended: str
    calibrated_on: int | None
    shared_texts: int
    saved_temperature: float
    determined: bool

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

    model = patched_by_baal(classifier)
    started = time.perf_counter()
    patched, baal_sites, baal_calls = baal_probabilities(model, classifier, data.texts, num_samples, seed, advance)
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
    cold = Temperatures.fitted(point, labels, None if known is None else (known[1], known[0]))
    warm = Temperatures.fitted(mean, labels, None if known is None else (known[2], known[0]))

    sites = classifier.dropout_sites
    reach = (len(sites), sum(site.calls for site in sites))
    measured = MeasuredArms(labels, seed)
    frequentist = measured.arm("frequentist", 1, (0, 0), point_seconds, point)
    arms = (
        frequentist,
        measured.arm("frequentist_temperature", 1, (0, 0), point_seconds, point, temperatures=cold),
        measured.arm("baal", num_samples, (baal_sites, baal_calls), baal_seconds, patched),
        measured.arm("bayesian", num_samples, reach, seconds, mean),
        measured.arm("bayesian_temperature", num_samples, reach, seconds, mean, temperatures=warm),
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
        inside = {
            "frequentist": _scores(over_classes(point[:, :, None])),
            "bayesian": _scores(uncertainty, True),
        }
        outside = {
            "frequentist": _scores(over_classes(alone[:, :, None])),
            "bayesian": _scores(over_classes(several), True),
        }
        detections = detect(inside, outside, seed=seed)
    others = set() if calibration is None else set(calibration.texts)
    return Comparison(
        arms,
        beyond,
        uncertainty,
        detections,
        sweep,
        _recommended(measured),
        None if calibration is None else len(calibration.texts),
        sum(text in others for text in data.texts),
        classifier.temperature,
        all(determined(p, known[0] if known else labels) for p in (known[1:] if known else (point, mean))),
    )


def _recommended(measured: MeasuredArms) -> str:
    """From the cheapest arm on, each next one where its NLL is told to be better than that of the one so far."""
    chosen = "frequentist"
    for name in DEARER:
        if measured.differences(name, chosen)["nll"].verdict == "better":
            chosen = name
    return chosen


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
    scores = {"1 - max probability": 1 - summary.mean.max(1), ENTROPY: summary.predictive_entropy}
    return scores | ({"mutual information": summary.mutual_information} if sampled else {})


def refuse_nan(probabilities: Probabilities) -> None:
    """ValueError that names the first text whose probabilities are no numbers."""
    (bad,) = np.nonzero(np.isnan(probabilities).any(1))
    if bad.size:
        raise ValueError(
            f"the model's probabilities are NaN for {bad.size} of {len(probabilities)} texts, first for "
            f"{row_name(int(bad[0]))}; its weights are damaged, or need a wider dtype"
        )
