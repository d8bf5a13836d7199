"""The handler for Inference Endpoints: the class that the Hub's inference toolkit looks for in `handler.py`."""

import json
from dataclasses import asdict
from typing import Any

from transformers import pipeline

_MOST_TEXTS = 1_000  # per request
_MOST_PASSES = 100_000  # per request: texts x samples
_MOST_CHARACTERS = 1_000_000  # per request, in the inputs as JSON


class EndpointHandler:
    """Answers requests with the model of this repository.

    A request is `{"inputs": text or texts, "parameters": {...}}`. A text is a string, or `{"text": ..., "text_pair":
    ...}`. The parameters are `num_samples`, `tolerance`, `seed`, `masks`, `threshold`, `posterior`, `novelty_level`,
    `coverage`, `top_k` and `function_to_apply`, as in a call of the pipeline. Parameters that are strings, as in a URL
    query, are parsed as JSON ("20", "null"). The field "options", the client's hints to the server, is left to the
    server. The response is the pipeline's result: a list of one dict for a string, a dict for a pair, and a list of
    dicts for a list of texts.
    """

    def __init__(self, path: str = "") -> None:
        """Load the pipeline from the repository at `path`. This runs the repository's code, as this file is run."""
        self._classifier = pipeline("bayesian-text-classification", model=path, trust_remote_code=True)
        # The names are not imported, because the toolkit loads this file without its siblings. Each dropout rate would
        # need a pilot of its own, so a request cannot choose it.
        options = (name for name in asdict(self._classifier.sampling) if name != "dropout")
        self._parameters = (*options, "top_k", "function_to_apply")

    def __call__(self, data: dict[str, Any]) -> Any:
        """The response to one request.

        Raises:
            ValueError: The request is invalid. The toolkit responds with status 400 and the message.
        """
        if not isinstance(data, dict) or "inputs" not in data:
            raise ValueError('a request must be {"inputs": text or list of texts, "parameters": {...}}')
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
            raise ValueError(f"inputs has {len(texts):,} texts; send at most {_MOST_TEXTS:,} per request")
        characters = len(json.dumps(texts, ensure_ascii=False, default=str))
        if characters > _MOST_CHARACTERS:
            raise ValueError(f"inputs has {characters:,} characters; send at most {_MOST_CHARACTERS:,} per request")
        samples = parameters.get("num_samples", self._classifier.sampling.num_samples)
        count = len(texts) if isinstance(texts, list) else 1
        if isinstance(samples, int) and samples * count > _MOST_PASSES:
            raise ValueError(f"{count:,} x {samples:,} passes; request at most {_MOST_PASSES:,} at once")
        try:
            return self._classifier(texts, **parameters)
        except TypeError as error:  # an input that is not a text
            raise ValueError(str(error)) from error


def _read(value: Any) -> Any:
    """The JSON value of a string, or the value itself if it is not a string or not valid JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value
