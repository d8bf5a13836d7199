"""The command `bayesian-text-classification`.

Exit codes: 0 done, 2 bad usage or bad input (one line on stderr), 3 done, but for rows that have an error, 130
interrupted, 141 nobody reads stdout any more, 143 terminated. Results go to stdout, everything else to stderr.
"""

import sys

import typer

from .cli_evaluate import evaluate
from .cli_predict import RayAlone, predict
from .cli_push import push_app
from .cli_rank import rank

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # a traceback with local variables would print the user's texts
)
app.command()(evaluate)
app.command(cls=RayAlone)(predict)
app.command()(rank)
app.add_typer(push_app, name="push")


@app.callback()
def _main() -> None:
    """Honest confidence for Hugging Face text classifiers."""


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
