import json
import math
import os
import pickle
import subprocess
import sys
from fractions import Fraction

import datasets
import evaluate
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from bayesian_text_classification.metric import load_metric_module, metric_folder
from fuzzing import tried
from hypothesis import given
from hypothesis import strategies as st
from processes import lines_of_two
from torchmetrics.functional.classification import multiclass_calibration_error

ece = load_metric_module()
SCRIPT = metric_folder() / "ece.py"


def bins_of(confidences, n_bins=10):
    """The bin of each confidence, binned one at a time."""
    return [ece.bin_sums([p], [1], n_bins, binary=True).counts.index(1) for p in confidences]


GOOD = [[0.5, 0.5]]

# Values computed by hand


def test_top_label_by_hand():
    predictions = [
        [0.75, 0.25],  # predicts 0, true 0: right
        [0.25, 0.75],  # predicts 1, true 0: wrong
        [0.30, 0.70],  # predicts 1, true 1: right
        [0.10, 0.90],  # predicts 1, true 1: right
        [1.00, 0.00],  # predicts 0, true 1: wrong
    ]
    # Bin [.7, .8): 3 rows, accuracy 2/3, mean confidence (.75 + .75 + .70) / 3 = 2.2/3, gap .2/3.
    # Bin [.9, 1]:  2 rows, accuracy 1/2, mean confidence (.90 + 1.00) / 2 = .95, gap .45.
    # ECE = 3/5 * .2/3 + 2/5 * .45 = .04 + .18
    assert ece.expected_calibration_error(predictions, [0, 0, 1, 1, 1]) == pytest.approx(0.22, abs=1e-15)


def test_binary_by_hand():
    # Bin [.2, .3): positives 1/2, mean probability .25, gap .25. Bin [.8, .9): 2/2, .8, gap .2. ECE = (.25 + .2) / 2
    value = ece.expected_calibration_error([0.25, 0.25, 0.8, 0.8], [0, 1, 1, 1], binary=True)
    assert value == pytest.approx(0.225, abs=1e-15)


def test_the_mean_confidence_of_a_bin_is_used_not_its_center():
    assert ece.expected_calibration_error([[0.01, 0.99]], [1]) == pytest.approx(0.01, abs=1e-15)  # center: 0.05


def test_bins_are_weighted_by_their_rows():
    value = ece.expected_calibration_error([0.0, 0.0, 0.0, 0.5], [0, 0, 0, 1], binary=True)
    assert value == 0.125  # 3/4 * 0 + 1/4 * .5; bins with equal weights: 0.25


def test_one_bin_gives_the_distance_between_accuracy_and_mean_confidence():
    value = ece.expected_calibration_error([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]], [1, 1, 0], n_bins=1)
    assert value == pytest.approx(0.75 - 2 / 3, abs=1e-15)


def test_the_first_of_equal_maxima_is_the_predicted_label():
    assert ece.bin_sums([[0.5, 0.5]], [0]).correct == (0, 0, 0, 0, 0, 1, 0, 0, 0, 0)
    assert ece.bin_sums([[0.5, 0.5]], [1]).correct == (0,) * 10


def test_top_label_and_binary_ece_differ_on_the_same_array():
    rows, labels = np.array([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75], [0.25, 0.75]]), [0, 1, 1, 1]
    assert ece.expected_calibration_error(rows, labels) == 0.0
    assert ece.expected_calibration_error(rows[:, 1], labels, binary=True) == 0.25


def test_classes_come_from_the_columns_not_from_the_labels():
    value = ece.expected_calibration_error([[0.2, 0.2, 0.6], [0.6, 0.2, 0.2]], [0, 0])
    assert value == pytest.approx(0.1, abs=1e-15)  # one bin: accuracy 1/2, mean confidence .6


def test_from_logits_applies_softmax_or_sigmoid():
    rows, labels = np.array([[0.125, 0.875], [0.5625, 0.4375], [0.3, 0.7]]), [1, 0, 0]
    expected = ece.expected_calibration_error(rows, labels)
    assert ece.expected_calibration_error(np.log(rows) + 7, labels, from_logits=True) == pytest.approx(expected)
    odds = np.log(rows[:, 1] / rows[:, 0])
    expected = ece.expected_calibration_error(rows[:, 1], labels, binary=True)
    assert ece.expected_calibration_error(odds, labels, from_logits=True, binary=True) == pytest.approx(expected)


@pytest.mark.filterwarnings("error")
def test_huge_logits_do_not_overflow_or_warn():
    assert ece.expected_calibration_error([[800.0, -800.0], [-1e9, 3.0]], [0, 1], from_logits=True) == 0.0
    assert ece.expected_calibration_error([800.0, -800.0], [1, 0], from_logits=True, binary=True) == 0.0


def test_logits_are_never_guessed():
    rows = [[0.1, 0.9], [0.6, 0.4]]  # valid as probabilities and as logits: only the caller knows
    as_probabilities, as_logits = (ece.bin_sums(rows, [1, 0], from_logits=flag).counts for flag in (False, True))
    assert as_probabilities == (0, 0, 0, 0, 0, 0, 1, 0, 0, 1)
    assert as_logits == (0, 0, 0, 0, 0, 1, 1, 0, 0, 0)  # softmax: .55 and .69


# Edges


def test_a_confidence_of_one_is_in_the_last_bin():
    predictions, references = [[0.05, 0.95], [0.0, 1.0]], [1, 0]
    assert ece.bin_sums(predictions, references).counts == (0, 0, 0, 0, 0, 0, 0, 0, 0, 2)
    assert ece.expected_calibration_error(predictions, references) == 0.475  # |1/2 - 1.95/2|
    # torchmetrics puts 1.0 into a separate bin: 1/2 * |1 - .95| + 1/2 * |0 - 1|
    peer = multiclass_calibration_error(torch.tensor(predictions), torch.tensor(references), 2, n_bins=10)
    assert peer.item() == pytest.approx(0.525)


def test_a_confidence_of_zero_is_in_the_first_bin():
    assert ece.bin_sums([0.0], [0], binary=True).counts == (1, *[0] * 9)


def test_a_perfect_model_has_an_ece_of_zero():
    predictions, references = [[0.0, 1.0], [1.0, 0.0]], [1, 0]
    assert ece.expected_calibration_error(predictions, references) == 0.0


@pytest.mark.parametrize("n_bins", range(1, 101))
def test_a_value_on_an_edge_belongs_to_the_bin_above(n_bins):
    edges = np.array([i / n_bins for i in range(n_bins + 1)])
    on, below = (ece.bin_sums(p, [1] * len(p), n_bins, binary=True) for p in (edges, np.nextafter(edges[1:], 0)))
    assert on.counts == (*[1] * (n_bins - 1), 2)  # the last bin is closed: it holds (B - 1) / B and 1
    assert below.counts == (1,) * n_bins
    assert list(on.edges) == edges.tolist()


def test_bins_differ_from_those_of_floor_and_linspace():
    assert bins_of([0.3, 0.6, 0.7]) == [3, 6, 7]
    assert (np.digitize([0.3, 0.6, 0.7], np.linspace(0, 1, 11)) - 1).tolist() == [2, 5, 6]
    assert bins_of([0.29], n_bins=100) == [29]
    assert math.floor(0.29 * 100) == 28


def test_float32_values_are_compared_without_rounding():
    assert float(np.float32(0.7)) < 0.7 < float(np.float32(0.3)) + 0.4
    assert bins_of(np.array([0.7, 0.3], dtype=np.float32)) == [6, 3]
    assert bins_of(np.array([0.7, 0.3])) == [7, 3]


def test_float16_values_are_compared_without_rounding():
    values = np.array([0.1, 0.3, 0.7], np.float16)  # 0.09997559, 0.30004883, 0.7001953
    assert bins_of(values) == [0, 3, 7]
    assert bins_of(torch.tensor(values)) == [0, 3, 7]


def test_arrow_stores_float64_and_keeps_values_below_an_edge(metric):
    p = 0.3 - 1e-12  # float32(p) is 0.3000000119, above the edge
    bins = metric("binary").compute(predictions=[p], references=[1], return_bins=True)["bins"]
    assert bins["counts"] == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert bins["mean_confidence"][2] == pytest.approx(p, abs=1e-16)


# Input types

ROWS = [[0.125, 0.875], [0.75, 0.25], [0.5, 0.5], [0.375, 0.625]]  # exact in every dtype
LABELS = [1, 1, 0, 1]
COLUMNS = datasets.Dataset.from_dict({"p": ROWS, "y": LABELS})
KINDS = {
    "lists": (ROWS, LABELS),
    "tuples": (tuple(map(tuple, ROWS)), tuple(LABELS)),
    "numpy float64": (np.array(ROWS), np.array(LABELS)),
    "numpy float32": (np.array(ROWS, dtype=np.float32), np.array(LABELS, dtype=np.uint8)),
    "list of arrays": ([np.array(row, dtype=np.float16) for row in ROWS], [np.int32(y) for y in LABELS]),
    "float64 tensor": (torch.tensor(ROWS, dtype=torch.float64), torch.tensor(LABELS)),
    "float32 tensor": (torch.tensor(ROWS), torch.tensor(LABELS, dtype=torch.int32)),
    "float16 tensor": (torch.tensor(ROWS).half(), torch.tensor(LABELS)),
    "bfloat16 tensor": (torch.tensor(ROWS).bfloat16(), torch.tensor(LABELS)),
    "tensor with a gradient": (torch.tensor(ROWS, requires_grad=True) * 1, LABELS),
    "list of bfloat16 tensors": (list(torch.tensor(ROWS).bfloat16()), list(torch.tensor(LABELS))),
    "arrow": (pa.array(ROWS), pa.array(LABELS)),
    "chunked arrow": (pa.chunked_array([ROWS[:1], ROWS[1:]]), pa.chunked_array([LABELS])),
    "dataset columns": (COLUMNS["p"], COLUMNS["y"]),
    "dataset columns as numpy": (COLUMNS.with_format("numpy")["p"], COLUMNS.with_format("numpy")["y"]),
    "dataset columns as torch": (COLUMNS.with_format("torch")["p"], COLUMNS.with_format("torch")["y"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_type_gives_the_same_value(kind, metric):
    predictions, references = KINDS[kind]
    expected = ece.expected_calibration_error(ROWS, LABELS)
    assert expected == 0.4375  # four bins: (|1 - .875| + |0 - .75| + |1 - .5| + |1 - .625|) / 4
    assert ece.expected_calibration_error(predictions, references) == expected
    assert metric().compute(predictions=predictions, references=references) == {"ece": expected}


def test_a_dataset_column_is_read_in_one_call(monkeypatch):
    column, read, keys = type(COLUMNS["p"]), type(COLUMNS["p"]).__getitem__, []
    monkeypatch.setattr(column, "__getitem__", lambda self, key: keys.append(key) or read(self, key))
    ece.bin_sums(COLUMNS["p"], COLUMNS["y"])
    assert keys == [slice(None)] * 2  # row by row, 100,000 rows took 2 s, or 23 s as tensors


def test_integer_predictions_and_a_range_of_labels_are_accepted():
    assert ece.expected_calibration_error([[1, 0], [0, 1]], range(2)) == 0.0


def test_sums_of_shards_add_up():
    shards = [ece.bin_sums([p], [1], binary=True) for p in (0.2, 0.5, 0.9)]
    whole = ece.bin_sums([0.2, 0.5, 0.9], [1, 1, 1], binary=True)
    assert sum(shards) == whole
    assert ece.calibration_error(whole) == ece.calibration_error(one for one in [whole]) == whole.ece
    with pytest.raises(TypeError, match="unsupported operand"):
        whole + 3


def test_pickled_sums_can_be_read_where_the_metric_was_not_loaded():
    """They name a function of the package that can be imported, not the module that it makes from a path."""
    sums = ece.bin_sums([0.25, 0.75], [0, 1], binary=True)
    assert type(sums).__module__.encode() not in pickle.dumps(sums)
    assert pickle.loads(pickle.dumps(sums)).ece == 0.25


def test_arrow_float16_has_the_tolerance_of_float16():
    p = np.random.default_rng(0).dirichlet(np.ones(3), 20).astype(np.float16)
    assert (np.abs(p.astype(float).sum(1) - 1) > 1e-4).any()
    rows = pa.array(list(p), pa.list_(pa.float16()))
    assert ece.expected_calibration_error(rows, [0] * 20) == ece.expected_calibration_error(p, [0] * 20)


def test_underflowing_logits_are_accepted_in_any_numpy_error_state():
    with np.errstate(all="raise"):
        found = ece.expected_calibration_error([[0, -1000], [1e308, -1e308]], [0, 0], from_logits=True)
    assert found == 0.0
    with np.errstate(all="raise"):
        assert ece.expected_calibration_error([-1000.0, 1000.0], [0, 1], from_logits=True, binary=True) == 0.0


def test_pandas_columns_of_objects_are_accepted():
    frame = pd.DataFrame({"p": [[0.05, 0.95], [0.0, 1.0]], "y": pd.Series([1, 0], dtype=object)})
    assert ece.expected_calibration_error(frame["p"], frame["y"]) == 0.475


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [2, 150, 30_000])
def test_softmax_rows_of_any_precision_are_accepted(dtype, classes):
    logits = torch.randn(50, classes, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert sum(ece.bin_sums(torch.softmax(logits, -1), [0] * 50).counts) == 50


# Ways of adding rows


@pytest.mark.parametrize("keep_in_memory", [False, True])
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("config_name", ["default", "binary"])
def test_all_ways_of_adding_rows_give_the_same_value(config_name, from_logits, keep_in_memory, metric):
    rng = np.random.default_rng(0)
    rows, labels = rng.dirichlet([1, 1], 200), rng.integers(0, 2, 200)
    rows = rows if config_name == "default" else rows[:, 1]
    rows = rows * 9 - 4 if from_logits else rows
    options = {"n_bins": 15, "from_logits": from_logits, "return_bins": True}
    sums = ece.bin_sums(rows, labels, 15, from_logits=from_logits, binary=config_name == "binary")
    expected = {"ece": sums.ece, "bins": sums.as_dict()}

    shell = metric(config_name, keep_in_memory=keep_in_memory)
    assert shell.compute(predictions=rows, references=labels, **options) == expected
    for row, label in zip(rows, labels, strict=True):
        shell.add(prediction=row, reference=label)
    assert shell.compute(**options) == expected
    for row, label in zip(rows, labels, strict=True):
        shell.add(predictions=row, references=label)  # the argument names in Evaluate's documentation
    assert shell.compute(**options) == expected
    for part in np.split(np.arange(200), [1, 50, 190]):
        shell.add_batch(predictions=rows[part], references=labels[part])
    assert shell.compute(**options) == expected
    shell.add_batch(predictions=rows[:50], references=labels[:50])
    shell.add(prediction=rows[50], reference=labels[50])
    assert shell.compute(predictions=rows[51:], references=labels[51:], **options) == expected
    combined = evaluate.combine([shell])
    for row, label in zip(rows, labels, strict=True):
        combined.add(row, label)
    assert combined.compute(**options) == expected


def test_compute_can_be_repeated_after_forgetting_from_logits(metric):
    shell = metric()
    shell.add_batch(predictions=[[0.5, 0.5]], references=[0])
    shell.add_batch(predictions=[[0.0, 1.0], [3.0, -1.0]], references=[1, 0])
    with pytest.raises(ValueError, match=r"predictions\[2\]\[0\] is 3.0; .* Pass from_logits=True for logits"):
        shell.compute()
    assert shell.compute(from_logits=True)["ece"] > 0
    assert shell.compute(predictions=GOOD, references=[0]) == {"ece": 0.5}  # the error is not kept


TWO_PROCESSES = """
import importlib.util, json, sys
sys.modules["transformers"] = None  # Evaluate would import it for its evaluators, which takes seconds
import evaluate
del sys.modules["transformers"]
import numpy as np
script, cache, process_id = sys.argv[1], sys.argv[2], int(sys.argv[3])
spec = importlib.util.spec_from_file_location("ece", script)
ece = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ece)
good = [np.array([[0.05, 0.95], [0.3, 0.7]]), np.array([[0.0, 1.0], [0.6, 0.401]], dtype=np.float16)]
bad = [good[0], np.array([[3.0, -1.0], [0.6, 0.4]])]
for name, batches in (("good", good), ("bad", bad)):
    metric = ece.ECE(num_process=2, process_id=process_id, cache_dir=cache, experiment_id=name, timeout=30)
    metric.add_batch(predictions=batches[process_id], references=[1, 0])
    try:
        print(json.dumps(metric.compute()))
    except ValueError as error:
        print(error)
"""


def test_two_processes_give_one_value_or_both_raise(tmp_path):
    main, other = lines_of_two(TWO_PROCESSES, SCRIPT, tmp_path)
    half = np.array(
        [[0.0, 1.0], [0.6, 0.401]], dtype=np.float16
    )  # a row sums to 1.0012, which is within the tolerance of float16
    sums = ece.bin_sums([[0.05, 0.95], [0.3, 0.7]], [1, 0]) + ece.bin_sums(half, [1, 0])
    assert json.loads(main[0]) == {"ece": sums.ece}
    assert json.loads(other[0]) is None
    # Rows that are not probabilities raise in the process that has them and in the process that computes the value.
    assert main[1].startswith("predictions[2][0] is 3.0; probabilities must lie in [0, 1]")
    assert other[1].startswith("predictions[0][0] is 3.0; probabilities must lie in [0, 1]")


# BinSums


def test_bin_sums_by_hand():
    sums = ece.bin_sums([0.25, 0.25, 0.75, 1.0], [0, 1, 1, 1], n_bins=4, binary=True)
    assert sums.counts == (0, 2, 0, 2)
    assert sums.confidence == (0, Fraction(1, 2), 0, Fraction(7, 4))
    assert sums.correct == (0, 1, 0, 2)
    np.testing.assert_array_equal(sums.edges, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_array_equal(sums.mean_confidence, [np.nan, 0.25, np.nan, 0.875])
    np.testing.assert_array_equal(sums.accuracy, [np.nan, 0.5, np.nan, 1.0])
    assert sums.ece == 0.1875  # 2/4 * .25 + 2/4 * .125


def test_bins_are_valid_json_with_null_for_an_empty_bin(metric):
    result = metric("binary").compute(predictions=[0.25, 0.75], references=[0, 1], n_bins=3, return_bins=True)
    assert json.loads(json.dumps(result, allow_nan=False)) == {
        "ece": 0.25,
        "bins": {
            "edges": [0, 1 / 3, 2 / 3, 1],
            "counts": [1, 0, 1],
            "mean_confidence": [0.25, None, 0.75],
            "accuracy": [0.0, None, 1.0],
        },
    }


def test_adding_sums_over_different_bins_raises():
    with pytest.raises(ValueError, match="over 10 bins to sums over 15 bins"):
        ece.bin_sums(GOOD, [0], 10) + ece.bin_sums(GOOD, [0], 15)


def test_sums_are_exact_for_many_rows():
    # A million times 0.1, accumulated one by one, is 0.9% too high in float32 and 1.3e-11 too high in float64.
    sums = ece.bin_sums(np.full(1_000_000, 0.1), np.zeros(1_000_000, dtype=int), binary=True)
    assert sums.confidence[1] == 1_000_000 * Fraction(0.1)
    assert sums.ece == 0.1


@pytest.mark.parametrize("smallest", [5e-324, 1e-300, 1e-17])
def test_sums_are_exact_for_tiny_values(smallest):
    assert ece.bin_sums([smallest, 1.0], [0, 1], n_bins=1, binary=True).confidence == (1 + Fraction(smallest),)


# Properties


@st.composite
def examples(draw):
    """Rows with many ties and many values exactly on an edge, and labels."""
    classes = draw(st.integers(2, 4))
    weights = st.lists(st.one_of(st.integers(0, 3), st.floats(0, 1)), min_size=classes, max_size=classes)
    rows = draw(st.lists(weights.filter(lambda row: sum(row) > 0.01), min_size=1, max_size=30))
    rows = np.array(rows, dtype=np.float64)
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=len(rows), max_size=len(rows)))
    return np.minimum(rows / rows.sum(axis=1, keepdims=True), 1.0), np.array(labels)


BINS = st.integers(1, 40)


@given(examples(), BINS)
def test_value_is_between_the_overall_gap_and_one(example, n_bins):
    rows, labels = example
    value = ece.expected_calibration_error(rows, labels, n_bins)
    accuracy, confidence = np.mean(rows.argmax(axis=1) == labels), np.mean(rows.max(axis=1))
    assert abs(accuracy - confidence) - 1e-12 <= value <= 1  # Jensen: |sum of gaps| <= sum of |gaps|


@given(examples(), BINS)
def test_value_equals_the_definition_applied_row_by_row(example, n_bins):
    rows, labels = example
    edges = [Fraction(i / n_bins) for i in range(n_bins)]
    gaps = dict.fromkeys(range(n_bins), Fraction(0))
    for row, label in zip(rows.tolist(), labels.tolist(), strict=True):
        confidence = Fraction(max(row))
        b = max(i for i, edge in enumerate(edges) if edge <= confidence)
        gaps[b] += (row.index(max(row)) == label) - confidence
    expected = float(sum(map(abs, gaps.values())) / len(rows))
    assert ece.expected_calibration_error(rows, labels, n_bins) == expected


@given(examples(), BINS, st.randoms(use_true_random=False))
def test_row_order_and_duplicated_rows_do_not_change_the_value(example, n_bins, random):
    rows, labels = example
    order = random.sample(range(len(rows)), len(rows))
    sums = ece.bin_sums(rows, labels, n_bins)
    assert ece.bin_sums(rows[order], labels[order], n_bins) == sums
    assert ece.expected_calibration_error(np.tile(rows, (7, 1)), np.tile(labels, 7), n_bins) == sums.ece


@given(examples(), BINS, st.integers(0, 30))
def test_shards_merge_exactly(example, n_bins, cut):
    rows, labels = example
    sums = ece.bin_sums(rows, labels, n_bins)
    assert sum(sums.counts) == len(rows)
    assert sum(sums.correct) == np.sum(rows.argmax(axis=1) == labels)
    if 0 < cut < len(rows):
        first, second = (ece.bin_sums(rows[part], labels[part], n_bins) for part in (slice(cut), slice(cut, None)))
        assert first + second == second + first == sums


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), BINS)
def test_binary_with_only_positives_is_one_minus_the_mean(p, n_bins):
    labels = [1] * len(p)
    value = ece.expected_calibration_error(p, labels, n_bins, binary=True)
    assert value == pytest.approx(1 - np.mean(p), abs=1e-12)  # all positive: every gap has the same sign


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=20,
)
ANY_ROWS = st.lists(st.lists(st.floats() | st.floats(0, 1), min_size=1, max_size=3), max_size=4)
ANY_LABELS = st.lists(st.integers(-1, 3) | st.floats() | st.booleans(), max_size=4)
ANY_OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "n_bins": st.integers(-1, 30) | ANYTHING,
        "binning": st.sampled_from(["uniform", "quantile", "other"]) | ANYTHING,
        "norm": st.sampled_from(["l1", "l2", "max", "l3"]) | ANYTHING,
        **{flag: st.booleans() | ANYTHING for flag in ("class_wise", "from_logits", "debias", "binary", "multilabel")},
    },
)


@tried(300)
@given(ANYTHING | ANY_ROWS | st.lists(st.floats(0, 1)), ANYTHING | ANY_LABELS, ANY_OPTIONS)
def test_fuzz_any_input_gives_a_number_or_a_value_error_with_a_message(predictions, references, options):
    try:
        found = ece.expected_calibration_error(predictions, references, **options)
    except ValueError as error:
        assert str(error)
        return
    assert 0 <= found <= 1


# Documentation

RUN_EXAMPLES = """
import doctest, re, sys
sys.modules["transformers"] = None  # Evaluate would import it for its evaluators, which takes seconds
import evaluate
del sys.modules["transformers"]
ece = evaluate.load("ece")  # from the folder metrics, where this runs
module = sys.modules[type(ece).__module__]
attempted = {}
for name, text in {"docstring": module.__dict__["_KWARGS_DESCRIPTION"], "bin_sums": module.bin_sums.__doc__, "card":
                   "\\n".join(re.findall(r"```python\\n(.*?)```", open("ece/README.md").read(), re.S))}.items():
    test = doctest.DocTestParser().get_doctest(text, {**vars(module)}, name, name, 0)
    failed, attempted[name] = doctest.DocTestRunner().run(test)
    assert not failed and attempted[name] >= 3, (name, failed, attempted)
assert "evaluate.load" in type(ece).__doc__ and "evaluate.load" in ece.compute.__doc__
"""


def test_documented_examples_run(tmp_path):
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_EVALUATE_OFFLINE": "1"}
    command = [sys.executable, "-c", RUN_EXAMPLES]
    run = subprocess.run(command, cwd=SCRIPT.parents[1], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_evaluate_finds_only_libraries_and_one_module():
    # Evaluate's parser expects one import per line and looks for local imports next to the script. It takes the first
    # evaluation module it sees, so `from evaluate import Metric` would make it load the empty base class.
    imports = evaluate.loading.get_imports(str(SCRIPT))
    assert {kind for kind, *_ in imports} == {"library"}
    assert {name for _, name, *_ in imports} - sys.stdlib_module_names == {"datasets", "evaluate", "numpy"}
    modules = [x for x in vars(ece).values() if isinstance(x, type) and issubclass(x, evaluate.EvaluationModule)]
    assert modules == [ece.ECE]


def test_the_card_has_the_tolerances_and_citations_of_the_code():
    card = (SCRIPT.parent / "README.md").read_text()
    for tolerance in ("0.02 for bfloat16", "0.002 for float16", "0.0001 for float32", "0.00001 for float64"):
        assert tolerance in " ".join(card.split())
        assert tolerance in " ".join(ece.expected_calibration_error.__doc__.split())
        number, _, dtype = tolerance.partition(" for ")
        assert ece._SUM_TOLERANCE[dtype] == float(number)
    assert ece._CITATION.strip() in card
