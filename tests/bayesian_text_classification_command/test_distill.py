"""`bayesian-text-classification distill`: from a file of unlabeled texts to a folder that a stock pipeline serves."""

import signal
import subprocess
import sysconfig
import time
import warnings
from pathlib import Path

import pytest
from bayesian_text_classification import load
from bayesian_text_classification.distillation import distill
from commands import asked, refused
from random_texts import random_texts
from transformers import pipeline

COMMAND = str(Path(sysconfig.get_path("scripts")) / "bayesian-text-classification")

pytestmark = [
    pytest.mark.usefixtures("loud_libraries"),
    pytest.mark.filterwarnings("ignore:.*are few for a student"),
    pytest.mark.filterwarnings("ignore:the student is no closer"),
]


@pytest.fixture(scope="module")
def model(tiny, saved_to, tmp_path_factory):
    return saved_to(tmp_path_factory.mktemp("model") / "model", tiny("bert", hidden_dropout_prob=0.3))


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    path.write_text("text\n" + "".join(f"{text} {i}\n" for i, text in enumerate(random_texts(150))))
    return path


@pytest.mark.parametrize("how", ["weights", "head"])
def test_a_file_of_texts_becomes_a_folder_for_a_stock_pipeline(model, texts, tmp_path, how):
    output = tmp_path / "student"
    done = asked("distill", "--model", model, "--input", texts, "--num-samples", 4, "--how", how, "--output", output)
    assert done.exit_code == 0, done.stderr
    chosen = {"weights": "the best epoch", "head": "the penalty"}[how]
    assert done.stderr.startswith(f"150 distinct texts: 120 train, 15 choose {chosen}, 15 measure. ")
    described, written = done.stdout.splitlines()
    student = load(output)
    assert described == str(student.distillation) and written == str(output)
    assert student.distillation.how == how and student.distillation.teacher_scores["num_samples"] == 4
    answers = pipeline("text-classification", model=str(output))(["good film", "dull plot"])
    for one, other in zip(answers, student(["good film", "dull plot"]), strict=True):
        assert one["label"] == other["label"] and one["score"] == pytest.approx(other["score"], abs=1e-6)


def test_warnings_of_a_student_are_shown(model, texts, tmp_path):
    warnings.simplefilter("always", UserWarning)
    training = ("--epochs", "1", "--learning-rate", "10", "--num-samples", "2", "--output", tmp_path / "student")
    done = asked("distill", "--model", model, "--input", texts, *training)
    assert done.exit_code == 0
    first, second = (line for line in done.stderr.splitlines() if line.startswith("warning: "))
    assert first.startswith("warning: 150 distinct texts are few for a student")
    assert second.startswith("warning: the student is no closer to its teacher than")


def test_ctrl_c_says_how_to_continue(model, texts, tmp_path):
    kept = tmp_path / "kept"
    command = [COMMAND, "distill", "--model", model, "--input", texts, "--num-samples", "2", "--epochs", "1000"]
    command += ["--checkpoints", kept, "--output", tmp_path / "student"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (kept / "teacher.npz").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said.endswith(f"interrupted; the same command continues from {kept}\n")


def test_mixed_precision_of_a_head_is_refused(model, texts, tmp_path):
    arguments = ("distill", "--model", model, "--input", texts, "--how", "head", "--output", tmp_path / "student")
    assert refused(asked(*arguments, "--bf16")).startswith("--bf16 is for --how weights and --how lora; leave it out")


def test_a_folder_that_is_not_empty_is_refused_before_torch_is_imported(model, texts, tmp_path):
    (tmp_path / "mine").write_text("")
    line = refused(asked("distill", "--model", model, "--input", texts, "--output", tmp_path))
    assert line == f"--output {tmp_path} already exists and is not empty; choose a new folder"


def test_missing_file_and_column(model, tmp_path):
    line = refused(asked("distill", "--input", tmp_path / "none.csv", "--output", tmp_path / "out"))
    assert "none.csv" in line
    (tmp_path / "in.csv").write_text("a,b\n1,2\n")
    line = refused(asked("distill", "--input", tmp_path / "in.csv", "--output", tmp_path / "out"))
    assert "--text-column" in line
    assert not (tmp_path / "out").exists()


def test_too_few_texts_say_how_many_are_needed(model, tmp_path):
    (tmp_path / "in.csv").write_text("text\nfine\n")
    line = refused(asked("distill", "--model", model, "--input", tmp_path / "in.csv", "--output", tmp_path / "out"))
    assert line.startswith("there are 1 distinct texts, and a student needs at least 100; pass more texts")
    assert not (tmp_path / "out").exists()


def test_the_way_out_of_a_model_without_dropout_is_an_option(tiny, saved_to, texts, tmp_path):
    folder = saved_to(tmp_path / "model", tiny("llama", attention_dropout=0.0, pad_token_id=0))
    line = refused(asked("distill", "--model", folder, "--input", texts, "--output", tmp_path / "out"))
    assert "--dropout 0.1" in line


def test_missing_accelerate_is_one_line(model, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(distill, "is_accelerate_available", lambda: False)
    line = refused(asked("distill", "--model", model, "--input", texts, "--output", tmp_path / "out"))
    assert line == "--how 'weights' needs accelerate: pip install accelerate, or pass --how 'head'"
