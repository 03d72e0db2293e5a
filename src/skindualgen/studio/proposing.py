"""A photograph on the canvas, first while its mask is read, then with the mask."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from skindualgen.studio.drawn import read_mask_of
from skindualgen.studio.painter import Value, over
from skindualgen.studio.state import Studio
from skindualgen.studio.watched import Done


def proposals(
    studio: Studio, adapter: str, visitor: str, photograph: Image.Image, *, ensemble: int
) -> Iterator[tuple[Value, Image.Image | None]]:
    """Read the mask of a photograph: yields the canvas and the mask, twice.

    The first time there is none, and the canvas waits. A reading that fails leaves an empty canvas to draw on.

    Args:
        studio: whose model reads.
        adapter: name of the model.
        visitor: for whom.
        photograph: RGB, of any size.
        ensemble: draws that are averaged.

    Raises:
        InputError: and whatever else the model raises.
    """
    yield over(photograph, None, waiting=True), None
    try:
        for event in studio.model.draw(
            adapter, visitor, lambda pipeline: read_mask_of(pipeline, photograph, ensemble=ensemble)
        ):
            if isinstance(event, Done):
                yield over(photograph, event.result), event.result
    except Exception:
        yield over(photograph, None), None
        raise
