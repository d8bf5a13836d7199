"""`bayesian-text-classification calibrate`: calibrate a classifier on labeled texts, and save it."""

from typing import Annotated, Any, Literal

import typer

from .columns import check_labeled, check_unlabeled
from .console import STDERR, STDOUT, fail, quiet_libraries
from .options import (
    OR_SAVED,
    AllowPickle,
    Config,
    Dataset,
    Device,
    DropoutOrAuto,
    Dtype,
    Ensemble,
    LabelColumn,
    Masks,
    MaxTexts,
    Model,
    Posterior,
    ScopeHeldOut,
    Seed,
    Split,
    TextColumn,
    TextPairColumn,
    Tolerance,
    Uncalibrated,
    file_or_id,
    folder_of_ours,
    models_of,
    not_empty,
    texts_or_default,
    threshold_of,
    tolerance_of,
)
from .progress import passes_progress


def calibrate(
    output: Annotated[str, typer.Option(help="Folder for the calibrated classifier.", callback=not_empty)],
    force: Annotated[bool, typer.Option("--force", help="Replace the classifier that is in --output.")] = False,
    model: Model = None,
    ensemble: Ensemble = None,
    allow_pickle: AllowPickle = False,
    uncalibrated: Uncalibrated = False,
    dataset: Dataset = None,
    config: Config = None,
    split: Split = None,
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
    label_column: LabelColumn = None,
    max_texts: MaxTexts = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Forward passes with dropout per text; 0 calibrates the ordinary scores. It is also the default of "
            "the saved classifier.",
            show_default=f"20, the number of models of an ensemble, {OR_SAVED}",
        ),
    ] = None,
    method: Annotated[
        Literal["temperature", "bias-corrected", "platt", "none"] | None,
        typer.Option(
            help="temperature or bias-corrected for a model that chooses one label, platt for independent labels; none "
            "fits no calibration, only the scope, the prediction sets and the threshold.",
            show_default="temperature, or platt",
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="Texts with a lower score get no label; the report of evaluate has a number. For independent labels, "
            "LABEL=NUMBER for each.",
        ),
    ] = None,
    scope_dataset: Annotated[
        str | None,
        typer.Option(
            help="Texts like those that the classifier is for, to report how novel each text is. May be its training "
            "texts if there is --scope-held-out. No labels are needed.",
            callback=file_or_id,
        ),
    ] = None,
    scope_held_out: ScopeHeldOut = None,
    novelty_level: Annotated[
        float | None,
        typer.Option(
            help="With --scope-dataset: texts whose novelty_p_value is at most this get no label. It is the share of "
            "texts like those of the scope that is refused, such as 0.01.",
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            help="Adds a prediction set to every answer: the labels that the text could have, which hold the true one "
            "with this probability. Half of the distinct texts of --dataset fit the sets, the other half the "
            "calibration; all of them with --method none.",
            show_default="none",
        ),
    ] = None,
    coverage_by: Annotated[
        Literal["all", "class"],
        typer.Option(help="With --coverage: the coverage is that of all texts together, or of each class."),
    ] = "all",
    coverage_score: Annotated[
        Literal["lac", "aps"],
        typer.Option(help="With --coverage: lac makes the smallest sets; aps makes larger ones for harder texts."),
    ] = "lac",
    tolerance: Tolerance = None,
    masks: Masks = None,
    dropout: DropoutOrAuto = None,
    posterior: Posterior = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Calibrate a classifier on labeled texts, fit prediction sets, learn what is new to it, and save it.

    Use the saved folder as --model of every command, or load it in Python.
    """
    models = models_of(model, ensemble)
    if scope_held_out is not None and scope_dataset is None:
        fail("--scope-held-out needs --scope-dataset")
    if method == "none" and dataset is not None and coverage is None:
        fail("--method none takes --dataset only with --coverage: nothing else is fitted to labels")
    if method == "none" and scope_dataset is None and threshold is None and coverage is None:
        fail("--method none needs --scope-dataset, --coverage or --threshold")
    if coverage is None and (coverage_by, coverage_score) != ("all", "lac"):
        fail("--coverage-by and --coverage-score need --coverage")
    check_labeled(dataset, text_column, text_pair_column, label_column)
    for path in (scope_dataset, scope_held_out):
        check_unlabeled(path, text_column, text_pair_column)
    folder = folder_of_ours(output, force, [model, *(ensemble or ())] if model else ())
    quiet_libraries()
    from bayesian_text_classification.loading.classifiers import load_classifier
    from bayesian_text_classification.loading.labeled_texts import load_texts
    from bayesian_text_classification.loading.problem import labeled_texts_for
    from bayesian_text_classification.pipeline.calibrated import check_threshold
    from bayesian_text_classification.pipeline.calibration import SCORES, way_of
    from bayesian_text_classification.pipeline.options import Options, check_call_options
    from bayesian_text_classification.pipeline.prediction_sets import texts_needed
    from bayesian_text_classification.wording import first_line

    choose = dropout == "auto"
    asked: dict[str, Any] = {"num_samples": num_samples, "masks": masks, "seed": seed}
    asked |= {"dropout": None if choose else dropout, "posterior": posterior}
    options = {name: value for name, value in asked.items() if value is not None} | tolerance_of(tolerance)
    limit = threshold_of(threshold)
    try:
        check_call_options({} if coverage is None else {"coverage": coverage})
        with STDERR.status("loading"):
            if uncalibrated:
                options["threshold"] = None  # one that was chosen for other scores would be dropped with a warning
            classifier = load_classifier(models, device, dtype, allow_pickle=allow_pickle, **options)
            classifier = classifier.uncalibrated() if uncalibrated else classifier
            if limit is not None:
                check_threshold(limit, classifier.activation, classifier.model.config)
            source, max_texts = texts_or_default(dataset, max_texts)
            if novelty_level is not None and scope_dataset is None and classifier.scope is None:
                fail("--novelty-level needs --scope-dataset, or a model with a scope")
            columns = {"text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column}
            data = None
            if method != "none" or coverage is not None:
                where: dict[str, Any] = {"config": config, "split": split, "max_texts": max_texts}
                data = labeled_texts_for(classifier, source, **where, **columns)
            scope, held_out = (
                None if path is None else load_texts(path, text_column=text_column, text_pair_column=text_pair_column)
                for path in (scope_dataset, scope_held_out)
            )
        passes = max(classifier.sampling.num_samples, 1)
        if choose:
            sampled = classifier.sampling.num_samples or Options.num_samples  # as in `calibrate`
            passes = 1 + sampled * len(classifier.dropout_candidates())
        how = {"dropout": "auto"} if choose else {}
        for_sets = None
        if data is not None and coverage is not None:
            needed = 2 * texts_needed(coverage)
            if method != "none" and len(data.texts) < needed:
                raise ValueError(
                    f"--coverage {coverage:g} needs at least {needed:,} labeled texts, half of them to fit the sets, "
                    f"and there are {len(data.texts):,}; add texts, or use all of them for the sets with --method none"
                )
            for_sets, data = (data, None) if method == "none" else data.halves()
        if data is not None and method != "none":
            with passes_progress("calibrating", len(data.texts) * passes) as advance:
                classifier.calibrate(data.texts, data.labels, method=method, progress=advance, **how)
        if for_sets is not None and coverage is not None:
            passes = max(classifier.sampling.num_samples, 1)
            with passes_progress("fitting prediction sets", len(for_sets.texts) * passes) as advance:
                of_sets: dict[str, Any] = {"coverage": coverage, "by": coverage_by, "score": coverage_score}
                sets = classifier.conformalize(for_sets.texts, for_sets.labels, progress=advance, **of_sets)
            described = sets.describe(coverage)
        if limit is not None:
            classifier.threshold = limit
        if scope is not None:
            others = None if held_out is None else held_out.texts
            with passes_progress("learning the scope", len(scope.texts) + len(others or ())) as advance:
                learned = classifier.learn_scope(scope.texts, held_out=others, progress=advance)
        if novelty_level is not None:
            classifier.novelty_level = novelty_level
    except ValueError as error:  # ours: the model, the data or an option
        fail(first_line(error))
    except Exception as error:  # out of memory, or what a model's own code raises
        fail(f"calibration failed with {type(error).__name__}: {first_line(error)}")
    try:
        classifier.save_pretrained(folder)
    except ValueError as error:  # ours: what cannot be saved
        fail(first_line(error))
    except OSError as error:
        fail(f"cannot write to --output {folder}: {error.strerror or error}")
    way = way_of(classifier.sampling)
    if data is not None:
        STDOUT.print(f"{SCORES[way]}: {classifier.calibration[way]}", highlight=False, soft_wrap=True)
    if for_sets is not None:
        line = f"prediction sets with a coverage of {coverage:g}: {described}"
        STDOUT.print(line, highlight=False, soft_wrap=True, markup=False)
    if scope is not None:
        STDOUT.print(f"novelty: {learned}", highlight=False, soft_wrap=True, markup=False)
    STDOUT.print(output, highlight=False, soft_wrap=True, markup=False)
