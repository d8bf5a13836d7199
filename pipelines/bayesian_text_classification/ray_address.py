"""From an address to a Ray cluster that this process is connected to."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from .messages import first_line

RUNNING = "auto"  # what Ray calls the cluster that this machine belongs to

_PATIENCE = 5.0  # seconds for a connection; Ray itself tries for minutes
_CLIENT = "ray://"


def connect(address: str) -> None:
    """Connect to a cluster; its progress bars and logs stay silent.

    Args:
        address: `host:port`, `ray://host:port`, "local" for a cluster that is started here, or `RUNNING`, which the
            variable RAY_ADDRESS may name.

    Raises:
        ValueError: there is no Ray, or no cluster at that address; the message is one line for the user.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its threads would write into the progress bar
    try:
        import ray
    except ImportError as error:
        raise ValueError("this needs Ray: pip install 'bayesian-text-classification[ray]'") from error
    if address == RUNNING:
        address = os.environ.get("RAY_ADDRESS") or RUNNING
    _check(address)
    try:
        with _silent_stderr():
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # its own, of its connection, or of the address
        if address == RUNNING and isinstance(error, ConnectionError):
            raise ValueError("no Ray cluster is running here; give its address, or 'local' to start one here") from error
        raise ValueError(f"no Ray cluster at {address!r}: {first_line(error)}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what a worker raises is raised here too


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Nothing is written to the process' stderr, not even by code below Python; errors of Ray are raised."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check(address: str) -> None:
    """ValueError where nothing listens at a host and port."""
    host, colon, port = address.removeprefix(_CLIENT).rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"no Ray cluster at {address!r}: nothing answers there ({reason})") from error
