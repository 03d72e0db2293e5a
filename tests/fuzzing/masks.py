"""Targets: masks as people store them, and damaged ones, through the one reader of masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray
from PIL import Image

from fuzzing.damage import wounded, wounds
from fuzzing.drawn import bilevel, draw, encoded, stored
from fuzzing.target import Case, Outcome, Target, demand, refusal_admitted
from skindualgen.data.images import load_photograph
from skindualgen.data.masks import load_mask

Lesion = NDArray[np.bool_]
LOSSLESS = st.sampled_from(("PNG", "TIFF", "BMP", "GIF"))
LOSSY_AGREEMENT = 0.9
"""Intersection over union of the lesion with the true one, where the file is lossy or its outline soft."""
SIDE = {"number": st.integers(0, 99)}


def _target(
    name: str,
    cases: dict[str, SearchStrategy[object]],
    made: Callable[[Case, Lesion], bytes],
    *,
    refused: bool | None,
    agreement: float = 1.0,
) -> Target:
    """A kind of mask.

    Args:
        name: of the kind.
        cases: what is drawn of it.
        made: its file.
        refused: whether it must be refused; None: it may be.
        agreement: of the lesion that is read with the true one, at the least.
    """

    def check(case: Case, folder: Path) -> Outcome:
        drawn = draw(case["number"])
        (folder / "a.png").write_bytes(encoded(drawn.image, "PNG", case.get("turned", 1)))
        (folder / "mask").write_bytes(made(case, drawn.lesion))
        with refusal_admitted(refused is not False) as outcome:
            photograph = load_photograph(folder / "a.png")
            read = np.asarray(load_mask(folder / "mask", photograph)[0])
            demand(not refused, f"taken, with {np.mean(read > 0):.1%} of lesion")
            found = _agreement(read, drawn.lesion)
            demand(found >= agreement, f"intersection over union with the true lesion {found:.2f}")
        return outcome[0]

    return Target(f"mask, {name}", st.fixed_dictionaries(SIDE | cases), check)


def _agreement(read: NDArray[np.uint8], lesion: Lesion) -> float:
    demand(set(np.unique(read)) <= {0, 255}, f"values {np.unique(read)[:5]}")
    demand(read.shape == lesion.shape, f"shape {read.shape}, not {lesion.shape}")
    return float(((read > 0) & lesion).sum() / ((read > 0) | lesion).sum())


def _levels(case: Case, lesion: Lesion) -> bytes:
    return encoded(bilevel(lesion, level=case["level"]), case["format"])


def _bit(case: Case, lesion: Lesion) -> bytes:
    return encoded(Image.fromarray(lesion), case["format"])


def _palette(case: Case, lesion: Lesion) -> bytes:
    """Two colours at two drawn places of a palette."""
    places = case["places"]
    indices = np.where(lesion, np.uint8(places[1]), np.uint8(places[0]))
    image = Image.fromarray(indices).convert("L")
    palette = np.full((256, 3), case["others"], np.uint8)
    palette[places[0]], palette[places[1]] = (0, 0, 0), case["colour"]
    image.putpalette(palette.ravel().tolist())
    return encoded(image, case["format"])


def _channels(case: Case, lesion: Lesion) -> bytes:
    return encoded(bilevel(lesion).convert(case["mode"]), "PNG")


def _sixteen(case: Case, lesion: Lesion) -> bytes:
    return encoded(bilevel(lesion, level=case["level"], kind=np.uint16), case["format"])


def _colour(case: Case, lesion: Lesion) -> bytes:
    return encoded(Image.fromarray((lesion[..., None] * np.array(case["colour"])).astype(np.uint8)), "PNG")


def _few(case: Case, lesion: Lesion) -> bytes:
    """Background, lesion and a rim or a second class, at three levels far apart."""
    second = np.zeros_like(lesion)
    second[-6:-2, 2 : 2 + case["width"]] = True
    if case["rim"]:
        second = np.zeros_like(lesion)
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            second |= np.roll(lesion, (down, right), (0, 1))
        second &= ~lesion
    low, high = case["levels"]
    values = np.where(lesion, low if case["swapped"] else high, np.where(second, high if case["swapped"] else low, 0))
    return encoded(Image.fromarray(values.astype(np.uint8)), case["format"])


def _soft(case: Case, lesion: Lesion) -> bytes:
    """An outline that scaling has smoothed."""
    big = bilevel(lesion).resize((lesion.shape[1] * 8, lesion.shape[0] * 8), Image.Resampling.NEAREST)
    return encoded(
        big.resize((lesion.shape[1] * 4, lesion.shape[0] * 4), Image.Resampling.BOX).resize(
            (lesion.shape[1] * case["scale"], lesion.shape[0] * case["scale"]), Image.Resampling.BICUBIC
        ),
        "PNG",
    )


def _lossy(case: Case, lesion: Lesion) -> bytes:
    big = bilevel(lesion).resize((lesion.shape[1] * 8, lesion.shape[0] * 8), Image.Resampling.NEAREST)
    return encoded(big, case["format"], quality=case["quality"])


def _one_value(case: Case, lesion: Lesion) -> bytes:
    return encoded(Image.fromarray(np.full(lesion.shape, case["level"], np.uint8)), case["format"])


def _other_aspect(case: Case, lesion: Lesion) -> bytes:
    return encoded(bilevel(lesion[: -case["cut"]]), "PNG")


def _turned(case: Case, lesion: Lesion) -> bytes:
    """Of a photograph with an orientation: with the tag of its own, on the stored pixels without one, or upright."""
    mask, turned = bilevel(lesion), case["turned"]
    if case["how"] == "tag":
        return encoded(mask, case["format"], turned)
    return encoded(stored(mask, turned) if case["how"] == "stored" else mask, case["format"])


def _check_damaged(case: Case, folder: Path) -> Outcome:
    drawn = draw(case["number"])
    (folder / "a.png").write_bytes(encoded(drawn.image, "PNG"))
    mask = bilevel(drawn.lesion)
    mask = mask.convert("P") if case["palette"] else mask
    (folder / "mask").write_bytes(wounded(encoded(mask, case["format"]), case["wounds"]))
    with refusal_admitted(True) as outcome:
        read = np.asarray(load_mask(folder / "mask", load_photograph(folder / "a.png"))[0])
        demand(set(np.unique(read)) == {0, 255}, f"values {np.unique(read)[:5]}")
        demand(read.shape == drawn.lesion.shape, f"shape {read.shape}, not {drawn.lesion.shape}")
    return outcome[0]


COLOURS = ((255, 255, 255), (128, 0, 0), (255, 0, 0), (0, 255, 0), (192, 128, 64))
PLACES = st.lists(st.sampled_from((0, 1, 2, 7, 15, 254, 255)), min_size=2, max_size=2, unique=True)
TARGETS = [
    _target("two levels", {"format": LOSSLESS, "level": st.integers(1, 255)}, _levels, refused=False),
    _target("one bit", {"format": LOSSLESS}, _bit, refused=False),
    _target(
        "palette of black and white",
        {
            "format": LOSSLESS,
            "places": PLACES,
            "colour": st.just((255, 255, 255)),
            "others": st.sampled_from(((0, 0, 0), (255, 255, 255), (9, 9, 9))),
        },
        _palette,
        refused=False,
    ),
    _target(
        "palette of black and a colour",
        {
            "format": LOSSLESS,
            "places": PLACES,
            "colour": st.sampled_from(COLOURS),
            "others": st.just((224, 224, 192)),
        },
        _palette,
        refused=None,
    ),
    _target("equal channels", {"mode": st.sampled_from(("RGB", "RGBA", "LA"))}, _channels, refused=False),
    _target(
        "16 bits",
        {
            "format": st.sampled_from(("PNG", "TIFF")),
            "level": st.sampled_from((1, 255, 4095, 65535)),
        },
        _sixteen,
        refused=False,
    ),
    _target("a colour on black", {"colour": st.sampled_from(COLOURS)}, _colour, refused=None),
    _target(
        "three levels far apart",
        {
            "format": LOSSLESS,
            "levels": st.sampled_from(((128, 255), (1, 2), (100, 200), (85, 170))),
            "width": st.integers(3, 12),
            "rim": st.just(False),
            "swapped": st.booleans(),
        },
        _few,
        refused=True,
    ),
    _target(
        "an ignored rim",
        {
            "format": LOSSLESS,
            "levels": st.sampled_from(((1, 255), (1, 254), (128, 255), (2, 255))),
            "width": st.just(0),
            "rim": st.just(True),
            "swapped": st.just(True),
        },
        _few,
        refused=None,
    ),
    _target("soft outline", {"scale": st.sampled_from((1, 2))}, _soft, refused=None, agreement=LOSSY_AGREEMENT),
    _target(
        "lossy",
        {
            "format": st.sampled_from(("JPEG", "WEBP")),
            "quality": st.integers(60, 95),
        },
        _lossy,
        refused=None,
        agreement=LOSSY_AGREEMENT,
    ),
    _target("one value", {"format": LOSSLESS, "level": st.sampled_from((0, 1, 128, 255))}, _one_value, refused=True),
    _target("another aspect", {"cut": st.integers(3, 10)}, _other_aspect, refused=True),
    _target(
        "turned by 90 degrees",
        {
            "format": st.sampled_from(("PNG", "TIFF")),
            "turned": st.integers(5, 8),
            "how": st.sampled_from(("tag", "stored", "upright")),
        },
        _turned,
        refused=False,
    ),
    _target(
        "turned by 180 degrees or flipped",
        {
            "format": st.sampled_from(("PNG", "TIFF")),
            "turned": st.integers(2, 4),
            "how": st.sampled_from(("tag", "stored", "upright")),
        },
        _turned,
        refused=None,
    ),
    Target(
        "mask, damaged",
        st.fixed_dictionaries(
            SIDE
            | {
                "format": st.sampled_from(("PNG", "TIFF", "BMP", "GIF", "JPEG", "WEBP")),
                "palette": st.just(False),
                "wounds": wounds(),
            }
        ),
        _check_damaged,
    ),
]
