"""Location of the Evaluate module `ece`, its functions for this package, and its installation in Evaluate's cache.

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


def metric_folder() -> Path:
    """Find the folder of `ece.py`: inside the package if installed from a wheel, otherwise in the checkout around it.

    Raises:
        FileNotFoundError: The file is in neither place.
    """
    package = Path(__file__).resolve().parent
    wheel, checkout = (root / "metrics" / "ece" for root in (package, package.parents[1]))
    for folder in (wheel, checkout):
        if (folder / "ece.py").is_file():
            return folder
    raise FileNotFoundError(f"ece.py is neither in {wheel} nor in {checkout}; reinstall the package.")


@functools.cache
def load_metric_module() -> ModuleType:
    """Load `ece.py` as a module, with `expected_calibration_error` and `bin_sums`.

    The first call imports evaluate (slow).

    Raises:
        FileNotFoundError: The file is missing, as in `metric_folder`.
    """
    name = "bayesian_text_classification_ece"
    spec = importlib.util.spec_from_file_location(name, metric_folder() / "ece.py")
    assert spec is not None and spec.loader is not None  # a path that ends in .py has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pickle looks here for the module's classes
    spec.loader.exec_module(module)
    # Sums of shards come back from other processes, and unpickling them must find this module.
    copyreg.pickle(module.BinSums, lambda sums: (_bin_sums, tuple(vars(sums).values())))
    return module


def _bin_sums(*fields: Any) -> Any:
    return load_metric_module().BinSums(*fields)


def install_metric() -> Path | None:
    """Copy `ece.py` into Evaluate's own cache, so that `evaluate.load("ece")` finds it without a network.

    It goes to `HF_MODULES_CACHE/evaluate_modules/metrics/evaluate-metric--ece/<sha256 of its content>/ece.py`. If it is
    already there, nothing is written. If the cache is not writable, the function warns. The environment variable
    BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE=1 turns this off.

    Returns:
        The cached file, or None if there is none.
    """
    if os.environ.get("BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return None
    cache = _modules_cache() / "evaluate_modules" / "metrics" / "evaluate-metric--ece"
    try:
        content = (metric_folder() / "ece.py").read_bytes()
        script = cache / hashlib.sha256(content).hexdigest() / "ece.py"
        if not script.is_file() or script.read_bytes() != content:
            _write(script, content)
        _make_latest(script)
    except OSError as error:
        # Evaluate itself also writes below HF_HOME, so setting only HF_MODULES_CACHE would not help.
        variable = "HF_MODULES_CACHE" if "HF_MODULES_CACHE" in os.environ else "HF_HOME"
        warnings.warn(
            f'evaluate.load("ece") will not find the metric, because it could not be copied to {cache}: {error}. '
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
    """Write atomically: Evaluate reads any folder whose name has 64 characters, and fails if `ece.py` is not in it."""
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
