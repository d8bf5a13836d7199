"""The embedded classifier and labeled texts, which need no network."""

from pathlib import Path

EMBEDDED_TEXTS = ("reviews", "hard")


def embedded_model() -> Path:
    """The folder of the small sentiment classifier that ships with the package, the task's default model."""
    return Path(__file__).parent / "model"


def embedded_texts(name: str) -> Path:
    """The csv file of one of `EMBEDDED_TEXTS`: columns text, label and kind (the site, or the kind of difficulty).

    "reviews" are the sentences of Kotzias et al. 2015 ("From Group to Individual Labels Using Deep Features", KDD):
    1,000 each from imdb, amazon and yelp, UCI Machine Learning Repository, dataset 331, CC BY 4.0. "hard" are 300 that
    were written for this project.
    """
    return Path(__file__).parent / f"{name}.csv"
