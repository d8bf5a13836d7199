"""A LoRA adapter (Hu et al. 2021, arXiv:2106.09685) to train in place of all weights: less memory for large models."""

from typing import Any

RANK = 16


def with_lora(model: Any) -> Any:
    """The model with a new adapter on all linear layers, and with a trainable head.

    Raises:
        ImportError: peft is not installed.
    """
    try:
        from peft import LoraConfig, TaskType, get_peft_model
    except ImportError as error:
        raise ImportError("how='lora' needs peft: pip install peft, or pass how='weights'") from error
    config = LoraConfig(TaskType.SEQ_CLS, r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules="all-linear")
    return get_peft_model(model, config)


def merged(model: Any) -> Any:
    """The model with the adapter in its weights."""
    return model.merge_and_unload()
