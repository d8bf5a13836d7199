"""The version of a package."""

from importlib import metadata


def version_of(package: str) -> str | None:
    """Its version as it is installed; None where it is not, as this package is not in a copy of its folder."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
