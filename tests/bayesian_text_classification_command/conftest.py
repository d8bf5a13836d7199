"""Fixtures for the tests of the command."""

import pytest
from bayesian_text_classification.evaluation.statistics import estimates, intervals
from bayesian_text_classification.metric import load_metric_module
from bayesian_text_classification.report import write


@pytest.fixture(autouse=True)
def quick_reports(monkeypatch):
    """No pictures and 100 resamples, not 1,000. One run in its own process has them."""
    monkeypatch.setattr(write, "pictures", lambda comparison: [])
    for module in (intervals, estimates, load_metric_module()):
        monkeypatch.setattr(module, "RESAMPLES", 100)
