"""Commands at other dropout rates than the model's own."""

import json

import commands
import numpy as np
import pytest
from bayesian_text_classification import load
from commands import refused
from tables import read, write

pytestmark = pytest.mark.usefixtures("loud_libraries")
TEXTS = [f"{word} film, number {i}" for i in range(10) for word in ("a good", "a bad", "an odd")]


@pytest.fixture(scope="module")
def folder(tiny, saved_to, tmp_path_factory):
    """A model without dropout, one with it, texts, and labels of which the first model gets three in four right."""
    folder = tmp_path_factory.mktemp("dropout")
    models = {"still": tiny("llama", num_labels=2, attention_dropout=0.0, pad_token_id=0), "own": tiny("bert")}
    for name, model in models.items():
        saved_to(folder / name, model)
    answers = load(folder / "still").predict_proba(TEXTS, num_samples=0).argmax(1)
    rows = [(text, int(answer) ^ (i % 4 == 0)) for i, (text, answer) in enumerate(zip(TEXTS, answers, strict=True))]
    write(folder / "labeled.csv", ["text", "label"], rows)
    write(folder / "texts.csv", ["text"], [[text] for text in TEXTS])
    return folder


def test_predict_and_rank_sample_a_model_without_dropout(folder, tmp_path):
    here = ["--model", folder / "still", "--input", folder / "texts.csv", "--num-samples", 4, "--dropout", 0.1]
    assert commands.asked("predict", *here, "--output", tmp_path / "a.csv").exit_code == 0
    expected = load(folder / "still", dropout=0.1)(TEXTS, num_samples=4)
    scores = [float(row["score"]) for row in read(tmp_path / "a.csv")]
    np.testing.assert_allclose(scores, [one["score"] for one in expected], rtol=0, atol=1e-6)
    assert commands.asked("rank", *here, "--output", tmp_path / "b.csv").exit_code == 0
    assert len(read(tmp_path / "b.csv")) == len(TEXTS)


def test_calibrate_chooses_the_dropout(folder, tmp_path):
    data = ["--model", folder / "still", "--dataset", folder / "labeled.csv", "--num-samples", 4]
    done = commands.asked("calibrate", *data, "--dropout", "auto", "--output", tmp_path / "chosen")
    assert done.exit_code == 0, done
    chosen, expected = load(tmp_path / "chosen"), load(folder / "still", num_samples=4)
    labels = [int(row["label"]) for row in read(folder / "labeled.csv")]
    expected.calibrate(TEXTS, labels, dropout="auto")
    assert chosen.sampling == expected.sampling and chosen.calibration == expected.calibration
    done = commands.asked("calibrate", *data, "--dropout", 0.2, "--output", tmp_path / "fixed")
    assert done.exit_code == 0 and load(tmp_path / "fixed").sampling.dropout == 0.2


@pytest.mark.parametrize("dropout", ["auto", "0.1"])
def test_evaluate_measures_it(folder, tmp_path, dropout):
    data = ["--model", folder / "still", "--dataset", folder / "labeled.csv", "--num-samples", 2]
    done = commands.asked("evaluate", *data, "--dropout", dropout, "--output", tmp_path / "report")
    assert done.exit_code == 0, done
    assert "which the model was not trained with" in done.stdout
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["settings"]["dropout"] in ((0.02, 0.05, 0.1, 0.2) if dropout == "auto" else (0.1,))


REFUSED = {
    "auto is for calibrate and evaluate": ["predict", "--dropout", "auto", "a text"],
    "'1.5'; it must be a rate above 0": ["predict", "--dropout", "1.5", "a text"],
    "'0'; it must be a rate above 0": ["predict", "--dropout", "0", "a text"],
}


@pytest.mark.parametrize("message", REFUSED)
def test_other_values_are_usage_errors(message):
    done = commands.asked(*REFUSED[message])
    assert done.exit_code == 2 and message in " ".join(done.stderr.split())


def test_rates_that_do_not_fit_the_model_are_refused_in_one_line(folder, tmp_path):
    output = ["--output", tmp_path / "a.csv", "--input", folder / "texts.csv"]
    line = refused(commands.asked("rank", "--model", folder / "still", "--dropout", "2x", *output))
    assert "has no active dropout" in line and "--dropout 0.1" in line
    line = refused(commands.asked("rank", "--model", folder / "own", "--dropout", "0.2", *output))
    assert "all of" in line and "no --dropout" in line
    push = ["push", "pipeline", "me/mine", "--dry-run", "--model", folder / "own", "--dropout", "0.2"]
    assert "would fail at every call" in refused(commands.asked(*push))
