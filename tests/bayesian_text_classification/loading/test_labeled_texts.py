"""Labeled texts from files: formats, columns, labels, and error messages."""

import csv
import json
from collections import Counter

import pandas as pd
import pytest
from bayesian_text_classification.loading.labeled_texts import LabeledTexts, load_labeled_texts, load_texts
from bayesian_text_classification.loading.labels import DataError, label_ids
from hypothesis import given
from hypothesis import strategies as st

NAMES = {0: "NEGATIVE", 1: "POSITIVE"}


def write(path, rows):
    frame = pd.DataFrame(rows)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".tsv":
        path.write_text("\t".join(frame) + "\n" + "".join("\t".join(map(str, r)) + "\n" for r in frame.to_numpy()))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        frame.to_parquet(path)
    return str(path)


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_texts_and_labels(tmp_path, ending):
    rows = [{"text": 'say "no", twice', "label": 1}, {"text": "NA", "label": 0}, {"text": "007", "label": 0}]
    data = load_labeled_texts(write(tmp_path / f"d.{ending}", rows), NAMES)
    assert data.texts == ['say "no", twice', "NA", "007"]
    assert data.labels == [1, 0, 0]


def test_unclosed_quote_in_tsv_does_not_swallow_the_next_rows(tmp_path):
    path = tmp_path / "d.tsv"
    path.write_text('label\ttext\n0\t" a quote that never ends\n1\tnext\n')
    assert load_labeled_texts(str(path), NAMES).texts == ['" a quote that never ends', "next"]


@pytest.mark.parametrize(("name", "texts", "kinds"), [("reviews", 3_000, 3), ("hard", 300, 6)])
def test_embedded_texts_have_kinds_and_named_labels(name, texts, kinds):
    data = load_labeled_texts(name, NAMES)
    assert len(data.texts) == len(data.kinds) == texts and data.name == name
    assert set(Counter(data.kinds).values()) == {texts // kinds}
    assert sum(data.labels) * 2 == len(data.labels)
    assert load_texts(name).texts == data.texts
    with pytest.raises(DataError, match=f"split=test is for datasets on the Hub, and {name} is embedded; leave it out"):
        load_labeled_texts(name, NAMES, split="test")


def test_a_file_comes_before_embedded_texts_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hard").mkdir()
    with pytest.raises(DataError, match="hard is a folder"):
        load_labeled_texts("./hard", NAMES)


def test_a_sample_is_an_equal_part_of_each_group_in_the_order_of_the_rows():
    data = LabeledTexts("d", [f"text {i}" for i in range(90)], list(range(90)), ["a", "b", "c", "c", "c", "c"] * 15)
    part = data.sample(30)
    assert part == data.sample(30) and part.part_of == 90 and part.sample(30) is part
    assert Counter(part.kinds) == {"a": 10, "b": 10, "c": 10}
    assert part.labels == sorted(part.labels) and part.texts == [f"text {i}" for i in part.labels]
    assert Counter(data.sample(50).kinds) == {"a": 15, "b": 15, "c": 20}  # there are no more of a and b
    assert data.sample(90) is data and data.sample(1_000) is data and data.part_of is None
    assert data.sample(45).sample(30).part_of == 90
    assert (data.size, part.size, data.sample(1).size) == (
        "90 texts",
        "a random 30 of 90 texts",
        "a random 1 of 90 texts",
    )
    assert sorted(Counter(data.sample(31).kinds).values()) == [10, 10, 11]


@given(st.integers(1, 40), st.integers(1, 50))
def test_a_sample_has_as_many_texts_as_asked_for(texts, count):
    data = LabeledTexts("d", [str(i) for i in range(texts)], list(range(texts)), [])
    part = data.sample(count)
    assert len(part.texts) == min(texts, count) == len(set(part.texts)) and part.kinds == []


def test_max_texts_takes_a_sample():
    data = load_labeled_texts("hard", NAMES)
    assert load_labeled_texts("hard", NAMES, max_texts=20) == data.sample(20) != data


def test_labels_can_be_ids_or_names():
    assert label_ids([1, "0", "POSITIVE", "negative", "1 ", " NEGATIVE "], NAMES, "d") == [1, 0, 1, 0, 1, 0]
    assert label_ids(["A", "a"], {0: "a", 1: "A"}, "d") == [1, 0]  # names that differ only in case
    assert label_ids(["1"], {0: "1", 1: "0"}, "d") == [0]  # a name that looks like an id


@pytest.fixture(params=["hub", "parquet"])
def dataset_of(request, monkeypatch, tmp_path):
    """Creates a dataset with two classes of these names, and returns its location."""
    import datasets

    def make(*names, labels=(0, 1)):
        features = datasets.Features(
            {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))}
        )
        table = datasets.Dataset.from_dict({"sentence": ["good", "bad"], "label": labels}, features=features)
        monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: table)
        table.to_parquet(tmp_path / "d.parquet")
        return "some/dataset" if request.param == "hub" else str(tmp_path / "d.parquet")

    return make


THREE = {0: "negative", 1: "neutral", 2: "positive"}


@pytest.mark.parametrize(
    ("names", "model", "expected"),
    [
        (["positive", "negative"], NAMES, [1, 0]),  # the same names in another order
        (["negative", "positive"], THREE, [0, 2]),  # some of the model's names, so 1 does not mean neutral
        ([" Negative", "POSITIVE"], THREE, [0, 2]),
        (["no", "yes"], NAMES, [0, 1]),  # no shared names, so ids are used
        (["1", "0"], {0: "0", 1: "1"}, [1, 0]),
    ],
)
def test_class_names_of_a_dataset_take_precedence_over_ids(dataset_of, names, model, expected):
    assert load_labeled_texts(dataset_of(*names), model).labels == expected


def test_partly_shared_class_names_raise(dataset_of):
    with pytest.raises(
        DataError, match=r"its class 'neutral' is not one of the model's labels 0 \(NEGATIVE\), .*others are"
    ):
        load_labeled_texts(dataset_of("negative", "neutral"), NAMES)


def test_a_dataset_in_memory_needs_no_loading():
    for read in (lambda data: load_texts(data), lambda data: load_labeled_texts(data, {0: "no", 1: "yes"})):
        with pytest.raises(DataError, match=r"not a dict; .* classifier.calibrate\(list\(data\["):
            read({"text": ["a"], "label": [0]})


def test_row_without_a_label_raises(dataset_of):
    """`datasets` writes -1 for a missing label."""
    with pytest.raises(DataError, match="label -1 is not one of the model's labels"):
        load_labeled_texts(dataset_of("negative", "positive", labels=(0, -1)), NAMES)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("maybe", "'maybe'"), (2, "2"), (-1, "-1"), (0.5, "0.5"), (None, "None"), (True, "True"), ("²", "'²'"),
     ("--1", "'--1'"), ("", "''")],
)  # fmt: skip
def test_unknown_label_error_names_row_and_value(value, shown):
    with pytest.raises(
        DataError,
        match=rf"d, row 2 \(the first text is row 1\): label {shown} is not one of the model's labels 0 \(NEGATIVE\)",
    ):
        label_ids([0, value], NAMES, "d")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("text,label\n", {}, "has no rows"),
        ("review,label\na,0\n", {}, "no text column 'text' or 'sentence'; the columns are 'review', 'label'"),
        ("text,stars\na,0\n", {}, r"no label column .* \(choose with label_column=\)"),
        ("text,label\na,0\n", {"text_column": "body"}, "no text column 'body'"),
        ("", {}, "has no rows"),
        ("text,label\na,0\n\nb\n", {}, r"row 2 \(the first text is row 1\) has 1 field but the header has 2"),
        # pandas would use the first column as row names here, which shifts texts and labels by one.
        ("text,label\na,0,x\n", {}, r"row 1 \(the first text is row 1\) has 3 fields but the header has 2"),
        ('text,label\n"a,0\nb,1\n', {}, "cannot be read: row 1 .* is not valid csv: unexpected end of data"),
        ("text,label,text\na,0,b\n", {}, "duplicate column name 'text'; names must be unique"),
        ("text,label\na,0\n", {"text_column": "label"}, "column 'label' cannot be both text and label"),
        ("text,label\na,0\n", {"label_column": "text"}, "column 'text' cannot be both text and label"),
        ("text,label\na,0\n", {"config": "sst2"}, "config=sst2 is for datasets on the Hub, and .* is a file"),
        ("text,label\na,0\n", {"split": "train"}, "split=train is for datasets on the Hub, and .* is a file"),
        (b"text,label\n\xff\xfe,0\n", {}, "cannot be read: row 1 .* is not UTF-8 .byte 0xff at character 1."),
    ],
)
def test_bad_csv_files_raise(tmp_path, content, options, message):
    path = tmp_path / "d.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        load_labeled_texts(str(path), NAMES, **options)


GOOD = '{"text": "a", "label": 0}\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no rows"),
        ("\n \n", "has no rows"),
        (GOOD + '{"text": null, "label": 0}', "row 2 .*: column 'text' holds None .NoneType., not a string"),
        (GOOD + '\n{"text": " ", "label": 0}', "row 2 .*: the text is empty; remove that row"),
        (GOOD + '\n{"text": "ab\\ud800", "label": 0}', r"row 2 .* holds '\\ud800' at character 3, a lone surrogate"),
        (
            GOOD[:-2] + ', "kind": "\\udfff"}',
            r"row 1 .*: column 'kind' holds '\\udfff' at character 1, a lone surrogate",
        ),
        (GOOD + "[" * 10**5, r"row 2 \(the first text is row 1\) is nested too deeply"),
        (GOOD + "{'text': 1}", "row 2 .* is not valid JSON: Expecting property name .* at character 2"),
        (GOOD + '"text"', "row 2 .* is not a JSON object"),
        ('{"text": "a", "text": "b", "label": 0}', "duplicate column name 'text'"),
        ('{"text": "a", "label": "' + "9" * 5_000 + '"}', "row 1 .* is not one of the model's labels"),
    ],
)
def test_bad_jsonl_files_raise(tmp_path, content, message):
    (tmp_path / "d.jsonl").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_labeled_texts(str(tmp_path / "d.jsonl"), NAMES)
    assert "\n" not in str(caught.value)


def test_cell_may_exceed_the_csv_field_limit(tmp_path):
    limit = csv.field_size_limit()
    path = write(tmp_path / "d.csv", [{"text": "long " * 40_000, "label": 1}])
    assert len(load_labeled_texts(path, NAMES).texts[0]) == 200_000
    assert csv.field_size_limit() == limit


def test_duplicate_parquet_columns_raise(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table([["a"], [0], ["b"]], names=["text", "label", "text"])
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
    with pytest.raises(DataError, match="duplicate column name 'text'; names must be unique"):
        load_labeled_texts(str(tmp_path / "d.parquet"), NAMES)


def test_result_names_the_columns_and_the_split(tmp_path, dataset_of):
    data = load_labeled_texts(write(tmp_path / "d.jsonl", [{"sentence": "a", "labels": 0}]), NAMES)
    assert (data.text_column, data.label_column, data.split) == ("sentence", "labels", None)
    data = load_labeled_texts(dataset_of("no", "yes"), NAMES)
    assert data.split == (None if data.name.endswith("parquet") else "validation")


def test_folder_raises(tmp_path):
    with pytest.raises(DataError, match="is a folder; pass one of its files"):
        load_labeled_texts(str(tmp_path), NAMES)


def test_folder_is_not_loaded_as_a_dataset_of_the_same_name(tmp_path, monkeypatch):
    import datasets

    asked = []

    def load_dataset(path, *args, **kwargs):
        asked.append(path)
        if kwargs["split"] == "none":
            raise ValueError("no such split")
        return datasets.Dataset.from_dict({"text": ["a"], "label": [0]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.chdir(tmp_path)
    load_labeled_texts("imdb", NAMES)
    (tmp_path / "imdb").mkdir()
    load_labeled_texts("imdb", NAMES)
    assert asked == ["imdb", "hf://datasets/imdb"]  # `load_dataset` itself would load the folder
    with pytest.raises(DataError, match=r"no such split \(the folder imdb is not read; pass one of its files\)"):
        load_labeled_texts("imdb", NAMES, split="none")


def test_missing_file_and_unknown_extension_raise(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_labeled_texts(str(tmp_path / "none.csv"), NAMES)
    (tmp_path / "d.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"cannot read \.xlsx files; use \.csv, \.tsv, \.jsonl, \.parquet"):
        load_labeled_texts(str(tmp_path / "d.xlsx"), NAMES)


def test_unicode_line_separator_in_json_does_not_split_the_line(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"text": "one\u2028two\u0085three", "label": 1}, ensure_ascii=False) + "\n")
    assert load_labeled_texts(str(path), NAMES).texts == ["one\u2028two\u0085three"]


def test_group_name_may_be_empty(tmp_path):
    (tmp_path / "a.csv").write_text('text,label,kind\nfine,1,""\n')
    assert load_labeled_texts(str(tmp_path / "a.csv"), {0: "NO", 1: "YES"}).kinds == [""]


EMOTIONS = {0: "joy", 1: "anger", 2: "fear"}


@pytest.mark.parametrize("values", [["0", "1"] * 25, [0, 1] * 25])
def test_zeros_and_ones_for_a_model_with_more_labels_are_pointed_out(values):
    with pytest.warns(UserWarning, match="labels 0 and 1 are read as 'joy' and 'anger'; none of the model's other"):
        assert label_ids(values, EMOTIONS, "a.csv") == [0, 1] * 25


@pytest.mark.parametrize("values", [["0", "1"] * 24, ["joy", "anger"] * 25, ["0", "1", "2"] * 25, ["1"] * 50])
def test_other_labels_are_read_in_silence(values, recwarn):
    label_ids(values, EMOTIONS, "a.csv")
    label_ids(["0", "1"] * 25, {0: "no", 1: "yes"}, "a.csv")
    assert not recwarn
