"""A small Hugging Face hub on loopback: what huggingface_hub's client asks to fetch and to upload, and failures.

It answers information of models and data sets, the listing of a commit, and the files with their entity tags, commit,
byte ranges and, for weights, the redirect to another host that the real hub uses for large files. Uploads
(hub_uploads.py) are created, negotiated and committed as without Xet, which it does not speak.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hub_uploads import take

LARGE = ".safetensors"
TOKEN, READ_TOKEN = "hf_loopback", "hf_loopback_read"
"""of an account that may write to its own repositories, and one that may only read"""


@dataclass
class HubRepository:
    """One repository with one commit."""

    folder: Path
    commit: str
    license: str | None = "openrail++"
    gated: bool = False
    tags: tuple[str, ...] = ("main",)
    sizes: dict[str, int] = field(default_factory=dict)
    """sizes to report in place of the real ones"""
    private: bool = False
    large: set[str] = field(default_factory=set)
    """files that were uploaded as large ones"""

    def files(self) -> list[str]:
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file())


@dataclass
class LoopbackHub:
    """State of the server that tests set and look at."""

    url: str = ""
    cdn: str = ""
    repositories: dict[str, HubRepository] = field(default_factory=dict)
    """by owner/name; those of data sets as datasets/owner/name"""
    storage: Path | None = None
    """folder of repositories that clients create; without it none can be"""
    owner: str = "owner"
    """the account of ``TOKEN``, which may write"""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """large files by their hash"""
    commits: list[str] = field(default_factory=list)
    """messages"""
    cut_commits: int = 0
    """that many next commits are answered with a failure"""
    requests: list[str] = field(default_factory=list)
    """method, path and range of each request"""
    cut: dict[str, int] = field(default_factory=dict)
    """path of a file -> bytes after which its next transfers are cut"""
    cuts_left: int = 1
    broken_with: int | None = None
    """status of every answer, as of a hub that is down"""
    web_page: bool = False
    """answer everything with a web page, as a captive portal does"""


def write_card(folder: Path, license_name: str) -> None:
    """Write a model card with its front matter, as repositories have it."""
    (folder / "README.md").write_text(f"---\nlicense: {license_name}\n---\n# A base\n", encoding="utf-8")


@contextmanager
def serve_hub() -> Iterator[LoopbackHub]:
    """Run the hub on a free port for as long as the block lasts."""
    hub = LoopbackHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url, hub.cdn = (f"http://{host}:{server.server_port}" for host in ("127.0.0.1", "localhost"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._take()

    def do_PUT(self) -> None:
        self._take()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean; ``LoopbackHub.requests`` has it all."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(" ".join(filter(None, (self.command, path, self.headers.get("Range")))))
        if self.hub.web_page:
            return self._send(200, b"<html>Please sign in</html>", {"Content-Type": "text/html"})
        if self.hub.broken_with:
            return self._send(self.hub.broken_with)
        parts = path.strip("/").split("/")
        if len(parts) < len(("owner", "name", "kind")):  # what a client asks beside repositories
            return self._send(404)
        if parts[0] == "api" and parts[1] in ("models", "datasets"):
            prefix = "datasets/" if parts[1] == "datasets" else ""
            name, kind, rest = prefix + "/".join(parts[2:4]), (parts[4:5] or ["revision"])[0], parts[5:]
        elif parts[0] == "datasets":
            name, kind, rest = "/".join(parts[:3]), parts[3], parts[4:]
        elif parts[0] == "cdn":
            name, kind, rest = "/".join(parts[1:3]), "cdn", parts[3:]
        else:
            name, kind, rest = "/".join(parts[:2]), parts[2], parts[3:]
        repository = self.hub.repositories.get(name)
        if repository is None or (
            repository.private and not self._signed_in()
        ):  # the real hub tells a stranger 401, and 404 only to those who are signed in
            return self._send(*((404, b"", {"X-Error-Code": "RepoNotFound"}) if self._signed_in() else (401,)))
        if kind == "cdn":
            return self._send_file(repository, "/".join(rest), {})
        revision = rest[0] if rest else "main"
        if revision not in (repository.commit, *repository.tags):
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if kind == "revision":
            return self._send_json(_information(name, repository))
        if kind == "tree":
            return self._send_json([_entry(repository, file) for file in repository.files()])
        if repository.gated and not self._signed_in():
            return self._send(401, b"", {"X-Error-Code": "GatedRepo"})
        return self._resolve(name, repository, "/".join(rest[1:]))

    def _signed_in(self) -> bool:
        return self.headers.get("Authorization") in (f"Bearer {TOKEN}", f"Bearer {READ_TOKEN}")

    def _take(self) -> None:
        """Answer an upload's request, as hub_uploads.py has it."""
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.hub.broken_with:
            return self._send(self.hub.broken_with)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        status, value, headers = take(self.hub, path.strip("/").split("/"), body, token)
        return self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    def _resolve(self, name: str, repository: HubRepository, file: str) -> None:
        if file not in repository.files():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        common = {"X-Repo-Commit": repository.commit}
        if not file.endswith(LARGE):
            return self._send_file(repository, file, common | {"ETag": f'"{_git_hash(repository.folder / file)}"'})
        linked = {"X-Linked-Size": str((repository.folder / file).stat().st_size)}
        linked["X-Linked-ETag"] = f'"{hashlib.sha256((repository.folder / file).read_bytes()).hexdigest()}"'
        return self._send(302, b"", common | linked | {"Location": f"{self.hub.cdn}/cdn/{name}/{file}"})

    def _send_file(self, repository: HubRepository, file: str, headers: dict[str, str]) -> None:
        content = (repository.folder / file).read_bytes()
        start, status = 0, 200
        if wanted := self.headers.get("Range"):
            start, status = int(wanted.removeprefix("bytes=").split("-")[0]), 206
            headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        body, length = content[start:], len(content) - start
        if self.command == "GET" and file in self.hub.cut and self.hub.cuts_left:
            self.hub.cuts_left -= 1
            body, self.close_connection = body[: self.hub.cut[file]], True
        self._send(status, body, headers, length)

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _information(name: str, repository: HubRepository) -> dict[str, object]:
    siblings = [{"rfilename": file, "size": _size(repository, file)} for file in repository.files()]
    gated = "auto" if repository.gated else False
    card = {"license": repository.license} if repository.license else {}
    return {"id": name, "sha": repository.commit, "gated": gated, "cardData": card, "siblings": siblings}


def _entry(repository: HubRepository, file: str) -> dict[str, object]:
    path = repository.folder / file
    entry = {"type": "file", "path": file, "size": path.stat().st_size, "oid": _git_hash(path)}
    if file not in repository.large:
        return entry
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {**entry, "lfs": {"oid": digest, "size": entry["size"], "pointerSize": 130}}


def _size(repository: HubRepository, file: str) -> int:
    return repository.sizes.get(file, (repository.folder / file).stat().st_size)


def _git_hash(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
