"""Publishes a folder to the Hub atomically, as one commit."""

import fnmatch
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

Merge = Callable[[str, str], str]  # (existing text, new text) -> text to write
# (existing paths, function that reads one of them) -> paths to remove
Check = Callable[[Collection[str], Callable[[str], str]], Collection[str]]


def publish(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    repo_type: str = "model",
    sdk: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    message: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    merge: Mapping[str, Merge] | None = None,
    check: Check = lambda there, read: (),
    stale: Sequence[str] = (),
) -> str:
    """Write all files of a folder into a repository in one commit. The repository is created if it does not exist.

    huggingface_hub's `upload_folder` may take several commits, so a lost connection could leave code of two versions
    side by side. Here, large files are uploaded first, while nothing refers to them. Then one commit references all of
    them. After a failure, repeat the same call.

    Args:
        folder: The folder to write. Files of the same names are replaced; others stay (except `stale` ones).
        repo_id: "user/name".
        repo_type: "model" or "space".
        sdk: SDK of a Space.
        private: Whether a new repository is private; None for the owner's default.
        token: Access token; None for that of the environment or of `hf auth login`.
        message: Commit message; None for "Upload".
        revision: Branch to write to, created if it does not exist; None for main.
        create_pr: Whether to open a pull request instead of committing directly.
        merge: Functions by path of text file. Where the repository has the file, the function's result is written.
        check: Function that raises if the repository holds something that must not be replaced. Paths that it returns
            are removed.
        stale: Patterns of paths to remove from the repository if the folder does not have them.

    Returns:
        URL of the commit, or of the pull request.

    Raises:
        ValueError: A file that would be merged or that `check` reads is not UTF-8.
        HfHubHTTPError: An error of the Hub, for example status 412 if another commit was made in the meantime. Other
            errors of huggingface_hub also pass through.
    """
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, repo_type=repo_type, space_sdk=sdk, private=private, exist_ok=True).repo_id
    if revision is not None:
        api.create_branch(repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
    # Read from one commit, which must still be the latest when ours is written. Then the merge is based on the current
    # files.
    parent = api.repo_info(repo_id, repo_type=repo_type, revision=revision).sha
    there = set(api.list_repo_files(repo_id, repo_type=repo_type, revision=parent))

    def read(name: str) -> str:
        path = Path(api.hf_hub_download(repo_id, name, repo_type=repo_type, revision=parent))
        try:
            return path.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} in {repo_id} is not UTF-8; fix it there, or remove it") from error

    orphans = check(there, read)
    files = files_of(folder)
    old = {name for name in there if any(_is_of(name, pattern) for pattern in stale)} | set(orphans)
    deletions = [CommitOperationDelete(path_in_repo=name) for name in sorted(old - set(files))]
    contents: dict[str, Path | bytes] = dict(files)
    for name in there & set(files) & set(merge or ()):
        before, new = read(name), files[name].read_text(encoding="utf-8")
        contents[name] = (merge or {})[name](before, new).encode()
    additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in contents.items()]
    commit = api.create_commit(
        repo_id,
        [*deletions, *additions],
        commit_message=message or "Upload",
        repo_type=repo_type,
        revision=revision,
        create_pr=create_pr,
        parent_commit=parent,
    )
    return str(commit.pr_url or commit.commit_url)


def files_of(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Every file of a folder by its path in a repository, in order, without caches and hidden files such as `.env`."""
    root = Path(folder)
    found = {path.relative_to(root): path for path in sorted(root.rglob("*")) if path.is_file()}
    hidden = ("__pycache__", ".")
    return {
        name.as_posix(): path for name, path in found.items() if not any(part.startswith(hidden) for part in name.parts)
    }


def _is_of(name: str, pattern: str) -> bool:
    """Whether a path matches a pattern as in `Path.glob`: a star stops at a slash, so other folders do not match."""
    return name.count("/") == pattern.count("/") and fnmatch.fnmatch(name, pattern)
