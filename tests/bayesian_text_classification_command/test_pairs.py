"""Pairs of texts in files: every command takes their second column."""

import json

import commands
import numpy as np
import pytest
import tables
from bayesian_text_classification import load, load_labeled_texts, predict_file
from commands import refused

pytestmark = pytest.mark.usefixtures("loud_libraries")
PAIRS = [(f"text number {i}", f"it is number {i % 4}") for i in range(24)]
ITEMS = [{"text": text, "text_pair": other} for text, other in PAIRS]
COLUMNS = ("--text-column", "premise", "--text-pair-column", "hypothesis")


@pytest.fixture
def folder(tiny, saved_to, tmp_path):
    """A model of pairs and a csv with labels, of which two of three are the model's own answers."""
    saved_to(tmp_path / "nli", tiny("bert", num_labels=3))
    best = load(tmp_path / "nli").predict_proba(ITEMS, num_samples=0).argmax(1)
    labels = [int(label + (i % 3 == 0)) % 3 for i, label in enumerate(best)]
    rows = [(*pair, label) for pair, label in zip(PAIRS, labels, strict=True)]
    tables.write(tmp_path / "nli.csv", ["premise", "hypothesis", "label"], rows)
    return tmp_path


def test_predict_scores_the_pair(folder):
    ours, common = load(folder / "nli"), ("predict", "--model", folder / "nli", "--num-samples", 4)
    done = commands.asked(*common, "--input", folder / "nli.csv", *COLUMNS, "--output", folder / "out.csv")
    assert done.exit_code == 0, done.stderr
    scores = np.array([float(row["predicted_score"]) for row in tables.read(folder / "out.csv")])
    both = ours.predict_proba(ITEMS, num_samples=4).max(1)
    np.testing.assert_allclose(scores, both, atol=1e-5)
    assert np.abs(scores - ours.predict_proba([text for text, _ in PAIRS], num_samples=4).max(1)).max() > 1e-4
    assert refused(commands.asked(*common, "a text", "--text-pair-column", "b")) == "--text-pair-column needs --input"


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_rows_without_a_second_text_get_their_own_error(ending, folder):
    import pandas

    others = ["so", "", None, "and"] if ending != "csv" else ["so", "", "", "and"]
    frame = pandas.DataFrame({"text": ["a", "b", "c", ""], "other": others})
    write = {"csv": frame.to_csv, "parquet": frame.to_parquet}
    if ending == "jsonl":
        frame.to_json(folder / "in.jsonl", orient="records", lines=True)
    else:
        write[ending](folder / f"in.{ending}", index=False)
    ours = load(folder / "nli", num_samples=0)
    summary = predict_file(ours, folder / f"in.{ending}", folder / "out.jsonl", text_pair_column="other")
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    missing = "the second text is empty" if ending == "csv" else "the second text is missing"
    assert [row["error"] for row in rows] == [None, "the second text is empty", missing, "the text is empty"]
    assert summary.errors.total() == 3 and rows[0]["score"] > 0 and rows[1]["score"] is None


def test_a_column_that_does_not_exist_or_is_the_first_is_refused(folder):
    common = ("--model", folder / "nli", "--num-samples", 0)
    for name, words in (
        ("missing", "its columns are 'premise', 'hypothesis', 'label' (choose one with --text-pair-column)"),
        ("premise", "column 'premise' cannot be both texts of a pair; choose another with --text-pair-column"),
    ):
        columns = ("--text-column", "premise", "--text-pair-column", name)
        files = ("--input", folder / "nli.csv", "--output", folder / "new.csv")
        assert words in refused(commands.asked("predict", *common, *files, *columns))
        said = refused(commands.asked("evaluate", *common, "--dataset", folder / "nli.csv", *columns))
        assert "--text-pair-column" in said and name in said


def test_calibrate_evaluate_rank_and_push_take_pairs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    model, data = ("--model", folder / "nli"), ("--dataset", folder / "nli.csv")
    labeled = load_labeled_texts("nli.csv", {0: "0", 1: "1", 2: "2"}, text_column="premise",
                                  text_pair_column="hypothesis")  # fmt: skip
    assert labeled.texts == ITEMS
    ours = load(folder / "nli", num_samples=0)
    temperature = ours.calibrate(ITEMS, labeled.labels)

    done = commands.asked("calibrate", *model, *data, *COLUMNS, "--num-samples", 0, "--output", "calibrated")
    assert done.exit_code == 0, done.stderr
    assert load("calibrated").calibration["ordinary"].temperature == pytest.approx(temperature)

    done = commands.asked("evaluate", *model, *data, *COLUMNS, "--num-samples", 4, "--output", "report",
                          "--calibration-dataset", folder / "nli.csv")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    found = json.loads((folder / "report" / "report.json").read_text())
    assert found["arms"]["frequentist_temperature"]["temperature"] == pytest.approx(temperature)
    assert found["data"]["distinct_texts"] == len(PAIRS) and found["settings"]["text_pair_column"] == "hypothesis"
    assert "24 of the texts measured here are among them" in " ".join(found["verdict"]["sentences"])
    assert "it is number" in (folder / "report" / "report.html").read_text()

    done = commands.asked("rank", *model, "--input", folder / "nli.csv", *COLUMNS, "--num-samples", 4, "--output",
                          "ranked.csv")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert sorted((row["premise"], row["hypothesis"]) for row in tables.read(folder / "ranked.csv")) == sorted(PAIRS)

    done = commands.asked("push", "pipeline", "me/nli", *model, "--calibration-dataset", folder / "nli.csv", *COLUMNS,
                          "--num-samples", 0, "--dry-run")  # fmt: skip
    assert done.exit_code == 0, done.stderr
