"""A run is shown in each tracker by its real client, offline: numbers, pictures, and resuming as one run."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from skindualgen.config import load_train_config
from skindualgen.contracts import InputError
from skindualgen.files import sha256_file
from skindualgen.model.adapter import WEIGHTS_FILE
from skindualgen.training import tracking
from skindualgen.training.loop import train
from skindualgen.training.progress import parts
from tiny import accelerator_of, tiny_config

CLIENTS = ("wandb", "mlflow", "trackio")
STEPS = 4
Shown = tuple[dict[int, float], list[tuple[int, Path]]]
"""loss by step, and each picture with its step"""


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each client's own way of working offline, and its files in the test's folder."""
    for name, value in {
        "HOME": str(tmp_path),
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TRACKIO_DIR": str(tmp_path / "trackio"),
    }.items():
        monkeypatch.setenv(name, value)


def wandb_records(path: Path) -> Iterator[Any]:
    """Records of an offline run's file: LevelDB's log, blocks of 32 KiB after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, message = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if 2**15 - place % 2**15 < 7:
            place += 2**15 - place % 2**15
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        message += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            record = Record()
            record.ParseFromString(message)
            message = b""
            yield record


def shown_in_wandb(out: Path) -> Shown:
    losses, pictures = {}, []
    for folder in sorted((out / "wandb").glob("offline-run-*")):
        (path,) = folder.glob("*.wandb")
        for record in wandb_records(path):
            items = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            if "loss" in items:
                losses[items["_step"]] = items["loss"]
            names = items.get("samples/filenames", [])
            pictures += [(items["_step"], folder / "files" / name) for name in names]
    return losses, pictures


def shown_in_mlflow(out: Path) -> Shown:
    from mlflow.tracking import MlflowClient

    client, run = MlflowClient(), parts(out)[0]["tracked_as"]
    losses = {metric.step: metric.value for metric in client.get_metric_history(run, "loss")}
    names = [file.path for file in client.list_artifacts(run, "images") if file.path.endswith(".png")]
    steps = [int(name.split("step+")[1].split("+")[0]) for name in names]
    return losses, [(step, Path(client.download_artifacts(run, name))) for step, name in zip(steps, names, strict=True)]


def shown_in_trackio(out: Path) -> Shown:
    from trackio.sqlite_storage import SQLiteStorage
    from trackio.utils import MEDIA_DIR

    logs = SQLiteStorage.get_logs(tracking.PROJECT, parts(out)[0]["tracked_as"])
    losses = {log["step"]: log["loss"] for log in logs if "loss" in log}
    return losses, [(log["step"], MEDIA_DIR / log["samples"]["file_path"]) for log in logs if "samples" in log]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_run_that_is_resumed_is_one_run_of_the_tracker(
    client: str, tmp_path: Path, phantom_data: Path, tiny_base: Path
) -> None:
    """Guards against a second run, lost steps, and pictures that are logged as text."""
    out = tmp_path / "run"
    config = tiny_config(phantom_data, out, tiny_base, max_train_steps=STEPS, validation_steps=2, track=client)
    train(config, stop_after=2)
    train(config)
    first, second = parts(out)
    assert (first["from_step"], second["from_step"]) == (0, 2)
    assert first["tracked_as"] == second["tracked_as"] is not None
    losses, pictures = globals()[f"shown_in_{client}"](out)
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert losses == pytest.approx({row["step"]: row["loss"] for row in logged}) and set(losses) == {2, 4}
    assert sorted(step for step, _ in pictures) == [2, 4]
    for step, path in pictures:
        ours = Image.open(out / "samples" / f"step-{step:07d}.png")
        assert np.array_equal(np.asarray(Image.open(path).convert("RGB")), np.asarray(ours.convert("RGB")))


def test_a_tracker_decides_nothing(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    """Guards against a record of it in the adapter, whose file is the same with and without."""
    plain, tracked = (
        train(tiny_config(phantom_data, tmp_path / name, tiny_base, max_train_steps=1, track=track))
        for name, track in (("plain", None), ("tracked", "trackio"))
    )
    assert sha256_file(plain / "adapter" / WEIGHTS_FILE) == sha256_file(tracked / "adapter" / WEIGHTS_FILE)
    assert "track" not in json.loads((tracked / "config.json").read_text())["settings"]


def test_what_cannot_be_tracked_is_refused_before_anything_is_loaded(
    tmp_path: Path, phantom_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="'wandb', 'mlflow' or 'trackio'"):
        load_train_config(None, {"data": phantom_data, "out": tmp_path / "run", "track": "comet"})
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    for client in CLIENTS:
        config = tiny_config(phantom_data, tmp_path / "run", tmp_path / "no base", track=client)
        with pytest.raises(InputError, match=r"pip install 'skindualgen\[track\]'"):
            train(config)
    assert not (tmp_path / "run").exists()


def test_a_client_that_does_not_begin_is_wrong_input(
    tmp_path: Path, phantom_data: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a traceback, and against a part that is recorded and did not begin."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://here")
    with pytest.raises(InputError, match="--track mlflow, which did not begin"):
        train(tiny_config(phantom_data, tmp_path / "run", tiny_base, track="mlflow"))
    assert parts(tmp_path / "run") == []
    assert not (tmp_path / "run" / "cache").exists()


def test_a_client_that_fails_on_the_way_is_left_out(
    tmp_path: Path, phantom_data: Path, tiny_base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Guards against a training that dies because a tracker's disk or server does."""
    import mlflow

    config = tiny_config(phantom_data, tmp_path / "run", tiny_base, track="mlflow")
    config.out.mkdir()
    accelerator_of(config)
    with tracking.Tracking(config, 0, {}) as shown:
        shutil.rmtree(tmp_path / "mlruns")
        (tmp_path / "mlruns").write_text("in the way")
        for step in (1, 2):
            shown.log({"step": step, "loss": 1.0}, None)
    assert caplog.text.count("the run goes on without it") == 1
    assert mlflow.active_run() is None  # else no further run of the process could be tracked
