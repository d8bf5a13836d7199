"""Load complete classifiers. Problems that transformers fixes silently or only warns about are errors here."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, pipeline
from transformers.utils import SAFE_WEIGHTS_NAME, cached_file, find_adapter_config_file, is_peft_available

from ..embedded import embedded_model
from ..pipeline.errors import BayesianTextClassificationError, in_one_line
from ..pipeline.members import adapted
from ..pipeline.options import check_call_options
from ..pipeline.pipeline import TASK, BayesianTextClassificationPipeline
from ..pipeline.saving import ADAPTER_WEIGHTS, NO_ADAPTER_WEIGHTS
from ..wording import first_line

DTYPES = ("float32", "bfloat16", "float16")  # that a classifier can run in


class ModelError(BayesianTextClassificationError):
    """The model cannot be used. The message is one line for the user."""


def load(
    name: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    *,
    adapters: Sequence[str | os.PathLike[str]] | None = None,
    allow_pickle: bool = False,
    **options: Any,
) -> BayesianTextClassificationPipeline:
    """Load the pipeline for a complete model: one with all weights in its checkpoint and a matching tokenizer.

    Args:
        name: Folder or Hub id of a model or PEFT adapter. A list of them loads an ensemble. None loads the embedded
            model.
        device: One of `available_devices()`, or None for the best.
        dtype: One of `DTYPES`, or None for the model's own.
        adapters: Folders or Hub ids of PEFT adapters of the model `name`, which is loaded once: an ensemble of them.
        allow_pickle: Whether to load pickled weights (.bin) if there are no safetensors. Never applies to adapters.
        **options: Options of the pipeline, such as `num_samples`.

    Raises:
        ModelError: There is no such folder, or the model cannot be loaded, is damaged, lacks weights (transformers
            would initialize them at random), or its tokenizer does not match (transformers creates an empty one if its
            files are missing).
        ValueError: An option is out of range, or `name` is a list and there are adapters.
    """
    check_call_options(options)
    if dtype is not None:
        options["dtype"] = dtype
    several = isinstance(name, Sequence) and not isinstance(name, str)
    if (several and (adapters is not None or not name)) or (adapters is not None and not adapters):
        raise ValueError("pass a list of models, or one model with adapters=[...]; not both, and no empty list")
    if isinstance(adapters, (str, os.PathLike)):
        raise ValueError(
            f"adapters={str(adapters)!r}; pass a list, or load that adapter alone: load({str(adapters)!r})"
        )
    names: list[Any] = list(name) if several else [name]  # type: ignore[arg-type]
    _check_names([] if name is None else names)
    _check_names(adapters or ())
    folders = [os.fspath(one) for one in adapters or ()]
    for folder in folders:
        _check_folder(folder, "a PEFT adapter")
    pairs = [_loaded(one, dtype, allow_pickle, folders) for one in names]
    if adapters is not None:
        (base, tokenizer), *_ = pairs
        pairs = [(model, tokenizer) for model in _adapted(base, folders)]
    try:
        models, tokenizers = map(list, zip(*pairs, strict=True))
        parts = {"model": models, "tokenizer": tokenizers}
        if len(pairs) == 1:
            parts = {"model": models[0], "tokenizer": tokenizers[0]}
        classifier: BayesianTextClassificationPipeline = pipeline(TASK, **parts, device=device, **options)
    except Exception as error:  # transformers and the Hub raise many classes
        shown = list(map(str, names)) if several else str(embedded_model() if name is None else name)
        raise ModelError(f"cannot load {shown!r}: {first_line(error)}") from error
    return classifier


def _check_names(names: Sequence[Any]) -> None:
    """Raise ValueError unless these are the names of different models."""
    for name in names:
        if not isinstance(name, (str, os.PathLike)):
            raise ValueError(
                f"{type(name).__name__} is not the name of a model; pass folders or Hub ids. For models in memory, "
                f'call transformers.pipeline("{TASK}", model=[...], tokenizer=[...])'
            )
    places = [os.path.realpath(name) if Path(name).is_dir() else os.fspath(name) for name in names]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise ValueError(f"the ensemble has {os.fspath(names[i])} twice; name each model once")


def _adapted(base: Any, adapters: Sequence[str]) -> list[Any]:
    """The members of an ensemble of adapters. Raises ModelError as `load` does."""
    found = []
    for name in adapters:
        try:
            found.append(adapted(base, name))
        except Exception as error:  # those of PEFT and the Hub
            shapes = "its weights do not fit the shapes of the model's; load it on the model that it was trained on"
            reason = shapes if "size mismatch" in str(error) else in_one_line(error)
            raise ModelError(f"cannot load the adapter {name!r}: {reason}") from error
    return found


def _check_folder(name: str, of: str) -> None:
    if not _may_be_repo_id(name) and not Path(name).is_dir():
        raise ModelError(f"{name}: no such folder; pass the folder of {of}, or its id on the Hub (user/name)")


def _loaded(
    name: str | os.PathLike[str] | None, dtype: str | None, allow_pickle: bool, adapters: Sequence[str]
) -> tuple[Any, Any]:
    """A model and its tokenizer, complete with any of its `adapters`. Raises ModelError as `load` does."""
    name = os.fspath(embedded_model() if name is None else name)
    _check_folder(name, "a model")
    try:
        base = _base(name)
        model = _complete_model(name, base, dtype, allow_pickle, adapters)
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        _check_vocabulary(tokenizer, model)
    except SafetensorError as error:
        raise ModelError(f"cannot load {name!r}: its weights are damaged ({error}); download them again") from error
    except Exception as error:  # transformers and the Hub raise many classes
        absent = "" if Path(name).is_dir() else "there is no such folder, and it did not load from the Hub: "
        raise ModelError(f"cannot load {name!r}: {absent}{first_line(error)}") from error
    return model, tokenizer


load_classifier = load


def available_devices() -> list[str]:
    """PyTorch's names of the devices on this machine."""
    devices = ["cpu"]
    for backend in (torch.cuda, torch.xpu):
        if backend.is_available():
            name = backend.__name__.removeprefix("torch.")
            devices += [name, *(f"{name}:{i}" for i in range(backend.device_count()))]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def _may_be_repo_id(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is not None and not name.startswith(".")


def _base(name: str) -> str:
    """The name of the model and tokenizer: `name` itself, or the base model if `name` is an adapter."""
    folder = Path(name)
    if not is_peft_available():
        if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
            raise ValueError("it is a LoRA adapter, which needs peft: pip install peft")
        return name
    if (folder / "config.json").is_file() or find_adapter_config_file(name) is None:
        return name
    from peft import PeftConfig

    return str(PeftConfig.from_pretrained(name).base_model_name_or_path)


def _complete_model(
    name: str, base: str, dtype: str | None, allow_pickle: bool, adapters: Sequence[str]
) -> PreTrainedModel:
    if base != name and cached_file(name, ADAPTER_WEIGHTS, _raise_exceptions_for_missing_entries=False) is None:
        raise ValueError(NO_ADAPTER_WEIGHTS)
    model, missing = _load(name, dtype, allow_pickle)
    if base != name:
        # Transformers reports only what the adapter lacks. The adapter may have what the base lacks, such as the head.
        marker = ".modules_to_save."
        saved = tuple(f"{key.partition(marker)[0]}." for key in model.state_dict() if marker in key)
        alone, lacking = _load(base, dtype, allow_pickle)
        missing |= {key for key in lacking if not key.startswith(saved)}
        from peft import PeftModel

        model = PeftModel.from_pretrained(alone, name).eval()  # a PeftModel can be saved again
    if missing and adapters:
        heads = [_saved_modules(adapter) for adapter in adapters]
        missing = {key for key in missing if not all(set(key.split(".")) & head for head in heads)}
    if missing:
        shown = ", ".join(sorted(missing)[:3]) + ", ..." * (len(missing) > 3)
        raise ValueError(
            f"its checkpoint lacks {shown}, which would be initialized at random; pass a model that was trained as a "
            "sequence classifier"
        )
    return model


def _saved_modules(adapter: str) -> set[str]:
    """Names of the modules of which an adapter has a trained copy, such as the head."""
    from peft import PeftConfig

    return set(PeftConfig.from_pretrained(adapter).modules_to_save or ())


def _load(name: str, dtype: str | None, allow_pickle: bool) -> tuple[PreTrainedModel, set[str]]:
    """Load a model. Also returns the names of its weights that are missing from the checkpoint."""
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            name,
            dtype=dtype or "auto",
            output_loading_info=True,
            use_safetensors=None if allow_pickle else True,
            ignore_mismatched_sizes=True,  # refused by name below
            trust_remote_code=False,  # None would prompt on a terminal
        )
    except OSError as error:
        if not allow_pickle and SAFE_WEIGHTS_NAME in str(error):
            raise ValueError(
                f"it has no {SAFE_WEIGHTS_NAME}; if you trust its source, pass allow_pickle=True to load the .bin file"
            ) from error
        raise
    for key, there, asked in sorted(info["mismatched_keys"]):
        raise ValueError(
            f"its checkpoint has {key} of shape {tuple(there)}, but its config expects {tuple(asked)}; the number of "
            "labels or another setting belongs to another model"
        )
    return model, set(info["missing_keys"])


def _check_vocabulary(tokenizer: Any, model: PreTrainedModel) -> None:
    try:
        rows = model.get_input_embeddings().num_embeddings
    except (AttributeError, NotImplementedError):  # for example, hashed characters have no embedding table
        return
    # Special tokens beyond the embedding table, such as a mask token, may never be used.
    words = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)
    if len(words) * 10 < rows:  # embedding tables may be rounded up, but not tenfold
        raise ValueError(
            f"its tokenizer has {len(words):,} tokens, but the model has {rows:,}; the tokenizer's files are missing "
            "or belong to another model"
        )
    if max(words) >= rows:
        raise ValueError(
            f"its tokenizer has token ids up to {max(words):,}, but the model only accepts ids below {rows:,}; the "
            "tokenizer belongs to another model"
        )
