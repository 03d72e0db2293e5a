"""One training step of every stage on a GPU that need not be there: tensors of it that have shapes but no numbers.

Finds what only a GPU would: tensors on two devices, two precisions that do not meet, and a number that is asked for in
the middle of a step. Says "step of ... passes" for each, and ends with 1 if one does not. With --real, on a GPU that is
there, and with the speed of each.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import tomllib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import micro_model
from micro_autoencoder import DECODER_DEPTHS, DECODER_WIDTHS, DecoderTraining
from micro_data import device_views
from micro_device import Processes, autocast, prepare_device
from micro_latents import CAPTION_VARIANTS, WHOLE_VIEWS, Batches, device_latents, whole_views
from micro_nets import SIZE_PX, make_unet
from micro_samples import denoise, to_pictures
from skindualgen.codec import CODE_CHANNELS, SignedDistanceCodec
from skindualgen.config import LossSettings
from skindualgen.judges.features import ImageNetFeatures
from skindualgen.model.adapter import attach_adapter
from skindualgen.model.autoencoder import PatchAutoencoder
from skindualgen.model.joint_unet import widen_unet
from skindualgen.training.objective import Noise, joint_loss

GPU, CHANNELS, PHOTOGRAPHS, SIDE_PX = "cuda", 16, 24, 160
TOKENS, WIDTH = 77, 128
FAKE_BATCHES = {"base": 16, "decoder": 16, "adapter": 16}
REAL_BATCHES = {"base": 512, "decoder": 64, "adapter": 256}
TIMED_STEPS = 30


def onto_gpu(module: nn.Module, frozen: torch.dtype | None = None) -> nn.Module:
    """Replace parameters and buffers by fake ones of the GPU; ``frozen`` is the precision of those not trained."""
    for part in module.modules():
        for store in (part._parameters, part._buffers):
            for name, old in store.items():
                if old is None or (isinstance(old, FakeTensor) and old.device.type == GPU):
                    continue
                dtype = frozen if frozen and not old.requires_grad and old.is_floating_point() else old.dtype
                new = torch.empty_strided(old.shape, old.stride(), dtype=dtype, device=GPU)
                store[name] = nn.Parameter(new, old.requires_grad) if isinstance(old, nn.Parameter) else new
    return module


def moved(module: nn.Module, *args: Any, **options: Any) -> nn.Module:
    """What ``nn.Module.to`` would do; the own one cannot exchange fake parameters."""
    return onto_gpu(module) if args and str(args[0]).startswith(GPU) else module


def no_gradients(loss: Tensor, *_: object, **__: object) -> None:
    """In place of ``backward``, whose engine needs a GPU; gradients are put in by hand."""
    if loss.device.type != GPU or loss.ndim or not loss.requires_grad:
        raise AssertionError(f"loss {loss}")


def give_gradients(module: nn.Module) -> None:
    """Fill in what a backward pass leaves."""
    for parameter in module.parameters():
        parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None


def timed(step: Callable[[], object], batch: int) -> None:
    """Run a step often enough to say how fast it is."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    start = time.monotonic()
    for _ in range(TIMED_STEPS):
        step()
    torch.cuda.synchronize()
    seconds = (time.monotonic() - start) / TIMED_STEPS
    gigabytes = torch.cuda.max_memory_allocated() / 1e9
    print(f"{seconds * 1e3:.1f} ms a step, {batch / seconds:.0f} samples a second, {gigabytes:.1f} GB", flush=True)


def base_step(batch: int, real: bool) -> None:
    base = micro_model.Base(CHANNELS, GPU, Processes("cpu"))
    batches = object.__new__(Batches)
    batches.latents = torch.zeros(WHOLE_VIEWS + 8, PHOTOGRAPHS, CHANNELS, 16, 16, dtype=torch.half, device=GPU)
    batches.ids = torch.zeros(2, PHOTOGRAPHS, CAPTION_VARIANTS + 1, TOKENS, dtype=torch.long, device=GPU)
    batches.variants, batches.by_view = CAPTION_VARIANTS, False
    batches.cumulative = torch.linspace(1 / PHOTOGRAPHS, 1, PHOTOGRAPHS, dtype=torch.float64, device=GPU)
    if real:
        timed(lambda: base.step(*batches.draw_on_device(batch), 1e-3), batch)
        base.compile(batch, CHANNELS)
        timed(lambda: base.step(*batches.draw_on_device(batch), 1e-3), batch)
    else:
        backward = base.backward

        def passes(*args: Tensor) -> Tensor:
            loss = backward(*args)
            give_gradients(base.models)
            return loss

        base.backward = passes  # type: ignore[method-assign]
        for _ in range(2):
            base.step(*batches.draw_on_device(batch), 1e-3)
    x0, ids = batches.draw_on_device(batch)
    with torch.no_grad():
        base.loss(base.averages["short"], x0, ids, torch.randn_like(x0), torch.zeros(batch, dtype=int, device=GPU))
        if real:
            text = base.averages["short"]["text_encoder"](ids).last_hidden_state
            unet, led = base.averages["short"]["unet"], {"guidance": 2.0, "guide_text": text}
            latents = denoise(unet, base.scheduler.config, torch.randn_like(x0), text, **led)
            pictures = to_pictures(autoencoder().to(GPU).decode(latents[:8]).sample)
            print("features", ImageNetFeatures(device=GPU)(pictures).shape)
    base.note(0.5)
    base.go_back()


def autoencoder() -> PatchAutoencoder:
    return PatchAutoencoder(
        latent_channels=CHANNELS, decoder_widths=DECODER_WIDTHS, decoder_depths=DECODER_DEPTHS, scale_exponent=0.25
    )


def decoder_step(batch: int, real: bool) -> None:
    photographs = torch.zeros(PHOTOGRAPHS, SIDE_PX, SIDE_PX, 3, dtype=torch.uint8, device=GPU)
    generator = np.random.default_rng(0)
    training = DecoderTraining(autoencoder(), GPU, whole_views(photographs), made=False)
    training.channels_last()

    def learn() -> None:
        training.learn(device_views(photographs, batch, SIZE_PX, generator), None, 1e-3)

    if real:
        training.autoencoder.fit_analysis(torch.rand(64, 3, SIZE_PX, SIZE_PX, device=GPU) * 2 - 1)
        timed(learn, batch)
    else:
        step = training.optimizer.step
        training.optimizer.step = lambda: (give_gradients(training.autoencoder.decoder), step())  # type: ignore
        learn()
    with torch.no_grad():
        device_latents(training.ema, photographs, 2)


def adapter_step(batch: int, real: bool) -> None:
    unet = make_unet(CHANNELS).requires_grad_(False)
    head = tomllib.loads(Path(__file__).with_name("micro_adapter.toml").read_text())["mask_head"]
    joint = widen_unet(unet.bfloat16() if real else unet, share=True, head=head)
    model = attach_adapter(joint, rank=32, alpha=32, targets="all")
    model = model.to(GPU) if real else onto_gpu(model, torch.bfloat16)
    latents = torch.zeros(batch, CHANNELS, 16, 16, device=GPU)
    codes = torch.zeros(batch, CODE_CHANNELS, 16, 16, device=GPU)
    t = torch.ones(batch, dtype=torch.long, device=GPU)
    noise, text = Noise(latents, codes, t, t), torch.zeros(batch, TOKENS, WIDTH, device=GPU)

    def loss() -> None:
        with autocast(GPU):
            value, _ = joint_loss(
                model,
                latents,
                codes,
                t > 0,
                text,
                noise,
                prediction_type="v_prediction",
                alphas_cumprod=torch.linspace(1, 0, 1000, device=GPU),
                settings=LossSettings(),
                codec=SignedDistanceCodec(),
            )
        value.backward()

    if real:
        timed(loss, batch)
    else:
        loss()


STEPS: dict[str, Callable[[int, bool], None]] = {"base": base_step, "decoder": decoder_step, "adapter": adapter_step}


def make(name: str, real: bool) -> int:
    """Make one step; returns the exit code."""
    try:
        STEPS[name]((REAL_BATCHES if real else FAKE_BATCHES)[name], real)
    except Exception:
        traceback.print_exc()
        return 1
    print(f"step of {name} passes", flush=True)
    return 0


def make_apart(name: str) -> int:
    """Make one fake step in a process of its own, as fake parameters leave an unsound interpreter behind."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = make(name, False)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true", help="on this machine's GPU")
    if parser.parse_args().real:
        prepare_device(argparse.Namespace(threads=1, device=GPU))
        return max([make(name, True) for name in STEPS])
    scheduler = micro_model.make_scheduler()  # its numbers are lists: made of real tensors
    micro_model.make_scheduler = lambda: scheduler
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False  # else autocast is off where there is no GPU
    torch.cuda.is_bf16_supported = lambda *_, **__: True  # type: ignore
    with FakeTensorMode(allow_non_fake_inputs=True):
        nn.Module.to, Tensor.backward = moved, no_gradients  # type: ignore
        square = torch.zeros(8, 8, device=GPU)
        with autocast(GPU):
            if (square @ square).dtype != torch.bfloat16:
                raise SystemExit("autocast does nothing: the steps would prove nothing about precisions")
        return max([abs(make_apart(name)) for name in STEPS])


if __name__ == "__main__":
    sys.exit(main())
