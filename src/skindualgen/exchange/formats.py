"""The formats of other tools: what each one is a module for, and how such a module looks from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar, cast

from skindualgen.contracts import InputError, PairRecord, Report
from skindualgen.exchange.source import Account, Source
from skindualgen.exchange.writing import FoundPair

PAIRS_IN_SHARD = 1000
"""Pairs of one tar or Parquet file; at 512 px about half a gigabyte."""

BOXES_REMEDY = "draw the outlines, or take such photographs without a mask: --boxes"

GivenBack = dict[str, dict[str, Any]]
"""id of a record -> fields as reading the format gives them back, ``isic_id`` among them if the format knows the pair
under another name"""
Item = TypeVar("Item")

FORMATS: Mapping[str, str] = {
    "imagefolder": "skindualgen.exchange.imagefolder",
    "parquet": "skindualgen.exchange.parquet",
    "webdataset": "skindualgen.exchange.webdataset",
    "nnunet": "skindualgen.exchange.nnunet",
    "coco": "skindualgen.exchange.coco",
    "yolo": "skindualgen.exchange.yolo",
    "isic": "skindualgen.exchange.isic",
    "classes": "skindualgen.exchange.classes",
    "dicom": "skindualgen.exchange.dicom",
    "fiftyone": "skindualgen.exchange.fiftyone",
}
"""Name of a format -> its module, which is loaded when it is asked for."""


@dataclass(frozen=True)
class ExchangeOptions:
    """Options of a format.

    Attributes:
        link: hard links instead of copies, where the format takes files as they are.
        shard_size: pairs of one tar or Parquet file.
        dataset_id: number of the nnU-Net data set, 1 to 999.
        name: name of the data set, where the format has a place for it.
        boxes: take a photograph whose lesion has a box and no outline as one without a mask (COCO, YOLO), which is
            refused otherwise.
        report: called with (pairs done, all pairs).
        told: called at the end of an import with what was not used, and how things were understood.
    """

    link: bool = False
    shard_size: int = PAIRS_IN_SHARD
    dataset_id: int = 500
    name: str = "SkinDualGen"
    boxes: bool = False
    report: Report = lambda done, total: None
    told: Callable[[Account], None] = lambda account: None


class Format(Protocol):
    """A module that writes and reads one format.

    Attributes:
        DESCRIPTION: what it is, for the user.
        LOSES: what it cannot hold by itself, for the user; docs/formats.md says the same.
        HOLDS_ALL: every field of a record is in the format's own files, so no records are written next to them.
        HOLDS_IGNORED: it has a place for pixels that are not to be learnt from or counted.

    The folders that `write` and `read` fill are new and empty; they take their final name only when all is done, so an
    error may leave them as they are. A module takes pairs one after the other: `write` from
    `skindualgen.exchange.pairs.read_pairs`, which reads and checks the files of records; what `read` yields is written
    by `skindualgen.exchange.writing.PairWriter`.
    """

    DESCRIPTION: str
    LOSES: str
    HOLDS_ALL: bool
    HOLDS_IGNORED: bool

    def write(self, source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> GivenBack:
        """Write the pairs of a data set folder into ``out``.

        Args:
            source: the data set folder.
            records: those to be written, at least one, ordered by ``file_name``.
            out: empty folder.
            options: see `ExchangeOptions`.

        Returns:
            What reading gives back, so that the records next to the format can be joined to it again; empty where a
            pair keeps its id and all that the format holds of it.
        """

    def read(self, source: Source, out: Path, options: ExchangeOptions) -> Iterator[FoundPair | PairRecord]:
        """Read a folder of this format, whoever has written it.

        Args:
            source: the folder; every file that is used is taken from it, what is left out is said to it.
            out: folder of the data set layout, for a module that writes pairs there itself.
            options: see `ExchangeOptions`.

        Yields:
            Each pair, with those fields set that the format itself states, and no others; its record where the module
            has written it.

        Raises:
            InputError: ``source`` is not of this format, damaged, or contradicts itself.
        """


def counted(items: Sequence[Item], report: Report) -> Iterator[Item]:
    """Yield the items of a sequence, and report how many are done."""
    for done, item in enumerate(items):
        report(done, len(items))
        yield item
    report(len(items), len(items))


def load_format(name: str) -> Format:
    """Return the module of a format.

    Raises:
        InputError: there is no such format.
    """
    if name not in FORMATS:
        raise InputError(f"format {name!r}", f"one of {', '.join(FORMATS)}", "choose one of these")
    return cast(Format, import_module(FORMATS[name]))


def optional_package(name: str, extra: str = "exchange") -> ModuleType:
    """Import a package that only some formats need, which an extra of this package installs.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        top = name.partition(".")[0]
        raise InputError(f"no package {top}", "the format's packages", f"pip install 'skindualgen[{extra}]'") from error
