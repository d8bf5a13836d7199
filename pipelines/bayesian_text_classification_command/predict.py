"""`bayesian-text-classification predict`: classify texts from the command line, or every row of files."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from .columns import check_rows
from .console import STDERR, STDOUT, fail, new_table, plain, print_table, quiet_libraries
from .interrupts import say_later
from .options import (
    OR_SAVED,
    AllowPickle,
    Device,
    Dropout,
    Dtype,
    Ensemble,
    Masks,
    Model,
    Posterior,
    Seed,
    TextColumn,
    TextPairColumn,
    Tolerance,
    Uncalibrated,
    file_or_id,
    models_of,
    not_empty,
    threshold_of,
    tolerance_of,
)
from .progress import texts_progress


def predict(
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to classify, instead of --input.", show_default=False)
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            help="Input file: csv, tsv, jsonl, parquet or txt (one text per line), optionally compressed (.gz, .bz2, "
            ".xz, .zst). A pattern such as 'data/*.csv' reads several; - reads stdin.",
            callback=file_or_id,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Output file: csv, tsv, jsonl or parquet, optionally compressed; - writes to stdout.",
            callback=not_empty,
        ),
    ] = None,
    input_format: Annotated[
        str | None,
        typer.Option(
            help="Format of the input: csv, tsv, jsonl, parquet or txt.",
            show_default="from the file name; txt for stdin",
            callback=not_empty,
        ),
    ] = None,
    output_format: Annotated[
        str | None,
        typer.Option(
            help="Format of the output: csv, tsv, jsonl or parquet.",
            show_default="from the file name; jsonl for stdout",
            callback=not_empty,
        ),
    ] = None,
    model: Model = None,
    ensemble: Ensemble = None,
    allow_pickle: AllowPickle = False,
    uncalibrated: Uncalibrated = False,
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            help="Prefix of the added columns' names.", show_default="none; predicted_ if the input has such a column"
        ),
    ] = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Forward passes with dropout per text; 0 uses the ordinary model.",
            show_default=f"20, the number of models of an ensemble, {OR_SAVED}",
        ),
    ] = None,
    tolerance: Tolerance = None,
    masks: Masks = None,
    dropout: Dropout = None,
    posterior: Posterior = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="Texts with a lower score get no label. For independent labels, LABEL=NUMBER for each: the lowest "
            "score at which it is accepted.",
            show_default=f"none, {OR_SAVED}",
        ),
    ] = None,
    novelty_level: Annotated[
        float | None,
        typer.Option(
            help="Texts unlike those that the model was made for get no label: those whose novelty_p_value is at most "
            "this. It needs a scope (calibrate --scope-dataset).",
            show_default=f"none, {OR_SAVED}",
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Adds the labels that a text could have: a set that holds the true one with this probability. It "
            "needs prediction sets (calibrate --coverage).",
            show_default=f"none, {OR_SAVED}",
        ),
    ] = None,
    scores: Annotated[
        Literal["top", "all"] | None,
        typer.Option(
            help="top: the winning label. all: the score of every label too.",
            show_default="top; all for independent labels",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="The most texts in a batch.", show_default="as many as fit a budget of tokens"),
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output file.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume an interrupted run; start a new one if there is none.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help='Classify on a Ray cluster. ADDRESS is that of a cluster, or "local" to start one on this machine; '
            "without an address, use the cluster that is running here.",
            callback=not_empty,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of Ray workers; each loads its own copy of the model.")
    ] = 1,
    cpus: Annotated[float, typer.Option(min=0, help="CPU cores per worker.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs per worker.")] = 0,
) -> None:
    """Classify texts, or every row of files of any size, with label, score and uncertainty.

    Rows keep their columns and their order.

    If a row cannot be classified, the column error says why, and the exit code is 3.
    """
    models = models_of(model, ensemble)
    if bool(texts) == (input is not None):
        fail("pass texts or --input" + (", not both" if texts else ""))
    if input is not None and output is None:
        fail("--input needs --output: a file, or - for stdout")
    if input is None:
        only: dict[str, Any] = {"output": output, "prefix": prefix, "ray": ray, "resume": resume}
        only |= {"text-column": text_column, "text-pair-column": text_pair_column}
        only |= {"input-format": input_format, "output-format": output_format, "force": force}
        for option, given in only.items():
            if given:
                fail(f"--{option} needs --input")
    if ray is None and (workers, cpus, gpus) != (1, 1, 0):
        fail("--workers, --cpus and --gpus need --ray")
    check_rows(input, input_format, text_column, text_pair_column)
    quiet_libraries()
    from bayesian_text_classification.files.formats import output_format_of
    from bayesian_text_classification.files.journal import working_files
    from bayesian_text_classification.files.sources import STDIN, source_of
    from bayesian_text_classification.loading.classifiers import load_classifier
    from bayesian_text_classification.scale.cluster import Cluster, connect
    from bayesian_text_classification.scale.predict import predict_file
    from bayesian_text_classification.scale.row_scorer import ERROR, RowScorer, check_options, why_not
    from bayesian_text_classification.wording import first_line

    if input == STDIN and (resume or ray is not None):
        fail("--resume and --ray need a file: stdin can only be read once, by this process")
    taken = output not in (None, STDIN) and os.path.isfile(output or "")
    unfinished = resume and any(path.exists() for path in working_files(Path(output or "")))  # gone once it is complete
    itself = taken and input not in (None, STDIN) and os.path.exists(input) and os.path.samefile(input, output or "")
    if taken and not (force or unfinished or itself):  # the input file is refused with its own reason
        done = " and is complete, so there is nothing to resume" if resume else ""
        fail(f"--output {output} already exists{done}; pass --force to replace it")
    if output == STDIN:
        if sys.stdout is None:
            fail("stdout is closed")
        if resume:
            fail("--resume needs an output file, not stdout")
    asked: dict[str, Any] = {"num_samples": num_samples, "masks": masks, "seed": seed}
    asked |= {"dropout": dropout, "posterior": posterior, "threshold": threshold_of(threshold), "scores": scores}
    asked |= {"batch_size": batch_size, "novelty_level": novelty_level, "coverage": coverage}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    options |= tolerance_of(tolerance)
    if uncalibrated:  # the workers of a cluster load the model again
        options = {"threshold": None, "coverage": None, **options}
    for number, text in enumerate(texts or [], start=1):
        if why := why_not(text):
            fail(f"text {number}: {why}")
    try:
        check_options(options)
        source, target = None, sys.stdout.buffer if output == STDIN else Path(output or "")
        if input is not None:
            source = source_of(input, input_format)
            output_format_of(None if output == STDIN else output, output_format)
        with STDERR.status("loading"):
            classifier = load_classifier(models, device, dtype, allow_pickle=allow_pickle)
            classifier = classifier.uncalibrated() if uncalibrated else classifier
        if source is None:
            scorer = RowScorer(classifier, "", options)
            answers = scorer(texts or [], [None] * len(texts or []))
            for number, answer in enumerate(answers, start=1):
                if answer[ERROR]:
                    fail(f"text {number}: {answer[ERROR]}")
            if "label" in scorer.added.names:
                _print_answers(texts or [], answers)
            if scorer.scores == "all":
                _print_labels(texts or [], answers, list(classifier.model.config.id2label.values()))
            return
        cluster = None
        if ray is not None:
            connect(ray)
            cluster = Cluster(models, workers, cpus, gpus, device, dtype, allow_pickle)
        if isinstance(target, Path) and input != STDIN:
            say_later("; run the same command with --resume to continue")
        with texts_progress() as show:
            summary = predict_file(
                classifier,
                source,
                target,
                output_format,
                text_column=text_column,
                text_pair_column=text_pair_column,
                prefix=prefix,
                resume=resume,
                cluster=cluster,
                progress=show,
                **options,
            )
    except ValueError as error:  # ours: the model, the input or an option
        fail(first_line(error))
    except BrokenPipeError:  # the reader of stdout has stopped reading
        sys.stderr.close()
        os._exit(141)
    except OSError as error:
        later = "" if output == STDIN else "; --resume continues from what is written"
        fail(f"cannot write {'stdout' if output == STDIN else output}: {error.strerror or error}{later}")
    except Exception as error:  # out of memory, or what a model's own code raises
        fail(f"classification failed with {type(error).__name__}: {first_line(error)}")
    done = f"{summary.rows:,} row{'s' * (summary.rows != 1)}"
    if summary.abstained is not None:
        done += f", {summary.abstained:,} of them without a label"
    if summary.errors:
        each = summary.errors.most_common()
        reasons = each[0][0] if len(each) == 1 else ", ".join(f"{reason} ({count:,})" for reason, count in each)
        done += f", {summary.errors.total():,} of them with an error: {reasons}"
    print(done, file=sys.stderr)
    if output != STDIN:
        STDOUT.print(output, highlight=False, soft_wrap=True, markup=False)
    if summary.errors:
        raise typer.Exit(3)


class RayAlone(TyperCommand):
    """Lets `--ray` come without a value, for the cluster that is running here. Typer has no such options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments with the value filled in."""
        given = list(args)
        for i, arg in enumerate(args):
            if arg == "--":  # texts follow
                break
            if arg == "--ray" and (i + 1 == len(args) or args[i + 1].startswith("-")):
                from bayesian_text_classification.scale.cluster import RUNNING

                given[i] = f"--ray={RUNNING}"
        return list(super().parse_args(ctx, given))


def _print_answers(texts: list[str], answers: list[dict[str, Any]]) -> None:
    table = new_table("")
    keys = ["label", "score", "standard_error", "predictive_entropy", "expected_entropy", "mutual_information"]
    keys += ["novelty", "novelty_p_value", "abstained", "accepted", "prediction_set"]
    keys = [key for key in keys if key in answers[0]]
    table.add_column("text")
    for key in keys:
        table.add_column(key.replace("_", "\n"), justify="left" if key in ("label", "prediction_set") else "right")
    for text, answer in zip(texts, answers, strict=True):
        cells = [answer[key].replace(",", ", ") if key == "prediction_set" else answer[key] for key in keys]
        table.add_row(plain(text), *(f"{cell:.4f}" if isinstance(cell, float) else plain(cell) for cell in cells))
    print_table(table)


def _print_labels(texts: list[str], answers: list[dict[str, Any]], names: list[str]) -> None:
    """A row for each label of each text, in the order of the model's labels."""
    from bayesian_text_classification.loading.labels import split_labels
    from bayesian_text_classification.scale.row_scorer import PREDICTED

    errors, decided = f"standard_error_{names[0]}" in answers[0], PREDICTED in answers[0]
    table = new_table("")
    table.add_column("text")
    table.add_column("label")
    table.add_column("score", justify="right")
    if errors:
        table.add_column("standard\nerror", justify="right")
    if decided:
        table.add_column("accepted")
    for text, answer in zip(texts, answers, strict=True):
        accepted = split_labels(answer[PREDICTED], names) if decided else []
        for number, name in enumerate(names):
            cells = [plain(text if number == 0 else ""), plain(name), f"{answer[f'score_{name}']:.4f}"]
            if errors:
                error = answer[f"standard_error_{name}"]
                cells.append("" if error is None else f"{error:.4f}")
            if decided:
                cells.append("yes" if name in accepted else "")
            table.add_row(*cells)
    print_table(table)
