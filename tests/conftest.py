"""Shared fixtures: the embedded pipeline, its stock counterpart, and tiny classifiers of many architectures.

The fixtures import torch and transformers themselves, so the metric's tests do not wait for those imports.
"""

import contextlib
import importlib.util
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The time of an example depends on how busy the machine is.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

# The tests compare bits with the stock pipeline in float32 on a CPU, and a GPU would be the default.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
# Nothing is loaded from the Hub: Evaluate would ask it for a metric first, three times, half a second apart.
for _name in ("HF_HUB_OFFLINE", "HF_EVALUATE_OFFLINE"):
    os.environ.setdefault(_name, "1")
# Tiny models are faster on one thread, and many times faster where other work shares the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell makes background jobs and their children ignore interrupts, but some tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The package under test, installed or in the checkout. Not imported, since the metric's tests do not need it.
_found = importlib.util.find_spec("bayesian_text_classification")
_checkout = Path(__file__).parents[1] / "pipelines" / "bayesian_text_classification"
PACKAGE = Path(_found.origin).parent if _found is not None and _found.origin is not None else _checkout


def pytest_addoption(parser):
    parser.addoption("--write-docs", action="store_true", help="write the tables in the docs instead of checking them")


_DECODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_ENCODER = {**_DECODER, "max_position_embeddings": 64}

# Settings of a two-layer model per architecture (three for ModernBERT, which has local and global layers).
SETTINGS = {
    "albert": {**_ENCODER, "embedding_size": 16, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "bart": {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
             "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
             "dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1, "classifier_dropout": 0.1,
             "pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102, "decoder_start_token_id": 102},
    "bert": _ENCODER,
    "canine": {**_ENCODER, "num_hash_buckets": 64, "local_transformer_stride": 16, "pad_token_id": 0},
    "deberta-v2": {**_ENCODER, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "pad_token_id": 0},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64},
    "electra": {**_ENCODER, "embedding_size": 16},
    "fnet": {**_DECODER, "max_position_embeddings": 64, "pad_token_id": 0},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "pad_token_id": None},
    "llama": {**_ENCODER, "num_key_value_heads": 2, "attention_dropout": 0.1, "pad_token_id": None},
    "modernbert": {**_ENCODER, "num_hidden_layers": 3, "attention_dropout": 0.1, "embedding_dropout": 0.1,
                   "mlp_dropout": 0.1, "classifier_dropout": 0.1, "pad_token_id": 0},
    "eurobert": {**_ENCODER, "num_key_value_heads": 2},
    "mpnet": {**_ENCODER, "pad_token_id": 0},
    "qwen3": {**_ENCODER, "num_key_value_heads": 2, "head_dim": 8},
    "roberta": {**_ENCODER, "max_position_embeddings": 66, "pad_token_id": 0},
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "classifier_dropout": 0.1,
           "pad_token_id": 0, "eos_token_id": 102, "decoder_start_token_id": 0},
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "pad_token_id": 0},
}  # fmt: skip


def make_tiny(architecture, *, attention=None, **settings):
    """A classifier with random weights, large enough that two texts get different results. Deterministic."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model(architecture, **{"vocab_size": 30522, **SETTINGS[architecture], **settings})
    chosen = {} if attention is None else {"attn_implementation": attention}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config, **chosen)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.normal_(0, 0.3)
    return model.eval()


def fresh_python(code, *arguments, **variables):
    """Run `code` in another interpreter that finds the package, and return its output."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def package():
    """The source folder of the package."""
    return PACKAGE


@pytest.fixture(scope="session")
def python():
    """Runs code in a fresh interpreter and returns what it prints."""
    return fresh_python


@pytest.fixture(scope="session")
def tiny():
    """Builds a tiny classifier: `tiny("bert", num_labels=3)`. It accepts the ids of the embedded tokenizer."""
    return make_tiny


@pytest.fixture(scope="session")
def tokenizer():
    """The embedded model's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(PACKAGE / "embedded" / "model")


@pytest.fixture(scope="session")
def saved_to(tokenizer):
    """Saves a model and the embedded tokenizer, and returns the folder: `saved_to(folder, tiny("bert"))`."""

    def save(folder, model):
        for part in (model, tokenizer):
            part.save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def classifier():
    """The pipeline as a user gets it without arguments."""
    import bayesian_text_classification  # noqa: F401  # registers the task
    from transformers import pipeline

    return pipeline("bayesian-text-classification")


@pytest.fixture(scope="session")
def stock():
    """The stock pipeline with the embedded model."""
    from transformers import pipeline

    return pipeline("text-classification", model=str(PACKAGE / "embedded" / "model"))


@pytest.fixture
def bayesian(tokenizer):
    """Builds our pipeline around a model instance."""
    import bayesian_text_classification  # noqa: F401
    from transformers import pipeline

    def make(model, **options):
        return pipeline("bayesian-text-classification", model=model, **{"tokenizer": tokenizer, **options})

    return make


@pytest.fixture(scope="session")
def same_random_state():
    """A context that checks that the global random states of PyTorch, NumPy and Python do not change."""
    import random

    import numpy as np
    import torch

    def states():
        kind, keys, *rest = np.random.get_state()  # noqa: NPY002  # the legacy state is the global state
        return torch.get_rng_state().tolist(), (kind, keys.tolist(), *rest), random.getstate()

    @contextlib.contextmanager
    def check():
        before = states()
        yield
        assert states() == before

    return check


@pytest.fixture(scope="session")
def same_model():
    """A context that checks that nothing visible in a model changes."""
    import torch

    def state(model):
        config = getattr(model, "config", None)
        return (
            [module.training for module in model.modules()],
            [{**vars(module), "training": None}.keys() for module in model.modules()],
            [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
            repr(model),
            (config.to_dict(), str(config._attn_implementation)) if hasattr(config, "to_dict") else None,
        )

    @contextlib.contextmanager
    def check(model):
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        before = state(model)
        yield
        assert state(model) == before
        assert model.state_dict().keys() == weights.keys()
        for name, value in model.state_dict().items():
            assert torch.equal(value, weights[name]), name

    return check


@pytest.fixture(scope="session")
def active_calls():
    """Counts active dropout calls with p > 0 in a forward pass, without the package's code.

    PyTorch's functions are replaced only for that pass, because the package recognizes them by identity.
    """
    import torch
    import torch.nn.functional as F

    def count(model, inputs):
        calls = []

        def counting(function):
            def counted(input, p=0.5, training=True, inplace=False):
                calls.append(training and p > 0)
                return function(input, p, training, inplace)

            return counted

        attention = F.scaled_dot_product_attention

        def counted_attention(query, key, value, attn_mask=None, dropout_p=0.0, *rest, **more):
            calls.append(dropout_p > 0)
            return attention(query, key, value, attn_mask, dropout_p, *rest, **more)

        with pytest.MonkeyPatch.context() as patch, torch.no_grad():
            for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"):
                patch.setattr(F, name, counting(getattr(F, name)))
            patch.setattr(F, "scaled_dot_product_attention", counted_attention)
            model(**inputs)
        return sum(map(bool, calls))

    return count


@pytest.fixture
def loud_libraries():
    """Turns logging back on after a test: the command silences libraries for its whole process."""
    yield
    logging.disable(logging.NOTSET)
