"""What decides a distilled adapter, and the settings for a small base and a large one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skindualgen.contracts import InputError
from skindualgen.training.teacher import DIRECTIONS


@dataclass(frozen=True)
class DistillSettings:
    """What decides a distilled adapter, beside its teacher and for how long it learns.

    Args:
        calls: steps of the student, each a single pass.
        teacher_steps: guided steps of the teacher's trajectories.
        trajectories: pairs that are followed at a time; each such part is learnt from ``epochs`` times, then another
            is drawn.
        epochs: see there.
        train_batch_size: trajectories of an optimiser step, which goes all of their student's steps.
        learning_rate: AdamW's, at its peak.
        rank: of the student's LoRA, at least the teacher's, which it is if not given.
        images, masks: trajectories from given masks, and of masks that are read, for each of a pair, in [0, 1].
        gradient_checkpointing: less memory, about a third more time.
        held_out: pairs that are searched for the schedule, and as many others that the student is validated on.
        validation_steps: optimiser steps between validations, at each of which a checkpoint is written.
        seed: of all that is drawn.
    """

    calls: int = 4
    teacher_steps: int = 20
    trajectories: int = 64
    epochs: int = 8
    train_batch_size: int = 8
    learning_rate: float = 5e-4
    rank: int | None = None
    images: float = 0.25
    masks: float = 0.125
    gradient_checkpointing: bool = False
    held_out: int = 16
    validation_steps: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.calls < self.teacher_steps:
            got = f"{self.calls} calls of a student and {self.teacher_steps} steps of its teacher"
            raise InputError(got, "at least 2, and more of the teacher", "change the numbers")
        for name in ("trajectories", "epochs", "train_batch_size", "held_out", "validation_steps"):
            if vars(self)[name] < 1:
                raise InputError(f"{name} = {vars(self)[name]}", "at least 1", "raise it")
        if not (0 <= self.images <= 1 and 0 <= self.masks <= 1 and self.learning_rate > 0):
            got = f"images = {self.images}, masks = {self.masks}, learning_rate = {self.learning_rate}"
            raise InputError(got, "shares in [0, 1] and a rate above 0", "change them")

    @property
    def shares(self) -> dict[str, float]:
        """Of the directions, the pairs being 1."""
        return dict(zip(DIRECTIONS, (1.0, self.images, self.masks), strict=True))


PRESETS: dict[str, tuple[DistillSettings, dict[str, Any]]] = {
    "micro": (DistillSettings(), {"minutes": 90}),
    "sd2": (
        DistillSettings(
            trajectories=256,
            learning_rate=1e-4,
            rank=64,
            gradient_checkpointing=True,
            validation_steps=100,
        ),
        {"max_train_steps": 4000},
    ),
}
"""Settings and length for the micro base on two cores, and for Stable Diffusion 2 on one GPU."""
