"""Write files atomically, and flush them to disk in a fixed order."""

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def staged_beside(target: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """Yield an empty file to write to, and the path that it replaces once it is complete (`replace_file`).

    If `target` is a link, the path is the file that it points to. The empty file has the mode of the existing target,
    or 0666 minus the umask if there is none. It is removed at the end of the block unless it was moved.
    """
    real = Path(os.path.realpath(target))
    staged = real.with_name(f"{real.name}.{uuid.uuid4().hex[:8]}.new")
    try:
        with staged.open("xb"):
            pass
        if real.exists():
            staged.chmod(stat.S_IMODE(real.stat().st_mode))
        yield staged, real
    finally:
        staged.unlink(missing_ok=True)


def replace_file(staged: Path, target: Path) -> None:
    """Replace `target` with the staged file in one step, after its bytes have reached the disk."""
    sync(staged)
    staged.replace(target)
    sync(target.parent)


def write_whole(target: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a small file atomically. Text is encoded as UTF-8."""
    with staged_beside(target) as (staged, real):
        staged.write_bytes(content.encode() if isinstance(content, str) else content)
        replace_file(staged, real)


def new_file(path: Path, like: Path) -> BinaryIO:
    """Open a new file with the mode of `like`. An existing link at `path` is removed, not followed."""
    path.unlink(missing_ok=True)
    file = path.open("xb")
    path.chmod(stat.S_IMODE(like.stat().st_mode))
    return file


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, so that they survive a power cut. For folders, this needs POSIX."""
    if os.name != "posix" and path.is_dir():
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
