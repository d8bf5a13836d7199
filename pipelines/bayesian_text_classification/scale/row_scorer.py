"""A window of rows in, a label with its uncertainty for each row out, or what is wrong with it."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow

from ..loading.labelled_texts import why_no_text, why_unfit
from ..pipeline.errors import InputError
from ..pipeline.options import check_call_options
from ..pipeline.pipeline import BayesianTextClassificationPipeline

ERROR = "error"

_NUMBER, _TEXT = pyarrow.float64(), pyarrow.string()
_SAMPLED = {
    "score_std": _NUMBER,
    "standard_error": _NUMBER,
    "predictive_entropy": _NUMBER,
    "expected_entropy": _NUMBER,
    "mutual_information": _NUMBER,
    "num_samples": pyarrow.int64(),
    "truncated": pyarrow.bool_(),
}
_DECIDED = {"abstained": pyarrow.bool_(), "reason": _TEXT}
NAMES = ("label", "score", *_SAMPLED, "abstained", "reason", ERROR)  # of all columns that may be added


class RowScorer:
    """A pipeline with the options of its calls.

    Attributes:
        added: names and types of the columns that each row gets; the last one says what is wrong with it.
        options: of the pipeline's calls.
    """

    def __init__(self, classifier: BayesianTextClassificationPipeline, prefix: str, options: Mapping[str, Any]) -> None:
        """Prepare.

        Args:
            classifier: the pipeline.
            prefix: of the added columns' names.
            options: of its calls.

        Raises:
            ValueError: an option is out of range; a TypeError where it is unknown, or asks for several labels.
        """
        self._passes = options.get("num_samples", classifier.sampling.num_samples)
        check_options({**classifier.defaults, **options, "num_samples": self._passes})
        if self._passes == 0:
            options = {**classifier.truncation, "threshold": None, **options}
        classifier([], **options)
        self._classifier, self._prefix = classifier, prefix
        self.options = dict(options)
        keys: dict[str, pyarrow.DataType] = {"label": _TEXT, "score": _NUMBER}
        if self._passes > 0:
            keys |= _SAMPLED
        if self.options.get("threshold", classifier.threshold) is not None:
            keys |= _DECIDED
        self.added = pyarrow.schema([(prefix + name, kind) for name, kind in {**keys, ERROR: _TEXT}.items()])

    def __call__(
        self,
        texts: Sequence[Any],
        errors: Sequence[str | None],
        progress: Callable[[float], object] = lambda rows: None,
    ) -> list[dict[str, Any]]:
        """The added cells of each row, (rows,).

        Args:
            texts: what stands in the column of texts.
            errors: what is known to be wrong with the rows.
            progress: called after each batch with the rows that its passes amount to, where every row gets all passes
                (with a tolerance they amount to more).
        """

        def advance(passes: int) -> None:
            progress(passes / max(self._passes, 1))

        found = [error or why_not(text) for text, error in zip(texts, errors, strict=True)]
        rows: list[dict[str, Any]] = [{} for _ in texts]
        while good := [i for i, error in enumerate(found) if error is None]:
            try:
                results = self._classifier([texts[i] for i in good], progress=advance, **self.options)
            except InputError as error:  # the others are classified without these
                for i in error.inputs:
                    found[good[i]] = error.reason
                continue
            for i, result in zip(good, results, strict=True):
                rows[i] = {self._prefix + key: value for key, value in result.items()}
            break
        for row, why in zip(rows, found, strict=True):
            row[self._prefix + ERROR] = why
        return rows

    def counts(self, rows: Sequence[Mapping[str, Any]]) -> Counter[str]:
        """Rows with an error, by its kind."""
        return Counter(_kind(row[self._prefix + ERROR]) for row in rows if row[self._prefix + ERROR] is not None)


def check_options(options: Mapping[str, Any]) -> None:
    """What can be said of a call's options before there is a model.

    Raises:
        ValueError: one is out of range, or a threshold is asked for without samples.
        TypeError: `top_k`, which asks for more than a row can hold.
    """
    if "top_k" in options:
        raise TypeError("'top_k' has no place here: each row has one label, and a column for it")
    check_call_options(options)
    if options.get("threshold") is not None and options.get("num_samples") == 0:
        raise ValueError("a threshold needs samples: num_samples must not be 0")


def why_not(text: Any) -> str | None:
    """Why a cell cannot be classified; None where it can."""
    if text is None:
        return "there is no text"
    if isinstance(text, bytes):
        return "the text is not UTF-8"
    if why := why_no_text(text):
        return f"unreadable: {why}"
    return why_unfit(text)


def _kind(error: str) -> str:
    """Without what differs from row to row: values, places, numbers."""
    return re.sub(r"(?<![-\w])\d[\d,]*", "...", re.split(r"[:;(\"]|(?<!\w)'", error)[0]).strip()
