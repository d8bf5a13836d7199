"""What a saved pipeline needs where this package is not installed: code, options, an endpoint, a model card."""

import copy
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn
from transformers.dynamic_module_utils import get_relative_import_files

from .handler import EndpointHandler  # noqa: F401  # an import, so that its file is copied too
from .model_card import TEXT

KEY = "bayesian_text_classification"  # of the config: what belongs to the pipeline
ADAPTER = "adapter"  # the folder of a PEFT adapter, beside the weights of its base model

_PACKAGE = "bayesian-text-classification"
_MARK = f"# From {_PACKAGE} "


@dataclass(frozen=True)
class Saved:
    """Stands for an option that was not given: the one saved with the model, else the default."""

    default: Any

    def __repr__(self) -> str:
        return f"<saved with the model, else {self.default!r}>"


def resolved(options: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Options by name, each `Saved` replaced by what was saved in the model's config, else by its default."""
    saved = saved_options(getattr(model, "config", None))
    return {
        name: saved.get(name, value.default) if isinstance(value, Saved) else value for name, value in options.items()
    }


def saved_options(config: Any) -> dict[str, Any]:
    """The options that were saved in a model's config; none in most."""
    return dict(getattr(config, KEY, None) or {})


def write_code(pipeline_class: type, folder: str | os.PathLike[str]) -> None:
    """Write the file of the class, those that it imports, and the endpoint's; each says where it comes from."""
    source = sys.modules[pipeline_class.__module__].__file__
    assert source is not None
    for path in map(Path, {source, *get_relative_import_files(source)}):
        text = path.read_text(encoding="utf-8")
        if not text.startswith(_MARK):  # a copy keeps the line that says which version it is of
            text = f"{_MARK}{_version()}, copied by save_pretrained.\n{text}"
        (Path(folder) / path.name).write_text(text, encoding="utf-8")


def write_model_card(folder: str | os.PathLike[str], options: Mapping[str, Any]) -> None:
    """Write README.md, unless there is one."""
    path = Path(folder) / "README.md"
    if not path.exists():
        shown = ", ".join(f"{name}={value!r}" for name, value in options.items() if name != ADAPTER)
        path.write_text(TEXT.replace("{options}", shown), encoding="utf-8")


def registration(pipeline_class: type) -> dict[str, dict[str, Any]]:
    """What `config.json` says, so that transformers finds the class again."""
    module = pipeline_class.__module__.rpartition(".")[2]
    impl = f"{module}.{pipeline_class.__name__}"
    return {_PACKAGE: {"impl": impl, "pt": ["AutoModelForSequenceClassification"], "type": "text"}}


def save_base(adapted: Any, folder: str | os.PathLike[str], config: Any, **kwargs: Any) -> None:
    """Write the model that a PEFT adapter stands on, and the adapter into a folder beside its weights.

    Transformers looks for an adapter's pipeline in the config of its base model, which is another repository's.
    """
    tensors = {id(tensor): tensor for tensor in (*adapted.parameters(), *adapted.buffers())}
    twin: Any = copy.deepcopy(adapted, tensors)  # no second copy of the weights, and the caller's model stays whole
    alone = twin.unload()
    alone.config = config
    alone.save_pretrained(folder, **kwargs)
    target = Path(folder) / ADAPTER
    adapted.save_pretrained(target)
    (target / "README.md").unlink(missing_ok=True)  # an empty form
    settings = target / "adapter_config.json"
    base = adapted.active_peft_config.base_model_name_or_path
    if base and os.path.exists(base):
        settings.write_text(settings.read_text(encoding="utf-8").replace(f'"{base}"', "null"), encoding="utf-8")


def with_adapter(model: nn.Module) -> nn.Module:
    """The model with the adapter that was saved beside it, if there is one and it is not there yet.

    Raises:
        ImportError: there is one, and `peft` is not installed.
    """
    config: Any = model.config
    if not saved_options(config).get(ADAPTER) or hasattr(model, "peft_config"):
        return model
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ImportError("this model has a LoRA adapter, which needs peft: pip install peft") from error
    revision = getattr(config, "_commit_hash", None)
    adapted: nn.Module = PeftModel.from_pretrained(model, config.name_or_path, subfolder=ADAPTER, revision=revision)
    return adapted.eval()


def _version() -> str:
    try:
        return metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError:  # run from a copy of the folder
        return "of unknown version"
