"""The ISIC challenges of 2016 to 2019 as published: segmentation (task 1), classification (task 3; all of 2019)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from skindualgen.contracts import Split, listed
from skindualgen.data.images import SUFFIXES, Adjustment, ItemError
from skindualgen.data.sources.base import Candidate, Listing, Options, Tree, key, stem
from skindualgen.data.sources.pairing import same_content, unique_files
from skindualgen.data.sources.rows import note_unused_columns, reject_bad_lines
from skindualgen.data.sources.tables import Row, marked_columns, marked_diagnosis, read_table
from skindualgen.data.sources.values import Fields, clinical_fields, known_value

SPLITS: Mapping[str, Split] = {"training": "train", "validation": "val", "test": "test", "test_v2": "test"}
HELD_OUT_ORDER: tuple[Split, ...] = ("test", "val", "train")
"""A photograph in folders of two splits takes the first of these: held-out data stays held out."""

SHOWN_FILES = 4

BENIGN = frozenset({"nevus", "seborrheic keratosis", "benign keratosis", "dermatofibroma", "vascular lesion"})
MALIGNANT = frozenset({"melanoma", "basal cell carcinoma", "squamous cell carcinoma"})
"""Behaviour by diagnosis. Actinic keratosis / intraepithelial carcinoma (AKIEC) is in neither."""


@dataclass(frozen=True)
class Challenge:
    """Names of one year's folders and tables as regular expressions; group 1 is the split.

    ``images`` and ``masks`` (``<id>_segmentation.png``) are folders, the others tables: of diagnoses, of age and sex,
    of lesion ids.
    """

    year: int
    images: str
    masks: str | None
    labels: str
    patients: str | None = None
    lesions: str | None = None

    def evidence(self, tree: Tree) -> str | None:
        """Return a folder that only this challenge has, of 2019 also a table, or None."""
        folder = next((folder for _, folder, _ in _in_folders(tree, self.images)), None)
        return folder or (next(iter(tree.named(self.labels)), None) if self.year == 2019 else None)

    def read(self, tree: Tree, options: Options) -> Listing:
        """List a challenge folder; see docs/data-layouts.md for the published names and where they are stated."""
        del options  # The published tables have fixed columns and labels.
        listing = Listing(f"isic{self.year}")
        known = _tables(tree, self, listing)
        in_masks = [file for file, _, _ in _in_folders(tree, self.masks)] if self.masks else []
        in_masks = [file for file in in_masks if MASK_NAME.fullmatch(stem(file)) and file.lower().endswith(SUFFIXES)]
        masks = {name.removesuffix(MASK_ENDING): file for name, file in unique_files(listing, tree, in_masks).items()}
        found: dict[str, list[tuple[str, Split]]] = {}
        places = [(file, split) for file, _, split in _in_folders(tree, self.images)]
        if not places:  # The tables of 2019 next to any folder: they say what is train and what is test.
            places = [(file, known[_id(stem(file))].split) for file in tree.images() if _id(stem(file)) in known]
        for file, split in places:
            # The folders of 2016 and 2017 hold masks or superpixels as well, in PNG.
            if IMAGE_NAME.fullmatch(stem(file)) and file.lower().endswith(SUFFIXES):
                found.setdefault(_id(stem(file)), []).append((file, split))
        for name, files in sorted(found.items()):
            whole = [file for file, _ in files if not DOWNSAMPLED.search(stem(file))]
            for file in [file for file, _ in files if whole and file not in whole]:
                listing.reject(stem(file), file, "duplicate_id", f"a smaller copy of {whole[0]}")
            files = [(file, split) for file, split in files if not whole or file in whole]
            found[name] = files
            _add(listing, files, masks.get(name), known.get(name))
        _tell_others(listing, tree, found.values())
        copies = sum(bool(DOWNSAMPLED.search(stem(files[0][0]))) for files in found.values())
        if copies:
            listing.notes.append(f"{copies} photographs are smaller copies (_downsampled): their ids are the archive's")
        for name in sorted(masks.keys() - found.keys()):
            listing.reject(name.upper(), masks[name], "mask_without_image", "no photograph of this id")
        for name in sorted(known.keys() - found.keys()):
            listing.reject(name.upper(), "", "row_without_image", "a table names this id, and no photograph has it")
        return listing


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
    "isic2019": Challenge(
        2019,
        images=r"ISIC_2019_(Training|Test)_Input",
        masks=None,
        labels=r"ISIC_2019_(Training|Test)_GroundTruth\.csv",
        patients=r"ISIC_2019_(Training|Test)_Metadata\.csv",
    ),
}
MASK_ENDING = "_segmentation"
MASK_NAME = re.compile(rf"ISIC_\d+{MASK_ENDING}", re.IGNORECASE)
IMAGE_NAME = re.compile(r"ISIC_\d+(_downsampled)?", re.IGNORECASE)
"""Names without their endings: others convert what is published as JPEG and PNG."""
DOWNSAMPLED = re.compile(r"_downsampled$", re.IGNORECASE)
"""What 2019 adds to the archive's id where it publishes a smaller copy of a photograph."""
WEIGHTS = frozenset({"score_weight", "validation_weight"})
"""Columns of test tables that say which rows count in the ranking, and are no diagnoses."""


@dataclass
class _Known:
    """What the tables say of one id."""

    split: Split
    fields: Fields = field(default_factory=dict)
    adjustments: list[Adjustment] = field(default_factory=list)
    problem: ItemError | None = None


def _id(name: str) -> str:
    """Return the key of the archive's id that a file or row stands for."""
    return key(DOWNSAMPLED.sub("", name))


def _add(listing: Listing, places: list[tuple[str, Split]], mask: str | None, known: _Known | None) -> None:
    image = min(file for file, _ in places)
    isic_id = DOWNSAMPLED.sub("", stem(image))
    known = known or _Known(places[0][1])
    if known.problem is not None:
        listing.reject(isic_id, image, known.problem.code, known.problem.detail)
        return
    splits = {split for _, split in places}
    split = next(split for split in HELD_OUT_ORDER if split in splits)
    adjustments = list(known.adjustments)
    if len(splits) > 1:
        adjustments.append(Adjustment("in_two_splits", f"{', '.join(sorted(splits))}; taken as {split}"))
    fields: Fields = {"source": listing.layout, **known.fields}
    listing.candidates.append(Candidate(isic_id, image, mask, fields, split, adjustments=tuple(adjustments)))


def _tell_others(listing: Listing, tree: Tree, found: Collection[Sequence[tuple[str, Split]]]) -> None:
    """Say which files are not used, as one of the same id in another task's folder is: it may have another size."""
    differing: list[str] = []
    for image, *others in (sorted(file for file, _ in places) for places in found):
        same = [other for other in others if same_content(tree.root / image, tree.root / other)]
        listing.repeats += [(other, image) for other in same]
        differing += [other for other in others if other not in same]
    if differing:
        listing.used.update(differing)
        listing.notes.append(
            f"{len(differing)} files differ from that of the same id in another folder, which is used: "
            f"{listed(differing, SHOWN_FILES)}"
        )


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
    for file, split in _files(tree, challenge.labels):
        # The tables of 2016 have no header line.
        header = ("image_id", "malignant") if challenge.year == 2016 else None
        table = read_table(tree.root / file, header)
        reject_bad_lines(listing, file, table)
        for row in table.rows:
            entry = known.setdefault(_id(row.values[table.columns[0]]), _Known(split))
            try:
                _merge(entry, _diagnosis(row, challenge.year))
            except ItemError as error:
                entry.problem = error
    for pattern, needed in ((challenge.patients, ("isic_id",)), (challenge.lesions, ("isic_id", "lesion_id"))):
        for file, split in _files(tree, pattern):
            table = read_table(tree.root / file)
            reject_bad_lines(listing, file, table)
            note_unused_columns(listing, table, {})
            for row in table.renamed({}, needed=needed):
                entry = known.setdefault(_id(row.values["isic_id"]), _Known(split))
                fields, adjustments = clinical_fields(row.values)
                _merge(entry, fields)
                entry.adjustments += adjustments
    if not any("diagnosis" in entry.fields or entry.problem for entry in known.values()) and not tree.named(
        challenge.labels
    ):
        listing.notes.append(f"no table of diagnoses (task 3) found: the diagnoses of {listing.layout} are not known")
    return known


def _files(tree: Tree, pattern: str | None) -> Iterator[tuple[str, Split]]:
    """Yield the files of that name with their split, which is train where the name has none."""
    for file in tree.named(pattern) if pattern else ():
        match = re.fullmatch(str(pattern), PurePosixPath(file).name, re.IGNORECASE)
        yield file, SPLITS[match[1].lower()] if match and match.groups() else "train"


def _merge(entry: _Known, fields: Mapping[str, str | int]) -> None:
    for name, value in fields.items():
        if entry.fields.setdefault(name, value) != value:
            entry.problem = ItemError("contradicting_rows", f"{name} is {entry.fields[name]!r} and {value!r}")


def _diagnosis(row: Row, year: int) -> Fields:
    if year == 2016:
        value = list(row.values.values())[1]
        malignant = value.lower()
        if malignant not in ("benign", "malignant", "0", "0.0", "1", "1.0"):
            raise ItemError("unknown_label", f"{value!r}; expected benign or malignant, 0 or 1")
        # "malignant (melanoma) or non-malignant (non-melanoma)": what the benign ones are is not said.
        if malignant in ("malignant", "1", "1.0"):
            return {"diagnosis": "melanoma", "benign_malignant": "malignant"}
        return {"benign_malignant": "benign"}
    diagnoses: Mapping[str, str | None] = DIAGNOSES_OF_YEAR[year]
    marks = {column.lower(): value for column, value in list(row.values.items())[1:] if column.lower() not in WEIGHTS}
    if marks.keys() != diagnoses.keys():
        raise ItemError("unknown_label", f"columns {', '.join(marks)}; expected {', '.join(diagnoses)}")
    if year == 2017 and not marked_columns(marks, marks) and all(map(known_value, marks.values())):
        return with_behaviour("nevus")
    return with_behaviour(marked_diagnosis(marks, diagnoses))


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
DIAGNOSES_OF_YEAR: Mapping[int, Mapping[str, str | None]] = {
    2017: {"melanoma": "melanoma", "seborrheic_keratosis": "seborrheic keratosis"},
    2018: ONE_HOT_2018,
    2019: {
        **{column: diagnosis for column, diagnosis in ONE_HOT_2018.items() if column != "akiec"},
        "ak": "actinic keratosis",
        "scc": "squamous cell carcinoma",
        "unk": None,
    },
}
"""Columns of the tables of diagnoses, of which a row marks one; in 2017 none, where it is a nevus."""


def with_behaviour(diagnosis: str | None) -> Fields:
    """Return the fields ``diagnosis`` and, where the diagnosis settles it, ``benign_malignant``."""
    if known_value(diagnosis) is None or diagnosis is None:
        return {}
    behaviour = "benign" if diagnosis in BENIGN else "malignant" if diagnosis in MALIGNANT else None
    return {"diagnosis": diagnosis, **({"benign_malignant": behaviour} if behaviour else {})}
