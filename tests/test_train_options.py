"""What can be set about a training run does what it says, and what cannot work is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from skindualgen.config import TrainConfig, load_train_config
from skindualgen.contracts import InputError
from skindualgen.data.pairs import draw_view, load_pair, read_pairs
from skindualgen.model.adapter import WEIGHTS_FILE, load_adapter, read_header
from skindualgen.model.bases import load_base
from skindualgen.model.joint_unet import joint_prediction
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.training.batches import Batches
from skindualgen.training.cache import EncodeOptions, open_cache
from skindualgen.training.estimate import activation_bytes, estimate
from skindualgen.training.loop import train
from skindualgen.training.optimizer import make_optimizer
from skindualgen.training.stopping import Best
from skindualgen.training.trainer import Trainer
from tiny import accelerator_of, tiny_config, tiny_unet, write_phantom_data

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def step_of(config: TrainConfig) -> tuple[Trainer, dict[str, float]]:
    """Do one step of a run; the trainer, and what it logged."""
    base = load_base(config.base)
    torch.manual_seed(0)
    trainer = Trainer(config, base, accelerator_of(config))
    cache = open_cache(
        config.out / "cache", config.data, read_pairs(config.data, "train"), base, EncodeOptions(size=64)
    )
    return trainer, trainer.train_step(iter(Batches(cache, config, 1000).loader(0)))


@pytest.mark.parametrize("option", ["gradient_checkpointing", "channels_last"])
def test_memory_options_change_no_number(tmp_path: Path, phantom_data: Path, tiny_base: Path, option: str) -> None:
    plain, logged = step_of(tiny_config(phantom_data, tmp_path, tiny_base))
    saving, same = step_of(tiny_config(phantom_data, tmp_path, tiny_base, **{option: True}))
    assert same == pytest.approx(logged, rel=1e-4)
    # The gradients, which AdamW's first moments hold: its first step is their sign alone, where rounding can turn one.
    gradients = [[t.optimizer.state[p]["exp_avg"] for p in t.parameters] for t in (plain, saving)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_checkpointing_holds_less(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    """Counted in a real step: the tensors that autograd holds between forward and backward."""
    held = {}
    for option in (False, True):
        config = tiny_config(phantom_data, tmp_path, tiny_base, gradient_checkpointing=option)
        trainer, _ = step_of(config)
        x, text, t = torch.randn(4, 8, 8, 8), torch.randn(4, 77, 32), torch.full((4,), 300)
        sizes: dict[int, int] = {}

        def note(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            joint_prediction(trainer.model, x[:, :4], x[:, 4:], t, t, text)
        held[option] = sum(sizes.values())
    assert held[True] < 0.5 * held[False]


def test_frozen_weights_in_half_precision(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    """Half the memory of the base, LoRA and the new layers still in fp32, about the same loss; and it samples."""
    settings = {"max_train_steps": 2, "validation_steps": 2, "mixed_precision": "bf16"}
    full = train(tiny_config(phantom_data, tmp_path / "full", tiny_base, **settings))
    half = train(tiny_config(phantom_data, tmp_path / "half", tiny_base, base_dtype="bf16", **settings))
    assert rows(half)[-1]["loss"] == pytest.approx(rows(full)[-1]["loss"], rel=0.02)
    assert {t.dtype for t in load_file(half / "adapter" / WEIGHTS_FILE).values()} == {torch.float32}
    trainer, _ = step_of(
        tiny_config(phantom_data, tmp_path / "h", tiny_base, base_dtype="bf16", mixed_precision="bf16")
    )
    assert trainer.model.get_base_model().time_embedding.linear_1.weight.dtype == torch.bfloat16
    assert {p.dtype for p in trainer.parameters} == {torch.float32}


def test_half_weights_without_autocast_are_refused(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    with pytest.raises(InputError, match="base_dtype bf16 with mixed_precision fp32"):
        train(tiny_config(phantom_data, tmp_path / "run", tiny_base, base_dtype="bf16"))


@pytest.mark.parametrize("option", ["rslora", "dora"])
def test_variants_of_lora_train_and_load_back(tmp_path: Path, phantom_data: Path, tiny_base: Path, option: str) -> None:
    """What is loaded and merged predicts what the trained model does."""
    settings = {
        "lora": {"rank": 4, "alpha": 8, option: True},
        "ema_decay": 0,
        "learning_rate": 1e-2,
        "max_train_steps": 2,
    }
    config = tiny_config(phantom_data, tmp_path / "run", tiny_base, **settings)
    run = train(config)
    assert read_header(run / "adapter")["recipe"]["config"]["lora"][option] is True
    names = load_file(run / "adapter" / WEIGHTS_FILE)
    assert any("magnitude" in name for name in names) == (option == "dora")
    trained, _ = step_of(config)
    trained.step = 0
    state = torch.load(next((run / "checkpoints").glob("step-0000002")) / "state.pt", weights_only=True)
    with torch.no_grad():
        for parameter, value in zip(trained.parameters, state["parameters"], strict=True):
            parameter.copy_(value)
    merged = load_adapter(load_base(tiny_base), run / "adapter")
    x, text, t = torch.randn(2, 8, 8, 8), torch.randn(2, 77, 32), torch.tensor([300, 20])
    with torch.no_grad():
        ours = joint_prediction(merged.eval(), x[:, :4], x[:, 4:], t, t, text)
        theirs = joint_prediction(trained.model.eval(), x[:, :4], x[:, 4:], t, t, text)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_zero_terminal_snr(tmp_path: Path, phantom_data: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A base of velocity without it is rescaled for training, and the pipeline samples with the same schedule."""
    base = plain_velocity_base(tmp_path_factory.mktemp("v") / "base")
    assert load_base(base).scheduler.alphas_cumprod[-1] > 1e-3
    config = tiny_config(
        phantom_data, tmp_path / "run", base, noise={"rescale_betas_zero_snr": True}, max_train_steps=2
    )
    trainer, logged = step_of(config)
    assert trainer.alphas_cumprod[-1] < 1e-8 and math.isfinite(logged["loss"])
    pipeline = SkinDualGenPipeline.from_adapter(train(config))
    assert pipeline.scheduler.config.rescale_betas_zero_snr
    assert pipeline.scheduler.config.timestep_spacing == "trailing"


def test_zero_terminal_snr_of_epsilon_is_refused(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    with pytest.raises(InputError, match=r"rescale_betas_zero_snr .* 'epsilon'"):
        train(tiny_config(phantom_data, tmp_path / "run", tiny_base, noise={"rescale_betas_zero_snr": True}))


def plain_velocity_base(folder: Path) -> Path:
    """The tiny velocity base with an ordinary schedule, as sd2 (768 px) has."""
    from tiny import write_tiny_base

    write_tiny_base(folder, prediction_type="v_prediction", stock_autoencoder=False)
    file = folder / "scheduler" / "scheduler_config.json"
    changed = {"rescale_betas_zero_snr": False, "timestep_spacing": "leading", "set_alpha_to_one": False}
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    return folder


def test_8_bit_adam_needs_a_gpu(tmp_path: Path) -> None:
    config = TrainConfig(data=tmp_path, out=tmp_path, optimizer="adamw8bit")
    with pytest.raises(InputError, match="adamw8bit' on a CPU"):
        make_optimizer([], config, torch.device("cpu"))


def test_the_best_by_hand() -> None:
    best = Best("val_loss")
    assert [best.note(value, step) for step, value in enumerate([3.0, 4.0, 2.0, 2.0])] == [True, False, True, False]
    assert (best.value, best.step, best.since) == (2.0, 2, 1)
    assert Best(**best.state()) == best
    dice = Best("val_dice_read")
    assert [dice.note(value, step) for step, value in enumerate([0.3, 0.4, 0.2])] == [True, True, False]


def test_a_run_ends_early_and_keeps_its_best(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    """A learning rate that ruins the model: the first validation is the best, and two worse ones end the run."""
    settings: dict[str, Any] = {
        "max_train_steps": 30,
        "validation_steps": 2,
        "learning_rate": 0.1,
        "lr_scheduler": "constant",
        "patience": 2,
        "result": "best",
        "ema_decay": 0,
        "checkpointing_steps": 4,
        "lr_warmup_steps": 8,
        "lora": {"rank": 2},
    }
    config = tiny_config(phantom_data, tmp_path / "run", tiny_base, **settings)
    run = train(config)
    logged = rows(run)
    losses = [row["val_loss"] for row in logged]
    best = losses.index(min(losses))
    assert len(losses) == best + 3 and logged[-1]["step"] < 30
    assert read_header(run / "adapter")["recipe"]["steps"] == logged[best]["step"]
    ours, kept = load_file(run / "adapter" / WEIGHTS_FILE), load_file(run / "best" / WEIGHTS_FILE)
    assert all(torch.equal(ours[name], kept[name]) for name in kept)
    before = (run / "metrics.jsonl").read_text()
    train(config)  # it has ended: nothing is trained further
    assert (run / "metrics.jsonl").read_text() == before

    stopped = config.model_copy(update={"out": tmp_path / "stopped"})
    train(stopped, stop_after=logged[best]["step"] + 1)
    train(stopped)  # what counts as the best so far outlives an interruption
    assert [row["val_loss"] for row in rows(stopped.out)] == losses


def test_the_best_without_validation_pairs_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    data = write_phantom_data(tmp_path / "data", train=2, val=0)
    for settings in ({"result": "best"}, {"patience": 3}):
        with pytest.raises(InputError, match="without validation pairs"):
            train(tiny_config(data, tmp_path / "run", tiny_base, **settings))


def test_validation_does_not_hang_on_the_batch_size(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    """Guards against all validation pairs in one pass, which does not fit a large base."""
    from contextlib import nullcontext

    from skindualgen.training.validate import Validator

    measured = []
    for batch_size in (3, 4):
        config = tiny_config(phantom_data, tmp_path, tiny_base, train_batch_size=batch_size)
        base = load_base(tiny_base)
        torch.manual_seed(0)
        trainer = Trainer(config, base, accelerator_of(config))
        records = read_pairs(phantom_data, "val")
        validator = Validator(
            config, base, records, EncodeOptions(64), tmp_path / "cache", nullcontext, lambda *_: None
        )
        measured.append(validator.run(trainer.model, 0))
    assert measured[0] == pytest.approx(measured[1], rel=1e-4)


def test_colour_changes_the_light_and_not_the_mask(phantom_data: Path) -> None:
    record = read_pairs(phantom_data, "train")[0]
    plain, moved = (draw_view(0, 1, seed=3, min_zoom=0.9, colour=strength) for strength in (0.0, 1.0))
    assert (plain.zoom, plain.left, plain.top, plain.turn) == (moved.zoom, moved.left, moved.top, moved.turn)
    (image, mask), (recoloured, same) = (load_pair(phantom_data, record, 64, view) for view in (plain, moved))
    assert mask is not None and same is not None and torch.equal(mask, same)
    assert not torch.equal(image, recoloured)
    assert recoloured.min() >= -1 and recoloured.max() <= 1
    assert draw_view(0, 0, seed=3, min_zoom=0.9, colour=1.0).gains == (1.0, 1.0, 1.0)
    views = [draw_view(i, 1, seed=0, min_zoom=1, colour=1.0) for i in range(500)]
    reddest = max(view.gains[0] / view.gains[2] for view in views)
    assert 1.08 < reddest < (1 + 0.15 + 0.06) / (1 + 0.15 - 0.06) + 0.03  # colours shift little, light by more
    assert min(view.gamma for view in views) >= 0.85 and max(view.gamma for view in views) <= 1.15


def test_a_dry_run_says_what_would_be_trained(tmp_path: Path, phantom_data: Path, tiny_base: Path) -> None:
    config = tiny_config(phantom_data, tmp_path / "run", tiny_base)
    lines = estimate(config)
    trainer, _ = step_of(config)
    trained = sum(parameter.numel() for parameter in trainer.parameters)
    total = sum(parameter.numel() for parameter in trainer.model.parameters())
    assert lines[0].startswith(f"trained parameters: {trained:,} of {total:,}")
    assert lines[1].startswith("memory, estimated: ") and "GiB" in lines[1]
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_estimate_counts_what_a_real_pass_holds(checkpointing: bool) -> None:
    """Tensors without content against a pass with content, in float32, within 3 %."""
    from skindualgen.model.adapter import attach_adapter
    from skindualgen.model.joint_unet import widen_unet

    with torch.device("meta"):
        ghost = attach_adapter(widen_unet(tiny_unet()), rank=4, alpha=4)
    estimated = activation_bytes(ghost, 8, torch.float32, checkpointing=checkpointing)
    real = attach_adapter(widen_unet(tiny_unet()), rank=4, alpha=4)
    weights = {p.untyped_storage().data_ptr() for p in real.parameters()}
    sizes: dict[int, int] = {}
    keep = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        keep.append(tensor)
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            sizes[place] = tensor.untyped_storage().nbytes()
        return tensor

    x, t = torch.randn(1, 8, 8, 8), torch.tensor([300])
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        joint_prediction(real, x[:, :4], x[:, 4:], t, t, torch.randn(1, 77, 32))
    if checkpointing:
        assert estimated < 0.6 * sum(sizes.values())
    else:
        assert estimated == pytest.approx(sum(sizes.values()), rel=0.03)


def test_settings_survive_toml(tmp_path: Path) -> None:
    """What --dry-run prints is a file that --config reads back to the same settings."""
    import tomli_w

    config = TrainConfig(data=tmp_path / "d", out=tmp_path / "o", patience=3, noise={"offset": 0.1})
    file = tmp_path / "c.toml"
    file.write_text(tomli_w.dumps(config.model_dump(mode="json", exclude_none=True)))
    assert load_train_config(file, {}) == config
