"""Train everything that is bundled: autoencoder, base, adapter. Resumable: run it again with the same --work.

Data are the pairs of ../shared/data/dermoscopy (ISIC 2017, CC0) that docs/results/micro_split.csv calls "train"; the
part called "val" is never trained on, by no stage. Needs the extra "bench" (ImageNet features for the autoencoder's
perceptual loss). Stages and their settings: scripts/micro_autoencoder.py, scripts/micro_base.py,
scripts/micro_adapter.toml; the adapter is made by the ordinary `skindualgen train`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from skindualgen.data.manifest import read_metadata
from skindualgen.data.training_items import TRAINING_ITEMS_FILE, write_training_items
from skindualgen.model.adapter import CARD_FILE, RUN_FILE, WEIGHTS_FILE, read_header, write_weights
from skindualgen.model.bases import base_sha256
from skindualgen.provenance import atomic_write_json

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUNDLED = ROOT / "src" / "skindualgen" / "bundled"
SPLIT_FILE = ROOT / "docs" / "results" / "micro_split.csv"
ADAPTER_FILES = (WEIGHTS_FILE, "adapter_config.json", RUN_FILE, TRAINING_ITEMS_FILE, CARD_FILE)
BUNDLE_LIMIT_BYTES = 30_000_000


def run(*command: str | Path) -> None:
    """Run a stage; a stage that fails ends everything."""
    print("+", *command, flush=True)
    subprocess.run([str(part) for part in command], check=True)


def prepare(data: Path, out: Path) -> None:
    """The data set folder with the fixed split, by the ordinary command; 256 px, so that crops stay sharp at 128."""
    if not (out / "dataset.json").is_file():
        command = [sys.executable, "-m", "skindualgen", "prepare", data, out, "--size", "256"]
        run(*command, "--split-file", SPLIT_FILE)


def bundle_base(base: Path, pairs: Path) -> None:
    """Copy the base, which is stored in half precision, into the package, with the record of what it has seen."""
    target = BUNDLED / "micro"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(base, target)
    drop_machine_paths(target)
    write_training_items(target, read_metadata(pairs, "train"))


def drop_machine_paths(base: Path) -> None:
    """Take out of every config where its weights were loaded from."""
    for path in base.glob("*/config.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        atomic_write_json(path, config)


def bundle_decoder(autoencoder: Path) -> None:
    """Put a better trained decoder into the bundled base and renew the base's hash in the bundled adapter.

    Latents do not change, as the analysis is fixed; that it is the same is checked.
    """
    from skindualgen.model.autoencoder import PatchAutoencoder

    target = BUNDLED / "micro" / "vae"
    old, new = PatchAutoencoder.from_pretrained(target), PatchAutoencoder.from_pretrained(autoencoder)
    new = new.to(torch.float16)
    if not all(
        torch.equal(a.half(), b) for a, b in zip(old.analysis.parameters(), new.analysis.parameters(), strict=True)
    ):
        raise SystemExit(f"{autoencoder} has another analysis than the bundled base: train base and adapter anew")
    new.save_pretrained(target)
    drop_machine_paths(BUNDLED / "micro")
    folder = BUNDLED / "adapter"
    header = read_header(folder) | {"base_sha256": base_sha256(BUNDLED / "micro")}
    write_weights(folder, load_file(folder / WEIGHTS_FILE), header)


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
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "dermoscopy")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "micro", help="checkpoints; kept between calls")
    parser.add_argument(
        "--stages",
        nargs="+",
        default=["autoencoder", "base", "adapter"],
        choices=["autoencoder", "base", "adapter", "decoder"],
        help="'decoder' trains the bundled decoder further, on latents that the bundled base has redrawn",
    )
    parser.add_argument("--autoencoder-minutes", type=float, default=40)
    parser.add_argument("--base-minutes", type=float, default=120)
    parser.add_argument("--adapter-steps", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    work, threads = args.work.resolve(), str(args.threads)
    common = ["--data", args.data, "--split-file", SPLIT_FILE, "--threads", threads]
    if "autoencoder" in args.stages:
        run(
            sys.executable, HERE / "micro_autoencoder.py", *common, "--work", work / "ae",
            "--out", work / "ae" / "out", "--minutes", str(args.autoencoder_minutes), "--final-decay",
        )  # fmt: skip
    if "base" in args.stages:
        run(
            sys.executable, HERE / "micro_base.py", *common, "--autoencoder", work / "ae" / "out",
            "--work", work / "base", "--out", work / "base" / "out",
            "--minutes", str(args.base_minutes), "--final-decay",
        )  # fmt: skip
        prepare(args.data, work / "pairs")
        bundle_base(work / "base" / "out", work / "pairs")
    if "decoder" in args.stages:
        run(
            sys.executable, HERE / "micro_autoencoder.py", *common, "--work", work / "decoder",
            "--out", work / "decoder" / "out", "--minutes", str(args.autoencoder_minutes), "--final-decay",
            "--init", BUNDLED / "micro" / "vae", "--base", BUNDLED / "micro",
        )  # fmt: skip
        bundle_decoder(work / "decoder" / "out")
    if "adapter" in args.stages:
        prepare(args.data, work / "pairs")
        run(
            sys.executable, "-m", "skindualgen", "train", "--config", HERE / "micro_adapter.toml",
            "--data", work / "pairs", "--out", work / "adapter", "--steps", str(args.adapter_steps),
            "--set", f"threads={threads}",
        )  # fmt: skip
        bundle_adapter(work / "adapter")


if __name__ == "__main__":
    main()
