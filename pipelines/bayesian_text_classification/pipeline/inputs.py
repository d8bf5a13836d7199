"""Inputs that a caller may pass: one text, a list of texts, or a stream of texts."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from .errors import InputError

Form = Literal["one", "list", "stream"]

_ITEM = 'each text must be a str or a dict {"text": ..., "text_pair": ...}'


# Why an input has no score.
NOT_FINITE = "the model's outputs for it are NaN or infinite"


def not_finite(bad: Sequence[int], count: int) -> InputError:
    """The error for the inputs `bad` out of `count`."""
    which = _first_of(bad, count) if bad else "an input"
    message = f"{which}: {NOT_FINITE}; the model's weights are damaged or need a wider dtype"
    return InputError(message, dict.fromkeys(bad, NOT_FINITE))


def unrunnable(reasons: Mapping[int, str], count: int) -> InputError:
    """The error for inputs, out of `count`, that the model cannot run on, with the reason for each."""
    failed = sorted(reasons)
    return InputError(f"{_first_of(failed, count)}: {reasons[failed[0]]}", reasons)


def _first_of(failed: Sequence[int], count: int) -> str:
    """The first of the inputs that failed, and how many did if others failed too."""
    return f"input {failed[0]}" + (f" ({len(failed)} of {count} inputs fail)" if len(failed) > 1 else "")


def form_of(inputs: Any) -> Form:
    """Classify an input: "one" text, a "list" (list, tuple, array or column), or a "stream" that is read lazily.

    Raises:
        TypeError: The input is none of these.
    """
    if isinstance(inputs, (str, Mapping)):
        return "one"
    if isinstance(inputs, (bytes, bytearray, memoryview)):
        raise TypeError(f"the input is {shown(inputs)}; decode it first, for example with data.decode('utf-8')")
    if hasattr(inputs, "iloc") and hasattr(inputs, "columns"):  # iterating over a DataFrame gives its column names
        raise TypeError(f"the input is a table with the columns {list(inputs.columns)}; pass one of them as a list")
    if hasattr(inputs, "column_names") or isinstance(inputs, Dataset):  # from `datasets`, from PyTorch
        return "stream"
    if isinstance(inputs, Iterable) and getattr(inputs, "ndim", 1) > 0:
        return "list" if isinstance(inputs, Sized) else "stream"
    raise TypeError(f"the input is {shown(inputs)}; {_ITEM}; pass one, or a list of them")


def items_of(inputs: Any) -> Iterable[Any]:
    """An iterable of the texts: a single text is wrapped, a Dataset may be indexed. Raises as `form_of`."""
    if form_of(inputs) == "one":
        return [inputs]
    if isinstance(inputs, Iterable):
        return inputs
    return (inputs[i] for i in range(len(inputs)))


class LazyResults:
    """Results of a stream that has a length. Each iteration reads the stream again."""

    def __init__(self, inputs: Sized, results: Callable[[], Iterator[Any]]) -> None:
        self._inputs, self._results = inputs, results

    def __len__(self) -> int:
        return len(self._inputs)

    def __iter__(self) -> Iterator[Any]:
        return self._results()


def text_and_pair(item: Any, name: str = "the input") -> tuple[str, str | None]:
    """An item's text, and its second text if it is a pair. Raises ValueError with its `name` for any other item."""
    pair = None
    if isinstance(item, list) and len(item) == 1 and isinstance(item[0], list) and len(item[0]) == 2:
        text, pair = item[0]  # the legacy form of a pair
    elif isinstance(item, Mapping) and set(item) <= {"text", "text_pair"}:
        text, pair = item.get("text"), item.get("text_pair")
    else:
        text = item
    if not isinstance(text, str) or not (pair is None or isinstance(pair, str)):
        raise ValueError(f"{name} is {shown(item)}; {_ITEM}")
    for part in (text, pair or ""):
        if not _is_unicode(part):
            raise ValueError(f"{name} is {shown(item)}; remove its lone surrogate (half of a character)")
    return text, pair


def shown(value: Any) -> str:
    """A value as shown in error messages: in one line, shortened, with its type."""
    text = " ".join(repr(value).splitlines())
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _is_unicode(text: str) -> bool:
    """Whether `text` has no lone surrogate. JSON can escape one, but no tokenizer accepts it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_key(item: Any, name: str = "the input") -> str:
    """A str that is equal for two texts, or two pairs, in any form, if they differ in nothing but white space.

    Raises ValueError as `text_and_pair`.
    """
    text, pair = text_and_pair(item, name)
    return spaced_once(text) if pair is None else "\0" + json.dumps([spaced_once(text), spaced_once(pair)])


def spaced_once(text: str) -> str:
    """The text with single spaces for all white space."""
    return " ".join(text.split())


def text_hash(key: str) -> int:
    """A 64-bit hash of a text's key (`text_key`), in place of the text."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def halves_of_rows(keys: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each row is in the first of two halves, chosen by its hash. *Shape:* (rows,).

    The copies of a text are distributed too, so each half is like the whole.
    """
    counts: Counter[str] = Counter()
    numbered = []
    for key in keys:
        counts[key] += 1
        numbered.append(f"{counts[key]} {key}")
    half = first_half(numbered)
    return np.array([key in half for key in numbered], dtype=bool)


def first_half(keys: Iterable[str]) -> set[str]:
    """Half of the distinct texts with these keys (`text_key`), chosen by their hash."""
    order = sorted(set(keys), key=lambda key: hashlib.blake2b(key.encode(), digest_size=16).digest())
    return set(order[: len(order) // 2])
