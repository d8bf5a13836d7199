"""The command `export`: folders, graphs, the command of vLLM, and one line for everything that is refused."""

import json
import re
import shlex

import numpy as np
import pytest
from bayesian_text_classification import BayesianTextClassificationPipeline, PlattScaling, TemperatureScaling, load
from commands import asked, refused
from transformers import pipeline

pytestmark = pytest.mark.usefixtures("loud_libraries")
TEXTS = ["a good film", "a bad film", "It has its moments."]
T = 1.7


@pytest.fixture
def folder(tiny, tokenizer, tmp_path):
    """Saves a classifier with a calibration, and returns its folder."""

    def save(calibration, *models, name="my-classifier", **settings):
        models = models or (tiny("bert", num_labels=3, **settings),)
        options = {} if len(models) > 1 else {"num_samples": 0}
        model = models[0] if len(models) == 1 else list(models)
        classifier = BayesianTextClassificationPipeline(model=model, tokenizer=tokenizer, **options)
        classifier.calibration = calibration
        classifier.save_pretrained(tmp_path / name)
        return tmp_path / name

    return save


def test_a_folder_for_stock_pipelines(folder, tmp_path):
    saved = folder({"ordinary": TemperatureScaling(T)})
    done = asked("export", "--model", saved, "--output", tmp_path / "new" / "served")
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{tmp_path / 'new' / 'served'}\n", "")
    answers = pipeline("text-classification", model=str(tmp_path / "new" / "served"))(TEXTS)
    for answer, own in zip(answers, load(saved)(TEXTS), strict=True):
        assert answer == {"label": own["label"], "score": pytest.approx(own["score"], abs=1e-6)}


def test_a_graph(folder, tmp_path):
    import onnxruntime

    saved = folder({"ordinary": TemperatureScaling(T)})
    done = asked("export", "--model", saved, "--to", "onnx", "--output", tmp_path / "graph")
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{tmp_path / 'graph'}\n", "")
    classifier = load(saved)
    rows = classifier.tokenizer(TEXTS, padding=True, return_tensors="np")
    (logits,) = onnxruntime.InferenceSession(str(tmp_path / "graph" / "model.onnx")).run(["logits"], dict(rows))
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(scores, classifier.predict_proba(TEXTS), rtol=0, atol=1e-4)


def pooler_config(done):
    """The command that was printed, and its settings."""
    assert (done.exit_code, done.stderr) == (0, "")
    *words, settings = shlex.split(done.stdout)
    return words, json.loads(settings)


def vllm_scores(logits, logit_mean=0.0, logit_sigma=1.0):
    """What vLLM's pooler of classifiers computes before its activation."""
    return (logits - logit_mean) / logit_sigma


def test_the_command_of_vllm(folder, tiny):
    saved = folder({"ordinary": TemperatureScaling(T)})
    words, settings = pooler_config(asked("export", "--model", saved, "--to", "vllm"))
    assert words == ["vllm", "serve", str(saved), "--pooler-config"]
    assert settings == {"logit_sigma": pytest.approx(T)}
    alone = folder({"ordinary": PlattScaling((0.5,), (1.5,))}, tiny("bert", num_labels=1), name="alone")
    _, settings = pooler_config(asked("export", "--model", alone, "--to", "vllm"))
    assert settings == {"logit_mean": -3.0, "logit_sigma": 2.0}
    logits = np.linspace(-4, 4, 9)
    np.testing.assert_allclose(vllm_scores(logits, **settings), 0.5 * logits + 1.5)


def test_what_vllm_cannot_express_is_refused(folder):
    several = folder(
        {"ordinary": PlattScaling((0.5, 1.0, 2.0), (0.0, 1.0, 0.0))}, problem_type="multi_label_classification"
    )
    line = refused(asked("export", "--model", several, "--to", "vllm"))
    assert "one logit_sigma for all labels" in line and "--to 'transformers', whose weights hold it" in line
    biased = folder({"ordinary": TemperatureScaling(T, (1.0, 0.0, -1.0))}, name="biased")
    assert "differs between them" in refused(asked("export", "--model", biased, "--to", "vllm"))


def test_an_adapter_is_not_for_the_settings_of_vllm(folder, tiny):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny("bert", num_labels=3), LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))
    saved = folder({"ordinary": TemperatureScaling(T)}, model)
    assert "an adapter, which vLLM would not merge" in refused(asked("export", "--model", saved, "--to", "vllm"))


def test_a_missing_calibration_is_answered_with_the_command(folder, tmp_path):
    saved = folder({"dropout": TemperatureScaling(T)})
    line = refused(asked("export", "--model", saved, "--output", tmp_path / "served"))
    (advice,) = re.findall(r"run (bayesian-text-classification calibrate .*?), and export --model my-classifier", line)
    assert "or pass --uncalibrated" in line and not (tmp_path / "served").exists()
    labels = load(saved).predict_proba(TEXTS * 5, num_samples=0).argmax(1)
    rows = [
        f"{text},{(label + (i % 4 == 0)) % 3}" for i, (text, label) in enumerate(zip(TEXTS * 5, labels, strict=True))
    ]
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *rows]))
    words = shlex.split(advice)[1:]
    places = {"my-labeled-texts.csv": tmp_path / "texts.csv", "my-classifier": tmp_path / "calibrated"}
    done = asked(*[places.get(word, word) for word in words])
    assert done.exit_code == 0, done.stderr
    assert asked("export", "--model", tmp_path / "calibrated", "--output", tmp_path / "served").exit_code == 0
    done = asked("export", "--model", saved, "--uncalibrated", "--output", tmp_path / "as-it-is")
    assert done.exit_code == 0 and (tmp_path / "as-it-is" / "model.safetensors").exists()


def test_refusals_are_one_line(folder, tiny, tmp_path):
    saved = folder({"ordinary": TemperatureScaling(T)})
    assert refused(asked("export", "--model", saved)) == "--to transformers needs --output, the folder to write"
    line = refused(asked("export", "--model", saved, "--to", "vllm", "--output", tmp_path / "served"))
    assert line == "--to vllm writes nothing: leave out --output"
    line = refused(asked("export", "--model", saved, "--to", "vllm", "--uncalibrated"))
    assert line == "--to vllm prints a calibration: leave out --uncalibrated"
    assert "not empty; choose a new folder" in refused(asked("export", "--model", saved, "--output", saved))
    several = folder({}, tiny("bert", num_labels=3), tiny("bert", num_labels=3), name="several")
    line = refused(asked("export", "--model", several, "--output", tmp_path / "served"))
    assert "an ensemble of 2 models" in line and "run distill, which makes one model of their averages" in line
    assert not (tmp_path / "served").exists()
