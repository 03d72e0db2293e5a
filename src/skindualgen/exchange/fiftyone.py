"""FiftyOne's own format: ``metadata.json``, ``samples.json``, ``data/``, ``fields/mask/``. The package is not needed.

Source: https://docs.voxel51.com/user_guide/export_datasets.html#fiftyonedataset; its ``FiftyOneDatasetImporter``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.mask_classes import MaskClasses, read_mask_classes
from skindualgen.exchange.diagnoses import class_fields, class_name, stated_class
from skindualgen.exchange.formats import ExchangeOptions, GivenBack, counted
from skindualgen.exchange.pairs import Pair, described, read_pairs
from skindualgen.exchange.pictures import plain_mask
from skindualgen.exchange.source import Source, picture_ids, short, split_word
from skindualgen.exchange.writing import FoundPair
from skindualgen.files import atomic_write_json, sha256_bytes

DESCRIPTION = "FiftyOne: metadata.json, samples.json, data/*.png, fields/mask/*.png"
LOSES = "fields of the record that are named as FiftyOne's own, such as tags or metadata"
HOLDS_ALL = False
HOLDS_IGNORED = True
METADATA_FILE, SAMPLES_FILE, DATA_DIR, FIELDS_DIR = "metadata.json", "samples.json", "data", "fields"
VERSION = "1.0.0"
"""The oldest FiftyOne that reads such a folder; later ones bring it up to date."""
DIAGNOSIS, MASK, IGNORE = "diagnosis", "mask", "ignore"
"""Fields of a sample that are labels."""
BASIC: Mapping[str, str] = {
    "id": "ObjectId",
    "filepath": "String",
    "tags": "List",
    "metadata": "EmbeddedDocument",
    "_media_type": "String",
    "_rand": "Float",
    "_dataset_id": "ObjectId",
    "created_at": "DateTime",
    "last_modified_at": "DateTime",
}
"""Field that every sample of FiftyOne's has -> its type there."""
LABELS: Mapping[str, Mapping[str, str]] = {
    "Classification": {"id": "ObjectId", "tags": "List", "label": "String", "confidence": "Float", "logits": "Vector"},
    "Segmentation": {"id": "ObjectId", "tags": "List", "mask": "Array", "mask_path": "String"},
}
TYPES: Mapping[type, str] = {bool: "Boolean", int: "Int", float: "Float", str: "String", dict: "Dict", list: "List"}


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> GivenBack:
    """See `skindualgen.exchange.formats.Format`."""
    given_back: GivenBack = {}
    samples: list[dict[str, Any]] = []
    types: dict[str, str] = {}
    for pair in read_pairs(source, records, options.report, link=options.link):
        pair.refuse_turned()
        pair.put_image(out / _image_path(pair))
        pair.put_mask(out / _label_path(pair, MASK))
        pair.put_ignored(out / _label_path(pair, IGNORE))
        samples.append(_sample(pair))
        for name, value in _plain(described(pair.record)).items():
            dtype = TYPES[type(value)]
            types[name] = "Float" if {types.get(name), dtype} == {"Int", "Float"} else dtype
        given_back[pair.record.isic_id] = class_fields(class_name(pair.record))
    labels = {DIAGNOSIS: "Classification", MASK: "Segmentation"}
    labels |= {IGNORE: "Segmentation"} if any(record.ignore_file_name for record in records) else {}
    fields = [_field(name, dtype) for name, dtype in {**BASIC, **types}.items()]
    fields += [_field(name, "EmbeddedDocument", label) for name, label in labels.items()]
    targets = {"0": "background"} | {str(level): name for name, level in read_mask_classes(source).items()}
    document: dict[str, Any] = {"name": options.name, "version": VERSION, "media_type": "image", "app_config": {}}
    document |= {"sample_fields": fields, "default_mask_targets": targets}
    atomic_write_json(out / METADATA_FILE, document)
    empty = dict.fromkeys((*types, *labels))
    atomic_write_json(out / SAMPLES_FILE, {"samples": [empty | sample for sample in samples]})
    return given_back


def read(source: Source, out: Path, options: ExchangeOptions) -> Iterator[FoundPair]:
    """See `skindualgen.exchange.formats.Format`. The only Segmentation of a sample is its mask."""
    for name in (METADATA_FILE, SAMPLES_FILE):
        if name not in source.files:
            raise InputError(f"{source.root} without {name}", "an export as FiftyOneDataset", "choose its format")
    samples = source.json(SAMPLES_FILE)
    samples = samples.get("samples") if isinstance(samples, dict) else None
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise InputError(f"{SAMPLES_FILE} without a list of samples", "FiftyOne's own", "export it anew")
    classes = _classes(source)
    files = [_named(source, sample, "filepath", f"sample {row}") for row, sample in enumerate(samples)]
    ids = picture_ids(source, files)
    for file, sample in counted(list(zip(files, samples, strict=True)), options.report):
        masks = {name: _named(source, value, "mask_path", file) for name, value in _labels(sample, "Segmentation")}
        ignored = masks.pop(IGNORE, None)
        if len(masks) > 1:
            raise InputError(f"{file} with the masks {', '.join(masks)}", "one mask a sample", "delete the others")
        mask = next(iter(masks.values()), None)
        yield FoundPair(
            {"isic_id": ids[file], **_plain(sample), **_split(sample, file), **_diagnosis(source, sample, file)},
            source.read(file),
            None if mask is None else plain_mask(source.read(mask), mask, classes),
            file,
            classes=classes,
            ignored=None if ignored is None else plain_mask(source.read(ignored), ignored),
        )


def _image_path(pair: Pair) -> str:
    return f"{DATA_DIR}/{pair.name}{pair.suffix}"


def _label_path(pair: Pair, field: str) -> str:
    return f"{FIELDS_DIR}/{field}/{pair.name}.png"


def _sample(pair: Pair) -> dict[str, Any]:
    record = pair.record
    ids = [sha256_bytes(f"{label} {record.isic_id}".encode())[:24] for label in ("", DIAGNOSIS, MASK, IGNORE)]
    own, *of_labels = [{"$oid": id_} for id_ in ids]
    names = {MASK: pair.mask_bytes, IGNORE: pair.ignored_bytes}
    labels: dict[str, Any] = {}
    if class_fields(class_name(record)):
        labels[DIAGNOSIS] = {"_id": of_labels[0], "_cls": "Classification", "tags": [], "label": class_name(record)}
    for (name, content), id_ in zip(names.items(), of_labels[1:], strict=True):
        if content is not None:
            place = {"tags": [], "mask_path": _label_path(pair, name)}
            labels[name] = {"_id": id_, "_cls": "Segmentation", **place}
    basic = {
        "_id": own,
        "filepath": _image_path(pair),
        "tags": [record.split],
        "_media_type": "image",
        "metadata": None,
    }
    return basic | {"_rand": int(ids[0][:8], 16) / 2**32} | _plain(described(record)) | labels


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are no label and not FiftyOne's own, neither by their name nor by their kind."""
    return {
        name: value
        for name, value in fields.items()
        if name not in {*BASIC, DIAGNOSIS, MASK, IGNORE, "split"}
        and not name.startswith("_")
        and value is not None
        and not (isinstance(value, dict) and any(key[:1] in "_$" for key in value))
    }


def _field(name: str, dtype: str, label: str | None = None) -> dict[str, Any]:
    """A field as FiftyOne describes it: type, and the fields of a label inside it."""
    inside = [_field(inner, kind) for inner, kind in LABELS[label].items()] if label is not None else []
    document = "fiftyone.core.metadata.ImageMetadata" if name == "metadata" else None
    return {
        "name": name,
        "ftype": f"fiftyone.core.fields.{dtype}Field",
        "embedded_doc_type": document if label is None else f"fiftyone.core.labels.{label}",
        "subfield": "fiftyone.core.fields.StringField" if name == "tags" else None,
        "fields": inside,
        "db_field": "_id" if name == "id" else name,
    }


def _labels(sample: Mapping[str, Any], kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, value) for name, value in sample.items() if isinstance(value, dict) and value.get("_cls") == kind]


def _named(source: Source, holder: Mapping[str, Any], key: str, where: str) -> str:
    """The file of the folder that a path of a sample or of a label names."""
    path = holder.get(key)
    found = source.meant(path, [""], where) if isinstance(path, str) else []
    if not found:
        raise InputError(f"{where} with the {key} {path!r}", "a file of the folder", "export it with its media")
    return found[0]


def _classes(source: Source) -> MaskClasses:
    document = source.json(METADATA_FILE)
    targets = document.get("default_mask_targets") if isinstance(document, dict) else None
    if not targets:
        return source.mask_classes()
    named = targets.items() if isinstance(targets, dict) else ()
    if not named or not all(level.isdecimal() and isinstance(name, str) for level, name in named):
        raise InputError(f"default_mask_targets {short(targets)}", "levels of grey and their names", "export it anew")
    return source.mask_classes({name: int(level) for level, name in named if int(level)}, METADATA_FILE)


def _split(sample: Mapping[str, Any], file: str) -> dict[str, Any]:
    tags = sample.get("tags") or []
    splits = sorted({split for tag in tags if isinstance(tag, str) and (split := split_word(tag))})
    if len(splits) > 1:
        raise InputError(f"{file} with the tags {' and '.join(splits)}", "one split", "take one of the tags away")
    return {"split": splits[0]} if splits else {}


def _diagnosis(source: Source, sample: Mapping[str, Any], file: str) -> dict[str, Any]:
    names = {str(value.get("label")) for _, value in _labels(sample, "Classification")}
    if len(names) > 1:
        raise InputError(f"{file} with the labels {', '.join(sorted(names))}", "one diagnosis", "delete the others")
    return stated_class(source, names.pop(), file) if names else {}
