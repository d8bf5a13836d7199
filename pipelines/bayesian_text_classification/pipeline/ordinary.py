"""The stock `text-classification` pipeline, with fixes for its inputs, options and errors."""

from collections.abc import Callable, Iterator, Mapping, Sized
from types import GeneratorType
from typing import Any

from torch.utils.data import Dataset
from transformers import TextClassificationPipeline

from .errors import InputError
from .failures import cannot_run, may_blame_text
from .inputs import NOT_FINITE, LazyResults, form_of, items_of, not_finite, text_and_pair, unrunnable
from .options import ACTIVATIONS, Activation, check_tokenizer_options


class OrdinaryPipeline(TextClassificationPipeline):  # type: ignore[misc]  # untyped
    """Bit-identical results to the stock pipeline, for every form of input; errors name the input and the option."""

    def __call__(self, inputs: Any, *, progress: Callable[[int], None] | None = None, **kwargs: Any) -> Any:
        """Classify the text(s) in one ordinary pass and call `progress` with the number of texts done."""
        return _counted(self._stock(inputs, kwargs), progress or (lambda texts: None))

    def _stock(self, inputs: Any, kwargs: dict[str, Any]) -> Any:
        form = form_of(inputs)
        if form == "list":
            inputs = list(inputs)
            if not inputs:
                return []
        elif form == "stream" and not isinstance(inputs, (Dataset, GeneratorType)):
            inputs = (item for item in items_of(inputs))  # a generator, which the stock pipeline accepts
        try:
            return super().__call__(inputs, **kwargs)
        except InputError as error:  # from `_forward` or `postprocess`, which do not know the index
            if form == "stream":
                raise InputError(str(error), {}) from error
            if form == "list":
                return self._one_by_one(inputs, kwargs)
            raise _numbered({0: error}, 1) from error
        except (TypeError, ValueError):
            # The stock pipeline or its tokenizer misread the input. If an item is to blame, name it.
            for index, item in enumerate(items_of(inputs) if form != "stream" else ()):
                text_and_pair(item, f"input {index}")
            raise
        except LookupError:  # the stock pipeline cannot split the outputs of a batch of some models (XLNet)
            if form != "list" or kwargs.get("batch_size", self._batch_size) in (None, 1):
                raise
            return self._one_by_one(inputs, {**kwargs, "batch_size": 1})

    def _one_by_one(self, items: list[Any], kwargs: dict[str, Any]) -> list[Any]:
        """The results of items that fail as a batch. Raises InputError for those that fail alone."""
        results, failed = [], {}
        for i, item in enumerate(items):
            try:
                results += super().__call__([item], **kwargs)
            except InputError as error:
                failed[i] = error
        if failed:
            raise _numbered(failed, len(items)) from failed[min(failed)]
        return results

    def _forward(self, model_inputs: Any) -> Any:
        """Run the model; raise InputError if it cannot run on these inputs."""
        try:
            return super()._forward(model_inputs)
        except Exception as error:
            if not may_blame_text(error):
                raise
            reason = self._why(error, model_inputs)
            raise InputError(f"an input: {reason}", {0: reason}) from error

    def _why(self, error: Exception, model_inputs: Any) -> str:
        """The error as the reason why a text fails, and how to shorten the text if it is longer than the limit."""
        limit, mask = self.truncation.get("max_length"), model_inputs.get("attention_mask")
        length = model_inputs["input_ids"].shape[-1] if mask is None else int(mask.sum(-1).max())
        if limit is None or length <= limit:
            return cannot_run(error)
        return (
            f"{cannot_run(error)}; it has {length:,} tokens, more than the limit of {limit:,}; to drop the rest, "
            "call classifier(texts, **classifier.truncation)"
        )

    def postprocess(self, model_outputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Postprocess as the stock pipeline does; raise InputError if the outputs are not finite."""
        if not model_outputs["logits"].isfinite().all():
            raise InputError(str(not_finite([], 1)), {0: NOT_FINITE})
        return super().postprocess(model_outputs, *args, **kwargs)

    def check_model_type(self, supported_models: Any) -> None:
        """Accept PEFT models too: the stock check looks them up by the name of the task."""
        if type(self.model).__name__ != "PeftModelForSequenceClassification":
            super().check_model_type(supported_models)

    @property
    def truncation(self) -> dict[str, Any]:
        """Tokenizer options that truncate to the model's limit; empty if there is none."""
        return {}

    @property
    def defaults(self) -> dict[str, Any]:
        """The constructor's options for batches, outputs and the tokenizer: the defaults of a call."""
        given = {**self._preprocess_params, **self._forward_params, **self._postprocess_params}
        function = given.pop("function_to_apply", None)
        named = {"function_to_apply": getattr(function, "value", function), "batch_size": self._batch_size}
        given |= {name: value for name, value in named.items() if value is not None}
        return {name: given[name] for name in sorted(given) if not name.startswith("_")}

    def _activation(self, function_to_apply: Any) -> Activation:
        """The activation that `text-classification` chooses."""
        if function_to_apply is not None:
            name: Activation = getattr(function_to_apply, "value", function_to_apply)
            return name
        return self._activation_of(self.model.config)

    def _activation_of(self, config: Any) -> Activation:
        """The activation that `text-classification` chooses for a model with this config."""
        if config.problem_type == "regression":
            return "none"
        if config.problem_type == "multi_label_classification" or config.num_labels == 1:
            return "sigmoid"
        return "softmax"

    def _sanitize_parameters(
        self, function_to_apply: Any = None, top_k: Any = "", **tokenizer_options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        check_tokenizer_options(tokenizer_options, self.tokenizer.__call__)
        default = function_to_apply == "default"  # documented by text-classification, but raises a KeyError there
        if default:
            function_to_apply = None
        chosen = getattr(function_to_apply, "value", function_to_apply)  # may be transformers' ClassificationFunction
        if chosen is not None and (not isinstance(chosen, str) or chosen.lower() not in ACTIVATIONS):
            legal_names = ", ".join(map(repr, ("default", *ACTIVATIONS)))
            raise ValueError(f"function_to_apply={function_to_apply!r}; it must be one of {legal_names}")
        sanitized: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = super()._sanitize_parameters(
            function_to_apply=function_to_apply, top_k=top_k, **tokenizer_options
        )
        if default:
            sanitized[2]["function_to_apply"] = None  # overrides the constructor's function
        return sanitized

    def _merged(self, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Tokenizer options and postprocessing options of a call, merged over the constructor's."""
        own = {name: value for name, value in kwargs.items() if name not in ("batch_size", "num_workers")}
        tokenizer_options, _, answers = self._sanitize_parameters(**own)
        return {**self._preprocess_params, **tokenizer_options}, {**self._postprocess_params, **answers}


def _numbered(failed: Mapping[int, InputError], count: int) -> InputError:
    """The error for items out of `count`, from that of each by itself."""
    reasons = {i: error.reasons[0] for i, error in failed.items()}
    bad = [i for i, reason in reasons.items() if reason == NOT_FINITE]
    return not_finite(bad, count) if len(bad) == len(reasons) else unrunnable(reasons, count)


def _counted(results: Any, progress: Callable[[int], None]) -> Any:
    """The stock pipeline's results, reported to `progress`: lists all at once, iterators one result at a time."""
    if isinstance(results, (list, dict)):
        progress(len(results) if isinstance(results, list) else 1)
        return results

    def counted() -> Iterator[Any]:
        for result in results:
            progress(1)
            yield result

    return LazyResults(results, counted) if isinstance(results, Sized) else counted()
