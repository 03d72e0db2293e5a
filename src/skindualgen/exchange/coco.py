"""COCO: one folder of images per split, ``instances_<split>.json`` with one mask per image as run-length code.

Ignored pixels are a crowd region (``iscrowd`` 1), which COCO's evaluation passes over.

Source: https://cocodataset.org/#format-data; pycocotools, whose ``mask`` module encodes and decodes here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.images import size_text
from skindualgen.exchange.coco_document import ANNOTATIONS_DIR, OWN_CONTRIBUTOR, CocoImage, Document, read_documents
from skindualgen.exchange.coco_masks import other_box, outline_mask
from skindualgen.exchange.diagnoses import class_fields, class_name, stated_class
from skindualgen.exchange.formats import BOXES_REMEDY, ExchangeOptions, GivenBack, counted, optional_package
from skindualgen.exchange.pairs import SPLITS, read_pairs
from skindualgen.exchange.pictures import encode_mask, is_upright_box, size_of
from skindualgen.exchange.source import Source, picture_ids, split_of_parts
from skindualgen.exchange.writing import FoundPair
from skindualgen.files import atomic_write_text

DESCRIPTION = "COCO: train/*.png, annotations/instances_train.json, masks as run-length code"
LOSES = "all of the record but id, split, diagnosis and licence; pairs without a mask are refused"
HOLDS_ALL = False
HOLDS_IGNORED = True


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> GivenBack:
    """See `skindualgen.exchange.formats.Format`. A mask without lesion is an image without annotation."""
    coder = optional_package("pycocotools.mask")
    category_ids = {name: row for row, name in enumerate(sorted({class_name(record) for record in records}), start=1)}
    license_ids = {name: row for row, name in enumerate(sorted({r.license for r in records if r.license}), start=1)}
    documents = {split: _document(category_ids, license_ids, options.name) for split in SPLITS}
    given_back: GivenBack = {}
    crowds = len(records)  # ids of annotations: that of the image, then those of the crowd regions
    for number, pair in enumerate(read_pairs(source, records, options.report, link=options.link), start=1):
        pair.refuse_turned()
        record, lesion = pair.record, pair.lesion()
        document, file_name = documents[record.split], f"{pair.name}{pair.suffix}"
        pair.put_image(out / record.split / file_name)
        image = {"id": number, "file_name": file_name, "height": lesion.shape[0], "width": lesion.shape[1]}
        document["images"].append(image | ({"license": license_ids[record.license]} if record.license else {}))
        regions = {0: lesion, 1: pair.ignored() if pair.ignored_bytes is not None else np.zeros(0, bool)}
        for crowd, region in regions.items():
            if region.any():
                crowds += crowd
                place = {"id": crowds if crowd else number, "image_id": number}
                place |= {"category_id": category_ids[class_name(record)], "iscrowd": crowd}
                document["annotations"].append(place | _annotation(coder, region))
        diagnosis = class_fields(class_name(record)) if any(region.any() for region in regions.values()) else {}
        given_back[record.isic_id] = {"isic_id": pair.name, **diagnosis}
    (out / ANNOTATIONS_DIR).mkdir()
    for split, document in documents.items():
        if document["images"]:
            text = json.dumps(document, ensure_ascii=False, allow_nan=False)  # one line: indented it is twice as long
            atomic_write_text(out / ANNOTATIONS_DIR / f"instances_{split}.json", text + "\n")
    return given_back


def read(source: Source, out: Path, options: ExchangeOptions) -> Iterator[FoundPair]:
    """See `skindualgen.exchange.formats.Format`. All annotations of an image together are its mask."""
    coder = optional_package("pycocotools.mask")
    documents = read_documents(source)
    images = _files(source, documents)
    ids = picture_ids(source, list(images))
    boxes: list[bool] = []
    for file, (document, image) in counted(list(images.items()), options.report):
        data = source.read(file)
        if (size := size_of(data, file)) != (image.width, image.height):
            raise InputError(
                f"{image.where}, of {image.width}x{image.height} px by its annotations and {size_text(size)} px by "
                f"its file {file}",
                "one size",
                "annotate the picture as it is",
            )
        fields: dict[str, Any] = {"isic_id": ids[file], **_split(source, document, file), **_class(source, image)}
        fields |= {"license": image.license} if image.license else {}
        ignored = _ignored(source, coder, document, image)
        mask = _mask(source, coder, document, image, file, options, boxes)
        yield FoundPair(fields, data, mask, file, ignored=ignored)
    source.note_boxes(boxes)


def _document(categories: Mapping[str, int], licenses: Mapping[str, int], name: str) -> dict[str, Any]:
    return {
        "info": {"description": name, "contributor": OWN_CONTRIBUTOR},
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


def _files(source: Source, documents: Sequence[Document]) -> dict[str, tuple[Document, CocoImage]]:
    """Return the file of each image, with the document and the image that name it."""
    found: dict[str, tuple[Document, CocoImage]] = {}
    for document in documents:
        for image in document.images:
            file = _picture_file(source, document, image)
            if file in found:
                got = f"{file} named by {found[file][1].where} and {image.where}"
                raise InputError(got, "each picture once", "remove one of them")
            found[file] = document, image
    return found


def _split(source: Source, document: Document, file: str) -> dict[str, Any]:
    """Return the split that the annotations state, or else the folders of the picture."""
    by_folder = split_of_parts(file)
    split = document.split or by_folder
    if split is None:
        source.note(f"{document.file} states no split: its photographs are of train")
        return {}
    if by_folder not in (None, split):
        source.note(f"{document.file} says {split} of {file}, in a folder for {by_folder}; the annotations count")
    return {"split": split}


def _picture_file(source: Source, document: Document, image: CocoImage) -> str:
    """Return where an image lies: next to its annotations, or in a folder of its subset or split, or in any."""
    folder = PurePosixPath(document.file).parent
    base = folder.parent if folder.name.lower() == ANNOTATIONS_DIR else folder
    words = dict.fromkeys(word for word in (document.subset, document.split) if word)
    near = [base / kind / word for word in words for kind in (".", "images")]
    near += [folder] if base == folder else []
    for folders in (near, [base / "images", base, PurePosixPath()]):
        names = ["" if str(name) == "." else str(name) for name in folders]
        found = source.meant(image.file_name, names, image.where)
        if not found and folders is not near:
            ending = f"/{image.file_name}".replace("\\", "/")
            found = [file for file in source.files if file.endswith(ending)]
        if len(found) > 1:
            raise InputError(
                f"{image.where}, whose file {image.file_name} is {' and '.join(found[:3])}", "one file", "rename one"
            )
        if found:
            return found[0]
    raise InputError(f"no file {image.file_name}, {image.where}", "every file that is named", "restore it")


def _class(source: Source, image: CocoImage) -> dict[str, Any]:
    names = sorted({annotation.category for annotation in image.annotations})
    if len(names) > 1:
        raise InputError(
            f"{image.where} ({image.file_name}) with the categories {', '.join(names)}",
            "one diagnosis per image",
            "take the image out, or keep one category",
        )
    return stated_class(source, names[0], image.annotations[0].where) if names else {}


def _ignored(source: Source, coder: Any, document: Document, image: CocoImage) -> bytes | None:
    """Return the crowd regions of an image as ignored pixels, and take them away from its annotations.

    In files of other tools crowd regions are outlines like all others, which is said.
    """
    crowds = [annotation for annotation in image.annotations if annotation.crowd]
    if not document.own:
        if crowds:
            source.note(f"{document.file} has crowd regions (iscrowd 1): they are read as lesions, like its outlines")
        return None
    image.annotations[:] = [annotation for annotation in image.annotations if not annotation.crowd]
    if not crowds:
        return None
    regions = [outline_mask(coder, annotation, image.width, image.height) for annotation in crowds]
    return encode_mask(np.any(regions, axis=0))


def _mask(
    source: Source,
    coder: Any,
    document: Document,
    image: CocoImage,
    file: str,
    options: ExchangeOptions,
    boxes_of_all: list[bool],
) -> bytes | None:
    """Return the union of all outlines of an image as a mask, or say why it has none; tell which outlines are boxes."""
    isic_id = PurePosixPath(file).stem
    if not image.annotations and not document.own:
        detail = f"{document.file} has no annotation of it: the photograph comes without a mask"
        source.leave_out(file, "image_without_annotation", detail, isic_id)
        return None
    boxes = [annotation for annotation in image.annotations if annotation.segmentation is None]
    lesion = np.zeros((image.height, image.width), bool)
    for annotation in image.annotations:
        if annotation.segmentation is not None:
            outline = outline_mask(coder, annotation, image.width, image.height)
            lesion |= outline
            boxes_of_all.append(is_upright_box(outline))
            if other_box(annotation, outline):
                source.note(f"{annotation.where}: its bbox is not that of its outline; the outline counts")
    if not boxes:
        return encode_mask(lesion)
    if not options.boxes:
        raise InputError(f"{boxes[0].where} without an outline", "polygons or a run-length code", BOXES_REMEDY)
    source.leave_out(file, "box_without_outline", f"{boxes[0].where}: the photograph comes without a mask", isic_id)
    return None
