"""The input that the metric rejects, and its error messages."""

import re

import numpy as np
import pyarrow as pa
import pytest
import torch
from bayesian_text_classification.metric import load_metric_module

ece = load_metric_module()


NAN, INF = float("nan"), float("inf")
GOOD = [[0.5, 0.5]]
REFUSED = {
    "nan": ([*GOOD, [NAN, 1.0]], [0, 1], "predictions[1][0] is nan; every value must be finite"),
    "infinity": ([[INF, 0.0]], [0], "predictions[0][0] is inf; every value must be finite"),
    "none": ([*GOOD, [0.5, None]], [0, 1], "predictions[1][1] is None; every value must be a number"),
    "none as a row": ([*GOOD, None], [0, 1], "predictions[1] is None"),
    "strings": ([["0.5", "0.5"]], [0], "predictions[0][0] is '0.5'; every value must be a number"),
    "booleans": ([[True, False]], [0], "predictions[0][0] is True; every value must be a number"),
    "above 1": ([*GOOD, [1.5, -0.5]], [0, 1], "predictions[1][0] is 1.5; probabilities must lie in [0, 1]. Pass from_"),
    "below 0": ([[-1e-9, 1.0]], [1], "predictions[0][0] is -1e-09; probabilities must lie in [0, 1]"),
    "sum": ([*GOOD, [0.31, 1.0]], [0, 1], "predictions[1] sums to 1.31; each row must hold probabilities that sum to"),
    "sum below": ([[0.3, 0.3]], [0], "predictions[0] sums to 0.6"),
    "label too large": (GOOD * 2, [0, 2], "references[1] is 2; labels must be integers in [0, 1]"),
    "label negative": (GOOD, [-100], "references[0] is -100; labels must be integers in [0, 1]. Leave out rows"),
    "label beyond int64, later": (GOOD * 2, [0, 2**70], "references[1] is 1180591620717411303424; labels must be"),
    "label beyond int64": (GOOD, [2**70], "references[0] is 1180591620717411303424; labels must be integers"),
    "label 0.9": (GOOD * 2, [0, 0.9], "references[1] is 0.9 (float64); labels must be integers in [0, 1]"),
    "label 1.0": (GOOD, [1.0], "references[0] is 1.0 (float64); labels must be integers in [0, 1]"),
    "label nan": (GOOD, [NAN], "references[0] is nan (float64); labels must be integers"),
    "label none": (GOOD * 2, [0, None], "references[1] is None; labels must be integers in [0, 1]"),
    "label string": (GOOD, ["positive"], "references[0] is 'positive'; labels must be integers in [0, 1]"),
    "label boolean": (GOOD, [True], "references[0] is True; labels must be integers in [0, 1]"),
    "lengths": (GOOD * 3, [0, 1], "predictions has 3 rows and references has 2"),
    "ragged": ([[0.2, 0.8], [0.2, 0.3, 0.5]], [0, 1], "predictions[1] is [0.2, 0.3, 0.5]; all rows must hold the same"),
    "label ids": ([0, 1, 1], [0, 1, 1], "predictions has shape (3,); expected the probability of every class"),
    "one column": ([[0.5], [0.5]], [0, 1], "predictions has shape (2, 1); expected the probability of every class"),
    "three dimensions": ([GOOD], [0], "predictions has shape (1, 1, 2); expected the probability of every class"),
    "one-hot labels": (GOOD, [[0, 1]], "references has shape (1, 2); expected one class id per row"),
    "empty": ([], [], "predictions is empty, of shape (0,); at least one row is needed"),
    "empty rows": ([[], []], [0, 1], "predictions is empty, of shape (2, 0); at least one row is needed"),
    "empty labels": (GOOD, [], "references is empty; at least one label is needed"),
    "no labels": (GOOD, None, "references is None; labels must be integers"),
    "no predictions": (None, [0], "predictions is None; every value must be a number"),
    "a dictionary": ({"a": 1.0}, [0], "predictions is {'a': 1.0}; every value must be a number"),
    "sparse": (torch.eye(2).to_sparse(), [0, 1], "predictions is a tensor that NumPy cannot hold"),
    "tensors in rows": (
        [[torch.tensor(0.5, dtype=torch.bfloat16)] * 2], [0], "predictions cannot be read (Got unsupported ScalarType"
    ),
    "a string among numbers": ([[0.2, 0.8], [0.9, "a"]], [0, 1], "predictions[1][1] is 'a'; every value must be a"),
    "a number too large": ([[10**30, 0]], [0], "every value must be a number, and this one is too large"),
    "without data": (torch.empty(2, 2, device="meta"), [0, 1], "predictions is a tensor that NumPy cannot hold"),
    "masked": (
        np.ma.array([*GOOD, [0.2, 0.8]], mask=[[0, 0], [0, 1]]), [0, 1], "predictions[1][1] is masked; no value may be"
    ),
    "a masked row": ([*GOOD, np.ma.array([0.2, 0.8], mask=True)], [0, 1], "predictions[1][0] is masked; no value"),
    "a masked label": (GOOD * 2, np.ma.array([0, 1], mask=[0, 1]), "references[1] is masked; no value may be masked"),
}  # fmt: skip
REFUSED_BINARY = {
    "binary nan": ([0.5, NAN], [0, 1], "predictions[1] is nan; every value must be finite"),
    "binary none": ([0.5, None], [0, 1], "predictions[1] is None; every value must be a number"),
    "binary above 1": (
        [0.5, 1.25],
        [0, 1],
        "predictions[1] is 1.25; probabilities must lie in [0, 1]. Pass from_logits",
    ),
    "binary below 0": ([-0.25], [0], "predictions[0] is -0.25; probabilities must lie in [0, 1]"),
    "binary label": ([0.5], [2], "references[0] is 2; labels must be integers in [0, 1]"),
    "binary float label": ([0.5], [1.0], "references[0] is 1.0 (float64); labels must be integers"),
    "binary rows": (GOOD, [1], 'predictions has shape (1, 2); config "binary" takes the probability of the positive'),
    "binary empty": ([], [], "predictions is empty"),
    "binary lengths": ([0.5], [1, 1], "predictions has 1 rows and references has 2"),
}


@pytest.mark.parametrize("case", [*REFUSED, *REFUSED_BINARY])
def test_invalid_input_raises(case, metric):
    config_name = "default" if case in REFUSED else "binary"
    predictions, references, message = {**REFUSED, **REFUSED_BINARY}[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        ece.expected_calibration_error(predictions, references, binary=config_name == "binary")
    shell = metric(config_name)
    with pytest.raises(ValueError, match=re.escape(message)):
        shell.compute(predictions=predictions, references=references)
    with pytest.raises(ValueError, match=re.escape(message)):  # at add_batch, or at compute if logits would be valid
        shell.add_batch(predictions=predictions, references=references)
        shell.compute()


def test_the_first_error_is_reported(metric):
    shell = metric()
    shell.add_batch(predictions=[[0.3, 0.3]], references=[0])
    shell.add_batch(predictions=[[1.5, -0.5]], references=[0])
    with pytest.raises(ValueError, match=r"predictions\[0\] sums to 0.6"):
        shell.compute()


@pytest.mark.parametrize("rows", [40_000, 600_000])
def test_errors_name_the_first_bad_row_for_any_number_of_rows(rows):
    # Many rows are checked in threads. The first bad row is named, and values out of range come before wrong sums.
    p = np.full((rows, 2), 0.5)
    labels = np.zeros(rows, dtype=int)

    def refusal():
        with pytest.raises(ValueError) as error:
            ece.expected_calibration_error(p, labels)
        return str(error.value)

    for at in (rows - 3, rows // 2):
        p[at] = [0.3, 0.3]
        assert refusal().startswith(f"predictions[{at}] sums to 0.6;")
    p[rows - 1] = [1.5, -0.5]
    assert refusal().startswith(f"predictions[{rows - 1}][0] is 1.5;")
    for at in (rows - 2, 7):
        p[at, 1] = np.nan
        assert refusal().startswith(f"predictions[{at}][1] is nan;")


def test_add_accepts_only_one_example(metric):
    with pytest.raises(ValueError, match="add takes one example; give either prediction or predictions"):
        metric().add(prediction=[0.5, 0.5], predictions=[0.2, 0.8], reference=0)


def test_the_other_functions_reject_invalid_input():
    with pytest.raises(ValueError, match="sums is empty"):
        ece.calibration_error([])
    for bad in ("a", None, 1.5, NAN):
        with pytest.raises(ValueError, match=r"confidence\[1\] is .*; every value must be a number in \[0, 1\]"):
            ece.quantile_edges([0.5 if bad != "a" else 1, bad])
    for edges in ("ab", None, [[0, 1]], 3):
        with pytest.raises(ValueError, match="they must be numbers that ascend from 0 to 1"):
            ece.class_wise_bin_sums(GOOD, [0], edges=[edges, edges])
    with pytest.raises(ValueError, match="confidence_level is None; it must lie between 0 and 1"):
        ece.bootstrap(GOOD, [0], confidence_level=None)


def test_a_failed_call_keeps_the_added_rows(metric):
    shell = metric()
    shell.add_batch(predictions=[[0.05, 0.95]], references=[1])
    for predictions, references, message in REFUSED.values():
        with pytest.raises(ValueError):
            shell.compute(predictions=predictions, references=references)
        if "probabilities" not in message and "sums" not in message:  # these raise at compute: they may be logits
            with pytest.raises(ValueError):
                shell.add_batch(predictions=predictions, references=references)
    with pytest.raises(ValueError, match="n_bins is 0"):
        shell.compute(n_bins=0)
    with pytest.raises(ValueError, match="predictions has 3 columns; the rows added before have 2"):
        shell.add(prediction=[0.2, 0.2, 0.6], reference=0)
    assert len(shell) == 1
    shell.add(prediction=[0.0, 1.0], reference=0)
    assert shell.compute() == {"ece": 0.475}


@pytest.mark.parametrize("reference", [0.9, None, True, 2])
def test_add_rejects_labels_that_arrow_would_change(reference, metric):
    with pytest.raises(ValueError, match=r"references\[0\] is "):
        metric().add(prediction=[0.5, 0.5], reference=reference)


@pytest.mark.parametrize("n_bins", [0, -1, 10.0, True, None, "10", NAN])
def test_invalid_n_bins_raises(n_bins, metric):
    for compute in (ece.expected_calibration_error, ece.bin_sums):
        with pytest.raises(ValueError, match=r"n_bins is .*; it must be an integer of at least 1"):
            compute(GOOD, [0], n_bins=n_bins)
    with pytest.raises(ValueError, match="n_bins is"):
        metric().compute(predictions=GOOD, references=[0], n_bins=n_bins)


@pytest.mark.parametrize("flag", ["no", "False", 0, 1, None, [], np.array([True])])
def test_a_flag_that_is_not_a_boolean_raises(flag, metric):
    for compute in (ece.expected_calibration_error, ece.bin_sums):
        for name in ("from_logits", "binary"):
            with pytest.raises(ValueError, match=rf"{name} is .*; it must be True or False"):
                compute(GOOD, [0], **{name: flag})
    shell = metric()
    shell.add(prediction=[0.0, 1.0], reference=1)
    for name in ("from_logits", "return_bins"):
        with pytest.raises(ValueError, match=rf"{name} is .*; it must be True or False"):
            shell.compute(**{name: flag})
    assert shell.compute(from_logits=np.False_) == {"ece": 0.0}  # the added rows are still there


def test_a_masked_array_without_masked_entries_is_accepted():
    rows = np.ma.array([[0.05, 0.95], [0.0, 1.0]], mask=False)
    assert ece.expected_calibration_error(rows, np.ma.array([1, 0])) == 0.475


def test_compute_without_rows_raises(metric):
    shell = metric()
    for _ in range(2):
        with pytest.raises(ValueError, match="There is nothing to compute: pass predictions and references"):
            shell.compute()
        shell.compute(predictions=GOOD, references=[0])  # compute clears all rows
    shell.compute(predictions=[[0.5, 0.25, 0.25]], references=[2])  # and the number of classes


def test_an_unknown_config_raises_and_lists_the_valid_ones(metric):
    with pytest.raises(
        ValueError, match=r'config_name is .regression.; it must be "default" .*, "binary" .* or "multi'
    ):
        metric("regression")


def test_binary_labels_may_be_booleans(metric):
    for labels in ([False, True], np.array([False, True]), torch.tensor([False, True])):
        assert ece.expected_calibration_error([0.25, 0.75], labels, binary=True) == 0.25
        assert metric("binary").compute(predictions=[0.25, 0.75], references=labels) == {"ece": 0.25}


@pytest.mark.parametrize(
    ("convert", "tolerance"),
    [
        (lambda rows: torch.tensor(rows, dtype=torch.bfloat16), 2e-2),
        (lambda rows: torch.tensor(rows, dtype=torch.float16), 2e-3),
        (lambda rows: np.array(rows, dtype=np.float16), 2e-3),
        (lambda rows: torch.tensor(rows, dtype=torch.float32), 1e-4),
        (lambda rows: np.array(rows, dtype=np.float32), 1e-4),
        (lambda rows: rows, 1e-4),
        (lambda rows: pa.array(rows), 1e-4),
        (lambda rows: np.array(rows), 1e-5),
        (lambda rows: torch.tensor(rows, dtype=torch.float64), 1e-5),
    ],
    ids=["bf16", "f16 torch", "f16 numpy", "f32 torch", "f32 numpy", "list", "arrow", "f64 numpy", "f64 torch"],
)
def test_the_tolerance_of_row_sums_depends_on_the_dtype(convert, tolerance, metric):
    ece.bin_sums(convert([[0.5, 0.5 - 0.75 * tolerance]]), [0])
    too_far = convert([[0.5, 0.5 - 1.25 * tolerance]])
    with pytest.raises(ValueError, match=rf"sums to 0\.9\d+; .* within {tolerance:g} for its dtype"):
        ece.bin_sums(too_far, [0])
    shell = metric()
    shell.add_batch(predictions=too_far, references=[0])
    with pytest.raises(ValueError, match=f"within {tolerance:g}"):
        shell.compute()
