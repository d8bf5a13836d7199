"""The recommendation as code: it runs as it is pasted, and gives the numbers that the report promised."""

import ast
import contextlib
import csv
import io
import json
import os
import shlex
import shutil
from dataclasses import replace

import commands
import numpy as np
import pytest
from bayesian_text_classification import load
from bayesian_text_classification.evaluation import Outputs, advice, compare, compare_outputs, verdict
from bayesian_text_classification.evaluation.accepting import Limit, limit_of
from bayesian_text_classification.evaluation.recommendation import Recommendation
from bayesian_text_classification.loading.labeled_texts import load_labeled_texts
from bayesian_text_classification.loading.problem import labeled_texts_for
from bayesian_text_classification.report import Sources
from bayesian_text_classification.report.recipe import recipe

TEXTS = ["a wonderful film", "dull and far too long", "not as bad as they say", "I want my money back", "fine"] * 4
CSV = "text\n" + "\n".join(f'"{text}"' for text in TEXTS) + "\n"
ARMS = ("frequentist", "frequentist_temperature", "bayesian", "bayesian_temperature")


def mostly_right(probabilities):
    """Labels for which a quarter of the answers is wrong, so that a temperature can be fitted on any processor."""
    return [int(answer ^ (i % 4 == 0)) for i, answer in enumerate(probabilities.argmax(1))]


def write(folder, labels):
    """The texts in `my-texts.csv`, and with these labels in `labeled.jsonl`."""
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)]
    (folder / "labeled.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "my-texts.csv").write_text(CSV)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with labeled texts in columns of unusual names, some of them with a wrong label."""
    folder = tmp_path_factory.mktemp("it's mine")
    rows = [{"words": text, "class": int(i % 5 in (0, 2)) if i % 7 else 1} for i, text in enumerate(TEXTS)]
    (folder / "my texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "my-texts.csv").write_text(CSV)
    return folder


@pytest.fixture(scope="module")
def saved(classifier, place):
    classifier.uncalibrated().save_pretrained(place / "model")
    return place / "model"


@pytest.fixture(scope="module")
def comparison(saved, place):
    model = load(saved)
    data = load_labeled_texts(
        place / "my texts.jsonl", model.model.config.id2label, text_column="words", label_column="class"
    )
    return compare(model, data, num_samples=10, seed=3)


@pytest.fixture
def sources(saved, place):
    columns = {"text_column": "words", "label_column": "class"}
    return Sources(
        str(saved), {"seed": 3, "masks": "balanced", "tolerance": None}, str(place / "my texts.jsonl"), columns
    )


# The stock pipeline computes in half precision, as the weights are.
NEAR = {"frequentist": 5e-3, "frequentist_temperature": 1e-5, "bayesian": 1e-5, "bayesian_temperature": 1e-5}


def chosen(comparison, arm, recommended=None):
    """The comparison, with enough answers and this arm recommended."""
    arms = [replace(one, name=recommended or arm) if one.name == arm else one for one in comparison.arms]
    arms = [
        replace(one, differences={key: replace(change, enough=True) for key, change in one.differences.items()})
        for one in arms
    ]
    return replace(comparison, arms=tuple(arms), recommendation=Recommendation(recommended or arm))


def scores_of(comparison, arm):
    return comparison.arm(arm).probabilities.max(1)


@pytest.mark.parametrize("arm", ARMS)
def test_the_python_code_gives_the_numbers_of_the_report(arm, comparison, sources, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space = {}
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(recipe(chosen(comparison, arm), sources).python, space)
    assert "'score': " in shown.getvalue()
    results = space["classifier"](TEXTS)
    scores = [one["score"] for one in results]
    np.testing.assert_allclose(scores, scores_of(comparison, arm), atol=NEAR[arm])
    assert all(one.get("num_samples", 0) == (10 if "bayesian" in arm else 0) for one in results)
    if "temperature" in arm:  # longer texts are truncated, as in the report
        assert 0 < space["classifier"]("good " * 700)[0]["score"] < 1
    again = load(tmp_path / "calibrated") if "temperature" in arm else space["classifier"]
    np.testing.assert_allclose(again.predict_proba(TEXTS, seed=3), comparison.arm(arm).probabilities, atol=1e-5)


@pytest.mark.parametrize("arm", ARMS)
def test_the_commands_give_the_numbers_of_the_report(arm, comparison, sources, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink(place / "my-texts.csv", tmp_path / "my-texts.csv")
    lines = recipe(chosen(comparison, arm), sources).command.splitlines()
    assert len(lines) == 1 + ("temperature" in arm)
    for line in lines:
        name, *arguments = shlex.split(line)
        done = commands.asked(*arguments)
        assert name == "bayesian-text-classification" and done.exit_code == 0, done
    written = (tmp_path / "classified.csv").read_text().splitlines()
    column = written[0].split(",").index("score")
    scores = [float(line.split(",")[column]) for line in written[1:]]
    np.testing.assert_allclose(scores, scores_of(comparison, arm), atol=NEAR[arm])
    if "temperature" in arm:
        done = commands.asked(*shlex.split(lines[0])[1:])
        assert commands.refused(done).startswith("--output calibrated already holds a classifier; pass --force")
        assert commands.asked(*shlex.split(lines[0])[1:], "--force").exit_code == 0


@pytest.mark.parametrize("arm", ["frequentist", "bayesian_temperature"])
def test_code_and_commands_set_the_threshold_of_the_report(arm, comparison, sources, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink(place / "my-texts.csv", tmp_path / "my-texts.csv")
    scores = np.sort(scores_of(comparison, arm))
    limit = Limit(float(scores[3:5].mean()), 0.05)
    code, space = recipe(chosen(comparison, arm), sources, limit), {}
    assert f"classifier.threshold = {limit.threshold!r}  # error among accepted texts below 5%, with 90%" in code.python
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code.python, space)
    assert [one["abstained"] for one in space["classifier"](TEXTS)].count(True) == 4
    if "temperature" in arm:
        assert load(tmp_path / "calibrated").threshold == limit.threshold
        shutil.rmtree(tmp_path / "calibrated")
    for line in code.command.splitlines():
        assert commands.asked(*shlex.split(line)[1:]).exit_code == 0
    with (tmp_path / "classified.csv").open(newline="") as file:
        assert [row["abstained"] for row in csv.DictReader(file)].count("True") == 4


@pytest.fixture(scope="module", params=["several", "alone"])
def independent(request, tiny, tokenizer, tmp_path_factory):
    """The comparison of a model of independent labels, or with one output, and what it was made from."""
    folder = tmp_path_factory.mktemp("independent")
    names = {0: "joy", 1: "anger", 2: "fear"} if request.param == "several" else {0: "spam"}
    labels = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    problem = {"problem_type": "multi_label_classification"} if len(names) > 1 else {}
    for part in (tiny("bert", **labels, **problem), tokenizer):
        part.save_pretrained(folder / "model")
    write(folder, ([["joy", "anger"], [], ["fear"], ["joy"]] if len(names) > 1 else [1, 0, 0, 1]) * 5)
    ours = load(folder / "model")
    data = labeled_texts_for(ours, folder / "labeled.jsonl")
    found = compare(ours, data, num_samples=10, seed=3)
    return found, Sources(str(folder / "model"), {"seed": 3}, str(folder / "labeled.jsonl"), {}), folder


def classified_by(command, source, here):
    """The rows that the pasted lines write, in the folder `here`, for the texts in the folder `source`."""
    shutil.rmtree(here / "calibrated", ignore_errors=True)  # from the Python code
    os.symlink(source / "my-texts.csv", here / "my-texts.csv")
    for line in command.splitlines():
        done = commands.asked(*shlex.split(line)[1:])
        assert done.exit_code == 0, done
    with (here / "classified.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("arm", ["frequentist", "frequentist_platt", "bayesian", "bayesian_platt"])
def test_code_and_commands_for_independent_labels(arm, independent, tmp_path, monkeypatch):
    found, sources, folder = independent
    monkeypatch.chdir(tmp_path)
    code, expected = recipe(chosen(found, arm), sources), found.arm(arm).probabilities
    space = {}
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(code.python, space)
    assert "'score': " in shown.getvalue()
    np.testing.assert_allclose(space["classifier"].predict_proba(TEXTS), expected, atol=1e-5)
    columns = [f"score_{name}" for name in found.names] if len(found.names) > 1 else ["score"]
    scores = [[float(row[name]) for name in columns] for row in classified_by(code.command, folder, tmp_path)]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.fixture(scope="module")
def without(tiny, tokenizer, tmp_path_factory):
    """The comparison of a model without dropout, sampled with `dropout=0.1`, and what it was made from."""
    folder = tmp_path_factory.mktemp("without")
    for part in (tiny("llama", attention_dropout=0.0, pad_token_id=0), tokenizer):
        part.save_pretrained(folder / "model")
    ours = load(folder / "model")
    write(folder, mostly_right(ours.predict_proba(TEXTS, dropout=0.1, num_samples=10)))
    found = compare(ours, labeled_texts_for(ours, folder / "labeled.jsonl"), num_samples=10, seed=3, dropout=0.1)
    return found, Sources(str(folder / "model"), {"seed": 3}, str(folder / "labeled.jsonl"), {}), folder


@pytest.mark.parametrize("arm", ["bayesian", "bayesian_temperature"])
def test_code_and_commands_for_inserted_dropout(arm, without, tmp_path, monkeypatch):
    found, sources, folder = without
    monkeypatch.chdir(tmp_path)
    code, expected = recipe(chosen(found, arm), sources), found.arm(arm).probabilities
    assert "num_samples=10, dropout=0.1, seed=3" in code.python and "--dropout 0.1" in code.command
    space = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code.python, space)
    np.testing.assert_allclose(space["classifier"].predict_proba(TEXTS), expected, atol=1e-5)
    scores = [float(row["score"]) for row in classified_by(code.command, folder, tmp_path)]
    np.testing.assert_allclose(scores, expected.max(1), atol=1e-5)
    assert "num_samples=10, dropout=0.1)" in advice(chosen(found, arm))[0]


def test_samples_at_several_dropouts_promise_no_numbers_of_one_classifier(without):
    """Each fifth of the texts may have a dropout of its own: their temperature and threshold are for no classifier."""
    found, sources, _ = without
    mixed = replace(chosen(found, "bayesian_temperature"), one_dropout=False)
    arm = mixed.arm("bayesian_temperature")
    assert limit_of(mixed, arm) is None
    how, *_, accepting = advice(mixed)
    assert "which fits a temperature for this dropout on these texts" in how
    assert accepting.endswith("fits no single classifier. Run evaluate with --dropout 0.1 to get one.")
    code = recipe(mixed, sources).python
    assert "calibrate(data.texts, data.labels)  # a temperature for this dropout" in code
    others = advice(replace(mixed, one_dropout=True)), advice(replace(mixed, recommendation=found.recommendation))
    assert not any("no single classifier" in line for lines in others for line in lines)


@pytest.fixture(scope="module", params=["listed", "saved"])
def together(request, tiny, tokenizer, tmp_path_factory):
    """The comparison of an ensemble, given as a list or as a saved folder, and what it was made from."""
    folder = tmp_path_factory.mktemp("together")
    paths = [str(folder / name) for name in ("one", "two", "three")]
    for path, kind in zip(paths, ("bert", "distilbert", "bert"), strict=True):
        for part in (tiny(kind, num_labels=2), tokenizer):
            part.save_pretrained(path)
    ours = load(paths)
    if request.param == "saved":
        ours.save_pretrained(folder / "all")
        ours = load(folder / "all")
    write(folder, mostly_right(ours.predict_proba(TEXTS)))
    found = compare(ours, labeled_texts_for(ours, folder / "labeled.jsonl"), num_samples=10, seed=3)
    names = (str(folder / "all"), ()) if request.param == "saved" else (paths[0], tuple(paths[1:]))
    return found, Sources(names[0], {"seed": 3}, str(folder / "labeled.jsonl"), {}, names[1]), folder


@pytest.mark.parametrize("arm", ["frequentist", "bayesian", "ensemble", "ensemble_temperature"])
def test_code_and_commands_for_ensembles(arm, together, tmp_path, monkeypatch):
    found, sources, folder = together
    monkeypatch.chdir(tmp_path)
    code, expected = recipe(chosen(found, arm), sources), found.arm(arm).probabilities
    listed = bool(sources.ensemble) and arm.startswith("ensemble")
    assert code.command.count("--ensemble ") == (2 if listed else 0)
    space = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code.python, space)
    assert len(space["classifier"].members) == (1 if sources.ensemble and not listed else 3)
    np.testing.assert_allclose(space["classifier"].predict_proba(TEXTS), expected, atol=1e-5)
    scores = [float(row["score"]) for row in classified_by(code.command, folder, tmp_path)]
    np.testing.assert_allclose(scores, expected.max(1), atol=1e-5)


def test_a_first_model_that_brings_options_is_loaded_with_the_others(together):
    found, sources, _ = together
    if not sources.ensemble:
        pytest.skip("a saved ensemble is one folder")
    for arm in ("frequentist", "bayesian"):
        code = recipe(chosen(found, arm), replace(sources, together=True))
        assert code.python.count("one") == code.python.count("two") and code.command.count("--ensemble ") == 2
    assert "posterior='dropout'" in code.python and "--posterior dropout" in code.command


@pytest.fixture(scope="module", params=["plain", "calibrated"])
def taught(request, tiny, tokenizer, tmp_path_factory):
    """The comparison of a model with a student, saved with a calibration or without, and what it was made from."""
    folder = tmp_path_factory.mktemp("taught")
    for name, kind in (("model", "bert"), ("plain", "distilbert")):
        for part in (tiny(kind, num_labels=2), tokenizer):
            part.save_pretrained(folder / name)
    fitted = load(folder / "plain")
    labels = mostly_right(fitted.predict_proba(TEXTS, num_samples=0))
    fitted.calibrate(TEXTS, labels, num_samples=0)
    fitted.save_pretrained(folder / "calibrated")
    ours, student = load(folder / "model"), load(folder / request.param)
    write(folder, labels)
    data = labeled_texts_for(ours, folder / "labeled.jsonl")
    found = compare(ours, data, student=student, num_samples=10, seed=3, arms=["bayesian"])
    names = {"student": str(folder / request.param), "student_calibrated": request.param == "calibrated"}
    return found, Sources(str(folder / "model"), {"seed": 3}, str(folder / "labeled.jsonl"), {}, **names), folder


@pytest.mark.parametrize("arm", ["frequentist", "bayesian", "student", "student_temperature"])
def test_code_and_commands_for_students(arm, taught, tmp_path, monkeypatch):
    found, sources, folder = taught
    monkeypatch.chdir(tmp_path)
    os.symlink(folder / "my-texts.csv", tmp_path / "my-texts.csv")
    code, expected = recipe(chosen(found, arm), sources), found.arm(arm).probabilities
    used = sources.student if arm.startswith("student") else sources.model
    bare = arm.startswith("student") and sources.student_calibrated
    options = f"num_samples={0 if 'bayesian' not in arm else 10}, seed=3{', threshold=None' * bare}"
    assert code.python.count(f"load({used!r}, {options}){'.uncalibrated()' * bare}\n") == 1
    space = {}
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(code.python, space)
    assert "'score': " in shown.getvalue()
    name = "student" if arm.startswith("student") else "classifier"
    np.testing.assert_allclose(space[name].predict_proba(TEXTS), expected, atol=1e-5)
    lines = code.command.splitlines()
    assert ("--uncalibrated" in lines[0]) == bare
    shutil.rmtree(tmp_path / "calibrated", ignore_errors=True)
    for line in lines:
        assert commands.asked(*shlex.split(line)[1:]).exit_code == 0
    with (tmp_path / "classified.csv").open(newline="") as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(scores, expected.max(1), atol=1e-5)


def test_a_student_from_nowhere_has_no_code(taught):
    found, sources, _ = taught
    unknown = replace(sources, student=None)
    assert recipe(chosen(found, "student_temperature"), unknown) is None
    assert recipe(chosen(found, "frequentist_temperature"), unknown) is not None
    limit = Limit(0.9, 0.05)
    code = recipe(chosen(found, "student_temperature"), sources, limit)
    assert "student.threshold = 0.9  # error" in code.python and "--threshold 0.9" in code.command
    first, *others = advice(chosen(found, "student_temperature"))
    assert first.startswith(
        "Load the student. Call student.calibrate(texts, labels, num_samples=0), which finds a temp"
    )
    assert not any(line.startswith("classifier(") for line in others)


def test_the_thresholds_of_labels_are_accepted_as_they_are_said(independent):
    """The dict in the advice is one that a call takes, and it accepts only what it promises."""
    found, sources, _ = independent
    if len(found.names) == 1:
        pytest.skip("a model with one output has one threshold")
    p = np.random.default_rng(0).uniform(size=(4_000, 3))
    outputs = Outputs((np.random.default_rng(1).random(p.shape) < p).astype(int), p, names=found.names)
    said = [line for line in advice(compare_outputs(outputs)) if line.startswith("For ")]
    assert len(said) == 3
    thresholds = ast.literal_eval(said[0][said[0].index("threshold={") + 10 : said[0].index("}") + 1])
    assert set(thresholds) == set(found.names)
    flat = np.where(np.arange(3) > 0, 0.5, p)  # labels without a threshold, which would never be accepted
    labels = (np.random.default_rng(1).random(p.shape) < flat).astype(int)
    some = compare_outputs(Outputs(labels, flat, names=found.names))
    assert limit_of(some, some.arm("frequentist")) is None
    assert any(line.startswith("For 1 of 3 labels, a threshold keeps") for line in advice(some))
    ours = load(sources.model)
    (answers,) = ours(["a wonderful film"], num_samples=0, threshold=thresholds, top_k=None)
    assert [one["accepted"] for one in answers] == [one["score"] >= thresholds[one["label"]] for one in answers]
    limit = verdict(compare_outputs(outputs)).limit
    assert limit.threshold == thresholds and limit.target == 0.2
    code = recipe(chosen(found, "frequentist_platt"), sources, limit)
    assert f"classifier.threshold = {thresholds!r}" in code.python
    words = shlex.split(code.command.splitlines()[0])
    given = [words[i + 1] for i, word in enumerate(words) if word == "--threshold"]
    assert given == [f"{name}={value}" for name, value in thresholds.items()]
    for k, name in enumerate(found.names):
        chosen_texts = p[:, k] >= thresholds[name]
        assert outputs.labels[chosen_texts, k].mean() > 0.8


def test_the_embedded_model_needs_no_name(comparison):
    code = recipe(chosen(comparison, "bayesian_temperature"), Sources(None, {}, "reviews", {"max_texts": 450}))
    assert "load(num_samples=10)" in code.python
    assert "load_labeled_texts('reviews', classifier.model.config.id2label, max_texts=450)" in code.python
    first, second = code.command.splitlines()
    assert first == (
        "bayesian-text-classification calibrate --dataset reviews --max-texts 450 --num-samples 10 --output calibrated"
    )
    assert second.startswith("bayesian-text-classification predict --model calibrated --input my-texts.csv")


def test_options_are_named(comparison):
    options = {"seed": 4, "device": "cuda:1", "dtype": "bfloat16", "allow_pickle": True, "tolerance": None}
    sources = Sources("me/mine", options, "nyu-mll/glue", {"config": "sst2", "text_column": "sentence"})
    code = recipe(chosen(comparison, "frequentist_temperature"), sources)
    assert (
        "load('me/mine', num_samples=0, seed=4, device='cuda:1', dtype='bfloat16', allow_pickle=True, tol"
        in code.python
    )
    assert "id2label, config='sst2', text_column='sentence')" in code.python
    first, second = code.command.splitlines()
    words = "--num-samples 0 --seed 4 --device cuda:1 --dtype bfloat16 --allow-pickle --tolerance none"
    assert first.endswith(f"--dataset nyu-mll/glue --config sst2 --text-column sentence {words} --output calibrated")
    assert "--model calibrated --seed 4 --device cuda:1 --dtype bfloat16 --input" in second


def test_pairs_of_texts_name_their_columns(comparison):
    columns = {"text_column": "premise", "text_pair_column": "hypothesis"}
    for arm in ("bayesian", "bayesian_temperature"):
        code = recipe(chosen(comparison, arm), Sources("nli", {}, "nli.csv", columns))
        assert 'print(classifier({"text": "Any text.", "text_pair": "Another text."}))' in code.python
        *_, last = code.command.splitlines()
        assert "--text-column premise --text-pair-column hypothesis --input my-texts.csv" in last
    assert "id2label, text_column='premise', text_pair_column='hypothesis')" in code.python


@pytest.fixture(scope="module", params=[{"num_samples": 4}, {"num_samples": 8, "tolerance": 0.2}, {"num_samples": 0}])
def with_settings(request, saved, place):
    """The comparison of a classifier that was saved with a calibration, a threshold and options of calls."""
    ours = load(saved, **request.param)
    ours.calibrate(TEXTS[:5], [1, 0, 0, 1, 1])
    ours.threshold = 0.6
    folder = place / f"mine {sorted(request.param.items())}"
    ours.save_pretrained(folder)
    model = load(folder)
    columns = {"text_column": "words", "label_column": "class"}
    data = load_labeled_texts(place / "my texts.jsonl", model.model.config.id2label, **columns)
    found = compare(model, data, num_samples=10, seed=3)
    options = {"seed": 3} | ({"tolerance": None} if "tolerance" in request.param else {})
    return found, Sources(str(folder), options, str(place / "my texts.jsonl"), columns, calibrated=True)


@pytest.mark.parametrize("arm", [*ARMS, "saved"])
def test_code_and_commands_for_a_classifier_with_settings(arm, with_settings, place, tmp_path, monkeypatch):
    """Only "as saved" has its calibration, threshold, number of samples and tolerance."""
    found, sources = with_settings
    monkeypatch.chdir(tmp_path)
    os.symlink(place / "my-texts.csv", tmp_path / "my-texts.csv")
    code, expected = recipe(chosen(found, arm), sources), found.arm(arm).probabilities
    space = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code.python, space)
    results = space["classifier"](TEXTS)
    np.testing.assert_allclose([one["score"] for one in results], expected.max(1), atol=NEAR.get(arm, 1e-5))
    assert ("abstained" in results[0]) == (arm == "saved")
    shutil.rmtree(tmp_path / "calibrated", ignore_errors=True)
    for line in code.command.splitlines():
        done = commands.asked(*shlex.split(line)[1:])
        assert done.exit_code == 0, done
    with (tmp_path / "classified.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["score"]) for row in rows], expected.max(1), atol=NEAR.get(arm, 1e-5))
    assert ("abstained" in rows[0]) == (arm == "saved")


def test_a_saved_classifier_is_used_as_it_is(comparison):
    code = recipe(chosen(comparison, "frequentist", recommended="saved"), Sources("mine", {}, "mine.csv", {}))
    assert "load('mine')" in code.python and "calibrate" not in code.python
    assert (
        code.command == "bayesian-text-classification predict --model mine --input my-texts.csv --output classified.csv"
    )


def test_there_is_no_code_without_a_recommendation_or_sources(comparison, sources):
    assert not comparison.conclusive and recipe(comparison, sources) is None
    assert recipe(chosen(comparison, "bayesian"), None) is None
