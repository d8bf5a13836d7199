"""Fixtures for the tests of the twin and its parts."""

import pytest
import torch
from bayesian_text_classification.pipeline.twin import StochasticTwin
from environments import Bare
from torch import nn


class Own(nn.Module):
    """A model: embedding, the module under test, mean over positions, linear."""

    def __init__(self, subject, width=16):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embedding = nn.Embedding(30522, width)
            self.subject = subject() if isinstance(subject, type) else subject
            self.out = nn.Linear(width, 2)
        self.eval()

    def forward(self, input_ids, attention_mask):
        hidden = self.subject(self.embedding(input_ids))
        weight = attention_mask[..., None].to(hidden.dtype)
        return {"logits": self.out((hidden * weight).sum(1) / weight.sum(1))}


@pytest.fixture(scope="session")
def own():
    """Builds a custom model around a module: `own(nn.Dropout(0.1))`."""
    return Own


@pytest.fixture(scope="session")
def texts():
    """Three texts of unequal length; the first is not the longest."""
    return ["a good film", "what a terribly long and boring film this was", "no"]


@pytest.fixture(scope="session")
def encode(tokenizer):
    """Turns texts into model inputs."""

    def encode(texts, **options):
        rows = tokenizer(list(texts), padding=True, return_tensors="pt", **options)
        return {"input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"]}

    return encode


@pytest.fixture(scope="session")
def twin_of(encode):
    """Builds the twin of a model."""

    def make(model, **options):
        return StochasticTwin(model, encode, **options)

    return make


@pytest.fixture(scope="session")
def samples():
    """Draws logits of the first passes: (texts, count, classes)."""

    def draw(twin, inputs, count=4, **options):
        return twin.sample_logits(inputs, range(count), **{"seed": 0, "balanced": True, **options})

    return draw


@pytest.fixture(scope="session")
def calls_of():
    """Counts the dropout calls that a twin's sites make in one pass."""
    return lambda twin: sum(site.calls for site in twin.sites())


@pytest.fixture(scope="session")
def bare(tmp_path_factory):
    """Runs programs where only torch and transformers are installed, and returns what they print."""
    bare = Bare(tmp_path_factory.mktemp("bare"))
    yield bare
    bare.close()


@pytest.fixture(scope="module")
def few_resamples():
    """Comparisons draw 100 resamples instead of 1,000, for tests that do not depend on the ends of intervals."""
    from bayesian_text_classification.evaluation.statistics import estimates, intervals
    from bayesian_text_classification.metric import load_metric_module

    with pytest.MonkeyPatch.context() as patch:
        for module in (intervals, estimates, load_metric_module()):
            patch.setattr(module, "RESAMPLES", 100)
        yield


@pytest.fixture(scope="module")
def small(tiny, tokenizer):
    """Our pipeline with a tiny BERT of three classes, for tests that do not depend on what the model predicts."""
    import bayesian_text_classification  # noqa: F401  # registers the task
    from transformers import pipeline

    model = tiny(
        "bert", num_labels=3, id2label={0: "bad", 1: "fine", 2: "good"}, label2id={"bad": 0, "fine": 1, "good": 2}
    )
    return pipeline("bayesian-text-classification", model=model, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def small_stock(small):
    """The stock pipeline with the same model."""
    from transformers import pipeline

    return pipeline("text-classification", model=small.model, tokenizer=small.tokenizer)


@pytest.fixture
def exported(bayesian, tmp_path):
    """Exports a model with a calibration of its ordinary scores, and returns the folder."""

    def export(model, calibration, to="transformers", **options):
        classifier = bayesian(model, num_samples=0, **options)
        classifier.calibration = calibration
        classifier.export(tmp_path / "served", to=to)
        return tmp_path / "served"

    return export


@pytest.fixture(scope="module")
def roberta_tokenizer():
    """A tokenizer like RoBERTa's: padding is token 1, and it has no length limit."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "<pad>", "</s>", "<unk>", "film", "good", "bad", "a", "b", "c", "d", "e", "f", "g"]
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", sep_token="</s>",
                                   cls_token="<s>", unk_token="<unk>", pad_token="<pad>")  # fmt: skip
