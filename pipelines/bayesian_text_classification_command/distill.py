"""`bayesian-text-classification distill`: a student whose single ordinary pass gives the scores of many passes."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import typer

from .columns import check_unlabeled
from .console import STDERR, STDOUT, fail, quiet_libraries
from .interrupts import say_later
from .options import (
    OR_SAVED,
    AllowPickle,
    Config,
    Device,
    Dropout,
    Dtype,
    Ensemble,
    Masks,
    Model,
    Posterior,
    Seed,
    Split,
    TextColumn,
    TextPairColumn,
    file_or_id,
    models_of,
    new_folder,
    not_empty,
)
from .progress import duration, passes_progress


def distill(
    input: Annotated[
        str,
        typer.Option(
            help="Texts like those that the student will classify, without labels: a csv, tsv, jsonl or parquet file, "
            "or a dataset on the Hub. 5,000 or more are best; do not measure on them later.",
            callback=file_or_id,
        ),
    ],
    output: Annotated[str, typer.Option(help="Folder for the student; new or empty.", callback=not_empty)],
    model: Model = None,
    ensemble: Ensemble = None,
    allow_pickle: AllowPickle = False,
    how: Annotated[
        Literal["weights", "lora", "head"],
        typer.Option(
            help="What is trained: weights (all of them; best), lora (an adapter, merged afterwards: less memory), or "
            "head (the last linear layer alone: done in seconds after sampling; for models with few classes)."
        ),
    ] = "weights",
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Times that training sees every text. The best epoch is kept.", show_default="3"),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="Learning rate.", show_default="3e-5, or 5e-4 for lora")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Texts of a training step.", show_default="32")] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Train in mixed precision (bfloat16).")] = False,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="Folder for the teacher's scores and a checkpoint of each epoch. If the command is stopped, the same "
            "command continues from there.",
            callback=not_empty,
        ),
    ] = None,
    config: Config = None,
    split: Split = None,
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
    num_samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Forward passes of the teacher per text.",
            show_default=f"20, the number of models of an ensemble, {OR_SAVED}",
        ),
    ] = None,
    masks: Masks = None,
    dropout: Dropout = None,
    posterior: Posterior = None,
    seed: Seed = 0,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Make a student: an ordinary model whose single pass gives the scores that sampling or an ensemble gives.

    Any server runs it: the output is a checkpoint for `text-classification`. Compare it before you use it: evaluate
    --student.
    """
    if how == "head" and bf16:
        fail("--bf16 is for --how weights and --how lora; leave it out, because a new head takes no training steps")
    models = models_of(model, ensemble)
    check_unlabeled(input, text_column, text_pair_column)
    folder = new_folder(output)
    quiet_libraries()
    from bayesian_text_classification.loading.classifiers import load_classifier
    from bayesian_text_classification.loading.labeled_texts import load_texts
    from bayesian_text_classification.wording import first_line

    asked: dict[str, Any] = {"num_samples": num_samples, "masks": masks, "seed": seed}
    asked |= {"dropout": dropout, "posterior": posterior}
    options = {name: value for name, value in asked.items() if value is not None}
    options |= {"how": how, "epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size}
    options |= {"checkpoints": checkpoints, "training": {"bf16": True} if bf16 else None}
    try:
        with STDERR.status("loading"):
            classifier = load_classifier(models, device, dtype, allow_pickle=allow_pickle)
            where: dict[str, Any] = {"config": config, "split": split}
            texts = load_texts(input, text_column=text_column, text_pair_column=text_pair_column, **where).texts
        if checkpoints is not None:
            say_later(f"; the same command continues from {checkpoints}")
        student = _made(classifier, texts, options)
    except (ValueError, ImportError) as error:  # ours: the model, the texts, an option, or a package that is missing
        fail(first_line(error))
    except Exception as error:  # out of memory, or what a model's own code raises
        fail(f"distilling failed with {type(error).__name__}: {first_line(error)}")
    try:
        student.save_pretrained(folder)
    except OSError as error:
        fail(f"cannot write to --output {folder}: {error.strerror or error}")
    STDOUT.print(str(student.distillation), highlight=False, soft_wrap=True, markup=False)
    STDOUT.print(output, highlight=False, soft_wrap=True, markup=False)


def _made(classifier: Any, texts: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """The student. Says beforehand how long it takes. Warnings of the two calls name the caller of this function."""
    from bayesian_text_classification.distillation.distill import planned, student_of

    plan = planned(classifier, texts, **options)
    with STDERR.status("estimating the time"):
        seconds = plan.seconds()
    parts, chosen = plan.parts, "the penalty" if plan.how == "head" else "the best epoch"
    print(
        f"{len(parts.all):,} distinct texts: {len(parts.training):,} train, {len(parts.choosing):,} choose {chosen}, "
        f"{len(parts.measuring):,} measure. This takes {duration(seconds)}.",
        file=sys.stderr,
    )
    with passes_progress("distilling", plan.passes) as advance:
        return student_of(plan, advance)
