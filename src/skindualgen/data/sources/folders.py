"""Folders of any origin: Hugging Face imagefolders, class folders, ``images/`` with ``masks/`` and a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import get_args

from skindualgen.contracts import ANNOTATORS_DIR, DATASET_FILE, InputError, Origin
from skindualgen.data.images import Adjustment, ItemError
from skindualgen.data.sources.base import Candidate, Listing, Options, Tree, key, stem
from skindualgen.data.sources.file_names import says_mask
from skindualgen.data.sources.metadata import (
    find_tables,
    first_caption,
    metadata_files,
    named_files,
    read_captions,
    refuse_other_files,
    resolve,
    says_numbers,
    splits_of_tables,
)
from skindualgen.data.sources.names import folder_name, is_image_folder, place, split_of
from skindualgen.data.sources.pairing import pair_masks, unique_files
from skindualgen.data.sources.rows import Describe, Pictures, add_candidates
from skindualgen.data.sources.survey import (
    NOT_PICTURES,
    Survey,
    class_fields,
    known_label,
    no_diagnosis,
    refuse_twins,
    some,
    survey,
)
from skindualgen.data.sources.tables import Table
from skindualgen.data.sources.values import BEHAVIOURS, Fields, clinical_fields, diagnosis_name, known_value, stated

MODEL_COLUMNS = ("adapter_sha256", "base_sha256", "mask_origin")
"""Of a data set folder: which generator has made a pair, or has read its mask. A leak guard goes by it."""


def table_evidence(tree: Tree) -> str | None:
    """Return a metadata file whose ``file_name`` is relative to it (an imagefolder with metadata), or None.

    Where none of the files is there, and files of these names are in other folders, the names are without folders.
    """
    stems = {key(stem(file)) for file in tree.images()}
    for file, table in metadata_files(tree):
        named = named_files(file, table)
        if not named.isdisjoint(tree.files) or stems.isdisjoint(key(stem(name)) for name in named):
            return file
    return None


def classes_evidence(tree: Tree) -> str | None:
    """Return the class folders of an imagefolder without metadata, or None."""
    return ", ".join(f"{name}/" for name in survey(tree).classes[:6]) or None


def folder_evidence(tree: Tree) -> str | None:
    """Return the folder of photographs, or a photograph, where no folder is a class; or None."""
    found = survey(tree)
    if not found.photographs or found.classes:
        return None
    first = found.photographs[0]
    folder = next((folder for folder in place(first).folders if is_image_folder(folder)), None)
    return f"{folder.name}/" if folder is not None else first


def read_imagefolder(tree: Tree, options: Options) -> Listing:
    """List a Hugging Face imagefolder: with ``metadata.csv`` / ``.jsonl`` (``file_name``), or one folder per class."""
    listing = Listing("imagefolder")
    published = metadata_files(tree)
    if not published:
        found = survey(tree)
        kinds = {folder.name for file in tree.images() for folder in place(file).folders if folder.kind is not None}
        if not found.classes and kinds:
            raise InputError(
                f"folders named {', '.join(sorted(kinds))} and no metadata file with a column file_name",
                "an imagefolder: such a file, or one folder per class",
                "say --layout folder, and give the folder that holds them",
            )
        return _read_files(listing, found, tree, options)
    pictures = Pictures({})
    tables = [resolve(tree, table, pictures, listing) for _, table in published]
    listing.used.update(*(named_files(file, table) | {file} for file, table in published))
    known = set(tree.named(NOT_PICTURES)).union(*(named_files(file, table) for file, table in published))
    others = [file for file in tree.images() if file not in known]
    own = DATASET_FILE in tree.files
    if own and (single := [file for file in others if file.startswith(f"{ANNOTATORS_DIR}/")]):
        listing.notes.append(f"{len(single)} masks of single annotators ({ANNOTATORS_DIR}/) are not taken over")
        listing.used.update(single)
        others = [file for file in others if file not in listing.used]
    if not any("mask_file_name" in table.columns for _, table in published):
        masks = [file for file in others if place(file).kind == "mask" or says_mask(stem(file))]
        pictures.masks = pair_masks(listing, tree, masks, pictures.images)
        others = [file for file in others if file not in set(masks)]
    for file in others:
        listing.reject(stem(file), file, "image_without_row", "no metadata file names it")
    for name, file in pictures.images.items():
        pictures.fields[name], _ = class_fields(file, options.labels, ())
    captions = read_captions(listing, tree, pictures.images)
    also = MODEL_COLUMNS if own else ()
    describe = _describer(options, any_label=own, also=also)  # What `prepare` has admitted once is no typing error.
    _add(listing, tree, tables, pictures, options, describe, captions, also)
    return listing


def read_folder(tree: Tree, options: Options) -> Listing:
    """List any folder: photographs, masks, splits by the names of folders and files, and one table if there."""
    return _read_files(Listing("folder"), survey(tree), tree, options)


def _read_files(listing: Listing, found: Survey, tree: Tree, options: Options) -> Listing:
    for file, reason in found.left.items():
        listing.reject(stem(file), file, "not_used", reason)
    any_class = listing.layout == "imagefolder"
    if any_class:
        refuse_twins(found, options.labels)
    tables = find_tables(tree, found.photographs, options, required=not any_class)
    pictures = _identified(listing, tree, found.photographs, with_table=bool(tables))
    refuse_other_files(tables, pictures.images.keys(), options)
    pictures.splits = {name: split for name, file in pictures.images.items() if (split := split_of(file)) is not None}
    for name, split in splits_of_tables(tables, options).items():
        if name in pictures.images and pictures.splits.setdefault(name, split) != split:
            got = f"{pictures.images[name]} in the table of {split}"
            raise InputError(got, "folders and tables of the same split", "fix one of them")
    pictures.masks = pair_masks(listing, tree, found.masks, pictures.images)
    captions = read_captions(listing, tree, pictures.images)
    not_understood: list[str] = []
    for name, file in pictures.images.items():
        pictures.fields[name], unknown = class_fields(file, options.labels, found.classes if any_class else ())
        not_understood += [
            folder.name for folder in unknown if not (folder.says_nothing and (folder.kind or folder.splits))
        ]
        not_understood += [folder.name for folder in place(file).folders if len(folder.splits) > 1]
        for folder in unknown:
            if folder.numbered and folder.name in found.classes and name not in captions:
                raise no_diagnosis(file, folder)
    if not_understood:
        listing.notes.append(f"folder names of which nothing is taken: {some(not_understood)}")
    own = {str(fields["diagnosis"]) for fields in pictures.fields.values() if "diagnosis" in fields}
    if any_class and (own := {diagnosis for diagnosis in own if known_label(folder_name(diagnosis)) is None}):
        listing.notes.append(f"diagnoses that folders name, and the vocabulary does not know: {some(own)}")
    if not tables and not any_class:
        listing.notes.append("no table of metadata: diagnoses are not known")
    listing.used.update(found.photographs, found.masks)  # What becomes of each is said below.
    listing.used.update(table.path.relative_to(tree.root).as_posix() for table in tables)
    _add(listing, tree, tables, pictures, options, _describer(options), captions)
    return listing


def _add(
    listing: Listing,
    tree: Tree,
    tables: Sequence[Table],
    pictures: Pictures,
    options: Options,
    describe: Describe,
    captions: Mapping[str, str],
    also: Sequence[str] = (),
) -> None:
    """Add the candidates with captions and tables; refuse rows that contradict the folder of their photograph."""
    for name, caption in captions.items():
        pictures.fields[name] = {**pictures.fields.get(name, {}), "prompt": caption}
    add_candidates(listing, tree, tables, pictures, options, describe, also=also)
    unused = Counter[str]()
    kept: list[Candidate] = []
    for candidate in listing.candidates:
        name = key(candidate.isic_id)
        folder_split = pictures.splits.get(name)
        unused["captions"] += name in captions and candidate.fields.get("prompt") != captions[name]
        unused["masks"] += candidate.mask not in pictures.masks.get(name, (candidate.mask,))
        if folder_split is not None and candidate.split != folder_split:
            detail = f"the table says {candidate.split}, the folder or the name of the table {folder_split}"
            listing.reject(candidate.isic_id, candidate.image, "contradicting_split", detail)
        else:
            changes = tuple(
                Adjustment(f"folder_{field}_dropped", f"{value!r}; the table says {candidate.fields[field]!r}")
                for field, value in pictures.fields.get(name, {}).items()
                if field != "prompt" and candidate.fields[field] != value
            )
            kept.append(replace(candidate, adjustments=(*candidate.adjustments, *changes)))
    listing.candidates = kept
    for kind, count in unused.items():
        if count:
            listing.notes.append(f"{kind} in files of {count} photographs are not used: the table has others")


def _identified(listing: Listing, tree: Tree, files: Sequence[str], *, with_table: bool) -> Pictures:
    """Give photographs their ids: the file's name or, where names repeat and no table names them, folders and name."""
    by_class = listing.layout == "imagefolder"
    places: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for file in files:
        places[place(file).context if by_class else place(file).splits].append(file)
    once = Listing(listing.layout)
    same_place = [file for group in places.values() for file in unique_files(once, tree, group).values()]
    listing.repeats += once.repeats
    stems = Counter(key(stem(file)) for file in same_place)
    if with_table or max([*stems.values(), 0]) <= 1:
        images = unique_files(listing, tree, same_place)
        listing.rejections += [] if with_table else once.rejections
        return Pictures(images)
    listing.notes.append("file names repeat between folders: ids are made of folder and file name")
    listing.rejections += once.rejections
    ids = {file: "_".join(PurePosixPath(file).with_suffix("").parts) for file in same_place}
    return Pictures({key(isic_id): file for file, isic_id in ids.items()}, ids={key(i): i for i in ids.values()})


def _describer(options: Options, *, any_label: bool = False, also: Sequence[str] = ()) -> Describe:
    def describe(row: Mapping[str, str], raw: Mapping[str, str]) -> tuple[Fields, list[Adjustment]]:
        fields, adjustments = clinical_fields(row)
        fields |= stated(**{column: known_value(raw.get(column)) for column in also})
        label = known_value(row.get("diagnosis"))
        if label is not None and label not in options.labels and label.lower() in BEHAVIOURS:
            if fields.setdefault("benign_malignant", label.lower()) != label.lower():
                raise ItemError(
                    "contradicting_labels", f"{label!r} and benign_malignant {fields['benign_malignant']!r}"
                )
            label = None
        diagnosis = diagnosis_name(label, options.labels, any_label=any_label)
        prompt, origin = known_value(row.get("prompt")), known_value(row.get("origin"))
        fields |= stated(diagnosis=diagnosis, prompt=prompt, origin=origin)
        if prompt is not None and says_numbers(prompt):
            del fields["prompt"]
            adjustments.append(Adjustment("prompt_dropped", f"{prompt!r}: numbers, no caption"))
        if "prompt" in fields:
            caption, more = first_caption(str(fields["prompt"]))
            fields["prompt"] = caption
            adjustments += [Adjustment("captions_left_out", f"the first of {more + 1} is the prompt")] if more else []
        if fields.get("origin", "real") not in get_args(Origin):
            raise ItemError("unknown_origin", f"{fields['origin']!r}; expected {' or '.join(get_args(Origin))}")
        return fields, adjustments

    return describe
