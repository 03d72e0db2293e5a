"""Peak memory of production for 10,000 and for 100,000 pairs: the ratio should be near 1.

    python benchmarks/production_memory.py [--small 10000] [--large 100000] [--out docs/results/production_memory.md]

The pairs are 8 x 8 px noise of a stub that stands in for the model, whose memory does not depend on their number;
everything else is real: the plan is read as a stream, pairs are encoded, written, recorded, and told of in
``metadata.jsonl``. Each run is a process of its own, so that its peak resident set (ru_maxrss) is its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measured import GIB, MAXRSS_BYTES, heading, machine, table
from PIL import Image

from skindualgen.planning.requests import PairRequest
from skindualgen.production.chunk import Decode

SIDE_PX = 8
BATCH = 64
KINDS = {"files": None, "WebDataset shards": "webdataset"}
FLAT = 1.1
"""ratio of the peaks up to which memory is called flat"""
MIB = GIB / 1024


class NoiseSampler:
    """Stands in for the model: noise, a function of each request's seed."""

    def sample(self, requests: Sequence[PairRequest]) -> Decode:
        """Draw images and masks of the requests."""
        images, masks = [], []
        for request in requests:
            noise = np.random.default_rng(request.seed).integers(0, 256, (SIDE_PX, SIDE_PX, 4), dtype=np.uint8)
            images.append(Image.fromarray(noise[..., :3]))
            masks.append(Image.fromarray((noise[..., 3] > 127).astype(np.uint8) * 255))
        return lambda: (images, masks)


def write_rows(path: Path, count: int) -> None:
    """Write a plan of ``count`` rows of one pair each."""
    diagnoses = ("nevus", "melanoma", "seborrheic keratosis")
    with path.open("w", encoding="utf-8") as file:
        file.write("prompt,diagnosis,count,seed_first\n")
        for index in range(count):
            diagnosis = diagnoses[index % len(diagnoses)]
            file.write(f"a dermoscopic image of a {diagnosis},{diagnosis},1,{index}\n")


def run(plan_path: Path, out: Path, shards: str) -> None:
    """Produce and print seconds and peak in MiB as JSON; called in a process of its own."""
    import resource

    from skindualgen.planning.plan import read_plan
    from skindualgen.production.chunk import ChunkSettings
    from skindualgen.production.run import InProcess, Layout, produce

    start = time.perf_counter()
    plan = read_plan(plan_path)
    layout = Layout(shards=shards or None)  # type: ignore[arg-type]
    settings = ChunkSettings(steps=1, guidance=1.0, batch_size=BATCH)
    outcome = produce(plan, out, InProcess(NoiseSampler()), settings, described={}, layout=layout)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES / MIB
    print(json.dumps({"pairs": outcome.pairs, "seconds": time.perf_counter() - start, "peak_mib": peak}))


def main() -> None:
    """Measure both sizes, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=Path("docs/results/production_memory.md"))
    parser.add_argument("--run", nargs=3, metavar=("PLAN", "OUT", "SHARDS"), help="one run, as main starts it")
    arguments = parser.parse_args()
    if arguments.run:
        run(Path(arguments.run[0]), Path(arguments.run[1]), arguments.run[2])
        return
    of, rows, ratios = machine(), [], {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, shards in KINDS.items():
            peaks = []
            for count in (arguments.small, arguments.large):
                plan, out = Path(folder) / f"{count}.csv", Path(folder) / f"{kind}-{count}"
                write_rows(plan, count)
                line = [sys.executable, __file__, "--run", str(plan), str(out), shards or ""]
                done = json.loads(subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True).stdout)
                print(kind, done)
                assert done["pairs"] == count
                peaks.append(done["peak_mib"])
                rows.append([kind, f"{count:,}", f"{done['seconds']:.0f}", f"{done['peak_mib']:.0f}"])
            ratios[kind] = peaks[1] / peaks[0]
    command = f"python benchmarks/production_memory.py --small {arguments.small} --large {arguments.large}"
    lines = heading("Memory of production", command, of)
    lines += [
        f"Plans of one row a pair, {SIDE_PX} x {SIDE_PX} px noise of a stub in place of the model, batches of {BATCH}; "
        "one process, whose peak resident memory is shown.",
        "",
        *table(["written as", "pairs", "seconds", "peak MiB"], rows),
        "",
        "; ".join(f"{kind}: x {ratio:.3f}" for kind, ratio in ratios.items())
        + f" for {arguments.large / arguments.small:g} times the pairs: "
        + ("flat." if max(ratios.values()) <= FLAT else "**not flat**."),
    ]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
