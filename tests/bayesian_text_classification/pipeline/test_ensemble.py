"""Several models as one classifier."""

import copy
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from bayesian_text_classification import BayesianTextClassificationPipeline, load
from bayesian_text_classification.loading.classifiers import ModelError
from bayesian_text_classification.loading.fingerprint import fingerprint
from bayesian_text_classification.pipeline.ensemble import order_of_labels
from bayesian_text_classification.pipeline.probe import mean_rate
from bayesian_text_classification.pipeline.rates import OWN, Rates
from bayesian_text_classification.pipeline.uncertainty import error_of_members
from pipeline_cases import TASK, TEXTS
from transformers import pipeline

RATE = Rates(inserted=0.1)
NAMES = ["calm", "glad", "sad"]
MANY = [f"{word} film, number {i}" for i in range(15) for word in ("a good", "a bad")]


def named(model, names=NAMES):
    model.config.id2label, model.config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
    return model


@pytest.fixture(scope="module")
def models(tiny):
    """Three models of two architectures."""
    found = []
    for seed, kind in enumerate(["bert", "bert", "distilbert"]):
        model = named(tiny(kind, num_labels=3))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            model.classifier.weight.normal_(0, 0.5)
        found.append(model)
    return found


@pytest.fixture(scope="module")
def folders(models, saved_to, tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    return [saved_to(folder / str(i), model) for i, model in enumerate(models)]


@pytest.fixture(scope="module")
def ours(folders):
    return load(folders)


@pytest.fixture(scope="module")
def of_members(folders, tokenizer):
    """Probabilities of the stock pipelines. *Shape:* (texts, classes, members)."""
    found = []
    for folder in folders:
        answers = pipeline("text-classification", model=str(folder))(TEXTS, top_k=None)
        found.append([[next(d["score"] for d in one if d["label"] == name) for name in NAMES] for one in answers])
    return np.moveaxis(np.array(found), 0, 2)


# --- truth from the host library and by hand --------------------------------------------------------------------------


def test_scores_are_the_mean_of_the_stock_pipelines(ours, of_members):
    np.testing.assert_allclose(ours.predict_proba(TEXTS), of_members.mean(2), rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.sample_proba(TEXTS), of_members, rtol=0, atol=1e-6)


def test_the_keys_of_a_result_describe_the_members(ours, of_members):
    for result, p in zip(ours(TEXTS), of_members, strict=True):
        mean = p.mean(1)
        best = mean.argmax()
        assert (result["label"], result["num_samples"]) == (NAMES[best], 3)
        assert result["score_std"] == pytest.approx(p[best].std(), abs=1e-6)
        assert result["standard_error"] == pytest.approx(p[best].std(ddof=1) / np.sqrt(3), abs=1e-6)
        expected = -(p * np.log(p)).sum(0).mean()
        assert result["predictive_entropy"] == pytest.approx(-(mean * np.log(mean)).sum(), abs=1e-5)
        assert result["expected_entropy"] == pytest.approx(expected, abs=1e-5)


def test_fewer_samples_are_those_of_some_models(ours, of_members, folders):
    np.testing.assert_allclose(ours.sample_proba(TEXTS, num_samples=2), of_members[:, :, :2], atol=1e-6)
    later = ours.sample_proba(TEXTS, num_samples=2, first_sample=1)
    np.testing.assert_allclose(later, of_members[:, :, 1:], atol=1e-6)
    assert ours(TEXTS, num_samples=0) == pipeline("text-classification", model=str(folders[0]))(TEXTS)


def test_with_dropout_each_member_draws_its_share(ours, folders):
    found = ours.sample_proba(TEXTS, num_samples=12, posterior="ensemble+dropout", seed=5)
    for i, folder in enumerate(folders):
        own = load(folder).sample_proba(TEXTS, num_samples=4, seed=5 + i)
        np.testing.assert_allclose(found[:, :, 4 * i : 4 * i + 4], own, rtol=0, atol=1e-6)
    means = found.reshape(3, 3, 3, 4).mean(3, dtype=np.float64)
    for result, p in zip(ours(TEXTS, num_samples=12, posterior="ensemble+dropout", seed=5), means, strict=True):
        best = p.mean(1).argmax()
        error = min(p[best].std(ddof=1) / np.sqrt(3), result["score_std"])
        assert result["standard_error"] == pytest.approx(error, abs=1e-6)


def test_later_samples_with_dropout_continue_each_member(ours):
    options = {"posterior": "ensemble+dropout", "num_samples": 3}
    first, later = ours.sample_proba(TEXTS, **options), ours.sample_proba(TEXTS, first_sample=3, **options)
    both = ours.sample_proba(TEXTS, posterior="ensemble+dropout", num_samples=6)
    np.testing.assert_allclose(both[:, :, ::2], first, rtol=0, atol=1e-6)
    np.testing.assert_allclose(both[:, :, 1::2], later, rtol=0, atol=1e-6)


def test_error_of_members_by_hand():
    """Two members with the means 0.2 and 0.6: s = 0.2 sqrt(2), and s / sqrt(2) = 0.2."""
    samples = np.array([[[0.1, 0.3, 0.5, 0.7]]])
    assert error_of_members(samples, 2) == pytest.approx(0.2)
    assert np.isnan(error_of_members(samples[:, :, :2], 2)).all()


# --- labels -----------------------------------------------------------------------------------------------------------


def test_members_are_matched_by_the_names_of_their_labels(models, tokenizer, ours):
    turned = copy.deepcopy(models[1])
    with torch.no_grad():
        for values in (turned.classifier.weight, turned.classifier.bias):
            values.copy_(values.flip(0))
    named(turned, NAMES[::-1])
    other = BayesianTextClassificationPipeline(model=[models[0], turned, models[2]], tokenizer=tokenizer)
    np.testing.assert_allclose(other.predict_proba(TEXTS), ours.predict_proba(TEXTS), rtol=0, atol=1e-6)


@pytest.mark.parametrize("names", [["calm", "glad", "angry"], ["calm", "calm", "sad"]])
def test_other_labels_are_refused(models, tokenizer, names):
    other = named(copy.deepcopy(models[1]), names)
    with pytest.raises(ValueError, match=r"model 2 of the ensemble has the labels .* need the same labels"):
        order_of_labels(models[0].config, other.config, 2)
    with pytest.raises(ValueError, match="model 2 of the ensemble"):
        BayesianTextClassificationPipeline(model=[models[0], other], tokenizer=tokenizer)


# --- options ----------------------------------------------------------------------------------------------------------


def test_defaults(folders):
    assert (load(folders).sampling.num_samples, load(folders).sampling.posterior) == (3, "ensemble")
    both = load(folders, posterior="ensemble+dropout").sampling
    assert (both.num_samples, both.posterior) == (21, "ensemble+dropout")
    one = load(folders, posterior="dropout")
    assert (one.sampling.num_samples, len(one.members)) == (20, 3)


@pytest.fixture(scope="module")
def saved(ours, tmp_path_factory):
    """The folder of a saved ensemble."""
    folder = tmp_path_factory.mktemp("ensemble")
    ours.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("posterior", "count"), [("dropout", 20), ("ensemble", 3), ("ensemble+dropout", 21)])
def test_a_posterior_has_one_default_in_every_place(folders, ours, saved, tmp_path, posterior, count):
    assert load(folders, posterior=posterior).sampling.num_samples == count
    again = load(saved, posterior=posterior)
    assert again.sampling.num_samples == count
    assert load(saved, posterior=posterior, num_samples=6 - 3 * (count == 3)).sampling.num_samples in (3, 6)
    for classifier in (ours, load(saved)):
        assert classifier.sample_proba(TEXTS[:1], posterior=posterior).shape[2] == count
    again.save_pretrained(tmp_path / "again")
    assert load(tmp_path / "again").sampling.num_samples == count


REFUSED = {
    "an ensemble of 3 models has 3 samples: pass num_samples=3, or": {"num_samples": 4},
    "pass a multiple of 3": {"num_samples": 20, "posterior": "ensemble+dropout"},
    "pass tolerance=None": {"tolerance": 0.02},
    r'pass posterior="ensemble\+dropout", or dropout=None': {"dropout": 0.2},
    "posterior='both'; it must be one of": {"posterior": "both"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_calls_that_cannot_work_say_what_does(message, ours, folders):
    for refused in (lambda: ours(TEXTS, **REFUSED[message]), lambda: load(folders, **REFUSED[message])):
        with pytest.raises(ValueError, match=message) as error:
            refused()
        assert "\n" not in str(error.value)


def test_lists_that_cannot_work_say_what_does(folders, models, tokenizer):
    with pytest.raises(ValueError, match=r"needs several models; load them with bayesian_text_classification\.load"):
        load(folders[0], posterior="ensemble")
    with pytest.raises(ValueError, match=r"must be loaded: pass instances, or call bayesian_text_classification\.load"):
        BayesianTextClassificationPipeline(model=["a", "b"], tokenizer=tokenizer)
    with pytest.raises(ValueError, match="got 3 models and 2 tokenizers"):
        BayesianTextClassificationPipeline(model=models, tokenizer=[tokenizer] * 2)
    for wrong in (lambda: load([]), lambda: load(folders[0], adapters=[]), lambda: load(folders, adapters=["a"])):
        with pytest.raises(ValueError, match=r"not both, and no empty list"):
            wrong()
    with pytest.raises(ValueError, match=r"adapters='lora'; pass a list, or load that adapter alone: load\('lora'\)"):
        load(folders[0], adapters="lora")
    with pytest.raises(ValueError, match="a list of models needs tokenizer="):
        BayesianTextClassificationPipeline(model=models)
    with pytest.raises(ModelError, match="no such folder"):
        load([folders[0], folders[0].parent / "missing"])


def test_a_part_of_an_ensemble_gives_no_scores(ours, folders):
    """What was fitted is for the mean of all models."""
    message = (
        r"^num_samples=2; an ensemble of 3 models takes one pass of each: pass num_samples=3, or load fewer models$"
    )
    for refused in (ours, ours.predict_proba):
        with pytest.raises(ValueError, match=message):
            refused(TEXTS, num_samples=2)
    with pytest.raises(ModelError, match="num_samples=2; an ensemble of 3 models"):
        load(folders, num_samples=2)
    with pytest.raises(ValueError, match=message):
        ours.calibrate(MANY, [0, 1] * 15, num_samples=2)


def test_a_model_that_is_listed_twice_would_agree_with_itself(folders, models, tokenizer, monkeypatch):
    monkeypatch.chdir(folders[0].parent)
    for twice in ([folders[0], folders[1], folders[0]], ["0", folders[0]], ["0", "./0/"]):
        with pytest.raises(ValueError, match=r"^the ensemble has .*0/? twice; name each model once$"):
            load(twice)
    with pytest.raises(ValueError, match="the list has one model twice, so these members would always agree"):
        BayesianTextClassificationPipeline(model=[models[0], models[0]], tokenizer=tokenizer)


@pytest.mark.parametrize("other", [None, 3])
def test_what_is_no_name_of_a_model_is_refused_with_what_takes_models(folders, other):
    with pytest.raises(
        ValueError, match=rf"^{type(other).__name__} is not the name of a model; .*transformers\.pipeline"
    ):
        load([folders[0], other])


def test_models_in_memory_are_sent_to_the_pipeline(models):
    with pytest.raises(ValueError, match=r'^BertFor.* For models in memory, call transformers\.pipeline\("bayesian-'):
        load(models[:2])
    with pytest.raises(ValueError, match="is not the name of a model"):
        load(models[0])


def test_an_ensemble_does_not_choose_its_dropout(ours):
    with pytest.raises(ValueError, match=r'is for one model; .* posterior="ensemble\+dropout"'):
        ours.calibrate(MANY, [0] * len(MANY), dropout="auto")


def test_the_registered_task_takes_a_list_of_models(models, tokenizer, ours):
    found = pipeline(TASK, model=models, tokenizer=tokenizer)
    assert [model.config.model_type for model in found.members] == ["bert", "bert", "distilbert"]
    np.testing.assert_allclose(found.predict_proba(TEXTS), ours.predict_proba(TEXTS), rtol=0, atol=1e-6)


def test_a_text_that_is_too_long_for_one_member_is_truncated(models, tokenizer):
    short = copy.deepcopy(tokenizer)
    short.model_max_length = 8
    found = BayesianTextClassificationPipeline(model=models[:2], tokenizer=[tokenizer, short])
    assert [one["truncated"] for one in found([TEXTS[0], "word " * 20])] == [False, True]


def test_bad_inputs_are_named_by_their_number(ours):
    with pytest.raises(ValueError, match="input 1030"):
        ours(["fine"] * 1030 + [None])


def test_members_do_not_change_and_copies_and_pickles_answer_alike(ours, models, same_random_state):
    before = [copy.deepcopy(model.state_dict()) for model in ours.members]
    expected = ours(TEXTS)
    with same_random_state():
        assert copy.copy(ours)(TEXTS) == expected
        assert pickle.loads(pickle.dumps(ours))(TEXTS) == expected
    for model, values in zip(ours.members, before, strict=True):
        assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())


# --- calibration and files --------------------------------------------------------------------------------------------


@pytest.fixture
def calibrated(folders):
    found = load(folders)
    answers = found.predict_proba(MANY).argmax(1).tolist()
    found.calibrate(MANY, [answer if i % 5 else (answer + 1) % 3 for i, answer in enumerate(answers)])
    return found


def test_a_calibration_is_for_one_posterior(calibrated):
    assert list(calibrated.calibration) == ["ensemble"] and calibrated.temperature != 1
    with pytest.warns(UserWarning, match="scores of the ensemble with dropout are not calibrated"):
        calibrated(TEXTS, num_samples=6, posterior="ensemble+dropout")
    calibrated.threshold = 0.5
    with pytest.warns(UserWarning, match="was chosen for scores of the ensemble, so it is not used"):
        assert "abstained" not in calibrated(TEXTS, num_samples=6, posterior="ensemble+dropout")[0]
    assert "abstained" in calibrated(TEXTS)[0]


def test_a_saved_ensemble_answers_alike_with_and_without_this_package(calibrated, tmp_path, folders):
    calibrated.save_pretrained(tmp_path)
    expected = calibrated(TEXTS)
    again = load(tmp_path)
    assert again(TEXTS) == expected and again.sampling == calibrated.sampling
    assert pipeline(model=str(tmp_path), trust_remote_code=True)(TEXTS) == expected
    first = pipeline("text-classification", model=str(tmp_path))(TEXTS)  # an ordinary checkpoint of the first model
    assert first == pipeline("text-classification", model=str(folders[0]))(TEXTS)
    member = json.loads((tmp_path / "members" / "2" / "config.json").read_text())
    assert member["model_type"] == "distilbert" and "bayesian_text_classification" not in member
    card = (tmp_path / "README.md").read_text()
    assert "averages the probabilities of 3 models" in card and "dropout mask" not in card.partition("###")[2]
    assert "number of passes for this text" in card and "divided among 3 models" in card
    assert fingerprint(again) == fingerprint(calibrated) != fingerprint(load(folders[0]))


def test_what_was_fitted_for_one_model_is_not_used_and_that_is_said(folders, tmp_path):
    one = load(folders[0], threshold=0.9)
    one.save_pretrained(tmp_path)
    with pytest.warns(
        UserWarning, match=r"is not used for the ensemble; pass dropout=\.\.\., and call classifier\.cal"
    ):
        ours = load([tmp_path, folders[1]])
    assert ours.threshold is None and not ours.calibration


def test_samples_past_the_end_are_refused(ours):
    with pytest.raises(ValueError, match="num_samples=3 from first_sample=1; an ensemble of 3 models has 3 samples"):
        ours.sample_proba(TEXTS, first_sample=1)
    with pytest.raises(ValueError, match=r"and as first_sample too \(now 4\)"):
        ours.sample_proba(TEXTS, num_samples=3, first_sample=4, posterior="ensemble+dropout")


def test_members_of_another_kind_are_refused(models, tokenizer):
    other = copy.deepcopy(models[1])
    other.config.problem_type = "multi_label_classification"
    with pytest.raises(ValueError, match="model 2 of the ensemble is a model of independent labels, and model 1 is a"):
        BayesianTextClassificationPipeline(model=[models[0], other], tokenizer=tokenizer)


def test_labels_that_were_renamed_after_loading_are_saved_for_all_members(models, tokenizer, tmp_path):
    turned = named(copy.deepcopy(models[1]), NAMES[::-1])
    ours = BayesianTextClassificationPipeline(model=[copy.deepcopy(models[0]), turned], tokenizer=tokenizer)
    expected = ours.predict_proba(TEXTS)
    named(ours.model, ["x", "y", "z"])
    ours.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.members[1].config.id2label == {0: "z", 1: "y", 2: "x"} and turned.config.id2label[0] == "sad"
    np.testing.assert_allclose(again.predict_proba(TEXTS), expected, rtol=0, atol=1e-6)


def test_members_with_dropout_keep_it_and_others_get_it(tiny, models, tokenizer):
    still = named(tiny("bert", num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    ours = BayesianTextClassificationPipeline(model=[models[0], still], tokenizer=tokenizer)
    options = {"num_samples": 8, "posterior": "ensemble+dropout"}
    with pytest.raises(
        ValueError, match=r'model 2 of the ensemble: .* pass dropout=0\.1 .*; posterior="ensemble" needs'
    ):
        ours.sample_proba(TEXTS, **options)
    found = ours.sample_proba(TEXTS, dropout=0.1, **options)
    for k, (model, rate) in enumerate([(models[0], None), (still, 0.1)]):
        alone = BayesianTextClassificationPipeline(model=model, tokenizer=tokenizer, dropout=rate, seed=k)
        own = alone.sample_proba(TEXTS, num_samples=4)
        np.testing.assert_allclose(found[:, :, 4 * k : 4 * k + 4], own, rtol=0, atol=1e-6)
    answers = ours.predict_proba(MANY, dropout=0.1, **options).argmax(1)
    ours.calibrate(MANY, [(int(one) + (i % 5 == 0)) % 3 for i, one in enumerate(answers)], dropout=0.1, **options)
    sites = ours._sampler.sites(OWN), ours._sampler.others[0].sampler.sites(RATE)
    rates = [mean_rate(of_model) for of_model in sites]
    assert ours.calibration["ensemble+dropout"].dropout_rate == pytest.approx(np.mean(rates))


def test_a_saved_ensemble_is_no_member_and_an_incomplete_one_is_refused(calibrated, tmp_path, folders):
    from safetensors.torch import load_file, save_file

    calibrated.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="itself a saved ensemble; list the models, or load that folder alone"):
        load([tmp_path, folders[0]])
    weights = tmp_path / "members" / "1" / "model.safetensors"
    kept = {name: value for name, value in load_file(weights).items() if name != "classifier.weight"}
    save_file(kept, weights, {"format": "pt"})
    with pytest.raises(ModelError, match=r"members/1 lacks classifier\.weight, which would be random"):
        load(tmp_path)
    weights.unlink()
    with pytest.raises(ModelError, match=r"model 2 of the ensemble did not load from members/1: .* classifier\.save_"):
        load(tmp_path)
    shutil.rmtree(weights.parent)
    with pytest.raises(ModelError, match=r"model 2 of the ensemble is missing: .* has no folder members/1; save the"):
        load(tmp_path)


def test_the_fingerprint_knows_the_order_of_each_members_labels(models, tokenizer):
    turned = named(copy.deepcopy(models[1]), NAMES[::-1])
    one, other = (
        BayesianTextClassificationPipeline(model=[models[0], second], tokenizer=tokenizer)
        for second in (models[1], turned)
    )
    assert fingerprint(one) != fingerprint(other)


def test_an_endpoint_answers_the_request_on_the_card(calibrated, tmp_path):
    from bayesian_text_classification.pipeline.handler import EndpointHandler

    calibrated.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert '"parameters": {"num_samples": 3}' in card and "An ensemble makes them more honest" in card
    assert EndpointHandler(str(tmp_path))({"inputs": TEXTS, "parameters": {"num_samples": 3}}) == calibrated(TEXTS)


def test_no_copied_file_needs_peft():
    """Transformers refuses a repository whose files import a package that is missing, unless in a `try`."""
    from pathlib import Path

    from bayesian_text_classification.pipeline import members
    from transformers.dynamic_module_utils import get_imports

    files = sorted(Path(members.__file__).parent.glob("*.py"))
    assert len(files) > 30 and not [file.name for file in files if "peft" in get_imports(file)]


def test_members_share_a_token_budget(ours):
    other = copy.copy(ours)
    other.batch_tokens = 7
    assert [member.sampler.batch_tokens for member in other._sampler.others] == [7, 7]
    assert ours.batch_tokens > 7


def test_a_single_model_saved_into_the_same_folder_is_a_single_model(calibrated, tmp_path, folders):
    calibrated.save_pretrained(tmp_path)
    load(folders[1]).save_pretrained(tmp_path)
    again = load(tmp_path)
    assert len(again.members) == 1 and again.sampling.posterior == "dropout"
    assert not list((tmp_path / "members").glob("*"))
