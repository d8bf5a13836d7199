"""Publish to the test Hub with the command."""

import contextlib
import importlib
import logging
import os
from unittest import mock

from commands import asked
from hub_server import READER, WRITER, Hub
from huggingface_hub import HfApi, close_session, constants


@contextlib.contextmanager
def environment_of(hub, home, token=WRITER, **variables):
    """This process uses the Hub, as one that starts in its environment with these `variables`."""
    others = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    # Clients that were made earlier, as peft's and that of Transformers, ask this Hub too.
    endpoint = property(lambda client: hub.endpoint, lambda client, value: None)
    with (
        mock.patch.dict(os.environ, {**others, **hub.environment(home, token), **variables}, clear=True),
        mock.patch.object(HfApi, "endpoint", endpoint, create=True),
    ):
        importlib.reload(constants)  # reads the environment again
        close_session()
        try:
            yield
        finally:
            close_session()
    importlib.reload(constants)


def push(hub, home, *arguments, token=WRITER, **variables):
    """Run `bayesian-text-classification push`. Returns exit code, stdout and stderr.

    `variables` are added to its environment.
    """
    with environment_of(hub, home, token, **variables):
        code, out, err = asked("push", *arguments)
    logging.disable(logging.NOTSET)  # the command silences libraries
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
