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
COLUMNS = {"text_column": "words", "label_column": "class"}
ARMS = ("frequentist", "frequentist_temperature", "bayesian", "bayesian_temperature")


def mostly_right(probabilities):
    """Labels for which a quarter of the answers is wrong, so that a temperature can be fitted on any processor."""
    return [int(answer ^ (i % 4 == 0)) for i, answer in enumerate(probabilities.argmax(1))]


def write(folder, labels):
    """The texts in `my-texts.csv`, and with these labels in `labeled.jsonl`."""
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)]
    (folder / "labeled.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "my-texts.csv").write_text(CSV)


def each(kinds, arms, quick):
    """A test of each kind of model with each of its arms. Those that are not named as quick are slow."""
    pairs = [(kind, arm, f"{kind}-{arm}") for kind in kinds for arm in arms]
    rows = [pytest.param(*pair, id=name, marks=() if name in quick else pytest.mark.slow) for *pair, name in pairs]
    return pytest.mark.parametrize(("kind", "arm"), rows)


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


def checked(code, found, arm, folder, here, name="classifier", columns=("score",)):
    """The classifier of this name in the code, which must have the probabilities of the arm, as must the commands."""
    expected, ours = found.arm(arm).probabilities, pasted(code.python)[name]
    np.testing.assert_allclose(ours.predict_proba(TEXTS), expected, atol=1e-5)
    rows = classified_by(code.command, folder, here)
    shown = expected if len(columns) > 1 else expected.max(1, keepdims=True)
    np.testing.assert_allclose(np.transpose([scores_in(rows, column) for column in columns]), shown, atol=1e-5)
    return ours


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, in which the code and the commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with texts."""
    folder = tmp_path_factory.mktemp("it's mine")
    (folder / "my-texts.csv").write_text(CSV)
    return folder


@pytest.fixture(scope="module")
def saved(tiny, saved_to, place):
    """A model in half precision, and labeled texts in columns of unusual names, some of them with a wrong label."""
    folder = saved_to(place / "model", tiny("bert", num_labels=2).half())
    labels = mostly_right(load(folder).predict_proba(TEXTS))
    rows = [{"words": text, "class": label} for text, label in zip(TEXTS, labels, strict=True)]
    (place / "my texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def texts_of(model, place):
    """The texts of the folder with their labels, for this model."""
    return load_labeled_texts(place / "my texts.jsonl", model.model.config.id2label, **COLUMNS)


@pytest.fixture(scope="module")
def comparison(saved, place):
    model = load(saved)
    return compare(model, texts_of(model, place), num_samples=10, seed=3)


@pytest.fixture
def sources(saved, place):
    options = {"seed": 3, "masks": "balanced", "tolerance": None}
    return Sources(str(saved), options, str(place / "my texts.jsonl"), COLUMNS)


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
def test_the_code_and_the_commands_give_the_numbers_of_the_report(arm, comparison, sources, place, here):
    code = recipe(chosen(comparison, arm), sources)
    space = pasted(code.python)
    results = space["classifier"](TEXTS)
    scores = [one["score"] for one in results]
    np.testing.assert_allclose(scores, scores_of(comparison, arm), atol=NEAR[arm])
    assert all(one.get("num_samples", 0) == (10 if "bayesian" in arm else 0) for one in results)
    if "temperature" in arm:  # longer texts are truncated, as in the report
        assert 0 < space["classifier"]("good " * 700)[0]["score"] < 1
    again = load(here / "calibrated") if "temperature" in arm else space["classifier"]
    np.testing.assert_allclose(again.predict_proba(TEXTS, seed=3), comparison.arm(arm).probabilities, atol=1e-5)
    rows = classified_by(code.command, place, here)
    lines = code.command.splitlines()
    assert len(lines) == 1 + ("temperature" in arm)
    np.testing.assert_allclose(scores_in(rows), scores_of(comparison, arm), atol=NEAR[arm])
    if "temperature" in arm:
        done = commands.asked(*shlex.split(lines[0])[1:])
        assert commands.refused(done).startswith("--output calibrated already holds a classifier; pass --force")
        assert commands.asked(*shlex.split(lines[0])[1:], "--force").exit_code == 0


@pytest.mark.parametrize("arm", ["frequentist", "bayesian_temperature"])
def test_code_and_commands_set_the_threshold_of_the_report(arm, comparison, sources, place, here):
    scores = np.sort(scores_of(comparison, arm))
    limit = Limit(float(scores[3:5].mean()), 0.05)
    code = recipe(chosen(comparison, arm), sources, limit)
    assert f"classifier.threshold = {limit.threshold!r}  # error among accepted texts below 5%, with 90%" in code.python
    space = pasted(code.python)
    assert [one["abstained"] for one in space["classifier"](TEXTS)].count(True) == 4
    if "temperature" in arm:
        assert load(here / "calibrated").threshold == limit.threshold
    rows = classified_by(code.command, place, here)
    assert [row["abstained"] for row in rows].count("True") == 4


@pytest.fixture(scope="module")
def made(tiny, saved_to, tmp_path_factory):
    """Makes the comparison of a kind of model. Returns it, what it was made from, and the folder of that."""

    def compared(folder, ours, labels, *, sources=(), **options):
        write(folder, labels)
        found = compare(ours, labeled_texts_for(ours, folder / "labeled.jsonl"), num_samples=10, seed=3, **options)
        plain = Sources(str(folder / "model"), {"seed": 3}, str(folder / "labeled.jsonl"), {})
        return found, replace(plain, **dict(sources)), folder

    def independent(kind, folder):
        """Independent labels, or one output."""
        names = {0: "joy", 1: "anger", 2: "fear"} if kind == "several" else {0: "spam"}
        own = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
        problem = {"problem_type": "multi_label_classification"} if len(names) > 1 else {}
        labels = ([["joy", "anger"], [], ["fear"], ["joy"]] if len(names) > 1 else [1, 0, 0, 1]) * 5
        return compared(folder, load(saved_to(folder / "model", tiny("bert", **own, **problem))), labels)

    def without(kind, folder):
        """A model without dropout, sampled with `dropout=0.1`."""
        ours = load(saved_to(folder / "model", tiny("llama", attention_dropout=0.0, pad_token_id=0)))
        labels = mostly_right(ours.predict_proba(TEXTS, dropout=0.1, num_samples=10))
        return compared(folder, ours, labels, dropout=0.1)

    def together(kind, folder):
        """An ensemble, given as a list or as a saved folder."""
        models = {"one": "bert", "two": "distilbert", "three": "bert"}
        paths = [str(saved_to(folder / name, tiny(models[name], num_labels=2))) for name in models]
        ours, names = load(paths), {"model": paths[0], "ensemble": tuple(paths[1:])}
        if kind == "saved":
            ours.save_pretrained(folder / "all")
            ours, names = load(folder / "all"), {"model": str(folder / "all")}
        return compared(folder, ours, mostly_right(ours.predict_proba(TEXTS)), sources=names)

    def taught(kind, folder):
        """A model with a student, which was saved with a calibration or without."""
        fitted = load(saved_to(folder / "plain", tiny("distilbert", num_labels=2)))
        labels = mostly_right(fitted.predict_proba(TEXTS, num_samples=0))
        fitted.calibrate(TEXTS, labels, num_samples=0)
        fitted.save_pretrained(folder / "calibrated")
        ours, student = load(saved_to(folder / "model", tiny("bert", num_labels=2))), load(folder / kind)
        names = {"student": str(folder / kind), "student_calibrated": kind == "calibrated"}
        return compared(folder, ours, labels, sources=names, student=student, arms=["bayesian"])

    kinds = {"several": independent, "alone": independent, "without": without, "listed": together, "saved": together,
             "plain": taught, "calibrated": taught}  # fmt: skip
    return functools.cache(lambda kind: kinds[kind](kind, tmp_path_factory.mktemp(kind)))


@each(
    ("several", "alone"),
    ("frequentist", "frequentist_platt", "bayesian", "bayesian_platt"),
    quick=("several-frequentist", "several-bayesian_platt", "alone-frequentist_platt"),
)
def test_code_and_commands_for_independent_labels(kind, arm, made, here):
    found, sources, folder = made(kind)
    columns = [f"score_{name}" for name in found.names] if kind == "several" else ["score"]
    checked(recipe(chosen(found, arm), sources), found, arm, folder, here, columns=columns)


@each(["without"], ("bayesian", "bayesian_temperature"), quick=["without-bayesian_temperature"])
def test_code_and_commands_for_inserted_dropout(kind, arm, made, here):
    found, sources, folder = made(kind)
    code = recipe(chosen(found, arm), sources)
    assert "num_samples=10, dropout=0.1, seed=3" in code.python and "--dropout 0.1" in code.command
    checked(code, found, arm, folder, here)
    assert "num_samples=10, dropout=0.1)" in advice(chosen(found, arm))[0]


def test_samples_at_several_dropouts_promise_no_numbers_of_one_classifier(made):
    """Each fifth of the texts may have a dropout of its own: their temperature and threshold are for no classifier."""
    found, sources, _ = made("without")
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


@each(
    ("listed", "saved"),
    ("frequentist", "bayesian", "ensemble", "ensemble_temperature"),
    quick=("listed-frequentist", "listed-ensemble_temperature", "saved-bayesian"),
)
def test_code_and_commands_for_ensembles(kind, arm, made, here):
    found, sources, folder = made(kind)
    code, listed = recipe(chosen(found, arm), sources), bool(sources.ensemble) and arm.startswith("ensemble")
    assert code.command.count("--ensemble ") == (2 if listed else 0)
    ours = checked(code, found, arm, folder, here)
    assert len(ours.members) == (1 if sources.ensemble and not listed else 3)


def test_a_first_model_that_brings_options_is_loaded_with_the_others(made):
    found, sources, _ = made("listed")
    for arm in ("frequentist", "bayesian"):
        code = recipe(chosen(found, arm), replace(sources, together=True))
        assert code.python.count("one") == code.python.count("two") and code.command.count("--ensemble ") == 2
    assert "posterior='dropout'" in code.python and "--posterior dropout" in code.command


@each(
    ("plain", "calibrated"),
    ("frequentist", "bayesian", "student", "student_temperature"),
    quick=("plain-student_temperature", "calibrated-bayesian", "calibrated-student"),
)
def test_code_and_commands_for_students(kind, arm, made, here):
    found, sources, folder = made(kind)
    code = recipe(chosen(found, arm), sources)
    used = sources.student if arm.startswith("student") else sources.model
    bare = arm.startswith("student") and sources.student_calibrated
    options = f"num_samples={0 if 'bayesian' not in arm else 10}, seed=3{', threshold=None' * bare}"
    assert code.python.count(f"load({used!r}, {options}){'.uncalibrated()' * bare}\n") == 1
    assert ("--uncalibrated" in code.command.splitlines()[0]) == bare
    checked(code, found, arm, folder, here, name="student" if arm.startswith("student") else "classifier")


def test_a_student_from_nowhere_has_no_code(made):
    found, sources, _ = made("calibrated")
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


def test_the_thresholds_of_labels_are_accepted_as_they_are_said(made):
    """The dict in the advice is one that a call takes, and it accepts only what it promises."""
    found, sources, _ = made("several")
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
    none = advice(compare_outputs(Outputs(1 - labels[:40], p[:40], names=found.names)))
    assert not any(line.startswith("For ") for line in none)
    assert any(line.startswith("On 40 texts, no label has a threshold") for line in none)
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
        found = compare(model, texts_of(model, place), num_samples=10, seed=3)
        options = {"seed": 3} | ({"tolerance": None} if kind == "tolerance" else {})
        return found, Sources(str(place / kind), options, str(place / "my texts.jsonl"), COLUMNS, calibrated=True)

    return made


@each(
    WAYS,
    (*ARMS, "saved"),
    quick=("samples-saved", "tolerance-frequentist", "tolerance-bayesian_temperature", "tolerance-saved",
           "none-bayesian", "none-saved"),
)  # fmt: skip
def test_code_and_commands_for_a_classifier_with_settings(kind, arm, with_settings, place, here):
    """Only "as saved" has its calibration, threshold, number of samples and tolerance."""
    found, sources = with_settings(kind)
    code, expected = recipe(chosen(found, arm), sources), found.arm(arm).probabilities
    results = pasted(code.python)["classifier"](TEXTS)
    np.testing.assert_allclose([one["score"] for one in results], expected.max(1), atol=NEAR.get(arm, 1e-5))
    assert ("abstained" in results[0]) == (arm == "saved")
    rows = classified_by(code.command, place, here)
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
