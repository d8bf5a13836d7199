"""Concatenated blocks are a file that other libraries can read."""

import csv
import errno
import gzip
import json
import os

import pyarrow
import pyarrow.parquet
import pytest
from bayesian_text_classification.files.formats import COMPRESSIONS
from bayesian_text_classification.files.readers import Window, open_rows
from bayesian_text_classification.files.writers import writer_for

ADDED = pyarrow.schema([("label", pyarrow.string()), ("score", pyarrow.float64()), ("sure", pyarrow.bool_())])
ROWS = [{"id": "1", "text": 'a "quoted", b\n'}, {"id": "2", "text": ""}, {"id": "3", "text": "ü \u2028"}]
MORE = [{"label": "x", "score": 0.1, "sure": True}, {}, {"label": "y\tz", "score": 1 / 3, "sure": False}]
WINDOWS = [(Window(ROWS[:2], [None] * 2), MORE[:2]), (Window(ROWS[2:], [None]), MORE[2:])]


def written(encode, windows, target):
    staged = target.with_name("staged")
    staged.write_bytes(encode.header() + b"".join(encode.block(*one) for one in windows))
    encode.finish(staged, target)
    assert not staged.exists()
    return target


@pytest.mark.parametrize("compression", ["", *COMPRESSIONS])
@pytest.mark.parametrize("kind", [".csv", ".jsonl"])
def test_written_files_are_read_back(kind, compression, tmp_path):
    path = written(writer_for(kind, compression, ["id", "text"], None, ADDED), WINDOWS, tmp_path / "a")
    (window,) = open_rows(path, kind, compression).windows
    if kind == ".csv":
        expected = [{**row, **{n: "" if more.get(n) is None else str(more[n]) for n in ADDED.names}} for row, more in
                    zip(ROWS, MORE, strict=True)]  # fmt: skip
    else:
        expected = [{**row, **{n: more.get(n) for n in ADDED.names}} for row, more in zip(ROWS, MORE, strict=True)]
    assert window.rows == expected and window.errors == [None] * 3


def test_python_csv_reads_the_same_cells(tmp_path):
    path = written(writer_for(".csv", ".gz", ["id", "text"], None, ADDED), WINDOWS, tmp_path / "a")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "text", "label", "score", "sure"] and rows[3] == [
        "3",
        "ü \u2028",
        "y\tz",
        repr(1 / 3),
        "False",
    ]


def test_equal_rows_give_equal_compressed_bytes():
    encode = writer_for(".csv", ".gz", ["id", "text"], None, ADDED)
    assert encode.block(*WINDOWS[0]) == encode.block(*WINDOWS[0])


def test_parquet_keeps_the_types_and_nulls_of_the_source(tmp_path):
    source = pyarrow.table({"text": ["a", None], "at": pyarrow.array([1, 2], pyarrow.timestamp("ns")),
                            "kind": pyarrow.array(["p", "q"]).dictionary_encode()})  # fmt: skip
    encode = writer_for(".parquet", "", source.column_names, source.schema, ADDED)
    windows = [(Window(source, [None] * 2), MORE[:2])] * 100
    table = pyarrow.parquet.read_table(written(encode, windows, tmp_path / "a"))
    assert table.num_rows == 200 and table.column("at").type == pyarrow.timestamp("ns")
    assert table.slice(0, 2).to_pydict() | {"at": None} == {
        "text": ["a", None], "at": None, "kind": ["p", "q"], "label": ["x", None], "score": [0.1, None],
        "sure": [True, None],
    }  # fmt: skip
    assert pyarrow.parquet.ParquetFile(tmp_path / "a").num_row_groups == 1


def test_failed_parquet_file_leaves_only_the_staged_one(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    encode = writer_for(".parquet", "", ["id", "text"], None, ADDED)
    monkeypatch.setattr(pyarrow.parquet.ParquetWriter, "write_table", full_disk)
    with pytest.raises(OSError, match="No space left"):
        written(encode, WINDOWS, tmp_path / "a.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["staged"]  # from which a later run can resume


def test_lone_surrogate_in_json_stays_an_escape(tmp_path):
    encode = writer_for(".jsonl", "", None, None, ADDED)
    line = encode.block(Window([{"text": "\ud800"}], [None]), [{}])
    assert json.loads(line)["text"] == "\ud800" and b"\\ud800" in line


def test_added_cells_cannot_break_tsv_lines():
    encode = writer_for(".tsv", "", ["text"], None, ADDED)
    block = encode.block(Window([{"text": "a"}], [None]), [{"label": "x\ty\nz"}])
    assert block == b"a\tx y z\t\t\n"


def test_nested_dictionary_columns_are_written_to_parquet(tmp_path):
    words = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    kinds = {"a": pyarrow.list_(words), "b": pyarrow.struct([("w", words)]), "c": pyarrow.map_(pyarrow.string(), words),
             "d": pyarrow.list_(words, 1), "e": pyarrow.large_list(words)}  # fmt: skip
    cells = {"a": ["x"], "b": {"w": "x"}, "c": [("k", "x")], "d": ["x"], "e": ["x"]}
    plain = pyarrow.table({name: [cell] for name, cell in cells.items()}, schema=pyarrow.schema(
        [("a", pyarrow.list_(pyarrow.string())), ("b", pyarrow.struct([("w", pyarrow.string())])),
         ("c", pyarrow.map_(pyarrow.string(), pyarrow.string())), ("d", pyarrow.list_(pyarrow.string(), 1)),
         ("e", pyarrow.large_list(pyarrow.string()))]))  # fmt: skip
    encode = writer_for(".parquet", "", list(kinds), pyarrow.schema(list(kinds.items())), pyarrow.schema([]))
    staged, target = tmp_path / "staged", tmp_path / "a.parquet"
    staged.write_bytes(encode.header() + encode.block(Window(plain, [None]), [{}]))
    encode.finish(staged, target)
    assert pyarrow.parquet.read_table(target).to_pylist() == plain.to_pylist()
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
