"""The ISIC challenges of 2016, 2017 and 2018 as published: segmentation (task 1), classification (task 3)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from skindualgen.contracts import Split
from skindualgen.data.images import Adjustment, ItemError
from skindualgen.data.sources.base import Candidate, Listing, Options, Tree, clinical_fields, key, known_value, stem
from skindualgen.data.sources.rows import reject_bad_lines
from skindualgen.data.sources.tables import Row, read_table

SPLITS: Mapping[str, Split] = {"training": "train", "validation": "val", "test": "test", "test_v2": "test"}
HELD_OUT_ORDER: tuple[Split, ...] = ("test", "val", "train")
"""A photograph in folders of two splits takes the first of these: held-out data stays held out."""

BENIGN = frozenset({"nevus", "seborrheic keratosis", "benign keratosis", "dermatofibroma", "vascular lesion"})
MALIGNANT = frozenset({"melanoma", "basal cell carcinoma"})
"""Behaviour by diagnosis. Actinic keratosis / intraepithelial carcinoma (AKIEC) stands in neither."""


@dataclass(frozen=True)
class Challenge:
    """Names of one year's folders and tables as regular expressions; group 1 is the split.

    Attributes:
        year: 2016, 2017 or 2018.
        images: folder of photographs.
        masks: folder of masks, ``<id>_segmentation.png``.
        labels: table of diagnoses.
        patients: table of age and sex, or None.
        lesions: table of lesion ids, or None.
    """

    year: int
    images: str
    masks: str
    labels: str
    patients: str | None = None
    lesions: str | None = None


CHALLENGES = {
    "isic2016": Challenge(
        2016,
        images=r"ISBI2016_ISIC_Part[13]B?_(Training|Test)_Data",
        masks=r"ISBI2016_ISIC_Part(?:1|3B)_(Training|Test)_(?:GroundTruth|Data)",
        labels=r"ISBI2016_ISIC_Part3B?_(Training|Test)_GroundTruth\.csv",
    ),
    "isic2017": Challenge(
        2017,
        images=r"ISIC-2017_(Training|Validation|Test_v2)_Data",
        masks=r"ISIC-2017_(Training|Validation|Test_v2)_Part1_GroundTruth",
        labels=r"ISIC-2017_(Training|Validation|Test_v2)_Part3_GroundTruth\.csv",
        patients=r"ISIC-2017_(Training|Validation|Test_v2)_Data_metadata\.csv",
    ),
    "isic2018": Challenge(
        2018,
        images=r"ISIC2018_Task(?:1-2|3)_(Training|Validation|Test)_Input",
        masks=r"ISIC2018_Task1_(Training|Validation|Test)_GroundTruth",
        labels=r"ISIC2018_Task3_(Training|Validation|Test)_GroundTruth\.csv",
        lesions=r"ISIC2018_Task3_Training_LesionGroupings\.csv",
    ),
}
MASK_NAME = re.compile(r"(ISIC_\d+)_segmentation\.png", re.IGNORECASE)
IMAGE_NAME = re.compile(r"ISIC_\d+\.jpe?g", re.IGNORECASE)


@dataclass
class _Known:
    """What the tables say of one id."""

    fields: dict[str, str | int] = field(default_factory=dict)
    adjustments: list[Adjustment] = field(default_factory=list)
    problem: ItemError | None = None


def evidence(tree: Tree, layout: str) -> str | None:
    """Return a folder that only this challenge has, or None."""
    return next((folder for _, folder, _ in _in_folders(tree, CHALLENGES[layout].images)), None)


def read(tree: Tree, layout: str, options: Options) -> Listing:
    """List a challenge folder; see docs/data-layouts.md for the published names and where they are stated."""
    del options  # The published tables have fixed columns and labels.
    challenge = CHALLENGES[layout]
    listing = Listing(layout)
    known = _tables(tree, challenge, listing)
    masks: dict[str, str] = {}
    for file, _, _ in _in_folders(tree, challenge.masks):
        if match := MASK_NAME.fullmatch(PurePosixPath(file).name):
            masks[key(match[1])] = file
    found: dict[str, list[tuple[str, Split]]] = {}
    for file, _, split in _in_folders(tree, challenge.images):
        # The folders of 2016 and 2017 hold masks or superpixels as well, in PNG.
        if IMAGE_NAME.fullmatch(PurePosixPath(file).name):
            found.setdefault(key(stem(file)), []).append((file, split))
    for name, places in sorted(found.items()):
        _add(listing, name, places, masks.get(name), known.get(name, _Known()))
    for name in sorted(masks.keys() - found.keys()):
        listing.reject(name.upper(), masks[name], "mask_without_image", "no photograph of this id")
    for name in sorted(known.keys() - found.keys()):
        listing.reject(name.upper(), "", "row_without_image", "a table names this id, and no photograph has it")
    return listing


def _add(listing: Listing, name: str, places: list[tuple[str, Split]], mask: str | None, known: _Known) -> None:
    image = min(file for file, _ in places)
    isic_id = stem(image)
    if known.problem is not None:
        listing.reject(isic_id, image, known.problem.code, known.problem.detail)
        return
    splits = {split for _, split in places}
    split = next(split for split in HELD_OUT_ORDER if split in splits)
    adjustments = list(known.adjustments)
    if len(splits) > 1:
        adjustments.append(Adjustment("in_two_splits", f"{', '.join(sorted(splits))}; taken as {split}"))
    fields: dict[str, str | int] = {"source": listing.layout, **known.fields}
    listing.candidates.append(Candidate(isic_id, image, mask, fields, split, adjustments=tuple(adjustments)))


def _in_folders(tree: Tree, pattern: str) -> Iterator[tuple[str, str, Split]]:
    """Yield file, folder and split of the files below folders whose name matches."""
    compiled = re.compile(pattern, re.IGNORECASE)
    for file in tree.files:
        for folder in PurePosixPath(file).parts[:-1]:
            if match := compiled.fullmatch(folder):
                yield file, folder, SPLITS[match[1].lower()]
                break


def _tables(tree: Tree, challenge: Challenge, listing: Listing) -> dict[str, _Known]:
    known: dict[str, _Known] = {}
    for file in tree.named(challenge.labels):
        # The tables of 2016 have no header line.
        header = ("image_id", "malignant") if challenge.year == 2016 else None
        table = read_table(tree.root / file, header)
        reject_bad_lines(listing, file, table)
        for row in table.rows:
            entry = known.setdefault(key(row.values[table.columns[0]]), _Known())
            try:
                _merge(entry, _diagnosis(row, challenge.year))
            except ItemError as error:
                entry.problem = error
    for file in tree.named(challenge.patients) if challenge.patients else ():
        table = read_table(tree.root / file)
        reject_bad_lines(listing, file, table)
        for row in table.renamed({}, needed=("isic_id",)):
            entry = known.setdefault(key(row.values["isic_id"]), _Known())
            fields, adjustments = clinical_fields(row.values)
            _merge(entry, fields)
            entry.adjustments += adjustments
    for file in tree.named(challenge.lesions) if challenge.lesions else ():
        table = read_table(tree.root / file)
        reject_bad_lines(listing, file, table)
        for row in table.renamed({}, needed=("isic_id", "lesion_id")):
            _merge(known.setdefault(key(row.values["isic_id"]), _Known()), {"lesion_id": row.values["lesion_id"]})
    if not known:
        listing.notes.append(f"no table of diagnoses (task 3) found: the diagnoses of {listing.layout} are not known")
    return known


def _merge(entry: _Known, fields: Mapping[str, str | int]) -> None:
    for name, value in fields.items():
        if entry.fields.setdefault(name, value) != value:
            entry.problem = ItemError("contradicting_rows", f"{name} is {entry.fields[name]!r} and {value!r}")


def _diagnosis(row: Row, year: int) -> dict[str, str | int]:
    values = list(row.values.values())[1:]
    columns = [column.lower() for column in list(row.values)[1:]]
    if year == 2016:
        malignant = values[0].lower()
        if malignant not in ("benign", "malignant", "0", "0.0", "1", "1.0"):
            raise ItemError("unknown_label", f"{values[0]!r}; expected benign or malignant, 0 or 1")
        # "malignant (melanoma) or non-malignant (non-melanoma)": what the benign ones are is not said.
        if malignant in ("malignant", "1", "1.0"):
            return {"diagnosis": "melanoma", "benign_malignant": "malignant"}
        return {"benign_malignant": "benign"}
    names = {"melanoma": "melanoma", "seborrheic_keratosis": "seborrheic keratosis"} if year == 2017 else ONE_HOT_2018
    try:
        chosen = [names[column] for column, value in zip(columns, values, strict=True) if float(value) > 0.5]
    except (KeyError, ValueError):
        raise ItemError("unknown_label", f"{dict(row.values)}; expected 0 or 1 for {', '.join(names)}") from None
    if len(chosen) > 1 or (not chosen and year != 2017):
        raise ItemError("unknown_label", f"{len(chosen)} diagnoses marked in {dict(row.values)}")
    return with_behaviour(chosen[0] if chosen else "nevus")


ONE_HOT_2018 = {
    "mel": "melanoma",
    "nv": "nevus",
    "bcc": "basal cell carcinoma",
    "akiec": "actinic keratosis",
    "bkl": "benign keratosis",
    "df": "dermatofibroma",
    "vasc": "vascular lesion",
}
"""Columns of the task 3 tables, which are HAM10000's classes."""


def with_behaviour(diagnosis: str | None) -> dict[str, str | int]:
    """Return the fields ``diagnosis`` and, where the diagnosis settles it, ``benign_malignant``."""
    if known_value(diagnosis) is None or diagnosis is None:
        return {}
    behaviour = "benign" if diagnosis in BENIGN else "malignant" if diagnosis in MALIGNANT else None
    return {"diagnosis": diagnosis, **({"benign_malignant": behaviour} if behaviour else {})}
