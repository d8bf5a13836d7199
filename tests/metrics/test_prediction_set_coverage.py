"""The values of the metric of prediction sets: by hand, by their properties, and next to SciPy and MAPIE."""

import inspect
import itertools
import json
import math
import os
import subprocess
import sys

import datasets
import evaluate
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from bayesian_text_classification.metric import load_metric_module, metric_folder
from hypothesis import given
from hypothesis import strategies as st
from mapie.metrics.classification import (
    classification_coverage_score,
    classification_mean_width_score,
    classification_ssc,
)
from processes import lines_of_two
from scipy import stats

NAME = "prediction_set_coverage"
module = load_metric_module(NAME)
coverage_of = module.prediction_set_coverage
SCRIPT = metric_folder(NAME) / f"{NAME}.py"
SETS, LABELS = [[0, 2], [1], [], [2, 1], [0]], [0, 1, 2, 2, 1]
EVERYTHING = {"class_wise": True, "size_stratified": True}


@pytest.fixture
def metric(tmp_path):
    return lambda config_name="default", **options: module.PredictionSetCoverage(
        config_name=config_name, cache_dir=tmp_path, **options
    )


# By hand


def test_coverage_and_size_by_hand():
    assert coverage_of(SETS, LABELS) == {"coverage": 3 / 5, "mean_size": 6 / 5}
    assert coverage_of([[]], [3]) == {"coverage": 0.0, "mean_size": 0.0}
    assert coverage_of([[3]], [3]) == {"coverage": 1.0, "mean_size": 1.0}


def test_by_class_and_by_size_by_hand():
    found = coverage_of(SETS, LABELS, **EVERYTHING, num_classes=4)
    assert found["class_coverage"] == [1.0, 0.5, 0.5, None]
    assert found["class_size"] == [2.0, 1.0, 1.0, None]
    assert found["class_counts"] == [1, 2, 2, 0]
    assert found["size_coverage"] == [0.0, 0.5, 1.0]
    assert found["size_counts"] == [1, 2, 2]


def test_class_lists_end_at_the_largest_id_of_sets_and_labels():
    assert coverage_of([[4]], [1], class_wise=True)["class_counts"] == [0, 1, 0, 0, 0]
    assert coverage_of([[]], [2], class_wise=True)["class_counts"] == [0, 0, 1]
    assert coverage_of([[1, 3]], [1], size_stratified=True)["size_coverage"] == [None, None, 1.0]


def test_several_labels_by_hand():
    sets, labels = [[0, 2], [1], [2], [0, 1, 2]], [[0, 1], [1], [], [0, 1, 3]]
    found = coverage_of(sets, labels, multilabel=True, **EVERYTHING)
    assert found["coverage"] == pytest.approx((1 / 2 + 1 + 2 / 3) / 3)
    assert found["mean_size"] == 7 / 4  # the row without labels counts
    assert found["class_coverage"] == [1.0, 2 / 3, None, 0.0]
    assert found["class_size"] == [2.5, 2.0, None, 3.0]
    assert found["class_counts"] == [2, 3, 0, 1]
    assert found["size_coverage"] == [None, 1.0, 0.5, pytest.approx(2 / 3)]
    assert found["size_counts"] == [0, 1, 1, 1]


def test_the_coverage_gap_by_hand():
    found = coverage_of(SETS, LABELS, class_wise=True, coverage_level=0.9)
    assert found["cov_gap"] == pytest.approx((0.1 + 0.4 + 0.4) / 3)
    # One row: the gap is 0.1 with probability 0.9, and 0.9 otherwise. Two rows: 0.1, 0.4 or 0.9.
    one, two = 0.9 * 0.1 + 0.1 * 0.9, 0.81 * 0.1 + 0.18 * 0.4 + 0.01 * 0.9
    assert found["null_cov_gap"] == pytest.approx((one + 2 * two) / 3)
    assert "band" not in found


# The band


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("level", [0.07, 0.5, 0.8, 0.9, 0.95])
def test_the_band_is_that_of_scipys_beta_binomial(level, confidence):
    for n, m in itertools.product([1, 2, 19, 20, 99, 872, 5_000], [19, 20, 99, 100, 500, 10_000]):
        k = next(k for k in range(1, m + 1) if k >= level * (m + 1) - 1e-9)
        law = stats.betabinom(n, k, m + 1 - k)
        low, high = (round(end * n) for end in module.coverage_band(n, level, m, confidence))
        tail = (1 - confidence) / 2
        assert law.cdf(low) >= tail - 1e-9 and (low == 0 or law.cdf(low - 1) < tail + 1e-9)
        assert law.cdf(high) >= 1 - tail - 1e-9 and (high == 0 or law.cdf(high - 1) < 1 - tail + 1e-9)


def test_the_band_is_exact_for_many_rows():
    low, high = module.coverage_band(1_000_000, 0.95, 200_000)
    law = stats.betabinom(1_000_000, 190_001, 10_000)
    assert [low * 1e6, high * 1e6] == pytest.approx(list(law.interval(0.95)), abs=1)


def test_a_level_that_is_a_whole_number_of_rows_is_not_rounded_up():
    """0.07 * 100 is 7.000000000000001, and k is 7."""
    law = stats.betabinom(50, 7, 93)
    assert module.coverage_band(50, 0.07, 99, 0.9) == tuple(np.divide(law.interval(0.9), 50))


def test_the_band_holds_the_coverage_of_split_conformal_prediction():
    """Scores are uniform, without loss of generality. The limit is the k-th of m calibration scores."""
    n, m, level, random = 100, 60, 0.9, np.random.default_rng(0)
    k = math.ceil(level * (m + 1))
    limits = np.sort(random.random((20_000, m)))[:, k - 1]
    covered = random.binomial(n, limits) / n
    low, high = module.coverage_band(n, level, m)
    assert np.mean((low <= covered) & (covered <= high)) == pytest.approx(
        stats.betabinom(n, k, m + 1 - k).cdf(round(high * n))
        - stats.betabinom(n, k, m + 1 - k).cdf(round(low * n) - 1),
        abs=0.006,
    )


def test_the_module_says_whether_the_coverage_is_in_the_band():
    options = {"coverage_level": 0.9, "n_calibration": 500}
    low, high = module.coverage_band(200, 0.9, 500)
    for covered in range(150, 201):
        found = coverage_of([[0]] * 200, [0] * covered + [1] * (200 - covered), **options)
        assert found["band"] == [low, high]
        assert found["in_band"] is (round(low * 200) <= covered <= round(high * 200))
    wide = coverage_of([[0]] * 200, [0] * 200, **options, confidence_level=0.999)["band"]
    assert wide[0] < low < high < wide[1]


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9, 0.951])
def test_the_null_gap_is_the_mean_deviation_of_binomials(level):
    counts = [1, 2, 10, 10, 0, 1_000, 100_000]
    expected = [
        (stats.binom(n, level).pmf(range(n + 1)) * abs(np.arange(n + 1) / n - level)).sum() for n in counts if n
    ]
    assert module.null_coverage_gap(counts, level) == pytest.approx(np.mean(expected), rel=1e-6)


# Properties

ROWS = st.lists(st.tuples(st.sets(st.integers(0, 6)), st.integers(0, 6)), min_size=1, max_size=30)
ROWS_OF_SEVERAL = st.lists(
    st.tuples(st.sets(st.integers(0, 6)), st.sets(st.integers(0, 6), min_size=1)), min_size=1, max_size=30
)


@given(ROWS)
def test_values_equal_the_definitions_applied_row_by_row(rows):
    sets, labels = zip(*rows, strict=True)
    found = coverage_of(sets, labels, **EVERYTHING, num_classes=7)
    inside = np.array([y in one for one, y in rows])
    sizes = np.array([len(one) for one in sets])
    assert found["coverage"] == inside.mean() and found["mean_size"] == pytest.approx(sizes.mean())
    for k, (share, size, count) in enumerate(
        zip(found["class_coverage"], found["class_size"], found["class_counts"], strict=True)
    ):
        own = np.array(labels) == k
        assert count == own.sum()
        assert (share, size) == ((inside[own].mean(), pytest.approx(sizes[own].mean())) if count else (None, None))
    for s, (share, count) in enumerate(zip(found["size_coverage"], found["size_counts"], strict=True)):
        assert count == (sizes == s).sum() and share == (inside[sizes == s].mean() if count else None)


@given(ROWS)
def test_classes_and_sizes_average_to_the_coverage(rows):
    sets, labels = zip(*rows, strict=True)
    found = coverage_of(sets, labels, **EVERYTHING)
    for name in ("class", "size"):
        counts = found[f"{name}_counts"]
        total = sum(c * n for c, n in zip(found[f"{name}_coverage"], counts, strict=True) if n)
        assert sum(counts) == len(rows) and total / len(rows) == pytest.approx(found["coverage"])


@given(ROWS_OF_SEVERAL, st.randoms())
def test_the_order_of_rows_and_ids_changes_no_bit(rows, random):
    def measured(pairs):
        sets, labels = zip(*pairs, strict=True)
        return coverage_of(sets, labels, multilabel=True, **EVERYTHING)

    turned = [(random.sample(sorted(one), len(one)), random.sample(sorted(y), len(y))) for one, y in rows]
    assert measured(rows) == measured(random.sample(turned, len(turned)))


@given(ROWS)
def test_one_label_per_row_is_a_special_case_of_several(rows):
    sets, labels = zip(*rows, strict=True)
    several = coverage_of(sets, [[y] for y in labels], multilabel=True, **EVERYTHING)
    assert several == coverage_of(sets, labels, **EVERYTHING)


@given(ROWS)
def test_larger_sets_cover_at_least_as_much(rows):
    sets, labels = zip(*rows, strict=True)
    larger = [one | {0, 1} for one in sets]
    assert coverage_of(larger, labels)["coverage"] >= coverage_of(sets, labels)["coverage"]
    assert coverage_of([range(7)] * len(rows), labels)["coverage"] == 1


# A peer


def test_values_equal_those_of_mapie():
    random = np.random.default_rng(0)
    matrix, labels = random.random((500, 6)) < 0.5, random.integers(0, 6, 500)
    found = coverage_of(matrix, labels, **EVERYTHING)
    assert found["coverage"] == pytest.approx(classification_coverage_score(labels, matrix).item())
    assert found["mean_size"] == pytest.approx(classification_mean_width_score(matrix).item())
    assert found["size_coverage"] == pytest.approx(classification_ssc(labels, matrix)[0])
    for k in range(6):
        own = labels == k
        score = classification_coverage_score(labels[own], matrix[own]).item()
        assert found["class_coverage"][k] == pytest.approx(score)


# Forms of input

OBJECTS = np.empty(5, dtype=object)
OBJECTS[:] = SETS
MATRIX = np.array([[k in one for k in range(3)] for one in SETS])
FORMS = {
    "lists": (SETS, LABELS),
    "tuples": (tuple(map(tuple, SETS)), tuple(LABELS)),
    "Python sets": (list(map(set, SETS)), LABELS),
    "arrays in a list": ([np.array(one) for one in SETS], np.array(LABELS)),  # np.array([]) holds floats
    "flags in a list": (list(MATRIX), LABELS),
    "an array of objects": (OBJECTS, np.array(LABELS, dtype=object)),
    "small integers": ([np.array(one, dtype=np.uint8) for one in SETS], np.array(LABELS, dtype=np.int8)),
    "NumPy integers": ([[np.int32(k) for k in one] for one in SETS], list(np.array(LABELS))),
    "a boolean matrix": (MATRIX, LABELS),
    "a boolean tensor": (torch.tensor(MATRIX), torch.tensor(LABELS)),
    "tensors in a list": ([torch.tensor(one, dtype=torch.long) for one in SETS], torch.tensor(LABELS)),
    "Arrow": (pa.array(SETS), pa.array(LABELS)),
    "Arrow chunks": (pa.chunked_array([pa.array(SETS[:2]), pa.array(SETS[2:])]), pa.chunked_array([LABELS])),
    "pandas": (pd.Series(SETS), pd.Series(LABELS)),
    "a dataset": tuple(datasets.Dataset.from_dict({"p": SETS, "y": LABELS})[name] for name in ("p", "y")),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_value(form, metric):
    sets, labels = FORMS[form]
    expected = coverage_of(SETS, LABELS, **EVERYTHING)
    assert coverage_of(sets, labels, **EVERYTHING) == expected
    assert metric().compute(predictions=sets, references=labels, **EVERYTHING) == expected
    several = coverage_of(SETS, SETS[::-1], multilabel=True)
    reverse = sets.flip(0) if isinstance(sets, torch.Tensor) else FORMS["lists"][0][::-1]
    assert coverage_of(sets, reverse, multilabel=True) == several


def test_results_are_plain_numbers():
    options = {
        **EVERYTHING,
        "coverage_level": np.float64(0.5),
        "n_calibration": np.int64(9),
        "num_classes": np.int64(3),
    }
    found = coverage_of(MATRIX, np.array(LABELS), **options)
    assert json.loads(json.dumps(found)) == found


# Ways of adding rows


@pytest.mark.parametrize("keep_in_memory", [False, True])
@pytest.mark.parametrize("config_name", ["default", "multilabel"])
def test_all_ways_of_adding_rows_give_the_same_value(config_name, keep_in_memory, metric):
    random = np.random.default_rng(0)
    sets = [random.permutation(5)[: random.integers(0, 5)].tolist() for _ in range(60)]
    labels = [random.permutation(5)[: random.integers(0, 3)].tolist() for _ in range(60)]
    several = config_name == "multilabel"
    labels = labels if several else random.integers(0, 5, 60).tolist()
    expected = coverage_of(sets, labels, multilabel=several, **EVERYTHING)

    shell = metric(config_name, keep_in_memory=keep_in_memory)
    assert shell.compute(predictions=sets, references=labels, **EVERYTHING) == expected
    for one, label in zip(sets, labels, strict=True):
        shell.add(prediction=one, reference=label)
    assert shell.compute(**EVERYTHING) == expected
    for one, label in zip(sets, labels, strict=True):
        shell.add(predictions=one, references=label)  # the argument names in Evaluate's documentation
    assert shell.compute(**EVERYTHING) == expected
    for first, last in itertools.pairwise([0, 1, 30, 60]):
        shell.add_batch(predictions=sets[first:last], references=labels[first:last])
    assert shell.compute(**EVERYTHING) == expected
    shell.add_batch(predictions=sets[:20], references=labels[:20])
    shell.add(prediction=sets[20], reference=labels[20])
    assert shell.compute(predictions=sets[21:], references=labels[21:], **EVERYTHING) == expected
    combined = evaluate.combine([shell])
    for one, label in zip(sets, labels, strict=True):
        combined.add(one, label)
    assert combined.compute(**EVERYTHING) == expected


TWO_PROCESSES = """
import importlib.util, json, sys
sys.modules["transformers"] = None  # Evaluate would import it for its evaluators, which takes seconds
import evaluate
del sys.modules["transformers"]
script, cache, process_id = sys.argv[1], sys.argv[2], int(sys.argv[3])
spec = importlib.util.spec_from_file_location("coverage", script)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sets, labels = ([[0, 2], [1]], [[], [7, 0]])[process_id], ([0, 2], [1, 0])[process_id]
for name, classes in (("good", 8), ("bad", 3)):
    metric = module.PredictionSetCoverage(
        num_process=2, process_id=process_id, cache_dir=cache, experiment_id=name, timeout=30
    )
    metric.add_batch(predictions=sets, references=labels)
    try:
        print(json.dumps(metric.compute(num_classes=classes, class_wise=True)))
    except ValueError as error:
        print(error)
"""


def test_two_processes_give_one_value_or_both_raise(tmp_path):
    main, other = lines_of_two(TWO_PROCESSES, SCRIPT, tmp_path)
    expected = coverage_of([[0, 2], [1], [], [7, 0]], [0, 2, 1, 0], num_classes=8, class_wise=True)
    assert json.loads(main[0]) == expected
    assert json.loads(other[0]) is None
    assert main[1].startswith("predictions[3][0] is 7; label ids must be integers in [0, 2]")
    assert other[1].startswith("predictions[1][0] is 7; label ids must be integers in [0, 2]")


# Documentation, and what Evaluate requires of a module

RUN_EXAMPLES = """
import doctest, re, sys
sys.modules["transformers"] = None  # Evaluate would import it for its evaluators, which takes seconds
import evaluate
del sys.modules["transformers"]
metric = evaluate.load("prediction_set_coverage")  # from the folder metrics, where this runs
module = sys.modules[type(metric).__module__]
card = "\\n".join(re.findall(r"```python\\n(.*?)```", open("prediction_set_coverage/README.md").read(), re.S))
for name, text, least in (("docstring", module._KWARGS_DESCRIPTION, 8), ("card", card, 15)):
    test = doctest.DocTestParser().get_doctest(text, {"evaluate": evaluate}, name, name, 0)
    failed, attempted = doctest.DocTestRunner().run(test)
    assert not failed and attempted >= least, (name, failed, attempted)
assert "evaluate.load" in type(metric).__doc__ and "evaluate.load" in metric.compute.__doc__
"""


def test_documented_examples_run(tmp_path):
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_EVALUATE_OFFLINE": "1"}
    command = [sys.executable, "-c", RUN_EXAMPLES]
    run = subprocess.run(command, cwd=SCRIPT.parents[1], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_card_has_the_citations_and_options_of_the_code():
    card = (SCRIPT.parent / "README.md").read_text()
    assert module._CITATION.strip() in card
    for parameter in inspect.signature(coverage_of).parameters:
        assert f"**{parameter}**" in card or parameter == "multilabel"


def test_the_folder_is_a_valid_evaluate_module():
    imports = evaluate.loading.get_imports(str(SCRIPT))
    assert {kind for kind, *_ in imports} == {"library"}
    assert {name for _, name, *_ in imports} - sys.stdlib_module_names == {"datasets", "evaluate", "numpy"}
    path = evaluate.loading.evaluation_module_factory(str(SCRIPT.parent), module_type="metric").module_path
    found = evaluate.loading.import_main_class(path)
    assert found.__name__ == "PredictionSetCoverage"
    parameters = inspect.signature(found._compute).parameters.values()
    assert not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)
    needed = {name.split(">")[0] for name in (SCRIPT.parent / "requirements.txt").read_text().split()}
    assert needed == {"datasets", "evaluate", "numpy"}
