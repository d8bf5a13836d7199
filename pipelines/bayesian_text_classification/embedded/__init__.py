"""The embedded classifier and review set, which need no network."""

from pathlib import Path


def embedded_model() -> Path:
    """The folder of the small sentiment classifier that ships with the package, the task's default model."""
    return Path(__file__).parent / "model"


def embedded_reviews() -> Path:
    """The csv file of the review set."""
    return Path(__file__).parent / "reviews.csv"
