"""YOLO segmentation: a polygon for each part of a lesion, its class in front, coordinates from 0 to 1.

A vertex is the centre of a pixel on the lesion's rim. Loaders of this format scale the vertices to pixels, cut them to
whole numbers and fill the polygon with its rim (``cv2.fillPoly``): that gives the mask back, pixel by pixel, unless it
has holes, which a polygon cannot hold and which are filled.

Source: https://docs.ultralytics.com/datasets/segment/; ``ultralytics.data.utils.polygon2mask``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import binary_fill_holes
from skimage.measure import find_contours

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.images import SUFFIXES
from skindualgen.data.sources.base import SPLIT_NAMES
from skindualgen.exchange.formats import ExchangeOptions, Renamed, optional_package
from skindualgen.exchange.pairs import (
    SPLITS,
    PairWriter,
    class_fields,
    class_name,
    decoded,
    encode_mask,
    other_fields,
    put,
    read_pairs,
)
from skindualgen.provenance import atomic_write_text

DESCRIPTION = "YOLO segmentation: data.yaml, images/train/*.png, labels/train/*.txt"
LOSES = (
    "holes of masks, which are filled; all of the record but id, split and diagnosis, and the diagnosis as well where "
    "the mask is empty; pairs without a mask are refused"
)
HOLDS_ALL = False
DATA_FILE = "data.yaml"
RIM_LEVEL = 1 - 1e-3
"""Level of the contour between 0, background, and 1, lesion: it runs through the centres of the rim's pixels."""
FEWEST_VERTICES = 3


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> Renamed:
    """See `skindualgen.exchange.formats.Format`. A mask without lesion is an empty file: background alone."""
    yaml = optional_package("yaml")
    classes = {name: row for row, name in enumerate(sorted({class_name(record) for record in records}))}
    renamed: Renamed = {}
    for pair in read_pairs(source, records, options.report):
        record, lesion = pair.record, pair.lesion()
        image = source / record.file_name if options.link else None
        put(out / "images" / record.split / f"{pair.name}{pair.suffix}", pair.image_bytes, image)
        lines = [_line(classes[class_name(record)], vertices, lesion.shape) for vertices in outlines(lesion)]
        put(out / "labels" / record.split / f"{pair.name}.txt", "".join(lines).encode())
        diagnosis = class_fields(class_name(record)) if lines else {}
        renamed[record.isic_id] = other_fields(record, isic_id=pair.name, **diagnosis)
    present: dict[str, Any] = {
        split: f"images/{split}" for split in SPLITS if any(record.split == split for record in records)
    }
    names = {row: name for name, row in classes.items()}
    atomic_write_text(out / DATA_FILE, yaml.safe_dump(present | {"names": names}, sort_keys=False))
    return renamed


def read(source: Path, out: Path, options: ExchangeOptions) -> list[PairRecord]:
    """See `skindualgen.exchange.formats.Format`. All polygons of an image together are its mask."""
    names = _class_names(source / DATA_FILE)
    images = sorted(
        path
        for folder in sorted((source / "images").glob("*"))
        if folder.name in SPLIT_NAMES
        for path in folder.glob("*")
        if path.suffix.lower() in SUFFIXES
    )
    if not images:
        raise InputError(f"{source} without images/SPLIT/", "images/train/*.png", "choose its format")
    writer, records = PairWriter(out), []
    for done, path in enumerate(images):
        options.report(done, len(images))
        data = path.read_bytes()
        width, height = decoded(data, str(path)).size
        found, lesion = set(), np.zeros((height, width), bool)
        # A loader takes an image without its file for one without a lesion; what is not labelled is not a lesion here.
        for row, vertices in _polygons(source / "labels" / path.parent.name / f"{path.stem}.txt", width, height):
            found.add(row)
            lesion |= filled(vertices, lesion.shape)
        if len(found) > 1 or not found <= names.keys():
            raise InputError(f"classes {sorted(found)} of {path.stem}", "one class of data.yaml", "mend its labels")
        fields = {"isic_id": path.stem, "split": SPLIT_NAMES[path.parent.name]}
        fields |= class_fields(names[found.pop()]) if found else {}
        records.append(writer.add(fields, data, encode_mask(lesion), suffix=path.suffix.lower()))
    options.report(len(images), len(images))
    return records


def outlines(lesion: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Return the rims of all parts of a mask, holes filled.

    Args:
        lesion: bool [h, w]; pixels that touch at a corner are one part.

    Returns:
        Arrays [n, 2] of x and y in px, n >= 3, of pixels where the rim turns.
    """
    padded = np.pad(binary_fill_holes(lesion), 1).astype(np.float64)
    contours = find_contours(padded, RIM_LEVEL, fully_connected="high")
    return [_turns(np.rint(contour[:-1, ::-1]).astype(np.int64) - 1) for contour in contours]


def filled(vertices: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the pixels of a polygon and of its rim: bool [h, w] from [n, 2] of x and y in px."""
    canvas = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(canvas).polygon([(int(x), int(y)) for x, y in vertices], fill=1, outline=1)
    return np.asarray(canvas)


def _turns(chain: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return of a closed chain of neighbouring pixels those where it changes its direction, three at the least."""
    chain = chain[(chain != np.roll(chain, 1, axis=0)).any(axis=1)] if len(np.unique(chain, axis=0)) > 1 else chain[:1]
    steps = np.roll(chain, -1, axis=0) - chain
    turning = chain[(steps != np.roll(steps, 1, axis=0)).any(axis=1)]
    kept = turning if len(turning) else chain
    return np.concatenate([kept, np.repeat(kept[-1:], max(0, FEWEST_VERTICES - len(kept)), axis=0)])


def _line(row: int, vertices: NDArray[np.int64], shape: tuple[int, ...]) -> str:
    # Half a pixel keeps the whole number that a loader cuts to safe from rounding.
    shares = (vertices + 0.5) / np.array(shape[::-1])
    return " ".join([str(row), *(f"{share:.6f}" for share in shares.ravel())]) + "\n"


def _polygons(path: Path, width: int, height: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield class and vertices [n, 2], x and y in px, of each line."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row, *shares = line.split()
            points = np.array(shares, dtype=np.float64).reshape(-1, 2)
            if len(points) < FEWEST_VERTICES or points.min() < 0 or points.max() > 1:
                raise ValueError("too few points, or outside 0 to 1")
            yield int(row), np.minimum(points * (width, height), (width - 1, height - 1)).astype(np.int64)
        except ValueError as error:
            raise InputError(
                f"{path}, line {number}: {error}", "a class and a polygon of numbers from 0 to 1", "mend the line"
            ) from error


def _class_names(path: Path) -> Mapping[int, str]:
    yaml = optional_package("yaml")
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = content["names"]
        return {int(row): str(name) for row, name in (names.items() if isinstance(names, dict) else enumerate(names))}
    except FileNotFoundError:
        raise InputError(f"no file {path}", "data.yaml with the names of the classes", "choose its format") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{path}: {error}", "a mapping with names", "mend it") from error
