"""Kills producers at random moments until twenty are dead: ``python killer.py FOLDER``; prints what it saw as JSON.

Producers are forked, so each starts at once; this process has no threads.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from PIL import Image

from producer import run

KILLS = 20
SECONDS = (0.0, 0.25)


def start(out: Path) -> int:
    """Fork a producer and return when it has begun."""
    reading, writing = os.pipe()
    if pid := os.fork():
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)
        return pid
    os.write(writing, b"x")
    try:
        run(out, seconds=0.01)
        os._exit(0)
    finally:
        os._exit(1)


def look(out: Path, seen: dict[str, int]) -> None:
    """After a kill: no picture is half written; note which chunks are finished, and when they were."""
    for path in out.glob("[im]*/SDG*.png"):
        with Image.open(path) as picture:
            picture.load()
    for path in out.glob(".production/chunks/*.jsonl"):
        time_ns = path.stat().st_mtime_ns
        assert seen.setdefault(path.name, time_ns) == time_ns, f"{path} was made twice"
        assert path.read_text(encoding="utf-8").endswith("\n")


def main(root: Path) -> None:
    """Start, kill, look, until enough were killed; a folder that is finished before is followed by a new one."""
    moments = random.Random(0)
    kills, folders = 0, 0
    while kills < KILLS:
        out, seen = root / str(folders), dict[str, int]()
        folders += 1
        while True:
            pid = start(out)
            time.sleep(moments.uniform(*SECONDS) if kills < KILLS else 0)
            if kills < KILLS:
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            look(out, seen)
            if not os.WIFSIGNALED(status):
                assert status == 0, f"a producer failed with status {status}"
                break
            kills += 1
    print(json.dumps({"kills": kills, "folders": folders}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
