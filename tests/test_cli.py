"""The command line as a user meets it: a process with arguments, an exit code, and lines on two streams."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from processes import start_interruptible
from skindualgen import __version__
from skindualgen.cli import app, main
from skindualgen.contracts import InputError

COMMANDS = sorted(command.name or "" for command in app.registered_commands)
HEAVY = set(
    "PIL accelerate datasets diffusers gradio huggingface_hub jinja2 matplotlib numpy peft pyarrow ray safetensors "
    "scipy skimage sklearn timm torch torchvision transformers".split()
)


def run(*arguments: str, timeout: float = 400, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb", **environment}
    command = [sys.executable, "-m", "skindualgen", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=variables, check=False)


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"skindualgen {__version__}\n")


def test_the_installed_script_is_the_module() -> None:
    script = Path(sys.executable).parent / "skindualgen"
    assert (
        subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
        == run("--version").stdout
    )


def test_no_arguments_show_the_commands() -> None:
    done = run()
    assert all(f" {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "out"), "got out: Permission denied; expected access"),
        (OSError(errno.ENOSPC, "No space left on device"), "got a file: No space left on device; expected access"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "make room or set TMPDIR"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "gone"), "got gone: No such file or directory;"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "out"), "got out: File name too long; expected a file"),
    ],
)
def test_folder_without_access_and_full_disk_are_wrong_input(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: OSError, said: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("skindualgen.data.prepare.list_source", fail)
    done = CliRunner().invoke(app, ["prepare", str(tmp_path), str(tmp_path.parent / "out")])
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    done = CliRunner().invoke(app, [name, "--help"], prog_name="skindualgen")
    assert done.exit_code == 0
    assert f"Usage: skindualgen {name}" in done.stdout
    assert done.stderr == ""


def test_help_imports_nothing_heavy() -> None:
    """A module that imports such a package at its top would make every call of every command wait for it."""
    line = [sys.executable, "-X", "importtime", "-m", "skindualgen", "--help"]
    done = subprocess.run(line, capture_output=True, check=True, text=True)
    imported = {row.rpartition("|")[2].strip().partition(".")[0] for row in done.stderr.splitlines()}
    assert "skindualgen" in imported
    assert not imported & HEAVY


def test_help_of_no_command_imports_anything_heavy() -> None:
    """One after the other in one process: the first command with a package in its list has imported it."""
    script = (
        "import json, sys; from typer.testing import CliRunner; from skindualgen.cli import app\n"
        "def imported(name):\n"
        "    assert CliRunner().invoke(app, [name, '--help']).exit_code == 0, name\n"
        "    return [module for module in sys.modules if '.' not in module]\n"
        "print(json.dumps({name: imported(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run([sys.executable, "-c", script, *COMMANDS], capture_output=True, check=True, text=True)
    imported = json.loads(done.stdout)
    assert list(imported) == COMMANDS and all("skindualgen" in modules for modules in imported.values())
    heavy = {name: HEAVY.intersection(modules) for name, modules in imported.items()}
    assert not any(heavy.values()), heavy


def test_commands_and_the_processes_they_start_keep_quiet_about_timms_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    warn = (
        "import warnings\n"
        "warnings.warn('`torch.jit.interface` is deprecated. Please use `torch.compile` instead.', FutureWarning)\n"
        "warnings.warn('another', FutureWarning)\n"
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        main()
        exec(warn)
    assert [str(each.message) for each in caught] == ["another"]
    child = subprocess.run([sys.executable, "-c", warn], capture_output=True, text=True, timeout=300, check=True)
    assert "another" in child.stderr and "torch" not in child.stderr


def test_an_unknown_option_is_wrong_input() -> None:
    done = run("doctor", "--no-such-option")
    assert done.returncode == 2
    assert "--no-such-option" in done.stderr


def test_doctor_prints_json() -> None:
    done = CliRunner().invoke(app, ["doctor", "--quick", "--json"])
    findings = json.loads(done.stdout)
    assert {"topic", "state", "found", "remedy"} == set(findings[0])
    assert done.exit_code == int(any(finding["state"] == "missing" for finding in findings))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
def test_a_full_disk_under_the_output_is_one_line() -> None:
    code = (
        "from skindualgen.cli import app\n"
        "@app.command('say')\n"
        "def say() -> None:\n"
        "    print('x', flush=True)\n"
        "app(['say'])\n"
    )
    line = [sys.executable, "-c", code]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=400, check=False)
    assert done.returncode != 0
    assert "Error: got a file: No space left on device" in done.stderr and "Traceback" not in done.stderr


def test_doctor_prints_a_table_with_remedies() -> None:
    done = CliRunner().invoke(app, ["doctor", "--quick"])
    assert "software" in done.stdout and "bundled model" in done.stdout


def _app_with(command: object) -> typer.Typer:
    """The real application's group and settings around one command of the test's own."""
    other = typer.Typer(cls=app.info.cls)
    other.callback()(lambda: None)
    other.command("go")(command)  # type: ignore[arg-type]
    return other


def test_wrong_input_is_one_line_and_exit_code_2() -> None:
    def go() -> None:
        raise InputError("a folder\nwithout pictures", "images/", "pass another")

    done = CliRunner().invoke(_app_with(go), ["go"])
    assert done.exit_code == 2
    assert done.stderr == "Error: got a folder without pictures; expected images/; pass another\n"
    assert done.stdout == ""


def test_a_file_in_a_folders_place_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for action in (lambda: (tmp_path / "file").mkdir(), lambda: list((tmp_path / "file").iterdir())):
        done = CliRunner().invoke(_app_with(action), ["go"])
        assert done.exit_code == 2
        assert str(tmp_path / "file") in done.stderr and done.stderr.count("\n") == 1


def test_a_training_that_diverged_is_one_line_and_exit_code_1() -> None:
    def go() -> None:
        from skindualgen.contracts import SkinDualGenError

        raise SkinDualGenError("loss nan at step 3")

    done = CliRunner().invoke(_app_with(go), ["go"])
    assert (done.exit_code, done.stderr) == (1, "Error: loss nan at step 3\n")


def test_every_command_is_registered_once() -> None:
    assert len(COMMANDS) == len(set(COMMANDS))


def test_a_defect_is_not_dressed_up_as_wrong_input() -> None:
    def go() -> None:
        raise ZeroDivisionError("ours")

    done = CliRunner().invoke(_app_with(go), ["go"])
    assert done.exit_code == 1
    assert isinstance(done.exception, ZeroDivisionError)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to another process")
def test_interrupt_is_one_line_and_exit_code_130() -> None:
    code = (
        "import time, typer\n"
        "from skindualgen.cli import app\n"
        "@app.command('wait')\n"
        "def wait() -> None:\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "app(['wait'])\n"
    )
    pipe = subprocess.PIPE
    line = [sys.executable, "-c", code]
    with start_interruptible(line, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
        assert process.stderr.read().startswith("Interrupted.")


def test_an_unknown_attribute_of_the_package_is_an_attribute_error() -> None:
    import skindualgen

    assert "SkinDualGenPipeline" in dir(skindualgen)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = skindualgen.no_such_name
