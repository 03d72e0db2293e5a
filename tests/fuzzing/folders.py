"""Targets: source folders as people lay them out; `prepare` returns the drawn truth, or says what it does not use."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image

from fuzzing.damage import wounded, wounds
from fuzzing.drawn import HEIGHT, bilevel, draw, encoded
from fuzzing.target import Case, Outcome, Target, demand, refusal_admitted
from skindualgen.contracts import REJECTED_FILE, PairRecord
from skindualgen.data.manifest import read_metadata
from skindualgen.data.prepare import Summary, prepare
from skindualgen.data.prepare_options import PrepareOptions

DIAGNOSES = ("nevus", "melanoma", "basal cell carcinoma", "seborrheic keratosis")
SPLITS = {
    "train": ("train", "Train", "TRAIN", "training", "Training"),
    "val": ("val", "valid", "validation", "Validation", "VAL"),
    "test": ("test", "Test", "testing", "TEST"),
}
"""Split -> how people call its folder or value."""
TOLERANCE = 8.0
"""Mean difference of grey levels up to which a photograph is the drawn one: what JPEG loses; others differ by 15."""
ENDINGS = {"png": "PNG", "PNG": "PNG", "jpg": "JPEG", "JPG": "JPEG", "bmp": "BMP", "tif": "TIFF", "gif": "GIF"}


@dataclass(frozen=True)
class Item:
    """A photograph and what is true of it; None where nothing is said."""

    isic_id: str
    number: int
    masked: bool
    diagnosis: str | None = None
    benign_malignant: str | None = None
    split: str | None = None
    prompt: str | None = None


def items_of(case: Case) -> list[Item]:
    """The photographs of a case."""
    return [
        Item(case["naming"].format(number=row), 7 * case["number"] + row, masked, diagnosis, None, split)
        for row, (diagnosis, split, masked) in enumerate(case["items"])
    ]


def write_image(root: Path, place: str, item: Item) -> None:
    """Write the photograph of an item, in the format of the place's ending."""
    options = {"quality": 97, "subsampling": 0} if place.lower().endswith("jpg") else {}
    _write(root, place, encoded(draw(item.number).image, ENDINGS[PurePosixPath(place).suffix[1:]], **options))


def write_mask(root: Path, place: str, item: Item) -> None:
    """Write the mask of an item, if it has one."""
    if item.masked:
        _write(root, place, encoded(bilevel(draw(item.number).lesion), ENDINGS[PurePosixPath(place).suffix[1:]]))


def _write(root: Path, place: str, data: bytes) -> None:
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_bytes(data)


def table(rows: Sequence[Mapping[str, str]], case: Case) -> bytes:
    """Return a table as programs write it: separator, line ends, encoding, quotes and order as the case says."""
    text = io.StringIO()
    quoting: Literal[0, 1] = csv.QUOTE_ALL if case["quoted"] else csv.QUOTE_MINIMAL
    writer = csv.DictWriter(text, list(rows[0]), delimiter=case["delimiter"], quoting=quoting, lineterminator="\n")
    writer.writeheader()
    writer.writerows(reversed(rows) if case["reversed"] else rows)
    lines = text.getvalue().replace("\n", case["newline"])
    return lines.encode(case["encoding"])


TABLE: dict[str, SearchStrategy[Any]] = {
    "delimiter": st.sampled_from((",", ";", "\t")),
    "newline": st.sampled_from(("\n", "\r\n")),
    "encoding": st.sampled_from(("utf-8", "utf-8-sig", "utf-16")),
    "quoted": st.booleans(),
    "reversed": st.booleans(),
}
COMMON: dict[str, SearchStrategy[Any]] = {
    "number": st.integers(0, 30),
    "naming": st.sampled_from(("ISIC_000000{number}", "im{number}", "Bild {number} ä", "a.b-{number}")),
    "ending": st.sampled_from(("png", "jpg", "JPG", "bmp", "tif")),
    "items": st.lists(
        st.tuples(st.sampled_from(DIAGNOSES), st.sampled_from(tuple(SPLITS)), st.booleans()), min_size=3, max_size=6
    ),
}
NAMES = {split: st.sampled_from(names) for split, names in SPLITS.items()}
SPLIT_FOLDERS = {"names": st.fixed_dictionaries(NAMES)}
MASK_NAMES = ("{}", "{}_segmentation", "{}_mask", "{}_Mask", "{}-mask", "{}_seg", "mask_{}", "{}_m")
MASK_ENDING = st.sampled_from(("png", "PNG", "bmp", "gif", "tif"))


def checked(source: Path, items: Sequence[Item]) -> Outcome:
    """Prepare a folder and compare it with its truth.

    Raises:
        WrongValueError: a photograph has another mask, diagnosis, behaviour, split or prompt than the true one, is
            another picture, or is missing and nowhere named.
    """
    out = source.parent / "out"
    with refusal_admitted(True) as outcome:
        summary = prepare(source, out, PrepareOptions(size=HEIGHT, crop="none"))
        with (out / REJECTED_FILE).open(encoding="utf-8", newline="") as file:
            named = " ".join(f"{row['isic_id']} {row['file']}" for row in csv.DictReader(file))
        _compare(out, summary, {item.isic_id: item for item in items}, named)
    return outcome[0]


def _compare(out: Path, summary: Summary, truth: Mapping[str, Item], named: str) -> None:
    records = read_metadata(out)
    demand(len(records) == len({record.isic_id for record in records}), "one id twice")
    said = f"{named} {' '.join(summary.notes)}"
    for record in records:
        demand(record.isic_id in truth, f"a photograph {record.isic_id!r}, which nobody took")
        _compare_record(out, record, truth[record.isic_id], said)
    for name in truth.keys() - {record.isic_id for record in records}:
        demand(name in named, f"{name} stands nowhere")
    splits = {item.split for item in truth.values()}
    if len(splits) > 1:
        wrong = [record.isic_id for record in records if record.split != truth[record.isic_id].split]
        demand(not wrong or None in splits, f"other splits than the source's: {', '.join(wrong[:3])}")


def _compare_record(out: Path, record: PairRecord, item: Item, said: str) -> None:
    drawn = draw(item.number)
    with Image.open(out / record.file_name) as image:
        demand(image.size == drawn.image.size, f"{item.isic_id} of {image.size}")
        difference = np.abs(np.asarray(image).astype(np.int16) - np.asarray(drawn.image).astype(np.int16)).mean()
        demand(difference <= TOLERANCE, f"{item.isic_id} is another picture")
    demand(record.diagnosis == item.diagnosis, f"diagnosis {record.diagnosis!r}, not {item.diagnosis!r}")
    demand(
        record.benign_malignant == item.benign_malignant,
        f"benign_malignant {record.benign_malignant!r}, not {item.benign_malignant!r}",
    )
    if record.mask_file_name is not None:
        demand(item.masked, f"a mask of {item.isic_id}, which has none")
        with Image.open(out / record.mask_file_name) as mask:
            demand(bool(((np.asarray(mask) > 0) == drawn.lesion).all()), f"the mask of {item.isic_id} is another")
    elif item.masked:
        demand(
            item.isic_id in said.replace("no photograph has a mask", ""), f"the mask of {item.isic_id} stands nowhere"
        )
    if item.prompt is not None and record.prompt != item.prompt:
        demand("caption" in said or ".txt" in said, f"prompt {record.prompt!r}, not {item.prompt!r}, without a word")


def _images_and_masks(case: Case, folder: Path) -> Outcome:
    """``images/`` and a folder of masks, in folders of splits or not, with a table or not."""
    source, items = folder / "source", items_of(case)
    by_folder, by_table = case["splits"] == "folders", case["splits"] == "table"
    for item in items:
        part = f"{case['names'][item.split]}/" if by_folder else ""
        write_image(source, f"{case['images']}/{part}{item.isic_id}.{case['ending']}", item)
        name = case["mask_name"].format(item.isic_id)
        write_mask(source, f"{case['masks']}/{part}{name}.{case['mask_ending']}", item)
    if case["table"]:
        rows = [{case["id_column"]: item.isic_id, case["label_column"]: str(item.diagnosis)} for item in items]
        if by_table:
            rows = [row | {"split": case["names"][item.split]} for row, item in zip(rows, items, strict=True)]
        (source / case["table"]).write_bytes(table(rows, case))
    else:
        items = [replace(item, diagnosis=None) for item in items]
    if not by_folder and not (by_table and case["table"]):
        items = [replace(item, split=None) for item in items]
    return checked(source, items)


def _class_folders(case: Case, folder: Path) -> Outcome:
    """A folder for each class, inside those of splits or around them; classes are diagnoses or behaviours."""
    source, items = folder / "source", []
    for item in items_of(case):
        behaviour = "malignant" if item.diagnosis in ("melanoma", "basal cell carcinoma") else "benign"
        label = behaviour if case["behaviours"] else str(item.diagnosis)
        label = {"lower": label.lower(), "upper": label.upper(), "title": label.title()}[case["case"]]
        parts = [label.replace(" ", case["blank"])]
        if case["order"] is not None:
            parts.insert(0 if case["order"] == "split/class" else 1, case["names"][item.split])
        write_image(source, f"{'/'.join(case['above'] + parts)}/{item.isic_id}.{case['ending']}", item)
        kept = replace(item, masked=False, split=item.split if case["order"] is not None else None)
        items.append(replace(kept, diagnosis=None, benign_malignant=behaviour) if case["behaviours"] else kept)
    return checked(source, items)


def _split_folders(case: Case, folder: Path) -> Outcome:
    """Photographs directly in folders of splits, and masks in folders beside them or inside."""
    source, items = folder / "source", items_of(case)
    for item in items:
        name = case["names"][item.split]
        write_image(source, f"{case['photographs'].format(name)}/{item.isic_id}.{case['ending']}", item)
        if case["masks"] is not None:
            mask = case["mask_name"].format(item.isic_id)
            write_mask(source, f"{case['masks'].format(name)}/{mask}.{case['mask_ending']}", item)
    masked = case["masks"] is not None
    return checked(source, [replace(item, diagnosis=None, masked=item.masked and masked) for item in items])


def _two_folders(case: Case, folder: Path) -> Outcome:
    """Photographs in one folder and masks in another, neither of which is called images."""
    source, items = folder / "source", items_of(case)
    first, second = case["folders"]
    for item in items:
        write_image(source, f"{first}/{item.isic_id}.{case['ending']}", item)
        write_mask(source, f"{second}/{case['mask_name'].format(item.isic_id)}.{case['mask_ending']}", item)
    return checked(source, [replace(item, diagnosis=None, split=None) for item in items])


def _metadata_file(case: Case, folder: Path) -> Outcome:
    """An imagefolder of `datasets` with ``metadata.csv`` or ``.jsonl``, above the folders of splits or in each."""
    source = folder / "source"
    items = [replace(item, prompt=f"caption {item.number}" if case["captions"] else None) for item in items_of(case)]
    places: dict[str, list[dict[str, str]]] = {}
    for item in items:
        name = case["names"][item.split]
        write_image(source, f"{name}/{item.isic_id}.{case['ending']}", item)
        write_mask(source, f"{name}/{item.isic_id}_mask.png", item)
        inside = "" if case["in_each"] else f"{name}/"
        row = {"file_name": f"{inside}{item.isic_id}.{case['ending']}", "diagnosis": str(item.diagnosis)}
        row["mask_file_name"] = f"{inside}{item.isic_id}_mask.png" if item.masked else ""
        row |= {case["captions"]: str(item.prompt)} if case["captions"] else {}
        places.setdefault(name if case["in_each"] else ".", []).append(row)
    for place, rows in places.items():
        if case["json"]:
            lines = [json.dumps(row, ensure_ascii=case["quoted"]) + case["newline"] for row in rows]
            _write(source, f"{place}/metadata.jsonl", "".join(lines).encode("utf-8"))
        else:
            _write(source, f"{place}/metadata.csv", table(rows, case))
    return checked(source, items)


def _damaged_table(case: Case, folder: Path) -> Outcome:
    """A table or a metadata file with damage: what it says may have changed, but no picture and no mask."""
    source, items = folder / "source", items_of(case)
    for item in items:
        write_image(source, f"images/{item.isic_id}.{case['ending']}", item)
        write_mask(source, f"masks/{item.isic_id}.png", item)
    rows = [{"isic_id": item.isic_id, "diagnosis": str(item.diagnosis), "age_approx": "45"} for item in items]
    if case["json"]:
        lines = [json.dumps(row | {"file_name": f"images/{row['isic_id']}.{case['ending']}"}) + "\n" for row in rows]
        _write(source, "metadata.jsonl", wounded("".join(lines).encode(), case["wounds"]))
    else:
        _write(source, "metadata.csv", wounded(table(rows, case), case["wounds"]))
    with refusal_admitted(True) as outcome:
        out = folder / "out"
        prepare(source, out, PrepareOptions(size=HEIGHT, crop="none"))
        for record in read_metadata(out):
            demand((out / record.file_name).is_file(), f"{record.isic_id} without its picture")
    return outcome[0]


def _target(name: str, cases: Mapping[str, SearchStrategy[Any]], check: Callable[[Case, Path], Outcome]) -> Target:
    return Target(f"folder, {name}", st.fixed_dictionaries({**COMMON, **cases}), check)


MASKS = {"mask_name": st.sampled_from(MASK_NAMES), "mask_ending": MASK_ENDING}
IMAGES_AND_MASKS = (
    TABLE
    | SPLIT_FOLDERS
    | MASKS
    | {
        "images": st.sampled_from(("images", "Images", "IMAGES", "image", "imgs", "img")),
        "splits": st.sampled_from(("folders", "table", None)),
        "table": st.sampled_from((None, "metadata.csv", "labels.csv")),
        "id_column": st.sampled_from(("isic_id", "image_id", "image", "filename")),
        "label_column": st.sampled_from(("diagnosis", "dx", "label")),
    }
)
CLASS_FOLDERS = SPLIT_FOLDERS | {
    "case": st.sampled_from(("lower", "upper", "title")),
    "blank": st.sampled_from((" ", "_")),
    "above": st.sampled_from(([], ["data"], ["Dermoskopie ö", "v1"])),
}
ORDERS = st.sampled_from((None, "split/class", "class/split"))
TARGETS = [
    _target(
        "images and masks",
        IMAGES_AND_MASKS
        | {
            "masks": st.sampled_from(("masks", "Masks", "MASKS", "mask", "segmentations", "groundtruth")),
        },
        _images_and_masks,
    ),
    _target(
        "images and masks by another name",
        IMAGES_AND_MASKS
        | {
            "masks": st.sampled_from(("labels", "Labels", "annotations", "gt", "GT", "targets", "ground_truth")),
        },
        _images_and_masks,
    ),
    _target("classes", CLASS_FOLDERS | {"behaviours": st.just(False), "order": ORDERS}, _class_folders),
    _target("benign and malignant", CLASS_FOLDERS | {"behaviours": st.just(True), "order": ORDERS}, _class_folders),
    _target(
        "splits",
        SPLIT_FOLDERS
        | MASKS
        | {
            "photographs": st.sampled_from(("{}", "data/{}")),
            "masks": st.none(),
        },
        _split_folders,
    ),
    _target(
        "splits with masks",
        SPLIT_FOLDERS
        | MASKS
        | {
            "photographs": st.sampled_from(("{}", "{}/images")),
            "masks": st.sampled_from(("{}_masks", "{}_mask", "{}-masks", "{}/masks", "masks/{}", "{}_gt")),
        },
        _split_folders,
    ),
    _target(
        "photographs and masks side by side",
        MASKS
        | {
            "folders": st.sampled_from(
                (
                    ("train", "train_masks"),
                    ("input", "target"),
                    ("photos", "masks"),
                    ("x", "y"),
                    ("Images_orig", "Masks_orig"),
                    ("data/images", "data/labels"),
                )
            )
        },
        _two_folders,
    ),
    _target(
        "metadata file",
        TABLE
        | SPLIT_FOLDERS
        | {
            "in_each": st.booleans(),
            "json": st.booleans(),
            "captions": st.sampled_from((None, "text", "prompt", "caption")),
        },
        _metadata_file,
    ),
    _target("damaged table", TABLE | {"json": st.booleans(), "wounds": wounds()}, _damaged_table),
]
