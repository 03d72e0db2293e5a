"""What a base takes: memory to draw and to train with it at a size and batch, and whether it is on this disk already.

The memory is an estimate from a sum whose terms were measured with Stable Diffusion 2's architecture at full size and
random weights, on a CPU in float32 (docs/bases.md has the table). Nothing of it was measured on a GPU.
"""

from __future__ import annotations

from skindualgen.doctor import Finding
from skindualgen.hardware import GIB, available_devices, free_memory
from skindualgen.model.hub import GB, first_cached, free_cache_bytes
from skindualgen.model.registry import KNOWN_BASES, KnownBase

RUNTIME_BYTES = 0.8 * GIB
"""measured: Python with torch, diffusers and transformers"""
DRAW_BYTES = 1.05 * GIB
"""measured, per picture at 512 px: the autoencoder's decoder; the UNet under guidance takes 0.7"""
TRAIN_BYTES = 1.6 * GIB
"""measured, per pair at 512 px: a step of LoRA rank 32, targets attention+ff, with gradient checkpointing"""
TRAINED_BYTES = 0.3 * GIB
"""LoRA of that rank and the new layers in float32 with gradient, AdamW's two moments and the moving average"""
REFERENCE_PX = 512
"""side at which they were measured; activations grow with the number of pixels, as attention is fused"""
BYTES_PER_WEIGHT = {"cpu": 4, "mps": 4, "cuda": 2}
"""float32; on CUDA the frozen weights are held in half precision"""
BASIS = (
    "memory of the bases is estimated: their weights, "
    f"{RUNTIME_BYTES / GIB:.1f} GiB for the libraries, and for each picture of {REFERENCE_PX} px "
    f"{DRAW_BYTES / GIB:.2f} GiB to draw, {TRAIN_BYTES / GIB:.1f} GiB to train (LoRA, gradient checkpointing); "
    "measured at full size with random weights on a CPU, never on a GPU"
)


def fixed_bytes(base: KnownBase, *, bytes_per_weight: int) -> float:
    """Memory that a loaded base takes whatever is drawn: the libraries and all weights."""
    return RUNTIME_BYTES + bytes_per_weight * (base.unet_parameters + base.other_parameters)


def needed_bytes(base: KnownBase, count: int, *, px: int, train: bool, bytes_per_weight: int) -> float:
    """Memory to draw ``count`` pictures of ``px`` at once, or to train on as many pairs."""
    each = (TRAIN_BYTES if train else DRAW_BYTES) * (px / REFERENCE_PX) ** 2
    fixed = fixed_bytes(base, bytes_per_weight=bytes_per_weight) + (TRAINED_BYTES if train else 0)
    return fixed + count * each


def largest_batch(base: KnownBase, free_bytes: float, *, px: int, train: bool, bytes_per_weight: int) -> int:
    """How many pictures (or pairs to train on) of ``px`` fit at once into ``free_bytes``; 0 if not even one does."""
    none = needed_bytes(base, 0, px=px, train=train, bytes_per_weight=bytes_per_weight)
    one = needed_bytes(base, 1, px=px, train=train, bytes_per_weight=bytes_per_weight)
    return max(int((free_bytes - none) // (one - none)), 0)


def base_findings() -> list[Finding]:
    """One finding on what the estimates rest on, and one for each base with a name that the hub has."""
    device = available_devices()[0]
    free = free_memory(device)
    known = [base for base in KNOWN_BASES.values() if base.candidates]
    return [Finding("bases", "ok", BASIS), *(_finding(base, device, free) for base in known)]


def _finding(base: KnownBase, device: str, free: int) -> Finding:
    width = BYTES_PER_WEIGHT[device.partition(":")[0]]
    fits, remedies = [], []
    for train in (False, True):
        doing = "trains" if train else "draws"
        batches = {
            px: largest_batch(base, free, px=px, train=train, bytes_per_weight=width)
            for px in (base.native_px, base.native_px // 2)
        }
        fits.append(f"{doing} " + ", ".join(f"{px} px x {count}" for px, count in batches.items() if count))
        if not any(batches.values()):
            fits[-1] = f"{doing} nothing"
        if not batches[base.native_px]:
            needed = needed_bytes(base, 1, px=base.native_px, train=train, bytes_per_weight=width)
            remedies.append(f"have {needed / GIB:.1f} GiB free to {doing.removesuffix('s')} at {base.native_px} px")
    snapshot = first_cached(base.candidates)
    if snapshot:
        place = f"on disk: {snapshot.repo}@{snapshot.revision[:7]}"
    else:
        needed = 4 * (base.unet_parameters + base.other_parameters)
        place = f"not on disk: {needed / GB:.1f} GB"
        remedies.append(
            f"the first command with --base {base.name} downloads it"
            if free_cache_bytes() > needed
            else f"make {needed / GB:.1f} GB of room for the hub's cache, or set HF_HOME to a folder on another disk"
        )
    found = f"{base.license}, {base.prediction_type}; {place}; {free / GIB:.1f} GiB free ({device}): {'; '.join(fits)}"
    return Finding(f"base {base.name}", "limited" if remedies else "ok", found, "; ".join(remedies))
