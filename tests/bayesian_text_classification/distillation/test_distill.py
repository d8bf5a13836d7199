"""Students: what they learn, what they keep, and what is refused."""

import copy
import random

import numpy as np
import pytest
import torch
from bayesian_text_classification import load
from bayesian_text_classification.distillation import distill as module
from bayesian_text_classification.distillation.closeness import closeness
from bayesian_text_classification.pipeline.distillation import Distillation
from bayesian_text_classification.pipeline.inputs import text_hash
from bayesian_text_classification.pipeline.scaling import TemperatureScaling
from random_texts import random_texts
from transformers import pipeline

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*are few for a student"),
    pytest.mark.filterwarnings("ignore:the student is no closer"),
]

TEXTS = random_texts(200)
MORE = ["llama", "modernbert", "xlnet"]


@pytest.fixture(scope="module")
def teacher(tiny, tokenizer):
    """A tiny BERT whose samples differ a lot from its ordinary pass: large weights and much dropout."""
    model = tiny("bert", hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3)
    return pipeline("bayesian-text-classification", model=model, tokenizer=tokenizer, num_samples=10)


@pytest.fixture(scope="module")
def student(teacher):
    return teacher.distill(TEXTS, epochs=10, learning_rate=1e-3, batch_size=16)


def test_student_is_closer_to_the_average_than_the_ordinary_pass(teacher, student):
    found = student.distillation
    assert found.student.kl < 0.7 * found.ordinary.kl
    assert found.student.rms < found.ordinary.rms
    new = random_texts(60, seed=1)
    average = teacher.predict_proba(new)
    apart = [
        np.abs(one - average).mean() for one in (student.predict_proba(new), teacher.predict_proba(new, num_samples=0))
    ]
    assert apart[0] < apart[1]


def test_student_answers_with_one_ordinary_pass(student):
    assert student.sampling.num_samples == 0
    stock = pipeline("text-classification", model=student.model, tokenizer=student.tokenizer)
    assert student(TEXTS[:5]) == stock(TEXTS[:5])


def test_teacher_and_global_state_are_not_changed(teacher):
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    teacher.distill(TEXTS, epochs=1)
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # noqa: NPY002
    assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())
    assert not teacher.model.training and teacher.distillation is None


def test_training_is_reproducible(teacher, student):
    again = teacher.distill(list(reversed(TEXTS)), epochs=10, learning_rate=1e-3, batch_size=16)
    np.testing.assert_allclose(again.predict_proba(TEXTS[:20]), student.predict_proba(TEXTS[:20]), atol=1e-5)


def test_record_says_what_was_done(teacher, student):
    found = student.distillation
    distinct = len(set(TEXTS))
    assert (found.how, found.texts, found.held_out) == ("weights", distinct - 2 * (distinct // 10), distinct // 10)
    assert found.teacher_scores["num_samples"] == 10 and not found.calibrated
    settings = found.settings
    assert (settings["epochs"], settings["learning_rate"], settings["batch_size"]) == (10, 1e-3, 16)
    assert len(settings["kl_of_epochs"]) == 10
    assert settings["epoch"] == 1 + int(np.argmin(settings["kl_of_epochs"]))
    assert student.distilled_on == {text_hash(text) for text in TEXTS}
    assert Distillation.of_saved({**found.saved(), "of_a_later_version": 1}) == found


def test_saved_student_is_an_ordinary_checkpoint(student, tmp_path):
    student.save_pretrained(tmp_path / "student")
    answers = pipeline("text-classification", model=str(tmp_path / "student"))(
        TEXTS[:5]
    )  # trusts no code of the folder
    expected = student(TEXTS[:5])
    for one, other in zip(answers, expected, strict=True):
        assert one["label"] == other["label"] and one["score"] == pytest.approx(other["score"], abs=1e-6)
    loaded = load(tmp_path / "student")
    assert loaded.sampling.num_samples == 0
    assert loaded.distillation == student.distillation and loaded.distilled_on == student.distilled_on
    card = (tmp_path / "student" / "README.md").read_text()
    assert "This classifier is a student" in card and student.distillation.teacher in card
    with pytest.warns(UserWarning, match="samples the student's own dropout.*num_samples=0") as seen:
        loaded("good film", num_samples=2)
    assert seen[0].filename == __file__  # the line to change


def test_lost_hashes_are_warned_about(student, tmp_path):
    student.save_pretrained(tmp_path / "student")
    (tmp_path / "student" / "distillation" / "distillation.npz").unlink()
    with pytest.warns(UserWarning, match="the texts of the student did not load"):
        loaded = load(tmp_path / "student")
    assert loaded.distillation == student.distillation and loaded.distilled_on == frozenset()


def test_ensemble_is_distilled_into_one_model(tiny, bayesian, tokenizer):
    models = [tiny("bert"), tiny("bert")]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for weight in models[1].parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    ensemble = pipeline("bayesian-text-classification", model=models, tokenizer=tokenizer)
    student = ensemble.distill(TEXTS, epochs=10, learning_rate=1e-3, batch_size=16)
    assert student.distillation.teacher_scores["posterior"] == "ensemble"
    assert student.distillation.student.kl < student.distillation.ordinary.kl
    assert len(student.members) == 1


@pytest.mark.parametrize(
    "settings",
    [{"problem_type": "multi_label_classification", "num_labels": 3}, {"num_labels": 1}],
    ids=["independent labels", "one output"],
)
def test_other_heads(tiny, bayesian, settings):
    model = tiny("bert", hidden_dropout_prob=0.3, **settings)
    student = bayesian(model, num_samples=10).distill(TEXTS, epochs=5, learning_rate=1e-3, batch_size=16)
    found = student.distillation
    assert found.student.kl < found.ordinary.kl
    assert student.model.config.problem_type == model.config.problem_type


def test_calibrated_scores_are_what_a_student_learns(teacher, student):
    calibrated = copy.copy(teacher)
    calibrated.temperature = 3.0
    own = calibrated.distill(TEXTS, epochs=10, learning_rate=1e-3, batch_size=16)
    assert own.distillation.calibrated and not own.calibration
    new = random_texts(60, seed=1)
    target, raw = calibrated.predict_proba(new), teacher.predict_proba(new)
    assert np.abs(own.predict_proba(new) - target).mean() < np.abs(own.predict_proba(new) - raw).mean()


@pytest.mark.filterwarnings("ignore:these scores are not calibrated")
def test_scores_at_other_rates_than_those_of_the_calibration_are_not_called_calibrated(teacher):
    calibrated = copy.copy(teacher)
    answers = teacher.predict_proba(TEXTS[:50], num_samples=4).argmax(1)
    labels = [int(answer) ^ (i % 4 == 0) for i, answer in enumerate(answers)]  # three of four are right
    calibrated.calibrate(TEXTS[:50], labels, num_samples=4)
    assert calibrated.distill(TEXTS, how="head", num_samples=4).distillation.calibrated
    assert not calibrated.distill(TEXTS, how="head", num_samples=4, dropout="2x").distillation.calibrated


@pytest.mark.parametrize(("own", "saved"), [("bfloat16", "bfloat16"), ("float16", "float32")])
def test_a_student_is_saved_in_the_dtype_that_it_runs_in(tiny, bayesian, tmp_path, own, saved):
    """A float16 model runs in float32 on a CPU. A stock pipeline takes the dtype of the weights, and gives the same."""
    model = tiny("bert", hidden_dropout_prob=0.3).to(getattr(torch, own))
    student = bayesian(model, num_samples=2).distill(TEXTS, epochs=1)
    assert student.model.dtype == getattr(torch, saved)
    student.save_pretrained(tmp_path)
    stock = pipeline("text-classification", model=str(tmp_path))(TEXTS[:3])
    for one, other in zip(stock, student(TEXTS[:3]), strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)


def test_the_ordinary_pass_of_a_calibrated_teacher_is_calibrated_too(teacher):
    """Else any student would seem close beside it."""
    calibrated = copy.copy(teacher)
    calibrated.temperature = 3.0
    found = calibrated.distill(TEXTS, how="head").distillation
    p = teacher.predict_proba(TEXTS, num_samples=0).astype(np.float64)
    same_scaling = p ** (1 / 3) / (p ** (1 / 3)).sum(1, keepdims=True)
    target = calibrated.predict_proba(TEXTS)
    raw, own = (closeness(target, one, "softmax").rms for one in (p, same_scaling))
    assert own < raw / 1.5 and found.ordinary.rms == pytest.approx(own, rel=0.25)  # of the texts that measure


def test_a_student_of_a_student_knows_the_texts_of_both(student, tmp_path):
    others = random_texts(120, seed=5)
    with pytest.warns(UserWarning, match="samples the student's own dropout"):
        second = student.distill(others, how="head", num_samples=2)
    assert second.distilled_on == student.distilled_on | {text_hash(text) for text in others}
    for i, one in enumerate((student, second)):
        one.save_pretrained(tmp_path / str(i))
    both = load([tmp_path / "0", tmp_path / "1"])
    assert both.distilled_on == second.distilled_on and both.distillation is None


def test_an_exported_student_is_still_known_as_one(student, tmp_path):
    own = copy.copy(student)
    own.calibration = {"ordinary": TemperatureScaling(2.0)}
    own.export(tmp_path / "calibrated")
    assert "figures from before the calibration" in (tmp_path / "calibrated" / "README.md").read_text()
    student.export(tmp_path / "served", uncalibrated=True)
    served = load(tmp_path / "served")
    assert served.distilled_on == student.distilled_on and served.distillation == student.distillation
    assert served.sampling.num_samples == 0 and served(TEXTS[:3]) == student(TEXTS[:3])
    card = (tmp_path / "served" / "README.md").read_text()
    assert "This classifier is a student" in card and student.distillation.teacher in card
    assert "before the calibration" not in card


def test_a_student_warns_if_it_is_calibrated_on_its_own_texts(student):
    own = copy.copy(student)
    texts = [*random_texts(30, seed=5), *TEXTS[:10]]
    labels = [int(i % 4 == 0) ^ int(p[1] > 0.5) for i, p in enumerate(own.predict_proba(texts))]
    with pytest.warns(UserWarning, match="^10 of 40 texts .* calibration will be .*; pass other texts") as seen:
        own.calibrate(texts, labels)
    with pytest.warns(
        UserWarning, match=r"^10 of 40 texts .* coverage may fall short of 0\.8; pass other texts"
    ) as sets:
        own.conformalize(texts, labels, coverage=0.8)
    held_out = [*random_texts(60, seed=7), f" {TEXTS[-1]} "]  # white space makes no other text
    with pytest.warns(UserWarning, match=r"^1 of 61 texts .* too many ordinary texts will seem new") as scope:
        own.learn_scope(TEXTS[:80], held_out=held_out)
    assert {one.filename for one in [*seen, *sets, *scope]} == {__file__}


def test_an_unfinished_checkpoint_is_left_alone(teacher, tmp_path):
    """A process was killed while it wrote the last one."""
    arguments = {"epochs": 2, "learning_rate": 1e-3, "batch_size": 16, "checkpoints": tmp_path}
    whole = teacher.distill(TEXTS, **arguments)
    *_, last = sorted(tmp_path.glob("weights-*/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for name in ("trainer_state.json", "optimizer.pt"):
        (last / name).unlink()
    again = teacher.distill(TEXTS, **arguments)
    np.testing.assert_allclose(again.predict_proba(TEXTS[:20]), whole.predict_proba(TEXTS[:20]), atol=1e-5)


def test_a_new_head_takes_no_options_of_a_training(teacher):
    for options in ({"epochs": 2}, {"learning_rate": 1e-3}, {"batch_size": 8}, {"training": {"bf16": True}}):
        with pytest.raises(ValueError, match=f"^{next(iter(options))} is for how='weights' and how='lora'"):
            teacher.distill(TEXTS, how="head", **options)


def test_lora_is_merged(teacher):
    student = teacher.distill(TEXTS, how="lora", epochs=5, batch_size=16)
    assert not hasattr(student.model, "peft_config")
    assert student.distillation.student.kl < student.distillation.ordinary.kl
    assert set(student.model.state_dict()) == set(teacher.model.state_dict())


def test_an_adapter_is_distilled_into_ordinary_weights(tiny, bayesian):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny("bert"), LoraConfig("SEQ_CLS", lora_dropout=0.5, init_lora_weights=False))
    student = bayesian(model.eval(), num_samples=4).distill(TEXTS, epochs=1)
    assert not hasattr(student.model, "peft_config")
    assert hasattr(model, "peft_config")


@pytest.mark.parametrize("kind", ["gpt2", "bart", *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE)])
def test_other_architectures(tiny, bayesian, kind):
    """GPT-2 and Llama have no padding here, so a step is made of single texts."""
    student = bayesian(tiny(kind), num_samples=2).distill(TEXTS[:120], epochs=1, learning_rate=1e-3)
    stock = pipeline("text-classification", model=student.model, tokenizer=student.tokenizer)
    assert student(TEXTS[:3]) == stock(TEXTS[:3])


def test_a_student_that_learned_nothing_is_warned_about(teacher, monkeypatch):
    """A learning rate that would destroy it. The weights stay those of the teacher, as nothing was closer."""
    with pytest.warns(UserWarning, match=r"the student is no closer to its teacher than .* pass more texts"):
        student = teacher.distill(TEXTS, epochs=1, learning_rate=10.0, batch_size=8)
    assert student.distillation.settings["epoch"] == 0
    expected = teacher.predict_proba(TEXTS[:5], num_samples=0)
    np.testing.assert_allclose(student.predict_proba(TEXTS[:5]), expected, atol=1e-6)


def test_settings_of_the_training_that_json_cannot_hold_are_kept_as_text(teacher, tmp_path):
    student = teacher.distill(TEXTS, epochs=1, training={"optim_args": None, "adam_beta1": 0.8, "fsdp": []})
    assert student.distillation.settings["adam_beta1"] == 0.8 and student.distillation.settings["fsdp"] == "[]"
    student.save_pretrained(tmp_path)
    assert load(tmp_path).distillation == student.distillation


def test_progress_counts_what_the_total_says(teacher):
    passes = []
    teacher.distill(TEXTS, epochs=2, num_samples=3, progress=passes.append)
    settings = {"how": "weights", "epochs": 2, "learning_rate": None, "batch_size": 32}
    plan = module.planned(teacher, TEXTS, **settings, training=None, checkpoints=None, num_samples=3)
    assert sum(passes) == plan.passes > 0 and plan.seconds() > 0


def test_stopped_training_continues_with_the_scores_that_are_kept(teacher, tmp_path, monkeypatch):
    arguments = {"epochs": 4, "learning_rate": 1e-3, "batch_size": 16, "checkpoints": tmp_path / "kept"}
    whole = teacher.distill(TEXTS, **{**arguments, "checkpoints": None})
    seen = []

    def stop(passes):
        seen.append(passes)
        if sum(seen) > 10 * len(set(TEXTS)) + 7 * len(set(TEXTS)):  # in the third epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teacher.distill(TEXTS, **arguments, progress=stop)
    monkeypatch.setattr(type(teacher), "predict_proba", counted(type(teacher).predict_proba, calls := []))
    again = []
    student = teacher.distill(TEXTS, **arguments, progress=again.append)
    assert not any(options.get("num_samples") != 0 for options in calls), "the teacher's scores are kept"
    assert sum(again) < 10 * len(TEXTS) + 2.5 * 3 * len(TEXTS) + 2 * len(TEXTS), "the first epochs are kept"
    np.testing.assert_allclose(student.predict_proba(TEXTS[:20]), whole.predict_proba(TEXTS[:20]), atol=1e-5)
    calls.clear()
    teacher.distill(TEXTS, how="head", checkpoints=tmp_path / "kept")
    assert all(options.get("num_samples") == 0 for options in calls), "another student of the same scores"
    with pytest.raises(ValueError, match="has the scores of another model, other texts or other options"):
        teacher.distill(TEXTS, **arguments, num_samples=4)
    with pytest.raises(ValueError, match="other texts"):  # a tokenizer may see the white space
        teacher.distill([f" {text}" for text in TEXTS], **arguments)


def counted(function, calls):
    def count(self, *args, **options):
        calls.append(options)
        return function(self, *args, **options)

    return count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"how": "all"}, r"how='all'; it must be one of 'weights', 'lora', 'head'"),
        ({"epochs": 0}, "epochs=0; it must be an integer of at least 1"),
        ({"batch_size": 1.5}, "batch_size=1.5; it must be an integer"),
        ({"learning_rate": -1}, "learning_rate=-1; it must be a positive number"),
        ({"num_samples": 0}, "num_samples=0; a student learns the average.*pass num_samples=20"),
        ({"num_samples": 1}, "num_samples=1; a student learns the average.*pass num_samples=20, or load an ensemble"),
        ({"training": "bf16"}, "training='bf16'; it must be a dict of TrainingArguments, such as {'bf16': True}"),
        ({"training": {"learning_rate": 1}}, r"training has 'learning_rate'; pass learning_rate=... to distill"),
        ({"training": {"load_best_model_at_end": False}}, "'load_best_model_at_end', which distill sets itself"),
        ({"training": {"gradient_checkpointing": True}}, "'gradient_checkpointing'.*pass a smaller batch_size, or how"),
        ({"training": {"eval_on_start": True}}, "'eval_on_start', which distill sets itself"),
        ({"training": {"nonsense": 3}}, "training has 'nonsense', which transformers.TrainingArguments does not take"),
        ({"training": {"lr_scheduler_type": "none"}}, "none is not a valid SchedulerType, please select one of"),
        ({"checkpoints": __file__}, "checkpoints=.*test_distill.py' is a file; pass the name of a folder"),
        ({"checkpoints": f"{__file__}/mine"}, r"checkpoints=.*mine' cannot be made \(Not a directory\); pass another"),
        ({"threshold": 0.9}, "'threshold' is not accepted here, only num_samples"),
        ({"max_length": 8}, "'max_length' is not accepted here.*keeps the tokenizer options of the constructor"),
    ],
)
def test_refusals(teacher, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        teacher.distill(TEXTS, **options)


def test_scores_that_a_server_would_not_give_are_refused(tiny, bayesian):
    ours = bayesian(tiny("bert"), num_samples=2, function_to_apply="sigmoid")
    with pytest.raises(
        ValueError, match=r"^function_to_apply='sigmoid' is an option .*; set .*, which is saved"
    ) as told:
        ours.distill(TEXTS)
    exec(str(told.value).split("; set ")[1].split(", which")[0], {"classifier": ours})
    student = ours.distill(TEXTS, how="head")
    stock = pipeline("text-classification", model=student.model, tokenizer=student.tokenizer, top_k=None)
    (answers,) = stock(TEXTS[:1])
    scores = sorted(student.predict_proba(TEXTS[:1])[0].tolist(), reverse=True)
    assert [one["score"] for one in answers] == pytest.approx(scores, abs=1e-6)


def test_a_student_has_nothing_to_distill(student):
    with pytest.raises(ValueError, match=r"this is a student, .*; distill its teacher instead"):
        student.distill(TEXTS)


def test_a_model_that_predicts_numbers_is_refused(tiny, bayesian):
    ours = bayesian(tiny("bert", num_labels=1, problem_type="regression"))
    with pytest.raises(ValueError, match=r"predicts numbers.*distill a classifier instead"):
        ours.distill(TEXTS)


def test_a_model_without_dropout_is_refused_with_the_way_out(tiny, bayesian):
    ours = bayesian(tiny("llama", attention_dropout=0.0))
    with pytest.raises(ValueError, match=r"dropout=0\.1"):
        ours.distill(TEXTS)
    assert ours.distill(TEXTS, dropout=0.1, num_samples=2, epochs=1).distillation.teacher_scores["dropout"] == 0.1


def test_missing_accelerate_is_named(teacher, monkeypatch):
    monkeypatch.setattr(module, "is_accelerate_available", lambda: False)
    monkeypatch.setattr(module, "is_peft_available", lambda: False)
    with pytest.raises(ImportError, match=r"how='weights' needs accelerate: pip install accelerate"):
        teacher.distill(TEXTS)
    with pytest.raises(ImportError, match=r"how='lora' needs peft: pip install peft, or pass how='weights'"):
        teacher.distill(TEXTS, how="lora")
