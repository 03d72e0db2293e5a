"""What lies over a lesion in dermoscopic photographs: hair, rulers, ink, gel bubbles, stickers, dark corners."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Picture = NDArray[np.float64]
"""RGB [h, w, 3], about 0..1."""

OVERSAMPLING = 3
"""Lines are drawn this much larger and reduced, so that hairs thinner than a pixel stay smooth."""

HAIR_RGB = ((0.10, 0.07, 0.05), (0.22, 0.13, 0.07), (0.45, 0.33, 0.22), (0.75, 0.70, 0.64))
HAIR_WEIGHTS = (0.4, 0.35, 0.15, 0.1)
INK_RGB = (0.35, 0.15, 0.55)
STICKER_RGB = ((0.15, 0.62, 0.66), (0.85, 0.22, 0.18), (0.20, 0.35, 0.75), (0.92, 0.78, 0.20))
RULER_CHANCE, INK_CHANCE, STICKER_CHANCE, BUBBLE_CHANCE, CORNER_CHANCE = 0.22, 0.06, 0.04, 0.3, 0.14


def add_artefacts(rng: np.random.Generator, picture: Picture) -> tuple[Picture, list[str]]:
    """Lay hair and, by chance, other artefacts over a picture [h, h, 3]; return it and their names."""
    added: list[str] = []
    if rng.random() < STICKER_CHANCE:
        picture, added = _sticker(rng, picture), [*added, "sticker"]
    if rng.random() < INK_CHANCE:
        picture, added = _ink(rng, picture), [*added, "ink mark"]
    if rng.random() < BUBBLE_CHANCE:
        picture, added = _bubbles(rng, picture), [*added, "gel bubbles"]
    hairs = int(rng.choice(np.array([0, rng.integers(1, 6), rng.integers(6, 30)]), p=[0.35, 0.42, 0.23]))
    if hairs:
        picture, added = _hair(rng, picture, hairs), [*added, "hair"]
    if rng.random() < RULER_CHANCE:
        picture, added = _ruler(rng, picture), [*added, "ruler"]
    if rng.random() < CORNER_CHANCE:
        picture, added = _dark_corners(rng, picture), [*added, "dark corners"]
    return picture, added


class _Sheet:
    """A transparent sheet to draw on in units [-1, 1], oversampled; `cover` gives its opacity [h, w] in 0..1."""

    def __init__(self, size_px: int) -> None:
        self.size_px = size_px
        self.scale = size_px * OVERSAMPLING / 2
        self.page = Image.new("L", (size_px * OVERSAMPLING, size_px * OVERSAMPLING))
        self.pen = ImageDraw.Draw(self.page)

    def line(self, points: NDArray[np.float64], width: float, opacity: float = 1.0) -> None:
        """Draw a line through points [n, 2] (x, y), `width` in units."""
        pixels = [(float(x), float(y)) for x, y in (points + 1) * self.scale]
        self.pen.line(pixels, fill=round(255 * opacity), width=max(1, round(width * self.scale)), joint="curve")

    def cover(self) -> NDArray[np.float64]:
        small = self.page.resize((self.size_px, self.size_px), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float64) / 255


def _over(picture: Picture, colour: tuple[float, ...], opacity: NDArray[np.float64]) -> Picture:
    return picture + (np.array(colour) - picture) * opacity[..., None]


def _hair(rng: np.random.Generator, picture: Picture, count: int) -> Picture:
    """Curved hairs that roughly share a direction."""
    sheet, direction = _Sheet(len(picture)), rng.uniform(0, np.pi)
    colour = HAIR_RGB[rng.choice(len(HAIR_RGB), p=HAIR_WEIGHTS)]
    along = np.linspace(-1, 1, 16)[:, None]
    for _ in range(count):
        angle = direction + rng.normal(0, 0.5)
        forward = np.array([np.cos(angle), np.sin(angle)])
        aside = np.array([-forward[1], forward[0]])
        bend, twist = rng.normal(0, 0.2), rng.normal(0, 0.08)
        length = rng.uniform(0.35, 1.3)
        points = rng.uniform(-1, 1, 2) + length * along * forward + (bend * along**2 + twist * along**3) * aside
        sheet.line(points, rng.uniform(0.006, 0.016), rng.uniform(0.6, 1.0))
    return _over(picture, colour, 0.85 * sheet.cover())


def _ruler(rng: np.random.Generator, picture: Picture) -> Picture:
    """A scale with ticks, like those that dermatoscopes show."""
    sheet, angle = _Sheet(len(picture)), rng.normal(0, 0.25)
    forward = np.array([np.cos(angle), np.sin(angle)])
    aside = np.array([-forward[1], forward[0]])
    middle = np.array([rng.uniform(-0.3, 0.3), rng.uniform(0.72, 0.85)])
    ends = np.array([[-0.65], [0.65]])
    sheet.line(middle + ends * forward, 0.012)
    for tick in range(21):
        foot = middle + (tick / 10 - 1) * 0.65 * forward
        height = 0.085 if tick % 5 == 0 else 0.05
        sheet.line(np.stack([foot, foot - height * aside]), 0.011)
    return _over(picture, (0.12, 0.10, 0.12), 0.75 * sheet.cover())


def _ink(rng: np.random.Generator, picture: Picture) -> Picture:
    """A surgical pen's arc near the edge."""
    sheet, start = _Sheet(len(picture)), rng.uniform(0, 2 * np.pi)
    angles = start + np.linspace(0, rng.uniform(0.5, 1.6), 40)
    radii = rng.uniform(0.85, 1.0) + rng.normal(0, 0.015, 40)
    sheet.line(np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1), rng.uniform(0.05, 0.1))
    grain = rng.uniform(0.3, 1.0, picture.shape[:2])
    return _over(picture, INK_RGB, 0.8 * sheet.cover() * grain)


def _distance(size_px: int, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    axis = (np.arange(size_px) + 0.5) / size_px * 2 - 1
    return np.hypot(axis[None] - centre[0], axis[:, None] - centre[1])


def _bubbles(rng: np.random.Generator, picture: Picture) -> Picture:
    """Air in the contact gel: bright rims, a highlight, a slightly paler inside."""
    for _ in range(rng.integers(1, 7)):
        centre, radius = rng.uniform(-1, 1, 2), rng.uniform(0.015, 0.06)
        far = _distance(len(picture), centre)
        rim = np.exp(-(((far - radius) / 0.010) ** 2))
        glint = np.exp(-((_distance(len(picture), centre - 0.5 * radius) / 0.012) ** 2))
        picture = _over(picture, (1.0, 0.98, 0.97), np.clip(0.35 * rim + 0.5 * glint + 0.12 * (far < radius), 0, 1))
    return picture


def _sticker(rng: np.random.Generator, picture: Picture) -> Picture:
    """A coloured round sticker at the edge, as in part of the ISIC Archive."""
    angle = rng.uniform(0, 2 * np.pi)
    centre = rng.uniform(1.15, 1.35) * np.array([np.cos(angle), np.sin(angle)])
    edge = (rng.uniform(0.35, 0.5) - _distance(len(picture), centre)) * len(picture) / 2
    return _over(picture, STICKER_RGB[rng.integers(len(STICKER_RGB))], np.clip(edge + 0.5, 0, 1))


def _dark_corners(rng: np.random.Generator, picture: Picture) -> Picture:
    """The dermatoscope's round aperture."""
    reach = _distance(len(picture), rng.normal(0, 0.03, 2))
    light = 1 / (1 + np.exp(np.clip((reach - rng.uniform(1.08, 1.4)) / rng.uniform(0.01, 0.08), -30, 30)))
    return picture * (0.03 + 0.97 * light)[..., None]
