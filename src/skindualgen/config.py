"""Settings of a training run: a pydantic model, from TOML, from the command line, or both.

Names are those of diffusers' training scripts, where these have the setting.
"""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from skindualgen.contracts import InputError

RENAMED = {
    "size": "resolution",
    "steps": "max_train_steps",
    "batch_size": "train_batch_size",
    "accumulation": "gradient_accumulation_steps",
    "schedule": "lr_scheduler",
    "warmup_steps": "lr_warmup_steps",
    "weight_decay": "adam_weight_decay",
    "precision": "mixed_precision",
    "workers": "dataloader_num_workers",
    "validate_every": "validation_steps",
    "checkpoint_every": "checkpointing_steps",
    "keep_checkpoints": "checkpoints_total_limit",
    "zero_terminal_snr": "rescale_betas_zero_snr",
    "min_snr_gamma": "snr_gamma",
}
"""name of version 0.1 -> name now"""
EARLIER = "{} is called {} now; the earlier name goes with version 0.3"


def with_current_names(values: Mapping[str, Any], *, warn: bool = True) -> dict[str, Any]:
    """Settings, tables included, under the names that they have now.

    Args:
        values: name -> value or table.
        warn: say which names are earlier ones; as a FutureWarning, which is shown to who writes a TOML file too.

    Raises:
        ValueError: a setting under both of its names.
    """
    current: dict[str, Any] = {}
    for name, value in values.items():
        table, dot, last = name.rpartition(".")  # of --set and of overrides
        new = table + dot + RENAMED.get(last, last)
        if new != name and new in values:
            raise ValueError(f"either {new} or {name}, its earlier name")
        if new != name and warn:
            warnings.warn(EARLIER.format(name, new), FutureWarning, stacklevel=2)
        current[new] = with_current_names(value, warn=warn) if isinstance(value, dict) else value
    return current


class Settings(BaseModel):
    """Base of all settings: unknown names are an error, values are frozen; names of version 0.1 give a warning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _current_names(cls, values: Any) -> Any:
        return with_current_names(values) if isinstance(values, dict) else values

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            new = RENAMED.get(name)
            if new not in type(self).model_fields:
                return super().__getattr__(name)
            warnings.warn(EARLIER.format(name, new), FutureWarning, stacklevel=2)
            return getattr(self, new)


class LoraSettings(Settings):
    """Low-rank updates of the UNet."""

    rank: int = Field(32, ge=1, description="LoRA r")
    alpha: int = Field(32, ge=1, description="LoRA alpha; updates are scaled by alpha / rank")
    targets: Literal["attention", "attention+ff", "all"] = Field(
        "attention+ff", description="layers with LoRA; 'all' adds the convolutions"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of LoRA's input")
    rslora: bool = Field(False, description="scale by alpha / sqrt(rank)")
    dora: bool = Field(False, description="decompose weights into magnitude and direction")


class MaskHeadSettings(Settings):
    """Layers of the mask half's own, behind the UNet: learning masks then leaves the picture alone."""

    width: int = Field(0, ge=0, multiple_of=6, description="channels of its layers; 0: no head")
    levels: int = Field(3, ge=1, description="sizes that it works at, each half of the one before")
    features: int = Field(48, ge=1, description="channels that it reads from the UNet")
    alone: bool = Field(False, description="train it and its features only: a fast first part of a training")


class LossSettings(Settings):
    """Weight of each term; 0 switches a term off and saves its cost. Defaults: docs/results/ablation.md."""

    image: float = Field(1.0, ge=0, description="denoising error of the image half")
    mask: float = Field(1.0, ge=0, description="denoising error of the mask half")
    dice: float = Field(0.1, ge=0, description="soft Dice of the decoded mask")
    bce: float = Field(0.1, ge=0, description="binary cross-entropy of the decoded mask")
    lesion: float = Field(1.0, ge=0, description="extra weight of lesion cells in the image term")
    base: float = Field(
        0.0, ge=0, description="image half against what the base itself predicts: its pictures are kept"
    )
    consistency: float = Field(0.0, ge=0, description="mask read from the estimated image against the joint mask")
    snr_gamma: float = Field(5.0, gt=0, description="gamma of the min-SNR weights")

    @model_validator(mode="before")
    @classmethod
    def _no_boundary(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "boundary" not in values:
            return values
        if values["boundary"] != 0:
            raise ValueError(
                f"no boundary, but it is {values['boundary']!r}: the L1 term of the signed distance field did nothing "
                "in an ablation (docs/results/ablation.md) and is gone; remove loss.boundary, or train with version 0.1"
            )
        warnings.warn("loss.boundary is gone, as it changed nothing; 0 may be left out", FutureWarning, 2)
        return {name: value for name, value in values.items() if name != "boundary"}


class NoiseSettings(Settings):
    """Shares of the ways of noising a pair, normalised to sum 1; and what is done to noise and schedule."""

    equal: float = Field(0.45, ge=0, description="both halves at one level: text -> pair")
    mask_given: float = Field(0.15, ge=0, description="clean mask: mask -> image")
    image_given: float = Field(0.25, ge=0, description="clean image: image -> mask")
    independent: float = Field(0.15, ge=0, description="two levels drawn apart")
    reading: float = Field(0.0, ge=0, description="clean image, mask in pure noise: a mask that one step reads")
    offset: float = Field(0.0, ge=0, lt=1, description="noise of one value per image channel, as a share of the noise")
    rescale_betas_zero_snr: bool = Field(
        False, description="rescale the schedule to end in pure noise; bases of velocity"
    )

    @model_validator(mode="after")
    def _some_way(self) -> Self:
        if not any((self.equal, self.mask_given, self.image_given, self.independent, self.reading)):
            raise ValueError("all shares are 0; at least one must be greater")
        return self


class MaskCodecSettings(Settings):
    """How masks become channels of the latent space; recorded in the adapter, which is loaded with it."""

    name: Literal["signed-distance", "autoencoder"] = Field(
        "signed-distance", description="'autoencoder' codes a mask as a grey picture, for comparison"
    )
    mean: float | None = Field(None, description="of codes before they are standardised; the codec's own if not given")
    std: float | None = Field(None, gt=0, description="their standard deviation; the codec's own if not given")
    classes: int | None = Field(None, ge=1, description="of the masks; as many as dataset.json names if not given")


class SamplingSettings(Settings):
    """What the pipeline does when a call does not say; travels with the adapter."""

    default_steps: int = Field(20, ge=1)
    default_guidance: float = Field(2.0, ge=0)
    default_mask_steps: int | None = Field(None, ge=1)
    default_mask_guidance: float = Field(1.0, ge=0)
    default_segment_steps: int = Field(1, ge=1)
    default_guidance_rescale: float = Field(0.0, ge=0, le=1)
    default_guidance_interval: tuple[float, float] = (0.0, 1.0)
    default_prompt_noise: float = Field(0.0, ge=0)
    default_best_of: int = Field(1, ge=1, description="candidates of a pair, of which a classifier chooses")
    default_best_of_threshold: float = Field(1.0, gt=0, le=1, description="probability that needs no further candidate")


class TrainConfig(Settings):
    """Everything that decides the result of ``skindualgen train``."""

    data: Path = Field(description="data set folder as written by 'skindualgen prepare'")
    out: Path = Field(description="run folder")
    base: str = Field("micro", description="name, owner/name@revision or path (docs/bases.md)")
    init_adapter: str | None = Field(None, description="'builtin', a run or an adapter folder to start from")
    resolution: int | None = Field(None, ge=64, multiple_of=8, description="px; the base's own if not given")
    max_train_steps: int = Field(1000, ge=1, description="optimiser steps")
    train_batch_size: int = Field(8, ge=1, description="pairs per step and process")
    gradient_accumulation_steps: int = Field(1, ge=1, description="batches per optimiser step")
    learning_rate: float = Field(1e-4, gt=0, description="AdamW's, for LoRA")
    lora_plus_ratio: float = Field(1.0, ge=1, description="LoRA+: rate of the B matrices over that of A")
    new_layer_learning_rate: float | None = Field(None, gt=0, description="for the new layers; LoRA's if not given")
    new_layer_warmup_steps: int | None = Field(None, ge=0, description="of new layers; lr_warmup_steps if not given")
    freeze_base_filters: bool = Field(
        False, description="of the first and last convolution, train the mask's filters alone, without weight decay"
    )
    optimizer: Literal["adamw", "adamw8bit"] = Field("adamw", description="'adamw8bit' needs bitsandbytes and a GPU")
    lr_scheduler: Literal["constant", "cosine"] = Field("cosine", description="learning rate after the warm-up")
    lr_warmup_steps: int = Field(50, ge=0)
    adam_weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    ema_decay: float = Field(0.999, ge=0, lt=1, description="0 switches the moving average off")
    caption_dropout: float = Field(0.1, ge=0, le=1, description="share of empty prompts, for guidance")
    prompt_variants: int = Field(1, ge=1, description="prompts per pair; more than 1 adds built-in templates")
    appearance_prompts: float = Field(
        0.0, ge=0, le=1, description="share of prompts that also say what 'prepare' has measured of a pair's looks"
    )
    views: int = Field(8, ge=1, description="cached augmentations per pair; the first is the plain picture")
    min_zoom: float = Field(0.85, gt=0, le=1, description="smallest crop of an augmentation, as a share of the side")
    colour: float = Field(
        0.0, ge=0, le=1, description="strength of the colour augmentation: light and camera, not pigment"
    )
    balance: float = Field(0.5, ge=0, le=1, description="0 draws as the data are, 1 draws classes equally often")
    mixed_precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="'auto': bf16 if the hardware has it; 'no' is read as 'fp32'"
    )
    base_dtype: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the frozen weights; 'auto': fp32 on a CPU, else the precision"
    )
    adapter_dtype: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="of the finished adapter's file")
    threads: int | None = Field(None, ge=1, description="CPU threads; torch's choice if not given")
    dataloader_num_workers: int = Field(0, ge=0, description="processes that encode pairs and fetch batches ahead")
    cache: Path | None = Field(None, description="folder of encoded pairs, shared by runs; OUT/cache if not given")
    gradient_checkpointing: bool = Field(False, description="less memory, about a third more time")
    compile: bool = Field(False, description="torch.compile the UNet")
    channels_last: bool = Field(False, description="memory layout that many GPUs convolve faster in")
    seed: int = 0
    validation_steps: int = Field(250, ge=1, description="steps between validations")
    best_by: Literal["val_loss", "val_dice_read"] = Field("val_loss", description="what names the best validation")
    result: Literal["last", "best"] = Field("last", description="which validated weights become the adapter")
    patience: int | None = Field(None, ge=1, description="validations without a better one that end the run early")
    checkpointing_steps: int = Field(250, ge=1, description="steps between checkpoints")
    checkpoints_total_limit: int = Field(2, ge=1, description="checkpoints that are kept, the newest")
    track: Literal["wandb", "mlflow", "trackio"] | None = Field(
        None, description="client that the run is shown in besides TensorBoard (extra 'track')"
    )
    allow_base_mismatch: bool = Field(False, description="start from an init_adapter of another base all the same")
    mask_codec: MaskCodecSettings = MaskCodecSettings()
    lora: LoraSettings = LoraSettings()
    mask_head: MaskHeadSettings = MaskHeadSettings()
    loss: LossSettings = LossSettings()
    noise: NoiseSettings = NoiseSettings()
    sampling: SamplingSettings = SamplingSettings()

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _no_is_fp32(cls, value: Any) -> Any:
        return "fp32" if value == "no" else value


FREE_TO_CHANGE = {
    "out",
    "data",
    "threads",
    "dataloader_num_workers",
    "cache",
    "checkpointing_steps",
    "checkpoints_total_limit",
    "track",
}
"""settings that may differ when a run is resumed: they do not touch the weights (data are held by their hash)"""
LOCAL = {"out", "data", "cache", "init_adapter", "track"}
"""settings that are this machine's, and in no record that leaves it"""


def read_toml(file: Path, option: str) -> dict[str, Any]:
    """Read a TOML file that an option names.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{option} {file} ({error})", "a readable TOML file", "fix the file") from error


def load_train_config(file: Path | None, overrides: dict[str, Any]) -> TrainConfig:
    """Merge a TOML file and overrides, which win; dotted names reach nested tables ("lora.rank").

    Raises:
        InputError: unreadable TOML, an unknown name or a value out of range.
    """
    values = {} if file is None else read_toml(file, "--config")
    try:
        values = with_current_names(values)  # before they are merged: an option has to meet the file's value
        overrides = with_current_names(overrides)
    except ValueError as error:
        raise InputError("two names of one setting", str(error), "leave the earlier name out") from error
    for name, value in overrides.items():
        target = values
        *tables, last = name.split(".")
        for table in tables:
            target = target.setdefault(table, {})
            if not isinstance(target, dict):
                raise InputError(
                    f"{table} = {target!r}", "a table", f"write it as [{table}], or leave out --set {name}"
                )
        target[last] = value
    try:
        return TrainConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            needed = TrainConfig.model_fields[name].description
            raise InputError(f"no {name}", f"the {needed}", f"give --{name}") from error
        message = "the name of a setting" if first["type"] == "extra_forbidden" else first["msg"]
        remedy = "fix it; --dry-run shows all settings"
        raise InputError(f"{name} = {first['input']!r}", message.removeprefix("Value error, "), remedy) from error


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read "name=value" of ``--set``, the value as TOML where it is one, else as text.

    Raises:
        InputError: no "=" in it.
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"--set {text}", "name=value, for example --set lora.rank=64", "add the value")
    try:
        return name.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()
