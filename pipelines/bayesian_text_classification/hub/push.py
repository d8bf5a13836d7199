"""Push an upload to the Hub as one commit, and describe failures in one line."""

import threading
from typing import Any

from huggingface_hub import HfApi, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from ..pipeline.publishing import publish
from ..wording import first_line
from .uploads import PublishError, Upload, check_repo_id

PATIENCE = 120.0  # seconds without a byte from the Hub


def push(upload: Upload, repo_id: str, *, private: bool = False, message: str | None = None) -> tuple[str, bool]:
    """Publish in one commit. Returns its URL, and whether the repository existed before.

    An existing repository is updated: files with these names are replaced, others stay. The token comes from the
    environment (HF_TOKEN) or from `hf auth login`.

    Raises:
        PublishError: There is no token or it has no write access, `private` is True for a public repository, or the
            Hub could not be reached or refused.
    """
    check_repo_id(repo_id)
    token = get_token()
    if token is None:
        raise PublishError("no token found: log in with `hf auth login`, or set HF_TOKEN to a token with write access")
    if not (token.isascii() and token.isprintable()):
        raise PublishError("the token contains invalid characters; copy it again")
    with _patient_session:
        return _pushed(upload, repo_id, token, private=private, message=message)


class PatientSession:
    """Context in which requests of huggingface_hub time out after `PATIENCE`. By default, they may wait forever.

    The client is shared by the whole process. The first thread to enter sets its timeout, and the last one to leave
    restores it.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._session: Any = None
        self._before: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._session = get_session()
                self._before, self._session.timeout = self._session.timeout, PATIENCE
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._session.timeout = self._before


_patient_session = PatientSession()


def _pushed(upload: Upload, repo_id: str, token: str, *, private: bool, message: str | None) -> tuple[str, bool]:
    try:
        existing = _visibility(repo_id, upload.repo_type, token)
        if private and existing == "public":
            raise PublishError(f"{repo_id} already exists and is public; private=True is only for new repositories")
        sdk = "gradio" if upload.repo_type == "space" else None
        address = publish(
            upload.folder,
            repo_id,
            repo_type=upload.repo_type,
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
    except Exception as error:  # from the Hub or the HTTP client, perhaps wrapped in huggingface_hub's RuntimeError
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise PublishError(_failed(cause, repo_id).replace(token, "...")) from error
    return address, existing is not None


def _visibility(repo_id: str, repo_type: str, token: str) -> str | None:
    """Either "public" or "private", or None if there is no such repository."""
    try:
        found = HfApi(token=token).repo_info(repo_id, repo_type=repo_type, timeout=PATIENCE)
    except RepositoryNotFoundError as error:
        if error.response is not None and error.response.status_code == 401:
            raise
        return None
    return "private" if found.private else "public"


def _failed(cause: BaseException, repo_id: str) -> str:
    """Describe an error for the user, in one line."""
    said, names = " ".join(str(cause).split()), {base.__name__ for base in type(cause).__mro__}
    if isinstance(cause, OfflineModeIsEnabled):
        return "the Hub is not contacted while HF_HUB_OFFLINE is set; unset it"
    if isinstance(cause, HfHubHTTPError):
        return _refused(cause, repo_id)
    if names & {"InvalidURL", "UnsupportedProtocol"}:  # by name: huggingface_hub has changed its HTTP client twice
        return f"HF_ENDPOINT is not a valid URL: {said}"
    if names & {"HTTPError", "OSError"}:
        return f"the connection to the Hub failed ({type(cause).__name__}: {said}); try again"
    if isinstance(cause, ValueError):  # ours, or huggingface_hub's, such as when the Hub rejects a model card
        return f"{repo_id} was not changed: {said}"
    return f"unexpected answer from the Hub ({type(cause).__name__}: {said}); try again"


def _refused(error: HfHubHTTPError, repo_id: str) -> str:
    status, said = error.response.status_code, (error.server_message or first_line(error)).splitlines()[0]
    if status == 401:
        return "the Hub does not accept the token; log in again with `hf auth login`, or set HF_TOKEN to a valid one"
    if status == 403:
        return (
            f"the Hub does not let this token write to {repo_id} ({said}); usually the token lacks the write role, or "
            "its account lacks write access"
        )
    if status == 412:
        return f"somebody else changed {repo_id} in the meantime; try again"
    return f"the Hub refused {repo_id} with status {status}: {said}"
