"""The ablation compares arms seed by seed, changes one thing an arm, and names only settings that there are."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "studies"))

from ablation import ARMS, MEASURES, interval, restore_rows, row_file, table
from ablation_variants import (
    SMALLEST_ABAR,
    VARIANTS,
    autoencoder_codec,
    epsilon_to_velocity,
    epsilon_weight,
    exchanged,
    variant,
)

from skindualgen.codec import DEFAULT_CODEC
from skindualgen.config import LossSettings, MaskCodecSettings, load_train_config
from skindualgen.data.pairs import View, load_pair, read_pairs
from skindualgen.losses import MIN_SNR_GAMMA, add_noise, min_snr_weight, snr_of, velocity_target
from skindualgen.model.bases import load_base
from skindualgen.sample import denoising
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.training import cache, objective
from skindualgen.training.loop import train
from skindualgen.training.objective import Noise, joint_loss
from tiny import tiny_config

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure

EXCHANGED = {objective: ("joint_prediction", "velocity_weight"), denoising: ("joint_prediction",)}


def names_now() -> list[Any]:
    return [getattr(module, name) for module, names in EXCHANGED.items() for name in names]


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_is_a_valid_configuration_that_differs(arm: str) -> None:
    file = Path(__file__).resolve().parents[1] / "studies" / "ablation.toml"
    needed = {"data": "d", "out": "o"}
    default, changed = load_train_config(file, needed), load_train_config(file, needed | ARMS[arm])
    assert (changed == default) == (arm == "default" or arm in VARIANTS)


def test_the_interval_by_hand() -> None:
    """Mean 2, deviation 1, three values: 4.303 / sqrt(3) = 2.484."""
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.484), abs=1e-3)


def test_differences_are_paired_by_seed() -> None:
    """Seeds differ by 1 and arms by .1: the difference is .1 with no width, whatever the seeds do."""
    rows = [
        {"arm": arm, "seed": seed} | dict.fromkeys(MEASURES, seed + shift)
        for arm, shift in (("default", 0.0), ("rank 8", 0.1))
        for seed in (0, 1)
    ]
    rows.append({"arm": "rank 64", "seed": 0} | dict.fromkeys(MEASURES, 0.5))
    lines = table(rows)
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| default", "2"], ["| rank 8", "2"], ["| rank 64", "1"]]
    assert lines[2].count("0.500 ± ") == len(MEASURES)
    assert lines[3].count("0.600 (+0.100 ± 0.000)") == len(MEASURES)
    assert lines[4].count("0.500 (+0.500 ± nan)") == len(MEASURES)


@pytest.mark.parametrize("arm", VARIANTS)
def test_a_variant_trains_and_draws_and_leaves_no_trace(
    arm: str, tmp_path: Path, phantom_data: Path, tiny_base: Path
) -> None:
    """On the tiny base, of 4 + 4 channels either way: all terms, and what is drawn and read, are finite."""
    before = names_now()
    config = tiny_config(phantom_data, tmp_path / "run", tiny_base, max_train_steps=2, validation_steps=2)
    with variant(arm, str(tiny_base), phantom_data) as further:
        changed = sum(now is not then for now, then in zip(names_now(), before, strict=True))
        codec = {name.partition(".")[2]: value for name, value in further.items()}
        config = config.model_copy(update={"mask_codec": MaskCodecSettings(**codec)})
        pipe = SkinDualGenPipeline.from_adapter(train(config))
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        drawn = pipe("a dermoscopic image", generator=generator, output_type="latent")
        pairs = pipe("a dermoscopic image", generator=generator, output_type="np")
        read = pipe(image=pairs.images, generator=generator, output_type="np")
        pipe("a dermoscopic image", mask_image=pairs.masks, generator=generator)
    assert changed == (0 if further else 3)  # the codec is a setting; epsilon is none
    assert pipe.config.mask_codec["name"] == codec.get("name", "signed-distance")
    assert all(now is then for now, then in zip(names_now(), before, strict=True))
    last = json.loads((config.out / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"mask", "dice", "bce", "val_dice_read"} <= set(last)
    assert all(np.isfinite(value) for value in last.values())
    assert drawn.images.isfinite().all() and drawn.masks.isfinite().all()
    assert drawn.images.shape[1] + drawn.masks.shape[1] == 8 == pipe.unet.config.in_channels
    assert pairs.masks.shape == read.masks.shape == (1, 64, 64, 1)
    assert set(np.unique(read.masks)) <= {0.0, 1.0}


def test_names_are_given_back_after_an_error_and_an_unknown_one_is_refused() -> None:
    before = names_now()
    seen = []

    def arm_that_fails() -> None:
        with exchanged({objective: {"FIELD_SHARPNESS": 5}}):
            seen.append(objective.FIELD_SHARPNESS)
            raise RuntimeError("in the arm")

    with pytest.raises(RuntimeError, match="in the arm"):
        arm_that_fails()
    assert seen == [5]
    with pytest.raises(AttributeError, match="FIELD_SHARPNES"), exchanged({objective: {"FIELD_SHARPNES": 5}}):
        pass
    assert all(now is then for now, then in zip(names_now(), before, strict=True))


@pytest.mark.parametrize("t", [1, 500, 900])
def test_the_epsilon_arm_has_exactly_epsilon_s_loss(t: int, tiny_base: Path, phantom_data: Path) -> None:
    """Its mask term against min-SNR-weighted squared error of the noise, computed without any velocity."""
    base = load_base(tiny_base)
    generator = torch.Generator().manual_seed(0)
    draw = lambda channels: torch.randn(3, channels, 8, 8, generator=generator)  # noqa: E731
    latents, codes, noise_image, noise_mask, out = draw(4), draw(4), draw(4), draw(4), draw(8)
    alphas, times = base.scheduler.alphas_cumprod, torch.full((3,), t)
    assert alphas[t] > SMALLEST_ABAR
    network = lambda *args, **kwargs: (out,)  # noqa: E731
    with variant("epsilon for the mask", str(tiny_base), phantom_data):
        _, sums = joint_loss(
            network,
            latents,
            codes,
            torch.ones(3, dtype=torch.bool),
            torch.zeros(3, 77, 32),
            Noise(noise_image, noise_mask, times, times),
            alphas_cumprod=alphas,
            prediction_type="epsilon",
            settings=LossSettings(),
            codec=DEFAULT_CODEC,
        )
    error = (out[:, 4:] - noise_mask).square().mean(dim=(1, 2, 3))
    expected = (min_snr_weight(snr_of(alphas[times]), "epsilon", MIN_SNR_GAMMA) * error).sum()
    assert float(sums["mask"][0]) == pytest.approx(float(expected), rel=1e-4)


def test_true_epsilon_is_true_velocity_and_no_signal_stays_finite() -> None:
    x0, eps = torch.randn(2, 4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for abar in torch.tensor([1.0, 0.9, 0.1, 0.002]):
        velocity = epsilon_to_velocity(eps, add_noise(x0, eps, abar), abar)
        torch.testing.assert_close(velocity, velocity_target(x0, eps, abar), rtol=1e-4, atol=1e-4)
    from_noise: Tensor = epsilon_to_velocity(eps * 0.5, eps, torch.tensor(0.0))
    torch.testing.assert_close(from_noise, -0.5 * eps / SMALLEST_ABAR**0.5)
    weights = epsilon_weight(torch.tensor([0.0, 1.0, 9.0, float("inf")]), 5.0)
    torch.testing.assert_close(weights, torch.tensor([0.0, 0.5, 0.5, 0.0]))


def test_the_autoencoder_s_codes_are_standardised_and_have_a_cache_of_their_own(phantom_data: Path) -> None:
    """On the micro base, whose autoencoder is trained: its round trip keeps the masks, flipped ones too."""
    base = load_base("micro")
    records = read_pairs(phantom_data, "train")
    masks = torch.stack([load_pair(phantom_data, record, 64, View())[1] for record in records])  # type: ignore[misc]
    codec = autoencoder_codec(base, masks)
    codes = codec.encode(masks)
    assert codes.shape == (len(records), base.unet.config.in_channels, 8, 8)
    assert (float(codes.mean()), float(codes.std())) == pytest.approx((0, 1), abs=1e-4)
    assert ((codec.decode(codes) > 0).float() == masks).float().mean() > 0.99
    assert ((codec.decode(codec.flip(codes, [-1])) > 0).float() == masks.flip(-1)).float().mean() > 0.98
    assert codec.flip(codes, []) is codes
    codes.requires_grad_()
    codec.decode(codes).sum().backward()
    assert codes.grad is not None and codes.grad.abs().min() > 0
    assert repr(codec) != repr(DEFAULT_CODEC) and "mean=" in repr(codec) and len(repr(codec)) < 100
    options = cache.EncodeOptions(64)
    keys = {
        cache.cache_key(phantom_data, records, base, replace(options, codec=each)) for each in (codec, DEFAULT_CODEC)
    }
    assert len(keys) == 2 and cache.cache_key(phantom_data, records, base, options) in keys


def test_a_table_of_another_machine_is_gone_on_with(tmp_path: Path) -> None:
    rows = [{"arm": "default", "seed": 0, "kid": 0.1}, {"arm": "no longer there", "seed": 0, "kid": 0.1}]
    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    (out / "ablation.json").write_text(json.dumps({"run": {"steps": 150}, "rows": rows}))
    restore_rows(work, out, 100)
    assert not work.exists()
    restore_rows(work, out, 150)
    assert json.loads(row_file(work, "default", 0, 150).read_text()) == rows[0]
    assert len(list((work / "rows").iterdir())) == 1
    row_file(work, "default", 0, 150).write_text("{}")
    restore_rows(work, out, 150)
    assert row_file(work, "default", 0, 150).read_text() == "{}"
