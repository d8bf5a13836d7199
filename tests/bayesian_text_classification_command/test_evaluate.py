"""Options of `evaluate` that say how much is run."""

import json

import commands
import pytest
from commands import refused

pytestmark = pytest.mark.usefixtures("loud_libraries")


def test_quick_takes_a_part_of_the_texts_and_the_code_takes_the_same(tmp_path):
    common = ["--num-samples", 2, "--arms", "bayesian"]
    done = commands.asked("evaluate", "--dataset", "hard", "--quick", *common, "--output", tmp_path / "a")
    assert done.exit_code == 0 and "Measured on a random 200 of 300 texts." in done.stdout, done
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["data"]["rows"] == 200
    assert list(report["arms"]) == ["frequentist", "frequentist_temperature", "bayesian", "bayesian_temperature"]
    assert "--dataset hard --max-texts 200" in report["recipe"]["command"]
    assert "load_labelled_texts('hard', classifier.model.config.id2label, max_texts=200)" in report["recipe"]["python"]
    assert refused(commands.asked("evaluate", "--quick", "--max-texts", 5)) == (
        "--quick is --max-texts 200; pass one of the two"
    )
    assert refused(commands.asked("evaluate", *common[:2], "--arms", "bayes")).startswith("--arms ['bayes']; they must")
