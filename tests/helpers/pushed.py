"""Publish to the test Hub with the command."""

import os

import forks
from hub_server import READER, WRITER, Hub


def push(hub, home, *arguments, token=WRITER, before="", **variables):
    """Run `bayesian-text-classification push` in a separate process. Returns exit code, stdout and stderr.

    `before` is code that runs first. `variables` are added to its environment.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", **hub.environment(home, token), **variables}
    code, out, err = forks.command("push", *arguments, before=before, **environment)
    for secret in (WRITER, READER):
        assert secret not in out + err
    return code, out, err


def copy_of_space(kind, folder, name_there):
    """Push with `push metric` or `push space`, and copy the files from the Hub to a new folder."""
    with Hub() as hub:
        code, _, err = push(hub, folder.parent / "home", kind, name_there)
        assert code == 0, err
        for name, content in hub.repositories["space", name_there].files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return folder
