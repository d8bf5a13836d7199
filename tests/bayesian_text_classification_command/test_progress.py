"""Progress in a log: few lines, with what a reader wants to know."""

import re

import commands
import pytest
from bayesian_text_classification_command import progress


class Clock:
    """A clock that only the test moves."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_a_line_after_5_seconds_and_then_every_15(clock, capsys):
    with progress.passes_progress("sampling", 6_000) as advance:
        for _second in range(60):
            clock.now += 1.0
            advance(100)
    assert capsys.readouterr().err.splitlines() == [
        "sampling: 500 of 6,000 passes, 100 per second, about 55 s left",
        "sampling: 2,000 of 6,000 passes, 100 per second, about 40 s left",
        "sampling: 3,500 of 6,000 passes, 100 per second, about 25 s left",
        "sampling: 5,000 of 6,000 passes, 100 per second, about 10 s left",
    ]


def test_short_work_and_the_end_are_silent(clock, capsys):
    with progress.passes_progress("sampling", 10) as advance:
        clock.now += 4.9
        advance(9)
        clock.now += 10
        advance(1)
    with progress.texts_progress() as show:
        clock.now += 4.9
        show(10, 0.9)
        clock.now += 10
        show(1, 1.0)
    assert capsys.readouterr() == ("", "")


def test_texts_of_a_stream_have_no_time_left(clock, capsys):
    with progress.texts_progress() as show:
        for done in (0.01, None, 0.5):
            clock.now += 20.0
            show(1_000, done)
    assert capsys.readouterr().err.splitlines() == [
        "1,000 texts, 50 per second, about 33 min left",
        "2,000 texts, 50 per second",
        "3,000 texts, 50 per second, about 60 s left",
    ]


def test_a_resumed_run_counts_its_own_time(clock, capsys):
    """Nine tenths are from an earlier run; a percent takes a minute."""
    with progress.texts_progress() as show:
        for done in (0.5, 0.9):
            clock.now += 0.01
            show(0, done)
        for percent in (91, 92):
            clock.now += 60.0
            show(1_000, percent / 100)
    assert capsys.readouterr().err.splitlines() == [
        "1,000 texts, 17 per second, about 9 min left",
        "2,000 texts, 17 per second, about 8 min left",
    ]


@pytest.mark.parametrize(("seconds", "words"), [(89, "about 89 s"), (90, "about 2 min"), (9_000, "about 2.5 h")])
def test_durations(seconds, words):
    assert progress._left(seconds) == f"{words} left"


def test_commands_show_it_on_stderr(monkeypatch, tmp_path):
    monkeypatch.setattr(commands, "FIRST_LINE", 0.0)
    (tmp_path / "texts.csv").write_text("text\n" + "a good film\n" * 2_000)
    done = commands.asked(
        "predict", "--input", tmp_path / "texts.csv", "--output", tmp_path / "a.csv", "--num-samples", 1
    )
    first, *_, last = done.stderr.splitlines()
    assert re.fullmatch(r"[0-9,]+ texts, [0-9,.]+ per second(, about [0-9.]+ (s|min) left)?", first), done
    assert last == "2,000 rows" and done.stdout == f"{tmp_path / 'a.csv'}\n"
