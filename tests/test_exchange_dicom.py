"""DICOM: written and read back without a loss, valid by the standard's own tables, read by the tools' own libraries."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom import _standard_utils as standard
from PIL import Image
from pydicom.sr import _concepts_dict as concepts
from pydicom.uid import UID

from exchange_data import EMPTY, HEIGHT, JPEG, WIDTH, image_of, lesion_of, write_exchange_data
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.prepare import prepare
from skindualgen.exchange.dicom_image import PRIVATE_CREATOR, SITE_CODES, SKIN, unique_id
from skindualgen.exchange.pairs import described
from skindualgen.exchange.transfer import export_data, import_data
from skindualgen.files import sha256_bytes
from skindualgen.marks.embed import image_png, mask_png, read_embedded
from skindualgen.verify.folder import verify_folder

KEPT_WITHOUT_PRIVATE = {"isic_id", "split", "origin", "sex", "age_approx", "anatom_site_general", "diagnosis"}
TEXTS = {"AS", "CS", "DA", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UT"}
FULL = {
    "isic_id": "ISIC_0000009",
    "diagnosis": "melanoma",
    "age_approx": 7,
    "sex": "male",
    "patient_id": "P9",
    "lesion_id": "IL_9",
    "anatom_site_general": "posterior torso",
    "split": "val",
    "split_group": "g",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[PairRecord]]:
    """Real and generated pairs, one of them with every attribute, one without a mask."""
    root = tmp_path_factory.mktemp("dicom") / "data"
    records = write_exchange_data(root)
    records[0] = records[0].model_copy(update={key: value for key, value in FULL.items() if key != "isic_id"})
    records[1] = records[1].model_copy(update={"mask_file_name": None, "mask_sha256": None})
    write_dataset(root, records, made_by={})
    return root, read_metadata(root)


@pytest.fixture(scope="module")
def written(data: tuple[Path, list[PairRecord]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dicom") / "out"
    export_data(data[0], out, "dicom")
    return out


def datasets(out: Path, ending: str) -> dict[str, Any]:
    """Objects of a folder by the id in their private record, or in that of the image that they belong to."""
    images = [pydicom.dcmread(path) for path in sorted(out.rglob("*_image.dcm"))]
    by_uid = {image.SOPInstanceUID: private(image)["isic_id"] for image in images}
    if ending == "image":
        return {private(image)["isic_id"]: image for image in images}
    masks = [pydicom.dcmread(path) for path in sorted(out.rglob("*_mask.dcm"))]
    return {by_uid[mask.SourceImageSequence[0].ReferencedSOPInstanceUID]: mask for mask in masks}


def private(dataset: Any) -> dict[str, Any]:
    return dict(json.loads(dataset.private_block(0x0099, PRIVATE_CREATOR)[1].value))


def test_pixels_masks_and_records_come_back(data: tuple[Path, list[PairRecord]], written: Path, tmp_path: Path) -> None:
    root, records = data
    back = {record.isic_id: record for record in import_data(written, tmp_path / "back", "dicom")}
    assert back.keys() == {record.isic_id for record in records}
    for record in records:
        other = back[record.isic_id]
        assert described(other) == described(record)
        assert (image_of(tmp_path / "back", other) == image_of(root, record)).all()
        assert (other.mask_file_name is None) == (record.mask_file_name is None)
        if record.mask_file_name is not None:
            assert (lesion_of(tmp_path / "back", other) == lesion_of(root, record)).all()
    assert (tmp_path / "back" / "trained_on.json").is_file()


def test_writing_twice_gives_the_same_bytes(data: tuple[Path, list[PairRecord]], written: Path, tmp_path: Path) -> None:
    """Among them the identifiers, and no time of writing."""
    export_data(data[0], tmp_path / "again", "dicom")
    files = {path.relative_to(written): path.read_bytes() for path in written.rglob("*.dcm")}
    assert len(files) == 2 * len(data[1]) - 1
    assert {path: (tmp_path / "again" / path).read_bytes() for path in files} == files


def test_identifiers_are_unique_valid_and_of_their_content(written: Path) -> None:
    images, masks = datasets(written, "image"), datasets(written, "mask")
    everything = [*images.values(), *masks.values()]
    instances = [dataset.SOPInstanceUID for dataset in everything]
    assert len(set(instances)) == len(instances) and all(uid.startswith("2.25.") for uid in instances)
    for dataset in everything:
        for element in dataset.iterall():
            if element.VR == "UI":
                assert UID(element.value).is_valid
    for isic_id, mask in masks.items():
        assert mask.StudyInstanceUID == images[isic_id].StudyInstanceUID
        assert mask.SeriesInstanceUID != images[isic_id].SeriesInstanceUID
    assert unique_id("image", "a", "b") == unique_id("image", "a", "b") != unique_id("image", "a", "c")


def test_pydicom_reads_the_image_and_its_attributes(data: tuple[Path, list[PairRecord]], written: Path) -> None:
    root, records = data
    image = datasets(written, "image")[records[0].isic_id]
    assert image.SOPClassUID.name == "Dermoscopic Photography Image Storage"
    assert (image.Modality, image.SyntheticData) == ("DMS", "NO")
    assert (image.Rows, image.Columns, image.PhotometricInterpretation) == (HEIGHT, WIDTH, "RGB")
    assert (image.pixel_array == image_of(root, records[0])).all()
    assert (image.PatientSex, image.PatientAge, image.PatientID) == ("M", "007Y", "P9")
    assert (image.AdmittingDiagnosesDescription, image.TrackingID) == ("melanoma", "IL_9")
    assert image.PatientIdentityRemoved == "YES" and image.PatientName.given_name == "Anonymous"
    region = image.AnatomicRegionSequence[0]
    assert (region.CodeValue, region.CodingSchemeDesignator) == ("66643007", "SCT")


def test_generated_images_and_masks_say_that_they_are(written: Path) -> None:
    """And real ones that they are not; losses of compression are stated where they are known."""
    images, masks = datasets(written, "image"), datasets(written, "mask")
    for isic_id, image in images.items():
        generated = isic_id.startswith("SDG")
        assert image.SyntheticData == ("YES" if generated else "NO")
        assert image.PatientName.given_name == ("Synthetic" if generated else "Anonymous")
        assert image.LossyImageCompression == ("00" if generated else "01" if isic_id == JPEG else "")
        if isic_id in masks:
            assert masks[isic_id].SyntheticData == image.SyntheticData


def test_highdicom_reads_the_mask(data: tuple[Path, list[PairRecord]], written: Path) -> None:
    root, records = data
    images = datasets(written, "image")
    empty = []
    for record in records:
        if record.mask_file_name is None:
            continue
        path = next(path for path in written.rglob("*_mask.dcm") if refers(path, images[record.isic_id]))
        mask = highdicom.seg.segread(path)
        assert mask.segmentation_type == highdicom.seg.SegmentationTypeValues.BINARY
        assert mask.number_of_segments == 1
        description = mask.get_segment_description(1)
        assert description.segmented_property_type.meaning == "Skin lesion"
        generated = record.origin == "synthetic"
        assert description.algorithm_type.value == ("AUTOMATIC" if generated else "MANUAL")
        values = mask.get_pixels_by_source_instance(
            [images[record.isic_id].SOPInstanceUID], combine_segments=True, ignore_spatial_locations=True
        )
        assert (values[0] > 0).tolist() == lesion_of(root, record).tolist()
        empty += [] if values.any() else [record.isic_id]
    assert empty == [EMPTY]  # a picture without lesion has a mask as well


def refers(path: Path, image: Any) -> bool:
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    return bool(dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID)


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_objects_hold_what_their_definition_demands_and_nothing_else(written: Path, kind: str) -> None:
    """Against the tables of PS3.3 that highdicom ships: types 1 and 2 of mandatory modules, attributes outside any."""
    modules = standard.get_module_attribute_map()
    for dataset in datasets(written, kind).values():
        iod = standard.get_sop_class_iod_map()[dataset.SOPClassUID]
        known: set[str] = set()
        for module in standard.get_iod_module_map()[iod]:
            attributes = [attribute for attribute in modules[module["key"]] if not attribute["path"]]
            known |= {attribute["keyword"] for attribute in attributes}
            if module["usage"] != "M":
                continue
            for attribute in attributes:
                keyword, demanded = attribute["keyword"], attribute["type"]
                if demanded in ("1", "2"):
                    assert keyword in dataset, (iod, module["key"], keyword)
                if demanded == "1":
                    assert dataset[keyword].value not in (None, ""), (iod, module["key"], keyword)
        present = {element.keyword for element in dataset if not element.tag.is_private}
        assert present <= known, present - known


def test_codes_are_those_of_the_dictionaries_of_the_standard() -> None:
    """pydicom's copy of PS3.16: every code exists and has the meaning that is written with it."""
    meanings: dict[str, set[str]] = {}
    for entry in concepts.concepts["SCT"].values():
        for code, (text, _) in entry.items():
            meanings.setdefault(code, set()).add(text)
    for code, meaning in (*SITE_CODES.values(), SKIN):
        assert meaning in meanings[code]
    assert "DMS" in concepts.concepts["DCM"]["Dermoscopy"]


def test_every_value_is_as_its_representation_demands(written: Path) -> None:
    """By pydicom's checks of lengths, characters and forms, which raise here where they would warn."""
    checked = sum(check_values(pydicom.dcmread(path)) for path in written.rglob("*.dcm"))
    assert checked > 500
    planted = pydicom.dcmread(next(written.rglob("*_image.dcm")))
    with pytest.warns(UserWarning, match="Invalid value for VR AS"):
        planted.PatientAge = "seven"
    with pytest.raises(ValueError, match="Invalid value for VR AS"):
        check_values(planted)


def check_values(dataset: Any) -> int:
    number = 0
    for element in dataset.iterall():
        if element.VR in TEXTS and element.VM:
            for value in element.value if element.VM > 1 else [element.value]:
                pydicom.valuerep.validate_value(element.VR, str(value), pydicom.config.RAISE)
                number += 1
    return number


def test_what_remains_where_private_attributes_are_removed(
    data: tuple[Path, list[PairRecord]], written: Path, tmp_path: Path
) -> None:
    """As an archive may do: id from the file's name, the rest from standard attributes."""
    records = {record.isic_id: record for record in data[1]}
    stripped = shutil.copytree(written, tmp_path / "stripped")
    for path in stripped.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.remove_private_tags()
        dataset.save_as(path)
    back = import_data(stripped, tmp_path / "back", "dicom")
    first = next(record for record in back if record.isic_id == data[1][0].isic_id)
    assert first.model_dump(include=KEPT_WITHOUT_PRIVATE | {"lesion_id", "patient_id"}) == data[1][0].model_dump(
        include=KEPT_WITHOUT_PRIVATE | {"lesion_id", "patient_id"}
    )
    assert sorted(record.origin for record in back) == sorted(record.origin for record in records.values())
    assert all(record.prompt is None for record in back)


def test_a_corrected_attribute_counts_more_than_the_record(written: Path, tmp_path: Path) -> None:
    """Somebody has corrected the sex and removed the age in an archive; diagnosis and prompt stay."""
    folder = shutil.copytree(written, tmp_path / "corrected")
    path = next(path for path in folder.rglob("*_image.dcm") if pydicom.dcmread(path).get("PatientAge"))
    dataset = pydicom.dcmread(path)
    before = private(dataset)
    dataset.PatientSex = "F"
    del dataset.PatientAge
    dataset.save_as(path)
    back = {record.isic_id: record for record in import_data(folder, tmp_path / "back", "dicom")}
    changed = back[before["isic_id"]]
    assert described(changed) == {key: v for key, v in before.items() if key != "age_approx"} | {"sex": "female"}


def test_generated_pairs_are_sound_after_the_way_there_and_back(tmp_path: Path) -> None:
    """The mark of generated media, the record in the image and the id in the mask are restored."""
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    record = PairRecord(
        file_name="images/a.png",
        mask_file_name="masks/a.png",
        isic_id="SDG_0000001",
        prompt="a “nevus” \\ 1",
        origin="synthetic",
        source="skindualgen 0.1.0",
        seed=2**63 - 1,
        adapter_sha256="a" * 64,
        license="CC0-1.0",
        scores={"mask_area_fraction": 0.125},
        diagnosis="nevus",
    )
    files = {
        "images/a.png": image_png(Image.fromarray(rng.integers(0, 256, (31, 33, 3), dtype=np.uint8)), record),
        "masks/a.png": mask_png(Image.fromarray((rng.random((31, 33)) > 0.5).astype(np.uint8) * 255), "SDG_0000001"),
    }
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    record.sha256, record.mask_sha256 = (sha256_bytes(content) for content in files.values())
    write_dataset(root, [record], made_by={})
    assert list(verify_folder(root)) == []
    export_data(root, tmp_path / "out", "dicom")
    back = import_data(tmp_path / "out", tmp_path / "back", "dicom")
    assert list(verify_folder(tmp_path / "back")) == []
    assert read_embedded(tmp_path / "back" / back[0].file_name) == read_embedded(root / record.file_name)


def test_ids_that_dicom_cannot_hold_are_named_otherwise_and_come_back(tmp_path: Path) -> None:
    root = tmp_path / "data"
    records = write_exchange_data(root, synthetic=0)[:2]
    long_id, strange = "x" * 90, "a\\b^c=d"
    records[0] = records[0].model_copy(update={"isic_id": long_id, "patient_id": long_id})
    records[1] = records[1].model_copy(update={"isic_id": "y", "patient_id": strange, "diagnosis": strange})
    write_dataset(root, records, made_by={})
    export_data(root, tmp_path / "out", "dicom")
    back = {record.isic_id: record for record in import_data(tmp_path / "out", tmp_path / "back", "dicom")}
    assert (back[long_id].patient_id, back["y"].patient_id, back["y"].diagnosis) == (long_id, strange, strange)
    image = datasets(tmp_path / "out", "image")["y"]
    assert image.PatientID == hashlib.sha256(strange.encode()).hexdigest()[:32]


def test_photographs_of_other_makers(tmp_path: Path) -> None:
    """A VL Photographic image in YBR with names of its own, without a mask, next to a file that is no DICOM."""
    source = tmp_path / "archive" / "deep"
    source.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    write_foreign(source / "IM00001", pixels, PhotometricInterpretation="YBR_FULL")
    (source / "readme.txt").write_text("no picture")
    back = import_data(tmp_path / "archive", tmp_path / "back", "dicom")
    assert [(record.isic_id, record.mask_file_name, record.sex) for record in back] == [("IM00001", None, "female")]
    expected = pydicom.pixels.convert_color_space(pixels, "YBR_FULL", "RGB")
    assert (image_of(tmp_path / "back", back[0]) == expected).all()


def test_ids_are_names_without_their_ending(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for name in ("a.dcm", "b_image.dcm", "c"):
        write_foreign(
            tmp_path / "scans" / name, np.full((8, 8, 3), ord(name[0]), np.uint8), PhotometricInterpretation="RGB"
        )
    back = import_data(tmp_path / "scans", tmp_path / "back", "dicom")
    assert sorted(record.isic_id for record in back) == ["a", "b", "c"]
    with pytest.raises(InputError, match="import-data --format dicom"):
        prepare(tmp_path / "scans", tmp_path / "prepared")


def test_what_cannot_be_read_is_refused(written: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="without a DICOM photograph"):
        import_data(tmp_path / "empty", tmp_path / "o1", "dicom")
    (tmp_path / "deep").mkdir()
    deep = np.zeros((4, 4), np.uint16)
    write_foreign(tmp_path / "deep" / "a.dcm", deep, PhotometricInterpretation="MONOCHROME2")
    with pytest.raises(InputError, match="uint16"):
        import_data(tmp_path / "deep", tmp_path / "o2", "dicom")
    short = shutil.copytree(written, tmp_path / "short")
    path = next(short.rglob("*_image.dcm"))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match="cannot be decoded"):
        import_data(short, tmp_path / "o3", "dicom")


@pytest.mark.parametrize("text", ["{", "[1]", '{"isic_id": "a", "split": "nothing"}'])
def test_a_damaged_private_record_is_named(written: Path, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    dataset = pydicom.dcmread(next(written.rglob("*_image.dcm")))
    dataset.private_block(0x0099, PRIVATE_CREATOR)[1].value = text
    dataset.save_as(folder / "a_image.dcm")
    with pytest.raises(InputError, match="whose private record is damaged"):
        import_data(folder, tmp_path / "back", "dicom")


def test_a_mask_of_another_size_is_refused(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written, tmp_path / "folder")
    path = next(folder.rglob("*_mask.dcm"))
    mask = pydicom.dcmread(path)
    mask.Rows = HEIGHT // 2
    mask.PixelData = mask.PixelData[: len(mask.PixelData) // 2]
    mask.save_as(path)
    with pytest.raises(InputError, match=f"{WIDTH}x{HEIGHT // 2} px for an image of {WIDTH}x{HEIGHT} px"):
        import_data(folder, tmp_path / "back", "dicom")


def write_foreign(path: Path, pixels: np.ndarray, **attributes: Any) -> None:
    """An image as another program writes it."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.4"
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.PatientSex, dataset.PatientID = "F", "someone"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit, dataset.PixelRepresentation = 8 * pixels.itemsize - 1, 0
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
        ({"PhotometricInterpretation": "MONOCHROME2"}, "MONOCHROME2"),
        ({"PhotometricInterpretation": "YBR_ICT"}, "YBR_ICT"),
        ({"PresentationLUTShape": "INVERSE"}, "PresentationLUTShape INVERSE"),
        ({"PixelAspectRatio": [2, 1]}, "PixelAspectRatio 2, 1"),
        ({"HighBit": 3}, "HighBit 3"),
    ],
)
def test_pixels_that_are_not_shown_as_they_are_stored_are_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    """Guards against negatives, squeezed lesions, and three channels that are called grey."""
    pixels = np.random.default_rng(1).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    plain = {"PixelAspectRatio": [1, 1], "PresentationLUTShape": "IDENTITY", "PhotometricInterpretation": "RGB"}
    for name, attributes in (("plain", plain), ("other", plain | changed)):
        (tmp_path / name).mkdir()
        write_foreign(tmp_path / name / "a", pixels, **attributes)
    (record,) = import_data(tmp_path / "plain", tmp_path / "back", "dicom")
    assert (image_of(tmp_path / "back", record) == pixels).all()
    with pytest.raises(InputError, match=message):
        import_data(tmp_path / "other", tmp_path / "out", "dicom")


@pytest.mark.parametrize(
    ("text", "diagnosis"),
    [
        ("BCC", "BCC"),
        ("rule out melanoma", None),
        ("history of melanoma", None),
        ("no melanoma", None),
        (["melanoma", "nevus"], None),
    ],
)
def test_words_of_a_referral_are_no_diagnosis(tmp_path: Path, text: str | list[str], diagnosis: str | None) -> None:
    """Guards against the diagnosis "history of melanoma", which a prompt would then draw."""
    (tmp_path / "in").mkdir()
    pixels = np.zeros((8, 8, 3), np.uint8)
    attributes = {"PhotometricInterpretation": "RGB", "AdmittingDiagnosesDescription": text}
    write_foreign(tmp_path / "in" / "a", pixels, **attributes)
    (record,) = import_data(tmp_path / "in", tmp_path / "back", "dicom")
    assert record.diagnosis == diagnosis
    left_out = (tmp_path / "back" / "rejected.csv").read_text()
    assert ("AdmittingDiagnosesDescription" in left_out) == (diagnosis is None)
