"""A photograph as a Dermoscopic Photography image: attributes from its record, and the record from attributes.

Source: DICOM PS3.3 2024, sections A.32 (VL image objects), C.8.12.13 (Dermoscopic Image Module); PS3.16, CID 4029.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import numpy as np
from PIL import Image

from skindualgen.contracts import PairRecord
from skindualgen.data.archive_terms import known_diagnosis
from skindualgen.exchange.formats import optional_package
from skindualgen.exchange.pairs import Pair, described
from skindualgen.files import PNG_KEY, png_bytes, sha256_bytes

DERMOSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1.7"
PHOTOGRAPHS = {
    DERMOSCOPIC: "Dermoscopic Photography",
    "1.2.840.10008.5.1.4.1.1.77.1.4": "VL Photographic",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture",
}
"""SOP classes that are read as photographs; written is the first."""

SITE_CODES: Mapping[str, tuple[str, str]] = {
    "anterior torso": ("181491009", "Skin of anterior trunk"),
    "posterior torso": ("66643007", "Skin of back"),
    "lateral torso": ("22943007", "Trunk"),
    "upper extremity": ("371311000", "Skin of upper extremity"),
    "lower extremity": ("371304004", "Skin of lower extremity"),
    "head/neck": ("774007", "Head and Neck"),
}
"""The ISIC Archive's site -> SNOMED CT code and meaning, from CID 4029 (dermatology anatomic sites) where it has it."""
SKIN = ("39937001", "Skin")
"""For sites that no single code means."""

SEXES = {"female": "F", "male": "M"}
PRIVATE_GROUP, PRIVATE_CREATOR = 0x0099, "SKINDUALGEN"
RECORD_ELEMENT, TEXT_ELEMENT, XMP_ELEMENT = 0x01, 0x02, 0x03
"""Private elements: the record as JSON, and text and XMP of the PNG file, which is a generated image's provenance."""
XMP_KEY = "XML:com.adobe.xmp"
UNKNOWN = "UNKNOWN"
"""Of the device of a real photograph, where the standard demands a value."""
FITS = re.compile(r"[^\\^=\x00-\x1f]{1,64}")
"""Text that a DICOM long string, or a part of a name, can hold."""
DEVICE = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")
READ_FIELDS = ("sex", "age_approx", "anatom_site_general", "diagnosis", "lesion_id", "patient_id", "origin")


def unique_id(kind: str, *parts: str) -> str:
    """Return a DICOM identifier that is a function of its arguments: a UUID by name, below 2.25 (PS3.5, B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(('skindualgen', kind, *parts))).int}"


def generator_of(record: PairRecord) -> tuple[str, str]:
    """Return name and version of what drew a generated pair."""
    name, _, version = (record.source or f"skindualgen {metadata.version('skindualgen')}").partition(" ")
    return name, version or UNKNOWN


def image_dataset(pair: Pair) -> Any:
    """Return the image object of a pair; equal pairs give equal bytes."""
    pydicom = optional_package("pydicom")
    record, digest = pair.record, sha256_bytes(pair.image_bytes)
    picture = pair.picture()
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    dataset.SOPClassUID = DERMOSCOPIC
    dataset.SOPInstanceUID = unique_id("image", record.isic_id, digest)
    dataset.StudyInstanceUID = unique_id("study", record.isic_id, digest)
    dataset.SeriesInstanceUID = unique_id("series", record.isic_id, digest)
    dataset.Modality = "DMS"
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    for keyword in ("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID"):
        setattr(dataset, keyword, "")  # required, may be empty where not known
    describe(dataset, record, pair.name)
    _add_device(dataset, record)
    _add_pixels(dataset, pair.photograph().image, lossy=_lossy(record, picture))
    _add_private(dataset, record, picture)
    return dataset


def describe(dataset: Any, record: PairRecord, name: str) -> None:
    """Set what a record says of patient, lesion and site; ``name`` stands for a patient that is not known."""
    pydicom = optional_package("pydicom")
    synthetic = record.origin == "synthetic"
    dataset.SyntheticData = "YES" if synthetic else "NO"
    dataset.PatientID = _fitting(record.patient_id or name)
    dataset.PatientName = f"{_fitting(name)}^{'Synthetic' if synthetic else 'Anonymous'}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = SEXES.get(record.sex or "", "")
    if not synthetic:
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = "published research data set without identifying attributes"
    if record.age_approx is not None:
        dataset.PatientAge = f"{record.age_approx:03d}Y"
    if record.diagnosis is not None:
        dataset.AdmittingDiagnosesDescription = _fitting(record.diagnosis)
    if record.lesion_id is not None:
        dataset.TrackingID = record.lesion_id
        dataset.TrackingUID = unique_id("lesion", record.lesion_id)
    code, meaning = SITE_CODES.get(record.anatom_site_general or "", SKIN)
    region = pydicom.Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = code, "SCT", meaning
    dataset.AnatomicRegionSequence = [region]


def read_fields(dataset: Any) -> dict[str, Any]:
    """Return what an image object says of its pair.

    The private record counts, except where a standard attribute no longer says what was written from it: somebody has
    then corrected that.
    """
    pydicom = optional_package("pydicom")
    stated = _stated(dataset)
    text = _private_text(dataset, RECORD_ELEMENT)
    if text is None:
        return stated
    fields: dict[str, Any] = json.loads(text)
    as_written = pydicom.Dataset()
    name = str(dataset.get("PatientName", "")).partition("^")[0]
    describe(as_written, PairRecord.model_validate({"file_name": "-", **fields}), name)
    usual = _stated(as_written)
    changed = {key: stated.get(key) for key in READ_FIELDS if stated.get(key) != usual.get(key)}
    return {key: value for key, value in (fields | changed).items() if value is not None}


def picture_png(dataset: Any, picture: Image.Image) -> bytes:
    """Encode as PNG, with the text and the XMP that the original file carried."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if (text := _private_text(dataset, TEXT_ELEMENT)) is not None:
        info.add_text(PNG_KEY, text)
    if (packet := _private_text(dataset, XMP_ELEMENT)) is not None:
        info.add_itxt(XMP_KEY, packet)
    return png_bytes(picture, info)


def _stated(dataset: Any) -> dict[str, Any]:
    """What the standard attributes say; nothing where they are empty or hold something else."""
    sexes = {code: sex for sex, code in SEXES.items()}
    sites = {code: site for site, (code, _) in SITE_CODES.items()}
    region: Any = next(iter(dataset.get("AnatomicRegionSequence") or []), {})
    diagnosis = str(dataset.get("AdmittingDiagnosesDescription") or "")
    age = re.fullmatch(r"0*(\d+)Y", str(dataset.get("PatientAge") or ""))
    fields = {
        "sex": sexes.get(dataset.get("PatientSex") or ""),
        "age_approx": int(age[1]) if age and int(age[1]) <= 120 else None,
        "anatom_site_general": sites.get(region.get("CodeValue", "")),
        "diagnosis": diagnosis if known_diagnosis(diagnosis) else None,
        "lesion_id": str(dataset.get("TrackingID") or "") or None,
        "patient_id": str(dataset.get("PatientID") or "") or None,
        "origin": {"YES": "synthetic", "NO": "real"}.get(str(dataset.get("SyntheticData"))),
    }
    return {key: value for key, value in fields.items() if value is not None}


def _add_device(dataset: Any, record: PairRecord) -> None:
    """The device: the generator, or an unknown dermoscope."""
    if record.origin == "synthetic":
        name, version = generator_of(record)
        device = (name, name, record.adapter_sha256 or UNKNOWN, version)
    else:
        device = (UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)
    for keyword, text in zip(DEVICE, device, strict=True):
        setattr(dataset, keyword, _fitting(text))


def _add_pixels(dataset: Any, picture: Image.Image, *, lossy: str) -> None:
    values = np.asarray(picture)  # RGB [h, w, 3]
    dataset.ImageType = ["DERIVED", "PRIMARY"]  # scaled, cut or drawn: not as it came from a camera
    dataset.PatientOrientation = None
    dataset.AcquisitionContextSequence = []
    dataset.LossyImageCompression = lossy
    dataset.BurnedInAnnotation = "NO"
    dataset.RecognizableVisualFeatures = "NO"
    for keyword in (
        "LightSourcePolarization",
        "EmitterColorTemperature",
        "ContactMethod",
        "OpticalMagnificationFactor",
    ):
        setattr(dataset, keyword, None)  # required, may be empty where not known
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    data = values.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)


def _lossy(record: PairRecord, picture: Image.Image) -> str:
    """Return "01": once compressed with losses; "00": never; empty: not known, as a PNG may come from a JPEG."""
    if picture.format == "JPEG":
        return "01"
    return "00" if record.origin == "synthetic" else ""


def _add_private(dataset: Any, record: PairRecord, picture: Image.Image) -> None:
    block = dataset.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
    block.add_new(RECORD_ELEMENT, "UT", json.dumps(described(record), sort_keys=True, allow_nan=False))
    if (text := picture.info.get(PNG_KEY)) is not None:
        block.add_new(TEXT_ELEMENT, "UT", text)
    if picture.format == "PNG" and (packet := picture.info.get("xmp")) is not None:
        block.add_new(XMP_ELEMENT, "UT", packet.decode("utf-8"))


def _private_text(dataset: Any, element: int) -> str | None:
    try:
        value = dataset.private_block(PRIVATE_GROUP, PRIVATE_CREATOR)[element].value
    except KeyError:
        return None
    return value.decode("utf-8").rstrip(" ") if isinstance(value, bytes) else str(value)  # bytes: the VR got lost


def _fitting(text: str) -> str:
    """Return a text as it is where DICOM can hold it, else a name that is made from it."""
    return text if FITS.fullmatch(text) and text == text.strip() else sha256_bytes(text.encode())[:32]
