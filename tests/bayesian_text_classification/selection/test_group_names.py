"""What may name the group of a row: texts, pairs, numbers, in a list, an array or a column of any library."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from bayesian_text_classification.selection.thresholds import threshold_for


@pytest.mark.parametrize(
    "names",
    [
        [{"text": f"a {i}", "text_pair": "b"} for i in range(100)],
        [(f"a {i}", "b") for i in range(100)],
        [i if i % 2 else f"text {i}" for i in range(100)],
        np.arange(100, dtype=np.float32),
        torch.arange(100),
        list(torch.arange(100)),
        np.array([(i, "a") for i in range(100)], dtype=[("id", int), ("name", "U1")]),
    ],
    ids=["pairs", "tuples", "mixed", "numbers", "tensor", "scalar tensors", "structured"],
)
def test_pairs_and_any_names_are_groups(names):
    scores, right = np.linspace(0.5, 1, 100), np.arange(100) > 3
    once = threshold_for(scores, right, 0.1)
    assert threshold_for(scores, right, 0.1, groups=names) == once
    assert threshold_for(np.tile(scores, 3), np.tile(right, 3), 0.1, groups=[*names] * 3) == once


@pytest.mark.parametrize(
    "form",
    [
        list,
        np.array,
        pd.Series,
        pa.array,
        lambda texts: pa.chunked_array([texts[:50], texts[50:]]),
        lambda texts: list(pa.array(texts)),
        lambda texts: [{"text": text, "text_pair": text} for text in texts],
        lambda texts: [(text, text) for text in texts],
    ],
    ids=["list", "array", "pandas", "arrow", "arrow chunks", "arrow scalars", "pairs", "tuples"],
)
def test_texts_that_differ_in_white_space_are_copies(form):
    texts = [f"a {i}" for i in range(100)] + [f" a  {i}\n" for i in range(100)]
    found = threshold_for(np.ones(200), np.full(200, True), 0.1, groups=form(texts))
    assert found.rows == 100


@pytest.mark.parametrize(
    "groups",
    [
        np.array(["a", None, "b"], object),
        np.array([0, np.nan, 1], np.float32),
        np.ma.array([1, 2, 3], mask=[False, True, False]),
        pa.array(["a", None, "b"]),
        pd.Series([1, pd.NA, 2], dtype="Int64"),
        [("a", "b"), ("a", None), ("c", "d")],
        [("a", 1.0), ("a", float("nan")), ("c", 2.0)],
    ],
    ids=["None", "NaN", "masked", "arrow", "pandas", "in a tuple", "NaN in a tuple"],
)
def test_a_missing_group_raises(groups):
    with pytest.raises(ValueError, match=r"groups\[1\] is missing; give each row its group"):
        threshold_for(np.ones(3), [True] * 3, 0.1, groups=groups)


ROWS = "it must hold one name or number for each of 3 rows, such as its text"


@pytest.mark.parametrize(
    ("groups", "error"),
    [
        (np.ones((3, 2)), f"groups has the shape (3, 2); {ROWS}"),
        (pd.DataFrame(np.eye(3)), f"groups has the shape (3, 3); {ROWS}"),
        (np.array("abc"), f"groups has the shape (); {ROWS}"),
        (b"abc", f"groups is b'abc' (bytes); {ROWS}; pass a list"),
        ("abc", f"groups is 'abc' (str); {ROWS}; pass a list"),
        ({"c", "b", "a"}, f"(set); {ROWS}; pass a list"),
        (map(str, range(3)), f"(map); {ROWS}; pass a list"),
        (pa.table({"a": [1, 2, 3]}), f"(Table); {ROWS}; pass a list"),
        (["a", ["b", "c"], "d"], "groups[1] is ['b', 'c'] (list), which is no name; pass a text, a number or a tuple"),
        (["a", "b", ("c", ["d"])], "groups[2] is ['d'] (list), which is no name"),
        (["a", np.ones(2), np.ones(3)], "groups[1] is array([1., 1.]) (ndarray), which is no name"),
        (["a", {"text": 1}, "b"], "groups[1] is {'text': 1} (dict); each text must be a str or a dict"),
    ],
)
def test_what_is_no_list_of_names_raises_in_one_line(groups, error):
    with pytest.raises(ValueError, match=re.escape(error)) as raised:
        threshold_for(np.ones(3), [True] * 3, 0.1, groups=groups)
    assert "\n" not in str(raised.value)
