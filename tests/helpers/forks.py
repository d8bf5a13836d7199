"""Run programs in separate processes, forked from one that has imported the libraries and done nothing else."""

import importlib
import multiprocessing
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple

_LONGEST = 600  # seconds
_forks = multiprocessing.get_context("forkserver")  # one server process, which starts with the first program
# Not preloaded: modules that print, because they inspect the terminal on import, and `datasets`, which reads the
# environment on import.
_forks.set_forkserver_preload(["bayesian_text_classification.hub", "bayesian_text_classification.loading"])


class Done(NamedTuple):
    """A result with the attributes of that of `subprocess.run`."""

    returncode: int
    stdout: str
    stderr: str


def run(code, *arguments, **variables):
    """Run a Python program whose environment is only `variables`.

    Of the preloaded libraries, huggingface_hub reads the environment again. PyTorch's number of threads stays.
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
    """Run `bayesian-text-classification` in the same way, but silently. `before` is code that runs first."""
    code = "from bayesian_text_classification_command import main, progress; progress.FIRST = float('inf'); main()"
    return run(before + code, *arguments, **variables)


def _program(code, arguments, variables, paths):
    os.environ.clear()
    os.environ.update(variables)
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    from huggingface_hub import constants

    importlib.reload(constants)  # reads the environment again
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
