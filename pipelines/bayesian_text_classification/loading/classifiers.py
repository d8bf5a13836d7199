"""The classifier that the command compares. What transformers mends in silence, or calls a warning, is refused here."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, pipeline
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file, find_adapter_config_file, is_peft_available

from ..embedded import embedded_model
from ..pipeline.errors import BayesianTextClassificationError
from ..pipeline.options import check_call_options
from ..pipeline.pipeline import TASK, BayesianTextClassificationPipeline
from ..pipeline.saving import ADAPTER_WEIGHTS
from ..wording import first_line

DTYPES = ("float32", "bfloat16", "float16")  # what a classifier is run in


class ModelError(BayesianTextClassificationError):
    """The model cannot be used; the message is one line for the user."""


def load(
    name: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    *,
    allow_pickle: bool = False,
    **options: Any,
) -> BayesianTextClassificationPipeline:
    """The pipeline for a model that is complete: all weights from its checkpoint, and a tokenizer that is its own.

    Args:
        name: a folder or a Hub id, of a model or of a PEFT adapter; None: the embedded one.
        device: one of `available_devices()`; None for the best.
        dtype: one of `DTYPES`; None for the model's own.
        allow_pickle: weights of pickled files (.bin) are read too, not of safetensors alone; of adapters never.
        **options: of the pipeline, such as `num_samples`.

    Raises:
        ModelError: it cannot be loaded, is damaged, has no active dropout, lacks weights (transformers would draw them
            at random), or its tokenizer does not fit (transformers makes an empty one where there are no files).
        ValueError: an option is out of range.
    """
    check_call_options(options)
    if dtype is not None:
        options["dtype"] = dtype
    name = str(embedded_model()) if name is None else name
    try:
        base = _base(name)
        model = _complete_model(name, base, dtype, allow_pickle)
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        _check_vocabulary(tokenizer, model)
        classifier: BayesianTextClassificationPipeline = pipeline(
            TASK, model=model, tokenizer=tokenizer, device=device, **options
        )
    except SafetensorError as error:
        raise ModelError(f"cannot load {name!r}: its weights are damaged ({error}); get them anew") from error
    except Exception as error:  # transformers and the Hub raise many classes
        raise ModelError(f"cannot load {name!r}: {first_line(error)}") from error
    return classifier


load_classifier = load


def available_devices() -> list[str]:
    """What a model can be moved to on this machine, by PyTorch's names."""
    devices = ["cpu"]
    for backend in (torch.cuda, torch.xpu):
        if backend.is_available():
            name = backend.__name__.removeprefix("torch.")
            devices += [name, *(f"{name}:{i}" for i in range(backend.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def _base(name: str) -> str:
    """Where model and tokenizer are: `name` itself, or what the adapter of that name was trained for."""
    if not is_peft_available() or (Path(name) / "config.json").is_file() or find_adapter_config_file(name) is None:
        return name
    from peft import PeftConfig

    return str(PeftConfig.from_pretrained(name).base_model_name_or_path)


def _complete_model(name: str, base: str, dtype: str | None, allow_pickle: bool) -> PreTrainedModel:
    if base != name and cached_file(name, ADAPTER_WEIGHTS, _raise_exceptions_for_missing_entries=False) is None:
        raise ValueError(f"it has no {ADAPTER_WEIGHTS}; pickled adapters are not read")
    model, missing = _load(name, dtype, allow_pickle)
    if base != name:
        # Transformers tells only what the adapter lacks. What the base lacks may be in the adapter, such as the head.
        marker = ".modules_to_save."
        saved = tuple(f"{key.partition(marker)[0]}." for key in model.state_dict() if marker in key)
        alone, lacking = _load(base, dtype, allow_pickle)
        missing |= {key for key in lacking if not key.startswith(saved)}
        from peft import PeftModel

        model = PeftModel.from_pretrained(alone, name).eval()  # as which it can be saved again
    if missing:
        shown = ", ".join(sorted(missing)[:3]) + ", ..." * (len(missing) > 3)
        raise ValueError(
            f"its checkpoint has no {shown}, which would be random numbers; pass a model that was trained as a "
            "sequence classifier"
        )
    return model


def _load(name: str, dtype: str | None, allow_pickle: bool) -> tuple[PreTrainedModel, set[str]]:
    """A model, and the names of its weights that were not in the checkpoint."""
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name,
            dtype=dtype or "auto",
            output_loading_info=True,
            use_safetensors=None if allow_pickle else True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            trust_remote_code=False,  # unset, it would ask on a terminal
        )
    except OSError as error:
        if not allow_pickle and SAFE_WEIGHTS_NAME in str(error):
            raise ValueError(
                f"it has no {SAFE_WEIGHTS_NAME}; where you trust who made its .bin file, allow_pickle=True reads that"
            ) from error
        raise
    for key, there, asked in sorted(info["mismatched_keys"]):
        raise ValueError(
            f"its checkpoint has {key} of shape {tuple(there)} and its config asks for {tuple(asked)}; the number of "
            "labels, or another setting, is another model's"
        )
    return model, set(info["missing_keys"])


def _check_vocabulary(tokenizer: Any, model: PreTrainedModel) -> None:
    try:
        rows = model.get_input_embeddings().num_embeddings
    except (AttributeError, NotImplementedError):  # hashed characters, for example, have no table of words
        return
    # Special tokens beyond the table (a mask token, say) may never be used.
    words = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)
    if len(words) * 10 < rows:  # tables are rounded up, never tenfold
        raise ValueError(
            f"its tokenizer knows {len(words):,} tokens and the model {rows:,}; the tokenizer's files are missing, or "
            "another model's"
        )
    if max(words) >= rows:
        raise ValueError(
            f"its tokenizer has token ids up to {max(words):,} and the model only those below {rows:,}; the tokenizer "
            "is another model's"
        )
