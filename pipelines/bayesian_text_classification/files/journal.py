"""Write a file in blocks, atomically. After its writer was killed, a new run resumes at the last checkpoint.

Until the file is complete, `NAME.partial` (its blocks) and `NAME.progress` are next to it. A checkpoint first flushes
the blocks to disk, and then records their number in `NAME.progress` in one step. So the recorded blocks always exist.
"""

import json
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ..pipeline.errors import BayesianTextClassificationError
from ..wording import first_line
from .disk import new_file, replace_file
from .writers import MADE

_NEW = ".new"  # suffix of the progress file until it is complete
INTERVAL = 2.0  # minimum seconds between two checkpoints


class Blocks(Protocol):
    """The destination of blocks.

    Attributes:
        rows: Number of rows in the blocks so far.
        errors: Number of these rows with an error, by kind of error.
        state: State of the writer at the last block, which a resumed run gets back.
    """

    rows: int
    errors: Counter[str]
    state: dict[str, Any]

    def append(self, block: bytes, rows: int, errors: Counter[str], state: Mapping[str, Any]) -> None:
        """Add a block. Raises OSError if the disk is full."""

    def finish(self, move: Callable[[Path, Path], None]) -> None:
        """Complete the output."""

    def close(self) -> None:
        """Stop writing."""


class StreamOutput:
    """Writes blocks to a stream as they arrive. Attributes and methods are those of `Blocks`."""

    def __init__(self, stream: BinaryIO, header: bytes) -> None:
        self._stream = stream
        self.rows, self.errors, self.state = 0, Counter[str](), dict[str, Any]()
        stream.write(header)

    def append(self, block: bytes, rows: int, errors: Counter[str], state: Mapping[str, Any]) -> None:
        """Write and flush a block: the reader of the stream may be waiting for it."""
        self._stream.write(block)
        self._stream.flush()
        self.rows += rows
        self.errors += errors
        self.state = dict(state)

    def finish(self, move: Callable[[Path, Path], None]) -> None:
        """Do nothing: all blocks are written."""

    def close(self) -> None:
        """Do nothing: the owner closes the stream."""


class JournalError(BayesianTextClassificationError):
    """The file cannot be started or resumed. The message is one line for the user."""


class Journal:
    """Writes a file in blocks. Attributes are those of `Blocks`."""

    def __init__(self, target: Path, settings: Mapping[str, Any], header: bytes, *, resume: bool) -> None:
        """Start the file, or resume an earlier run.

        Args:
            target: Path of the file.
            settings: Everything that its bytes depend on, under names that users know.
            header: Bytes before the first block.
            resume: Whether to continue an earlier run if there is one.

        Raises:
            JournalError: The target exists but is not a regular file; an earlier run left files and `resume` is
                False; that run had different settings; another run is writing; or the folder is not writable.
        """
        self._target, self._settings = Path(os.path.realpath(target)), dict(settings)  # links are followed
        self._partial, self._progress, *_ = working_files(target)
        self.rows, self.errors, self.state = 0, Counter[str](), dict[str, Any]()
        if os.path.exists(self._target) and not os.path.isfile(self._target):
            raise JournalError(f"{target} exists but is not a regular file; choose another output file")
        try:
            # Take the lock before reading or truncating anything: another run may have just started.
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
            with suppress(OSError):  # on a full disk, it flushes and raises again, but closes the file
                self._file.close()  # releases the lock even if the caller keeps the exception
            if isinstance(error, OSError):
                raise JournalError(f"{target} cannot be written: {error.strerror or error}") from error
            raise

    def append(self, block: bytes, rows: int, errors: Counter[str], state: Mapping[str, Any]) -> None:
        """Add a block. Raises OSError if the disk is full."""
        self._file.write(block)
        self.rows += rows
        self.errors += errors
        self.state = dict(state)
        if time.monotonic() - self._written >= INTERVAL:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Record the point from which a later run can resume."""
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
        replace_file(staged, self._progress)
        self._written = time.monotonic()

    def finish(self, move: Callable[[Path, Path], None]) -> None:
        """Move the complete file to its final name.

        Args:
            move: Turns the file at the first path into the file at the second, atomically.
        """
        self.checkpoint()
        if not self._is_ours():
            raise JournalError(f"{self._partial} was replaced by another run, which continues; this one is lost")
        move(self._partial, self._target)
        self._progress.unlink(missing_ok=True)
        self._file.close()

    def close(self) -> None:
        """Leave the file to a later run, which repeats the work after the last checkpoint."""
        self._file.close()

    def _left(self, header: bytes, *, resume: bool) -> dict[str, Any] | None:
        """The record of an earlier run, or None if there was none."""
        if not self._progress.exists():
            beginning = self._file.read(len(header) + 1)
            if header.startswith(beginning):  # killed before the first checkpoint
                return None
            raise JournalError(f"{self._partial} exists but is not from a resumable run; move it away")
        if self._partial.stat().st_size == 0:  # just created: only the progress file of that run is left
            return None
        if not resume:
            raise JournalError(
                f"{self._partial} is left from an earlier run; resume=True continues it, or remove it to start over"
            )
        return self._known()

    def _known(self) -> dict[str, Any]:
        try:
            known = json.loads(self._progress.read_text(encoding="utf-8"))
            settings, length = known["settings"], known["bytes"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JournalError(
                f"{self._progress} cannot be read: {first_line(error)}; remove {self._partial} to start over"
            ) from error
        for name in {**settings, **self._settings}:
            then, now = settings.get(name), self._settings.get(name)
            if then != now:
                raise JournalError(
                    f"{self._partial} was started with a different {name} ({then}, now {now}); use the original "
                    "settings, or remove that file to start over"
                )
        if self._partial.stat().st_size < length:
            raise JournalError(f"{self._partial} is shorter than at its last checkpoint; remove it to start over")
        assert isinstance(known, dict)
        return known

    def _lock(self) -> None:
        """Lock the file, or raise `JournalError` if another run has. The lock is released when the process ends."""
        if os.name == "posix":
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise JournalError(f"another run is writing {self._partial}; wait until it ends") from error
            if not self._is_ours():  # finished or removed between opening and locking
                raise JournalError(f"another run is writing {self._partial}; wait until it ends")

    def _is_ours(self) -> bool:
        """Whether the path still refers to the file that was opened."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._partial.stat())
        except FileNotFoundError:
            return False


def working_files(target: Path) -> tuple[Path, ...]:
    """The paths of the blocks and the progress record, then of the two files that replace them once complete."""
    real = Path(os.path.realpath(target))
    return tuple(
        real.with_name(real.name + ending)
        for ending in (".partial", ".progress", f".partial{MADE}", f".progress{_NEW}")
    )
