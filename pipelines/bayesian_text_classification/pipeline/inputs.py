"""What a caller may hand in: one text, several, or a stream of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from .errors import InputError

Form = Literal["one", "list", "stream"]

_ITEM = 'each text must be a str or a dict {"text": ..., "text_pair": ...}'


# A reason why an input has no score.
NOT_FINITE = "the model's outputs for it are NaN or infinite"


def not_finite(bad: Sequence[int], count: int) -> InputError:
    """The error for the `bad` of `count` inputs."""
    which = f"input {bad[0]}: {NOT_FINITE} (so for {len(bad)} of {count} inputs)" if bad else f"an input: {NOT_FINITE}"
    message = f"{which}; the model's weights are damaged, or need a wider dtype"
    return InputError(message, bad, NOT_FINITE)


def class_ids(labels: Iterable[Any], config: Any) -> NDArray[np.int64]:
    """Ids of a model's classes, from ids or names: (texts,); ValueError, with its number, for one that is neither."""
    ids = []
    for i, label in enumerate(labels):
        known = config.label2id.get(label) if isinstance(label, str) else label
        if isinstance(known, bool) or known not in range(config.num_labels):
            raise ValueError(f"label {i} is {label!r}; the classes are {dict(config.id2label)}")
        ids.append(int(known))
    return np.array(ids, dtype=np.int64)


def form_of(inputs: Any) -> Form:
    """One text, several that are there ("list": a list, tuple, array, column), or several that come when asked for.

    Raises:
        TypeError: neither.
    """
    if isinstance(inputs, (str, Mapping)):
        return "one"
    if isinstance(inputs, (bytes, bytearray, memoryview)):
        raise TypeError(f"the input is {shown(inputs)}; decode it first, such as data.decode('utf-8')")
    if hasattr(inputs, "iloc") and hasattr(inputs, "columns"):  # iterating over a DataFrame gives its column names
        raise TypeError(f"the input is a table with the columns {list(inputs.columns)}; pass one of them, as a list")
    if hasattr(inputs, "column_names") or isinstance(inputs, Dataset):  # of the library `datasets`, of PyTorch
        return "stream"
    if isinstance(inputs, Iterable) and getattr(inputs, "ndim", 1) > 0:
        return "list" if isinstance(inputs, Sized) else "stream"
    raise TypeError(f"the input is {shown(inputs)}; {_ITEM}, or several of them")


def items_of(inputs: Any) -> Iterable[Any]:
    """What to iterate over: one text is a list of one, and a torch Dataset need not be iterable. Errors: `form_of`."""
    if form_of(inputs) == "one":
        return [inputs]
    if isinstance(inputs, Iterable):
        return inputs
    return (inputs[i] for i in range(len(inputs)))


class LazyResults:
    """Results of a stream that has a length: each iteration reads the stream anew."""

    def __init__(self, inputs: Sized, results: Callable[[], Iterator[Any]]) -> None:
        self._inputs, self._results = inputs, results

    def __len__(self) -> int:
        return len(self._inputs)

    def __iter__(self) -> Iterator[Any]:
        return self._results()


def text_and_pair(item: Any, index: int) -> tuple[str, str | None]:
    """The text of an item and the second text of a pair; ValueError, with the item's number `index`, for all else."""
    pair = None
    if isinstance(item, list) and len(item) == 1 and isinstance(item[0], list) and len(item[0]) == 2:
        text, pair = item[0]  # an old form of pairs
    elif isinstance(item, Mapping) and set(item) <= {"text", "text_pair"}:
        text, pair = item.get("text"), item.get("text_pair")
    else:
        text = item
    if not isinstance(text, str) or not (pair is None or isinstance(pair, str)):
        raise ValueError(f"input {index} is {shown(item)}; {_ITEM}")
    for part in (text, pair or ""):
        if not _is_unicode(part):
            raise ValueError(f"input {index} is {shown(item)}, with half of a character (a lone surrogate) in it")
    return text, pair


def shown(value: Any) -> str:
    """A value for an error message, shortened, with its type."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"


def _is_unicode(text: str) -> bool:
    """Whether every character is one: JSON can escape half of a pair of surrogates, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
