"""Bars of calls that nobody else shows the progress of."""

import contextlib
import io
import re
import sys

import pytest
from bayesian_text_classification.evaluation.run import compare, total_rows
from bayesian_text_classification.loading.labeled_texts import LabeledTexts
from bayesian_text_classification.pipeline import progress
from bayesian_text_classification.pipeline.progress import progress_bar
from bayesian_text_classification.scale.predict import predict_file
from transformers.utils import logging

TEXTS = ["a wonderful film", "dull and far too long", "fine", "I want my money back"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Bars appear at once."""
    monkeypatch.setattr(progress, "DELAY", 0.0)
    logging.enable_progress_bar()


def shown_by(call, stream=None):
    """What a call shows in a terminal, or on another stream."""
    stream = stream or Terminal()
    with contextlib.redirect_stderr(stream):
        call()
    return stream.getvalue()


def some_right(ours):
    """Labels of three times the texts, of which the model gets two thirds right."""
    best = ours.predict_proba(TEXTS, num_samples=0).argmax(1)
    return [*best, *best, *(best + 1) % ours.model.config.num_labels]


def counts(shown):
    """The largest number of passes that a bar shows, and their total."""
    found = [tuple(map(int, pair)) for pair in re.findall(r"(\d+)/(\d+) \[", shown)]
    return max(found)


@pytest.mark.parametrize(
    ("call", "total"),
    [
        (lambda ours: ours(TEXTS, num_samples=7), 28),
        (lambda ours: ours(iter(TEXTS), num_samples=7), None),
        (lambda ours: ours(TEXTS[0], num_samples=7), None),
        (lambda ours: ours.predict_proba(TEXTS, num_samples=0), 4),
        (lambda ours: ours.sample_proba(TEXTS, num_samples=3), 12),
        (lambda ours: ours.calibrate(TEXTS * 3, some_right(ours), num_samples=3), 36),
    ],
)
def test_long_calls_show_a_bar(small, call, total):
    shown = shown_by(lambda: list(call(small)) if total is None else call(small))
    if total is None:
        assert "pass [" in shown
    else:
        assert counts(shown)[1] == total


def test_a_comparison_has_one_bar(classifier):
    data = LabeledTexts("texts", TEXTS * 5, [1, 0, 1, 0] * 5, [])
    shown = shown_by(lambda: compare(classifier, data, num_samples=3))
    assert counts(shown)[1] == total_rows(classifier, data, num_samples=3)


def test_files_show_their_texts(small, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(TEXTS))
    shown = shown_by(lambda: predict_file(small, tmp_path / "a.txt", tmp_path / "b.csv", num_samples=3))
    assert "text [" in shown and "pass [" not in shown


def test_no_bar_without_a_terminal_or_if_somebody_else_shows_one(small, monkeypatch):
    passes = []
    assert shown_by(lambda: small(TEXTS, num_samples=7, progress=passes.append)) == "" and sum(passes) == 28
    assert shown_by(lambda: small(TEXTS, num_samples=7), io.StringIO()) == ""  # a log file
    logging.disable_progress_bar()
    assert shown_by(lambda: small(TEXTS, num_samples=7)) == ""
    logging.enable_progress_bar()
    monkeypatch.setattr(progress, "DELAY", 60.0)
    assert shown_by(lambda: small(TEXTS, num_samples=7)) == ""
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(sys, "stderr", None)  # Windows without a console
    with progress_bar(None, 10) as advance:
        advance(3)
