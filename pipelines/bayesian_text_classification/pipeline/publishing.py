"""A folder as one commit on the Hub: it appears there whole or not at all."""

import fnmatch
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

Merge = Callable[[str, str], str]  # from the text that is there and the new one to what is written
# Looks at the paths that are there, of which it may read some; returns those that are to be removed.
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
    """Write all files of a folder into a repository, which is made where there is none; returns the commit's address.

    huggingface_hub's `upload_folder` may take several commits: a connection lost half-way would leave code of one
    version beside that of another. Here large files are sent first, which nothing refers to yet, and then one commit
    names all of them. What failed is done again by the same call.

    Args:
        folder: what to write; files of these names are replaced, others stay (but for `stale` ones).
        repo_id: "user/name".
        repo_type: "model" or "space".
        sdk: of a Space.
        private: of a new repository; None: as the owner's settings have it.
        token: None: that of the environment or of `hf auth login`.
        message: of the commit.
        revision: a branch; None: main.
        create_pr: propose the commit instead.
        merge: for paths of text files, what is written where the repository has them.
        check: raises where the repository holds something that must not be replaced; what it returns is removed.
        stale: patterns of paths that are removed from the repository where the folder has no such file.

    Raises:
        ValueError: a file that is to be merged is no UTF-8.
        Others are huggingface_hub's, such as that of status 412 where another commit came in between.
    """
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, repo_type=repo_type, space_sdk=sdk, private=private, exist_ok=True).repo_id
    if revision is not None:
        api.create_branch(repo_id, branch=revision, repo_type=repo_type, exist_ok=True)
    # Of one commit, which must still be the last one when ours is written: what was merged is what is there.
    parent = api.repo_info(repo_id, repo_type=repo_type, revision=revision).sha
    there = set(api.list_repo_files(repo_id, repo_type=repo_type, revision=parent))

    def read(name: str) -> str:
        path = Path(api.hf_hub_download(repo_id, name, repo_type=repo_type, revision=parent))
        try:
            return path.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{name} in {repo_id} is not UTF-8; mend it there, or remove it") from error

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
    """Every file of a folder by its path in a repository, in order; no caches, and nothing hidden, such as `.env`."""
    root = Path(folder)
    found = {path.relative_to(root): path for path in sorted(root.rglob("*")) if path.is_file()}
    hidden = ("__pycache__", ".")
    return {
        name.as_posix(): path for name, path in found.items() if not any(part.startswith(hidden) for part in name.parts)
    }


def _is_of(name: str, pattern: str) -> bool:
    """As a folder's `glob` has it: a star stops at a slash, so that files of other folders are left alone."""
    return name.count("/") == pattern.count("/") and fnmatch.fnmatch(name, pattern)
