"""What the tests of the metric need."""

import pytest
from bayesian_text_classification.metric import load_metric_module


@pytest.fixture
def metric(tmp_path):
    """Makes metrics that keep their files in a folder of the test's own."""
    ece = load_metric_module()
    return lambda config_name="default", **options: ece.ECE(config_name=config_name, cache_dir=tmp_path, **options)
