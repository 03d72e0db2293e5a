"""The run folder: whose settings it holds, what it has logged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skindualgen.config import FREE_TO_CHANGE, TrainConfig
from skindualgen.contracts import InputError
from skindualgen.files import atomic_write_json, atomic_write_text, run_record
from skindualgen.hardware import available_devices, training_precision
from skindualgen.model.adapter import ADAPTER_DIR
from skindualgen.model.bases import Base

CHECKPOINT_DIR = "checkpoints"
METRICS_FILE = "metrics.jsonl"
CONFIG_FILE = "config.json"


def run_precision(config: TrainConfig) -> str:
    """The asked precision; under "auto" what the run recorded (resuming does not change it), else the device's."""
    if config.precision != "auto":
        return config.precision
    path = config.out / CONFIG_FILE
    return _recorded(path)["precision_used"] if path.is_file() else training_precision(available_devices()[0])


def claim_folder(config: TrainConfig, base: Base, manifest: str, precision: str, processes: int) -> None:
    """Record the settings of a new run, or refuse a folder that holds a run of others.

    More steps than the run was begun with are admitted where that continues it exactly (`_continues_exactly`).

    Raises:
        InputError: other settings, or more steps that would not give what a run of as many from the beginning gives.
    """
    settings = config.model_dump(mode="json", exclude=FREE_TO_CHANGE)
    settings |= {"base_sha256": base.sha256, "train_manifest_sha256": manifest, "precision_used": precision}
    settings["processes"] = processes
    path = config.out / CONFIG_FILE
    if not path.is_file():
        config.out.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, {"settings": settings, "run": run_record()})
        return
    before = _recorded(path)
    changed = sorted(name for name in settings if before.get(name) != settings[name])
    if changed == ["steps"] and _continues_exactly(config, before["steps"]):
        atomic_write_json(path, {"settings": settings, "run": run_record()})
        return
    if changed == ["steps"] and config.steps > before["steps"] and (config.out / ADAPTER_DIR).is_dir():
        raise InputError(
            f"{config.out} with a run of other settings (steps), which are {before['steps']}",
            "the same steps, as with more of them rates or validations would have differed from the beginning",
            f"to train further, start from it: --init-adapter {config.out} and another --out",
        )
    if changed:
        raise InputError(
            f"{config.out} with a run of other settings ({', '.join(changed)})",
            "the same settings, to resume it",
            "use them again, or another --out",
        )


def _continues_exactly(config: TrainConfig, before: int) -> bool:
    """Whether a run of ``before`` steps equals the beginning of one of ``config.steps``.

    Its rates must not depend on the number of steps, and where a validation decides, the one after the last step must
    be one that the longer run makes too.
    """
    decides = config.result == "best" or config.patience is not None
    same_validations = not decides or before % config.validate_every == 0
    return config.steps > before and config.schedule == "constant" and same_validations


def _recorded(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}, which is not the record of a run", "a new folder, or one of an earlier run", "use another --out"
        ) from error


def drop_rows_after(path: Path, step: int) -> None:
    """Remove what a killed run logged beyond its last checkpoint, a line cut short included: it is done again."""
    if not path.is_file():
        return
    lines, kept = path.read_text(encoding="utf-8").splitlines(keepends=True), []
    for line in lines:
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except ValueError:
            break
    if kept != lines:
        atomic_write_text(path, "".join(kept))
