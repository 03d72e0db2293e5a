"""What a training on a lent machine brings back: few files of limited size, the most useful things first."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

PART_BYTES, MOST_BYTES = 15_500_000, 61_000_000
"""of a file and of all, under the 16 MiB and 64 MiB that come back"""
WANTED = (
    "*/metrics.jsonl",
    "report/*",
    "labelled/out/**/*",
    "adapter/adapter/*",
    "adapter/samples/*",
    "autoencoder/out/*",
    "labelled/out-guide/**/*",
    "unlabelled/out-guide/**/*",
    "unlabelled/out/**/*",
)
SHOWN = ("measures.json", "sheet.jpg")


def collect(work: Path, results: Path) -> list[Path]:
    """Write ``result.tar.00`` and so on, parts of one archive (``cat result.tar.* | tar x``), and the report.

    Whole groups of files are left out, the last ones first, where they would not fit.

    Returns:
        The parts.
    """
    results.mkdir(parents=True, exist_ok=True)
    buffer, left_out = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for pattern in WANTED:
            files = sorted(path for path in work.glob(pattern) if path.is_file())
            if buffer.tell() + sum(path.stat().st_size + 1024 for path in files) > MOST_BYTES:
                left_out.append(pattern)
                continue
            for path in files:
                archive.add(path, path.relative_to(work))
    content = buffer.getvalue()
    for old in results.glob("result.tar.*"):
        old.unlink()
    parts = []
    for number, start in enumerate(range(0, len(content), PART_BYTES)):
        parts.append(results / f"result.tar.{number:02d}")
        parts[-1].write_bytes(content[start : start + PART_BYTES])
    for name in SHOWN:
        if (work / "report" / name).exists():
            shutil.copy2(work / "report" / name, results / name)
    print(f"collected {len(content) / 1e6:.1f} MB in {len(parts)} files; left out: {left_out or 'nothing'}", flush=True)
    return parts
