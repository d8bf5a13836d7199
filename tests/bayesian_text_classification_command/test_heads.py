"""Commands on models of independent labels, with one output, and of numbers; and outputs that exist already."""

import json
import re

import commands
import numpy as np
import pytest
import tables
from bayesian_text_classification import BayesianTextClassificationPipeline, load
from bayesian_text_classification.loading.labels import label_lists
from bayesian_text_classification.loading.problem import labeled_texts_for
from bayesian_text_classification.pipeline.targets import label_matrix
from bayesian_text_classification.report import figures, write
from commands import refused

pytestmark = pytest.mark.usefixtures("loud_libraries")
ROWS = [(f"text number {i}", "joy,anger" if i % 3 == 0 else "" if i % 3 == 1 else "fear") for i in range(20)]


@pytest.fixture
def folders(tiny, tokenizer, saved_to, tmp_path):
    """Folders of models, by name, next to a csv with labels for each."""
    names = {0: "joy", 1: "anger", 2: "fear"}
    named = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    models = {
        "several": tiny("bert", problem_type="multi_label_classification", **named),
        "alone": tiny("bert", num_labels=1),
        "number": tiny("bert", num_labels=1, problem_type="regression"),
        "one": tiny("bert", num_labels=3),
    }
    one = BayesianTextClassificationPipeline(model=models["one"], tokenizer=tokenizer)
    best = one.predict_proba([text for text, _ in ROWS], num_samples=0).argmax(1)
    labels = {
        "several": [label for _, label in ROWS],
        "one": [int(label + (i % 3 == 0)) % 3 for i, label in enumerate(best)],  # two of three answers are right
        "alone": [i % 2 for i in range(20)],
        "number": [i % 2 for i in range(20)],
    }
    for name, model in models.items():
        saved_to(tmp_path / name, model)
        rows = [(text, label) for (text, _), label in zip(ROWS, labels[name], strict=True)]
        tables.write(tmp_path / f"{name}.csv", ["text", "label"], rows)
    return tmp_path


def lines(done):
    return done.stdout.splitlines()


def test_independent_labels_from_calibration_to_ranking(folders):
    model, data = folders / "several", folders / "several.csv"
    done = commands.asked(
        "calibrate", "--model", model, "--dataset", data, "--num-samples", 4, "--output", folders / "c"
    )
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("sampled scores: Platt scaling of 3 labels with slopes from ")
    ours = load(folders / "c")
    p = ours.predict_proba([text for text, _ in ROWS])

    limits = ("--threshold", f"joy={sorted(p[:, 0])[10]:.6f}", "--threshold", "fear=1")
    done = commands.asked(
        "predict", "--model", folders / "c", "--input", data, "--output", folders / "out.csv", *limits
    )
    assert done.exit_code == 0, done.stderr
    found = tables.read(folders / "out.csv")
    for row, scores in zip(found, p, strict=True):
        assert [float(row[f"score_{name}"]) for name in ("joy", "anger", "fear")] == pytest.approx(scores, abs=1e-6)
    assert [row["predicted_labels"] for row in found].count("joy") in range(9, 12)
    assert {row["predicted_labels"] for row in found} == {"", "joy"}

    done = commands.asked("predict", "--model", folders / "c", "a text", "another", *limits)
    assert done.exit_code == 0 and done.stdout.count("joy") == done.stdout.count("anger") == 2
    for over in ("mean", "max"):
        done = commands.asked("rank", "--model", model, "--input", data, "--output", folders / f"{over}.csv",
                              "--num-samples", 4, "--over-labels", over)  # fmt: skip
        ranks = [int(row["rank"]) for row in tables.read(folders / f"{over}.csv")]
        assert done.exit_code == 0 and ranks == [*range(1, 21)]


def test_one_output_is_calibrated_and_ranked(folders):
    done = commands.asked("calibrate", "--model", folders / "alone", "--dataset", folders / "alone.csv",
                          "--num-samples", 0, "--output", folders / "c")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("ordinary scores (num_samples=0): Platt scaling with slope ")
    done = commands.asked("predict", "--model", folders / "c", "a text", "--threshold", 0.999)
    assert done.exit_code == 0 and "True" in done.stdout  # abstained


def test_biases_are_a_method_of_calibrate(folders):
    done = commands.asked("calibrate", "--model", folders / "one", "--dataset", folders / "one.csv", "--num-samples", 0,
                          "--method", "bias-corrected", "--output", folders / "c")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert re.fullmatch(r"ordinary scores \(num_samples=0\): temperature [0-9.]+ and a bias per class", lines(done)[0])


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        ("number", ("evaluate",), "the model predicts numbers (problem_type 'regression'), not labels; use predict"),
        ("number", ("calibrate", "--output", "new"), "not labels; use predict, which takes every model"),
        ("several", ("calibrate", "--output", "new", "--method", "temperature"), "--method 'platt'"),
    ],
)
def test_what_a_model_cannot_do_is_said_first(model, arguments, words, folders, monkeypatch):
    monkeypatch.chdir(folders)
    done = commands.asked(*arguments, "--model", folders / model, "--dataset", folders / f"{model}.csv")
    assert words in refused(done)
    assert not (folders / "new").exists() and not (folders / "bayesian-report").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--threshold", 0.5), "pass a threshold for each, such as --threshold joy=0.8"),
        (("--threshold", "hate=0.5"), "threshold has 'hate', which is not a label of the model"),
        (("--threshold", "joy=.5", "--threshold", "joy=.6"), "--threshold names joy more than once"),
        (("--threshold", "joy=nan"), "it must be one number from 0 to 1, or LABEL=NUMBER for each label"),
        (("--threshold", "joy=1.5"), "it must be one number from 0 to 1, or LABEL=NUMBER for each label"),
        (("--threshold", "joy=high"), "it must be one number from 0 to 1, or LABEL=NUMBER for each label"),
        (("--threshold", "joy=0.5", "--threshold", 0.5), "it must be one number from 0 to 1, or LABEL=NUMBER"),
    ],
)
def test_thresholds_that_cannot_work_are_refused(arguments, words, folders):
    assert words in refused(commands.asked("predict", "--model", folders / "several", "a text", *arguments))


@pytest.mark.parametrize("samples", [0, 4])
@pytest.mark.parametrize("model", ["several", "alone"])
def test_evaluate_reports_on_labels_that_may_apply(model, samples, folders, monkeypatch):
    if samples == 0:
        monkeypatch.setattr(write, "pictures", figures.pictures)
    common = ("--model", folders / model, "--dataset", folders / f"{model}.csv", "--num-samples", samples)
    done = commands.asked("evaluate", *common, "--output", folders / "report")
    assert done.exit_code == 0, done.stderr
    assert "Frequentist + Platt" in done.stdout and ("BaaL" in done.stdout) == (samples > 0)
    found = json.loads((folders / "report" / "report.json").read_text())
    assert list(found["arms"]) == ["frequentist", "frequentist_platt"] + (
        ["baal", "bayesian", "bayesian_platt"] if samples else []
    )
    ours = load(folders / model)
    data = labeled_texts_for(ours, folders / f"{model}.csv")
    ours.calibrate(data.texts, data.labels, num_samples=samples)
    way = "dropout" if samples else "ordinary"
    scaling = found["arms"]["bayesian_platt" if samples else "frequentist_platt"]["scaling"]
    assert scaling["slopes"] == pytest.approx(ours.calibration[way].slopes, rel=1e-4)
    p = ours.uncalibrated().predict_proba(data.texts, num_samples=samples)
    y = label_matrix(data.labels, ours.model.config)
    own = found["arms"]["bayesian" if samples else "frequentist"]
    assert own["brier"]["value"] == pytest.approx(((p - y) ** 2).mean(), rel=1e-5)
    assert own["accuracy"]["value"] == pytest.approx(((p > 0.5) == y).mean())
    names = list(ours.model.config.id2label.values())
    assert list(own["labels"]) == names
    each = [own["labels"][name]["nll"]["value"] for name in names]
    assert np.mean(each) == pytest.approx(own["nll"]["value"])
    page = (folders / "report" / "report.html").read_text()
    assert ("ECE of each label" in page) == (model == "several" and samples == 0)
    assert "temperature" not in page.split("<h2>Settings")[0]


def test_existing_output_is_kept_unless_asked(folders):
    common = ("predict", "--model", folders / "one", "--input", folders / "one.csv", "--num-samples", 1, "--output")
    assert commands.asked(*common, folders / "out.csv").exit_code == 0
    before = (folders / "out.csv").read_bytes()
    (folders / "out.csv").write_text("mine")
    done = commands.asked(*common, folders / "out.csv")
    assert "out.csv already exists; pass --force to replace it" in refused(done)
    # Without an interrupted run, there is nothing to resume, and the file is somebody's.
    assert "already exists" in refused(commands.asked(*common, folders / "out.csv", "--resume"))
    assert (folders / "out.csv").read_text() == "mine"
    assert commands.asked(*common, folders / "out.csv", "--force").exit_code == 0
    assert (folders / "out.csv").read_bytes() == before


def test_a_report_goes_to_a_folder_of_its_own(folders):
    (folders / "kept").mkdir()
    (folders / "kept" / "mine.txt").write_text("mine")
    done = commands.asked("evaluate", "--model", folders / "one", "--dataset", folders / "one.csv", "--output",
                          folders / "kept")  # fmt: skip
    assert "holds other files; choose a new folder, or that of an earlier report" in refused(done)


def test_names_with_commas_and_other_traps_keep_their_decisions(tiny, saved_to, tmp_path):
    names = {0: "std", 1: "fear, or worry", 2: "a=b"}
    labels = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    saved_to(tmp_path / "m", tiny("bert", problem_type="multi_label_classification", **labels))
    limits = [word for name in names.values() for word in ("--threshold", f"{name}=0")]
    done = commands.asked("predict", "--model", tmp_path / "m", "a text", "--num-samples", 0, *limits)
    assert done.exit_code == 0 and all(name in done.stdout for name in names.values())
    assert done.stdout.count("yes") == 3
    (tmp_path / "in.txt").write_text("a text\n")
    common = ("predict", "--model", tmp_path / "m", "--input", tmp_path / "in.txt", "--num-samples", 0, "--output")
    assert commands.asked(*common, tmp_path / "out.csv", *limits).exit_code == 0
    (row,) = tables.read(tmp_path / "out.csv")
    assert label_lists([row["predicted_labels"]], names, "mine") == [[0, 1, 2]]
    said = refused(commands.asked("predict", "--model", tmp_path / "m", "a text", "--threshold", 0.5))
    assert "such as --threshold std=0.8" in said


def test_the_top_label_shows_whether_it_is_accepted(folders):
    for limit, word in ((0, "True"), (1, "False")):
        limits = [each for name in ("joy", "anger", "fear") for each in ("--threshold", f"{name}={limit}")]
        done = commands.asked("predict", "--model", folders / "several", "a text", "--scores", "top", *limits)
        assert done.exit_code == 0 and "accepted" in done.stdout and word in done.stdout
