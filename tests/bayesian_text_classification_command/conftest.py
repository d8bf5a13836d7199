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


@pytest.fixture(scope="session")
def tiny_model(tiny, saved_to, tmp_path_factory):
    """The folder of a tiny model with the embedded model's labels, for what does not depend on the answers."""
    model = tiny("bert", id2label={0: "NEGATIVE", 1: "POSITIVE"}, label2id={"NEGATIVE": 0, "POSITIVE": 1})
    return saved_to(tmp_path_factory.mktemp("tiny") / "model", model)
