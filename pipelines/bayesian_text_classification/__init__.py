"""Honest confidence for Hugging Face text classifiers.

Importing this package has two side effects:

- It registers the task "bayesian-text-classification" with Transformers, so `pipeline("bayesian-text-classification")`
  works.
- It copies the metrics to Evaluate's cache, so `evaluate.load("ece")` and `evaluate.load("prediction_set_coverage")`
  work without a network. The environment variable BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE=1 turns this off.

Evaluate's `evaluator` learns the task only from `import bayesian_text_classification.evaluator`.

All other names are imported on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from transformers import AutoModelForSequenceClassification
from transformers.pipelines import PIPELINE_REGISTRY

from .embedded import embedded_model
from .metric import install_metrics
from .pipeline import (
    TASK,
    BayesianTextClassificationError,
    BayesianTextClassificationPipeline,
    DropoutSite,
    InputError,
    PlattScaling,
    PredictionSets,
    Scope,
    TemperatureScaling,
)
from .pipeline.versions import version_of

if TYPE_CHECKING:
    from .evaluation import compare
    from .loading import load, load_classifier, load_labeled_texts, load_texts
    from .report import ReportSettings, write_report
    from .scale import predict_dataset, predict_file
    from .selection import label_thresholds, rank, threshold_for

__version__ = version_of("bayesian-text-classification") or "unknown"

_LATER = {
    "ReportSettings": "report",
    "compare": "evaluation",
    "load": "loading",
    "load_classifier": "loading",
    "load_labeled_texts": "loading",
    "load_texts": "loading",
    "predict_dataset": "scale",
    "predict_file": "scale",
    "rank": "selection",
    "label_thresholds": "selection",
    "threshold_for": "selection",
    "write_report": "report",
}

__all__ = [
    "TASK",
    "BayesianTextClassificationError",
    "BayesianTextClassificationPipeline",
    "DropoutSite",
    "InputError",
    "PlattScaling",
    "PredictionSets",
    "ReportSettings",
    "Scope",
    "TemperatureScaling",
    "__version__",
    "compare",
    "embedded_model",
    "label_thresholds",
    "load",
    "load_classifier",
    "load_labeled_texts",
    "load_texts",
    "predict_dataset",
    "predict_file",
    "rank",
    "threshold_for",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return list(__all__)


# A second import (a reload, a copy on another path) must not cause a warning that the task exists.
if TASK not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(
        TASK,
        pipeline_class=BayesianTextClassificationPipeline,
        pt_model=AutoModelForSequenceClassification,
        default={"model": (str(embedded_model()), None)},
        type="text",
    )
install_metrics()
