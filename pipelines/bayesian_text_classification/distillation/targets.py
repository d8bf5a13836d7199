"""The soft targets of a student: the scores of its teacher, kept next to the checkpoints of a training."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pipeline.inputs import text_and_pair
from ..pipeline.options import Options
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.sampled import passes_of
from ..pipeline.saved_arrays import UNREADABLE

Array = NDArray[np.float32]

_FILE = "teacher.npz"


def targets_of(
    classifier: BayesianTextClassificationPipeline,
    texts: Sequence[Any],
    scores: Options,
    options: Mapping[str, Any],
    folder: Path | None,
    key: Mapping[str, Any],
) -> Array:
    """The probabilities of the classifier, or those that an earlier run with the same key kept in the folder.

    Args:
        classifier: The teacher.
        texts: Distinct texts.
        scores: Options of the scores. The passes of scores that were kept are counted too.
        options: The same, as `predict_proba` takes them, with `progress`.
        folder: Folder of the checkpoints; None keeps nothing.
        key: What the scores depend on, besides the texts.

    Returns:
        Probabilities. *Shape:* (texts, classes).

    Raises:
        ValueError: The outputs are not finite, or the folder belongs to scores with another key.
    """
    # The texts as they are: white space may change a score.
    given = [text_and_pair(text, f"input {i}") for i, text in enumerate(texts)]
    digest = short_hash(json.dumps([dict(key), given], sort_keys=True, default=str))
    path = None if folder is None else folder / _FILE
    if path is not None and path.exists():
        try:
            with np.load(path, allow_pickle=False) as kept:
                found, made_for = kept["probabilities"], str(kept["key"])
        except UNREADABLE as error:
            raise ValueError(f"{path} is damaged; pass another folder as checkpoints") from error
        if made_for != digest:
            raise ValueError(
                f"checkpoints={str(folder)!r} has the scores of another model, other texts or other options; pass a "
                "new folder, or the same arguments to continue"
            )
        options["progress"](passes_of(scores, scoped=False) * len(texts))
        return np.asarray(found, np.float32)
    if path is not None:
        try:  # before the passes
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise ValueError(f"checkpoints={str(folder)!r} cannot be made ({reason}); pass another folder") from error
    found = classifier.predict_proba(texts, **options)
    if np.isnan(found).any():
        raise ValueError("the model's outputs are NaN or infinite; its weights are damaged or need a wider dtype")
    if path is not None:
        partial = path.with_name(f"partial-{_FILE}")
        np.savez(partial, probabilities=found, key=np.array(digest))
        partial.replace(path)
    return found


def short_hash(text: str) -> str:
    """A hash of 128 bits, in hexadecimal digits."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
