"""The classifier and the review set that work with no network."""

from pathlib import Path


def embedded_model() -> Path:
    """The folder of the small sentiment classifier that the package brings along, the task's default model."""
    return Path(__file__).parent / "model"


def embedded_reviews() -> Path:
    """The file of the review set."""
    return Path(__file__).parent / "reviews.csv"
