"""The results for a text: the dicts of `text-classification`, with uncertainty estimates from its samples."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .sampling import Draws, Values
from .uncertainty import Uncertainty

Threshold = float | Mapping[str, float] | None

_NO_SAMPLES = "one ordinary pass cannot show whether the text or the model is uncertain"
# Samples agree if at most this share of the total uncertainty comes from their differences, and at most this share of
# them has another winner. The first one alone is small for samples of 0.65 and 0.35.
_AGREEMENT = 0.1
_FEW = 10  # fewer samples may agree by chance


def winning_labels(
    summary: Uncertainty, names: Mapping[int, str], num_samples: int, *, own_entropies: bool, threshold: Threshold
) -> Iterator[dict[str, Any]]:
    """Yield each text's dict for the winning label, as the stock pipeline does without `top_k`.

    A text that is not accepted has no label. The arguments are those of `ranked_labels`.
    """
    best = ranked_labels(summary, names, num_samples, top_k=1, own_entropies=own_entropies, threshold=threshold)
    for (entry,) in best:
        yield decided(entry)


def ranked_labels(
    summary: Uncertainty,
    names: Mapping[int, str],
    num_samples: int,
    *,
    top_k: int | None,
    own_entropies: bool,
    threshold: Threshold,
) -> Iterator[list[dict[str, Any]]]:
    """Yield a list of dicts for each text, in descending order of score.

    Args:
        summary: Summary of the texts' samples.
        names: Label names by id.
        num_samples: Number of samples of each text.
        top_k: Number of labels; None: all.
        own_entropies: Whether each label has its own standard error and entropies (multi-label).
        threshold: The lowest score of an accepted text, or of each accepted label by name; None: none is checked.
    """
    for i, row in enumerate(summary.mean):
        order = np.argsort(-row, kind="stable")[:top_k]
        dicts = [
            {
                "label": names[int(c)],
                "score": float(row[c]),
                "score_std": float(summary.std[i, c]),
                **_uncertainty_keys(summary, i, int(c), int(c) if own_entropies else int(row.argmax())),
                "num_samples": num_samples,
            }
            for c in order
        ]
        if isinstance(threshold, Mapping):
            dicts = _accepted(dicts, threshold)
        elif threshold is not None:
            reason = _below(_certainty(row), threshold, _blame(summary, i, num_samples))
            dicts = [{**entry, "abstained": reason is not None, "reason": reason} for entry in dicts]
        yield dicts


def ordinary_labels(
    probabilities: NDArray[np.float64],
    names: Mapping[int, str],
    *,
    top_k: int | None,
    legacy: bool,
    threshold: Threshold,
) -> Iterator[Any]:
    """Yield each text's result from one ordinary pass: label and score, as the stock pipeline does.

    Args:
        probabilities: Probabilities of the classes. *Shape:* (texts, classes).
        names: Label names by id.
        top_k: Number of labels; None: all.
        legacy: Whether the result is the winner's dict instead of a list.
        threshold: The lowest score of an accepted text, or of each accepted label by name; None: none is checked.
    """
    for row in probabilities:
        order = np.argsort(-row, kind="stable")[:top_k]
        entries: list[dict[str, Any]] = [{"label": names[int(c)], "score": float(row[c])} for c in order]
        if isinstance(threshold, Mapping):
            entries = _accepted(entries, threshold)
        elif threshold is not None:
            reason = _below(_certainty(row), threshold, _NO_SAMPLES)
            entries = [{**entry, "abstained": reason is not None, "reason": reason} for entry in entries]
        yield decided(entries[0]) if legacy else entries


def results_in_text_order(
    draws: Draws, described: Callable[[Values], Iterator[Any]], truncated: Sequence[bool] | None = None
) -> Iterator[dict[str, Any] | list[dict[str, Any]]]:
    """Yield results in the order of the texts. Texts with the same number of samples are described together.

    Args:
        draws: The samples of each text.
        described: A function from samples of *shape* (texts, classes, samples) to one result per text.
        truncated: Whether each text was longer than the model's limit; added to its result if given.
    """
    found: dict[int, Any] = {}
    for texts, values in draws.by_count():
        found.update(zip(texts.tolist(), described(values), strict=True))
    for i in range(len(found)):
        if truncated is None:
            yield found[i]
            continue
        for entry in found[i] if isinstance(found[i], list) else [found[i]]:
            entry["truncated"] = truncated[i]
        yield found[i]


def with_novelty(
    results: Iterable[dict[str, Any] | list[dict[str, Any]]],
    distances: NDArray[np.float64],
    p_values: NDArray[np.float64],
    level: float | None,
) -> Iterator[dict[str, Any] | list[dict[str, Any]]]:
    """Yield results with novelty and p-value. With a level, a text whose p-value is at most that abstains."""
    for result, distance, p_value in zip(results, distances.tolist(), p_values.tolist(), strict=True):
        found: dict[str, Any] = {"novelty": distance, "novelty_p_value": p_value}
        if isinstance(result, list):
            yield [_unlike(entry | found, level) for entry in result]
        else:
            entry = _unlike(result | found, level)
            yield entry if level is None else decided({**entry, "label": entry.get("candidate", entry["label"])})


def with_sets(
    results: Iterable[dict[str, Any] | list[dict[str, Any]]],
    probabilities: NDArray[np.floating],
    inside: NDArray[np.bool_],
    names: Mapping[int, str],
) -> Iterator[dict[str, Any] | list[dict[str, Any]]]:
    """Yield results with the prediction set of each text: its labels with their scores, by descending score.

    Args:
        results: The result of each text.
        probabilities: *Shape:* (texts, labels).
        inside: Whether each label is in the set. *Shape:* (texts, labels).
        names: Label names by id.
    """
    for result, row, chosen in zip(results, probabilities, inside, strict=True):
        order = [int(c) for c in np.argsort(-row, kind="stable") if chosen[c]]
        found = {"prediction_set": [{"label": names[c], "score": float(row[c])} for c in order]}
        yield [entry | found for entry in result] if isinstance(result, list) else result | found


def _unlike(entry: dict[str, Any], level: float | None) -> dict[str, Any]:
    """A dict that abstains, for the reason that it had, and for its novelty."""
    if level is None:
        return entry
    reasons = [entry["reason"]] if entry.get("reason") else []
    if entry["novelty_p_value"] <= level:
        reasons.append(
            f"novelty p-value {entry['novelty_p_value']:.3g} is at most {level:g}: it is unlike the texts that the "
            "model was made for"
        )
        if "accepted" in entry:
            entry = {**entry, "accepted": False}
    return {**entry, "abstained": bool(reasons), "reason": "; ".join(reasons) or None}


def _uncertainty_keys(summary: Uncertainty, text: int, label: int, erring: int) -> dict[str, float | None]:
    """The standard error and entropies in a dict. The standard error is that of the label `erring`.

    It is at most the standard deviation of the samples.
    """

    def at(values: NDArray[np.float64] | None) -> float | None:
        if values is None:
            return None
        return float(values[text] if values.ndim == 1 else values[text, label])

    error = float(np.minimum(summary.standard_error[text, erring], summary.std[text, erring]))
    return {
        "standard_error": None if np.isnan(error) else error,
        "predictive_entropy": at(summary.predictive_entropy),
        "expected_entropy": at(summary.expected_entropy),
        "mutual_information": at(summary.mutual_information),
    }


def decided(entry: dict[str, Any]) -> dict[str, Any]:
    """The winner's dict. If a threshold was checked, its label is the candidate, and the label only if accepted."""
    if "abstained" not in entry:
        return entry
    candidate = entry["label"]
    return {**entry, "label": None if entry["abstained"] else candidate, "candidate": candidate}


def _accepted(entries: list[dict[str, Any]], thresholds: Mapping[str, float]) -> list[dict[str, Any]]:
    """The entries of independent labels, with whether each reaches its threshold. A label without one does not."""
    return [{**entry, "accepted": entry["score"] >= thresholds.get(entry["label"], math.inf)} for entry in entries]


def _certainty(row: NDArray[np.floating]) -> float:
    """The probability of the winner; for one output, that of the likelier answer: the label applies, or it does not."""
    return float(row.max()) if len(row) > 1 else float(max(row[0], 1 - row[0]))


def _below(score: float, threshold: float, blame: str) -> str | None:
    """The reason why a text gets no label; None if its score reaches the threshold."""
    if score >= threshold:
        return None
    for digits in range(3, 18):  # rounded, but not so much that the score looks as high as the threshold
        said, limit = f"{score:.{digits}f}", f"{threshold:.{max(digits, 6)}g}"
        if float(said) < float(limit):
            break
    return f"score {said} is below the threshold {limit}; {blame}"


def _blame(summary: Uncertainty, text: int, num_samples: int) -> str:
    """What the samples say about the uncertainty of a text."""
    assert summary.expected_entropy is not None and summary.mutual_information is not None
    assert summary.agreement is not None
    model, data = float(summary.mutual_information[text].sum()), float(summary.expected_entropy[text].sum())
    if num_samples == 1:
        return "one sample cannot show whether the text or the model is uncertain; take more samples"
    if model > data:
        return "its samples disagree: training did not settle how to classify it"
    if model > _AGREEMENT * (model + data) or summary.agreement[text] < 1 - _AGREEMENT:
        return "its samples differ, but most of the uncertainty is in the text: it may fit several labels"
    if num_samples < _FEW:
        return f"its {num_samples} samples agree, which so few may do by chance"
    return "its samples agree: more samples would not make it more confident"
