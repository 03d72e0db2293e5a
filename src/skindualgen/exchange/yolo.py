"""YOLO segmentation: a polygon for each part of a lesion, its class in front, coordinates from 0 to 1.

A vertex is the centre of a pixel on the lesion's rim. Loaders of this format scale the vertices to pixels, cut them to
whole numbers and fill the polygon with its rim (``cv2.fillPoly``): that gives the mask back, pixel by pixel, unless it
has holes, which a polygon cannot hold and which are filled.

Source: https://docs.ultralytics.com/datasets/segment/; ``ultralytics.data.utils.polygon2mask``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import binary_fill_holes
from skimage.measure import find_contours

from skindualgen.contracts import InputError, PairRecord
from skindualgen.exchange.diagnoses import class_fields, class_name, stated_class
from skindualgen.exchange.formats import BOXES_REMEDY, ExchangeOptions, GivenBack, counted, optional_package
from skindualgen.exchange.pairs import SPLITS, put, read_pairs
from skindualgen.exchange.pictures import encode_mask, is_upright_box, size_of
from skindualgen.exchange.source import Source, picture_ids
from skindualgen.exchange.writing import FoundPair
from skindualgen.exchange.yolo_labels import FEWEST_VERTICES, Labelled, read_labels
from skindualgen.exchange.yolo_layout import DATA_FILE, Picture, read_layout
from skindualgen.files import atomic_write_text

DESCRIPTION = "YOLO segmentation: data.yaml, images/train/*.png, labels/train/*.txt"
LOSES = (
    "holes of masks, which are filled; all of the record but id, split and diagnosis, and the diagnosis as well where "
    "the mask is empty; pairs without a mask are refused"
)
HOLDS_ALL = False
HOLDS_IGNORED = False
RIM_LEVEL = 1 - 1e-3
"""Level of the contour between 0, background, and 1, lesion: it runs through the centres of the rim's pixels."""


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> GivenBack:
    """See `skindualgen.exchange.formats.Format`. A mask without lesion is an empty file: background alone."""
    yaml = optional_package("yaml")
    classes = {name: row for row, name in enumerate(sorted({class_name(record) for record in records}))}
    given_back: GivenBack = {}
    for pair in read_pairs(source, records, options.report, link=options.link):
        pair.refuse_turned()
        record, lesion = pair.record, pair.lesion()
        pair.put_image(out / "images" / record.split / f"{pair.name}{pair.suffix}")
        lines = [_line(classes[class_name(record)], vertices, lesion.shape) for vertices in outlines(lesion)]
        put(out / "labels" / record.split / f"{pair.name}.txt", "".join(lines).encode())
        diagnosis = class_fields(class_name(record)) if lines else {}
        given_back[record.isic_id] = {"isic_id": pair.name, **diagnosis}
    present: dict[str, Any] = {
        split: f"images/{split}" for split in SPLITS if any(record.split == split for record in records)
    }
    names = {row: name for name, row in classes.items()}
    atomic_write_text(out / DATA_FILE, yaml.safe_dump(present | {"names": names}, sort_keys=False))
    return given_back


def read(source: Source, out: Path, options: ExchangeOptions) -> Iterator[FoundPair]:
    """See `skindualgen.exchange.formats.Format`. All polygons of an image together are its mask."""
    layout = read_layout(source)
    ids = picture_ids(source, [picture.file for picture in layout.pictures])
    boxes: list[bool] = []
    for picture in counted(layout.pictures, options.report):
        data = source.read(picture.file)
        width, height = size_of(data, picture.file)
        objects = read_labels(source, picture, layout.names, width, height)
        fields: dict[str, Any] = {"isic_id": ids[picture.file]}
        fields |= {"split": picture.split} if picture.split is not None else {}
        names = sorted({item.name for item in objects or ()})
        if len(names) > 1:
            raise InputError(f"{picture.labels} with {', '.join(names)}", "one diagnosis per image", "fix its labels")
        fields |= stated_class(source, names[0], picture.labels) if names else {}
        mask = _mask(source, picture, objects, (height, width), options, boxes)
        yield FoundPair(fields, data, mask, picture.file)
    source.note_boxes(boxes)


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


def _mask(
    source: Source,
    picture: Picture,
    objects: Sequence[Labelled] | None,
    shape: tuple[int, int],
    options: ExchangeOptions,
    boxes_of_all: list[bool],
) -> bytes | None:
    """Return the union of all polygons of an image as a mask, or say why it has none; tell which are boxes."""
    isic_id = PurePosixPath(picture.file).stem
    if objects is None:
        # A loader takes an image without its file for one without a lesion, which nobody has said.
        detail = f"no {picture.labels}: the photograph comes without a mask"
        source.leave_out(picture.file, "image_without_annotation", detail, isic_id)
        return None
    boxes = [item for item in objects if item.vertices is None]
    if boxes and not options.boxes:
        raise InputError(f"{boxes[0].where}, a box without an outline", "a polygon", BOXES_REMEDY)
    if boxes:
        detail = f"{boxes[0].where}: the photograph comes without a mask"
        source.leave_out(picture.file, "box_without_outline", detail, isic_id)
        return None
    lesion = np.zeros(shape, bool)
    for item in objects:
        if item.vertices is not None:
            outline = filled(item.vertices, shape)
            lesion |= outline
            boxes_of_all.append(is_upright_box(outline))
    if not objects:
        source.note(f"{picture.labels} is empty: the mask of {isic_id} is without lesion")
    return encode_mask(lesion)
