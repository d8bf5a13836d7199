"""`bayesian-text-classification push`: publish a metric, a classifier or the demo on the Hub."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from .columns import check_labeled
from .console import STDERR, STDOUT, fail, new_table, print_table, quiet_libraries
from .options import (
    AllowPickle,
    Dropout,
    Ensemble,
    LabelColumn,
    Model,
    Posterior,
    TextColumn,
    TextPairColumn,
    file_or_id,
    models_of,
    not_empty,
    threshold_of,
)
from .progress import passes_progress

if TYPE_CHECKING:
    from bayesian_text_classification.hub.uploads import Upload

push_app = typer.Typer(no_args_is_help=True, help="Publish a metric, a classifier or the demo on the Hub.")

_RepoId = Annotated[str, typer.Argument(help="user/name. Created if it does not exist.", show_default=False)]
_Private = Annotated[bool, typer.Option("--private", help="Make the new repository private.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="List the files that would be uploaded, and stop.")]
_SAVED = "the value saved with the model"
_Message = Annotated[str | None, typer.Option(help="Commit message.", callback=not_empty)]


@push_app.command("metric")
def push_metric(
    repo_id: _RepoId, private: _Private = False, dry_run: _DryRun = False, message: _Message = None
) -> None:
    """Publish a metric as a Space, user/ece or user/prediction_set_coverage, so that evaluate.load finds it."""
    quiet_libraries()
    from bayesian_text_classification.hub.uploads import PublishError, metric_upload

    try:
        upload = metric_upload(repo_id)
    except PublishError as error:
        fail(str(error))
    _push(upload, repo_id, private, dry_run, message)


@push_app.command("pipeline")
def push_pipeline(
    repo_id: _RepoId,
    model: Model = None,
    ensemble: Ensemble = None,
    allow_pickle: AllowPickle = False,
    report: Annotated[
        str | None,
        typer.Option(
            help="Report folder of the evaluate command; its results are added to the model card.", callback=not_empty
        ),
    ] = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1_000,
            help="Default number of forward passes for users; 0 is the ordinary model.",
            show_default=_SAVED,
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Default tolerance for users: stop sampling once the standard error of the score drops below this.",
            show_default=_SAVED,
        ),
    ] = None,
    masks: Annotated[
        str | None, typer.Option(help="Dropout masks: balanced or bernoulli.", show_default=_SAVED, callback=not_empty)
    ] = None,
    dropout: Dropout = None,
    posterior: Posterior = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="Default threshold for users: texts with a lower score get no label. For independent labels, "
            "LABEL=NUMBER for each label.",
            show_default=_SAVED,
        ),
    ] = None,
    calibration_dataset: Annotated[
        str | None, typer.Option(help="Labeled texts to calibrate the scores on.", callback=file_or_id)
    ] = None,
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
    label_column: LabelColumn = None,
    private: _Private = False,
    dry_run: _DryRun = False,
    message: _Message = None,
) -> None:
    """Publish a classifier with the code that samples it, for pipeline(model="user/name", trust_remote_code=True)."""
    models = models_of(model, ensemble)
    given_columns = {
        "--text-column": text_column,
        "--text-pair-column": text_pair_column,
        "--label-column": label_column,
    }
    for option, given in given_columns.items():
        if given is not None and calibration_dataset is None:
            fail(f"{option} {given} needs a --calibration-dataset")
    check_labeled(calibration_dataset, text_column, text_pair_column, label_column)
    quiet_libraries()
    from bayesian_text_classification.hub.uploads import check_repo_id, pipeline_upload
    from bayesian_text_classification.loading.classifiers import load_classifier
    from bayesian_text_classification.loading.problem import labeled_texts_for
    from bayesian_text_classification.pipeline.calibrated import check_threshold
    from bayesian_text_classification.wording import first_line

    limit = threshold_of(threshold)
    asked: dict[str, Any] = {"num_samples": num_samples, "tolerance": tolerance, "masks": masks, "dropout": dropout}
    asked["posterior"] = posterior
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        try:
            check_repo_id(repo_id)
            with STDERR.status("loading"):
                classifier = load_classifier(models, allow_pickle=allow_pickle, **options)
            if limit is not None:
                check_threshold(limit, classifier.activation, classifier.model.config)
            if calibration_dataset is not None:
                columns = {
                    "text_column": text_column,
                    "text_pair_column": text_pair_column,
                    "label_column": label_column,
                }
                data = labeled_texts_for(classifier, calibration_dataset, **columns)
                passes = len(data.texts) * max(classifier.sampling.num_samples, 1)
                with passes_progress("calibrating", passes) as advance:
                    classifier.calibrate(data.texts, data.labels, progress=advance)
            if limit is not None:  # for the calibrated scores
                classifier.threshold = limit
            upload = pipeline_upload(
                classifier, Path(folder), repo_id.rpartition("/")[2], None if report is None else Path(report)
            )
        except ValueError as error:  # ours: loading, calibrating or saving failed
            fail(first_line(error))
        _push(upload, repo_id, private, dry_run, message)


@push_app.command("space")
def push_space(repo_id: _RepoId, private: _Private = False, dry_run: _DryRun = False, message: _Message = None) -> None:
    """Publish the demo as a Space, with this package and the embedded classifier."""
    quiet_libraries()
    from bayesian_text_classification.hub.uploads import PublishError, space_upload

    with tempfile.TemporaryDirectory() as folder:
        try:
            upload = space_upload(Path(folder))
        except PublishError as error:
            fail(str(error))
        _push(upload, repo_id, private, dry_run, message)


def _push(upload: "Upload", repo_id: str, private: bool, dry_run: bool, message: str | None) -> None:
    from bayesian_text_classification.hub.push import push
    from bayesian_text_classification.hub.uploads import PublishError, check_repo_id

    try:
        check_repo_id(repo_id)
        if dry_run:
            table = new_table(f"{upload.repo_type} {repo_id}")
            table.add_column("file")
            table.add_column("bytes", justify="right")
            for name, size in upload.files.items():
                table.add_row(escape(name), f"{size:,}")
            table.add_row(f"{len(upload.files)} files", f"{sum(upload.files.values()):,}")
            print_table(table)
            print(f"If {repo_id} already exists: {_existing(upload)}")
            return
        address, there = push(upload, repo_id, private=private, message=message)
    except PublishError as error:
        fail(str(error))
    if there:
        print(f"{repo_id} already existed: {_existing(upload)}", file=sys.stderr)
    STDOUT.print(address, highlight=False, soft_wrap=True, markup=False)


def _existing(upload: "Upload") -> str:
    """What a push does to the files of an existing repository; true before and after it."""
    done = [f"{' and '.join(upload.merge)} are merged"] if upload.merge else []
    done.append(f"{'other ' if upload.merge else ''}files with the same names are replaced")
    if upload.stale:
        done.append(
            f"weights, adapters and code of an earlier push ({', '.join(upload.stale)}) are removed, if there are any"
        )
    return "; ".join([*done, "all other files stay"])
