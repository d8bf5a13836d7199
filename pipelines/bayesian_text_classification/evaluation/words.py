"""How the sentences of a verdict call things, for each kind of head."""

import math
from dataclasses import dataclass

from .arms import TITLES, of_student
from .heads import INDEPENDENT_LABELS, ONE_LABEL, ONE_OUTPUT, Head
from .statistics.intervals import LEAST_ROWS, Difference

IN_SENTENCE = {name: title.replace("Freq", "freq").replace("Ens", "ens") for name, title in TITLES.items()}
IN_SENTENCE["saved"] = "the classifier as saved"
IN_SENTENCE |= {name: title.replace("Stud", "the stud") for name, title in TITLES.items() if of_student(name)}


@dataclass(frozen=True)
class Words:
    """How sentences call things.

    Attributes:
        fitted: The scalings of two arms, as the subject of a sentence.
        fitted_once: The scaling of one arm, the same way.
        off: What is off by the ECE.
        few: Why a difference has no interval.
        answers: What a verdict needs.
        wrong: The rarest part of that.
        directions: What a model is whose probabilities are too high, or too low; and the two means that show it.
        undetermined: A warning about labels that determine no scaling.
    """

    fitted: str
    fitted_once: str
    off: str
    few: str
    answers: str
    wrong: str
    directions: tuple[str, str, str]
    undetermined: str


_OF_LABELS = Words(
    "The Platt scalings were",
    "The Platt scaling was",
    "probabilities are",
    "too few texts with a wrong label, with a right one or with one that applies for an interval",
    f"{LEAST_ROWS} texts with a wrong label, {LEAST_ROWS} with a right one and {LEAST_ROWS} with one that applies",
    f"has {LEAST_ROWS} texts with a wrong label, and {LEAST_ROWS} with one that applies",
    (
        "too confident that labels apply",
        "not confident enough that labels apply",
        "labels have a mean probability of {:.4f}, and a share of {:.4f} applies",
    ),
    "Warning: {} do not determine a Platt scaling (every label applies, or none does). Only the prior keeps it finite.",
)
WORDS: dict[Head, Words] = {
    ONE_LABEL: Words(
        "The temperatures were",
        "The temperature was",
        "confidence is",
        "too few right or wrong answers for an interval",
        f"{LEAST_ROWS} right and {LEAST_ROWS} wrong answers",
        f"has {LEAST_ROWS} wrong answers",
        ("overconfident", "underconfident", "its mean confidence is {:.4f}, its accuracy {:.4f}"),
        "Warning: {} do not determine a temperature (every answer is right, or the correct class gets no more "
        "probability than the others). Only the prior keeps it away from 0 and infinity.",
    ),
    INDEPENDENT_LABELS: _OF_LABELS,
    ONE_OUTPUT: _OF_LABELS,
}


def significance(difference: Difference, least: str, no_interval: str, what: str = "texts") -> str:
    """The verdict with its interval, or with the reason for `no_interval`.

    Also how many of `what` the difference would need, and the `least` that a verdict needs.
    """
    if math.isnan(difference.low):
        interval = f"difference {difference.value:+.4f}, {no_interval}"
    else:
        interval = f"difference {difference.value:+.4f}, 95% interval {difference.low:+.4f} to {difference.high:+.4f}"
    if difference.verdict != "cannot tell":
        return f"significantly {difference.verdict} ({interval})"
    reason = "" if difference.enough else f"; a verdict needs at least {least}"
    needed = ""
    if difference.rows_needed is not None:
        count = f"{rounded(difference.rows_needed):,} {what}"
        needed = f"; a difference this large would need about {count} to detect with 80% power"
    return f"no significant difference ({interval}{reason}{needed})"


def rounded(number: int) -> int:
    """A number of texts rounded up to two digits: more are not known."""
    step: int = 10 ** max(len(str(number)) - 2, 0)
    return -(-number // step) * step
