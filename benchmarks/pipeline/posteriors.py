"""Cost of inserted dropout, and of an ensemble, by the number of tokens.

    python -m benchmarks.pipeline.posteriors

Inserted dropout is compared with a copy of the model that has the same rates in its config, and an ensemble of three
with three times the ordinary pass of one. The two sides take turns in one process, with one thread. The numbers are
medians of the ratios of their CPU times, with the middle half in parentheses.
"""

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from bayesian_text_classification import TASK
from bayesian_text_classification.evaluation.run.ensemble_arm import weight_bytes
from transformers import pipeline

from benchmarks.common import embedded, tokenizer
from benchmarks.pipeline.cost import of_length
from benchmarks.results import table, write_section

LENGTHS = (25, 128, 512)  # tokens
TOKENS = 1024  # of all texts of a call
SAMPLES = 10
RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob")  # of the embedded model's config


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    own, inserted = classifier_of(with_rates(0.1)), classifier_of(with_rates(0.0), dropout=0.1)
    alone = classifier_of(embedded(torch.float32), num_samples=0)
    three = classifier_of([embedded(torch.float32) for _ in range(3)])
    rows = []
    for length in LENGTHS:
        texts = of_length(length, max(TOKENS // length, 1))
        sampled = ratios(partial(inserted, texts), partial(own, texts), args.rounds)
        several = ratios(partial(three, texts), partial(three_times, alone, texts), args.rounds)
        rows.append([f"{length} tokens", shown(sampled), shown(several)])
        print(rows[-1], flush=True)
    memory = weight_bytes(three.members) / weight_bytes(alone.members)
    header = ["", f"inserted / own rates ({SAMPLES} samples)", "ensemble of 3 / 3 ordinary passes"]
    body = (
        f"The embedded model, {args.rounds} rounds, one thread.\n\n{table(header, rows)}\n\n"
        f"The weights of the ensemble take {memory:.2f} times the memory of one model's."
    )
    command = f"python -m benchmarks.pipeline.posteriors --rounds {args.rounds}"
    write_section("Inserted dropout and ensembles", command, body)


def with_rates(rate: float) -> Any:
    """The embedded model with all its rates set, in the config and in the modules."""
    model = embedded(torch.float32)
    config = copy.deepcopy(model.config)
    for name in RATES:
        setattr(config, name, rate)
    other = type(model)(config)
    other.load_state_dict(model.state_dict())
    return other.eval()


def classifier_of(model: Any, **options: Any) -> Any:
    """A pipeline on the CPU, probed already."""
    several = {} if isinstance(model, list) else {"num_samples": SAMPLES, **options}
    classifier = pipeline(TASK, model=model, tokenizer=tokenizer(), device="cpu", **several)
    classifier(["a text"])
    return classifier


def three_times(classifier: Any, texts: list[str]) -> None:
    """Three calls, with all texts in one batch."""
    for _ in range(3):
        classifier(texts, batch_size=len(texts))


def ratios(first: Callable[[], Any], second: Callable[[], Any], rounds: int) -> np.ndarray:
    """CPU time of the first over that of the second, in each round. *Shape:* (rounds,)."""
    found = []
    for number in range(rounds + 1):
        seconds = {}
        for one in (first, second) if number % 2 else (second, first):
            started = time.process_time()
            one()
            seconds[one] = time.process_time() - started
        found.append(seconds[first] / seconds[second])
    return np.array(found[1:])  # the first round warms up


def shown(found: np.ndarray) -> str:
    """Median and middle half."""
    low, middle, high = np.quantile(found, [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
