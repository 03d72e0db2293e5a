"""Upload a release to the Hugging Face hub, and say in one message why it could not be.

Everything of the protocol is ``huggingface_hub``'s: HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE work as it documents them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoFile

from skindualgen.contracts import InputError
from skindualgen.files import CHUNK_BYTES, atomic_write_text, sha256_file
from skindualgen.model.registry import HUB_ID
from skindualgen.release.build import ADAPTER_DIR, DATASET_DIR
from skindualgen.release.cards import UNNAMED

REPO_TYPES: Mapping[str, str] = {DATASET_DIR: "dataset", ADAPTER_DIR: "model"}
CARD, ATTRIBUTES = "README.md", ".gitattributes"
MAY_DIFFER = frozenset({CARD, ATTRIBUTES})
"""files of a repository that an upload may replace: a card that was edited, and what the hub adds itself"""
FOLDER_LIMIT = 10_000
"""Files that the hub takes in one folder. Source: huggingface.co/docs/hub/repositories-recommendations."""
DENIED = (401, 403)


def push_release(out: Path, repository: str, *, private: bool = False) -> list[str]:
    """Create the repositories of a release and upload its folders; what is there already is not sent again.

    Args:
        out: a release of ``build_release``.
        repository: ``owner/name``, of the data set and, as a model, of the adapter.
        private: of repositories that are new.

    Returns:
        Their addresses.

    Raises:
        InputError: no release, too many files for the hub, no token, a token that may not write there, no network, a
            repository with other content. The release stays as it is.
    """
    if not HUB_ID.fullmatch(repository):
        raise InputError(f"--push {repository!r}", "owner/name", "name your account or organisation, and a repository")
    parts = [name for name in (DATASET_DIR, ADAPTER_DIR) if (out / name / CARD).is_file()]
    if DATASET_DIR not in parts:
        raise InputError(f"{out} without {DATASET_DIR}/{CARD}", "a folder of `skindualgen release`", "give --data too")
    _refuse_full_folders(out)
    later = f"everything is in {out}: later, `skindualgen release --out {out} --push {repository}`"
    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE is set", "a connection to the hub", later)
    if get_token() is None:
        raise InputError("no token of the hub", "HF_TOKEN, or `hf auth login`", later)
    _name_repository(out / DATASET_DIR / CARD, repository)
    api = HfApi(library_name="skindualgen")
    try:
        return [_push(api, out / part, repository, REPO_TYPES[part], private) for part in parts]
    except (HTTPError, OSError, RuntimeError, ValueError) as error:  # ValueError: front matter that the hub refuses
        got, expected = _reason(error, repository)
        raise InputError(got, expected, later) from error


def _name_repository(card: Path, repository: str) -> None:
    """Put the repository's name into the card's loading example, if that was left open."""
    text = card.read_text(encoding="utf-8")
    if UNNAMED in text:
        atomic_write_text(card, text.replace(UNNAMED, repository))


def _push(api: HfApi, folder: Path, repository: str, kind: str, private: bool) -> str:
    api.create_repo(repository, repo_type=kind, private=private or None, exist_ok=True)
    _refuse_other_content(_remote_files(api, repository, kind), folder, f"{kind} repository {repository}")
    api.upload_folder(repo_id=repository, repo_type=kind, folder_path=folder, commit_message="Upload a release")
    _refuse_other_content(_remote_files(api, repository, kind), folder, repository, complete=True)
    prefix = constants.REPO_TYPES_URL_PREFIXES.get(kind, "")
    return f"{constants.ENDPOINT}/{prefix}{repository}"


def _remote_files(api: HfApi, repository: str, kind: str) -> dict[str, RepoFile]:
    entries = api.list_repo_tree(repository, repo_type=kind, recursive=True)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _refuse_other_content(remote: Mapping[str, RepoFile], folder: Path, name: str, *, complete: bool = False) -> None:
    """Compare a repository with a folder, by content; with ``complete``, nothing may be missing in it.

    Names alone would not do: every release calls its files SDG_0000000.png.
    """
    local = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    others = [
        path
        for path, entry in sorted(remote.items())
        if path not in MAY_DIFFER and (path not in local or not _same(entry, local[path]))
    ]
    missing = sorted(set(local) - set(remote)) if complete else []
    if others or missing:
        raise InputError(
            f"{name} with other content ({', '.join([*others, *missing][:5])})",
            "a new repository, or one with a part of this release",
            "choose another --push, or empty that repository on its page",
        )


def _same(entry: RepoFile, path: Path) -> bool:
    if entry.lfs is not None:
        return bool(entry.lfs.sha256 == sha256_file(path))
    return entry.blob_id == _git_hash(path)


def _git_hash(path: Path) -> str:
    """The name that git gives to a file's content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _refuse_full_folders(out: Path) -> None:
    for folder in (path for path in sorted(out.rglob("*")) if path.is_dir()):
        count = sum(1 for _ in folder.iterdir())
        if count > FOLDER_LIMIT:
            raise InputError(
                f"{count} files in {folder.relative_to(out)}",
                f"{FOLDER_LIMIT} or fewer, the hub's limit of a folder",
                "upload shards: `skindualgen export-data --format parquet` or webdataset, then `hf upload`",
            )


def _reason(error: BaseException, repository: str) -> tuple[str, str]:
    """What the hub said, and what was needed, in a few words."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:  # of an upload in a thread
        error = error.__cause__
    match error:
        case HfHubHTTPError() if error.response.status_code in DENIED:
            return (
                f"no right to write to {repository} (HTTP {error.response.status_code})",
                "a token with the role write, of its owner",
            )
        case HfHubHTTPError():
            return f"HTTP {error.response.status_code} from {constants.ENDPOINT}", "an upload that the hub takes"
        case OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE is set", "a connection to the hub"
        case HTTPError():
            return f"{constants.ENDPOINT} not reachable ({type(error).__name__})", "a connection to the hub"
    return " ".join(str(error).split())[:200] or type(error).__name__, "an upload that the hub takes"
