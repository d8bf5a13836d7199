"""Options of `evaluate` that say how much is run."""

import json
import re

import commands
import pytest
from commands import refused

pytestmark = pytest.mark.usefixtures("loud_libraries")


def test_quick_takes_a_part_of_the_texts_and_the_code_takes_the_same(tiny_model, tmp_path):
    common = ["--num-samples", 2, "--model", tiny_model]
    done = commands.asked("evaluate", "--dataset", "hard", "--quick", *common, "--output", tmp_path / "a")
    assert done.exit_code == 0 and "a random 200 of 300 texts, 2 samples" in done.stdout, done
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert report["data"] == {"rows": 200, "part_of": 300, "distinct_texts": 200}
    assert list(report["arms"]) == ["frequentist", "frequentist_temperature", "bayesian", "bayesian_temperature"]
    assert "--dataset hard --max-texts 200" in report["recipe"]["command"]
    assert "load_labeled_texts('hard', classifier.model.config.id2label, max_texts=200)" in report["recipe"]["python"]
    assert refused(commands.asked("evaluate", "--quick", "--max-texts", 5)) == (
        "--quick is --max-texts 200; pass one of the two"
    )
    assert refused(commands.asked("evaluate", *common[:2], "--arms", "bayes")).startswith("--arms ['bayes']; they must")


def test_a_report_that_will_be_replaced_is_named(tiny_model, tmp_path):
    (tmp_path / "d.csv").write_text("text,label\na wonderful film,1\ndull,0\nI want my money back,0\n")
    run = ["evaluate", "--model", tiny_model, "--dataset", tmp_path / "d.csv", "--num-samples", 0]
    run += ["--output", tmp_path / "out"]
    first, second = (commands.asked(*run) for _ in range(2))
    assert first.exit_code == second.exit_code == 0 and "replaced" not in first.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    about = f"{tiny_model} on {tmp_path / 'd.csv'}, {report['settings']['date']}"
    said = f"The report in {tmp_path / 'out'} ({about}) will be replaced; --output writes to another folder."
    assert said in second.stderr.splitlines()
    (tmp_path / "out" / "report.json").write_text("{")
    assert "(it cannot be read) will be replaced" in commands.asked(*run).stderr


def test_results_are_shown_as_soon_as_they_are_known(tiny_model, tmp_path):
    """In a log as lines of stderr; the table on stdout has the same numbers, once."""
    (tmp_path / "d.csv").write_text("text,label\na wonderful film,1\ndull,0\nI want my money back,0\n")
    names, numbers = [], r"ECE (0\.\d{4}), accuracy (\d\.\d{4}), NLL (\d\.\d{4}), Brier (0\.\d{4}) \((\d+\.\d) s\)"
    run = ["evaluate", "--model", tiny_model, "--dataset", tmp_path / "d.csv"]
    done = commands.asked(*run, "--num-samples", 2, "--output", tmp_path / "out")
    assert done.exit_code == 0, done
    for line in done.stderr.splitlines():
        name, found = line.partition(": ")[0], re.fullmatch(r".*?: " + numbers, line)
        (row,) = [row for row in done.stdout.splitlines() if row.strip().startswith(f"{name}   ")]
        *measures, _sites, seconds = row.removeprefix(f" {name}").split()
        assert [*measures, seconds] == list(found.groups())
        names.append(name)
    assert names == ["Frequentist", "Frequentist + temperature", "BaaL (patch_module)"]
    other = commands.asked(*run, "--num-samples", 0, "--output", tmp_path / "other")
    assert other.stderr == ""  # the table follows at once
