"""What the page about the Hub publishes loads as the page says."""

import subprocess
import sys

import pytest
from documents import ROOT, blocks
from environments import WITH_COMMAND, only, run
from hub_server import Hub

SAVED, INSTALLED, PUSH = (
    block.code for block in blocks(ROOT / "docs" / "how-to" / "hub.md") if block.needs == "needs the Hub"
)
EVALUATE = "bayesian-text-classification evaluate --model my-model --dataset my-labeled-texts.csv --num-samples 4"


def shell(command, folder):
    return subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=False, env=WITH_COMMAND
    )


@pytest.mark.slow  # starts many processes that import torch
def test_pushed_repositories_load_as_described(tiny, tokenizer, tmp_path):
    for part in (tiny("bert", num_labels=2), tokenizer):
        part.save_pretrained(tmp_path / "my-model")
    (tmp_path / "my-labeled-texts.csv").write_text("text,label\nlovely,LABEL_1\nawful,LABEL_0\n")
    done = shell(EVALUATE, tmp_path)  # it writes the report that is pushed
    assert done.returncode == 0, done.stderr
    with Hub() as hub:
        environment = {**WITH_COMMAND, **hub.environment(tmp_path / "home")}
        for command in PUSH.splitlines():
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
            )
            assert done.returncode == 0, done.stderr
        names = {"user/my-classifier", "user/ece", "user/prediction_set_coverage", "user/how-sure"}
        assert {name for _, name in hub.repositories} == names
        bare = only(tmp_path / "environment", "torch", "transformers")
        run(bare, SAVED + "print(classifier('good'))", **hub.environment(tmp_path / "there"))
        run(sys.executable, INSTALLED + "print(classifier('good'))", **hub.environment(tmp_path / "here"))
        metric = only(tmp_path / "other", "evaluate")
        for name in ("user/ece", "user/prediction_set_coverage"):
            run(metric, f"import evaluate; evaluate.load('{name}')", **hub.environment(tmp_path / "elsewhere"))
