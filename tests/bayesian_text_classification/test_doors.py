"""Every kind of classifier goes through every door, or gets one line that says what to do instead.

`docs/reference/classifiers.md` holds the table. To rewrite it, run
`python -m pytest -m '' tests/bayesian_text_classification/test_doors.py --write-docs`.
"""

import json
import re
import warnings
from pathlib import Path

import datasets
import evaluate
import numpy as np
import pytest
import torch
from bayesian_text_classification import TASK, compare, label_thresholds, load, predict_file, rank, threshold_for
from bayesian_text_classification.evaluator import BayesianTextClassificationEvaluator
from bayesian_text_classification.hub.uploads import pipeline_upload
from bayesian_text_classification.loading.labeled_texts import LabeledTexts
from bayesian_text_classification.loading.problem import check_probabilities, has_independent_labels
from transformers import PreTrainedTokenizerBase, pipeline

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "classifiers.md"
TEXTS = [f"{word} film {i}" for i in range(12) for word in ("a good", "a bad", "an odd", "no", "the last")]
WITHOUT = {"attention_dropout": 0.0}
KINDS = {
    "one label, with dropout": lambda tiny: tiny("bert", num_labels=3),
    "ModernBERT": lambda tiny: tiny("modernbert", num_labels=3, **WITHOUT, embedding_dropout=0.0, mlp_dropout=0.0,
                                    classifier_dropout=0.0),
    "Llama": lambda tiny: tiny("llama", num_labels=3, **WITHOUT, pad_token_id=0),
    "Qwen3": lambda tiny: tiny("qwen3", num_labels=3, **WITHOUT, pad_token_id=0),
    "EuroBERT": lambda tiny: tiny("eurobert", num_labels=3, **WITHOUT, pad_token_id=0),
    "independent labels": lambda tiny: tiny("bert", num_labels=3, problem_type="multi_label_classification"),
    "one output": lambda tiny: tiny("bert", num_labels=1),
    "pairs of texts": lambda tiny: tiny("bert", num_labels=3),
    "LoRA adapter": lambda tiny: adapted(tiny("bert", num_labels=3)),
    "saved with a calibration": lambda tiny: tiny("bert", num_labels=3),
    "two classes": lambda tiny: tiny("bert", num_labels=2),
    "150 classes": lambda tiny: tiny("bert", num_labels=150),
    "numbers (regression)": lambda tiny: tiny("bert", num_labels=1, problem_type="regression"),
}  # fmt: skip
NO_DROPOUT = ("ModernBERT", "Llama", "Qwen3", "EuroBERT")
ENSEMBLE = "ensemble of three models"
KINDS[ENSEMBLE] = lambda tiny: [
    tiny("bert", num_labels=3),
    tiny("distilbert", num_labels=3),
    tiny("bert", num_labels=3),
]
INSERTED = "with `dropout=0.1`"
KINDS |= {f"{kind} {INSERTED}": KINDS[kind] for kind in NO_DROPOUT}
# These differ from another kind in their architecture, size or calibration alone.
SLOW = {f"{kind}{more}" for kind in NO_DROPOUT if kind != "Llama" for more in ("", f" {INSERTED}")}
SLOW |= {"two classes", "150 classes", "saved with a calibration"}


def adapted(model):
    """The model with a LoRA adapter."""
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LoraConfig(task_type="SEQ_CLS", r=4, lora_dropout=0.1, target_modules=["query", "value"])
        return get_peft_model(model, config).eval()


class Case:
    """A classifier, and labels that it gets right about two times in three."""

    def __init__(self, kind, tiny, tokenizer, folder):
        self.kind, self.folder, self.names = kind, folder, None
        self.samples = 0 if kind in NO_DROPOUT else 4
        options = {"num_samples": self.samples, "dropout": 0.1 if INSERTED in kind else None}
        if kind == ENSEMBLE:
            options = {}
        self.classifier = pipeline(TASK, model=KINDS[kind](tiny), tokenizer=tokenizer, **options)
        self.texts = [{"text": text, "text_pair": "so"} for text in TEXTS] if "pairs" in kind else TEXTS
        p = self.classifier.predict_proba(self.texts)
        self.independent = has_independent_labels(self.classifier)
        wrong = np.arange(len(p)) % 3 == 0
        if self.classifier.activation == "none":
            self.labels = p[:, 0]
        elif p.shape[1] == 1 or self.independent:
            self.labels = np.where(wrong[:, None], p < 0.5, p >= 0.5).astype(int)
            self.labels[:2] = [[0], [1]]
            self.labels = self.labels if self.independent else self.labels[:, 0]
        else:
            self.labels = np.where(wrong, p.argsort(1)[:, -2], p.argmax(1))
        if kind.startswith("saved"):
            self.classifier.calibrate(self.texts, self.labels)
            self.classifier.save_pretrained(folder / "saved")
            self.classifier = load(folder / "saved")

    def right(self):
        """The score of each text and whether it is right."""
        p = self.classifier.predict_proba(self.texts)
        if p.shape[1] == 1:
            return np.maximum(p, 1 - p)[:, 0], (p[:, 0] >= 0.5) == self.labels
        return p.max(1), p.argmax(1) == self.labels


def call(case):
    results = case.classifier(case.texts)
    assert len(results) == len(TEXTS)
    assert all(0 <= result["score"] <= 1 or case.classifier.activation == "none" for result in results)


def calibrate(case):
    before = case.classifier.predict_proba(case.texts)
    case.classifier.calibrate(case.texts, case.labels)
    moved = np.abs(case.classifier.predict_proba(case.texts) - before).max()
    assert moved == pytest.approx(0, abs=1e-6) if "saved" in case.kind else moved > 1e-6  # the same fit again


def threshold(case):
    if case.independent:
        p = case.classifier.predict_proba(case.texts)
        found = label_thresholds(p, case.labels, case.classifier.model.config.id2label, recall=0.5)
        case.classifier.threshold = {name: one.threshold for name, one in found.items()}
        assert {entry["accepted"] for entries in case.classifier(case.texts, top_k=None) for entry in entries} == {
            True,
            False,
        }
        return
    if case.classifier.activation == "none":
        case.classifier.threshold = 0.5
    scores, right = case.right()
    found = threshold_for(scores, right, 0.6)
    case.classifier.threshold = found.threshold if found else float(np.median(scores))
    assert all("abstained" in result for result in case.classifier(case.texts))


def save(case):
    before = case.classifier.predict_proba(case.texts)
    case.classifier.save_pretrained(case.folder / "again")
    loaded = load(case.folder / "again")
    assert loaded.calibration == case.classifier.calibration and loaded.threshold == case.classifier.threshold
    np.testing.assert_allclose(loaded.predict_proba(case.texts), before, atol=1e-5)


def predict(case):
    rows = [text if isinstance(text, dict) else {"text": text} for text in case.texts]
    (case.folder / "in.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    pair = {"text_pair_column": "text_pair"} if "pairs" in case.kind else {}
    summary = predict_file(case.classifier, case.folder / "in.jsonl", case.folder / "out.jsonl", **pair)
    assert summary.rows == len(TEXTS) and not summary.errors


def evaluates(case):
    check_probabilities(case.classifier)
    data = LabeledTexts("mine", case.texts, case.labels.tolist(), [])
    found = compare(case.classifier, data, num_samples=4)
    assert found.scaled("frequentist").scaling.activation == case.classifier.activation
    assert np.isfinite([arm.estimates["nll"].value for arm in found.arms]).all()


def ranks(case):
    check_probabilities(case.classifier)
    samples = case.classifier.sample_proba(case.texts, num_samples=3 if case.kind == ENSEMBLE else 4)
    over = "mean" if case.classifier.activation == "sigmoid" else None
    order, _ = rank(samples, over_labels=over)
    assert sorted(order) == list(range(len(TEXTS)))


def push(case):
    folder = case.folder / "upload"
    folder.mkdir()
    upload = pipeline_upload(case.classifier, folder, "mine")
    assert {"config.json", "README.md", "handler.py"} <= set(upload.files)
    assert ("top_k=None, threshold={" in (folder / "README.md").read_text()) == case.independent


def evaluator(case):
    data = {"text": TEXTS, "label": case.labels.tolist()}
    if "pairs" in case.kind:
        data["other"] = ["so"] * len(TEXTS)
    config = "multilabel" if case.independent else "binary" if case.kind == "one output" else "default"
    metric = evaluate.load("ece", config)
    second = {"second_input_column": "other"} if "other" in data else {}
    found = BayesianTextClassificationEvaluator(task=TASK).compute(
        case.classifier, datasets.Dataset.from_dict(data), metric=metric, **second
    )
    assert 0 <= found["ece"] <= 1


def distills(case):
    texts = [
        {**text, "text": f"{text['text']} {more}"} if isinstance(text, dict) else f"{text} {more}"
        for text in case.texts
        for more in ("then", "again")
    ]
    made = case.classifier.distill(texts, how="head").distillation
    assert made.texts == 96 and np.isfinite(made.student.kl)


def exports(case):
    if len(case.classifier.members) == 1:
        case.classifier.calibrate(case.texts, case.labels, num_samples=0)
    case.classifier.export(case.folder / "served")
    stock = pipeline("text-classification", model=str(case.folder / "served"), top_k=None)
    names = case.classifier.model.config.id2label
    rows = [{one["label"]: one["score"] for one in found} for found in stock(case.texts)]
    expected = case.classifier.predict_proba(case.texts, num_samples=0)
    np.testing.assert_allclose([[row[names[i]] for i in range(len(names))] for row in rows], expected, atol=1e-5)


DOORS = {
    "call": call,
    "`calibrate`": calibrate,
    "`threshold`": threshold,
    "save, load": save,
    "`predict`": predict,
    "`evaluate`": evaluates,
    "`rank`": ranks,
    "`push`": push,
    "evaluator": evaluator,
    "`distill`": distills,
    "`export`": exports,
}

# What is refused, and the advice in its one line.
REFUSED = {
    **{(kind, "`rank`"): "pass dropout=0.1 to insert dropout" for kind in NO_DROPOUT},
    ("numbers (regression)", "`calibrate`"): "use its predictions as they are",
    ("numbers (regression)", "`threshold`"): "pass threshold=None",
    ("numbers (regression)", "`evaluate`"): "use predict, which takes every model",
    ("numbers (regression)", "`rank`"): "use predict, which takes every model",
    ("numbers (regression)", "evaluator"): "needs probabilities, and the model predicts numbers",
    **{(kind, "`distill`"): "pass num_samples=20 and dropout=0.1, or load an ensemble" for kind in NO_DROPOUT},
    ("numbers (regression)", "`distill`"): "distill a classifier instead",
    ("numbers (regression)", "`export`"): "use its predictions as they are",
    (ENSEMBLE, "`export`"): "classifier.distill(texts), which makes one model",
}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in SLOW)) for kind in KINDS])
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("few_resamples")
def test_doors(kind, tiny, tokenizer, tmp_path, request):
    case = Case(kind, tiny, tokenizer, tmp_path)
    found = {}
    for door, enter in DOORS.items():
        advice = REFUSED.get((kind, door))
        if advice is None:
            enter(case)
            found[door] = "yes"
            continue
        with pytest.raises(ValueError) as error:
            enter(case)
        assert advice in str(error.value) and "\n" not in str(error.value)
        found[door] = "no"
    row = f"| {kind} | {' | '.join(found.values())} |"
    text = DOCS.read_text()
    writing = request.config.getoption("--write-docs")
    if writing:
        text = re.sub(rf"\n\| {re.escape(kind)} \|.*", "", text)
        DOCS.write_text(text.rstrip("\n") + f"\n{row}\n")
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    assert row in rows and (writing or len(rows) == 1 + len(KINDS))
    assert rows[0] == f"| kind | {' | '.join(DOORS)} |"


@pytest.mark.parametrize("kind", NO_DROPOUT)
def test_a_model_without_dropout_says_so_at_the_first_sample(kind, tiny, tokenizer):
    ours = pipeline(TASK, model=KINDS[kind](tiny), tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"has no active dropout, so there is nothing to sample; .* num_samples=0"):
        ours(TEXTS[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ours(TEXTS[0], num_samples=0)[0]["score"] > 0
    assert isinstance(ours.tokenizer, PreTrainedTokenizerBase)
