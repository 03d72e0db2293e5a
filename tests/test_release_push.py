"""Uploads with the real client to a hub on loopback: it has exactly the files, and what fails is said in one line."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, snapshot_download
from typer.testing import CliRunner

from hub_server import READ_TOKEN, TOKEN, LoopbackHub, serve_hub
from release_data import write_generated
from skindualgen.cli.release import release as release_command
from skindualgen.contracts import InputError
from skindualgen.files import sha256_file
from skindualgen.release import push as push_module
from skindualgen.release.build import ReleaseOptions, build_release
from skindualgen.release.push import push_release

NAME = "owner/derm"
# The client's own upload of large files without Xet uses a form of its HTTP library that is to go.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_adapter: Path) -> Path:
    """A release with its adapter."""
    folder = tmp_path_factory.mktemp("release")
    digest = sha256_file(tiny_adapter / "adapter_model.safetensors")
    data = write_generated(folder / "pairs", count=3, adapter=digest, base_id="base")
    build_release(ReleaseOptions(data=data, out=folder / "out", adapter=tiny_adapter, repository=NAME))
    return folder / "out"


@pytest.fixture
def ready(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "out")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """A hub that takes uploads, and a client with the token of its owner."""
    with serve_hub() as running:
        running.storage = tmp_path / "hub"
        use_hub(monkeypatch, running.url, tmp_path)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield running


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, folder: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # storage that only the real hub has
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no_token"))


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".gitattributes"
    }


def test_the_hub_gets_exactly_the_files(hub: LoopbackHub, ready: Path) -> None:
    addresses = push_release(ready, NAME)
    assert addresses == [f"{hub.url}/datasets/{NAME}", f"{hub.url}/{NAME}"]
    assert content(hub.storage / "datasets" / NAME) == content(ready / "dataset")
    assert content(hub.storage / NAME) == content(ready / "adapter")
    assert hub.repositories[f"datasets/{NAME}"].large == {
        *(f"{kind}/SDG_{i:07d}.png" for kind in ("images", "masks") for i in range(3)),
        "contact_sheet.png",
    }
    assert not any(repository.private for repository in hub.repositories.values())


def test_what_was_uploaded_comes_back_whole(hub: LoopbackHub, ready: Path) -> None:
    """Through the client's own download, and the files' hashes stand in what came."""
    push_release(ready, NAME, private=True)
    assert all(repository.private for repository in hub.repositories.values())
    folder = Path(snapshot_download(NAME, repo_type="dataset", local_dir=ready.parent / "back"))
    assert {name: data for name, data in content(folder).items() if ".cache" not in name} == content(ready / "dataset")


def test_pushing_again_sends_nothing_but_an_edited_card(hub: LoopbackHub, ready: Path) -> None:
    push_release(ready, NAME)
    card = ready / "dataset" / "README.md"
    card.write_text(card.read_text() + "\nA remark of the publisher.\n")
    hub.requests.clear()
    push_release(ready, NAME)
    assert content(hub.storage / "datasets" / NAME) == content(ready / "dataset")
    assert not [line for line in hub.requests if line.startswith("PUT")]


def test_an_upload_that_broke_off_goes_on(hub: LoopbackHub, ready: Path) -> None:
    hub.cut_commits = 1
    with pytest.raises(InputError, match=r"HTTP 422 .*everything is in .*later, `skindualgen release --out"):
        push_release(ready, NAME)
    sent = [line for line in hub.requests if line.startswith("PUT")]
    hub.requests.clear()
    push_release(ready, NAME)
    again = [line for line in hub.requests if line.startswith("PUT")]
    assert sent and not set(sent) & set(again)
    assert content(hub.storage / "datasets" / NAME) == content(ready / "dataset")


def test_a_repository_of_another_release_is_left_alone(hub: LoopbackHub, ready: Path, tmp_path: Path) -> None:
    """Two releases call their files alike: the content tells them apart."""
    push_release(ready, NAME)
    before = content(hub.storage / "datasets" / NAME)
    shutil.rmtree(ready / "adapter")
    other = tmp_path / "other"
    build_release(ReleaseOptions(data=write_generated(tmp_path / "pairs2", count=3), out=other))
    assert {path.name for path in (other / "dataset").iterdir()} == {
        path.name for path in (ready / "dataset").iterdir()
    }
    with pytest.raises(InputError, match=rf"dataset repository {NAME} with other content \(.*dataset\.json"):
        push_release(other, NAME)
    (hub.storage / "datasets" / NAME / "notes.md").write_text("of somebody")
    with pytest.raises(InputError, match=r"with other content \(notes\.md\)"):
        push_release(ready, NAME)
    (hub.storage / "datasets" / NAME / "notes.md").unlink()
    assert content(hub.storage / "datasets" / NAME) == before


@pytest.mark.parametrize(
    ("token", "owner", "said"),
    [
        (None, "owner", r"no token of the hub; expected HF_TOKEN"),
        ("hf_wrong", "owner", r"no right to write to owner/derm \(HTTP 401\)"),
        (READ_TOKEN, "owner", r"no right to write to owner/derm \(HTTP 403\)"),
        (TOKEN, "somebody", r"no right to write to owner/derm \(HTTP 403\)"),
    ],
)
def test_who_may_not_write_is_told_so_and_keeps_the_release(
    hub: LoopbackHub, ready: Path, monkeypatch: pytest.MonkeyPatch, token: str | None, owner: str, said: str
) -> None:
    hub.owner = owner
    monkeypatch.delenv("HF_TOKEN")
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    before = content(ready)
    with pytest.raises(InputError, match=said) as caught:
        push_release(ready, NAME)
    assert f"later, `skindualgen release --out {ready} --push {NAME}`" in str(caught.value)
    assert content(ready) == before and hub.repositories == {}


def test_without_a_network_the_release_waits(hub: LoopbackHub, ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    with pytest.raises(InputError, match=r"127\.0\.0\.1:\d+ not reachable \(ConnectError\).*later, `skindualgen"):
        push_release(ready, NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"HF_HUB_OFFLINE is set.*later, `skindualgen"):
        push_release(ready, NAME)
    assert hub.requests == []


def test_what_cannot_be_pushed_is_refused_before_the_hub_is_asked(
    hub: LoopbackHub, ready: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="owner/name"):
        push_release(ready, "derm")
    with pytest.raises(InputError, match=r"dataset/README\.md; expected a folder of `skindualgen release`"):
        push_release(tmp_path, NAME)
    monkeypatch.setattr(push_module, "FOLDER_LIMIT", 2)
    with pytest.raises(InputError, match=r"export-data --format parquet"):
        push_release(ready, NAME)
    assert hub.requests == []


def test_the_command_releases_and_uploads(hub: LoopbackHub, tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(release_command)
    data = write_generated(tmp_path / "pairs", count=3)
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["--data", str(data), "--out", str(out), "--license", "cc0-1.0"])
    assert done.exit_code == 0, done.output
    assert f"release of 3 records in {out}" in done.output and "nothing was measured" in done.output
    assert hub.requests == [] and 'load_dataset("OWNER/NAME"' in (out / "dataset" / "README.md").read_text()
    done = CliRunner().invoke(app, ["--out", str(out), "--push", NAME])
    assert done.exit_code == 0, done.output
    assert f"uploaded: {hub.url}/datasets/{NAME}" in done.output
    assert f'load_dataset("{NAME}"' in (out / "dataset" / "README.md").read_text()
    assert content(hub.storage / "datasets" / NAME) == content(out / "dataset")
    at_once = tmp_path / "at_once"
    done = CliRunner().invoke(app, ["--data", str(data), "--out", str(at_once), "--push", "owner/second", "--private"])
    assert done.exit_code == 0 and hub.repositories["datasets/owner/second"].private, done.output
    for wrong in (["--out", str(out)], ["--out", str(out), "--push", NAME, "--license", "mit"]):
        assert isinstance(CliRunner().invoke(app, wrong).exception, InputError)
