"""Publishing on the Hub: the metric and the demo as Spaces, a classifier as a model repository."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelCard, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # not in its list of names

from .fingerprint import fingerprint
from .messages import first_line
from .metric import metric_folder
from .model_card import merged, with_part
from .pipeline import BayesianTextClassificationPipeline
from .publishing import Check, Merge, files_of, publish
from .saving import STALE, check_of, merged_requirements

_PACKAGE = Path(__file__).parent
RESULTS = "bayesian-text-classification results"  # of a card: its part with a report's results
METRIC = "ece"
PATIENCE = 120.0  # seconds without a byte from the Hub
_ignored = shutil.ignore_patterns("__pycache__", "spaces", ".*")  # on the way into a Space


class PublishError(ValueError):
    """Nothing, or not everything, was published; the message is one line for the user."""


@dataclass(frozen=True)
class Upload:
    """What goes where.

    Attributes:
        folder: with all files.
        kind: "model" or "space".
        merge: how a file that an existing repository has is merged with ours.
        check: of an existing repository.
        stale: patterns of paths that it loses where there is no such file any more.
        files: bytes of each file, by its path in the repository.
    """

    folder: Path
    kind: str
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


def push(upload: Upload, repo_id: str, *, private: bool = False, message: str | None = None) -> tuple[str, bool]:
    """Publish in one commit; returns its address, and whether the repository was there before.

    A repository that is there is updated: files of these names are replaced, others stay. The token is that of the
    environment (HF_TOKEN) or of `hf auth login`.

    Raises:
        PublishError: there is no token, or it may not write, `private` is asked for a public repository, or the Hub
            could not be reached or refused.
    """
    check_repo_id(repo_id)
    token = get_token()
    if token is None:
        raise PublishError("there is no token: log in with `hf auth login`, or set HF_TOKEN to one that may write")
    if not (token.isascii() and token.isprintable()):
        raise PublishError("the token holds characters that no token has; copy it again")
    with _patient_session():
        return _pushed(upload, repo_id, token, private=private, message=message)


@contextmanager
def _patient_session() -> Iterator[None]:
    """Inside, requests of huggingface_hub give up after `PATIENCE`; its own client waits for a Hub that hangs for ever.

    The client is one for the whole process, so its timeout is put back.
    """
    session = get_session()
    before = session.timeout
    session.timeout = PATIENCE
    try:
        yield
    finally:
        session.timeout = before


def _pushed(upload: Upload, repo_id: str, token: str, *, private: bool, message: str | None) -> tuple[str, bool]:
    try:
        existing = _visibility(repo_id, upload.kind, token)
        if private and existing == "public":
            raise PublishError(f"{repo_id} is there and public; private=True is for a repository that is made")
        sdk = "gradio" if upload.kind == "space" else None
        address = publish(
            upload.folder,
            repo_id,
            kind=upload.kind,
            sdk=sdk,
            private=private or None,
            token=token,
            message=message,
            merge=upload.merge,
            check=upload.check,
            stale=upload.stale,
        )
    except PublishError:
        raise
    except Exception as error:  # the Hub's, those of its HTTP client, or huggingface_hub's RuntimeError around them
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise PublishError(_failed(cause, repo_id).replace(token, "...")) from error
    return address, existing is not None


def _visibility(repo_id: str, kind: str, token: str) -> str | None:
    """Either "public" or "private"; None where there is no such repository."""
    try:
        found = HfApi(token=token).repo_info(repo_id, repo_type=kind, timeout=PATIENCE)
    except RepositoryNotFoundError as error:
        if error.response is not None and error.response.status_code == 401:
            raise
        return None
    return "private" if found.private else "public"


def _failed(cause: BaseException, repo_id: str) -> str:
    """What the user should know of an error, in one line."""
    said, kinds = " ".join(str(cause).split()), {kind.__name__ for kind in type(cause).__mro__}
    if isinstance(cause, OfflineModeIsEnabled):
        return "the Hub is not asked while HF_HUB_OFFLINE is set; unset it"
    if isinstance(cause, HfHubHTTPError):
        return _refused(cause, repo_id)
    if kinds & {"InvalidURL", "UnsupportedProtocol"}:  # by name: huggingface_hub has changed its HTTP client twice
        return f"HF_ENDPOINT is no address: {said}"
    if kinds & {"HTTPError", "OSError"}:
        return f"the connection to the Hub failed ({type(cause).__name__}: {said}); run the same command again"
    if isinstance(cause, ValueError):  # ours, or huggingface_hub's, such as of the Hub's look at a card
        return f"{repo_id} was not changed: {said}"
    return f"the Hub's answer was not understood ({type(cause).__name__}: {said}); run the same command again"


def _refused(error: HfHubHTTPError, repo_id: str) -> str:
    status, said = error.response.status_code, (error.server_message or first_line(error)).splitlines()[0]
    if status == 401:
        return "the Hub does not know the token; log in again with `hf auth login`, or set HF_TOKEN to a valid one"
    if status == 403:
        return (
            f"the Hub does not let this token write to {repo_id} ({said}); mostly it lacks the role write, or is of an "
            "account that may not"
        )
    if status == 412:
        return f"{repo_id} was changed by somebody else meanwhile; run the same command again"
    return f"the Hub refused {repo_id} with status {status}: {said}"
