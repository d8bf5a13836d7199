"""The command `bayesian-text-classification`.

Exit codes: 0 done, 2 bad usage or bad input (one line on stderr), 3 done, but for rows that have an error, 130
interrupted, 143 terminated. Results go to stdout, everything else to stderr.
"""

import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import bayesian_text_classification_command as command
import typer
from rich.markup import escape
from typer.core import TyperCommand

from .console import STDERR, STDOUT, fail, new_table, plain, print_table, rows_bar, speed_bar
from .messages import first_line
from .ray_address import RUNNING, connect

if TYPE_CHECKING:
    from .data import LabelledTexts
    from .evaluation import Comparison
    from .hub import Upload

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # a traceback with local variables would print the user's texts
)
push_app = typer.Typer(no_args_is_help=True, help="Publish on the Hub: the metric, a classifier or the demo.")
app.add_typer(push_app, name="push")


def _not_empty(value: str | None) -> str | None:
    if value is not None and not value.strip():  # such as an unset variable of a script
        raise typer.BadParameter("it is empty; give a value or leave the option out")
    return value


def _device(value: str | None) -> str | None:
    from .loading import available_devices

    if value is not None and value not in available_devices():
        raise typer.BadParameter(f"{value!r}; on this machine it must be one of {', '.join(available_devices())}")
    return value


def _dtype(value: str | None) -> str | None:
    from .loading import DTYPES

    if value is not None and value not in DTYPES:
        raise typer.BadParameter(f"{value!r}; it must be one of {', '.join(DTYPES)}")
    return value


def _heuristic(value: str) -> str:
    from .selection import HEURISTICS

    if value not in HEURISTICS:
        raise typer.BadParameter(f"{value!r}; it must be one of {', '.join(HEURISTICS)}")
    return value


# Options that several commands have.
_Model = Annotated[
    str | None, typer.Option(help="Model folder or Hub id.", show_default="the embedded one", callback=_not_empty)
]
_TextColumn = Annotated[str | None, typer.Option(show_default="text, else sentence", callback=_not_empty)]
_LabelColumn = Annotated[str | None, typer.Option(show_default="label, else labels", callback=_not_empty)]
_Seed = Annotated[int, typer.Option(help="Seed of every random draw.")]
_Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.", show_default="the best", callback=_device)]
_Dtype = Annotated[
    str | None, typer.Option(help="float32, bfloat16 or float16.", show_default="the model's own", callback=_dtype)
]
_AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read weights of .bin files too; only of people that you trust.")
]

_DEFAULT = "saved with the model, else that of the pipeline"


@app.callback()
def _main() -> None:
    """Honest confidence for Hugging Face text classifiers."""


@app.command()
def evaluate(
    model: _Model = None,
    allow_pickle: _AllowPickle = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="A csv, tsv, jsonl or parquet file, or a Hub id.",
            show_default="the embedded reviews",
            callback=_not_empty,
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Configuration of a dataset on the Hub.", callback=_not_empty)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split of a dataset on the Hub.", show_default="validation", callback=_not_empty),
    ] = None,
    text_column: _TextColumn = None,
    label_column: _LabelColumn = None,
    num_samples: Annotated[
        int, typer.Option(min=1, help="Forward passes with dropout for each text (180 in all, for the sweep).")
    ] = 20,
    seed: _Seed = 0,
    device: _Device = None,
    dtype: _Dtype = None,
    calibration_dataset: Annotated[
        str | None,
        typer.Option(
            help="Other labelled texts to fit the temperatures on.",
            show_default="each text gets the temperature of the others",
            callback=_not_empty,
        ),
    ] = None,
    ood_dataset: Annotated[
        str | None,
        typer.Option(help="Texts that the model was not made for: are they found?", callback=_not_empty),
    ] = None,
    output: Annotated[
        str, typer.Option(help="Folder for report.html, report.json and the pictures.", callback=_not_empty)
    ] = "bayesian-report",
) -> None:
    """Is the Bayesian ensemble more trustworthy than the model itself? A verdict, on labelled texts.

    Compares the frequentist model, BaaL's patched copy and the Bayesian ensemble, and temperature scaling of both.
    Without arguments: the embedded sentiment classifier on the embedded reviews, offline.
    """
    _quiet_libraries()
    from .data import DataError, embedded_reviews, load_labelled_texts, load_texts
    from .evaluation import MASKS, compare, total_rows
    from .fingerprint import fingerprint
    from .loading import ModelError, load_classifier
    from .report import write_report

    folder = _writable_folder(output)
    with STDERR.status("loading"):
        try:
            classifier = load_classifier(model, device, dtype, allow_pickle=allow_pickle)
            columns = {"text_column": text_column, "label_column": label_column}
            id2label = classifier.model.config.id2label
            source = str(embedded_reviews()) if dataset is None else dataset
            data = load_labelled_texts(source, id2label, config=config, split=split, **columns)
            calibration = None
            if calibration_dataset is not None:
                calibration = load_labelled_texts(calibration_dataset, id2label, **columns)
            strange = [] if ood_dataset is None else load_texts(ood_dataset, text_column=text_column).texts
        except (ModelError, DataError) as error:
            fail(str(error))
    with rows_bar() as progress:
        more = len(strange) + (0 if calibration is None else len(calibration.texts))
        task = progress.add_task("sampling", total=total_rows(len(data.texts), num_samples, more))
        try:
            comparison = compare(
                classifier,
                data,
                calibration=calibration,
                out_of_scope=strange,
                num_samples=num_samples,
                seed=seed,
                progress=lambda n: progress.advance(task, n),
            )
        except ValueError as error:  # our own: what is wrong with model or data
            fail(first_line(error))
        except Exception as error:  # out of memory, or what a model's own code raises
            fail(f"the comparison stopped at {type(error).__name__}: {first_line(error)}")
    _print_comparison(comparison, data)
    settings = {
        "model": "embedded" if model is None else model,
        "dataset": "embedded" if dataset is None else dataset,
        "config": config,
        "split": data.split,
        "text_column": data.text_column,
        "label_column": data.label_column,
        "calibration_dataset": calibration_dataset,
        "ood_dataset": ood_dataset,
        "num_samples": num_samples,
        "seed": seed,
        "device": str(classifier.device),
        "dtype": str(classifier.run_dtype).removeprefix("torch."),
        "masks": MASKS,
        "fingerprint": fingerprint(classifier),
    }
    names = [id2label[i] for i in sorted(id2label)]
    try:
        paths = write_report(folder, comparison, data, names, settings)
    except OSError as error:
        fail(f"cannot write to {folder}: {error.strerror or error}")
    STDOUT.print("\n" + "\n".join(map(str, paths)), highlight=False, soft_wrap=True, markup=False)


class _RayAlone(TyperCommand):
    """`--ray` without a value stands for the cluster of this machine; Typer has no such options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As it stands, with the value."""
        given = list(args)
        for i, arg in enumerate(args):
            if arg == "--":  # texts follow
                break
            if arg == "--ray" and (i + 1 == len(args) or args[i + 1].startswith("-")):
                given[i] = f"--ray={RUNNING}"
        return list(super().parse_args(ctx, given))


@app.command(cls=_RayAlone)
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; or --input.", show_default=False)] = None,
    input: Annotated[
        str | None,
        typer.Option(
            help="A csv, tsv, jsonl, parquet or txt file (a line is a text), also compressed (.gz, .bz2, .xz, .zst), a "
            "pattern of such, or - for stdin.",
            callback=_not_empty,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(help="A csv, tsv, jsonl or parquet file, also compressed, or - for stdout.", callback=_not_empty),
    ] = None,
    input_format: Annotated[
        str | None, typer.Option(help="csv, tsv, jsonl, parquet or txt.", show_default="as the name ends; - is txt")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option(help="csv, tsv, jsonl or parquet.", show_default="as the name ends; - is jsonl")
    ] = None,
    model: _Model = None,
    allow_pickle: _AllowPickle = False,
    text_column: _TextColumn = None,
    prefix: Annotated[str, typer.Option(help="Of the names of the added columns.")] = "",
    num_samples: Annotated[
        int | None, typer.Option(min=0, help="Forward passes with dropout for each text.", show_default=_DEFAULT)
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Stop sampling a text once its score is as sure.", show_default=_DEFAULT)
    ] = None,
    masks: Annotated[
        str | None, typer.Option(help="balanced or bernoulli.", show_default=_DEFAULT, callback=_not_empty)
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="No label below this score.", show_default=_DEFAULT)
    ] = None,
    seed: _Seed = 0,
    device: _Device = None,
    dtype: _Dtype = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was killed; begin where there is none.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help='Address of a Ray cluster whose workers classify, "local" for one on this machine alone; without an '
            "address the one that is running here.",
            callback=_not_empty,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Of the cluster, each with a model of its own.")] = 1,
    cpus: Annotated[float, typer.Option(min=0, help="Processors of a worker.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of a worker.")] = 0,
) -> None:
    """Label, score and uncertainty of texts, or of every row of files, however large.

    Rows keep columns and order; one that cannot be classified has its reason in the column error (then exit code 3).
    """
    _quiet_libraries()
    from .cluster import Cluster
    from .journal import JournalError
    from .loading import ModelError, load_classifier
    from .rows import FORMATS, kind_of_file
    from .scale import WRITTEN, predict_file
    from .sources import STDIN, SourceError, source_of

    if bool(texts) == (input is not None):
        fail("give texts, or --input with a file" + (", not both" if texts else ""))
    if input is not None and output is None:
        fail("--input needs --output, a file or - for stdout")
    if input is None:
        only = {"output": output, "text-column": text_column, "prefix": prefix, "ray": ray, "resume": resume}
        for option, given in only.items():
            if given:
                fail(f"--{option} is for --input")
    if ray is None and (workers, cpus, gpus) != (1, 1, 0):
        fail("--workers, --cpus and --gpus are those of --ray")
    if input == STDIN and (resume or ray is not None):
        fail("--resume and --ray need a file: stdin can be read once, and here")
    kinds = [None if kind is None else f".{kind.lower().removeprefix('.')}" for kind in (input_format, output_format)]
    for option, kind, legal in (("--input-format", kinds[0], FORMATS), ("--output-format", kinds[1], WRITTEN)):
        if kind is not None and kind not in legal:
            fail(f"{option} {kind[1:]}: it must be one of {', '.join(name[1:] for name in legal)}")
    compression = ""
    if output is not None and output != STDIN:
        by_name, compression = kind_of_file(output)
        kinds[1] = kinds[1] or by_name
        if kinds[1] not in WRITTEN:
            fail(f"{output}: its name ends in none of {', '.join(WRITTEN)}; say --output-format")
        if kinds[1] == ".parquet" and compression:
            fail(f"{output}: a parquet file is compressed in itself; leave {compression} out")
    elif kinds[1] == ".parquet" or resume:
        fail("--resume is for a file" if resume else "a parquet file cannot be written to stdout")
    asked = {"num_samples": num_samples, "tolerance": tolerance, "masks": masks, "threshold": threshold, "seed": seed}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    try:
        source = None if input is None else source_of(input, kinds[0])
        with STDERR.status("loading"):
            classifier = load_classifier(model, device, dtype, allow_pickle=allow_pickle)
        if source is None:
            _print_answers(texts or [], classifier(texts, **options))
            return
        cluster = None
        if ray is not None:
            connect(ray)
            cluster = Cluster(model, workers, cpus, gpus, device, dtype, allow_pickle)
        target = sys.stdout.buffer if output == STDIN else Path(output or "")
        if isinstance(target, Path) and input != STDIN:
            command.later = "; the same command with --resume goes on where it was"
        with speed_bar() as show:
            summary = predict_file(
                classifier,
                source,
                target,
                kinds[1] or ".jsonl",
                compression=compression,
                text_column=text_column,
                prefix=prefix,
                resume=resume,
                cluster=cluster,
                progress=show,
                **options,
            )
    except (ModelError, SourceError, JournalError, ValueError) as error:
        fail(first_line(error))
    except BrokenPipeError:  # whoever read the answers has enough of them
        sys.stderr.close()
        os._exit(141)
    except OSError as error:
        later = "" if output == STDIN else "; --resume goes on with what is written"
        fail(f"cannot write {output}: {error.strerror or error}{later}")
    except Exception as error:  # out of memory, or what a model's own code raises
        fail(f"classification stopped at {type(error).__name__}: {first_line(error)}")
    told = f"{summary.rows:,} row{'s' * (summary.rows != 1)}"
    if summary.errors:
        kinds_of = ", ".join(f"{count:,} x {kind}" for kind, count in summary.errors.most_common())
        told += f", {summary.errors.total():,} of them with an error: {kinds_of}"
    print(told, file=sys.stderr)
    if output != STDIN:
        STDOUT.print(output, highlight=False, soft_wrap=True, markup=False)
    if summary.errors:
        raise typer.Exit(3)


@app.command()
def rank(
    input: Annotated[str, typer.Option(help="A csv, tsv, jsonl or parquet file of texts.", callback=_not_empty)],
    output: Annotated[str, typer.Option(help="A csv, jsonl or parquet file to write.", callback=_not_empty)],
    model: _Model = None,
    allow_pickle: _AllowPickle = False,
    heuristic: Annotated[
        str,
        typer.Option(
            help="bald, entropy, margin, variance or batch_bald (a batch of texts that differ; each has the score of "
            "the batch so far, and the other texts, in the order of bald, have 0).",
            callback=_heuristic,
        ),
    ] = "bald",
    batch: Annotated[int, typer.Option(min=1, help="Texts that batch_bald chooses together.")] = 10,
    text_column: _TextColumn = None,
    num_samples: Annotated[int, typer.Option(min=2, help="Forward passes with dropout for each text.")] = 20,
    seed: _Seed = 0,
    device: _Device = None,
    dtype: _Dtype = None,
) -> None:
    """Which unlabelled texts a person should label first.

    Writes the input's rows in that order, with the columns rank (from 1) and score in front.
    """
    _quiet_libraries()
    from .data import DataError, load_texts, write_columns
    from .evaluation import check_one_label, refuse_nan
    from .loading import ModelError, load_classifier
    from .selection import rank as in_order

    with STDERR.status("loading"):
        try:
            classifier = load_classifier(model, device, dtype, allow_pickle=allow_pickle)
            check_one_label(classifier)
            data = load_texts(input, text_column=text_column)
            for name in ("rank", "score"):
                if name in data.columns:
                    raise DataError(f"{input} has a column {name!r} already; rename it")
            write_columns(output, {})  # what is wrong with it is said before the work
        except (ModelError, DataError, ValueError) as error:
            fail(first_line(error))
    with rows_bar() as progress:
        task = progress.add_task("sampling", total=len(data.texts) * num_samples)
        try:
            samples = classifier.sample_proba(
                data.texts, progress=lambda n: progress.advance(task, n), num_samples=num_samples, seed=seed
            )
            refuse_nan(samples.mean(2))
        except ValueError as error:  # our own: what is wrong with model or data
            fail(first_line(error))
        except Exception as error:  # out of memory, or what a model's own code raises
            fail(f"sampling stopped at {type(error).__name__}: {first_line(error)}")
    order, scores = in_order(samples, heuristic, batch=batch, seed=seed)
    columns = {name: [values[i] for i in order] for name, values in data.columns.items()}
    first: dict[str, list[Any]] = {"rank": list(range(1, len(order) + 1)), "score": [float(scores[i]) for i in order]}
    try:
        write_columns(output, {**first, **columns})
    except (DataError, OSError) as error:
        fail(f"cannot write {output}: {first_line(error)}")
    STDOUT.print(output, highlight=False, soft_wrap=True, markup=False)


_RepoId = Annotated[str, typer.Argument(help="user/name; made where it does not exist.", show_default=False)]
_Private = Annotated[bool, typer.Option("--private", help="Make the new repository private.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would go where, and stop.")]
_SAVED = "saved with the model"
_Message = Annotated[str | None, typer.Option(help="Of the commit.", callback=_not_empty)]


@push_app.command("metric")
def push_metric(
    repo_id: _RepoId, private: _Private = False, dry_run: _DryRun = False, message: _Message = None
) -> None:
    """The metric as a Space; afterwards evaluate.load("user/ece") finds it."""
    _quiet_libraries()
    from .hub import PublishError, metric_upload

    try:
        upload = metric_upload(repo_id)
    except PublishError as error:
        fail(str(error))
    _push(upload, repo_id, private, dry_run, message)


@push_app.command("pipeline")
def push_pipeline(
    repo_id: _RepoId,
    model: _Model = None,
    allow_pickle: _AllowPickle = False,
    report: Annotated[
        str | None,
        typer.Option(help="Folder that evaluate wrote; its results go on the model's page.", callback=_not_empty),
    ] = None,
    num_samples: Annotated[
        int | None, typer.Option(min=1, max=1_000, help="Default of its users.", show_default=_SAVED)
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Default of its users: stop once the score is as sure.", show_default=_SAVED)
    ] = None,
    masks: Annotated[
        str | None, typer.Option(help="balanced or bernoulli.", show_default=_SAVED, callback=_not_empty)
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Default of its users: no label below this score.", show_default=_SAVED),
    ] = None,
    calibration_dataset: Annotated[
        str | None, typer.Option(help="Labelled texts to fit the temperature on.", callback=_not_empty)
    ] = None,
    text_column: _TextColumn = None,
    label_column: _LabelColumn = None,
    private: _Private = False,
    dry_run: _DryRun = False,
    message: _Message = None,
) -> None:
    """A classifier, with the code that samples it: pipeline(model="user/name", trust_remote_code=True) loads it."""
    _quiet_libraries()
    from .data import load_labelled_texts
    from .hub import check_repo_id, pipeline_upload
    from .loading import load_classifier

    asked: dict[str, Any] = {"num_samples": num_samples, "tolerance": tolerance, "masks": masks, "threshold": threshold}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    for option, given in (("--text-column", text_column), ("--label-column", label_column)):
        if given is not None and calibration_dataset is None:
            fail(f"{option} {given} is of the --calibration-dataset, and there is none")
    with tempfile.TemporaryDirectory() as folder:
        try:
            check_repo_id(repo_id)
            with STDERR.status("loading"):
                classifier = load_classifier(model, allow_pickle=allow_pickle, **options)
            if calibration_dataset is not None:
                columns = {"text_column": text_column, "label_column": label_column}
                data = load_labelled_texts(calibration_dataset, classifier.model.config.id2label, **columns)
                with rows_bar() as progress:
                    task = progress.add_task("sampling", total=len(data.texts) * classifier.sampling.num_samples)
                    classifier.calibrate(data.texts, data.labels, progress=lambda n: progress.advance(task, n))
            upload = pipeline_upload(
                classifier, Path(folder), repo_id.rpartition("/")[2], None if report is None else Path(report)
            )
        except ValueError as error:  # our own, of loading, calibrating and saving
            fail(first_line(error))
        _push(upload, repo_id, private, dry_run, message)


@push_app.command("space")
def push_space(repo_id: _RepoId, private: _Private = False, dry_run: _DryRun = False, message: _Message = None) -> None:
    """The demo as a Space, with this package and the embedded classifier in it."""
    _quiet_libraries()
    from .hub import PublishError, space_upload

    with tempfile.TemporaryDirectory() as folder:
        try:
            upload = space_upload(Path(folder))
        except PublishError as error:
            fail(str(error))
        _push(upload, repo_id, private, dry_run, message)


def main() -> None:
    """Run the command; what typer raises for bad usage becomes one line too."""
    try:
        sys.exit(app(standalone_mode=False))  # the code of a `typer.Exit`, or None
    except Exception as error:
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        if message():  # empty where the help was shown instead
            print(f"error: {message()}", file=sys.stderr)
        sys.exit(2)


def _push(upload: "Upload", repo_id: str, private: bool, dry_run: bool, message: str | None) -> None:
    from .hub import PublishError, check_repo_id, push

    try:
        check_repo_id(repo_id)
        if dry_run:
            notes = [f"{name} merged with the one that is there" for name in upload.merge]
            notes += [f"{pattern} of an earlier push removed" for pattern in upload.stale]
            table = new_table(f"{upload.kind} {repo_id}" + (f" ({'; '.join(notes)})" if notes else ""))
            table.add_column("file")
            table.add_column("bytes", justify="right")
            for name, size in upload.files.items():
                table.add_row(escape(name), f"{size:,}")
            table.add_row(f"{len(upload.files)} files", f"{sum(upload.files.values()):,}")
            print_table(table)
            return
        address, there = push(upload, repo_id, private=private, message=message)
    except PublishError as error:
        fail(str(error))
    if there:
        removed = f", {', '.join(upload.stale)} of an earlier push removed" if upload.stale else ""
        print(f"{repo_id} was there; its files of these names were replaced{removed}", file=sys.stderr)
    STDOUT.print(address, highlight=False, soft_wrap=True, markup=False)


def _print_answers(texts: list[str], answers: list[dict[str, Any]]) -> None:
    table = new_table("")
    keys = ["label", "score", "standard_error", "predictive_entropy", "expected_entropy", "mutual_information"]
    keys = [key for key in [*keys, "abstained"] if key in answers[0]]
    table.add_column("text")
    for key in keys:
        table.add_column(key.replace("_", "\n"), justify="left" if key == "label" else "right")
    for text, answer in zip(texts, answers, strict=True):
        cells = [answer[key] for key in keys]
        table.add_row(plain(text), *(f"{cell:.4f}" if isinstance(cell, float) else plain(cell) for cell in cells))
    print_table(table)


def _writable_folder(output: str) -> Path:
    """The folder of results, made where it does not exist: what is wrong with it is said before the work."""
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fail(f"--output {folder} cannot be a folder to write to: {error.strerror or error}")
    return folder


def _print_comparison(comparison: "Comparison", data: "LabelledTexts") -> None:
    from .evaluation import error_rates
    from .figures import TITLES
    from .verdict import advice, verdict

    table = new_table(f"{len(data.texts)} texts, {comparison.arm('bayesian').passes} samples")
    table.add_column("")
    for name in ("ECE", "accuracy", "NLL", "Brier", "dropout\nsites", "seconds"):
        table.add_column(name, justify="right")
    for arm in comparison.arms:
        numbers = [f"{arm.estimates[key].value:.4f}" for key in ("ece", "accuracy", "nll", "brier")]
        table.add_row(TITLES[arm.name], *numbers, str(arm.dropout_sites), f"{arm.seconds:.1f}")
    print_table(table)
    if data.kinds:
        first, last = comparison.arm("frequentist"), comparison.arm("bayesian")
        before = error_rates(first.probabilities, data.labels, data.kinds)
        after = error_rates(last.probabilities, data.labels, data.kinds)
        kinds = new_table("errors by kind of text")
        kinds.add_column("")
        for arm in (first, last):
            kinds.add_column(TITLES[arm.name], justify="right")
        for kind in before:
            kinds.add_row(escape(kind), f"{before[kind]:.1%}", f"{after[kind]:.1%}")
        print_table(kinds)
    found = verdict(comparison)
    STDOUT.print(f"[bold]{escape(found.headline)}[/bold]", highlight=False, soft_wrap=True)
    for line in [*found.lines, *advice(comparison, data.labels)]:
        STDOUT.print(f"- {escape(line)}", highlight=False, soft_wrap=True)


def _quiet_libraries() -> None:
    """Loading bars and advice of the libraries would bury the one line that a user needs."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logging.disable(logging.WARNING)  # a logger's own level would be reset where its library is imported later
    warnings.filterwarnings("ignore", module=r"(?!bayesian_text_classification)")
