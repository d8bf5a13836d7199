"""Coverage and size of prediction sets as an Evaluate module: pure functions do the math, a class wraps them.

The file is self-contained because Evaluate copies it elsewhere, without its neighbors, before loading it.
"""

import dataclasses
import itertools
import math
import reprlib
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from fractions import Fraction
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray

_DESCRIPTION = """
Coverage of prediction sets: how often a set of labels holds the true label, and how large the sets are.

    coverage = (number of rows whose set holds the true label) / (number of rows)

Conformal prediction makes sets whose coverage is at least a nominal level, such as 0.95, on average over calibration
sets. The coverage on n rows varies around that level. This module also returns the band that holds it. Options:
coverage by class and by set size. For rows with several true labels, the coverage is the mean share of a row's labels
that its set holds.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: Prediction sets. One list of label ids per row, which may be empty. Ids are integers from 0, each at
        most once in a row. The rows may be lists, tuples, sets or NumPy arrays, in a list, a NumPy array of objects, an
        Arrow array or a column of a dataset. A boolean NumPy array or torch tensor of shape (rows, classes) is
        accepted too.
    references: True label id of each row. Config "multilabel": one list of label ids per row, which may be empty, in
        any form of predictions.
    class_wise (bool): Whether to also return the coverage of each class. Defaults to False.
    size_stratified (bool): Whether to also return the coverage of each set size (Angelopoulos et al. 2021). Defaults to
        False.
    num_classes (int): Number of classes. Larger ids are refused, and class lists have this length. Defaults to None,
        which takes the largest id of predictions and references, plus 1.
    coverage_level (float): Nominal level of the sets, such as 0.95. With n_calibration it returns the band. With
        class_wise it returns the coverage gap. Not available in config "multilabel". Defaults to None.
    n_calibration (int): Number of rows that the sets were calibrated on. Defaults to None.
    confidence_level (float): Probability that the coverage lies in the band. Defaults to 0.95.
Returns:
    coverage (float): Share of rows whose set holds the true label, in [0, 1]. Config "multilabel": mean over the rows
        that have labels of the share of their labels that the set holds. This is 1 - the false negative rate.
    mean_size (float): Mean number of labels in a set.
    class_coverage, class_size, class_counts (lists by label id): With class_wise. Coverage over the rows that have this
        label, mean set size of these rows, and their number. The first two are None for a class without rows.
    size_coverage, size_counts (lists by set size, from 0): With size_stratified. Coverage over the rows whose set has
        this size, and their number. The first is None for a size without rows. Config "multilabel": only rows that
        have labels.
    band (list of two floats): With coverage_level and n_calibration. The central range of the coverage that split
        conformal prediction has on as many rows, at the confidence level.
    in_band (bool): Whether the coverage lies in the band, ends included.
    cov_gap (float): With class_wise and coverage_level. Mean over the classes with rows of the distance between their
        coverage and the level: CovGap of Ding et al. 2023, divided by 100.
    null_cov_gap (float): With class_wise and coverage_level. The mean of cov_gap if every class had exactly this
        coverage. Few rows per class make both values large.
Examples:
    Two of three sets hold the true label:

    >>> metric = evaluate.load("prediction_set_coverage")
    >>> metric.compute(predictions=[[0, 2], [1], []], references=[0, 1, 2])
    {'coverage': 0.6666666666666666, 'mean_size': 1.0}

    By class and by size:

    >>> result = metric.compute(
    ...     predictions=[[0, 2], [1], [1], []], references=[0, 1, 2, 2], class_wise=True, size_stratified=True
    ... )
    >>> result["class_coverage"], result["class_size"], result["class_counts"]
    ([1.0, 1.0, 0.0], [2.0, 1.0, 0.5], [1, 1, 2])
    >>> result["size_coverage"], result["size_counts"]
    ([0.0, 0.5, 1.0], [1, 2, 1])

    The band of 90% sets that were calibrated on 500 rows, for 200 rows of which 170 are covered:

    >>> metric.add_batch(predictions=[[0]] * 200, references=[0] * 170 + [1] * 30)
    >>> metric.compute(coverage_level=0.9, n_calibration=500)
    {'coverage': 0.85, 'mean_size': 1.0, 'band': [0.85, 0.945], 'in_band': True}

    Several true labels per row. The first set holds one of two, the second set holds the only one:

    >>> metric = evaluate.load("prediction_set_coverage", "multilabel")
    >>> metric.compute(predictions=[[0, 2], [1], [2]], references=[[0, 1], [1], []])
    {'coverage': 0.75, 'mean_size': 1.3333333333333333}
"""

_CITATION = """\
@inproceedings{vovk2012conditional,
  title = {Conditional validity of inductive conformal predictors},
  author = {Vovk, Vladimir},
  booktitle = {Proceedings of the Asian Conference on Machine Learning},
  pages = {475--490},
  year = {2012},
  url = {https://arxiv.org/abs/1209.2673}
}
@inproceedings{angelopoulos2021uncertainty,
  title = {Uncertainty Sets for Image Classifiers using Conformal Prediction},
  author = {Angelopoulos, Anastasios N. and Bates, Stephen and Malik, Jitendra and Jordan, Michael I.},
  booktitle = {International Conference on Learning Representations},
  year = {2021},
  url = {https://arxiv.org/abs/2009.14193}
}
@article{marques2025universal,
  title = {Universal distribution of the empirical coverage in split conformal prediction},
  author = {Marques F., Paulo C.},
  journal = {Statistics and Probability Letters},
  year = {2025},
  url = {https://arxiv.org/abs/2303.02770}
}
@inproceedings{ding2023class,
  title = {Class-Conditional Conformal Prediction with Many Classes},
  author = {Ding, Tiffany and Angelopoulos, Anastasios N. and Bates, Stephen and Jordan, Michael I. and Tibshirani,
    Ryan J.},
  booktitle = {Advances in Neural Information Processing Systems 36},
  year = {2023},
  url = {https://arxiv.org/abs/2306.09335}
}
@inproceedings{angelopoulos2024conformal,
  title = {Conformal Risk Control},
  author = {Angelopoulos, Anastasios N. and Bates, Stephen and Fisch, Adam and Lei, Lihua and Schuster, Tal},
  booktitle = {International Conference on Learning Representations},
  year = {2024},
  url = {https://arxiv.org/abs/2208.02814}
}
"""

MOST_CLASSES = 10_000_000  # larger ids are mistakes, and the lists by class would not fit into memory

_ID = datasets.Value("int64")
_CONFIGS = {
    "default": {"predictions": datasets.Sequence(_ID), "references": _ID},
    "multilabel": {"predictions": datasets.Sequence(_ID), "references": datasets.Sequence(_ID)},
}
_ROUNDING = 1e-9  # of a level times a number of rows: 0.07 * 100 is 7.000000000000001
_TIE = 1e-12  # of a sum of probabilities


# ---- The functions ----


def prediction_set_coverage(
    predictions: Any,
    references: Any,
    *,
    multilabel: bool = False,
    class_wise: bool = False,
    size_stratified: bool = False,
    num_classes: int | None = None,
    coverage_level: float | None = None,
    n_calibration: int | None = None,
    confidence_level: float = 0.95,
) -> dict[str, Any]:
    """Coverage and mean size of prediction sets.

    With the set C_i and the true label y_i of each of n rows, the coverage is `sum_i [y_i in C_i] / n`. The mean size
    is `sum_i |C_i| / n`.

    Multi-label: row i has the labels Y_i. The coverage is the mean of `|Y_i & C_i| / |Y_i|` over the rows that have
    labels. Conformal risk control (Angelopoulos et al. 2024, https://arxiv.org/abs/2208.02814) bounds 1 minus its
    expectation, the false negative rate.

    By class: the coverage over the rows that have label k. In a multi-label row, only this label counts, so it is the
    recall of the label. By size: the coverage over the rows whose set has s labels (Angelopoulos et al. 2021,
    https://arxiv.org/abs/2009.14193).

    The coverage gap is `mean_k |coverage_k - coverage_level|` over the classes with rows. It is CovGap of Ding et al.
    2023 (https://arxiv.org/abs/2306.09335), which they give in percentage points. Its null value is the expectation if
    the number of covered rows of each class were binomial with the probability coverage_level.

    Ratios are computed from exact sums. The order of the rows and of the ids changes no result.

    Args:
        predictions: One collection of label ids per row, each id at most once. *Shape:* (rows,). Or a boolean NumPy
            array or torch tensor, true where a label is in the set. *Shape:* (rows, classes).
        references: True label ids, integers. *Shape:* (rows,). Multi-label: like predictions.
        multilabel: Whether a row has any number of true labels.
        class_wise: Whether to add class_coverage, class_size and class_counts.
        size_stratified: Whether to add size_coverage and size_counts.
        num_classes: Number of classes; None for the largest id plus 1. At most 10,000,000.
        coverage_level: Nominal level of the sets, between 0 and 1.
        n_calibration: Number of calibration rows, for the band of `coverage_band`.
        confidence_level: Probability that the coverage lies in the band.

    Returns:
        The results by name. The module's description explains each. Shares lie in [0, 1].

    Raises:
        ValueError: An id is not an integer, is negative or out of range, or appears twice in a row. A row is not a
            collection of ids. Lengths differ. There are no rows, or none has a label. An option is out of range, or
            options contradict each other. n_calibration is too small for the level. The message says where.
    """
    _check_flag("multilabel", multilabel)
    config = "multilabel" if multilabel else "default"
    options = _Options(class_wise, size_stratified, num_classes, coverage_level, n_calibration, confidence_level)
    options.check(config)
    return _results(*_read(predictions, references, config, num_classes), options)


def coverage_band(
    n_rows: int, coverage_level: float, n_calibration: int, confidence_level: float = 0.95
) -> tuple[float, float]:
    """The central range of the coverage on n rows, for sets of split conformal prediction.

    With m calibration rows, the sets hold the labels whose score is at most the k-th smallest calibration score,
    `k = ceil(coverage_level * (m + 1))`. If all rows are exchangeable and no scores are equal, the number of covered
    rows is beta-binomial(n, k, m + 1 - k) (Vovk 2012, https://arxiv.org/abs/1209.2673; Marques F. 2025,
    https://arxiv.org/abs/2303.02770).

    The ends are the quantiles at `(1 - confidence_level) / 2` and `(1 + confidence_level) / 2`. The band holds the
    coverage with at least the probability confidence_level, because it is discrete.

    Args:
        n_rows: Number of rows n that the coverage is measured on, at least 1.
        coverage_level: Nominal level of the sets, between 0 and 1.
        n_calibration: Number of calibration rows m, at least 1.
        confidence_level: Between 0 and 1.

    Raises:
        ValueError: A number is out of range, or k > m: at this level, only the set of all labels is valid.
    """
    _check_count("n_rows", n_rows)
    _check_level("coverage_level", coverage_level)
    _check_count("n_calibration", n_calibration)
    _check_level("confidence_level", confidence_level)
    n, m = int(n_rows), int(n_calibration)
    k = max(math.ceil(coverage_level * (m + 1) - _ROUNDING), 1)
    if k > m:
        needed = math.ceil(coverage_level / (1 - coverage_level) - _ROUNDING)
        raise ValueError(
            f"n_calibration is {m}; coverage_level={coverage_level:g} needs at least {needed} calibration rows, "
            "because with fewer every set must hold all labels. Calibrate on more rows, or at a lower level."
        )
    covered = np.arange(n)  # log of P(c + 1) / P(c), for c = 0 to n - 1
    steps = np.log(n - covered) - np.log(covered + 1) + np.log(covered + k) - np.log(n - covered + m - k)
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    probabilities = np.exp(logs - logs.max())
    upto = np.cumsum(probabilities)
    tails = np.array([(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    low, high = np.searchsorted(upto, (tails - _TIE) * upto[-1])
    return float(low / n), float(high / n)


def null_coverage_gap(class_counts: Sequence[int], coverage_level: float) -> float:
    """The mean over classes of `E|X / n - p|` with X ~ binomial(n, p), where n is the count and p the coverage level.

    `E|X - n p| = 2 v (1 - p) P(X = v)`, where v is the smallest integer above n p (De Moivre). Classes without rows do
    not count.

    Args:
        class_counts: Number of rows of each class; at least one is not 0. *Shape:* (classes,).
        coverage_level: p, between 0 and 1.
    """
    _check_level("coverage_level", coverage_level)
    sizes, repeats = np.unique([count for count in class_counts if count], return_counts=True)
    p, total = float(coverage_level), 0.0
    for n, repeat in zip(sizes.tolist(), repeats.tolist(), strict=True):
        v = math.floor(n * p) + 1
        choose = math.lgamma(n + 1) - math.lgamma(v + 1) - math.lgamma(n - v + 1)
        probability = math.exp(choose + v * math.log(p) + (n - v) * math.log1p(-p))
        total += repeat * 2 * v * (1 - p) * probability / n
    return total / int(repeats.sum())


# ---- The Evaluate module: a wrapper around the functions above ----


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class PredictionSetCoverage(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """`prediction_set_coverage` as an Evaluate metric.

    Evaluate writes Arrow before it calls `_compute`, and Arrow turns the id 0.9 into 0 and True into 1. Therefore
    `add`, `add_batch` and `compute` check their raw input first.
    """

    _largest: tuple[int, str] = (-1, "")  # the largest id of the rows added so far, and its place

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _CONFIGS:
            raise ValueError(
                f'config_name is {self.config_name!r}; it must be "default" (one true label per row) or "multilabel" '
                "(any number of true labels per row)."
            )
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(_CONFIGS[self.config_name]),
            reference_urls=["https://arxiv.org/abs/1209.2673", "https://arxiv.org/abs/2306.09335"],
        )

    def add(
        self, *, prediction: Any = None, reference: Any = None, predictions: Any = None, references: Any = None
    ) -> None:
        """Add one row: its set of label ids, and its label. Evaluate's documentation uses the plural names."""
        for one, other in ((prediction, predictions), (reference, references)):
            if one is not None and other is not None:
                raise ValueError(
                    "add takes one row; give either prediction or predictions, and either reference or references."
                )
        prediction = predictions if prediction is None else prediction
        reference = references if reference is None else reference
        rows, labels = self._checked([prediction], [reference])
        super().add(prediction=rows[0], reference=labels[0])

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """Add a batch of rows."""
        rows, labels = self._checked(predictions, references)
        super().add_batch(predictions=rows, references=labels)

    def compute(
        self,
        *,
        predictions: Any = None,
        references: Any = None,
        class_wise: bool = False,
        size_stratified: bool = False,
        num_classes: int | None = None,
        coverage_level: float | None = None,
        n_calibration: int | None = None,
        confidence_level: float = 0.95,
    ) -> dict[str, Any] | None:
        """Compute the coverage of all rows added so far and those given here.

        If it refuses an option or a row, the added rows are kept.
        """
        options = _Options(class_wise, size_stratified, num_classes, coverage_level, n_calibration, confidence_level)
        options.check(self.config_name)
        if predictions is None and references is None and not len(self):
            raise ValueError("There is nothing to compute: pass predictions and references, or add some first.")
        largest, place = self._largest
        refusal = None if num_classes is None or largest < num_classes else _out_of_range(place, largest, num_classes)
        if refusal and self.process_id == 0:
            raise ValueError(refusal)
        if predictions is not None or references is not None:
            rows, labels = self._checked(predictions, references, num_classes)
            super().add_batch(predictions=rows, references=labels)
        self._largest = (-1, "")
        result: dict[str, Any] | None = super().compute(**dataclasses.asdict(options))
        if refusal:  # raised late because process 0 waits for the rows of this process and must get them first
            raise ValueError(refusal)
        return result

    def _compute(
        self,
        predictions: Any,
        references: Any,
        class_wise: bool,
        size_stratified: bool,
        num_classes: int | None,
        coverage_level: float | None,
        n_calibration: int | None,
        confidence_level: float,
    ) -> dict[str, Any]:
        options = _Options(class_wise, size_stratified, num_classes, coverage_level, n_calibration, confidence_level)
        return _results(*_read(predictions, references, self.config_name, num_classes), options)

    def _checked(
        self, predictions: Any, references: Any, num_classes: int | None = None
    ) -> tuple[list[Any], list[Any]]:
        """Checked lists, ready to add. Remembers the largest id."""
        before = len(self)
        sets, labels = _read(predictions, references, self.config_name, num_classes)
        for name, one in (("predictions", sets), ("references", labels)):
            if len(one.ids) and (largest := int(one.ids.max())) > self._largest[0]:
                at = int(one.ids.argmax())
                within = at - int(np.searchsorted(one.rows, one.rows[at]))
                single = name == "references" and self.config_name == "default"
                index = (before + int(one.rows[at]),) if single else (before + int(one.rows[at]), within)
                self._largest = (largest, _place(name, index))
        return sets.lists(), labels.ids.tolist() if self.config_name == "default" else labels.lists()


# ---- The math ----


@dataclasses.dataclass(frozen=True)
class _Options:
    """The options of `prediction_set_coverage`, in the order of `compute`."""

    class_wise: bool
    size_stratified: bool
    num_classes: int | None
    coverage_level: float | None
    n_calibration: int | None
    confidence_level: float

    def check(self, config: str) -> None:
        """Raise ValueError for an option that is out of range or contradicts another."""
        _check_flag("class_wise", self.class_wise)
        _check_flag("size_stratified", self.size_stratified)
        _check_level("confidence_level", self.confidence_level)
        if self.num_classes is not None:
            _check_count("num_classes", self.num_classes)
            if self.num_classes > MOST_CLASSES:
                raise ValueError(f"num_classes is {self.num_classes}; it must be at most {MOST_CLASSES:,}.")
        if config == "multilabel" and (self.coverage_level is not None or self.n_calibration is not None):
            name = "n_calibration" if self.coverage_level is None else "coverage_level"
            raise ValueError(
                f'{name} is {getattr(self, name)!r}; config "multilabel" has no band, because the share of a row\'s '
                "labels is not just 0 or 1. Leave coverage_level and n_calibration out, and compare coverage with the "
                "level."
            )
        if self.coverage_level is None:
            if self.n_calibration is not None:
                raise ValueError(
                    f"n_calibration is {self.n_calibration!r} without coverage_level; the band needs both. Give the "
                    "nominal level of the sets, such as coverage_level=0.95."
                )
            return
        _check_level("coverage_level", self.coverage_level)
        if self.n_calibration is not None:
            coverage_band(1, self.coverage_level, self.n_calibration)
        elif not self.class_wise:
            raise ValueError(
                f"coverage_level is {self.coverage_level!r} without n_calibration; the band needs both. Give the "
                "number of calibration rows, or class_wise=True for the coverage gap."
            )


@dataclasses.dataclass(frozen=True, eq=False)
class _Sets:
    """One set of label ids per row.

    Attributes:
        ids: The ids of all rows, one row after the other. *Shape:* (ids,).
        rows: The row of each id, ascending. *Shape:* (ids,).
        sizes: Number of ids of each row. *Shape:* (rows,).
    """

    ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def of(cls, ids: NDArray[np.int64], sizes: NDArray[np.int64]) -> "_Sets":
        """From the ids of all rows, and their number in each row."""
        return cls(ids, np.repeat(np.arange(len(sizes)), sizes), sizes)

    def lists(self) -> list[list[int]]:
        """The ids of each row as a list."""
        items = iter(self.ids.tolist())
        return [list(itertools.islice(items, size)) for size in self.sizes.tolist()]

    def keys(self) -> NDArray[np.int64]:
        """One number for each pair of a row and an id. *Shape:* (ids,)."""
        return np.asarray(self.rows * MOST_CLASSES + self.ids)


def _results(sets: _Sets, labels: _Sets, options: _Options) -> dict[str, Any]:
    """All results. A single true label is the special case of a row with one label."""
    held = np.isin(labels.keys(), sets.keys())  # for each label of each row
    with_labels = labels.sizes > 0
    if not with_labels.any():
        raise ValueError("references has no row with a label; coverage needs at least one.")
    hits = np.bincount(labels.rows, weights=held, minlength=len(labels.sizes))
    coverage = _mean_share(hits[with_labels], labels.sizes[with_labels])
    result: dict[str, Any] = {"coverage": coverage, "mean_size": int(sets.sizes.sum()) / len(sets.sizes)}
    level = None if options.coverage_level is None else float(options.coverage_level)
    if level is not None and options.n_calibration is not None:
        low, high = coverage_band(len(sets.sizes), level, options.n_calibration, options.confidence_level)
        result |= {"band": [low, high], "in_band": low <= coverage <= high}
    if options.class_wise:
        classes = options.num_classes or 1 + max(int(one.ids.max()) for one in (sets, labels) if len(one.ids))
        counts = np.bincount(labels.ids, minlength=classes)
        covered = np.bincount(labels.ids, weights=held, minlength=classes)
        sizes = np.bincount(labels.ids, weights=sets.sizes[labels.rows], minlength=classes)
        result["class_coverage"] = _ratios(covered, counts)
        result["class_size"] = _ratios(sizes, counts)
        result["class_counts"] = counts.tolist()
        if level is not None:
            gaps = [abs(one - level) for one in result["class_coverage"] if one is not None]
            result["cov_gap"] = math.fsum(gaps) / len(gaps)
            result["null_cov_gap"] = null_coverage_gap(counts.tolist(), level)
    if options.size_stratified:
        result |= _by_size(sets.sizes[with_labels], hits[with_labels], labels.sizes[with_labels])
    return result


def _mean_share(hits: NDArray[Any], counts: NDArray[np.int64]) -> float:
    """The mean of `hits / counts`, rounded once. Both hold whole numbers. *Shape:* (rows,) each, not empty."""
    totals = np.bincount(counts, weights=hits)
    return float(sum(Fraction(int(totals[c]), int(c)) for c in np.flatnonzero(totals)) / len(counts))


def _by_size(sizes: NDArray[np.int64], hits: NDArray[Any], counts: NDArray[np.int64]) -> dict[str, Any]:
    """The coverage over the rows of each set size, and their number. *Shape:* (rows,) each."""
    order = np.argsort(sizes, kind="stable")
    rows_of_size = np.bincount(sizes)
    ends = np.cumsum(rows_of_size)[:-1]
    parts = zip(np.split(hits[order], ends), np.split(counts[order], ends), strict=True)
    coverage = [_mean_share(*part) if len(part[0]) else None for part in parts]
    return {"size_coverage": coverage, "size_counts": rows_of_size.tolist()}


def _ratios(sums: NDArray[Any], counts: NDArray[np.int64]) -> list[float | None]:
    """`sums / counts`, None where the count is 0."""
    return [total / count if count else None for total, count in zip(sums.tolist(), counts.tolist(), strict=True)]


# ---- Reading and checking input ----


def _check_flag(name: str, flag: Any) -> None:
    if not isinstance(flag, (bool, np.bool_)):  # the string "no" would count as true
        raise ValueError(f"{name} is {flag!r}; it must be True or False.")


def _check_level(name: str, level: Any) -> None:
    if not isinstance(level, (float, np.floating)) or not 0 < level < 1:
        raise ValueError(f"{name} is {level!r}; it must lie between 0 and 1, such as 0.95.")


def _check_count(name: str, count: Any) -> None:
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise ValueError(f"{name} is {count!r}; it must be an integer of at least 1.")


def _read(predictions: Any, references: Any, config: str, num_classes: int | None) -> tuple[_Sets, _Sets]:
    """The prediction sets, and the true labels of each row."""
    sets = _read_sets(predictions, "predictions", num_classes)
    if config == "multilabel":
        labels = _read_sets(references, "references", num_classes)
    else:
        labels = _read_labels(references, num_classes)
    if len(sets.sizes) != len(labels.sizes):
        raise ValueError(
            f"predictions has {len(sets.sizes)} rows and references has {len(labels.sizes)}; give one of each per row."
        )
    return sets, labels


def _read_sets(values: Any, name: str, num_classes: int | None) -> _Sets:
    """The sets of all rows, from rows of ids or a boolean matrix."""
    values = _plain(values, name)
    if isinstance(values, np.ndarray):
        if values.dtype == bool and values.ndim == 2:
            return _of_matrix(values, name, num_classes)
        if values.size:
            _refuse_array(values, name)
        values = values.tolist()
    rows = [_row(row, name, i) for i, row in enumerate(values)]
    sizes = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    ends = np.cumsum(sizes)

    def place(at: int) -> str:
        row = int(np.searchsorted(ends, at, side="right"))
        return _place(name, (row, at - int(ends[row] - sizes[row])))

    found = _Sets.of(_ids(list(itertools.chain.from_iterable(rows)), place, num_classes), sizes)
    order = np.argsort(found.keys(), kind="stable")
    keys = found.keys()[order]
    if (twice := keys[1:] == keys[:-1]).any():
        at = int(order[1:][twice].min())
        raise ValueError(
            f"{place(at)} is {found.ids[at]}, which the row already holds; give each label id once. For flags of 0 and "
            "1, pass a boolean NumPy array of shape (rows, classes)."
        )
    return found


def _refuse_array(values: NDArray[Any], name: str) -> None:
    """Raise ValueError for an array that is not a boolean matrix."""
    advice = "pass a list with one list of label ids per row, or a boolean array of shape (rows, classes)"
    if values.dtype == bool and values.ndim == 3:
        advice = f"pass the sets of one level, such as {name}[:, :, 0]"
    elif values.dtype.kind in "iu" and values.ndim == 2:
        advice = (
            "a matrix of integers could hold label ids or flags. For ids, pass .tolist(); for flags of 0 and 1, pass "
            ".astype(bool)"
        )
    raise ValueError(f"{name} has shape {values.shape} and dtype {values.dtype}; {advice}.")


def _of_matrix(matrix: NDArray[np.bool_], name: str, num_classes: int | None) -> _Sets:
    """The ids of the true values in each row."""
    if num_classes is not None and matrix.shape[1] != num_classes:
        raise ValueError(f"{name} has {matrix.shape[1]} columns and num_classes is {num_classes}; they must be equal.")
    if matrix.shape[1] > MOST_CLASSES:
        raise ValueError(f"{name} has {matrix.shape[1]:,} columns; at most {MOST_CLASSES:,} are possible.")
    rows, ids = np.nonzero(matrix)
    return _Sets(ids.astype(np.int64), rows.astype(np.int64), matrix.sum(axis=1).astype(np.int64))


def _read_labels(values: Any, num_classes: int | None) -> _Sets:
    """The true label of each row, as a set of one."""
    values = _plain(values, "references")
    if isinstance(values, np.ndarray):
        if values.ndim != 1 and values.size:
            raise ValueError(
                f"references has shape {values.shape}; expected one label id per row, of shape (rows,). For several "
                'labels, use evaluate.load("prediction_set_coverage", "multilabel"), or multilabel=True in a function '
                "call."
            )
        values = values.tolist()
    for i, item in enumerate(values):
        if isinstance(item, (list, tuple, AbstractSet)) or (isinstance(item, np.ndarray) and item.ndim):
            raise ValueError(
                f"references[{i}] is {_shown(item)}; expected one label id per row. For several labels, use "
                'evaluate.load("prediction_set_coverage", "multilabel"), or multilabel=True in a function call.'
            )
    ids = _ids(list(values), lambda at: f"references[{at}]", num_classes)
    return _Sets.of(ids, np.ones(len(ids), dtype=np.int64))


def _plain(values: Any, name: str) -> NDArray[Any] | Sequence[Any]:
    """The rows as a NumPy array of numbers or as a sequence. Raises ValueError if there are none."""
    if isinstance(values, Sequence) and hasattr(values, "column_name"):
        values = values[:]  # a datasets.Column: faster than row by row
    if hasattr(values, "to_pylist"):  # an Arrow array
        values = values.to_pylist()
    if hasattr(values, "detach"):  # a torch tensor, recognized by its method because torch is not imported
        try:
            values = values.detach().cpu().numpy()
        except (TypeError, RuntimeError) as error:  # sparse, without data, or of a type that NumPy lacks
            raise ValueError(
                f"{name} is a tensor that NumPy cannot hold ({str(error).splitlines()[0]}); pass lists of label ids."
            ) from None
    _refuse_masked(values, name)
    if isinstance(values, np.ndarray) and not values.ndim:
        values = values.item()
    if not isinstance(values, (np.ndarray, list, tuple, range)):
        if not hasattr(values, "tolist"):
            raise ValueError(f"{name} is of type {type(values).__name__}; pass a list with one entry per row.")
        values = values.tolist()  # a pandas column
    if not len(values):
        raise ValueError(f"{name} is empty; at least one row is needed.")
    rows: NDArray[Any] | Sequence[Any] = values
    return rows.tolist() if isinstance(rows, np.ndarray) and rows.dtype == object else rows


def _row(row: Any, name: str, i: int) -> Sequence[Any]:
    """The ids of a row, unchecked."""
    if isinstance(row, (list, tuple, range)):
        return row
    if isinstance(row, AbstractSet):
        return list(row)
    if hasattr(row, "detach"):
        row = row.detach().cpu().numpy()
    if isinstance(row, np.ndarray) and row.ndim == 1:
        _refuse_masked(row, name, i)
        ids: list[Any] = np.flatnonzero(row).tolist() if row.dtype == bool else row.tolist()
        return ids
    raise ValueError(f"{name}[{i}] is {_shown(row)}; each row must be a list of label ids, [] for an empty set.")


def _ids(items: list[Any], place: Callable[[int], str], num_classes: int | None) -> NDArray[np.int64]:
    """Checked ids. `place` gives the name of an item in a message. *Shape:* (items,)."""
    legal = "label ids must be integers " + (f"in [0, {num_classes - 1}]" if num_classes else "of at least 0")
    if not set(map(type, items)) <= {int}:
        for at, item in enumerate(items):
            if isinstance(item, (bool, np.bool_)) or not isinstance(item, (int, np.integer)):
                raise ValueError(f"{place(at)} is {_shown(item)}; {legal}.{_instead(item)}")
    most = MOST_CLASSES if num_classes is None else num_classes
    for at, item in enumerate(items) if items and (min(items) < 0 or max(items) >= most) else ():
        if not 0 <= item < most:
            raise ValueError(_out_of_range(place(at), item, num_classes))
    return np.array(items, dtype=np.int64)


def _instead(item: Any) -> str:
    """What to do about an item that is not an integer."""
    if isinstance(item, (bool, np.bool_)):
        return " For sets as flags, pass a boolean NumPy array of shape (rows, classes)."
    if isinstance(item, str):
        return " Turn names into ids, for example with model.config.label2id."
    if isinstance(item, (float, np.floating)) and item == item:
        return " Pass label ids as integers."
    if item is None or isinstance(item, (float, np.floating)):
        return " Leave out rows without a label."
    return ""


def _out_of_range(place: str, item: int, num_classes: int | None) -> str:
    """The message about an integer that is no label id."""
    if num_classes is None and item >= MOST_CLASSES:
        return f"{place} is {item}; label ids must be below {MOST_CLASSES:,}."
    legal = "of at least 0" if num_classes is None else f"in [0, {num_classes - 1}]"
    advice = " Leave out rows without a label, such as -100." if item < 0 else ""
    return f"{place} is {item}; label ids must be integers {legal}.{advice}"


def _refuse_masked(values: Any, name: str, *outer: int) -> None:
    """Raise ValueError for the first masked entry, because its value would otherwise be used like any other."""
    if isinstance(values, np.ma.MaskedArray) and np.any(values.mask):
        mask = np.broadcast_to(np.asarray(values.mask), values.shape)
        index = tuple(int(i) for i in np.unravel_index(mask.argmax(), mask.shape))
        raise ValueError(f"{_place(name, (*outer, *index))} is masked; no value may be masked. Leave the row out.")


def _shown(item: Any) -> str:
    """A value as it looks in a message: short, and in one line."""
    return " ".join(reprlib.repr(item).split())


def _place(name: str, index: tuple[int, ...]) -> str:
    return name + "".join(f"[{i}]" for i in index)
