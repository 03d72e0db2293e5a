"""Peak memory of `skindualgen prepare` on 1,000 and on 10,000 pictures: the ratio should be near 1.

    python benchmarks/prepare_memory.py [--small 1000] [--large 10000] [--workers 2]

Each run is a process of its own, so that its peak resident set (ru_maxrss) is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIDE_PX = 64
KIB = 1024 if sys.platform != "darwin" else 1024 * 1024  # ru_maxrss is in KiB on Linux, in bytes on macOS


def write_source(root: Path, count: int) -> None:
    """Write ``count`` pairs of a lesion-like spot on noise, each of its own, and their table."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    lines = ["image_id,diagnosis,lesion_id,age,sex"]
    for index in range(count):
        generator = np.random.default_rng(index)
        centre, radius = generator.uniform(24, 40, 2), generator.uniform(8, 20)
        lesion = np.hypot(x - centre[0], y - centre[1]) < radius
        skin = generator.integers(170, 220, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
        Image.fromarray(np.where(lesion[..., None], skin // 2, skin)).save(root / "images" / f"l{index:06d}.png")
        Image.fromarray(np.where(lesion, np.uint8(255), np.uint8(0))).save(root / "masks" / f"l{index:06d}.png")
        lines.append(f"l{index:06d},{('nevus', 'melanoma')[index % 5 == 0]},L{index // 2},{index % 90},female")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")


def run(source: Path, out: Path, workers: int) -> None:
    """Prepare and print seconds and peaks in MiB as JSON; called in a process of its own."""
    from skindualgen.data.prepare import prepare
    from skindualgen.data.prepare_options import PrepareOptions

    start = time.perf_counter()
    summary = prepare(source, out, PrepareOptions(size=SIDE_PX), workers=workers)
    prepared = time.perf_counter()
    main_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB
    from skindualgen.data.audit import audit

    findings = audit(out)
    print(
        json.dumps(
            {
                "pictures": summary.counts["records"],
                "seconds": round(prepared - start, 1),
                "main_process_mib": round(main_peak, 1),
                "largest_worker_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / KIB, 1),
                "audit_seconds": round(time.perf_counter() - prepared, 1),
                "main_process_with_audit_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB, 1),
                "near_duplicates": len(findings.near),
            }
        )
    )


def main() -> None:
    """Measure both sizes and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=1_000)
    parser.add_argument("--large", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--run", nargs=2, type=Path, metavar=("SRC", "OUT"), help="one run, as main starts it")
    arguments = parser.parse_args()
    if arguments.run:
        run(*arguments.run, arguments.workers)
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for count in (arguments.small, arguments.large):
            source, out = Path(folder) / f"src{count}", Path(folder) / f"out{count}"
            write_source(source, count)
            line = [sys.executable, __file__, "--workers", str(arguments.workers), "--run", str(source), str(out)]
            done = subprocess.run(line, check=True, stdout=subprocess.PIPE, text=True)
            results.append(json.loads(done.stdout))
            print(results[-1])
    names = ("main_process_mib", "largest_worker_mib", "main_process_with_audit_mib")
    for name in names if arguments.workers > 1 else names[::2]:  # One worker is the main process itself.
        print(f"{name}: x {results[1][name] / results[0][name]:.2f} for {results[1]['pictures']} pictures")


if __name__ == "__main__":
    main()
