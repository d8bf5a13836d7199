"""The experiment of 2021: BaaL's `patch_module` on a copy of the model, and the average of its passes."""

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from ..pipeline.dropout import count_active_calls
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.twin import allow_batches
from .arms import Probabilities


def patched_by_baal(classifier: BayesianTextClassificationPipeline) -> torch.nn.Module:
    """A copy with BaaL's dropout modules, in eval mode, in the dtype that the other arms run in."""
    # Imported here: it configures structlog for the whole process and costs a second.
    from baal.bayesian.dropout import patch_module

    model = copy.deepcopy(classifier.model).to(dtype=classifier.run_dtype)
    allow_batches(model)
    patched: torch.nn.Module = patch_module(model, inplace=True).eval()
    return patched


def baal_probabilities(
    model: torch.nn.Module,
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[str],
    passes: int,
    seed: int,
    advance: Callable[[int], None],
) -> tuple[Probabilities, int, int]:
    """The 2021 experiment: `passes` runs of the patched `model`, probabilities averaged.

    Returns (texts, classes), and how many modules of BaaL's and how many dropout calls are on in one pass.
    """
    mean = np.zeros((len(texts), classifier.model.config.num_labels))
    reach = (0, 0)
    # `manual_seed` below reseeds every device.
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if in_use else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode():
        torch.manual_seed(seed % 2**63)
        for indices, inputs in classifier.batches(texts):
            reach = reach if any(reach) else _reach(model, inputs)
            for _pass in range(passes):
                logits = model(**inputs).logits
                mean[list(indices)] += logits.float().softmax(-1).cpu().numpy() / passes
                advance(len(indices))
    return mean, *reach


def _reach(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """How many of BaaL's dropout modules one pass runs, and how many dropout calls are on in it."""
    from baal.bayesian.dropout import Dropout, Dropout2d

    reached = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: reached.add(module))
        for module in model.modules()
        if isinstance(module, (Dropout, Dropout2d)) and module.p > 0
    ]
    calls = count_active_calls(model, inputs)
    for hook in hooks:
        hook.remove()
    return len(reached), calls
