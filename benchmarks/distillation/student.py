"""How good a student is that learned from a classifier's samples, against samples and a temperature.

    python -m benchmarks.distillation.student --name NAME --texts FILE... --tests FILE... [--model M]

FILES are tab-separated with a column text; those of `--tests` also have a column label. A student learns from
`--max-texts` of the distinct texts (chosen by their hash) that have `--least-words` words and are in no test. Each seed
makes a student of its own: it draws the teacher's masks and the order of the training.

NLL with a temperature (or Platt scaling): fitted on four fifths of the distinct texts, measured on the last fifth, in
turn. A difference is the mean over the seeds, with the 95% interval of the mean over the texts. ECE and accuracy: each
seed against the ordinary pass, both with a calibration that is fitted on the test texts, with the verdict that
`evaluate` gives. `--kept FOLDER` keeps what was measured, so a stopped run continues. It is for one name, one model,
one set of texts and one set of options.
"""

from typing import Any

import numpy as np
from bayesian_text_classification import load
from bayesian_text_classification.evaluation.fits import PlattPairs, Temperatures
from bayesian_text_classification.evaluation.statistics.estimates import difference, estimate, resample
from bayesian_text_classification.evaluation.statistics.label_measures import LABEL_MEASURES
from bayesian_text_classification.evaluation.statistics.measures import MEASURES
from bayesian_text_classification.evaluation.statistics.predictions import Predictions
from bayesian_text_classification.pipeline.dropout_choice import groups_of, held_out_losses, losses_of
from bayesian_text_classification.pipeline.fitting import METHODS
from tqdm import tqdm

from benchmarks.common import Array
from benchmarks.distillation.common import (
    add_training,
    chosen_texts,
    command_of,
    kept,
    options_of,
    parser_of,
    student_name,
    tests_of,
)
from benchmarks.results import table, write_section


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = parser_of(str(__doc__))
    add_training(parser)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    teacher = load(args.model, num_samples=args.samples)
    texts, targets = tests_of(args, teacher)
    unlabeled = chosen_texts(args, set(texts), args.max_texts)
    arms: dict[str, list[Array]] = {
        "frequentist": [kept(args, "frequentist", lambda: teacher.predict_proba(texts, num_samples=0))],
        f"{args.samples} samples": [
            kept(args, f"samples-{seed}", lambda seed=seed: teacher.predict_proba(texts, seed=seed))
            for seed in range(args.seeds)
        ],
    }
    for how in args.how:
        made = []
        for seed in range(args.seeds):
            options = options_of(args, how) | {"seed": seed}
            options["checkpoints"] = args.kept / f"{args.name}-teacher-{seed}"

            def student(options: dict[str, Any] = options) -> Array:
                with tqdm(desc=f"{options}", unit="pass") as bar:
                    found = teacher.distill(unlabeled, progress=bar.update, **options)
                print(found.distillation, found.distillation.settings)
                return np.asarray(found.predict_proba(texts))

            made.append(kept(args, f"{student_name(how, len(unlabeled), args.epochs)}-{seed}", student))
        arms[f"student ({how})"] = made
    seeds = f"{args.seeds} seed{'s' * (args.seeds != 1)}"
    body = f"{len(unlabeled):,} texts without labels, {len(texts):,} test texts, {seeds}.\n\n"
    groups = groups_of(texts)
    body += f"{results(arms, targets, groups, METHODS[teacher.activation][0])}\n\n{verdicts(arms, targets, groups)}"
    write_section(f"Students, {args.name}", command_of("student", args), body)


def results(arms: dict[str, list[Array]], targets: Array, groups: Array, method: Any) -> str:
    """The table of the arms, each with a calibration."""
    raw = {name: np.mean([losses_of(p, targets) for p in found], axis=0) for name, found in arms.items()}
    fitted = {
        name: np.mean([held_out_losses(method, p, targets, groups) for p in found], axis=0)
        for name, found in arms.items()
    }
    right = {name: np.mean([hits(p, targets) for p in found]) for name, found in arms.items()}
    first, second = list(arms)[:2]
    rows = []
    for name in arms:
        cells = [name, f"{raw[name].mean():.4f}", f"{fitted[name].mean():.4f}"]
        cells += ["" if name == base else interval(fitted[name] - fitted[base]) for base in (first, second)]
        gain, all_of_it = ((fitted[first] - fitted[one]).mean() for one in (name, second))
        rows.append([*cells, "" if name == first else f"{gain / all_of_it:.0%}", f"{right[name]:.4f}"])
    header = ["", "NLL", "NLL, calibrated", "less frequentist", f"less {second}", "share of the gain", "accuracy"]
    return table(header, rows)


def verdicts(arms: dict[str, list[Array]], targets: Array, groups: Array) -> str:
    """ECE and accuracy of the arms, each with a calibration, against those of the first arm."""
    measures = [one for one in (MEASURES if targets.ndim == 1 else LABEL_MEASURES) if one.key in ("ece", "accuracy")]

    def rows_of(p: Array) -> Predictions:
        if targets.ndim == 1:
            return Temperatures.fitted(p, targets, groups=groups).predictions(p, targets, groups)
        return PlattPairs.fitted(p, targets).predictions(p, targets, groups)

    drawn_of = {name: [resample(rows_of(p), measures=measures) for p in found] for name, found in arms.items()}
    first, (base, *_) = next(iter(drawn_of.items()))
    rows = []
    for name, drawn in drawn_of.items():
        cells = [name]
        for measure in measures:
            values = [estimate(measure, one).value for one in drawn]
            apart = [difference(measure, one, base) for one in drawn if name != first]
            cells += [f"{np.mean(values):.4f}", ", ".join(f"{one.value:+.4f} {one.verdict}" for one in apart)]
        rows.append(cells)
    titles = [cell for measure in measures for cell in (f"{measure.title}, calibrated", f"each seed less {first}")]
    return table(["", *titles], rows)


def hits(p: Array, targets: Array) -> float:
    """Share of right answers, or of independent labels on the right side of 0.5."""
    return float(np.mean(p.argmax(1) == targets if targets.ndim == 1 else (p >= 0.5) == targets))


def interval(apart: Array) -> str:
    """Mean and half-width of its 95% interval."""
    return f"{apart.mean():+.4f} ± {1.96 * apart.std(ddof=1) / np.sqrt(len(apart)):.4f}"


if __name__ == "__main__":
    main()
