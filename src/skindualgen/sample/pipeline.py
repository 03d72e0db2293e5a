"""SkinDualGenPipeline: text -> pair, mask -> image, image -> mask and edits, by one joint diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin, UNet2DConditionModel
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from skindualgen.codec import CELL_PX, codec_record, make_codec
from skindualgen.data.mask_classes import LESION_ONLY, MaskClasses, checked_classes
from skindualgen.model.adapter import adapter_folder
from skindualgen.model.autoencoder import PatchAutoencoder
from skindualgen.model.bases import embed_prompts
from skindualgen.model.mask_head import HeadedUNet
from skindualgen.sample.checks import (
    CALLBACK_INPUTS,
    callback_changes,
    check_as_distilled,
    check_batch,
    check_call,
    check_joint,
    check_mask_guidance,
    check_mask_steps,
    renamed_arguments,
)
from skindualgen.sample.denoising import FLIPS, denoise
from skindualgen.sample.guidance import WHOLE_SCHEDULE, Generators, Guidance, guidance_with_defaults
from skindualgen.sample.inputs import encode_call, image_latents, strengths
from skindualgen.sample.loading import pipeline_parts, refuse_with_merged
from skindualgen.sample.outputs import SkinDualGenPipelineOutput, codes_to_masks
from skindualgen.sample.schedulers import check_scheduler
from skindualgen.sample.schedules import checked_schedules, takes_timesteps


class SkinDualGenPipeline(DiffusionPipeline):
    """Image-mask pairs from text, photographs from masks, masks from photographs.

    Args:
        vae, text_encoder, tokenizer: the base's.
        unet: joint UNet with the adapter merged in (``skindualgen.model.adapter.load_adapter``).
        scheduler: variance preserving, of the base's prediction type.
        default_steps, default_guidance, default_guidance_rescale, default_guidance_interval, default_prompt_noise: for
            pairs and images when the call does not say.
        default_mask_steps: ``num_mask_steps`` of pairs from text alone when the call does not say; None is all steps.
        default_mask_guidance: ``mask_guidance_scale`` when the call does not say.
        default_segment_steps: for image -> mask when the call does not say; guidance is off there.
        default_best_of, default_best_of_threshold: candidates of a pair that ``skindualgen generate`` chooses among, at
            most, and the probability of the diagnosis from which on it draws no further one; a call draws one.
        guide: a weaker joint UNet, such as the adapter early in its training; guidance then leads away from its
            predictions for the same prompts, and not from those for the negative prompt.
        provenance: ids and hashes of base and adapter, written into every generated file.
        mask_codec: name and parameters of the masks' codec (`skindualgen.codec.make_codec`); version 0.1's if None.
        mask_classes: name -> level of each class of the masks (`skindualgen.data.mask_classes`); None: the lesion.
        appearances: words for looks that real pairs of each diagnosis have, if the adapter was trained with such
            (`skindualgen.planning.looks`): what a prompt may go on with.
        schedules: number of steps -> its timesteps, as found for the adapter (`skindualgen.sample.schedule_search`).
        distilled: what the adapter was distilled from, and how (`skindualgen.training.distill`): it is then drawn in
            its ``default_steps`` by its schedule alone, with a first-order ``scheduler`` and without guidance.

    Raises:
        InputError: a UNet without the channels of the image's latents and of the masks' codes, a schedule that is
            none, or a distilled adapter with a guide.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _optional_components: ClassVar[list[str]] = ["guide"]
    _callback_tensor_inputs: ClassVar[list[str]] = CALLBACK_INPUTS

    def __init__(
        self,
        vae: AutoencoderKL | PatchAutoencoder,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        default_steps: int = 20,
        default_guidance: float = 2.0,
        default_segment_steps: int = 1,
        provenance: dict[str, str] | None = None,
        default_guidance_rescale: float = 0.0,
        default_guidance_interval: Sequence[float] = WHOLE_SCHEDULE,
        default_prompt_noise: float = 0.0,
        guide: UNet2DConditionModel | None = None,
        mask_codec: dict[str, Any] | None = None,
        mask_classes: dict[str, int] | None = None,
        appearances: dict[str, list[str]] | None = None,
        default_mask_steps: int | None = None,
        default_mask_guidance: float = 1.0,
        default_best_of: int = 1,
        default_best_of_threshold: float = 1.0,
        schedules: Mapping[str, Sequence[int]] | None = None,
        distilled: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.codec = make_codec(mask_codec, vae)
        classes = LESION_ONLY if mask_classes is None else checked_classes(mask_classes, "the pipeline")
        self._channels = [int(vae.config.latent_channels), self.codec.channels * len(classes)]  # of image and mask
        check_joint((unet, guide), *self._channels)
        check_as_distilled(distilled, "guide", None if guide is None else type(guide).__name__, None)
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler, guide=guide
        )
        self.register_to_config(
            mask_codec=codec_record(self.codec),
            mask_classes=dict(classes),
            default_steps=default_steps,
            default_guidance=default_guidance,
            default_segment_steps=default_segment_steps,
            default_guidance_rescale=default_guidance_rescale,
            default_guidance_interval=tuple(default_guidance_interval),
            default_prompt_noise=default_prompt_noise,
            provenance=provenance,
            appearances=appearances,
            default_mask_steps=default_mask_steps,
            default_mask_guidance=default_mask_guidance,
            default_best_of=default_best_of,
            default_best_of_threshold=default_best_of_threshold,
            schedules=checked_schedules(schedules, scheduler),
            distilled=None if distilled is None else dict(distilled),
        )
        self.vae_scale_factor = 2 ** (len(vae.config.block_out_channels) - 1)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @classmethod
    def from_adapter(
        cls,
        adapter: str | Path = "builtin",
        base: str | Path | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        allow_base_mismatch: bool = False,
        guide: str | Path | None = None,
    ) -> Self:
        """Build the pipeline from an adapter folder and its base, or from a folder that holds both, merged.

        Args:
            adapter: "builtin", a run folder of ``skindualgen train``, an adapter folder, ``owner/name@revision`` of the
                hub, or a merged folder of ``skindualgen export``.
            base: a base's name, ``owner/name@revision`` of the hub, or a path; as recorded in the adapter if not given.
            dtype: of all weights.
            allow_base_mismatch: use the adapter on another base than its own, with a warning; ``provenance`` has both.
            guide: a weaker adapter of the same base, that guidance leads away from.
        """
        folder = adapter_folder(adapter)
        if (folder / cls.config_name).is_file():
            refuse_with_merged(folder, base=base, guide=guide)
            return cls.from_pretrained(folder, dtype=dtype)
        parts = pipeline_parts(folder, base, dtype, allow_base_mismatch=allow_base_mismatch, guide=guide)
        pipeline = cls(**parts)
        pipeline.register_to_config(_name_or_path=str(folder))  # as from_pretrained does: name_or_path
        return pipeline

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs: Any) -> Self:
        """Build the pipeline from another's modules, which both then share; arguments replace some of them.

        ``from_pipe(stable_diffusion, unet=load_adapter(base, folder))``. Without ``dtype``, that of ``pipeline`` stays.
        """
        if "torch_dtype" not in kwargs:
            kwargs.setdefault("dtype", pipeline.dtype)
        for name in ("unet", "guide"):  # diffusers hands on exact types only, and one with a mask head is a subclass
            if isinstance(unet := pipeline.components.get(name), HeadedUNet):
                kwargs.setdefault(name, unet)
        return super().from_pipe(pipeline, **kwargs)

    @property
    def mask_classes(self) -> MaskClasses:
        """Name of each class of the masks -> its level in a PNG, the lesion first."""
        return checked_classes(self.config.mask_classes, "the pipeline")

    @property
    def native_px(self) -> int:
        """Side of the pictures that the model was trained on."""
        return int(self.unet.config.sample_size) * self.vae_scale_factor

    @property
    def guidance_scale(self) -> float:
        """Of the running call."""
        return self._guidance_scale

    @property
    def num_timesteps(self) -> int:
        """Of the running call."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Set ``pipe._interrupt = True`` in a callback to stop."""
        return self._interrupt

    def guidance(self, *given: Any, **named: Any) -> Guidance:
        """Settings of guidance for pairs and images: fields of `Guidance`, the pipeline's defaults where None.

        Raises:
            InputError: one is out of its range, images are to be led towards masks by an adapter without mask head, or
                anything is to be led anywhere by a distilled one.
        """
        guidance = guidance_with_defaults(self.config, *given, **named)
        check_mask_guidance((self.unet, self.guide), guidance.mask)
        check_as_distilled(self.config.distilled, "guidance_scale", guidance.scale if guidance.on else None, 1.0)
        check_as_distilled(self.config.distilled, "mask_guidance_scale", guidance.mask, 1.0)
        return guidance

    def steps(self, given: int | None, *, reads_mask: bool = False) -> int:
        """Denoising steps of pairs and images, or of image -> mask: the pipeline's default where None.

        Raises:
            InputError: others than a distilled adapter was made for.
        """
        default: int = self.config.default_segment_steps if reads_mask else self.config.default_steps
        check_as_distilled(self.config.distilled, "num_inference_steps", given, default)
        return default if given is None else given

    def found_timesteps(self, steps: int, *, photograph: bool = False) -> list[int] | None:
        """The schedule that was found for so many steps, which the image is drawn in.

        None where there is none, where the scheduler in place takes no timesteps of others, and where a photograph is
        edited, as strengths are shares of the usual spacing. A distilled adapter knows no other timesteps in edits too.

        Raises:
            InputError: a distilled adapter with a scheduler that takes no timesteps.
        """
        found = (self.config.schedules or {}).get(str(steps))
        distilled = self.config.distilled
        if found is None or (photograph and distilled is None):
            return None
        if takes_timesteps(self.scheduler, found):
            return list(found)
        check_as_distilled(distilled, "scheduler", type(self.scheduler).__name__, "DPMSolverMultistepScheduler")
        return None

    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Text encoder states [b, 77, width] of b prompts; longer ones are cut, as CLIP cannot read on."""
        return embed_prompts(self.tokenizer, self.text_encoder, prompts)

    @torch.no_grad()
    @renamed_arguments(mask="mask_image")
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        num_mask_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        guidance_interval: Sequence[float] | None = None,
        prompt_noise: float | None = None,
        mask_guidance_scale: float | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        image: PipelineImageInput | None = None,
        mask_image: PipelineImageInput | None = None,
        strength: float | tuple[float, float] | None = None,
        height: int | None = None,
        width: int | None = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        clean: bool = True,
        ensemble_size: int = 1,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> SkinDualGenPipelineOutput | tuple[Any, Any]:
        """Generate.

        Args:
            prompt: one or more; may be left out when ``image`` is given.
            negative_prompt: what guidance leads away from; empty text if not given.
            num_inference_steps: denoising steps. Where no photograph is given, as many as a schedule was found for take
                that schedule (`found_timesteps`), others the scheduler's own spacing. A distilled adapter takes its own
                number alone.
            num_mask_steps: of these, those of the mask where both halves are drawn from noise: it waits in pure noise
                while the image takes shape, and is then drawn in the last ones.
            guidance_scale: classifier-free guidance; 1 or less switches it off.
            guidance_rescale, guidance_interval, prompt_noise: see `skindualgen.sample.guidance.Guidance`.
            mask_guidance_scale: how far the picture is led towards its mask, at no further cost; 1 is as trained. Other
                values need an adapter with a mask head.
            num_images_per_prompt: samples of each prompt, or of each given image or mask.
            generator: one per sample makes results independent of the batch they are made in.
            image: photograph(s), as `skindualgen.sample.inputs.image_to_tensor` takes them. Alone: image -> mask; what
                comes back as ``images`` has been through the autoencoder.
            mask_image: mask(s), as `skindualgen.sample.inputs.mask_to_tensor` takes them. Alone: mask -> image.
            strength: with both ``image`` and ``mask_image``: how far they are noised and drawn anew, in [0, 1]; a
                pair of numbers for image and mask, where 0 keeps that half as it is.
            height, width: in px, multiples of 8; the model's own size if not given. Given pictures are resized.
            latents: initial noise [b, c + m, h/8, w/8] in place of draws from ``generator``.
            prompt_embeds, negative_prompt_embeds: [b, 77, width], in place of text.
            clean: keep the largest region of each mask that was drawn, and fill its holes; a given one stays.
            ensemble_size: image -> mask only: mean over that many draws.
            output_type: "pil", "np", "pt" or "latent".
            return_dict: an output object, or the tuple (images, masks).
            callback_on_step_end: called as ``f(pipe, step, timestep, tensors)`` after each step, with those of
                ``callback_on_step_end_tensor_inputs``; returns tensors that it changes, or None.

        Raises:
            InputError: arguments that contradict each other.
        """
        # 1. Check the call and settle defaults.
        size = (self.native_px if height is None else height, self.native_px if width is None else width)
        reads_mask = image is not None and mask_image is None
        steps = self.steps(num_inference_steps, reads_mask=reads_mask)
        texts = {"prompt": (prompt, prompt_embeds), "negative_prompt": (negative_prompt, negative_prompt_embeds)}
        samples = {"num_images_per_prompt": num_images_per_prompt, "ensemble_size": ensemble_size}
        check_call(
            texts=texts,
            given=(image, mask_image, self.guide),
            strength=strength,
            size=size,
            counts={"num_inference_steps": steps, **samples},
            generator=generator,
            latents=latents,
            output_type=output_type,
            callback_inputs=callback_on_step_end_tensor_inputs,
        )
        check_scheduler(self.scheduler, steps)
        check_mask_steps(num_mask_steps, steps, given=image is not None or mask_image is not None)
        schedule = (None if reads_mask else self.found_timesteps(steps, photograph=image is not None)) or steps
        mask_steps, distilled = None, self.config.distilled
        if image is None and mask_image is None:
            check_as_distilled(distilled, "num_mask_steps", num_mask_steps, self.config.default_mask_steps or steps)
            mask_steps = num_mask_steps or self.config.default_mask_steps
            mask_steps = mask_steps if mask_steps is not None and mask_steps < steps else None  # None: the image's
        if not reads_mask:
            check_as_distilled(distilled, "negative_prompt", negative_prompt, None)
        else:  # by default neither guided nor varied
            guidance_scale = 1.0 if guidance_scale is None else guidance_scale
            prompt_noise = 0.0 if prompt_noise is None else prompt_noise
        guidance = self.guidance(guidance_scale, guidance_rescale, guidance_interval, prompt_noise, mask_guidance_scale)
        self._guidance_scale, self._interrupt = guidance.scale, False
        device, dtype = self._execution_device, self.unet.dtype

        # 2. Encode what is given: text [b, 77, width], photographs [b, 3, h, w], masks [b, m, h/8, w/8].
        text, negative, pixels, given_codes = encode_call(
            self, list(texts.values()), image, mask_image, size, num_images_per_prompt
        )
        embeds = torch.cat([negative, text]) if guidance.on and self.guide is None else text  # [b or 2b, 77, width]

        # 3. One pass of the denoising loop; to average masks, several over flips of the photographs.
        starts = strengths(strength, image is not None, mask_image is not None)
        shape = (len(text), self.unet.config.in_channels, size[0] // CELL_PX, size[1] // CELL_PX)
        check_batch(generator, latents, shape)
        callback = partial(callback_changes, callback_on_step_end, callback_on_step_end_tensor_inputs)
        codes, draws = torch.zeros(()), ensemble_size if reads_mask else 1
        for draw in range(draws):
            flip = FLIPS[draw % len(FLIPS)]
            given_latents = None if pixels is None else image_latents(self, pixels.flip(flip))  # [b, c, h/8, w/8]
            noise = randn_tensor(shape, generator, device, dtype) if latents is None else latents.to(device, dtype)
            halves = noise.split(self._channels, dim=1)
            given = (given_latents, given_codes)
            latents_out, drawn = denoise(
                self, halves, given, starts, embeds, guidance, schedule, generator, callback, mask_steps
            )
            codes = codes.to(drawn) + self.codec.flip(drawn, flip) / draws
        if draws > 1:
            latents_out = image_latents(self, pixels)

        # 4. Decode.
        pair = self.decode(latents_out, codes, output_type, clean=clean and starts[1] > 0)
        self.maybe_free_model_hooks()
        return SkinDualGenPipelineOutput(*pair) if return_dict else pair

    @torch.no_grad()
    def decode(
        self, latents: Tensor, codes: Tensor, output_type: str = "pil", *, clean: bool = True
    ) -> tuple[Any, Any]:
        """Make images and masks of what a call with ``output_type="latent"`` gave.

        Args:
            latents: image half [b, c, h/8, w/8].
            codes: mask half [b, m, h/8, w/8].
            output_type, clean: as `__call__` takes them.
        """
        if output_type == "latent":
            return latents, codes
        pixels = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.vae.dtype), return_dict=False)[0]
        images = self.image_processor.postprocess(pixels.float(), output_type=output_type)
        return images, codes_to_masks(codes, output_type, clean=clean, codec=self.codec, classes=self.mask_classes)
