"""The run folder: whose settings it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skindualgen.config import FREE_TO_CHANGE, MaskCodecSettings, SamplingSettings, TrainConfig, with_current_names
from skindualgen.contracts import InputError
from skindualgen.data.mask_classes import LESION_ONLY
from skindualgen.files import atomic_write_json, run_record
from skindualgen.hardware import available_devices, training_precision
from skindualgen.model.adapter import ADAPTER_DIR

CHECKPOINT_DIR = "checkpoints"
CONFIG_FILE = "config.json"


def run_precision(config: TrainConfig) -> str:
    """The asked precision; under "auto" what the run recorded (resuming does not change it), else the device's."""
    if config.mixed_precision != "auto":
        return config.mixed_precision
    path = config.out / CONFIG_FILE
    return _recorded(path)["precision_used"] if path.is_file() else training_precision(available_devices()[0])


def claim_folder(config: TrainConfig, found: Mapping[str, Any]) -> None:
    """Record the settings of a new run, or refuse a folder that holds a run of others.

    More steps than the run was begun with are admitted where that continues it exactly (`_continues_exactly`).

    Args:
        config: of the run.
        found: what else decides its result: hashes of base and data, the precision, processes, classes of the masks.

    Raises:
        InputError: other settings, or more steps that would not give what a run of as many from the beginning gives.
    """
    settings = config.model_dump(mode="json", exclude=FREE_TO_CHANGE) | dict(found)
    path = config.out / CONFIG_FILE
    before = _recorded(path) if path.is_file() else {}
    changed = sorted(name for name in settings if before.get(name) != settings[name])
    longer = changed == ["max_train_steps"] and config.max_train_steps > before["max_train_steps"]
    if not before or (longer and _continues_exactly(config, before["max_train_steps"])):
        config.out.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, {"settings": settings, "run": run_record()})
    elif longer and (config.out / ADAPTER_DIR).is_dir():
        raise InputError(
            f"{config.out} with a run of other settings (max_train_steps), which are {before['max_train_steps']}",
            "the same steps, as with more of them rates or validations would have differed from the beginning",
            f"to train further, start from it: --init-adapter {config.out} and another --out",
        )
    elif changed:
        raise InputError(
            f"{config.out} with a run of other settings ({', '.join(changed)})",
            "the same settings, to resume it",
            "use them again, or another --out",
        )


def _continues_exactly(config: TrainConfig, before: int) -> bool:
    """Whether a run of ``before`` steps equals the beginning of a longer one.

    Its rates must not depend on the number of steps, and where a validation decides, the one after the last step must
    be one that the longer run makes too.
    """
    decides = config.result == "best" or config.patience is not None
    return config.lr_scheduler == "constant" and (not decides or before % config.validation_steps == 0)


def _recorded(path: Path) -> dict[str, Any]:
    """The settings of a run, under the names of now, and with those that earlier versions did not have yet.

    Raises:
        InputError: no record of a run, or one with a term of the loss that is gone.
    """
    try:
        recorded = with_current_names(json.loads(path.read_text(encoding="utf-8"))["settings"], warn=False)
        boundary = recorded["loss"].pop("boundary", 0)
        sampling = SamplingSettings(**recorded.get("sampling", {})).model_dump(mode="json")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}, which is not the record of a run", "a new folder, or one of an earlier run", "use another --out"
        ) from error
    if boundary:
        raise InputError(
            f"{path.parent} with a run of loss.boundary = {boundary}",
            "a run without that term, which is gone",
            "finish it with version 0.1, or start from its adapter with --init-adapter and another --out",
        )
    added = {"mask_codec": MaskCodecSettings().model_dump(mode="json"), "mask_classes": dict(LESION_ONLY)}
    return added | recorded | {"sampling": sampling}
