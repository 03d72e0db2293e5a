"""nnU-Net v2's raw data set: RGB images, labels 0 and 1, ``dataset.json``, the split of train and val.

Source: https://github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md; nnunetv2 2.8: ``NaturalImage2DIO`` takes an
RGB PNG for three channels, and the planner copies a ``splits_final.json`` of the raw folder, whose fold 0 it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from skindualgen.contracts import InputError, PairRecord, Split
from skindualgen.exchange.formats import ExchangeOptions, Renamed
from skindualgen.exchange.pairs import (
    PairWriter,
    decoded,
    encode_mask,
    encode_png,
    other_fields,
    put,
    read_pairs,
)
from skindualgen.provenance import atomic_write_json

DESCRIPTION = "nnU-Net v2 raw data set: train and val in imagesTr with splits_final.json, test in imagesTs"
LOSES = "all of the record but id and split; pairs without a mask are refused"
HOLDS_ALL = False
ENDING = ".png"
CHANNEL = "_0000"
SPLITS_FILE, DATASET_JSON = "splits_final.json", "dataset.json"
LABELS = {"background": 0, "lesion": 1}
NAME = re.compile(r"[A-Za-z0-9_]+")
MAX_ID = 999


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> Renamed:
    """See `skindualgen.exchange.formats.Format`."""
    if not NAME.fullmatch(options.name) or not 1 <= options.dataset_id <= MAX_ID:
        raise InputError(
            f"data set {options.dataset_id} {options.name!r}", "1 to 999, letters, digits and _", "choose others"
        )
    if not any(record.split == "train" for record in records):
        raise InputError("no pair of the train split", "pairs to train on (imagesTr)", "export the train split as well")
    root = out / f"Dataset{options.dataset_id:03d}_{options.name}"
    names: dict[Split, list[str]] = {"train": [], "val": [], "test": []}
    renamed: Renamed = {}
    for pair in read_pairs(source, records, options.report):
        part = "Ts" if pair.record.split == "test" else "Tr"
        label = encode_png(Image.fromarray(pair.lesion().astype(np.uint8)))
        picture = pair.picture()
        photograph = pair.photograph()
        as_it_is = picture.format == "PNG" and picture.mode == "RGB" and photograph.orientation == 1
        image = pair.image_bytes if as_it_is else encode_png(photograph.image)
        original = source / pair.record.file_name if options.link and as_it_is else None
        put(root / f"images{part}" / f"{pair.name}{CHANNEL}{ENDING}", image, original)
        put(root / f"labels{part}" / f"{pair.name}{ENDING}", label)
        names[pair.record.split].append(pair.name)
        renamed[pair.record.isic_id] = other_fields(pair.record, isic_id=pair.name)
    atomic_write_json(root / DATASET_JSON, _dataset_json(records, len(names["train"]) + len(names["val"]), options))
    if names["val"]:
        atomic_write_json(root / SPLITS_FILE, [{"train": names["train"], "val": names["val"]}])
    return renamed


def read(source: Path, out: Path, options: ExchangeOptions) -> list[PairRecord]:
    """See `skindualgen.exchange.formats.Format`."""
    root = _root(source)
    val = _validation(root)
    cases = list(_cases(root))
    writer, records = PairWriter(out), []
    for done, (name, image, label) in enumerate(cases):
        options.report(done, len(cases))
        split = "test" if image.parent.name == "imagesTs" else "val" if name in val else "train"
        values = np.asarray(decoded(label.read_bytes(), str(label)))
        if values.ndim != 2 or set(np.unique(values).tolist()) - set(LABELS.values()):
            raise InputError(f"labels of {label} other than 0 and 1", "background 0, lesion 1", "merge the labels")
        fields = {"isic_id": name, "split": split}
        records.append(writer.add(fields, image.read_bytes(), encode_mask(values > 0)))
    options.report(len(cases), len(cases))
    return records


def _dataset_json(records: Sequence[PairRecord], training: int, options: ExchangeOptions) -> dict[str, Any]:
    """Return what ``nnunetv2.dataset_conversion.generate_dataset_json`` writes (a test compares)."""
    licences = sorted({record.license for record in records if record.license}) or ["not stated"]
    return {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": LABELS,
        "numTraining": training,
        "file_ending": ENDING,
        "licence": ", ".join(licences),
        "converted_by": "skindualgen",
        "name": options.name,
    }


def _root(source: Path) -> Path:
    candidates = [source, *sorted(source.glob("Dataset[0-9][0-9][0-9]_*"))]
    found = [folder for folder in candidates if (folder / DATASET_JSON).is_file() and (folder / "imagesTr").is_dir()]
    if len(found) != 1:
        raise InputError(f"{len(found)} raw data sets in {source}", "one Dataset###_Name", "give its folder")
    return found[0]


def _validation(root: Path) -> set[str]:
    path = root / SPLITS_FILE
    if not path.is_file():
        return set()
    try:
        return set(json.loads(path.read_text(encoding="utf-8"))[0]["val"])
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: {error}", "a list of folds with train and val", "mend or remove it") from error


def _cases(root: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield name, image and label of each case."""
    for part in ("Tr", "Ts"):
        for image in sorted((root / f"images{part}").glob("*")):
            name = image.name.removesuffix(f"{CHANNEL}{ENDING}")
            label = root / f"labels{part}" / f"{name}{ENDING}"
            if name == image.name or not label.is_file():
                raise InputError(
                    f"{image}, no RGB{ENDING} of one file, or without a label", f"NAME{CHANNEL}{ENDING} and its label",
                    "channels in files of their own are not read",
                )  # fmt: skip
            yield name, image, label
