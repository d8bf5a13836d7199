"""Run the command in the test process, which is faster than importing the libraries in a new one."""

import contextlib
import io
import math
import sys
from typing import NamedTuple
from unittest import mock

from bayesian_text_classification_command import progress
from bayesian_text_classification_command.app import run

FIRST_LINE = math.inf  # seconds until a command says how far it is, which depends on the machine


class Done(NamedTuple):
    """The result of a command."""

    exit_code: int
    stdout: str
    stderr: str


def asked(*arguments):
    """Run `bayesian-text-classification` with these arguments."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    arguments = ["bayesian-text-classification", *map(str, arguments)]
    quiet = mock.patch.object(progress, "FIRST", FIRST_LINE)
    argv = mock.patch.object(sys, "argv", arguments)
    with quiet, argv, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            run()
        except SystemExit as ended:
            code = ended.code or 0
    return Done(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def refused(done):
    """The single error line of a refused run."""
    assert done.exit_code == 2 and done.stdout == "", done
    (line,) = done.stderr.splitlines()
    return line.removeprefix("error: ")
