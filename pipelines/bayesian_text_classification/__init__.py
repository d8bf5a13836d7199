"""Honest confidence for Hugging Face text classifiers.

Importing this package does one thing beside defining names: it registers the task "bayesian-text-classification" with
Transformers, so that `pipeline("bayesian-text-classification")` works, and places the metric in Evaluate's cache, so
that `evaluate.load("ece")` works without a network (not with BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE=1). Evaluate's
`evaluator` learns the task from `import bayesian_text_classification.evaluator`, and from nothing else.
"""

from transformers import AutoModelForSequenceClassification
from transformers.pipelines import PIPELINE_REGISTRY

from .embedded import embedded_model
from .metric import install_metric
from .pipeline import TASK, BayesianTextClassificationPipeline, DropoutSite

__all__ = ["TASK", "BayesianTextClassificationPipeline", "DropoutSite", "embedded_model"]


# A second import of the module (a reload, a copy on another path) must not be told that the task exists.
if TASK not in PIPELINE_REGISTRY.supported_tasks:
    PIPELINE_REGISTRY.register_pipeline(
        TASK,
        pipeline_class=BayesianTextClassificationPipeline,
        pt_model=AutoModelForSequenceClassification,
        default={"model": (str(embedded_model()), None)},
        type="text",
    )
install_metric()
