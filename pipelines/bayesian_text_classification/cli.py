"""The command `bayesian-text-classification`.

Exit codes: 0 done, 2 bad usage or bad input (one line on stderr), 130 interrupted. Results go to stdout, everything
else to stderr.
"""

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from .data import LabelledTexts
    from .evaluation import Comparison
    from .pipeline import BayesianTextClassificationPipeline

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # a traceback with local variables would print the user's texts
)
_stdout = Console()
_stderr = Console(stderr=True)


@app.callback()
def _main() -> None:
    """Honest confidence for Hugging Face text classifiers."""


@app.command()
def evaluate(
    model: Annotated[str | None, typer.Option(help="Model folder or Hub id.", show_default="the embedded one")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="A csv, tsv, jsonl or parquet file, or a Hub id.", show_default="the embedded reviews"),
    ] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of a dataset on the Hub.")] = None,
    split: Annotated[str, typer.Option(help="Split of a dataset on the Hub.")] = "validation",
    text_column: Annotated[str | None, typer.Option(show_default="text, else sentence")] = None,
    label_column: Annotated[str | None, typer.Option(show_default="label, else labels")] = None,
    num_samples: Annotated[int, typer.Option(min=1, help="Forward passes with dropout for each text.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps.", show_default="the best")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16.", show_default="the model's own")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for report.json and the pictures.")] = Path("bayesian-report"),
) -> None:
    """Compare the frequentist model, BaaL's patched copy and the Bayesian ensemble on labelled texts.

    Without arguments: the embedded sentiment classifier on the embedded reviews, offline.
    """
    _quiet_libraries()
    from . import embedded_model
    from .data import DataError, embedded_reviews, load_labelled_texts
    from .evaluation import compare, total_rows
    from .report import write_report

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # before the work, not after it
        _fail(f"--output {output} cannot be a folder: {error.strerror or error}")
    with _stderr.status("loading"):
        classifier = _load_classifier(model or str(embedded_model()), device, dtype)
        try:
            data = load_labelled_texts(
                dataset or str(embedded_reviews()),
                classifier.model.config.id2label,
                config=config,
                split=split,
                text_column=text_column,
                label_column=label_column,
            )
        except DataError as error:
            _fail(str(error))
    with _progress() as progress:
        task = progress.add_task("sampling", total=total_rows(len(data.texts), num_samples))
        try:
            comparison = compare(
                classifier, data, num_samples=num_samples, seed=seed, progress=lambda n: progress.advance(task, n)
            )
        except (ValueError, RuntimeError) as error:  # no such problem, or out of memory
            _fail(_first_line(error))
    _print_comparison(comparison, data)
    settings = {
        "model": model or "embedded",
        "dataset": dataset or "embedded",
        "config": config,
        "split": split if dataset and not Path(dataset).exists() else None,
        "text_column": text_column,
        "label_column": label_column,
        "num_samples": num_samples,
        "seed": seed,
        "device": str(classifier.device),
        "dtype": str(classifier.run_dtype).removeprefix("torch."),
        "masks": "balanced",
    }
    try:
        paths = write_report(output, comparison, data, settings)
    except OSError as error:
        _fail(f"cannot write to {output}: {error.strerror or error}")
    _stdout.print("\n" + "\n".join(map(str, paths)), highlight=False, soft_wrap=True, markup=False)


def main() -> None:
    """Entry point: what typer and click raise for bad usage becomes one line too."""
    try:
        sys.exit(app(standalone_mode=False))  # the code of a `typer.Exit`, or None
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        if message():  # empty where the help was shown instead
            print(f"error: {message()}", file=sys.stderr)
        sys.exit(2)


def _print_comparison(comparison: "Comparison", data: "LabelledTexts") -> None:
    from .evaluation import error_rates
    from .figures import TITLES

    table = _table(f"{len(data.texts)} texts, {comparison.arms[-1].passes} samples")
    table.add_column("", no_wrap=True)
    for name in ("ECE", "accuracy", "NLL", "Brier", "dropout\ncalls", "seconds"):
        table.add_column(name, justify="right")
    for arm in comparison.arms:
        m = arm.measures
        numbers = [f"{value:.4f}" for value in (m.ece, m.accuracy, m.nll, m.brier)]
        table.add_row(TITLES[arm.name], *numbers, str(arm.dropout_calls), f"{arm.seconds:.1f}")
    _stdout.print(table)
    if data.kinds:
        first, last = comparison.arms[0], comparison.arms[-1]
        before = error_rates(first.probabilities, data.labels, data.kinds)
        after = error_rates(last.probabilities, data.labels, data.kinds)
        kinds = _table("errors by kind of text")
        kinds.add_column("")
        for arm in (first, last):
            kinds.add_column(TITLES[arm.name], justify="right")
        for kind in before:
            kinds.add_row(escape(kind), f"{before[kind]:.1%}", f"{after[kind]:.1%}")
        _stdout.print(kinds)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _load_classifier(model: str, device: str | None, dtype: str | None) -> "BayesianTextClassificationPipeline":
    from transformers import pipeline

    from . import TASK

    options: dict[str, Any] = {} if dtype is None else {"dtype": dtype}
    try:
        return pipeline(TASK, model=model, device=device, **options)  # type: ignore[no-any-return]
    except Exception as error:  # a wrong name, a folder that is no model, a device that is not there, no dropout
        _fail(f"cannot load {model!r}: {_first_line(error)}")


def _progress() -> Progress:
    """A bar on stderr: rows done of all rows and the time left; nothing where stderr is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_stderr,
        transient=True,
        disable=not _stderr.is_terminal,
    )


def _quiet_libraries() -> None:
    """Loading bars and advice of the libraries would bury the one line that a user needs."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"(?!bayesian_text_classification)")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(2)
