"""The README's code blocks run as they stand, but for those marked as needing the Hub."""

import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from bayesian_text_classification import embedded_model

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"(<!-- needs the Hub -->\n)?```(\w+)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
PYTHON = [code for _, language, code in BLOCKS if language == "python"]
SHELL = [code for mark, language, code in BLOCKS if language == "bash" and not mark]
HUB = [code for mark, language, code in BLOCKS if language == "bash" and mark]
ENVIRONMENT = {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"}


def shell(command, folder):
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False, env=ENVIRONMENT)


def test_readme_has_the_blocks_that_these_tests_know():
    assert len(PYTHON) == 2
    assert [len(SHELL), len(HUB)] == [3, 1]


def test_python_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for code in PYTHON:
        exec(compile(code, "README.md", "exec"), namespace)
    assert namespace["ece"] == {"ece": pytest.approx(0.45)}  # |1 - .9| / 2 + |0 - .8| / 2
    assert namespace["samples"].shape == (2, 2, 40)


def test_the_command_on_your_own_data_runs(tmp_path):
    (tmp_path / "my-model").symlink_to(embedded_model(), target_is_directory=True)
    (tmp_path / "my-labelled-texts.csv").write_text("text,label\nlovely,POSITIVE\nawful,NEGATIVE\n")
    done = shell(SHELL[2], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 texts, 40 samples" in done.stdout


def test_the_command_that_needs_the_hub_has_only_options_that_exist():
    words = HUB[0].split()
    help_text = shell("bayesian-text-classification evaluate --help", None).stdout
    assert words[:2] == ["bayesian-text-classification", "evaluate"]
    assert all(word in help_text for word in words if word.startswith("--"))


@pytest.mark.slow  # the whole experiment of the first command: some minutes
def test_the_first_command_runs_offline(tmp_path):
    install, experiment = SHELL[0].split("&&")
    assert install.strip() == "pip install ."  # done by whoever runs these tests
    environment = {**ENVIRONMENT, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        experiment.split(), cwd=tmp_path, capture_output=True, text=True, check=False, timeout=1200, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "300 texts, 20 samples" in done.stdout
    assert (tmp_path / "bayesian-report" / "reliability.png").stat().st_size > 10_000
