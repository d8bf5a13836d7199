"""`evaluate --student`: a second model, as its arms, in files and as what to do next."""

import json
import shlex

import commands
import numpy as np
import pytest
from bayesian_text_classification import load
from bayesian_text_classification.pipeline.distillation import Closeness, Distillation
from bayesian_text_classification.pipeline.inputs import text_hash, text_key
from commands import refused
from tables import write
from transformers import pipeline

pytestmark = pytest.mark.usefixtures("loud_libraries")
WORDS = ["a good", "a bad", "an odd", "no", "some", "the best"]
TEXTS = [f"{word} film, number {i}" for i in range(40) for word in WORDS]
NEAR = Closeness(kl=0.01, rms=0.02, agreement=0.99)


@pytest.fixture(scope="module")
def folder(tiny, saved_to, tmp_path_factory):
    """A model that is wrong, a student that is right four times out of five, and texts with labels."""
    folder = tmp_path_factory.mktemp("student")
    for name, kind in (("model", "bert"), ("plain", "distilbert")):
        saved_to(folder / name, tiny(kind, num_labels=2))
    student = load(folder / "plain", num_samples=0)
    # As `distill` does.
    student._distillation = Distillation("weights", "teacher", {"num_samples": 20}, False, 3, 1, {}, NEAR, NEAR)
    student._distilled_on = frozenset(text_hash(text_key(text)) for text in ["other", "texts", TEXTS[7]])
    student.save_pretrained(folder / "student")
    answers = student.predict_proba(TEXTS, num_samples=0).argmax(1)
    rows = [(text, int(answer) ^ (i % 5 == 0)) for i, (text, answer) in enumerate(zip(TEXTS, answers, strict=True))]
    write(folder / "all.csv", ["text", "label"], rows)
    write(folder / "labeled.csv", ["text", "label"], [row for row in rows if row[0] != TEXTS[7]])
    write(folder / "my-texts.csv", ["text"], [[text] for text in TEXTS[:5]])
    return folder


@pytest.fixture
def both(folder):
    return ["evaluate", "--model", folder / "model", "--student", folder / "student"]


def test_the_student_is_measured_and_its_command_does_what_the_report_says(folder, both, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = ["--num-samples", 2, "--arms", "bayesian", "--coverage", 0.8, "--ood-dataset", folder / "my-texts.csv"]
    done = commands.asked(*both, "--dataset", folder / "labeled.csv", *more, "--output", "report")
    assert done.exit_code == 0 and "Student + temperature" in done.stdout, done
    lines = done.stdout.splitlines()
    (headline,) = (line for line in lines if line.startswith("Recommended: "))
    assert headline.startswith("Recommended: the student") and "1 pass per text as before, of another model" in headline
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["schema_version"] == 1 and report["settings"]["student"] == str(folder / "student")
    first = ["frequentist", "frequentist_temperature", "student", "student_temperature"]
    assert list(report["arms"]) == [*first, "bayesian", "bayesian_temperature"]
    assert report["arms"]["student"]["passes"] == 1 and report["recommended"] in ("student", "student_temperature")
    assert report["student_minus_sampling"]["nll"]["verdict"] == "better"
    assert {one["arm"] for one in report["out_of_scope"]} == {"frequentist", "student", "bayesian"}
    assert "student_temperature" in {one["arm"] for one in report["prediction_sets"]["arms"]}
    p = np.array([one["score"] for one in pipeline("text-classification", model=str(folder / "plain"))(TEXTS)])
    nll = -np.log(np.where(np.arange(len(TEXTS)) % 5 == 0, 1 - p, p))  # the labels are its answers, but every fifth
    expected = np.delete(nll, 7).mean()
    assert report["arms"]["student"]["nll"]["value"] == pytest.approx(expected, abs=1e-5)
    (tmp_path / "my-texts.csv").symlink_to(folder / "my-texts.csv")
    for line in report["recipe"]["command"].splitlines():
        assert str(folder / "model") not in line
        assert commands.asked(*shlex.split(line)[1:]).exit_code == 0
    header, *rows = (tmp_path / "classified.csv").read_text().splitlines()
    assert len(rows) == 5 and "prediction_set" in header


def test_texts_that_the_student_was_distilled_on_are_refused(folder, both, tmp_path):
    line = refused(commands.asked(*both, "--dataset", folder / "all.csv", "--output", tmp_path / "report"))
    assert line.startswith(
        "1 of 240 measured texts are among those that the student was distilled on, first row 8 (the"
    )
    assert "; measure on other texts, or leave these out" in line
    assert not (tmp_path / "report").exists()


def test_quick_and_no_arms_keep_the_student(folder, both, tmp_path):
    data = ["--dataset", folder / "labeled.csv", "--output", tmp_path / "report"]
    done = commands.asked(*both, *data, "--quick", "--num-samples", 2)
    arms = json.loads((tmp_path / "report" / "report.json").read_text())["arms"]
    assert done.exit_code == 0 and {"student_temperature", "bayesian_temperature"} <= set(arms) and "baal" not in arms
    done = commands.asked(*both, *data, "--num-samples", 0)
    arms = json.loads((tmp_path / "report" / "report.json").read_text())["arms"]
    assert done.exit_code == 0 and list(arms)[2:] == ["student", "student_temperature"]


@pytest.mark.parametrize("labels", [("bad", "good"), (0, 1)])
def test_labels_in_another_order_are_read_by_name_or_give_no_code(labels, folder, tmp_path, tiny, saved_to):
    """An id is another label to the student, so its temperature would be fitted to wrong labels."""
    for name, kind, order in (("model", "bert", ["bad", "good"]), ("student", "distilbert", ["good", "bad"])):
        own = {"id2label": dict(enumerate(order)), "label2id": {label: i for i, label in enumerate(order)}}
        saved_to(tmp_path / name, tiny(kind, num_labels=2, **own))
    answers = load(tmp_path / "student").predict_proba(TEXTS, num_samples=0).argmax(1)
    ids = [int(answer) ^ (i % 5 != 0) for i, answer in enumerate(answers)]  # of the model
    write(tmp_path / "labeled.csv", ["text", "label"], [(text, labels[i]) for text, i in zip(TEXTS, ids, strict=True)])
    both = ["--model", tmp_path / "model", "--student", tmp_path / "student", "--dataset", tmp_path / "labeled.csv"]
    done = commands.asked("evaluate", *both, "--num-samples", 0, "--output", tmp_path / "report")
    assert done.exit_code == 0 and "Recommended: the student" in done.stdout, done
    named = labels[0] == "bad"
    assert ("In Python:" in done.stdout) == named
    assert ("Write the names of the labels into the file." in done.stderr) != named
    if named:
        report, space = json.loads((tmp_path / "report" / "report.json").read_text()), {}
        exec(report["recipe"]["python"].replace('"calibrated"', repr(str(tmp_path / "calibrated"))), space)
        assert report["recommended"] == "student_temperature"
        expected = report["arms"]["student_temperature"]["temperature"]
        assert space["student"].calibration["ordinary"].temperature == pytest.approx(expected, rel=1e-3)


def test_students_that_are_no_other_model_of_the_same_labels_are_refused(folder, tiny, saved_to, tmp_path):
    saved_to(tmp_path / "three", tiny("bert", num_labels=3))
    data = ["--dataset", folder / "labeled.csv", "--output", tmp_path / "report"]
    model = ["evaluate", "--model", folder / "model"]
    line = refused(commands.asked(*model, "--student", folder / "model", *data))
    assert line == f"--student {folder / 'model'} is --model itself; pass another model"
    line = refused(commands.asked(*model, "--student", tmp_path / "three", *data))
    assert line.startswith("the student has the labels ['LABEL_0', 'LABEL_1', 'LABEL_2'], and the classifier has [")
    line = refused(commands.asked(*model, "--student", tmp_path / "nothing", *data))
    assert "no such folder" in line
    done = commands.asked(*model, "--student", " ", *data)
    assert done.exit_code == 2 and "it is empty" in " ".join(done.stderr.split())
    done = commands.asked("evaluate", "--help")
    assert "must not be among those" in " ".join(done.stdout.replace("│", " ").split())
