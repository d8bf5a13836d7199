"""Interpreters that can import only some of the installed packages and their dependencies."""

import json
import os
import subprocess
import sysconfig
import tempfile
import venv
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# The environment of a command that is started by its name.
WITH_COMMAND = {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"}


def only(folder, *packages):
    """The Python of a new virtual environment that links to these installed packages and their dependencies."""
    venv.create(folder, with_pip=False)
    site = Path(next(Path(folder).glob("lib/python*/site-packages")))
    for distribution in _needed(packages).values():
        for name in {path.parts[0] for path in distribution.files or () if path.parts[0] not in ("..", "__pycache__")}:
            target = Path(distribution.locate_file(name))
            if target.exists() and not (site / name).exists():
                (site / name).symlink_to(target)
    return Path(folder) / "bin" / "python"


_FORKS = """
import importlib, json, os, sys, traceback
import torch
from huggingface_hub import constants
from transformers import dynamic_module_utils, pipeline  # the slow imports, once
for line in sys.stdin:
    code, arguments, variables, paths = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, path in enumerate(paths, start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        os.environ.update(variables)
        importlib.reload(constants)  # reads the environment again
        dynamic_module_utils.HF_MODULES_CACHE = os.path.join(constants.HF_HOME, "modules")
        sys.argv = ["-c", *arguments]
        failed = 0
        try:
            exec(compile(code, "-c", "exec"), {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc()
            failed = 1
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(failed)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Bare:
    """An interpreter with only torch and transformers. Each program runs in a fork that has imported these."""

    def __init__(self, folder):
        python = only(folder / "environment", "torch", "transformers")
        self._process = subprocess.Popen(
            [str(python), "-c", _FORKS],
            env=_environment(HF_HOME=str(folder / "home")),
            cwd=folder / "environment",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, code, *arguments, **variables):
        """Like `run`."""
        with tempfile.TemporaryDirectory() as folder:
            variables = {"HF_HOME": f"{folder}/home", **variables}
            paths = [f"{folder}/out", f"{folder}/err"]
            print(json.dumps([code, list(map(str, arguments)), variables, paths]), file=self._process.stdin, flush=True)
            failed = self._process.stdout.readline()
            out, err = (Path(path).read_text(encoding="utf-8") for path in paths)
        assert failed == "0\n", out + err
        return out

    def close(self):
        self._process.communicate()


def _environment(**variables):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHON", "TRANSFORMERS_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", **variables}


def run(python, code, *arguments, **variables):
    """Run `code` in that interpreter, which finds none of our packages and no network. Returns what it prints."""
    done = subprocess.run(
        [str(python), "-c", code, *map(str, arguments)],
        env=_environment(**variables),
        cwd=Path(python).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _needed(packages):
    found, open_ = {}, [Requirement(package) for package in packages]
    while open_:
        wanted = open_.pop()
        name = canonicalize_name(wanted.name)
        if name in found:
            _check(wanted, found[name])
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # only needed on another platform
            continue
        _check(wanted, found[name])
        for line in found[name].requires or ():
            requirement = Requirement(line)
            extras = [{"extra": extra} for extra in wanted.extras] or [{"extra": ""}]
            if requirement.marker is None or any(requirement.marker.evaluate(extra) for extra in extras):
                open_.append(requirement)
    return found


def _check(wanted, distribution):
    """Assert that an installer could choose the linked version."""
    version = distribution.version.partition("+")[0]  # removes suffixes such as torch's +cpu
    assert wanted.specifier.contains(version, prereleases=True), f"{wanted} is required, {version} is installed"
