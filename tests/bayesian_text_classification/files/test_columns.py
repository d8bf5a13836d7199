"""What `check_can_write` refuses before the work."""

import os

import pytest
from bayesian_text_classification.files.columns import ColumnsError, check_can_write, write_columns


def test_folder_or_pipe_is_not_replaced(tmp_path):
    (tmp_path / "a.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("a.csv")
    for name in ("a.csv", "pipe.csv", "link.csv"):
        line = f"{name} exists but is not a regular file; choose another output file$"
        with pytest.raises(ColumnsError, match=line):
            check_can_write(str(tmp_path / name))
        with pytest.raises(ColumnsError, match=line):
            write_columns(str(tmp_path / name), {"a": [1]})
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "pipe.csv", "link.csv"}


def test_existing_file_and_broken_link_can_be_written(tmp_path):
    (tmp_path / "a.csv").write_text("before\n")
    (tmp_path / "link.csv").symlink_to("new.csv")
    for name in ("a.csv", "link.csv"):
        check_can_write(str(tmp_path / name))
        write_columns(str(tmp_path / name), {"a": [1]})
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "new.csv").read_bytes() == b"a\r\n1\r\n"
