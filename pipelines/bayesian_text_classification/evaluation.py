"""The frequentist model, BaaL's patched copy and the Bayesian ensemble on the same labelled texts."""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from .data import LabelledTexts
from .dropout import count_active_calls
from .masks import GROUP_SIZE
from .messages import row_name
from .metric import load_metric_module
from .pipeline import BayesianTextClassificationPipeline
from .twin import allow_batches

BINS = 10
SWEEP_SIZES = range(1, 61)  # numbers of samples
SWEEP_POOL = 3 * SWEEP_SIZES[-1]  # the orders of a smaller pool would repeat each other's samples
SWEEP_ORDERS = 30
SWEEP_TEXTS = 2_000  # at most: the sweep takes 180 passes of each

Probabilities = NDArray[np.floating]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Reliability:
    """The bins of a reliability diagram: B + 1 edges, and what each bin holds; the means of an empty bin are None."""

    edges: list[float]
    counts: list[int]
    mean_confidence: list[float | None]
    accuracy: list[float | None]


@dataclass(frozen=True)
class Measures:
    """How good and how honest probabilities are on labelled texts.

    Attributes:
        accuracy: share of texts whose most probable class is right.
        ece: expected calibration error (Guo et al. 2017), top label, 10 uniform bins.
        nll: mean negative log likelihood, nats.
        brier: Brier score; for two classes (p - y)^2, for more the sum over classes.
        reliability: the bins behind `ece`.
    """

    accuracy: float
    ece: float
    nll: float
    brier: float
    reliability: Reliability


@dataclass(frozen=True)
class Arm:
    """One way to get probabilities, measured.

    Attributes:
        name: "frequentist", "baal" or "bayesian".
        passes: forward passes for each text.
        dropout_sites: modules whose dropout is on.
        dropout_calls: calls of dropout that are on in one pass; a module may be called more than once.
        seconds: wall-clock time of all passes.
        probabilities: (texts, classes).
    """

    name: str
    passes: int
    dropout_sites: int
    dropout_calls: int
    seconds: float
    probabilities: Probabilities
    measures: Measures


@dataclass(frozen=True)
class Sweep:
    """ECE and accuracy of the mean over 1, 2, ... samples: median and 5th and 95th percentile over orders of a pool.

    Attributes:
        sizes: numbers of samples.
        pool: samples in the pool.
        orders: random orders of the pool.
        texts: all of the arms' texts, or a random part of so many.
        all_texts: those of the arms.
        ece: (3, sizes), 5th percentile, median and 95th percentile.
        accuracy: likewise.
        frequentist: the frequentist arm on the same texts.
    """

    sizes: list[int]
    pool: int
    orders: int
    texts: int
    all_texts: int
    ece: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    frequentist: Measures


@dataclass(frozen=True)
class Comparison:
    """The three arms, in the order frequentist, baal, bayesian, and the sample sweep."""

    arms: tuple[Arm, ...]
    sweep: Sweep


def compare(
    classifier: BayesianTextClassificationPipeline,
    data: LabelledTexts,
    *,
    num_samples: int = 20,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Run the arms on the same texts, and the sweep from a pool that continues the Bayesian arm's samples.

    Args:
        classifier: of one label among at least two classes.
        data: labelled texts.
        num_samples: passes of the BaaL arm and of the Bayesian arm.
        seed: of both arms' dropout and of the orders of the sweep.
        progress: called with the number of rows (a text in one pass) done; `total_rows` says how many there will be.

    Raises:
        ValueError: the classifier is not of one label among at least two classes, has no dropout, or gives
            probabilities that are no numbers.
    """
    config = classifier.model.config
    if config.num_labels < 2 or config.problem_type in ("regression", "multi_label_classification"):
        raise ValueError(
            f"the model has {config.num_labels} output(s) and problem_type {config.problem_type!r}; "
            "the comparison needs one label among at least two classes"
        )
    labels = np.asarray(data.labels, dtype=np.int64)
    advance = progress or (lambda rows: None)

    started = time.perf_counter()
    point = classifier.predict_proba(data.texts, num_samples=0, progress=advance)
    seconds = time.perf_counter() - started
    _refuse_nan(point)
    frequentist = Arm("frequentist", 1, 0, 0, seconds, point, measure(point, labels))

    model = _patched_by_baal(classifier)
    started = time.perf_counter()
    patched, sites, calls = _baal_probabilities(model, classifier, data.texts, num_samples, seed, advance)
    seconds = time.perf_counter() - started
    _refuse_nan(patched)
    baal = Arm("baal", num_samples, sites, calls, seconds, patched, measure(patched, labels))

    started = time.perf_counter()
    samples = classifier.sample_proba(data.texts, num_samples=num_samples, seed=seed, progress=advance)
    seconds = time.perf_counter() - started
    mean = samples.mean(2, dtype=np.float64)
    _refuse_nan(mean)
    calls = sum(site.calls for site in classifier.dropout_sites)
    bayesian = Arm("bayesian", num_samples, len(classifier.dropout_sites), calls, seconds, mean, measure(mean, labels))

    rows = np.arange(len(labels))
    if len(rows) > SWEEP_TEXTS:
        rows = np.random.default_rng(seed % 2**64).permutation(rows)[:SWEEP_TEXTS]
    pool = samples[rows]
    if num_samples < SWEEP_POOL:
        texts = [data.texts[i] for i in rows]
        rest = classifier.sample_proba(
            texts, first_sample=num_samples, num_samples=SWEEP_POOL - num_samples, seed=seed, progress=advance
        )
        pool = np.concatenate([pool, rest], axis=2)
    sweep = sample_sweep(pool, labels[rows], point[rows], seed=seed, all_texts=len(labels))
    return Comparison((frequentist, baal, bayesian), sweep)


def total_rows(texts: int, num_samples: int) -> int:
    """How many rows (a text in one pass) `compare` runs."""
    return texts * (1 + 2 * num_samples) + max(SWEEP_POOL - num_samples, 0) * min(texts, SWEEP_TEXTS)


def measure(probabilities: Probabilities, labels: Labels) -> Measures:
    """Measures of `probabilities` (texts, classes) against `labels` (texts,)."""
    p = np.asarray(probabilities, dtype=np.float64)
    p = p / p.sum(1, keepdims=True)  # float32 rows sum to 1 within 1e-7; scikit-learn warns about the rest
    classes = range(p.shape[1])
    bins = load_metric_module().bin_sums(p, labels, n_bins=BINS)
    return Measures(
        accuracy=float(accuracy_score(labels, p.argmax(1))),
        ece=float(bins.ece),
        nll=float(log_loss(labels, p, labels=classes)),
        brier=float(brier_score_loss(labels, p if len(classes) > 2 else p[:, 1], labels=classes)),
        reliability=Reliability(**bins.as_dict()),
    )


def error_rates(probabilities: Probabilities, labels: Sequence[int], kinds: Sequence[str]) -> dict[str, float]:
    """Share of wrong texts of each kind, by name."""
    wrong = np.asarray(probabilities).argmax(1) != np.asarray(labels)
    groups = np.asarray(kinds)
    return {str(kind): float(wrong[groups == kind].mean()) for kind in np.unique(groups)}


def sample_sweep(
    pool: NDArray[np.floating],
    labels: Labels,
    frequentist: Probabilities,
    *,
    seed: int = 0,
    sizes: Sequence[int] = SWEEP_SIZES,
    all_texts: int | None = None,
) -> Sweep:
    """ECE and accuracy against the number of samples.

    Every order permutes the groups of balanced samples whole, and the samples inside each group: any prefix is some
    whole groups and a part of one more, as in a call of the pipeline.

    Args:
        pool: (texts, classes, samples), samples in the pipeline's order.
        labels: (texts,).
        frequentist: (texts, classes), for comparison.
        seed: of the orders.
        sizes: numbers of samples, each at most that of the pool.
        all_texts: how many there are, where these are a part of them.
    """
    random = np.random.default_rng(seed % 2**64)
    module = load_metric_module()
    ece = np.empty((SWEEP_ORDERS, len(sizes)))
    accuracy = np.empty_like(ece)
    columns = np.asarray(sizes) - 1
    for i in range(SWEEP_ORDERS):
        order = _group_order(pool.shape[2], random)[: max(sizes)]
        sums = np.cumsum(pool[:, :, order], axis=2, dtype=np.float64)[:, :, columns]  # (texts, classes, sizes)
        confidence = sums.max(1) / sums.sum(1)
        correct = sums.argmax(1) == labels[:, None]
        accuracy[i] = correct.mean(0)
        # The top-label ECE is the binary one of being right: no need to hand over all classes 1,800 times.
        for j in range(len(sizes)):
            ece[i, j] = module.bin_sums(confidence[:, j], correct[:, j], n_bins=BINS, binary=True).ece
    levels = [0.05, 0.5, 0.95]
    return Sweep(
        list(sizes),
        pool.shape[2],
        SWEEP_ORDERS,
        len(labels),
        all_texts or len(labels),
        np.quantile(ece, levels, axis=0),
        np.quantile(accuracy, levels, axis=0),
        measure(frequentist, labels),
    )


def _group_order(samples: int, random: np.random.Generator) -> NDArray[np.intp]:
    groups = [np.arange(first, min(first + GROUP_SIZE, samples)) for first in range(0, samples, GROUP_SIZE)]
    return np.concatenate([random.permutation(groups[g]) for g in random.permutation(len(groups))])


def _refuse_nan(probabilities: Probabilities) -> None:
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
