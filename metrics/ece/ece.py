"""Calibration errors (ECE and its relatives) as an Evaluate module: pure functions do the math, a class wraps them.

The file is self-contained because Evaluate copies it elsewhere, without its neighbors, before loading it.
"""

import dataclasses
import math
import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any, TypeVar

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray

_DESCRIPTION = """
Expected calibration error (ECE): how far a classifier's confidence is from its accuracy. When a calibrated model
predicts with confidence 0.8, it is correct 80% of the time.

    ECE = sum_b (n_b / N) * |accuracy_b - mean confidence_b|        (Guo et al. 2017, https://arxiv.org/abs/1706.04599)

over the bins b = [i/B, (i+1)/B), the last one closed. 0 is best, 1 is worst. Options: class-wise ECE, bins of equal
mass, the norms l2 (with or without debiasing) and max (MCE). An interval and the value expected for a perfectly
calibrated model are available too.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: Probabilities. Config "default": one row per example, one column per class, each row summing to 1. The
        largest value of a row is its confidence. The first of equal maxima is the predicted label. Config "binary": one
        number per example, the probability of the positive class. Config "multilabel": one row per example, one column
        per label, each value the probability that the label applies.
    references: True labels, integers from 0 to classes - 1. Config "binary": 0 and 1, or booleans. Config "multilabel":
        one row of 0 and 1, or of booleans, per example.
        Both may be lists, NumPy arrays, torch tensors, Arrow arrays or columns of a dataset.
    n_bins (int): Number of bins. Defaults to 10.
    binning (str): "uniform" for bins of equal width (the default), or "quantile" for bins with equal numbers of rows.
        Equal confidences always share a bin, so "quantile" may give fewer than n_bins bins.
    norm (str): "l1", the ECE (the default); "l2", the root of the weighted mean square gap; "max", the largest gap of
        any bin (MCE).
    class_wise (bool): Whether to measure the probability of every class, not only of the predicted one, and average
        over the classes (Kull et al. 2019). Defaults to False. Not available in config "binary". Config
        "multilabel" always measures every label and averages over the labels.
    from_logits (bool): Whether predictions are logits. Defaults to False; it is never guessed from the values.
    debias (bool): Whether to subtract the expected sampling noise from the squared gaps of norm="l2" (Kumar et al.
        2019). Defaults to False.
    confidence_level (float): Level, such as 0.95, at which to also return an interval and a null value. The interval
        comes from 1,000 bootstrap resamples of the rows (see `bootstrap` in this file). The null value is the
        one expected for a perfectly calibrated model with these probabilities. Defaults to None, which returns neither.
    return_bins (bool): Whether to also return the numbers of a reliability diagram. Defaults to False.
    seed (int): Seed of the resamples. Defaults to 0.
Returns:
    ece (float): The error, in [0, 1].
    ece_interval (list of two floats), ece_bias (float): With confidence_level. The interval, and the amount by which
        the value is expected to exceed the truth, estimated from the resamples. The interval accounts for this bias.
    null_ece (float), null_interval (list of two floats): With confidence_level. The mean value of a perfectly
        calibrated model with these probabilities on this many rows, and the band that holds its value at this level.
        An ECE inside the band gives no evidence of miscalibration.
    bins (dict): With return_bins=True, the lists "edges" (one more than there are bins), "counts", "mean_confidence"
        and "accuracy". The two means are None for an empty bin. In config "binary", "accuracy" is the share of
        positives. With class_wise=True, a list of such dicts, one per class. In config "multilabel", one per label.
Examples:
    Confidences 0.95 and 1.0 share the last bin: its accuracy is 0.5, its mean confidence 0.975.

    >>> ece = evaluate.load("ece")
    >>> ece.compute(predictions=[[0.05, 0.95], [0.0, 1.0]], references=[1, 0])
    {'ece': 0.475}

    >>> ece.compute(predictions=[[0.25, 0.75], [0.5, 0.5]], references=[1, 0], n_bins=2, return_bins=True)["bins"]
    {'edges': [0.0, 0.5, 1.0], 'counts': [0, 2], 'mean_confidence': [None, 0.625], 'accuracy': [None, 1.0]}

    Two bins of two rows each, where the second starts at confidence 0.75. The value is the larger of the two gaps:

    >>> predictions = [[0.5, 0.5], [0.625, 0.375], [0.25, 0.75], [0.125, 0.875]]
    >>> ece.compute(predictions=predictions, references=[0, 1, 1, 0], n_bins=2, binning="quantile", norm="max")
    {'ece': 0.3125}

    The probability of the positive class, in batches:

    >>> ece = evaluate.load("ece", "binary")
    >>> ece.add_batch(predictions=[0.25, 0.25], references=[0, 1])
    >>> ece.add_batch(predictions=[0.75, 0.75], references=[1, 1])
    >>> ece.compute()
    {'ece': 0.25}

    Two labels that apply or not, independently of each other. The gaps are 0.25 for the first and 0.0 for the second:

    >>> ece = evaluate.load("ece", "multilabel")
    >>> ece.compute(predictions=[[0.75, 0.0], [0.75, 1.0]], references=[[1, 0], [1, 1]])
    {'ece': 0.125}
"""

_CITATION = """\
@inproceedings{guo2017calibration,
  title = {On Calibration of Modern Neural Networks},
  author = {Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.},
  booktitle = {Proceedings of the 34th International Conference on Machine Learning},
  pages = {1321--1330},
  year = {2017},
  url = {https://arxiv.org/abs/1706.04599}
}
@inproceedings{naeini2015obtaining,
  title = {Obtaining Well Calibrated Probabilities Using Bayesian Binning},
  author = {Naeini, Mahdi Pakdaman and Cooper, Gregory F. and Hauskrecht, Milos},
  booktitle = {Proceedings of the 29th AAAI Conference on Artificial Intelligence},
  pages = {2901--2907},
  year = {2015}
}
@inproceedings{kull2019beyond,
  title = {Beyond temperature scaling: Obtaining well-calibrated multi-class probabilities with {Dirichlet}
    calibration},
  author = {Kull, Meelis and Perello Nieto, Miquel and K{\\"a}ngsepp, Markus and Silva Filho, Telmo and Song, Hao
    and Flach, Peter},
  booktitle = {Advances in Neural Information Processing Systems 32},
  year = {2019},
  url = {https://arxiv.org/abs/1910.12656}
}
@inproceedings{kumar2019verified,
  title = {Verified Uncertainty Calibration},
  author = {Kumar, Ananya and Liang, Percy and Ma, Tengyu},
  booktitle = {Advances in Neural Information Processing Systems 32},
  year = {2019},
  url = {https://arxiv.org/abs/1909.10155}
}
"""

_T = TypeVar("_T")

BINNINGS = ("uniform", "quantile")
NORMS = ("l1", "l2", "max")
RESAMPLES = 1_000  # for the interval, and as many for the null value

_PROBABILITY, _LABEL = datasets.Value("float64"), datasets.Value("int64")  # float32 would move values across bin edges
_CONFIGS = {
    "default": {"predictions": datasets.Sequence(_PROBABILITY), "references": _LABEL},
    "binary": {"predictions": _PROBABILITY, "references": _LABEL},
    "multilabel": {"predictions": datasets.Sequence(_PROBABILITY), "references": datasets.Sequence(_LABEL)},
}

# How far a row sum may be from 1: about five times the worst deviation measured on softmax rows in each dtype (float32:
# 2e-5 at 150,000 classes). float64 arrays often hold float32 results, and Python lists nearly always do.
_SUM_TOLERANCE = {"bfloat16": 2e-2, "float16": 2e-3, "float32": 1e-4, "float64": 1e-5}

_Sums = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]  # counts, confidence, correct: (..., columns, bins) each

_ROUNDING = 1e-12  # rounding error of sums in float64
_CHUNK = 1 << 16  # values processed at once: few enough that temporaries stay in the CPU cache
_FEW_CHUNKS = 8  # with fewer, threads are not worth their cost
_MOST_THREADS = 8  # more would only wait for memory
_BLOCK = 1 << 20  # rows drawn at once, over all resamples


# ---- What the functions return ----


@dataclasses.dataclass(frozen=True)
class BinSums:
    """The sufficient statistics of calibration errors: per bin, a count and two sums. Adding two merges two shards.

    Bin i holds the confidences in `[edges[i], edges[i + 1])`; the last bin also holds its upper edge. All sums are
    exact. Neither the order of the rows nor their split into shards, batches or processes changes a single bit.

    Attributes:
        edges: Edges of the bins, ascending from 0 to 1. *Shape:* (bins + 1,).
        counts: Number of rows in each bin. *Shape:* (bins,).
        confidence: Sum of the confidences in each bin. *Shape:* (bins,).
        correct: Number of correct rows in each bin (binary: positive rows; class-wise: rows of the class; multi-label:
            rows with the label). *Shape:* (bins,).
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidence: tuple[Fraction, ...]
    correct: tuple[int, ...]

    def __add__(self, other: "BinSums") -> "BinSums":
        """Merge with the sums of other rows over the same bins. Raises ValueError if the bins differ."""
        if not isinstance(other, BinSums):
            return NotImplemented
        if self.edges != other.edges:
            raise ValueError(
                f"Cannot add sums over {len(self.counts)} bins to sums over {len(other.counts)} bins: edges differ. "
                "Compute both with the same n_bins, or with the same edges (such as quantile_edges of all rows)."
            )
        return BinSums(
            edges=self.edges,
            counts=tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            confidence=tuple(a + b for a, b in zip(self.confidence, other.confidence, strict=True)),
            correct=tuple(a + b for a, b in zip(self.correct, other.correct, strict=True)),
        )

    def __radd__(self, other: object) -> "BinSums":
        """Support `sum(shards)`, which starts from 0."""
        return self if other == 0 else NotImplemented

    @property
    def ece(self) -> float:
        """`sum_b (n_b / N) * |accuracy_b - mean confidence_b|`, which is `sum_b |correct_b - confidence_b| / N`."""
        return calibration_error([self])

    @property
    def mean_confidence(self) -> NDArray[np.float64]:
        """Mean confidence in each bin, NaN for an empty bin. *Shape:* (bins,)."""
        return _means(self.confidence, self.counts)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of correct rows in each bin (binary: of positive rows), NaN for an empty bin. *Shape:* (bins,)."""
        return _means(self.correct, self.counts)

    def as_dict(self) -> dict[str, list[Any]]:
        """The numbers of a reliability diagram as JSON-ready lists; None for an empty bin, because JSON has no NaN."""
        return {
            "edges": list(self.edges),
            "counts": list(self.counts),
            "mean_confidence": [None if np.isnan(mean) else mean for mean in self.mean_confidence.tolist()],
            "accuracy": [None if np.isnan(mean) else mean for mean in self.accuracy.tolist()],
        }


@dataclasses.dataclass(frozen=True)
class Bootstrap:
    """The effect of sampling noise on a calibration error.

    Attributes:
        interval: Confidence interval of the error, at the requested level.
        bias: The amount by which the value is expected to exceed the truth.
        null: The mean value of a perfectly calibrated model with these probabilities on the same number of rows.
        null_interval: The band that holds the value of such a model, at the requested level.
    """

    interval: tuple[float, float]
    bias: float
    null: float
    null_interval: tuple[float, float]


# ---- The functions ----


def expected_calibration_error(
    predictions: Any,
    references: Any,
    n_bins: int = 10,
    *,
    binning: str = "uniform",
    norm: str = "l1",
    class_wise: bool = False,
    from_logits: bool = False,
    debias: bool = False,
    binary: bool = False,
    multilabel: bool = False,
) -> float:
    """`ECE = sum_b (n_b / N) * |accuracy_b - mean confidence_b|` (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    Bins are `[i/B, (i+1)/B)`, the last one closed. Their edges are `arange(B + 1) / B` in float64. A value on an edge
    belongs to the bin above. Values are compared without rounding: float32(0.7) is 0.69999999, which is below 0.7.

    Top-label, the default: the confidence is the largest probability of a row. The row is correct if that class is the
    true one. `argmax` takes the first of equal maxima: at [0.5, 0.5] the predicted label is 0.

    Class-wise (Kull et al. 2019, https://arxiv.org/abs/1910.12656, eq. 3): each of the K classes k has its own bins,
    filled with the k-th probability of all rows. "Accuracy" is the share of rows whose label is k. The value is the
    mean over the classes.

    Binary: the confidence is the probability p of the positive class, anywhere in [0, 1]. "Accuracy" is the share of
    positives. The value says whether p can be trusted. The top-label ECE of (1 - p, p) says whether max(p, 1 - p) can
    be trusted, which is a different number.

    Multi-label: several labels may apply to a row, or none. Each label is a binary problem with bins of its own. The
    value is the mean over the labels. For the pooled error, pass `predictions.ravel()` and `references.ravel()` as
    binary.

    Args:
        predictions: Probabilities in [0, 1], or finite logits: a NumPy array, a torch tensor of any dtype and device,
            a nested list, an Arrow array or a `datasets` column. *Shape:* (rows, classes) with at least two classes;
            binary: (rows,); multi-label: (rows, labels).
        references: True labels, integers in [0, classes - 1]; binary and multi-label: 0 and 1, or booleans.
            *Shape:* (rows,); multi-label: (rows, labels).
        n_bins: Number of bins B, at least 1.
        binning: "uniform", or "quantile" for the inner edges of `quantile_edges`.
        norm: "l1"; "l2": `sqrt(sum_b (n_b / N) * gap_b^2)`, class-wise the root of the mean over the classes; "max":
            `max_b |gap_b|` (MCE).
        class_wise: Whether to measure the probability of every class.
        from_logits: Whether predictions are logits. A softmax over the row (binary, multi-label: a sigmoid) in float64
            turns them into probabilities.
        debias: Whether to subtract `accuracy_b * (1 - accuracy_b) / (n_b - 1)` from each squared gap; for norm "l2"
            (Kumar et al. 2019, https://arxiv.org/abs/1909.10155, definition 5.1). A bin of one row counts as 0, and so
            does a negative sum.
        binary: Whether predictions are the probability of the positive class.
        multilabel: Whether predictions are the probabilities of independent labels.

    Returns:
        The error, in [0, 1].

    Raises:
        ValueError: A value is NaN, infinite, None, masked or outside [0, 1]. A row does not sum to 1 (within 0.02 for
            bfloat16, 0.002 for float16, 0.0001 for float32 and Python lists, 0.00001 for float64). A label is not an
            integer or is out of range. Shapes are wrong or differ. There are no rows. n_bins is below 1. A flag is not
            a boolean. The binning or norm is unknown. Options contradict each other. The message says where.
    """
    config = _config(binary, multilabel)
    _check_options(n_bins, binning, norm, class_wise, debias, config, from_logits=from_logits)
    columns = _columns(predictions, references, from_logits, class_wise, config)
    return calibration_error(columns.sums(columns.edges(n_bins, binning)), norm, debias=debias)


def bin_sums(
    predictions: Any,
    references: Any,
    n_bins: int = 10,
    *,
    edges: Sequence[float] | None = None,
    from_logits: bool = False,
    binary: bool = False,
) -> BinSums:
    """The per-bin sums behind `expected_calibration_error`. The sums of data shards can be added.

    Args:
        predictions: See `expected_calibration_error`.
        references: See `expected_calibration_error`.
        n_bins: Number of bins of equal width.
        edges: Edges of other bins, ascending from 0 to 1, such as `quantile_edges` of all shards.
        from_logits: See `expected_calibration_error`.
        binary: See `expected_calibration_error`.

    Raises:
        ValueError: As `expected_calibration_error`, and for edges that do not ascend from 0 to 1.

    >>> first = bin_sums([[0.2, 0.8], [0.9, 0.1]], [1, 1])
    >>> second = bin_sums([[0.7, 0.3]], [0])
    >>> (first + second).counts
    (0, 0, 0, 0, 0, 0, 0, 1, 1, 1)
    """
    config = _config(binary)
    _check_options(n_bins, from_logits=from_logits, config=config)
    columns = _columns(predictions, references, from_logits, False, config)
    return columns.sums([uniform_edges(n_bins) if edges is None else _checked_edges(edges)])[0]


def class_wise_bin_sums(
    predictions: Any,
    references: Any,
    n_bins: int = 10,
    *,
    edges: Sequence[Sequence[float]] | None = None,
    from_logits: bool = False,
    multilabel: bool = False,
) -> list[BinSums]:
    """`bin_sums` for every class, or for every label if `multilabel`. `edges`, if given, holds the edges of each."""
    config = _config(multilabel=multilabel)
    _check_options(n_bins, from_logits=from_logits)
    columns = _columns(predictions, references, from_logits, True, config)
    if edges is not None and len(edges) != len(columns.confidence):
        raise ValueError(
            f"edges holds the edges of {len(edges)} classes and predictions has {len(columns.confidence)} columns; "
            "give the edges of every class."
        )
    own = [_checked_edges(one) for one in edges] if edges is not None else columns.edges(n_bins, "uniform")
    return columns.sums(own)


def quantile_edges(confidence: Any, n_bins: int = 10) -> list[float]:
    """Edges of bins that hold equal numbers of confidences: 0, inner edges, 1.

    The j-th inner edge is the confidence at rank `floor(j * N / B)` in ascending order, counted from 0. Equal
    confidences are never split. Equal edges are merged, so there may be fewer than B bins. The order of the confidences
    does not matter.

    Args:
        confidence: Values in [0, 1]. *Shape:* (rows,).
        n_bins: Number of bins B, at least 1.
    """
    _check_options(n_bins)
    values, _ = _to_array(confidence, "confidence")
    if values.dtype.kind not in "fiu" and values.size:
        _refuse_non_number(values, "confidence", "every value must be a number in [0, 1]")
    if values.ndim != 1 or not values.size:
        raise ValueError(f"confidence has shape {values.shape}; give at least one number in [0, 1], of shape (rows,).")
    if not (legal := (values >= 0) & (values <= 1)).all():
        at = _first(~legal)
        raise ValueError(f"{_place('confidence', at)} is {values[at]}; every value must be a number in [0, 1].")
    return list(_quantile_edges(values.astype(np.float64), n_bins))


def calibration_error(sums: BinSums | Iterable[BinSums], norm: str = "l1", *, debias: bool = False) -> float:
    """The error computed from `bin_sums(...)` or `class_wise_bin_sums(...)`, merged from shards or not.

    `norm` and `debias` are those of `expected_calibration_error`. Only the final result is rounded.
    """
    _check_options(norm=norm, debias=debias)
    sums = [sums] if isinstance(sums, BinSums) else list(sums)
    if not sums:
        raise ValueError("sums is empty; give the sums of at least one column, such as bin_sums(...).")
    widest = max(len(one.counts) for one in sums)

    def padded(values: Iterable[Sequence[Fraction | int]]) -> NDArray[np.object_]:
        return np.array([[*map(Fraction, row), *[Fraction(0)] * (widest - len(row))] for row in values], dtype=object)

    error = error_from_sums(
        padded(one.counts for one in sums),
        padded(one.confidence for one in sums),
        padded(one.correct for one in sums),
        norm,
        debias,
    ).item()
    return math.sqrt(error) if norm == "l2" else float(error)


def bootstrap(
    predictions: Any,
    references: Any,
    n_bins: int = 10,
    *,
    confidence_level: float = 0.95,
    seed: int = 0,
    binning: str = "uniform",
    norm: str = "l1",
    class_wise: bool = False,
    from_logits: bool = False,
    binary: bool = False,
    multilabel: bool = False,
) -> Bootstrap:
    """The effect of sampling noise on `expected_calibration_error`.

    Rows are drawn with replacement 1,000 times; the bins stay fixed. An ECE (l1) measured on few rows is higher than
    the ECE of all data, because the gap of a bin is an absolute value. A resample is higher again. The bias is the mean
    of the resamples minus the value e. With the quantiles q of the resamples, the interval is

        [2 e - q(1 - a/2),  e + (q(1 - a/2) - q(a/2)) / 2]      clipped to [0, 1].

    Its lower end is that of the basic bootstrap (Davison and Hinkley 1997, section 5.2), which removes the bias. Its
    upper end is halfway between those of the basic and the percentile bootstrap: the bias estimate itself varies, and
    the basic upper end is too low. The metric card says how often the interval holds the truth. The null value and its
    band come from 1,000 draws of labels from the unchanged probabilities.

    Args:
        predictions: See `expected_calibration_error`, for this and all arguments not explained here.
        references: See there.
        n_bins: See there.
        confidence_level: 1 - a, between 0 and 1.
        seed: Seed of the draws, at least 0.
        binning: See there.
        norm: See there.
        class_wise: See there.
        from_logits: See there.
        binary: See there.
        multilabel: See there. Whole rows are drawn. The null value takes the labels of a row for independent.

    Raises:
        ValueError: As `expected_calibration_error`, and for a confidence_level or seed out of range.
    """
    if confidence_level is None:
        raise ValueError("confidence_level is None; it must lie between 0 and 1, such as 0.95.")
    config = _config(binary, multilabel)
    _check_options(n_bins, binning, norm, class_wise, False, config, confidence_level, seed, from_logits=from_logits)
    columns = _columns(predictions, references, from_logits, class_wise, config)
    return columns.bootstrap(columns.edges(n_bins, binning), norm, confidence_level, seed)


def uniform_edges(n_bins: int) -> tuple[float, ...]:
    """`arange(B + 1) / B` in float64."""
    n_bins = int(n_bins)  # adding 1 to a narrow NumPy integer could overflow
    return tuple(i / n_bins for i in range(n_bins + 1))  # not linspace: rounding makes its edges differ from i / B


def bins_of(confidence: NDArray[np.float64], edges: tuple[float, ...]) -> NDArray[np.intp]:
    """The bin of each confidence: bin i is `[edges[i], edges[i + 1])`, the last one closed. *Shape:* (rows,)."""
    n_bins = len(edges) - 1
    if edges != uniform_edges(n_bins):
        return np.minimum(np.searchsorted(edges, confidence, side="right") - 1, n_bins - 1)
    # The product can be off by one bin: 0.29 * 100 is 28.999999999999996, but 0.29 belongs to bin 29.
    bins = np.minimum((confidence * n_bins).astype(np.intp), n_bins - 1)
    bins -= confidence < np.take(edges, bins)
    bins += confidence >= np.take((*edges[1:-1], np.inf), bins)
    return bins


def error_from_sums(
    counts: NDArray[Any], confidence: NDArray[Any], correct: NDArray[Any], norm: str = "l1", debias: bool = False
) -> NDArray[Any]:
    """The error from the sums of each bin, for many resamples at once; with norm "l2", its square.

    Args:
        counts: Number of rows in each bin. All three arrays hold floats or Fractions. *Shape:* (..., columns, bins).
        confidence: Sum of the confidences in each bin. *Shape:* (..., columns, bins).
        correct: Number of correct rows in each bin. *Shape:* (..., columns, bins).
        norm: See `expected_calibration_error`.
        debias: See `expected_calibration_error`.

    Returns:
        One error per resample. *Shape:* (...).
    """
    gaps = abs(correct - confidence)
    filled = np.maximum(counts, 1)
    if norm == "max":
        return np.asarray((gaps / filled).max(axis=(-2, -1)))
    if norm == "l2":
        gaps = gaps * gaps / filled
        if debias:
            noise = correct * (counts - correct) / (filled * np.maximum(counts - 1, 1))
            gaps = np.where(counts > 1, gaps - noise, 0 * gaps)
    # Every column holds all rows, so this is the mean over the columns.
    return np.asarray(np.maximum(gaps.sum(axis=(-2, -1)) / counts.sum(axis=(-2, -1)), 0))


def interval_of_biased(value: float, resampled: NDArray[np.float64], confidence_level: float) -> tuple[float, float]:
    """The bootstrap interval of a statistic that is biased upward on few rows; see `bootstrap`.

    Args:
        value: The statistic e on the rows.
        resampled: The statistic on resamples of the rows. *Shape:* (resamples,).
        confidence_level: 1 - a, between 0 and 1.

    Returns:
        `2 e - q(1 - a/2)` and `e + (q(1 - a/2) - q(a/2)) / 2`, moved if necessary so that they enclose the value.
    """
    low, high = np.quantile(resampled, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    return min(2 * value - high, value), max(value + (high - low) / 2, value)


# ---- The Evaluate module: a wrapper around the functions above ----


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ECE(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """`expected_calibration_error` as an Evaluate metric.

    Evaluate writes Arrow before it calls `_compute`, and Arrow turns the label 0.9 into 0 and None into NaN. Therefore
    `add`, `add_batch` and `compute` check their raw input first.
    """

    _columns: int | None = None  # number of classes of the rows added so far
    _refusal: str | None = None  # why the added rows are not probabilities; ignored if compute gets from_logits=True

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _CONFIGS:
            raise ValueError(
                f'config_name is {self.config_name!r}; it must be "default" (rows of class probabilities), "binary" '
                '(the probability of the positive class) or "multilabel" (rows of independent probabilities).'
            )
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(_CONFIGS[self.config_name]),
            reference_urls=["https://arxiv.org/abs/1706.04599"],
        )

    def add(
        self, *, prediction: Any = None, reference: Any = None, predictions: Any = None, references: Any = None
    ) -> None:
        """Add one example. Evaluate's documentation and `evaluate.combine` use the plural argument names."""
        for one, other in ((prediction, predictions), (reference, references)):
            if one is not None and other is not None:
                raise ValueError(
                    "add takes one example; give either prediction or predictions, and either reference or references."
                )
        prediction = predictions if prediction is None else prediction
        reference = references if reference is None else reference
        rows, labels = self._checked([prediction], [reference])
        super().add(prediction=rows[0], reference=labels[0])

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """Add a batch of examples."""
        rows, labels = self._checked(predictions, references)
        super().add_batch(predictions=rows, references=labels)

    def compute(
        self,
        *,
        predictions: Any = None,
        references: Any = None,
        n_bins: int = 10,
        binning: str = "uniform",
        norm: str = "l1",
        class_wise: bool = False,
        from_logits: bool = False,
        debias: bool = False,
        confidence_level: float | None = None,
        return_bins: bool = False,
        seed: int = 0,
    ) -> dict[str, Any] | None:
        """Compute the ECE of all examples added so far and those given here. If it raises, the added ones are kept."""
        options: dict[str, Any] = {
            "n_bins": n_bins,
            "binning": binning,
            "norm": norm,
            "class_wise": class_wise,
            "debias": debias,
            "confidence_level": confidence_level,
            "seed": seed,
        }
        flags: dict[str, Any] = {"from_logits": from_logits, "return_bins": return_bins}
        _check_options(**options, **flags, config=self.config_name)
        if predictions is None and references is None and not len(self):
            raise ValueError("There is nothing to compute: pass predictions and references, or add some first.")
        refusal = None if from_logits else self._refusal
        if refusal and self.process_id == 0:
            raise ValueError(refusal)
        if predictions is not None or references is not None:
            rows, labels = self._checked(predictions, references, defer=from_logits)
            super().add_batch(predictions=rows, references=labels)
        self._columns = self._refusal = None
        result: dict[str, Any] | None = super().compute(**options, **flags)
        if refusal:  # raised late because process 0 waits for the rows of this process and must get them first
            raise ValueError(refusal)
        return result

    def _compute(
        self,
        predictions: Any,
        references: Any,
        n_bins: int,
        binning: str,
        norm: str,
        class_wise: bool,
        from_logits: bool,
        debias: bool,
        confidence_level: float | None,
        return_bins: bool,
        seed: int,
    ) -> dict[str, Any]:
        rows, labels, tolerance = _read(predictions, references, self.config_name)
        if not from_logits:  # each process has checked its own rows with their dtype, which Arrow does not keep
            _check_probabilities(rows, max(tolerance, *_SUM_TOLERANCE.values()))
        columns = _Columns(rows, labels, from_logits, class_wise)
        edges = columns.edges(n_bins, binning)
        sums = columns.sums(edges)
        result: dict[str, Any] = {"ece": calibration_error(sums, norm, debias=debias)}
        if confidence_level is not None:
            resampled = columns.bootstrap(edges, norm, confidence_level, seed)
            result |= {
                "ece_interval": list(resampled.interval),
                "ece_bias": resampled.bias,
                "null_ece": resampled.null,
                "null_interval": list(resampled.null_interval),
            }
        if return_bins:
            every = class_wise or self.config_name == "multilabel"
            result["bins"] = [one.as_dict() for one in sums] if every else sums[0].as_dict()
        return result

    def _checked(
        self, predictions: Any, references: Any, defer: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Checked arrays, ready to add. `defer`: only `compute` will know whether they must be probabilities."""
        rows, labels, tolerance = _read(predictions, references, self.config_name)
        columns = rows.shape[-1] if rows.ndim == 2 else 1
        if self._columns not in (None, columns):
            raise ValueError(f"predictions has {columns} columns; the rows added before have {self._columns}.")
        try:
            _check_probabilities(rows, tolerance, first_row=len(self) if defer else 0)
        except ValueError as error:
            if not defer:
                raise
            self._refusal = self._refusal or str(error)
        self._columns = columns
        return rows.astype(np.float64, copy=False), labels


# ---- Binning and resampling ----


class _Columns:
    """The values to bin: the probability of the predicted class, of the positive class, of every class or every label.

    Attributes:
        confidence: Probabilities, one array per column. *Shape:* (rows,).
        correct: Whether the event that the column predicts happened, one array per column. *Shape:* (rows,).
        independent: Whether several events may happen in one row.
    """

    def __init__(
        self, rows: NDArray[np.floating], labels: NDArray[np.int64], from_logits: bool, class_wise: bool
    ) -> None:
        """From checked input: (rows, columns), or (rows,) for the probability of the positive class."""
        self.confidence: list[NDArray[np.float64]]
        self.correct: list[NDArray[np.bool_]]
        self.independent = labels.ndim == 2
        if class_wise or self.independent:
            probabilities = np.empty(rows.shape[::-1])  # transposed, so that the values of a column are contiguous
            function = _sigmoid if self.independent else _softmax

            def turn(where: slice, part: NDArray[np.float64]) -> None:
                probabilities[:, where] = (function(part) if from_logits else part).T

            _over_chunks(rows, turn)
            self.confidence = list(probabilities)
            events = labels.T == 1 if self.independent else (labels == k for k in range(len(probabilities)))
            self.correct = list(events)
            return
        confidence, correct = np.empty(len(rows)), np.empty(len(rows), bool)

        def fill(where: slice, part: NDArray[np.float64]) -> None:
            if rows.ndim == 1:
                confidence[where] = _sigmoid(part) if from_logits else part
                correct[where] = labels[where] == 1
            else:
                probabilities = _softmax(part) if from_logits else part
                predicted, confidence[where] = _largest(probabilities)
                correct[where] = predicted == labels[where]

        _over_chunks(rows, fill)
        self.confidence, self.correct = [confidence], [correct]

    def edges(self, n_bins: int, binning: str) -> list[tuple[float, ...]]:
        """The edges of each column's bins."""
        if binning == "uniform":
            return [uniform_edges(n_bins)] * len(self.confidence)
        return [_quantile_edges(confidence, n_bins) for confidence in self.confidence]

    def sums(self, edges: Sequence[tuple[float, ...]]) -> list[BinSums]:
        """The sums of each column over its bins."""
        return [_bin(*column) for column in zip(self.confidence, self.correct, edges, strict=True)]

    def bootstrap(self, edges: Sequence[tuple[float, ...]], norm: str, confidence_level: float, seed: int) -> Bootstrap:
        """See the function `bootstrap`."""
        bins = [bins_of(confidence, e) for confidence, e in zip(self.confidence, edges, strict=True)]
        widest = max(len(e) for e in edges) - 1
        tails = [(1 - confidence_level) / 2, (1 + confidence_level) / 2]

        def errors(draws: Iterator[_Sums]) -> NDArray[np.float64]:
            found = np.concatenate([error_from_sums(*sums, norm=norm) for sums in draws])
            return np.asarray(np.sqrt(found) if norm == "l2" else found)

        value = calibration_error(self.sums(edges), norm)
        resampled = errors(self._resampled(bins, widest, np.random.default_rng([seed, 0])))
        null = errors(self._calibrated(bins, widest, np.random.default_rng([seed, 1])))
        null_low, null_high = np.quantile(null, tails)
        interval = np.clip(interval_of_biased(value, resampled, confidence_level), 0, 1)
        # The draws are summed in float64 but the value exactly, so equal results may differ by rounding.
        null_low, null_high = np.clip([null_low - _ROUNDING, null_high + _ROUNDING], 0, 1)
        return Bootstrap(
            (float(interval[0]), float(interval[1])),
            float(resampled.mean()) - value,
            float(null.mean()),
            (float(null_low), float(null_high)),
        )

    def _resampled(self, bins: Sequence[NDArray[np.intp]], widest: int, rng: np.random.Generator) -> Iterator[_Sums]:
        """Counts, confidence, correct of rows drawn with replacement. *Shape:* (resamples, columns, bins) each."""
        rows = len(bins[0])
        for count in _blocks(max(rows, 3 * len(bins) * widest)):
            chosen = rng.integers(0, rows, (count, rows))
            sums = np.empty((3, count, len(bins), widest))
            for k, (own, confidence, correct) in enumerate(zip(bins, self.confidence, self.correct, strict=True)):
                place = own[chosen]
                place += np.arange(count)[:, None] * widest
                for i, weights in enumerate((None, confidence[chosen], correct[chosen])):
                    flat = None if weights is None else weights.ravel()
                    found = np.bincount(place.ravel(), weights=flat, minlength=count * widest)
                    sums[i, :, k] = found.reshape(count, widest)
            yield sums[0], sums[1], sums[2]

    def _calibrated(self, bins: Sequence[NDArray[np.intp]], widest: int, rng: np.random.Generator) -> Iterator[_Sums]:
        """Sums of the unchanged rows with labels drawn from their probabilities; shapes as in `_resampled`."""
        rows, columns = len(bins[0]), len(bins)
        counts, confidence = np.zeros((columns, widest)), np.zeros((columns, widest))
        for k, own in enumerate(bins):
            counts[k] = np.bincount(own, minlength=widest)
            confidence[k] = np.bincount(own, weights=self.confidence[k], minlength=widest)
        apart = self.independent or columns == 1
        upto = np.array(self.confidence) if apart else np.cumsum(self.confidence, axis=0)  # (columns, rows)
        for count in _blocks(columns * max(rows, widest)):
            uniform = rng.random((count, columns if apart else 1, rows))
            if apart:
                happens = uniform < upto
            else:  # one class per row; the last class takes the probability that rounding leaves over
                label = (uniform >= upto[:-1]).sum(axis=1)
                happens = label[:, None] == np.arange(columns)[:, None]
            correct = np.empty((count, columns, widest))
            for k, own in enumerate(bins):
                draw, row = np.nonzero(happens[:, k])
                found = np.bincount(draw * widest + own[row], minlength=count * widest)
                correct[:, k] = found.reshape(count, widest)
            yield np.broadcast_to(counts, correct.shape), np.broadcast_to(confidence, correct.shape), correct


def _columns(predictions: Any, references: Any, from_logits: bool, class_wise: bool, config: str) -> _Columns:
    """Read and check the raw input. Raises ValueError."""
    rows, labels, tolerance = _read(predictions, references, config)
    if not from_logits:
        _check_probabilities(rows, tolerance)
    return _Columns(rows, labels, from_logits, class_wise)


def _over_chunks(
    rows: NDArray[np.floating], work: Callable[[slice, NDArray[np.float64]], _T]
) -> list[tuple[slice, _T]]:
    """`work(where, rows[where] in float64)` for chunks of consecutive rows, in order.

    Runs in threads, because NumPy releases the GIL. Raises the error of the first chunk that fails.
    """
    step = max(_CHUNK // rows[0].size, 1)
    places = [slice(first, first + step) for first in range(0, len(rows), step)]

    def run(where: slice) -> _T:
        return work(where, rows[where].astype(np.float64, copy=False))

    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(own, _MOST_THREADS)
    if len(places) < _FEW_CHUNKS or threads == 1:
        return [(where, run(where)) for where in places]
    with ThreadPoolExecutor(threads) as pool:
        return list(zip(places, pool.map(run, places), strict=True))


def _blocks(numbers: int) -> Iterator[int]:
    """How many resamples to draw at once, block by block, if each takes `numbers` values."""
    step = min(max(_BLOCK // numbers, 1), RESAMPLES)
    for first in range(0, RESAMPLES, step):
        yield min(step, RESAMPLES - first)


def _quantile_edges(confidence: NDArray[np.float64], n_bins: int) -> tuple[float, ...]:
    n_bins = int(n_bins)
    ranks = sorted({j * len(confidence) // n_bins for j in range(n_bins)})
    below = np.unique(np.partition(confidence, ranks)[ranks]).tolist()  # the smallest value of each bin
    return (0.0, *below[1:], 1.0)


def _checked_edges(edges: Sequence[float]) -> tuple[float, ...]:
    try:
        values = np.asarray(edges, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    ends = values.ndim == 1 and len(values) >= 2 and values[0] == 0 and values[-1] == 1
    if ends and (np.diff(values)[:-1] > 0).all():  # the last bin may be [1, 1]
        return tuple(values.tolist())
    raise ValueError(f"edges are {reprlib.repr(edges)}; they must be numbers that ascend from 0 to 1.")


def _bin(confidence: NDArray[np.float64], correct: NDArray[np.bool_], edges: tuple[float, ...]) -> BinSums:
    n_bins = len(edges) - 1

    def count(where: slice, values: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        bins = bins_of(values, edges)
        both = np.bincount(2 * bins + correct[where], minlength=2 * n_bins).reshape(n_bins, 2)
        return both.sum(axis=1), np.array(_exact_sums(values, bins, n_bins), dtype=object), both[:, 1]

    parts = [part for _, part in _over_chunks(confidence, count)]
    counts, sums, hits = (np.sum(column, axis=0) for column in zip(*parts, strict=True))
    return BinSums(edges, tuple(counts.tolist()), tuple(sums.tolist()), tuple(hits.tolist()))


def _exact_sums(values: NDArray[np.float64], bins: NDArray[np.intp], n_bins: int) -> list[Fraction]:
    """Sums of values in [0, 1] per bin, without rounding.

    A float sum depends on the order of its terms, and so on how rows were split into batches, shards and processes.
    Exact sums give the same bits however they are merged. A Fraction holds one without rounding.

    The values are summed as integers, 27 bits at a time (two passes for values of 1/2 and more, since float64 has 53
    bits). Sums of up to 2^26 such integers are exact in float64.
    """
    sums, scale = [0] * n_bins, 1
    while values.any():
        values = values * 2.0**27
        digits = np.floor(values)
        values -= digits
        part = np.bincount(bins, weights=digits, minlength=n_bins)
        sums = [total * 2**27 + int(more) for total, more in zip(sums, part.tolist(), strict=True)]
        scale *= 2**27
    return [Fraction(total, scale) for total in sums]


def _means(sums: Sequence[Fraction | int], counts: Sequence[int]) -> NDArray[np.float64]:
    return np.array([float(total / count) if count else np.nan for total, count in zip(sums, counts, strict=True)])


def _largest(probabilities: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The class with the largest value in each row (the first of equal ones), and that value. *Shape:* (rows,) each."""
    if probabilities.shape[1] == 2:  # five times as fast as the general code
        second = probabilities[:, 1] > probabilities[:, 0]
        return second.astype(np.intp), np.maximum(probabilities[:, 0], probabilities[:, 1])
    predicted = probabilities.argmax(axis=1)
    return predicted, probabilities[np.arange(len(predicted)), predicted]


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", under="ignore"):  # exp(-800) is 0, even if the caller set underflow to raise
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", under="ignore"):  # exp(800) is inf, and 1 / inf is the right 0
        probabilities: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logits))
    return probabilities


# ---- Reading and checking input ----


def _config(binary: bool = False, multilabel: bool = False) -> str:
    """The config that these flags of a function stand for. Raises ValueError."""
    for name, flag in {"binary": binary, "multilabel": multilabel}.items():
        _check_flag(name, flag)
    if binary and multilabel:
        raise ValueError("binary and multilabel are both True; give only one of them.")
    return "binary" if binary else "multilabel" if multilabel else "default"


def _check_flag(name: str, flag: Any) -> None:
    if not isinstance(flag, (bool, np.bool_)):  # the string "no" would count as true
        raise ValueError(f"{name} is {flag!r}; it must be True or False.")


def _check_options(
    n_bins: int = 10,
    binning: str = "uniform",
    norm: str = "l1",
    class_wise: bool = False,
    debias: bool = False,
    config: str = "default",
    confidence_level: float | None = None,
    seed: int = 0,
    **flags: bool,
) -> None:
    if isinstance(n_bins, bool) or not isinstance(n_bins, (int, np.integer)) or n_bins < 1:
        raise ValueError(f"n_bins is {n_bins!r}; it must be an integer of at least 1, such as 10 or 15.")
    for name, value, legal in (("binning", binning, BINNINGS), ("norm", norm, NORMS)):
        if value not in legal:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, legal))}.")
    for name, flag in {"class_wise": class_wise, "debias": debias, **flags}.items():
        _check_flag(name, flag)
    if confidence_level is not None:
        real = isinstance(confidence_level, (float, np.floating))
        if not real or not 0 < confidence_level < 1:
            raise ValueError(f"confidence_level is {confidence_level!r}; it must lie between 0 and 1, such as 0.95.")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed is {seed!r}; it must be an integer of at least 0.")
    if debias and norm != "l2":
        raise ValueError(f'debias is True and norm is {norm!r}; debiasing is defined only for norm="l2".')
    if debias and confidence_level is not None:
        raise ValueError(
            "debias is True and confidence_level is given; a resample has its own sampling noise on top of that of the "
            "data, and debiasing removes only one of the two. Give only one of these options."
        )
    if class_wise and config == "multilabel":
        raise ValueError(
            'class_wise is True; config "multilabel" measures every label anyway, so leave class_wise out.'
        )
    if class_wise and config == "binary":
        raise ValueError(
            "class_wise is True, but predictions holds only the probability of the positive class; leave class_wise "
            'out, or pass rows of all classes to config "default".'
        )


def _check_probabilities(rows: NDArray[np.floating], tolerance: float, first_row: int = 0) -> None:
    """Raise ValueError for the first value outside [0, 1], or else for the first row that does not sum to 1."""

    def check(where: slice, part: NDArray[np.float64]) -> tuple[int, float] | None:
        """The first row of the part that does not sum to 1, and its sum."""
        if part.min() < 0 or part.max() > 1:
            index = _first((part < 0) | (part > 1))
            place = _place("predictions", (first_row + where.start + index[0], *index[1:]))
            raise ValueError(
                f"{place} is {part[index]}; probabilities must lie in [0, 1]. Pass from_logits=True for logits."
            )
        if part.ndim == 1:
            return None
        totals = part @ np.ones(part.shape[1])
        if -tolerance <= totals.min() - 1 and totals.max() - 1 <= tolerance:
            return None
        row = _first(np.abs(totals - 1) > tolerance)[0]
        return first_row + where.start + row, totals[row]

    # Check every value before any sum: the range is what tells logits from probabilities.
    wrong = next((found for _, found in _over_chunks(rows, check) if found is not None), None)
    if wrong is not None:
        row, total = wrong
        raise ValueError(
            f"{_place('predictions', (row,))} sums to {total:.6g}; each row must hold probabilities that sum to 1, "
            f"within {tolerance:g} for its dtype. Pass from_logits=True for logits; divide rounded rows by their sum; "
            'for independent labels, use evaluate.load("ece", "multilabel"), or multilabel=True in a function call.'
        )


def _read(predictions: Any, references: Any, config: str) -> tuple[NDArray[np.floating], NDArray[np.int64], float]:
    """Arrays of predictions (probabilities or logits, unchanged) and labels, and how far a row sum may be from 1."""
    binary, multilabel = config == "binary", config == "multilabel"
    rows, tolerance = _to_array(predictions, "predictions")
    if rows.size == 0:
        raise ValueError(f"predictions is empty, of shape {rows.shape}; at least one row is needed.")
    if rows.dtype.kind not in "fiu" and rows.dtype.name != "bfloat16":
        _refuse_non_number(rows, "predictions", "every value must be a number")
    if binary and rows.ndim != 1:
        raise ValueError(
            f'predictions has shape {rows.shape}; config "binary" takes the probability of the positive class for each '
            'row, of shape (rows,). Pass that column, such as predictions[:, 1], or use config "default" for rows of '
            "all classes."
        )
    if multilabel and rows.ndim != 2:
        raise ValueError(
            f'predictions has shape {rows.shape}; config "multilabel" takes the probability of every label for each '
            'row, of shape (rows, labels). For a single label, use config "binary".'
        )
    if not (binary or multilabel) and (rows.ndim != 2 or rows.shape[1] == 1):
        raise ValueError(
            f"predictions has shape {rows.shape}; expected the probability of every class, of shape (rows, classes), "
            "with at least two classes. Label ids carry no confidence. For only the probability of the positive class, "
            'of shape (rows,), use evaluate.load("ece", "binary"), or binary=True in a function call.'
        )
    for where, (low, high) in _over_chunks(rows, lambda where, part: (part.min(), part.max())):
        if not (np.isfinite(low) and np.isfinite(high)):  # the minimum is NaN if any value is
            index = _first(~np.isfinite(rows[where].astype(np.float64)))
            index = (where.start + index[0], *index[1:])
            raise ValueError(
                f"{_place('predictions', index)} is {rows[index]}; every value must be finite. Leave such rows out, or "
                "fix the code that produced them; replace a masked logit with a large negative number."
            )
    yes_or_no = binary or multilabel
    labels = _read_labels(references, 2 if yes_or_no else rows.shape[1], yes_or_no, rows.shape if multilabel else None)
    if len(rows) != len(labels):
        raise ValueError(f"predictions has {len(rows)} rows and references has {len(labels)}; give one label per row.")
    return rows, labels, np.inf if multilabel else tolerance


def _read_labels(references: Any, classes: int, allow_bool: bool, shape: tuple[int, ...] | None) -> NDArray[np.int64]:
    """The labels, one per row, or of the given shape."""
    labels, _ = _to_array(references, "references")
    if labels.size == 0:
        raise ValueError("references is empty; at least one label is needed.")
    legal = f"labels must be integers in [0, {classes - 1}]"
    if labels.dtype.kind == "f":
        index = _first(labels != np.floor(labels))  # the first row if all are whole numbers
        raise ValueError(
            f"{_place('references', index)} is {labels[index]} ({labels.dtype}); {legal}. Pass class ids as integers."
        )
    if labels.dtype.kind not in ("iub" if allow_bool else "iu"):
        _refuse_non_number(labels, "references", legal)
    if shape is not None and labels.shape != shape:
        raise ValueError(
            f"references has shape {labels.shape} and predictions has {shape}; give a 0 or 1 for every label of every "
            "row, such as [1, 0, 1] for the labels 0 and 2 of three."
        )
    if shape is None and labels.ndim != 1:
        raise ValueError(f"references has shape {labels.shape}; expected one class id per row, of shape (rows,).")
    if labels.min() < 0 or labels.max() >= classes:
        bad = _first((labels < 0) | (labels >= classes))
        raise ValueError(
            f"{_place('references', bad)} is {labels[bad]}; {legal}. Leave out rows without a label, such as -100."
        )
    return labels.astype(np.int64, copy=False)


def _to_array(values: Any, name: str) -> tuple[NDArray[Any], float]:
    """`values` as an array, and the tolerance of row sums that fits its original precision."""
    if isinstance(values, Sequence) and hasattr(values, "column_name"):
        values = values[:]  # a datasets.Column: 30 times faster than row by row
    half = False
    if hasattr(values, "to_pylist"):  # an Arrow array
        half = "halffloat" in str(values.type)
        values = values.to_pylist()
    if hasattr(values, "detach"):  # a torch tensor, recognized by its method because torch is not imported
        try:
            tensor = values.detach().cpu()
            # NumPy has neither bfloat16 nor 8-bit floats.
            array = (tensor.float() if tensor.is_floating_point() and tensor.element_size() <= 2 else tensor).numpy()
        except (TypeError, RuntimeError) as error:  # sparse, quantized, or without data
            raise ValueError(
                f"{name} is a tensor that NumPy cannot hold ({str(error).splitlines()[0]}); pass an ordinary tensor."
            ) from None
        return array, _SUM_TOLERANCE.get(str(tensor.dtype).removeprefix("torch."), _SUM_TOLERANCE["float64"])
    _refuse_masked(values, name)
    tolerance = _SUM_TOLERANCE["float16"] if half else 0.0
    if isinstance(values, (list, tuple)):
        tolerance = max(tolerance, _SUM_TOLERANCE["float32"])
        for i, row in enumerate(values):
            _refuse_masked(row, name, i)
        if any(hasattr(row, "detach") for row in values):
            arrays, tolerances = zip(*(_to_array(row, name) for row in values), strict=True)
            values, tolerance = arrays, max(tolerances)
    try:
        array = np.asarray(values)
    except TypeError as error:  # tensors inside the rows
        raise ValueError(f"{name} cannot be read ({error}); pass one tensor or array, or lists of numbers.") from None
    except ValueError:  # rows of different lengths
        sizes = [len(row) if hasattr(row, "__len__") else None for row in values]
        odd = next((i for i, size in enumerate(sizes) if size is None or size != sizes[0]), 0)
        raise ValueError(
            f"{name}[{odd}] is {reprlib.repr(values[odd])}; all rows must hold the same number of values."
        ) from None
    if array.dtype.kind in "SU" and not isinstance(values, np.ndarray):
        array = np.asarray(values, dtype=object)  # because of one string, NumPy turned all numbers into strings
    if array.dtype == object and array.ndim == 1 and not isinstance(values, (list, tuple)):
        return _to_array(array.tolist(), name)  # a pandas column whose cells are lists or numbers
    return array, max(tolerance, _SUM_TOLERANCE.get(array.dtype.name, _SUM_TOLERANCE["float64"]))


def _refuse_masked(values: Any, name: str, *outer: int) -> None:
    """Raise ValueError for the first masked entry, because NumPy would otherwise use its value like any other."""
    if isinstance(values, np.ma.MaskedArray) and np.any(values.mask):
        index = _first(np.broadcast_to(np.asarray(values.mask), values.shape))
        raise ValueError(
            f"{_place(name, (*outer, *index))} is masked; no value may be masked. Leave the row out of predictions and "
            "references, or fill in the intended value."
        )


def _refuse_non_number(array: NDArray[Any], name: str, legal: str) -> None:
    """Raise ValueError for the first item that is not a number, or that is too large for a numeric array."""
    items = list(np.ndenumerate(array.astype(object)))

    def odd(item: object) -> bool:
        if isinstance(item, (float, np.integer, np.floating)):
            return False
        return isinstance(item, bool) or not isinstance(item, int) or abs(item) >= 2**63

    index, item = next((i for i in items if odd(i[1])), items[0])
    if isinstance(item, int) and not isinstance(item, bool):
        legal = f"{legal}, and this one is too large"
    raise ValueError(f"{_place(name, index)} is {reprlib.repr(item)}; {legal}.")


def _first(bad: NDArray[np.bool_]) -> tuple[int, ...]:
    """Index of the first True."""
    return tuple(int(i) for i in np.unravel_index(bad.argmax(), bad.shape))


def _place(name: str, index: tuple[int, ...]) -> str:
    return name + "".join(f"[{i}]" for i in index)
