"""The pipeline of the commands that draw: on the fastest device, without progress bars of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from skindualgen.sample.pipeline import SkinDualGenPipeline

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


def load_pipeline(adapter: str, base: str | None, *, allow_base_mismatch: bool) -> SkinDualGenPipeline:
    """Load an adapter and its base; download the base if it has to come from the hub."""
    from skindualgen.production.sampler import PipelineFactory, device_of

    place = adapter if adapter == "builtin" else Path(adapter)
    return PipelineFactory(place, base, allow_base_mismatch=allow_base_mismatch).load().to(device_of(0))
