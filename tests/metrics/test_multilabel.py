"""The config "multilabel": several labels may apply to a row, or none."""

import numpy as np
import pytest
from bayesian_text_classification.metric import load_metric_module
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

ece = load_metric_module()


@st.composite
def labeled(draw):
    """Independent probabilities and 0/1 labels, both (rows, labels)."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 4)))
    count = shape[0] * shape[1]
    p = draw(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.3, 1.0]), min_size=count, max_size=count))
    return np.reshape(p, shape), np.reshape(draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)), shape)


def test_by_hand():
    # Label 0: two rows of .75, one has it: gap .25. Label 1: 0.0 without it and 1.0 with it: no gap. Mean .125.
    value = ece.expected_calibration_error([[0.75, 0.0], [0.75, 1.0]], [[1, 0], [0, 1]], multilabel=True)
    assert value == 0.125


def test_max_and_l2_by_hand():
    data = [[0.75, 0.0], [0.75, 1.0]], [[1, 0], [0, 1]]
    assert ece.expected_calibration_error(*data, norm="max", multilabel=True) == 0.25
    assert ece.expected_calibration_error(*data, norm="l2", multilabel=True) == pytest.approx((0.25**2 / 2) ** 0.5)


@given(labeled(), st.integers(1, 15), st.sampled_from(ece.BINNINGS))
def test_it_is_the_mean_of_the_binary_values(data, n_bins, binning):
    rows, labels = data
    each = [
        ece.expected_calibration_error(p, y, n_bins, binning=binning, binary=True)
        for p, y in zip(rows.T, labels.T, strict=True)
    ]
    found = ece.expected_calibration_error(rows, labels, n_bins, binning=binning, multilabel=True)
    assert found == pytest.approx(np.mean(each), abs=1e-15)


def test_class_wise_is_multilabel_with_one_label_per_row():
    random = np.random.default_rng(0)
    rows, labels = random.dirichlet([1, 1, 1], 300), random.integers(0, 3, 300)
    assert ece.expected_calibration_error(rows, np.eye(3, dtype=int)[labels], multilabel=True) == (
        ece.expected_calibration_error(rows, labels, class_wise=True)
    )


def test_logits_go_through_a_sigmoid():
    logits = np.random.default_rng(0).normal(0, 3, (50, 4))
    labels = logits > 1
    found = ece.expected_calibration_error(logits, labels, from_logits=True, multilabel=True)
    assert found == pytest.approx(ece.expected_calibration_error(special.expit(logits), labels, multilabel=True))


def test_bin_sums_of_shards_add_up():
    random = np.random.default_rng(0)
    rows, labels = random.random((40, 3)), random.random((40, 3)) < 0.5
    shards = [ece.class_wise_bin_sums(rows[part], labels[part], multilabel=True) for part in (slice(15), slice(15, 40))]
    merged = [one + other for one, other in zip(*shards, strict=True)]
    assert merged == ece.class_wise_bin_sums(rows, labels, multilabel=True)
    assert ece.calibration_error(merged) == ece.expected_calibration_error(rows, labels, multilabel=True)


@pytest.mark.parametrize("from_logits", [False, True])
def test_all_ways_of_adding_rows_give_the_same_value(from_logits, metric):
    random = np.random.default_rng(0)
    rows, labels = random.random((60, 3)) * (9 if from_logits else 1), random.integers(0, 2, (60, 3))
    options = {"from_logits": from_logits, "return_bins": True}
    sums = ece.class_wise_bin_sums(rows, labels, from_logits=from_logits, multilabel=True)
    expected = {"ece": ece.calibration_error(sums), "bins": [one.as_dict() for one in sums]}

    shell = metric("multilabel")
    assert shell.compute(predictions=rows, references=labels, **options) == expected
    assert shell.compute(predictions=rows.tolist(), references=labels.astype(bool).tolist(), **options) == expected
    for row, label in zip(rows, labels, strict=True):
        shell.add(prediction=row, reference=label)
    assert shell.compute(**options) == expected
    for part in np.split(np.arange(60), [1, 20]):
        shell.add_batch(predictions=rows[part], references=labels[part])
    assert shell.compute(**options) == expected


def test_the_resamples_are_of_rows_not_of_pairs():
    # All labels of a row are the same event. Resampled as if independent, the interval would be half as wide.
    random = np.random.default_rng(0)
    p = random.random(400)
    labels = random.random(400) < p**2
    one = ece.bootstrap(p, labels, binary=True).interval
    four = ece.bootstrap(np.tile(p[:, None], 4), np.tile(labels[:, None], 4), multilabel=True).interval
    assert four == pytest.approx(one)


def test_the_null_value_draws_labels_independently():
    # One bin per label; 100 rows of .5. |Binomial(100, .5) / 100 - .5| has the mean .0398 for every label.
    chance = ece.bootstrap(np.full((100, 8), 0.5), np.tile([[0], [1]], (50, 8)), 1, multilabel=True)
    assert chance.null == pytest.approx(0.0398, abs=0.001)
    # The mean over eight independent labels has a standard deviation of .0106; over one, .030.
    assert np.diff(chance.null_interval)[0] == pytest.approx(3.92 * 0.0106, rel=0.15)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([0.5, 0.5], [1, 0], 'config "multilabel" takes the probability of every label for each row'),
        ([[0.5, 0.5]], [1], "give a 0 or 1 for every label of every row"),
        ([[0.5, 0.5]], [[1, 0, 1]], "references has shape (1, 3) and predictions has (1, 2)"),
        ([[0.5, 0.5]], [[1, 2]], "references[0][1] is 2; labels must be integers in [0, 1]"),
        ([[0.5, 1.5]], [[1, 0]], "predictions[0][1] is 1.5; probabilities must lie in [0, 1]. Pass from_logits=True"),
    ],
)
def test_refusals(predictions, references, message, metric):
    for call in (
        lambda: ece.expected_calibration_error(predictions, references, multilabel=True),
        lambda: metric("multilabel").compute(predictions=predictions, references=references),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert message in str(error.value)


def test_options_that_contradict_it(metric):
    with pytest.raises(ValueError, match="leave class_wise out"):
        metric("multilabel").compute(predictions=[[0.5]], references=[[1]], class_wise=True)
    with pytest.raises(ValueError, match="binary and multilabel are both True"):
        ece.expected_calibration_error([[0.5]], [[1]], binary=True, multilabel=True)


def test_the_default_config_says_where_independent_labels_go():
    with pytest.raises(ValueError, match=r'evaluate.load\("ece", "multilabel"\), or multilabel=True'):
        ece.expected_calibration_error([[0.9, 0.8, 0.7]], [0])
