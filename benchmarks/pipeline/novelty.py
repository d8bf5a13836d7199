"""Cost of novelty, by the number of tokens: per call, and of learning a scope.

    python -m benchmarks.pipeline.novelty

A call with a scope is compared with the same call without one, and with the stock pipeline, which gets all texts in one
batch. Learning a scope is compared with one ordinary pass over its texts. The two sides take turns in one process, with
one thread. The numbers are medians of the ratios of their CPU times, with the middle half in parentheses.
"""

import argparse
import copy
from functools import partial

import torch
from bayesian_text_classification import TASK
from transformers import pipeline

from benchmarks.common import embedded, tokenizer
from benchmarks.pipeline.cost import of_length
from benchmarks.pipeline.posteriors import LENGTHS, ratios, shown
from benchmarks.results import table, write_section

TOKENS = 2_048  # of all texts of a call
SCOPE_TEXTS = 200


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    torch.set_num_threads(1)
    plain = pipeline(TASK, model=embedded(torch.float32), tokenizer=tokenizer(), device="cpu", num_samples=0)
    stock = pipeline("text-classification", model=embedded(torch.float32), tokenizer=tokenizer(), device="cpu")
    rows = []
    for length in LENGTHS:
        texts, several = of_length(length, max(TOKENS // length, 1)), of_length(length - 4, SCOPE_TEXTS)
        several = [f"{text} {number}" for number, text in enumerate(several)]
        scoped = copy.copy(plain)
        scoped.learn_scope(several)
        found = [
            ratios(partial(scoped, texts, threshold=0.0), partial(plain, texts, threshold=0.0), args.rounds),
            ratios(partial(scoped, texts), partial(stock, texts, batch_size=len(texts)), args.rounds),
            ratios(partial(scoped.learn_scope, several), partial(plain.predict_proba, several), args.rounds // 3),
        ]
        rows.append([f"{length} tokens", *map(shown, found)])
        print(rows[-1], flush=True)
    header = ["", "with / without a scope", "with a scope / stock pipeline", "learn_scope / one pass"]
    body = f"The embedded model, {args.rounds} rounds, one thread; a scope of {SCOPE_TEXTS} texts.\n\n" + table(
        header, rows
    )
    write_section("Cost of novelty", f"python -m benchmarks.pipeline.novelty --rounds {args.rounds}", body)


if __name__ == "__main__":
    main()
