"""Commands where people run them: behind dead proxies, without a home, in ASCII, at long paths, with Windows' files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from picture_files import good_folder
from skindualgen.cli import app

pytest.importorskip("quick_gradio")

RUNNER = Path(__file__).with_name("command_runner.py")
PATH_CHARACTERS = 200
DEAD = "http://127.0.0.1:9"
EVERYTHING_AT_ONCE = {
    "http_proxy": DEAD,
    "https_proxy": DEAD,
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "no_proxy": "",
    "NO_PROXY": "",
    "HOME": "/proc/none",
    "XDG_CACHE_HOME": "",
    "TMPDIR": "/proc/none",
    "LC_ALL": "C",
    "LANG": "C",
    "PYTHONIOENCODING": "ascii",
    "HF_HUB_OFFLINE": "0",
    "HF_HOME": "/proc/none/hub",
    "COLUMNS": "120",
}
"""Conditions that each break something by themselves: what stands all of them stands each."""
WITHOUT_UTF8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii", "HOME": None}
"""File names of the system are ASCII too, and no home folder is named."""


def long_folder(parent: Path) -> Path:
    """Make a folder whose path has 200 characters, blanks and letters beyond ASCII among them."""
    name = ("Häute und Läsionen " * 20)[: PATH_CHARACTERS - len(str(parent)) - 1].strip()
    (parent / name).mkdir()
    return parent / name


def windows(path: Path, text: str, **encoding: str) -> Path:
    """Write a text as an editor of Windows does."""
    path.write_bytes(text.replace("\n", "\r\n").encode(encoding.get("encoding", "utf-8-sig")))
    return path


TIMEOUT_S = 600
"""All commands at once take half a minute alone, and ten times that where other tests train on every core."""


def run_commands(folder: Path, commands: list[list[str]], environment: dict[str, Any]) -> list[dict[str, Any]]:
    """Run commands in one process of that environment; return what it has written down."""
    (folder / "commands.json").write_text(json.dumps(commands), encoding="utf-8")
    variables = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    for name in environment.keys() - {name for name, value in environment.items() if value is not None}:
        variables.pop(name, None)
    line = [sys.executable, str(RUNNER), str(folder / "commands.json"), str(folder / "results.json")]
    done = subprocess.run(line, capture_output=True, env=variables, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return list(json.loads((folder / "results.json").read_text(encoding="utf-8")))


def source_and_texts(folder: Path) -> None:
    """Write a source folder, and every text that commands read, with Windows' line ends and byte order marks."""
    source = good_folder(folder / "Quelle ö", 5, anatom_site_general="back")
    windows(source / "metadata.csv", (source / "metadata.csv").read_text().replace("\r\n", "\n"))
    splits = "".join(f"p{row:02d},{('train', 'train', 'train', 'val', 'test')[row]}\n" for row in range(5))
    windows(folder / "Teile.csv", f"isic_id,split\n{splits}")
    windows(folder / "Wünsche.txt", "a melanoma on the back\n\n")
    windows(folder / "Muster.txt", "a photo of a {diagnosis}\n")


@pytest.fixture(scope="module")
def everywhere(
    tmp_path_factory: pytest.TempPathFactory, tiny_base: Path, tiny_adapter: Path
) -> dict[str, dict[str, Any]]:
    """Results of the main commands under all conditions at once, by the first argument that tells them apart."""
    folder = tmp_path_factory.mktemp("e")
    place = long_folder(folder)
    source_and_texts(place)
    data, run = str(place / "Daten"), str(place / "Lauf")
    windows(
        place / "Training.toml",
        f'# Häute\nbase = "{tiny_base}"\nmax_train_steps = 1\ntrain_batch_size = 2\nviews = 1\n'
        'mixed_precision = "fp32"\n[lora]\nrank = 2\n[sampling]\ndefault_steps = 1\ndefault_segment_steps = 1\n',
    )
    commands = {
        "prepare": ["prepare", str(place / "Quelle ö"), data, "--size", "64", "--split-file", str(place / "Teile.csv")],
        "verify": ["verify", data],
        "export-data": ["export-data", data, str(place / "Äußeres"), "--format", "yolo"],
        "import-data": ["import-data", str(place / "Äußeres"), str(place / "Zurück"), "--format", "yolo"],
        "plan": [
            "plan",
            "--data",
            data,
            *"--target uniform -n 2".split(),
            "--out",
            str(place / "Plan.csv"),
            "--templates",
            str(place / "Muster.txt"),
        ],
        "train": ["train", "--data", data, "--config", str(place / "Training.toml"), "--out", run],
        "generate": [
            "generate",
            "--adapter",
            run,
            "--prompts",
            str(place / "Wünsche.txt"),
            *"-n 1 --steps 1".split(),
            "--out",
            str(place / "Erzeugt"),
        ],
        "segment": [
            "segment",
            "--adapter",
            str(tiny_adapter),
            "--images",
            str(place / "Quelle ö" / "images"),
            "--out",
            str(place / "Masken"),
            *"--ensemble 1 --steps 1".split(),
        ],
        "evaluate": ["evaluate", "--real", data, "--generated", str(place / "nirgends"), "--out", str(place / "B")],
        "hub": [
            "generate",
            "--adapter",
            str(tiny_adapter),
            "--base",
            "sd1.5",
            "--prompt",
            "a nevus",
            "--out",
            str(place / "Nichts"),
        ],
        "long name": ["prepare", str(place / "Quelle ö"), str(place / ("ß" * 300)), "--size", "64"],
        "ui": ["ui", "--workspace", str(place / "Werkstatt"), "--no-open"],
    }
    results = run_commands(folder, list(commands.values()), EVERYTHING_AT_ONCE)
    return dict(zip(commands, results, strict=True))


REFUSED = {"evaluate": "nirgends", "hub": "SOCKS", "long name": "File name too long"}
"""Commands that say one line, and what it names; all others do what they are for."""


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S + 100)
@pytest.mark.parametrize(
    "name",
    ["prepare", "verify", "export-data", "import-data", "plan", "train", "generate", "segment", "ui", *REFUSED],
)
def test_each_command_works_or_says_one_line(everywhere: dict[str, dict[str, Any]], name: str) -> None:
    result = everywhere[name]
    assert "Traceback" not in result["stderr"], result["stderr"]
    assert result["code"] == (2 if name in REFUSED else 0), result["stderr"]
    if name in REFUSED:
        (line,) = [line for line in result["stderr"].splitlines() if line.startswith("Error: ")]
        assert REFUSED[name] in line


@pytest.mark.slow
def test_without_utf8_and_without_a_home(tmp_path: Path) -> None:
    source_and_texts(tmp_path)
    commands = [
        ["prepare", str(tmp_path / "Quelle ö"), str(tmp_path / "Däten"), "--size", "64"],
        ["verify", str(tmp_path / "Däten")],
        ["export-data", str(tmp_path / "Däten"), str(tmp_path / "COCO ö"), "--format", "coco"],
        ["prepare", "--help"],
        ["verify", str(tmp_path / "nirgends ä")],
    ]
    results = run_commands(tmp_path, commands, WITHOUT_UTF8)
    assert [result["code"] for result in results] == [0, 0, 0, 0, 2], results
    assert not any("Traceback" in result["stderr"] for result in results)


def test_windows_line_ends_and_marks_change_no_prompt(tmp_path: Path) -> None:
    from skindualgen.planning.prompt_files import read_prompts

    for encoding in ("utf-8", "utf-8-sig"):
        path = windows(tmp_path / "w.txt", "a nevus\n\na melanoma\n", encoding=encoding)
        assert [row.prompt for row in read_prompts(path).rows] == ["a nevus", "a melanoma"]


def test_settings_with_a_byte_order_mark(tmp_path: Path) -> None:
    from skindualgen.config import load_train_config

    path = windows(tmp_path / "c.toml", 'data = "Häute"\nout = "o"\n')
    assert load_train_config(path, {}).data == Path("Häute")


def test_no_home_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user is a number without a name."""

    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    for name in ("XDG_CACHE_HOME", "SKINDUALGEN_CACHE"):
        monkeypatch.delenv(name, raising=False)
    from skindualgen.contracts import InputError
    from skindualgen.judges.trained import default_cache

    with pytest.raises(InputError, match="no home folder"):
        default_cache()


def test_a_proxy_that_cannot_be_used_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:9")
    source = good_folder(tmp_path / "src", 2)
    line = ["prepare", str(source), str(tmp_path / "out"), "--size", "64", "--workers", "1"]
    line += ["--llm-url", "http://127.0.0.1:9/v1", "--llm-model", "m", "--llm-cache", str(tmp_path / "c")]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 2 and "proxy" in done.stderr.splitlines()[-1]
