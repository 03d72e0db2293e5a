"""Pairs on the page: picture, mask and contour in one frame that the page switches between by itself."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from skindualgen.planning.anchors import Anchoring
from skindualgen.production.chunk import AREA_SCORE
from skindualgen.studio.generation import Generated
from skindualgen.studio.pieces import data_uri
from skindualgen.studio.real_pairs import seen_pair

LIVE_QUALITY = 85
"""JPEG quality of pictures in the making."""
MASK_TOO_SMALL = 0.005
"""Share of the picture below which a mask is as good as none."""

VIEWS = (
    '<div class="sdg-views" role="group" aria-label="How pairs are shown">'
    '<span class="sdg-switch">'
    '<button type="button" data-view="overlay" aria-pressed="true">Overlay</button>'
    '<button type="button" data-view="image" aria-pressed="false">Image</button>'
    '<button type="button" data-view="mask" aria-pressed="false">Mask</button></span>'
    '<label class="sdg-opacity">Tint<input type="range" data-opacity min="0" max="100" value="18" '
    'aria-label="Opacity of the mask over the image"></label></div>'
)
"""The switch of all frames on the page."""


def live(pairs: Sequence[tuple[Image.Image, Image.Image]], *, finished: int, outlined: bool) -> str:
    """Pairs in the making.

    Args:
        pairs: picture and mask of each.
        finished: so many, the first ones, are complete.
        outlined: show the outlines of the others too; early masks are noise, whose outline would hide the picture.
    """
    cards = []
    for place, (image, mask) in enumerate(pairs):
        state = "complete" if place < finished else "in the making"
        outline = mask if outlined or place < finished else None
        frame = _frame(
            data_uri(image, quality=LIVE_QUALITY),
            data_uri(mask, "PNG"),
            outline,
            image.size,
            f"Pair {place + 1}, {state}",
        )
        cards.append(f'<article class="sdg-pair{"" if place < finished else " sdg-live"}">{frame}</article>')
    return f'<div class="sdg-pairs">{"".join(cards)}</div>'


def gallery(generated: Generated, *, more: bool = False) -> str:
    """The finished pairs, each with its scores and downloads, after the real one that they were made from, if any.

    Args:
        generated: the pairs.
        more: offer "More like this" with each.
    """
    cards = [] if generated.request.anchoring is None else [_real(generated.request.anchoring, generated.image(0))]
    for place, (record, agreement) in enumerate(zip(generated.records, generated.agreements, strict=True)):
        area = (record.scores or {}).get(AREA_SCORE, 0.0)
        with Image.open(generated.mask(place)) as mask:
            path_to = generated.image(place)
            shown = f"Pair {place + 1}: {record.prompt}"
            frame = _frame(_file_uri(path_to), _file_uri(generated.mask(place)), mask, mask.size, shown)
        warning = '<span class="sdg-warn">no lesion</span>' if area < MASK_TOO_SMALL else ""
        name = html.escape(record.isic_id)
        again = (
            f'<button type="button" data-action="more" data-index="{place}" '
            f'aria-label="More like pair {place + 1}">More like this</button>'
        )
        cards.append(
            f'<article class="sdg-pair">{frame}<div class="sdg-pair-foot">'
            f'<div class="sdg-pair-facts"><b>{place + 1}</b>{warning}'
            f'<span title="Share of the picture that the mask calls lesion">area {100 * area:.0f} %</span>'
            '<span title="Dice of the mask and of what the adapter reads from the picture alone, 1 is equal">'
            f"agreement {agreement:.2f}</span></div>"
            f'<div class="sdg-actions">{again if more else ""}'
            f'<button type="button" data-save="image" data-name="{name}.png" '
            f'aria-label="Download the image of pair {place + 1}">Image</button>'
            f'<button type="button" data-save="mask" data-name="{name}_mask.png" '
            f'aria-label="Download the mask of pair {place + 1}">Mask</button></div></div></article>'
        )
    return f'<div class="sdg-pairs">{"".join(cards)}</div>'


def _real(anchoring: Anchoring, beside: Path) -> str:
    """The card of a real pair, at the size of a picture that was made from it."""
    with Image.open(beside) as made:
        record, image, mask = seen_pair(anchoring, made.width)
    name = html.escape(record.isic_id)
    frame = _frame(data_uri(image, "PNG"), data_uri(mask, "PNG"), mask, image.size, f"The real pair {record.isic_id}")
    return (
        f'<article class="sdg-pair sdg-real">{frame}<div class="sdg-pair-foot"><div class="sdg-pair-facts">'
        f"<b>real</b><span>{name}</span><span>{html.escape(record.diagnosis or '')}</span></div></div></article>"
    )


def _frame(image_uri: str, mask_uri: str, mask: Image.Image | None, size: tuple[int, int], alt: str) -> str:
    from skindualgen.report.page import Outline
    from skindualgen.report.render import outline_path

    width, height = size
    path = "" if mask is None else outline_path(Outline(mask, "mask"), width, height)
    said = html.escape(alt, quote=True)
    return (
        f'<button type="button" class="sdg-frame" data-zoom aria-label="Enlarge. {said}">'
        f'<span class="sdg-frame-in" style="aspect-ratio:{width}/{height}">'
        f'<img class="sdg-image" src="{image_uri}" alt="{said}">'
        f'<img class="sdg-mask" src="{mask_uri}" alt="Mask. {said}">'
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true"><path class="sdg-tint" d="{path}"/>'
        f'<path class="sdg-halo" d="{path}"/><path class="sdg-line" d="{path}"/></svg></span></button>'
    )


def _file_uri(path: Path) -> str:
    """The file as it is: what is saved from the page is the file of the data set, to the last byte."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
