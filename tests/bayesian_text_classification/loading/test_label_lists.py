"""Labels of texts that may have several: every form that files and datasets hold them in."""

import csv
import json

import datasets
import pyarrow.parquet
import pytest
from bayesian_text_classification import load_labeled_texts
from bayesian_text_classification.loading.labels import DataError, joined_labels, label_lists, yes_or_no

NAMES = {0: "joy", 1: "anger", 2: "fear, or worry"}
EXPECTED = [[0], [0, 1], [], [2]]


@pytest.mark.parametrize(
    "cells",
    [
        [[0], [1, 0], [], [2]],
        [["joy"], ["anger", "joy"], [], ["fear, or worry"]],
        ["joy", "joy,anger", "", "fear, or worry"],
        ["0", "1, 0", "", "2"],
        [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]],
        [[True, False, False], [True, True, False], [False] * 3, [False, False, True]],
        [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0] * 3, [0.0, 0.0, 1.0]],
        [["joy", "JOY"], ["anger", 0], [], [2]],
    ],
)
def test_every_form_gives_the_same_lists(cells):
    assert label_lists(cells, NAMES, "mine") == EXPECTED


def test_ids_are_mapped_by_the_names_of_the_dataset():
    names = ["anger", "fear, or worry", "joy"]
    assert label_lists([[2], [2, 0], [], [1]], NAMES, "mine", class_names=names) == EXPECTED


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([["joy"], ["hate"]], "mine, row 2 (the first text is row 1): label 'hate' is not one of the model's labels"),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 2]], "[1, 0, 0] has the label 0 twice; give each label once, or a 0 or 1 for"),
        (["joy,hate"], "row 1 (the first text is row 1): label 'hate' is not one of"),
        ([[0], [3]], "row 2 (the first text is row 1): label 3 is not one of"),
        ([["joy"], None], "row 2 (the first text is row 1): None is not a list of labels, such as [0, 2] or 'a,b'"),
        ([{"joy": 1}], "is not a list of labels"),
    ],
)
def test_unknown_labels_name_their_row(cells, words):
    with pytest.raises(DataError) as error:
        label_lists(cells, NAMES, "mine")
    assert words in str(error.value)


def test_files_and_datasets(tmp_path):
    texts = ["a", "b", "c", "d"]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, ["0", "joy,anger", "", "2"], strict=True)])
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in zip(texts, EXPECTED, strict=True))
    )
    names = datasets.ClassLabel(names=["anger", "fear, or worry", "joy"])
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.Sequence(names)})
    rows = datasets.Dataset.from_dict({"text": texts, "label": [[2], [0, 2], [], [1]]}, features=features)
    rows.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        found = load_labeled_texts(tmp_path / name, NAMES, multi_label=True)
        assert (found.texts, found.labels) == (texts, [set(one) for one in EXPECTED]), name
    assert pyarrow.parquet.read_schema(tmp_path / "a.parquet").metadata  # which has the names of the ids


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        ([1, 0, 1], []),
        (["1", "0", " 1 "], []),
        ([1.0, 0.0, True], []),
        (["True", "false", "TRUE"], []),
        (["spam", "not spam", "Spam"], []),
        ([1, 0, 1], ["ham", "spam"]),
        ([0, 1, 0], ["spam", "ham"]),
        (["spam", "ham", 1], ["ham", "spam"]),
    ],
)
def test_one_output_reads_yes_and_no(cells, names):
    assert yes_or_no(cells, {0: "spam"}, "mine", class_names=names) == [1, 0, 1]


@pytest.mark.parametrize("cell", [2, "ham", None, 0.5, ""])
def test_one_output_refuses_everything_else(cell):
    with pytest.raises(DataError, match=r"mine, row 1 .*: label .* is not 0 or 1; 1 stands for spam"):
        yes_or_no([cell], {0: "spam"}, "mine")


def test_what_is_written_can_be_read():
    for names in ({0: "joy", 1: "anger"}, NAMES):
        for labels in ([], ["joy"], list(names.values())):
            (ids,) = label_lists([joined_labels(labels, names.values())], names, "mine")
            assert [names[i] for i in ids] == labels


def test_several_names_in_a_cell_of_single_labels_name_the_option(tmp_path):
    (tmp_path / "d.csv").write_text('text,label\nfine,joy\nodd,"joy,anger"\n')
    names = {0: "joy", 1: "anger"}
    with pytest.raises(DataError, match=r"row 2 .*'joy,anger' is not .*; it names several: .* pass multi_label=True$"):
        load_labeled_texts(tmp_path / "d.csv", names)
    assert load_labeled_texts(tmp_path / "d.csv", names, multi_label=True).labels == [{0}, {0, 1}]
    (tmp_path / "d.csv").write_text("text,label\nfine,jooy\n")
    with pytest.raises(DataError, match=r"did you mean 'joy'\?$"):
        load_labeled_texts(tmp_path / "d.csv", names)
