"""The part of the loopback hub that takes uploads: create a repository, negotiate, store large files, commit."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from hub_server import HubRepository, LoopbackHub

LARGE_SUFFIXES = (".png", ".safetensors")
"""what .gitattributes of a new repository sends to the storage of large files"""
FIRST_COMMIT = "0" * 40
Answer = tuple[int, Any, dict[str, str]]


def take(hub: LoopbackHub, parts: list[str], body: bytes, token: str) -> Answer:
    """Status, JSON and headers for a POST or PUT to the path of ``parts``."""
    if parts == ["api", "validate-yaml"]:
        return _validate(json.loads(body))
    if parts[0] == "storage":  # addresses there are signed, so no token is asked for
        return _store(hub, parts[1], body)
    refused = _refuse(hub, parts, body, token)
    if refused is not None:
        return refused
    if parts == ["api", "repos", "create"]:
        return _create(hub, json.loads(body))
    if parts[-3:] == ["lfs", "objects", "batch"]:
        return _batch(hub, json.loads(body))
    name = "/".join(parts[2:4]) if parts[1] == "models" else f"datasets/{'/'.join(parts[2:4])}"
    repository = hub.repositories.get(name)
    if repository is None:
        return 404, {}, {"X-Error-Code": "RepoNotFound"}
    if parts[4] == "preupload":
        return _preupload(repository, json.loads(body))
    if parts[4] == "commit":
        return _commit(hub, name, [json.loads(line) for line in body.splitlines()])
    return 404, {}, {}


def _refuse(hub: LoopbackHub, parts: list[str], body: bytes, token: str) -> Answer | None:
    from hub_server import READ_TOKEN, TOKEN

    if token not in (TOKEN, READ_TOKEN):
        return 401, {"error": "Invalid username or password."}, {}
    owner = json.loads(body)["organization"] if parts[-1] == "create" else None
    if token == READ_TOKEN or owner not in (None, hub.owner):
        return 403, {"error": "Forbidden: you don't have the required permissions."}, {}
    return None


def _validate(asked: dict[str, str]) -> Answer:
    """As the hub does, in little: front matter that is YAML, with a licence."""
    _, front_matter, _ = asked["content"].split("---\n", 2)
    fields = yaml.safe_load(front_matter)
    errors = [] if isinstance(fields.get("license"), str) else [{"message": "no license"}]
    return (400 if errors else 200), {"errors": errors, "warnings": []}, {}


def _create(hub: LoopbackHub, asked: dict[str, Any]) -> Answer:
    from hub_server import HubRepository

    name = f"{asked['organization']}/{asked['name']}"
    key = f"datasets/{name}" if asked.get("type") == "dataset" else name
    url = {"url": f"{hub.url}/{key}", "name": name}
    if key in hub.repositories:
        return 409, {"error": "You already created this repo", **url}, {}
    assert hub.storage is not None, "this hub was not told where to keep new repositories"
    folder = hub.storage / key
    folder.mkdir(parents=True)
    (folder / ".gitattributes").write_text("".join(f"*{suffix} filter=lfs\n" for suffix in LARGE_SUFFIXES))
    hub.repositories[key] = HubRepository(folder, FIRST_COMMIT, private=asked.get("visibility") == "private")
    return 200, url, {}


def _preupload(repository: HubRepository, asked: dict[str, Any]) -> Answer:
    files = []
    for file in asked["files"]:
        large = file["path"].endswith(LARGE_SUFFIXES)
        files.append({"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False})
    return 200, {"files": files}, {}


def _batch(hub: LoopbackHub, asked: dict[str, Any]) -> Answer:
    objects = []
    for item in asked["objects"]:
        there = item["oid"] in hub.blobs
        actions = {} if there else {"actions": {"upload": {"href": f"{hub.url}/storage/{item['oid']}"}}}
        objects.append({**item, **actions})
    return 200, {"transfer": "basic", "objects": objects}, {}


def _store(hub: LoopbackHub, digest: str, body: bytes) -> Answer:
    if hashlib.sha256(body).hexdigest() != digest:
        return 422, {"error": "hash"}, {}
    hub.blobs[digest] = body
    return 200, {}, {}


def _commit(hub: LoopbackHub, name: str, lines: list[dict[str, Any]]) -> Answer:
    repository = hub.repositories[name]
    if hub.cut_commits:
        hub.cut_commits -= 1
        return 422, {"error": "not committed"}, {}
    for line in lines[1:]:
        value, path = line["value"], repository.folder / line["value"]["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if line["key"] == "file":
            path.write_bytes(base64.b64decode(value["content"]))
        else:
            path.write_bytes(hub.blobs[value["oid"]])
            repository.large.add(value["path"])
    hub.commits.append(lines[0]["value"]["summary"])
    repository.commit = hashlib.sha1(f"{repository.commit}{len(hub.commits)}".encode()).hexdigest()
    return 200, {"commitUrl": f"{hub.url}/{name}/commit/{repository.commit}", "commitOid": repository.commit}, {}
