"""Train everything that is bundled: autoencoder, base in two stages, decoder, adapter. One command, resumable:

    python scripts/train_micro.py --minutes 400                       # on a CPU, stage by stage
    python scripts/train_micro.py --device cuda --minutes 9 --data runs/micro2_pack.npz

Data are the photographs that docs/results/micro2_split.csv calls "train" (ISIC Archive, CC0); "val" chooses, "test" is
seen by no stage. Run it again with the same --work to go on; with --stages to do a part. Needs the extra "bench"
(ImageNet features). Stages and their settings: micro_autoencoder.py, micro_base.py, micro_adapter.toml in this folder;
the adapter is made by the ordinary `skindualgen train`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from micro_data import FOLDER_PX, PACK_PX, ROOT, write_source
from micro_device import add_device_options
from skindualgen.data.manifest import read_metadata
from skindualgen.data.training_items import TRAINING_ITEMS_FILE, write_training_items
from skindualgen.files import atomic_write_json
from skindualgen.model.adapter import CARD_FILE, RUN_FILE, WEIGHTS_FILE

HERE = Path(__file__).resolve().parent
BUNDLED = ROOT / "src" / "skindualgen" / "bundled"
START = ROOT / "checkpoints" / "micro2"
ADAPTER_FILES = (WEIGHTS_FILE, "adapter_config.json", RUN_FILE, TRAINING_ITEMS_FILE, CARD_FILE)
BUNDLE_LIMIT_BYTES = 40_000_000
SHARES = {"autoencoder": 0.2, "unlabelled": 0.4, "labelled": 0.15, "decoder": 0.1, "adapter": 0.15}
"""of --minutes; the adapter's training counts steps and not minutes, so its share is what is left for it"""
STAGES = tuple(SHARES)
GPU_BATCH = 512
FAST_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "67108864"}
"""glibc keeps freed memory: else half of a step on a CPU is spent on page faults of new tensors"""


def run(*command: str | Path) -> None:
    """Run a stage; a stage that fails ends everything."""
    print("+", *command, flush=True)
    subprocess.run([str(part) for part in command], check=True, env=FAST_MALLOC | os.environ)


def prepare(data: Path, work: Path) -> Path:
    """The data set folder with the fixed split, by the ordinary command; over 128 px, so that crops stay sharp."""
    source, out = work / "source", work / "pairs"
    if not (out / "dataset.json").is_file():
        write_source(data, source)
        size = PACK_PX if data.is_file() else FOLDER_PX
        command = [sys.executable, "-m", "skindualgen", "prepare", source, out, "--size", str(size)]
        run(*command, "--split-file", source / "split.csv")
    return out


def bundle_base(base: Path, pairs: Path) -> None:
    """Copy the base, which is stored in half precision, into the package, with the record of what it has seen."""
    target = BUNDLED / "micro"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(base, target)
    for path in target.glob("*/config.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)  # where its weights were loaded from
        atomic_write_json(path, config)
    write_training_items(target, read_metadata(pairs, "train"))


def bundle_adapter(run_folder: Path) -> None:
    """Copy the adapter, stored in half precision, into the package. Checks the size of everything bundled."""
    target = BUNDLED / "adapter"
    target.mkdir(parents=True, exist_ok=True)
    for name in ADAPTER_FILES:
        shutil.copy2(run_folder / "adapter" / name, target / name)
    size = sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file())
    print(f"bundled: {size / 1e6:.1f} MB")
    if size > BUNDLE_LIMIT_BYTES:
        raise SystemExit(f"bundled files take {size / 1e6:.1f} MB; at most {BUNDLE_LIMIT_BYTES / 1e6:.0f} are allowed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folders, or a pack")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "micro2", help="checkpoints; kept between calls")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--minutes", type=float, default=400, help="of all stages together; each gets its share")
    parser.add_argument("--adapter-steps", type=int, default=2600)
    parser.add_argument("--batch", type=int, help="of the base; 32 on a CPU, 512 on a GPU if not given")
    parser.add_argument("--processes", type=int, default=1, help="that train the base together; one a core, or a GPU")
    parser.add_argument(
        "--start",
        type=Path,
        default=START,
        help="weights to go on from where --work holds none: autoencoder/, unlabelled/",
    )
    parser.add_argument("--bundle", action="store_true", help="copy the result into the package")
    add_device_options(parser)
    args = parser.parse_args()
    work, gpu = args.work.resolve(), torch.device(args.device).type == "cuda"
    work.mkdir(parents=True, exist_ok=True)
    whole = sum(SHARES[stage] for stage in args.stages)
    minutes = {stage: str(args.minutes * SHARES[stage] / whole) for stage in args.stages}
    common = ["--data", args.data, "--device", args.device, "--threads", str(args.threads)]
    base, decoder = work / "labelled" / "out", work / "decoder" / "out"

    def newest(stage: str) -> Path:
        """What the stage has written here, or else what it starts from."""
        written = work / stage / "out"
        return written if written.exists() else args.start / stage

    def folders(stage: str) -> list[str | Path]:
        start = args.start / stage
        init = ["--init", start] if start.exists() else []
        return [*common, *init, "--work", work / stage, "--out", work / stage / "out", "--minutes", minutes[stage]]

    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(args.processes)]
    launch = [sys.executable, *(several if args.processes > 1 else [])]
    latents = ["--latents", work / "latents.pt"]
    batch = ["--batch", str(args.batch or GPU_BATCH)] if args.batch or gpu else []
    if "autoencoder" in args.stages:
        run(sys.executable, HERE / "micro_autoencoder.py", *folders("autoencoder"), "--final-decay")
    if "unlabelled" in args.stages:
        run(
            *launch,
            HERE / "micro_base.py",
            *folders("unlabelled"),
            *batch,
            *latents,
            "--autoencoder",
            newest("autoencoder"),
            "--stage",
            "unlabelled",
        )
    if "labelled" in args.stages:
        run(
            *launch,
            HERE / "micro_base.py",
            *folders("labelled"),
            *batch,
            *latents,
            "--autoencoder",
            newest("autoencoder"),
            "--stage",
            "labelled",
            "--init",
            newest("unlabelled"),
            "--final-decay",
        )
    if "decoder" in args.stages:
        run(
            sys.executable,
            HERE / "micro_autoencoder.py",
            *folders("decoder"),
            "--final-decay",
            "--init",
            newest("autoencoder"),
            "--base",
            base,
        )
        shutil.copytree(decoder, base / "vae", dirs_exist_ok=True)
    if "adapter" in args.stages:
        pairs = prepare(args.data, work)
        if args.bundle:
            bundle_base(base, pairs)  # first: the adapter records the hash of the base that it was trained on
        run(
            sys.executable,
            "-m",
            "skindualgen",
            "train",
            "--config",
            HERE / "micro_adapter.toml",
            "--base",
            "micro" if args.bundle else base,
            "--data",
            pairs,
            "--out",
            work / "adapter",
            "--steps",
            str(args.adapter_steps),
            "--set",
            f"threads={args.threads}",
        )
        if args.bundle:
            bundle_adapter(work / "adapter")


if __name__ == "__main__":
    main()
