"""Readers return good rows unchanged, report bad ones, and continue after them."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from bayesian_text_classification.files import readers, text_lines
from bayesian_text_classification.files.formats import format_of
from bayesian_text_classification.files.readers import DAMAGE, WINDOW, open_rows
from fuzzing import tried
from hypothesis import given
from hypothesis import strategies as st


def read(content, kind, compression=""):
    """Cells and errors of all rows."""
    file = open_rows(content if isinstance(content, Path) else io.BytesIO(content), kind, compression)
    windows = list(file.windows)
    return [row for window in windows for row in window.as_dicts()], [e for w in windows for e in w.errors]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", (".csv", "")),
        ("A.CSV.GZ", (".csv", ".gz")),
        ("b.c.jsonl.zst", (".jsonl", ".zst")),
        ("x.parquet", (".parquet", "")),
        ("x.gz", ("", ".gz")),
        ("x.doc", ("", "")),
        (".csv", ("", "")),
    ],
)
def test_format_is_derived_from_the_name(name, expected):
    assert format_of(name) == expected


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (".csv", 'id,text\n1,"a, b"\n\n2,"two\nlines"\n3,"say ""x"""\n'),
        (".csv", '\ufeffid,text\r\n1,"a, b"\r\n2,"two\nlines"\r\n3,"say ""x"""'),
        (
            ".jsonl",
            '{"id": "1", "text": "a, b"}\n\n{"id": "2", "text": "two\\nlines"}\n{"id": "3", "text": "say \\"x\\""}',
        ),
    ],
)
def test_rows_are_read_unchanged(kind, content):
    found, errors = read(content.encode(), kind)
    assert found == [{"id": "1", "text": "a, b"}, {"id": "2", "text": "two\nlines"}, {"id": "3", "text": 'say "x"'}]
    assert errors == [None] * 3


def test_tsv_splits_at_tabs_and_keeps_quotes():
    assert read(b'label\ttext\n1\t"quoted" he said\n', ".tsv") == ([{"label": "1", "text": '"quoted" he said'}], [None])


def test_every_line_of_a_text_file_is_a_row_including_empty_ones():
    assert [row["text"] for row in read(b"one\r\n\n  \nlast", ".txt")[0]] == ["one", "", "  ", "last"]


@pytest.mark.parametrize(
    ("kind", "content", "error"),
    [
        (".csv", b"id,text\n1\n2,b\n", "has 1 field but the header has 2"),
        (".csv", b"id,text\n1,a,more,x\n2,b\n", "has 4 fields but the header has 2; the rest is 'more,x'"),
        (".csv", b'id,text\n1,"a"b\n2,b\n', """is not valid csv: ',' expected after '"'; it begins '1,"a"b\\n'"""),
        (".csv", b"id,text\n1,a\xffb\n2,b\n", "is not UTF-8 (byte 0xff at character 4)"),
        (".csv", b"id,text\na\xff\n2,b\n", "is not UTF-8 (byte 0xff at character 2); it has 1 field but the header"),
        (".tsv", b"id\ttext\n1\n2\tb\n", "has 1 field but the header has 2"),
        (
            ".jsonl",
            b'{"id": 1, "text": }\n{"id": "2", "text": "b"}',
            "is not valid JSON: Expecting value at character 19; it begins",
        ),
        (".jsonl", b'[1]\n{"id": "2", "text": "b"}', "is not a JSON object; it begins '[1]\\n'"),
        (".jsonl", b'{"a": 1, "a": 2}\n{"id": "2", "text": "b"}', "cannot be read: duplicate column name 'a'"),
        (".jsonl", b"[" * 100_000 + b'\n{"id": "2", "text": "b"}', "is nested too deeply; it begins '[["),
        (".jsonl", b'{"id": ' + b"9" * 5_000 + b'}\n{"id": "2", "text": "b"}', "cannot be read: Exceeds the limit"),
        (".jsonl", b'{"text": "\xc3"}\n{"id": "2", "text": "b"}', "is not UTF-8 (byte 0xc3 at character 11)"),
    ],
)
def test_bad_row_has_an_error_and_the_next_one_is_read(kind, content, error):
    found, errors = read(content, kind)
    assert len(found) == 2 and errors[1] is None and found[1] == {"id": "2", "text": "b"}
    assert errors[0].startswith(error), errors[0]


def test_unclosed_quote_invalidates_only_its_own_row():
    lines = [b"id,text", b"1,a", b'2,"b', b"3,c\xff", b'4,"d', b'e"', b"5,f", b'6,"g']
    found, errors = read(b"\n".join(lines) + b"\n", ".csv")
    # The quote of row 4 closes that of row 2, and the rest of row 4 is then not valid csv.
    assert [row["id"] for row in found] == ["1", "", "3", "4", "5", ""]
    assert found[3]["text"] == "d\ne" and errors[0] is errors[3] is errors[4] is None
    assert errors[1].startswith("is not valid csv: ',' expected after '\"'; it begins '2,\"b\\n'")
    assert errors[2].startswith("is not UTF-8") and errors[5].startswith("is not valid csv: unexpected end of data")


def test_search_for_a_closing_quote_is_limited(monkeypatch):
    monkeypatch.setattr(text_lines, "LINE_CHARACTERS", 1_000)
    found, errors = read(b'text\n"open\n' + b"good\n" * 2_000, ".csv")
    assert len(found) == 2_001 and all(row["text"] == "good" for row in found[1:]) and not any(errors[1:])
    assert errors[0].startswith("is not valid csv: a quote is not closed within 1,000 characters; it begins '\"open")


def test_empty_line_is_an_empty_cell_in_tsv_and_skipped_in_csv():
    assert [row["text"] for row in read(b"text\ngood\n\nbad\n", ".tsv")[0]] == ["good", "", "bad"]
    assert [row["text"] for row in read(b"text\ngood\n\nbad\n", ".csv")[0]] == ["good", "bad"]  # like other csv readers


@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".txt"])
def test_endless_line_is_cut_and_the_next_one_is_read(kind, monkeypatch):
    monkeypatch.setattr(text_lines, "LINE_CHARACTERS", 1_000)
    good = {".csv": b"b\n", ".jsonl": b'{"text": "b"}\n', ".txt": b"b\n"}[kind]
    found, errors = read((b"text\n" if kind == ".csv" else b"") + b"x" * 10_000 + b"\n" + good, kind)
    assert found[1] == {"text": "b"} and errors[1] is None and len(found) == 2
    assert "longer than 1,000 characters" in errors[0] or "field larger than field limit" in errors[0]


@pytest.mark.parametrize(("kind", "tab"), [(".csv", b","), (".tsv", b"\t")])
def test_cut_row_reports_the_cut_and_the_missing_fields(kind, tab, monkeypatch):
    monkeypatch.setattr(text_lines, "LINE_CHARACTERS", 1_000)
    _, errors = read(b"text" + tab + b"id\n" + b"x" * 2_000 + tab + b"1\n", kind)
    assert errors == ["is longer than 1,000 characters and was cut; it has 1 field but the header has 2"]


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        (".csv", b"a,a\n1,2\n", "duplicate column name 'a'"),
        (".csv", b"a,\xff\n1,2\n", "its header is not UTF-8"),
        (".csv", "text\nä\n".encode("utf-16"), "UTF-16"),
        (".txt", "text\nä\n".encode("utf-16"), "UTF-16"),
        (".csv", b'a,"b"c\n', "its header is not valid csv"),
    ],
)
def test_unreadable_files_raise(kind, content, words):
    with pytest.raises(ValueError, match=words):
        read(content, kind)


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
          ".zst": lambda content: pyarrow.compress(content, codec="zstd", asbytes=True)}  # fmt: skip


@pytest.mark.parametrize("compression", PACKED)
def test_compressed_files_are_read_and_damaged_ones_raise(compression, tmp_path):
    content = "".join(f"line {i}\n" for i in range(5_000)).encode()
    packed = PACKED[compression](content)
    path = tmp_path / f"a.txt{compression}"
    path.write_bytes(packed + PACKED[compression](b"and another\n"))  # like appended archives
    found, errors = read(path, ".txt", compression)
    assert [row["text"] for row in found] == [*content.decode().splitlines(), "and another"] and not any(errors)
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DAMAGE):
        read(path, ".txt", compression)


def test_parquet_keeps_types_and_returns_invalid_utf8_as_bytes(tmp_path):
    stamps = pyarrow.array([1, None, 3], pyarrow.timestamp("ns"))
    texts = pyarrow.array([b"good", b"\xff", None]).cast(pyarrow.binary()).view(pyarrow.string())
    table = pyarrow.table({"text": texts, "at": stamps, "n": pyarrow.array([1, 2, None], pyarrow.int8())})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    file = open_rows(tmp_path / "a.parquet", ".parquet")
    (window,) = file.windows
    assert window.column("text") == ["good", b"\xff", None]
    assert window.rows.schema.equals(table.schema) and window.rows.column("at").equals(table.column("at"))
    first = window.as_dicts()[0]  # the time has pandas' type if pandas is installed
    assert {name: str(cell) for name, cell in first.items()} == {
        "text": "good",
        "at": "1970-01-01 00:00:00.000000001",
        "n": "1",
    }
    assert file.done() == 1.0


def test_windows_have_the_right_size_and_report_progress(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("word\n" * (2 * WINDOW + 5))
    file = open_rows(path, ".txt")
    assert [len(window) for window in file.windows] == [WINDOW, WINDOW, 5] and file.done() == 1.0


def test_windows_of_huge_rows_end_early(monkeypatch):
    monkeypatch.setattr(readers, "_WINDOW_CHARACTERS", 100)
    file = open_rows(io.BytesIO(b"x" * 60 + b"\n" + b"y" * 60 + b"\nz\n"), ".txt")
    assert [len(window) for window in file.windows] == [2, 1]


NUL = "\0" if sys.version_info < (3, 11) else ""  # which the csv module of Python 3.10 cannot write
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=NUL), max_size=20)
_PARTS = [b'"', b",", b"\n", b"\r", b"\t", b"{", b"}", b"[", b"]", b"text", b":", b"\xff", b"\xef\xbb\xbf", b"null",
          b"1", b" ", b"\\u", b"\x00", b"\xf0\x9f\x98\x80", b"e9999"]  # fmt: skip
BYTES = st.binary(max_size=400) | st.lists(st.sampled_from(_PARTS), max_size=60).map(b"".join)


@tried(300)
@given(st.sampled_from([".csv", ".tsv", ".jsonl", ".txt"]), BYTES)
def test_fuzz_any_bytes_give_rows_or_a_documented_error(kind, content):
    try:
        found, errors = read(content, kind)
    except ValueError as error:
        assert str(error)
        return
    assert len(found) == len(errors)
    for row, error in zip(found, errors, strict=True):
        assert isinstance(row, dict) and (error is None or error)
        for cell in row.values():
            if kind != ".jsonl":
                assert isinstance(cell, str) and cell == cell.encode().decode()


@tried(300)
@given(st.lists(st.tuples(CELLS, CELLS), max_size=20))
def test_csv_written_by_python_is_read_back_unchanged(cells):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("id", "text"), *cells])
    found, errors = read(text.getvalue().encode(), ".csv")
    assert [tuple(row.values()) for row in found] == cells and not any(errors)


@tried(100)
@given(st.lists(st.dictionaries(CELLS, CELLS | st.none() | st.integers() | st.lists(st.floats(allow_nan=False)))))
def test_json_written_by_python_is_read_back_unchanged(objects):
    found, errors = read("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects).encode(), ".jsonl")
    assert found == objects and not any(errors)


def test_windows_of_huge_parquet_rows_are_small(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_WINDOW_CHARACTERS", 100_000)
    texts = [f"{i} " + "x" * 10_000 for i in range(64)]
    table = pyarrow.table({"text": texts})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", compression="none", use_dictionary=False)
    windows = list(open_rows(tmp_path / "a.parquet", ".parquet").windows)
    assert max(map(len, windows)) < 16 and [text for window in windows for text in window.column("text")] == texts


def test_parquet_reads_binary_text_from_spark_and_dates_beyond_python(tmp_path):
    far = pyarrow.array([4_000_000, 0], pyarrow.int32()).cast(pyarrow.date32())
    table = pyarrow.table({"text": pyarrow.array(["Ä".encode(), b"\xff"], pyarrow.binary()), "day": far})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    (window,) = open_rows(tmp_path / "a.parquet", ".parquet").windows
    assert window.column("text") == ["Ä", b"\xff"]
    assert [row["day"] for row in window.as_dicts()][1] in ("1970-01-01",)


def test_last_returns_the_final_rows_and_errors_of_a_window():
    window = readers.Window([{"n": i} for i in range(5)], [None, "a", None, "b", "c"])
    assert (window.last(2).rows, window.last(2).errors) == ([{"n": 3}, {"n": 4}], ["b", "c"])
    table = readers.Window(pyarrow.table({"n": range(5)}), window.errors)
    assert (table.last(2).as_dicts(), table.last(2).errors) == ([{"n": 3}, {"n": 4}], ["b", "c"])


def test_concurrent_reads_restore_the_csv_field_limit():
    """Each thread used to restore the limit that it had found, so the second restored that of the first."""
    from concurrent.futures import ThreadPoolExecutor

    before = csv.field_size_limit()
    content = ("text\n" + "x" * 200_000 + "\n") + "".join(f"row {i}\n" for i in range(3_000))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: len(read(content.encode(), ".csv")[0]), range(16)))
    assert found == [3_001] * 16
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".txt"])
def test_a_file_is_closed_when_its_reader_wants_no_more(kind, tmp_path, monkeypatch):
    path, opened = tmp_path / f"rows{kind}", []
    path.write_text('{"text": "a"}\n' * (2 * WINDOW))
    before = Path.open
    monkeypatch.setattr(Path, "open", lambda *given: opened.append(before(*given)) or opened[-1])
    file = open_rows(path, kind)
    next(file.windows)
    (raw,) = opened
    assert not raw.closed
    del file
    assert raw.closed
