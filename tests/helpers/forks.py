"""Programs in processes of their own that need not import the libraries again: forks of one that did nothing else."""

import importlib
import multiprocessing
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple

_LONGEST = 600  # seconds
_forks = multiprocessing.get_context("forkserver")  # one process for all, which starts with the first program
# What prints is not among them, as it looks at its terminal while it is imported, nor what else reads the environment
# then: `datasets`.
_forks.set_forkserver_preload(["bayesian_text_classification.hub", "bayesian_text_classification.loading"])


class Done(NamedTuple):
    """What `subprocess.run` calls so."""

    returncode: int
    stdout: str
    stderr: str


def run(code, *arguments, **variables):
    """What came of a Python program, whose environment is `variables` and nothing else.

    Of the libraries that are there already, huggingface_hub reads it again; the number of PyTorch's threads stays.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "out", Path(folder) / "err"]
        process = _forks.Process(target=_program, args=(code, list(map(str, arguments)), variables, paths))
        process.start()
        process.join(_LONGEST)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"after {_LONGEST} s it was still running: {code} {arguments}")
        out, err = (path.read_text(encoding="utf-8") if path.exists() else "" for path in paths)
    return Done(process.exitcode, out, err)


def command(*arguments, before="", **variables):
    """The same of `bayesian-text-classification`; `before` is code that is run first."""
    return run(f"{before}from bayesian_text_classification_command import main; main()", *arguments, **variables)


def _program(code, arguments, variables, paths):
    os.environ.clear()
    os.environ.update(variables)
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    from huggingface_hub import constants

    importlib.reload(constants)  # it reads the environment
    sys.argv = ["-c", *arguments]
    try:
        exec(compile(code, "-c", "exec"), {"__name__": "__main__"})
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.exit(1)
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
