"""Fixtures for the tests of the command."""

import importlib

import pytest


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Reports without pictures, which take more time than all else. One run in its own process has them."""
    report = importlib.import_module("bayesian_text_classification.report.write")
    monkeypatch.setattr(report, "pictures", lambda comparison: [])
