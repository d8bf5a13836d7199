"""A file that grows in blocks, appears whole or not at all, and goes on where it stopped when its writer was killed.

Until the file is whole, `NAME.partial` with its blocks and `NAME.progress` lie beside it. A checkpoint first brings the
blocks to the disk and then, in one step, says in `NAME.progress` how many there are: whatever happens, those are there.
"""

import json
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ..pipeline.errors import BayesianTextClassificationError
from ..wording import first_line
from .disk import new_file, publish
from .writers import MADE

_NEW = ".new"  # behind the name of the progress, until it is whole
INTERVAL = 2.0  # seconds between two checkpoints, at least


class Blocks(Protocol):
    """Where blocks go.

    Attributes:
        rows: in the blocks so far.
        errors: of these rows, by kind.
        state: what the writer wants to find again, as it was at the last block.
    """

    rows: int
    errors: Counter[str]
    state: dict[str, Any]

    def append(self, block: bytes, rows: int, errors: Counter[str], state: Mapping[str, Any]) -> None:
        """Add a block; OSError where there is no room for it."""

    def finish(self, move: Callable[[Path, Path], None]) -> None:
        """It is whole."""

    def close(self) -> None:
        """No block follows."""


class StreamOutput:
    """Blocks that go to a stream as they come. Attributes and methods are those of `Blocks`."""

    def __init__(self, stream: BinaryIO, header: bytes) -> None:
        self._stream = stream
        self.rows, self.errors, self.state = 0, Counter[str](), dict[str, Any]()
        stream.write(header)

    def append(self, block: bytes, rows: int, errors: Counter[str], state: Mapping[str, Any]) -> None:
        """Write a block, at once: who reads the stream may wait for it."""
        self._stream.write(block)
        self._stream.flush()
        self.rows += rows
        self.errors += errors

    def finish(self, move: Callable[[Path, Path], None]) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """The stream is its owner's."""


class JournalError(BayesianTextClassificationError):
    """The file cannot be begun or gone on with; the message is one line for the user."""


class Journal:
    """Writes a file of blocks. Attributes are those of `Blocks`."""

    def __init__(self, target: Path, settings: Mapping[str, Any], header: bytes, *, resume: bool) -> None:
        """Begin the file, or go on with what is left of an earlier run.

        Args:
            target: the file.
            settings: on which its bytes depend, by names that a user knows.
            header: before the first block.
            resume: go on where there is something to go on with.

        Raises:
            JournalError: the target is there and is no file; something is left of an earlier run, and `resume` is not
                asked for; it had other settings; another run is writing; the folder cannot be written to.
        """
        self._target, self._settings = Path(os.path.realpath(target)), dict(settings)  # what a link stands for
        self._partial, self._progress, *_ = working_files(target)
        self.rows, self.errors, self.state = 0, Counter[str](), dict[str, Any]()
        if os.path.exists(self._target) and not os.path.isfile(self._target):
            raise JournalError(f"{target} is there and is no file")
        try:
            # Nothing is looked at or cut off before the lock is ours: another run may just have begun.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            self._file = os.fdopen(os.open(self._partial, flags, 0o666), "r+b")
        except OSError as error:
            raise JournalError(f"{target} cannot be written: {error.strerror or error}") from error
        try:
            self._lock()
            known = self._left(header, resume=resume)
            self._file.truncate(0 if known is None else known["bytes"])
            self._file.seek(0, os.SEEK_END)
            if known is None:
                self._file.write(header)
            else:
                self.rows, self.errors, self.state = known["rows"], Counter(known["errors"]), known["state"]
            if self._target.exists():
                self._partial.chmod(stat.S_IMODE(self._target.stat().st_mode))
            self.checkpoint()
        except BaseException as error:
            self._file.close()  # which lets go of the lock, whoever keeps the exception
            if isinstance(error, OSError):
                raise JournalError(f"{target} cannot be written: {error.strerror or error}") from error
            raise

    def append(self, block: bytes, rows: int, errors: Counter[str], state: Mapping[str, Any]) -> None:
        """Add a block; OSError where there is no room for it."""
        self._file.write(block)
        self.rows += rows
        self.errors += errors
        self.state = dict(state)
        if time.monotonic() - self._written >= INTERVAL:
            self.checkpoint()

    def checkpoint(self) -> None:
        """From here a later run goes on."""
        self._file.flush()
        os.fsync(self._file.fileno())
        known = {
            "rows": self.rows,
            "bytes": self._file.tell(),
            "errors": dict(self.errors),
            "state": self.state,
            "settings": self._settings,
        }
        staged = self._progress.with_name(self._progress.name + _NEW)
        with new_file(staged, like=self._partial) as file:
            file.write(json.dumps(known, indent=1).encode())
        publish(staged, self._progress)
        self._written = time.monotonic()

    def finish(self, move: Callable[[Path, Path], None]) -> None:
        """The file appears under its name.

        Args:
            move: makes the second path, at once, of the file that is the first.
        """
        self.checkpoint()
        if not self._is_ours():
            raise JournalError(f"{self._partial} was replaced by another run, which goes on; this one is lost")
        move(self._partial, self._target)
        self._progress.unlink(missing_ok=True)
        self._file.close()

    def close(self) -> None:
        """Leave the file to a later run; what is behind the last checkpoint is done again then."""
        self._file.close()

    def _left(self, header: bytes, *, resume: bool) -> dict[str, Any] | None:
        """What is known of an earlier run; None where there was none."""
        if not self._progress.exists():
            beginning = self._file.read(len(header) + 1)
            if header.startswith(beginning):  # it had not come further
                return None
            raise JournalError(f"{self._partial} is there and no run's that can be gone on with; move it away")
        if self._partial.stat().st_size == 0:  # just made: nothing of that run is left but its progress
            return None
        if not resume:
            raise JournalError(
                f"{self._partial} is left of an earlier run; resume=True goes on with it, or remove it to start anew"
            )
        return self._known()

    def _known(self) -> dict[str, Any]:
        try:
            known = json.loads(self._progress.read_text(encoding="utf-8"))
            settings, length = known["settings"], known["bytes"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JournalError(
                f"{self._progress} cannot be read: {first_line(error)}; remove it to start anew"
            ) from error
        for name in {**settings, **self._settings}:
            then, now = settings.get(name), self._settings.get(name)
            if then != now:
                raise JournalError(
                    f"{self._partial} was begun with another {name} ({then}, now {now}); run it as it was begun, or "
                    "remove that file to start anew"
                )
        if self._partial.stat().st_size < length:
            raise JournalError(f"{self._partial} is shorter than it was; remove it to start anew")
        assert isinstance(known, dict)
        return known

    def _lock(self) -> None:
        """JournalError where another run holds the file; the system lets go of it when a process ends, however."""
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise JournalError(f"another run is writing {self._partial}") from error
            if not self._is_ours():  # it was finished, or removed, between opening and locking
                raise JournalError(f"another run is writing {self._partial}")

    def _is_ours(self) -> bool:
        """Whether the file of that name is still the one that was opened."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._partial.stat())
        except FileNotFoundError:
            return False


def working_files(target: Path) -> tuple[Path, ...]:
    """Where a file that is written has its blocks, and how far it is; then, where these are made anew for a moment."""
    real = Path(os.path.realpath(target))
    return tuple(
        real.with_name(real.name + ending)
        for ending in (".partial", ".progress", f".partial{MADE}", f".progress{_NEW}")
    )
