"""Classify a window of rows. Each row gets a label with its uncertainty, or an error."""

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
_DECIDED = {"abstained": pyarrow.bool_(), "reason": _TEXT, "candidate": _TEXT}
NAMES = ("label", "score", *_SAMPLED, *_DECIDED, ERROR)  # of all columns that can be added


class RowScorer:
    """Scores rows with a pipeline and fixed options.

    Attributes:
        added: Names and types of the added columns. The last one holds the error.
        options: Options of the pipeline's calls.
    """

    def __init__(self, classifier: BayesianTextClassificationPipeline, prefix: str, options: Mapping[str, Any]) -> None:
        """Check the options and derive the added columns.

        Args:
            classifier: Pipeline that classifies the texts.
            prefix: Prefix of the added columns' names.
            options: Options of the pipeline's calls.

        Raises:
            ValueError: An option is out of range.
            TypeError: An option is unknown, or requests several labels.
        """
        self._passes = options.get("num_samples", classifier.sampling.num_samples)
        check_options({**classifier.defaults, **options, "num_samples": self._passes})
        if self._passes == 0:
            options = {**classifier.truncation, **options}
        classifier([], **options)
        self._classifier, self._prefix = classifier, prefix
        self.options = dict(options)
        keys: dict[str, pyarrow.DataType] = {"label": _TEXT, "score": _NUMBER}
        if self._passes > 0:
            keys |= _SAMPLED
        if classifier.with_options(options).threshold is not None:
            keys |= _DECIDED
        self.added = pyarrow.schema(
            [(prefix + name, arrow_type) for name, arrow_type in {**keys, ERROR: _TEXT}.items()]
        )

    def __call__(
        self,
        texts: Sequence[Any],
        errors: Sequence[str | None],
        progress: Callable[[float], object] = lambda rows: None,
    ) -> list[dict[str, Any]]:
        """Compute the added cells of each row.

        Args:
            texts: Cells of the text column. *Shape:* (rows,).
            errors: Known error of each row, or None. *Shape:* (rows,).
            progress: Function called after each batch with the number of rows that its passes amount to, if every row
                gets all passes. (With a tolerance, they amount to more.)

        Returns:
            The added cells by column name, for each row. *Shape:* (rows,).
        """

        def advance(passes: int) -> None:
            progress(passes / max(self._passes, 1))

        found = [error or why_not(text) for text, error in zip(texts, errors, strict=True)]
        rows: list[dict[str, Any]] = [{} for _ in texts]
        while good := [i for i, error in enumerate(found) if error is None]:
            try:
                results = self._classifier([texts[i] for i in good], progress=advance, **self.options)
            except InputError as error:  # classify the other rows without these
                for i, reason in error.reasons.items():
                    found[good[i]] = reason
                continue
            for i, result in zip(good, results, strict=True):
                rows[i] = {self._prefix + key: value for key, value in result.items()}
            break
        for row, why in zip(rows, found, strict=True):
            row[self._prefix + ERROR] = why
        return rows

    def counts(self, rows: Sequence[Mapping[str, Any]]) -> Counter[str]:
        """Count the rows with an error, by kind of error."""
        return Counter(_error_class(row[self._prefix + ERROR]) for row in rows if row[self._prefix + ERROR] is not None)


def check_options(options: Mapping[str, Any]) -> None:
    """Check the options of a call before a model is loaded.

    Raises:
        ValueError: An option is out of range.
        TypeError: `top_k` is given, but a row holds only one label.
    """
    if "top_k" in options:
        raise TypeError("'top_k' is not supported here: each row gets one label, in one column")
    check_call_options(options)


def why_not(text: Any) -> str | None:
    """Why a cell cannot be classified, or None if it can."""
    if text is None:
        return "the text is missing"
    if isinstance(text, bytes):
        return "the text is not UTF-8"
    if why := why_no_text(text):
        return f"unreadable: {why}"
    return why_unfit(text)


def _error_class(error: str) -> str:
    """An error without what differs between rows: values, positions, numbers."""
    return re.sub(r"(?<![-\w])\d[\d,]*", "...", re.split(r"[:;(\"]|(?<!\w)'", error)[0]).strip()
