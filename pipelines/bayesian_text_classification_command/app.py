"""The command `bayesian-text-classification`.

Exit codes: 0 done, 2 bad usage or bad input (one line on stderr), 3 done with some rows in error, 130 interrupted, 141
stdout was closed by its reader, 143 terminated. Results go to stdout, everything else to stderr.
"""

import importlib.metadata
import inspect
import sys

import typer

from .calibrate import calibrate
from .console import Refusal, show_warnings_in_one_line, with_flags
from .distill import distill
from .evaluate import evaluate
from .export import export
from .predict import RayAlone, predict
from .push import push_app
from .rank import rank

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # a traceback with local variables would print the user's texts
)
app.command()(evaluate)
app.command()(calibrate)
app.command()(distill)
app.command(cls=RayAlone)(predict)
app.command()(rank)
app.command()(export)
app.add_typer(push_app, name="push")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"bayesian-text-classification {importlib.metadata.version('bayesian-text-classification')}")
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Show the version."),
) -> None:
    """Honest confidence for Hugging Face text classifiers."""


def run() -> None:
    """Run the command. Refusals, ours or typer's, and warnings are printed as one line."""
    show_warnings_in_one_line(_arguments())
    try:
        sys.exit(app(standalone_mode=False))  # the code of a `typer.Exit`, or None
    except Refusal as refusal:
        message = with_flags(str(refusal), _arguments())
    except Exception as error:
        described = getattr(error, "format_message", None)
        if described is None:
            raise
        message = described()
        if "unexpected extra argument" in message:
            message += "; quote a value with spaces, and repeat an option for each value (--ensemble A --ensemble B)"
    if message:  # empty if the help was shown
        print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _arguments() -> set[str]:
    """Argument names of all commands."""
    commands = [*app.registered_commands, *push_app.registered_commands]
    return {name for one in commands if one.callback for name in inspect.signature(one.callback).parameters}
