"""The show's short training: the ordinary ``train``, from the show's own adapter, on pairs it has not seen."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from skindualgen.config import TrainConfig
from skindualgen.demo.results import Training
from skindualgen.model.adapter import adapter_folder, read_header
from skindualgen.training.loop import train
from skindualgen.training.progress import METRICS_FILE, read_rows

BATCH_SIZE = 8
LEARNING_RATE = 3e-4
WARMUP_STEPS = 10
VIEWS = 4
"""Cached augmentations of each pair: a short run sees each pair only a few times."""


def train_briefly(
    data: Path, out: Path, *, adapter: str, pairs: int, steps: int, seed: int, console: Console
) -> Training:
    """Train an adapter further on the train split of a data set folder, and read back its loss.

    Args:
        data: data set folder.
        out: run folder; must be new.
        adapter: "builtin", a run folder or an adapter folder to start from.
        pairs: number of pairs in the train split, for the report.

    Raises:
        KeyboardInterrupt: the training was interrupted; it has left a checkpoint in ``out``.
    """
    start_folder = adapter_folder(adapter)
    config = TrainConfig(
        data=data,
        out=out,
        base=read_header(start_folder)["recipe"]["base"],
        init_adapter=str(start_folder),
        max_train_steps=steps,
        train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        lr_warmup_steps=min(WARMUP_STEPS, steps),
        views=VIEWS,
        validation_steps=steps,
        checkpointing_steps=steps,
        seed=seed,
    )
    start = time.perf_counter()
    run = train(config, console=console)
    rows = read_rows(run / METRICS_FILE)
    return Training(
        pairs=pairs,
        seconds=time.perf_counter() - start,
        steps=[row["step"] for row in rows],
        losses=[row["loss"] for row in rows],
    )
