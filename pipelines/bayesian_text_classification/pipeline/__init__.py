"""The pipeline itself. `save_pretrained` copies these files into one folder that works without this package.

They therefore import each other as `from .sibling import name`. The only third-party packages they import are torch,
transformers, numpy, huggingface_hub and peft.
"""

from .errors import BayesianTextClassificationError, InputError
from .pipeline import TASK, BayesianTextClassificationPipeline
from .prediction_sets import PredictionSets
from .probe import DropoutSite
from .scaling import PlattScaling, TemperatureScaling
from .scope import Scope

__all__ = [
    "TASK",
    "BayesianTextClassificationError",
    "BayesianTextClassificationPipeline",
    "DropoutSite",
    "InputError",
    "PlattScaling",
    "PredictionSets",
    "Scope",
    "TemperatureScaling",
]
