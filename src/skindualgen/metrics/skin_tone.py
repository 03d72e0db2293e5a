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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.color import rgb2lab

from skindualgen.contracts import InputError
from skindualgen.metrics.distributions import FlooredDistance, floored_distance, wasserstein
from skindualgen.metrics.intervals import Estimate, rate

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

THIN = 30
"""Real photographs below which nothing is claimed of a category: a share of 30 is known to 17 points at best."""

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


def skin_tones(images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]) -> list[SkinTone]:
    """Measure each photograph of a set; see :func:`skin_tone`."""
    return [skin_tone(image, mask) for image, mask in zip(images, masks, strict=True)]


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


@dataclass(frozen=True)
class ToneShare:
    """Photographs of one category in both sets; the shares are None for a set without any measurable photograph."""

    real: int
    generated: int
    real_share: Estimate | None
    generated_share: Estimate | None


@dataclass(frozen=True)
class ToneGroup:
    """Skin tones of one diagnosis, or of all.

    Attributes:
        real_degrees, generated_degrees: ITA of each photograph that could be measured, in order.
        real_unmeasured, generated_unmeasured: photographs with too little skin.
        real_bluish, generated_bluish: measured ones with b* < 0, that is a white balance that is off.
        categories: by name, dark to very light.
        wasserstein_degrees: None for fewer than 4 real or 2 generated photographs.
        thin: categories with fewer than :data:`THIN` real photographs.
    """

    real_degrees: tuple[float, ...]
    generated_degrees: tuple[float, ...]
    real_unmeasured: int
    generated_unmeasured: int
    real_bluish: int
    generated_bluish: int
    categories: Mapping[str, ToneShare]
    wasserstein_degrees: FlooredDistance | None
    thin: tuple[str, ...]


@dataclass(frozen=True)
class ToneTable:
    """Skin tones of two sets, overall and by diagnosis, and in plain words where the real data are too thin."""

    overall: ToneGroup
    by_diagnosis: Mapping[str, ToneGroup]
    statements: tuple[str, ...]


def compare_tones(
    *,
    real: Sequence[SkinTone],
    generated: Sequence[SkinTone],
    real_diagnoses: Sequence[str | None],
    generated_diagnoses: Sequence[str | None],
    seed: int,
) -> ToneTable:
    """Compare the skin tones of two sets; photographs without a diagnosis count overall only.

    Raises:
        InputError: not one diagnosis (or None) for each photograph, or an empty set.
    """
    for tones, diagnoses in ((real, real_diagnoses), (generated, generated_diagnoses)):
        if len(tones) != len(diagnoses) or not tones:
            raise InputError(f"{len(tones)} tones, {len(diagnoses)} diagnoses", "as many, 1 or more", "match them")
    names = sorted({name for name in (*real_diagnoses, *generated_diagnoses) if name is not None})
    overall = _group(real, generated, seed)
    by_diagnosis = {
        name: _group(
            [tone for tone, diagnosis in zip(real, real_diagnoses, strict=True) if diagnosis == name],
            [tone for tone, diagnosis in zip(generated, generated_diagnoses, strict=True) if diagnosis == name],
            seed,
        )
        for name in names
    }
    return ToneTable(overall, by_diagnosis, _statements(overall, by_diagnosis))


def _group(real: Sequence[SkinTone], generated: Sequence[SkinTone], seed: int) -> ToneGroup:
    of_real, of_generated = ([t.ita_degrees for t in tones if t.ita_degrees is not None] for tones in (real, generated))

    def share(angles: Sequence[float], name: str) -> tuple[int, Estimate | None]:
        hits = sum(category(angle) == name for angle in angles)
        return hits, rate(hits, len(angles)) if angles else None

    categories = {}
    for name in CATEGORIES:
        (real_hits, real_share), (hits, generated_share) = share(of_real, name), share(of_generated, name)
        categories[name] = ToneShare(real_hits, hits, real_share, generated_share)
    enough = len(of_real) >= 4 and len(of_generated) >= 2
    return ToneGroup(
        real_degrees=tuple(of_real),
        generated_degrees=tuple(of_generated),
        real_unmeasured=len(real) - len(of_real),
        generated_unmeasured=len(generated) - len(of_generated),
        real_bluish=sum(abs(angle) > 90 for angle in of_real),
        generated_bluish=sum(abs(angle) > 90 for angle in of_generated),
        categories=categories,
        wasserstein_degrees=floored_distance(
            wasserstein, real=np.array(of_real), generated=np.array(of_generated), seed=seed
        )
        if enough
        else None,
        thin=tuple(name for name in CATEGORIES if categories[name].real < THIN),
    )


def _statements(overall: ToneGroup, by_diagnosis: Mapping[str, ToneGroup]) -> tuple[str, ...]:
    measured = len(overall.real_degrees)
    lines = [CALIBRATION_NOTE]
    for name in overall.thin:
        counts = overall.categories[name]
        found = f"{counts.real} of {measured} real photographs, fewer than {THIN}"
        extra = f"; the {counts.generated} generated ones extrapolate" if counts.generated else ""
        lines.append(f"{name.capitalize()} skin ({_range(name)}): {found}: too thin to judge generated skin by{extra}.")
    for diagnosis, group in by_diagnosis.items():
        thin = ", ".join(f"{name} ({group.categories[name].real})" for name in group.thin)
        if thin:
            lines.append(f"{diagnosis}: too thin in {thin}.")
    return tuple(lines)


def _range(name: str) -> str:
    index = CATEGORIES.index(name)
    if index == 0:
        return f"ITA {UPPER_DEGREES[0]:.0f} degrees or less"
    above = f"ITA above {UPPER_DEGREES[index - 1]:.0f}"
    return f"{above} degrees" if index == len(UPPER_DEGREES) else f"{above} to {UPPER_DEGREES[index]:.0f} degrees"
