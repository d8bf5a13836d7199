"""Location of the Evaluate modules, their functions for this package, and their installation in Evaluate's cache.

Until a function is called, only the standard library is imported and nothing runs.
"""

import copyreg
import functools
import hashlib
import importlib.util
import os
import shutil
import sys
import uuid
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

METRICS = ("ece", "prediction_set_coverage")  # each is the name of a folder, and of the file in it


def metric_folder(name: str = "ece") -> Path:
    """Find the folder of a module: inside the package if installed from a wheel, otherwise in the checkout around it.

    Args:
        name: One of `METRICS`.

    Raises:
        FileNotFoundError: The module's file is in neither place.
    """
    package = Path(__file__).resolve().parent
    wheel, checkout = (root / "metrics" / name for root in (package, package.parents[1]))
    for folder in (wheel, checkout):
        if (folder / f"{name}.py").is_file():
            return folder
    raise FileNotFoundError(f"{name}.py is neither in {wheel} nor in {checkout}; reinstall the package.")


def load_metric_module(name: str = "ece") -> ModuleType:
    """Load one of `METRICS` as a module, with its functions, such as `expected_calibration_error`.

    The first call imports evaluate (slow).

    Raises:
        FileNotFoundError: The file is missing, as in `metric_folder`.
    """
    return _loaded(name)


@functools.cache
def _loaded(name: str) -> ModuleType:
    full_name = f"bayesian_text_classification_{name}"
    spec = importlib.util.spec_from_file_location(full_name, metric_folder(name) / f"{name}.py")
    assert spec is not None and spec.loader is not None  # a path that ends in .py has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[full_name] = module  # pickle looks here for the module's classes
    spec.loader.exec_module(module)
    if name == "ece":  # sums of shards come back from other processes, and unpickling them must find this module
        copyreg.pickle(module.BinSums, lambda sums: (_bin_sums, tuple(vars(sums).values())))
    return module


def _bin_sums(*fields: Any) -> Any:
    return load_metric_module().BinSums(*fields)


def install_metrics() -> None:
    """Install all `METRICS`. A cache that is not writable causes only one warning."""
    for name in METRICS:
        if install_metric(name) is None:
            return


def install_metric(name: str = "ece") -> Path | None:
    """Copy a module into Evaluate's own cache, so that `evaluate.load(name)` finds it without a network.

    `ece` goes to `HF_MODULES_CACHE/evaluate_modules/metrics/evaluate-metric--ece/<sha256 of its content>/ece.py`. If it
    is already there, nothing is written. If the cache is not writable, the function warns. The environment variable
    BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE=1 turns this off.

    Args:
        name: One of `METRICS`.

    Returns:
        The cached file, or None if there is none.
    """
    if os.environ.get("BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return None
    cache = _modules_cache() / "evaluate_modules" / "metrics" / f"evaluate-metric--{name}"
    try:
        content = (metric_folder(name) / f"{name}.py").read_bytes()
        script = cache / hashlib.sha256(content).hexdigest() / f"{name}.py"
        if not script.is_file() or script.read_bytes() != content:
            _write(script, content)
        _make_latest(script)
    except OSError as error:
        # Evaluate itself also writes below HF_HOME, so setting only HF_MODULES_CACHE would not help.
        variable = "HF_MODULES_CACHE" if "HF_MODULES_CACHE" in os.environ else "HF_HOME"
        warnings.warn(
            f'evaluate.load("{name}") will not find the metric, because it could not be copied to {cache}: {error}. '
            f"Set {variable} to a writable folder, or set BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE=1 to skip this step.",
            stacklevel=2,
        )
        return None
    return script


def _modules_cache() -> Path:
    """Current or future `evaluate.config.HF_MODULES_CACHE`, with the same variables, defaults and expansion."""
    imported = getattr(sys.modules.get("evaluate.config"), "HF_MODULES_CACHE", None)
    if imported is not None:
        return Path(imported)
    default_home = os.path.join(os.getenv("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    home = os.path.expanduser(os.getenv("HF_HOME", default_home))
    return Path(os.getenv("HF_MODULES_CACHE", os.path.join(home, "modules")))


def _write(script: Path, content: bytes) -> None:
    """Write atomically: Evaluate reads any folder whose name has 64 characters, and fails without the module in it."""
    staging = script.parent.with_name(uuid.uuid4().hex)
    staging.mkdir(parents=True)
    try:
        (staging / script.name).write_bytes(content)
        try:
            staging.rename(script.parent)
        except OSError:  # the folder exists: another process was faster, or its file is damaged
            os.replace(staging / script.name, script)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _make_latest(script: Path) -> None:
    """Make this the last modified version, which is the one that Evaluate uses, even after a downgrade."""
    versions = script.parents[1].glob("?" * 64 + "/" + script.name)
    newest = max((version.stat().st_mtime for version in versions if version != script), default=0.0)
    if script.stat().st_mtime <= newest:
        os.utime(script, (newest + 1, newest + 1))
