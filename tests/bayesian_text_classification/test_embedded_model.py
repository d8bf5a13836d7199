"""The embedded classifier on the sentences it was made for, and what its dropout does to its confidence there."""

from pathlib import Path

import pytest
from bayesian_text_classification.data import load_labelled_texts
from bayesian_text_classification.evaluation import measure

VALIDATION = Path(__file__).parents[3] / "shared" / "data" / "sst2" / "validation.tsv"  # beside the checkout; not ours


@pytest.mark.slow  # ten passes over 872 sentences
@pytest.mark.skipif(not VALIDATION.exists(), reason=f"needs SST-2 validation in {VALIDATION}")
def test_on_sst2_it_is_accurate_and_its_ensemble_is_more_honest(classifier):
    data = load_labelled_texts(str(VALIDATION), classifier.model.config.id2label)
    point = measure(classifier.predict_proba(data.texts, num_samples=0), data.labels)
    mean = measure(classifier.predict_proba(data.texts, num_samples=10), data.labels)
    assert len(data.texts) == 872
    assert point.accuracy >= 0.89
    assert mean.ece < point.ece
    assert mean.nll < point.nll
