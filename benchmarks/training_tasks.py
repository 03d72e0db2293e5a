"""What benchmarks/training.py measures, one function a measurement; each is run in a process of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from image_lora import ImageLora
from torch import Tensor

from skindualgen.codec import DEFAULT_CODEC
from skindualgen.config import TrainConfig
from skindualgen.data.pairs import load_pair, read_pairs
from skindualgen.data.phantom import write_phantom_folder
from skindualgen.data.prepare import prepare
from skindualgen.data.prepare_options import PrepareOptions
from skindualgen.model.bases import Base, load_base
from skindualgen.model.joint_unet import NEW_MODULES
from skindualgen.training.batches import Batch, Batches
from skindualgen.training.cache import EncodeOptions, PairCache, open_cache
from skindualgen.training.checkpoint import STATE_FILE, load_newest, save_checkpoint
from skindualgen.training.run_folder import CHECKPOINT_DIR
from skindualgen.training.trainer import Trainer

IMAGE, ENCODING, CACHED = "image only", "joint, encoding in the step", "joint, from the cache"
MEMORY_STEPS = 2
"""the second holds activations and AdamW's moments together"""


@dataclass(frozen=True)
class Setup:
    """What is the same for all that is compared.

    Args:
        base: as ``load_base`` takes it.
        work: folder of data, cache and checkpoints.
        size: side in px.
        rank: of LoRA; alpha is the same.
        batch: pairs, or photographs, in a step.
        targets: layers with LoRA, a key of ``LORA_TARGETS``.
        pairs: phantoms to train on.
        repeats: timed steps of each kind, after one to warm up.
        gradient_checkpointing: compute blocks again in the backward pass.
        threads: of torch.
        seed: of everything random.
    """

    base: str
    work: str
    size: int
    rank: int
    batch: int
    targets: str
    pairs: int
    repeats: int
    gradient_checkpointing: bool
    threads: int
    seed: int

    @property
    def data(self) -> Path:
        """Folder of the pairs; another for others, as a work folder may serve several setups."""
        return Path(self.work) / f"pairs-{self.size}-{self.pairs}-{self.seed}"

    def config(self) -> TrainConfig:
        """As ``skindualgen train`` would run it: everything not named here is its default."""
        work = Path(self.work)
        return TrainConfig(
            data=self.data,
            cache=work / "cache",
            out=work / f"speed-{self.targets}",
            base=self.base,
            resolution=self.size,
            train_batch_size=self.batch,
            lora={"rank": self.rank, "alpha": self.rank, "targets": self.targets},
            gradient_checkpointing=self.gradient_checkpointing,
            mixed_precision="fp32",
            views=1,
            min_zoom=1.0,
            seed=self.seed,
        )


def write_data(setup: Setup) -> None:
    """Write phantoms as ``skindualgen prepare`` leaves them, all of them to train on."""
    phantoms = setup.data.with_name(f"{setup.data.name}-source")
    if not phantoms.is_dir():
        write_phantom_folder(phantoms, setup.pairs, seed=setup.seed, size=setup.size)
    prepare(phantoms, setup.data, PrepareOptions(size=setup.size, split="100/0/0", seed=setup.seed))


def cache_of(setup: Setup, base: Base) -> PairCache:
    """The cache of the pairs, encoded where it is not there yet."""
    config = setup.config()
    options = EncodeOptions(setup.size, config.views, config.min_zoom, seed=setup.seed)
    return open_cache(config.cache, config.data, read_pairs(config.data, "train"), base, options)


class Steps:
    """The steps to compare, by name, on one base in memory; only the named kinds are built.

    Args:
        setup: what they share.
        kinds: of ``IMAGE``, ``ENCODING``, ``CACHED``.
    """

    def __init__(self, setup: Setup, kinds: tuple[str, ...]) -> None:
        self.setup, config = setup, setup.config()
        base = load_base(setup.base)
        unet = base.unet  # the joint UNet is a widened copy, so the baseline can adapt this one
        accelerator = Accelerator(mixed_precision="no")
        records = read_pairs(config.data, "train")
        self.pictures = {record.isic_id: load_pair(config.data, record, setup.size) for record in records}
        self.trained: dict[str, int] = {}
        self.step: dict[str, Callable[[], Any]] = {}
        if {ENCODING, CACHED} & set(kinds):
            self.trainer = Trainer(config, base, accelerator)
            batches = Batches(cache_of(setup, base), config, len(base.scheduler.alphas_cumprod))
            sources = {CACHED: iter(batches.loader(0)), ENCODING: self._encoded(iter(batches.loader(0)), base)}
            for kind in (ENCODING, CACHED):
                if kind in kinds:
                    self.step[kind] = lambda source=sources[kind]: self.trainer.train_step(source)
                    self.trained[kind] = sum(p.numel() for p in self.trainer.parameters)
        if IMAGE in kinds:
            image = ImageLora(
                unet,
                base,
                accelerator,
                rank=setup.rank,
                targets=setup.targets,
                gradient_checkpointing=setup.gradient_checkpointing,
            )
            photographs = self._photographs(records, base)
            self.step[IMAGE] = lambda: image.step(*next(photographs))
            self.trained[IMAGE] = sum(p.numel() for p in image.parameters)

    def new_layer_parameters(self) -> int:
        """How many of the joint model's trained parameters are not LoRA."""
        named = self.trainer.model.named_parameters()
        return sum(p.numel() for name, p in named if p.requires_grad and any(new in name for new in NEW_MODULES))

    def _photographs(self, records: list[Any], base: Base) -> Iterator[tuple[Tensor, Tensor]]:
        """Photographs [b, 3, h, w] and caption tokens [b, 77], over and over in the order of the records."""
        tokens = base.tokenizer(
            [record.prompt for record in records],
            padding="max_length",
            max_length=base.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        places = cycle(range(len(records)))
        while True:
            chosen = [next(places) for _ in range(self.setup.batch)]
            yield torch.stack([self.pictures[records[i].isic_id][0] for i in chosen]), tokens[chosen]

    def _encoded(self, batches: Iterator[Batch], base: Base) -> Iterator[Batch]:
        """The same batches, with all that the cache holds made anew: latents, mask codes, text states."""
        for batch in batches:
            yield self.encode(batch, base)

    @torch.no_grad()
    def encode(self, batch: Batch, base: Base) -> Batch:
        """What a training without caches would do with the pairs of a batch."""
        images, masks = (torch.stack(part) for part in zip(*(self.pictures[i] for i in batch.ids), strict=True))
        latents = base.vae.encode(images).latent_dist.mode() * base.vae.config.scaling_factor  # [b, c, h/8, w/8]
        return replace(batch, latents=latents, codes=DEFAULT_CODEC.encode(masks), text=base.embed(batch.prompts))


def time_steps(setup: Setup) -> dict[str, Any]:
    """Seconds of each kind of step, in turns, every other round backwards; the first round is not counted."""
    torch.set_num_threads(setup.threads)
    steps = Steps(setup, (IMAGE, ENCODING, CACHED))
    if steps.trained[IMAGE] + steps.new_layer_parameters() != steps.trained[CACHED]:
        raise RuntimeError(f"LoRA of unlike size is compared: {steps.trained}")
    seconds: dict[str, list[float]] = {name: [] for name in (IMAGE, ENCODING, CACHED)}
    for index in range(setup.repeats + 1):
        for name in list(seconds)[:: 1 if index % 2 == 0 else -1]:
            start = time.perf_counter()
            steps.step[name]()
            if index:
                seconds[name].append(time.perf_counter() - start)
    return {"seconds": seconds, "trained": steps.trained, "threads": torch.get_num_threads()}


def take_steps(setup: Setup, kind: str) -> dict[str, Any]:
    """A few steps of one kind, for the memory that the process takes; those from the cache leave a checkpoint."""
    torch.set_num_threads(setup.threads)
    steps = Steps(setup, (kind,))
    for _ in range(MEMORY_STEPS):
        steps.step[kind]()
    if kind != CACHED:
        return {}
    trainer, checkpoints = steps.trainer, setup.config().out / CHECKPOINT_DIR
    shutil.rmtree(checkpoints, ignore_errors=True)  # of another rank or base, perhaps
    folder = save_checkpoint(checkpoints, trainer.step, trainer.state(), keep=1)
    saved = torch.load(folder / STATE_FILE, weights_only=True)
    return {
        "checkpoint_bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "tensor_bytes": sum(t.numel() * t.element_size() for t in tensors_of(saved)),
    }


def fill_cache(setup: Setup) -> dict[str, Any]:
    """Encode the pairs, once for all runs."""
    torch.set_num_threads(setup.threads)
    write_data(setup)
    base = load_base(setup.base)
    start = time.perf_counter()
    cache_of(setup, base)
    return {"seconds": time.perf_counter() - start}


def resume(setup: Setup) -> dict[str, Any]:
    """Seconds that a stopped run needs until it can go on: those of any start, and those of resuming alone."""
    torch.set_num_threads(setup.threads)
    config = setup.config()
    times = [time.perf_counter()]
    base = load_base(setup.base)
    trainer = Trainer(config, base, Accelerator(mixed_precision="no"))
    times.append(time.perf_counter())
    state = load_newest(config.out / CHECKPOINT_DIR)
    if state is None:
        raise RuntimeError("there is no checkpoint to resume from")
    trainer.load_state(state)
    times.append(time.perf_counter())
    cache = cache_of(setup, base)
    times.append(time.perf_counter())
    start, load, opened = (later - earlier for earlier, later in pairwise(times))
    size = sum(path.stat().st_size for path in cache.folder.iterdir())
    return {"start": start, "load_checkpoint": load, "open_cache": opened, "cache_bytes": size, "step": trainer.step}


def tensors_of(state: Any) -> Iterator[Tensor]:
    """Every tensor of nested dicts, lists and tuples."""
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from tensors_of(value)


TASKS: dict[str, Callable[[Setup], dict[str, Any]]] = {
    "cache": fill_cache,
    "time": time_steps,
    "resume": resume,
    **{kind: lambda setup, kind=kind: take_steps(setup, kind) for kind in (IMAGE, ENCODING, CACHED)},
}
