"""A stand-in for the Hugging Face hub on the loopback interface: the part of its HTTP interface that we use."""

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlparse

ENV = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HF_TOKEN", "HF_HUB_OFFLINE")


class Hub(ThreadingHTTPServer):
    """Repositories in memory; ``requests`` lists what was asked, and the other attributes make it fail."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}  # by name, branch and path
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.created: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.large: dict[str, bytes] = {}  # by SHA-256
        self.refusal: tuple[int, dict[str, str]] | None = None  # status and headers of every answer
        self.echoes = False  # whether a refusal repeats the token
        self.token: str | None = None  # that writing needs
        self.break_after: list[int] = []  # bytes after which the next downloads of weights break off

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def asked(self, method: str, ending: str) -> list[dict[str, str]]:
        """Headers of the requests whose path ends like this."""
        return [headers for m, path, headers in self.requests if m == method and path.endswith(ending)]

    def commit(self, repository: str, branch: str) -> str:
        files = self.repositories[repository][branch]
        return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()

    def files(self, repository: str, revision: str) -> dict[str, bytes] | None:
        branches = self.repositories[repository]
        by_commit = {self.commit(repository, branch): branch for branch in branches}
        return branches.get(by_commit.get(revision, revision))


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._route()

    do_HEAD = do_POST = do_PUT = do_GET

    def _route(self):
        hub, path = self.server, unquote(urlparse(self.path).path)
        self.body = self._read_body()
        hub.requests.append((self.command, path, dict(self.headers)))
        if hub.refusal is not None:
            said = f"refused {self.headers.get('Authorization')}" if hub.echoes else "refused"
            return self._answer(hub.refusal[0], {"error": said}, hub.refusal[1])
        writes = self.command in ("POST", "PUT") and not path.startswith("/lfs/")
        if writes and hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self._answer(401, {"error": "Invalid username or password."})
        for pattern, answer in ROUTES:
            if match := re.fullmatch(pattern, path):
                repository = match.groupdict().get("repository")
                if repository is not None and repository not in hub.repositories:
                    return self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
                return answer(self, **match.groupdict())
        return self._answer(404, {"error": f"the stand-in knows no {path}"})

    def _read_body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, content: Any = None, headers: dict[str, str] | None = None):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _files(self, repository, revision):
        files = self.server.files(repository, revision)
        if files is None:
            self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return files

    def _info(self, repository, revision="main"):
        if (files := self._files(repository, revision)) is not None:
            sha = revision if len(revision) == 40 else self.server.commit(repository, revision)
            siblings = [{"rfilename": name} for name in files]
            self._answer(200, {"id": repository, "modelId": repository, "sha": sha, "siblings": siblings})

    def _tree(self, repository, revision):
        if (files := self._files(repository, revision)) is not None:
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
            self._answer(200, entries)

    def _resolve(self, repository, revision, name):
        if (files := self._files(repository, revision)) is None:
            return None
        if name not in files:
            return self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        content, start = files[name], 0
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(match[1])
        headers = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "X-Repo-Commit": revision,
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(content) - start),
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.command == "GET" and name.endswith(".safetensors") and self.server.break_after:
            self.send_response(200 if not start else 206)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content[start:][: self.server.break_after.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            return self.connection.shutdown(2)
        return self._answer(200 if not start else 206, content[start:], headers)

    def _create(self):
        wanted = json.loads(self.body)
        self.server.created.append(wanted)
        name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        existed = name in self.server.repositories
        self.server.repositories.setdefault(name, {"main": {}})
        self._answer(409 if existed else 200, {"url": f"{self.server.address}/{name}", "name": name, "id": name})

    def _branch(self, repository, branch):
        branches = self.server.repositories[repository]
        existed = branch in branches
        branches.setdefault(branch, dict(branches["main"]))
        self._answer(409 if existed else 201, {})

    def _preupload(self, repository, revision):
        files = json.loads(self.body)["files"]
        modes = {file["path"]: "lfs" if file["path"].endswith(".safetensors") else "regular" for file in files}
        self._answer(
            200, {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]}
        )

    def _batch(self, repository):
        objects = json.loads(self.body)["objects"]
        for one in objects:
            one["actions"] = {"upload": {"href": f"{self.server.address}/lfs/{one['oid']}"}}
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _upload(self, oid):
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.large[oid] = self.body
        self._answer(200, {})

    def _commit(self, repository, revision):
        files = self.server.repositories[repository][revision]
        for line in map(json.loads, self.body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.server.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        sha = self.server.commit(repository, revision)
        self._answer(
            200, {"commitUrl": f"{self.server.address}/{repository}/commit/{sha}", "commitOid": sha, "success": True}
        )

    def _validate(self):
        self._answer(200, {"errors": [], "warnings": []})


_REPOSITORY = r"(?P<repository>[^/]+/[^/]+)"
ROUTES = [
    ("/api/repos/create", _Handler._create),
    ("/api/validate-yaml", _Handler._validate),
    (f"/api/models/{_REPOSITORY}", _Handler._info),
    (f"/api/models/{_REPOSITORY}/revision/(?P<revision>.+)", _Handler._info),
    (f"/api/models/{_REPOSITORY}/tree/(?P<revision>.+)", _Handler._tree),
    (f"/api/models/{_REPOSITORY}/branch/(?P<branch>.+)", _Handler._branch),
    (f"/api/models/{_REPOSITORY}/preupload/(?P<revision>.+)", _Handler._preupload),
    (f"/api/models/{_REPOSITORY}/commit/(?P<revision>.+)", _Handler._commit),
    (rf"/{_REPOSITORY}\.git/info/lfs/objects/batch", _Handler._batch),
    ("/lfs/(?P<oid>[0-9a-f]{64})", _Handler._upload),
    (f"/{_REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<name>.+)", _Handler._resolve),
]


@contextmanager
def running(monkeypatch, cache):
    """A hub, and huggingface_hub turned to it with an empty cache."""
    import huggingface_hub
    from huggingface_hub import constants, file_download

    from skxlmr.checkpoints import _hub

    hub = Hub()
    settings = {
        "ENDPOINT": hub.address,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.address + "/{repo_id}/resolve/{revision}/{filename}",
        "DOWNLOAD_CHUNK_SIZE": 4096,  # what is kept of a download that breaks off
        "HF_HUB_CACHE": str(cache),
        "HF_TOKEN_PATH": str(cache / "token"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_PROGRESS_BARS": True,
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    for name in ENV:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(file_download, "time", SimpleNamespace(sleep=lambda seconds: None))  # between attempts
    monkeypatch.setattr(_hub, "_downloaded", {})
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        huggingface_hub.close_session()
        hub.shutdown()
        thread.join()
        hub.server_close()
