"""What the fields of Train and Evaluate say, as the arguments of their commands, with names of the workspace only."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skindualgen.config import load_train_config
from skindualgen.contracts import InputError
from skindualgen.files import BUILTIN
from skindualgen.model.registry import KNOWN_BASES
from skindualgen.studio.commands import command
from skindualgen.studio.workspace import REPORTS_DIR, RUNS_DIR, Workspace

AFRESH = "afresh"
OWN_FIELDS = (
    "data", "out", "base", "init_adapter", "max_train_steps", "train_batch_size", "resolution", "cache",
    "allow_base_mismatch",
)  # fmt: skip
"""Settings that further ones may not name: they have a field of their own, or a path that leads anywhere."""


@dataclass(frozen=True)
class Preset:
    """Values that the fields take, and further settings as TOML."""

    base: str = "micro"
    start: str = AFRESH
    steps: int = 1000
    batch_size: int = 8
    rank: int = 32
    size: int = 0
    toml: str = ""


PRESETS: Mapping[str, Preset] = {
    "Go on from the bundled model": Preset(
        start=BUILTIN, toml='result = "best"\nvalidation_steps = 100\nlearning_rate = 5e-5\n'
    ),
    "Micro, afresh": Preset(steps=4000, toml='result = "best"\nlora.targets = "all"\n'),
    "A first look: a few minutes": Preset(
        start=BUILTIN, steps=60, batch_size=4, toml="views = 1\nvalidation_steps = 20\ncheckpointing_steps = 20\n"
    ),
    "Stable Diffusion 2.0 over a night, with a GPU": Preset(
        base="sd2-base",
        steps=10_000,
        toml='gradient_checkpointing = true\ngradient_accumulation_steps = 2\nresult = "best"\n',
    ),
}
"""Name -> preset; the last is the recipe of docs/training.md."""


@dataclass(frozen=True)
class TrainingRequest:
    """What the fields of the tab say; a size of 0 is the base's own."""

    data: str | None
    name: str
    base: str
    start: str
    steps: int
    batch_size: int
    rank: int
    size: int
    toml: str = ""


def train_arguments(workspace: Workspace, wanted: TrainingRequest) -> tuple[str, list[str]]:
    """Return the run's folder and the arguments of ``skindualgen``, with names of the workspace only.

    Raises:
        InputError: no data set, a name that is none or taken, or settings that `TrainConfig` refuses.
    """
    if not wanted.data:
        raise InputError("no data set", "one to train on", "choose it")
    workspace.path(wanted.data)
    out = f"{RUNS_DIR}/{workspace.new_folder(RUNS_DIR, wanted.name).name}"
    if wanted.base not in KNOWN_BASES or wanted.start not in (AFRESH, BUILTIN, *workspace.adapters()):
        raise InputError(f"the base {wanted.base!r} from {wanted.start!r}", "one of the lists", "choose again")
    further = _further(wanted.toml)
    named: dict[str, Any] = {
        "data": wanted.data,
        "out": out,
        "base": wanted.base,
        "max_train_steps": wanted.steps,
        "train_batch_size": wanted.batch_size,
        "resolution": wanted.size or None,
        "init_adapter": None if wanted.start == AFRESH else wanted.start,
    }
    rank = {} if "lora.rank" in further or wanted.start != AFRESH else {"lora.rank": wanted.rank}
    given = {name: value for name, value in named.items() if value is not None}
    load_train_config(None, given | rank | further)
    settings = [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in further.items()]
    line = command("train", **named, rank=rank.get("lora.rank"), set=settings)
    return out, shlex.split(line)[1:]


def _further(text: str) -> dict[str, Any]:
    """Further settings, dotted names -> values."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        got = f"further settings that are no TOML ({error})"
        raise InputError(got, "lines such as views = 4", "fix them") from None
    flat: dict[str, Any] = {}
    for name, value in content.items():
        for key, each in value.items() if isinstance(value, dict) else [("", value)]:
            flat[f"{name}.{key}" if key else name] = each
    for name in flat:
        if name in OWN_FIELDS:
            raise InputError(f"{name!r} among the further settings", "settings without a field above", f"remove {name}")
    return flat


JUDGES_DIR = "judges"
"""Folder of the workspace that keeps trained judges."""
SECTIONS = {
    "Fidelity": "fidelity",
    "Masks": "masks",
    "Diagnosis": "diagnosis",
    "Adherence": "adherence",
    "Copies": "memorisation",
    "Skin tone": "skin_tone",
}
"""What can be measured -> its name in ``--only``; the first import of the evaluation's room takes seconds."""


def evaluate_arguments(
    workspace: Workspace, real: str | None, generated: str | None, name: str, sections: list[str], steps: float | None
) -> tuple[str, list[str]]:
    """Return the report's folder and the arguments of ``skindualgen``, with names of the workspace only.

    Without ``steps``, or with 0, the bundled judges are asked.

    Raises:
        InputError: a data set is missing or twice the same, a name that is none or taken, or nothing to measure.
    """
    if not real or not generated or real == generated:
        raise InputError("one data set, or none", "two", "choose a real and a generated one")
    for each in (real, generated):
        workspace.path(each)
    only = [SECTIONS[each] for each in SECTIONS if each in sections]
    if not only:
        raise InputError("nothing to measure", "one part at least", "choose some")
    if steps and steps < 1:
        expected = "1 or more, or 0 for the bundled judges"
        raise InputError(f"{steps:g} steps of each judge", expected, "raise the number, or set it to 0")
    out = f"{REPORTS_DIR}/{workspace.new_folder(REPORTS_DIR, name).name}"
    line = command(
        "evaluate",
        real=real,
        generated=generated,
        out=out,
        only=None if len(only) == len(SECTIONS) else only,
        judge_steps=int(steps) if steps else None,
        judges=JUDGES_DIR,
    )
    return out, shlex.split(line)[1:]
