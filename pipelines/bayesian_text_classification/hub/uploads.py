"""Publishing on the Hub: the metric and the demo as Spaces, a classifier as a model repository."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # not in its list of names

from ..loading.fingerprint import fingerprint
from ..metric import metric_folder
from ..pipeline.errors import BayesianTextClassificationError
from ..pipeline.model_card import merged, with_part
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.publishing import Check, Merge, files_of
from ..pipeline.saving import STALE, check_of, merged_requirements
from ..wording import first_line

_PACKAGE = Path(__file__).parents[1]
RESULTS = "bayesian-text-classification results"  # of a card: its part with a report's results
METRIC = "ece"
_ignored = shutil.ignore_patterns("__pycache__", "spaces", ".*")  # on the way into a Space


class PublishError(BayesianTextClassificationError):
    """Nothing, or not everything, was published; the message is one line for the user."""


@dataclass(frozen=True)
class Upload:
    """What goes where.

    Attributes:
        folder: with all files.
        repo_type: "model" or "space".
        merge: how a file that an existing repository has is merged with ours.
        check: of an existing repository.
        stale: patterns of paths that it loses where there is no such file any more.
        files: bytes of each file, by its path in the repository.
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
    """The metric as a Space, which `evaluate.load("user/ece")` reads.

    Raises:
        PublishError: the repository has another name.
    """
    check_repo_id(repo_id)
    if repo_id.rpartition("/")[2] != METRIC:
        raise PublishError(
            f"{repo_id!r}: evaluate.load looks for a file of the repository's name, and the metric's is {METRIC}.py; "
            f"push it as user/{METRIC}"
        )
    return Upload(metric_folder(), "space")


def space_upload(folder: Path) -> Upload:
    """The demo as a Space, with the package and the embedded classifier beside it, prepared in an empty `folder`."""
    shutil.copytree(space_folder(), folder, dirs_exist_ok=True, ignore=_ignored)
    package = folder / "bayesian_text_classification"
    shutil.copytree(_PACKAGE, package, ignore=_ignored)
    if not (package / "metrics").exists():  # a checkout has them beside the package
        shutil.copytree(metric_folder(), package / "metrics" / "ece", ignore=_ignored)
    return Upload(folder, "space")


def pipeline_upload(
    classifier: BayesianTextClassificationPipeline, folder: Path, name: str, report: Path | None = None
) -> Upload:
    """What `save_pretrained` writes into an empty `folder`; of a repository's own model card only our parts change.

    Args:
        classifier: to publish.
        folder: an empty one.
        name: of the model, in the metadata of its results.
        report: a folder that `evaluate` wrote, whose results go into the card.

    Raises:
        PublishError: there are no results in `report`, or they are another model's.
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
    except Exception as error:  # no file, or errors of YAML and JSON
        raise PublishError(f"{report} is no folder that evaluate wrote: {first_line(error)}") from error
    if not results.data.to_dict().get("model-index"):
        raise PublishError(f"{report / 'model-card.md'} has no results; write it again with evaluate")
    if settings.get("fingerprint") != fingerprint(classifier):
        raise PublishError(f"{report} is the report of another model, {settings.get('model')}; evaluate this one")
    return results  # type: ignore[no-any-return]


def with_results(card: str, results: ModelCard) -> str:
    """A model's card with the results of a report, in its metadata and in a part of their own.

    Raises:
        PublishError: the card's metadata cannot be read.
    """
    try:
        found = ModelCard(with_part(card, RESULTS, results.text))
    except Exception as error:  # YAML's own errors, and ValueError
        raise PublishError(f"the metadata of the model's README.md cannot be read: {first_line(error)}") from error
    data: Any = found.data
    told: Any = results.data
    new = told.eval_results or []
    measured = {result.unique_identifier for result in new}
    others = [result for result in data.eval_results or [] if result.unique_identifier not in measured]
    data.model_name, data.eval_results = told.model_name, [*others, *new]
    return str(found)


def space_folder() -> Path:
    """The folder of the demo's `app.py`: inside the package when it was installed from a wheel, else in the checkout.

    Raises:
        PublishError: it is in neither.
    """
    wheel, checkout = _PACKAGE / "spaces" / "demo", _PACKAGE.parents[1] / "spaces" / "bayesian-text-classification"
    for folder in (wheel, checkout):
        if (folder / "app.py").is_file():
            return folder
    raise PublishError(f"app.py is neither in {wheel} nor in {checkout}; install the package again")


def check_repo_id(repo_id: str) -> None:
    """PublishError unless `repo_id` is "user/name"."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishError(f"{repo_id!r} is no repository: {first_line(error)}") from error
    if "/" not in repo_id:
        raise PublishError(f'{repo_id!r} is no repository; write "user/{repo_id}"')
