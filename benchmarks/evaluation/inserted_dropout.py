"""What dropout does that is inserted into models that were trained without it.

    python training/clinc150.py --data FOLDER --dropout 0 --seed 0 --output MODEL
    python -m benchmarks.evaluation.inserted_dropout --name NAME --data FOLDER --models MODEL... [--validation val.tsv]

The models are those of one recipe with several seeds. The temperature (or Platt scaling) of each rate is fitted on the
validation texts, and so is the choice of a rate; everything is measured on `test.tsv`. A difference is that of the NLL
from the ordinary pass with its own temperature, averaged over the models, with the 95% interval of the mean over texts.
With `oos_test.tsv` in the folder, the last column says how well the entropy finds its texts. `--kept FOLDER` keeps what
was measured of each model, so a stopped run continues with the next one.
"""

import argparse
import csv
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from bayesian_text_classification import load
from bayesian_text_classification.pipeline.dropout_choice import INSERTED, chosen, groups_of, held_out_losses, losses_of
from bayesian_text_classification.pipeline.fitting import METHODS, fit
from bayesian_text_classification.pipeline.rates import Rates
from bayesian_text_classification.pipeline.targets import labeled
from sklearn.metrics import roc_auc_score
from tqdm import tqdm
from transformers import AutoConfig

from benchmarks.common import Array, read_texts
from benchmarks.results import table, write_section

RATES = (0.0, *INSERTED)
ATTENTION = 0.1  # rate of the row in which attention weights alone are dropped


@dataclass(frozen=True)
class Measured:
    """One model at one rate. *Shape:* (texts,) each."""

    losses: Array  # on the test texts, without a calibration
    calibrated: Array
    right: Array
    held_out: Array  # on the validation texts
    found: float  # AUROC of the out-of-scope texts


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="name of the data")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--validation", default="validation.tsv")
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--kept", type=Path, help="folder for the measurements of each model")
    args = parser.parse_args()
    found = [kept(model, args) for model in args.models]
    cases = list(found[0])
    groups = groups_of(read_texts(args.data / args.validation))
    ordinary = [one["0"] for one in found]
    rows = [row(case, [one[case] for one in found], ordinary) for case in cases]
    sampled = [f"{rate:g}" for rate in INSERTED]
    best = [sampled[chosen(np.array([one[rate].held_out for rate in sampled]), groups)] for one in found]
    picked = [one[rate] for one, rate in zip(found, best, strict=True)]
    rows.append(row(f"chosen on validation ({', '.join(best)})", picked, ordinary))
    header = ["rate", "NLL", "NLL, calibrated", "difference", "accuracy", "out-of-scope AUROC"]
    texts = f"{len(ordinary[0].losses):,} test texts, {len(groups):,} validation texts"
    body = f"{len(found)} model{'s' * (len(found) > 1)}, {texts}, {args.samples} samples."
    if AutoConfig.from_pretrained(args.models[0]).problem_type == "multi_label_classification":
        body += " The NLL is the sum over the labels."
    body += f"\n\n{table(header, rows)}"
    command = f"--name {args.name} --data FOLDER --validation {args.validation} --models MODEL... --samples"
    title = f"Inserted dropout, {args.name}"
    write_section(title, f"python -m benchmarks.evaluation.inserted_dropout {command} {args.samples}", body)


def kept(model: str, args: argparse.Namespace) -> dict[str, Measured]:
    """What was measured of a model in an earlier run with the same settings, or now."""
    if args.kept is None:
        return measured(load(model), args)
    names = [field.name for field in fields(Measured)]
    args.kept.mkdir(parents=True, exist_ok=True)
    path = args.kept / f"{args.name}-{args.samples}-{Path(model).name}.npz"
    if not path.exists():
        found = measured(load(model), args)
        arrays = {f"{case}|{name}": value for case, one in found.items() for name, value in asdict(one).items()}
        np.savez(path, **arrays)
        return found
    with np.load(path) as file:
        cases = dict.fromkeys(key.split("|")[0] for key in file)
        return {case: Measured(**{name: file[f"{case}|{name}"] for name in names}) for case in cases}


def measured(classifier: Any, args: argparse.Namespace) -> dict[str, Measured]:
    """Each rate of a model, by its name; and attention weights alone."""
    method, config = METHODS[classifier.activation][0], classifier.model.config
    (known, truth), (texts, targets) = (
        labeled(*read(args.data / name), config, classifier.activation) for name in (args.validation, "test.tsv")
    )
    outside = args.data / "oos_test.tsv"
    strange, groups = read_texts(outside) if outside.exists() else [], groups_of(known)

    def one(rate: float) -> Measured:
        options = {"num_samples": args.samples, "dropout": rate} if rate else {"num_samples": 0}
        fitted_on, p = (classifier.predict_proba(some, **options) for some in (known, texts))
        scaling = fit(method, fitted_on, truth)
        auc = float("nan")
        if strange:
            q = scaling.apply(classifier.predict_proba(strange, **options))
            scores = np.concatenate([entropy(scaling.apply(p)), entropy(q)])
            auc = float(roc_auc_score([0] * len(p) + [1] * len(q), scores))
        answers = p.argmax(1) == targets if targets.ndim == 1 else ((p >= 0.5) == targets).mean(1)
        held_out = held_out_losses(method, fitted_on, truth, groups)
        return Measured(losses_of(p, targets), losses_of(scaling.apply(p), targets), answers, held_out, auc)

    found = {f"{rate:g}": one(rate) for rate in tqdm(RATES, desc=classifier.model.config.name_or_path)}
    twin = classifier._sampler.twin(Rates(inserted=ATTENTION))
    weights = [layout and (layout if len(layout.length_dims) > 1 else None) for layout in twin._plan.layouts]
    twin._plan = replace(twin._plan, layouts=tuple(weights))
    return {**found, f"{ATTENTION:g}, attention weights alone": one(ATTENTION)}


def read(path: Path) -> tuple[list[str], list[Any]]:
    """Texts and labels; a cell may hold several names."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    several = any("," in row["label"] for row in rows)
    cells = [row["label"].split(",") if several else row["label"] for row in rows]
    numbers = all(isinstance(cell, str) and cell.isdigit() for cell in cells)
    return [row["text"] for row in rows], [int(cell) for cell in cells] if numbers else cells  # type: ignore[arg-type]


def entropy(p: Array) -> Array:
    """Entropy of each row, in nats. *Shape:* (rows,)."""
    return np.asarray(-(p * np.log(np.maximum(p, 1e-300))).sum(1))


def row(name: str, found: list[Measured], ordinary: list[Measured]) -> list[str]:
    """A row of the table: means over the models."""
    nll, calibrated = (np.mean([getattr(one, key).mean() for one in found]) for key in ("losses", "calibrated"))
    apart = np.mean([one.calibrated - base.calibrated for one, base in zip(found, ordinary, strict=True)], axis=0)
    half = 1.96 * apart.std(ddof=1) / np.sqrt(len(apart))
    accuracy, auc = np.mean([one.right.mean() for one in found]), np.mean([one.found for one in found])
    difference = f"{apart.mean():+.4f} ± {half:.4f}" if apart.any() else ""
    shown_auc = "" if np.isnan(auc) else f"{auc:.4f}"
    return [name, f"{nll:.4f}", f"{calibrated:.4f}", difference, f"{accuracy:.4f}", shown_auc]


if __name__ == "__main__":
    main()
