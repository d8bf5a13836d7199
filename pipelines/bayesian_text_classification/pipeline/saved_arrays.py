"""Arrays next to a saved model: `NAME/NAME.npz`, in a subfolder, where no server looks for weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from transformers.utils import cached_file

UNREADABLE = (OSError, ValueError, KeyError, EOFError, BadZipFile)  # what a damaged or missing file raises


def file_of(name: str) -> str:
    """Path of the arrays `name` in a saved folder."""
    return f"{name}/{name}.npz"


def write_arrays(folder: Any, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays into a saved folder."""
    target = Path(folder) / file_of(name)
    target.parent.mkdir(exist_ok=True)
    np.savez(target, **arrays)  # type: ignore[arg-type]  # the stubs take it for a flag


def read_arrays(model: Any, name: str) -> dict[str, NDArray[Any]]:
    """The arrays next to a loaded model, from its folder or repository. Raises one of `UNREADABLE` if that fails."""
    revision = getattr(model.config, "_commit_hash", None)
    at = {"revision": revision} if revision else {}
    path = cached_file(model.config.name_or_path, file_of(name), **at)
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
