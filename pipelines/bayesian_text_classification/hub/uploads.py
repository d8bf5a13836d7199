"""Prepare uploads for the Hub: the metrics and the demo as Spaces, a classifier as a model repository."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # not in its `__all__`

from ..loading.fingerprint import fingerprint
from ..metric import METRICS, metric_folder
from ..pipeline.errors import BayesianTextClassificationError
from ..pipeline.model_card import merged, with_part
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.publishing import Check, Merge, files_of
from ..pipeline.saving import STALE, check_of, merged_requirements
from ..wording import first_line

_PACKAGE = Path(__file__).parents[1]
RESULTS = "bayesian-text-classification results"  # the section of a model card with a report's results
_ignored = shutil.ignore_patterns("__pycache__", "spaces", ".*")  # not copied to a Space


class PublishError(BayesianTextClassificationError):
    """Publishing failed, entirely or in part. The message is one line for the user."""


@dataclass(frozen=True)
class Upload:
    """Files to publish, and how to merge them with an existing repository.

    Attributes:
        folder: Folder with all files.
        repo_type: "model" or "space".
        merge: Functions that merge an existing file of the repository with ours, by path.
        check: Check of an existing repository.
        stale: Patterns of paths that are deleted from the repository if `folder` has no such file.
        files: Size of each file in bytes, by its path in the repository.
    """

    folder: Path
    repo_type: str
    merge: dict[str, Merge] = field(default_factory=dict)
    check: Check = lambda there, read: ()
    stale: tuple[str, ...] = ()
    files: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", {name: path.stat().st_size for name, path in files_of(self.folder).items()})


def metric_upload(repo_id: str) -> Upload:
    """The metric with the name of the repository as a Space, which `evaluate.load("user/ece")` loads.

    Raises:
        PublishError: No metric has this name.
    """
    check_repo_id(repo_id)
    name = repo_id.rpartition("/")[2]
    if name not in METRICS:
        names = " or ".join(f"user/{metric}" for metric in METRICS)
        raise PublishError(
            f"{repo_id!r}: evaluate.load looks for a file named like the repository, and no metric has this name; "
            f"push it as {names}"
        )
    return Upload(metric_folder(name), "space")


def space_upload(folder: Path) -> Upload:
    """The demo as a Space, with the package and the embedded classifier, prepared in an empty `folder`."""
    shutil.copytree(space_folder(), folder, dirs_exist_ok=True, ignore=_ignored)
    package = folder / "bayesian_text_classification"
    shutil.copytree(_PACKAGE, package, ignore=_ignored)
    (package / "__main__.py").unlink()  # the command is not part of a Space
    if not (package / "metrics").exists():  # in a checkout they are outside the package
        for name in METRICS:
            shutil.copytree(metric_folder(name), package / "metrics" / name, ignore=_ignored)
    return Upload(folder, "space", stale=(f"{package.name}/*", f"{package.name}/*/*"))  # code of earlier versions


def pipeline_upload(
    classifier: BayesianTextClassificationPipeline, folder: Path, name: str, report: Path | None = None
) -> Upload:
    """The files that `save_pretrained` writes to an empty `folder`. In an existing model card, only our parts change.

    Args:
        classifier: Classifier to publish.
        folder: Empty folder.
        name: Name of the model in the metadata of its results.
        report: Report folder of `evaluate`, whose results are added to the card.

    Raises:
        PublishError: `save_pretrained` refuses, or `report` has no results or those of another model.
    """
    try:
        classifier.save_pretrained(folder)
    except ValueError as error:
        raise PublishError(first_line(error)) from error
    merge: Merge = merged
    if report is not None:
        results = _results(report, classifier)
        results.data.model_name = name  # type: ignore[attr-defined]
        card = folder / "README.md"
        card.write_text(with_results(card.read_text(encoding="utf-8"), results), encoding="utf-8")

        def merge(there: str, new: str) -> str:
            return with_results(merged(there, new), results)

    merges: dict[str, Merge] = {"README.md": merge, "requirements.txt": merged_requirements}
    return Upload(folder, "model", merge=merges, check=check_of(type(classifier)), stale=STALE)


def _results(report: Path, classifier: BayesianTextClassificationPipeline) -> ModelCard:
    try:
        results = ModelCard.load(report / "model-card.md")
        settings = json.loads((report / "report.json").read_text(encoding="utf-8"))["settings"]
    except Exception as error:  # a missing file, or an error of YAML or JSON
        raise PublishError(f"{report} is not a report folder of evaluate: {first_line(error)}") from error
    if not results.data.to_dict().get("model-index"):
        raise PublishError(f"{report / 'model-card.md'} has no results; run evaluate again")
    if settings.get("fingerprint") != fingerprint(classifier):
        others = settings.get("ensemble")
        what = f"an ensemble, {', '.join([settings.get('model'), *others])}" if others else settings.get("model")
        raise PublishError(f"{report} is the report of another model, {what}; evaluate this one first")
    return results  # type: ignore[no-any-return]


def with_results(card: str, results: ModelCard) -> str:
    """Add the results of a report to a model card, in its metadata and in a separate section.

    Raises:
        PublishError: The card's metadata cannot be read.
    """
    try:
        found = ModelCard(with_part(card, RESULTS, results.text))
    except Exception as error:  # errors of YAML, or ValueError
        raise PublishError(f"the metadata of the model's README.md cannot be read: {first_line(error)}") from error
    data: Any = found.data
    measured_data: Any = results.data
    new = measured_data.eval_results or []
    measured = {result.unique_identifier for result in new}
    others = [result for result in data.eval_results or [] if result.unique_identifier not in measured]
    data.model_name, data.eval_results = measured_data.model_name, [*others, *new]
    return str(found)


def space_folder() -> Path:
    """The folder of the demo's `app.py`: inside the package if it was installed from a wheel, else in the checkout.

    Raises:
        PublishError: It is in neither.
    """
    wheel, checkout = _PACKAGE / "spaces" / "demo", _PACKAGE.parents[1] / "spaces" / "bayesian-text-classification"
    for folder in (wheel, checkout):
        if (folder / "app.py").is_file():
            return folder
    raise PublishError(f"app.py is neither in {wheel} nor in {checkout}; reinstall the package")


def check_repo_id(repo_id: str) -> None:
    """Raise `PublishError` unless `repo_id` has the form "user/name"."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishError(f"{repo_id!r} is not a repository id: {first_line(error)}") from error
    if "/" not in repo_id:
        raise PublishError(f'{repo_id!r} is not a repository id; write "user/{repo_id}"')
