"""Train everything that is bundled: autoencoder, base in two stages, decoder, adapter. One command, resumable:

    python scripts/train_micro.py --minutes 400                       # on a CPU, stage by stage
    python scripts/train_micro.py --device cuda --minutes 9 --data runs/micro2_pack.npz --start none

On a GPU --minutes bound the whole call (--by-the-clock): each stage gets its share of the time that is left when it
begins, its start-up included, writes what it has every half minute, and is ended if it overruns; one that fails leaves
its time to the others, which go on from the newest that there is. scripts/device_run.sh has the commands for a machine
that has neither the packages nor a network.

Data are the photographs that docs/results/micro2_split.csv calls "train" (ISIC Archive, CC0); "val" chooses, "test" is
seen by no stage. Run it again with the same --work to go on; with --stages to do a part. Needs the extra "bench"
(ImageNet features). Stages and their settings: micro_autoencoder.py, micro_base.py, micro_adapter.toml in this folder;
the adapter is made by the ordinary `skindualgen train`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import tomllib
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import torch

from micro_coverage import write_counts
from micro_data import FOLDER_PX, PACK_PX, ROOT, write_source
from micro_device import add_device_options, on_gpu
from micro_model import STATE_FILE
from micro_programs import (
    ADAPTER_STEPS,
    ENVIRONMENT,
    GPU_THREADS,
    HEAD_ALONE,
    HEAD_STEPS,
    adapter_settings,
    rescue_adapter,
    run,
    try_to_run,
)
from micro_results import collect
from skindualgen.data.manifest import read_metadata
from skindualgen.data.training_items import TRAINING_ITEMS_FILE, write_training_items
from skindualgen.files import atomic_write_json
from skindualgen.model.adapter import read_header, restore_adapter, save_adapter
from skindualgen.model.bases import load_base

HERE = Path(__file__).resolve().parent
BUNDLED = ROOT / "src" / "skindualgen" / "bundled"
START = ROOT / "checkpoints" / "micro2"
BUNDLE_LIMIT_BYTES = 40_000_000
"""of all that is bundled, in a wheel"""
SHARES = {"autoencoder": 0.2, "unlabelled": 0.4, "labelled": 0.15, "decoder": 0.1, "adapter": 0.15}
"""of --minutes; the adapter's training counts steps and not minutes, so its share is what is left for it"""
STAGES = tuple(SHARES)
CLOCK_SHARES = {
    "autoencoder": 0.16,
    "unlabelled": 0.36,
    "labelled": 0.19,
    "decoder": 0.08,
    "adapter": 0.16,
    "report": 0.05,
}
"""of --minutes by the clock, each with about 20 s in which packages are imported and data made ready"""
SAVING_SECONDS = 4
"""before a stage's time is over, in which it writes its result"""
CHECKPOINT_SECONDS, LOG_SECONDS = 25, 10
RETRY_SHARE = 0.4
"""of a stage's time; a stage that fails with as much left is tried again, uncompiled"""
GPU_BATCH = 512
GUIDE_AT = 0.15
"""share of a stage after which its guide is written"""


def prepare(data: Path, work: Path) -> Path:
    """The data set folder with the fixed split, by the ordinary command; over 128 px, so that crops stay sharp."""
    source, out = work / "source", work / "pairs"
    if not (out / "dataset.json").is_file():
        write_source(data, source)
        size = PACK_PX if data.is_file() else FOLDER_PX
        command = [sys.executable, "-m", "skindualgen", "prepare", source, out, "--size", str(size)]
        run(*command, "--split-file", source / "split.csv")
    return out


def bundle_base(base: Path) -> None:
    """Copy the base, which is stored in half precision, into the package, with the record of what it has seen."""
    target = BUNDLED / "micro"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(base, target, ignore=shutil.ignore_patterns(STATE_FILE))
    for path in target.glob("*/config.json"):
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)  # where its weights were loaded from
        atomic_write_json(path, config)


def bundle_adapter(run_folder: Path, trained_on: Path) -> None:
    """Write the adapter, in half precision, into the package, as one of the base there. Checks the bundle's size.

    The base there may have another decoder than the one that was trained on, which a latent does not depend on. How
    it samples is what micro_adapter.toml says now: that is chosen when it is trained.
    """
    for part in ("unet", "text_encoder", "tokenizer", "scheduler"):
        for path in (BUNDLED / "micro" / part).glob("*"):
            trained = trained_on / part / path.name
            if path.name != "config.json" and path.read_bytes() != trained.read_bytes():
                raise SystemExit(f"{path} differs from {trained}, which the adapter was trained on")
    folder, target, base = run_folder / "adapter", BUNDLED / "adapter", load_base("micro")
    recipe = read_header(folder)["recipe"]
    sampling = recipe["sampling"] | tomllib.loads((HERE / "micro_adapter.toml").read_text())["sampling"]
    config = recipe["config"] | {"base": "micro", "sampling": sampling}
    recipe |= {"base": "micro", "sampling": sampling, "config": config}
    model = restore_adapter(base, folder, allow_base_mismatch=True)
    save_adapter(model, target, recipe=recipe, base=base, dtype=torch.float16)
    shutil.copy2(folder / TRAINING_ITEMS_FILE, target / TRAINING_ITEMS_FILE)
    size = wheel_bytes(BUNDLED)
    print(f"bundled: {size / 1e6:.1f} MB in a wheel")
    if size > BUNDLE_LIMIT_BYTES:
        taken = f"bundled files take {size / 1e6:.1f} MB of a wheel"
        raise SystemExit(f"{taken}; at most {BUNDLE_LIMIT_BYTES / 1e6:.0f} are allowed")


def wheel_bytes(folder: Path) -> int:
    """What the files of a folder take in a wheel, which is a zip archive."""
    packed = BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as wheel:
        for path in sorted(folder.rglob("*")):
            wheel.write(path, path.relative_to(folder))
    return packed.tell()


class Chain:
    """The stages of one call, in order, with what they start from and what they may take."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.work, self.gpu = args, args.work.resolve(), on_gpu(args.device)
        self.clock = self.gpu if args.by_the_clock is None else args.by_the_clock
        self.work.mkdir(parents=True, exist_ok=True)
        self.end = time.time() + args.minutes * 60
        self.common = ["--data", args.data, "--device", args.device, "--threads", str(args.threads)]
        self.shares = {stage: share for stage, share in CLOCK_SHARES.items() if stage in (*args.stages, "report")}
        self.seconds = 0.0
        """of the stage that is running, by the clock"""
        self.started: list[subprocess.Popen[bytes]] = []
        """what runs beside the first stages, the preparation of the pairs last"""

    def out(self, stage: str) -> Path:
        """Where a stage writes."""
        return self.work / stage / "out"

    def newest(self, stage: str) -> Path:
        """What the stage has written here, or else what it starts from."""
        written = self.out(stage)
        start = self.args.start / stage
        if self.clock and not written.exists() and not start.exists():
            start = START / stage  # its stage has failed: better than nothing
        return written if written.exists() else start

    @property
    def base(self) -> Path:
        """The base that is labelled; by the clock whichever there is."""
        labelled, unlabelled = self.out("labelled"), self.out("unlabelled")
        return labelled if labelled.exists() or not self.clock or not unlabelled.exists() else unlabelled

    def allot(self, stage: str) -> None:
        """Give a stage its share of the time that is left."""
        left = self.end - time.time()
        self.seconds = left * self.shares[stage] / sum(self.shares.values())
        del self.shares[stage]

    def options(self, stage: str) -> list[str | Path]:
        """Options that all stages but the adapter's take."""
        folders = [*self.common, "--work", self.work / stage, "--out", self.out(stage)]
        start = self.args.start / stage
        if start.exists():
            folders += ["--init", start]
        if not self.clock:
            whole = sum(SHARES[each] for each in self.args.stages)
            return [*folders, "--minutes", str(self.args.minutes * SHARES[stage] / whole)]
        times = {"deadline": time.time() + self.seconds - SAVING_SECONDS, "minutes": self.args.minutes}
        times |= {"checkpoint-seconds": CHECKPOINT_SECONDS, "log-seconds": LOG_SECONDS}
        return [*folders, *(part for name, value in times.items() for part in (f"--{name}", str(value)))]

    def stage(self, name: str, *further: str | Path, script: str, launch: tuple[str, ...] = ()) -> None:
        """Run a stage; by the clock within its time, once more without compiling if it soon fails."""
        program = [sys.executable, *launch, HERE / script]
        if not self.clock:
            run(*program, *self.options(name), *further)
            return
        self.allot(name)
        begun, whole = time.time(), self.seconds
        done = try_to_run(*program, *self.options(name), *further, seconds=whole + self.args.grace)
        self.seconds = whole - (time.time() - begun)
        if not done and self.seconds > RETRY_SHARE * whole:
            again = ["--no-compile"] if script == "micro_base.py" else []
            try_to_run(*program, *self.options(name), *further, *again, seconds=self.seconds + self.args.grace)

    def base_stage(self, name: str, *further: str | Path) -> None:
        """Train the base on captions of one kind."""
        args, processes = self.args, self.args.processes
        several = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
        options: list[str | Path] = ["--stage", name, "--autoencoder", self.newest("autoencoder")]
        options += ["--latents", self.work / "latents.pt"]
        if args.batch or self.gpu:
            options += ["--batch", str(args.batch or GPU_BATCH)]
        if args.compile is not None:
            options += ["--compile" if args.compile else "--no-compile"]
        if self.clock:
            options += ["--keep", "lowest", "--guide-at", str(GUIDE_AT), "--measure-every", str(10**9)]
        launch = several if processes > 1 else ()
        self.stage(name, *options, *further, script="micro_base.py", launch=launch)

    def start_background(self) -> None:
        """Compile the base and prepare the pairs while the autoencoder trains."""
        args = self.args
        commands: list[list[str | Path]] = []
        if self.gpu and args.compile is not False and {"unlabelled", "labelled"} & set(args.stages):
            batch = ["--batch", str(args.batch or GPU_BATCH), "--work", self.work, "--out", self.work]
            commands.append([HERE / "micro_base.py", "--compile-only", "--device", args.device, *batch])
        if "adapter" in args.stages:
            commands.append([HERE / "train_micro.py", "--stages", "pairs", "--data", args.data, "--work", self.work])
        for command in commands:
            self.started.append(subprocess.Popen([sys.executable, *map(str, command)], env=ENVIRONMENT))

    def go(self) -> None:
        """Run the stages that are asked for."""
        args = self.args
        if self.clock:
            self.start_background()
        made = ["--made", str(args.made)] if args.made else []
        if "autoencoder" in args.stages:
            self.stage("autoencoder", "--final-decay", script="micro_autoencoder.py")
            self.collect()
        if "unlabelled" in args.stages:
            self.base_stage("unlabelled")
            self.collect()
        if "labelled" in args.stages:
            newest = self.newest("unlabelled")
            init = ["--init", newest] if newest.exists() or not self.clock else []
            self.base_stage("labelled", *init, "--described", "--final-decay")
            self.collect()
        if "decoder" in args.stages:
            self.stage(
                "decoder",
                "--final-decay",
                "--init",
                self.newest("autoencoder"),
                "--base",
                self.base,
                *made,
                script="micro_autoencoder.py",
            )
            if self.out("decoder").exists() or not self.clock:
                shutil.copytree(self.out("decoder"), self.base / "vae", dirs_exist_ok=True)
        if "adapter" in args.stages:
            if not self.clock:
                self.adapter()
                return
            self.allot("adapter")
            try:
                self.adapter()
            except subprocess.CalledProcessError as error:
                print(f"no adapter: {error}", flush=True)
            self.collect()
        if self.clock:
            self.allot("report")
            guides = [self.out(stage).with_name("out-guide") for stage in ("labelled", "unlabelled")]
            guides = [guide for guide in guides if guide.exists()]
            try_to_run(
                sys.executable,
                HERE / "micro_guidance.py",
                *self.common,
                "--base",
                self.base,
                *(["--guides", *guides] if guides else []),
                "--out",
                self.work / "report",
                "--deadline",
                str(time.time() + self.seconds - SAVING_SECONDS),
                seconds=self.seconds + args.grace,
            )
            self.collect()
        for process in self.started:
            process.terminate()

    def adapter(self) -> None:
        """Train the adapter on pairs, and put base and adapter into the package if they are to be bundled."""
        args, folder = self.args, self.work / "adapter"
        begun = time.time()
        for process in self.started[-1:]:
            process.wait()
        pairs = prepare(args.data, self.work)
        write_training_items(self.base, read_metadata(pairs, "train"))
        left = self.seconds - (time.time() - begun) if self.clock else None
        settings = adapter_settings(left, args.adapter_steps, gpu=self.gpu)
        settings |= {"threads": GPU_THREADS if self.gpu else args.threads}
        assignments = [f"{name}={value}" for name, value in settings.items()] + args.adapter_set

        def command(out: Path, *further: str) -> list[str | Path]:
            program = ["-m", "skindualgen"] if self.gpu else [HERE / "micro_adapter.py"]
            options = ["--config", HERE / "micro_adapter.toml", "--base", self.base, "--data", pairs, "--out", out]
            options += ["--cache", self.work / "cache"]
            given = (part for each in (*assignments, *further) for part in ("--set", each))
            return [sys.executable, *program, "train", *options, *given]

        if self.clock:
            shutil.rmtree(folder, ignore_errors=True)  # of another base
            try_to_run(*command(folder), seconds=self.seconds - (time.time() - begun) + args.grace)
            rescue_adapter(folder)
        else:
            head = self.work / "head"
            alone = [f"{name}={value}" for name, value in HEAD_ALONE.items()]
            run(*command(head, *alone, f"max_train_steps={args.head_steps}"))
            run(*command(folder, f"init_adapter={head}"))
        if args.bundle:
            bundle_base(self.base)
            bundle_adapter(folder, self.base)
            write_counts(pairs)

    def collect(self) -> None:
        """Write what there is as files that a lent machine hands back."""
        if self.args.results:
            collect(self.work, self.args.results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="data folders, or a pack")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "micro2", help="checkpoints; kept between calls")
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=[*STAGES, "pairs"])
    parser.add_argument("--minutes", type=float, default=400, help="of all stages together; each gets its share")
    parser.add_argument(
        "--by-the-clock", action=argparse.BooleanOptionalAction, help="--minutes bound this call; on a GPU if not given"
    )
    parser.add_argument("--grace", type=float, default=15, help="seconds that a stage may overrun by the clock")
    parser.add_argument("--results", type=Path, help="folder for files of 16 MB that hold what is made, and the report")
    parser.add_argument("--adapter-steps", type=int, help=f"{ADAPTER_STEPS}, or as many as fit, if not given")
    parser.add_argument("--head-steps", type=int, default=HEAD_STEPS, help="of its mask head alone, before; CPUs only")
    parser.add_argument("--adapter-set", action="append", default=[], help="further NAME=VALUE of the adapter")
    parser.add_argument("--batch", type=int, help=f"of the base; 32 on a CPU, {GPU_BATCH} on a GPU if not given")
    parser.add_argument("--made", type=int, help="latents that the base makes for the decoder")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="the base; on a GPU if not given")
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
    if args.stages == ["pairs"]:
        prepare(args.data, args.work.resolve())
        return
    Chain(args).go()


if __name__ == "__main__":
    main()
