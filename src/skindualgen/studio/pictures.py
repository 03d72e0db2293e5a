"""Pictures of data sets for the page: small ones that are kept, a large one, each with its mask's contour as a path."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.images import ItemError, load_photograph
from skindualgen.data.masks import load_mask
from skindualgen.studio.pieces import data_uri
from skindualgen.studio.review import Library

SMALL_PX, LARGE_PX = 224, 1024
"""Longest side on the page."""
JPEG_QUALITY = 88
KEPT_PICTURES = 2048
"""Small pictures that are kept in memory, of about 10 kB each."""


@dataclass(frozen=True)
class Shown:
    """A picture for the page.

    Attributes:
        uri: data URI; empty if it cannot be read.
        width, height: px.
        contour: ``d`` of an SVG path in a box of this size; empty without a mask.
        problem: why the picture, or its contour, is not shown; empty if all is well.
        given: whether the contour is an expert's, and not a generator's.
    """

    uri: str
    width: int
    height: int
    contour: str = ""
    problem: str = ""
    given: bool = False


def shown(library: Library, name: str, record: PairRecord, *, max_pixels: int, side_px: int = SMALL_PX) -> Shown:
    """Prepare a pair's picture; one that cannot be read becomes a reason, never an error."""
    try:
        image = library.picture(name, record.file_name)
        mask = None if record.mask_file_name is None else library.picture(name, record.mask_file_name)
    except InputError as error:
        return Shown("", side_px, side_px, problem=f"{error.got}; {error.remedy}")
    stamps = tuple(path.stat().st_mtime_ns for path in (image, mask) if path is not None)
    prepared = (
        _prepare(image, mask, side_px, max_pixels)
        if side_px > SMALL_PX
        else _kept(image, mask, stamps, side_px, max_pixels)
    )
    return replace(prepared, given=record.origin == "real")


@lru_cache(KEPT_PICTURES)
def _kept(image: Path, mask: Path | None, _stamps: tuple[int, ...], side_px: int, max_pixels: int) -> Shown:
    return _prepare(image, mask, side_px, max_pixels)


def _prepare(image: Path, mask: Path | None, side_px: int, max_pixels: int) -> Shown:
    from skindualgen.report.page import Outline
    from skindualgen.report.render import outline_path

    try:
        photograph = load_photograph(image, max_pixels=max_pixels)
    except ItemError as error:
        return Shown("", side_px, side_px, problem=f"{image.name}: {error}")
    contour, problem = "", ""
    picture = photograph.image.copy()
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    if mask is not None:
        try:
            lesion, _ = load_mask(mask, photograph, max_pixels=max_pixels, allow_uniform=True)
            contour = outline_path(Outline(lesion, ""), *picture.size)
        except (ItemError, InputError) as error:
            problem = f"{mask.name}: {error}"
    return Shown(data_uri(picture, quality=JPEG_QUALITY), *picture.size, contour, problem)


def picture_html(picture: Shown) -> str:
    """A picture with its mask's contour over it."""
    if not picture.uri:
        return f'<span class="sdg-picture sdg-broken">{html.escape(picture.problem)}</span>'
    box = f"0 0 {picture.width} {picture.height}"
    kinds = ("sdg-under", "sdg-over sdg-given" if picture.given else "sdg-over")
    paths = "".join(f'<path class="{kind}" d="{picture.contour}"/>' for kind in kinds)
    return (
        f'<span class="sdg-picture"><img src="{picture.uri}" alt="" width="{picture.width}" height="{picture.height}">'
        f'<svg viewBox="{box}" aria-hidden="true">{paths}</svg></span>'
    )
