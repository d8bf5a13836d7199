"""Files that are written aside, and what must be on the disk before something else happens."""

import os
import stat
from pathlib import Path
from typing import BinaryIO


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
