"""README and docs: their Python runs as written, and their commands have the options that are named.

Blocks of a page run in their order, in one namespace, in an empty folder; ``SETUP`` writes what a page takes for
granted. A block that needs a GPU or the network begins with ```` ```python no-test: REASON ````, and one of commands
that run as written on the bundled model with ```` ```bash run ````.
"""

from __future__ import annotations

import re
import shlex
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from skindualgen.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
"""Which run in `test_tutorials.py`."""
BLOCK = re.compile(r"^```(?P<language>python|bash)(?P<mark>[^\n]*)\n(?P<code>.*?)^```", flags=re.DOTALL | re.MULTILINE)
NOT_TESTED = 0
"""Python blocks that need a GPU or the network."""
COMMAND = re.compile(r"^(?:accelerate launch .*-m )?skindualgen (?P<arguments>.*)$", flags=re.MULTILINE)
PLACEHOLDERS = ("...", "[")


def blocks(page: Path, language: str, mark: str | None = None) -> list[str]:
    """The blocks of a language; only those with a mark, if it is given."""
    found = [match for match in BLOCK.finditer(page.read_text(encoding="utf-8")) if match["language"] == language]
    return [match["code"] for match in found if mark is None or match["mark"].strip().startswith(mark)]


def prepare_export(request: pytest.FixtureRequest) -> None:
    """A base, and the exports of an adapter of it."""
    from diffusers import StableDiffusionPipeline

    from skindualgen.model.bases import load_base

    warnings.filterwarnings("ignore", "NvImgCodecPydicomReader", UserWarning)  # of a reader of MONAI's that nobody uses
    shutil.copytree(request.getfixturevalue("phantom_data"), "data")
    base, adapter = request.getfixturevalue("tiny_base"), request.getfixturevalue("tiny_adapter")
    parts = load_base(base)
    StableDiffusionPipeline(
        vae=parts.vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        unet=parts.unet,
        scheduler=parts.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained("path/to/stable-diffusion-2-base")
    for kind, name, of_base in (("diffusers-lora", "plain", []), ("merged", "whole", ["--base", str(base)])):
        files = ["--adapter", str(adapter), *of_base, "--out", f"exports/{name}"]
        done = CliRunner().invoke(app, ["export", "--format", kind, *files])
        assert done.exit_code == 0, done.output


def prepare_production(request: pytest.FixtureRequest) -> None:
    """Shards of both kinds, and a cache of their readers in this folder."""
    import datasets

    from producer import run

    for kind in ("webdataset", "parquet"):
        run(Path(kind), layout={"shards": kind, "shard_pairs": 40})
        shutil.copytree(Path(kind) / "shards", "pairs/shards", dirs_exist_ok=True)
    patch = request.getfixturevalue("monkeypatch")
    patch.setattr(datasets.config, "HF_DATASETS_CACHE", Path("cache").absolute())


def prepare_provenance(request: pytest.FixtureRequest) -> None:
    """Generated pairs with a watermark, and a certificate that signs."""
    import producer
    from certificates import write_chain

    request.getfixturevalue("monkeypatch").setattr(producer, "SIDE_PX", 64)
    producer.run(Path("pairs"), pairs=4, gate=False, settings={"watermark": True})
    chain = write_chain(Path("made"))
    for made, name in ((chain.cert, "signer.pem"), (chain.key, "signer.key"), (chain.root, "root.pem")):
        made.rename(name)


def prepare_release(request: pytest.FixtureRequest) -> None:
    """A release with its description for catalogues."""
    from release_data import write_generated

    warnings.filterwarnings("ignore", "ConjunctiveGraph is deprecated", DeprecationWarning)  # of rdflib, by itself
    files = ["--data", str(write_generated(Path("synthetic"))), "--out", "release"]
    assert CliRunner().invoke(app, ["release", "--croissant", *files]).exit_code == 0


def check_api(names: dict[str, Any]) -> None:
    assert repr(names["data"]).endswith("40 pairs, train 20, val 10, test 10)")
    assert len(names["pairs"]) == 12 and len(names["weak"]) == names["planned"].pairs == 8
    assert {record.anchor_isic_id for record in names["lesions"]} == {names["variations"][0].anchor_isic_id}
    assert all(record.mask_file_name for record in names["read"]) and len(names["filled"]) == 4
    assert Path("report/report.html").is_file() and Path("benchmark/benchmark.html").is_file()


def check_production(names: dict[str, Any]) -> None:
    assert len(names["table"]) > 40 and len(list(Path("discs/masks").iterdir())) == 20


def check_provenance(names: dict[str, Any]) -> None:
    assert names["embedded"].record["prompt"] and not names["embedded"].problems
    assert names["read_credentials"](Path("signed.png"), anchors=Path("root.pem")).state == "trusted"
    assert names["detect"](names["image"])


def check_release(names: dict[str, Any]) -> None:
    assert names["image"].size == names["mask"].size and names["diagnosis"] == b"nevus"


def check_readme(names: dict[str, Any]) -> None:
    assert Path("melanoma.png").is_file() and Path("melanoma_mask.png").is_file()
    assert names["photographs"] and names["masks"] and names["edited"].masks


SETUP: dict[str, Callable[[pytest.FixtureRequest], None]] = {
    "export.md": prepare_export,
    "production.md": prepare_production,
    "provenance.md": prepare_provenance,
    "release.md": prepare_release,
}
CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "README.md": check_readme,
    "api.md": check_api,
    "production.md": check_production,
    "provenance.md": check_provenance,
    "release.md": check_release,
}
WITH_PYTHON = [
    pytest.param(page, id=page.name, marks=[pytest.mark.slow] if page.name == "api.md" else [])
    for page in PAGES
    if blocks(page, "python")
]


@pytest.mark.parametrize("page", WITH_PYTHON)
def test_every_python_block_runs(
    page: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    SETUP.get(page.name, lambda request: None)(request)
    threads = torch.get_num_threads()
    names: dict[str, Any] = {}
    skipped = blocks(page, "python", "no-test")
    try:
        for code in blocks(page, "python"):
            if code not in skipped:
                exec(compile(code, str(page), "exec"), names)
    finally:
        torch.set_num_threads(threads)
    CHECKS.get(page.name, lambda names: None)(names)


def test_few_blocks_are_left_out_and_say_why() -> None:
    marks = [match["mark"].strip() for page in PAGES for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    assert not [mark for mark in marks if mark and not re.fullmatch(r"run|no-test: .+", mark)]
    assert len([mark for mark in marks if mark.startswith("no-test")]) == NOT_TESTED


def test_the_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those for the bundled model."""
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    (code,) = blocks(ROOT / "README.md", "bash", "run")
    try:
        for match in COMMAND.finditer(code):
            done = CliRunner().invoke(app, shlex.split(match["arguments"], comments=True))
            assert done.exit_code == 0, done.output
    finally:
        torch.set_num_threads(threads)
    assert len(list(Path("pairs/images").iterdir())) == len(list(Path("masks/masks").iterdir())) == 4


@pytest.fixture(scope="module")
def group() -> Any:
    """The command line, of which reading every option takes a tenth of a second."""
    return typer.main.get_command(app)


@pytest.mark.parametrize("page", [*PAGES, *TUTORIALS], ids=lambda page: page.name)
def test_commands_have_the_options_that_a_page_names(page: Path, group: Any) -> None:
    for code in blocks(page, "bash"):
        for match in COMMAND.finditer(code.replace("\\\n", " ")):
            words = [word for word in shlex.split(match["arguments"], comments=True) if not word.startswith("[")]
            end = words.index("--") if "--" in words else len(words)
            for part in (words[:end], words[end + 1 :]):  # a command that another one queues
                unknown = options_unknown(group, part)
                assert not unknown, f"{page.name}: {match[0]}: {unknown}"


def options_unknown(command: Any, words: list[str]) -> list[str]:
    """Options among the words after a command that it has not."""
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, words
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return sorted({word.partition("=")[0] for word in words if word.startswith("-")} - known)


def test_links_inside_the_repository_lead_somewhere() -> None:
    lost = []
    for page in [*PAGES, *TUTORIALS, ROOT / "CONTRIBUTING.md", ROOT / "docs" / "results" / "overview.md"]:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                lost.append(f"{page.name}: {target}")
    assert not lost


def test_the_walks_through_the_architecture_name_files_that_are_there() -> None:
    walks = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Four walks")[2]
    named = re.findall(r"`([a-z_0-9/]+\.py)`", walks)
    assert len(named) > 20
    assert not [name for name in named if not (ROOT / "src" / "skindualgen" / name).is_file()]
