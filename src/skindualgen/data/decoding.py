"""A picture file, or a picture in memory: decoded, brought upright, or refused with a reason code."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from skindualgen.contracts import InputError, SkinDualGenError

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG2000")
"""Formats that are decoded; a phone's MPO counts as JPEG. Others of Pillow's are no photographs (PSD, ...), and some
start other programs (EPS)."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".jp2")
MAX_PIXELS = 120_000_000
"""Pixels an image may have, unless another limit is given: four times the largest ISIC photographs (6,688 x 4,439)."""

EXIF_ORIENTATION = 0x0112
EXIF_SWAPS_SIDES = 5
"""EXIF orientations from this one on exchange width and height."""
EXIF_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the operation that brings the stored pixels upright (Exif 2.3, tag 274)."""
ORIENTATION_KEYS = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Where a picture of Pillow's carries its orientation along."""

READABLE = ("a whole picture that can be decoded", "restore it, or save it again as PNG or JPEG")
REMEDIES: dict[str, tuple[str, str]] = {
    "decompression_bomb": ("a smaller picture", "make it smaller"),
    "multi_frame": ("one picture", "save the frame that is meant as a file of its own"),
    "bit_depth": (
        "8 bits (0 to 255), 16 bits (0 to 65535) or decimals in [0, 1]",
        "scale it: divide values from 0 to 255 by 255",
    ),
    "not_finite": ("numbers that are finite", "fix what made them"),
    "array_type": ("a picture file, a PIL image, an array or a tensor of numbers", "open the file first"),
    "array_shape": (
        "array [h, w], [h, w, 3] or [b, h, w, 3], or Tensor [3, h, w] or [b, 3, h, w]; a mask has one channel",
        "reshape it",
    ),
    "colour_mode": ("RGB, grey, palette or CMYK", "convert it to RGB"),
    "transparent": ("a picture without transparent pixels", "paint what lies under them, and save it again"),
    "mask_levels": (
        "0 for background and one other value for lesion, as 0 and 255",
        "say which level is lesion: write it as 255 and all else as 0 (divide values from 0 to 255 by 255 where "
        "decimals in [0, 1] are meant)",
    ),
    "mask_soft": ("two values, or two with an outline between them", "cut it yourself, for example at one half"),
    "mask_coloured": ("one colour on black, white on black being the usual", "write the lesion as 255, all else as 0"),
    "mask_aspect": ("a mask of its photograph's aspect", "give the mask that belongs to the photograph"),
    "mask_orientation": ("a photograph stored upright", "save the photograph upright, without the EXIF orientation"),
    "mask_empty": ("a lesion and skin around it", "draw the lesion in white, or leave the mask out"),
    "mask_line": ("the lesion filled, not its outline", "fill the outlines, or leave the mask out"),
    "mask_full": ("a lesion and skin around it", "draw the lesion in white on black, or leave the mask out"),
}
"""Reason code -> what would have been right, and what to do, in an `InputError`; else `READABLE`."""


class Adjustment(NamedTuple):
    """Something that was done to an item so that it could be used: a code and what it was about."""

    code: str
    detail: str


class ItemError(SkinDualGenError):
    """One item cannot be used: reason code and detail for ``rejected.csv``."""

    def __init__(self, code: str, detail: str) -> None:
        self.code, self.detail = code, detail
        super().__init__(f"{code}: {detail}")

    def input_error(self, name: str) -> InputError:
        """The same for a caller who gave this one picture, under the name by which the caller knows it."""
        return InputError(f"{name}: {self}", *REMEDIES.get(self.code, READABLE))


@dataclass(frozen=True)
class Decoded:
    """A picture as it is stored, of any mode of Pillow's, but upright.

    ``orientation`` is the EXIF orientation that was applied, 1 to 8 (1: none); ``bits`` of a channel in the file are
    16, or else 8 or fewer.
    """

    image: Image.Image
    orientation: int
    bits: int

    @property
    def lower_bits_lost(self) -> bool:
        """Whether the lower half of 16 bits is lost: Pillow hands out 16-bit RGB as 8-bit without a word."""
        return self.bits == 16 and self.image.mode in ("RGB", "RGBA", "LA")


def decode(source: Path | bytes | Image.Image, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Decode a file in one of `FORMATS`, or its content, or take a picture of Pillow's; bring it upright.

    Raises:
        ItemError: no image of `FORMATS`, damaged, with more than ``max_pixels`` or more than one frame.
    """
    if isinstance(source, Image.Image):
        with _decoder("the picture", max_pixels):
            return _upright(source)
    if isinstance(source, bytes):
        with _decoder("the picture", max_pixels), io.BytesIO(source) as content:
            return _upright(Image.open(content, formats=FORMATS))
    with _decoder(source.name, max_pixels), source.open("rb") as file:
        # The file is opened here and not by Pillow, which leaves it open when decoding fails.
        return _upright(Image.open(file, formats=FORMATS))


@contextmanager
def _decoder(name: str, max_pixels: int) -> Iterator[None]:
    """Set Pillow's limit of pixels, and turn whatever decoders raise into an `ItemError`."""
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = max_pixels
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except ItemError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ItemError("decompression_bomb", f"more than {max_pixels} pixels in {name}") from None
    except UnidentifiedImageError:
        raise ItemError("not_an_image", f"{name} is none of {', '.join(FORMATS)}") from None
    # Decoders of damaged files raise nearly anything: OSError, SyntaxError, ValueError, struct.error, zlib.error, ...
    except Exception as error:
        raise ItemError("damaged_image", f"{name}: {type(error).__name__}: {error}") from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _upright(image: Image.Image) -> Decoded:
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise ItemError("multi_frame", f"{getattr(image, 'n_frames', 1)} frames in one {image.format} file")
    bits = _bits(image)
    orientation = _orientation(image)
    image.load()
    # Pillow turns some containers (TIFF) while it decodes them, and then forgets the orientation; others it does not.
    if (left := _orientation(image)) != 1:
        image = image.transpose(EXIF_TRANSPOSE[left])
        for key in ORIENTATION_KEYS:  # or whoever reads the upright picture again would turn it again
            image.info.pop(key, None)
    return Decoded(image, orientation, bits)


def without_palette(image: Image.Image) -> Image.Image:
    """Return a picture of mode P as RGB, or RGBA where its palette has transparent colours.

    Raises:
        ItemError: the palette does not tell the pixels apart, as where numbers were written as places in one that is
            missing (``Image.fromarray(labels, "P")``): all would be black.
    """
    colours = image.getpalette("RGB") or []
    places = np.unique(np.asarray(image)).tolist()
    if max(places) >= len(colours) // 3:
        detail = f"a palette of {len(colours) // 3} colours, and pixels of the colour number {max(places)}"
        raise ItemError("colour_mode", detail)
    transparent = "transparency" in image.info
    different = {tuple(colours[3 * place : 3 * place + 3]) for place in places}
    if len(places) > len(different) == 1 and not transparent:
        raise ItemError("colour_mode", f"a palette with one colour for {len(places)} colour numbers")
    return image.convert("RGBA" if transparent else "RGB")


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(EXIF_ORIENTATION, 1)
    return value if value in EXIF_TRANSPOSE else 1


def _bits(image: Image.Image) -> int:
    if image.mode.startswith("I;16"):
        return 16
    if image.format == "PNG":
        # Before it decodes, Pillow says how pixels are stored: "RGB;16B"
        return 16 if any(";16" in str(tile[-1]) for tile in getattr(image, "tile", ())) else 8
    if image.format == "TIFF":
        bits_per_sample: Sequence[int] | int = getattr(image, "tag_v2", {}).get(258, 8)
        return bits_per_sample if isinstance(bits_per_sample, int) else max(bits_per_sample)
    return 8
