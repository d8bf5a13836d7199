"""Texts for the pipeline tests, and helpers that compare results."""

import datasets
import numpy as np
import pandas
import torch
from transformers.pipelines.pt_utils import KeyDataset, KeyPairDataset

TASK = "bayesian-text-classification"
TEXTS = ["A wonderful film.", "Dull, and far too long for what little it has to say.", "It was fine, I suppose."]
PAIRS = [{"text": "A film.", "text_pair": "It was good."}, {"text": "Another film.", "text_pair": "No."}]
KEYS = ["label", "score", "score_std", "standard_error", "predictive_entropy", "expected_entropy", "mutual_information",
        "num_samples", "truncated"]  # fmt: skip
ROWS = datasets.Dataset.from_dict({"text": TEXTS, "other": ["so", "and", "so"]})


def numbers(results):
    """Flatten all results to (label, numbers), to compare them with a tolerance."""
    if isinstance(results, dict):
        values = [results.get(key) for key in KEYS[1:-1]]
        return [(results["label"], [np.nan if value is None else value for value in values])]
    return [entry for result in results for entry in numbers(result)]


def assert_close(a, b, atol=1e-5):
    a, b = numbers(a), numbers(b)
    assert [label for label, _ in a] == [label for label, _ in b]
    np.testing.assert_allclose([v for _, v in a], [v for _, v in b], rtol=0, atol=atol)


MANY = [f"{word} film{' and so on' * i}" for i, word in enumerate(["a good", "a bad", "an odd", "no", "the last"] * 2)]


EAGER = {
    "list": (TEXTS, TEXTS),
    "one": (TEXTS[:1], TEXTS[:1]),
    "tuple": (tuple(TEXTS), TEXTS),
    "empty list": ([], []),
    "empty tuple": ((), []),
    "column": (ROWS["text"], TEXTS),
    "array": (np.array(TEXTS), TEXTS),
    "series": (pandas.Series(TEXTS, index=[5, 5, 1]), TEXTS),
    "list of pairs": (PAIRS, PAIRS),
    "mixed": ([TEXTS[0], PAIRS[0], {"text": TEXTS[1]}], [TEXTS[0], PAIRS[0], TEXTS[1]]),
    "old pairs": ([[["A film.", "It was good."]], [["Another film.", "No."]]], PAIRS),
}


class Lengthy(torch.utils.data.Dataset):
    """A torch Dataset that has a length and never raises IndexError."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return TEXTS[index % 3]


LAZY = {
    "generator": (lambda: (text for text in TEXTS), TEXTS),
    "map": (lambda: map(str, TEXTS), TEXTS),
    "iterator": (lambda: iter(TEXTS), TEXTS),
    "empty generator": (lambda: (text for text in []), []),
    "generator of pairs": (lambda: (pair for pair in PAIRS), PAIRS),
    "KeyDataset": (lambda: KeyDataset(ROWS, "text"), TEXTS),
    "KeyPairDataset": (
        lambda: KeyPairDataset(ROWS, "text", "other"),
        [{"text": a, "text_pair": b} for a, b in zip(TEXTS, ["so", "and", "so"], strict=True)],
    ),
    "torch Dataset": (Lengthy, TEXTS),
    "datasets.Dataset": (lambda: ROWS.select_columns("text"), TEXTS),
    "IterableDataset": (lambda: ROWS.select_columns("text").to_iterable_dataset(), TEXTS),
}


def of_length(tokens):
    """A text of `tokens` tokens, including [CLS] and [SEP]."""
    return " ".join(["film"] * (tokens - 2))
