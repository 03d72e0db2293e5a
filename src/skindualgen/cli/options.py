"""Options that several commands share, each defined once; a command's own ones are in its module."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

# Names are written out here and in the commands, as --help must not load the rooms that they belong to; tests compare.
FormatName = Literal[
    "imagefolder", "parquet", "webdataset", "nnunet", "coco", "yolo", "isic", "classes", "dicom", "fiftyone"
]
SplitName = Literal["train", "val", "test"]
OriginName = Literal["real", "synthetic"]

AdapterOption = Annotated[str, typer.Option(help="'builtin', 'builtin-fast', a run folder, or an adapter folder.")]
BaseOption = Annotated[
    str | None,
    typer.Option(
        help="sd2-base, sd2, sd2.1-base, sd2.1, sd1.5, micro, owner/name@revision or a path.  "
        "(default: as recorded in the adapter)"
    ),
]
MismatchOption = Annotated[
    bool,
    typer.Option("--allow-base-mismatch", help="Use the adapter on another base than its own, if its tensors fit."),
]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Denoising steps.  (default: the adapter's)")]
GuidanceOption = Annotated[
    float | None, typer.Option(min=0, help="Classifier-free guidance; 1 is off.  (default: the adapter's)")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of everything random: another seed gives other results.")]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Pictures that the model works on together.")]
FormatOption = Annotated[FormatName, typer.Option("--format", help="Whose format; docs/formats.md describes them.")]
LinkOption = Annotated[bool, typer.Option("--link", help="Hard links instead of copies of files that do not change.")]
MasksOption = Annotated[bool, typer.Option("--require-masks", help="Leave out photographs without a mask.")]
OpenOption = Annotated[bool, typer.Option("--open/--no-open", help="Show the page in the browser.")]
JudgesOption = Annotated[
    Path | None, typer.Option("--judges", help="Folder of trained judges and features.  (default: the user's cache)")
]
JudgeStepsOption = Annotated[
    int | None, typer.Option(min=1, help="Optimiser steps of each judge that is trained.  (default: 1000)")
]
JudgeEncoderOption = Annotated[
    str | None,
    typer.Option(help="Encoder of trained judges, a name of timm.  (default: tf_efficientnet_lite0)"),
]
JudgeSizeOption = Annotated[
    int | None,
    typer.Option(min=32, help="Side in px at which judges that are trained see, a multiple of 32.  (default: 128)"),
]


def judge_settings(steps: int | None, encoder: str | None, size_px: int | None) -> dict[str, Any]:
    """The fields of a `skindualgen.judges.trained.JudgeRecipe` that were given; it has defaults of the others."""
    given = {"steps": steps, "encoder": encoder, "size_px": size_px}
    return {name: value for name, value in given.items() if value is not None}
