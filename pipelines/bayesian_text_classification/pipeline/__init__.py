"""The pipeline itself. `save_pretrained` copies these files, side by side, to where this package is not installed.

So they import each other as `from .sibling import name`, and of others only torch, transformers, numpy, huggingface_hub
and peft.
"""

from .errors import BayesianTextClassificationError, InputError
from .pipeline import TASK, BayesianTextClassificationPipeline
from .probe import DropoutSite

__all__ = ["TASK", "BayesianTextClassificationError", "BayesianTextClassificationPipeline", "DropoutSite", "InputError"]
