"""`bayesian-text-classification rank`: its options, and output that cannot be written."""

import errno
import inspect
import os
from typing import get_args

import pytest
from bayesian_text_classification.files import columns
from bayesian_text_classification.selection.heuristics import HEURISTICS
from bayesian_text_classification_command.rank import rank
from commands import asked, refused

pytestmark = pytest.mark.usefixtures("loud_libraries")


def test_columns_that_parquet_cannot_hold_give_one_line(tmp_path):
    output = tmp_path / "out.parquet"
    for cells in (('"a"', "1"), ("1", "9" * 30)):  # mixed types, and an integer of more than 64 bits
        lines = (f'{{"text": "fine", "more": {cell}}}\n' for cell in cells)
        (tmp_path / "in.jsonl").write_text("".join(lines))
        line = refused(asked("rank", "--input", tmp_path / "in.jsonl", "--output", output, "--num-samples", 2))
        assert line.startswith(f"{output} cannot hold these columns: ") and "cannot write" not in line
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_existing_folder_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "write_columns", None)  # never called
    (tmp_path / "in.csv").write_text("text\nfine\n")
    (tmp_path / "out.csv").mkdir()
    line = refused(asked("rank", "--input", tmp_path / "in.csv", "--output", tmp_path / "out.csv"))
    assert line == f"{tmp_path / 'out.csv'} exists but is not a regular file; choose another output file"


def test_full_disk_gives_one_line(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "in.csv").write_text("text\nfine\n")
    monkeypatch.setattr(columns, "writer_for", full_disk)
    output = tmp_path / "out.csv"
    line = refused(asked("rank", "--input", tmp_path / "in.csv", "--output", output, "--num-samples", 2))
    assert line == f"{output} cannot be written: No space left on device"
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_the_command_offers_the_heuristics_of_the_library():
    """It spells them out, because importing the library takes seconds."""
    offered = inspect.signature(rank).parameters["heuristic"].annotation
    assert get_args(get_args(offered)[0]) == (*HEURISTICS, "novelty")  # which needs no samples
