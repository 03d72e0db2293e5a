"""Skin tone as the Individual Typology Angle (ITA) of the skin around a lesion, and its distribution in two sets.

Light and white balance of dermatoscopes are not calibrated, and polarised light and contact gel change the colour. So
an ITA from dermoscopy is relative: it compares sets that were taken and processed alike, and is no phototype of a
patient. How published ways of estimating it disagree on one archive: Kalb et al., Revisiting skin tone fairness in
dermatological lesion classification, MICCAI workshop 2023.

Source: Chardon, Cretois, Hourseau, Skin colour typology and suntanning pathways, International Journal of Cosmetic
Science 13 (1991) 191 (the angle); Del Bino and Bernerd, British Journal of Dermatology 169 (2013) 33 (the categories);
Kinyanjui et al., Fairness of classifiers across skin tones in dermatology, MICCAI 2020 (on the skin outside the mask).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab

from skindualgen.contracts import InputError
from skindualgen.metrics.distributions import compared_with_real, wasserstein
from skindualgen.metrics.intervals import bootstrap, mean_of_means, rate
from skindualgen.metrics.measures import HELD_OUT, Measure, Reference

CATEGORIES = ("dark", "brown", "tan", "intermediate", "light", "very light")
UPPER_DEGREES = (-30.0, 10.0, 28.0, 41.0, 55.0)
"""A category holds the angles above the one before it, up to and including its own; "very light" is above 55."""

MARGIN = 0.05
"""Width of the ring around the lesion that is not measured, of the picture's shorter side: masks are drawn tight, and
the skin next to a lesion is often reddened."""

DARK_LIGHTNESS = 20.0
"""L* below which a pixel shows aperture or hair: the darkest skin in the literature has an L* of about 25."""

APERTURE_EDGE = 0.03
"""Width of the soft edge around dark pixels, of the shorter side."""

LINE_WIDTH = 0.07
"""Wider things than this, of the shorter side, are no hair, ruler or highlight."""

LINE_CONTRAST = 5.0
"""L* by which a hair or mark is darker, or a highlight lighter, than what is around it."""

SATURATED = 250
"""Grey level from which on a pixel that has it in all three channels shows a reflection."""

OUTLIER_DEVIATIONS = 2.5
"""Robust standard deviations from the median beyond which L*, a* or b* is no ordinary skin: ink, stickers, shadow."""

LEAST_DEVIATION = 1.0
"""CIELAB units that a robust standard deviation has at least; a just visible difference."""

OUTLIER_ROUNDS = 5
LEAST_SKIN = 0.05
"""Share of the picture that must be left as measurable skin."""

LEAST_TONES = 4
"""Measured real photographs, from which on halves can be compared."""

THIN = 30
"""Real photographs below which nothing is claimed of a category: a share of 30 is known to 17 points at best."""

Floats = NDArray[np.float64]

CALIBRATION_NOTE = (
    "Light and white balance of dermoscopy are not calibrated: the angle compares sets that were taken alike and is no "
    "measure of a patient's skin."
)


@dataclass(frozen=True)
class SkinTone:
    """Skin tone of one photograph.

    Attributes:
        ita_degrees: None where less than :data:`LEAST_SKIN` of the picture is measurable skin. Beyond 90 on either side
            the skin is bluish (b* < 0), which says that the white balance is off.
        skin_share: share of the picture that was measured, [0, 1].
    """

    ita_degrees: float | None
    skin_share: float


def typology_angle(lightness: float, yellowness: float) -> float:
    """Return the ITA in degrees, (-180, 180], of CIELAB's L* and b*.

    arctan((L* - 50) / b*) for b* > 0. Photographs with a blue cast have b* <= 0, where that jumps from very light to
    dark; the two-argument arctangent goes on instead.

    Source: Chardon et al. 1991; for b* <= 0 Bencevic et al., arXiv 2504.04494, 2025.
    """
    return float(np.degrees(np.arctan2(lightness - 50, yellowness)))


def category(ita_degrees: float) -> str:
    """Return which of :data:`CATEGORIES` an angle falls into."""
    return CATEGORIES[int(np.searchsorted(UPPER_DEGREES, ita_degrees))]


def skin_tone(image: NDArray[np.uint8], lesion: NDArray[np.bool_]) -> SkinTone:
    """Measure the skin tone of a photograph [h, w, 3] outside its lesion mask [h, w].

    The ITA of the median L* and b* over the shortest half: the half of the skin pixels that is most alike in L*. Where
    light falls off to the corners, that is the evenly lit part.

    Raises:
        InputError: not an RGB photograph with a mask of its size.
    """
    if image.dtype != np.uint8 or image.shape != (*lesion.shape, 3):
        raise InputError(
            f"{image.dtype} photograph {image.shape} with a mask {lesion.shape}",
            "uint8 [h, w, 3] with [h, w]",
            "pass an RGB photograph and its mask at one size",
        )
    lab = rgb2lab(image)  # D65, 2 degrees
    skin = _skin(image, lab, lesion != 0)
    share = float(skin.mean())
    if share < LEAST_SKIN:
        return SkinTone(None, share)
    lightness, _, yellowness = np.median(_shortest_half(lab[skin]), axis=0)
    return SkinTone(typology_angle(float(lightness), float(yellowness)), share)


def tone_of(image: NDArray[np.uint8], lesion: NDArray[np.bool_]) -> str | None:
    """Return the category of a photograph's skin (see :func:`skin_tone`); None where too little can be measured."""
    degrees = skin_tone(image, lesion).ita_degrees
    return None if degrees is None else category(degrees)


def typology_angles(images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]) -> Floats:
    """Return the ITA in degrees [n] of each photograph of a set, NaN where too little skin can be measured.

    See :func:`skin_tone`.
    """
    found = [skin_tone(image, mask).ita_degrees for image, mask in zip(images, masks, strict=True)]
    return np.array([np.nan if angle is None else angle for angle in found], np.float64)


def _skin(image: NDArray[np.uint8], lab: NDArray[np.float64], lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels [h, w] of ordinary skin: outside lesion, aperture, hair, marks, reflections and coloured things."""
    side = min(lesion.shape)
    lightness = lab[..., 0]
    size = 2 * round(LINE_WIDTH * side / 2) + 1
    skin = _farther(lesion, MARGIN * side) & _farther(lightness < DARK_LIGHTNESS, APERTURE_EDGE * side)
    lines = ndimage.grey_closing(lightness, size) - lightness > LINE_CONTRAST
    glints = lightness - ndimage.grey_opening(lightness, size) > LINE_CONTRAST
    skin &= ~ndimage.binary_dilation(lines | glints | (image.min(2) >= SATURATED))
    for _ in range(OUTLIER_ROUNDS):
        if not skin.any():
            break
        colours = lab[skin]
        middle = np.median(colours, axis=0)
        deviation = 1.4826 * np.median(np.abs(colours - middle), axis=0)  # of a normal distribution, by its quartiles
        reach = OUTLIER_DEVIATIONS * np.maximum(deviation, LEAST_DEVIATION)
        skin &= (np.abs(lab - middle) <= reach).all(2)
    return skin


def _shortest_half(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """The half of colours [n, 3] that spans the least L* (the shorth of Andrews et al. 1972)."""
    colours = colours[colours[:, 0].argsort(kind="stable")]
    half = (len(colours) + 1) // 2
    spans = colours[half - 1 :, 0] - colours[: len(colours) - half + 1, 0]
    start = int(spans.argmin())
    return colours[start : start + half]


def _farther(region: NDArray[np.bool_], distance_px: float) -> NDArray[np.bool_]:
    if not region.any():
        return np.ones_like(region)
    return np.asarray(ndimage.distance_transform_edt(~region) > distance_px)


def tone_share_name(name: str) -> str:
    """Return the name of the measure that is the share of a category."""
    return f"skin_{name.replace(' ', '_')}"


def category_counts(angles: Floats) -> dict[str, int]:
    """Return how many of the angles [n], without NaN, fall into each category, dark to very light."""
    counts = np.bincount(np.searchsorted(UPPER_DEGREES, angles), minlength=len(CATEGORIES))
    return dict(zip(CATEGORIES, counts.tolist(), strict=True))


def thin_categories(real: Floats) -> list[str]:
    """Return the categories with fewer than :data:`THIN` real photographs; angles [n] without NaN."""
    return [name for name, count in category_counts(real).items() if count < THIN]


def tone_measures(*, real: Floats, generated: Floats, seed: int, group: str | None = None) -> list[Measure]:
    """Compare the skin tones of two sets.

    Args:
        real, generated: angles [n] and [m] of :func:`typology_angles`.
        group: as in :class:`Measure`.

    Returns:
        Distance and mean, where there are :data:`LEAST_TONES` measured real photographs and 2 generated ones; for all
        photographs (no group) also the share of each category and of photographs that could not be measured.

    Raises:
        InputError: an empty set.
    """
    if not len(real) or not len(generated):
        raise InputError(f"{len(real)} real, {len(generated)} generated angles", "1 or more of each", "add photographs")
    of_real, of_generated = (angles[np.isfinite(angles)] for angles in (real, generated))
    sizes = len(of_generated), len(of_real)

    def thin(count: int) -> str | None:
        return f"{count} real photographs: too thin to judge by" if count < THIN else None

    measures = []
    if len(of_real) >= LEAST_TONES and len(of_generated) >= 2:
        distance = compared_with_real(wasserstein, real=of_real, generated=of_generated, seed=seed)
        measures.append(distance.measure("ita_distance", group=group, caveat=thin(len(of_real))))
        mean, real_mean = (bootstrap([angles], mean_of_means, seed=seed) for angles in (of_generated, of_real))
        measures.append(Measure.of("ita_mean", mean, Reference.of(HELD_OUT, real_mean), sizes, group=group))
    if group is not None:
        return measures
    counts, real_counts = category_counts(of_generated), category_counts(of_real)
    for name in CATEGORIES if min(sizes) else ():
        share, real_share = rate(counts[name], sizes[0]), rate(real_counts[name], sizes[1])
        reference = Reference.of(HELD_OUT, real_share)
        measures.append(Measure.of(tone_share_name(name), share, reference, sizes, caveat=thin(real_counts[name])))
    totals = len(generated), len(real)
    share, real_share = (rate(total - size, total) for total, size in zip(totals, sizes, strict=True))
    return [*measures, Measure.of("skin_unmeasured", share, Reference.of(HELD_OUT, real_share), totals)]
