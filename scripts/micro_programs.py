"""Programs that train_micro.py runs, with the time that each may take, and what the adapter's can do in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from skindualgen.model.adapter import WEIGHTS_FILE

ADAPTER_STEPS, GPU_THREADS = 1200, 8
HEAD_STEPS = 1600
HEAD_ALONE = {"mask_head.alone": "true", "loss.base": 0}
"""Of the first part of an adapter's training, on a CPU: a step of the head alone takes a third there. It learns to read
masks, and what a given one changes in the picture."""
ADAPTER_START_SECONDS, ADAPTER_STEP_SECONDS, ADAPTER_VALIDATIONS = 40, 0.06, 3
"""on a GPU, guessed high: what is not done by the end is lost, but for the last validated weights"""
ADAPTER_GPU = {
    "train_batch_size": 256,
    "learning_rate": 2e-3,
    "lr_warmup_steps": 40,
    "views": 8,
    "channels_last": "true",
}
WORKERS, WORKERS_BYTES = 12, 2**32
"""processes that encode pairs, where /dev/shm has room for what they hand over"""
FAST_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "67108864"}
"""glibc keeps freed memory: else half of a step on a CPU is spent on page faults of new tensors"""
ENVIRONMENT = FAST_MALLOC | dict(os.environ)


def run(*command: str | Path) -> None:
    """Run a stage; a stage that fails ends everything."""
    print("+", *command, flush=True)
    subprocess.run([str(part) for part in command], check=True, env=ENVIRONMENT)


def try_to_run(*command: str | Path, seconds: float) -> bool:
    """Run a stage that is ended after its time; whether it has done what it should."""
    print("+", *command, flush=True)
    start = time.monotonic()
    try:
        code: int | str = subprocess.run([str(p) for p in command], env=ENVIRONMENT, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        code = "overran and was ended"
    print(f"= {code} after {time.monotonic() - start:.0f} of {seconds:.0f} s", flush=True)
    return code == 0


def adapter_settings(seconds: float | None, steps: int | None, *, gpu: bool) -> dict[str, object]:
    """Settings of the adapter that differ from micro_adapter.toml, for a training of so many seconds.

    A GPU gets batches that fill it, and as many steps as fit.
    """
    room = (seconds or 0) - ADAPTER_START_SECONDS
    steps = steps or (ADAPTER_STEPS if seconds is None else max(100, int(room / ADAPTER_STEP_SECONDS)))
    if not gpu:
        return {"max_train_steps": steps}
    shared = Path("/dev/shm")
    workers = WORKERS if shared.is_dir() and shutil.disk_usage(shared).free > WORKERS_BYTES else 0
    every = max(1, steps // ADAPTER_VALIDATIONS)
    often = {"validation_steps": every, "checkpointing_steps": every}
    return {"max_train_steps": steps, "dataloader_num_workers": workers} | often | ADAPTER_GPU


def rescue_adapter(run_folder: Path) -> None:
    """Take the best validated weights of a run that was ended, as its adapter."""
    if not (run_folder / "adapter" / WEIGHTS_FILE).exists() and (run_folder / "best" / WEIGHTS_FILE).exists():
        shutil.copytree(run_folder / "best", run_folder / "adapter", dirs_exist_ok=True)
        print("adapter: the best validated weights of the run that was ended", flush=True)
