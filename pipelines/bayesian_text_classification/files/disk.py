"""Files that appear whole or not at all, and what must be on the disk before something else happens."""

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def staged_beside(target: str | os.PathLike[str]) -> Iterator[tuple[Path, Path]]:
    """An empty file to write to, and the path that it is to replace once it is complete (`publish`).

    The path is what `target` stands for, if that is a link. The file has the mode of the one that is there, else what
    the umask leaves of 0666. Whatever is still staged at the end of the block is removed.
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


def publish(staged: Path, target: Path) -> None:
    """The staged file takes the place of `target` in one step, after its bytes have reached the disk."""
    sync(staged)
    staged.replace(target)
    sync(target.parent)


def write_whole(target: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a small file, whole or not at all; text in UTF-8."""
    with staged_beside(target) as (staged, real):
        staged.write_bytes(content.encode() if isinstance(content, str) else content)
        publish(staged, real)


def new_file(path: Path, like: Path) -> BinaryIO:
    """A new file, never one that a link leads to, that may be read by those who may read `like`."""
    path.unlink(missing_ok=True)
    file = path.open("xb")
    path.chmod(stat.S_IMODE(like.stat().st_mode))
    return file


def sync(path: Path) -> None:
    """Return once a file, or the names in a folder, would survive a power cut; POSIX alone can do that for folders."""
    if os.name != "posix" and path.is_dir():
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
