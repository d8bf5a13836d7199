"""The card of the results, read back by the Hub's own client."""

import pytest
from bayesian_text_classification.evaluation import compare, verdict
from bayesian_text_classification.loading.labeled_texts import LabeledTexts
from bayesian_text_classification.report import ReportSettings
from bayesian_text_classification.report.card import model_card
from huggingface_hub import ModelCard

pytestmark = pytest.mark.usefixtures("few_resamples")

TEXTS = ["a wonderful film", "dull and far too long", "not as bad as they say", "I want my money back", "fine"] * 4
DATA = LabeledTexts("texts", TEXTS, [1, 0, 1, 0, 1] * 4, [])


@pytest.fixture(scope="module")
def comparison(classifier):
    return compare(classifier, DATA, num_samples=10)


def test_the_hub_client_reads_the_results(comparison):
    settings = ReportSettings("me/mine", "nyu-mll/glue", config="sst2", split="validation")
    card = ModelCard(model_card(comparison, verdict(comparison), settings))
    found = {result.metric_name: result for result in card.data.eval_results}
    assert len(found) == 16
    ece = found["ECE, Bayesian, 10 samples"]
    assert ece.metric_value == pytest.approx(comparison.arm("bayesian").estimates["ece"].value, abs=1e-6)
    assert (ece.metric_type, ece.task_type) == ("ece", "text-classification")
    assert (ece.dataset_type, ece.dataset_config, ece.dataset_split) == ("nyu-mll/glue", "sst2", "validation")
    assert found["accuracy, Frequentist"].metric_value == comparison.arm("frequentist").estimates["accuracy"].value
    assert card.data.model_name == "me/mine"
    assert "Measured on 20 texts (5 distinct) of nyu-mll/glue with 10 samples" in card.text
    assert card.text.count("\n| ") == 6
    (row,) = [line for line in card.text.splitlines() if line.startswith("| Bayesian | ")]
    assert "nan" not in card.text and row.count("(") == 1  # of twenty texts accuracy alone has an interval


def test_a_student_is_in_the_table_and_not_in_the_metadata_of_the_model(classifier):
    """The metadata is about the model of the card."""
    found = compare(classifier, DATA, num_samples=0, student=classifier)
    card = ModelCard(model_card(found, verdict(found), ReportSettings("me/mine", "texts")))
    assert card.text.count("\n| Student") == 2 and "The student is another model, with one ordinary" in card.text
    assert len(card.data.eval_results) == 8
    assert not any("Student" in result.metric_name for result in card.data.eval_results)


def test_the_card_contains_no_local_paths(comparison, tmp_path):
    (tmp_path / "mine").mkdir()
    settings = ReportSettings(str(tmp_path / "mine"), str(tmp_path / "gone" / "mine.csv"))
    card = model_card(comparison, verdict(comparison), settings)
    assert str(tmp_path) not in card
    assert "mine.csv" in card
