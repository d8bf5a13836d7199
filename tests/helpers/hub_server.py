"""A small Hub on 127.0.0.1. It implements the part of the protocol that the real clients need, and fails on request.

Use `with Hub() as hub:`, and set HF_ENDPOINT=hub.endpoint in the environment of a new process.
"""

import base64
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

WRITER, READER = "hf_writerwriterwriterwriterwriterwr", "hf_readerreaderreaderreaderreaderre"
USERS = {WRITER: "user", READER: "reader"}
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
LARGE = 1_000_000  # bytes from which a file is uploaded with LFS


@dataclass
class Repository:
    """The files of each commit by its hash, and the last commit of each branch."""

    kind: str
    name: str
    private: bool = False
    sdk: str | None = None
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    heads: dict[str, str] = field(default_factory=dict)

    @property
    def files(self):
        return self.commits[self.heads["main"]] if self.heads else {}

    def commit(self, files, message="", branch="main"):
        sha = hashlib.sha1(f"{self.name} {len(self.commits)}".encode()).hexdigest()
        self.commits[sha], self.heads[branch] = files, sha
        self.messages.append(message)
        return sha

    def at(self, revision):
        sha = self.heads.get(revision, revision)
        return (sha, self.commits[sha]) if sha in self.commits else (None, None)


@dataclass
class Failure:
    """A failure to simulate: an HTTP status, "cut" (closes the connection), or a delay in seconds before the answer."""

    path: str  # regular expression for method and path
    what: int | str | float
    times: int = 10**6
    after: int = 0  # number of successful answers before the failure


class Hub:
    """The server. `repositories` are keyed by (kind, name)."""

    def __init__(self):
        self.repositories, self.stored, self.failures, self.requests = {}, {}, [], []

    def add(self, kind, name, files, **options):
        """Add a repository with these files (path: bytes)."""
        self.repositories[kind, name] = repository = Repository(kind, name, **options)
        repository.commit(dict(files))
        return repository

    def fail(self, path, what, **options):
        """Simulate a failure from now on."""
        self.failures.append(Failure(path, what, **options))

    def __enter__(self):
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home, token=WRITER):
        """Environment variables for a process that uses this Hub."""
        variables = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
                     "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0", "HF_EVALUATE_OFFLINE": "0"}  # fmt: skip
        return variables | ({} if token is None else {"HF_TOKEN": token})


COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def _card_errors(content, kind):
    found = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    if found is None:
        return []
    try:
        data = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [f"front matter is not valid YAML: {error}".splitlines()[0]]
    errors = [f'"{name}" must be one of {sorted(COLORS)}' for name in ("colorFrom", "colorTo")
              if data.get(name, "red") not in COLORS]  # fmt: skip
    if kind == "space" and data.get("sdk") not in ("gradio", "docker", "static"):
        errors.append('"sdk" must be one of gradio, docker, static')
    if kind == "space" and "." in data.get("app_file", "") and "sdk_version" not in data:
        errors.append('"sdk_version" is missing')
    if len(data.get("short_description", "")) > 60:
        errors.append('"short_description" must be at most 60 characters')
    tags = data.get("tags", [])
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        errors.append('"tags" must be a list of strings')
    for model in data.get("model-index", []):
        if not model.get("name") or not all(
            "task" in r and "dataset" in r and r.get("metrics") for r in model["results"]
        ):
            errors.append('"model-index" is incomplete')
    return errors


class _RefusedError(Exception):
    """What is answered: message, status and, if there is one, the code of the error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each body waits 40 ms for the headers to be acknowledged
    hub: Hub

    def log_message(self, *arguments):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True

    def do_GET(self):
        self._serve()

    def do_HEAD(self):
        self._serve()

    def do_POST(self):
        self._serve()

    def do_PUT(self):
        self._serve()

    def _serve(self):
        parts = urlsplit(self.path)
        self.path, self.query = unquote(parts.path), parse_qs(parts.query)
        length = int(self.headers.get("Content-Length") or 0)
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        self.body = self._chunks() if chunked else self.rfile.read(length)
        line = f"{self.command} {self.path}"
        self.hub.requests.append(line)
        for failure in self.hub.failures:
            if re.search(failure.path, line) and failure.times > 0:
                if failure.after:
                    failure.after -= 1
                    continue
                failure.times -= 1
                if failure.what == "cut":
                    self.close_connection = True
                    self.connection.close()
                    return
                if isinstance(failure.what, float):
                    time.sleep(failure.what)
                    continue
                return self._json({"error": "simulated failure"}, failure.what)
        for pattern, method in _ROUTES:
            found = re.fullmatch(pattern, line)
            if found:
                try:
                    return getattr(self, method)(*found.groups())
                except _RefusedError as refused:
                    message, status, *code = refused.args
                    return self._json({"error": message}, status, **({"X-Error-Code": code[0]} if code else {}))
        return self._json({"error": f"the test Hub does not know {line}"}, 404)

    def _chunks(self):
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    @property
    def _user(self):
        return USERS.get((self.headers.get("Authorization") or "").removeprefix("Bearer "))

    def _json(self, value, status=200, **headers):
        self._bytes(json.dumps(value).encode(), status, **{"Content-Type": "application/json", **headers})

    def _bytes(self, content, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _repository(self, kind, name):
        """The repository, if it exists for this user."""
        repository = self.hub.repositories.get((kind, name))
        if repository is None or (repository.private and self._user != name.split("/")[0]):
            raise _RefusedError("Repository not found", 404 if self._user else 401, "RepoNotFound")
        return repository

    def _at(self, kind, name, revision):
        """The repository, and the hash and the files of this revision."""
        repository = self._repository(kind, name)
        sha, files = repository.at(revision)
        if sha is None:
            raise _RefusedError("Invalid rev id", 404, "RevisionNotFound")
        return repository, sha, files

    def _check_write(self, name):
        if self._user is None:
            raise _RefusedError("Invalid username or password.", 401)
        if self._user != name.split("/")[0]:
            raise _RefusedError(f"You don't have the rights to write to {name}", 403)

    def whoami(self):
        if self._user is None:
            raise _RefusedError("Invalid username or password.", 401)
        role = "write" if self._user == "user" else "read"
        return self._json({"type": "user", "name": self._user, "orgs": [],
                           "auth": {"accessToken": {"role": role, "displayName": "test"}}})  # fmt: skip

    def create(self):
        wanted = json.loads(self.body)
        kind, owner = wanted.get("type", "model"), wanted.get("organization") or self._user
        name = f"{owner}/{wanted['name']}"
        self._check_write(name)
        place = {"model": "", "dataset": "datasets/", "space": "spaces/"}[kind]
        answer = {"url": f"{self.hub.endpoint}/{place}{name}", "name": name, "id": "1"}
        if (kind, name) in self.hub.repositories:
            return self._json({**answer, "error": "You already created this repo"}, 409)
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        repository = Repository(kind, name, private, wanted.get("sdk"))
        repository.commit({".gitattributes": b""}, "initial commit")
        self.hub.repositories[kind, name] = repository
        return self._json(answer)

    def info(self, kind, name, revision=None):
        repository, sha, files = self._at(KINDS[kind], name, revision or "main")
        siblings = [{"rfilename": path} for path in files]
        return self._json(
            {"_id": "1", "id": name, "modelId": name, "sha": sha, "private": repository.private, "tags": [],
             "siblings": siblings, "downloads": 0, "likes": 0, "createdAt": "2026-01-01T00:00:00.000Z",
             "lastModified": "2026-01-01T00:00:00.000Z", "sdk": repository.sdk, "gated": False, "disabled": False}
        )  # fmt: skip

    def tree(self, kind, name, revision, folder=None):
        _, _, files = self._at(KINDS[kind], name, revision)
        start = f"{folder}/" if folder else ""
        found = {path: content for path, content in files.items() if path.startswith(start)}
        if folder and not found:
            raise _RefusedError("no such folder", 404, "EntryNotFound")
        if self.query.get("recursive", ["false"])[0].lower() == "true":
            folders = {"/".join(path.split("/")[:n]) for path in found for n in range(1, path.count("/") + 1)}
        else:
            folders = {start + path[len(start) :].split("/")[0] for path in found if "/" in path[len(start) :]}
            found = {path: content for path, content in found.items() if "/" not in path[len(start) :]}
        entries = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
        return self._json([*entries, *(_entry(path, content) for path, content in found.items())])

    def paths_info(self, kind, name, revision):
        _, files = self._repository(KINDS[kind], name).at(revision)
        text = self.body.decode()
        wanted = json.loads(text)["paths"] if text.startswith("{") else re.findall(r"paths=([^&]*)", unquote(text))
        return self._json([_entry(path, files[path]) for path in wanted if path in (files or {})])

    def preupload(self, kind, name, revision):
        self._check_write(name)
        self._repository(KINDS[kind], name)
        modes = [
            {"path": one["path"], "uploadMode": "lfs" if one["size"] >= LARGE else "regular", "shouldIgnore": False}
            for one in json.loads(self.body)["files"]
        ]
        return self._json({"files": modes})

    def lfs_batch(self, name):
        objects = []
        for one in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.hub.endpoint}/lfs/{one['oid']}", "header": {}}
            actions = {} if one["oid"] in self.hub.stored else {"actions": {"upload": upload}}
            objects.append({**one, **actions})
        return self._json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.hub.stored[oid] = self.body
        return self._json({})

    def commit(self, kind, name, revision):
        self._check_write(name)
        repository, head, files = self._at(KINDS[kind], name, revision)
        files, message = dict(files), ""
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
                if value.get("parentCommit", head) != head:
                    return self._json({"error": "A commit has happened since. Please refresh and try again."}, 412)
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif entry["key"] == "deletedFile":
                files.pop(value["path"], None)
        sha = repository.commit(files, message, revision)
        return self._json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{sha}", "commitOid": sha})

    def branch(self, kind, name, branch):
        self._check_write(name)
        repository = self._repository(KINDS[kind], name)
        if branch in repository.heads:
            return self._json({"error": "Reference already exists"}, 409)
        repository.heads[branch] = repository.heads["main"]
        return self._json({})

    def validate(self):
        """Check a card's front matter, as the Hub does before a commit."""
        wanted = json.loads(self.body)
        errors = [{"message": message} for message in _card_errors(wanted["content"], wanted["repoType"])]
        return self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def resolve(self, kind, name, revision, path):
        _, sha, files = self._at(KINDS[kind or "models"], name, revision)
        if path not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}
            return self._json({"error": "Entry not found"}, 404, **headers)
        content = files[path]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes",
                   "Content-Type": "application/octet-stream"}  # fmt: skip
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None:
            return self._bytes(content, **headers)
        first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self._bytes(content[first : last + 1], 206, **headers)


def _entry(path, content):
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


_KIND, _NAME = r"(models|datasets|spaces)", r"([\w.-]+/[\w.-]+)"
_ROUTES = [
    (r"GET /api/whoami-v2", "whoami"),
    (r"POST /api/repos/create", "create"),
    (r"POST /api/validate-yaml", "validate"),
    (rf"GET /api/{_KIND}/{_NAME}(?:/revision/([\w.-]+))?", "info"),
    (rf"GET /api/{_KIND}/{_NAME}/tree/([\w.-]+)(?:/(.+))?", "tree"),
    (rf"POST /api/{_KIND}/{_NAME}/paths-info/([\w.-]+)", "paths_info"),
    (rf"POST /api/{_KIND}/{_NAME}/preupload/([\w.-]+)", "preupload"),
    (rf"POST /api/{_KIND}/{_NAME}/commit/([\w.-]+)", "commit"),
    (rf"POST /(?:datasets/|spaces/)?{_NAME}\.git/info/lfs/objects/batch", "lfs_batch"),
    (rf"POST /api/{_KIND}/{_NAME}/branch/([\w.-]+)", "branch"),
    (r"PUT /lfs/([0-9a-f]{64})", "lfs_put"),
    (rf"(?:GET|HEAD) /(?:(datasets|spaces)/)?{_NAME}/resolve/([\w.-]+)/(.+)", "resolve"),
]
