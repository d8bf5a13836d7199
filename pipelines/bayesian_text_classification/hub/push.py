"""An upload as one commit on the Hub, and what goes wrong there in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi, get_session, get_token
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from ..pipeline.publishing import publish
from ..wording import first_line
from .uploads import PublishError, Upload, check_repo_id

PATIENCE = 120.0  # seconds without a byte from the Hub


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
        existing = _visibility(repo_id, upload.repo_type, token)
        if private and existing == "public":
            raise PublishError(f"{repo_id} is there and public; private=True is for a repository that is made")
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
    except Exception as error:  # the Hub's, those of its HTTP client, or huggingface_hub's RuntimeError around them
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise PublishError(_failed(cause, repo_id).replace(token, "...")) from error
    return address, existing is not None


def _visibility(repo_id: str, repo_type: str, token: str) -> str | None:
    """Either "public" or "private"; None where there is no such repository."""
    try:
        found = HfApi(token=token).repo_info(repo_id, repo_type=repo_type, timeout=PATIENCE)
    except RepositoryNotFoundError as error:
        if error.response is not None and error.response.status_code == 401:
            raise
        return None
    return "private" if found.private else "public"


def _failed(cause: BaseException, repo_id: str) -> str:
    """What the user should know of an error, in one line."""
    said, names = " ".join(str(cause).split()), {base.__name__ for base in type(cause).__mro__}
    if isinstance(cause, OfflineModeIsEnabled):
        return "the Hub is not asked while HF_HUB_OFFLINE is set; unset it"
    if isinstance(cause, HfHubHTTPError):
        return _refused(cause, repo_id)
    if names & {"InvalidURL", "UnsupportedProtocol"}:  # by name: huggingface_hub has changed its HTTP client twice
        return f"HF_ENDPOINT is no address: {said}"
    if names & {"HTTPError", "OSError"}:
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
