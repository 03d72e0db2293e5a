"""FSDP trains what one process does, with half of the weights each; what is untested is refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tomli_w
import torch
from accelerate.commands.launch import launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from safetensors.torch import load_file
from torch.distributed.fsdp import MixedPrecisionPolicy

from processes import Launched, launched
from skindualgen.config import TrainConfig
from skindualgen.contracts import InputError
from skindualgen.model.adapter import WEIGHTS_FILE
from skindualgen.training.checkpoint import STATE_FILE, complete_checkpoints
from skindualgen.training.loop import train
from skindualgen.training.sharding import take_sharding
from test_distributed import SETTINGS, curve
from tiny import tiny_config

ROOT = Path(__file__).resolve().parents[1]
PROCESSES = 2


Launch = Callable[..., Launched]


@pytest.fixture
def launch(capfd: pytest.CaptureFixture[str]) -> Launch:
    """``accelerate launch`` with the FSDP configuration of the examples, on the CPU (gloo); the launcher runs here."""

    def start(config: TrainConfig, processes: int, *program: str) -> Launched:
        file = config.out.with_suffix(".toml")
        file.write_text(tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)))
        arguments = ["--config_file", str(ROOT / "examples/fsdp.yaml"), "--num_processes", str(processes)]
        arguments += ["--main_process_port", "0", *program, "train", "--config", str(file)]
        return launched(capfd, lambda: launch_command(launch_command_parser().parse_args(arguments)))

    return start


@pytest.mark.slow
def test_sharded_processes_equal_one_with_twice_the_batch_and_resume(
    launch: Launch, tmp_path: Path, phantom_data: Path, tiny_base: Path
) -> None:
    """Curve, validation, moving average, best and adapter; and a run resumed from its first checkpoint, bit for bit."""
    settings: dict[str, Any] = SETTINGS | {"ema_decay": 0.5, "gradient_checkpointing": True, "result": "best"}
    # So short a training reads no mask: the second validation is no better, and the next step follows it directly.
    settings |= {"validation_steps": 2, "best_by": "val_dice_read"}
    one = train(tiny_config(phantom_data, tmp_path / "one", tiny_base, train_batch_size=4, **settings))
    config = tiny_config(phantom_data, tmp_path / "two", tiny_base, train_batch_size=2, **settings)
    done = launch(config, PROCESSES, str(ROOT / "tests" / "fsdp_on_cpu.py"))
    assert not done.failed, done.stderr
    two = config.out
    shares = [float(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith("share held")]
    assert shares == pytest.approx([1 / PROCESSES] * PROCESSES, rel=0.05)
    for name in ("loss", "image", "mask", "dice", "val_loss", "val_dice", "grad_norm"):
        assert curve(two, name) == pytest.approx(curve(one, name), rel=2e-4), name
    ours, theirs = load_file(two / "adapter" / WEIGHTS_FILE), load_file(one / "adapter" / WEIGHTS_FILE)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=2e-5)
    assert load_file(two / "best" / WEIGHTS_FILE).keys() == ours.keys()
    assert curve(two, "val_dice_read")[1] <= curve(two, "val_dice_read")[0]
    samples = [sorted(path.name for path in (run / "samples").iterdir()) for run in (one, two)]
    assert samples[0] == samples[1]

    first, last = complete_checkpoints(two / "checkpoints")
    before = torch.load(last / STATE_FILE, weights_only=True)
    whole = torch.load(complete_checkpoints(one / "checkpoints")[-1] / STATE_FILE, weights_only=True)
    for values, expected in (
        (before["parameters"], whole["parameters"]),
        (before["ema"]["shadow_params"], whole["ema"]["shadow_params"]),
        (
            [s["exp_avg"] for s in before["optimizer"]["state"].values()],
            [s["exp_avg"] for s in whole["optimizer"]["state"].values()],
        ),
    ):
        torch.testing.assert_close(values, expected, rtol=1e-3, atol=2e-5)
    shutil.rmtree(last)
    shutil.rmtree(two / "adapter")
    logged = (two / "metrics.jsonl").read_text().splitlines()
    done = launch(config, PROCESSES, str(ROOT / "tests" / "fsdp_on_cpu.py"))
    assert not done.failed, done.stderr
    logged_again = (two / "metrics.jsonl").read_text().splitlines()
    kept = [a == b for a, b in zip(logged_again, logged, strict=True)]  # a row holds its own speed
    assert first.name == "step-0000003" and kept == [True, False, False]
    after = torch.load(last / STATE_FILE, weights_only=True)
    for values, expected in (
        (after["parameters"], before["parameters"]),
        (after["ema"]["shadow_params"], before["ema"]["shadow_params"]),
    ):
        assert all(torch.equal(a, b) for a, b in zip(values, expected, strict=True))
    again = load_file(two / "adapter" / WEIGHTS_FILE)
    assert all(torch.equal(again[name], value) for name, value in ours.items())


@pytest.mark.slow
def test_on_a_cpu_the_configuration_is_refused(
    launch: Launch, tmp_path: Path, phantom_data: Path, tiny_base: Path
) -> None:
    """Accelerate would train there without sharding anything, and say nothing."""
    config = tiny_config(phantom_data, tmp_path / "run", tiny_base)
    done = launch(config, 1, "-m", "skindualgen")
    assert done.failed
    assert "got FSDP on cpu" in done.stderr and "leave the FSDP configuration out" in done.stderr
    assert not (config.out / "adapter").exists()


def accelerator_with(mixed_precision: str, **options: Any) -> Any:
    """What ``take_sharding`` reads of an accelerator that shards, which there is on GPUs only; the plugin is real."""
    plugin = FullyShardedDataParallelPlugin(**({"fsdp_version": 2} | options))
    return SimpleNamespace(
        distributed_type=DistributedType.FSDP,
        state=SimpleNamespace(fsdp_plugin=plugin),
        mixed_precision=mixed_precision,
        device=torch.device("cpu"),
    )


def config_with(**settings: Any) -> TrainConfig:
    return tiny_config(Path("d"), Path("o"), Path("b"), **settings)


@pytest.mark.parametrize(
    ("named", "settings", "precision", "options"),
    [
        ("fsdp_version 1", {}, "bf16", {"fsdp_version": 1}),
        ("fsdp_cpu_ram_efficient_loading", {}, "bf16", {"cpu_ram_efficient_loading": True}),
        ("fsdp_activation_checkpointing", {}, "bf16", {"activation_checkpointing": True}),
        ("mixed_precision fp16", {}, "fp16", {}),
        ("optimizer adamw8bit", {"optimizer": "adamw8bit"}, "bf16", {}),
        ("compile", {"compile": True}, "bf16", {}),
        ("freeze_base_filters", {"freeze_base_filters": True}, "bf16", {}),
    ],
)
def test_what_is_not_tested_is_refused_by_name(
    named: str, settings: dict[str, Any], precision: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")  # the plugin sets it
    with pytest.raises(InputError) as caught:
        take_sharding(config_with(**settings), accelerator_with(precision, **options))
    assert f"got FSDP with {named}; " in str(caught.value) and "--multi_gpu" in str(caught.value)


def test_offloading_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    with pytest.raises(InputError, match="got FSDP with fsdp_offload_params; "):
        take_sharding(config_with(), accelerator_with("bf16"))


def test_autocast_keeps_the_precision_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate's policy would reduce LoRA's gradients in half precision."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    accelerator = accelerator_with("bf16")
    accelerator.state.fsdp_plugin.set_mixed_precision("bf16")
    assert accelerator.state.fsdp_plugin.mixed_precision_policy.param_dtype == torch.bfloat16
    take_sharding(config_with(), accelerator)
    assert accelerator.state.fsdp_plugin.mixed_precision_policy == MixedPrecisionPolicy(cast_forward_inputs=False)


def test_without_fsdp_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    take_sharding(config_with(compile=True), SimpleNamespace(distributed_type=DistributedType.NO))  # type: ignore[arg-type]
