"""What a photograph and its mask look like, in words that a prompt can say: size, shape, colours, border, frame, hair.

A diagnosis, a site and a sex leave nearly everything open that one sees. Captions that say more teach a text-to-image
model faster and let it vary where it is told to (Betker et al. 2023, "Improving image generation with better captions",
method only). All words are measured by formula, none by a network: lightness and hue are those of the photograph
(CIELAB, D65), not skin types, and no word claims a dermoscopic structure. Thresholds lie at about equal shares of 826
public dermoscopic photographs.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.data.prompts import MAX_CLIP_TOKENS, clip_token_bound

SIDE_PX = 128
LEAST_PX = 40
"""of a lesion, and of the skin beside it; below, there is nothing to measure"""

WHOLE_SHARE, KEPT_SHARE = 0.5, 0.7
"""of training prompts that say all words; of words that the others say"""

# No word is in two lists, so that a model that reads a prompt as a set of words understands it too.
_SIZES = ((0.04, 0.08, 0.15, 0.25, 0.40, 0.60), ("tiny", "little", "small", "medium", "large", "broad", "huge"))
_SHAPES = ((1.15, 1.45), ("round", "oval", "elongated"))
_EDGES = ((0.75, 1.3, 1.9, 2.7), ("fading border", "blurred border", "", "sharp border", "crisp border"))
_OUTLINES = ((0.66,), ("irregular", ""))
_CUT = ((0.03, 0.2), ("", "cut off", "overflowing"))
_COLOURS = ((4.5, 7.5, 10.5, 13.5), ("uniform", "one color", "two colors", "several colors", "variegated"))
_FOCUS = ((1.1, 1.6, 2.2, 2.9), ("plain", "smooth", "", "rough", "coarse"))
_CORNERS = ((4.0, 9.0, 25.0), ("", "dark corners", "vignette", "black corners"))
_HAIR = ((0.02, 0.05), ("", "hair", "hairy"))
_LIGHT = ((7.0, 13.0), ("", "shading", "shadow"))
_MARK = ((0.01,), ("", "sticker"))
_OFF_CENTRE = 0.08

_GRAY_CHROMA, _DULL_CHROMA, _VIVID_CHROMA = 7.0, 17.0, 32.0


class _Palette(NamedTuple):
    """Words for a colour: of lightness, of hue angle, for no hue and for one that skin lacks, and of chroma."""

    tones: tuple[tuple[float, ...], tuple[str, ...]]
    hues: tuple[tuple[float, ...], tuple[str, ...]]
    gray: str
    blue: str
    dull: str
    vivid: str

    def colour(self, lab: NDArray[np.float64]) -> str:
        """Such as "dark vivid red brown": lightness, chroma and hue of a colour in CIELAB."""
        chroma, hue = float(np.hypot(lab[1], lab[2])), float(np.degrees(np.arctan2(lab[2], lab[1])))
        if chroma < _GRAY_CHROMA:
            name = self.gray
        elif not -20 < hue < 115:
            name = self.blue
        else:
            kind = self.dull if chroma < _DULL_CHROMA else self.vivid if chroma > _VIVID_CHROMA else ""
            name = f"{kind} {_level(hue, self.hues)}".strip()
        return f"{_level(float(lab[0]), self.tones)} {name}"

    def words(self) -> list[str]:
        """All colours that there are."""
        named = [f"{kind} {hue}".strip() for kind in ("", self.dull, self.vivid) for hue in self.hues[1]]
        return [f"{tone} {name}" for tone in self.tones[1] for name in (*named, self.gray, self.blue)]


_LESION = _Palette(
    ((20, 30, 39, 47, 54, 61, 70), ("black", "blackish", "dark", "darkish", "mid", "light", "pale", "whitish")),
    ((30, 41, 49, 57, 66), ("pink", "red", "red brown", "brown", "yellow brown", "yellow")),
    "gray",
    "blue-gray",
    "gray",
    "vivid",
)
_SKIN = _Palette(  # how light the skin was photographed, which is no skin type
    ((55, 62, 68, 74, 82), ("dim", "shaded", "lit", "bright", "brilliant", "glaring")),
    ((25, 42, 55, 70), ("pinkish", "reddish", "brownish", "tan", "yellowish")),
    "grayish",
    "bluish",
    "soft",
    "strong",
)


class Appearance(NamedTuple):
    """Words of one photograph; an empty one says that nothing is to be said."""

    size: str
    shape: str
    place: str
    lesion_colour: str
    skin_colour: str
    border: str
    colours: str
    focus: str
    corners: str
    hair: str
    light: str
    mark: str

    def phrase(self) -> str:
        """All of it, as the end of a prompt: ``small oval, dark brown on bright pinkish skin, sharp border, hair``."""
        form = " ".join(word for word in (self.size, self.shape, self.place) if word)
        skin = f"{self.skin_colour} skin" if self.skin_colour else ""
        colours = " on ".join(word for word in (self.lesion_colour, skin) if word)
        return ", ".join(word for word in (form, colours, *self[5:]) if word)


def appearance_of(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> Appearance:
    """Measure a photograph, at 128 x 128 px.

    Args:
        image: [h, w, 3], sRGB.
        mask: [h, w], True on the lesion.

    Returns:
        Words; without a lesion, or where it fills the picture, what can be said all the same.
    """
    from scipy import ndimage  # words are drawn and joined without these
    from skimage.color import rgb2lab

    image, mask = _small(image), _small(255 * mask.astype(np.uint8)) > 127
    lab = rgb2lab(image)
    lightness, height, width = lab[..., 0], *mask.shape
    rows, columns = np.mgrid[:height, :width]
    radius = np.hypot(rows - height / 2 + 0.5, columns - width / 2 + 0.5) / (height / 2)
    around = ndimage.binary_dilation(mask, iterations=4)
    skin = ~around & (radius < 1.05) & (lightness > 20)
    has_skin, has_lesion = skin.sum() >= LEAST_PX, mask.sum() >= LEAST_PX
    skin_colour = np.median(lab[skin if has_skin else radius < 2], axis=0)
    words = dict.fromkeys(Appearance._fields, "")
    if has_lesion:
        words |= _lesion_words(lab, mask, around)
    if has_skin:
        words["skin_colour"] = _SKIN.colour(skin_colour)
        place = np.stack([rows[skin] / height, columns[skin] / width, np.ones(skin.sum())], axis=1)
        slope = np.linalg.lstsq(place, lightness[skin], rcond=None)[0]
        words["light"] = _level(float(np.hypot(*slope[:2])), _LIGHT)
        closed = ndimage.grey_closing(lightness, size=(5, 5)) - lightness
        strands = (closed > 7) & ~ndimage.binary_erosion(mask) & (radius < 1.2) & (lightness > 15)
        words["hair"] = _level(float(strands.sum() / (~mask).sum()), _HAIR)
    corners = np.median([lightness[:10, :10], lightness[:10, -10:], lightness[-10:, :10], lightness[-10:, -10:]])
    words["corners"] = _level(float(skin_colour[0] - corners), _CORNERS)
    fine = lightness - ndimage.gaussian_filter(lightness, 1.5)
    inner = ndimage.binary_erosion(mask, iterations=2)
    words["focus"] = _level(float(fine[inner if inner.sum() >= LEAST_PX else radius < 1].std()), _FOCUS)
    chroma, hue = np.hypot(lab[..., 1], lab[..., 2]), np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
    words["mark"] = _level(float(((chroma > 14) & ((hue > 110) | (hue < -20))).mean()), _MARK)
    return Appearance(**words)


def placed(mask: NDArray[np.bool_]) -> str:
    """Where the middle of a lesion lies off the picture's, such as "upper left"; empty near it, or without a lesion."""
    if mask.sum() < LEAST_PX:
        return ""
    down, right = (np.mean(at) / side - 0.5 for at, side in zip(np.nonzero(mask), mask.shape, strict=True))
    vertical = "upper" if down < -_OFF_CENTRE else "lower" if down > _OFF_CENTRE else ""
    sideways = "left" if right < -_OFF_CENTRE else "right" if right > _OFF_CENTRE else ""
    return " ".join(word for word in (vertical, sideways) if word)


def _lesion_words(lab: NDArray[np.float64], mask: NDArray[np.bool_], around: NDArray[np.bool_]) -> dict[str, str]:
    from scipy import ndimage
    from skimage.measure import perimeter

    lightness = lab[..., 0]
    rows, columns = np.nonzero(mask)
    long, short = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(np.stack([rows, columns]))), 1e-6))[::-1]
    smooth = ndimage.gaussian_filter(lightness, 1)
    slope = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)) / 8
    rim = around & ~ndimage.binary_erosion(mask, iterations=3)
    compactness = 4 * np.pi * mask.sum() / max(1.0, perimeter(mask)) ** 2
    cut = float(np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]]).mean())
    border = [_level(float(slope[rim].mean()), _EDGES), _level(float(compactness), _OUTLINES), _level(cut, _CUT)]
    return {
        "size": _level(float(mask.mean()), _SIZES),
        "shape": _level(float(long / short), _SHAPES),
        "place": placed(mask),
        "lesion_colour": _LESION.colour(np.median(lab[mask], axis=0)),
        "border": ", ".join(word for word in border if word),
        "colours": _level(float(lightness[mask].std()), _COLOURS),
    }


def with_appearance(prompt: str, appearance: str) -> str:
    """A prompt that goes on with words for looks, as many as CLIP's text encoder is sure to read."""
    for part in appearance.split(", "):
        longer = f"{prompt}, {part}" if prompt else part
        if clip_token_bound(longer) > MAX_CLIP_TOKENS:
            break
        prompt = longer
    return prompt


def form_of(appearance: str) -> str:
    """Its words of size, shape and place, which a mask tells; empty if there are none."""
    first = appearance.split(", ")[0]
    return first if set(first.split()) & {*_SIZES[1], *_SHAPES[1]} else ""


def with_form(appearance: str, form: str) -> str:
    """An appearance with other words of size, shape and place."""
    rest = appearance.removeprefix(form_of(appearance)).removeprefix(", ")
    return ", ".join(part for part in (form, rest) if part)


def some_words(appearance: str, rng: np.random.Generator) -> str:
    """All words of an appearance or, half of the time, some of them: what a user's prompt says may be less."""
    parts = appearance.split(", ")
    if rng.random() < WHOLE_SHARE:
        return appearance
    return ", ".join(part for part in parts if rng.random() < KEPT_SHARE)


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if picture.shape[:2] == (SIDE_PX, SIDE_PX):
        return picture
    return np.asarray(Image.fromarray(picture).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))


def _level(value: float, scale: tuple[tuple[float, ...], tuple[str, ...]]) -> str:
    return scale[1][bisect(scale[0], value)]


WORDS = tuple(
    dict.fromkeys(
        word
        for _, words in (_SIZES, _SHAPES, _EDGES, _OUTLINES, _CUT, _COLOURS, _FOCUS, _CORNERS, _HAIR, _LIGHT, _MARK)
        for word in words
        if word
    )
)
"""All that an appearance can say, colours and places apart."""
COLOUR_WORDS = (*_LESION.words(), *(f"{words} skin" for words in _SKIN.words()))

SCALES: Mapping[str, tuple[str, ...]] = {
    name: tuple(word for word in words if word)
    for name, words in {
        "size": _SIZES[1],
        "shape": _SHAPES[1],
        "lesion_colour": tuple(f"{tone} brown" for tone in _LESION.tones[1]),
        "border": _EDGES[1],
        "colours": _COLOURS[1],
        "focus": _FOCUS[1],
        "hair": _HAIR[1],
    }.items()
}
"""Words in order, by the field of `Appearance` that they are of: from small, dark, blurred, uniform or bare upwards."""


def appearance_at(**places: int) -> str:
    """Words for looks, chosen on their scales.

    Args:
        places: for fields that `SCALES` names: 0 says nothing, 1 the first word of its scale.
    """
    words = {name: SCALES[name][place - 1] for name, place in places.items() if place}
    return Appearance(**(dict.fromkeys(Appearance._fields, "") | words)).phrase()
