"""Commands on several models as one."""

import json

import commands
import numpy as np
import pytest
from bayesian_text_classification import load
from bayesian_text_classification.report import recipe as recipe_module
from commands import refused
from tables import read, write

pytestmark = pytest.mark.usefixtures("loud_libraries")
TEXTS = [f"{word} film, number {i}" for i in range(10) for word in ("a good", "a bad", "an odd")]


@pytest.fixture(scope="module")
def folder(tiny, saved_to, tmp_path_factory):
    """Two models and texts."""
    folder = tmp_path_factory.mktemp("ensemble")
    for name, kind in (("one", "bert"), ("two", "distilbert")):
        saved_to(folder / name, tiny(kind, num_labels=2))
    answers = load([folder / "one", folder / "two"]).predict_proba(TEXTS).argmax(1)
    rows = [(text, int(answer) ^ (i % 4 == 0)) for i, (text, answer) in enumerate(zip(TEXTS, answers, strict=True))]
    write(folder / "labeled.csv", ["text", "label"], rows)
    write(folder / "texts.csv", ["text"], [[text] for text in TEXTS])
    return folder


@pytest.fixture
def both(folder):
    return ["--model", folder / "one", "--ensemble", folder / "two"]


def test_predict_averages_the_models(folder, both, tmp_path):
    files = ["--input", folder / "texts.csv", "--output", tmp_path / "a.csv"]
    assert commands.asked("predict", *both, *files).exit_code == 0
    expected = np.mean([load(folder / name).predict_proba(TEXTS, num_samples=0) for name in ("one", "two")], axis=0)
    scores = [float(row["score"]) for row in read(tmp_path / "a.csv")]
    np.testing.assert_allclose(scores, expected.max(1), rtol=0, atol=1e-6)


def test_evaluate_and_calibrate_measure_and_fit_the_ensemble(folder, both, tmp_path):
    data = ["--dataset", folder / "labeled.csv"]
    done = commands.asked("evaluate", *both, *data, "--num-samples", 2, "--output", tmp_path / "report")
    assert done.exit_code == 0 and "Ensemble + temperature" in done.stdout, done
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["settings"]["ensemble"] == [str(folder / "two")] and report["arms"]["ensemble"]["passes"] == 2
    done = commands.asked("calibrate", *both, *data, "--output", tmp_path / "calibrated")
    assert done.exit_code == 0, done
    fitted = load(tmp_path / "calibrated")
    assert len(fitted.members) == 2
    temperature = report["arms"]["ensemble_temperature"]["temperature"]
    assert fitted.calibration["ensemble"].temperature == pytest.approx(temperature, rel=1e-4)


def test_push_publishes_the_models(both):
    done = commands.asked("push", "pipeline", "me/mine", "--dry-run", *both)
    assert done.exit_code == 0 and "members/1/config.json" in done.stdout, done


def test_a_report_is_for_the_models_that_it_names(folder, both, tmp_path):
    data = ["--dataset", folder / "labeled.csv", "--num-samples", 0, "--output", tmp_path / "report"]
    assert commands.asked("evaluate", *both, *data).exit_code == 0
    push = ["push", "pipeline", "me/mine", "--dry-run", "--report", tmp_path / "report"]
    assert commands.asked(*push, *both).exit_code == 0
    line = refused(commands.asked(*push, "--model", folder / "two"))
    assert f"is the report of another model, an ensemble, {folder / 'one'}, {folder / 'two'}; evaluate" in line


def test_a_first_model_with_saved_options_is_loaded_as_it_was_measured(folder, tmp_path, monkeypatch):
    """Alone, it would bring its calibration and its dropout."""
    first, seen = load(folder / "one", dropout="2x"), []
    first.calibrate(TEXTS, [i % 2 for i in range(len(TEXTS))], num_samples=0)
    first.save_pretrained(tmp_path / "first")
    monkeypatch.setattr(recipe_module, "recipe", lambda comparison, sources, limit: seen.append(sources))
    for name in (tmp_path / "first", folder / "one"):
        models = ["--model", name, "--ensemble", folder / "two", "--dataset", folder / "labeled.csv"]
        done = commands.asked("evaluate", *models, "--num-samples", 0, "--output", tmp_path / "report")
        assert done.exit_code == 0, done
    assert [sources.together for sources in seen] == [True, False]


@pytest.mark.parametrize("command", [["predict", "a text"], ["rank", "--input", __file__, "--output", "b.csv"]])
def test_the_first_model_must_be_named(command):
    line = refused(commands.asked(*command, "--ensemble", "two"))
    assert line == "--ensemble needs --model, the first model of the ensemble"
    line = refused(commands.asked(*command, "--model", "one", "--ensemble", "two", "--ensemble", "two"))
    assert line == "the ensemble has two twice; name each model once"
    done = commands.asked(*command, "--model", "one", "--ensemble", " ")
    assert done.exit_code == 2 and "it is empty" in " ".join(done.stderr.split())


def test_an_ensemble_is_ranked_with_its_own_number_of_samples(tiny, tokenizer, folder, tmp_path, bayesian):
    bayesian([tiny("bert"), tiny("distilbert")]).save_pretrained(tmp_path / "both")
    files = ["--input", folder / "texts.csv", "--output", tmp_path / "ranked.csv"]
    assert commands.asked("rank", "--model", tmp_path / "both", *files).exit_code == 0
    more = ["--num-samples", 4, "--posterior", "ensemble+dropout"]
    assert commands.asked("rank", "--model", tmp_path / "both", *more, *files).exit_code == 0
    line = refused(commands.asked("rank", "--model", tmp_path / "both", "--num-samples", 5, *files))
    assert line.startswith("--num-samples 5; an ensemble of 2 models has 2 samples: pass --num-samples 2")
