"""`predict_file` keeps rows and order, gives the pipeline's own answers, writes atomically, and resumes."""

import csv
import importlib.metadata
import io
import json
import os
import random
import signal
import subprocess
import sysconfig
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from bayesian_text_classification.files import journal
from bayesian_text_classification.files import writers as blocks
from bayesian_text_classification.files.journal import JournalError
from bayesian_text_classification.files.readers import WINDOW, open_rows
from bayesian_text_classification.files.sources import Source, SourceError, source_of
from bayesian_text_classification.loading.classifiers import load_classifier
from bayesian_text_classification.pipeline import text_sampler
from bayesian_text_classification.scale.predict import predict_file
from fuzzing import tried
from hypothesis import given
from hypothesis import strategies as st

COMMAND = str(Path(sysconfig.get_path("scripts")) / "bayesian-text-classification")
WORDS = ["a", "the", "good", "bad", "film", "plot", "long", "dull", "joy", "bore", "never", "ever", "not", "quite"]


def sentences(count):
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 12))) for _ in range(count)]


@pytest.fixture(scope="module")
def folder(tiny, saved_to, tmp_path_factory):
    """The folder of a tiny model."""
    return saved_to(tmp_path_factory.mktemp("model"), tiny("bert", num_labels=2))


@pytest.fixture(scope="module")
def small(folder):
    return load_classifier(str(folder), num_samples=4)


def written_csv(path, texts):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "text"), *enumerate(texts)])
    return path


def stop_after(windows):
    """A progress function that interrupts the run after this many windows."""
    total = 0.0

    def stop(rows, done):
        nonlocal total
        total += rows
        if total > windows * WINDOW - 0.5:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize(
    ("rows", "options"),
    [(1, {}), (WINDOW + 1, {}), (40, {"num_samples": 0}), (40, {"tolerance": 0.5}), (3, {"bad": True})],
)
def test_progress_adds_up_to_the_number_of_rows(small, tmp_path, rows, options):
    texts, told = sentences(rows), []
    if options.pop("bad", False):
        texts[1] = "x" * 2_000_000
    path = written_csv(tmp_path / "a.csv", texts)
    predict_file(small, source_of(str(path)), io.BytesIO(), ".csv", progress=lambda *step: told.append(step), **options)
    assert sum(step for step, _ in told) == pytest.approx(rows) and all(step >= 0 for step, _ in told)
    assert told[-1][1] == 1.0


def test_rows_keep_their_order_and_get_the_pipelines_answers(small, tmp_path):
    texts = sentences(WINDOW + 10)
    told = []
    summary = predict_file(
        small,
        source_of(str(written_csv(tmp_path / "a.csv", texts))),
        tmp_path / "b.csv",
        ".csv",
        progress=lambda rows, done: told.append((rows, done)),
    )
    assert summary.rows == len(texts) and not summary.errors
    with (tmp_path / "b.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [str(i) for i in range(len(texts))]
    for row, text, answer in zip(rows, texts, small(texts), strict=True):
        assert row["text"] == text and row["label"] == answer["label"]
        assert float(row["score"]) == pytest.approx(answer["score"], abs=1e-5)
        assert float(row["mutual_information"]) == pytest.approx(answer["mutual_information"], abs=1e-5)
    # Progress is reported within windows too. Its rows add up to those of the file, and its shares grow.
    assert len(told) > 10 and sum(rows for rows, _ in told) == pytest.approx(len(texts)) and told[-1][1] == 1.0
    shares = [done for _, done in told]
    assert shares == sorted(shares) and 0 < shares[0] < 0.2


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_each_format_is_read_and_written(kind, small, tmp_path):
    path = tmp_path / f"a{kind}"
    if kind == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2], "text": ["good", "bad"]}), path)
    else:
        lines = {".csv": "id,text\n1,good\n2,bad\n", ".tsv": "id\ttext\n1\tgood\n2\tbad\n",
                 ".jsonl": '{"id": 1, "text": "good"}\n{"id": 2, "text": "bad", "more": [1]}\n'}  # fmt: skip
        path.write_text(lines[kind])
    predict_file(small, source_of(str(path)), tmp_path / f"b{kind}", kind)
    (window,) = list(source_windows(tmp_path / f"b{kind}"))
    rows = window.as_dicts()
    assert [str(row["id"]) for row in rows] == ["1", "2"] and [row["text"] for row in rows] == ["good", "bad"]
    expected = small(["good", "bad"])
    assert [float(row["score"]) for row in rows] == pytest.approx([answer["score"] for answer in expected], abs=1e-6)
    if kind == ".jsonl":
        assert rows[1]["more"] == [1] and "more" not in rows[0] and rows[0]["error"] is None


def source_windows(path):
    from bayesian_text_classification.files.sources import Reading

    return Reading(source_of(str(path))).windows()


@pytest.mark.parametrize(
    ("files", "name", "words"),
    [
        ({}, "none.csv", "none.csv: no such file"),
        ({"a.csv": ""}, "a.csv", "has no rows"),
        ({"a.csv": "words\na\n"}, "a.csv", "no column 'text' or 'sentence'; its columns are 'words'"),
        (
            {"a.csv": "text,label,predicted_score\na,b,c\n"},
            "a.csv",
            "has a column 'predicted_score'; .* prefix='model_'",
        ),
        ({"a.jsonl": '{"text": "a", "error": 1, "predicted_error": 1}\n'}, "a.jsonl", "a column 'predicted_error'"),
        ({"a.jsonl": '{"text": "a"}\n'}, "a.jsonl", "may have different columns, which only .jsonl can hold"),
    ],
)
def test_unusable_input_raises_before_anything_is_written(small, tmp_path, files, name, words):
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
    with pytest.raises(SourceError, match=words):
        predict_file(small, source_of(str(tmp_path / name)), tmp_path / "answers.csv", ".csv")
    assert not list(tmp_path.rglob("answers*"))


def test_columns_of_the_input_keep_their_names(small, tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,mine\n")
    predict_file(small, tmp_path / "a.csv", tmp_path / "b.csv", num_samples=1)
    (row,) = csv.DictReader((tmp_path / "b.csv").open())
    assert row["label"] == "mine" and row["predicted_label"] in small.model.config.label2id
    with pytest.raises(SourceError, match="already has a column 'label'"):  # the caller's prefix is never changed
        predict_file(small, tmp_path / "a.csv", tmp_path / "c.csv", prefix="")


def test_column_without_texts_raises_before_the_work(small, tmp_path):
    table = pyarrow.table({"text": pyarrow.array([1, 2]), "none": pyarrow.nulls(2)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    source, target = source_of(str(tmp_path / "a.parquet")), tmp_path / "b.csv"
    with pytest.raises(SourceError, match=r"column 'text' of .*a\.parquet holds int64, not text"):
        predict_file(small, source, target, ".csv")
    assert not target.exists()
    found = predict_file(small, source, target, ".csv", text_column="none")
    assert found.errors == {"the text is missing": 2}


@pytest.mark.parametrize(("kind", "compression"), [("xls", ""), (".txt", ""), (".csv", "gz"), (".csv", ".rar")])
def test_unknown_formats_raise(small, tmp_path, kind, compression):
    source = source_of(str(written_csv(tmp_path / "a.csv", ["a"])))
    with pytest.raises(ValueError, match=r"(is not a format|compression='.*'); it must be one of "):
        predict_file(small, source, tmp_path / "b.csv", kind, compression=compression)


def test_formats_are_derived_from_file_names(small, tmp_path):
    written_csv(tmp_path / "a.csv", sentences(3))
    assert predict_file(small, tmp_path / "a.csv", str(tmp_path / "b.jsonl.gz")).rows == 3
    again = predict_file(small, tmp_path / "b.jsonl.gz", tmp_path / "c.jsonl", prefix="again_")
    assert again.rows == 3
    (row, *_) = [json.loads(line) for line in (tmp_path / "c.jsonl").read_text().splitlines()]
    assert row["label"] == row["again_label"]
    with pytest.raises(ValueError, match=r"d\.xls: unknown file extension; use .*, or set output_format="):
        predict_file(small, tmp_path / "a.csv", tmp_path / "d.xls")


def test_csv_input_cannot_be_written_as_tsv(small, tmp_path):
    with pytest.raises(SourceError, match="may contain tabs"):
        predict_file(small, source_of(str(written_csv(tmp_path / "a.csv", ["a"]))), tmp_path / "b.tsv", ".tsv")


@pytest.mark.parametrize(
    ("kind", "compression"),
    [
        (".jsonl", ""),
        (".csv", ".gz"),
        (".parquet", ""),  # compresses internally
        pytest.param(".csv", "", marks=pytest.mark.slow),
        pytest.param(".jsonl", ".gz", marks=pytest.mark.slow),
    ],
)
def test_interrupted_run_resumes_to_the_same_bytes(small, tmp_path, monkeypatch, kind, compression):
    monkeypatch.setattr(journal, "INTERVAL", 0.0)
    texts = sentences(3 * WINDOW + 7)
    texts[5], texts[WINDOW + 3] = "", "  "
    if kind == ".jsonl":
        path = tmp_path / "a.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    else:
        path = written_csv(tmp_path / "a.csv", texts)
    arguments = {"compression": compression, "num_samples": 1, "threshold": 0.52}
    whole, killed = tmp_path / f"whole{kind}", tmp_path / f"killed{kind}"
    told = predict_file(small, source_of(str(path)), whole, kind, **arguments)

    for windows in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            predict_file(
                small, source_of(str(path)), killed, kind, resume=True, progress=stop_after(windows), **arguments
            )
        assert not killed.exists()
    with pytest.raises(JournalError, match="a different num_samples"):
        predict_file(small, source_of(str(path)), killed, kind, resume=True, compression=compression, num_samples=3)
    again = predict_file(small, source_of(str(path)), killed, kind, resume=True, **arguments)
    assert killed.read_bytes() == whole.read_bytes() and again == told and again.errors == {"the text is empty": 2}
    assert 0 < told.abstained < len(texts) - 2
    assert predict_file(small, source_of(str(path)), io.BytesIO(), ".jsonl", **arguments) == told
    assert {p.name for p in tmp_path.iterdir()} == {path.name, whole.name, killed.name}


def test_resume_is_refused_if_anything_that_affects_the_bytes_changed(small, folder, tmp_path):
    path = written_csv(tmp_path / "a.csv", sentences(WINDOW + 1))

    def run(classifier=small, **options):
        source = source_of(str(path))
        predict_file(classifier, source, tmp_path / "b.csv", ".csv", resume=True, progress=stop_after(1), **options)

    with pytest.raises(KeyboardInterrupt):
        run()
    other = load_classifier(str(folder), num_samples=4)
    with torch.no_grad():
        other.model.classifier.bias += 1e-3
    cases = [
        ("a different model", {"classifier": other}),
        ("a different default options", {"classifier": load_classifier(str(folder), num_samples=5)}),
        ("a different default options", {"classifier": load_classifier(str(folder), num_samples=4, batch_size=2)}),
        ("a different seed", {"seed": 1}),
        ("a different prefix", {"prefix": "x_"}),
        ("a different (model|dtype)", {"classifier": load_classifier(str(folder), dtype="bfloat16", num_samples=4)}),
    ]
    for words, options in cases:
        with pytest.raises(JournalError, match=f"was started with {words} "):
            run(**options)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(JournalError, match="a different number of threads"):
            run()
    finally:
        torch.set_num_threads(threads)
    with path.open("a") as file:
        file.write("9,more\n")
    with pytest.raises(JournalError, match="a different content of the input"):
        run()


def begun(classifier, source, target, kind=".csv", **options):
    """Start a run that stops after its first window."""
    with pytest.raises(KeyboardInterrupt):
        predict_file(classifier, source, target, kind, progress=stop_after(1), num_samples=1, **options)


def test_file_windows_match_those_of_the_pipeline():
    assert text_sampler.WINDOW == WINDOW  # otherwise batches would depend on where a run started


def test_resume_distinguishes_files_of_the_same_name_and_formats(small, tmp_path):
    for number in "12":
        (tmp_path / number).mkdir()
        written_csv(tmp_path / number / "a.csv", sentences(WINDOW + 1))
    pattern, target = str(tmp_path / "?" / "a.csv"), tmp_path / "out"
    begun(small, source_of(pattern), target)
    with pytest.raises(JournalError, match="a different output format"):
        predict_file(small, source_of(pattern), target, ".csv", compression=".gz", resume=True, num_samples=1)
    (tmp_path / "1.txt").write_text("text\n" + "good\n" * (WINDOW + 1))  # also valid csv with one column
    begun(small, source_of(str(tmp_path / "1.txt"), ".csv"), tmp_path / "other")
    with pytest.raises(JournalError, match="a different input format"):
        predict_file(small, source_of(str(tmp_path / "1.txt")), tmp_path / "other", ".csv", resume=True, num_samples=1)
    written_csv(tmp_path / "1" / "a.csv", ["other"] * (WINDOW + 1))
    with pytest.raises(JournalError, match="a different content of the input, file 1"):
        predict_file(small, source_of(pattern), target, ".csv", resume=True, num_samples=1)


def test_input_is_never_overwritten(small, tmp_path):
    path = written_csv(tmp_path / "b.csv.partial", ["good"])
    before = path.read_bytes()
    with pytest.raises(SourceError, match=r"b\.csv\.partial is the input file"):
        predict_file(small, source_of(str(path), ".csv"), tmp_path / "b.csv", ".csv")
    with pytest.raises(SourceError, match=r"b\.csv\.partial is the input file"):
        predict_file(small, source_of(str(path), ".csv"), path, ".csv")
    assert path.read_bytes() == before
    with pytest.raises(SourceError, match="stdin cannot be read twice"):
        predict_file(small, Source(".txt", stream=io.BytesIO(b"a\n")), tmp_path / "c.csv", ".csv", resume=True)


def test_jsonl_is_read_past_bad_first_rows(small, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("broken\n" * (WINDOW + 3) + '{"text": "good"}\n')
    out = io.BytesIO()
    summary = predict_file(small, source_of(str(path)), out, ".jsonl", num_samples=1)
    assert (summary.rows, summary.errors.total()) == (WINDOW + 4, WINDOW + 3)
    assert json.loads(out.getvalue().splitlines()[-1])["label"]
    path.write_text("")
    assert predict_file(small, source_of(str(path)), io.BytesIO(), ".jsonl", num_samples=1).rows == 0


def test_late_jsonl_field_with_the_name_of_an_added_column_is_kept_and_reported(small, tmp_path):
    path = tmp_path / "a.jsonl"
    late = [{"text": "bad", "label": "MINE"}, {"text": "bad", "error": "MINE"}, {"text": "dull"}]
    path.write_text('{"text": "good"}\n' * WINDOW + "".join(json.dumps(row) + "\n" for row in late))
    found = predict_file(small, source_of(str(path)), tmp_path / "b.jsonl", ".jsonl", num_samples=1)
    assert found.errors == {"the row already has a field with the name of an added column": 2}
    label, error, good = map(json.loads, (tmp_path / "b.jsonl").read_text().splitlines()[WINDOW:])
    assert label["label"] == "MINE" and label["score"] is None
    assert "('label', with 'MINE'); choose a prefix" in label["error"] and "('error', with 'MINE')" in error["error"]
    assert good["label"] and good["error"] is None
    assert predict_file(small, source_of(str(path)), tmp_path / "c.jsonl", ".jsonl", num_samples=1, prefix="p_").rows


def test_numpy_integers_are_valid_options(small, tmp_path):
    path, options = written_csv(tmp_path / "a.csv", sentences(WINDOW + 1)), {"num_samples": np.int64(1)}
    with pytest.raises(KeyboardInterrupt):
        predict_file(small, source_of(str(path)), tmp_path / "b.csv", ".csv", progress=stop_after(1), **options)
    found = predict_file(small, source_of(str(path)), tmp_path / "b.csv", ".csv", resume=True, num_samples=1)
    assert found.rows == WINDOW + 1


def _not_utf8(kind):
    """Three cells. The second is not valid UTF-8."""
    plain = pyarrow.array([b"good", b"b\xffad", None], pyarrow.binary())
    text = pyarrow.Array.from_buffers(pyarrow.string(), 3, plain.buffers())
    each, two = pyarrow.array([0, 1, 2, 3], pyarrow.int32()), pyarrow.array([0, 1, None], pyarrow.int32())
    return {
        "string": lambda: text,
        "dictionary": lambda: pyarrow.DictionaryArray.from_arrays(two, text.slice(0, 2)),
        "view": lambda: plain.cast(pyarrow.binary_view()).view(pyarrow.string_view()),
        "list": lambda: pyarrow.ListArray.from_arrays(each, text),
        "struct": lambda: pyarrow.StructArray.from_arrays([text], ["a"]),
        "map": lambda: pyarrow.MapArray.from_arrays(each, pyarrow.array(["k"] * 3), text),
        "binary": lambda: pyarrow.ListArray.from_arrays(each, plain),
    }[kind]()


@pytest.mark.parametrize("kind", ["string", "dictionary", "view"])
@pytest.mark.parametrize("written", [".csv", ".jsonl", ".parquet"])
def test_parquet_text_that_is_not_utf8_is_an_error_of_its_row(small, kind, written, tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": _not_utf8(kind)}), tmp_path / "a.parquet")
    found = predict_file(small, source_of(str(tmp_path / "a.parquet")), tmp_path / "b", written, num_samples=1)
    assert (found.rows, found.errors) == (3, {"the text is not UTF-8": 1, "the text is missing": 1})


@pytest.mark.parametrize(
    ("kind", "cells"),
    [
        ("string", ["good", "b\ufffdad", None]),
        ("dictionary", ["good", "b\ufffdad", None]),
        ("view", ["good", "b\ufffdad", None]),
        ("list", [["good"], ["b\ufffdad"], [None]]),
        ("binary", [["good"], ["b\ufffdad"], [None]]),
        ("struct", [{"a": "good"}, {"a": "b\ufffdad"}, {"a": None}]),
        ("map", [[["k", "good"]], [["k", "b\ufffdad"]], [["k", None]]]),
    ],
)
def test_other_parquet_cells_that_are_not_utf8_get_the_replacement_character(small, kind, cells, tmp_path):
    table = pyarrow.table({"text": ["good", "bad", "dull"], "more": _not_utf8(kind)})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    source = source_of(str(tmp_path / "a.parquet"))
    for written in (".csv", ".jsonl", ".parquet"):
        assert not predict_file(small, source, tmp_path / f"b{written}", written, num_samples=1).errors
    found = [json.loads(line)["more"] for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert found == cells
    with (tmp_path / "b.csv").open(newline="") as file:
        flat = [row["more"] for row in csv.DictReader(file)]
    nested = kind in ("list", "binary", "struct", "map")
    assert flat == [json.dumps(cell, ensure_ascii=False) if nested else cell or "" for cell in cells]


def test_parquet_output_keeps_its_mode_and_follows_no_links_at_temporary_paths(small, tmp_path):
    path = written_csv(tmp_path / "a.csv", ["good"])
    (tmp_path / "b.parquet").touch(0o600)
    (tmp_path / "other").write_text("mine")
    for ending in (".partial.made", ".progress.new"):
        (tmp_path / f"b.parquet{ending}").symlink_to("other")
    predict_file(small, source_of(str(path)), tmp_path / "b.parquet", ".parquet", num_samples=1)
    assert (tmp_path / "b.parquet").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "other").read_text() == "mine" and pyarrow.parquet.read_table(
        tmp_path / "b.parquet"
    ).num_rows == 1
    assert {file.name for file in tmp_path.iterdir()} == {"a.csv", "b.parquet", "other"}


def test_parquet_row_groups_are_limited_by_rows_and_by_bytes(small, tmp_path, monkeypatch):
    path = written_csv(tmp_path / "a.csv", sentences(4 * WINDOW))
    groups = []
    for name, most in (("_GROUP_ROWS", 2 * WINDOW), ("_GROUP_BYTES", 1), ("_GROUP_BYTES", 2**30)):
        with monkeypatch.context() as patch:
            patch.setattr(blocks, name, most)
            predict_file(small, source_of(str(path)), tmp_path / "b.parquet", ".parquet", num_samples=1)
        groups.append(pyarrow.parquet.ParquetFile(tmp_path / "b.parquet").num_row_groups)
    assert groups == [2, 4, 1]


def test_error_for_a_file_without_a_header_does_not_show_its_first_text(small, tmp_path):
    (tmp_path / "a.csv").write_text("my private diagnosis is bad,x\ngood,1\n")
    (tmp_path / "b.csv").write_text("my private diagnosis is bad,my private diagnosis is bad\n")
    for name, words in (
        ("a.csv", r"its columns are \(a name of 27 characters\), 'x'"),
        ("b.csv", "duplicate column name .a name of 27"),
    ):
        with pytest.raises(SourceError, match=words) as caught:
            predict_file(small, source_of(str(tmp_path / name)), io.BytesIO(), ".csv")
        assert "private" not in str(caught.value)


def test_without_samples_long_texts_saved_thresholds_and_nan_are_handled(small, folder, tmp_path):
    path = written_csv(tmp_path / "a.csv", ["good", "word " * 2_000, "bad"])
    careful = load_classifier(str(folder), num_samples=4, threshold=0.9)
    for classifier in (small, careful):
        out = io.BytesIO()
        with nullcontext() if classifier is small else pytest.warns(UserWarning, match="is not used for these scores"):
            assert not predict_file(classifier, source_of(str(path)), out, ".csv", num_samples=0).errors
        assert out.getvalue().splitlines()[0] == b"id,text,label,score,error"
    out = io.BytesIO()
    predict_file(small, source_of(str(path)), out, ".csv", num_samples=0, threshold=1.0)
    assert out.getvalue().splitlines()[0] == b"id,text,label,score,abstained,reason,candidate,error"
    with torch.no_grad():
        careful.model.classifier.bias[0] = torch.nan
    found = predict_file(careful, source_of(str(path)), io.BytesIO(), ".csv", num_samples=0, threshold=None)
    assert found.errors == {"the model's outputs for it are NaN or infinite": 3}


def test_resume_uses_the_smaller_batches_of_the_first_run_and_leaves_the_callers_unchanged(
    small, tmp_path, monkeypatch
):
    monkeypatch.setattr(journal, "INTERVAL", 0.0)
    path, before = written_csv(tmp_path / "a.csv", sentences(WINDOW + 1)), small.batch_tokens
    call, seen = type(small).__call__, []

    def watched(self, *args, **kwargs):
        if args[0]:  # the scorer checks the options without texts
            seen.append(self.batch_tokens)
        return call(self, *args, **kwargs)

    small.batch_tokens = 333
    try:
        with pytest.raises(KeyboardInterrupt):
            predict_file(small, path, tmp_path / "b.csv", num_samples=1, progress=stop_after(1))
    finally:
        small.batch_tokens = before
    monkeypatch.setattr(type(small), "__call__", watched)
    predict_file(small, path, tmp_path / "b.csv", num_samples=1, resume=True)
    assert set(seen) == {333} and small.batch_tokens == before


def test_damaged_end_of_the_input_keeps_the_finished_rows(small, tmp_path):
    import gzip

    packed = gzip.compress("".join(f"{text}\n" for text in sentences(5_000)).encode())
    (tmp_path / "a.txt.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(SourceError, match=r"cannot be read after row [1-9][\d,]*: Compressed file ended"):
        predict_file(small, source_of(str(tmp_path / "a.txt.gz")), tmp_path / "b.csv", ".csv", num_samples=1)
    assert (tmp_path / "b.csv.partial").stat().st_size > 1_000 and not (tmp_path / "b.csv").exists()


def test_stream_is_flushed_after_each_window(small):
    class Pipe(io.BytesIO):
        flushed = 0

        def flush(self):
            self.flushed += 1

    out = Pipe()
    source = Source(".txt", stream=io.BytesIO(b"good\n" * (WINDOW + 1)))
    assert predict_file(small, source, out, ".jsonl", num_samples=1).rows == WINDOW + 1
    assert out.flushed == 2 and len(out.getvalue().splitlines()) == WINDOW + 1


_PARTS = [b'"', b",", b"\n", b"text", b"\t", b"{", b"}", b'{"text": "', b'"}\n', b"\xff", b"good", b" ", b"\x00",
          b"\\ud83d"]  # fmt: skip


@tried(200)
@given(
    st.sampled_from([".csv", ".tsv", ".jsonl", ".txt"]),
    st.binary(max_size=60) | st.lists(st.sampled_from(_PARTS), max_size=40).map(b"".join),
)
def test_fuzz_every_row_gets_a_score_or_an_error(small, kind, content):
    header = {".csv": b"text,id\n", ".tsv": b"text\tid\n", ".jsonl": b'{"text": "first"}\n', ".txt": b"first\n"}[kind]
    out = io.BytesIO()
    rows = sum(map(len, open_rows(io.BytesIO(header + content), kind).windows))
    summary = predict_file(small, Source(kind, stream=io.BytesIO(header + content)), out, ".jsonl", num_samples=1)
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(found) == rows == summary.rows
    assert all((row["score"] is None) == (row["error"] is not None) for row in found)
    assert sum(row["error"] is not None for row in found) == summary.errors.total()


def killed(arguments, environment, progress, after):
    """Start the command, and kill it `after` seconds past its first new checkpoint."""
    process = subprocess.Popen([COMMAND, *arguments], env=environment, stderr=subprocess.PIPE)
    before = rows_of(progress)
    while process.poll() is None and rows_of(progress) == before:
        time.sleep(0.05)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return rows_of(progress)


def rows_of(progress):
    try:
        return json.loads(progress.read_text())["rows"]
    except (FileNotFoundError, ValueError):
        return -1


@pytest.mark.slow  # starts the command five times
def test_command_killed_at_random_moments_resumes_to_the_same_bytes(folder, tmp_path):
    path = written_csv(tmp_path / "a.csv", sentences(60_000))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    common = ["predict", "--input", str(path), "--model", str(folder), "--num-samples", "10"]
    whole, target = tmp_path / "whole.csv", tmp_path / "b.csv"
    done = subprocess.run([COMMAND, *common, "--output", str(whole)], env=environment, check=True, capture_output=True)
    assert done.stderr.decode().splitlines()[-1] == "60,000 rows"
    draw, seen = random.Random(1), []
    for _ in range(3):
        seen.append(
            killed([*common, "--output", str(target), "--resume"], environment, tmp_path / "b.csv.progress",
                   draw.uniform(0, 3))
        )  # fmt: skip
        assert not target.exists()
    assert seen == sorted(seen) and 0 < seen[-1] < 60_000  # each run was killed before the end
    subprocess.run([COMMAND, *common, "--output", str(target), "--resume"], env=environment, check=True)
    assert target.read_bytes() == whole.read_bytes()


def test_overlapping_runs_have_batch_sizes_of_their_own(folder, tmp_path):
    """Batches decide the last bits of the scores, so a resumed run must not change those of another thread."""
    classifier = load_classifier(str(folder), num_samples=2)
    classifier.batch_tokens = 777
    written_csv(tmp_path / "a.csv", sentences(WINDOW // 2))
    inside = {}

    def during(rows, done):
        if not inside:
            inside["tokens"] = classifier.batch_tokens
            classifier.batch_tokens = 555  # the caller's own change stays

    predict_file(classifier, source_of(str(tmp_path / "a.csv")), tmp_path / "b.csv", ".csv", progress=during)
    assert inside == {"tokens": 777} and classifier.batch_tokens == 555


def test_files_are_classified_if_the_package_is_not_installed(small, tmp_path, monkeypatch):
    """A copy of the folder has no known version, and does not need one."""
    known = importlib.metadata.version

    def version(name):
        if name == "bayesian-text-classification":
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    path = written_csv(tmp_path / "a.csv", ["fine"])
    assert predict_file(small, path, tmp_path / "b.csv", num_samples=1, resume=True).rows == 1
