"""SkinDualGenPipeline: text -> pair, mask -> image, image -> mask and edits, by one joint diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    SchedulerMixin,
    UNet2DConditionModel,
)
from diffusers.image_processor import PipelineImageInput, VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from skindualgen.codec import CELL_PX, CODE_CHANNELS, flip_code, mask_to_code
from skindualgen.contracts import InputError
from skindualgen.model.adapter import adapter_folder
from skindualgen.model.autoencoder import PatchAutoencoder
from skindualgen.model.bases import embed_prompts
from skindualgen.sample.denoising import JointDenoiser
from skindualgen.sample.guidance import WHOLE_SCHEDULE, Generators, Guidance
from skindualgen.sample.inputs import (
    callback_changes,
    check_batch,
    check_call,
    check_counts,
    check_generator,
    check_tensors,
    image_to_tensor,
    mask_to_tensor,
    renamed_argument,
    repeat,
    strengths,
)
from skindualgen.sample.loading import pipeline_parts
from skindualgen.sample.outputs import SkinDualGenPipelineOutput, codes_to_masks
from skindualgen.sample.schedulers import check_scheduler

FLIPS: tuple[list[int], ...] = ([], [-1], [-2], [-2, -1])
"""dimensions that the draws of an ensemble flip"""


class SkinDualGenPipeline(DiffusionPipeline):
    """Image-mask pairs from text, photographs from masks, masks from photographs.

    Args:
        vae: ``AutoencoderKL`` or a class with its interface.
        text_encoder, tokenizer: the base's.
        unet: joint UNet with the adapter merged in (``skindualgen.model.adapter.load_adapter``).
        scheduler: variance preserving, of the base's prediction type.
        default_steps: steps for pairs and images when the call does not say.
        default_guidance: classifier-free guidance for pairs and images when the call does not say.
        default_segment_steps: steps for image -> mask when the call does not say; guidance is off there.
        default_guidance_rescale, default_guidance_interval, default_prompt_noise: when the call does not say.
        guide: a weaker joint UNet, such as the same adapter early in its training, for the same prompts. With it,
            guidance leads away from the guide's predictions and not from those for the negative prompt.
        provenance: ids and hashes of base and adapter, written into every generated file.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _optional_components: ClassVar[list[str]] = ["guide"]
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "mask_codes", "prompt_embeds"]

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
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler, guide=guide
        )
        self.register_to_config(
            default_steps=default_steps,
            default_guidance=default_guidance,
            default_segment_steps=default_segment_steps,
            default_guidance_rescale=default_guidance_rescale,
            default_guidance_interval=tuple(default_guidance_interval),
            default_prompt_noise=default_prompt_noise,
            provenance=provenance,
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
    ) -> SkinDualGenPipeline:
        """Build the pipeline from an adapter folder and its base, or from a folder that holds both, merged.

        Args:
            adapter: "builtin", a run folder of ``skindualgen train``, an adapter folder, ``owner/name@revision`` of the
                hub, or a merged folder of ``skindualgen export``.
            base: a base's name, ``owner/name@revision`` of the hub, or a path; as recorded in the adapter if not given.
            dtype: of all weights.
            allow_base_mismatch: use the adapter on another base than its own, with a warning; ``provenance`` then
                names the adapter's own too.
            guide: a weaker adapter of the same base, that guidance leads away from.
        """
        folder = adapter_folder(adapter)
        if (folder / cls.config_name).is_file():
            if base is not None:
                raise InputError(
                    f"base {base} with the merged folder {folder}", "no base, as it holds one", "leave it out"
                )
            if guide is not None:
                raise InputError(
                    f"the guide {guide} with the merged folder {folder}",
                    "an adapter on its base",
                    "leave the guide out",
                )
            return cls.from_pretrained(folder, dtype=dtype)
        parts = pipeline_parts(folder, base, dtype, allow_base_mismatch=allow_base_mismatch, guide=guide)
        pipeline = cls(**parts)
        pipeline.register_to_config(_name_or_path=str(folder))  # as from_pretrained does: name_or_path
        return pipeline

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

    def guidance(
        self,
        scale: float | None = None,
        rescale: float | None = None,
        interval: Sequence[float] | None = None,
        prompt_noise: float | None = None,
    ) -> Guidance:
        """Settings of guidance for pairs and images, from the pipeline's defaults where they are not given.

        Raises:
            InputError: one is out of its range.
        """
        config = self.config
        return Guidance(
            config.default_guidance if scale is None else scale,
            config.default_guidance_rescale if rescale is None else rescale,
            config.default_guidance_interval if interval is None else interval,
            config.default_prompt_noise if prompt_noise is None else prompt_noise,
        )

    def encode_prompt(self, prompts: Sequence[str]) -> Tensor:
        """Text encoder states [b, 77, width] of b prompts; longer ones are cut, as CLIP cannot read on."""
        return embed_prompts(self.tokenizer, self.text_encoder, prompts)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        guidance_interval: Sequence[float] | None = None,
        prompt_noise: float | None = None,
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
        mask: PipelineImageInput | None = None,
    ) -> SkinDualGenPipelineOutput | tuple[Any, Any]:
        """Generate.

        Args:
            prompt: one or more; may be left out when ``image`` is given.
            negative_prompt: what guidance leads away from; empty text if not given.
            num_inference_steps: denoising steps.
            guidance_scale: classifier-free guidance; 1 or less switches it off.
            guidance_rescale, guidance_interval, prompt_noise: see `skindualgen.sample.guidance.Guidance`.
            num_images_per_prompt: samples of each prompt, or of each given image or mask.
            generator: one per sample makes results independent of the batch they are made in.
            image: photograph(s), as `skindualgen.sample.inputs.image_to_tensor` takes them. Alone: image -> mask; what
                comes back as ``images`` has been through the autoencoder.
            mask_image: mask(s), as `skindualgen.sample.inputs.mask_to_tensor` takes them. Alone: mask -> image.
            strength: with both ``image`` and ``mask_image``: how far they are noised and drawn anew, in [0, 1]; a
                pair of numbers for image and mask, where 0 keeps that half as it is.
            height, width: in px, multiples of 8; the model's own size if not given. Given pictures are resized.
            latents: initial noise [b, c + 4, h/8, w/8] in place of draws from ``generator``.
            prompt_embeds, negative_prompt_embeds: [b, 77, width], in place of text.
            clean: keep the largest region of each mask that was drawn, and fill its holes; a given one stays.
            ensemble_size: image -> mask only: mean over that many draws.
            output_type: "pil", "np", "pt" or "latent".
            return_dict: an output object, or the tuple (images, masks).
            callback_on_step_end: called as ``f(pipe, step, timestep, tensors)`` after each step; returns tensors that
                it changes, or None.
            callback_on_step_end_tensor_inputs: names out of ``_callback_tensor_inputs``.
            mask: the earlier name of ``mask_image``, with a FutureWarning.

        Raises:
            InputError: arguments that contradict each other.
        """
        # 1. Check the call and settle defaults.
        mask_image = renamed_argument(mask, mask_image)
        height, width = (self.native_px if side is None else side for side in (height, width))
        check_call(
            prompt, negative_prompt, prompt_embeds, image, mask_image, strength, height, width, output_type,
            callback_on_step_end_tensor_inputs, self._callback_tensor_inputs,
        )  # fmt: skip
        if negative_prompt is not None and negative_prompt_embeds is not None:
            raise InputError("both negative_prompt and negative_prompt_embeds", "one of them", "leave one out")
        reads_mask = image is not None and mask_image is None
        default_steps = self.config.default_segment_steps if reads_mask else self.config.default_steps
        steps = default_steps if num_inference_steps is None else num_inference_steps
        check_counts(
            steps=steps, num_images_per_prompt=num_images_per_prompt, ensemble_size=ensemble_size, strength=strength
        )
        check_scheduler(self.scheduler, steps)
        check_generator(generator)
        check_tensors(latents=latents, prompt_embeds=prompt_embeds, negative_prompt_embeds=negative_prompt_embeds)
        guidance = self.guidance(
            1.0 if reads_mask and guidance_scale is None else guidance_scale, guidance_rescale, guidance_interval,
            0.0 if reads_mask and prompt_noise is None else prompt_noise,
        )  # fmt: skip
        self._guidance_scale = guidance.scale
        if self.guide is not None and (negative_prompt is not None or negative_prompt_embeds is not None):
            got = "a negative prompt for a pipeline with a guide"
            raise InputError(got, "the guide alone to lead away from", "leave the negative prompt out")
        self._interrupt = False
        device, dtype = self._execution_device, self.unet.dtype

        # 2. Encode what is given: text, photographs, masks.
        pixels = self._pixels(image, height, width)  # [n, 3, h, w] or None
        given_codes = self._encode_masks(mask_image, height, width)  # [n, 4, h/8, w/8] or None
        text, negative = self._texts(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        count = max(len(t) for t in (text, pixels, given_codes) if t is not None)
        batch = count * num_images_per_prompt
        text, negative, pixels, given_codes = (  # type: ignore[assignment]
            repeat(t, count, num_images_per_prompt) for t in (text, negative, pixels, given_codes)
        )
        # [b or 2b, 77, width]
        embeds = torch.cat([negative, text]) if guidance.on and self.guide is None else text

        # 3. One pass of the denoising loop; to average masks, several over flips of the photographs.
        start_image, start_mask = strengths(strength, image is not None, mask_image is not None)
        shape = (batch, self.unet.config.in_channels, height // CELL_PX, width // CELL_PX)
        check_batch(generator, latents, shape)
        draws = ensemble_size if reads_mask else 1
        codes = torch.zeros(())
        for draw in range(draws):
            flip = FLIPS[draw % len(FLIPS)]
            given_latents = None if pixels is None else self._encode(pixels.flip(flip))  # [b, c, h/8, w/8]
            noise = randn_tensor(shape, generator, device, dtype) if latents is None else latents.to(device, dtype)
            halves = noise.split([shape[1] - CODE_CHANNELS, CODE_CHANNELS], dim=1)
            image_latents, drawn = self._denoise(
                halves, (given_latents, given_codes), (start_image, start_mask), embeds, guidance, steps, generator,
                callback_on_step_end, callback_on_step_end_tensor_inputs,
            )  # fmt: skip
            codes = codes.to(drawn) + flip_code(drawn, flip) / draws
        if reads_mask and draws > 1:
            image_latents = self._encode(pixels)  # type: ignore[arg-type]

        # 4. Decode.
        images, masks = self.decode(image_latents, codes, output_type, clean=clean and start_mask > 0)
        self.maybe_free_model_hooks()
        return SkinDualGenPipelineOutput(images=images, masks=masks) if return_dict else (images, masks)

    def _denoise(
        self,
        noises: Sequence[Tensor],
        given: Sequence[Tensor | None],
        starts: Sequence[float],
        embeds: Tensor,
        guidance: Guidance,
        steps: int,
        generator: Generators,
        callback: Callable[..., dict[str, Any] | None] | None,
        callback_names: Sequence[str],
    ) -> tuple[Tensor, Tensor]:
        """Denoise each half from its own starting level; a half that starts at 0 is given and stays."""
        denoiser = JointDenoiser(self.scheduler, starts, steps, noises[0].device)
        halves = denoiser.enter(noises, given)
        self._num_timesteps = len(denoiser.active)
        with self.progress_bar(total=self._num_timesteps) as progress:
            for done, index in enumerate(denoiser.active):
                if self.interrupt:
                    continue
                led = replace(guidance, scale=self.guidance_scale)  # a callback may change it
                predictions = denoiser.predict(self.unet, halves, index, embeds, led, generator, guide=self.guide)
                halves = denoiser.step(halves, predictions, index, generator)
                if callback is not None:
                    tensors = {"latents": halves[0], "mask_codes": halves[1], "prompt_embeds": embeds}
                    named = {name: tensors[name] for name in callback_names}
                    changed = callback_changes(callback(self, done, denoiser.timesteps[index], named))
                    halves = [changed.pop("latents", halves[0]), changed.pop("mask_codes", halves[1])]
                    embeds = changed.pop("prompt_embeds", embeds)
                progress.update()
        return halves[0], halves[1]

    @torch.no_grad()
    def decode(
        self, latents: Tensor, codes: Tensor, output_type: str = "pil", *, clean: bool = True
    ) -> tuple[Any, Any]:
        """Make images and masks of what a call with ``output_type="latent"`` gave.

        Args:
            latents: image half [b, c, h/8, w/8].
            codes: mask half [b, 4, h/8, w/8].
            output_type, clean: as `__call__` takes them.
        """
        if output_type == "latent":
            return latents, codes
        pixels = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.vae.dtype), return_dict=False)[0]
        images = self.image_processor.postprocess(pixels.float(), output_type=output_type)
        return images, codes_to_masks(codes, output_type, clean=clean)

    def _pixels(self, image: PipelineImageInput | None, height: int, width: int) -> Tensor | None:
        if image is None:
            return None
        pixels = image_to_tensor(image, height, width, self.image_processor)  # [n, 3, h, w] in [-1, 1]
        return pixels.to(self._execution_device, self.vae.dtype)

    def _encode(self, pixels: Tensor) -> Tensor:
        latents = self.vae.encode(pixels).latent_dist.mode() * self.vae.config.scaling_factor
        return latents.to(self.unet.dtype)

    def _encode_masks(self, mask: PipelineImageInput | None, height: int, width: int) -> Tensor | None:
        if mask is None:
            return None
        return mask_to_code(mask_to_tensor(mask, height, width)).to(self._execution_device, self.unet.dtype)

    def _texts(
        self,
        prompt: str | Sequence[str] | None,
        negative_prompt: str | Sequence[str] | None,
        prompt_embeds: Tensor | None,
        negative_prompt_embeds: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        def embed(text: str | Sequence[str] | None, given: Tensor | None) -> Tensor:
            texts = [text or ""] if text is None or isinstance(text, str) else list(text)
            return self.encode_prompt(texts) if given is None else given.to(self._execution_device)

        dtype = self.unet.dtype
        return embed(prompt, prompt_embeds).to(dtype), embed(negative_prompt, negative_prompt_embeds).to(dtype)
