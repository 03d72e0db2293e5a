"""COCO: a folder of images a split, ``instances_<split>.json`` with one mask an image as run-length code.

Source: https://cocodataset.org/#format-data; pycocotools, whose ``mask`` module encodes and decodes here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError, PairRecord, Split
from skindualgen.data.sources.base import SPLIT_NAMES
from skindualgen.exchange.formats import ExchangeOptions, Renamed, optional_package
from skindualgen.exchange.pairs import (
    SPLITS,
    Pair,
    PairWriter,
    checked_bytes,
    class_fields,
    class_name,
    encode_mask,
    other_fields,
    put,
    read_pairs,
)
from skindualgen.provenance import atomic_write_text

DESCRIPTION = "COCO: train/*.png, annotations/instances_train.json, masks as run-length code"
LOSES = "all of the record but id, split, diagnosis and licence; pairs without a mask are refused"
HOLDS_ALL = False
ANNOTATIONS_DIR = "annotations"


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> Renamed:
    """See `skindualgen.exchange.formats.Format`. A mask without lesion is an image without annotation."""
    coder = optional_package("pycocotools.mask")
    category_ids = {name: row for row, name in enumerate(sorted({class_name(record) for record in records}), start=1)}
    license_ids = {name: row for row, name in enumerate(sorted({r.license for r in records if r.license}), start=1)}
    documents = {split: _document(category_ids, license_ids, options.name) for split in SPLITS}
    renamed: Renamed = {}
    for number, pair in enumerate(read_pairs(source, records, options.report), start=1):
        record, lesion = pair.record, pair.lesion()
        document, file_name = documents[record.split], f"{pair.name}{pair.suffix}"
        put(out / record.split / file_name, pair.image_bytes, source / record.file_name if options.link else None)
        image = {"id": number, "file_name": file_name, "height": lesion.shape[0], "width": lesion.shape[1]}
        document["images"].append(image | ({"license": license_ids[record.license]} if record.license else {}))
        if lesion.any():
            place = {"id": number, "image_id": number, "category_id": category_ids[class_name(record)], "iscrowd": 0}
            document["annotations"].append(place | _annotation(coder, lesion))
        renamed[record.isic_id] = _given_back(pair, lesion)
    (out / ANNOTATIONS_DIR).mkdir()
    for split, document in documents.items():
        if document["images"]:
            text = json.dumps(document, ensure_ascii=False, allow_nan=False)  # one line: indented it is twice as long
            atomic_write_text(out / ANNOTATIONS_DIR / f"instances_{split}.json", text + "\n")
    return renamed


def read(source: Path, out: Path, options: ExchangeOptions) -> list[PairRecord]:
    """See `skindualgen.exchange.formats.Format`. All annotations of an image together are its mask."""
    coder = optional_package("pycocotools.mask")
    paths = sorted((source / ANNOTATIONS_DIR).glob("instances_*.json"))
    if not paths:
        raise InputError(
            f"{source} without {ANNOTATIONS_DIR}/instances_*.json", "COCO annotations", "choose its format"
        )
    documents = [(path, _load(path)) for path in paths]
    total, writer = sum(len(document["images"]) for _, document in documents), PairWriter(out)
    records: list[PairRecord] = []
    for path, document in documents:
        categories = {category["id"]: str(category["name"]) for category in document["categories"]}
        licenses = {entry["id"]: entry["name"] for entry in document.get("licenses", [])}
        annotations: dict[Any, list[dict[str, Any]]] = {}
        for annotation in document["annotations"]:
            annotations.setdefault(annotation["image_id"], []).append(annotation)
        split = _split(path)
        for image in document["images"]:
            options.report(len(records), total)
            own = annotations.get(image["id"], [])
            fields = {"isic_id": Path(image["file_name"]).stem, "split": split}
            fields |= _diagnosis(image, {categories[annotation["category_id"]] for annotation in own})
            fields |= {"license": licenses[image["license"]]} if image.get("license") in licenses else {}
            data = checked_bytes(_image_path(source, split, path, image["file_name"]), None)
            lesion = _lesion(coder, image, own)
            suffix = Path(image["file_name"]).suffix.lower()
            records.append(writer.add(fields, data, encode_mask(lesion), suffix=suffix))
    options.report(total, total)
    return records


def _document(categories: Mapping[str, int], licenses: Mapping[str, int], name: str) -> dict[str, Any]:
    return {
        "info": {"description": name, "contributor": "skindualgen"},
        "licenses": [{"id": row, "name": licence, "url": ""} for licence, row in licenses.items()],
        "categories": [{"id": row, "name": name, "supercategory": "skin lesion"} for name, row in categories.items()],
        "images": [],
        "annotations": [],
    }


def _annotation(coder: Any, lesion: NDArray[np.bool_]) -> dict[str, Any]:
    code = coder.encode(np.asfortranarray(lesion, dtype=np.uint8))
    segmentation = {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}
    return {
        "segmentation": segmentation,
        "area": int(coder.area(code)),
        "bbox": [float(side) for side in coder.toBbox(code)],
    }


def _given_back(pair: Pair, lesion: NDArray[np.bool_]) -> dict[str, Any]:
    diagnosis = class_fields(class_name(pair.record)) if lesion.any() else {}
    return other_fields(pair.record, isic_id=pair.name, **diagnosis)


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        missing = {"images", "annotations", "categories"} - document.keys()
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path}: {error}", "a JSON object", "write it again") from error
    if missing:
        raise InputError(f"{path} without {', '.join(sorted(missing))}", "COCO instances", "write it again")
    return dict(document)


def _split(path: Path) -> Split:
    name = path.stem.removeprefix("instances_").rstrip("0123456789").lower()  # train2017
    if name not in SPLIT_NAMES:
        raise InputError(f"{path.name}", "instances_train.json, instances_val.json, ...", "rename it")
    return SPLIT_NAMES[name]


def _image_path(source: Path, split: Split, annotations: Path, file_name: str) -> Path:
    """Return where an image lies: in the folder of the split, named as in the file's name (train2017) or as here."""
    folders = (source / split, source / annotations.stem.removeprefix("instances_"), source)
    found = next((folder / file_name for folder in folders if (folder / file_name).is_file()), folders[0] / file_name)
    if not found.resolve().is_relative_to(source.resolve()):
        raise InputError(f"image {file_name!r} of {annotations.name}", "a path inside the folder", "mend it")
    return found


def _diagnosis(image: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    if len(names) > 1:
        raise InputError(
            f"{image['file_name']} with the categories {', '.join(sorted(names))}", "one diagnosis an image",
            "take the image out, or keep one category",
        )  # fmt: skip
    return class_fields(names.pop()) if names else {}


def _lesion(coder: Any, image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """Return the union of all annotations, be they polygons or run-length codes: bool [h, w]."""
    height, width = int(image["height"]), int(image["width"])
    lesion = np.zeros((height, width), bool)
    for annotation in annotations:
        code = annotation["segmentation"]
        if isinstance(code, list) or isinstance(code["counts"], list):
            code = coder.frPyObjects(code, height, width)
        lesion |= (coder.decode(code).reshape(height, width, -1) > 0).any(axis=2)
    return lesion
