"""Guidance as free arithmetic: identities, hand-worked numbers, and diffusers' own rescaling."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from pipeline_calls import call, difference, photograph, quiet_pipeline
from skindualgen.contracts import InputError
from skindualgen.files import sha256_file
from skindualgen.sample.denoising import JointDenoiser
from skindualgen.sample.guidance import Guidance
from skindualgen.sample.pipeline import SkinDualGenPipeline
from tiny import write_tiny_adapter


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_leads_away_from_the_weak_prediction() -> None:
    strong, weak = torch.tensor([[[[2.0]]]]), torch.tensor([[[[1.0]]]])
    assert Guidance(scale=3).combine(strong, weak).item() == 1 + 3 * (2 - 1)
    assert torch.equal(Guidance(scale=1.5).combine(strong, strong), strong)
    assert Guidance(scale=1.0).on is False and Guidance(scale=1.01).on


@pytest.mark.parametrize("rescale", [0.3, 1.0])
def test_rescaling_is_diffusers(rescale: float) -> None:
    strong, weak = noise(2, 4, 8, 8), noise(2, 4, 8, 8, seed=1)
    led = Guidance(scale=4).combine(strong, weak)
    expected = rescale_noise_cfg(led, strong, guidance_rescale=rescale)
    torch.testing.assert_close(Guidance(scale=4, rescale=rescale).combine(strong, weak), expected)


def test_the_interval_is_closed_and_needs_a_scale() -> None:
    inside = Guidance(scale=2, interval=(0.25, 0.75))
    assert [inside.acts_at(share) for share in (0.0, 0.25, 0.5, 0.75, 0.8)] == [False, True, True, True, False]
    assert not Guidance(scale=1, interval=(0.25, 0.75)).acts_at(0.5)


def test_prompt_noise_grows_with_the_noise_and_keeps_mean_and_deviation() -> None:
    embeds = noise(3, 7, 16) * 5 + 2
    settings = Guidance(prompt_noise=0.5, prompt_noise_until=(0.25, 0.75))
    assert torch.equal(settings.noisy_prompt(embeds, 0.25, None), embeds)
    assert torch.equal(Guidance().noisy_prompt(embeds, 1.0, None), embeds)
    half, full = (settings.noisy_prompt(embeds, share, torch.Generator().manual_seed(3)) for share in (0.5, 0.75))
    for noisy in (half, full):
        torch.testing.assert_close(noisy.mean((1, 2)), embeds.mean((1, 2)), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(noisy.std((1, 2)), embeds.std((1, 2)), rtol=1e-4, atol=1e-4)
    # half way gamma is 1/2: the prompt has sqrt(1/2), the noise sqrt(1/2) * 0.5 of its deviation
    drawn = torch.randn(embeds.shape, generator=torch.Generator().manual_seed(3))
    deviation = embeds.std((1, 2), keepdim=True)
    expected = math.sqrt(0.5) * embeds + 0.5 * math.sqrt(0.5) * deviation * drawn
    expected = (expected - expected.mean((1, 2), keepdim=True)) / expected.std((1, 2), keepdim=True)
    torch.testing.assert_close(half, expected * deviation + embeds.mean((1, 2), keepdim=True))
    correlation = torch.corrcoef(torch.stack([full[0].flatten(), embeds[0].flatten()]))[0, 1]
    assert abs(correlation) < 0.3  # nothing of the prompt is left


def test_each_sample_has_noise_of_its_own() -> None:
    """Results then do not depend on the batch they are made in."""
    embeds = noise(2, 7, 16)
    settings = Guidance(prompt_noise=1.0)
    both = settings.noisy_prompt(embeds, 0.8, [torch.Generator().manual_seed(s) for s in (5, 6)])
    alone = settings.noisy_prompt(embeds[1:], 0.8, [torch.Generator().manual_seed(6)])
    torch.testing.assert_close(both[1:], alone)


def test_the_pipeline_leads_as_it_is_told(either: SkinDualGenPipeline) -> None:
    """An interval without any step is no guidance; one that holds all of them is the default."""
    settings = {"guidance_scale": 3.0}
    plain = call(either, "a melanoma", **settings)
    same = call(either, "a melanoma", guidance_interval=(0.0, 1.0), prompt_noise=0.0, **settings)
    assert difference(plain, same) == 0
    outside = call(either, "a melanoma", guidance_interval=(0.0, 1e-6), **settings)
    assert difference(outside, call(either, "a melanoma", guidance_scale=1.0)) < 1e-5
    for change in ({"guidance_rescale": 1.0}, {"prompt_noise": 1.0}, {"guidance_interval": (0.6, 1.0)}):
        assert difference(plain, call(either, "a melanoma", **settings, **change)) > 1e-4
    with pytest.raises(InputError, match="guidance_interval"):
        call(either, "a melanoma", guidance_interval=(1.0, 0.0))


def test_prompt_noise_does_not_depend_on_the_batch(v_pipe: SkinDualGenPipeline) -> None:
    settings = {"prompt_noise": 0.5, "guidance_scale": 3.0}
    together = call(v_pipe, ["a melanoma", "a nevus"], (0, 1), output_type="np", **settings)
    alone = call(v_pipe, "a nevus", (1,), output_type="np", **settings)
    np.testing.assert_allclose(together.images[1], alone.images[0], atol=1e-3)


@pytest.fixture(scope="module")
def weaker(tmp_path_factory: pytest.TempPathFactory, tiny_v_base: Path) -> Path:
    """Another adapter of the tiny v base."""
    return write_tiny_adapter(tmp_path_factory.mktemp("tiny") / "weaker", tiny_v_base, seed=9)


def test_a_guide_is_what_predictions_are_led_away_from(tiny_v_adapter: Path, weaker: Path) -> None:
    """One step of both halves, by hand: the guide's prediction for the same prompt takes the empty prompt's place."""
    guided = SkinDualGenPipeline.from_adapter(tiny_v_adapter, guide=weaker)
    alone = [quiet_pipeline(folder) for folder in (tiny_v_adapter, weaker)]
    denoiser = JointDenoiser(guided.scheduler, (1.0, 1.0), 4, torch.device("cpu"))
    halves = [noise(2, guided.unet.config.in_channels - 4, 8, 8), noise(2, 4, 8, 8, seed=1)]
    text = guided.encode_prompt(["a melanoma", "a nevus"])
    strong, weak = (denoiser.predict(pipe.unet, halves, 1, text, Guidance()) for pipe in alone)
    led = denoiser.predict(guided.unet, halves, 1, text, Guidance(scale=3), guide=guided.guide)
    for ours, good, bad in zip(led, strong, weak, strict=True):
        torch.testing.assert_close(ours, bad + 3 * (good - bad))
        assert (good - bad).abs().max() > 1e-3


def test_a_guide_in_the_pipeline(tiny_v_adapter: Path, weaker: Path, tmp_path: Path) -> None:
    plain = quiet_pipeline(tiny_v_adapter)
    same, other = (SkinDualGenPipeline.from_adapter(tiny_v_adapter, guide=g) for g in (tiny_v_adapter, weaker))
    for pipe in (same, other):
        pipe.set_progress_bar_config(disable=True)
    unguided = call(plain, guidance_scale=1.0)
    assert difference(call(same, guidance_scale=4.0), unguided) < 1e-4  # nothing to lead away from
    assert difference(call(other, guidance_scale=1.0), unguided) < 1e-5
    led = call(other, guidance_scale=4.0)
    assert difference(led, unguided) > 1e-3 and difference(led, call(plain, guidance_scale=4.0)) > 1e-3
    assert other.config.provenance["guide_sha256"] == sha256_file(weaker / "adapter_model.safetensors")
    other.save_pretrained(tmp_path / "saved")
    again = SkinDualGenPipeline.from_pretrained(tmp_path / "saved")
    again.set_progress_bar_config(disable=True)
    assert difference(call(again, guidance_scale=4.0), led) < 1e-5
    assert difference(call(SkinDualGenPipeline.from_pipe(other, guide=None), guidance_scale=1.0), unguided) < 1e-5


def test_a_guide_that_cannot_lead(tiny_adapter: Path, tiny_v_adapter: Path, weaker: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="an adapter of base"):
        SkinDualGenPipeline.from_adapter(tiny_v_adapter, guide=tiny_adapter)
    with pytest.raises(InputError, match="without adapter_model"):
        SkinDualGenPipeline.from_adapter(tiny_v_adapter, guide=tmp_path)
    guided = SkinDualGenPipeline.from_adapter(tiny_v_adapter, guide=weaker)
    with pytest.raises(InputError, match="negative prompt for a pipeline with a guide"):
        call(guided, negative_prompt="blurry")


def test_the_adapter_s_defaults(tiny_v_adapter: Path) -> None:
    """What a call does not say, the pipeline's settings do; a mask is read with none of it."""
    plain = quiet_pipeline(tiny_v_adapter)
    settings = {"guidance_rescale": 0.7, "guidance_interval": [0.3, 1.0], "prompt_noise": 0.2}
    told = SkinDualGenPipeline.from_pipe(plain, **{f"default_{name}": value for name, value in settings.items()})
    told.set_progress_bar_config(disable=True)
    assert told.guidance().told == {
        "guidance_rescale": 0.7,
        "guidance_from": 0.3,
        "guidance_until": 1.0,
        "prompt_noise": 0.2,
    }
    assert plain.guidance().told == {} and told.guidance(rescale=0.0, interval=(0, 1), prompt_noise=0).told == {}
    assert difference(call(told, guidance_scale=3.0), call(plain, guidance_scale=3.0, **settings)) == 0
    assert difference(call(told, None, image=photograph()), call(plain, None, image=photograph())) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scale": float("nan")}, "guidance_scale nan"),
        ({"scale": float("inf")}, "guidance_scale inf"),
        ({"rescale": 1.5}, "guidance_rescale 1.5"),
        ({"prompt_noise": -1.0}, "prompt_noise -1"),
        ({"interval": (0.8, 0.2)}, "guidance_interval"),
        ({"prompt_noise_until": (0.0, 2.0)}, "prompt_noise_until"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Guidance(**wrong)
