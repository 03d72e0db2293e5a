"""Where numbers and pictures of a run are shown besides its folder: TensorBoard, and a client that was asked for."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from PIL import Image

from skindualgen.config import LOCAL, TrainConfig
from skindualgen.contracts import InputError
from skindualgen.training.progress import begin_part, parts

logger = logging.getLogger(__name__)

PROJECT, SAMPLES = "skindualgen", "samples"
"""project (MLflow: experiment) that runs appear in, unless the client's own variable names another; key of pictures"""


def require_client(track: str | None) -> None:
    """Refuse a tracker whose client is not installed.

    Raises:
        InputError: it is not.
    """
    if track is not None and find_spec(track) is None:
        raise InputError(f"--track {track} without its client", "the extra 'track'", "pip install 'skindualgen[track]'")


class Tracking:
    """accelerate's trackers: TensorBoard, and that of ``config.track``; a context that ends them.

    A client that fails after it has begun is left out with a warning: the run goes on, and its folder has everything.

    Args:
        config: of the run; where earlier parts of it had the same client, their run is continued.
        step: that the run goes on from.
        facts: what else the record of this part says.

    Raises:
        InputError: the client does not begin: no account, no server, no such run.
    """

    def __init__(self, config: TrainConfig, step: int, facts: Mapping[str, Any]) -> None:
        self.client: GeneralTracker | None = None
        run_id = None
        if config.track is not None:
            before = [part["tracked_as"] for part in parts(config.out) if part["track"] == config.track]
            self.client, run_id = _begin(config.track, config, before[-1] if before else None)
            if not before:
                settings = config.model_dump(mode="json", exclude=LOCAL)
                self._tell(lambda client: client.store_init_configuration(settings))
        begin_part(config.out, from_step=step, **facts, track=config.track, tracked_as=run_id)
        # What a killed run drew beyond its last checkpoint is hidden, as it is drawn again.
        self.board = LOGGER_TYPE_TO_CLASS["tensorboard"]("tensorboard", config.out, purge_step=step + 1)
        self.board.start()

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, *_: object) -> None:
        self.board.finish()
        self._tell(lambda client: client.finish())

    def log(self, row: Mapping[str, Any], samples: Path | None) -> None:
        """Show the numbers of a step, which are ``row["step"]`` and others, and the picture of its validation."""
        step, numbers = row["step"], {name: value for name, value in row.items() if name != "step"}
        self.board.log(numbers, step)
        self._tell(lambda client: client.log(numbers, step))
        if samples is not None:
            with Image.open(samples) as file:
                picture = file.convert("RGB")
            self.board.log_images({SAMPLES: np.asarray(picture)[None]}, step, dataformats="NHWC")
            self._tell(lambda client: _log_picture(client, picture, step))

    def _tell(self, what: Callable[[GeneralTracker], None]) -> None:
        if self.client is None:
            return
        try:
            what(self.client)
        except Exception as error:  # of any kind: each client has its own, and of every network that it uses
            logger.warning("--track %s failed (%s): the run goes on without it.", self.client.name, error)
            with suppress(Exception):
                self.client.finish()
            self.client = None


def _begin(track: str, config: TrainConfig, known: str | None) -> tuple[GeneralTracker, str]:
    name, project = config.out.resolve().name, PROJECT
    options: dict[str, Any]
    if track == "wandb":
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        options = {"dir": str(config.out), "name": name, "id": known, "resume": "allow"}
    elif track == "mlflow":
        options = {"run_name": name, "run_id": known}
    else:  # trackio, which knows a run by its name alone
        options = {"name": known or f"{name}-{secrets.token_hex(3)}", "resume": "allow"}
    client = LOGGER_TYPE_TO_CLASS[track](project, **options)
    try:
        client.start()
    except Exception as error:
        remedy = "see docs/training.md#tracking, also for working offline, or leave --track out"
        raise InputError(f"--track {track}, which did not begin ({error})", "its service", remedy) from error
    run = client.tracker
    return client, str(run.info.run_id if track == "mlflow" else run.id if track == "wandb" else run.name)


def _log_picture(client: GeneralTracker, picture: Image.Image, step: int) -> None:
    """Show a picture in the way of each client, as accelerate has one for some of them only."""
    if client.name == "wandb":
        client.log_images({SAMPLES: [picture]}, step)
    elif client.name == "mlflow":
        import mlflow

        mlflow.log_image(picture, key=SAMPLES, step=step)
    else:
        import trackio

        client.log({SAMPLES: trackio.Image(picture)}, step)
