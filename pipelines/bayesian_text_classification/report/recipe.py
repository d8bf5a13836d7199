"""The recommendation of a report as code: a few lines of Python, or commands, that run as they are pasted."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..evaluation.accepting import Limit
from ..evaluation.arms import of_student
from ..evaluation.comparison import Comparison
from ..evaluation.heads import INDEPENDENT_LABELS
from ..pipeline.scaling import TemperatureScaling

FOLDER = "calibrated"  # where the calibrated classifier is saved
_COMMAND = "bayesian-text-classification"
_OF_EVERY_CALL = ("seed", "device", "dtype", "allow_pickle")


@dataclass(frozen=True)
class Sources:
    """What a run read, as arguments that read it again. Only what differs from the defaults is named.

    Attributes:
        model: Folder or Hub id of the model; None for the embedded one.
        ensemble: Those of the other models that were loaded with it as an ensemble.
        together: Whether the first model is loaded with the others even if they are not used: alone, it would bring
            options or a calibration that it was saved with.
        load: Other arguments of `load`. Of these, "saved" needs `_OF_EVERY_CALL` alone.
        labeled: Path, Hub id or name of the texts that the scalings were fitted on.
        columns: Other arguments of `load_labeled_texts`.
        calibrated: Whether the model was saved with a calibration, threshold or prediction sets. Only "saved" has them.
        scope: Files of the texts that a scope was learned from: "scope_dataset", and "scope_held_out" if there is one.
        student: Folder or Hub id of the student; None for no student.
        student_calibrated: The same for the student, which is measured without them.
    """

    model: str | None
    load: Mapping[str, Any]
    labeled: str
    columns: Mapping[str, Any]
    ensemble: tuple[str, ...] = ()
    together: bool = False
    calibrated: bool = False
    scope: Mapping[str, str] = field(default_factory=dict)
    student: str | None = None
    student_calibrated: bool = False


@dataclass(frozen=True)
class Recipe:
    """Code that does what a report recommends, with the same model, data and number of samples."""

    python: str
    command: str


def recipe(comparison: Comparison, sources: Sources | None, limit: Limit | None = None) -> Recipe | None:
    """The recommendation as code, with its threshold; None if the data allow none, or if the sources are unknown."""
    if sources is None or not comparison.conclusive:
        return None
    if of_student(comparison.recommended) and sources.student is None:
        return None
    return Recipe(_python(comparison, sources, limit), _commands(comparison, sources, limit))


def _python(comparison: Comparison, sources: Sources, limit: Limit | None) -> str:
    models, options = _loading(comparison, sources)
    if _bare(comparison, sources):
        options["threshold"] = None  # one that was chosen for other scores would be dropped with a warning
    name = "student" if of_student(comparison.recommended) else "classifier"
    model = repr(models) if len(models) > 1 else "".join(map(repr, models))
    loaded = ", ".join(filter(None, [model, *(f"{key}={value!r}" for key, value in options.items())]))
    loading = f"{name} = load({loaded})" + ".uncalibrated()" * _bare(comparison, sources)
    recommended = comparison.arm(comparison.recommended)
    scaling = recommended.scaling
    accept = "" if limit is None else f"{name}.threshold = {limit.threshold!r}  # {limit.promise}{_others(limit)}\n"
    texts = [f"load_texts({path!r}{_text_columns(sources)}).texts" for path in sources.scope.values()]
    level = comparison.novelty_level
    if level is not None and texts:
        accept += f"classifier.learn_scope({', held_out='.join(texts)})\n"
    if level is not None:
        accept += f"classifier.novelty_level = {level:g}\n"
    more = ", load_texts" * (level is not None and bool(texts))
    if scaling is None and comparison.sets is None:
        return (
            f"from bayesian_text_classification import load{more}\n\n"
            f"{loading}\n{accept}print({name}({_example(comparison, sources)}))"
        )
    several, data, half = comparison.head is INDEPENDENT_LABELS, "data", ""
    if comparison.sets is not None:
        data, half = ("for_sets", "") if scaling is None else ("for_sets, data", ".halves()")
        accept += f"{name}.conformalize(for_sets.texts, for_sets.labels, coverage={comparison.sets.coverage:g})\n"
    options = {**({"multi_label": True} if several else {}), **sources.columns}
    columns = "".join(f", {name}={value!r}" for name, value in options.items())
    fit = "" if scaling is None else f"{name}.calibrate(data.texts, data.labels)"
    found = f"temperature {scaling.temperature:.6g}" if isinstance(scaling, TemperatureScaling) else str(scaling)
    found = f"{comparison.head.scaling} for this dropout" if comparison.is_mixed(recommended) else found
    return (
        f"from bayesian_text_classification import load, load_labeled_texts{more}\n\n"
        f"{loading}\n"
        f"{data} = load_labeled_texts({sources.labeled!r}, {name}.model.config.id2label{columns}){half}\n"
        + (f"{fit}  # {found}{' on all texts' * bool(half)}\n" if fit else "")
        + f"{accept}"
        f'{name}.save_pretrained("{FOLDER}")\n'
        f"print({name}({_example(comparison, sources)}))"
    )


def _bare(comparison: Comparison, sources: Sources) -> bool:
    """Whether the recommended arm is without the calibration, threshold and prediction sets that its model brings."""
    if comparison.recommended == "saved":
        return False
    return sources.student_calibrated if of_student(comparison.recommended) else sources.calibrated


def _others(limit: Limit) -> str:
    """What a threshold of some labels does to the others, in words."""
    return "; labels without a threshold are never accepted" if isinstance(limit.threshold, dict) else ""


def _text_columns(sources: Sources) -> str:
    """The columns of texts, as further arguments of `load_texts`."""
    names = [name for name in ("text_column", "text_pair_column") if name in sources.columns]
    return "".join(f", {name}={sources.columns[name]!r}" for name in names)


def _example(comparison: Comparison, sources: Sources) -> str:
    """The arguments of a call, as code: a text that the classifier takes, and what shows all independent labels."""
    pairs = "text_pair_column" in sources.columns
    text = '{"text": "Any text.", "text_pair": "Another text."}' if pairs else '"Any text."'
    several = comparison.head is INDEPENDENT_LABELS and comparison.labels.shape[1] > 1
    return f"{text}, top_k=None" if several else text


def _commands(comparison: Comparison, sources: Sources, limit: Limit | None) -> str:
    models, options = _loading(comparison, sources)
    named: dict[str, Any] = {"model": models[0], "ensemble": models[1:]} if models else {}
    files = {"input": "my-texts.csv", "output": "classified.csv"}
    if "text_pair_column" in sources.columns:
        names = ("text_column", "text_pair_column")
        files = {**{name: sources.columns[name] for name in names if name in sources.columns}, **files}
    # What is saved with the classifier need not be said again.
    again = {name: value for name, value in sources.load.items() if name in ("device", "dtype", "seed")}
    if _bare(comparison, sources):
        named["uncalibrated"] = True
    accept: dict[str, Any] = {} if limit is None else {"threshold": limit.threshold}
    if limit is not None and isinstance(limit.threshold, dict):
        accept = {"threshold": [f"{name}={value}" for name, value in limit.threshold.items()]}
    level = comparison.novelty_level
    learned = sources.scope if level is not None else {}
    accept |= {} if level is None else {**learned, "novelty_level": level}
    accept |= {} if comparison.sets is None else {"coverage": comparison.sets.coverage}
    unscaled = comparison.arm(comparison.recommended).scaling is None
    if unscaled and not learned and comparison.sets is None:
        return _line("predict", {**named, **options, **accept, **files})
    labeled: dict[str, Any] = {"method": "none"} if unscaled else {}
    if comparison.sets is not None or not unscaled:
        labeled |= {"dataset": sources.labeled, **sources.columns}
    else:
        labeled |= {
            name: sources.columns[name] for name in ("text_column", "text_pair_column") if name in sources.columns
        }
    return "\n".join(
        [
            _line("calibrate", {**named, **labeled, **options, **accept, "output": FOLDER}),
            _line("predict", {"model": FOLDER, **again, **files}),
        ]
    )


def _loading(comparison: Comparison, sources: Sources) -> tuple[list[str], dict[str, Any]]:
    """Names of the models that the recommended arm needs, and the options to load them with."""
    options = comparison.call_options(comparison.arm(comparison.recommended))
    if sources.student is not None and of_student(comparison.recommended):
        return [sources.student], {**options, **sources.load}
    models = [name for name in (sources.model, *sources.ensemble) if name is not None]
    if comparison.recommended == "saved":
        return models, {name: value for name, value in sources.load.items() if name in _OF_EVERY_CALL}
    if sources.ensemble and options.get("posterior") == "ensemble":  # the defaults of a list of models
        return models, dict(sources.load)
    if sources.ensemble and not sources.together:
        options.pop("posterior", None)
        models = models[:1]
    return models, {**options, **sources.load}


def _line(command: str, options: Mapping[str, Any]) -> str:
    """A command with its options. True stands for a flag, and a list for an option that is repeated."""
    words = [_COMMAND, command]
    for name, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            value_of = "none" if one is None else str(one)
            words.append(f"--{name.replace('_', '-')}" + ("" if one is True else f" {shlex.quote(value_of)}"))
    return " ".join(words)
