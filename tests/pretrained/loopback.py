"""A Hugging Face Hub on this machine: the endpoints that the real client uses, and their faults."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

OWNER, TOKEN = "ada", "hf_secretsecretsecret"
Files = dict[str, bytes]


@dataclass
class Model:
    """A repository: the files of each commit, and the commit of each branch.

    Attributes:
        lfs: objects by their SHA-256.
        gated, private: who may read it.
    """

    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    gated: bool = False
    private: bool = False

    def commit(self, files: Files, branch: str = "main", message: str = "") -> str:
        """Add a commit with these files, and nothing of its parent; return its name."""
        name = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[name], self.branches[branch] = dict(files), name
        self.messages.append(message)
        return name

    def files(self, branch: str = "main") -> Files:
        """Return the files of the newest commit of a branch."""
        return self.commits[self.branches[branch]]


@dataclass
class Hub:
    """The state of the server.

    Attributes:
        models: by id.
        lfs_names: ends of names that are uploaded by LFS, and not in the commit.
        cut: names of files of which only so many bytes are sent before the connection ends.
        short: names of files that are sent as shorter ones.
        changed: names of files that are sent with other bytes, of the same number.
        then: called when a file of this name is sent.
        status: the status of all responses whose path contains a text.
        requests: method, path, ``User-Agent`` and ``Authorization`` of each request.
    """

    models: dict[str, Model] = field(default_factory=dict)
    lfs_names: tuple[str, ...] = ()
    cut: dict[str, int] = field(default_factory=dict)
    short: dict[str, int] = field(default_factory=dict)
    changed: dict[str, bytes] = field(default_factory=dict)
    then: dict[str, Callable[[], object]] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str, str, str]] = field(default_factory=list)
    address: str = ""

    def model(self, files: Files, name: str = f"{OWNER}/model") -> Model:
        """Add a model with one commit."""
        model = self.models[name] = Model()
        model.commit(files)
        return model

    def sent(self) -> list[str]:
        """Return the names of the files that were downloaded."""
        return [path.split("/")[-1] for method, path, *_ in self.requests
                if method == "GET" and "/resolve/" in path]  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Be silent."""

    def do_HEAD(self) -> None:
        self._answer()

    do_GET = do_POST = do_PUT = do_HEAD

    def _answer(self) -> None:
        path, hub = unquote(urlsplit(self.path).path), self.hub
        token = self.headers.get("Authorization", "")
        hub.requests.append((self.command, path, self.headers.get("User-Agent", ""), token))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if status := next((code for part, code in hub.status.items() if part in path), None):
            self._send(status)
        elif "/resolve/" in path:
            self._resolve(*path[1:].split("/resolve/"))
        elif token != f"Bearer {TOKEN}" and not path.startswith("/lfs/"):
            self._send(401)
        else:
            self._write(path, body)

    def _write(self, path: str, body: bytes) -> None:
        """Answer a request that changes something."""
        hub = self.hub
        if path.startswith("/lfs/"):
            owner, name, oid = path.removeprefix("/lfs/").split("/")
            hub.models[f"{owner}/{name}"].lfs[oid] = body
            return self._send(200)
        if path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            exists = name in hub.models
            private = wanted.get("visibility") == "private" or wanted.get("private", False)
            model = hub.models.setdefault(name, Model(private=private))
            if not exists:
                model.commit({".gitattributes": b""})
            return self._json({"url": f"{hub.address}/{name}"}, 409 if exists else 200)
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path.endswith("/info/lfs/objects/batch"):
            name = path[1:].removesuffix(".git/info/lfs/objects/batch")
            link = f"{hub.address}/lfs/{name}/"
            objects = [
                {**one, "actions": {"upload": {"href": link + one["oid"]}}}
                for one in json.loads(body)["objects"]
            ]
            return self._json({"transfer": "basic", "objects": objects})
        *_, owner, name, action, revision = path.split("/")
        return self._change(f"{owner}/{name}", action, revision, body)

    def _change(self, name: str, action: str, revision: str, body: bytes) -> None:
        model = self.hub.models[name]
        if action == "branch":
            exists = revision in model.branches
            model.branches.setdefault(revision, model.branches["main"])
            return self._json({}, 409 if exists else 200)
        if action == "preupload":
            modes = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(self.hub.lfs_names) else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            return self._json({"files": modes})
        assert action == "commit"
        files, message = dict(model.files(revision)), ""
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                message = value["summary"]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile", line
                files[value["path"]] = model.lfs[value["oid"]]
        commit = model.commit(files, revision, message)
        link = f"{self.hub.address}/{name}/commit/{commit}"
        return self._json({"commitUrl": link, "commitOid": commit})

    def _resolve(self, name: str, place: str) -> None:
        """Send a file, or its size and commit only."""
        revision, _, file = place.partition("/")
        model = self.hub.models.get(name)
        is_known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if model is None or (model.private and not is_known):
            return self._send(401 if not is_known else 404, error="RepoNotFound")
        if model.gated:
            return self._send(403, error="GatedRepo")
        commit = model.branches.get(revision, revision)
        if commit not in model.commits:
            return self._send(404, error="RevisionNotFound")
        if file not in model.commits[commit]:
            return self._send(404, error="EntryNotFound", commit=commit)
        content = model.commits[commit][file]
        return self._send(200, content, commit=commit, file=file)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode())

    def _send(
        self,
        status: int,
        content: bytes = b"",
        *,
        error: str = "",
        commit: str = "",
        file: str = "",
    ) -> None:
        if self.command == "GET":
            content = content[: self.hub.short.get(file)]
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        for name, value in (("X-Error-Code", error), ("X-Repo-Commit", commit)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        content = self.hub.changed.get(file, content)
        if file in self.hub.cut:
            content = content[: self.hub.cut[file]]
            self.close_connection = True
        self.hub.then.pop(file, object)()
        self.wfile.write(content)


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty Hub on a free port."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
