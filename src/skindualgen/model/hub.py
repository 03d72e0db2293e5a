"""Bring a base or an adapter from the Hugging Face hub into its ordinary cache, or say in one message why not.

Everything of the protocol is ``huggingface_hub``'s: HF_ENDPOINT (mirrors), HF_TOKEN, HF_HOME and HF_HUB_OFFLINE work as
its documentation says. No torch is imported here.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from json import JSONDecodeError
from pathlib import Path

from huggingface_hub import HfApi, ModelCard, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,  # of the HTTP library that this version of the client is built on
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)

from skindualgen.contracts import InputError
from skindualgen.files import found_no_room
from skindualgen.model.base_files import CONFIGS, WEIGHTS, folder_files, loaded_files
from skindualgen.model.registry import Candidate

logger = logging.getLogger(__name__)

GB = 1e9
ASK_SECONDS = 20.0
"""seconds that a server may take to describe a repository"""
BESIDE_THE_PARTS = ("model_index.json", "README.md")
"""fetched with the parts: what the folder is, and its model card, which names the licence"""
DENIED = (401, 403)
NOT_GIVEN = (*DENIED, 404)
"""The hub tells a stranger 401 for what it does not have as for what it will not show."""
REMEDY = (
    "go on with a mirror (HF_ENDPOINT=https://..., or --base owner/name@revision), a downloaded diffusers folder "
    "(--base PATH), HF_TOKEN for a gated repository, or the cache of another machine (HF_HOME, HF_HUB_OFFLINE=1); "
    "docs/bases.md"
)


ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json", "run.json", "trained_on.json", "README.md")
"""what is fetched of an adapter's repository; those that are not there are no fault here"""


@dataclass(frozen=True)
class Snapshot:
    """Files of one commit in the hub's cache."""

    folder: Path
    repo: str
    revision: str
    """the commit"""
    license: str | None
    """as the model card names it"""


class _UnusableError(Exception):
    """One candidate cannot be had; the text says why."""


class _UnreachableError(_UnusableError):
    """The hub itself cannot be asked, for this candidate or any other."""


def fetch_snapshot(candidates: Sequence[Candidate]) -> Snapshot:
    """Return the first of ``candidates`` that can be had, downloading into the hub's cache what is not there yet.

    A commit that is whole in the cache is taken without asking the hub. So is what is in the cache of a repository that
    cannot be asked, with a warning.

    Raises:
        InputError: no candidate could be had; a download broke off; the disk has too little room.
    """
    tried: list[str] = []
    down: _UnreachableError | None = None
    for candidate in candidates:
        cached = cached_snapshot(candidate)
        if cached and candidate.pinned:
            return cached
        try:
            if down:  # each further question would wait for its own timeout
                raise down
            snapshot = _download(candidate)
        except _UnusableError as error:
            down = error if isinstance(error, _UnreachableError) else down
            if cached:
                logger.warning("%s: %s; its copy in the cache is used, commit %s", candidate, error, cached.revision)
                return cached
            tried.append(f"{candidate}: {error}")
            continue
        if tried:
            logger.warning("%s is used, as others could not be had (%s)", candidate, "; ".join(tried))
        return snapshot
    raise InputError(
        f"no base from {constants.ENDPOINT} ({'; '.join(tried)})", "one of these repositories, or their copy", REMEDY
    )


def fetch_adapter(candidate: Candidate) -> Path:
    """Return the folder of an adapter's repository in the hub's cache, downloading what is not there yet.

    Raises:
        InputError: it could not be had.
    """
    download = partial(snapshot_download, candidate.repo, revision=candidate.revision)
    names = list(ADAPTER_FILES)
    if candidate.pinned:
        with suppress(LocalEntryNotFoundError, ValueError):  # then it is not in the cache
            cached = Path(download(allow_patterns=names, local_files_only=True))
            if all((cached / name).is_file() for name in ADAPTER_FILES[:2]):
                return cached
    try:
        return Path(download(allow_patterns=names))
    except (HTTPError, OSError, ValueError, ImportError) as error:
        raise InputError(
            f"no adapter {candidate} from {constants.ENDPOINT} ({_reason(error, candidate)})",
            "a repository of the hub that holds an adapter",
            "correct owner/name@revision, set HF_TOKEN for a private repository, or give a folder",
        ) from error


def cached_snapshot(candidate: Candidate) -> Snapshot | None:
    """Return what the cache holds of ``candidate`` without asking anybody; None unless all that is loaded is there."""
    plain = [f"{part}/{name}" for part, names in CONFIGS.items() for name in names]
    plain += [f"{part}/{stem}.safetensors" for part, stem in WEIGHTS.items()]
    try:
        # Names, not patterns: a half-precision twin that was never asked for must not count as missing.
        folder = snapshot_download(
            candidate.repo, revision=candidate.revision, allow_patterns=plain, local_files_only=True
        )
        loaded_files(folder_files(Path(folder)), str(candidate))
    except (LocalEntryNotFoundError, InputError, ValueError):
        return None
    return _snapshot(candidate, Path(folder))


def first_cached(candidates: Sequence[Candidate]) -> Snapshot | None:
    """Return what the cache holds of the first candidate that it holds, without asking anybody."""
    return next(filter(None, map(cached_snapshot, candidates)), None)


def free_cache_bytes() -> int:
    """Free bytes of the disk that the hub's cache lies on, or will."""
    cache = Path(constants.HF_HUB_CACHE).absolute()
    return shutil.disk_usage(next(path for path in (cache, *cache.parents) if path.exists())).free


def _download(candidate: Candidate) -> Snapshot:
    api = HfApi(library_name="skindualgen")
    try:
        info = api.model_info(candidate.repo, revision=candidate.revision, files_metadata=True, timeout=ASK_SECONDS)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        files = loaded_files(sizes, str(candidate))
    except InputError as error:
        raise _UnusableError(error.got.removeprefix(f"{candidate} ")) from error
    except (HTTPError, OSError, ValueError, ImportError) as error:  # ImportError: a SOCKS proxy without its package
        answered = isinstance(error, HfHubHTTPError | ValueError)
        raise (_UnusableError if answered else _UnreachableError)(_reason(error, candidate)) from error
    files += [name for name in BESIDE_THE_PARTS if name in sizes]
    missing = [
        name for name in files if not isinstance(try_to_load_from_cache(candidate.repo, name, revision=info.sha), str)
    ]
    needed = sum(sizes[name] for name in missing)
    if needed > free_cache_bytes():
        raise _no_room(candidate, needed)
    if missing:
        logger.warning(
            "Downloading %.2f GB of %s (commit %s) into %s", needed / GB, candidate, info.sha, constants.HF_HUB_CACHE
        )
    try:
        folder = snapshot_download(candidate.repo, revision=candidate.revision, allow_patterns=files)
    except (HTTPError, OSError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status in DENIED:  # a gated repository describes itself to everybody, and denies its files
            raise _UnusableError(_reason(error, candidate)) from error
        if found_no_room(error):
            raise _no_room(candidate, needed) from error
        raise InputError(
            f"a download of {candidate} that broke off ({_reason(error, candidate)})",
            f"all {len(files)} files",
            "run the same command again: files that are whole stay in the cache; or give a folder with --base PATH",
        ) from error
    return _snapshot(candidate, Path(folder))


def _snapshot(candidate: Candidate, folder: Path) -> Snapshot:
    card = folder / "README.md"
    license_name = ModelCard.load(card, ignore_metadata_errors=True).data.get("license") if card.is_file() else None
    return Snapshot(folder, candidate.repo, folder.name, license_name)


def _no_room(candidate: Candidate, needed: int) -> InputError:
    return InputError(
        f"{free_cache_bytes() / GB:.2f} GB free in {constants.HF_HUB_CACHE}",
        f"{needed / GB:.2f} GB for what is missing of {candidate}",
        "make room, set HF_HOME to a folder on another disk, or give a downloaded diffusers folder with --base PATH",
    )


def _reason(error: Exception, candidate: Candidate) -> str:
    """Why the hub did not give ``candidate``, in a few words."""
    match error:
        case GatedRepoError():
            return "gated: accept its terms on its page, then set HF_TOKEN"
        case RevisionNotFoundError():
            return f"no revision {candidate.revision or constants.DEFAULT_REVISION}"
        case HfHubHTTPError() if error.response.status_code in NOT_GIVEN:
            return f"removed, private or misspelt (HTTP {error.response.status_code})"
        case HfHubHTTPError():
            return f"HTTP {error.response.status_code}"
        case OfflineModeIsEnabled():
            return "not in the cache, and HF_HUB_OFFLINE is set"
        case LocalEntryNotFoundError() if isinstance(error.__cause__, HTTPError | OSError):
            return _reason(error.__cause__, candidate)
        case JSONDecodeError():
            return "an answer that is no hub's: check HF_ENDPOINT, and whether a sign-in page is in the way"
        case HTTPError():
            return f"not reachable ({type(error).__name__})"
    return " ".join(str(error).split())[:200] or type(error).__name__
