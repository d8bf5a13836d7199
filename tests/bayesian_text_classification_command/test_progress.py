"""Progress in a log, with few lines, and in a terminal; and the results that are known before the end."""

import io
import re

import commands
import pytest
from bayesian_text_classification_command import progress
from bayesian_text_classification_command.console import new_table
from rich.console import Console


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


def rows_table(*rows):
    table = new_table("all")
    table.add_column("")
    for row in rows:
        table.add_row(row)
    return table


def test_results_are_lines_of_a_log_as_soon_as_they_are_known(clock, capsys):
    """The last ones follow at once in full."""
    with progress.passes_progress("sampling", 3_000) as passes:
        for name in ("first", "second", "third"):
            clock.now += 6.0
            passes(1_000)
            passes.show(rows_table(name), f"{name}: ECE 0.1")
    assert capsys.readouterr() == (
        "",
        "sampling: 1,000 of 3,000 passes, 167 per second, about 12 s left\nfirst: ECE 0.1\nsecond: ECE 0.1\n",
    )


def on_screen(written):
    """The lines that a terminal shows after these characters."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[\??([0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)", written):
        count, code, end, text = part
        if code == "A":
            row -= int(count)
        elif code == "K":
            lines[row] = ""
        elif end == "\n":
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif end == "\r":
            column = 0
        else:
            assert text or code in "hlm", part
            lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
            column += len(text)
    return [line.rstrip() for line in lines if line.strip()]


@pytest.fixture
def terminal(monkeypatch):
    """What is written to a terminal of 80 columns."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80, height=24, legacy_windows=False, _environ={})
    monkeypatch.setattr(progress, "STDERR", console)
    return written


def test_results_are_above_the_bar_of_a_terminal_until_the_end(terminal):
    """Then they are printed in full, so that no row is there twice."""
    with progress.passes_progress("sampling", 3_000) as passes:
        passes(1_000)
        passes.show(rows_table("first"), "a line of a log")
        *table, bar = on_screen(terminal.getvalue())
        assert [line.strip() for line in table if line.strip("─ ")] == ["all", "first"]
        assert bar.startswith("sampling ━") and "1000/3000" in bar
        passes(1_000)
        passes.show(rows_table("first", "second"), "a line of a log")
        shown = on_screen(terminal.getvalue())
        assert [sum(word in line for line in shown) for word in ("first", "second", "sampling")] == [1, 1, 1]
    assert on_screen(terminal.getvalue()) == []


def test_results_stay_in_the_terminal_if_the_run_fails(terminal):
    for results in (0, 1):
        with pytest.raises(MemoryError), progress.passes_progress("sampling", 3_000) as passes:
            if results:
                passes.show(rows_table("first"), "a line of a log")
            raise MemoryError
        assert any("first" in line for line in on_screen(terminal.getvalue())) == bool(results)


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
