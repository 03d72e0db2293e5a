"""A release: a data set, and with it the adapter that drew it, as folders ready for the hub."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image

from skindualgen.contracts import DATASET_FILE, METADATA_FILE, REJECTS_FILE, SHEET_FILE, InputError, PairRecord
from skindualgen.data.training_items import TRAINING_ITEMS_FILE
from skindualgen.files import atomic_write_bytes, atomic_write_text, sha256_file
from skindualgen.folders import new_folder
from skindualgen.marks.embed import image_png
from skindualgen.release.cards import (
    BENCHMARK_FILE,
    LICENCE_CARD,
    PLAN_FILE,
    REPORT_FILE,
    UNNAMED,
    CardOptions,
    citation,
    dataset_card,
    evaluated_adapter_card,
    licence_card,
)
from skindualgen.release.contents import SETTINGS_FILE, Contents, read_contents
from skindualgen.release.croissant import write_croissant
from skindualgen.release.licences import LicenceChain, licence_chain
from skindualgen.release.marks import Marks, count_marks
from skindualgen.release.privacy import refuse_private
from skindualgen.release.schema import split_file
from skindualgen.verify.folder import verify_folder

DATASET_DIR, ADAPTER_DIR = "dataset", "adapter"
"""folders of a release, each the content of one repository"""
PAPERS = (METADATA_FILE, DATASET_FILE, SETTINGS_FILE, TRAINING_ITEMS_FILE, REJECTS_FILE)
"""what is published of a data set folder next to the files that its records name; each where it is there"""
NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES})
"""error numbers of a file system that makes no hard link here"""
SHOWN = 5


@dataclass(frozen=True)
class ReleaseOptions:
    """What to release.

    Attributes:
        data: data set folder with generated pairs.
        out: new folder.
        adapter: folder of the adapter that drew the pairs, to be released as well; None leaves it out.
        evaluation, benchmark: results for the cards, ``report.json`` and ``benchmark.json``.
        real: data set folder that the generator was trained on, for its sources and licences.
        plan: CSV that the pairs were generated from, to be published with them.
        licence: of the data set, as the hub writes it; that of the records if not given.
        title: of the data set; from the folder's name if not given.
        repository: ``owner/name`` that the loading example names.
        with_held_out: publish real val and test records too.
        croissant: write ``croissant.json`` too, which needs mlcroissant.
    """

    data: Path
    out: Path
    adapter: Path | None = None
    evaluation: Path | None = None
    benchmark: Path | None = None
    real: Path | None = None
    plan: Path | None = None
    licence: str | None = None
    title: str | None = None
    repository: str | None = None
    with_held_out: bool = False
    croissant: bool = False


@dataclass(frozen=True)
class Release:
    """What was written: folder, records, marks in the generated photographs, and how files came into it."""

    out: Path
    contents: Contents
    chain: LicenceChain
    marks: Marks
    linked: bool


def build_release(options: ReleaseOptions) -> Release:
    """Check a data set folder and write its release, entirely or not at all.

    ``out`` gets a folder ``dataset`` and, with an adapter, a folder ``adapter``: pictures as hard links where the file
    system can, everything else as copies, with cards and licence texts.

    Raises:
        InputError: files that deviate from the manifest, real records of the val or test split, results of other
            pairs, an adapter that did not generate them, a licence that is not the publisher's to choose, paths or
            names of this machine in any file, or ``out`` with something in it.
    """
    contents = read_contents(
        options.data,
        evaluation=options.evaluation,
        benchmark=options.benchmark,
        real=options.real,
        plan=options.plan,
    )
    if not options.with_held_out:
        _refuse_held_out(contents)
    _refuse_deviations(options.data)
    if options.adapter is not None:
        _refuse_other_adapter(options.adapter, contents)
    chain = licence_chain(contents, options.licence)
    marks = count_marks(options.data, contents.synthetic, watermark=bool(contents.settings.get("watermark")))
    remedy = "choose another --out; to upload a release that is there, give --out and --push alone"
    with new_folder(options.out, remedy=remedy) as folder:
        linked = _write_dataset(folder / DATASET_DIR, contents, chain, marks, options)
        if options.adapter is not None:
            _write_adapter(folder / ADAPTER_DIR, options.adapter, contents, chain)
        refuse_private(folder)
    return Release(options.out, contents, chain, marks, linked)


def _refuse_held_out(contents: Contents) -> None:
    held_out = [record for record in contents.real if record.split != "train"]
    if held_out:
        raise InputError(
            f"{len(held_out)} real records of the splits val and test in {contents.root}, first {held_out[0].isic_id}",
            "generated pairs, and real ones of the split train at most: others test on these",
            "leave them out of the folder, or publish them with --with-held-out",
        )


def _refuse_deviations(data: Path) -> None:
    deviations = verify_folder(data, workers=os.cpu_count() or 1)
    first = [str(deviation) for deviation in islice(deviations, SHOWN)]
    if first:
        rest = sum(1 for _ in deviations)
        raise InputError(
            f"{len(first) + rest} deviations in {data} ({'; '.join(first)}{f' and {rest} more' if rest else ''})",
            "files as they were written, and nothing next to them",
            f"look at `skindualgen verify {data}`, fix the folder or generate anew",
        )


def _refuse_other_adapter(adapter: Path, contents: Contents) -> None:
    from skindualgen.model.adapter import WEIGHTS_FILE, read_header

    read_header(adapter)  # says what is wrong with a folder that is no adapter
    digest = sha256_file(adapter / WEIGHTS_FILE)
    drawn_with = {record.adapter_sha256 for record in contents.synthetic}
    if drawn_with != {digest}:
        shown = ", ".join(sorted(str(value)[:12] for value in drawn_with))
        raise InputError(
            f"adapter {digest[:12]} for pairs that were generated with {shown}",
            "the adapter that drew all of them, as their records name it",
            "give that adapter, or leave --adapter out",
        )


def _write_dataset(
    folder: Path, contents: Contents, chain: LicenceChain, marks: Marks, options: ReleaseOptions
) -> bool:
    """Write the repository of the data set; return whether its pictures are hard links."""
    root = contents.root
    folder.mkdir()
    linked = _place_pictures(root, folder, contents.records)
    for name in PAPERS:
        if (root / name).is_file():
            shutil.copyfile(root / name, folder / name)
    if len(contents.splits) > 1:
        _write_split_files(folder, contents)
    papers = ((options.evaluation, REPORT_FILE), (options.benchmark, BENCHMARK_FILE), (options.plan, PLAN_FILE))
    for source, name in papers:
        if source is not None:
            shutil.copyfile(source, folder / name)
    card = CardOptions(
        title=options.title or f"Generated dermoscopic image-mask pairs: {root.resolve().name}",
        repository=options.repository or UNNAMED,
        sheet=_write_sheet(folder, contents),
        licence_file=_write_base_licence(folder, chain),
    )
    atomic_write_text(folder / LICENCE_CARD, licence_card(chain, card.licence_file))
    if options.croissant:
        url = None if options.repository is None else f"https://huggingface.co/datasets/{options.repository}"
        write_croissant(
            folder,
            contents.records,
            title=card.title,
            licence=chain.chosen or LICENCE_CARD,
            citation=citation(),
            url=url,
        )
    atomic_write_text(folder / "README.md", dataset_card(contents, chain, marks, card))
    return linked


def _place_pictures(root: Path, folder: Path, records: Sequence[PairRecord]) -> bool:
    linked = True
    for record in records:
        for name in record.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if linked:
                try:
                    os.link(root / name, folder / name)
                    continue
                except OSError as error:
                    if error.errno not in NO_LINKS:
                        raise
                    linked = False
            shutil.copyfile(root / name, folder / name)
    return linked


def _write_split_files(folder: Path, contents: Contents) -> None:
    """One metadata file per split: a loader would else take the records of all splits for every one."""
    lines: dict[str, list[str]] = {split: [] for split in contents.splits}
    written = (folder / METADATA_FILE).read_text(encoding="utf-8").splitlines(keepends=True)
    by_line = dict(zip((record.file_name for record in contents.records), written, strict=True))
    for record in contents.records:
        lines[record.split].append(by_line[record.file_name])
    for split, content in lines.items():
        atomic_write_text(folder / split_file(split, contents.splits), "".join(content))


def _write_sheet(folder: Path, contents: Contents) -> str | None:
    """The sample picture, marked as generated media like the photographs; none where it could show real ones."""
    source = contents.root / SHEET_FILE
    if contents.real or not source.is_file():
        return None
    record = PairRecord(
        file_name=SHEET_FILE, isic_id="contact_sheet", origin="synthetic", source=contents.synthetic[0].source
    )
    with Image.open(source) as sheet:
        atomic_write_bytes(folder / SHEET_FILE, image_png(sheet.convert("RGB"), record))
    return SHEET_FILE


def _write_base_licence(folder: Path, chain: LicenceChain) -> str | None:
    if chain.base_terms is None or chain.base_terms.file is None:
        return None
    name = f"LICENSE-{chain.base_terms.file.name}"
    shutil.copyfile(chain.base_terms.file, folder / name)
    return name


def _write_adapter(folder: Path, adapter: Path, contents: Contents, chain: LicenceChain) -> None:
    from skindualgen.model.adapter import CARD_FILE
    from skindualgen.model.export import export_hub, public_header

    export_hub(adapter, folder)
    atomic_write_text(folder / CARD_FILE, evaluated_adapter_card(public_header(adapter), contents, chain))
