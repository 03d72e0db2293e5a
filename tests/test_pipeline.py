"""What diffusers' own suite asks of a pipeline, and what schedulers and precisions have to hold."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    RePaintScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from torch import Tensor

from pipeline_calls import PROMPT, SIZE_PX, call, difference, disc, photograph, quiet_pipeline
from skindualgen.codec import DEFAULT_CODEC
from skindualgen.contracts import InputError
from skindualgen.sample.pipeline import SkinDualGenPipeline, SkinDualGenPipelineOutput
from tiny import tiny_unet

pytestmark = pytest.mark.no_cover  # what this reaches of the package, other tests measure

SCHEDULERS = [DDIMScheduler, DDPMScheduler, UniPCMultistepScheduler, DPMSolverMultistepScheduler]


def test_it_takes_what_diffusers_pipelines_take() -> None:
    parameters = inspect.signature(SkinDualGenPipeline.__call__).parameters
    asked = {
        "prompt",
        "negative_prompt",
        "num_inference_steps",
        "guidance_scale",
        "num_images_per_prompt",
        "generator",
        "latents",
        "height",
        "width",
        "output_type",
        "return_dict",
        "callback_on_step_end",
        "callback_on_step_end_tensor_inputs",
        "prompt_embeds",
        "negative_prompt_embeds",
    }
    assert asked <= set(parameters)
    assert all(p.default is not inspect.Parameter.empty for name, p in parameters.items() if name != "self")


def test_components(pipe: SkinDualGenPipeline) -> None:
    assert set(pipe.components) == {"vae", "text_encoder", "tokenizer", "unet", "scheduler", "guide"}
    again = SkinDualGenPipeline(**pipe.components)
    again.set_progress_bar_config(disable=True)
    assert difference(call(again, guidance_scale=2.0), call(pipe, guidance_scale=2.0)) == 0


def test_a_batch_equals_single_calls(either: SkinDualGenPipeline) -> None:
    """Prompts of unequal length, one generator each: at most one grey level apart in the PNG."""
    prompts = [PROMPT, "a melanoma", "very long " * 100]
    together = call(either, prompts, (0, 1, 2), output_type="pil", guidance_scale=3.0)
    for i, prompt in enumerate(prompts):
        alone = call(either, prompt, (i,), output_type="pil", guidance_scale=3.0)
        grey = np.abs(np.asarray(together.images[i], int) - np.asarray(alone.images[0], int)).max()
        assert grey <= 1
        assert np.mean(np.asarray(together.masks[i]) != np.asarray(alone.masks[0])) < 0.002


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("copies", [1, 3])
def test_the_batch_is_prompts_times_copies(pipe: SkinDualGenPipeline, count: int, copies: int) -> None:
    seeds = tuple(range(count * copies))
    images, masks = call(pipe, [PROMPT] * count, seeds, num_images_per_prompt=copies, return_dict=False)
    assert images.shape == (count * copies, SIZE_PX, SIZE_PX, 3)
    assert masks.shape == (count * copies, SIZE_PX, SIZE_PX, 1)


def test_copies_stand_beside_their_prompt(pipe: SkinDualGenPipeline) -> None:
    both = call(pipe, ["a nevus", "a melanoma"], (0, 1, 2, 3), num_images_per_prompt=2, output_type="latent")
    third = call(pipe, "a melanoma", (2,), output_type="latent")
    assert difference([both.images[2]], third.images) < 1e-4


def test_dict_equals_tuple(either: SkinDualGenPipeline) -> None:
    output = call(either)
    assert isinstance(output, SkinDualGenPipelineOutput)
    assert difference(output.to_tuple(), call(either, return_dict=False)) == 0


def test_output_types_hold_the_same(either: SkinDualGenPipeline) -> None:
    outputs = {kind: call(either, output_type=kind, clean=False) for kind in ("pil", "np", "pt", "latent")}
    arrays = outputs["np"].images
    assert arrays.min() >= 0 and arrays.max() <= 1 and set(np.unique(outputs["np"].masks)) <= {0.0, 1.0}
    assert difference(outputs["pt"].images.permute(0, 2, 3, 1), arrays) == 0
    assert difference(outputs["pt"].masks.permute(0, 2, 3, 1), outputs["np"].masks) == 0
    (image,), (mask,) = outputs["pil"].images, outputs["pil"].masks
    assert (image.mode, mask.mode, image.size, mask.size) == ("RGB", "L", (SIZE_PX, SIZE_PX), (SIZE_PX, SIZE_PX))
    assert np.abs(np.asarray(image) / 255 - arrays[0]).max() <= 0.5 / 255 + 1e-6
    assert set(np.unique(mask)) <= {0, 255}
    assert np.array_equal(np.asarray(mask) == 255, outputs["np"].masks[0, ..., 0] == 1)
    codes = outputs["latent"].masks
    assert codes.shape == (1, 4, 8, 8) and outputs["latent"].images.shape == (1, 4, 8, 8)
    assert torch.equal((DEFAULT_CODEC.decode(codes) > 0).float(), outputs["pt"].masks)


def test_it_loads_as_it_was_saved(either: SkinDualGenPipeline, tmp_path: Path) -> None:
    either.save_pretrained(tmp_path)
    loaded = SkinDualGenPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert difference(call(loaded), call(either)) == 0
    assert loaded.config.default_steps == 3 and loaded.config.default_segment_steps == 2
    assert dict(loaded.config.provenance) == dict(either.config.provenance)
    assert type(loaded.scheduler) is type(either.scheduler)


def test_callbacks_see_every_step(pipe: SkinDualGenPipeline) -> None:
    seen: list[tuple[int, int, set[str]]] = []

    def note(pipeline: DiffusionPipeline, step: int, timestep: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        assert pipeline is pipe and pipeline.num_timesteps == 3
        seen.append((step, int(timestep), set(tensors)))
        return {}

    call(pipe, num_inference_steps=3, callback_on_step_end=note, callback_on_step_end_tensor_inputs=["mask_codes"])
    assert [step for step, _, _ in seen] == [0, 1, 2]
    assert [t for _, t, _ in seen] == sorted((t for _, t, _ in seen), reverse=True)
    assert all(names == {"mask_codes"} for _, _, names in seen)


def test_a_callback_may_return_nothing(pipe: SkinDualGenPipeline) -> None:
    """None is no change, a tensor is taken, and anything that is no dict is refused."""
    plain = call(pipe, output_type="latent")
    seen: list[int] = []
    silent = call(pipe, output_type="latent", callback_on_step_end=lambda _pipe, step, *_: seen.append(step))
    assert difference(silent, plain) == 0 and seen == [0, 1]
    with pytest.raises(InputError, match="callback_on_step_end that returns list"):
        call(pipe, callback_on_step_end=lambda *_: [1])


def test_another_pipeline_from_the_same_parts(either: SkinDualGenPipeline) -> None:
    again = SkinDualGenPipeline.from_pipe(either, default_steps=2)
    again.set_progress_bar_config(disable=True)
    assert again.unet is either.unet and again.vae is either.vae
    assert again.config.provenance == either.config.provenance and again.config.default_steps == 2
    assert difference(call(again, num_inference_steps=None), call(either, num_inference_steps=2)) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"generator": 42}, r"generator 42; .*torch\.Generator\(\)\.manual_seed\(42\)"),
        ({"generator": [torch.Generator(), None]}, "generator None"),
        ({"generator": "cuda"}, "generator 'cuda'"),
        ({"guidance_scale": float("nan")}, "guidance_scale nan"),
        ({"guidance_scale": float("inf")}, "guidance_scale inf"),
        ({"guidance_scale": "2"}, "guidance_scale '2'"),
        ({"image": photograph(), "mask_image": disc(), "strength": float("nan")}, "strength nan"),
        ({"image": photograph(), "mask_image": disc(), "strength": (0.5, float("inf"))}, "strength"),
        ({"num_inference_steps": 2.5}, "num_inference_steps 2.5"),
        ({"num_inference_steps": True}, "num_inference_steps True"),
        ({"num_images_per_prompt": "2"}, "num_images_per_prompt '2'"),
        ({"num_inference_steps": 2000}, "2000 steps of a schedule of 1000"),
        ({"height": 64.0}, "size 64.0 x 64"),
        ({"latents": torch.full((1, 8, 8, 8), torch.nan)}, "latents with NaN"),
        ({"latents": np.zeros((1, 8, 8, 8))}, "latents of type ndarray"),
        ({"prompt": None, "prompt_embeds": torch.full((1, 77, 32), torch.inf)}, "prompt_embeds with NaN or infinity"),
    ],
)
def test_what_is_no_number_or_generator_is_refused(
    pipe: SkinDualGenPipeline, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(pipe, **given)


def test_callbacks_change_tensors(pipe: SkinDualGenPipeline) -> None:
    def last_to_zero(pipeline: DiffusionPipeline, step: int, _: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        assert set(tensors) == set(pipeline._callback_tensor_inputs)
        if step == pipeline.num_timesteps - 1:
            tensors["latents"] = torch.zeros_like(tensors["latents"])
            tensors["mask_codes"] = torch.full_like(tensors["mask_codes"], 0.25)
        return tensors

    given = {"callback_on_step_end": last_to_zero, "callback_on_step_end_tensor_inputs": pipe._callback_tensor_inputs}
    for extra in ({}, {"image": photograph(), "mask_image": disc(), "strength": 0.5, "num_inference_steps": 4}):
        output = call(pipe, output_type="latent", **given, **extra)
        assert output.images.abs().max() == 0
        assert (output.masks == 0.25).all()


def test_a_callback_can_change_guidance(pipe: SkinDualGenPipeline) -> None:
    def raise_guidance(pipeline: Any, step: int, _: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        pipeline._guidance_scale += 4
        return tensors

    changed = call(pipe, guidance_scale=2.0, callback_on_step_end=raise_guidance)
    assert difference(changed.images, call(pipe, guidance_scale=2.0).images) > 0
    assert pipe.guidance_scale == 2.0  # each call sets its own


def test_an_interrupted_call_ends_early(pipe: SkinDualGenPipeline) -> None:
    states: list[Tensor] = []

    def stop_at(last: int) -> Callable[..., dict[str, Tensor]]:
        def callback(pipeline: Any, step: int, _: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            states.append(tensors["latents"].clone())
            pipeline._interrupt = step == last
            return tensors

        return callback

    output = call(pipe, num_inference_steps=4, callback_on_step_end=stop_at(1), output_type="latent")
    assert len(states) == 2 and torch.equal(output.images, states[-1])
    call(pipe, num_inference_steps=4, callback_on_step_end=stop_at(9))
    assert len(states) == 6  # the next call runs through


def test_the_progress_bar_can_be_switched_off(tiny_adapter: Path) -> None:
    pipe = SkinDualGenPipeline.from_adapter(tiny_adapter)
    with redirect_stderr(io.StringIO()) as shown:
        call(pipe, image=photograph(), mask_image=disc(), strength=0.5, num_inference_steps=4)
    assert "2/2" in shown.getvalue()
    pipe.set_progress_bar_config(disable=True)
    with redirect_stderr(io.StringIO()) as shown:
        call(pipe)
    assert shown.getvalue() == ""


def test_guidance(pipe: SkinDualGenPipeline) -> None:
    """1 is the conditional model alone; 0-weighted differences of equal texts vanish; more is another picture."""
    off, on = call(pipe, guidance_scale=1.0), call(pipe, guidance_scale=5.0)
    assert off.images.shape == on.images.shape
    assert difference(off.images, on.images) > 1e-4
    same = call(pipe, guidance_scale=5.0, negative_prompt=PROMPT)
    assert difference(same.images, off.images) < 1e-3
    assert difference(call(pipe).images, call(pipe, guidance_scale=2.0).images) == 0  # the adapter's default


def test_given_embeddings_equal_text(pipe: SkinDualGenPipeline) -> None:
    embeds = {"prompt_embeds": pipe.encode_prompt([PROMPT]), "negative_prompt_embeds": pipe.encode_prompt(["blurry"])}
    expected = call(pipe, guidance_scale=3.0, negative_prompt="blurry")
    assert difference(call(pipe, None, guidance_scale=3.0, **embeds), expected) == 0


def test_given_noise_replaces_draws(pipe: SkinDualGenPipeline) -> None:
    noise = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    drawn = call(pipe, seeds=(0,))
    assert difference(call(pipe, seeds=(5,), latents=noise), drawn) == 0


def test_other_sizes(pipe: SkinDualGenPipeline) -> None:
    images, masks = call(pipe, height=40, width=96, return_dict=False)
    assert images.shape == (1, 40, 96, 3) and masks.shape == (1, 40, 96, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(tiny_adapter: Path, pipe: SkinDualGenPipeline, dtype: torch.dtype) -> None:
    """diffusers' own bound for float16 is .05 of the range; here on every device that computes it."""
    half = SkinDualGenPipeline.from_adapter(tiny_adapter, dtype=dtype)
    half.set_progress_bar_config(disable=True)
    assert {half.unet.dtype, half.vae.dtype, half.text_encoder.dtype} == {dtype}
    output, expected = call(half), call(pipe)
    assert output.images.dtype == np.float32 and np.isfinite(output.images).all()
    assert difference(output.images, expected.images) < (0.05 if dtype == torch.float16 else 0.2)
    moved = SkinDualGenPipeline.from_adapter(tiny_adapter).to(torch_dtype=dtype)
    moved.set_progress_bar_config(disable=True)
    assert difference(call(moved).images, output.images) < 0.05
    assert half(image=photograph(), num_inference_steps=2).masks[0].size == (SIZE_PX, SIZE_PX)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="moves between devices: needs CUDA")
def test_to_device(tiny_adapter: Path, pipe: SkinDualGenPipeline) -> None:
    moved = quiet_pipeline(tiny_adapter).to("cuda")
    assert difference(call(moved).images, call(pipe).images) < 1e-2


def test_to_the_cpu(tiny_adapter: Path, pipe: SkinDualGenPipeline) -> None:
    assert quiet_pipeline(tiny_adapter).to("cpu").device.type == "cpu"
    assert pipe._execution_device.type == "cpu"


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda kind: kind.__name__)
def test_schedulers(either: SkinDualGenPipeline, scheduler: Any) -> None:
    """Each draws finite pairs, independent of the batch, in all three directions."""
    own = SkinDualGenPipeline(**{**either.components, "scheduler": scheduler.from_config(either.scheduler.config)})
    own.set_progress_bar_config(disable=True)
    both = call(own, [PROMPT, "a melanoma"], (0, 1), num_inference_steps=4, output_type="latent")
    assert torch.isfinite(both.images).all() and torch.isfinite(both.masks).all()
    alone = call(own, "a melanoma", (1,), num_inference_steps=4, output_type="latent")
    assert difference([both.images[1]], alone.images) < 1e-3
    assert torch.isfinite(call(own, None, image=photograph(), output_type="latent").masks).all()
    assert np.isfinite(call(own, mask_image=disc()).images).all()


def karras(own: Any) -> Any:
    return DPMSolverMultistepScheduler.from_config(own, use_karras_sigmas=True)


@pytest.mark.parametrize(
    "make",
    [
        DDIMScheduler.from_config,
        DDPMScheduler.from_config,
        UniPCMultistepScheduler.from_config,
        karras,
        DPMSolverSinglestepScheduler.from_config,
    ],
    ids=["DDIM", "DDPM", "UniPC", "Karras", "singlestep"],
)
def test_a_weak_edit_stays_near_what_is_given(pipe: SkinDualGenPipeline, make: Callable[[Any], Any]) -> None:
    """The schedulers that are taken begin an edit at the level of its strength: the mask is redrawn a little."""
    own = SkinDualGenPipeline(**{**pipe.components, "scheduler": make(pipe.scheduler.config)})
    own.set_progress_bar_config(disable=True)
    given = {"image": photograph(), "mask_image": disc(), "num_inference_steps": 20, "output_type": "latent"}
    kept = call(own, strength=(0.05, 0.0), **given)
    near, far = (call(own, strength=share, **given) for share in (0.05, 1.0))
    assert (near.images - kept.images).abs().mean() < 0.5 * (far.images - kept.images).abs().mean()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda own: FlowMatchEulerDiscreteScheduler(), "FlowMatchEulerDiscreteScheduler, which has no alphas_cumprod"),
        (PNDMScheduler.from_config, "PNDMScheduler, which takes 13 predictions for 4 steps"),
        (lambda own: PNDMScheduler.from_config(own, skip_prk_steps=True), "takes 5 predictions for 4 steps"),
        (HeunDiscreteScheduler.from_config, "HeunDiscreteScheduler, whose noise does not begin with variance 1"),
        (EulerDiscreteScheduler.from_config, "EulerDiscreteScheduler"),
        (DDIMInverseScheduler.from_config, "do not fall"),
        (RePaintScheduler.from_config, "step needs mask, original_image|prediction type None"),
        (
            lambda own: UniPCMultistepScheduler.from_config(
                own, use_flow_sigmas=True, prediction_type="flow_prediction"
            ),
            "flow matching",
        ),
        (lambda own: DDIMScheduler.from_config(own, prediction_type="flow"), "prediction type 'flow'"),
    ],
)
def test_schedulers_that_would_draw_wrongly_are_refused(
    pipe: SkinDualGenPipeline, make: Callable[[Any], Any], message: str
) -> None:
    own = SkinDualGenPipeline(**{**pipe.components, "scheduler": make(pipe.scheduler.config)})
    with pytest.raises(InputError, match=message):
        call(own, num_inference_steps=4)


def test_a_scheduler_of_fewer_steps_is_refused_in_one_line(pipe: SkinDualGenPipeline) -> None:
    own = SkinDualGenPipeline(**{**pipe.components, "scheduler": LCMScheduler.from_config(pipe.scheduler.config)})
    own.set_progress_bar_config(disable=True)
    assert np.isfinite(call(own, num_inference_steps=4).images).all()
    with pytest.raises(InputError, match="200 steps of scheduler LCMScheduler"):
        call(own, num_inference_steps=200)


def test_ddim_by_hand(v_pipe: SkinDualGenPipeline) -> None:
    """One step from pure noise under zero terminal SNR: both halves become the clean estimate, x0 = -v."""
    one = SkinDualGenPipeline(**{**v_pipe.components, "scheduler": DDIMScheduler.from_config(v_pipe.scheduler.config)})
    one.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(4))
    output = call(one, latents=noise, num_inference_steps=1, guidance_scale=1.0, output_type="latent")
    t = torch.tensor([999])
    with torch.no_grad():
        v = one.unet(noise, t, encoder_hidden_states=one.encode_prompt([PROMPT]), class_labels=t).sample
    torch.testing.assert_close(output.images, -v[:, :4], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(output.masks, -v[:, 4:], rtol=1e-3, atol=1e-4)


def test_the_earlier_name_of_mask_image(pipe: SkinDualGenPipeline) -> None:
    with pytest.warns(DeprecationWarning, match="`mask` is called `mask_image` now"):
        earlier = call(pipe, mask=disc())
    assert difference(earlier, call(pipe, mask_image=disc())) == 0
    with pytest.raises(InputError, match="both mask_image and mask"):
        call(pipe, mask=disc(), mask_image=disc())


def test_from_another_pipeline_it_shares_all_modules(either: SkinDualGenPipeline) -> None:
    again = SkinDualGenPipeline.from_pipe(either)
    again.set_progress_bar_config(disable=True)
    assert all(again.components[name] is part for name, part in either.components.items())
    assert dict(again.config.provenance) == dict(either.config.provenance)
    assert again.config.default_steps == 3 and again.name_or_path == either.name_or_path
    assert difference(call(again), call(either)) == 0


def test_from_a_stable_diffusion_pipeline_it_shares_what_the_base_has(pipe: SkinDualGenPipeline) -> None:
    """Of the base's pipeline, all but the UNet, whose channels are not those of pairs."""
    base = StableDiffusionPipeline(
        vae=pipe.vae,
        text_encoder=pipe.text_encoder,
        tokenizer=pipe.tokenizer,
        unet=tiny_unet(),
        scheduler=pipe.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    own = SkinDualGenPipeline.from_pipe(base, unet=pipe.unet)
    own.set_progress_bar_config(disable=True)
    assert all(own.components[name] is base.components[name] for name in ("vae", "text_encoder", "tokenizer"))
    assert own.unet is pipe.unet and own.guide is None
    assert difference(call(own, guidance_scale=2.0), call(pipe, guidance_scale=2.0)) == 0
    with pytest.raises(InputError, match=r"a UNet of 4 channels; .*give unet="):
        SkinDualGenPipeline.from_pipe(base)


def test_from_a_pipeline_in_half_precision_nothing_is_converted(tiny_adapter: Path) -> None:
    half = SkinDualGenPipeline.from_adapter(tiny_adapter, dtype=torch.bfloat16)
    assert SkinDualGenPipeline.from_pipe(half).dtype == half.dtype == torch.bfloat16
