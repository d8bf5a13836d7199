"""How far too high a score is if the samples of a text disagree, by simulation.

    python -m benchmarks.pipeline.disagreement

The same samples pick a label and estimate its score. Each text has random logits, and each sample adds normal noise
to them. The limit is the mean of 4,000 samples. Samples are independent, as with `masks="bernoulli"`.
"""

import argparse

import numpy as np
from scipy import special
from tqdm import tqdm

from benchmarks.common import Array
from benchmarks.results import table, write_section

COUNTS = (4, 10, 20)
CASES = [(classes, noise) for classes in (2, 150) for noise in (0.5, 1.0, 2.0, 4.0)]
LIMIT = 4_000  # samples
REPEATS = 50  # of each text and number of samples


def bias(classes: int, noise: float, texts: int) -> tuple[float, Array]:
    """The mean standard deviation of the winner's samples, and the mean bias of the score for each of `COUNTS`."""
    random, spreads, biases = np.random.default_rng(0), [], []
    for _ in range(texts):
        logits = random.normal(0, 2, classes)

        def drawn(count: int, middle: Array = logits) -> Array:
            return np.asarray(special.softmax(middle + noise * random.normal(size=(count, classes)), axis=1))

        many = drawn(LIMIT)
        limit = many.mean(0)
        spreads.append(many[:, limit.argmax()].std())
        means = [drawn(REPEATS * count).reshape(REPEATS, count, classes).mean(1) for count in COUNTS]
        biases.append([(one.max(1) - limit[one.argmax(1)]).mean() for one in means])
    return float(np.mean(spreads)), np.mean(biases, axis=0)


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=300)
    texts, rows = parser.parse_args().texts, []
    for classes, noise in tqdm(CASES):
        spread, found = bias(classes, noise, texts)
        rows.append([f"{classes} classes, noise {noise:g}", f"{spread:.2f}", *(f"{one:+.3f}" for one in found)])
    body = f"{texts} texts. Each sample adds normal noise to the logits. "
    body += "The bias is that of the score of the winning label.\n\n"
    body += table(["case", "spread of the samples", *(f"bias, {count} samples" for count in COUNTS)], rows)
    write_section("Samples that disagree", f"python -m benchmarks.pipeline.disagreement --texts {texts}", body)


if __name__ == "__main__":
    main()
