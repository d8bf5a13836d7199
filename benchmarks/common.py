"""Shared parts of the benchmarks: sentences, models, and sampling without this library."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from bayesian_text_classification import embedded_model
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DistilBertConfig, PreTrainedModel

Array = NDArray[np.floating]


def read_sentences(path: Path) -> tuple[list[str], list[int]]:
    """Read texts and labels from a tab-separated file with the columns label and text, without quoting."""
    rows = _rows(path)
    return [row["text"] for row in rows], [int(row["label"]) for row in rows]


def read_texts(path: Path) -> list[str]:
    """Read the column text of a tab-separated file without quoting."""
    return [row["text"] for row in _rows(path)]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def stratified(texts: Sequence[str], count: int) -> list[str]:
    """Choose texts at equal steps of length, and shuffle them, because real input is unordered."""
    lengths = [len(ids) for ids in tokenizer()(list(texts))["input_ids"]]
    order = sorted(range(len(texts)), key=lengths.__getitem__)
    chosen = [order[int((i + 0.5) * len(order) / count)] for i in range(count)]
    return [texts[chosen[i]] for i in np.random.default_rng(0).permutation(count)]


def tokenizer() -> Any:
    """The embedded model's tokenizer. Its vocabulary is also DistilBERT's."""
    return AutoTokenizer.from_pretrained(embedded_model())


def embedded(dtype: torch.dtype) -> PreTrainedModel:
    """The embedded classifier."""
    return AutoModelForSequenceClassification.from_pretrained(embedded_model(), dtype=dtype).eval()


def distilbert_shaped(dtype: torch.dtype) -> PreTrainedModel:
    """A classifier of DistilBERT-base's size with random weights, used only for timing."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(DistilBertConfig(num_labels=2, pad_token_id=0))
    return model.to(dtype).eval()


def sorted_batches(texts: Sequence[str], rows: int) -> list[tuple[list[int], dict[str, torch.Tensor]]]:
    """Batch like a careful user: tokenize once, sort by length, pad each batch."""
    encode = tokenizer()
    ids = encode(list(texts), truncation=True)["input_ids"]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    parts = [order[i : i + rows] for i in range(0, len(order), rows)]
    return [(part, dict(encode.pad({"input_ids": [ids[i] for i in part]}, return_tensors="pt"))) for part in parts]


@torch.inference_mode()
def sample_in_a_loop(
    model: torch.nn.Module, batches: Sequence[tuple[list[int], dict[str, torch.Tensor]]], passes: int
) -> Array:
    """Positive class' probability in independent passes of a model with active dropout. *Shape:* (texts, passes)."""
    found = np.empty((sum(len(texts) for texts, _ in batches), passes), np.float32)
    for texts, inputs in tqdm(batches, type(model).__name__, disable=passes < 100):
        for t in range(passes):
            found[texts, t] = model(**inputs).logits.float().softmax(-1)[:, 1].numpy()
    return found


def root_mean_square(values: Array) -> float:
    """sqrt(mean(values^2))."""
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
