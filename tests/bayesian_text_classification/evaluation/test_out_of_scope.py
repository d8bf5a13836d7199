"""Out-of-scope detectors, in simulations in which the truth is known."""

import numpy as np
import pytest
from bayesian_text_classification.evaluation.out_of_scope import ENTROPY, detect
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve


def drawn(seed=0, noise=0.0):
    """One score for 400 in-scope and 150 out-of-scope texts, twice with separate noise."""
    random = np.random.default_rng(seed)
    inside, outside = random.normal(0, 1, 400), random.normal(1, 1, 150)
    return {name: (inside + random.normal(0, noise, 400), outside + random.normal(0, noise, 150)) for name in "ab"}


def found(arms, **options):
    one = {name: {ENTROPY: inside} for name, (inside, _) in arms.items()}
    other = {name: {ENTROPY: outside} for name, (_, outside) in arms.items()}
    return detect(one, other, **options)


def test_values_match_scikit_learn():
    first, second = found(drawn())
    truth, scores = np.r_[np.zeros(400), np.ones(150)], np.r_[first.inside, first.outside]
    rates, recalls, _ = roc_curve(truth, scores, drop_intermediate=False)
    assert first.auroc.value == pytest.approx(roc_auc_score(truth, scores))
    assert first.false_positive_rate.value == pytest.approx(rates[np.flatnonzero(recalls >= 0.95)[0]])
    assert (first.arm, second.arm, first.score) == ("a", "b", ENTROPY)
    assert first.differences == {}


@pytest.mark.slow  # many simulated runs
def test_intervals_cover_the_truth_and_equal_detectors_rarely_differ():
    pairs = [found(drawn(seed, noise=0.3)) for seed in range(300)]
    spread = np.sqrt(1 + 0.3**2)
    area = stats.norm.cdf(1 / (spread * np.sqrt(2)))
    rate = stats.norm.sf(1 / spread + stats.norm.ppf(0.05))
    for key, truth in (("auroc", area), ("false_positive_rate", rate)):
        intervals = [getattr(second, key) for _, second in pairs]
        assert 0.92 <= np.mean([one.low <= truth <= one.high for one in intervals]) <= 0.985, key
        told = np.mean([second.differences[key].verdict != "cannot tell" for _, second in pairs])
        assert told <= 0.07, key


def test_worse_detector_is_significant():
    good, bad = drawn(), drawn(noise=1.5)
    _, second = found({"a": good["a"], "b": bad["b"]})
    assert second.differences["auroc"].verdict == "worse"
    assert second.differences["auroc"].high < 0 < second.differences["false_positive_rate"].value
    _, second = found({"a": bad["a"], "b": good["b"]})
    assert second.differences["auroc"].verdict == "better"
    gap = found(good)[0].false_positive_rate.value - found(bad)[0].false_positive_rate.value
    assert second.differences["false_positive_rate"].value == pytest.approx(gap)


def test_every_score_gets_the_same_resamples():
    arms = drawn()
    arms["b"] = arms["a"]
    told = found(arms, seed=5)[1].differences["auroc"]
    assert (told.value, told.low, told.high, told.verdict, told.rows_needed) == (0, 0, 0, "cannot tell", None)


def test_score_missing_in_the_first_arm_is_compared_with_its_entropy():
    (inside, outside), other = drawn()["a"], drawn(noise=1.0)["b"]
    results = detect(
        {"first": {ENTROPY: inside, "score": other[0]}, "second": {"mutual information": inside}},
        {"first": {ENTROPY: outside, "score": other[1]}, "second": {"mutual information": outside}},
    )
    assert [(one.arm, one.score) for one in results] == [
        ("first", ENTROPY), ("first", "score"), ("second", "mutual information")
    ]  # fmt: skip
    assert results[2].differences["auroc"].value == 0


def test_few_in_scope_or_out_of_scope_texts_give_no_verdict():
    inside, outside = np.linspace(0, 1, 400), np.linspace(2, 3, 19)
    (_, second) = found({"a": (inside, outside[::-1] - 2.5), "b": (inside, outside)})
    assert second.differences["auroc"].low > 0
    assert second.differences["auroc"].verdict == "cannot tell"


def test_detectors_without_errors_have_wilsons_intervals():
    inside, outside = np.linspace(0, 1, 50), np.linspace(2, 3, 100)
    (first, second) = found({"a": (inside, outside), "b": (inside**2, outside)})
    for one in (first, second):
        assert (one.auroc.value, one.auroc.high, one.false_positive_rate.value) == (1, 1, 0)
        assert one.auroc.low == pytest.approx(50 / (50 + 1.96**2), abs=1e-4)  # Wilson's, for 50 of 50
        assert one.false_positive_rate.high == pytest.approx(1.96**2 / (50 + 1.96**2), abs=1e-4)
    for told in second.differences.values():
        assert (told.value, told.verdict) == (0, "cannot tell")
        assert told.high == pytest.approx(1.96**2 / (50 + 1.96**2), abs=1e-4) and told.low == -told.high
    (_, never) = found({"a": (inside, outside), "b": (inside, -outside)})
    assert never.differences["auroc"].verdict == "worse"  # 1 compared with 0


def test_intervals_stay_between_0_and_1():
    (one,) = found({"x": (np.arange(30.0), np.arange(28.0, 60.0))})
    assert 0.9 < one.auroc.low < one.auroc.value < one.auroc.high < 1
    (one,) = found({"x": (np.arange(30.0), np.arange(30.0, 60.0))})
    assert one.auroc.value == one.auroc.high == 1


def test_few_out_of_scope_texts_give_no_interval_at_95_percent_recall():
    random = np.random.default_rng(0)
    arms = {name: (random.normal(0, 1, 400), random.normal(1, 1, 99)) for name in "ab"}
    first, second = found(arms)
    assert np.isnan([first.false_positive_rate.low, second.differences["false_positive_rate"].high]).all()
    assert second.differences["false_positive_rate"].verdict == "cannot tell"
    assert not np.isnan(second.differences["auroc"].low)
