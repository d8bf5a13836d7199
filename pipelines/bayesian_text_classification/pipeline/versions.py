"""The version of a package."""

from importlib import metadata


def version_of(package: str) -> str | None:
    """The installed version of `package`; None if it is not installed, as this one may not be in a saved copy."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
