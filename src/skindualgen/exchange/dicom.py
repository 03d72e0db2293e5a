"""DICOM: each photograph as a Dermoscopic Photography image, its mask as a segmentation object that refers to it.

Source: DICOM PS3.3 2024, Dermoscopic Photography Image and Segmentation IODs; pydicom and highdicom write and read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.terms import diagnosis_term
from skindualgen.exchange.diagnoses import ANY_LESION
from skindualgen.exchange.dicom_image import PHOTOGRAPHS, image_dataset, picture_png, read_fields
from skindualgen.exchange.dicom_mask import SEGMENTATION, lesion_of, mask_dataset
from skindualgen.exchange.formats import ExchangeOptions, GivenBack, counted, optional_package
from skindualgen.exchange.pairs import read_pairs
from skindualgen.exchange.pictures import encode_mask, refuse_other_size
from skindualgen.exchange.source import Source, short, split_of_parts
from skindualgen.exchange.writing import FoundPair

DESCRIPTION = "DICOM: train/ID_image.dcm (Dermoscopic Photography), train/ID_mask.dcm (Segmentation)"
LOSES = "the image's file (pixels come back as PNG); where private attributes are removed, all but id, sex, age, site, "
LOSES += "diagnosis, lesion, patient, split and origin"
HOLDS_ALL = True
HOLDS_IGNORED = False
DICOM_ENDING = ".dcm"
IMAGE_ENDING, MASK_ENDING = f"_image{DICOM_ENDING}", f"_mask{DICOM_ENDING}"
SUFFIX = ".dcm"
BITS = 8
COMPRESSED_COLOURS = ("YBR_ICT", "YBR_RCT")
"""Colours of JPEG 2000, which its decoder turns into RGB."""
DIMENSIONS = {
    "MONOCHROME2": 2,
    **dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", *COMPRESSED_COLOURS), 3),
}
"""Photometric interpretation -> dimensions of the pixels; of MONOCHROME1 and palettes, black is not 0."""
PLAIN = {"HighBit": ["7"], "PresentationLUTShape": ["IDENTITY"], "PixelAspectRatio": ["1", "1"]}
"""Attributes that ask for other pixels than those stored, and their values where they do not."""
Index = tuple[list[str], dict[str, str]]
"""files of photographs; UID of a photograph -> file of its segmentation"""


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> GivenBack:
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


def read(source: Source, out: Path, options: ExchangeOptions) -> Iterator[FoundPair]:
    """See `skindualgen.exchange.formats.Format`.

    Every file below ``source`` is looked at: names do not matter. Photographs are of one of `PHOTOGRAPHS`; their
    segmentations are found by reference.
    """
    photographs, segmentations = _index(source)
    pydicom = optional_package("pydicom")
    for file in counted(photographs, options.report):
        with _decoding(file):
            dataset = pydicom.dcmread(source.take(file))
            picture = _picture(file, dataset)
            fields = {
                "isic_id": PurePosixPath(file).name.removesuffix(IMAGE_ENDING).removesuffix(DICOM_ENDING),
                **_fields(file, dataset),
            }
            mask_file = segmentations.pop(str(dataset.get("SOPInstanceUID")), None)
            _say_unused(source, file, dataset, fields)
        split = split_of_parts(file)
        fields |= {"split": split} if split is not None and "split" not in fields else {}
        lesion = _lesion(source, mask_file, picture.size)
        own_id = fields["isic_id"] if fields.get("origin") == "synthetic" else None
        mask = None if lesion is None else encode_mask(lesion, own_id)
        yield FoundPair(fields, picture_png(dataset, picture), mask, file, ".png")
    for file in segmentations.values():
        source.leave_out(file, "mask_without_image", "no photograph that it refers to")


def _index(source: Source) -> Index:
    """Look at the headers of all files; what is no DICOM file is left out."""
    pydicom = optional_package("pydicom")
    wanted = ["SOPClassUID", "SOPInstanceUID", "ReferencedSeriesSequence"]
    photographs: list[str] = []
    segmentations: dict[str, str] = {}
    instances: dict[str, str] = {}
    for file in source.files:
        try:
            header = pydicom.dcmread(source.root / file, stop_before_pixels=True, specific_tags=wanted)
        except pydicom.errors.InvalidDicomError as error:
            if file.lower().endswith(SUFFIX):
                raise _unreadable(file, error) from None
            continue
        except Exception as error:  # of the many kinds that decoders raise
            raise _unreadable(file, error) from error
        with _decoding(file):
            kind = header.get("SOPClassUID")
            if kind in PHOTOGRAPHS:
                if (other := instances.setdefault(str(header.get("SOPInstanceUID")), file)) != file:
                    raise InputError(f"{other} and {file} of one SOPInstanceUID", "each photograph once", "remove one")
                photographs.append(file)
            elif kind != SEGMENTATION:
                name = getattr(kind, "name", kind)
                source.leave_out(file, "other_file", f"{name}, neither photograph nor segmentation")
            else:
                uid = _referenced(file, header)
                if (other := segmentations.setdefault(uid, file)) != file:
                    raise InputError(f"{other} and {file}, two segmentations of one photograph", "one", "choose one")
    if not photographs:
        raise InputError(
            f"{source.root} without a DICOM photograph", ", ".join(PHOTOGRAPHS.values()), "choose its format"
        )
    return photographs, segmentations


def _referenced(file: str, header: Any) -> str:
    """Return the photograph that a segmentation refers to, by its UID."""
    found = [
        str(instance.get("ReferencedSOPInstanceUID"))
        for series in header.get("ReferencedSeriesSequence", [])
        for instance in series.get("ReferencedInstanceSequence", [])
    ]
    if len(set(found)) != 1:
        raise InputError(
            f"{file}, a segmentation of {len(set(found))} photographs", "one photograph a segmentation", "part it"
        )
    return found[0]


def _fields(file: str, dataset: Any) -> dict[str, Any]:
    try:
        return read_fields(dataset)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{file}, whose private record is damaged ({error})",
            "the JSON that was written",
            "remove private attributes",
        ) from error


def _lesion(source: Source, file: str | None, size: tuple[int, int]) -> NDArray[np.bool_] | None:
    if file is None:
        return None
    with _decoding(file):
        lesion, segments = lesion_of(source.take(file))
    for label in segments:
        if diagnosis_term(label) not in ANY_LESION:
            source.note(f"the segment {label!r} of {file} is read as the lesion")
    refuse_other_size((lesion.shape[1], lesion.shape[0]), size, file)
    return lesion


def _picture(file: str, dataset: Any) -> Image.Image:
    pixels = optional_package("pydicom.pixels")
    colours = str(dataset.get("PhotometricInterpretation"))
    values = pixels.pixel_array(dataset)  # [h, w, 3] as RGB, or [h, w]
    one_frame = int(dataset.get("NumberOfFrames") or 1) == 1
    if (
        values.dtype != np.uint8
        or dataset.get("BitsStored") != BITS
        or not one_frame
        or values.ndim != DIMENSIONS.get(colours)
        or (colours in COMPRESSED_COLOURS and not dataset.file_meta.TransferSyntaxUID.is_compressed)
    ):
        raise InputError(
            f"{file} with {values.dtype} {list(values.shape)}, {colours}",
            "one frame of 8 bits a channel, grey or RGB",
            "convert it",
        )
    for keyword, usual in PLAIN.items():
        value = dataset.get(keyword)
        plain = [
            str(part) for part in (value if isinstance(value, Sequence) and not isinstance(value, str) else [value])
        ]
        if value is not None and plain != usual:
            raise InputError(
                f"{file} with {keyword} {', '.join(plain)}",
                "pixels that are shown as they are stored",
                f"apply it, and leave {keyword} out",
            )
    return Image.fromarray(values).convert("RGB")


def _say_unused(source: Source, file: str, dataset: Any, fields: Mapping[str, Any]) -> None:
    """Say which age, sex or diagnosis no record can hold."""
    for keyword, field in (
        ("PatientAge", "age_approx"),
        ("PatientSex", "sex"),
        ("AdmittingDiagnosesDescription", "diagnosis"),
    ):
        value = str(dataset.get(keyword) or "")
        if value and field not in fields:
            source.leave_out(file, "value_not_used", f"{keyword} {short(value)}", str(fields["isic_id"]))


@contextmanager
def _decoding(file: str) -> Iterator[None]:
    """Name the file in whatever its decoder raises; values are decoded when they are asked for."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of the many kinds that decoders raise
        raise _unreadable(file, error) from error


def _unreadable(file: str, error: Exception) -> InputError:
    return InputError(
        f"{file}, which cannot be decoded ({type(error).__name__}: {error})",
        "pixel data that pydicom decodes",
        "write it with a transfer syntax without compression",
    )
