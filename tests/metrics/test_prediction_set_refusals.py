"""The input that the metric of prediction sets rejects, and its error messages."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from bayesian_text_classification.metric import load_metric_module
from hypothesis import given
from hypothesis import strategies as st

module = load_metric_module("prediction_set_coverage")
coverage_of = module.prediction_set_coverage

NAN = float("nan")
SEVERAL = 'For several labels, use evaluate.load("prediction_set_coverage", "multilabel"), or multilabel=True'
# Sets, labels, and the message. The sets of the first part are refused as labels of config "multilabel" too.
REFUSED_SETS = {
    "float": ([[0], [1, 2.0]], "[1][1] is 2.0; label ids must be integers of at least 0. Pass label ids as integers."),
    "nan": ([[0], [NAN]], "[1][0] is nan; label ids must be integers of at least 0. Leave out rows without a label."),
    "none": ([[0, None]], "[0][1] is None; label ids must be integers"),
    "none as a row": ([[0], None], "[1] is None; each row must be a list of label ids, [] for an empty set."),
    "boolean": ([[0], [True]], "[1][0] is True; label ids must be integers of at least 0. For sets as flags, pass a"),
    "NumPy boolean": ([[np.True_]], "[0][0] is "),
    "string": ([["positive"]], "[0][0] is 'positive'; label ids must be integers of at least 0. Turn names into ids"),
    "string as a row": (["0,2"], "[0] is '0,2'; each row must be a list of label ids"),
    "dictionaries": ([[{"label": "a", "score": 0.5}]], "[0][0] is {'label': 'a', 'score': 0.5}; label ids must be"),
    "dictionary as a row": ([{"label": 0}], "[0] is {'label': 0}; each row must be a list of label ids"),
    "negative": ([[0], [2, -1]], "[1][1] is -1; label ids must be integers of at least 0. Leave out rows without"),
    "huge": ([[10_000_000]], "[0][0] is 10000000; label ids must be below 10,000,000."),
    "beyond int64": ([[2**70]], "[0][0] is 1180591620717411303424; label ids must be below 10,000,000."),
    "twice": ([[0], [2, 1, 2]], "[1][2] is 2, which the row already holds; give each label id once. For flags of 0"),
    "a list of ids": ([0, 1], "[0] is 0; each row must be a list of label ids"),
    "nested": ([[[0]]], "[0][0] is [0]; label ids must be integers"),
    "an array of ids": (np.array([0, 1]), " has shape (2,) and dtype int64; pass a list with one list of label ids"),
    "an integer matrix": (
        np.array([[0, 1], [1, 0]]),
        " has shape (2, 2) and dtype int64; a matrix of integers could hold label ids or flags. For ids, pass .tolist()"
        "; for flags of 0 and 1, pass .astype(bool).",
    ),
    "an integer tensor": (torch.tensor([[0, 1]]), " has shape (1, 2) and dtype int64; a matrix of integers could"),
    "probabilities": (np.array([[0.2, 0.8]]), " has shape (1, 2) and dtype float64; pass a list with one list of"),
    "several levels": (np.ones((1, 2, 3), dtype=bool), " has shape (1, 2, 3) and dtype bool; pass the sets of one"),
    "a flat boolean array": (np.array([True, False]), " has shape (2,) and dtype bool; pass a list with one list"),
    "a matrix as a row": ([np.array([[0, 1]])], "[0] is array([[0, 1]]); each row must be a list of label ids"),
    "empty": ([], " is empty; at least one row is needed."),
    "an empty matrix": (np.zeros((0, 3), dtype=bool), " is empty; at least one row is needed."),
    "nothing": (None, " is of type NoneType; pass a list with one entry per row."),
    "one id": (3, " is of type int; pass a list with one entry per row."),
    "an array of one id": (np.array(3), " is of type int; pass a list with one entry per row."),
    "text": ("0,2", " is of type str; pass a list with one entry per row."),
    "a generator": ((one for one in [[0]]), " is of type generator; pass a list with one entry per row."),
    "a frame": (pd.DataFrame({"a": [0]}), " is of type DataFrame; pass a list with one entry per row."),
    "sparse": (torch.eye(2).bool().to_sparse(), " is a tensor that NumPy cannot hold"),
    "masked": (np.ma.array([[True, False]], mask=[[0, 1]]), "[0][1] is masked; no value may be masked. Leave the row"),
    "a masked row": ([[0], np.ma.array([0, 1], mask=[1, 0])], "[1][0] is masked; no value may be masked."),
}
REFUSED_LABELS = {
    "lengths": ([[0]] * 3, [0, 1], "predictions has 3 rows and references has 2; give one of each per row."),
    "label float": ([[0]] * 2, [0, 1.0], "references[1] is 1.0; label ids must be integers of at least 0. Pass label"),
    "label float array": ([[0]] * 2, np.array([0, 0.5]), "references[0] is 0.0; label ids must be integers"),
    "label boolean": ([[0]], [True], "references[0] is True; label ids must be integers"),
    "label string": ([[0]], ["a"], "references[0] is 'a'; label ids must be integers of at least 0. Turn names into"),
    "label none": ([[0]], [None], "references[0] is None; label ids must be integers"),
    "label negative": ([[0]] * 2, [0, -100], "references[1] is -100; label ids must be integers of at least 0. Leave"),
    "lists of labels": ([[0]], [[0, 1]], f"references[0] is [0, 1]; expected one label id per row. {SEVERAL}"),
    "a matrix of labels": ([[0]], np.eye(2, dtype=bool), "references has shape (2, 2); expected one label id per row"),
    "no labels": ([[0]], [], "references is empty; at least one row is needed."),
    "label masked": ([[0]] * 2, np.ma.array([0, 1], mask=[0, 1]), "references[1] is masked"),
}


@pytest.fixture
def metric(tmp_path):
    return lambda config_name="default", **options: module.PredictionSetCoverage(
        config_name=config_name, cache_dir=tmp_path, **options
    )


def refused(message, sets, labels, shell, multilabel):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        coverage_of(sets, labels, multilabel=multilabel)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    for method in (shell.compute, shell.add_batch):
        with pytest.raises(ValueError, match=re.escape(message)):
            method(predictions=sets, references=labels)
    assert not len(shell)


@pytest.mark.parametrize("case", REFUSED_SETS)
def test_invalid_sets_raise(case, metric):
    sets, message = REFUSED_SETS[case]
    refused("predictions" + message, sets, [0, 0], metric(), False)
    refused("references" + message, [[0], [0]], sets, metric("multilabel"), True)


@pytest.mark.parametrize("case", REFUSED_LABELS)
def test_invalid_labels_raise(case, metric):
    sets, labels, message = REFUSED_LABELS[case]
    refused(message, sets, labels, metric(), False)


def test_ids_beyond_the_number_of_classes_raise(metric):
    with pytest.raises(ValueError, match=re.escape("predictions[1][1] is 3; label ids must be integers in [0, 2].")):
        coverage_of([[0], [1, 3]], [0, 1], num_classes=3)
    with pytest.raises(ValueError, match=re.escape("references[1] is 3; label ids must be integers in [0, 2].")):
        coverage_of([[0], [1]], [0, 3], num_classes=3)
    with pytest.raises(ValueError, match=r"predictions has 2 columns and num_classes is 3; they must be equal\."):
        coverage_of(np.eye(2, dtype=bool), [0, 1], num_classes=3)


def test_rows_added_before_are_named_and_kept(metric):
    shell = metric()
    shell.add_batch(predictions=[[0], [1]], references=[0, 1])
    shell.add_batch(predictions=[[0], [1, 5]], references=[0, 1])
    with pytest.raises(ValueError, match=re.escape("predictions[3][1] is 5; label ids must be integers in [0, 2].")):
        shell.compute(num_classes=3)
    shell.add(prediction=[0], reference=6)
    with pytest.raises(ValueError, match=re.escape("references[4] is 6; label ids must be integers in [0, 5].")):
        shell.compute(num_classes=6)
    assert shell.compute(num_classes=7)["coverage"] == 4 / 5
    assert shell.compute(predictions=[[0]], references=[0], num_classes=1)["coverage"] == 1  # nothing is remembered


def test_a_data_set_without_any_label_raises(metric):
    for call in (lambda: coverage_of([[0]], [[]], multilabel=True),
                 lambda: metric("multilabel").compute(predictions=[[0]], references=[[]])):  # fmt: skip
        with pytest.raises(ValueError, match="references has no row with a label; coverage needs at least one"):
            call()


OPTIONS = {
    "flag": ({"class_wise": "no"}, "class_wise is 'no'; it must be True or False."),
    "size_stratified": ({"size_stratified": 1}, "size_stratified is 1; it must be True or False."),
    "no classes": ({"num_classes": 0}, "num_classes is 0; it must be an integer of at least 1."),
    "boolean classes": ({"num_classes": True}, "num_classes is True; it must be an integer of at least 1."),
    "float classes": ({"num_classes": 3.0}, "num_classes is 3.0; it must be an integer of at least 1."),
    "many classes": ({"num_classes": 10**8}, "num_classes is 100000000; it must be at most 10,000,000."),
    "level 1": ({"coverage_level": 1.0, "n_calibration": 9}, "coverage_level is 1.0; it must lie between 0 and 1"),
    "level in percent": ({"coverage_level": 95, "n_calibration": 9}, "coverage_level is 95; it must lie between 0"),
    "level nan": ({"coverage_level": NAN, "n_calibration": 9}, "coverage_level is nan; it must lie between 0 and 1"),
    "level alone": (
        {"coverage_level": 0.9},
        "coverage_level is 0.9 without n_calibration; the band needs both. Give the number of calibration rows, or",
    ),
    "calibration alone": (
        {"n_calibration": 9},
        "n_calibration is 9 without coverage_level; the band needs both. Give the nominal level of the sets, such as",
    ),
    "no calibration": ({"coverage_level": 0.9, "n_calibration": 0}, "n_calibration is 0; it must be an integer of at"),
    "float calibration": ({"coverage_level": 0.9, "n_calibration": 99.0}, "n_calibration is 99.0; it must be an"),
    "few calibration rows": (
        {"coverage_level": 0.95, "n_calibration": 18},
        "n_calibration is 18; coverage_level=0.95 needs at least 19 calibration rows, because with fewer every set",
    ),
    "confidence": ({"confidence_level": 0}, "confidence_level is 0; it must lie between 0 and 1, such as 0.95."),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_invalid_options_raise_and_keep_the_rows(case, metric):
    options, message = OPTIONS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        coverage_of([[0]], [0], **options)
    shell = metric()
    shell.add(prediction=[0], reference=0)
    with pytest.raises(ValueError, match=re.escape(message)):
        shell.compute(**options)
    assert shell.compute() == {"coverage": 1.0, "mean_size": 1.0}


@pytest.mark.parametrize("level", [0.51, 0.8, 0.9, 0.95, 0.99, 0.999])
def test_the_number_of_rows_in_the_message_is_enough_and_one_fewer_is_not(level):
    with pytest.raises(ValueError, match="needs at least") as error:
        module.coverage_band(10, level, 1)
    needed = int(re.search(r"at least (\d+)", str(error.value))[1])
    assert module.coverage_band(10, level, needed)[1] == 1
    with pytest.raises(ValueError, match=f"needs at least {needed} calibration rows"):
        module.coverage_band(10, level, needed - 1)


@pytest.mark.parametrize("name", ["coverage_level", "n_calibration"])
def test_several_labels_have_no_band(name, metric):
    options = {name: {"coverage_level": 0.9, "n_calibration": 99}[name]}
    message = f'{name} is {options[name]}; config "multilabel" has no band'
    with pytest.raises(ValueError, match=re.escape(message)):
        coverage_of([[0]], [[0]], multilabel=True, **options)
    with pytest.raises(ValueError, match=re.escape(message)):
        metric("multilabel").compute(predictions=[[0]], references=[[0]], **options)


def test_the_module_refuses_what_it_cannot_compute(metric):
    with pytest.raises(ValueError, match="config_name is 'binary'; it must be \"default\""):
        metric("binary")
    with pytest.raises(ValueError, match="There is nothing to compute: pass predictions and references, or add some"):
        metric().compute()
    with pytest.raises(ValueError, match="add takes one row; give either prediction or predictions"):
        metric().add(prediction=[0], predictions=[0], reference=0)
    with pytest.raises(ValueError, match="multilabel is 'yes'; it must be True or False"):
        coverage_of([[0]], [0], multilabel="yes")


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(0, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.sets(st.integers(0, 3)) | st.just(np.zeros((2, 2), dtype=bool)),
    max_leaves=8,
)


@given(ODD, ODD, st.booleans())
def test_any_input_gives_shares_or_a_value_error_with_one_line(sets, labels, multilabel):
    try:
        found = coverage_of(sets, labels, multilabel=multilabel)
    except ValueError as error:
        assert re.match(r"(predictions|references)\b", str(error)) and "\n" not in str(error)
        return
    assert 0 <= found["coverage"] <= 1 and found["mean_size"] >= 0
