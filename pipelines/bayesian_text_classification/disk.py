"""What must be on the disk before something else happens."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Return once a file, or the names in a folder, would survive a power cut; POSIX alone can do that for folders."""
    if os.name != "posix" and path.is_dir():
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
