"""Pairs whose mask is drawn in the last steps alone, when the image has taken shape."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from torch import Tensor

from pipeline_calls import call, difference, disc, photograph
from skindualgen.contracts import InputError
from skindualgen.sample.pipeline import SkinDualGenPipeline


def codes_by_step(pipe: SkinDualGenPipeline, **given: Any) -> list[Tensor]:
    """Mask codes after each step."""
    seen: list[Tensor] = []

    def note(_pipe: object, _step: int, _timestep: int, tensors: dict[str, Tensor]) -> None:
        seen.append(tensors["mask_codes"].clone())

    call(pipe, callback_on_step_end=note, callback_on_step_end_tensor_inputs=["mask_codes"], **given)
    return seen


def test_all_steps_are_what_is_done_without(either: SkinDualGenPipeline) -> None:
    whole = call(either, num_inference_steps=3, num_mask_steps=3)
    assert difference(whole, call(either, num_inference_steps=3)) == 0


@pytest.mark.parametrize("mask_steps", [1, 2])
def test_the_mask_waits_in_noise_and_ends_with_the_image(either: SkinDualGenPipeline, mask_steps: int) -> None:
    codes = codes_by_step(either, num_inference_steps=4, num_mask_steps=mask_steps)
    moved = [bool((after != before).any()) for before, after in pairwise(codes)]
    assert moved == [step >= 4 - mask_steps for step in (1, 2, 3)]
    assert difference(
        call(either, num_inference_steps=4, num_mask_steps=mask_steps), call(either, num_inference_steps=4)
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_mask_steps": 0}, "num_mask_steps=0; expected 1 to 2"),
        ({"num_mask_steps": 3}, "num_mask_steps=3; expected 1 to 2"),
        ({"num_mask_steps": 1, "mask_image": disc()}, "num_mask_steps with an image or a mask"),
        ({"num_mask_steps": 1, "image": photograph()}, "num_mask_steps with an image or a mask"),
    ],
)
def test_what_cannot_be_is_refused(pipe: SkinDualGenPipeline, given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(pipe, **given)
