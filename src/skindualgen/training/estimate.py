"""What a run would train and take, before it starts.

A pass over tensors without content counts what would be held; a few real steps show how long it would take.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from skindualgen.codec import CELL_PX, CODE_CHANNELS, SignedDistanceCodec
from skindualgen.config import TrainConfig
from skindualgen.contracts import InputError
from skindualgen.data.mask_classes import read_mask_classes
from skindualgen.data.pairs import read_pairs
from skindualgen.hardware import DTYPES, GIB, available_devices, free_memory
from skindualgen.model.adapter import adapter_folder, attach_adapter, read_header, trainable_parameters
from skindualgen.model.bases import hide_loading_bars, load_base
from skindualgen.model.joint_unet import joint_prediction, widen_unet
from skindualgen.model.local import local_folder
from skindualgen.training.batches import Batches
from skindualgen.training.cache import PairCache, open_cache
from skindualgen.training.run_folder import run_precision
from skindualgen.training.trainer import Trainer, accelerator_of, frozen_dtype, head_record, trains_unfused

BYTES_PER_TRAINED = 16
"""float32 weight, gradient and AdamW's two moments"""
BYTES_PER_AVERAGED = 4
LIBRARIES_GIB = 0.95
"""of a Python process with torch, diffusers and transformers, measured on a CPU"""
TOKENS = 77
SAMPLE = 4
"""Pairs that are encoded to measure how long it takes."""
PATIENCE_S = 20.0
"""Seconds of a step from which one pair stands for all of it."""
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Needed:
    """What a training holds.

    Attributes:
        trained, parameters: numbers of those that are trained, and of all.
        bytes: of memory in each process, by what they are for.
    """

    trained: int
    parameters: int
    bytes: Mapping[str, int]

    @property
    def gib(self) -> float:
        """Memory in all, in GiB."""
        return sum(self.bytes.values()) / GIB


def estimate(config: TrainConfig) -> list[str]:
    """Lines that say how many parameters would be trained and how much memory it would take, in GiB.

    Raises:
        InputError: no such base or adapter, or a type of the frozen weights that the training would refuse.
    """
    found = needed(config)
    if found is None:
        return [
            f"base {config.base} is not on this disk yet: the first training downloads it; skindualgen doctor says",
            "what its training would take",
        ]
    share = found.trained / found.parameters
    lines = [f"trained parameters: {found.trained:,} of {found.parameters:,} ({share:.2%})"]
    lines.append(f"memory, estimated: {found.gib:.2f} GiB in each process")
    return lines + [f"  {name}: {value / GIB:.2f} GiB" for name, value in found.bytes.items()]


def expected_hours(config: TrainConfig) -> float:
    """Measure how long a training would take on this machine, without its validations.

    `SAMPLE` pairs are encoded and a few steps trained on them, in a folder that is removed. A step that would take
    longer than `PATIENCE_S` is measured with one pair.

    Args:
        config: of the training; its run folder is not touched.

    Raises:
        InputError: the base is not on this disk, its training does not fit into the free memory, or what a training
            would refuse.
    """
    precision, device = run_precision(config), available_devices()[0]
    found, free = needed(config), free_memory(device) / GIB
    if found is None:
        raise InputError(
            f"base {config.base}, which is not on this disk", "one that is", "the first training brings it"
        )
    if found.gib > free:
        raise InputError(
            f"{free:.1f} GiB of free memory ({device})",
            f"{found.gib:.1f} GiB, to train {config.base} with batches of {config.train_batch_size}",
            "lower --train-batch-size or --resolution, or set gradient_checkpointing=true",
        )
    hide_loading_bars()
    records = read_pairs(config.data, "train")
    with TemporaryDirectory() as work, torch.random.fork_rng():
        trainer = Trainer(config, load_base(config.base), accelerator_of(precision))
        once = replace(trainer.encode_options, views=1)
        start = time.monotonic()
        cache = open_cache(Path(work), config.data, records[:SAMPLE], trainer.base, once)
        of_view = (time.monotonic() - start) / len(cache)
        of_step = _seconds_of_step(trainer, cache, 1) * config.train_batch_size
        if of_step < PATIENCE_S:
            of_step = _seconds_of_step(trainer, cache, config.train_batch_size)
    steps = of_step * config.gradient_accumulation_steps * config.max_train_steps
    return (of_view * config.views * len(records) + steps) / SECONDS_PER_HOUR


def _seconds_of_step(trainer: Trainer, cache: PairCache, pairs: int) -> float:
    """The faster of two steps with so many pairs: the first also warms up."""
    config = trainer.config.model_copy(update={"train_batch_size": pairs})
    batches, seconds = Batches(cache, config, len(trainer.alphas_cumprod)), []
    for number in range(2):
        start = time.monotonic()
        trainer.train_step(repeat(batches[number % len(batches)]))  # ends when the loss is known
        seconds.append((time.monotonic() - start) / config.gradient_accumulation_steps)
    return min(seconds)


def needed(config: TrainConfig) -> Needed | None:
    """Count what a training would hold; None if the base is not on this disk.

    Raises:
        InputError: as `estimate`.
    """
    folder = local_folder(config.base)
    if folder is None:
        return None
    precision = run_precision(config)
    on_cpu = not torch.cuda.is_available()
    frozen = frozen_dtype(config, precision, on_cpu=on_cpu)
    lora, head = config.lora.model_dump(), head_record(config.mask_head)
    if config.init_adapter is not None:
        recipe = read_header(adapter_folder(config.init_adapter))["recipe"]
        lora |= recipe.get("config", {}).get("lora", {})
        head = recipe.get("mask_head")
    with torch.device("meta"):
        unet_config = UNet2DConditionModel.load_config(folder / "unet")
        base = UNet2DConditionModel.from_config(unet_config)
        channels = CODE_CHANNELS if config.mask_codec.name == SignedDistanceCodec.name else base.config.in_channels
        joint = widen_unet(base, channels * len(read_mask_classes(config.data)), head=head)
        model = attach_adapter(joint, **lora)
    trained = sum(p.numel() for p in trainable_parameters(model).values())
    total = sum(p.numel() for p in model.parameters()) - trained
    size = config.resolution or unet_config["sample_size"] * CELL_PX
    held = activation_bytes(
        model,
        size // CELL_PX,
        DTYPES[precision],
        checkpointing=config.gradient_checkpointing,
        unfused=trains_unfused(size, on_cpu=on_cpu),
    )
    parts = {
        "frozen weights": total * frozen.itemsize + sum(_weight_bytes(folder / n) for n in ("vae", "text_encoder")),
        "trained weights, gradients, optimiser": trained * BYTES_PER_TRAINED,
        "moving average": trained * BYTES_PER_AVERAGED if config.ema_decay else 0,
        f"activations of {config.train_batch_size} pairs of {size} px in {precision}": held * config.train_batch_size,
        "libraries": int(LIBRARIES_GIB * GIB),
    }
    return Needed(trained, trained + total, parts)


def activation_bytes(
    model: PeftModel, side: int, dtype: torch.dtype, *, checkpointing: bool, unfused: bool = False
) -> int:
    """Bytes that the backward pass of one pair needs held, by a pass of a model on the meta device.

    With gradient checkpointing these are the inputs of every block, and all that the largest block holds.

    Args:
        model: joint UNet with an adapter, on the meta device; changed in place.
        side: of the latents.
        dtype: of the activations.
        checkpointing: whether blocks are computed again in the backward pass.
        unfused: attention that holds its score matrices.
    """
    unet: Any = model.get_base_model()
    if unfused:
        unet.set_attn_processor(AttnProcessor())
    model = model.to(dtype)
    ledger = _Ledger(model)
    c, width = unet.config.in_channels, unet.config.cross_attention_dim
    # Where image and mask part does not matter here.
    image, code = torch.zeros(1, c, side, side, device="meta", dtype=dtype).split([c - CODE_CHANNELS, CODE_CHANNELS], 1)
    t = torch.zeros(1, dtype=torch.long, device="meta")
    text = torch.zeros(1, TOKENS, width, device="meta", dtype=dtype)
    for block in _checkpointed(unet):
        block.register_forward_pre_hook(ledger.enter)
        block.register_forward_hook(ledger.leave)
    with torch.autograd.graph.saved_tensors_hooks(ledger.save, lambda tensor: tensor), _FusedAttention():
        joint_prediction(model, image, code, t, t, text)
    if checkpointing:
        return ledger.inputs + ledger.held[None] + max(v for k, v in ledger.held.items() if k is not None)
    return sum(ledger.held.values())


def _checkpointed(unet: Any) -> list[nn.Module]:
    """The modules that diffusers computes again under gradient checkpointing."""
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    return [module for block in blocks for name in ("resnets", "attentions") for module in getattr(block, name, [])]


class _FusedAttention(TorchFunctionMode):
    """Without content no device chooses fused attention, and torch would take the one that holds its scores."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args)[0]
        return function(*args, **(kwargs or {}))


class _Ledger:
    """Sums what autograd saves, by the block that it is saved in (None: outside of all); parameters do not count."""

    def __init__(self, model: nn.Module) -> None:
        self.seen = {p.untyped_storage()._cdata for p in model.parameters()}
        self.keep: list[Tensor] = []  # storages are told apart by address, so none may be freed and used again
        self.held: dict[int | None, int] = defaultdict(int)
        self.inputs = 0
        self.block: int | None = None

    def enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.block = id(module)
        self.inputs += sum(x.numel() * x.element_size() for x in inputs if isinstance(x, Tensor))

    def leave(self, *_: object) -> None:
        self.block = None

    def save(self, tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage()._cdata
        if place not in self.seen:
            self.seen.add(place)
            self.keep.append(tensor)
            self.held[self.block] += tensor.untyped_storage().nbytes()
        return tensor


def _weight_bytes(folder: Path) -> int:
    """Of the weights in a component folder once loaded in float32."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            total += sum(4 * torch.Size(file.get_slice(name).get_shape()).numel() for name in file.keys())  # noqa: SIM118
    return total
