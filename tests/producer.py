"""A factory of small pictures for the tests of production: everything real but the model, which needs no torch.

As a command: ``python producer.py OUT KEYWORDS``, the keywords being those of `run` as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skindualgen.contracts import PairRecord
from skindualgen.planning.requests import PairRequest, requests_from_prompts
from skindualgen.production.chunk import AREA_SCORE, ChunkSettings, Decode
from skindualgen.production.finish import Outcome
from skindualgen.production.run import Engine, InProcess, Layout, produce
from skindualgen.production.source import RequestList

SIDE_PX = 24
BATCH = 4
SMALL, DARK = "lesion_area", "light"
"""scores"""


@dataclass
class DiscSampler:
    """A disc on noise, both functions of the request; the noise hardly compresses, so files have a size."""

    seconds: float = 0.0

    def sample(self, requests: Sequence[PairRequest]) -> Decode:
        time.sleep(self.seconds)
        y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
        images, masks = [], []
        for request in requests:
            prompt = int.from_bytes(hashlib.sha256(request.prompt.encode()).digest()[:4], "little")
            random = np.random.default_rng([request.seed, prompt])
            lesion = np.hypot(x - SIDE_PX / 2, y - SIDE_PX / 2) < random.uniform(0, SIDE_PX / 2)
            light = random.integers(60, 250)
            skin = random.integers(0, light, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
            images.append(Image.fromarray(np.where(lesion[..., None], skin // 2, skin)))
            masks.append(Image.fromarray(lesion.astype(np.uint8) * 255))
        return lambda: (images, masks)


@dataclass(frozen=True)
class Judged:
    """A verdict."""

    scores: dict[str, float]
    reasons: tuple[str, ...]


class PictureGate:
    """Refuses small lesions and dark pictures."""

    def judge(
        self, images: Sequence[Image.Image], masks: Sequence[Image.Image], records: Sequence[PairRecord]
    ) -> list[Judged]:
        verdicts = []
        for image, record in zip(images, records, strict=True):
            light = round(float(np.asarray(image).mean()), 3)
            area = (record.scores or {})[AREA_SCORE]
            reasons = (f"{SMALL} {area} < 0.1",) * (area < 0.1) + (f"{DARK} {light} < 50",) * (light < 50)
            verdicts.append(Judged({DARK: light}, reasons))
        return verdicts


def factory(worker: int) -> tuple[DiscSampler, PictureGate]:
    """Sampler and gate of a worker."""
    return DiscSampler(), PictureGate()


def slow_factory(worker: int) -> tuple[DiscSampler, PictureGate]:
    """As `factory`; so slow that a worker can be killed at work."""
    return DiscSampler(0.1), PictureGate()


def engine_of(name: str, seconds: float, gate: bool) -> Engine:
    """Here, two processes, or two actors of a local Ray."""
    if name == "here":
        return InProcess(DiscSampler(seconds), PictureGate() if gate else None)
    make = slow_factory if seconds else factory
    if name == "processes":
        from skindualgen.production.workers import WorkerProcesses

        return WorkerProcesses(make, 2)
    from skindualgen.production.cluster import RayActors

    return RayActors(make, 2)


def requests_of(pairs: int) -> RequestList:
    """Two prompts in turn, one of them with a separator that ends no line."""
    return RequestList(requests_from_prompts([("a nevus", {}), ("a melanoma\u2028on the back", {})], pairs, 0))


def run(
    out: Path,
    *,
    pairs: int = 5 * 4 * BATCH + 3,
    engine: str = "here",
    seconds: float = 0.0,
    gate: bool = True,
    layout: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Produce a folder; six chunks, the last one of three pairs, if not told otherwise."""
    source = requests_of(pairs)
    chosen = ChunkSettings(**{"steps": 2, "guidance": 2.0, "batch_size": BATCH, "attempts": 3, **(settings or {})})
    return produce(
        source,
        out,
        engine_of(engine, seconds, gate),
        chosen,
        described={"requests_sha256": source.sha256, "gate": gate},
        layout=Layout(**(layout or {})),
        report=report,
    )


def contents(out: Path) -> dict[str, str]:
    """Hash of every file but the record of the run, which holds a date, and the factory's own; of that, the records."""
    left_out = {"dataset.json", "owner.json", "lock"}
    files = [path for path in out.rglob("*") if path.is_file() and path.name not in left_out]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


if __name__ == "__main__":
    if "full_disk_after" in (keywords := json.loads(sys.argv[2])):
        import resource

        limit = keywords.pop("full_disk_after")

        def fill(done: int, total: int) -> None:
            if done >= limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))

        keywords["report"] = fill
    else:
        keywords["report"] = lambda done, total: print(done, os.getpid(), flush=True)
    print(run(Path(sys.argv[1]), **keywords))
