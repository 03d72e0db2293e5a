"""What a benchmark compares, and with what effort."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from skindualgen.benchmarking.arms import RATIOS, ClassAllocation, Task
from skindualgen.benchmarking.subsets import PARTS
from skindualgen.contracts import InputError, Split
from skindualgen.hardware import available_devices, check_device, usable_cores
from skindualgen.judges.classifier import ClassifierConfig
from skindualgen.judges.networks import SEGMENTER_STRIDE_PX, Network
from skindualgen.judges.segmenter import SegmenterConfig
from skindualgen.judges.training import Budget


class BenchmarkOptions(BaseModel):
    """Options of a benchmark.

    Attributes:
        tasks: what to train for.
        real: data set folder; networks train on its split "train".
        generated: data set folder of synthetic pairs; None leaves out the arms that need them.
        test_split: the part to score on; None takes "test" where there is one, else "val".
        size_px: side to which all pictures are reduced.
        network: the same in all arms.
        ratios: synthetic items of the hybrid arms, as a multiple of the real ones.
        replacements: chances of the arms in which generated pairs take real ones' places, see
            `skindualgen.benchmarking.arms.Arm`.
        arms: names of the arms to run; None runs all of `skindualgen.benchmarking.arms.arms_of` that can be built.
            Those of `arms_on_request` run where they are named.
        class_allocation: diagnoses of the generated pairs, see `skindualgen.benchmarking.arms.Arm`; None takes the
            default of each task.
        fill: the earlier name of ``class_allocation``, until 0.3.
        seeds: trainings of each arm, each on a part of the real pairs of its own.
        repeats: trainings of each arm on each of these parts.
        real_counts, real_fractions, real_per_class: nested subsets of the real train part, so many or such shares of it
            in the proportions of its classes, or so many of each class; none of them uses all of it.
        steps: optimiser steps, the same in all arms.
        level_off: steps are doubled, for each amount of real pairs, while that gains the arm "augment" something on the
            split val; all arms then take these.
        batch_size: photographs per step.
        learning_rate: peak; None takes that of the task's judge.
        precision: "auto" is bf16 where the hardware computes in it.
        devices: where to train; () takes the first accelerator there is, else the CPU.
        jobs: trainings at a time; None is one a device.
        threads: of the CPU, a training; None shares the cores.
        pair_weights: whether a record's ``weight`` counts in the draws.
        ignored_pixels: whether ignored pixels are left out of what is learnt; of what is measured they always are.
        i_know: go on although the leak guard has found something.
    """

    model_config = ConfigDict(frozen=True)

    tasks: tuple[Task, ...]
    real: Path
    generated: Path | None = None
    test_split: Split | None = None
    size_px: int = 128
    network: Network = Network()
    ratios: tuple[float, ...] = RATIOS
    replacements: tuple[float, ...] = ()
    arms: tuple[str, ...] | None = None
    class_allocation: ClassAllocation | None = None
    fill: ClassAllocation | None = Field(default=None, exclude=True, repr=False)
    seeds: int = 5
    repeats: int = 1
    real_counts: tuple[int, ...] = ()
    real_fractions: tuple[float, ...] = ()
    real_per_class: tuple[int, ...] = ()
    steps: int = 300
    level_off: bool = False
    batch_size: int = 16
    learning_rate: float | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    devices: tuple[str, ...] = ()
    jobs: int | None = None
    threads: int | None = None
    pair_weights: bool = True
    ignored_pixels: bool = True
    i_know: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_earlier_names(cls, given: dict[str, Any]) -> dict[str, Any]:
        fill = given.get("fill")
        if fill is None:
            return given
        warnings.warn(
            "fill is called class_allocation; the earlier name works until 0.3", DeprecationWarning, stacklevel=3
        )
        return {name: value for name, value in given.items() if name != "fill"} | {"class_allocation": fill}

    def check(self) -> None:
        """Refuse what cannot run.

        Raises:
            InputError: a size that the segmenter cannot take, no seeds, a rate that is none, both kinds of subsets, or
                an unknown device.
        """
        if "segment" in self.tasks and self.size_px % SEGMENTER_STRIDE_PX:
            raise InputError(f"a size of {self.size_px} px", f"a multiple of {SEGMENTER_STRIDE_PX}", "change --size")
        if not 1 <= self.seeds <= PARTS or self.repeats < 1:
            got = f"{self.seeds} seeds of {self.repeats} trainings each"
            raise InputError(got, f"1 to {PARTS} seeds, and 1 training or more", "change --seeds or --repeats")
        if min([1, *self.real_counts, *self.real_per_class]) < 1 or not all(0 < f <= 1 for f in self.real_fractions):
            got = f"real counts {self.real_counts or self.real_per_class}, real fractions {self.real_fractions}"
            raise InputError(got, "counts of 1 or more, fractions in (0, 1]", "change the numbers")
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise InputError(f"a learning rate of {self.learning_rate}", "a number above 0", "for example 1e-3")
        if sum(map(bool, (self.real_counts, self.real_fractions, self.real_per_class))) > 1:
            got = "several of real counts, real fractions and real pairs a class"
            raise InputError(got, "one of them", "leave the others out")
        for device in self.devices:
            check_device(device)

    def budget(self, task: Task) -> Budget:
        """Return the optimiser steps and schedule of a task."""
        own = SegmenterConfig().budget if task == "segment" else ClassifierConfig().budget
        rate = own.learning_rate if self.learning_rate is None else self.learning_rate
        return Budget(steps=self.steps, batch_size=self.batch_size, learning_rate=rate)

    def workers(self) -> list[str]:
        """Return the device of each training that runs at a time."""
        devices = self.devices or available_devices()[:1]
        jobs = self.jobs or len(devices)
        return [devices[index % len(devices)] for index in range(jobs)]

    def threads_a_worker(self) -> int:
        """Return the CPU threads of each training."""
        return self.threads or max(1, usable_cores() // len(self.workers()))
