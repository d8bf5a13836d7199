"""The metric in an evaluation suite, in a Trainer and combined, and Evaluate's requirements for its own modules."""

import inspect
import subprocess
import sys

import datasets
import evaluate
import numpy as np
import pytest
import torch
from bayesian_text_classification import TASK
from bayesian_text_classification.metric import load_metric_module, metric_folder
from transformers import Trainer, TrainingArguments

ece = load_metric_module()
TEXTS = ["A wonderful film.", "Dull and far too long.", "I loved it.", "Not good."]

SUITE = f"""
import bayesian_text_classification.evaluator
import evaluate
from evaluate.evaluation_suite import SubTask


class Suite(evaluate.EvaluationSuite):
    def __init__(self, name):
        super().__init__(name)
        self.suite = [
            SubTask(
                task_type="{TASK}",
                data={{csv!r}},
                split="train",
                args_for_task={{{{"metric": "ece", "input_column": "text", "label_column": "label"}}}},
            )
        ]
"""


def test_the_metric_works_in_an_evaluation_suite(classifier, tmp_path):
    folder = tmp_path / "reviews"
    folder.mkdir()
    datasets.Dataset.from_dict({"text": TEXTS, "label": [1, 0, 1, 0]}).to_csv(folder / "train.csv")
    (tmp_path / "suite.py").write_text(SUITE.format(csv=str(folder)))
    (result,) = evaluate.EvaluationSuite.load(str(tmp_path / "suite.py")).run(classifier)
    expected = ece.expected_calibration_error(classifier.predict_proba(TEXTS), [1, 0, 1, 0])
    assert result["ece"] == pytest.approx(expected, abs=1e-6)
    assert result["samples_per_second"] > 0


def test_the_metric_works_in_a_trainer(tiny, tokenizer, tmp_path):
    rows = [
        {**tokenizer(text, padding="max_length", max_length=12), "labels": i % 2} for i, text in enumerate(TEXTS * 4)
    ]
    metric = ece.ECE(config_name="default", cache_dir=str(tmp_path))

    def compute_metrics(prediction):
        return metric.compute(predictions=prediction.predictions, references=prediction.label_ids, from_logits=True)

    options = {"per_device_eval_batch_size": 3, "report_to": "none", "use_cpu": True}
    trainer = Trainer(
        model=tiny("bert"),
        args=TrainingArguments(output_dir=str(tmp_path / "out"), **options),
        eval_dataset=rows,
        compute_metrics=compute_metrics,
    )
    found = trainer.evaluate()["eval_ece"]
    with torch.no_grad():
        inputs = {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "attention_mask")}
        logits = trainer.model.eval()(**inputs).logits
    expected = ece.expected_calibration_error(logits, [row["labels"] for row in rows], from_logits=True)
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_metric_can_be_combined_with_another_that_takes_rows(tmp_path):
    rows, labels = np.array([[0.2, 0.8], [0.6, 0.4], [0.1, 0.9]]), [1, 1, 0]
    both = evaluate.combine({"wide": ece.ECE(config_name="default", cache_dir=str(tmp_path / "a")),
                             "again": ece.ECE(config_name="default", cache_dir=str(tmp_path / "b"))})  # fmt: skip
    value = ece.expected_calibration_error(rows, labels)
    both.add_batch(rows, labels)
    assert both.compute() == {"wide_ece": value, "again_ece": value}


# The requirements of Evaluate's repository for the modules in its folder metrics/: tests/test_metric_common.py there.


def test_the_folder_is_a_valid_evaluate_module():
    module = evaluate.loading.evaluation_module_factory(str(metric_folder()), module_type="metric").module_path
    metric = evaluate.loading.import_main_class(module)
    assert metric.__name__ == "ECE"
    parameters = inspect.signature(metric._compute).parameters.values()
    assert not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)


def test_requirements_are_valid_for_pip():
    names = (metric_folder() / "requirements.txt").read_text().split()
    run = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-index", *names],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr  # all are installed here, so pip looks nothing up
    assert {"datasets", "evaluate", "numpy"} <= {name.split(">")[0] for name in names}
