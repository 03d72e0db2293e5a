"""A data set folder into another tool's format, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skindualgen.contracts import FILE_FIELDS, REJECTED_FILE, InputError, Origin, PairRecord, Split, listed
from skindualgen.data.audit import record_links
from skindualgen.data.manifest import counts, manifest_sha256, read_metadata, write_dataset
from skindualgen.data.review import count_rejected, used
from skindualgen.data.sources.base import rejections_csv
from skindualgen.data.splits import connected_components, crossing_components
from skindualgen.data.training_items import TRAINING_ITEMS_FILE, read_training_items
from skindualgen.exchange.folders import unnamed_files
from skindualgen.exchange.formats import ExchangeOptions, GivenBack, load_format
from skindualgen.exchange.pairs import described
from skindualgen.exchange.pictures import decoded
from skindualgen.exchange.source import Source
from skindualgen.exchange.writing import FoundPair, PairWriter, checked_record, recorded_inside
from skindualgen.files import atomic_write_bytes, atomic_write_text, run_record
from skindualgen.folders import new_folder

SIDECAR_FILE = "skindualgen_metadata.jsonl"
"""The records next to a format that cannot hold all of them; no tool needs it, and `import_data` reads it."""
EXPORTED_AS = "exported_as"
"""Field of a line there: what the format gives back otherwise than the record has it."""
SHOWN = 4


@dataclass(frozen=True)
class Exported:
    """What `export_data` wrote.

    Attributes:
        counts: as in ``dataset.json``.
        loses: what the format cannot hold by itself.
        sidecar: the records were written next to it.
        rejected: pairs that were left out, as a reviewer has rejected them.
        without_mask: photographs that were left out, as they have no mask.
        ignored_lost: pairs whose ignored pixels the format has no place for.
        unnamed: files in its folders of pictures that no record names.
    """

    counts: Mapping[str, Any]
    loses: str
    sidecar: bool
    rejected: int
    without_mask: int
    ignored_lost: int
    unnamed: list[str]


def export_data(
    source: Path,
    out: Path,
    format_name: str,
    *,
    options: ExchangeOptions | None = None,
    split: Split | None = None,
    only: Origin | None = None,
    require_masks: bool = False,
) -> Exported:
    """Write a data set folder in another format; ``out`` appears when all is written, and not before.

    Every file is checked against its recorded hash. Where the format does not hold all of a record, the records are
    next to it in `SIDECAR_FILE`. ``trained_on.json`` goes along with pairs of a generator's. Pairs that a reviewer has
    rejected are left out.

    Args:
        source: data set folder of real or synthetic pairs.
        out: new or empty folder.
        format_name: see `skindualgen.exchange.formats.FORMATS`.
        options: see `ExchangeOptions`.
        split: these pairs only.
        only: pairs of this origin only.
        require_masks: leave out pairs without a mask.

    Raises:
        InputError: no such format, nothing to write, a missing or changed file, or a pair that the format cannot hold.
    """
    module, options = load_format(format_name), options or ExchangeOptions()
    records = read_metadata(source, split)
    if only is not None:
        records = [record for record in records if record.origin == only]
    without_mask = 0
    if require_masks:
        without_mask = sum(record.mask_file_name is None for record in records)
        records = [record for record in records if record.mask_file_name is not None]
    rejected, records = count_rejected(records), used(records)
    if not records:
        hint = f" but {rejected} that were rejected in review" if rejected else ""
        raise InputError(
            f"no such pair in {source}{hint}", "pairs to write", "choose another --only or no --require-masks"
        )
    with new_folder(out, source, remedy="choose another OUT") as folder:
        given_back = module.write(source, records, folder, options)
        if not module.HOLDS_ALL:
            _write_sidecar(folder, records, given_back)
        if any(record.by_model for record in records):
            _copy_training_items(source, folder)
    unnamed = unnamed_files(source, read_metadata(source))
    lost = 0 if module.HOLDS_IGNORED else sum(record.ignore_file_name is not None for record in records)
    return Exported(counts(records), module.LOSES, not module.HOLDS_ALL, rejected, without_mask, lost, unnamed)


def import_data(
    source: Path, out: Path, format_name: str, *, options: ExchangeOptions | None = None, origin: Origin | None = None
) -> list[PairRecord]:
    """Read a folder of another format into a data set folder, which appears when all is written.

    What the format states counts; what it does not state is taken from the records next to it (`SIDECAR_FILE`), or else
    from the text inside the image, where `skindualgen generate` writes its record. What was not used stands in
    ``rejected.csv`` with its reason.

    Args:
        source: folder of that format, whoever has written it.
        out: new or empty folder.
        format_name: see `skindualgen.exchange.formats.FORMATS`.
        options: see `ExchangeOptions`.
        origin: of pairs for which none is recorded; real if not given.

    Returns:
        The records, ordered by ``file_name``.

    Raises:
        InputError: no such format, or ``source`` is not of it, or damaged.
    """
    module, options = load_format(format_name), options or ExchangeOptions()
    if not source.is_dir():
        raise InputError(f"{source}, which is no folder", "a folder of the format", "check the path")
    files = Source(source)
    sidecar = _read_sidecar(files)
    with new_folder(out, source, remedy="choose another OUT") as folder:
        writer = PairWriter(folder)
        found = module.read(files, folder, options)
        read = [writer.add(pair) if isinstance(pair, FoundPair) else pair for pair in found]
        if not read:
            raise InputError(f"no pair in {source}", f"pairs in the format {format_name}", "choose the folder's format")
        records = [_completed(folder, record, sidecar, origin, inside=not module.HOLDS_ALL) for record in read]
        for isic_id in sorted(sidecar.keys() - {record.isic_id for record in read}):
            files.leave_out(SIDECAR_FILE, "record_without_pair", "no pair of the folder has this id", isic_id)
        if _copy_training_items(source, folder):
            files.take(TRAINING_ITEMS_FILE)
        _note_crossing(files, records)
        account = files.account()
        imported_from = {"format": format_name, "manifest_sha256": manifest_sha256(records)}
        made_by = run_record(imported_from=imported_from, notes=account.notes)
        write_dataset(folder, records, made_by=made_by, mask_classes=writer.classes or files.mask_classes())
        atomic_write_text(folder / REJECTED_FILE, rejections_csv(account.left_out))
    options.told(account)
    return sorted(records, key=lambda record: record.file_name)


def _note_crossing(files: Source, records: Sequence[PairRecord]) -> None:
    """Note patients, lesions and pictures that the format has in two of its splits."""
    components = connected_components([[*record_links(record), ("sha256", record.sha256)] for record in records])
    crossing = crossing_components(components, [record.split for record in records])
    if crossing:
        first = listed([f"{records[index].isic_id} ({records[index].split})" for index in crossing[0]], SHOWN)
        files.note(
            f"{len(crossing)} groups of one patient, lesion or picture are in two splits, first {first}; "
            "`skindualgen prepare` on the imported folder splits it anew"
        )


def _write_sidecar(folder: Path, records: Sequence[PairRecord], given_back: GivenBack) -> None:
    lines = []
    for record in records:
        fields = given_back.get(record.isic_id, {})
        other = {field: value for field, value in fields.items() if getattr(record, field) != value}
        line = described(record) | ({EXPORTED_AS: other} if other else {})
        lines.append(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    atomic_write_text(folder / SIDECAR_FILE, "".join(lines))


def _read_sidecar(source: Source) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return the records next to a format by the id that the format has: fields, and those it gives back otherwise."""
    sidecar: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    if SIDECAR_FILE not in source.files:
        return sidecar
    for number, line in enumerate(source.text(SIDECAR_FILE).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{SIDECAR_FILE}, line {number}"
        try:
            fields = json.loads(line)
            exported_as = fields.pop(EXPORTED_AS, {})
            isic_id = str(exported_as.get("isic_id", fields["isic_id"]))
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise InputError(
                f"{where}: {type(error).__name__}: {error}", "a record", f"fix the line, or remove {SIDECAR_FILE}"
            ) from error
        checked_record({"file_name": "-", **fields}, where)
        if isic_id in sidecar:
            raise InputError(f"{where}: {isic_id!r} a second time", "each id once", "remove one of the lines")
        sidecar[isic_id] = fields, exported_as
    return sidecar


def _completed(
    folder: Path,
    record: PairRecord,
    sidecar: Mapping[str, tuple[dict[str, Any], dict[str, Any]]],
    origin: Origin | None,
    *,
    inside: bool,
) -> PairRecord:
    """Return a record that was read from a format, with what else is known of its pair.

    A field that the format states counts, unless it states what was written into it for another value. Where no record
    is next to the format, ``inside`` asks the image itself.
    """
    stated = record.model_dump(exclude_unset=True)
    known, exported_as = sidecar.get(record.isic_id, ({}, {}))
    if not known and inside:
        path = folder / record.file_name
        known = recorded_inside(decoded(path.read_bytes(), str(path)))
    changed = {
        field: value
        for field, value in stated.items()
        if field in FILE_FIELDS or field not in known or value != exported_as.get(field, known[field])
    }
    default = {"origin": origin} if origin is not None else {}
    return checked_record({**default, **known, **changed}, record.isic_id)


def _copy_training_items(source: Path, folder: Path) -> bool:
    """Pass on what the generator of synthetic pairs was trained on; False if that is not recorded."""
    if read_training_items(source) is None:
        return False
    atomic_write_bytes(folder / TRAINING_ITEMS_FILE, (source / TRAINING_ITEMS_FILE).read_bytes())
    return True
