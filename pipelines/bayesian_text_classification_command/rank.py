"""`bayesian-text-classification rank`: which unlabeled texts to label first."""

import os
from typing import Annotated, Any, Literal

import typer

from .columns import check_unlabeled
from .console import STDERR, STDOUT, fail, quiet_libraries
from .options import (
    AllowPickle,
    Device,
    Dropout,
    Dtype,
    Ensemble,
    Model,
    Posterior,
    Seed,
    TextColumn,
    TextPairColumn,
    file_or_id,
    models_of,
    not_empty,
)
from .progress import passes_progress


def rank(
    input: Annotated[
        str, typer.Option(help="Unlabeled texts: a csv, tsv, jsonl or parquet file.", callback=file_or_id)
    ],
    output: Annotated[str, typer.Option(help="Output file: csv, jsonl or parquet.", callback=not_empty)],
    model: Model = None,
    ensemble: Ensemble = None,
    allow_pickle: AllowPickle = False,
    heuristic: Annotated[
        Literal["bald", "entropy", "margin", "variance", "batch_bald", "novelty"],
        typer.Option(
            help="bald, entropy or variance (largest scores first), margin (smallest first), or batch_bald "
            "(picks a diverse batch first; the other texts follow in the order of bald, with score 0). novelty: texts "
            "unlike those that the model was made for first; it takes one ordinary pass, and a scope."
        ),
    ] = "bald",
    batch: Annotated[int, typer.Option(min=1, help="Number of texts in the batch of batch_bald.")] = 10,
    over_labels: Annotated[
        Literal["mean", "max"],
        typer.Option(
            help="For independent labels: the score of a text is the mean, or that of the label that comes first."
        ),
    ] = "mean",
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Forward passes with dropout per text.",
            show_default="20, or the number of models of an ensemble",
        ),
    ] = None,
    dropout: Dropout = None,
    posterior: Posterior = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Rank unlabeled texts by how much their labels would teach the model.

    Writes the rows of the input in that order, with the new columns rank (from 1) and score in front.
    """
    models = models_of(model, ensemble)
    check_unlabeled(input, text_column, text_pair_column)
    quiet_libraries()
    import numpy as np
    from bayesian_text_classification.evaluation.run.nan import refuse_nan
    from bayesian_text_classification.files.columns import check_can_write, write_columns
    from bayesian_text_classification.loading.classifiers import ModelError, load_classifier
    from bayesian_text_classification.loading.labeled_texts import load_texts
    from bayesian_text_classification.loading.labels import DataError
    from bayesian_text_classification.loading.problem import check_probabilities
    from bayesian_text_classification.pipeline.errors import BayesianTextClassificationError
    from bayesian_text_classification.selection.heuristics import rank as rank_texts
    from bayesian_text_classification.wording import first_line

    with STDERR.status("loading"):
        try:
            asked = {"dropout": dropout, "posterior": posterior}
            options = {name: value for name, value in asked.items() if value is not None}
            classifier = load_classifier(models, device, dtype, allow_pickle=allow_pickle, **options)
            activation = check_probabilities(classifier)
            if activation == "sigmoid" and heuristic == "batch_bald":
                fail("--heuristic batch_bald needs a model that chooses one label; use --heuristic bald")
            data = load_texts(input, text_column=text_column, text_pair_column=text_pair_column)
            for name in ("rank", "score"):
                if name in data.columns:
                    raise DataError(f"{input} already has a column {name!r}; rename it")
            if os.path.exists(output) and os.path.exists(input) and os.path.samefile(input, output):
                raise DataError(f"{output} is the input file; choose another output file")
            check_can_write(output)
        except (ModelError, DataError, ValueError) as error:
            fail(first_line(error))
    if heuristic == "novelty" and classifier.scope is None:
        fail("--heuristic novelty needs a scope; learn it with calibrate --scope-dataset")
    several = classifier.sampling.posterior != "dropout"
    passes = (
        1
        if heuristic == "novelty"
        else num_samples or (max(classifier.sampling.num_samples, len(classifier.members)) if several else 20)
    )
    with passes_progress("sampling", len(data.texts) * passes) as advance:
        try:
            if heuristic == "novelty":
                scores = refuse_nan(classifier.novelty(data.texts, progress=advance))
                order = np.argsort(-scores, kind="stable")
            else:
                samples = classifier.sample_proba(data.texts, progress=advance, num_samples=passes, seed=seed)
                refuse_nan(samples.mean(2))
                pooled = over_labels if activation == "sigmoid" else None
                order, scores = rank_texts(samples, heuristic, batch=batch, seed=seed, over_labels=pooled)
        except ValueError as error:  # our own: what is wrong with model or data
            fail(first_line(error))
        except Exception as error:  # out of memory, or what a model's own code raises
            fail(f"sampling failed with {type(error).__name__}: {first_line(error)}")
    columns = {name: [values[i] for i in order] for name, values in data.columns.items()}
    first: dict[str, list[Any]] = {"rank": list(range(1, len(order) + 1)), "score": [float(scores[i]) for i in order]}
    try:
        write_columns(output, {**first, **columns})
    except BayesianTextClassificationError as error:  # its message names the file
        fail(first_line(error))
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror or first_line(error)}")
    STDOUT.print(output, highlight=False, soft_wrap=True, markup=False)
