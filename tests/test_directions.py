"""Three directions and edits with one pipeline; calls that contradict themselves are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    EulerDiscreteScheduler,
)
from PIL import Image

from pipeline_calls import SIZE_PX, call, difference, disc, generators, photograph
from skindualgen.codec import DEFAULT_CODEC
from skindualgen.contracts import InputError
from skindualgen.sample.inputs import image_to_tensor, mask_to_tensor
from skindualgen.sample.pipeline import SkinDualGenPipeline


def test_image_to_mask_keeps_the_photograph(either: SkinDualGenPipeline) -> None:
    latents, codes = call(either, None, image=photograph(), output_type="latent", return_dict=False)
    pixels = either.image_processor.preprocess(photograph())
    with torch.no_grad():
        expected = either.vae.encode(pixels).latent_dist.mode() * either.vae.config.scaling_factor
    torch.testing.assert_close(latents, expected)
    assert codes.shape == (1, 4, 8, 8)
    other = call(either, None, image=photograph().transpose(Image.Transpose.FLIP_TOP_BOTTOM), output_type="latent")
    assert difference([codes], [other.masks]) > 1e-4  # the photograph is read


def test_mask_to_image_keeps_the_mask(either: SkinDualGenPipeline) -> None:
    output = call(either, mask_image=disc(), output_type="latent")
    expected = DEFAULT_CODEC.encode(mask_to_tensor(disc(), SIZE_PX, SIZE_PX))
    assert torch.equal(output.masks, expected)
    shown = call(either, mask_image=disc(), output_type="pil")
    assert np.mean(np.asarray(shown.masks[0]) != np.asarray(disc())) < 0.01
    other = call(either, mask_image=disc(8), output_type="latent")
    assert difference([output.images], [other.images]) > 1e-4  # the mask is read


@pytest.mark.parametrize(
    ("given", "image_clean", "mask_clean"),
    [
        ({}, False, False),
        ({"image": photograph()}, True, False),
        ({"mask_image": disc()}, False, True),
        ({"image": photograph(), "mask_image": disc(), "strength": (0.0, 1.0)}, True, False),
        ({"image": photograph(), "mask_image": disc(), "strength": (1.0, 0.0)}, False, True),
    ],
)
def test_a_given_half_is_told_to_be_clean(
    v_pipe: SkinDualGenPipeline, given: dict[str, Any], image_clean: bool, mask_clean: bool
) -> None:
    """As in training: timestep 0 for the half that is given, the scheduler's for what is drawn."""
    told: list[tuple[int, int]] = []

    def note(_: torch.nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        told.append((int(args[1][0]), int(named["class_labels"][0])))

    steps: list[int] = []
    handle = v_pipe.unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        call(v_pipe, **given, callback_on_step_end=lambda pipe, step, t, tensors: steps.append(int(t)) or tensors)
    finally:
        handle.remove()
    assert told == [(0 if image_clean else t, 0 if mask_clean else t) for t in steps]
    assert len(steps) == 2 and min(steps) > 0


def test_a_half_that_waits_keeps_its_own_level(v_pipe: SkinDualGenPipeline) -> None:
    """Strength (.5, 1) of four steps: the photograph stays at the noise of its first step until the mask is there."""
    told: list[tuple[int, int]] = []

    def note(_: torch.nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        told.append((int(args[1][0]), int(named["class_labels"][0])))

    handle = v_pipe.unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        call(v_pipe, image=photograph(), mask_image=disc(), strength=(0.5, 1.0), num_inference_steps=4)
    finally:
        handle.remove()
    t_mask = [mask for _, mask in told]
    assert [image for image, _ in told] == [t_mask[2], t_mask[2], t_mask[2], t_mask[3]]
    assert t_mask == sorted(t_mask, reverse=True)


def test_one_prompt_for_many_masks(pipe: SkinDualGenPipeline) -> None:
    images, masks = call(pipe, mask_image=[disc(9), disc(20)], seeds=(0, 1), return_dict=False)
    assert images.shape[0] == 2 and masks[0].sum() < masks[1].sum()


@pytest.mark.parametrize("kept", ["image", "mask"])
def test_strength_0_keeps_a_half(either: SkinDualGenPipeline, kept: str) -> None:
    strength = (0.0, 0.75) if kept == "image" else (0.75, 0.0)
    given = {"image": photograph(), "mask_image": disc(), "output_type": "latent", "num_inference_steps": 4}
    edited = call(either, strength=strength, **given)
    codes = DEFAULT_CODEC.encode(mask_to_tensor(disc(), SIZE_PX, SIZE_PX))
    latents = call(either, None, image=photograph(), output_type="latent").images
    assert torch.equal(edited.images, latents) == (kept == "image")
    assert torch.equal(edited.masks, codes) == (kept == "mask")


def test_full_strength_forgets(v_pipe: SkinDualGenPipeline) -> None:
    """Under zero terminal SNR nothing of the given pair is left: the result is a fresh draw."""
    edited = call(v_pipe, image=photograph(), mask_image=disc(), strength=1.0)
    assert difference(edited, call(v_pipe)) < 1e-2


def test_more_strength_changes_more(v_pipe: SkinDualGenPipeline) -> None:
    given = {"image": photograph(), "mask_image": disc(), "num_inference_steps": 10, "output_type": "latent"}
    start = call(v_pipe, None, image=photograph(), output_type="latent").images
    changes = [(call(v_pipe, strength=s, **given).images - start).abs().mean().item() for s in (0.1, 0.5, 1.0)]
    assert changes == sorted(changes)
    steps: list[int] = []
    count = lambda pipe, step, t, tensors: steps.append(step) or tensors  # noqa: E731
    call(v_pipe, strength=(0.3, 0.5), callback_on_step_end=count, **given)
    assert steps == [0, 1, 2, 3, 4]


def test_an_ensemble_is_a_mean_over_flips(v_pipe: SkinDualGenPipeline) -> None:
    """Guards the flip's inverse: each draw's codes, flipped back, average to the ensemble's."""
    from skindualgen.codec import DEFAULT_CODEC

    source = torch.Generator().manual_seed(7)
    draws = []
    for dims in ([], [-1], [-2], [-2, -1]):
        pixels = torch.from_numpy(np.asarray(photograph(), np.float32) / 255).permute(2, 0, 1)[None]
        codes = call(v_pipe, None, image=pixels.flip(dims), generator=source, output_type="latent").masks
        draws.append(DEFAULT_CODEC.flip(codes, dims))
    given = {"image": photograph(), "generator": torch.Generator().manual_seed(7), "output_type": "latent"}
    latents, ensemble = call(v_pipe, None, ensemble_size=4, return_dict=False, **given)
    torch.testing.assert_close(ensemble, torch.stack(draws).mean(0), rtol=1e-4, atol=1e-4)
    assert torch.equal(latents, call(v_pipe, None, image=photograph(), output_type="latent").images)


def test_clean_can_be_switched_off(either: SkinDualGenPipeline) -> None:
    from skindualgen.codec import clean_mask

    raw, cleaned = (call(either, clean=clean).masks[0, ..., 0] for clean in (False, True))
    assert np.array_equal(clean_mask(raw > 0), cleaned > 0)


def test_a_given_mask_is_not_cleaned(either: SkinDualGenPipeline) -> None:
    """The photograph is drawn for both of its parts, so a pair with one of them would be labelled wrongly."""
    mask = np.zeros((SIZE_PX, SIZE_PX), np.float32)
    mask[8:24, 8:24] = mask[36:60, 36:60] = 1
    for given in ({}, {"image": photograph(), "strength": (0.5, 0.0)}):
        shown = call(either, mask_image=mask, **given).masks[0, ..., 0]
        assert np.mean(shown != mask) < 0.01


def test_masks_in_any_form_are_one_mask() -> None:
    array = (np.asarray(disc()) >= 128).astype(np.float32)
    expected = torch.from_numpy(array)[None, None]
    forms = [
        disc(),
        disc().convert("1"),
        disc().convert("RGB"),
        array,
        array.astype(bool),
        array[None],
        array[..., None],
        array[None, ..., None],
        torch.from_numpy(array),
        torch.from_numpy(array)[None, None],
        [disc()],
    ]
    for form in forms:
        assert torch.equal(mask_to_tensor(form, SIZE_PX, SIZE_PX), expected)
    assert mask_to_tensor([disc(), array], 32, 48).shape == (2, 1, 32, 48)
    assert set(mask_to_tensor(disc(), 24, 40).unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((8, 8), 255.0), "by 255"),
        (np.full((8, 8), -1.0), "from -1"),
        (np.full((8, 8), np.nan), "from nan"),
        (torch.zeros(1, 3, 8, 8), r"\(1, 3, 8, 8\)"),
        (Image.fromarray(np.eye(8, dtype=np.uint8) + np.tri(8, dtype=np.uint8)), r"mask_levels: 3 levels, 0 \("),
        ([], "empty list of masks"),
    ],
)
def test_masks_out_of_range_are_refused(mask: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mask_to_tensor(mask, 8, 8)


def test_photographs_in_any_form_are_one_photograph(pipe: SkinDualGenPipeline) -> None:
    array = np.asarray(photograph(), np.float32) / 255
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    forms = [photograph(), photograph().convert("RGBA"), array, array[None], tensor, tensor[None], [photograph()]]
    processor = pipe.image_processor
    for form in forms:
        torch.testing.assert_close(image_to_tensor(form, SIZE_PX, SIZE_PX, processor), 2 * tensor[None] - 1)
    grey = image_to_tensor(photograph().convert("L"), SIZE_PX, SIZE_PX, processor)
    assert torch.equal(grey, grey[:, :1].expand(1, 3, -1, -1))
    assert image_to_tensor([photograph(), array], 32, 48, processor).shape == (2, 3, 32, 48)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.asarray(photograph(), np.float32), "by 255"),
        (torch.full((1, 3, 8, 8), -0.5), "from -0.5"),
        (np.zeros((2, 8, 8)), r"\(2, 8, 8\)"),
        (torch.zeros(1, 8, 8, 3), r"\(1, 8, 8, 3\)"),
        ("photo.png", "type str"),
        ([], "empty list of images"),
    ],
)
def test_photographs_out_of_range_are_refused(pipe: SkinDualGenPipeline, image: Any, message: str) -> None:
    """Guards against a picture of 0 to 255 read as one of 0 to 1: no error, and a mask of nonsense."""
    with pytest.raises(InputError, match=message):
        call(pipe, None, image=image)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": None}, "neither prompt nor image"),
        ({"prompt": None, "mask_image": disc()}, "neither prompt nor image"),
        ({"prompt_embeds": torch.zeros(1, 77, 32)}, "both prompt and prompt_embeds"),
        ({"negative_prompt": "x", "negative_prompt_embeds": torch.zeros(1, 77, 32)}, "both negative_prompt"),
        ({"height": 60}, "60 x 64"),
        ({"height": 0}, "0 x 64"),
        ({"width": -8}, "64 x -8"),
        ({"prompt": []}, "prompt \\[\\]"),
        ({"prompt": ["a", 5]}, "prompt"),
        ({"negative_prompt": 5}, "negative_prompt 5"),
        ({"output_type": "PIL"}, "output_type 'PIL'"),
        ({"image": photograph(), "mask_image": disc()}, "without strength"),
        ({"strength": 0.5}, "strength without both"),
        ({"image": photograph(), "strength": 0.5}, "strength without both"),
        ({"image": photograph(), "mask_image": disc(), "strength": 1.5}, "strength 1.5"),
        ({"image": photograph(), "mask_image": disc(), "strength": (0.0, 0.0)}, "not all 0"),
        ({"image": photograph(), "mask_image": disc(), "strength": [0.5, 0.5]}, "a tuple of two"),
        ({"image": photograph(), "mask_image": disc(), "strength": (0.5, 0.01)}, "no step"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "noise"),
        ({"prompt": ["a", "b", "c"], "image": [photograph()] * 2}, "2 and 3|3 and 2"),
        ({"prompt": ["a", "b"], "mask_image": [disc()] * 3}, "2 and 3"),
        ({"generator": generators(0, 1)}, "2 generators"),
        ({"latents": torch.zeros(1, 4, 8, 8)}, r"\(1, 4, 8, 8\)"),
        ({"num_inference_steps": 0}, "num_inference_steps 0"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt 0"),
        ({"image": photograph(), "ensemble_size": 0}, "ensemble_size 0"),
    ],
)
def test_contradictory_calls_are_refused(pipe: SkinDualGenPipeline, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(pipe, **given)


def test_a_scheduler_of_another_kind_is_refused(pipe: SkinDualGenPipeline) -> None:
    euler = SkinDualGenPipeline(
        **{**pipe.components, "scheduler": EulerDiscreteScheduler.from_config(pipe.scheduler.config)}
    )
    with pytest.raises(InputError, match="EulerDiscreteScheduler"):
        call(euler)


def test_the_adapters_base_is_found_by_itself_and_can_be_given(
    tiny_adapter: Path, tiny_base: Path, tiny_v_base: Path, pipe: SkinDualGenPipeline
) -> None:
    assert SkinDualGenPipeline.from_adapter(tiny_adapter, tiny_base).config.provenance == pipe.config.provenance
    with pytest.raises(InputError, match="an adapter of base"):
        SkinDualGenPipeline.from_adapter(tiny_adapter, tiny_v_base)


def test_the_callers_scheduler_and_the_global_generator_are_left_alone(pipe: SkinDualGenPipeline) -> None:
    before, state = dict(pipe.scheduler.__dict__), torch.get_rng_state()
    call(pipe)
    assert pipe.scheduler.__dict__.keys() == before.keys()
    assert pipe.scheduler.num_inference_steps == before["num_inference_steps"]
    assert torch.equal(torch.get_rng_state(), state)
