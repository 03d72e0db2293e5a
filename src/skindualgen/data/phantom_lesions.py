"""How a phantom's skin and lesions are drawn: noise, regions, and one painter per class.

Colour = skin * exp(-melanin - haemoglobin), the law of Beer and Lambert, with absorption rising from red to blue.
Lengths are in half widths of the picture ("units"), so that one seed looks alike at any size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Field = NDArray[np.float64]
"""A map over the picture: [h, w], or [h, w, 3] for colour in 0..1."""

MELANIN_RGB = np.array([0.58, 1.0, 1.52])
HAEMOGLOBIN_RGB = np.array([0.16, 1.0, 0.78])
VEIL_RGB = np.array([0.44, 0.48, 0.58])
SCAR_RGB = np.array([0.90, 0.82, 0.80])
CYST_RGB = np.array([0.97, 0.92, 0.78])
SKIN_TONES_RGB = np.array(
    [
        [0.92, 0.78, 0.72],
        [0.88, 0.70, 0.56],
        [0.88, 0.82, 0.76],
        [0.95, 0.66, 0.62],
        [0.72, 0.58, 0.55],
        [0.80, 0.72, 0.76],
        [0.70, 0.50, 0.37],
        [0.48, 0.33, 0.25],
    ]
)
SKIN_TONE_WEIGHTS = np.array([0.22, 0.18, 0.18, 0.10, 0.14, 0.10, 0.05, 0.03])


@dataclass(frozen=True)
class Scene:
    """What the drawing steps share: random numbers, coordinates in units [-1, 1], the size."""

    rng: np.random.Generator
    size_px: int
    x: Field
    y: Field

    def noise(self, slowest_cycles: float, slope: float = 1.8, fastest_cycles: float = 64.0) -> Field:
        """Fractal noise, mean 0 and standard deviation 1: amplitude ~ f^-slope from `slowest_cycles` per picture on."""
        cycles = np.hypot(np.fft.fftfreq(self.size_px)[:, None], np.fft.rfftfreq(self.size_px)[None]) * self.size_px
        band = (cycles >= slowest_cycles) & (cycles <= fastest_cycles)
        amplitude = np.where(band, np.maximum(cycles, 1.0) ** -slope, 0.0)
        phases = self.rng.standard_normal((2, *amplitude.shape))
        values = np.fft.irfft2((phases[0] + 1j * phases[1]) * amplitude, s=(self.size_px, self.size_px))
        return (values - values.mean()) / values.std()

    def cells(self, spacing: float, jitter: float) -> tuple[Field, Field, NDArray[np.int64]]:
        """A jittered hexagonal grid: distances (units) to the nearest and second nearest point, the nearest's index."""
        rows, columns = np.arange(-1.2, 1.2, spacing * 0.87), np.arange(-1.2, 1.2, spacing)
        grid_x = columns[None] + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
        points = np.stack([grid_x, np.broadcast_to(rows[:, None], grid_x.shape)], -1).reshape(-1, 2)
        points = points + self.rng.normal(0.0, jitter * spacing, points.shape)
        warp = 0.25 * spacing
        at = np.stack([self.x + warp * self.noise(2.0, 2.0), self.y + warp * self.noise(2.0, 2.0)], -1).reshape(-1, 2)
        distances, indices = cKDTree(points).query(at, k=2)
        shape = (self.size_px, self.size_px)
        return distances[:, 0].reshape(shape), distances[:, 1].reshape(shape), indices[:, 0].reshape(shape)


def draw_region(scene: Scene, name: str) -> tuple[NDArray[np.bool_], float, dict[str, Any]]:
    """The lesion's region [h, w], its mean radius in units, and how asymmetric and irregular it was drawn."""
    rng = scene.rng
    asymmetry = {"nevus": rng.uniform(0.0, 0.05), "melanoma": rng.uniform(0.08, 0.22)}.get(name, rng.uniform(0.03, 0.1))
    roughness = {"nevus": rng.uniform(0.02, 0.05), "melanoma": rng.uniform(0.05, 0.12)}.get(
        name, rng.uniform(0.015, 0.045)
    )
    radius = float(np.clip(rng.lognormal(np.log(0.36 if name == "nevus" else 0.46), 0.4), 0.16, 0.8))
    centre = rng.normal(0.0, 0.08, 2)
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1.0, 1.35)
    u, v = scene.x - centre[0], scene.y - centre[1]
    u, v = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    u, v = u / stretch**0.5, v * stretch**0.5
    theta, outline = np.arctan2(v, u), np.ones_like(u)
    for order in range(1, 8):  # odd orders make the halves differ, which is what asymmetry means here
        amplitude = asymmetry / order**0.7 if order % 2 or name == "melanoma" else 0.04 / order
        outline = outline + amplitude * rng.normal() * np.cos(order * theta + rng.uniform(0, 2 * np.pi))
    level = np.hypot(u, v) / radius / np.maximum(outline, 0.25) + roughness * scene.noise(3.0, 1.6, 40.0)
    labels, count = ndimage.label(level < 1.0)
    if count > 1:
        labels = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    region = ndimage.binary_fill_holes(labels > 0)
    return region, radius, {"asymmetry": round(float(asymmetry), 3), "border_roughness": round(float(roughness), 3)}


def depth_of(region: NDArray[np.bool_]) -> Field:
    """Signed distance to the border in px, positive inside."""
    return ndimage.distance_transform_edt(region) - ndimage.distance_transform_edt(~region)


def draw_skin(scene: Scene) -> Field:
    """Healthy skin [h, w, 3] in 0..1: tone, mottling, furrows, fine vessels, a freckle or two."""
    rng = scene.rng
    tone = (
        SKIN_TONES_RGB[rng.choice(len(SKIN_TONES_RGB), p=SKIN_TONE_WEIGHTS)]
        + rng.normal(0, 0.03)
        + rng.normal(0, 0.012, 3)
    )
    melanin = 0.03 * scene.noise(1.0, 1.5) + 0.014 * scene.noise(20.0, 0.3)
    blood = 0.035 * scene.noise(1.0, 1.2) + rng.uniform(0.05, 0.3) * _ridges(scene.noise(4.0, 1.2, 24.0), 0.12) * (
        scene.noise(1.5, 2.0, 8.0) > rng.uniform(0.2, 1.5)
    )
    freckles = np.clip(scene.noise(7.0, 1.2, 20.0) - rng.uniform(2.2, 3.4), 0, 1)
    _, furrow, _ = scene.cells(rng.uniform(0.07, 0.12), 0.3)
    melanin = melanin + 0.35 * freckles + rng.uniform(0.0, 0.05) * (furrow / furrow.mean() - 1)
    return tone * _absorb(melanin, blood)


def _ridges(values: Field, width: float) -> Field:
    """Thin lines where a noise map crosses zero, 0..1."""
    return np.exp(-((values / width) ** 2))


def _absorb(melanin: Field, blood: Field) -> Field:
    return np.exp(-melanin[..., None] * MELANIN_RGB - blood[..., None] * HAEMOGLOBIN_RGB)


def _blend(picture: Field, colour: NDArray[np.float64], amount: Field) -> Field:
    return picture + (colour - picture) * np.clip(amount, 0, 1)[..., None]


def _step(values: Field, softness: float) -> Field:
    """Smooth step from 0 to 1 about 0."""
    return 1 / (1 + np.exp(-np.clip(values / softness, -30, 30)))


def _network(scene: Scene, spacing: float, jitter: float) -> Field:
    """Pigment network: dark lines around pale holes, about -0.5..1."""
    near, second, _ = scene.cells(spacing, jitter)
    return 1.5 * np.exp(-(((second - near) / (0.32 * spacing)) ** 2)) - 0.5


def _globules(scene: Scene, spacing: float, share: float, size: float) -> Field:
    """Round dots in a share of the cells, 0..1; `size` is their radius in spacings."""
    near, _, index = scene.cells(spacing, 0.25)
    chosen = scene.rng.random(index.max() + 1) < share
    radii = spacing * size * scene.rng.uniform(0.6, 1.2, index.max() + 1)
    return _step(radii[index] - near, 0.06 * spacing) * chosen[index]


def _paint_nevus(scene: Scene, skin: Field, depth: Field) -> tuple[Field, list[str]]:
    """One or two browns, a border that fades, a regular network or globules, often darker in the middle."""
    rng, structures = scene.rng, []
    inside = _step(depth + 0.03 * scene.noise(3.0, 1.4, 24.0), rng.uniform(0.02, 0.09))
    strength = rng.uniform(0.35, 1.3)
    density = 1.0 + rng.uniform(0.1, 0.35) * scene.noise(2.0, 1.5) + rng.uniform(-0.2, 0.7) * np.clip(depth, 0, 1)
    kind = rng.choice(["reticular", "globular", "homogeneous"], p=[0.45, 0.3, 0.25])
    if kind == "reticular":
        density = density + rng.uniform(0.15, 0.45) * _network(scene, rng.uniform(0.05, 0.08), 0.2)
        structures.append("typical pigment network")
    if kind == "globular":
        density = density + rng.uniform(0.4, 0.8) * _globules(scene, rng.uniform(0.07, 0.1), 0.7, 0.3)
        structures.append("globules")
    blood = inside * rng.uniform(0.0, 0.3)
    return skin * _absorb(strength * inside * np.maximum(density, 0.1), blood), structures or ["homogeneous"]


def _paint_melanoma(scene: Scene, skin: Field, depth: Field) -> tuple[Field, list[str]]:
    """Several colours in patches, an abrupt and ragged border, an uneven network, veil, regression, red areas."""
    rng, structures = scene.rng, ["atypical pigment network"]
    inside = _step(depth + 0.015 * scene.noise(4.0, 1.3, 30.0), rng.uniform(0.015, 0.05))
    patches = scene.noise(1.0, 2.2, 16.0)
    density = 1.1 + 0.55 * patches + 0.25 * scene.noise(4.0, 1.4)
    density = density + 1.3 * _step(scene.noise(1.0, 2.4, 10.0) - rng.uniform(0.2, 1.0), 0.12)
    density = density + rng.uniform(0.25, 0.6) * _network(scene, rng.uniform(0.07, 0.11), 0.3) * _step(patches, 0.4)
    density = density + 0.8 * _globules(scene, 0.08, 0.35, 0.3) * _step(scene.noise(1.5, 2.0, 8.0), 0.2)
    blood = inside * rng.uniform(0.1, 0.9) * _step(scene.noise(1.5, 2.0, 10.0) - 0.4, 0.3)
    picture = skin * _absorb(rng.uniform(0.6, 1.4) * inside * np.maximum(density, 0.15), blood)
    for name, colour, chance in (("blue-white veil", VEIL_RGB, 0.65), ("regression structures", SCAR_RGB, 0.35)):
        if rng.random() < chance:
            amount = rng.uniform(0.35, 0.65) * _step(scene.noise(1.0, 2.2, 12.0) - rng.uniform(0.3, 0.9), 0.15)
            picture = _blend(picture, colour * skin.mean((0, 1)) / 0.75, amount * _step(depth - 0.12, 0.05))
            structures.append(name)
    return picture, structures


def _paint_keratosis(scene: Scene, skin: Field, depth: Field) -> tuple[Field, list[str]]:
    """A sharp "stuck-on" border, waxy yellow to grey-brown, warty relief, milia-like cysts, comedo-like openings."""
    rng, structures = scene.rng, []
    inside = _step(depth, 0.02)
    relief = scene.noise(6.0, 1.5, 40.0)
    light = ndimage.sobel(relief, axis=0) + ndimage.sobel(relief, axis=1)
    fissures = _ridges(scene.noise(4.0, 1.4, 14.0), 0.15)
    strength = rng.choice([rng.uniform(0.25, 0.6), rng.uniform(0.8, 1.7)], p=[0.6, 0.4])
    density = 1.0 + 0.25 * scene.noise(2.0, 1.5) + rng.uniform(0.2, 0.7) * fissures + 0.1 * relief
    picture = skin * _absorb(strength * inside * np.maximum(density, 0.1), inside * rng.uniform(0.0, 0.25))
    grey = picture.mean(-1, keepdims=True)
    picture = picture + (grey * np.array([1.06, 1.0, 0.86]) - picture) * (inside * rng.uniform(0.0, 0.5))[..., None]
    picture = picture * (1 + rng.uniform(0.03, 0.08) * inside * light / light.std())[..., None]
    deep = _step(depth - 0.08, 0.02)
    if rng.random() < 0.8:
        cysts = _globules(scene, rng.uniform(0.1, 0.16), rng.uniform(0.08, 0.3), 0.17)
        picture = _blend(picture, CYST_RGB, 0.6 * deep * cysts)
        structures.append("milia-like cysts")
    if rng.random() < 0.7:
        openings = _globules(scene, rng.uniform(0.12, 0.2), rng.uniform(0.1, 0.35), 0.18)
        picture = picture * _absorb(1.4 * deep * openings, 0 * deep)
        structures.append("comedo-like openings")
    return picture, structures or ["fissures"]


def illumination(scene: Scene) -> Field:
    """Light over the picture [h, w]: a tilt and a fall-off to the corners, about 0.75..1.1."""
    tilt = scene.rng.normal(0.0, 0.06, 2)
    fall = scene.rng.uniform(0.0, 0.14)
    return 1.03 + tilt[0] * scene.x + tilt[1] * scene.y - fall * (scene.x**2 + scene.y**2)


PAINTERS: Mapping[str, Callable[[Scene, Field, Field], tuple[Field, list[str]]]] = {
    "nevus": _paint_nevus,
    "melanoma": _paint_melanoma,
    "seborrheic_keratosis": _paint_keratosis,
}
"""Class -> painter(scene, skin [h, w, 3], depth [h, w] in lesion radii) -> picture [h, w, 3] and its structures."""
