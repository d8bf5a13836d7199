"""Fixtures for the tests of the metric."""

import pytest
from bayesian_text_classification.metric import load_metric_module


@pytest.fixture
def metric(tmp_path):
    """Creates metrics that keep their files in the test's own folder."""
    ece = load_metric_module()
    return lambda config_name="default", **options: ece.ECE(config_name=config_name, cache_dir=tmp_path, **options)
