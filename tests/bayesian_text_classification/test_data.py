"""Labelled texts from files: formats, columns, labels, and what a user reads when they do not fit."""

import json

import pandas as pd
import pytest
from bayesian_text_classification.data import DataError, embedded_reviews, label_ids, load_labelled_texts

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
def test_every_format_gives_the_same(tmp_path, ending):
    rows = [{"text": 'say "no", twice', "label": 1}, {"text": "NA", "label": 0}, {"text": "007", "label": 0}]
    data = load_labelled_texts(write(tmp_path / f"d.{ending}", rows), NAMES)
    assert data.texts == ['say "no", twice', "NA", "007"]
    assert data.labels == [1, 0, 0]


def test_a_tab_separated_sentence_with_a_stray_quotation_mark_does_not_swallow_the_next_rows(tmp_path):
    path = tmp_path / "d.tsv"
    path.write_text('label\ttext\n0\t" a quote that never ends\n1\tnext\n')
    assert load_labelled_texts(str(path), NAMES).texts == ['" a quote that never ends', "next"]


def test_embedded_reviews_have_kinds_and_named_labels():
    data = load_labelled_texts(str(embedded_reviews()), NAMES)
    assert len(data.texts) == len(data.kinds) >= 300
    assert sum(data.labels) * 2 == len(data.labels)


def test_labels_are_ids_or_names():
    assert label_ids([1, "0", "POSITIVE", "negative"], NAMES, "d") == [1, 0, 1, 0]


def test_names_that_differ_only_in_case_are_taken_exactly():
    assert label_ids(["A", "a"], {0: "a", 1: "A"}, "d") == [1, 0]


def test_a_name_that_looks_like_an_id_is_a_name():
    assert label_ids(["1"], {0: "1", 1: "0"}, "d") == [0]


def test_class_names_of_a_dataset_count_whatever_their_order(monkeypatch):
    import datasets

    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["positive", "negative"])}
    )
    table = datasets.Dataset.from_dict({"sentence": ["good", "bad"], "label": [0, 1]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: table)
    assert load_labelled_texts("some/dataset", NAMES).labels == [1, 0]


@pytest.mark.parametrize(
    ("value", "shown"), [("maybe", "'maybe'"), (2, "2"), (-1, "-1"), (0.5, "0.5"), (None, "None"), (True, "True")]
)
def test_a_label_that_is_none_of_the_models_names_row_and_value(value, shown):
    with pytest.raises(DataError, match=rf"d, row 1: label {shown} is none of the model's labels 0 \(NEGATIVE\)"):
        label_ids([0, value], NAMES, "d")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("text,label\n", {}, "has no rows"),
        ("review,label\na,0\n", {}, "no text column 'text' or 'sentence'; the columns are 'review', 'label'"),
        ("text,stars\na,0\n", {}, r"no label column .* \(choose with --label-column\)"),
        ("text,label\na,0\n", {"text_column": "body"}, "no text column 'body'"),
        ("", {}, "cannot be read: No columns to parse"),
        (b"text,label\n\xff\xfe,0\n", {}, "cannot be read: .*utf-8"),
    ],
)
def test_files_that_do_not_fit(tmp_path, content, options, message):
    path = tmp_path / "d.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        load_labelled_texts(str(path), NAMES, **options)


def test_a_text_that_is_none_names_its_row(tmp_path):
    path = write(tmp_path / "d.jsonl", [{"text": "a", "label": 0}, {"text": None, "label": 0}])
    with pytest.raises(DataError, match="row 1: column 'text' holds None, not a text"):
        load_labelled_texts(path, NAMES)


def test_a_missing_file_and_an_unknown_ending(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        load_labelled_texts(str(tmp_path / "none.csv"), NAMES)
    (tmp_path / "d.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"a \.xlsx cannot be read; use \.csv, \.tsv, \.jsonl, \.parquet"):
        load_labelled_texts(str(tmp_path / "d.xlsx"), NAMES)


def test_a_line_separator_inside_a_json_text_is_not_a_new_line(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"text": "one\u2028two\u0085three", "label": 1}, ensure_ascii=False) + "\n")
    assert load_labelled_texts(str(path), NAMES).texts == ["one\u2028two\u0085three"]


def test_rows_with_more_fields_than_the_header_are_refused(tmp_path):
    """pandas takes the first column for row names then, and texts and labels move by one."""
    path = tmp_path / "d.csv"
    path.write_text("text,label\ngood film,POSITIVE,0\nbad film,NEGATIVE,1\n")
    with pytest.raises(DataError, match="its rows have more fields than its header"):
        load_labelled_texts(str(path), NAMES)


@pytest.mark.parametrize("value", ["²", "--1", ""])
def test_what_only_looks_like_a_number_is_no_label(value):
    with pytest.raises(DataError, match="is none of the model's labels"):
        label_ids([value], NAMES, "d")
