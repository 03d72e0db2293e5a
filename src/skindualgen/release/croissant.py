"""The Croissant description of a released data set: its files with hashes, and its records with their pictures.

mlcroissant joins a record set with one set of files, so each further kind of picture joins the record set before; the
last one, `RECORDS`, has every column.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html; mlcroissant, whose classes write it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from skindualgen.contracts import IGNORED_DIR, IMAGES_DIR, MASKS_DIR, METADATA_FILE, PairRecord
from skindualgen.exchange.formats import optional_package
from skindualgen.files import atomic_write_text, sha256_file
from skindualgen.release.schema import features_of

CROISSANT_FILE = "croissant.json"
RECORDS = "pairs"
"""Id of the record set that has every column."""
PICTURES: Mapping[str, tuple[str, str]] = {
    "image": ("file_name", IMAGES_DIR),
    "mask": ("mask_file_name", MASKS_DIR),
    "ignore": ("ignore_file_name", IGNORED_DIR),
}
"""Column of a picture -> field of a record that names its file, folder of such files."""
PAPERS: Mapping[str, str] = {".jsonl": "application/jsonlines", ".json": "application/json", ".csv": "text/csv"}
PICTURE_FORMATS: Mapping[str, str] = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
LAST_PART = "(?:.*/)?(.*)"
"""File name of a path."""


def write_croissant(
    folder: Path, records: Sequence[PairRecord], *, title: str, licence: str, citation: str, url: str | None
) -> None:
    """Write ``croissant.json`` next to the metadata and pictures that it describes.

    Args:
        folder: of the data set, with all its files but the card, which its publisher may edit.
        records: all of them.
        title: of the data set.
        licence: as the hub writes it, or the file that states it.
        citation: how to cite it.
        url: its page; None while there is none.

    Raises:
        InputError: mlcroissant is not installed.
    """
    mlc = optional_package("mlcroissant", "croissant")
    pictures = [name for name, (field, _) in PICTURES.items() if any(getattr(record, field) for record in records)]
    papers = sorted(path for path in folder.iterdir() if path.suffix in PAPERS)
    metadata = mlc.Metadata(
        name=title,
        description=f"{len(records)} dermoscopic photographs with lesion masks; README.md says how they were made.",
        license=[licence],
        cite_as=citation,
        url=url,
        version="1.0.0",
        date_published=datetime.combine(datetime.now(UTC), datetime.min.time()),
        distribution=[
            *(_file(mlc, path) for path in papers),
            *(_file_set(mlc, folder / PICTURES[name][1]) for name in pictures),
        ],
        record_sets=list(_record_sets(mlc, _columns(features_of(records)), pictures)),
    )
    text = json.dumps(metadata.to_json(), indent=2, ensure_ascii=False, default=datetime.isoformat)
    atomic_write_text(folder / CROISSANT_FILE, f"{text}\n")


def _file(mlc: Any, path: Path) -> Any:
    name, kind = path.name, PAPERS[path.suffix]
    return mlc.FileObject(id=name, name=name, content_url=name, encoding_formats=[kind], sha256=sha256_file(path))


def _file_set(mlc: Any, folder: Path) -> Any:
    suffixes = sorted({path.suffix for path in folder.iterdir()})
    formats = sorted({PICTURE_FORMATS[suffix.lower()] for suffix in suffixes})
    includes = [f"{folder.name}/*{suffix}" for suffix in suffixes]
    described = f"The hash of each file is in {METADATA_FILE}."
    return mlc.FileSet(
        id=folder.name, name=folder.name, description=described, encoding_formats=formats, includes=includes
    )


def _columns(features: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, str | None]]:
    """Name of each column of plain values -> its type, and its path inside an object, as ``scores.dice`` has one."""
    plain: dict[str, tuple[str, str | None]] = {}
    for feature in features:
        if "struct" in feature:
            inner = [item for item in feature["struct"] if "dtype" in item]
            plain |= {f"{feature['name']}.{item['name']}": (item["dtype"], f"$.'{item['name']}'") for item in inner}
        elif feature.get("dtype", "image") != "image":
            plain[feature["name"]] = (feature["dtype"], None)
    return plain


def _record_sets(mlc: Any, columns: Mapping[str, tuple[str, str | None]], pictures: Sequence[str]) -> Iterator[Any]:
    """One record set for each kind of picture: what the one before has, and that picture."""
    types = {"string": mlc.DataType.TEXT, "int64": mlc.DataType.INTEGER, "float64": mlc.DataType.FLOAT}
    types |= {"bool": mlc.DataType.BOOL}
    names = {PICTURES[picture][0]: picture for picture in pictures}
    before: str | None = None

    def taken(name: str, **transform: str) -> Any:
        """A column of the set before, or else of the metadata, from which it is transformed."""
        if before is not None:
            return mlc.Source(field=f"{before}/{name}")
        transforms = [mlc.Transform(**transform)] if transform else []
        column = mlc.Extract(column=name.partition(".")[0])
        return mlc.Source(file_object=METADATA_FILE, extract=column, transforms=transforms)

    for place, picture in enumerate(pictures):
        own = RECORDS if place == len(pictures) - 1 else f"with_{picture}"
        fields = []
        for name, joined in names.items():
            source = taken(name, regex=LAST_PART)
            files = {"file_set": PICTURES[picture][1], "extract": mlc.Extract(file_property="filename")}
            references = {"references": mlc.Source(**files)} if joined == picture else {}
            fields.append(_field(mlc, f"{own}/{name}", mlc.DataType.TEXT, source, **references))
        for name, (dtype, path) in columns.items():
            inside = {} if path is None else {"json_path": path}
            fields.append(_field(mlc, f"{own}/{name}", types[dtype], taken(name, **inside)))
        for name in pictures[:place]:
            fields.append(_field(mlc, f"{own}/{name}", mlc.DataType.IMAGE_OBJECT, taken(name)))
        content = mlc.Source(file_set=PICTURES[picture][1], extract=mlc.Extract(file_property="content"))
        fields.append(_field(mlc, f"{own}/{picture}", mlc.DataType.IMAGE_OBJECT, content))
        yield mlc.RecordSet(id=own, name=own, key=[f"{own}/isic_id"], fields=fields)
        before = own


def _field(mlc: Any, id_: str, data_type: Any, source: Any, **references: Any) -> Any:
    return mlc.Field(id=id_, name=id_.partition("/")[2], data_types=data_type, source=source, **references)
