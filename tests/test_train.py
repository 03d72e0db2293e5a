"""A training run resumes exactly, refuses what would corrupt it, says when it fails, and learns."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from processes import start_interruptible
from skindualgen.cli import app
from skindualgen.config import RENAMED, TrainConfig
from skindualgen.contracts import InputError
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.pairs import read_pairs
from skindualgen.data.training_items import TRAINING_ITEMS_FILE, read_training_items
from skindualgen.files import sha256_file
from skindualgen.model.adapter import WEIGHTS_FILE, read_header, trainable_parameters
from skindualgen.model.bases import load_base
from skindualgen.training import run_folder
from skindualgen.training.batches import Batch, Batches, seed_of
from skindualgen.training.cache import EncodeOptions, open_cache
from skindualgen.training.checkpoint import complete_checkpoints, load_newest
from skindualgen.training.loop import train
from skindualgen.training.optimizer import rate_factor
from skindualgen.training.trainer import NonFiniteLossError, Trainer
from tiny import accelerator_of, tiny_config, write_phantom_data

STEPS = 8
EVERY_SETTING_THAT_DRAWS = {
    "max_train_steps": STEPS,
    "gradient_accumulation_steps": 2,
    "train_batch_size": 2,
    "checkpointing_steps": 1,
    "validation_steps": 4,
    "prompt_variants": 2,
    "colour": 0.5,
    "lora": {"rank": 2, "alpha": 4, "dropout": 0.2},
    "loss": {"consistency": 0.1, "lesion": 0.5},
}
"""the run that is interrupted in every way: dropout, accumulation, moving average and validation included"""


SPEED = {"pairs_per_second", "data_wait_share", "memory_gib"}


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / WEIGHTS_FILE)


def assert_same_run(run: Path, whole: Path) -> None:
    """Bit for bit: the adapter, the last checkpoint, and every number logged but the speed."""
    ours, theirs = weights(run), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    states = [load_newest(folder / "checkpoints") for folder in (run, whole)]
    assert states[0] is not None and states[1] is not None
    assert all(torch.equal(a, b) for a, b in zip(states[0]["parameters"], states[1]["parameters"], strict=True))
    plain = [[{k: v for k, v in row.items() if k not in SPEED} for row in rows(x)] for x in (run, whole)]
    assert plain[0] == plain[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, phantom_data: Path, tiny_v_base: Path) -> Path:
    """The uninterrupted run that interrupted ones must equal; read-only."""
    config = tiny_config(
        phantom_data, tmp_path_factory.mktemp("whole") / "run", tiny_v_base, **EVERY_SETTING_THAT_DRAWS
    )
    return train(config)


def trainer_of(config: TrainConfig) -> tuple[Trainer, Iterator[Batch]]:
    base = load_base(config.base)
    torch.manual_seed(config.seed)
    trainer = Trainer(config, base, accelerator_of(config))
    options = EncodeOptions(size=trainer.size)
    cache = open_cache(config.out / "cache", config.data, read_pairs(config.data, "train"), base, options)
    return trainer, iter(Batches(cache, config, len(trainer.alphas_cumprod)).loader(0))


def test_a_run_folder_is_complete(whole: Path, phantom_data: Path, tiny_v_base: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "adapter",
        "best",
        "cache",
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "parts.json",
        "samples",
        "tensorboard",
    }
    logged = rows(whole)
    assert [row["step"] for row in logged] == [4, 8]
    terms = {"image", "mask", "dice", "bce", "consistency"}
    assert set(logged[0]) >= {"loss", "lr", "grad_norm", "val_loss", "val_dice_read"} | SPEED | terms
    assert set(logged[0]) >= {f"val_{name}" for name in terms}
    assert all(math.isfinite(value) for row in logged for value in row.values())
    for step in (4, 8):
        with Image.open(whole / "samples" / f"step-{step:07d}.png") as sheet:
            assert sheet.size == (4 * 68 - 4, 3 * 64)  # four validation prompts: image above outline above mask
    assert list((whole / "tensorboard").glob("events.out.tfevents.*"))
    header = read_header(whole / "adapter")
    assert header["base_sha256"] == load_base(tiny_v_base).sha256
    assert header["recipe"]["train_pairs"] == 12 and header["recipe"]["steps"] == STEPS
    assert header["recipe"]["sampling"]["default_steps"] == 2
    items = read_training_items(whole / "adapter")
    assert items is not None
    assert [i.isic_id for i in items.items] == sorted(r.isic_id for r in read_metadata(phantom_data, "train"))


def test_stopping_and_resuming_changes_nothing(
    whole: Path, tmp_path: Path, phantom_data: Path, tiny_v_base: Path
) -> None:
    """Also: checkpointing_steps may differ, and what a killed run logged beyond its checkpoint is not logged twice."""
    settings = EVERY_SETTING_THAT_DRAWS | {"checkpointing_steps": 100}
    config = tiny_config(phantom_data, tmp_path / "run", tiny_v_base, **settings)
    train(config, stop_after=5)
    assert not (config.out / "adapter").exists()
    assert [path.name for path in complete_checkpoints(config.out / "checkpoints")] == ["step-0000005"]
    with (config.out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "loss": 1.0}\n{"step": 9, "lo')
    torch.manual_seed(99)  # the state of the global generator is not what a run hangs on
    train(config.model_copy(update={"checkpointing_steps": 3}))
    assert_same_run(config.out, whole)


def start(config_file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "skindualgen", "train", "--config", str(config_file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "TERM": "dumb"}
    pipe = subprocess.PIPE
    return start_interruptible(command, stdout=pipe, stderr=pipe, text=True, env=environment)


def has_reached(out: Path, step: int) -> bool:
    """Whether there is a checkpoint of this step or a later one; the run may be removing an earlier one just now."""
    with suppress(FileNotFoundError):
        return any(int(path.name[5:]) >= step for path in complete_checkpoints(out / "checkpoints"))
    return False


def wait_for_step(process: subprocess.Popen[str] | None, out: Path, step: int) -> None:
    deadline = time.monotonic() + 600
    while not has_reached(out, step):
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def stopped_here(config_file: Path, out: Path, step: int, number: int) -> str:
    """What the command says that runs in this process and gets a signal once it has reached ``step``."""

    def tell() -> None:
        wait_for_step(None, out, step)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, number)

    arguments = ["train", "--config", str(config_file)]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(sys, "argv", ["skindualgen", *arguments])
        before = signal.signal(number, lambda *_: None)  # a signal that comes too late ends no tests
        try:
            told = pool.submit(tell)
            done = CliRunner().invoke(app, arguments)
            told.result()
        finally:
            signal.signal(number, before)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends signals to another process")
def test_kill_and_interrupt_and_resume(whole: Path, tmp_path: Path, phantom_data: Path, tiny_v_base: Path) -> None:
    """kill -9, then the same command ended by SIGINT, then by SIGTERM (0, a checkpoint), then to the end: one adapter.

    SIGTERM comes to this process, which runs the command then. Before, batches come from two worker processes, whose
    number changes nothing: ``whole`` had none, and the end has none.
    0, as a scheduler that takes a machine back counts anything else as a failure; ``generate`` refuses a run without an
    adapter, so nothing goes on with an unfinished one.
    """
    out = tmp_path / "run"
    config = tiny_config(phantom_data, out, tiny_v_base, **EVERY_SETTING_THAT_DRAWS)
    config_file = tmp_path / "c.toml"
    with_workers = config.model_copy(update={"dataloader_num_workers": 2})
    config_file.write_text(toml(with_workers.model_dump(mode="json", exclude_none=True)))

    with start(config_file) as process:
        wait_for_step(process, out, 1)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    reached = int(complete_checkpoints(out / "checkpoints")[-1].name[5:])
    assert reached < STEPS

    for number in (signal.SIGINT, signal.SIGTERM):
        if number == signal.SIGINT:
            with start(config_file) as process:
                wait_for_step(process, out, reached + 1)
                process.send_signal(number)
                output, errors = process.communicate(timeout=400)
            assert process.returncode == 0, errors
        else:
            config_file.write_text(toml(config.model_dump(mode="json", exclude_none=True)))
            output = stopped_here(config_file, out, reached + 1, number)
        newest = load_newest(out / "checkpoints")
        assert newest is not None
        assert f"Stopped at step {newest['step']}. To go on: skindualgen train --config {config_file}" in output
        assert reached < newest["step"] < STEPS
        reached = newest["step"]
    assert not (out / "adapter").exists()

    train(config)
    assert_same_run(out, whole)
    assert not list((out / "checkpoints").glob(".*"))


def toml(values: dict[str, Any]) -> str:
    flat = [f"{name} = {json.dumps(value)}" for name, value in values.items() if not isinstance(value, dict)]
    tables = [f"[{name}]\n{toml(value)}" for name, value in values.items() if isinstance(value, dict)]
    return "\n".join(flat + tables)


def test_a_finished_run_returns_at_once(whole: Path, phantom_data: Path, tiny_v_base: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    settings = EVERY_SETTING_THAT_DRAWS
    train(tiny_config(phantom_data, whole, tiny_v_base, **settings))
    after = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    assert before == after


def test_a_run_recorded_under_earlier_names_goes_on(
    whole: Path, tmp_path: Path, phantom_data: Path, tiny_v_base: Path
) -> None:
    """As version 0.1 wrote its record: other names, no codec, and a term of the loss that was off."""
    config = tiny_config(phantom_data, tmp_path / "run", tiny_v_base, **EVERY_SETTING_THAT_DRAWS)
    train(config, stop_after=2)
    path = config.out / "config.json"
    record = json.loads(path.read_text())
    earlier = {new: old for old, new in RENAMED.items()}

    def renamed(table: dict[str, Any]) -> dict[str, Any]:
        return {
            earlier.get(name, name): renamed(value) if isinstance(value, dict) else value
            for name, value in table.items()
        }

    settings = renamed(record["settings"])
    del settings["mask_codec"], settings["mask_classes"]
    del settings["sampling"]["default_best_of"]  # as of all runs before there was a choice
    assert {"steps", "precision", "accumulation"} <= set(settings) and "zero_terminal_snr" in settings["noise"]
    settings["loss"]["boundary"] = 0.1
    path.write_text(json.dumps({**record, "settings": settings}))
    with pytest.raises(InputError, match=r"a run of loss\.boundary = 0\.1"):
        train(config)
    settings["loss"]["boundary"] = 0.0
    path.write_text(json.dumps({**record, "settings": settings}))
    train(config)
    assert_same_run(config.out, whole)


LONGER = {
    "max_train_steps": 4,
    "train_batch_size": 2,
    "validation_steps": 2,
    "lr_scheduler": "constant",
    "lora": {"rank": 2, "alpha": 4},
}


def test_more_steps_continue_a_finished_run_exactly(tmp_path: Path, phantom_data: Path, tiny_v_base: Path) -> None:
    longer = tiny_config(phantom_data, tmp_path / "whole", tiny_v_base, **LONGER)
    whole = train(longer)
    config = longer.model_copy(update={"out": tmp_path / "run"})
    train(config.model_copy(update={"max_train_steps": 2}))
    assert read_header(config.out / "adapter")["recipe"]["steps"] == 2
    shutil.copytree(config.out / "adapter", tmp_path / "shorter")
    train(config)
    assert_same_run(config.out, whole)
    assert json.loads((config.out / "config.json").read_text())["settings"]["max_train_steps"] == 4
    # Killed after the last checkpoint: the adapter of the shorter run is not taken for the longer one's.
    shutil.rmtree(config.out / "adapter")
    shutil.copytree(tmp_path / "shorter", config.out / "adapter")
    train(config)
    assert_same_run(config.out, whole)
    with pytest.raises(InputError, match=r"other settings \(max_train_steps\)"):
        train(config.model_copy(update={"max_train_steps": 2}))


@pytest.mark.parametrize(
    "change",
    [{"lr_scheduler": "cosine"}, {"result": "best", "validation_steps": 3}, {"patience": 5, "validation_steps": 3}],
)
def test_more_steps_that_would_change_the_beginning_name_init_adapter(
    tmp_path: Path, phantom_data: Path, tiny_v_base: Path, change: dict[str, Any]
) -> None:
    config = tiny_config(phantom_data, tmp_path / "run", tiny_v_base, **(LONGER | change))
    found = {"base_sha256": "b", "train_manifest_sha256": "m", "precision_used": "fp32", "processes": 1}
    run_folder.claim_folder(config, found)
    (config.out / "adapter").mkdir()
    before = (config.out / "config.json").read_bytes()
    with pytest.raises(InputError, match=f"--init-adapter {config.out} and another --out"):
        run_folder.claim_folder(config.model_copy(update={"max_train_steps": 8}), found)
    assert (config.out / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"lora": {"rank": 4}}, "lora"),
        ({"max_train_steps": STEPS + 1}, "max_train_steps"),
        ({"resolution": 128}, "resolution"),
    ],
)
def test_other_settings_are_refused(
    whole: Path, phantom_data: Path, tiny_v_base: Path, change: dict[str, Any], named: str
) -> None:
    config = tiny_config(phantom_data, whole, tiny_v_base, **(EVERY_SETTING_THAT_DRAWS | change))
    with pytest.raises(InputError, match=rf"other settings \({named}\)"):
        train(config)


def test_other_data_and_another_base_are_refused(
    whole: Path, tmp_path: Path, phantom_data: Path, tiny_v_base: Path, tiny_base: Path
) -> None:
    records = read_metadata(phantom_data)
    shutil.copytree(phantom_data, tmp_path / "data")
    write_dataset(tmp_path / "data", records[1:], made_by={})
    with pytest.raises(InputError, match="train_manifest_sha256"):
        train(tiny_config(tmp_path / "data", whole, tiny_v_base, **EVERY_SETTING_THAT_DRAWS))
    with pytest.raises(InputError, match="base, base_sha256"):
        train(tiny_config(phantom_data, whole, tiny_base, **EVERY_SETTING_THAT_DRAWS))


def poisoned(batches: Iterator[Batch]) -> Iterator[Batch]:
    for batch in batches:
        batch.latents[1] = math.nan
        yield batch


def test_a_poisoned_latent_is_found_and_named(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    trainer, batches = trainer_of(tiny_config(phantom_data, tmp_path, tiny_base))
    before = [p.detach().clone() for p in trainer.parameters]
    with pytest.raises(NonFiniteLossError, match="loss nan at step 0, pairs ") as caught:
        trainer.train_step(poisoned(batches))
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.parameters, strict=True))
    report = caught.value.report
    assert report["largest_latent"][1] == "nan" and report["largest_latent"][0] != "nan"
    assert report["terms"]["image"] == "nan" and len(report["ids"]) == len(report["t_mask"]) == 4


def test_an_exploding_gradient_is_found(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    """A finite loss whose gradient is not: the step is refused before the weights are touched."""
    trainer, batches = trainer_of(tiny_config(phantom_data, tmp_path, tiny_base))
    trainer.parameters[0].register_hook(lambda gradient: gradient * math.inf)
    before = [p.detach().clone() for p in trainer.parameters]
    with pytest.raises(NonFiniteLossError, match="gradient norm"):
        trainer.train_step(batches)
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.parameters, strict=True))


def test_a_run_that_diverges_leaves_a_report_and_its_checkpoint(
    tmp_path: Path, phantom_data: Path, tiny_base: Path
) -> None:
    config = tiny_config(
        phantom_data,
        tmp_path / "run",
        tiny_base,
        max_train_steps=40,
        learning_rate=1e30,
        adam_weight_decay=0,
        max_grad_norm=1e30,
        checkpointing_steps=1,
        lr_scheduler="constant",
        ema_decay=0,
    )
    with pytest.raises(NonFiniteLossError) as caught:
        train(config)
    step = caught.value.report["step"]
    report = json.loads((config.out / f"nonfinite-step-{step:07d}-0.json").read_text())
    assert report == caught.value.report
    assert set(report["ids"]) <= {record.isic_id for record in read_metadata(phantom_data, "train")}
    assert int(complete_checkpoints(config.out / "checkpoints")[-1].name[5:]) == step
    assert not (config.out / "adapter").exists()


def test_the_loss_falls(tmp_path: Path, phantom_data: Path, tiny_v_base: Path) -> None:
    """Thirty-six steps on twelve phantoms: the validation loss and the mask's denoising error fall."""
    config = tiny_config(
        phantom_data,
        tmp_path / "run",
        tiny_v_base,
        max_train_steps=36,
        train_batch_size=8,
        learning_rate=5e-3,
        lr_warmup_steps=5,
        ema_decay=0.8,
        validation_steps=6,
        lr_scheduler="constant",
    )
    logged = [row for row in rows(train(config)) if "val_loss" in row]
    assert [row["step"] for row in logged] == list(range(6, 37, 6))
    assert logged[-1]["val_loss"] < 0.9 * logged[0]["val_loss"]
    assert logged[-1]["val_mask"] < 0.8 * logged[0]["val_mask"]


def test_the_adapter_is_the_moving_average(whole: Path) -> None:
    """And the average moves as it should: shadow <- d shadow + (1 - d) w with d = 8/17 at the eighth step."""
    before, after = (
        torch.load(path / "state.pt", weights_only=True) for path in complete_checkpoints(whole / "checkpoints")
    )
    assert (before["step"], after["step"]) == (7, 8)
    shadows = [state["ema"]["shadow_params"] for state in (before, after)]
    d = (1 + 7) / (10 + 7)
    for old, new, weight in zip(*shadows, after["parameters"], strict=True):
        torch.testing.assert_close(new, d * old + (1 - d) * weight)
    assert any(not torch.equal(a, b) for a, b in zip(shadows[1], after["parameters"], strict=True))
    saved = sorted(float(t.double().sum()) for t in weights(whole).values())
    assert saved == pytest.approx(sorted(float(t.double().sum()) for t in shadows[1]), rel=1e-6, abs=1e-9)


def test_without_moving_average_the_weights_themselves_are_saved(
    tmp_path: Path, phantom_data: Path, tiny_base: Path
) -> None:
    run = train(tiny_config(phantom_data, tmp_path / "run", tiny_base, max_train_steps=2, ema_decay=0))
    state = load_newest(run / "checkpoints")
    assert state is not None and state["ema"] is None
    saved = sorted(float(t.double().sum()) for t in weights(run).values())
    assert saved == pytest.approx(sorted(float(t.double().sum()) for t in state["parameters"]), rel=1e-9, abs=1e-12)


def test_photographs_without_masks_train_the_image_half(tmp_path: Path, tiny_base: Path) -> None:
    data = write_phantom_data(tmp_path / "data", train=3, val=2, masks=False)
    run = train(tiny_config(data, tmp_path / "run", tiny_base, max_train_steps=2, validation_steps=2))
    (row,) = rows(run)
    assert row["image"] > 0 and row["loss"] == pytest.approx(row["val_image"], rel=2)
    assert all(row[name] == 0 for name in ("mask", "dice", "bce", "val_mask"))
    assert "val_dice_read" not in row


def test_an_adapter_that_a_kill_cut_short_is_written_again(
    whole: Path, tmp_path: Path, phantom_data: Path, tiny_v_base: Path
) -> None:
    """Guards against a run that passes as finished although its adapter lacks files."""
    run = shutil.copytree(whole, tmp_path / "run")
    for name in (WEIGHTS_FILE, TRAINING_ITEMS_FILE):
        (run / "adapter" / name).unlink()
    train(tiny_config(phantom_data, run, tiny_v_base, **EVERY_SETTING_THAT_DRAWS))
    assert_same_run(run, whole)


def test_a_folder_of_something_else_is_refused(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    for text in ('{"_class_name": "UNet2DConditionModel"}', "[]", "not json"):
        (tmp_path / "config.json").write_text(text)
        for precision in ("fp32", "auto"):
            with pytest.raises(InputError, match="not the record of a run"):
                train(tiny_config(phantom_data, tmp_path, tiny_base, mixed_precision=precision))
        assert (tmp_path / "config.json").read_text() == text


def test_tensorboard_shows_no_step_twice(whole: Path, tmp_path: Path, phantom_data: Path, tiny_v_base: Path) -> None:
    """A run that logged step 8 beyond its checkpoint and died: resumed, the curve holds each step once."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "adapter")
    shutil.rmtree(complete_checkpoints(run / "checkpoints")[-1])
    train(tiny_config(phantom_data, run, tiny_v_base, **EVERY_SETTING_THAT_DRAWS))
    curve = EventAccumulator(str(run / "tensorboard")).Reload().Scalars("loss")
    assert [event.step for event in curve] == [4, 8]


def test_training_goes_on_from_an_adapter(
    tmp_path: Path, phantom_data: Path, tiny_base: Path, tiny_adapter: Path
) -> None:
    config = tiny_config(
        phantom_data, tmp_path / "run", tiny_base, init_adapter=str(tiny_adapter), max_train_steps=1, lora={}
    )
    trainer, _ = trainer_of(config)
    saved = load_file(tiny_adapter / WEIGHTS_FILE)
    named = trainable_parameters(trainer.model)
    assert len(named) == len(saved)
    assert sorted(float(t.detach().sum()) for t in named.values()) == sorted(float(t.sum()) for t in saved.values())
    run = train(config)
    assert weights(run).keys() == saved.keys()
    assert any(not torch.equal(weights(run)[name], saved[name]) for name in saved)
    recipe = read_header(run / "adapter")["recipe"]
    assert recipe["config"]["lora"] == {"rank": 2, "alpha": 4, "targets": "attention+ff", "dropout": 0.0} | {
        "rslora": False,
        "dora": False,
    }
    assert recipe["init_adapter_sha256"] == sha256_file(tiny_adapter / WEIGHTS_FILE)
    again = tiny_config(
        phantom_data, tmp_path / "again", tiny_base, init_adapter=str(run), max_train_steps=1, lora={"rank": 2}
    )
    assert (train(again) / "adapter" / WEIGHTS_FILE).is_file()  # from a run folder


def test_an_adapter_to_start_from_must_fit(
    tmp_path: Path, phantom_data: Path, tiny_base: Path, tiny_v_base: Path, tiny_adapter: Path
) -> None:
    """Guards against an asked rank that is passed over, and against an adapter of another base of the same shape."""
    given = {"init_adapter": str(tiny_adapter), "max_train_steps": 1}
    with pytest.raises(InputError, match=r"lora\.rank = 64"):
        train(tiny_config(phantom_data, tmp_path / "run", tiny_base, lora={"rank": 64}, **given))
    with pytest.raises(InputError, match="an adapter of base"):
        train(tiny_config(phantom_data, tmp_path / "run", tiny_v_base, lora={}, **given))
    assert not (tmp_path / "run").exists()


def test_without_a_validation_split_it_logs_and_draws(tmp_path: Path, tiny_base: Path) -> None:
    data = write_phantom_data(tmp_path / "data", train=3, val=0)
    run = train(tiny_config(data, tmp_path / "run", tiny_base, max_train_steps=1))
    assert "val_loss" not in rows(run)[0]
    assert (run / "samples" / "step-0000001.png").is_file()


def test_data_without_a_training_split_are_refused(tmp_path: Path, tiny_base: Path) -> None:
    data = write_phantom_data(tmp_path / "data", train=0, val=1)
    with pytest.raises(InputError, match="'train'"):
        train(tiny_config(data, tmp_path / "run", tiny_base))
    assert not (tmp_path / "run").exists()


def test_automatic_precision_is_chosen_once(
    tmp_path: Path, phantom_data: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards exactness: a resumed run keeps its precision elsewhere. And this process has trained in fp32 before."""
    monkeypatch.setattr(run_folder, "training_precision", lambda device: "bf16")
    # One pair a step: processors without bfloat16 instructions emulate them, many times more slowly.
    config = tiny_config(
        phantom_data, tmp_path / "run", tiny_base, max_train_steps=2, train_batch_size=1, mixed_precision="auto"
    )
    train(config, stop_after=1)
    monkeypatch.setattr(run_folder, "training_precision", lambda device: pytest.fail("chosen again"))
    run = train(config)
    assert json.loads((run / "config.json").read_text())["settings"]["precision_used"] == "bf16"
    assert {t.dtype for t in weights(run).values()} == {torch.float32}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    # two warm-up steps, then ten: constant, or 1 % + 99 % of a cosine's half
    [("constant", {0: 0.5, 1: 1, 2: 1, 12: 1}), ("cosine", {0: 0.5, 1: 1, 2: 1, 7: 0.505, 12: 0.01, 20: 0.01})],
)
def test_the_learning_rate(schedule: str, expected: dict[int, float]) -> None:
    config = TrainConfig(data="d", out="o", max_train_steps=12, lr_warmup_steps=2, lr_scheduler=schedule)
    assert {step: rate_factor(step, config, config.lr_warmup_steps) for step in expected} == pytest.approx(expected)


def test_groups_have_rates_and_warm_ups_of_their_own(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    config = tiny_config(
        phantom_data,
        tmp_path,
        tiny_base,
        learning_rate=1e-4,
        lora_plus_ratio=16,
        new_layer_learning_rate=1e-3,
        lr_warmup_steps=2,
        new_layer_warmup_steps=8,
        lr_scheduler="constant",
    )
    trainer, batches = trainer_of(config)
    groups = trainer.optimizer.param_groups
    assert [group["initial_lr"] for group in groups] == pytest.approx([1e-4, 1.6e-3, 1e-3])
    assert [group["lr"] for group in groups] == pytest.approx([0.5e-4, 0.8e-3, 1e-3 / 8])
    counts = [len(group["params"]) for group in groups]
    assert counts[0] == counts[1] and counts[2] == 8  # weight and bias of conv_in, conv_out, linear_1 and linear_2
    assert sum(counts) == len(trainer.parameters)
    trainer.train_step(batches)
    assert [group["lr"] for group in groups] == pytest.approx([1e-4, 1.6e-3, 2e-3 / 8])


def test_the_bases_own_filters_can_stay(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    """``freeze_base_filters``: of the first and last convolution only what is the mask's changes, decay or not."""
    settings = {"adam_weight_decay": 0.5, "new_layer_learning_rate": 1e-2, "lr_warmup_steps": 0}
    for frozen in (True, False):
        loss = {"base": 1.0 if frozen else 0.0}
        config = tiny_config(phantom_data, tmp_path, tiny_base, freeze_base_filters=frozen, loss=loss, **settings)
        base, image = load_base(tiny_base), 4
        trainer, batches = trainer_of(config)
        for _ in range(2):
            trainer.train_step(batches)
        unet = trainer.model.get_base_model()
        conv_in, conv_out = (getattr(unet, name).modules_to_save["default"] for name in ("conv_in", "conv_out"))
        stayed = [
            torch.equal(conv_in.weight[:, :image], base.unet.conv_in.weight),
            torch.equal(conv_in.bias, base.unet.conv_in.bias),
            torch.equal(conv_out.weight[:image], base.unet.conv_out.weight),
            torch.equal(conv_out.bias[:image], base.unet.conv_out.bias),
        ]
        assert stayed == [frozen] * 4
        assert conv_in.weight[:, image:].abs().min() > 0 and conv_out.weight[image:].abs().min() > 0


def test_without_its_adapter_the_trained_model_is_the_base(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    """``loss.base`` compares with it; the term is 0 at first, and its gradient goes to what is trained alone."""
    config = tiny_config(phantom_data, tmp_path, tiny_base, loss={"base": 1.0}, learning_rate=1e-2, lr_warmup_steps=0)
    trainer, batches = trainer_of(config)
    terms = [trainer.train_step(batches) for _ in range(3)]
    assert terms[0]["base"] < 1e-9 and terms[2]["base"] > 1e-6
    unet, generator = load_base(tiny_base).unet, torch.Generator().manual_seed(0)
    noisy, text = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 77, 32, generator=generator)
    timesteps = torch.tensor([10, 900])
    with torch.no_grad():
        expected = unet(noisy, timesteps, text).sample
    torch.testing.assert_close(trainer.base_prediction(noisy, timesteps, text), expected, rtol=1e-5, atol=1e-6)
    assert all(p.requires_grad for p in trainer.parameters)


@pytest.mark.parametrize(("size", "processor"), [(128, "AttnProcessor"), (136, "AttnProcessor2_0")])
def test_attention_is_unfused_where_it_is_small(
    tmp_path: Path, phantom_data: Path, tiny_base: Path, size: int, processor: str
) -> None:
    config = tiny_config(phantom_data, tmp_path, tiny_base, resolution=size)
    trainer = Trainer(config, load_base(tiny_base), accelerator_of(config))
    unet = trainer.model.get_base_model()
    assert {type(p).__name__ for p in unet.attn_processors.values()} == {processor}


def test_unfused_attention_computes_the_same(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    trainer, _ = trainer_of(tiny_config(phantom_data, tmp_path, tiny_base))
    unet, t = trainer.model.get_base_model().eval(), torch.tensor([300, 20])
    x = torch.randn(2, unet.config.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    text = trainer.base.embed(["a nevus", "a melanoma"])
    unfused = unet(x, t, text, class_labels=t).sample
    unet.set_default_attn_processor()
    assert torch.allclose(unfused, unet(x, t, text, class_labels=t).sample, atol=1e-5)


def test_no_two_places_of_a_run_share_a_seed() -> None:
    seeds = {seed_of(*place) for place in [(0, s, p, r) for s in range(100) for p in range(3) for r in range(3)]}
    assert len(seeds) == 900
    assert seed_of(0, 1) == seed_of(0, 1) and seed_of(0, 1) < 2**63
