"""DICOM: each photograph as a Dermoscopic Photography image, its mask as a segmentation object that refers to it.

Source: DICOM PS3.3 2024, Dermoscopic Photography Image and Segmentation IODs; pydicom and highdicom write and read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.exchange.dicom_image import PHOTOGRAPHS, image_dataset, picture_png, read_fields
from skindualgen.exchange.dicom_mask import SEGMENTATION, lesion_of, mask_dataset, mask_png
from skindualgen.exchange.formats import ExchangeOptions, Renamed, optional_package
from skindualgen.exchange.pairs import SPLITS, PairWriter, read_pairs

DESCRIPTION = "DICOM: train/ID_image.dcm (Dermoscopic Photography), train/ID_mask.dcm (Segmentation)"
LOSES = "the image's file (pixels come back as PNG); where private attributes are removed, all but id, sex, age, site, "
LOSES += "diagnosis, lesion, patient, split and origin"
HOLDS_ALL = True
IMAGE_ENDING, MASK_ENDING = "_image.dcm", "_mask.dcm"
Index = tuple[list[Path], dict[str, Path]]
"""files of photographs; UID of a photograph -> file of its segmentation"""


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> Renamed:
    """See `skindualgen.exchange.formats.Format`. Writing the same pairs again gives the same bytes and identifiers."""
    for pair in read_pairs(source, records, options.report):
        folder = out / pair.record.split
        folder.mkdir(exist_ok=True)
        image = image_dataset(pair)
        image.save_as(folder / f"{pair.name}{IMAGE_ENDING}", enforce_file_format=True)
        if pair.mask_bytes is not None:
            mask = mask_dataset(pair, image)
            mask.save_as(folder / f"{pair.name}{MASK_ENDING}", enforce_file_format=True)
    return {}


def read(source: Path, out: Path, options: ExchangeOptions) -> list[PairRecord]:
    """See `skindualgen.exchange.formats.Format`.

    Every file below ``source`` is looked at: names do not matter. Photographs are of one of `PHOTOGRAPHS`; of their
    segmentations, which are found by reference, all segments together are the mask.
    """
    photographs, segmentations = _index(source)
    pydicom = optional_package("pydicom")
    writer, records = PairWriter(out), []
    for done, path in enumerate(photographs):
        options.report(done, len(photographs))
        dataset = pydicom.dcmread(path)
        picture = _picture(path, dataset)
        fields = {"isic_id": path.name.removesuffix(IMAGE_ENDING), **_split_of(path), **_fields(path, dataset)}
        lesion = _lesion(segmentations.get(str(dataset.get("SOPInstanceUID"))), picture.size)
        mask = None if lesion is None else mask_png(lesion, fields)
        records.append(writer.add(fields, picture_png(dataset, picture), mask))
    options.report(len(photographs), len(photographs))
    return records


def _index(source: Path) -> Index:
    """Look at the headers of all files; what is no DICOM file is passed over."""
    pydicom = optional_package("pydicom")
    wanted = ["SOPClassUID", "SOPInstanceUID", "ReferencedSeriesSequence"]
    photographs: list[Path] = []
    segmentations: dict[str, Path] = {}
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=wanted)
        except pydicom.errors.InvalidDicomError:
            continue
        kind = header.get("SOPClassUID")
        if kind in PHOTOGRAPHS:
            photographs.append(path)
        elif kind == SEGMENTATION:
            segmentations |= dict.fromkeys(_referenced(header), path)
    if not photographs:
        raise InputError(f"{source} without a DICOM photograph", ", ".join(PHOTOGRAPHS.values()), "choose its format")
    return photographs, segmentations


def _referenced(header: Any) -> Iterator[str]:
    for series in header.get("ReferencedSeriesSequence", []):
        for instance in series.get("ReferencedInstanceSequence", []):
            yield str(instance.ReferencedSOPInstanceUID)


def _split_of(path: Path) -> dict[str, str]:
    return {"split": path.parent.name} if path.parent.name in SPLITS else {}


def _fields(path: Path, dataset: Any) -> dict[str, Any]:
    try:
        return read_fields(dataset)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{path}, whose private record is damaged ({error})",
            "the JSON that was written",
            "remove private attributes",
        ) from error


def _lesion(path: Path | None, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    if path is None:
        return None
    try:
        lesion = lesion_of(path)
    except Exception as error:  # of the many kinds that decoders raise
        raise _unreadable(path, error) from error
    if lesion.shape != size[::-1]:
        raise InputError(
            f"{path} of {lesion.shape[1]}x{lesion.shape[0]} px for an image of {size[0]}x{size[1]} px",
            "a segmentation of the whole image",
            "segment the image as it is",
        )
    return lesion


def _picture(path: Path, dataset: Any) -> Image.Image:
    pixels = optional_package("pydicom.pixels")
    try:
        values = pixels.pixel_array(dataset)  # [h, w, 3] as RGB, or [h, w]
    except Exception as error:
        raise _unreadable(path, error) from error
    if values.dtype != np.uint8 or values.ndim not in (2, 3) or dataset.PhotometricInterpretation == "MONOCHROME1":
        raise InputError(
            f"{path} with {values.dtype} {list(values.shape)}, {dataset.PhotometricInterpretation}",
            "one frame of 8 bits a channel, grey or RGB",
            "convert it",
        )
    return Image.fromarray(values).convert("RGB")


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}, which cannot be decoded ({type(error).__name__}: {error})",
        "pixel data that pydicom decodes",
        "write it with a transfer syntax without compression",
    )
