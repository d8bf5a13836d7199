"""Classify a window of rows. Each row gets a label with its uncertainty, or an error."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow

from ..loading.labeled_texts import why_no_text, why_unfit
from ..loading.labels import joined_labels
from ..pipeline.answers import decided
from ..pipeline.errors import InputError
from ..pipeline.options import check_call_options
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.sampled import passes_of

ERROR = "error"
_SCORES = ("top", "all")

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
_NOVELTY = {"novelty": _NUMBER, "novelty_p_value": _NUMBER}
_REFUSED = {"abstained": pyarrow.bool_(), "reason": _TEXT}
_DECIDED = {**_REFUSED, "candidate": _TEXT}
_OF_TEXTS = ("num_samples", "truncated", *_NOVELTY, *_REFUSED)  # that all labels of a text share
ACCEPTED, PREDICTED = "accepted", "predicted_labels"
SET = "prediction_set"  # its labels, by descending score
NAMES = (
    "label",
    "score",
    *_SAMPLED,
    *_NOVELTY,
    *_DECIDED,
    ACCEPTED,
    PREDICTED,
    SET,
    ERROR,
)  # of all columns that can be added


class RowScorer:
    """Scores rows with a pipeline and fixed options.

    Attributes:
        added: Names and types of the added columns. The last one holds the error.
        options: Options of the pipeline's calls.
        prefix: Prefix of the added columns' names.
        threshold: Threshold of the calls; None for none.
        level: Novelty level of the calls; None for none.
        coverage: Coverage of the prediction sets; None for none.
        scores: "top" for the winning label, or "all" for the score of every label.
    """

    def __init__(self, classifier: BayesianTextClassificationPipeline, prefix: str, options: Mapping[str, Any]) -> None:
        """Check the options and derive the added columns.

        Args:
            classifier: Pipeline that classifies the texts.
            prefix: Prefix of the added columns' names.
            options: Options of the pipeline's calls, and `scores`. None: "all" for independent labels, else "top".

        Raises:
            ValueError: An option is out of range.
            TypeError: An option is unknown, or requests several labels.
        """
        options = dict(options)
        scores = options.pop("scores", None)
        names = list(classifier.model.config.id2label.values())
        self._labels = len(names) > 1 and classifier.activation_for(options) == "sigmoid"
        self.scores: str = scores or ("all" if self._labels else "top")
        self._passes = options.get("num_samples", classifier.sampling.num_samples)
        check_options({**classifier.defaults, **options, "num_samples": self._passes, "scores": self.scores})
        if self._passes == 0:
            options = {**classifier.truncation, **options}
        classifier([], **options)
        self._classifier, self.prefix = classifier, prefix
        self.options = options
        asked = classifier.with_options(options)
        self.threshold, self.level, self.coverage = asked.threshold, asked.novelty_level, asked.coverage
        self._scoped = classifier.scope is not None
        self._per_text = passes_of(asked, scoped=self._scoped)
        sets = {} if self.coverage is None else {SET: _TEXT}
        columns = {prefix + name: kind for name, kind in {**self._columns(), **sets, ERROR: _TEXT}.items()}
        self.added = pyarrow.schema(list(columns.items()))

    def _columns(self) -> dict[str, pyarrow.DataType]:
        """Names and types of the added columns but the error, without prefix."""
        names, sampled = list(self._classifier.model.config.id2label.values()), self._passes > 0
        if self.scores == "all" and len(set(names)) < len(names):
            raise ValueError("two labels of the model have the same name; give every label its own in config.id2label")
        each = {f"score_{name}": _NUMBER for name in names} if self.scores == "all" else {}
        if self._labels and each:
            if sampled:
                each |= {f"standard_error_{name}": _NUMBER for name in names}
                each |= {name: _SAMPLED[name] for name in _OF_TEXTS if name in _SAMPLED}
            each |= (_NOVELTY if self._scoped else {}) | (_REFUSED if self.level is not None else {})
            return each | ({} if self.threshold is None else {PREDICTED: _TEXT})
        keys = {"label": _TEXT, "score": _NUMBER, **(_SAMPLED if sampled else {}), **(_NOVELTY if self._scoped else {})}
        if self.level is not None or (self.threshold is not None and not self._labels):
            keys |= _DECIDED
        if self.threshold is not None and self._labels:
            keys[ACCEPTED] = pyarrow.bool_()
        if taken := [name for name in each if name in keys]:
            raise ValueError(
                f"a label of the model gives a column {taken[0]!r}, which exists already; use scores='top'"
            )
        return keys | each

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
            progress(passes / self._per_text)

        found = [error or why_not(text) for text, error in zip(texts, errors, strict=True)]
        rows: list[dict[str, Any]] = [{} for _ in texts]
        while good := [i for i, error in enumerate(found) if error is None]:
            try:
                results = self._answers([texts[i] for i in good], advance)
            except InputError as error:  # classify the other rows without these
                for i, reason in error.reasons.items():
                    found[good[i]] = reason
                continue
            for i, result in zip(good, results, strict=True):
                rows[i] = {self.prefix + key: value for key, value in result.items()}
            break
        for row, why in zip(rows, found, strict=True):
            row[self.prefix + ERROR] = why
        return rows

    def _answers(self, texts: list[Any], progress: Callable[[int], None]) -> list[dict[str, Any]]:
        """The added cells of each text, without prefix."""
        order = self._classifier.model.config.id2label.values()
        if self.scores == "top":
            return [self._joined(one) for one in self._classifier(texts, progress=progress, **self.options)]
        answers = []
        for entries in self._classifier(texts, progress=progress, top_k=None, **self.options):
            entries[0] = self._joined(entries[0])
            each = {f"score_{entry['label']}": entry["score"] for entry in entries}
            if not self._labels:
                answers.append({**decided(entries[0]), **each})
                continue
            answer = {**each, **{name: entries[0][name] for name in (*_OF_TEXTS, SET) if name in entries[0]}}
            if self._passes:
                answer |= {f"standard_error_{entry['label']}": entry["standard_error"] for entry in entries}
            if self.threshold is not None:
                names = {entry["label"] for entry in entries if entry[ACCEPTED]}
                answer[PREDICTED] = joined_labels([name for name in order if name in names], order)
            answers.append(answer)
        return answers

    def _joined(self, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer whose prediction set is one cell."""
        if SET not in answer:
            return answer
        names = self._classifier.model.config.id2label.values()
        labels = [entry["label"] for entry in answer[SET]]
        return {
            **answer,
            SET: joined_labels(labels, names) if labels else "[]",
        }  # no cell is empty but that of an error

    def abstained(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Number of rows whose text was classified, but got no label because of the threshold or the novelty level."""
        found = [
            {key: row.get(self.prefix + key) for key in ("abstained", "label", ACCEPTED, PREDICTED)}
            for row in rows
            if row[self.prefix + ERROR] is None
        ]
        if self.threshold is None or not self._labels:
            return sum(bool(row["abstained"]) for row in found)
        return sum(not row[PREDICTED if self.scores == "all" else ACCEPTED] for row in found)

    @property
    def may_abstain(self) -> bool:
        """Whether a text may get no label."""
        return self.threshold is not None or self.level is not None

    def counts(self, rows: Sequence[Mapping[str, Any]]) -> Counter[str]:
        """Count the rows with an error, by kind of error."""
        return Counter(_error_class(row[self.prefix + ERROR]) for row in rows if row[self.prefix + ERROR] is not None)


def check_options(options: Mapping[str, Any]) -> None:
    """Check the options of a call before a model is loaded.

    Raises:
        ValueError: An option is out of range.
        TypeError: `top_k` is given, but a row holds only one label.
    """
    if "top_k" in options:
        raise TypeError("'top_k' is not supported here: each row gets one label; scores='all' adds all scores")
    if options.get("scores") not in (None, *_SCORES):
        raise ValueError(f"scores={options['scores']!r}; it must be 'top' or 'all'")
    check_call_options(options)


def why_not(item: Any) -> str | None:
    """Why a text, or a pair of texts, cannot be classified; None if it can."""
    if not isinstance(item, dict):
        return _why_not(item)
    if why := _why_not(item["text"]):
        return why
    why = _why_not(item["text_pair"])
    return why and why.replace("the text", "the second text", 1)


def _why_not(text: Any) -> str | None:
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
