"""What a saved pipeline needs where this package is not installed: code, options, an endpoint, a model card."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # not in its list of names
from torch import nn
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.utils import cached_file

from .handler import EndpointHandler  # noqa: F401  # an import, so that its file is copied too
from .model_card import card, own_card
from .publishing import Check
from .twin import shared_copy
from .versions import version_of

KEY = "bayesian_text_classification"  # of the config: what belongs to the pipeline
ADAPTER = "adapter"  # the folder of a PEFT adapter, beside the weights of its base model
ADAPTER_WEIGHTS = "adapter_model.safetensors"  # as PEFT calls it

# Files of an earlier save that would be loaded in place of, or beside, those of this one.
STALE = ("*.safetensors", "*.index.json", "pytorch_model*", "adapter_*", f"{ADAPTER}/*")

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


def save(
    pipeline_class: type,
    model: Any,
    tokenizer: Any,
    options: Mapping[str, Any],
    folder: str | os.PathLike[str],
    **kwargs: Any,
) -> None:
    """Write model, tokenizer, options, code, endpoint and model card into a folder; the caller's model stays as it is.

    Args:
        pipeline_class: what loads it again.
        model: a transformers model, or a `PeftModel`.
        tokenizer: beside it.
        options: of the pipeline; any JSON values.
        folder: made where it does not exist.
        **kwargs: of the model's and the tokenizer's `save_pretrained`.

    Raises:
        ValueError: the folder is a file, or the model cannot be saved so.
    """
    if Path(folder).is_file():
        raise ValueError(f"save_directory={str(folder)!r} is a file; it must be a folder")
    files = code_files(pipeline_class)
    check_names(files, folder, model)
    adapted = hasattr(model, "peft_config")
    options = {**options, **({ADAPTER: True} if adapted else {})}
    before = stale_files(folder)
    # A copy, as other threads may be reading the caller's config.
    writable: Any = shared_copy(getattr(model, "_orig_mod", model))  # what torch.compile wrapped
    base = unloaded(writable) if adapted else writable
    setattr(base.config, KEY, options)
    base.config.custom_pipelines = registration(pipeline_class)
    base.save_pretrained(folder, **kwargs)
    if adapted:
        save_adapter(model, folder)
    tokenizer.save_pretrained(folder, **kwargs)
    remove_stale(before)
    write_code(files, folder)
    remove_orphans(files, folder)
    write_requirements(folder, adapted)
    write_model_card(folder, options, model)


def saved_options(config: Any) -> dict[str, Any]:
    """The options that were saved in a model's config; none in most."""
    return dict(getattr(config, KEY, None) or {})


def code_files(of_class: type) -> list[Path]:
    """The file of a class, and those that it imports from its own folder; of the pipeline also the endpoint's."""
    source = sys.modules[of_class.__module__].__file__
    assert source is not None
    return [Path(path) for path in sorted({source, *get_relative_import_files(source)})]


def check_of(pipeline_class: type) -> Check:
    """For `publish`: ValueError where a repository that holds no saved pipeline has code under a name of ours.

    Of one that does, the code that an earlier version wrote and this one does not.
    """
    names = {path.name for path in code_files(pipeline_class)}

    def check(there: Collection[str], read: Callable[[str], str]) -> list[str]:
        saved = "config.json" in there and f'"{KEY}"' in read("config.json")
        if not saved and (taken := sorted(names & set(there))):
            raise ValueError(f"{taken[0]} is there already and is not ours; rename it")
        others = [name for name in there if name.endswith(".py") and "/" not in name and name not in names]
        return [name for name in others if is_ours(read(name))] if saved else []

    return check


def check_names(files: list[Path], folder: str | os.PathLike[str], model: Any) -> None:
    """ValueError where code of a model of one's own has the name of one of ours, in the folder or beside the model."""
    there = [path for path in (Path(folder) / file.name for file in files) if path.exists()]
    taken = {path.name for path in there if not is_ours(path.read_text(encoding="utf-8"))}
    for part in (model, model.config):
        if getattr(part, "_auto_class", None) is not None:  # transformers saves its code too
            taken |= {path.name for path in code_files(type(part))}
    for file in files:
        if file.name in taken:
            raise ValueError(f"{file.name} is a file of ours and one of this model's own code; rename the model's")


def write_code(files: list[Path], folder: str | os.PathLike[str]) -> None:
    """Write copies that say where they come from."""
    version = version_of(_PACKAGE) or "of unknown version"
    for path in files:
        text = path.read_text(encoding="utf-8")
        if not is_ours(text):  # a copy keeps the line that says which version it is of
            text = f"{_MARK}{version}, copied by save_pretrained.\n{text}"
        (Path(folder) / path.name).write_text(text, encoding="utf-8")


def remove_orphans(files: list[Path], folder: str | os.PathLike[str]) -> None:
    """Remove code that an earlier version wrote and this one does not; a file without our mark is not ours."""
    for path in Path(folder).glob("*.py"):
        if path.name not in {file.name for file in files} and is_ours(path.read_text(encoding="utf-8")):
            path.unlink()


def is_ours(code: str) -> bool:
    """Whether a file of code was written by `save_pretrained`."""
    return code.startswith(_MARK)


def write_requirements(folder: str | os.PathLike[str], adapted: bool) -> None:
    """Write requirements.txt, which an Inference Endpoint installs; one that is there gets the lines that it lacks."""
    path, ours = Path(folder) / "requirements.txt", "torch>=2.5\ntransformers>=5\n" + "peft>=0.17\n" * adapted
    there = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(merged_requirements(there, ours), encoding="utf-8")


def merged_requirements(there: str, ours: str) -> str:
    """The lines that are there, and those of ours whose package they do not name."""
    named = {_package_of(line) for line in there.splitlines()}
    lacking = [line for line in ours.splitlines() if _package_of(line) not in named]
    return (
        there + "\n" * bool(there and lacking and not there.endswith("\n")) + "".join(f"{line}\n" for line in lacking)
    )


def _package_of(line: str) -> str:
    return re.split(r"[^\w.-]", line.strip(), maxsplit=1)[0].lower().replace("_", "-")


def write_model_card(folder: str | os.PathLike[str], options: Mapping[str, Any], model: Any) -> None:
    """Write README.md, with the model's own card in it; to one that is there already our part is added."""
    path, adapted = Path(folder) / "README.md", bool(options.get(ADAPTER))
    shown = {name: value for name, value in options.items() if name != ADAPTER}
    there = path.read_bytes().decode() if path.exists() else None
    if adapted:  # its base's card is about another model
        base = model.config.name_or_path
        text = card(shown, there, base if _is_repo_id(base) and not os.path.exists(base) else None, adapted=True)
    else:
        text = card(shown, there or own_card(model.config))
    path.write_text(text, encoding="utf-8", newline="")


def registration(pipeline_class: type) -> dict[str, dict[str, Any]]:
    """What `config.json` says, so that transformers finds the class again."""
    module = pipeline_class.__module__.rpartition(".")[2]
    impl = f"{module}.{pipeline_class.__name__}"
    return {_PACKAGE: {"impl": impl, "pt": ["AutoModelForSequenceClassification"], "type": "text"}}


def unloaded(adapted: Any) -> Any:
    """The model that a PEFT adapter stands on, taken out of it.

    Transformers looks for an adapter's pipeline in the config of its base model, which is another repository's: so the
    base is saved too, and the adapter beside it.

    Raises:
        ValueError: it is not a `PeftModel`, or several adapters are active.
    """
    active = getattr(adapted, "active_adapters", None)
    if not hasattr(adapted, "unload") or not isinstance(active, list):
        raise ValueError("this model's adapter was loaded by transformers; load it as a peft.PeftModel to save it")
    if len(active) != 1:
        raise ValueError(f"the adapters {', '.join(active)} are active; activate one of them to save it")
    return adapted.unload()


def save_adapter(adapted: Any, folder: str | os.PathLike[str]) -> None:
    """Write the active adapter of a `PeftModel` into a folder beside the weights of its base."""
    active, target = adapted.active_adapters, Path(folder) / ADAPTER
    shutil.rmtree(target, ignore_errors=True)
    adapted.save_pretrained(target, selected_adapters=active)
    for path in (target / active[0]).glob("*"):  # where PEFT puts an adapter that is not called "default"
        path.replace(target / path.name)
    shutil.rmtree(target / active[0], ignore_errors=True)
    (target / "README.md").unlink(missing_ok=True)  # an empty form
    settings = target / "adapter_config.json"
    values = json.loads(settings.read_text(encoding="utf-8"))
    base = values.get("base_model_name_or_path")
    if base and (os.path.exists(base) or not _is_repo_id(base)):
        values["base_model_name_or_path"] = None  # a path of this machine
        settings.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def stale_files(folder: str | os.PathLike[str]) -> dict[Path, tuple[int, int]]:
    """Weights and adapters that are in a folder before something is saved there, and when they were written."""
    paths = {path for pattern in STALE for path in Path(folder).glob(pattern) if path.is_file()}
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}


def remove_stale(before: Mapping[Path, tuple[int, int]]) -> None:
    """Remove those of `stale_files` that were not written since: weights of another model would be loaded first."""
    for path, state in before.items():
        if path.exists() and (path.stat().st_mtime_ns, path.stat().st_size) == state:
            path.unlink()


def _is_repo_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def with_adapter(model: nn.Module) -> nn.Module:
    """The model with the adapter that was saved beside it, if there is one and it is not there yet.

    Raises:
        ImportError: there is one, and `peft` is not installed.
        ValueError: its weights are not in safetensors.
        OSError: it cannot be had from the Hub.
    """
    config: Any = model.config
    if not saved_options(config).get(ADAPTER) or hasattr(model, "peft_config"):
        return model
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ImportError("this model has a LoRA adapter, which needs peft: pip install peft") from error
    name, revision = config.name_or_path, getattr(config, "_commit_hash", None)
    at: dict[str, Any] = {"subfolder": ADAPTER, "revision": revision}
    try:
        if cached_file(name, ADAPTER_WEIGHTS, **at, _raise_exceptions_for_missing_entries=False) is None:
            raise ValueError(f"it has no {ADAPTER_WEIGHTS}; pickled adapters are not read")
        adapted: nn.Module = PeftModel.from_pretrained(model, name, **at)
    except Exception as error:  # PEFT's, the Hub's and those of its HTTP client
        if Path(name).is_dir():
            raise
        raise OSError(
            f"the adapter of {name} did not load: {' '.join(str(error).split())} (if {name} is private: `token=` does "
            "not reach its adapter; log in with `hf auth login`, or set HF_TOKEN)"
        ) from error
    return adapted.eval()
