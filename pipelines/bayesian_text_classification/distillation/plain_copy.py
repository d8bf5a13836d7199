"""A private copy of a classifier as an ordinary model: float32 on the CPU, adapters merged, without our options."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ..pipeline.errors import in_one_line
from ..pipeline.forward import Forward, Inputs
from ..pipeline.saving import KEY
from .affine import ExportError
from .last_layer import are_close

_MERGED = 1e-3  # of the largest logit: merging rounds every layer once more
PORTABLE = ("eager", "sdpa")  # attention that runs everywhere
_OURS = (KEY, "custom_pipelines")


def plain_copy(model: Any, inputs: Sequence[Inputs]) -> Any:
    """The model with a LoRA adapter merged into its weights, if it has one.

    Weights that are float32 on the CPU are shared with the caller's model, unless there is an adapter.

    Args:
        model: A transformers model, or a `PeftModel`.
        inputs: Several encoded texts, each as a batch, to check a merge.

    Raises:
        ExportError: The model is not one of transformers, its weights are quantized or offloaded, or its adapter cannot
            be merged.
    """
    model = getattr(model, "_orig_mod", model)  # the model inside torch.compile's wrapper
    adapted = hasattr(model, "peft_config")
    if adapted and not (hasattr(model, "merge_and_unload") or hasattr(getattr(model, "base_model", None), "unload")):
        raise ExportError(
            "this model's adapter cannot be merged into its weights; only adapters of the LoRA kind can, loaded as a "
            "peft.PeftModel"
        )
    _check_weights(model)
    copied = _in_float32(model, clone=adapted).eval()
    if attention_of(copied) not in (None, *PORTABLE):  # kernels of a GPU
        copied.set_attn_implementation("sdpa" if copied._supports_sdpa else "eager")
    if adapted:
        copied = _merged(copied, inputs)
    if not isinstance(copied, PreTrainedModel):
        raise ExportError(f"{type(copied).__name__} is not a model of transformers; save it with code of your own")
    for name in _OURS:
        if hasattr(copied.config, name):
            delattr(copied.config, name)
    return copied


def attention_of(model: Any) -> str | None:
    """The attention implementation; None if the model has none, or one for each part."""
    name = getattr(getattr(model, "config", None), "_attn_implementation", None)
    return name if isinstance(name, str) else None


def _check_weights(model: nn.Module) -> None:
    config: Any = getattr(model, "config", None)
    kinds = {type(module).__module__ for module in model.modules()}
    quantized = getattr(config, "quantization_config", None) is not None or any(".quantized" in one for one in kinds)
    quantized |= any(not weight.is_floating_point() for weight in model.parameters())
    if quantized:
        raise ExportError(
            "this model's weights are quantized, and float32 weights are needed; load the model without quantization, "
            "and give it the calibration of this one (other.calibration = classifier.calibration)"
        )
    if any(weight.is_meta for weight in model.parameters()):
        raise ExportError("some of this model's weights are offloaded; load it on one device")


def _in_float32(model: nn.Module, clone: bool) -> Any:
    memo: dict[int, Any] = {}
    for weight in model.parameters():
        values = weight.detach().to("cpu", torch.float32)
        memo[id(weight)] = nn.Parameter(values.clone() if clone else values, requires_grad=weight.requires_grad)
    for buffer in model.buffers():
        wider = torch.float32 if buffer.is_floating_point() else buffer.dtype
        memo[id(buffer)] = buffer.detach().to("cpu", wider)
    return copy.deepcopy(model, memo)


def _merged(adapted: Any, inputs: Sequence[Inputs]) -> Any:
    expected = [Forward(adapted).logits(one) for one in inputs]
    try:
        merged = adapted.merge_and_unload().eval()
    except Exception as error:  # what PEFT raises for the kinds of adapters that cannot be merged
        reason = in_one_line(error)
        raise ExportError(f"PEFT cannot merge this adapter into the weights: {reason}") from error
    if not are_close([Forward(merged).logits(one) for one in inputs], expected, _MERGED):
        raise ExportError("with its adapter merged, this model gives other logits; export it without the adapter")
    return merged
