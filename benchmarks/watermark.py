"""The invisible watermark: what it costs the picture, how often it is found, and how often where it is not.

    python benchmarks/watermark.py --generated DIR --real DIR [--count 200] [--out docs/results/watermark.md]

Both are data set folders. Where the package invisible-watermark is installed, its two methods that need no network are
measured beside ours, on fewer pictures as they are slow.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from measured import heading, machine, table
from PIL import Image, ImageEnhance

from skindualgen.data.manifest import read_metadata
from skindualgen.files import atomic_write_text
from skindualgen.marks.watermark import BUDGET, DETECTED, add_watermark, watermark_score

LIBRARY_BITS = 48
LIBRARY_REQUIRED = 42
"""Bits of 48 that must agree: by chance with p = 5.0e-8; with one less it would be 3.1e-7, above ours."""
LIBRARY_COUNT = 40
LIBRARY_METHODS = ("dwtDct", "dwtDctSvd")
UPSCALED_PX = 256


@dataclass(frozen=True)
class Method:
    """A watermark: how it is added and whether it is found."""

    name: str
    add: Callable[[Image.Image], Image.Image]
    found: Callable[[Image.Image], bool]


def ours() -> Method:
    """The one in `skindualgen.marks.watermark`."""
    return Method("skindualgen", add_watermark, lambda image: watermark_score(image) >= DETECTED)


def library(method: str) -> Method:
    """One of invisible-watermark's, with 48 bits."""
    from imwatermark import WatermarkDecoder, WatermarkEncoder

    bits = np.random.default_rng(0).integers(0, 2, LIBRARY_BITS)
    encoder = WatermarkEncoder()
    encoder.set_watermark("bits", list(bits))

    def add(image: Image.Image) -> Image.Image:
        return Image.fromarray(encoder.encode(np.asarray(image)[..., ::-1].copy(), method)[..., ::-1].copy())

    def found(image: Image.Image) -> bool:
        if image.width * image.height < UPSCALED_PX**2:  # refused by the library
            return False
        read = WatermarkDecoder("bits", LIBRARY_BITS).decode(np.asarray(image)[..., ::-1].copy(), method)
        return int((np.asarray(read) == bits).sum()) >= LIBRARY_REQUIRED

    return Method(f"invisible-watermark {method}", add, found)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The picture after a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(image: Image.Image, factor: float) -> Image.Image:
    """The picture at another size."""
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "none": lambda image: image,
    "JPEG 90": lambda image: jpeg(image, 90),
    "JPEG 75": lambda image: jpeg(image, 75),
    "JPEG 50": lambda image: jpeg(image, 50),
    "half size": lambda image: scaled(image, 0.5),
    "double size": lambda image: scaled(image, 2),
    "half and back": lambda image: scaled(scaled(image, 0.5), 2),
    "brighter by 20 %": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "cropped by 4 px": lambda image: image.crop((4, 4, image.width - 4, image.height - 4)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def psnr(before: Image.Image, after: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB."""
    error = np.asarray(before, np.float64) - np.asarray(after, np.float64)
    return float(10 * np.log10(255**2 / (error**2).mean()))


def measure(method: Method, images: Sequence[Image.Image]) -> list[object]:
    """Cells of a row: pictures, ms to add, PSNR mean and least, share found after each change."""
    start = time.process_time()
    marked = [method.add(image) for image in images]
    milliseconds = (time.process_time() - start) / len(images) * 1000
    ratios = [psnr(before, after) for before, after in zip(images, marked, strict=True)]
    shares = [np.mean([method.found(change(image)) for image in marked]) for change in CHANGES.values()]
    cells = [len(images), f"{milliseconds:.1f}", f"{np.mean(ratios):.1f}", f"{min(ratios):.1f}"]
    return [method.name, *cells, *(f"{share:.2f}" for share in shares)]


def read_images(root: Path, count: int) -> list[Image.Image]:
    """Evenly spaced pictures of a data set folder."""
    records = read_metadata(root)
    chosen = [records[index] for index in np.linspace(0, len(records) - 1, min(count, len(records))).astype(int)]
    images = []
    for record in chosen:
        with Image.open(root / record.file_name) as image:
            images.append(image.convert("RGB"))
    return images


def chance_table(groups: dict[str, Sequence[Image.Image]]) -> list[str]:
    """Scores of pictures that carry no mark: of chance alone they would have mean 0 and deviation 1."""
    rows = []
    for name, images in groups.items():
        scores = np.array([watermark_score(image) for image in images])
        found = int((scores >= DETECTED).sum())
        rows.append((name, len(scores), found, f"{scores.mean():.2f}", f"{scores.std():.2f}", f"{scores.max():.2f}"))
    return table(("pictures without the mark", "number", "found", "score mean", "deviation", "largest"), rows)


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generated", type=Path, required=True)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("docs/results/watermark.md"))
    options = parser.parse_args()
    of = machine()
    generated, real = read_images(options.generated, options.count), read_images(options.real, options.count)
    upscaled = [image.resize((UPSCALED_PX, UPSCALED_PX), Image.Resampling.LANCZOS) for image in generated]
    groups = {
        f"generated, {generated[0].width} px": generated,
        f"generated, upscaled to {UPSCALED_PX} px": upscaled,
        f"real, {real[0].width} px": real,
    }
    head = ("method", "pictures", "ms", "PSNR dB", "least", *CHANGES)
    command = f"python benchmarks/watermark.py --generated DIR --real DIR --count {options.count}"
    lines = heading("The invisible watermark", command, of)
    lines += [f"Added: {BUDGET} grey levels at most (root mean square). Found: score {DETECTED} or more.", ""]
    for name, images in groups.items():
        rows = [measure(ours(), images)]
        if find_spec("imwatermark") and min(images[0].size) >= UPSCALED_PX:
            rows += [measure(library(method), images[:LIBRARY_COUNT]) for method in LIBRARY_METHODS]
        lines += [f"## Marked: {name}", "", "Share found after a change:", "", *table(head, rows), ""]
    lines += ["## Not marked", "", *chance_table(groups), ""]
    lines += [
        "Real pictures are marked here alone, to see how rich texture takes it; no command marks photographs.",
        "An upscaled picture has no detail of its own above the original's, which makes the mark easy to find in it.",
    ]
    atomic_write_text(options.out, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
