"""Prediction sets on the command line: `calibrate`, `predict` and `evaluate`."""

import json

import pytest
from bayesian_text_classification import load, load_labeled_texts
from commands import asked, refused
from tables import read, write

pytestmark = pytest.mark.usefixtures("loud_libraries")


def on(folder):
    """The options for the tiny model and the labeled texts."""
    return ["--model", folder / "tiny", "--dataset", folder / "labeled.csv"]


@pytest.fixture(scope="module")
def folder(tiny_model, tmp_path_factory):
    """160 reviews with labels, and a tiny model without and with sets for ordinary scores."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "tiny").symlink_to(tiny_model)
    data = load_labeled_texts("reviews", {0: "NEGATIVE", 1: "POSITIVE"}, max_texts=160)
    names = ["NEGATIVE", "POSITIVE"]
    write(folder / "labeled.csv", ["text", "label"], zip(data.texts, [names[k] for k in data.labels], strict=True))
    common = [*on(folder), "--num-samples", 0, "--output", folder / "model"]
    done = asked("calibrate", *common, "--coverage", 0.9)
    assert done.exit_code == 0, done
    assert "prediction sets with a coverage of 0.9: lac, 80 texts\n" in done.stdout
    return folder


def test_half_of_the_texts_calibrate_and_the_others_fit_the_sets(folder):
    again, ours = load(folder / "model"), load(folder / "tiny", num_samples=0)
    first, second = load_labeled_texts(str(folder / "labeled.csv"), ours.model.config.id2label).halves()
    assert len(first.texts) == len(second.texts) == 80
    ours.calibrate(second.texts, second.labels)
    sets = ours.conformalize(first.texts, first.labels, coverage=0.9)
    assert again.prediction_sets.digest() == sets.digest() and again.coverage == 0.9
    assert again.calibration == ours.calibration


def test_all_texts_fit_the_sets_without_a_calibration(folder, tmp_path):
    common = [*on(folder), "--num-samples", 0, "--output", tmp_path / "a"]
    done = asked("calibrate", *common, "--method", "none", "--coverage", 0.95, "--coverage-by", "class")
    assert done.exit_code == 0 and "0.95: lac by class, 160 texts (2 classes: 2 by their own" in done.stdout
    again = load(tmp_path / "a")
    assert again.prediction_sets.num_texts == 160 and not again.calibration


def test_predict_adds_a_column(folder, tmp_path):
    files = ["--model", folder / "model", "--input", folder / "labeled.csv", "--prefix", "p_"]
    assert asked("predict", *files, "--output", tmp_path / "a.csv").exit_code == 0
    rows, ours = read(tmp_path / "a.csv"), load(folder / "model")
    assert list(rows[0])[-2:] == ["p_prediction_set", "p_error"]
    for row, answer in zip(rows, ours([row["text"] for row in rows]), strict=True):
        assert row["p_prediction_set"] == (",".join(entry["label"] for entry in answer["prediction_set"]) or "[]")
    done = asked("predict", *files, "--output", tmp_path / "b.jsonl", "--coverage", 0.98, "--scores", "all")
    assert done.exit_code == 0
    wide = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    held = sum(row["label"] in row["p_prediction_set"].split(",") for row in wide)
    assert held / len(wide) > 0.95
    shown = asked("predict", "--model", folder / "model", "a good film")
    assert "prediction" in shown.stdout and shown.exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coverage", 1.5], "--coverage 1.5; it must lie between 0 and 1"),
        (["--coverage", 0.99], "--coverage 0.99 needs at least 198 labeled texts, half of them to fit the sets"),
        (
            ["--coverage", 0.995, "--method", "none"],
            "--coverage 0.995 needs at least 199 labeled texts, and the prediction sets have 160; fit them on more "
            "texts with calibrate --coverage, or pass --coverage 0.993",
        ),
        (["--coverage-by", "class"], "--coverage-by and --coverage-score need --coverage"),
        (["--method", "none"], "--method none takes --dataset only with --coverage: nothing else is fitted to labels"),
    ],
)
def test_what_cannot_work_is_refused(folder, options, message, tmp_path):
    common = [*on(folder), "--num-samples", 0, "--output", tmp_path / "a"]
    assert refused(asked("calibrate", *common, *options)).startswith(message)
    assert not (tmp_path / "a").exists()


def test_predict_without_sets_is_refused(folder, tmp_path):
    files = ["--model", folder / "tiny", "--input", folder / "labeled.csv", "--output", tmp_path / "a.csv"]
    assert refused(asked("predict", *files, "--coverage", 0.9)).startswith(
        "--coverage 0.9 needs prediction sets; fit them with calibrate --coverage, or pass no --coverage"
    )


def test_advice_is_a_command(folder, tmp_path):
    plain = [*on(folder), "--method", "none", "--coverage", 0.9, "--num-samples", 0]
    assert asked("calibrate", *plain, "--output", tmp_path / "a").exit_code == 0
    files = ["--model", tmp_path / "a", "--input", folder / "labeled.csv", "--output", tmp_path / "a.csv"]
    assert refused(asked("predict", *files, "--num-samples", 2, "--coverage", 0.9)).endswith(
        "they are for ordinary scores (--num-samples 0); fit them with calibrate --coverage 0.9 --num-samples 2"
    )
    done = asked("calibrate", *plain[:6], "--coverage", 0.9, "--num-samples", 2, "--output", tmp_path / "b")
    assert done.exit_code == 0
    assert asked("predict", "--model", tmp_path / "b", *files[2:], "--coverage", 0.9).exit_code == 0


def test_evaluate_measures_sets(folder, tmp_path):
    data = [*on(folder), "--num-samples", 2, "--arms", "bayesian"]
    done = asked("evaluate", *data, "--coverage", 0.9, "--output", tmp_path / "report")
    assert done.exit_code == 0 and "They are fitted on 80 of the texts and measured on" in done.stdout
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["settings"]["coverage"] == 0.9
    assert [one["arm"] for one in report["prediction_sets"]["arms"]] == [
        "frequentist_temperature",
        "bayesian_temperature",
    ]
    code = report["recipe"]
    assert code is None or "--coverage 0.9" in code["command"]
    few = refused(asked("evaluate", *data, "--coverage", 0.999, "--output", tmp_path / "b"))
    assert few.startswith("--coverage 0.999 needs at least 1,998 distinct texts with a label")
    wrong = refused(asked("evaluate", *data, "--coverage", 95, "--output", tmp_path / "c"))
    assert wrong == "--coverage 95: it must lie between 0 and 1; try 0.95"
