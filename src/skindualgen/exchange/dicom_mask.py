"""A mask as a DICOM segmentation with one segment, the skin lesion.

Source: DICOM PS3.3 2024, section A.51 (Segmentation IOD); highdicom writes and reads it.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skindualgen.contracts import InputError, PairRecord
from skindualgen.exchange.dicom_image import generator_of, unique_id
from skindualgen.exchange.formats import optional_package
from skindualgen.exchange.pairs import Pair
from skindualgen.files import sha256_bytes

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
NO_DATE, NO_TIME = "19700101", "000000"
"""The standard demands a date of the content; a fixed one keeps the bytes a function of the pair."""


def mask_dataset(pair: Pair, image: Any) -> Any:
    """Return the segmentation object of a pair's mask; equal pairs give equal bytes.

    Args:
        pair: with a mask.
        image: its image object, see `skindualgen.exchange.dicom_image.image_dataset`.
    """
    seg = optional_package("highdicom.seg")
    digest = sha256_bytes(pair.mask_bytes or b"")
    dataset = seg.Segmentation(
        source_images=[image],
        pixel_array=pair.lesion(),
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(pair.record)],
        series_instance_uid=unique_id("mask series", str(image.SOPInstanceUID), digest),
        series_number=2,
        sop_instance_uid=unique_id("mask", str(image.SOPInstanceUID), digest),
        instance_number=1,
        manufacturer="skindualgen",
        manufacturer_model_name="skindualgen",
        software_versions=metadata.version("skindualgen"),
        device_serial_number=image.DeviceSerialNumber,
        content_label="LESION",
        content_description="region of the skin lesion",
        omit_empty_frames=False,  # a picture without lesion has a mask as well
    )
    dataset.SyntheticData = image.SyntheticData
    # Empty in an image whose past is not known; here the standard demands a value, and cameras write JPEG.
    dataset.LossyImageCompression = image.LossyImageCompression or "01"
    _fix_what_changes(dataset, unique_id("dimensions", str(image.SOPInstanceUID), digest))
    return dataset


def lesion_of(path: Path) -> tuple[NDArray[np.bool_], list[str]]:
    """Read a segmentation: bool [h, w], True where any segment is, and the labels of the segments.

    Raises:
        InputError: its values are shares or numbers instead of yes and no, or its segments are of several properties.
        Exception: of the many kinds that decoders raise.
    """
    seg = optional_package("highdicom.seg")
    dataset = seg.segread(path)
    if dataset.segmentation_type != seg.SegmentationTypeValues.BINARY:
        raise InputError(
            f"{path.name}, a segmentation of the type {dataset.SegmentationType}", "BINARY", "write it as yes and no"
        )
    descriptions = [dataset.get_segment_description(number) for number in dataset.segment_numbers]
    properties = sorted({str(description.segmented_property_type.meaning) for description in descriptions})
    if len(properties) > 1:
        raise InputError(f"{path.name} with segments of {', '.join(properties)}", "the lesion alone", "part them")
    values = np.asarray(dataset.pixel_array)  # [h, w] or [frames, h, w], one frame a segment
    lesion = np.asarray(values.reshape(-1, *values.shape[-2:]).any(axis=0))
    return lesion, [str(description.segment_label) for description in descriptions]


def _segment(record: PairRecord) -> Any:
    """The lesion, drawn by the generator or, as far as is known, by people."""
    highdicom, seg = optional_package("highdicom"), optional_package("highdicom.seg")
    codes = optional_package("pydicom.sr.codedict").codes
    algorithm = None
    kind = seg.SegmentAlgorithmTypeValues.MANUAL
    if record.origin == "synthetic":
        kind = seg.SegmentAlgorithmTypeValues.AUTOMATIC
        name, version = generator_of(record)
        algorithm = highdicom.AlgorithmIdentificationSequence(
            name=name, family=codes.DCM.ArtificialIntelligence, version=version
        )
    return seg.SegmentDescription(
        segment_number=1,
        segment_label="skin lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.SkinLesion,
        algorithm_type=kind,
        algorithm_identification=algorithm,
        anatomic_regions=[codes.SCT.Skin],
        tracking_id=record.lesion_id or record.isic_id,
        tracking_uid=unique_id("lesion", record.lesion_id or record.isic_id),
    )


def _fix_what_changes(dataset: Any, dimensions: str) -> None:
    """Put fixed values where highdicom sets the time and a random identifier."""
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        delattr(dataset, keyword)
    dataset.ContentDate, dataset.ContentTime = NO_DATE, NO_TIME
    for equipment in dataset.ContributingEquipmentSequence:
        equipment.pop("ContributionDateTime", None)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = dimensions
