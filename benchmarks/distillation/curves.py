"""What a student gains from more texts, and from more epochs.

    python -m benchmarks.distillation.curves --name NAME --texts FILE... --tests FILE... --kept FOLDER [--model M]

The files and the measure are those of `student.py`. Each student learns from the first of the same texts. Its gain is
that over the ordinary pass in NLL, both with a calibration fitted on other folds, as a share of what the samples gain.
Epochs vary with 5,000 texts, texts with 3 epochs. `--kept FOLDER` keeps what was measured, so a stopped run continues.
It is for one name, one model and one set of texts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bayesian_text_classification import load
from bayesian_text_classification.distillation import distill
from bayesian_text_classification.pipeline.dropout_choice import groups_of, held_out_losses
from bayesian_text_classification.pipeline.fitting import METHODS
from bayesian_text_classification.pipeline.inputs import text_key
from tqdm import tqdm

from benchmarks.common import Array
from benchmarks.distillation.common import chosen_texts, command_of, kept, parser_of, student_name, tests_of
from benchmarks.distillation.student import interval
from benchmarks.results import table, write_section

TEXTS, EPOCHS = 5_000, 3  # where the other one varies


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = parser_of(str(__doc__))
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1_000, 2_000, 5_000, 10_000, 20_000])
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 2, 3, 4, 6])
    args = parser.parse_args()
    teacher = load(args.model, num_samples=args.samples)
    texts, targets = tests_of(args, teacher)
    unlabeled = chosen_texts(args, set(texts), max(args.sizes))

    def losses(p: Array) -> Array:
        return np.asarray(held_out_losses(METHODS[teacher.activation][0], p, targets, groups_of(texts)))

    ordinary = losses(kept(args, "frequentist", lambda: teacher.predict_proba(texts, num_samples=0)))
    sampled = losses(kept(args, "samples-0", lambda: teacher.predict_proba(texts, seed=0)))
    remember(kept(args, f"teacher-{len(unlabeled)}", lambda: teacher.predict_proba(unlabeled)), unlabeled, args.samples)

    def row(how: str, size: int, epochs: int) -> list[str]:
        def student() -> Array:
            with tqdm(desc=f"{how}, {size} texts, {epochs} epochs", unit="pass") as bar:
                training = {} if how == "head" else {"epochs": epochs}
                found = teacher.distill(unlabeled[:size], how=how, progress=bar.update, **training)
            return np.asarray(found.predict_proba(texts))

        gained = losses(kept(args, f"{student_name(how, size, epochs)}-0", student)) - ordinary
        share = gained.mean() / (sampled - ordinary).mean()
        return [how, f"{size:,}", str(epochs) if how != "head" else "", interval(gained), f"{share:.0%}"]

    sizes = [size for size in args.sizes if size <= len(unlabeled)]
    cases = [(how, size, EPOCHS) for how in args.how for size in sizes]
    if "weights" in args.how:
        cases += [("weights", min(TEXTS, len(unlabeled)), epochs) for epochs in args.epochs]
    body = table(["", "texts", "epochs", "NLL less frequentist", "share of the gain"], [row(*case) for case in cases])
    samples = f"{args.samples} samples: {interval(sampled - ordinary)}; {len(texts):,} test texts, one seed.\n\n"
    write_section(f"Students by texts and epochs, {args.name}", command_of("curves", args), samples + body)


def remember(probabilities: Array, texts: Sequence[str], samples: int) -> None:
    """Let every student read these scores of the teacher. A score depends on its text alone."""
    known = {text_key(text): p for text, p in zip(texts, probabilities, strict=True)}

    def targets_of(_: Any, some: Sequence[Any], __: Any, options: Mapping[str, Any], *___: Any) -> Array:
        options["progress"](len(some) * samples)
        return np.array([known[text_key(text)] for text in some], np.float32)

    distill.targets_of = targets_of


if __name__ == "__main__":
    main()
