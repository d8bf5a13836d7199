"""`evaluate.evaluator("bayesian-text-classification")`: Evaluate's metrics on the averaged probabilities.

Importing this module registers the evaluator with Evaluate, whatever was imported before. Nothing else registers it,
because evaluate takes a second to import.

Evaluate's own evaluator passes label names to every metric. It has failed on pipeline instances since transformers 5,
because it asks for `transformers.TFPreTrainedModel`.
"""

import os
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Value
from evaluate.evaluator import SUPPORTED_EVALUATOR_TASKS, TextClassificationEvaluator
from numpy.typing import NDArray
from scipy.stats import bootstrap
from transformers import Pipeline, PreTrainedModel, pipeline

from .loading.labels import label_ids, label_lists, yes_or_no
from .pipeline.pipeline import TASK


@dataclass(frozen=True)
class _Predicted:
    """A pipeline's predictions for N texts.

    Attributes:
        names: Names of the classes.
        predicted: Index of each text's label in `names`. *Shape:* (N,).
        probabilities: Class probabilities; None if only the winning label was given. *Shape:* (N, classes).
        ordered: Whether `names` are in the order of their ids.
    """

    names: list[str]
    predicted: NDArray[np.intp]
    probabilities: NDArray[np.float64] | None
    ordered: bool = True

    def with_classes(self, names: Sequence[str]) -> "_Predicted":
        """The same predictions with the classes in the order of `names`, which may contain additional classes."""
        place_of = np.array([names.index(name) for name in self.names])
        probabilities = None
        if self.probabilities is not None:
            probabilities = np.zeros((len(self.predicted), len(names)))
            probabilities[:, place_of] = self.probabilities
        return _Predicted(list(names), place_of[self.predicted], probabilities)

    def of(self, rows: NDArray[np.intp]) -> "_Predicted":
        """The predictions for some of the texts."""
        probabilities = None if self.probabilities is None else self.probabilities[rows]
        return replace(self, predicted=self.predicted[rows], probabilities=probabilities)


@dataclass(frozen=True)
class _References:
    """The references of N texts, read when a metric asks for them.

    Attributes:
        values: Class ids or names, or lists of them for independent labels.
        class_names: Names of the ids in the dataset, or empty.
        names: Names of the model's classes.
    """

    values: Sequence[Any]
    class_names: Sequence[str]
    names: Sequence[str]

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """Class ids. A model with one output has the classes 0 and 1. *Shape:* (N,)."""
        read = yes_or_no if len(self.names) == 1 else label_ids
        found = read(self.values, dict(enumerate(self.names)), "data", class_names=self.class_names)
        return np.array(found, dtype=np.int64)

    @cached_property
    def matrix(self) -> NDArray[np.int64]:
        """1 where a label applies, else 0. *Shape:* (N, labels)."""
        found = np.zeros((len(self.values), len(self.names)), dtype=np.int64)
        rows = label_lists(self.values, dict(enumerate(self.names)), "data", class_names=self.class_names)
        for i, labels in enumerate(rows):
            found[i, labels] = 1
        return found


class BayesianTextClassificationEvaluator(TextClassificationEvaluator):  # type: ignore[misc]  # untyped
    """Evaluate a classifier on a dataset with any metric: `evaluator(TASK).compute(model_or_pipeline, data, metric)`.

    Each metric gets what its features ask for: rows of probabilities, the positive class' probability (if there are two
    classes), or label ids. `evaluate.combine` may mix them. References may be class ids or class names. For independent
    labels they are lists, and the metric takes sequences, as `evaluate.load("ece", "multilabel")` does.

    `model_or_pipeline` can be:

    - a name, path or model, which becomes a Bayesian pipeline
    - a text classification pipeline (Bayesian or not)
    - a function that takes the list of texts and returns an array (texts, classes) of probabilities, such as
      `classifier.predict_proba`, or what a pipeline returns
    - None, the embedded model

    `label_mapping` gives each label its id. It is required if a function returns labels other than LABEL_0, LABEL_1
    and so on. If a function returns an array, it names the columns. Half-precision rows are divided by their sums,
    because rounding moves the sums away from 1.

    As with Evaluate's own evaluators, a metric is computed with its default options. For other options (such as the
    ECE's `n_bins`), compute it on `classifier.predict_proba(texts)`.
    """

    def prepare_data(
        self, data: Dataset, input_column: str, second_input_column: str | None, label_column: str
    ) -> tuple[dict[str, Any], Any]:
        """Get the references with the names of their classes, and the texts."""
        inputs, texts = super().prepare_data(data, input_column, second_input_column, label_column)
        feature = data.features[label_column]
        feature = getattr(feature, "feature", feature)  # of a list of labels
        names = list(feature.names or []) if isinstance(feature, ClassLabel) else []
        return {"references": (list(inputs["references"]), names)}, texts

    def prepare_pipeline(
        self, model_or_pipeline: Any = None, tokenizer: Any = None, feature_extractor: Any = None, device: Any = None
    ) -> Any:
        """Return a pipeline or function. A model or its name becomes a Bayesian pipeline."""
        if model_or_pipeline is None or isinstance(model_or_pipeline, (str, os.PathLike, PreTrainedModel)):
            model = os.fspath(model_or_pipeline) if isinstance(model_or_pipeline, os.PathLike) else model_or_pipeline
            return pipeline(TASK, model=model, tokenizer=tokenizer, device=device)
        if not callable(model_or_pipeline):
            raise TypeError(
                f"model_or_pipeline is of type {type(model_or_pipeline).__name__}; it must be a model, its name or "
                "path, a text classification pipeline, or a function from a list of texts to probabilities"
            )
        return model_or_pipeline

    def call_pipeline(self, pipe: Any, texts: Any) -> tuple[_Predicted, dict[str, float]]:
        """Compute the scores of all texts, and measure the time."""
        items = [item if item.get("text_pair") is not None else item["text"] for item in texts]
        if not items:
            raise ValueError("data has no rows; it must have at least one")
        started = perf_counter()
        outputs = pipe(items, top_k=None, truncation=True) if isinstance(pipe, Pipeline) else pipe(items)
        ended = perf_counter()
        id2label = pipe.model.config.id2label if isinstance(pipe, Pipeline) else {}
        scores = _scores(outputs, [id2label[i] for i in sorted(id2label)])
        if isinstance(pipe, Pipeline) and pipe.model.config.problem_type == "regression":
            raise ValueError(
                "the evaluator needs probabilities, and the model predicts numbers; call the pipeline, and compute a "
                "metric of numbers on its scores"
            )
        if len(scores.predicted) != len(items):
            raise ValueError(
                f"model_or_pipeline returned {len(scores.predicted)} results for {len(items)} texts; it must return "
                "one for each text"
            )
        return scores, self._compute_time_perf(started, ended, len(items))

    def predictions_processor(self, predictions: _Predicted, label_mapping: Mapping[str, int] | None) -> dict[str, Any]:
        """Put the classes of the scores in the order of their ids."""
        names = predictions.names
        if label_mapping is None and not predictions.ordered:
            raise ValueError(
                f"model_or_pipeline returned the labels {', '.join(names)}, whose ids are unknown; pass "
                f"label_mapping=, such as {{{names[0]!r}: 0, ...}}"
            )
        if label_mapping is not None:
            if not all(isinstance(i, int) and isinstance(name, str) for name, i in label_mapping.items()):
                raise ValueError(f"label_mapping is {dict(label_mapping)!r}; it must map names to integers")
            ids = sorted(label_mapping.values())
            columns = _unnamed(len(ids))
            if names == columns and not set(names) & set(label_mapping):
                predictions = replace(predictions, names=sorted(label_mapping, key=label_mapping.__getitem__))
                names = predictions.names
            if set(names) - set(label_mapping) or ids != list(range(len(ids))):
                raise ValueError(
                    f"label_mapping is {dict(label_mapping)!r}; it must map the labels {', '.join(names)} to the ids 0 "
                    f"to {len(names) - 1}"
                )
            names = sorted(label_mapping, key=label_mapping.__getitem__)
        return {"scores": predictions.with_classes(names)}

    def compute_metric(
        self,
        metric: Any,
        metric_inputs: dict[str, Any],
        strategy: str = "simple",
        confidence_level: float = 0.95,
        n_resamples: int = 9999,
        random_state: int | None = None,
    ) -> dict[str, Any]:
        """Compute the metric. Strategy "bootstrap" adds an interval and a standard error to each number."""
        if strategy not in ("simple", "bootstrap"):
            raise ValueError(f"strategy is {strategy!r}; it must be 'simple' or 'bootstrap'")
        scores: _Predicted = metric_inputs["scores"]
        values, class_names = metric_inputs["references"]
        if not hasattr(metric, "features") and not hasattr(metric, "evaluation_modules"):
            raise TypeError(f"metric is of type {type(metric).__name__}; it must be an Evaluate metric, or its name")
        if scores.probabilities is None and scores.names == _unnamed(len(scores.names)):
            # The last classes may never win, so the winning labels may not include them.
            most = max((value for value in values if isinstance(value, int)), default=-1)
            scores = replace(scores, names=_unnamed(max(len(scores.names), most + 1)))
        references = _References(values, class_names, scores.names)

        def computed(rows: NDArray[np.intp]) -> dict[str, Any]:
            return _computed(metric, scores.of(rows), references, rows)

        every = np.arange(len(values))
        result = computed(every)
        if strategy != "bootstrap":
            return result
        found = {}
        for key in [key for key, value in result.items() if isinstance(value, (int, float, np.number))]:
            interval = bootstrap(
                (every,),
                lambda rows, key=key: computed(rows)[key],
                vectorized=False,
                confidence_level=confidence_level,
                n_resamples=n_resamples,
                random_state=random_state,
            )
            low, high = interval.confidence_interval
            found[key] = {
                "confidence_interval": (float(low), float(high)),
                "standard_error": float(interval.standard_error),
                "score": result[key],
            }
        return found


def _scores(outputs: Any, names: Sequence[str]) -> _Predicted:
    """Read an array (texts, classes) or what a pipeline returns. `names` are the ordered class names, if known."""
    if not hasattr(outputs, "shape"):
        outputs = list(outputs) if isinstance(outputs, Iterable) else [outputs]
        if outputs and all(map(_is_result, outputs)):
            return _of_results(outputs, names)
    return _of_array(outputs)


def _is_result(output: Any) -> bool:
    """Whether this is what a pipeline returns for one text: the winning label, or a list of labels."""
    several = output if isinstance(output, (list, tuple)) and output else [output]
    return all(isinstance(one, Mapping) and isinstance(one.get("label"), str) and "score" in one for one in several)


def _of_array(values: Any) -> _Predicted:
    try:
        probabilities = _as_float64(values) if hasattr(values, "shape") else np.array([_as_float64(v) for v in values])
    except (TypeError, ValueError):
        raise ValueError(
            f"model_or_pipeline returned {reprlib.repr(values)}; it must return an array (texts, classes) of "
            "probabilities, or what a pipeline returns for each text"
        ) from None
    if probabilities.ndim != 2 or not np.isfinite(probabilities).all():
        raise ValueError(
            f"model_or_pipeline returned an array of shape {probabilities.shape}; it must contain finite "
            "probabilities of shape (texts, classes)"
        )
    return _Predicted(_unnamed(probabilities.shape[1]), probabilities.argmax(1), probabilities)


def _as_float64(values: Any) -> NDArray[np.float64]:
    """Convert to float64. Half-precision rows that sum to about 1 are normalized."""
    if hasattr(values, "detach"):
        half, array = values.element_size() == 2, values.detach().cpu().double().numpy()
    else:
        half, array = getattr(values, "dtype", None) == np.float16, np.asarray(values, dtype=np.float64)
    totals = array.sum(-1, keepdims=True) if half and array.ndim else np.float64(1)
    return np.asarray(array / np.where(np.abs(totals - 1) < 0.02, totals, 1))


def _of_results(outputs: Sequence[Any], names: Sequence[str]) -> _Predicted:
    rows = [[output] if isinstance(output, Mapping) else output for output in outputs]
    names, ordered = (list(names), True) if names else _labels(rows)
    place = {name: i for i, name in enumerate(names)}
    predicted = np.array([place[max(row, key=lambda score: score["score"])["label"]] for row in rows], dtype=np.intp)
    if any(isinstance(output, Mapping) or len(output) < len(names) for output in outputs):
        return _Predicted(names, predicted, None, ordered)
    probabilities = np.empty((len(rows), len(names)))
    for i, row in enumerate(rows):
        for score in row:
            probabilities[i, place[score["label"]]] = score["score"]
    return _Predicted(names, predicted, probabilities, ordered)


def _labels(rows: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[list[str], bool]:
    """The labels in `rows`, and whether they are in the order of their ids: LABEL_0 to the highest, seen or not."""
    seen = sorted({score["label"] for row in rows for score in row})
    numbers = [int(label[6:]) for label in seen if re.fullmatch(r"LABEL_(0|[1-9][0-9]*)", label)]
    return (_unnamed(max(numbers) + 1), True) if len(numbers) == len(seen) else (seen, False)


def _unnamed(classes: int) -> list[str]:
    """The names that transformers gives to unnamed classes."""
    return [f"LABEL_{i}" for i in range(classes)]


def _computed(metric: Any, scores: _Predicted, references: _References, rows: NDArray[np.intp]) -> dict[str, Any]:
    """Compute a metric, or several combined ones, on some rows: each on the predictions that it needs.

    Args:
        metric: The metric.
        scores: Predictions of these rows.
        references: References of all rows.
        rows: Indices of the rows. *Shape:* (rows,).
    """
    modules = getattr(metric, "evaluation_modules", None)
    if modules is not None:
        results: dict[str, Any] = metric._merge_results(
            [_computed(module, scores, references, rows) for module in modules]
        )
        return results
    features = metric.features[0] if isinstance(metric.features, list) else metric.features
    independent = not isinstance(features["references"], Value)
    own = (references.matrix if independent else references.ids)[rows].tolist()
    inputs = {
        name: own if name == "references" else _wanted(feature, scores, metric.name)
        for name, feature in features.items()
    }
    result: dict[str, Any] = metric.compute(**inputs)
    return result


def _wanted(feature: Any, scores: _Predicted, metric: str) -> Any:
    """Rows of probabilities for a sequence, the positive class' probability for a float, otherwise label ids.

    Independent labels are predicted from a probability of 0.5, and so is the one label of a model with one output.
    """
    one_number = isinstance(feature, Value)
    whole = not (feature if one_number else feature.feature).dtype.startswith("float")
    alone = len(scores.names) == 1
    if one_number and whole and not alone:
        return scores.predicted.tolist()
    if scores.probabilities is None:
        raise ValueError(
            f"{metric} needs probabilities, but model_or_pipeline returned only the winning label's score; return the "
            "scores of all labels"
        )
    if not one_number:
        return (scores.probabilities >= 0.5).astype(int) if whole else scores.probabilities
    if alone:
        return (
            (scores.probabilities[:, 0] >= 0.5).astype(int).tolist() if whole else scores.probabilities[:, 0].tolist()
        )
    if len(scores.names) != 2:
        raise ValueError(
            f"{metric} needs the positive class' probability, but the model has {len(scores.names)} classes; it must "
            "have 2"
        )
    return scores.probabilities[:, 1].tolist()


SUPPORTED_EVALUATOR_TASKS[TASK] = {
    "implementation": BayesianTextClassificationEvaluator,
    "default_metric_name": "ece",
}
