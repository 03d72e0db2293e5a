"""nnU-Net v2's raw data set: RGB images, labels 0 and 1, ``dataset.json``, the split of train and val.

Where pairs have ignored pixels, the label 2 is named "ignore".

Source: https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md and ignore_label.md; nnunetv2 2.8:
``NaturalImage2DIO`` takes an RGB PNG for three channels, and the planner copies a ``splits_final.json`` of the raw
folder, whose fold 0 it is.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import InputError, PairRecord, Split
from skindualgen.exchange.formats import ExchangeOptions, GivenBack, counted
from skindualgen.exchange.pairs import Pair, put, read_pairs
from skindualgen.exchange.pictures import decoded, encode_mask, encode_png, refuse_other_size, size_of
from skindualgen.exchange.source import Source, short
from skindualgen.exchange.writing import FoundPair
from skindualgen.files import atomic_write_json

DESCRIPTION = "nnU-Net v2 raw data set: train and val in imagesTr with splits_final.json, test in imagesTs"
LOSES = "all of the record but id and split, and the mask under ignored pixels; pairs without a mask are refused"
HOLDS_ALL = False
HOLDS_IGNORED = True
ENDING = ".png"
ENDINGS = (".png", ".bmp", ".tif")
"""Endings that ``NaturalImage2DIO`` reads."""
CHANNEL = "_0000"
SPLITS_FILE, DATASET_JSON = "splits_final.json", "dataset.json"
LABELS = {"background": 0, "lesion": 1}
IGNORE_NAME, IGNORE_LABEL = "ignore", 2
"""The highest label, whose pixels nnU-Net leaves out of its loss."""
NAME = re.compile(r"[A-Za-z0-9_]+")
MAX_ID = 999
LESION_NAMES = frozenset({"lesion", "skin lesion", "skin_lesion", "foreground"})
GREY_MODES = ("1", "L", "I", "I;16", "I;16B")
"""Modes of a label picture whose values are numbers; those of a palette are places in it."""


class Case(NamedTuple):
    """A case of the part ``Tr`` or ``Ts``: its files in the source; None for a label that is not there."""

    name: str
    part: str
    image: str
    label: str | None


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> GivenBack:
    """See `skindualgen.exchange.formats.Format`."""
    if not NAME.fullmatch(options.name) or not 1 <= options.dataset_id <= MAX_ID:
        raise InputError(
            f"data set {options.dataset_id} {options.name!r}", "1 to 999, letters, digits and _", "choose others"
        )
    if not any(record.split == "train" for record in records):
        raise InputError("no pair of the train split", "pairs to train on (imagesTr)", "export the train split as well")
    root = out / f"Dataset{options.dataset_id:03d}_{options.name}"
    names: dict[Split, list[str]] = {"train": [], "val": [], "test": []}
    given_back: GivenBack = {}
    for pair in read_pairs(source, records, options.report, link=options.link):
        part = "Ts" if pair.record.split == "test" else "Tr"
        label = encode_png(Image.fromarray(_label(pair)))
        picture = pair.picture()
        photograph = pair.photograph()
        image = root / f"images{part}" / f"{pair.name}{CHANNEL}{ENDING}"
        if picture.format == "PNG" and picture.mode == "RGB" and photograph.orientation == 1:
            pair.put_image(image)
        else:
            put(image, encode_png(photograph.image))
        put(root / f"labels{part}" / f"{pair.name}{ENDING}", label)
        names[pair.record.split].append(pair.name)
        given_back[pair.record.isic_id] = {"isic_id": pair.name}
    atomic_write_json(root / DATASET_JSON, _dataset_json(records, len(names["train"]) + len(names["val"]), options))
    if names["val"]:
        atomic_write_json(root / SPLITS_FILE, [{"train": names["train"], "val": names["val"]}])
    return given_back


def read(source: Source, out: Path, options: ExchangeOptions) -> Iterator[FoundPair]:
    """See `skindualgen.exchange.formats.Format`. Test cases without a label are photographs without a mask."""
    root = _root(source)
    ending = _ending(source, root)
    cases = list(_cases(source, root, ending))
    val = _validation(source, root, {case.name for case in cases if case.part == "Tr"})
    _note_count(source, root, sum(case.part == "Tr" for case in cases))
    ignore = _ignore_label(source, root)
    for case in counted(cases, options.report):
        fields = {
            "isic_id": case.name,
            "split": "test" if case.part == "Ts" else "val" if case.name in val else "train",
        }
        image = source.read(case.image)
        mask = ignored = None
        if case.label is None:
            detail = "no label: the photograph comes without a mask"
            source.leave_out(case.image, "image_without_mask", detail, case.name)
        else:
            values = _values(source, case.label, case.image, size_of(image, case.image), ignore)
            mask = encode_mask(values == LABELS["lesion"])
            ignored = encode_mask(values == ignore) if ignore is not None and (values == ignore).any() else None
        yield FoundPair(fields, image, mask, case.image, ending, ignored=ignored)


def _label(pair: Pair) -> NDArray[np.uint8]:
    """The label picture [h, w] of a pair."""
    label = pair.lesion().astype(np.uint8)
    if pair.ignored_bytes is not None:
        label[pair.ignored()] = IGNORE_LABEL
    return label


def _dataset_json(records: Sequence[PairRecord], training: int, options: ExchangeOptions) -> dict[str, Any]:
    """Return what ``nnunetv2.dataset_conversion.generate_dataset_json`` writes (a test compares)."""
    licences = sorted({record.license for record in records if record.license}) or ["not stated"]
    ignored = any(record.ignore_file_name is not None for record in records)
    return {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": LABELS | ({IGNORE_NAME: IGNORE_LABEL} if ignored else {}),
        "numTraining": training,
        "file_ending": ENDING,
        "licence": ", ".join(licences),
        "converted_by": "skindualgen",
        "name": options.name,
    }


def _root(source: Source) -> str:
    """Return the folder of the raw data set in the source: "" is the source itself."""
    folders = [posixpath.dirname(file) for file in source.named(re.escape(DATASET_JSON))]
    found = [folder for folder in folders if source.below(posixpath.join(folder, "imagesTr"))]
    if len(found) != 1:
        raise InputError(f"{len(found)} raw data sets in {source.root}", "one Dataset###_Name", "give its folder")
    return found[0]


def _ending(source: Source, root: str) -> str:
    """Return the ending of images and labels, and check what the numbers of the labels mean."""
    file = posixpath.join(root, DATASET_JSON)
    content = source.json(file)
    if not isinstance(content, dict):
        raise InputError(f"{file}, which is no JSON object", "file_ending and labels", "write it again")
    ending = content.get("file_ending", ENDING)
    if ending not in ENDINGS:
        raise InputError(
            f"{file} with file_ending {short(ending)}", f"one of {', '.join(ENDINGS)}", "convert the images"
        )
    if "dataset" in content:
        raise InputError(f"{file} with paths of its own (dataset)", "imagesTr and labelsTr", "copy the files there")
    labels = content.get("labels")
    if (
        not isinstance(labels, dict)
        or labels.get("background") != LABELS["background"]
        or isinstance(labels["background"], bool)
    ):
        raise InputError(f"{file} with the labels {short(labels)}", "background 0 and one lesion 1", "merge the labels")
    names = [str(name) for name, value in labels.items() if value in (LABELS["lesion"], [LABELS["lesion"]])]
    if len(names) != 1:
        raise InputError(f"{file} with {len(names)} names of the label 1", "one, the lesion's", "name it")
    if names[0].lower() not in LESION_NAMES:
        source.note(f"label 1, {short(names[0])} in {file}, is read as the lesion")
    return str(ending)


def _ignore_label(source: Source, root: str) -> int | None:
    """Return the label of ignored pixels; None if there is none."""
    file = posixpath.join(root, DATASET_JSON)
    label = source.json(file)["labels"].get(IGNORE_NAME)
    if label is None or (isinstance(label, int) and not isinstance(label, bool) and label > LABELS["lesion"]):
        return label
    raise InputError(f"{file} with the label {short(label)} for {IGNORE_NAME}", "the highest label", "correct it")


def _validation(source: Source, root: str, training: set[str]) -> set[str]:
    file = posixpath.join(root, SPLITS_FILE)
    if file not in source.files:
        return set()
    try:
        folds = source.json(file)
        parts = {part: [str(name) for name in folds[0][part]] for part in ("train", "val")}
    except (LookupError, TypeError) as error:
        raise InputError(f"{file}: {error}", "a list of folds with train and val", "fix or remove it") from error
    train, val = set(parts["train"]), set(parts["val"])
    if both := sorted(train & val):
        raise InputError(f"{file} with {both[0]} in train and val", "each case in one part", "fix or remove it")
    for name in sorted((train | val) - training):
        source.leave_out(file, "no_file", "no image of this case in imagesTr", name)
    if len(folds) > 1:
        source.note(f"{file} has {len(folds)} folds; the first one says which cases are of val")
    if rest := sorted(training - train - val):
        source.note(f"{len(rest)} cases of imagesTr, first {rest[0]}, are in no part of {file}: they are of train")
    return val


def _note_count(source: Source, root: str, found: int) -> None:
    stated = source.json(posixpath.join(root, DATASET_JSON)).get("numTraining", found)
    if stated != found:
        source.note(
            f"numTraining is {short(stated)} in {posixpath.join(root, DATASET_JSON)}; imagesTr has {found} cases"
        )


def _cases(source: Source, root: str, ending: str) -> Iterator[Case]:
    """Yield the cases of both parts; labels without an image are left out."""
    for part in ("Tr", "Ts"):
        labels = set(source.below(posixpath.join(root, f"labels{part}")))
        for image in source.below(posixpath.join(root, f"images{part}")):
            name = posixpath.basename(image).removesuffix(f"{CHANNEL}{ending}")
            if (
                not name
                or name == posixpath.basename(image)
                or posixpath.basename(posixpath.dirname(image)) != f"images{part}"
            ):
                raise InputError(
                    f"{image}, no image {ending} of one file",
                    f"NAME{CHANNEL}{ending}",
                    "channels in files of their own are not read",
                )
            label: str | None = posixpath.join(root, f"labels{part}", f"{name}{ending}")
            if label not in labels and part == "Tr":
                raise InputError(f"{image} without a label", str(label), "restore it, or take the image out")
            label = label if label in labels else None
            labels.discard(str(label))
            yield Case(name, part, image, label)
        for label in sorted(labels):
            source.leave_out(label, "mask_without_image", f"no image of this name in images{part}")


def _values(
    source: Source, label: str, image: str, size: tuple[int, int], ignore: int | None
) -> NDArray[np.integer[Any]]:
    """Return the numbers of a label picture [h, w]: background, lesion, and ``ignore`` if there is such a label."""
    picture = decoded(source.read(label), label)
    refuse_other_size(picture.size, size, image)
    if picture.mode not in GREY_MODES:
        raise InputError(f"{label} of mode {picture.mode}", "a grey picture of 0 and 1", "write the labels as numbers")
    values = np.asarray(picture)
    if other := sorted(set(np.unique(values).tolist()) - {*LABELS.values(), ignore}):
        shown = ", ".join(str(value) for value in other[:5])
        raise InputError(f"labels of {label} other than 0 and 1: {shown}", "background 0, lesion 1", "merge the labels")
    return values
