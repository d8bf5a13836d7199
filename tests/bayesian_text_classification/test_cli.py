"""The command as a user starts it: a fresh process, its output, its files, its exit codes."""

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

COMMAND = str(Path(sysconfig.get_path("scripts")) / "bayesian-text-classification")


def run(*arguments, **variables):
    return subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "few.csv").write_text("text,label\na wonderful film,POSITIVE\ndull,0\nI want my money back,negative\n")
    done = run(
        "evaluate", "--dataset", folder / "few.csv", "--num-samples", 3, "--seed", 7, "--output", folder / "out",
        HF_HUB_OFFLINE="1",
    )  # fmt: skip
    return done, folder


def test_evaluate_prints_a_table_and_the_paths_and_nothing_else_to_stdout(small_run):
    done, folder = small_run
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].strip() == "3 texts, 3 samples"
    for name in (
        "Frequentist",
        "BaaL (patch_module)",
        "Bayesian",
        "ECE",
        "accuracy",
        "NLL",
        "Brier",
        "dropout",
        "calls",
    ):
        assert name in done.stdout
    assert lines[-3:] == [str(folder / "out" / name) for name in ("report.json", "reliability.png", "samples.png")]


def test_report_holds_every_number_and_setting(small_run):
    _, folder = small_run
    report = json.loads((folder / "out" / "report.json").read_text())
    assert report["settings"] | {"device": "cpu"} == {
        "model": "embedded", "dataset": str(folder / "few.csv"), "config": None, "split": None, "text_column": None,
        "label_column": None, "num_samples": 3, "seed": 7, "device": "cpu", "dtype": "float32", "n_bins": 10,
        "masks": "balanced",
    }  # fmt: skip
    assert report["data"]["rows"] == 3
    assert list(report["arms"]) == ["frequentist", "baal", "bayesian"]
    for arm in report["arms"].values():
        assert {"passes", "dropout_calls", "seconds", "accuracy", "ece", "nll", "brier", "reliability"} <= set(arm)
        assert sum(arm["reliability"]["counts"]) == 3
    assert len(report["sweep"]["ece"]) == 3
    assert len(report["sweep"]["ece"][1]) == 60
    assert report["versions"]["transformers"].startswith("5")


def test_pictures_are_pictures(small_run):
    _, folder = small_run
    from matplotlib.image import imread

    for name in ("reliability.png", "samples.png"):
        pixels = imread(folder / "out" / name)
        assert pixels.shape[1] > 1000
        assert pixels.std() > 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "--dataset", "missing.csv"], "error: missing.csv: no such file"),
        (["evaluate", "--model", "no-such-folder/model"], "error: cannot load 'no-such-folder/model': "),
        (["evaluate", "--device", "abacus"], "error: cannot load "),
        (["evaluate", "--num-samples", "0"], "error: Invalid value for '--num-samples': "),
        (["evaluate", "--num-sample", "3"], "error: No such option: --num-sample"),
        (["evalute"], "error: No such command 'evalute'."),
    ],
)
def test_bad_usage_and_bad_input_are_one_line_and_exit_code_2(tmp_path, arguments, message):
    done = run(*arguments, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


def test_missing_column_and_label_are_one_line(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("text,label\nfine,maybe\n")
    done = run("evaluate", "--dataset", path)
    assert (done.returncode, done.stderr) == (
        2, f"error: {path}, row 0: label 'maybe' is none of the model's labels 0 (NEGATIVE), 1 (POSITIVE)\n",
    )  # fmt: skip
    done = run("evaluate", "--dataset", path, "--text-column", "body")
    assert (done.returncode, done.stderr.splitlines()) == (
        2, ["error: no text column 'body'; the columns are 'text', 'label' (choose with --text-column)"],
    )  # fmt: skip


def test_output_that_is_a_file_is_refused_before_the_work(tmp_path):
    (tmp_path / "out").write_text("")
    done = run("evaluate", "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "cannot be a folder: File exists" in done.stderr


def test_a_model_without_dropout_is_one_line(tmp_path, tiny, tokenizer):
    tiny("llama", attention_dropout=0.0).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    done = run("evaluate", "--model", tmp_path / "m")
    assert done.returncode == 2
    assert "has no active dropout" in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_shows_commands():
    done = run("--help")
    assert done.returncode == 0
    assert "evaluate" in done.stdout


def test_no_arguments_show_the_help_and_no_empty_error():
    done = run()
    assert done.returncode == 2
    assert "error" not in done.stderr.lower().split()
