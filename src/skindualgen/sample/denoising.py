"""The way of the two halves from noise to clean: levels, guided predictions of both, steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from diffusers import SchedulerMixin, UNet2DConditionModel
from torch import Tensor

from skindualgen.losses import add_noise, velocity_to
from skindualgen.model.joint_unet import CLEAN_TIMESTEP, joint_prediction
from skindualgen.sample.guidance import Generators, Guidance
from skindualgen.sample.schedules import Schedule, set_schedule

if TYPE_CHECKING:
    from skindualgen.sample.pipeline import SkinDualGenPipeline


FLIPS: tuple[list[int], ...] = ([], [-1], [-2], [-2, -1])
"""dimensions that the draws of an ensemble flip"""


class JointDenoiser:
    """Denoising of the image and the mask half, each from its own starting level.

    A half that starts at 0 is given and stays. Every half has a scheduler of its own, as multistep schedulers remember
    earlier predictions.

    Args:
        scheduler: variance preserving; copied.
        starts: of image and mask, in [0, 1]: 1 starts from noise alone.
        steps: of a whole schedule, or its timesteps; a half that starts later has fewer.
        device: of the tensors.
        mask_steps: of the mask's schedule: it waits at its start while the image takes shape, and goes its way in the
            last steps. The same as ``steps`` if not given.
    """

    def __init__(
        self,
        scheduler: SchedulerMixin,
        starts: Sequence[float],
        steps: Schedule,
        device: torch.device,
        mask_steps: int | None = None,
    ) -> None:
        self._schedulers = [copy.deepcopy(scheduler) for _ in starts]
        for own, schedule in zip(self._schedulers, (steps, mask_steps or steps), strict=True):
            set_schedule(own, schedule, device)
        self.timesteps: Tensor = self._schedulers[0].timesteps
        total, counts = len(self.timesteps), [len(own.timesteps) for own in self._schedulers]
        self._begun = [total - count for count in counts]  # step at which each half's schedule begins
        self._first = [total - round(n * start) for n, start in zip(counts, starts, strict=True)]  # and it is active
        for own, first, begun in zip(self._schedulers, self._first, self._begun, strict=True):
            if hasattr(own, "set_begin_index"):
                own.set_begin_index(min(first, total - 1) - begun)
        self._prediction_type = scheduler.config.prediction_type
        self._alphas_cumprod = scheduler.alphas_cumprod.to(device)

    @property
    def active(self) -> range:
        """Indices of the steps at which at least one half moves."""
        return range(min(self._first), len(self.timesteps))

    def enter(self, noises: Sequence[Tensor], given: Sequence[Tensor | None]) -> list[Tensor]:
        """Bring what is given to the level that its half starts at; what is not given is noise."""
        halves = []
        for half, (noise, clean, first) in enumerate(zip(noises, given, self._first, strict=True)):
            if clean is None:
                halves.append(noise)
            elif first == len(self.timesteps):
                halves.append(clean)
            else:
                level = self._alphas_cumprod[self._level(first, half)]
                halves.append(add_noise(clean, noise, level).to(noise.dtype))
        return halves

    def predict(
        self,
        unet: UNet2DConditionModel,
        halves: Sequence[Tensor],
        index: int,
        embeds: Tensor,
        guidance: Guidance,
        generator: Generators = None,
        guide: UNet2DConditionModel | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predict both halves in the scheduler's prediction type, guided if there is a guide or two texts a sample.

        Args:
            unet: joint UNet.
            halves: image latents [b, c, h, w] and mask codes [b, m, h, w] at the levels of this step.
            index: of the step.
            embeds: [b, 77, width], or [2b, 77, width] with what guidance leads away from first.
            guidance: how it is led, and what is done to the prompt.
            generator: of the noise on the prompt.
            guide: weaker joint UNet, which predicts for the same texts what guidance leads away from.
        """
        image, codes = halves
        share = float(self.timesteps[index]) / len(self._alphas_cumprod)
        text = guidance.noisy_prompt(embeds[-len(image) :], share, generator)
        levels = self.levels(index)
        abar = self._alphas_cumprod[levels[1]]

        def both(net: UNet2DConditionModel, states: Tensor) -> tuple[Tensor, Tensor]:
            """Predictions [k b, ...] of both halves for k texts per sample."""
            copies = (len(states) // len(image), 1, 1, 1)
            noisy_image, noisy_codes = image.repeat(copies), codes.repeat(copies)
            t_image, t_mask = (torch.full((len(states),), level, device=image.device) for level in levels)
            image_out, velocity = joint_prediction(
                net, noisy_image, noisy_codes, t_image, t_mask, states, mask_guidance=guidance.mask
            )
            mask_out = velocity_to(self._prediction_type, velocity.float(), noisy_codes.float(), abar)
            return image_out.float(), mask_out

        if not guidance.acts_at(share) or (guide is None and len(embeds) == len(image)):
            return both(unet, text)
        if guide is None:
            (image_weak, image_out), (mask_weak, mask_out) = (
                out.chunk(2) for out in both(unet, torch.cat([embeds[: len(image)], text]))
            )
        else:
            (image_out, mask_out), (image_weak, mask_weak) = both(unet, text), both(guide, text)
        return guidance.combine(image_out, image_weak), guidance.combine(mask_out, mask_weak)

    def step(
        self,
        halves: Sequence[Tensor],
        predictions: Sequence[Tensor],
        index: int,
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> list[Tensor]:
        """Move each half that is on its way by one step; the other stays."""
        moved = []
        for place, (own, half, prediction) in enumerate(zip(self._schedulers, halves, predictions, strict=True)):
            if index < self._first[place]:
                moved.append(half)
                continue
            extra = {"generator": generator} if _takes_generator(own) else {}
            step = own.step(prediction, own.timesteps[index - self._begun[place]], half, return_dict=False, **extra)
            moved.append(step[0].to(half.dtype))
        return moved

    def levels(self, index: int) -> tuple[int, int]:
        """Timesteps of image and mask at a step."""
        return self._level(index, 0), self._level(index, 1)

    def _level(self, index: int, half: int) -> int:
        """Timestep of a half: it waits at its starting level, or is clean if it is given."""
        first = self._first[half]
        if first == len(self.timesteps):
            return CLEAN_TIMESTEP
        return int(self._schedulers[half].timesteps[max(index, first) - self._begun[half]])


def denoise(
    pipeline: SkinDualGenPipeline,
    noises: Sequence[Tensor],
    given: Sequence[Tensor | None],
    starts: Sequence[float],
    embeds: Tensor,
    guidance: Guidance,
    steps: Schedule,
    generator: Generators,
    after_step: Callable[..., dict[str, Tensor]],
    mask_steps: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Denoise image and mask half with a pipeline's modules; a half that starts at 0 is given and stays.

    Args:
        pipeline: whose running call it is; ``guidance_scale`` and ``interrupt`` are read anew at every step.
        noises: of image [b, c, h/8, w/8] and mask [b, m, h/8, w/8].
        given: clean halves, or None for what is drawn from noise.
        starts, steps, mask_steps: see `JointDenoiser`.
        embeds, guidance, generator: see `JointDenoiser.predict`.
        after_step: called as ``f(pipeline, step, timestep, latents=, mask_codes=, prompt_embeds=, noise_pred=)``;
            returns those that it changes.
    """
    denoiser = JointDenoiser(pipeline.scheduler, starts, steps, noises[0].device, mask_steps)
    halves = denoiser.enter(noises, given)
    pipeline._num_timesteps = len(denoiser.active)
    with pipeline.progress_bar(total=pipeline.num_timesteps) as progress:
        for done, index in enumerate(denoiser.active):
            if pipeline.interrupt:
                continue
            led = replace(guidance, scale=pipeline.guidance_scale)  # a callback may change it
            predictions = denoiser.predict(pipeline.unet, halves, index, embeds, led, generator, guide=pipeline.guide)
            halves = denoiser.step(halves, predictions, index, generator)
            tensors = {"latents": halves[0], "mask_codes": halves[1], "prompt_embeds": embeds}
            tensors["noise_pred"] = predictions[0]
            tensors |= after_step(pipeline, done, denoiser.timesteps[index], **tensors)
            halves, embeds = [tensors["latents"], tensors["mask_codes"]], tensors["prompt_embeds"]
            progress.update()
    return halves[0], halves[1]


def _takes_generator(scheduler: SchedulerMixin) -> bool:
    return "generator" in scheduler.step.__code__.co_varnames[: scheduler.step.__code__.co_argcount]
