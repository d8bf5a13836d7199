"""Where the Evaluate module `ece` is, its functions for our own use, and its place in Evaluate's cache.

Only the standard library is imported, and nothing is done, until a function is called.
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
    """The folder of `ece.py`: inside the package when it was installed from a wheel, else in the checkout around it.

    Raises:
        FileNotFoundError: if it is in neither.
    """
    package = Path(__file__).resolve().parent
    wheel, checkout = (root / "metrics" / "ece" for root in (package, package.parents[1]))
    for folder in (wheel, checkout):
        if (folder / "ece.py").is_file():
            return folder
    raise FileNotFoundError(f"ece.py is neither in {wheel} nor in {checkout}; install the package again.")


@functools.cache
def load_metric_module() -> ModuleType:
    """`ece.py` as a module, with `expected_calibration_error` and `bin_sums`. The first call imports evaluate (slow).

    Raises:
        FileNotFoundError: as `metric_folder`.
    """
    name = "bayesian_text_classification_ece"
    spec = importlib.util.spec_from_file_location(name, metric_folder() / "ece.py")
    assert spec is not None and spec.loader is not None  # a path that ends in .py has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pickle looks for the classes of a module
    spec.loader.exec_module(module)
    # Sums of shards come back from other processes, which must find this module to unpickle them.
    copyreg.pickle(module.BinSums, lambda sums: (_bin_sums, tuple(vars(sums).values())))
    return module


def _bin_sums(*fields: Any) -> Any:
    return load_metric_module().BinSums(*fields)


def install_metric() -> Path | None:
    """Place `ece.py` into Evaluate's own cache, so that `evaluate.load("ece")` finds it with no network.

    It goes to `HF_MODULES_CACHE/evaluate_modules/metrics/evaluate-metric--ece/<sha256 of its content>/ece.py`. Nothing
    is written where it is there already. A cache that cannot be written to is a warning. The environment variable
    BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE=1 turns this off.

    Returns:
        The cached file, None if there is none.
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
        # Evaluate itself writes below HF_HOME too, so that HF_MODULES_CACHE alone would not do.
        variable = "HF_MODULES_CACHE" if "HF_MODULES_CACHE" in os.environ else "HF_HOME"
        warnings.warn(
            f'evaluate.load("ece") will not find the metric, which could not be placed in {cache}: {error}. '
            f"Set {variable} to a folder that can be written to, or BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE=1 to do "
            "without.",
            stacklevel=2,
        )
        return None
    return script


def _modules_cache() -> Path:
    """What `evaluate.config.HF_MODULES_CACHE` is, or will be: the same variables, defaults and expansion as there."""
    imported = getattr(sys.modules.get("evaluate.config"), "HF_MODULES_CACHE", None)
    if imported is not None:
        return Path(imported)
    default_home = os.path.join(os.getenv("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    home = os.path.expanduser(os.getenv("HF_HOME", default_home))
    return Path(os.getenv("HF_MODULES_CACHE", os.path.join(home, "modules")))


def _write(script: Path, content: bytes) -> None:
    """Write in one step: Evaluate reads any folder whose name has 64 characters, and fails if `ece.py` is not in it."""
    staging = script.parent.with_name(uuid.uuid4().hex)
    staging.mkdir(parents=True)
    try:
        (staging / script.name).write_bytes(content)
        try:
            staging.rename(script.parent)
        except OSError:  # the folder is there: another process was faster, or the file in it is damaged
            os.replace(staging / script.name, script)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _make_latest(script: Path) -> None:
    """Make this version the one that Evaluate takes, which is the last modified: also after a downgrade."""
    versions = script.parents[1].glob("?" * 64 + "/" + script.name)
    newest = max((version.stat().st_mtime for version in versions if version != script), default=0.0)
    if script.stat().st_mtime <= newest:
        os.utime(script, (newest + 1, newest + 1))
