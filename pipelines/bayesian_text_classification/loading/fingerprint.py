"""Identify a classifier by a short string. Equal strings mean equal answers."""

import hashlib
import json

import torch

from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.saving import KEY

_NOT_OF_THE_MODEL = ("_name_or_path", "custom_pipelines", "transformers_version", KEY)  # keys of the config


def fingerprint(classifier: BayesianTextClassificationPipeline) -> str:
    """A hash (BLAKE2b, 128 bits) of weights, config and tokenizer, without options and temperature.

    Of an ensemble, it covers all members.
    """
    found = hashlib.blake2b(digest_size=16)
    for model, tokenizer in zip(classifier.members, classifier.tokenizers, strict=True):
        for name, values in sorted(model.state_dict().items()):
            found.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            found.update(values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        config = {key: value for key, value in model.config.to_diff_dict().items() if key not in _NOT_OF_THE_MODEL}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            words = tokenizer.get_vocab()
        else:  # without state left by its last call
            words = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
        for known in (config, words, tokenizer.model_max_length):
            found.update(json.dumps(known, sort_keys=True, default=str).encode())
    return found.hexdigest()
