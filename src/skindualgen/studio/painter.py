"""A canvas for masks: drawn from nothing, or edited over a photograph, by mouse, finger, pen or keyboard."""

from __future__ import annotations

import base64
import binascii
import html
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.data.masks import LESION_ABOVE
from skindualgen.studio.generation import predict_mask
from skindualgen.studio.pieces import data_uri
from skindualgen.studio.uploads import Limits, checked_mask
from skindualgen.studio.watched import Done

if TYPE_CHECKING:
    from skindualgen.studio.state import Studio

CANVAS_PX = 512
"""Side of an empty canvas, and longest side of a photograph on it times two."""
PHOTO_PX = 1024
JPEG_QUALITY = 92
PREFIX = "data:image/png;base64,"
SCRIPT = Path(__file__).with_name("painter.js").read_text(encoding="utf-8")
TEMPLATE = """
<div class="sdg-painter" role="group" aria-label="{label}">
<div class="sdg-tools">
<span class="sdg-switch"><button type="button" data-tool="draw" aria-pressed="true">Draw</button>
<button type="button" data-tool="erase" aria-pressed="false">Erase</button></span>
<label class="sdg-opacity">Brush
<input type="range" data-size min="2" max="40" value="14" aria-label="Size of the brush"></label>
<button type="button" data-do="undo">Undo</button><button type="button" data-do="clear">Clear</button>
</div>
<div class="sdg-easel"><div class="sdg-easel-in"><img alt="The photograph under the mask" hidden>
<canvas tabindex="0" role="img" aria-label="{label}. {help}"></canvas><i class="sdg-ring"></i>
<span class="sdg-waiting" role="status">The mask is being read …</span></div></div>
<p class="sdg-hint">{help}</p><span class="sdg-hidden" role="status"></span></div>
"""
HELP = "Draw with mouse, finger or pen; or with the arrow keys and the space bar."

Value = dict[str, Any]


def build_painter(label: str, elem_id: str) -> gr.HTML:
    """Lay out an empty canvas; its value is what `blank`, `over` and `painted` make and read."""
    template = TEMPLATE.format(label=html.escape(label, quote=True), help=HELP)
    return gr.HTML(
        blank(), html_template=template, js_on_load=SCRIPT, elem_id=elem_id, label=label, apply_default_css=False
    )


def blank(mask: Image.Image | None = None) -> Value:
    """The value of a canvas with nothing but a mask, or nothing."""
    width, height = (CANVAS_PX, CANVAS_PX) if mask is None else mask.size
    return {"photo": None, "mask": mask and _mask_uri(mask), "width": width, "height": height, "edit": 0}


def over(photograph: Image.Image, mask: Image.Image | None, *, waiting: bool = False) -> Value:
    """The value of a canvas with a mask over a photograph, which is reduced to ``PHOTO_PX``.

    Args:
        photograph: of any size.
        mask: of any size; none for an empty canvas.
        waiting: a mask is on its way, and would replace what is drawn before it comes: nothing can be.
    """
    small = photograph.convert("RGB")
    small.thumbnail((PHOTO_PX, PHOTO_PX), Image.Resampling.LANCZOS)
    photo = data_uri(small, quality=JPEG_QUALITY)
    fitted = mask and mask.resize(small.size, Image.Resampling.BILINEAR)
    width, height = small.size
    value = {"photo": photo, "mask": fitted and _mask_uri(fitted), "width": width, "height": height}
    return value | {"edit": 0, "waiting": waiting}


def check_settled(value: Value | None) -> None:
    """Refuse a canvas whose mask is on its way.

    Raises:
        InputError: it is.
    """
    if isinstance(value, dict) and value.get("waiting"):
        raise InputError("a photograph whose mask is still being read", "its mask", "wait until it is there")


def edited(value: Value | None) -> bool:
    """Whether the visitor has drawn since the value was set."""
    return bool(isinstance(value, dict) and value.get("edit"))


def painted(value: Value | None, limits: Limits) -> Image.Image:
    """The mask (0 / 255) on a canvas.

    Raises:
        InputError: its mask is on its way, nothing is drawn, all of it is, or it is no picture within the limits.
    """
    check_settled(value)
    uri = value.get("mask") if isinstance(value, dict) else None
    if not uri:
        raise InputError("an empty canvas", "a lesion drawn on it", "draw the lesion, or upload a mask")
    if not isinstance(uri, str) or not uri.startswith(PREFIX) or len(uri) > limits.upload_bytes:
        raise _damaged()
    try:
        with Image.open(io.BytesIO(base64.b64decode(uri[len(PREFIX) :], validate=True)), formats=["PNG"]) as picture:
            if picture.width * picture.height > limits.upload_pixels:
                raise _damaged()
            alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise _damaged() from error
    return checked_mask(alpha >= 128)


def _mask_uri(mask: Image.Image) -> str:
    """A mask as white on nothing."""
    white = Image.new("RGBA", mask.size, "white")
    white.putalpha(mask.convert("L").point(lambda grey: 255 * (grey > LESION_ABOVE)))
    return data_uri(white, "PNG")


def _damaged() -> InputError:
    return InputError("a canvas that cannot be read", "what was drawn on it", "clear it and draw again")


def read_masks(
    studio: Studio, adapter: str, visitor: str, photograph: Image.Image, *, ensemble: int
) -> Iterator[tuple[Value, Image.Image | None]]:
    """Read the mask of a photograph: yields the canvas and the mask, twice.

    The first time there is none, and the canvas waits. A reading that fails leaves an empty canvas to draw on.

    Args:
        studio: whose model reads.
        adapter: name of the model.
        visitor: for whom.
        photograph: RGB, of any size.
        ensemble: readings that are averaged.

    Raises:
        InputError: and whatever else the model raises.
    """
    yield over(photograph, None, waiting=True), None
    try:
        for event in studio.model.draw(
            adapter, visitor, lambda pipeline: predict_mask(pipeline, photograph, ensemble=ensemble)
        ):
            if isinstance(event, Done):
                yield over(photograph, event.result), event.result
    except Exception:
        yield over(photograph, None), None
        raise
