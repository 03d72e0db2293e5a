"""COCO annotation files of several tools: where they lie, and every number and reference in them checked.

Source: https://cocodataset.org/#format-data (``annotations/instances_<split>.json``);
https://docs.cvat.ai/docs/dataset_management/formats/format-coco/ (``annotations/instances_default.json`` next to
``images/<subset>/``); https://openvinotoolkit.github.io/datumaro/stable/docs/data-formats/formats/roboflow.html
(``train/_annotations.coco.json`` next to the pictures).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from skindualgen.contracts import InputError, Split, first_not_finite
from skindualgen.exchange.source import Source, short, split_of_parts, split_word

FILE_NAMES = (r"instances_.*\.json", r"_annotations\.coco\.json", r".*\.json")
"""Names of annotation files; the first that occurs counts."""
OTHER_TASKS = r"(captions|person_keypoints|stuff|panoptic|image_info|labels)_.*\.json"
"""Annotations of other tasks that lie next to those of instances."""
PARTS = ("images", "annotations", "categories")
WITHOUT_SPLIT = "default"
"""CVAT's name of a subset for pictures that were put into none."""
ANNOTATIONS_DIR = "annotations"
OUTSIDE_PX = 1.0
"""What a point may lie outside of its picture: tools round, and count pixels from their centres or their corners."""
OWN_CONTRIBUTOR = "skindualgen"

Id = int | str


@dataclass(frozen=True)
class Annotation:
    """One annotation of an image.

    Attributes:
        where: its id and file, for messages.
        category: name of its category.
        segmentation: polygons or run-length code as the file has it; None where there is a box alone.
        bbox: left, top, width, height in px; None if not stated.
        crowd: whether ``iscrowd`` says that it is a region which is not evaluated.
    """

    where: str
    category: str
    segmentation: Any
    bbox: tuple[float, float, float, float] | None
    crowd: bool = False


@dataclass(frozen=True)
class CocoImage:
    """One image of a file, width and height in px, with its annotations."""

    where: str
    file_name: str
    width: int
    height: int
    license: str | None
    annotations: list[Annotation] = field(default_factory=list)


@dataclass(frozen=True)
class Document:
    """One annotation file.

    Attributes:
        file: its path in the source.
        subset: what its name says of its images; "" for nothing.
        split: the split that file name or folder states, None if neither does.
        own: whether `skindualgen export-data` has written it: an image without annotation then has an empty mask.
        images: in the order of the file.
    """

    file: str
    subset: str
    split: Split | None
    own: bool
    images: list[CocoImage]


def read_documents(source: Source) -> list[Document]:
    """Read all annotation files of a folder.

    Raises:
        InputError: none, a damaged one, or one that contradicts itself; file and annotation are named.
    """
    other = set(source.named(OTHER_TASKS))
    for pattern in FILE_NAMES:
        files = [file for file in source.named(pattern) if file not in other]
        documents = []
        for file in files:
            content = source.json(file)
            missing = set(PARTS) - (content.keys() if isinstance(content, dict) else set())
            if not missing:
                documents.append(_document(source, file, content))
            elif pattern != FILE_NAMES[-1]:
                raise InputError(f"{file} without {', '.join(sorted(missing))}", "COCO instances", "write it again")
            else:
                source.leave_out(file, "other_file", f"no COCO instances: without {', '.join(sorted(missing))}")
        if documents:
            return documents
    raise InputError(
        f"{source.root} without COCO annotations",
        "annotations/instances_*.json, or _annotations.coco.json next to the pictures",
        "choose its format",
    )


def _document(source: Source, file: str, content: Mapping[str, Any]) -> Document:
    for part in (*PARTS, "licenses"):
        value = content.get(part, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise InputError(f"{part} of {file}, which is no list of objects", "a list of objects", "write it again")
    subset, split = _subset(file)
    info = content.get("info")
    own = isinstance(info, dict) and info.get("contributor") == OWN_CONTRIBUTOR
    licenses, categories = _named(file, content, "licenses"), _named(file, content, "categories")
    images: dict[Id, CocoImage] = {}
    for row, entry in enumerate(content["images"]):
        image_id = _id(entry.get("id"), f"image {row + 1} of {file}")
        where = f"image {short(image_id)} of {file}"
        if image_id in images:
            raise InputError(f"{where} a second time", "each image id once", "remove or renumber one")
        images[image_id] = _image(where, entry, licenses)
    seen: set[Id] = set()
    for row, entry in enumerate(content["annotations"]):
        number = _id(entry["id"], f"annotation {row + 1} of {file}") if "id" in entry else row + 1
        where = f"annotation {short(number)} of {file}"
        if "id" in entry and number in seen:
            raise InputError(f"{where} a second time", "each annotation id once", "renumber one")
        seen.add(number)
        image = _image_of(where, entry, images)
        image.annotations.append(_annotation(where, entry, image, categories))
    return Document(file, subset, split, own, list(images.values()))


def _subset(file: str) -> tuple[str, Split | None]:
    """Return what the file's name says of its images, and the split that its name or folder states."""
    stem = PurePosixPath(file).name.removesuffix(".json")
    if stem.lower() == "_annotations.coco":
        return "", split_of_parts(file)
    instances = stem.lower().startswith("instances_")
    subset = stem[len("instances_") :] if instances else ""
    splits = {split for word in re.split(r"[^A-Za-z]+", subset or stem) if (split := split_word(word)) is not None}
    if len(splits) > 1 or (instances and not splits and subset.lower() != WITHOUT_SPLIT):
        raise InputError(f"{file}", "instances_train.json, instances_val.json, ...", "rename it")
    return subset, splits.pop() if splits else split_of_parts(file)


def _named(file: str, content: Mapping[str, Any], part: str) -> dict[Id, str]:
    """Return id -> name of categories or licences; the latter may be blank, the former may not."""
    found: dict[Id, str] = {}
    kind = "category" if part == "categories" else "licence"
    for row, entry in enumerate(content.get(part, [])):
        number = _id(entry.get("id"), f"{kind} {row + 1} of {file}")
        name = entry.get("name")
        if number in found:
            raise InputError(f"{kind} {short(number)} of {file} a second time", "each id once", "renumber one")
        if not isinstance(name, str) or (kind == "category" and not name.strip()):
            raise InputError(
                f"{kind} {short(number)} of {file} without a name", "a name", 'give it one; a licence may be ""'
            )
        found[number] = name.strip() or str(entry.get("url") or "").strip()
    return found


def _id(value: Any, where: str) -> Id:
    """Return a whole number or a text that is an id."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{where} with the id {short(value)}", "a whole number or a text", "number it")
    return value


def _image(where: str, entry: Mapping[str, Any], licenses: Mapping[Id, str]) -> CocoImage:
    name = entry.get("file_name")
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{where} without file_name", "the name of its file", "write it")
    sides = []
    for key in ("width", "height"):
        value = entry.get(key)
        if value is None or not _is_number(value) or value != int(value) or value < 1:
            raise InputError(
                f"{where} ({name}) with the {key} {short(value)}", "its width and height in px", "write both"
            )
        sides.append(int(value))
    license_id = entry.get("license")
    license_name = None
    if license_id is not None:
        license_name = licenses.get(_id(license_id, f"licence of {where}"))
        if license_name is None and licenses:
            raise InputError(
                f"{where} with the licence {short(license_id)}", "one that the file declares", "declare it"
            )
    return CocoImage(where, name, sides[0], sides[1], license_name or None)


def _image_of(where: str, entry: Mapping[str, Any], images: Mapping[Id, CocoImage]) -> CocoImage:
    image_id = _id(entry.get("image_id"), f"image_id of {where}")
    if image_id not in images:
        other = int(image_id) if isinstance(image_id, str) and image_id.isdecimal() else str(image_id)
        kinds = ", which is of another type than the images' ids" if other in images else ""
        raise InputError(
            f"{where} with the image_id {short(image_id)}{kinds}",
            "the id of an image of the file",
            "write it as the image has it",
        )
    return images[image_id]


def _annotation(where: str, entry: Mapping[str, Any], image: CocoImage, categories: Mapping[Id, str]) -> Annotation:
    where = f"{where} ({image.file_name})"
    if (found := first_not_finite(dict(entry))) is not None:
        raise InputError(f"{where}: {found}", "finite numbers", "draw it again, or remove it")
    category = _id(entry.get("category_id"), f"category_id of {where}")
    if category not in categories:
        raise InputError(f"{where} with the category {short(category)}", "one that the file declares", "declare it")
    if entry.get("iscrowd", 0) not in (0, 1):
        raise InputError(f"{where} with iscrowd {short(entry['iscrowd'])}", "0 or 1", "fix it")
    for key, most in (("area", math.inf), ("score", 1.0)):
        value = entry.get(key)
        if value is not None and not (_is_number(value) and 0 <= value <= most):
            raise InputError(
                f"{where} with {key} {short(value)}", "a number from 0" + (" to 1" if most == 1 else ""), "fix it"
            )
    bbox = _bbox(where, entry.get("bbox"), image)
    segmentation = entry.get("segmentation")
    if segmentation is None or segmentation == []:
        segmentation = None
    return Annotation(where, categories[category], segmentation, bbox, entry.get("iscrowd", 0) == 1)


def _bbox(where: str, value: Any, image: CocoImage) -> tuple[float, float, float, float] | None:
    if value is None or value == []:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(_is_number(side) for side in value):
        raise InputError(f"{where} with the bbox {short(value)}", "left, top, width and height in px", "fix it")
    left, top, width, height = (float(side) for side in value)
    if (
        width < 0
        or height < 0
        or not (
            inside(left, image.width)
            and inside(top, image.height)
            and inside(left + width, image.width)
            and inside(top + height, image.height)
        )
    ):
        raise InputError(
            f"{where} with the bbox {short(value)}", f"a box inside {image.width}x{image.height} px", "fix it"
        )
    return left, top, width, height


def inside(value: float, side: int) -> bool:
    """Tell whether a coordinate in px lies in a picture of that side, or as near to it as `OUTSIDE_PX`."""
    return -OUTSIDE_PX <= value <= side + OUTSIDE_PX


def _is_number(value: Any) -> bool:
    """Tell whether a JSON value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -1e300 < value < 1e300


def numbers(values: list[Any], where: str) -> Iterator[float]:
    """Yield the numbers of a list.

    Raises:
        InputError: another value is among them.
    """
    for value in values:
        if not _is_number(value):
            raise InputError(f"{where} with the coordinate {short(value)}", "numbers", "draw it again, or remove it")
        yield float(value)
