"""The recommendation as code: it runs as it is pasted, and gives the numbers that the report promised."""

import ast
import contextlib
import csv
import functools
import io
import json
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

pytestmark = pytest.mark.usefixtures("few_resamples")

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


def cases(kinds, arms, quick):
    """Each kind of model with each of its arms. Those that are not named as quick are slow."""
    return [
        pytest.param(kind, arm, id=f"{kind}-{arm}", marks=() if f"{kind}-{arm}" in quick else pytest.mark.slow)
        for kind in kinds
        for arm in arms
    ]


def pasted(code):
    """The names after the Python code, which shows a result."""
    space = {}
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(code, space)
    assert "'score': " in shown.getvalue()
    return space


def classified_by(command, source, here):
    """The rows that the pasted lines write, in the folder `here`, for the texts in the folder `source`."""
    shutil.rmtree(here / "calibrated", ignore_errors=True)  # from the Python code
    (here / "my-texts.csv").symlink_to(source / "my-texts.csv")
    for line in command.splitlines():
        name, *arguments = shlex.split(line)
        done = commands.asked(*arguments)
        assert name == "bayesian-text-classification" and done.exit_code == 0, done
    with (here / "classified.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def scores_in(rows, column="score"):
    return [float(row[column]) for row in rows]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with texts."""
    folder = tmp_path_factory.mktemp("it's mine")
    (folder / "my-texts.csv").write_text(CSV)
    return folder


@pytest.fixture(scope="module")
def saved(tiny, tokenizer, place):
    """A model in half precision, and labeled texts in columns of unusual names, some of them with a wrong label."""
    for part in (tiny("bert", num_labels=2).half(), tokenizer):
        part.save_pretrained(place / "model")
    labels = mostly_right(load(place / "model").predict_proba(TEXTS))
    rows = [{"words": text, "class": label} for text, label in zip(TEXTS, labels, strict=True)]
    (place / "my texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
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
def test_the_code_and_the_commands_give_the_numbers_of_the_report(
    arm, comparison, sources, place, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code = recipe(chosen(comparison, arm), sources)
    space = pasted(code.python)
    results = space["classifier"](TEXTS)
    scores = [one["score"] for one in results]
    np.testing.assert_allclose(scores, scores_of(comparison, arm), atol=NEAR[arm])
    assert all(one.get("num_samples", 0) == (10 if "bayesian" in arm else 0) for one in results)
    if "temperature" in arm:  # longer texts are truncated, as in the report
        assert 0 < space["classifier"]("good " * 700)[0]["score"] < 1
    again = load(tmp_path / "calibrated") if "temperature" in arm else space["classifier"]
    np.testing.assert_allclose(again.predict_proba(TEXTS, seed=3), comparison.arm(arm).probabilities, atol=1e-5)
    rows = classified_by(code.command, place, tmp_path)
    lines = code.command.splitlines()
    assert len(lines) == 1 + ("temperature" in arm)
    np.testing.assert_allclose(scores_in(rows), scores_of(comparison, arm), atol=NEAR[arm])
    if "temperature" in arm:
        done = commands.asked(*shlex.split(lines[0])[1:])
        assert commands.refused(done).startswith("--output calibrated already holds a classifier; pass --force")
        assert commands.asked(*shlex.split(lines[0])[1:], "--force").exit_code == 0


@pytest.mark.parametrize("arm", ["frequentist", "bayesian_temperature"])
def test_code_and_commands_set_the_threshold_of_the_report(arm, comparison, sources, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores = np.sort(scores_of(comparison, arm))
    limit = Limit(float(scores[3:5].mean()), 0.05)
    code = recipe(chosen(comparison, arm), sources, limit)
    assert f"classifier.threshold = {limit.threshold!r}  # error among accepted texts below 5%, with 90%" in code.python
    space = pasted(code.python)
    assert [one["abstained"] for one in space["classifier"](TEXTS)].count(True) == 4
    if "temperature" in arm:
        assert load(tmp_path / "calibrated").threshold == limit.threshold
    rows = classified_by(code.command, place, tmp_path)
    assert [row["abstained"] for row in rows].count("True") == 4


@pytest.fixture(scope="module")
def independent(tiny, tokenizer, tmp_path_factory):
    """The comparison of a model of independent labels, or with one output, and what it was made from."""

    @functools.cache
    def made(kind):
        folder = tmp_path_factory.mktemp(kind)
        names = {0: "joy", 1: "anger", 2: "fear"} if kind == "several" else {0: "spam"}
        labels = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
        problem = {"problem_type": "multi_label_classification"} if len(names) > 1 else {}
        for part in (tiny("bert", **labels, **problem), tokenizer):
            part.save_pretrained(folder / "model")
        write(folder, ([["joy", "anger"], [], ["fear"], ["joy"]] if len(names) > 1 else [1, 0, 0, 1]) * 5)
        ours = load(folder / "model")
        data = labeled_texts_for(ours, folder / "labeled.jsonl")
        found = compare(ours, data, num_samples=10, seed=3)
        return found, Sources(str(folder / "model"), {"seed": 3}, str(folder / "labeled.jsonl"), {}), folder

    return made


@pytest.mark.parametrize(
    ("kind", "arm"),
    cases(
        ("several", "alone"),
        ("frequentist", "frequentist_platt", "bayesian", "bayesian_platt"),
        quick=("several-frequentist", "several-bayesian_platt", "alone-frequentist_platt"),
    ),
)
def test_code_and_commands_for_independent_labels(kind, arm, independent, tmp_path, monkeypatch):
    found, sources, folder = independent(kind)
    monkeypatch.chdir(tmp_path)
    code, expected = recipe(chosen(found, arm), sources), found.arm(arm).probabilities
    np.testing.assert_allclose(pasted(code.python)["classifier"].predict_proba(TEXTS), expected, atol=1e-5)
    columns = [f"score_{name}" for name in found.names] if len(found.names) > 1 else ["score"]
    rows = classified_by(code.command, folder, tmp_path)
    np.testing.assert_allclose(np.transpose([scores_in(rows, name) for name in columns]), expected, atol=1e-5)


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


@pytest.mark.parametrize("arm", [pytest.param("bayesian", marks=pytest.mark.slow), "bayesian_temperature"])
def test_code_and_commands_for_inserted_dropout(arm, without, tmp_path, monkeypatch):
    found, sources, folder = without
    monkeypatch.chdir(tmp_path)
    code, expected = recipe(chosen(found, arm), sources), found.arm(arm).probabilities
    assert "num_samples=10, dropout=0.1, seed=3" in code.python and "--dropout 0.1" in code.command
    np.testing.assert_allclose(pasted(code.python)["classifier"].predict_proba(TEXTS), expected, atol=1e-5)
    rows = classified_by(code.command, folder, tmp_path)
    np.testing.assert_allclose(scores_in(rows), expected.max(1), atol=1e-5)
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


@pytest.fixture(scope="module")
def together(tiny, tokenizer, tmp_path_factory):
    """The comparison of an ensemble, given as a list or as a saved folder, and what it was made from."""

    @functools.cache
    def made(kind):
        folder = tmp_path_factory.mktemp(kind)
        paths = [str(folder / name) for name in ("one", "two", "three")]
        for path, architecture in zip(paths, ("bert", "distilbert", "bert"), strict=True):
            for part in (tiny(architecture, num_labels=2), tokenizer):
                part.save_pretrained(path)
        ours = load(paths)
        if kind == "saved":
            ours.save_pretrained(folder / "all")
            ours = load(folder / "all")
        write(folder, mostly_right(ours.predict_proba(TEXTS)))
        found = compare(ours, labeled_texts_for(ours, folder / "labeled.jsonl"), num_samples=10, seed=3)
        names = (str(folder / "all"), ()) if kind == "saved" else (paths[0], tuple(paths[1:]))
        return found, Sources(names[0], {"seed": 3}, str(folder / "labeled.jsonl"), {}, names[1]), folder

    return made


@pytest.mark.parametrize(
    ("kind", "arm"),
    cases(
        ("listed", "saved"),
        ("frequentist", "bayesian", "ensemble", "ensemble_temperature"),
        quick=("listed-frequentist", "listed-ensemble_temperature", "saved-bayesian"),
    ),
)
def test_code_and_commands_for_ensembles(kind, arm, together, tmp_path, monkeypatch):
    found, sources, folder = together(kind)
    monkeypatch.chdir(tmp_path)
    code, expected = recipe(chosen(found, arm), sources), found.arm(arm).probabilities
    listed = bool(sources.ensemble) and arm.startswith("ensemble")
    assert code.command.count("--ensemble ") == (2 if listed else 0)
    space = pasted(code.python)
    assert len(space["classifier"].members) == (1 if sources.ensemble and not listed else 3)
    np.testing.assert_allclose(space["classifier"].predict_proba(TEXTS), expected, atol=1e-5)
    rows = classified_by(code.command, folder, tmp_path)
    np.testing.assert_allclose(scores_in(rows), expected.max(1), atol=1e-5)


def test_a_first_model_that_brings_options_is_loaded_with_the_others(together):
    found, sources, _ = together("listed")
    for arm in ("frequentist", "bayesian"):
        code = recipe(chosen(found, arm), replace(sources, together=True))
        assert code.python.count("one") == code.python.count("two") and code.command.count("--ensemble ") == 2
    assert "posterior='dropout'" in code.python and "--posterior dropout" in code.command


@pytest.fixture(scope="module")
def taught(tiny, tokenizer, tmp_path_factory):
    """The comparison of a model with a student, saved with a calibration or without, and what it was made from."""

    @functools.cache
    def made(kind):
        folder = tmp_path_factory.mktemp(kind)
        for name, architecture in (("model", "bert"), ("plain", "distilbert")):
            for part in (tiny(architecture, num_labels=2), tokenizer):
                part.save_pretrained(folder / name)
        fitted = load(folder / "plain")
        labels = mostly_right(fitted.predict_proba(TEXTS, num_samples=0))
        fitted.calibrate(TEXTS, labels, num_samples=0)
        fitted.save_pretrained(folder / "calibrated")
        ours, student = load(folder / "model"), load(folder / kind)
        write(folder, labels)
        data = labeled_texts_for(ours, folder / "labeled.jsonl")
        found = compare(ours, data, student=student, num_samples=10, seed=3, arms=["bayesian"])
        names = {"student": str(folder / kind), "student_calibrated": kind == "calibrated"}
        return found, Sources(str(folder / "model"), {"seed": 3}, str(folder / "labeled.jsonl"), {}, **names), folder

    return made


@pytest.mark.parametrize(
    ("kind", "arm"),
    cases(
        ("plain", "calibrated"),
        ("frequentist", "bayesian", "student", "student_temperature"),
        quick=("plain-student_temperature", "calibrated-bayesian", "calibrated-student"),
    ),
)
def test_code_and_commands_for_students(kind, arm, taught, tmp_path, monkeypatch):
    found, sources, folder = taught(kind)
    monkeypatch.chdir(tmp_path)
    code, expected = recipe(chosen(found, arm), sources), found.arm(arm).probabilities
    used = sources.student if arm.startswith("student") else sources.model
    bare = arm.startswith("student") and sources.student_calibrated
    options = f"num_samples={0 if 'bayesian' not in arm else 10}, seed=3{', threshold=None' * bare}"
    assert code.python.count(f"load({used!r}, {options}){'.uncalibrated()' * bare}\n") == 1
    name = "student" if arm.startswith("student") else "classifier"
    np.testing.assert_allclose(pasted(code.python)[name].predict_proba(TEXTS), expected, atol=1e-5)
    assert ("--uncalibrated" in code.command.splitlines()[0]) == bare
    rows = classified_by(code.command, folder, tmp_path)
    np.testing.assert_allclose(scores_in(rows), expected.max(1), atol=1e-5)


def test_a_student_from_nowhere_has_no_code(taught):
    found, sources, _ = taught("calibrated")
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
    found, sources, _ = independent("several")
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


WAYS = {"samples": {"num_samples": 4}, "tolerance": {"num_samples": 8, "tolerance": 0.2}, "none": {"num_samples": 0}}


@pytest.fixture(scope="module")
def with_settings(saved, place):
    """The comparison of a classifier that was saved with a calibration, a threshold and options of calls."""

    @functools.cache
    def made(kind):
        ours = load(saved, **WAYS[kind])
        ours.calibrate(TEXTS[:5], mostly_right(ours.predict_proba(TEXTS[:5])))
        ours.threshold = 0.6
        ours.save_pretrained(place / kind)
        model = load(place / kind)
        columns = {"text_column": "words", "label_column": "class"}
        data = load_labeled_texts(place / "my texts.jsonl", model.model.config.id2label, **columns)
        found = compare(model, data, num_samples=10, seed=3)
        options = {"seed": 3} | ({"tolerance": None} if kind == "tolerance" else {})
        return found, Sources(str(place / kind), options, str(place / "my texts.jsonl"), columns, calibrated=True)

    return made


@pytest.mark.parametrize(
    ("kind", "arm"),
    cases(
        WAYS,
        (*ARMS, "saved"),
        quick=("samples-saved", "tolerance-frequentist", "tolerance-bayesian_temperature", "tolerance-saved",
               "none-bayesian", "none-saved"),
    ),
)  # fmt: skip
def test_code_and_commands_for_a_classifier_with_settings(kind, arm, with_settings, place, tmp_path, monkeypatch):
    """Only "as saved" has its calibration, threshold, number of samples and tolerance."""
    found, sources = with_settings(kind)
    monkeypatch.chdir(tmp_path)
    code, expected = recipe(chosen(found, arm), sources), found.arm(arm).probabilities
    results = pasted(code.python)["classifier"](TEXTS)
    np.testing.assert_allclose([one["score"] for one in results], expected.max(1), atol=NEAR.get(arm, 1e-5))
    assert ("abstained" in results[0]) == (arm == "saved")
    rows = classified_by(code.command, place, tmp_path)
    np.testing.assert_allclose(scores_in(rows), expected.max(1), atol=NEAR.get(arm, 1e-5))
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
