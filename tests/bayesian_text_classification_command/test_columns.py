"""Missing columns of files are reported at once, in the words of the libraries that take seconds to import."""

import gzip
import json

import commands
import forks
import pyarrow
import pyarrow.parquet
import pytest
from bayesian_text_classification.files.sources import SourceError
from bayesian_text_classification.loading.labeled_texts import DataError, load_labeled_texts, load_texts
from bayesian_text_classification.scale import predict_file
from bayesian_text_classification_command import columns
from bayesian_text_classification_command.console import Refusal, with_flags

pytestmark = pytest.mark.usefixtures("loud_libraries")
NAMES = {0: "NEGATIVE", 1: "POSITIVE"}
COLUMNS = ("text_column", "text_pair_column", "label_column")
COMMANDS = [
    ("evaluate", "--dataset"),
    ("evaluate", "--calibration-dataset"),
    ("evaluate", "--ood-dataset"),
    ("calibrate", "--output", "new", "--dataset"),
    ("rank", "--output", "new.csv", "--input"),
    ("predict", "--output", "new.csv", "--input"),
    ("push", "pipeline", "me/mine", "--calibration-dataset"),
]


@pytest.fixture
def files(tmp_path):
    """Files of each format with the columns text and label."""
    rows = "text,label\nfine,1\n"
    (tmp_path / "d.csv").write_text(rows)
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(rows.encode()))
    (tmp_path / "d.tsv").write_text(rows.replace(",", "\t"))
    (tmp_path / "d.jsonl").write_text('{"text": "fine"}\n{"label": 1}\n')
    pyarrow.parquet.write_table(pyarrow.table({"text": ["fine"], "label": [1]}), tmp_path / "d.parquet")
    return [str(tmp_path / name) for name in ("d.csv", "d.csv.gz", "d.tsv", "d.jsonl", "d.parquet")]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[::3]))
def test_a_missing_column_is_reported_before_the_libraries_are_imported(command, files):
    done = forks.command(
        *command, files[0], "--text-column", "nope", before="import sys; sys.modules['transformers'] = None; "
    )
    assert (done.returncode, done.stdout) == (2, "")
    expected = "no text column 'nope'; the columns are 'text', 'label' (choose with --text-column)"
    if command[0] == "predict":
        expected = (
            f"{files[0]} has no column 'nope'; its columns are 'text', 'label' (choose one with "
            "--text-column; without a header, the first row is read as the header)"
        )
    assert done.stderr == f"error: {expected}\n"


def test_nothing_slow_is_imported(files, python):
    heavy = ("torch", "transformers", "pandas", "datasets", "bayesian_text_classification")
    lines = [[*command, files[-1], "--text-column", "nope"] for command in COMMANDS]
    code = f"""
import sys
from bayesian_text_classification_command import main
for line in {lines}:
    sys.argv[1:] = line
    try:
        main()
    except SystemExit as ended:
        print(ended.code, sorted(set({heavy}) & set(sys.modules)))
"""
    assert python(code) == "2 []\n" * len(COMMANDS)


@pytest.mark.parametrize("wrong", COLUMNS)
def test_the_words_are_those_of_the_libraries(wrong, files):
    flags = ("--" + wrong.replace("_", "-"), "nope")
    for name in files:
        with pytest.raises(DataError) as late:
            load_labeled_texts(name, NAMES, **{wrong: "nope"})
        words = with_flags(str(late.value), COLUMNS)
        for command in (COMMANDS[0], COMMANDS[1], COMMANDS[3], COMMANDS[6]):
            assert commands.refused(commands.asked(*command, name, *flags)) == words
        if wrong == "label_column":
            continue
        with pytest.raises(DataError) as late:
            load_texts(name, **{wrong: "nope"})
        words = with_flags(str(late.value), COLUMNS)
        for command in (COMMANDS[2], COMMANDS[4]):
            assert commands.refused(commands.asked(*command, name, *flags)) == words


@pytest.mark.parametrize("wrong", COLUMNS[:2])
def test_the_words_for_rows_are_those_of_predict_file(wrong, files, tmp_path, classifier):
    for name in files:
        with pytest.raises(SourceError) as late:
            predict_file(classifier, name, tmp_path / "new.jsonl", **{wrong: "nope"})
        flags = ("--" + wrong.replace("_", "-"), "nope")
        for source in (name, name.replace("d.csv", "d.cs[v]")):
            done = commands.asked("predict", "--output", "new.jsonl", "--input", source, *flags)
            assert commands.refused(done) == with_flags(str(late.value), COLUMNS)


def test_what_is_not_known_from_the_columns_is_left_to_the_libraries(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    late = [{"sentence": "fine"}] * 2_000 + [{"label": 1, "other": "so"}]
    (tmp_path / "late.jsonl").write_text("".join(json.dumps(row) + "\n" for row in late))
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n{\n')
    (tmp_path / "bad.csv").write_text('"text\n')
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("a,b\n")
    (tmp_path / "damaged.csv.gz").write_bytes(b"text,label")
    (tmp_path / "d.xls").write_text("a\n")
    others = ("bad.jsonl", "bad.csv", "empty.csv", "header.csv", "damaged.csv.gz", "d.xls", "reviews", "me/mine", ".")
    for name in ("late.jsonl", *others):
        columns.check_labeled(name, None, "other" if name == "late.jsonl" else None, None)
    for name in ("bad.csv", "damaged.csv.gz", "d.xls", "-", ".", "*.none"):
        columns.check_rows(name, None, "nope", None)
    columns.check_rows("d.csv", "xls", "nope", None)
    with pytest.raises(Refusal, match="no label column"):
        columns.check_labeled("late.jsonl", None, None, "more")
    with pytest.raises(Refusal, match=r"d.xls has no column 'nope'; its columns are 'a'"):
        columns.check_rows("d.xls", "csv", "nope", None)
