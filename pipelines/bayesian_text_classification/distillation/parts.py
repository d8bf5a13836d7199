"""Divides texts into those that train a student, those that choose its epoch, and those that measure it."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..pipeline.inputs import text_and_pair, text_key

LEAST, FEW = 100, 1_000  # distinct texts: fewer are refused, or warned about


@dataclass(frozen=True)
class Parts:
    """Distinct texts: eight tenths train, one tenth chooses, one tenth measures."""

    training: list[Any]
    choosing: list[Any]
    measuring: list[Any]

    @property
    def all(self) -> list[Any]:
        """The texts of the three parts, one after another."""
        return [*self.training, *self.choosing, *self.measuring]


def parts_of(texts: Sequence[Any]) -> Parts:
    """Divide the distinct texts by their hash, so that the same texts are divided alike in every order.

    Texts that differ in white space alone are not distinct.

    Raises:
        ValueError: There are fewer than 100 distinct texts.
    """
    if isinstance(texts, (str, Mapping)):
        raise ValueError("texts is a single text; pass a list of texts (load_texts reads them from a file)")
    distinct: dict[str, Any] = {}
    for i, item in enumerate(texts):
        text_and_pair(item, f"input {i}")  # an error names the text
        distinct.setdefault(text_key(item), item)
    order = sorted(distinct, key=lambda key: hashlib.blake2b(key.encode(), digest_size=16).digest())
    if len(order) < LEAST:
        raise ValueError(
            f"there are {len(order):,} distinct texts, and a student needs at least {LEAST}; pass more texts like "
            "those that it will classify, without labels (5,000 is a good number)"
        )
    if len(order) < FEW:
        warnings.warn(
            f"{len(order):,} distinct texts are few for a student: with fewer than {FEW:,}, it learns little from its "
            "teacher; pass more texts without labels (5,000 is a good number)",
            UserWarning,
            stacklevel=4,
        )
    tenth = len(order) // 10
    items = [distinct[key] for key in order]
    return Parts(items[2 * tenth :], items[:tenth], items[tenth : 2 * tenth])
