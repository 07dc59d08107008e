"""A local stand-in for the hub's HTTP API, as huggingface_hub calls it: repositories, preupload, git LFS, commits."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_token"


@dataclass
class Repository:
    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0


class Hub:
    """`repositories` by (kind, name), `stored` LFS objects by their sha256, `asked` the requests in order. While
    `broken` is set, a commit fails."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.broken = False
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def sent(self, start: str) -> list[str]:
        return [line for line in self.asked if line.startswith(start)]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, *args: Any) -> None: ...

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        if not path.startswith("/lfs/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._reply(401, {"error": "Invalid username or password."})
        parts = path.strip("/").split("/")
        if parts[0] == "lfs":
            self.hub.stored[parts[1]] = body
            return self._reply(200, {})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._reply(200, {"errors": [], "warnings": []})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        kind, name = parts[1].removesuffix("s"), "/".join(parts[2:4])
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return self._reply(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if "preupload" in parts:
            return self._modes(repository, json.loads(body))
        if "commit" in parts:
            return self._commit(repository, name, body)
        return self._reply(200, {"id": name, "private": repository.private, "sha": "0" * 40, "siblings": [],
                                 "tags": [], "downloads": 0, "likes": 0, "author": name.split("/")[0],
                                 "disabled": False, "gated": False})  # fmt: skip

    def _create(self, asked: dict[str, Any]) -> None:
        name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        kind = asked.get("type") or "model"
        if name.startswith("forbidden/"):
            return self._reply(403, {"error": "You don't have the rights to create a model under this namespace"})
        if (kind, name) in self.hub.repositories:
            return self._reply(409, {"error": "You already created this repository", "url": self._url(kind, name)})
        private = bool(asked.get("private") or asked.get("visibility") == "private")
        self.hub.repositories[kind, name] = Repository(private)
        return self._reply(200, {"url": self._url(kind, name), "name": name, "id": name})

    def _url(self, kind: str, name: str) -> str:
        return f"{self.hub.url}/{'' if kind == 'model' else f'{kind}s/'}{name}"

    def _modes(self, repository: Repository, asked: dict[str, Any]) -> None:
        def mode(path: str) -> str:
            return "lfs" if path.endswith((".safetensors", ".jsonl")) else "regular"

        def oid(path: str) -> str | None:
            content = repository.files.get(path)
            if content is None:
                return None
            if mode(path) == "lfs":
                return hashlib.sha256(content).hexdigest()
            return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

        files = [{"path": path, "uploadMode": mode(path), "shouldIgnore": False, "oid": oid(path)}
                 for path in (each["path"] for each in asked["files"])]  # fmt: skip
        self._reply(200, {"files": files})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for each in asked["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}", "header": {}}}
            there = each["oid"] in self.hub.stored
            objects.append({**each, "authenticated": True, **({} if there else {"actions": upload})})
        self._reply(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repository: Repository, name: str, body: bytes) -> None:
        if self.hub.broken:
            return self._reply(500, {"error": "Internal error"})
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.stored[value["oid"]]
        repository.commits += 1
        oid = f"{repository.commits:040x}"
        return self._reply(200, {"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid,
                                 "success": True, "hookOutput": ""})  # fmt: skip

    def _reply(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for key, text in {"Content-Type": "application/json", "Content-Length": str(len(content)),
                          **(headers or {})}.items():  # fmt: skip
            self.send_header(key, text)
        self.end_headers()
        self.wfile.write(content)
