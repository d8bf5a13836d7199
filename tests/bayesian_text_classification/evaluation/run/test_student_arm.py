"""The arms of a student, against the stock pipeline of its folder and against comparisons of arrays."""

import numpy as np
import pytest
import torch
from bayesian_text_classification import load
from bayesian_text_classification.evaluation import Outputs, StudentOutputs, compare_outputs
from bayesian_text_classification.evaluation.run import compare, outputs_of, total_rows
from bayesian_text_classification.evaluation.verdict import verdict
from bayesian_text_classification.loading.labeled_texts import LabeledTexts
from bayesian_text_classification.pipeline.inputs import text_hash, text_key
from bayesian_text_classification.pipeline.temperature import apply_temperature, fit_temperature
from bayesian_text_classification.pipeline.uncertainty import over_classes
from interval_cases import chances, truth
from transformers import pipeline

pytestmark = pytest.mark.usefixtures("few_resamples")

TEXTS = [f"{word} film, number {i}" for i in range(10) for word in ("a good", "a bad", "an odd")]
OTHER = LabeledTexts("others", ["awful", "a joy", "so so"], [0, 1, 0], [])
STRANGE = ["what is the weather", "book a table"]
NAMES = {0: "bad", 1: "fine", 2: "good"}


@pytest.fixture(scope="module")
def places(tiny, saved_to, tmp_path_factory):
    """A model, and a student with its labels in another order."""
    folder, swapped = tmp_path_factory.mktemp("student"), {0: "good", 1: "bad", 2: "fine"}
    for name, kind, labels in (("model", "bert", NAMES), ("student", "distilbert", swapped)):
        own = {"id2label": labels, "label2id": {label: i for i, label in labels.items()}}
        saved_to(folder / name, tiny(kind, num_labels=3, **own))
    return folder


@pytest.fixture(scope="module")
def model(places):
    return load(places / "model")


@pytest.fixture
def student(places):
    return load(places / "student")


@pytest.fixture(scope="module")
def data(model):
    """Texts that the model gets right three times out of four."""
    answers = model.predict_proba(TEXTS, num_samples=0).argmax(1)
    return LabeledTexts("texts", TEXTS, [int(answer + (i % 4 == 0)) % 3 for i, answer in enumerate(answers)], [])


def stock_probabilities(folder, texts, names=NAMES):
    """Probabilities of the stock pipeline, which knows nothing of this package, in the order of these labels."""
    rows = pipeline("text-classification", model=str(folder))(texts, top_k=None, truncation=True)
    return np.array([[one["score"] for name in names.values() for one in row if one["label"] == name] for row in rows])


def names_of(comparison):
    return [arm.name for arm in comparison.arms]


def known_to(student, texts):
    """The student, as if it had been made from these texts."""
    student._distilled_on = frozenset(text_hash(text_key(text)) for text in texts)
    return student


def test_a_student_has_the_scores_of_the_stock_pipeline_of_its_folder(places, model, student, data):
    rows, options = [], {"calibration": OTHER, "out_of_scope": STRANGE, "num_samples": 2}
    found = compare(model, data, student=student, progress=rows.append, **options)
    assert sum(rows) == total_rows(model, data, student=student, **options)
    assert sum(rows) == total_rows(model, data, **options) + len(TEXTS) + len(OTHER.texts) + len(STRANGE)
    first, others = ["frequentist", "frequentist_temperature"], ["baal", "bayesian", "bayesian_temperature"]
    assert names_of(found) == [*first, "student", "student_temperature", *others]
    expected = stock_probabilities(places / "student", TEXTS)
    np.testing.assert_allclose(found.arm("student").probabilities, expected, rtol=0, atol=1e-6)
    fitted_on = stock_probabilities(places / "student", OTHER.texts)
    temperature = fit_temperature(fitted_on, np.array(OTHER.labels))
    assert found.arm("student_temperature").temperature == pytest.approx(temperature, rel=1e-4)
    tempered = apply_temperature(expected, temperature)
    np.testing.assert_allclose(found.arm("student_temperature").probabilities, tempered, rtol=0, atol=1e-5)
    assert found.arm("student").cost.passes == 1 and found.arm("student").cost.seconds > 0
    strange = over_classes(stock_probabilities(places / "student", STRANGE)[:, :, None]).predictive_entropy
    scores = {one.score: one.outside for one in found.out_of_scope if one.arm == "student"}
    assert set(scores) == {"1 - max probability", "predictive entropy"}
    np.testing.assert_allclose(scores["predictive entropy"], strange, rtol=0, atol=1e-5)
    alone = compare(model, data, **options)
    for arm in alone.arms:  # the others are what they would be without a student
        np.testing.assert_array_equal(found.arm(arm.name).probabilities, arm.probabilities)
        assert repr(found.arm(arm.name).estimates) == repr(arm.estimates)


def test_differences_are_those_of_the_same_resamples_of_the_same_arrays(places, model, student, data):
    found = compare(model, data, student=student, num_samples=4, arms=["bayesian"])
    p, labels = stock_probabilities(places / "student", TEXTS), np.array(data.labels)
    ordinary = model.predict_proba(TEXTS, num_samples=0)
    by_hand = compare_outputs(Outputs(labels, ordinary, model.sample_proba(TEXTS, num_samples=4),
                                      student=StudentOutputs(p)))  # fmt: skip
    alone = compare_outputs(Outputs(labels, p))  # the student as the model at hand
    sampled = by_hand.arm("bayesian_temperature").estimates["nll"].value
    for key in ("ece", "nll", "brier", "accuracy"):
        own, first = alone.arm("frequentist").estimates[key].value, found.arm("frequentist").estimates[key].value
        difference = found.arm("student").differences[key]
        assert difference.value == pytest.approx(own - first, abs=1e-6)
        expected = by_hand.arm("student").differences[key]
        assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high), abs=1e-4, nan_ok=True)
    tempered = alone.arm("frequentist_temperature").estimates["nll"].value
    assert found.student_minus_sampling["nll"].value == pytest.approx(tempered - sampled, abs=1e-5)
    cold = found.arm("frequentist_temperature").estimates["nll"].value
    assert found.beyond_temperature["student"]["nll"].value == pytest.approx(tempered - cold, abs=1e-5)


@pytest.mark.parametrize("samples", [0, 2])
def test_rows_appear_as_they_are_known(model, student, data, samples):
    events = []
    found = compare(model, data, student=student, num_samples=samples, progress=events.append,
                    on_arm=lambda arm: events.append(arm.name), arms=["bayesian"])  # fmt: skip
    names = [event for event in events if isinstance(event, str)]
    assert names == names_of(found) and events.index("student_temperature") < len(events) - (3 if samples else 0)
    assert sum(event for event in events if not isinstance(event, str)) == len(TEXTS) * (2 + samples)
    assert found.with_student and bool(found.student_minus_sampling) == bool(samples)


@pytest.mark.parametrize("kind", ["several", "alone"])
def test_independent_labels_have_a_student_too(kind, tiny, saved_to, bayesian, tmp_path):
    names = {0: "joy", 1: "anger"} if kind == "several" else {0: "spam"}
    other = {0: "anger", 1: "joy"} if kind == "several" else names
    labels = [["joy"], [], ["anger"]] * 10 if kind == "several" else [1, 0, 0] * 10

    def made(architecture, names):
        own = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
        return tiny(architecture, **own, **({"problem_type": "multi_label_classification"} if len(names) > 1 else {}))

    saved_to(tmp_path / "student", made("distilbert", other))
    ours = bayesian(made("bert", names))
    found = compare(ours, LabeledTexts("texts", TEXTS, labels, []), student=load(tmp_path / "student"), num_samples=2)
    assert names_of(found)[:4] == ["frequentist", "frequentist_platt", "student", "student_platt"]
    if kind == "several":
        p = stock_probabilities(tmp_path / "student", TEXTS, names)
    else:
        stock = pipeline("text-classification", model=str(tmp_path / "student"))
        p = np.array([[one["score"]] for one in stock(TEXTS)])
    np.testing.assert_allclose(found.arm("student").probabilities, p, rtol=0, atol=1e-6)
    assert "the student" in " ".join(verdict(found).lines)


def test_texts_that_the_student_learned_from_are_refused(model, student, data):
    rows, pair = [], {"text": TEXTS[4]}  # in another form
    student = known_to(student, [TEXTS[2], pair, "other"])
    message = r"^2 of 30 measured texts are among those that the student was distilled on, first row 3 \(.*; measure on"
    with pytest.raises(ValueError, match=message) as error:
        compare(model, data, student=student, progress=rows.append)
    assert not rows  # before any pass
    assert "data.without(student.distilled_on)" in str(error.value)
    kept = data.without(student.distilled_on)
    assert len(kept.texts) == len(kept.labels) == 28 and not {TEXTS[2], TEXTS[4]} & set(kept.texts)
    found = compare(model, kept, student=student, num_samples=0)
    note = "None of the measured texts is among the 3 that it was distilled on."
    assert any(one.endswith(note) for one in found.notes)
    with pytest.raises(ValueError, match=r"^2 of 30 .* that the classifier was distilled on.*without\(classifier\."):
        compare(student, data, num_samples=0, progress=rows.append)
    assert not rows
    with pytest.raises(ValueError, match=r"1 of 2 out-of-scope texts are among .*; measure on other texts$"):
        compare(model, kept, student=known_to(student, [STRANGE[1]]), out_of_scope=STRANGE, progress=rows.append)
    assert not rows


def test_what_is_not_known_is_said(model, student, data):
    found = compare(model, data, student=student, num_samples=0)
    assert any("Which texts it learned from is not known." in one for one in found.notes)
    student = known_to(student, [OTHER.texts[0]])
    found = compare(model, data, student=student, calibration=OTHER, num_samples=0)
    assert found.notes[-1].startswith("Warning: 1 of 3 texts that its scaling was fitted on are among those that it")


def test_a_calibration_that_the_student_brings_is_not_used(model, student, data):
    expected = outputs_of(model, data, student=student, num_samples=0)
    student.calibrate(TEXTS, data.labels, num_samples=0)
    found = outputs_of(model, data, student=student, num_samples=0)
    np.testing.assert_array_equal(found.student.ordinary, expected.student.ordinary)
    assert found.notes[-1] == "The calibration that the student was saved with is not used here."
    assert found.saved is None and student.calibration["ordinary"]  # which stays


def test_students_that_cannot_be_compared_are_refused(model, data, tiny, bayesian):
    def refusal(student):
        with pytest.raises(ValueError) as error:
            compare(model, data, student=student, progress=rows.append)
        assert "\n" not in str(error.value) and not rows
        return str(error.value)

    rows = []
    own = {"id2label": {0: "bad", 1: "fine", 2: "great"}, "label2id": {"bad": 0, "fine": 1, "great": 2}}
    line = refusal(bayesian(tiny("bert", num_labels=3, **own)))
    assert line.startswith(
        "the student has the labels ['bad', 'fine', 'great'], and the classifier has ['bad', 'fine',"
    )
    assert "set config.id2label and config.label2id" in line
    same = {"id2label": NAMES, "label2id": {name: i for i, name in NAMES.items()}}
    several = tiny("bert", num_labels=3, problem_type="multi_label_classification", **same)
    line = refusal(bayesian(several))
    assert line.startswith(
        "the student is a model of independent labels, and the classifier is a model that chooses one"
    )
    two = [tiny("bert", num_labels=3, **same) for _ in range(2)]
    assert refusal(bayesian(two)) == "the student is an ensemble of 2 models; pass one model"


def test_an_ensemble_has_a_student(tiny, bayesian, data, student):
    torch.manual_seed(1)
    same = {"id2label": NAMES, "label2id": {name: i for i, name in NAMES.items()}}
    both = bayesian([tiny("bert", num_labels=3, **same), tiny("distilbert", num_labels=3, **same)])
    rows = []
    found = compare(both, data, student=student, num_samples=2, arms=["ensemble"], progress=rows.append)
    assert sum(rows) == total_rows(both, data, student=student, num_samples=2, arms=["ensemble"])
    assert names_of(found)[2:] == ["student", "student_temperature", "ensemble", "ensemble_temperature"]


def drawn(rows=1_000):
    """An overconfident model, samples of it that are better, and a student that is as good as they are."""
    random, z, labels = truth(rows, seed=0)
    samples = chances(z[:, None] + random.normal(0, 0.3, (rows, 20)))
    return labels, chances(3 * z + random.normal(0, 2, rows)), samples, samples.mean(2)


def test_the_verdict_recommends_a_student_that_is_as_good_as_sampling():
    labels, ordinary, samples, student = drawn()
    found = compare_outputs(Outputs(labels, ordinary, samples, student=StudentOutputs(student)))
    said = verdict(found, [0.1])
    assert found.recommended == "student" and said.outcome == "change"
    assert said.headline.startswith("Recommended: the student. The NLL goes from ")
    assert said.headline.endswith(", for 1 pass per text as before, of another model (sampling takes 20 passes).")
    assert said.advice[0] == "Load the student. Use student(texts, num_samples=0)."
    assert any(line.startswith("student(texts, num_samples=0, threshold=") for line in said.advice)
    why = [line for line in said.lines if line.startswith("Why not ")]
    assert why[0].startswith("Why not frequentist + temperature, which needs no other model? With the student instead")
    assert any(line.startswith("With the student, NLL: from ") for line in said.lines)
    assert any(
        line.startswith("NLL of the student minus that of sampling when both have a temp") for line in said.lines
    )
    sets = {one.arm for one in found.with_sets(0.9).sets.arms}
    assert sets == {"frequentist_temperature", "student_temperature", "bayesian_temperature"}


def test_a_student_that_is_not_better_is_not_recommended():
    labels, _, samples, student = drawn()
    found = compare_outputs(Outputs(labels, samples[:, :, :10].mean(2), student=StudentOutputs(student)))
    assert found.recommended == "frequentist"
    headline = verdict(found).headline
    assert "Neither a temperature nor the student improves its NLL both significantly and by at least 1%." in headline
    (why,) = (line for line in verdict(found).lines if line.startswith("Why not "))
    assert why.startswith("Why not the student + temperature, which is another model? With the student + temperature")


def test_every_significant_loss_of_a_student_is_said():
    labels, _, samples, student = drawn(300)
    found = compare_outputs(Outputs(labels, samples[:, :, 0], samples, student=StudentOutputs(1 - student)))
    said = verdict(found)
    assert any(line.startswith("With the student, NLL: from ") and "significantly worse" in line for line in said.lines)
    assert any("With the student: Warning: it costs accuracy here: " in line for line in said.lines)
    assert any(line.startswith("Warning for the student: Brier: from ") for line in said.lines)
    assert any(line.startswith("Warning: accuracy of the student minus that of sampling") for line in said.lines)
    assert len(set(said.lines)) == len(said.lines)
