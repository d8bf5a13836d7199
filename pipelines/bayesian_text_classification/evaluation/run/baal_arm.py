"""The 2021 experiment: BaaL's `patch_module` on a copy of the model, averaged over its passes."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...pipeline.dropout import count_active_calls
from ...pipeline.onednn_linear import use_the_whole_processor
from ...pipeline.pipeline import BayesianTextClassificationPipeline
from ...pipeline.text_sampler import activated
from ...pipeline.twin import allow_batches
from ..arms import Probabilities


def patched_by_baal(classifier: BayesianTextClassificationPipeline) -> torch.nn.Module:
    """Copy the model with BaaL's dropout modules, in eval mode and in the dtype of the other arms."""
    # Imported here because it configures structlog for the whole process and takes a second.
    from baal.bayesian.dropout import patch_module

    model = copy.deepcopy(classifier.model).to(dtype=classifier.run_dtype)
    allow_batches(model)
    patched: torch.nn.Module = patch_module(model, inplace=True).eval()
    use_the_whole_processor(patched)  # as in the other arms, so that their times compare dropout alone
    return patched


def baal_probabilities(
    model: torch.nn.Module,
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[Any],
    passes: int,
    seed: int,
    advance: Callable[[int], None],
) -> tuple[Probabilities, int, int]:
    """Average the probabilities of `passes` runs of the patched `model`, as in the 2021 experiment.

    Returns:
        The mean probabilities, and how many of BaaL's modules and how many dropout calls are active in one pass.
        *Shape:* (texts, classes) for the probabilities.
    """
    mean = np.zeros((len(texts), classifier.model.config.num_labels))
    reach = (0, 0)
    # `manual_seed` below reseeds every device, so the state of every device must be restored.
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = range(torch.cuda.device_count()) if in_use else []
    with torch.random.fork_rng(devices=devices), torch.inference_mode():
        torch.manual_seed(seed % 2**63)
        for indices, inputs in classifier.batches(texts):
            reach = reach if any(reach) else _reach(model, inputs)
            for _pass in range(passes):
                logits = model(**inputs).logits
                mean[list(indices)] += activated(logits.float(), classifier.activation).cpu().numpy() / passes
                advance(len(indices))
    return mean, *reach


def _reach(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> tuple[int, int]:
    """Count the BaaL dropout modules that one pass runs, and the active dropout calls in it."""
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
