"""Scoring windows of good and bad texts."""

import numpy as np
import pyarrow
import pytest
import torch
from bayesian_text_classification import BayesianTextClassificationPipeline
from bayesian_text_classification.files.writers import added_columns
from bayesian_text_classification.loading.labeled_texts import MOST_CHARACTERS
from bayesian_text_classification.pipeline.inputs import InputError
from bayesian_text_classification.scale.row_scorer import RowScorer
from fuzzing import tried
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

BAD = {
    "the text is missing": None,
    "the text is empty": "",
    "the text is empty ": " \n\t",
    "unreadable: 17 (int), not a string": 17,
    "unreadable: ['a'] (list), not a string": ["a"],
    "the text is not UTF-8": b"\xff",
    "unreadable: '\\ud800' at character 2, a lone surrogate, which is not valid Unicode": "a\ud800",
    f"the text has 10,485,760 characters; the limit is {MOST_CHARACTERS:,}": "x" * 10 * 2**20,
}


def test_bad_text_gets_an_error_and_does_not_affect_the_others(classifier):
    scorer = RowScorer(classifier, "", {"num_samples": 10})
    texts = ["a joy", *BAD.values(), "dull", "fine"]
    rows = scorer(texts, [None] * (len(texts) - 1) + ["was not read"])
    assert [row["error"] for row in rows] == [None, *(why.strip() for why in BAD), None, "was not read"]
    for row, expected in zip((rows[0], rows[-2]), classifier(["a joy", "dull"], num_samples=10), strict=True):
        assert {**row, "error": None} == {**expected, "error": None}
    assert all("label" not in row for row in rows[1:-2])
    counts = scorer.counts(rows)
    assert counts["the text is empty"] == 2 and counts["unreadable"] == 3 and counts.total() == len(BAD) + 1
    assert counts["the text has ... characters"] == 1 and counts["the text is not UTF-8"] == 1


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"num_samples": 0}, {"label", "score"}),
        ({"num_samples": 4}, {"label", "score", "score_std", "num_samples", "truncated"}),
        ({"num_samples": 4, "threshold": 0.9}, {"abstained", "reason", "candidate"}),
    ],
)
def test_added_columns_match_the_pipelines_results(classifier, options, keys):
    scorer = RowScorer(classifier, "my_", options)
    (row,) = scorer(["so so"], [None])
    assert set(row) == set(scorer.added.names) >= {"my_" + key for key in keys} | {"my_error"}
    columns = added_columns([row, {"my_error": "x"}], scorer.added)
    assert [len(column) for column in columns] == [2] * len(row)
    assert scorer.added.field("my_score").type == pyarrow.float64()


def test_top_k_raises(classifier):
    many = BayesianTextClassificationPipeline(model=classifier.model, tokenizer=classifier.tokenizer, top_k=None)
    for made, options in ((classifier, {"top_k": 2}), (many, {})):
        with pytest.raises(TypeError, match="'top_k' is not supported here"):
            RowScorer(made, "", options)


class Ill(nn.Module):
    """A classification head whose first output is `value` if its input is NaN."""

    def __init__(self, head):
        super().__init__()
        self.head = head
        self.register_buffer("value", torch.tensor(torch.nan))  # a buffer, which the twin shares

    def forward(self, pooled):
        output = self.head(pooled.nan_to_num())
        ill = pooled.isnan().any(-1)
        return torch.where(ill[:, None] & torch.tensor([True, False]), self.value, output)


@pytest.fixture
def sick(tiny, tokenizer):
    """A classifier whose outputs for texts with the word "film" are not finite, and its head."""
    model = tiny("bert", num_labels=2)
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[tokenizer.convert_tokens_to_ids("film")] = torch.nan
    model.classifier = Ill(model.classifier)
    return BayesianTextClassificationPipeline(model=model, tokenizer=tokenizer, num_samples=4), model.classifier


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_outputs_that_are_not_finite_raise(sick, value, activation):
    ours, head = sick
    head.value.fill_(float(value))
    texts = ["good", "a film", "bad", "no film"]
    with pytest.raises(
        InputError, match=r"input 1 \(2 of 4 inputs fail\): .* NaN or infinite; the model's weights"
    ) as caught:
        ours(texts, function_to_apply=activation)
    assert caught.value.inputs == (1, 3)
    with pytest.raises(InputError):
        ours(texts, function_to_apply=activation, tolerance=0.5, num_samples=20)
    with pytest.raises(InputError):
        ours("a film", function_to_apply=activation)
    samples = ours.sample_proba(texts, function_to_apply=activation)
    assert np.isnan(samples).any((1, 2)).tolist() == [False, True] * 2
    with pytest.raises(InputError, match=r"input 1 \(2 of 4 inputs fail\): ") as caught:
        ours(texts, function_to_apply=activation, num_samples=0)
    assert caught.value.inputs == (1, 3)
    with pytest.raises(InputError, match=r"^input 0: the model's outputs for it are NaN"):
        ours("a film", function_to_apply=activation, num_samples=0)
    with pytest.raises(InputError, match="NaN or infinite"):
        list(ours(iter(texts), function_to_apply=activation, num_samples=0))
    with pytest.raises(InputError, match=r"input 1025: "):  # numbered across windows
        ours(["good"] * 1025 + ["a film"], function_to_apply=activation, num_samples=1)


@pytest.mark.parametrize("samples", [0, 4])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_rows_with_nan_outputs_get_an_error_and_the_others_a_score(sick, value, samples):
    ours, head = sick
    head.value.fill_(float(value))
    texts = ["good", "a film", "bad", "no film"]
    rows = RowScorer(ours, "", {"num_samples": samples})(texts, [None] * 4)
    assert [row["error"] for row in rows] == [None, "the model's outputs for it are NaN or infinite"] * 2
    for row, expected in zip(rows[::2], ours(texts[::2], num_samples=samples), strict=True):
        assert row["score"] == pytest.approx(expected["score"], abs=1e-5)


def test_calibration_on_nan_outputs_raises(sick):
    with pytest.raises(ValueError, match="NaN or infinite"):
        sick[0].calibrate(["good", "a film"], [0, 1])
    assert sick[0].temperature == 1


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.text())


@tried(100)
@given(texts=st.lists(ANYTHING, max_size=6))
def test_fuzz_each_row_gets_a_score_or_an_error_for_any_cell(texts, small):
    rows = RowScorer(small, "", {"num_samples": 2})(texts, [None] * len(texts))
    assert len(rows) == len(texts)
    for row in rows:
        assert (row["error"] is None) == (row.get("score") is not None)


@tried(200)
@given(
    inputs=st.lists(ANYTHING, max_size=4)
    | ANYTHING
    | st.dictionaries(st.sampled_from(["text", "text_pair", "x"]), ANYTHING)
)
def test_fuzz_the_pipeline_accepts_its_inputs_or_raises_a_short_error(inputs, small):
    try:
        found = small(inputs, num_samples=2)
    except (TypeError, ValueError) as error:
        assert str(error) and len(str(error)) < 500
        return
    for result in found if isinstance(found, list) else [found]:
        assert 0 <= result["score"] <= 1


@pytest.fixture(scope="module")
def small(tiny, tokenizer):
    return BayesianTextClassificationPipeline(model=tiny("bert", num_labels=2), tokenizer=tokenizer)


# Every label's score


def test_all_scores_of_classes_stand_beside_the_winner(bayesian, tiny):
    ours = bayesian(tiny("bert", num_labels=3))
    plain, every = RowScorer(ours, "", {"num_samples": 4}), RowScorer(ours, "", {"num_samples": 4, "scores": "all"})
    names = [f"score_LABEL_{k}" for k in range(3)]
    assert every.added.names == [*plain.added.names[:-1], *names, "error"]
    (before,), (after,) = plain(["A film."], [None]), every(["A film."], [None])
    assert {key: after[key] for key in before} == before
    np.testing.assert_allclose([after[name] for name in names], ours.predict_proba(["A film."], num_samples=4)[0])


def test_an_abstention_is_the_same_with_all_scores(bayesian, tiny):
    ours = bayesian(tiny("bert", num_labels=3))
    for samples in (0, 4):
        options = {"num_samples": samples, "threshold": 1.0}
        (before,) = RowScorer(ours, "", options)(["A film."], [None])
        (after,) = RowScorer(ours, "", {**options, "scores": "all"})(["A film."], [None])
        assert before["label"] is None and {key: after[key] for key in before} == before


@pytest.mark.parametrize("samples", [0, 4])
def test_independent_labels_all_have_a_column(bayesian, tiny, samples):
    ours = bayesian(tiny("bert", num_labels=3, problem_type="multi_label_classification"))
    scorer = RowScorer(ours, "p_", {"num_samples": samples})
    (row,) = scorer(["A film."], [None])
    assert set(scorer.added.names) == set(row)
    p = ours.predict_proba(["A film."], num_samples=samples)[0]
    np.testing.assert_allclose([row[f"p_score_LABEL_{k}"] for k in range(3)], p, rtol=1e-6)
    assert "p_label" not in row and ("p_standard_error_LABEL_0" in row) == bool(samples)
    # LABEL_2 has no threshold and is never accepted.
    limits = {"LABEL_0": float(p[0]) - 1e-4, "LABEL_1": 1.0}
    (row,) = RowScorer(ours, "", {"num_samples": samples, "threshold": limits})(["A film."], [None])
    assert row["predicted_labels"] == "LABEL_0"
    (row,) = RowScorer(ours, "", {"num_samples": samples, "scores": "top"})(["A film."], [None])
    assert row["label"] == f"LABEL_{p.argmax()}"


@pytest.mark.parametrize("scores", ["top", "all"])
@pytest.mark.parametrize("labels", [False, True])
def test_rows_without_a_label_are_counted(bayesian, tiny, labels, scores):
    ours = bayesian(tiny("bert", num_labels=3, problem_type="multi_label_classification" if labels else None))
    texts = ["A film.", "Another film, and a longer one.", "", "No.", "Yes!"]
    errors = [None, None, "the text is empty", None, None]
    best = ours.predict_proba([text for text in texts if text], num_samples=0).max(1)
    limit = float(np.sort(best)[1:3].mean())  # two of the four texts are below
    threshold = dict.fromkeys(ours.model.config.id2label.values(), limit) if labels else limit
    scorer = RowScorer(ours, "p_", {"num_samples": 0, "threshold": threshold, "scores": scores})
    assert scorer.abstained(scorer(texts, errors)) == 2
    open_ = RowScorer(ours, "p_", {"num_samples": 0, "scores": scores})
    assert open_.threshold is None and open_.abstained(open_(texts, errors)) == 0


@pytest.mark.parametrize("samples", [0, 4])
@pytest.mark.parametrize("scores", ["top", "all"])
@pytest.mark.parametrize("labels", [False, True])
def test_novelty_has_its_columns(bayesian, tiny, labels, scores, samples):
    ours = bayesian(tiny("bert", num_labels=3, problem_type="multi_label_classification" if labels else None))
    ours.learn_scope([f"film {i} was {how}" for i in range(30) for how in ("good", "bad")])
    options = {"num_samples": samples, "scores": scores}
    scorer = RowScorer(ours, "", {**options, "novelty_level": 0.1})
    texts, done = ["film 3 was good", "0 1 2 3 4 5 6 7 8 9 . . . ! ! !", ""], []
    rows = scorer(texts, [None, None, "the text is empty"], done.append)
    assert sum(done) == pytest.approx(2)
    assert set(scorer.added.names) == set(rows[0]) == set(rows[1]) and rows[2] == {"error": "the text is empty"}
    expected = ours(texts[:2], num_samples=0)
    assert [row["novelty_p_value"] for row in rows[:2]] == [answer["novelty_p_value"] for answer in expected]
    assert [row["abstained"] for row in rows[:2]] == [False, True] and "unlike" in rows[1]["reason"]
    assert scorer.abstained(rows) == 1
    plain = RowScorer(ours, "", options)
    assert set(scorer.added.names) - set(plain.added.names) <= {"abstained", "reason", "candidate"}
    assert "novelty" in plain.added.names and not plain.may_abstain


@pytest.mark.parametrize("samples", [0, 4])
@pytest.mark.parametrize("scores", ["top", "all"])
@pytest.mark.parametrize("labels", [False, True])
def test_prediction_sets_are_one_cell(bayesian, tiny, labels, scores, samples):
    ours = bayesian(tiny("bert", num_labels=3, problem_type="multi_label_classification" if labels else None))
    texts = [f"film {i} was {how}" for i in range(15) for how in ("good", "bad")]
    targets = np.eye(3, dtype=int)[np.arange(30) % 3] if labels else np.arange(30) % 3
    ours.conformalize(texts, targets, coverage=0.8, num_samples=samples)
    scorer = RowScorer(ours, "p_", {"num_samples": samples, "scores": scores})
    assert scorer.added.names[-2:] == ["p_prediction_set", "p_error"]
    rows = scorer([*texts[:4], ""], [None] * 4 + ["the text is empty"])
    assert set(scorer.added.names) == set(rows[0]) and set(rows[-1]) == {"p_error"}
    for row, answer in zip(rows, ours(texts[:4], num_samples=samples), strict=False):
        assert row["p_prediction_set"] == ",".join(entry["label"] for entry in answer["prediction_set"])
    none = RowScorer(ours, "p_", {"num_samples": samples, "scores": scores, "coverage": None})
    assert "p_prediction_set" not in none.added.names and "p_prediction_set" not in none(texts[:1], [None])[0]
    with pytest.warns(UserWarning, match="results have no prediction sets"):
        other = RowScorer(ours, "p_", {"num_samples": 5, "scores": scores})
    assert "p_prediction_set" not in other.added.names


def test_unknown_scores_raise(classifier):
    with pytest.raises(ValueError, match="scores='some'; it must be 'top' or 'all'"):
        RowScorer(classifier, "", {"scores": "some"})
