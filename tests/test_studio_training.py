"""The studio's training: fields become a command inside the workspace; a run is followed, stopped and resumed."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from skindualgen.config import load_train_config
from skindualgen.contracts import InputError
from skindualgen.report.training import POINTS
from skindualgen.studio.following import curves_html, grids, grids_html, read_metrics, runs, stamp
from skindualgen.studio.jobs import Jobs
from skindualgen.studio.pieces import job_view, log_view
from skindualgen.studio.recipes import AFRESH, BUILTIN, PRESETS, TrainingRequest, train_arguments
from skindualgen.studio.workspace import Workspace, free_name
from studio_jobs import jobs_of, wait_for

DATA = "datasets/phantoms"
REQUEST = TrainingRequest(DATA, "first", "micro", AFRESH, steps=10, batch_size=2, rank=4, size=64)


@pytest.fixture
def workspace(tmp_path: Path, phantom_data: Path) -> Workspace:
    workspace = Workspace.open(tmp_path / "space")
    shutil.copytree(phantom_data, workspace.root / DATA)
    return workspace


def test_fields_become_the_arguments_of_the_command(workspace: Workspace) -> None:
    out, arguments = train_arguments(workspace, replace(REQUEST, toml='views = 2\nresult = "best"\nlora.dora = true\n'))
    assert out == "runs/first"
    assert arguments == [
        "train",
        "--data",
        DATA,
        *(
            "--out runs/first --base micro --max-train-steps 10 --train-batch-size 2 --resolution 64 --rank 4 "
            "--set views=2 --set result=best --set lora.dora=true"
        ).split(),
    ]
    _, from_adapter = train_arguments(workspace, replace(REQUEST, start=BUILTIN, size=0))
    assert from_adapter[-2:] == ["--init-adapter", "builtin"]
    assert not {"--rank", "--resolution"} & set(from_adapter)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_settings_that_training_takes(workspace: Workspace, name: str) -> None:
    preset = PRESETS[name]
    wanted = TrainingRequest(
        DATA, "first", preset.base, preset.start, preset.steps, preset.batch_size, preset.rank, preset.size, preset.toml
    )
    _, arguments = train_arguments(workspace, wanted)
    assignments = dict(value.split("=", 1) for flag, value in itertools.pairwise(arguments) if flag == "--set")
    assert assignments
    config = load_train_config(
        None, {"data": DATA, "out": "runs/first", "base": preset.base, "max_train_steps": preset.steps, **assignments}
    )
    assert config.max_train_steps == preset.steps


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": None}, "no data set"),
        ({"data": "../data"}, "inside the workspace"),
        ({"data": "/tmp"}, "inside the workspace"),
        ({"data": "datasets/none"}, "not there"),
        ({"name": "../first"}, "the name"),
        ({"name": "-rf"}, "the name"),
        ({"name": ""}, "the name"),
        ({"name": "a b"}, "the name"),
        ({"base": "/root/model"}, "the base"),
        ({"base": "owner/name"}, "the base"),
        ({"start": "/root/adapter"}, "the base"),
        ({"start": "runs/none"}, "the base"),
        ({"steps": 0}, "steps"),
        ({"size": 65}, "resolution"),
        ({"toml": 'cache = "/tmp"'}, "cache"),
        ({"toml": 'base = "/tmp"'}, "base"),
        ({"toml": 'out = "/tmp"'}, "out"),
        ({"toml": 'init_adapter = "/tmp"'}, "init_adapter"),
        ({"toml": "allow_base_mismatch = true"}, "allow_base_mismatch"),
        ({"toml": "no such = 1"}, "TOML"),
        ({"toml": "nothing = 1"}, "nothing"),
        ({"toml": "[lora]\nrank = 0"}, "rank"),
    ],
)
def test_what_cannot_be_used_is_refused(workspace: Workspace, change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        train_arguments(workspace, replace(REQUEST, **change))


def test_names_that_are_taken_are_refused_and_the_next_is_proposed(workspace: Workspace) -> None:
    assert free_name(workspace.root / "runs", "run") == "run-1"
    for name in ("run-1", "run-3", "first"):
        (workspace.root / "runs" / name).mkdir()
    assert free_name(workspace.root / "runs", "run") == "run-2"
    assert free_name(workspace.root / "none", "plan") == "plan-1"
    with pytest.raises(InputError, match="taken"):
        train_arguments(workspace, REQUEST)


def test_adapters_of_the_workspace_can_be_started_from(workspace: Workspace) -> None:
    adapter = workspace.root / "runs" / "earlier" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    _, arguments = train_arguments(workspace, replace(REQUEST, start="runs/earlier"))
    assert arguments[-2:] == ["--init-adapter", "runs/earlier"]


def write_run(workspace: Workspace, rows: list[dict[str, object]], *, tail: str = "") -> Path:
    folder = workspace.root / "runs" / "first"
    (folder / "samples").mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return folder


def test_a_line_that_is_being_written_is_left_out(workspace: Workspace) -> None:
    rows = [{"step": 10, "loss": 1.5}, {"step": 20, "loss": 0.5, "val_loss": 0.7, "val_dice_read": 0.8}]
    folder = write_run(workspace, rows, tail='[1]\n{"loss": 2}\n{"step": 30, "lo')
    assert read_metrics(workspace, "runs/first") == rows
    before = stamp(folder)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('ss": 1}\n')
    assert stamp(folder) != before
    assert len(read_metrics(workspace, "runs/first")) == 3


def test_curves_are_drawn_from_what_is_logged(workspace: Workspace) -> None:
    assert "No step is logged yet" in curves_html([])
    shown = curves_html([{"step": 10, "loss": 1.0}, {"step": 20, "loss": 0.0, "val_loss": 0.5, "val_dice_read": 0.8}])
    assert shown.count("<figure") == 2
    assert shown.count("<polyline") == 3
    loss, validation = re.findall(r'points="([^"]*)"', shown)[:2]
    assert loss == "0.0,0.0 640.0,220.0"
    assert validation == "640.0,110.0"
    assert shown.count("<circle") == 3
    assert "<figure" in curves_html([{"step": 10, "loss": 1.0}, {"step": 20, "loss": float("nan")}])


def test_long_curves_are_averaged(workspace: Workspace) -> None:
    rows = [{"step": number, "loss": 1.0 if number % 2 else 3.0} for number in range(10 * POINTS)]
    (points,) = re.findall(r'points="([^"]*)"', curves_html(rows))
    assert len(points.split()) == POINTS
    assert len({point.split(",")[1] for point in points.split()}) == 1


def test_grids_of_validations_are_shown_newest_first(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_run(workspace, [])
    assert "No validation yet" in grids_html(workspace, "runs/first")
    for step in range(100, 1100, 100):
        Image.new("RGB", (32, 16), (step % 256, 0, 0)).save(folder / f"samples/step-{step:07d}.png")
    Image.new("RGB", (32, 16)).save(tmp_path / "secret.png")
    (folder / "samples/step-0009999.png").symlink_to(tmp_path / "secret.png")
    assert [path.stem for path in grids(folder)][-1] == "step-0001000"
    shown = grids_html(workspace, "runs/first")
    steps = [int(step) for step in re.findall(r"drawn at step (\d+)", shown)]
    assert steps[0] == 1000
    assert steps[1:] == sorted(steps[1:], reverse=True)
    assert {900, 100} < set(steps)
    (folder / "samples/step-0001100.png").write_bytes(b"half a picture")
    assert "step 1100 is being written" in grids_html(workspace, "runs/first")


def test_runs_are_listed_and_links_passed_over(workspace: Workspace, tmp_path: Path) -> None:
    write_run(workspace, [])
    (tmp_path / "outside").mkdir()
    (workspace.root / "runs" / "link").symlink_to(tmp_path / "outside")
    assert runs(workspace) == ["runs/first"]
    (workspace.root / "runs" / "first" / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1}\n')
    (workspace.root / "runs" / "first" / "metrics.jsonl").symlink_to(tmp_path / "metrics.jsonl")
    with pytest.raises(InputError, match="inside the workspace"):
        read_metrics(workspace, "runs/first")


@pytest.mark.slow
def test_a_run_is_stopped_with_a_checkpoint_and_resumed(workspace: Workspace, tiny_base: Path) -> None:
    """The real command on the tiny twin: it stops after a step, exits with 0, and goes on to its adapter."""
    shutil.copytree(tiny_base, workspace.root / "bases" / "tiny")
    folder = workspace.root / "runs" / "first"
    settings = ["views=1", "validation_steps=100000", "lora.alpha=4", "mixed_precision=fp32", "threads=1"]
    arguments = ["train", "--data", DATA, "--out", "runs/first", "--base", "bases/tiny", "--train-batch-size", "1"]
    arguments += ["--rank", "4", *(word for each in settings for word in ("--set", each))]
    with jobs_of(workspace) as jobs:
        job = jobs.start("train", [*arguments, "--max-train-steps", "200"], {"run": "runs/first"})
        wait_for(lambda: [stage.name for stage in job.stages()][-1:] == ["training"] or not job.active)
        job.stop()
        wait_for(lambda: not job.active)
        assert (job.state, job.exit_code) == ("stopped", 0), job.log()
        assert "Stopped" in job_view(job)
        assert "Stopped at step" in log_view(job)
        (checkpoint,) = (folder / "checkpoints").glob("step-*")
        assert 0 < int(checkpoint.name.removeprefix("step-")) < 200
        assert workspace.adapters() == []
        again = jobs.start("train", job.arguments, job.about)
        wait_for(lambda: not again.active)
    assert (again.state, again.exit_code) == ("done", 0), again.log()
    assert [row["step"] for row in read_metrics(workspace, "runs/first")] == list(range(10, 210, 10))
    assert workspace.adapters() == ["runs/first"]
    assert Jobs(workspace).latest("train") == again
