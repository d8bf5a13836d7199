"""Expected calibration error (ECE) as an Evaluate module: pure functions hold the maths, `evaluate.Metric` is a shell.

The file stands alone, because Evaluate copies it, without its neighbours, to wherever it is loaded.
"""

import dataclasses
import reprlib
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray

_DESCRIPTION = """
Expected calibration error (ECE): how far a classifier's confidence is from its accuracy. Of the predictions that a
calibrated model makes with confidence 0.8, 80 % are correct.

    ECE = sum_b (n_b / N) * |accuracy_b - mean confidence_b|        (Guo et al. 2017, https://arxiv.org/abs/1706.04599)

over the bins b = [i/B, (i+1)/B), the last one closed. 0 is best, 1 is worst.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: probabilities. Config "default": one row per example, one column per class, each row summing to 1; its
        largest value is the confidence, and the first of equal maxima is the predicted label. Config "binary": one
        number per example, the probability of the positive class.
    references: the true labels, integers from 0 to classes - 1. Config "binary": 0 and 1, or booleans.
        Both may be lists, NumPy arrays, torch tensors, Arrow arrays or columns of a dataset.
    n_bins (int): how many bins of equal width. Defaults to 10.
    from_logits (bool): predictions are logits. Defaults to False; it is never guessed from the values.
    return_bins (bool): also return what a reliability diagram shows. Defaults to False.
Returns:
    ece (float): in [0, 1].
    bins (dict): with return_bins=True, the lists "edges" (n_bins + 1 values), "counts", "mean_confidence" and
        "accuracy" (n_bins values each; None for an empty bin; the share of positives in config "binary").
Examples:
    Confidences 0.95 and 1.0 share the last bin: its accuracy is 0.5, its mean confidence 0.975.

    >>> ece = evaluate.load("ece")
    >>> ece.compute(predictions=[[0.05, 0.95], [0.0, 1.0]], references=[1, 0])
    {'ece': 0.475}

    >>> ece.compute(predictions=[[0.25, 0.75], [0.5, 0.5]], references=[1, 0], n_bins=2, return_bins=True)["bins"]
    {'edges': [0.0, 0.5, 1.0], 'counts': [0, 2], 'mean_confidence': [None, 0.625], 'accuracy': [None, 1.0]}

    The positive class' probability, in batches:

    >>> ece = evaluate.load("ece", "binary")
    >>> ece.add_batch(predictions=[0.25, 0.25], references=[0, 1])
    >>> ece.add_batch(predictions=[0.75, 0.75], references=[1, 1])
    >>> ece.compute()
    {'ece': 0.25}
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
"""

_CONFIGS = {
    "default": datasets.Sequence(datasets.Value("float64")),  # float32 would move values across bin edges
    "binary": datasets.Value("float64"),
}

# How far from 1 a row may sum: about five times the worst of softmax rows measured in each dtype (float32: 2e-5 at
# 150,000 classes). float64 arrays often hold float32 results, and Python lists nearly always do.
_SUM_TOLERANCE = {"bfloat16": 2e-2, "float16": 2e-3, "float32": 1e-4, "float64": 1e-5}


@dataclasses.dataclass(frozen=True)
class BinSums:
    """The sufficient statistics of ECE: per bin, a count and two sums. Adding two of them merges two shards exactly.

    Bin i holds the confidences in `[i/B, (i+1)/B)`, the last bin 1.0 too. All sums are exact, so that neither the order
    of the rows nor how they were split into shards, batches or processes changes a single bit of the result.

    Attributes:
        counts: rows in each bin. *Shape:* (n_bins,).
        confidence: sum of the confidences in each bin. *Shape:* (n_bins,).
        correct: correct rows in each bin (binary: positive rows). *Shape:* (n_bins,).
    """

    counts: tuple[int, ...]
    confidence: tuple[Fraction, ...]
    correct: tuple[int, ...]

    def __add__(self, other: "BinSums") -> "BinSums":
        """Merge with the sums of other rows over the same bins; ValueError if the number of bins differs."""
        if len(self.counts) != len(other.counts):
            raise ValueError(
                f"Cannot add sums over {len(self.counts)} bins and over {len(other.counts)} bins; "
                "compute both with the same n_bins."
            )
        return BinSums(
            counts=tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            confidence=tuple(a + b for a, b in zip(self.confidence, other.confidence, strict=True)),
            correct=tuple(a + b for a, b in zip(self.correct, other.correct, strict=True)),
        )

    @property
    def ece(self) -> float:
        """`sum_b (n_b / N) * |accuracy_b - mean confidence_b|`, which is `sum_b |correct_b - confidence_b| / N`."""
        gaps = (abs(correct - confidence) for correct, confidence in zip(self.correct, self.confidence, strict=True))
        return float(sum(gaps, Fraction(0)) / sum(self.counts))

    @property
    def edges(self) -> NDArray[np.float64]:
        """The bins' edges `i / B`. *Shape:* (n_bins + 1,)."""
        return _edges(len(self.counts))

    @property
    def mean_confidence(self) -> NDArray[np.float64]:
        """Mean confidence in each bin, NaN where it is empty. *Shape:* (n_bins,)."""
        return _means(self.confidence, self.counts)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of correct rows in each bin (binary: of positive rows), NaN where it is empty. *Shape:* (n_bins,)."""
        return _means(self.correct, self.counts)

    def as_dict(self) -> dict[str, list[Any]]:
        """A reliability diagram's numbers as plain lists, ready for JSON (which has no NaN): None for an empty bin."""
        return {
            "edges": self.edges.tolist(),
            "counts": list(self.counts),
            "mean_confidence": [None if np.isnan(mean) else mean for mean in self.mean_confidence.tolist()],
            "accuracy": [None if np.isnan(mean) else mean for mean in self.accuracy.tolist()],
        }


def expected_calibration_error(
    predictions: Any, references: Any, n_bins: int = 10, *, from_logits: bool = False, binary: bool = False
) -> float:
    """`ECE = sum_b (n_b / N) * |accuracy_b - mean confidence_b|` (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    Bins are `[i/B, (i+1)/B)`, the last one closed; their edges are `arange(B + 1) / B` in float64. A value on an edge
    belongs to the bin above, and every value is compared exactly as it is: float32(0.7) is 0.69999999, below 0.7.

    Top-label, the default: the confidence is a row's largest probability, and the row is correct if the class that has
    it is the true one. `argmax` takes the first of equal maxima: at [0.5, 0.5] the predicted label is 0.

    Binary: the confidence is the probability p of the positive class, anywhere in [0, 1], and "accuracy" the share of
    positives. It says whether p can be trusted. The top-label ECE of (1 - p, p) says whether max(p, 1 - p) can: that
    is another number.

    Args:
        predictions: probabilities in [0, 1], or finite logits; a NumPy array, a torch tensor of any dtype and device,
            a nested list, an Arrow array or a `datasets` column. *Shape:* (rows, classes) with at least two classes;
            binary: (rows,).
        references: true labels, integers in [0, classes - 1]; binary: 0 and 1, or booleans. *Shape:* (rows,).
        n_bins: number of bins B, at least 1.
        from_logits: turn logits into probabilities first, with a softmax over the row (binary: a sigmoid) in float64.
        binary: measure the positive class' probability.

    Returns:
        The ECE, in [0, 1].

    Raises:
        ValueError: for NaN, infinity, None, a value outside [0, 1], a row that does not sum to 1 (within 0.02 for
            bfloat16, 0.002 for float16, 0.0001 for float32 and Python lists, 0.00001 for float64), a label that is no
            integer or out of range, a masked entry, shapes that are wrong or differ, no rows, n_bins below 1, a flag
            that is no boolean. The message says where.
    """
    return bin_sums(predictions, references, n_bins, from_logits=from_logits, binary=binary).ece


def bin_sums(
    predictions: Any, references: Any, n_bins: int = 10, *, from_logits: bool = False, binary: bool = False
) -> BinSums:
    """The per-bin sums behind `expected_calibration_error`, which has the arguments and errors; shards of data add up.

    >>> first = bin_sums([[0.2, 0.8], [0.9, 0.1]], [1, 1])
    >>> second = bin_sums([[0.7, 0.3]], [0])
    >>> (first + second).counts
    (0, 0, 0, 0, 0, 0, 0, 1, 1, 1)
    """
    _check_n_bins(n_bins)
    _check_flags(from_logits=from_logits, binary=binary)
    rows, labels, tolerance = _read(predictions, references, binary)
    if not from_logits:
        _check_probabilities(rows, tolerance)
    return _bin(*_confidence_and_correct(rows, labels, from_logits), n_bins)


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class ECE(evaluate.Metric):  # type: ignore[misc]  # evaluate is untyped
    """Evaluate's shell around `expected_calibration_error`.

    Evaluate writes Arrow before it calls `_compute`, and Arrow turns the label 0.9 into 0 and None into NaN. So `add`,
    `add_batch` and `compute` look at what they are given first, as it is.
    """

    _columns: int | None = None  # classes of the rows that are stacked
    _refusal: str | None = None  # why the stacked rows are no probabilities; no fault if compute says from_logits=True

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in _CONFIGS:
            raise ValueError(
                f'config_name is {self.config_name!r}; it must be "default" (rows of class probabilities) or "binary" '
                "(the positive class' probability)."
            )
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": _CONFIGS[self.config_name], "references": datasets.Value("int64")}
            ),
            reference_urls=["https://arxiv.org/abs/1706.04599"],
        )

    @property
    def _binary(self) -> bool:
        return bool(self.config_name == "binary")

    def add(
        self, *, prediction: Any = None, reference: Any = None, predictions: Any = None, references: Any = None
    ) -> None:
        """Add one example; Evaluate's own documentation and `evaluate.combine` call it with the plural names."""
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
        from_logits: bool = False,
        return_bins: bool = False,
    ) -> dict[str, Any] | None:
        """Compute the ECE of all examples added so far and of those given here. A refusal leaves what was added."""
        _check_n_bins(n_bins)
        _check_flags(from_logits=from_logits, return_bins=return_bins)
        if predictions is None and references is None and not len(self):
            raise ValueError("There is nothing to compute: pass predictions and references, or add some first.")
        refusal = None if from_logits else self._refusal
        if refusal and self.process_id == 0:
            raise ValueError(refusal)
        if predictions is not None or references is not None:
            rows, labels = self._checked(predictions, references, defer=from_logits)
            super().add_batch(predictions=rows, references=labels)
        self._columns = self._refusal = None
        result: dict[str, Any] | None = super().compute(n_bins=n_bins, from_logits=from_logits, return_bins=return_bins)
        if refusal:  # not process 0, which is waiting for this process' rows and must get them first
            raise ValueError(refusal)
        return result

    def _compute(
        self, predictions: Any, references: Any, n_bins: int, from_logits: bool, return_bins: bool
    ) -> dict[str, Any]:
        rows, labels, _ = _read(predictions, references, self._binary)
        if not from_logits:  # each process has checked its own rows, by their dtype, which Arrow does not keep
            _check_probabilities(rows, tolerance=max(_SUM_TOLERANCE.values()))
        sums = _bin(*_confidence_and_correct(rows, labels, from_logits), n_bins)
        return {"ece": sums.ece, "bins": sums.as_dict()} if return_bins else {"ece": sums.ece}

    def _checked(
        self, predictions: Any, references: Any, defer: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Arrays ready to stack. `defer`: whether they must be probabilities is only known at `compute`."""
        rows, labels, tolerance = _read(predictions, references, self._binary)
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
        return rows, labels


def _edges(n_bins: int) -> NDArray[np.float64]:
    return np.arange(n_bins + 1) / n_bins  # not linspace, whose edges differ from i / B by rounding


def _confidence_and_correct(
    rows: NDArray[np.float64], labels: NDArray[np.int64], from_logits: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Both *Shape:* (rows,), from checked input: (rows, classes) is top-label, (rows,) is binary."""
    if rows.ndim == 1:
        return (_sigmoid(rows) if from_logits else rows), labels == 1
    probabilities = _softmax(rows) if from_logits else rows
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels


def _bin(confidence: NDArray[np.float64], correct: NDArray[np.bool_], n_bins: int) -> BinSums:
    # Not floor(confidence * n_bins): 0.29 * 100 is 28.999999999999996 in float64, and 0.29 belongs to bin 29.
    bins = np.minimum(np.searchsorted(_edges(n_bins), confidence, side="right") - 1, n_bins - 1)
    return BinSums(
        counts=tuple(np.bincount(bins, minlength=n_bins).tolist()),
        confidence=_exact_sums(confidence, bins, n_bins),
        correct=tuple(np.bincount(bins[correct], minlength=n_bins).tolist()),
    )


def _exact_sums(values: NDArray[np.float64], bins: NDArray[np.int64], n_bins: int) -> tuple[Fraction, ...]:
    """Sums of values in [0, 1] per bin, without rounding.

    A float sum depends on the order of its terms, and so on how rows were split into batches, shards and processes;
    exact sums may be merged in any way and give the same bits. A Fraction holds one without rounding.

    The values are summed as integers, 27 binary digits at a time (three times for values over 2**-28, as float64 has 53
    digits), so that int64 has room for 2**36 rows.
    """
    sums, scale = [0] * n_bins, 1
    while values.any():
        values = values * 2.0**27
        digits = np.floor(values)
        values -= digits
        part = np.zeros(n_bins, np.int64)
        np.add.at(part, bins, digits.astype(np.int64))
        sums, scale = [total * 2**27 + more for total, more in zip(sums, part.tolist(), strict=True)], scale * 2**27
    return tuple(Fraction(total, scale) for total in sums)


def _means(sums: Sequence[Fraction | int], counts: Sequence[int]) -> NDArray[np.float64]:
    return np.array([float(total / count) if count else np.nan for total, count in zip(sums, counts, strict=True)])


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # exp(800) is inf, and 1 / inf is the right 0
        probabilities: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-logits))
    return probabilities


def _check_n_bins(n_bins: int) -> None:
    if isinstance(n_bins, bool) or not isinstance(n_bins, (int, np.integer)) or n_bins < 1:
        raise ValueError(f"n_bins is {n_bins!r}; it must be an integer of at least 1, such as 10 or 15.")


def _check_flags(**flags: bool) -> None:
    for name, flag in flags.items():
        if not isinstance(flag, (bool, np.bool_)):  # the string "no" would count as True
            raise ValueError(f"{name} is {flag!r}; it must be True or False.")


def _check_probabilities(rows: NDArray[np.float64], tolerance: float, first_row: int = 0) -> None:
    """Raise ValueError for the first value outside [0, 1], else for the first row that does not sum to 1."""
    if (index := _first((rows < 0) | (rows > 1))) is not None:
        place = _place("predictions", (first_row + index[0], *index[1:]))
        raise ValueError(
            f"{place} is {rows[index]}; probabilities must lie in [0, 1]. Pass from_logits=True for logits."
        )
    if rows.ndim == 1:
        return
    totals = rows.sum(axis=1)
    if (index := _first(np.abs(totals - 1) > tolerance)) is not None:
        raise ValueError(
            f"{_place('predictions', (first_row + index[0],))} sums to {totals[index]:.6g}; each row must be "
            f"probabilities that sum to 1, within {tolerance:g} for its dtype. Pass from_logits=True for logits; "
            'divide rounded rows by their sum; measure multi-label scores one label at a time, with config "binary".'
        )


def _read(predictions: Any, references: Any, binary: bool) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """Arrays of predictions (probabilities or logits, unchanged) and labels, and how far from 1 a row may sum."""
    rows, tolerance = _to_array(predictions, "predictions")
    if rows.size == 0:
        raise ValueError(f"predictions is empty, of shape {rows.shape}; at least one row is needed.")
    if rows.dtype.kind not in "fiu" and rows.dtype.name != "bfloat16":
        _refuse_non_number(rows, "predictions", "every value must be a number")
    if binary and rows.ndim != 1:
        raise ValueError(
            f'predictions has shape {rows.shape}; config "binary" takes the positive class\' probability of each row, '
            'of shape (rows,). Pass its column, such as predictions[:, 1], or use config "default" for whole rows.'
        )
    if not binary and (rows.ndim != 2 or rows.shape[1] == 1):
        raise ValueError(
            f"predictions has shape {rows.shape}; expected the probability of every class, of shape (rows, classes), "
            "with at least two classes. Label ids carry no confidence. For the positive class' probability alone, of "
            'shape (rows,), use evaluate.load("ece", "binary"), or binary=True in a function call.'
        )
    rows = rows.astype(np.float64)
    if (index := _first(~np.isfinite(rows))) is not None:
        raise ValueError(
            f"{_place('predictions', index)} is {rows[index]}; every value must be finite. Leave such rows out, or "
            "mend what made them; give a masked logit a large negative number."
        )
    labels = _read_labels(references, classes=2 if binary else rows.shape[1], allow_bool=binary)
    if len(rows) != len(labels):
        raise ValueError(f"predictions has {len(rows)} rows and references has {len(labels)}; give one label per row.")
    return rows, labels, tolerance


def _read_labels(references: Any, classes: int, allow_bool: bool) -> NDArray[np.int64]:
    labels, _ = _to_array(references, "references")
    if labels.size == 0:
        raise ValueError("references is empty; at least one label is needed.")
    legal = f"labels must be integers in [0, {classes - 1}]"
    if labels.dtype.kind == "f":
        index = _first(labels != np.floor(labels))
        index = (0,) * labels.ndim if index is None else index
        raise ValueError(
            f"{_place('references', index)} is {labels[index]} ({labels.dtype}); {legal}. Pass class ids as integers."
        )
    if labels.dtype.kind not in ("iub" if allow_bool else "iu"):
        _refuse_non_number(labels, "references", legal)
    if labels.ndim != 1:
        raise ValueError(f"references has shape {labels.shape}; expected one class id per row, of shape (rows,).")
    if (bad := _first((labels < 0) | (labels >= classes))) is not None:
        raise ValueError(
            f"{_place('references', bad)} is {labels[bad]}; {legal}. Leave out rows that have no label, such as -100."
        )
    return labels.astype(np.int64)


def _to_array(values: Any, name: str) -> tuple[NDArray[Any], float]:
    """The array that `values` holds, and the tolerance of row sums that goes with the precision it came in."""
    if isinstance(values, Sequence) and hasattr(values, "column_name"):
        values = values[:]  # a datasets.Column: read at once, it is 30 times faster than row by row
    elif hasattr(values, "to_pylist"):
        values = values.to_pylist()  # an Arrow array
    if hasattr(values, "detach"):  # a torch tensor, known by its method: torch is not imported
        tensor = values.detach().cpu()
        array = (tensor.double() if tensor.is_floating_point() else tensor).numpy()  # NumPy has no bfloat16
        return array, _SUM_TOLERANCE.get(str(tensor.dtype).removeprefix("torch."), _SUM_TOLERANCE["float64"])
    _refuse_masked(values, name)
    tolerance = 0.0
    if isinstance(values, (list, tuple)):
        tolerance = _SUM_TOLERANCE["float32"]
        for i, row in enumerate(values):
            _refuse_masked(row, name, i)
        if any(hasattr(row, "detach") for row in values):
            arrays, tolerances = zip(*(_to_array(row, name) for row in values), strict=True)
            values, tolerance = arrays, max(tolerances)
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        sizes = [len(row) if hasattr(row, "__len__") else None for row in values]
        odd = next((i for i, size in enumerate(sizes) if size is None or size != sizes[0]), 0)
        raise ValueError(
            f"{name}[{odd}] is {reprlib.repr(values[odd])}; all rows must hold equally many numbers."
        ) from None
    return array, max(tolerance, _SUM_TOLERANCE.get(array.dtype.name, _SUM_TOLERANCE["float64"]))


def _refuse_masked(values: Any, name: str, *outer: int) -> None:
    """Raise ValueError for the first masked entry, whose value NumPy would otherwise hand over like any other."""
    if isinstance(values, np.ma.MaskedArray) and (index := _first(np.ma.getmaskarray(values))) is not None:
        raise ValueError(
            f"{_place(name, (*outer, *index))} is masked; every value must be there. Leave the row out of predictions "
            "and references, or fill it with a value that is meant."
        )


def _refuse_non_number(array: NDArray[Any], name: str, legal: str) -> None:
    """Raise ValueError for the first item that is no number, else (numbers of an odd type) for the first item."""
    items = list(np.ndenumerate(array.astype(object)))
    numbers = (int, float, np.integer, np.floating)
    index, item = next((i for i in items if isinstance(i[1], bool) or not isinstance(i[1], numbers)), items[0])
    raise ValueError(f"{_place(name, index)} is {reprlib.repr(item)}; {legal}.")


def _first(bad: NDArray[np.bool_]) -> tuple[int, ...] | None:
    """Index of the first True, None if there is none."""
    return tuple(int(i) for i in np.unravel_index(bad.argmax(), bad.shape)) if bad.any() else None


def _place(name: str, index: tuple[int, ...]) -> str:
    return name + "".join(f"[{i}]" for i in index)
