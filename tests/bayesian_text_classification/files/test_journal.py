"""The journal writes files atomically and resumes killed runs."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from bayesian_text_classification.files import journal
from bayesian_text_classification.files.journal import Journal, JournalError

SETTINGS = {"seed": 0}


@pytest.fixture(autouse=True)
def every_block(monkeypatch):
    monkeypatch.setattr(journal, "INTERVAL", 0.0)


def move(staged, target):
    staged.replace(target)


def begun(target, *, resume=False, settings=SETTINGS):
    return Journal(target, settings, b"head\n", resume=resume)


def test_file_appears_once_complete_and_leaves_no_working_files(tmp_path):
    target = tmp_path / "a.csv"
    target.write_bytes(b"the one before")
    blocks = begun(target)
    blocks.append(b"one\n", 1, Counter(), {})
    assert target.read_bytes() == b"the one before"
    blocks.finish(move)
    assert target.read_bytes() == b"head\none\n" and [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_resume_discards_everything_after_the_last_checkpoint(tmp_path, monkeypatch):
    target = tmp_path / "a.csv"
    blocks = begun(target)
    blocks.append(b"one\n", 1, Counter({"bad": 1}), {"batch_tokens": 7})
    monkeypatch.setattr(journal, "INTERVAL", 1e9)
    blocks.append(b"two\nhal", 5, Counter(), {"batch_tokens": 5})
    blocks.close()
    again = begun(target, resume=True)
    assert (again.rows, again.errors, again.state) == (1, Counter({"bad": 1}), {"batch_tokens": 7})
    again.append(b"two\n", 1, Counter(), {})
    again.finish(move)
    assert target.read_bytes() == b"head\none\ntwo\n"


def test_resume_without_an_earlier_run_starts_a_new_one(tmp_path):
    blocks = begun(tmp_path / "a.csv", resume=True)
    assert blocks.rows == 0
    blocks.finish(move)
    assert (tmp_path / "a.csv").read_bytes() == b"head\n"


def test_earlier_run_is_not_discarded_without_resume(tmp_path):
    begun(tmp_path / "a.csv").close()
    with pytest.raises(JournalError, match="resume=True continues it, or remove it"):
        begun(tmp_path / "a.csv")


@pytest.mark.parametrize("settings", [{"seed": 1}, {}, {"seed": 0, "masks": "odd"}])
def test_changed_settings_are_refused_and_named(tmp_path, settings):
    begun(tmp_path / "a.csv").close()
    name = "masks" if "masks" in settings else "seed"
    with pytest.raises(JournalError, match=f"was started with a different {name} "):
        begun(tmp_path / "a.csv", resume=True, settings=settings)
    begun(tmp_path / "a.csv", resume=True).close()  # the earlier run is intact


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b"\xff", b'{"settings": {"seed": 0}, "bytes": 999, "rows": 1}'])
def test_damaged_progress_file_is_refused(tmp_path, damage):
    begun(tmp_path / "a.csv").close()
    (tmp_path / "a.csv.progress").write_bytes(damage)
    with pytest.raises(JournalError, match=r"a\.csv\.partial.* to start over"):
        begun(tmp_path / "a.csv", resume=True)


@pytest.mark.skipif(os.name != "posix", reason="file locks need POSIX")
def test_two_runs_cannot_write_the_same_file(tmp_path):
    blocks = begun(tmp_path / "a.csv")
    with pytest.raises(JournalError, match="another run is writing"):
        begun(tmp_path / "a.csv", resume=True)
    code = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.csv.partial"], capture_output=True, check=False)
    assert b"BlockingIOError" in done.stderr  # the lock holds for other processes
    blocks.append(b"one\n", 1, Counter(), {})
    blocks.finish(move)
    assert (tmp_path / "a.csv").read_bytes() == b"head\none\n"


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(JournalError, match="cannot be written: No such file"):
        begun(tmp_path / "none" / "a.csv")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_keeps_the_last_checkpoint(tmp_path):
    target = tmp_path / "a.csv"
    blocks = begun(target)
    blocks.append(b"one\n", 1, Counter(), {})
    full = os.open("/dev/full", os.O_WRONLY)
    own = os.dup(blocks._file.fileno())
    os.dup2(full, blocks._file.fileno())
    with pytest.raises(OSError, match="No space left"):
        blocks.append(b"two\n" * 10_000, 1, Counter(), {})
    os.dup2(own, blocks._file.fileno())
    os.close(own)
    assert json.loads((tmp_path / "a.csv.progress").read_text())["rows"] == 1
    blocks.close()
    again = begun(target, resume=True)
    again.append(b"two\n", 1, Counter(), {})
    again.finish(move)
    assert target.read_bytes() == b"head\none\ntwo\n"


@pytest.mark.skipif(os.name != "posix", reason="file size limits need POSIX")
def test_full_disk_at_the_start_is_refused_in_one_line(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(JournalError) as told:
            begun(tmp_path / "a.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(told.value) == f"{tmp_path / 'a.csv'} cannot be written: File too large"
    begun(tmp_path / "a.csv").finish(move)
    assert (tmp_path / "a.csv").read_bytes() == b"head\n"


def test_folder_or_pipe_is_not_replaced(tmp_path):
    (tmp_path / "a.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name in ("a.csv", "pipe.csv"):
        with pytest.raises(JournalError, match=f"{name} exists but is not a regular file"):
            begun(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "pipe.csv"}


def test_link_stays_and_its_target_keeps_its_mode(tmp_path):
    (tmp_path / "real.csv").write_bytes(b"before")
    (tmp_path / "real.csv").chmod(0o600)
    (tmp_path / "link.csv").symlink_to("real.csv")
    begun(tmp_path / "link.csv").finish(move)
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "real.csv").read_bytes() == b"head\n"
    assert (tmp_path / "real.csv").stat().st_mode & 0o777 == 0o600


def test_unrelated_partial_file_is_not_overwritten(tmp_path):
    (tmp_path / "a.csv.partial").write_bytes(b"a letter")
    for resume in (False, True):
        with pytest.raises(JournalError, match=r"a\.csv\.partial exists but is not from a resumable run"):
            begun(tmp_path / "a.csv", resume=resume)
    assert (tmp_path / "a.csv.partial").read_bytes() == b"a letter"
    (tmp_path / "a.csv.partial").write_bytes(b"hea")  # killed before the first checkpoint
    begun(tmp_path / "a.csv", resume=True).finish(move)
    assert (tmp_path / "a.csv").read_bytes() == b"head\n"


def test_run_whose_file_was_replaced_does_not_finish_with_another_runs_file(tmp_path):
    first = begun(tmp_path / "a.csv")
    with pytest.raises(JournalError, match="another run is writing"):  # must not advise to remove the file
        begun(tmp_path / "a.csv")
    (tmp_path / "a.csv.partial").unlink()
    (tmp_path / "a.csv.progress").unlink()
    second = begun(tmp_path / "a.csv")
    with pytest.raises(JournalError, match="was replaced by another run"):
        first.finish(move)
    assert not (tmp_path / "a.csv").exists()
    second.finish(move)
    assert (tmp_path / "a.csv").read_bytes() == b"head\n"


def test_refused_run_releases_its_lock(tmp_path):
    """A caller that catches the error may resume at once, so the traceback must not keep the lock."""
    target = tmp_path / "a.csv"
    blocks = begun(target)
    blocks.append(b"one\n", 1, Counter(), {})
    blocks.close()
    try:
        begun(target)
    except JournalError:
        again = begun(target, resume=True)
    assert again.rows == 1
    again.finish(move)
    assert target.read_bytes() == b"head\none\n"
