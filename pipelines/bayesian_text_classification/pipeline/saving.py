"""Saves a pipeline with all it needs without this package: code, options, an endpoint handler, a model card."""

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # not listed in __all__
from torch import nn
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.utils import cached_file

from .distillation import STUDENT
from .handler import EndpointHandler  # noqa: F401  # imported so that its file is copied too
from .model_card import card, own_card
from .options import MEMBERS, PREDICTION_SETS, SCOPE, Options, Posterior, default_count
from .publishing import Check
from .saved_arrays import file_of
from .twin import shared_copy
from .versions import version_of

KEY = "bayesian_text_classification"  # config key of the pipeline's options
ADAPTER = "adapter"  # folder of a PEFT adapter, next to the weights of its base model
ADAPTER_WEIGHTS = "adapter_model.safetensors"  # the name that PEFT uses
NO_ADAPTER_WEIGHTS = f"it has no {ADAPTER_WEIGHTS}; pickled adapters are not loaded"

# Files of an earlier save that would be loaded instead of the new files, or together with them.
STALE = (
    "*.safetensors",
    "*.index.json",
    "pytorch_model*",
    "adapter_*",
    f"{ADAPTER}/*",
    f"{MEMBERS}/*/*",
    file_of(SCOPE),
    file_of(PREDICTION_SETS),
    file_of(STUDENT),
)

_PACKAGE = "bayesian-text-classification"
_MARK = f"# From {_PACKAGE} "


@dataclass(frozen=True)
class Saved:
    """Placeholder for an option that was not given: the value saved with the model, or else the default."""

    default: Any

    def __repr__(self) -> str:
        return f"<saved with the model, else {self.default!r}>"


def resolved(options: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Options by name, with each `Saved` replaced by the value in the model's config, or else by its default."""
    saved = saved_options(getattr(model, "config", None))
    posterior = options.get("posterior")
    if posterior == "ensemble":  # given for this classifier, and its samples have no dropout
        saved["dropout"] = None
    if isinstance(posterior, str) and posterior != saved.get("posterior", Options.posterior):
        saved["num_samples"] = default_count(cast(Posterior, posterior), saved.get(MEMBERS, 1))
    return {
        name: saved.get(name, value.default) if isinstance(value, Saved) else value for name, value in options.items()
    }


def save(
    pipeline_class: type,
    model: Any,
    tokenizer: Any,
    options: Mapping[str, Any],
    folder: str | os.PathLike[str],
    can_sample: bool,
    **kwargs: Any,
) -> None:
    """Write model, tokenizer, options, code, endpoint handler and model card into a folder.

    The caller's model is not modified.

    Args:
        pipeline_class: The pipeline class that loads the folder again.
        model: A transformers model, or a `PeftModel`.
        tokenizer: The tokenizer of the model.
        options: Options of the pipeline; any JSON values.
        folder: The target folder; created if it does not exist.
        can_sample: Whether the model has dropout to sample, for the model card.
        **kwargs: Arguments for `save_pretrained` of the model and the tokenizer.

    Raises:
        ValueError: The folder is a file, a code file has the name of a file of this package, or the model's adapter
            cannot be saved.
    """
    if Path(folder).is_file():
        raise ValueError(f"save_directory={str(folder)!r} is a file; it must be a folder")
    files = code_files(pipeline_class)
    check_names(files, folder, model)
    adapted = hasattr(model, "peft_config")
    options = {**options, **({ADAPTER: True} if adapted else {})}
    before = stale_files(folder)
    # Work on a copy, because other threads may be reading the caller's config.
    inner: Any = getattr(model, "_orig_mod", model)  # the model inside torch.compile's wrapper
    base: Any = unloaded(shared_copy(inner)) if adapted else shared_copy(inner)
    setattr(base.config, KEY, options)
    base.config.custom_pipelines = registration(pipeline_class)
    base.save_pretrained(folder, **kwargs)
    if adapted:
        save_adapter(shared_copy(inner), Path(folder) / ADAPTER)  # PEFT writes to the adapter's config while it saves
    tokenizer.save_pretrained(folder, **kwargs)
    remove_stale(before)
    write_code(files, folder)
    remove_orphans(files, folder)
    write_requirements(folder, adapted)
    write_model_card(folder, options, model, can_sample)


def saved_options(config: Any) -> dict[str, Any]:
    """The options saved in a model's config; empty if there are none."""
    return dict(getattr(config, KEY, None) or {})


def code_files(of_class: type) -> list[Path]:
    """The file of a class and the files that it imports from its folder. The pipeline's include the handler's."""
    source = sys.modules[of_class.__module__].__file__
    assert source is not None
    return [Path(path) for path in sorted({source, *get_relative_import_files(source)})]


def check_of(pipeline_class: type) -> Check:
    """The `check` argument of `publish` for a pipeline.

    If the repository does not hold a saved pipeline, the check raises ValueError when a file has the name of one of our
    code files. If it does hold one, the check returns the code files that an earlier version wrote and this one does
    not.
    """
    names = {path.name for path in code_files(pipeline_class)}

    def check(there: Collection[str], read: Callable[[str], str]) -> list[str]:
        saved = "config.json" in there and f'"{KEY}"' in read("config.json")
        if not saved and (taken := sorted(names & set(there))):
            raise ValueError(f"{taken[0]} already exists and was not written by save_pretrained; rename it")
        others = [name for name in there if name.endswith(".py") and "/" not in name and name not in names]
        return [name for name in others if is_ours(read(name))] if saved else []

    return check


def check_names(files: list[Path], folder: str | os.PathLike[str], model: Any) -> None:
    """Raise ValueError if custom code in the folder or of the model has the name of one of `files`."""
    there = [path for path in (Path(folder) / file.name for file in files) if path.exists()]
    taken = {path.name for path in there if not _is_our_file(path)}
    for part in (model, model.config):
        if getattr(part, "_auto_class", None) is not None:  # transformers saves this code too
            taken |= {path.name for path in code_files(type(part))}
    for file in files:
        if file.name in taken:
            raise ValueError(
                f"{file.name} would be written by save_pretrained, but the model's own code has a file of that name; "
                "rename the model's file"
            )


def write_code(files: list[Path], folder: str | os.PathLike[str]) -> None:
    """Write copies of code files, with a first line that says where they come from."""
    version = version_of(_PACKAGE) or "of unknown version"
    for path in files:
        text = path.read_text(encoding="utf-8")
        if not is_ours(text):  # a copy keeps its line, which names the version that it comes from
            text = f"{_MARK}{version}, copied by save_pretrained.\n{text}"
        (Path(folder) / path.name).write_text(text, encoding="utf-8")


def remove_orphans(files: list[Path], folder: str | os.PathLike[str]) -> None:
    """Remove code that an earlier version wrote and this one does not. Files without our mark are kept."""
    for path in Path(folder).glob("*.py"):
        if path.name not in {file.name for file in files} and _is_our_file(path):
            path.unlink()


def is_ours(code: str) -> bool:
    """Whether `save_pretrained` wrote a code file."""
    return code.startswith(_MARK)


def _is_our_file(path: Path) -> bool:
    """`is_ours` for any path: other people's code may be a folder, or not UTF-8."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MARK)) == _MARK.encode()


def write_requirements(folder: str | os.PathLike[str], adapted: bool) -> None:
    """Write requirements.txt, which an Inference Endpoint installs; an existing file gets the missing lines."""
    path, ours = Path(folder) / "requirements.txt", "torch>=2.5\ntransformers>=5\n" + "peft>=0.17\n" * adapted
    there = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(merged_requirements(there, ours), encoding="utf-8")


def merged_requirements(there: str, ours: str) -> str:
    """The existing lines, plus our lines for packages that they do not name."""
    named = {_package_of(line) for line in there.splitlines()}
    lacking = [line for line in ours.splitlines() if _package_of(line) not in named]
    return (
        there + "\n" * bool(there and lacking and not there.endswith("\n")) + "".join(f"{line}\n" for line in lacking)
    )


def _package_of(line: str) -> str:
    return re.split(r"[^\w.-]", line.strip(), maxsplit=1)[0].lower().replace("_", "-")


def write_model_card(folder: str | os.PathLike[str], options: Mapping[str, Any], model: Any, can_sample: bool) -> None:
    """Write README.md with the model's own card and our section; an existing README.md gets only our section."""
    path, adapted = Path(folder) / "README.md", bool(options.get(ADAPTER))
    shown = {name: value for name, value in options.items() if name != ADAPTER}
    there = path.read_bytes().decode() if path.exists() else None
    if adapted:  # the base model's card describes another model
        base = model.config.name_or_path
        text = card(
            shown,
            there,
            base if _is_repo_id(base) and not os.path.exists(base) else None,
            config=model.config,
            adapted=True,
            can_sample=can_sample,
        )
    else:
        text = card(shown, there or own_card(model.config), config=model.config, can_sample=can_sample)
    path.write_text(text, encoding="utf-8", newline="")


def registration(pipeline_class: type) -> dict[str, dict[str, Any]]:
    """The `custom_pipelines` entry of `config.json`, by which transformers finds the class again."""
    module = pipeline_class.__module__.rpartition(".")[2]
    impl = f"{module}.{pipeline_class.__name__}"
    return {_PACKAGE: {"impl": impl, "pt": ["AutoModelForSequenceClassification"], "type": "text"}}


def unloaded(adapted: Any) -> Any:
    """The base model of a PEFT adapter, unwrapped.

    Transformers looks for an adapter's pipeline in the config of the base model, which belongs to another repository.
    So the base is saved too, with the adapter next to it.

    Raises:
        ValueError: The model is not a `PeftModel`, or the number of active adapters is not 1.
    """
    active = getattr(adapted, "active_adapters", None)
    if not hasattr(adapted, "unload") or not isinstance(active, list):
        raise ValueError("this model's adapter was loaded by transformers; load it as a peft.PeftModel to save it")
    if len(active) != 1:
        raise ValueError(f"the active adapters are {', '.join(active)}; activate exactly one to save the model")
    return adapted.unload()


def save_adapter(adapted: Any, target: Path) -> None:
    """Write the active adapter of a `PeftModel` into the folder `target`."""
    active = adapted.active_adapters
    shutil.rmtree(target, ignore_errors=True)
    adapted.save_pretrained(target, selected_adapters=active)
    for path in (target / active[0]).glob("*"):  # PEFT's folder for an adapter not named "default"
        path.replace(target / path.name)
    shutil.rmtree(target / active[0], ignore_errors=True)
    (target / "README.md").unlink(missing_ok=True)  # an unfilled template
    settings = target / "adapter_config.json"
    values = json.loads(settings.read_text(encoding="utf-8"))
    base = values.get("base_model_name_or_path")
    if base and (os.path.exists(base) or not _is_repo_id(base)):
        values["base_model_name_or_path"] = None  # a local path or another name that is not a Hub id
        settings.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def stale_files(folder: str | os.PathLike[str]) -> dict[Path, tuple[int, int]]:
    """Weights and adapters in a folder before a save, with the time they were written (in ns) and their size."""
    paths = {path for pattern in STALE for path in Path(folder).glob(pattern) if path.is_file()}
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}


def remove_stale(before: Mapping[Path, tuple[int, int]]) -> None:
    """Remove files of `stale_files` that were not rewritten since: another model's weights would be loaded first."""
    for path, state in before.items():
        if path.exists() and (path.stat().st_mtime_ns, path.stat().st_size) == state:
            path.unlink()
            with contextlib.suppress(OSError):  # others are in the folder
                path.parent.rmdir()


def _is_repo_id(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def with_adapter(model: nn.Module) -> nn.Module:
    """The model with the adapter that was saved next to it, if there is one and it is not loaded yet.

    Raises:
        ImportError: There is an adapter, and `peft` is not installed.
        ValueError: The adapter in a local folder has no safetensors weights.
        OSError: The adapter could not be loaded from the Hub.
    """
    config: Any = model.config
    if not saved_options(config).get(ADAPTER) or hasattr(model, "peft_config"):
        return model
    return loaded_adapter(model, config.name_or_path, ADAPTER, getattr(config, "_commit_hash", None))


def loaded_adapter(model: nn.Module, name: str, folder: str | None, revision: str | None) -> nn.Module:
    """`model` with the adapter of the repository or path `name`, or in a folder of it. It raises as `with_adapter`."""
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ImportError("this model has a LoRA adapter, which needs peft: pip install peft") from error
    given = {"subfolder": folder, "revision": revision}
    at: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    try:
        if cached_file(name, ADAPTER_WEIGHTS, **at, _raise_exceptions_for_missing_entries=False) is None:
            raise ValueError(NO_ADAPTER_WEIGHTS)
        adapted: nn.Module = PeftModel.from_pretrained(model, name, **at)
    except Exception as error:  # errors of PEFT, the Hub and its HTTP client
        if Path(name).is_dir():
            raise
        raise OSError(
            f"the adapter of {name} did not load: {' '.join(str(error).split())} (if {name} is private, `token=` is "
            "not used for its adapter; log in with `hf auth login` or set HF_TOKEN)"
        ) from error
    return adapted.eval()
