"""Bases from the hub: the real client against a hub on loopback that serves the tiny twin, and all that fails."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, file_download
from safetensors.torch import load_file, save_file

from hub_server import TOKEN, HubRepository, LoopbackHub, serve_hub, write_card
from skindualgen.contracts import InputError
from skindualgen.model import registry
from skindualgen.model.adapter import adapter_folder
from skindualgen.model.bases import load_base
from skindualgen.model.hub import cached_snapshot, fetch_snapshot
from skindualgen.model.registry import Candidate

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "owner/tiny"
UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def twin(tmp_path: Path, tiny_base: Path) -> Path:
    """The tiny base as repositories have it: with a card, half-precision twin, pickles and single-file checkpoint."""
    folder = shutil.copytree(tiny_base, tmp_path / "twin")
    write_card(folder, "openrail++")
    (folder / "model_index.json").write_text("{}")
    for name in ("unet/diffusion_pytorch_model.fp16.safetensors", "unet/diffusion_pytorch_model.bin", "512-ema.ckpt"):
        (folder / name).write_bytes(b"not to be fetched")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, twin: Path) -> Iterator[LoopbackHub]:
    """A hub with ``owner/tiny``, a client that asks it, and an empty cache."""
    with serve_hub() as running:
        running.repositories[NAME] = HubRepository(twin, COMMIT)
        use_hub(monkeypatch, running.url, tmp_path / "cache")
        yield running


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, cache: Path) -> None:
    """What HF_ENDPOINT, HF_HUB_CACHE and HF_HUB_OFFLINE set, which the client reads once, when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no_token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


def closed_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def files_asked(hub: LoopbackHub) -> set[str]:
    """Files whose content was asked for."""
    return {
        line.split()[1].split(f"{NAME}/")[1].removeprefix(f"resolve/{COMMIT}/")
        for line in hub.requests
        if line.startswith("GET") and "/api/" not in line
    }


def test_a_base_comes_from_the_hub_as_from_a_folder(hub: LoopbackHub, twin: Path) -> None:
    """Links in the cache, and what lies beside the files that are loaded, change neither hash nor weights."""
    base, local = load_base(NAME), load_base(twin)
    assert (base.base_id, base.revision, base.license) == (NAME, COMMIT, "openrail++")
    assert base.place == f"{NAME}@{COMMIT}"
    assert (local.base_id, local.revision, local.license, local.place) == ("twin", None, None, "twin")
    assert base.sha256 == local.sha256
    assert all(torch.equal(a, b) for a, b in zip(base.unet.parameters(), local.unet.parameters(), strict=True))


def test_only_what_is_loaded_is_fetched_and_only_once(hub: LoopbackHub) -> None:
    snapshot = fetch_snapshot([Candidate(NAME)])
    assert files_asked(hub) == {
        UNET,
        "unet/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/config.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "scheduler/scheduler_config.json",
        "model_index.json",
        "README.md",
    }
    hub.requests.clear()
    assert fetch_snapshot([Candidate(NAME)]) == snapshot
    assert not files_asked(hub)


def test_a_commit_in_the_cache_is_taken_without_asking(hub: LoopbackHub) -> None:
    first = fetch_snapshot([Candidate(NAME)])
    hub.requests.clear()
    assert fetch_snapshot([Candidate(NAME, COMMIT)]) == first == cached_snapshot(Candidate(NAME, COMMIT))
    assert hub.requests == []


def test_a_branch_that_moved_is_fetched_anew_and_the_old_commit_stays(hub: LoopbackHub, twin: Path) -> None:
    before = fetch_snapshot([Candidate(NAME)])
    state = load_file(twin / UNET)
    save_file({name: value + 1 for name, value in state.items()}, twin / UNET)
    hub.repositories[NAME].commit = COMMIT[::-1]
    after = fetch_snapshot([Candidate(NAME)])
    assert (before.revision, after.revision) == (COMMIT, COMMIT[::-1])
    assert cached_snapshot(Candidate(NAME, COMMIT)) == before
    assert load_base(before.folder).sha256 != load_base(after.folder).sha256


def test_where_there_is_only_half_precision_it_is_used_and_said(
    hub: LoopbackHub, twin: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half = twin / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    save_file({name: value.half() for name, value in load_file(twin / UNET).items()}, half, metadata={"format": "pt"})
    expected = load_file(twin / UNET)["conv_in.weight"].half().float()
    (twin / UNET).unlink()
    base = load_base(NAME)
    assert base.unet.dtype == torch.float32
    assert torch.equal(base.unet.conv_in.weight, expected)
    assert base.sha256 == load_base(twin).sha256
    assert "half precision only" in caplog.text


def test_pickles_are_refused_before_anything_is_fetched(hub: LoopbackHub, twin: Path) -> None:
    (twin / UNET).unlink()
    (twin / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    with pytest.raises(InputError, match=r"only pickles \(diffusion_pytorch_model.bin\)") as caught:
        fetch_snapshot([Candidate(NAME)])
    assert NAME in str(caught.value)
    assert not [line for line in hub.requests if "/resolve/" in line]


def test_a_gated_repository_asks_for_a_token_and_opens_with_it(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[NAME].gated = True
    with pytest.raises(InputError, match=f"{NAME}: gated: accept its terms on its page, then set HF_TOKEN"):
        fetch_snapshot([Candidate(NAME)])
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch_snapshot([Candidate(NAME)]).revision == COMMIT


@pytest.mark.parametrize(("token", "status"), [(None, 401), (TOKEN, 404)])
def test_a_removed_repository_leads_to_the_next(
    hub: LoopbackHub,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    token: str | None,
    status: int,
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    snapshot = fetch_snapshot([Candidate("gone/base"), Candidate(NAME)])
    assert snapshot.repo == NAME
    assert f"gone/base: removed, private or misspelt (HTTP {status})" in caplog.text


def test_a_removed_repository_that_is_in_the_cache_is_used(hub: LoopbackHub, caplog: pytest.LogCaptureFixture) -> None:
    """Guards against fetching gigabytes from a second mirror when the first one's are here."""
    first = fetch_snapshot([Candidate(NAME)])
    hub.repositories["owner/second"] = hub.repositories.pop(NAME)
    assert fetch_snapshot([Candidate(NAME), Candidate("owner/second")]) == first
    assert "its copy in the cache is used" in caplog.text


def test_one_message_says_what_was_tried_and_how_to_go_on(hub: LoopbackHub) -> None:
    hub.repositories[NAME].gated = True
    with pytest.raises(InputError) as caught:
        fetch_snapshot([Candidate("gone/base"), Candidate(NAME), Candidate(NAME, "v9")])
    message = str(caught.value)
    for part in ("gone/base: removed", f"{NAME}: gated", f"{NAME}@v9: no revision v9", hub.url):
        assert part in message
    for way in ("HF_ENDPOINT", "--base owner/name@revision", "--base PATH", "HF_TOKEN", "HF_HUB_OFFLINE"):
        assert way in message


def test_a_hub_that_cannot_be_reached_is_asked_once_and_the_cache_serves(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = fetch_snapshot([Candidate(NAME)])
    use_hub(monkeypatch, closed_port(), tmp_path / "cache")
    assert fetch_snapshot([Candidate("other/base"), Candidate(NAME)]) == snapshot
    assert "not reachable" in caplog.text and "copy in the cache is used" in caplog.text
    use_hub(monkeypatch, closed_port(), tmp_path / "empty")
    with pytest.raises(InputError, match=r"other/base: not reachable \(ConnectError\); owner/tiny: not reachable"):
        fetch_snapshot([Candidate("other/base"), Candidate(NAME)])


def test_offline_the_cache_serves_and_nothing_is_asked(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = fetch_snapshot([Candidate(NAME)])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert fetch_snapshot([Candidate(NAME)]) == snapshot
    with pytest.raises(InputError, match="other/base: not in the cache, and HF_HUB_OFFLINE is set"):
        fetch_snapshot([Candidate("other/base")])
    assert hub.requests == []


def test_a_half_filled_cache_is_not_taken_for_whole(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = fetch_snapshot([Candidate(NAME)])
    (snapshot.folder / UNET).resolve().unlink()  # the link to it stays
    assert cached_snapshot(Candidate(NAME, COMMIT)) is None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="not in the cache"):
        fetch_snapshot([Candidate(NAME)])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.requests.clear()
    assert fetch_snapshot([Candidate(NAME)]) == snapshot
    assert files_asked(hub) == {UNET}


def test_a_half_filled_cache_of_an_older_client_is_not_taken_for_whole(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those keep no listing of a commit, and hand out whatever is there."""
    fetch_snapshot([Candidate(NAME)])
    older = shutil.copytree(tmp_path / "cache", tmp_path / "older", symlinks=True)
    use_hub(monkeypatch, hub.url, older)
    for listing in older.rglob("trees"):
        shutil.rmtree(listing)
    assert cached_snapshot(Candidate(NAME, COMMIT)) is not None
    next(older.rglob(UNET)).unlink()
    assert cached_snapshot(Candidate(NAME, COMMIT)) is None


def test_a_connection_cut_within_a_file_is_resumed_there(
    hub: LoopbackHub, twin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # the client keeps whole chunks of a cut answer
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    hub.cut[UNET] = 5500
    snapshot = fetch_snapshot([Candidate(NAME)])
    assert [line for line in hub.requests if UNET in line and "bytes=" in line] == [
        f"GET /cdn/{NAME}/{UNET} bytes=5000-"
    ]
    assert (snapshot.folder / UNET).read_bytes() == (twin / UNET).read_bytes()


def test_a_download_that_breaks_off_goes_on_with_the_next_call(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_download.time, "sleep", lambda seconds: None)
    hub.cut[UNET], hub.cuts_left = 0, 1000
    with pytest.raises(InputError, match=r"broke off .*run the same command again"):
        fetch_snapshot([Candidate(NAME), Candidate("other/base")])
    assert not [line for line in hub.requests if "other/base" in line]  # no second mirror: this one answers
    whole = files_asked(hub) - {UNET}
    assert whole
    hub.cuts_left = 0
    hub.requests.clear()
    assert fetch_snapshot([Candidate(NAME)]).revision == COMMIT
    assert UNET in files_asked(hub) and not files_asked(hub) & whole


def test_too_small_a_disk_is_found_before_the_download(hub: LoopbackHub) -> None:
    hub.repositories[NAME].sizes[UNET] = 10**18
    with pytest.raises(InputError, match=r"GB free in .*1000000000\.\d\d GB .*HF_HOME"):
        fetch_snapshot([Candidate(NAME)])
    assert not [line for line in hub.requests if "/resolve/" in line]


def test_a_disk_that_fills_up_on_the_way_says_so(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_download, "_chmod_and_move", full)
    with pytest.raises(InputError, match=r"GB free in .*make room"):
        fetch_snapshot([Candidate(NAME)])


@pytest.mark.parametrize(
    ("change", "said"), [({"broken_with": 503}, "HTTP 503"), ({"web_page": True}, "no hub's: check HF_ENDPOINT")]
)
def test_what_is_no_answer_of_a_hub_is_no_traceback(hub: LoopbackHub, change: dict[str, object], said: str) -> None:
    """A hub that is down, and a captive portal, whose web page is no JSON."""
    for name, value in change.items():
        setattr(hub, name, value)
    with pytest.raises(InputError, match=said):
        fetch_snapshot([Candidate(NAME)])


def test_a_path_that_could_be_a_repository_is_named_as_both(hub: LoopbackHub) -> None:
    with pytest.raises(InputError, match=r"models/sd2: removed, private or misspelt .*, nor a folder models/sd2"):
        load_base("models/sd2")


def test_a_name_that_the_hub_would_not_allow_is_refused(hub: LoopbackHub) -> None:
    with pytest.raises(InputError, match="owner/a--b"):
        load_base("owner/a--b")


def test_a_known_base_records_mirror_commit_and_licence(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    known = registry.KNOWN_BASES["sd2-base"]
    first = known.candidates[0]
    hub.repositories[first.repo] = replace(hub.repositories[NAME], commit=str(first.revision))
    with pytest.raises(InputError, match=r"epsilon, 64 px; expected sd2-base: epsilon, 512 px"):
        load_base("sd2-base")  # a mirror that serves another model under the name
    monkeypatch.setitem(registry.KNOWN_BASES, "sd2-base", replace(known, native_px=64))
    base = load_base("sd2-base")
    assert (base.base_id, base.revision, base.license) == (first.repo, first.revision, "openrail++")
    monkeypatch.setitem(registry.KNOWN_BASES, "sd2-base", replace(known, native_px=64, prediction_type="v_prediction"))
    with pytest.raises(InputError, match=r"pin another revision \(sd2-base@COMMIT\)"):
        load_base("sd2-base")


def test_a_local_folder_wins_over_the_hub(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_base: Path
) -> None:
    shutil.copytree(tiny_base, tmp_path / NAME)
    monkeypatch.chdir(tmp_path)
    assert load_base(NAME).revision is None
    assert load_base(f"{NAME}@main").revision == COMMIT
    assert all("/resolve/" in line or "/api/" in line or "/cdn/" in line for line in hub.requests)


@pytest.mark.slow
def test_the_command_line_honours_the_hubs_variables(hub: LoopbackHub, tmp_path: Path, tiny_adapter: Path) -> None:
    """HF_ENDPOINT and HF_HOME, then HF_HUB_OFFLINE, as a user sets them: in the environment of the process."""

    def started(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", **variables}
        command = [sys.executable, *command]
        return subprocess.run(command, capture_output=True, text=True, timeout=700, env=variables, check=False)

    # All that loads a base goes through this; it needs no second for libraries.
    code = f"from skindualgen.model import hub, registry; print(hub.fetch_snapshot([registry.Candidate({NAME!r})]))"
    down = started(["-c", code], HF_ENDPOINT=closed_port())
    assert down.returncode and "got no base from http://127.0.0.1:" in down.stderr
    generate = ["-m", "skindualgen", "generate", "--adapter", str(tiny_adapter), "--base", NAME]
    done = started([*generate, "--out", str(tmp_path / "a"), "--prompt", "a nevus", "-n", "1"], HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert "Downloading" in done.stderr and COMMIT in done.stderr
    assert "Warning" not in done.stderr  # all that a user sees
    assert COMMIT in (tmp_path / "a" / "dataset.json").read_text()
    asked = len(hub.requests)
    offline = started(["-c", code], HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0 and COMMIT in offline.stdout, offline.stderr
    assert len(hub.requests) == asked


def test_nothing_of_the_hub_imports_torch() -> None:
    """So that a listing of what is on disk needs no seconds."""
    code = "import sys, skindualgen.model.hub; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "diffusers", "transformers"}.isdisjoint(modules)


@pytest.fixture(autouse=True)
def _see_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="skindualgen")


def test_an_adapter_comes_from_the_hub(
    hub: LoopbackHub, tiny_adapter: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At a commit it is asked for once; a repository that is not there is one line; without a revision it is a path."""
    commit = "c" * 40
    hub.repositories["owner/lesions"] = HubRepository(tiny_adapter, commit)
    folder = adapter_folder(f"owner/lesions@{commit}")
    assert (folder / "adapter_model.safetensors").read_bytes() == (
        tiny_adapter / "adapter_model.safetensors"
    ).read_bytes()
    hub.requests.clear()
    assert adapter_folder(f"owner/lesions@{commit}") == folder and not hub.requests
    with pytest.raises(InputError, match="no adapter owner/none@main"):
        adapter_folder("owner/none@main")
    monkeypatch.chdir(tmp_path)
    assert adapter_folder("owner/lesions") == Path("owner/lesions")
