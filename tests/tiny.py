"""A tiny base of the real classes: what Stable Diffusion 2.0 is made of, at a size that tests can train."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from scipy import ndimage
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from caption_corpus import caption_corpus
from skindualgen.config import TrainConfig
from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.mask_classes import join_classes
from skindualgen.data.phantom import write_phantom_folder
from skindualgen.model.adapter import attach_adapter, save_adapter
from skindualgen.model.autoencoder import PatchAutoencoder
from skindualgen.model.bases import load_base
from skindualgen.model.joint_unet import widen_unet

SIZE_PX = 64


def tiny_unet(channels: int = 4, *, levels: int = 2) -> UNet2DConditionModel:
    """Return a UNet of SD 2.0's block types, 8 x 8 latents; of one level, all of it attends to the text."""
    return UNet2DConditionModel(
        sample_size=SIZE_PX // 8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(32, 64)[:levels],
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=(2, 4)[:levels],
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D")[:levels],
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")[-levels:],
        norm_num_groups=16,
        use_linear_projection=True,
    )


def write_tiny_base(
    folder: Path, *, prediction_type: str = "epsilon", stock_autoencoder: bool = True, levels: int = 2
) -> Path:
    """Write a diffusers folder with random weights; ``stock_autoencoder`` as in SD 2.0, else the micro base's class."""
    torch.manual_seed(0)
    if stock_autoencoder:
        vae = AutoencoderKL(
            block_out_channels=(16, 16, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            norm_num_groups=8,
            scaling_factor=0.18215,
        )
    else:
        vae = PatchAutoencoder(latent_channels=4, decoder_widths=(32, 16, 16, 16), decoder_depths=(1, 1, 1, 1))
        vae.fit_analysis(torch.rand(32, 3, SIZE_PX, SIZE_PX) * 2 - 1)
    tokenizer = tiny_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=32,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    zero_snr = prediction_type == "v_prediction"
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=zero_snr,
        steps_offset=0 if zero_snr else 1,
        rescale_betas_zero_snr=zero_snr,
        timestep_spacing="trailing" if zero_snr else "leading",
        prediction_type=prediction_type,
    )
    parts = {"unet": tiny_unet(levels=levels), "vae": vae, "text_encoder": text_encoder}
    parts |= {"tokenizer": tokenizer, "scheduler": scheduler}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    return folder


def tiny_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer class with one token per character; the captions' letters are all it must know."""
    letters = sorted({letter for text in caption_corpus() for letter in text.lower() if not letter.isspace()})
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=77)


def write_tiny_adapter(folder: Path, base_folder: Path, *, seed: int = 1) -> Path:
    """Write an adapter of a tiny base, every tensor random so that each matters, and return its folder."""
    base = load_base(base_folder)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = attach_adapter(widen_unet(base.unet), rank=2, alpha=4)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.02 * torch.randn_like(parameter)
        sampling = {"default_steps": 3, "default_guidance": 2.0, "default_segment_steps": 2}
        return save_adapter(model, folder, recipe={"base": str(base_folder), "sampling": sampling}, base=base)


def write_phantom_data(root: Path, *, train: int, val: int, size: int = SIZE_PX, masks: bool = True) -> Path:
    """Write a data set folder of phantom pairs; without ``masks`` no record names one."""
    write_phantom_folder(root, train + val, size=size)
    with (root / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (root / "metadata.csv").unlink()
    records = [
        PairRecord(
            file_name=f"images/{next((root / 'images').glob(row['isic_id'] + '.*')).name}",
            mask_file_name=f"masks/{next((root / 'masks').glob(row['isic_id'] + '*')).name}" if masks else None,
            isic_id=row["isic_id"],
            diagnosis=row["diagnosis"],
            split="train" if index < train else "val",
        )
        for index, row in enumerate(rows)
    ]
    write_dataset(root, records, made_by={"phantoms": len(records)})
    return root


TWO_CLASSES = {"lesion": 255, "core": 128}


def write_two_class_data(root: Path, *, train: int, val: int) -> Path:
    """As `write_phantom_data`, the middle of each lesion being a second class of the masks."""
    write_phantom_data(root, train=train, val=val)
    for path in (root / "masks").iterdir():
        lesion = np.asarray(Image.open(path)) > 0
        depth = ndimage.distance_transform_edt(lesion)
        core = depth > 0.4 * depth.max()
        Image.fromarray(join_classes(np.stack([lesion, core]), TWO_CLASSES)).save(path)
    write_dataset(root, read_metadata(root), made_by={"phantoms": train + val}, mask_classes=TWO_CLASSES)
    return root


def tiny_config(data: Path, out: Path, base: Path, **settings: Any) -> TrainConfig:
    """Settings of a training that takes a second or two."""
    quick = {
        "max_train_steps": 4,
        "train_batch_size": 4,
        "views": 2,
        "lr_warmup_steps": 1,
        "mixed_precision": "fp32",
        "validation_steps": 100,
    }
    quick |= {"checkpointing_steps": 100, "lora": {"rank": 4, "alpha": 8}}
    quick |= {"sampling": {"default_steps": 2, "default_segment_steps": 2}}
    return TrainConfig(data=data, out=out, base=str(base), **(quick | settings))


def accelerator_of(config: TrainConfig) -> Accelerator:
    """An accelerator at the configuration's precision; the state that it shares would keep that of an earlier test."""
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision="no" if config.mixed_precision == "fp32" else config.mixed_precision)
