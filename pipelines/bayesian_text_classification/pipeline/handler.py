"""Inference Endpoints: the class that the Hub's inference toolkit looks for in a repository's `handler.py`."""

import json
from dataclasses import asdict
from typing import Any

from transformers import pipeline

_MOST_TEXTS = 1_000  # of one request
_MOST_PASSES = 100_000  # of one request: texts x samples
_MOST_CHARACTERS = 1_000_000  # of one request


class EndpointHandler:
    """Answers requests from the model of this repository.

    A request is `{"inputs": text or texts, "parameters": {...}}`. A text is a string, or `{"text": ..., "text_pair":
    ...}`; parameters are `num_samples`, `tolerance`, `seed`, `masks`, `threshold`, `top_k` and `function_to_apply`, as
    in a call of the pipeline. Strings among them, as a URL's query has them, are read as JSON ("20", "null"). A field
    "options", the client's advice to the server, is left to the server. The answer to a text is what the pipeline
    gives: a list of one dict for a string, a dict for a pair, and a list of dicts for a list of texts.
    """

    def __init__(self, path: str = "") -> None:
        """Load the pipeline of the repository at `path`; its code is run, as that of this file is."""
        self._classifier = pipeline("bayesian-text-classification", model=path, trust_remote_code=True)
        # Not imported: the toolkit loads this file alone.
        self._parameters = (*asdict(self._classifier.sampling), "top_k", "function_to_apply")

    def __call__(self, data: dict[str, Any]) -> Any:
        """The answer to one request.

        Raises:
            ValueError: what is wrong with the request; the toolkit answers 400 with the message.
        """
        if not isinstance(data, dict) or "inputs" not in data:
            raise ValueError('a request is {"inputs": text or list of texts, "parameters": {...}}')
        unknown = sorted(set(data) - {"inputs", "parameters", "options"})
        if unknown:
            raise ValueError(f"unknown field {unknown[0]!r}; a request has 'inputs' and 'parameters'")
        parameters = {} if data.get("parameters") is None else data["parameters"]
        if not isinstance(parameters, dict):
            raise ValueError(f'parameters is {parameters!r}; it must be an object such as {{"num_samples": 20}}')
        unknown = sorted(set(parameters) - set(self._parameters))
        if unknown:
            raise ValueError(f"unknown parameter {unknown[0]!r}; the parameters are {', '.join(self._parameters)}")
        parameters = {name: _read(value) for name, value in parameters.items()}
        texts = data["inputs"]
        if isinstance(texts, list) and len(texts) > _MOST_TEXTS:
            raise ValueError(f"inputs has {len(texts):,} texts; send at most {_MOST_TEXTS:,} at once")
        characters = len(json.dumps(texts, ensure_ascii=False, default=str))
        if characters > _MOST_CHARACTERS:
            raise ValueError(f"inputs has {characters:,} characters; send at most {_MOST_CHARACTERS:,} at once")
        samples = parameters.get("num_samples", self._classifier.sampling.num_samples)
        count = len(texts) if isinstance(texts, list) else 1
        if isinstance(samples, int) and samples * count > _MOST_PASSES:
            raise ValueError(f"{count:,} x {samples:,} passes; ask for at most {_MOST_PASSES:,} at once")
        try:
            return self._classifier(texts, **parameters)
        except TypeError as error:  # a text that is no text
            raise ValueError(str(error)) from error


def _read(value: Any) -> Any:
    """A string as the JSON value that it stands for; it itself where it stands for none."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value
