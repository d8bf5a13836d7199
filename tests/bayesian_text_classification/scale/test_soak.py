"""One minute of `benchmarks/scale/soak.py`: eight threads, one pipeline, the same answers, no growth, no errors."""

from pathlib import Path
from statistics import median

import pytest
from bayesian_text_classification import BayesianTextClassificationPipeline

CHECKOUT = Path(__file__).parents[3]


@pytest.mark.slow  # a minute
def test_eight_threads_share_a_pipeline_for_a_minute(tiny, tokenizer, monkeypatch):
    monkeypatch.syspath_prepend(str(CHECKOUT))
    from benchmarks.scale import soak

    classifier = BayesianTextClassificationPipeline(model=tiny("bert", num_labels=2), tokenizer=tokenizer)
    calls, wrong, looks = soak.soak(classifier, 60, 8)
    assert wrong == [] and calls > 500
    tenth = len(looks) // 10
    assert median(looks[-tenth:]) < median(looks[4 * tenth : 5 * tenth]) + soak.GROWTH
