"""Names of files become sources, which are read in order as one sequence of windows."""

import gzip
import io
import os
import sys
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest
from bayesian_text_classification.files.disk import staged_beside, write_whole
from bayesian_text_classification.files.formats import output_format_of
from bayesian_text_classification.files.sources import Reading, SourceError, source_of


def texts_of(reading):
    return [row["text"] for window in reading.windows() for row in window.as_dicts()]


def test_files_are_read_in_alphabetical_order_and_the_share_grows(tmp_path):
    (tmp_path / "b.txt").write_text("second\n" * 30)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"first\n"))
    (tmp_path / "c.txt").write_text("third\n")
    source = source_of(str(tmp_path / "*.txt*"))
    assert source.name == str(tmp_path / "a.txt.gz")
    reading = Reading(source)
    sizes = [path.stat().st_size for path in source.files]
    assert reading.done == 0.0 and reading.columns == ["text"]
    shares = [reading.done for _ in reading.windows()]
    ends = [sum(sizes[: i + 1]) / sum(sizes) for i in range(3)]
    assert shares == pytest.approx(ends) and reading.done == 1.0
    assert texts_of(Reading(source)) == ["first", *["second"] * 30, "third"]
    assert list(source.digests()) == [f"content of the input, file {number}" for number in (1, 2, 3)]


def test_stdin_is_lines_unless_a_format_is_named(monkeypatch):
    for given, content in ((None, b"a\nb\n"), ("jsonl", b'{"text": "a"}\n{"text": "b"}\n')):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        source = source_of("-", given)
        reading = Reading(source)
        assert (source.name, source.digests(), reading.done) == ("stdin", {}, None)
        assert texts_of(reading) == ["a", "b"] and reading.done is None
    with pytest.raises(SourceError, match=r"a parquet file cannot be read from stdin: .*; pass a file name"):
        source_of("-", "parquet")


CSV = "text\na\n"


@pytest.mark.parametrize(
    ("files", "name", "words"),
    [
        ({}, "none.csv", "none.csv: no such file"),
        ({}, "*.csv", r"\*.csv: no such file"),
        ({"d/a.csv": CSV}, "d", r"is a folder; pass its files, such as '.*d/\*.csv'"),
        ({"a.doc": "x"}, "a.doc", "unknown file extension; use .csv, .*, .parquet, .txt, or set input_format="),
        ({"a.csv": CSV, "b.tsv": CSV}, "*", "several formats, .csv, .tsv; pass one format at a time"),
        ({"a.csv": CSV, "b.csv": "text,id\na,1\n"}, "*.csv", "b.csv has different columns .*a.csv: 'text', 'id', not"),
        ({"a.csv": CSV, "b.csv.gz": "x"}, "*", r"b\.csv\.gz cannot be read: Not a gzipped file"),
        ({"a.parquet": "x"}, "a.parquet", "a.parquet cannot be read: .*[Pp]arquet"),
        ({"a.csv": "a,a\n"}, "a.csv", "duplicate column name 'a'"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_name(files, name, words, tmp_path):
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
    with pytest.raises(SourceError, match=words):
        source_of(str(tmp_path / name))


def test_types_of_parquet_columns_must_agree(tmp_path):
    for name, value in (("a", 1), ("b", "one")):
        pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "id": [value]}), tmp_path / f"{name}.parquet")
    with pytest.raises(SourceError, match=r"b\.parquet has different columns .*'id' \(string\), not .*'id' \(int64\)"):
        source_of(str(tmp_path / "*.parquet"))


def test_damage_is_said_with_the_row_before_it(tmp_path):
    (tmp_path / "a.txt").write_text("a\n")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(os.urandom(3_000).hex().encode() + b"\n" + b"b\n" * 9)[:2_000])
    with pytest.raises(SourceError, match=r"b\.txt\.gz cannot be read after row 0: Compressed file ended"):
        texts_of(Reading(source_of(str(tmp_path / "*"))))


def test_named_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(SourceError, match=r"pipe\.csv exists but is not a regular file; .* pass - and redirect"):
        source_of(str(tmp_path / "pipe.csv"))


@pytest.mark.parametrize(
    ("path", "chosen", "found"),
    [
        (None, None, (".jsonl", "")),
        (None, "csv", (".csv", "")),
        (None, "parquet", "cannot be written to a stream; pass a file name, or choose another format"),
        ("a.CSV.gz", None, (".csv", ".gz")),
        ("a", "jsonl", (".jsonl", "")),
        ("a.txt", None, r"a\.txt: unknown file extension; use \.csv, .*, or set output_format="),
        ("a.csv", "txt", "'txt' is not a format; it must be one of csv, tsv, jsonl, parquet"),
        ("a.parquet.gz", None, "parquet files are compressed internally; remove .gz from the name"),
    ],
)
def test_formats_of_the_output(path, chosen, found):
    if isinstance(found, tuple):
        assert output_format_of(path, chosen) == found
    else:
        with pytest.raises(ValueError, match=found):
            output_format_of(path, chosen)


def test_a_file_that_is_not_finished_leaves_nothing(tmp_path):
    write_whole(tmp_path / "a.txt", "whole")
    with pytest.raises(KeyError), staged_beside(tmp_path / "a.txt") as (staged, real):
        staged.write_text("half")
        raise KeyError
    assert real.read_text() == "whole" and [path.name for path in tmp_path.iterdir()] == ["a.txt"]
