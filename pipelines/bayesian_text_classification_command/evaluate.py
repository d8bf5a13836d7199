"""`bayesian-text-classification evaluate`: the comparison, on the screen and in files."""

import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from .columns import check_labeled, check_unlabeled
from .console import STDERR, STDOUT, fail, new_table, print_table, quiet_libraries
from .options import (
    AllowPickle,
    Config,
    Dataset,
    Device,
    DropoutOrAuto,
    Dtype,
    Ensemble,
    LabelColumn,
    MaxTexts,
    Model,
    ScopeHeldOut,
    Seed,
    Split,
    TextColumn,
    TextPairColumn,
    file_or_id,
    models_of,
    not_empty,
    texts_or_default,
    writable_folder,
)
from .progress import passes_progress

if TYPE_CHECKING:
    from bayesian_text_classification.evaluation import Comparison
    from bayesian_text_classification.evaluation.arms import Arm
    from bayesian_text_classification.loading.labeled_texts import LabeledTexts
    from bayesian_text_classification.pipeline import BayesianTextClassificationPipeline


QUICK = 200  # texts
_MEASURES = {"ece": "ECE", "accuracy": "accuracy", "nll": "NLL", "brier": "Brier"}  # on the screen


def _rates(values: list[float] | None) -> list[float] | None:
    for value in values or []:
        if not 0 < value < 1:
            raise typer.BadParameter(f"{value}; it must lie between 0 and 1, such as 0.05 for 5%")
    return values or None


def evaluate(
    model: Model = None,
    ensemble: Ensemble = None,
    student: Annotated[
        str | None,
        typer.Option(
            help="Folder or Hub id of a student, or of another model with the same labels, to compare in one pass. The "
            "measured texts must not be among those that it was distilled on.",
            show_default="no student",
            callback=not_empty,
        ),
    ] = None,
    allow_pickle: AllowPickle = False,
    dataset: Dataset = None,
    config: Config = None,
    split: Split = None,
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
    label_column: LabelColumn = None,
    max_texts: MaxTexts = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help=f"--max-texts {QUICK}, without BaaL's arm. So few texts usually give no verdict."),
    ] = False,
    arms: Annotated[
        str | None,
        typer.Option(
            help="What to run besides the ordinary model, separated by commas: baal, bayesian, ensemble.",
            show_default="all that there are; with --quick all but baal",
            callback=not_empty,
        ),
    ] = None,
    num_samples: Annotated[
        int,
        typer.Option(
            min=0,
            help="Forward passes with dropout per text. 0 compares "
            "the ordinary model with and without a temperature (or Platt scaling), as for a model without dropout.",
        ),
    ] = 20,
    sweep: Annotated[
        int,
        typer.Option(
            min=0, help="Further passes with dropout, for a longer and finer curve of the effect of their number."
        ),
    ] = 0,
    dropout: DropoutOrAuto = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
    calibration_dataset: Annotated[
        str | None,
        typer.Option(
            help="Other labeled texts to fit the temperatures (or Platt scalings) on.",
            show_default="the measured texts; the measures are corrected for that",
            callback=file_or_id,
        ),
    ] = None,
    ood_dataset: Annotated[
        str | None,
        typer.Option(help="Out-of-scope texts, to measure how well uncertainty detects them.", callback=file_or_id),
    ] = None,
    scope_dataset: Annotated[
        str | None,
        typer.Option(
            help="With --ood-dataset: texts like those that the classifier is for, to measure how well novelty detects "
            "the others. May be its training texts if there is --scope-held-out.",
            show_default="the scope that it was saved with, if there is one",
            callback=file_or_id,
        ),
    ] = None,
    scope_held_out: ScopeHeldOut = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Also measure prediction sets that hold the true label with this probability, such as 0.95: how many "
            "labels they have. They are fitted on half of the texts and measured on the others.",
            show_default="no prediction sets",
        ),
    ] = None,
    target_error: Annotated[
        list[float] | None,
        typer.Option(
            help="Error rate among accepted texts for which a threshold is searched. May be repeated.",
            show_default="0.05, 0.02 and 0.01; for each of several labels 0.2, 0.1 and 0.05",
            callback=_rates,
        ),
    ] = None,
    output: Annotated[
        str, typer.Option(help="Folder for report.html, report.json and the pictures.", callback=not_empty)
    ] = "bayesian-report",
) -> None:
    """Compare the ordinary and the Bayesian model on labeled texts, and recommend one.

    Also compares BaaL's patched copy, and temperature scaling of both models; for independent labels, Platt scaling. A
    model without dropout is compared with and without such a scaling. An ensemble is compared with its first model,
    and a student (--student) with its teacher, --model.

    Without arguments: the embedded sentiment classifier on 450 of the embedded reviews, offline.
    """
    models = models_of(model, ensemble)
    if student is not None and student == model:
        fail(f"--student {student} is --model itself; pass another model")
    if quick and max_texts is not None:
        fail(f"--quick is --max-texts {QUICK}; pass one of the two")
    max_texts = QUICK if quick else max_texts
    wanted = ("bayesian,ensemble" if quick else "baal,bayesian,ensemble") if arms is None else arms
    check_labeled(dataset, text_column, text_pair_column, label_column)
    check_labeled(calibration_dataset, text_column, text_pair_column, label_column)
    if scope_dataset is not None and ood_dataset is None:
        fail("--scope-dataset needs --ood-dataset")
    if scope_held_out is not None and scope_dataset is None:
        fail("--scope-held-out needs --scope-dataset")
    if coverage is not None and not 0 < coverage < 1:
        fail(f"--coverage {coverage:g}: it must lie between 0 and 1; try 0.95")
    for path in (ood_dataset, scope_dataset, scope_held_out):
        check_unlabeled(path, text_column, text_pair_column)
    folder = writable_folder(output)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "report.json").is_file():
        fail(f"--output {folder} holds other files; choose a new folder, or that of an earlier report")
    if before := _earlier(folder / "report.json"):
        print(
            f"The report in {folder} ({before}) will be replaced; --output writes to another folder.", file=sys.stderr
        )
    quiet_libraries()
    from bayesian_text_classification.evaluation.arms import ARM_MASKS
    from bayesian_text_classification.evaluation.prediction_sets import check_number
    from bayesian_text_classification.evaluation.run import compare, total_rows
    from bayesian_text_classification.evaluation.verdict import verdict
    from bayesian_text_classification.loading.classifiers import load_classifier
    from bayesian_text_classification.loading.fingerprint import fingerprint
    from bayesian_text_classification.loading.labeled_texts import load_texts
    from bayesian_text_classification.loading.problem import check_probabilities, labeled_texts_for
    from bayesian_text_classification.pipeline.inputs import text_key
    from bayesian_text_classification.pipeline.saving import saved_options
    from bayesian_text_classification.report import ReportSettings, write_report
    from bayesian_text_classification.report.recipe import Sources, recipe
    from bayesian_text_classification.wording import first_line

    with STDERR.status("loading"):
        try:
            classifier = load_classifier(models, device, dtype, allow_pickle=allow_pickle)
            columns = {"text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column}
            other = None if student is None else load_classifier(student, device, dtype, allow_pickle=allow_pickle)
            check_probabilities(classifier)
            source, max_texts = texts_or_default(dataset, max_texts)
            data = labeled_texts_for(classifier, source, config=config, split=split, max_texts=max_texts, **columns)
            if coverage is not None:
                rows = zip(data.texts, data.labels, strict=True)
                check_number(len({text_key(text) for text, own in rows if own != set()}), coverage)
            calibration = None
            if calibration_dataset is not None:
                calibration = labeled_texts_for(classifier, calibration_dataset, **columns)
            strange, scope, held_out = (
                []
                if path is None
                else load_texts(path, text_column=text_column, text_pair_column=text_pair_column).texts
                for path in (ood_dataset, scope_dataset, scope_held_out)
            )
        except ValueError as error:  # ours: the model, its problem type or the data
            fail(first_line(error))
    wants_samples = num_samples > 0 and dropout is None and "bayesian" in wanted
    try:
        unsampled = wants_samples and not classifier.sites_for({"posterior": "dropout"})
    except (ValueError, RuntimeError):  # reported with the comparison
        unsampled = False
    if unsampled:
        print(
            "The model has no active dropout, so nothing is sampled; --dropout 0.1 samples it with dropout that it was "
            "not trained with.",
            file=sys.stderr,
        )
    run: dict[str, Any] = {"calibration": calibration, "out_of_scope": strange, "num_samples": num_samples}
    run |= {"scope": scope, "scope_held_out": held_out or None, "sweep": sweep, "dropout": dropout}
    run |= {"arms": [arm.strip() for arm in wanted.split(",")], "student": other}
    try:
        with passes_progress("classifying" if unsampled else "sampling", total_rows(classifier, data, **run)) as passes:
            known: list[Arm] = []

            def show(arm: "Arm") -> None:
                known.append(arm)
                passes.show(_arms_table(known, data.size), _line(arm))

            comparison = compare(classifier, data, **run, seed=seed, progress=passes, on_arm=show)
            if coverage is not None:
                comparison = comparison.with_sets(coverage, seed=seed)
    except ValueError as error:  # ours: the model or the data
        fail(first_line(error))
    except Exception as error:  # out of memory, or an error in the model's code
        fail(f"the comparison failed with {type(error).__name__}: {first_line(error)}")
    found = verdict(comparison, target_error)
    samples = comparison.rival.cost.passes if comparison.sampled else 0
    labeled, where = source, {"config": config, "split": split, "max_texts": max_texts}
    if calibration_dataset is not None:
        labeled, where = calibration_dataset, {}
    columns_of = {name: value for name, value in {**where, **columns}.items() if value is not None}
    reads_alike = other is None or _same_names(classifier, other, labeled, columns_of)
    if not reads_alike:
        print(
            f"The labels in {labeled} are other ones to the student, whose labels have another order, so there is no "
            "code for the student. Write the names of the labels into the file.",
            file=sys.stderr,
        )
    settings = ReportSettings(
        model=model or "embedded classifier",
        dataset=source if dataset else f"embedded {source}",
        ensemble=tuple(ensemble) if ensemble else None,
        student=student,
        config=config,
        split=data.split,
        text_column=data.text_column,
        text_pair_column=data.text_pair_column,
        label_column=data.label_column,
        calibration_dataset=calibration_dataset,
        ood_dataset=ood_dataset,
        scope_dataset=scope_dataset,
        scope_held_out=scope_held_out,
        coverage=coverage,
        num_samples=samples,
        dropout=comparison.dropout,
        seed=seed,
        date=datetime.date.today().isoformat(),
        device=str(classifier.device),
        dtype=str(classifier.run_dtype).removeprefix("torch."),
        masks=ARM_MASKS if samples else None,
        fingerprint=fingerprint(classifier),
        sources=Sources(
            model,
            _load_options(classifier, device, dtype, seed, allow_pickle),
            labeled,
            columns_of,
            tuple(ensemble or ()),
            together=bool(saved_options(classifier.model.config)),
            calibrated=_brings_more(classifier),
            scope={
                name: path
                for name, path in (("scope_dataset", scope_dataset), ("scope_held_out", scope_held_out))
                if path
            },
            student=student if reads_alike else None,
            student_calibrated=other is not None and _brings_more(other),
        ),
    )
    _print_tables(comparison, data)
    STDOUT.print(f"[bold]{escape(found.headline)}[/bold]", highlight=False, soft_wrap=True)
    code = recipe(comparison, settings.sources, found.limit)
    if code is not None:
        _print_code("In Python:", code.python)
        _print_code("On the command line:", code.command)
    _print_lines("What else to do:", found.advice if code is None else found.advice[1:])
    _print_lines("What the data say:", found.lines)
    id2label = classifier.model.config.id2label
    names = [id2label[i] for i in sorted(id2label)]
    try:
        paths = write_report(folder, comparison, data, names, settings, found)
    except OSError as error:
        fail(f"cannot write to {folder}: {error.strerror or error}")
    STDOUT.print("\n" + "\n".join(map(str, paths)), highlight=False, soft_wrap=True, markup=False)


def _same_names(
    classifier: "BayesianTextClassificationPipeline",
    student: "BayesianTextClassificationPipeline",
    labeled: str,
    columns: dict[str, Any],
) -> bool:
    """Whether both models read the same labels from a source: not if these are ids and the two orders differ."""
    from bayesian_text_classification.loading.problem import has_independent_labels, labeled_texts_for

    orders = [
        [one.model.config.id2label[i] for i in range(one.model.config.num_labels)] for one in (classifier, student)
    ]
    if orders[0] == orders[1]:
        return True
    read = [labeled_texts_for(one, labeled, **columns).labels for one in (classifier, student)]
    if has_independent_labels(classifier):
        named = [[{names[i] for i in own} for own in labels] for names, labels in zip(orders, read, strict=True)]
        return named[0] == named[1]
    first, second = ([names[i] for i in labels] for names, labels in zip(orders, read, strict=True))
    return first == second


def _brings_more(classifier: "BayesianTextClassificationPipeline") -> bool:
    """Whether it was saved with more than options of a call, which only the arm "as saved" has."""
    return bool(classifier.calibration) or (classifier.sampling.threshold, classifier.sampling.coverage) != (None, None)


def _earlier(report: Path) -> str:
    """What an existing report is about, in words; empty if there is none."""
    if not report.is_file():
        return ""
    try:
        settings = json.loads(report.read_text(encoding="utf-8"))["settings"]
        return f"{settings['model']} on {settings['dataset']}, {settings['date']}"
    except (ValueError, KeyError, TypeError, OSError):
        return "it cannot be read"


def _load_options(
    classifier: "BayesianTextClassificationPipeline",
    device: str | None,
    dtype: str | None,
    seed: int,
    allow_pickle: bool,
) -> dict[str, Any]:
    """Arguments of `load` that give the arms of the comparison again, besides the number of samples."""
    given = {"seed": seed or None, "device": device, "dtype": dtype, "allow_pickle": allow_pickle or None}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if classifier.sampling.masks != "balanced":
        options["masks"] = "balanced"
    if classifier.sampling.tolerance is not None:
        options["tolerance"] = None
    return options


def _numbers(arm: "Arm") -> list[str]:
    """The measures of an arm, in the order of `_MEASURES`."""
    return [f"{arm.estimates[key].value:.4f}" for key in _MEASURES]


def _line(arm: "Arm") -> str:
    """An arm as a line of a log."""
    from bayesian_text_classification.evaluation.arms import TITLES

    measures = ", ".join(map(" ".join, zip(_MEASURES.values(), _numbers(arm), strict=True)))
    return f"{TITLES[arm.name]}: {measures} ({arm.cost.seconds:.1f} s)"


def _arms_table(arms: "Sequence[Arm]", size: str) -> Table:
    from bayesian_text_classification.evaluation.arms import TITLES

    passes = next((arm.cost.passes for arm in arms if arm.name == "bayesian"), None)
    samples = "" if passes is None else f", {passes} sample{'s' * (passes != 1)}"
    table = new_table(f"{size}{samples}")
    table.add_column("")
    for name in (*_MEASURES.values(), "dropout\nsites", "seconds"):
        table.add_column(name, justify="right")
    for arm in arms:
        table.add_row(TITLES[arm.name], *_numbers(arm), str(arm.cost.dropout_sites), f"{arm.cost.seconds:.1f}")
    return table


def _print_tables(comparison: "Comparison", data: "LabeledTexts") -> None:
    from bayesian_text_classification.evaluation.arms import TITLES
    from bayesian_text_classification.evaluation.comparison import error_rates

    print_table(_arms_table(comparison.arms, data.size))
    if data.kinds:
        first, last = comparison.arm("frequentist"), comparison.rival
        before = error_rates(first.probabilities, comparison.labels, data.kinds)
        after = error_rates(last.probabilities, comparison.labels, data.kinds)
        kinds = new_table("error rate by kind")
        kinds.add_column("")
        for arm in (first, last):
            kinds.add_column(TITLES[arm.name], justify="right")
        for name in before:
            kinds.add_row(escape(name), f"{before[name]:.1%}", f"{after[name]:.1%}")
        print_table(kinds)


def _print_code(title: str, code: str) -> None:
    STDOUT.print(f"\n{title}", highlight=False)
    indented = "\n".join(f"    {line}".rstrip() for line in code.splitlines())
    STDOUT.print(indented, highlight=False, soft_wrap=True, markup=False)


def _print_lines(title: str, lines: list[str]) -> None:
    STDOUT.print(f"\n{title}", highlight=False)
    for line in lines:
        STDOUT.print(f"- {escape(line)}", highlight=False, soft_wrap=True)
