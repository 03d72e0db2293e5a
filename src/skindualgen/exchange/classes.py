"""One folder per diagnosis, as torchvision's ImageFolder loads it, and the masks in a tree of the same shape.

Source: https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from skindualgen.contracts import MASKS_DIR, InputError, PairRecord, Split
from skindualgen.data.sources.base import key
from skindualgen.exchange.diagnoses import class_fields, class_name, stated_class
from skindualgen.exchange.formats import ExchangeOptions, GivenBack, counted
from skindualgen.exchange.pairs import read_pairs
from skindualgen.exchange.pictures import plain_mask
from skindualgen.exchange.source import Source, picture_ids, split_word
from skindualgen.exchange.writing import FoundPair

DESCRIPTION = "torchvision ImageFolder: train/<diagnosis>/*.png, masks/train/<diagnosis>/*.png"
LOSES = "all of the record but id, split and diagnosis"
HOLDS_ALL = False
HOLDS_IGNORED = False
PARTS_OF_PATH = 3
"""SPLIT/CLASS/FILE"""


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> GivenBack:
    """See `skindualgen.exchange.formats.Format`."""
    given_back: GivenBack = {}
    for pair in read_pairs(source, records, options.report, link=options.link):
        diagnosis = class_name(pair.record)
        folder = f"{pair.record.split}/{quote(diagnosis, safe=' ')}"  # a diagnosis may hold a slash
        pair.put_image(out / folder / f"{pair.name}{pair.suffix}")
        pair.put_lesion(out / MASKS_DIR / folder / f"{pair.name}.png")
        given_back[pair.record.isic_id] = {"isic_id": pair.name, **class_fields(diagnosis)}
    return given_back


def read(source: Source, out: Path, options: ExchangeOptions) -> Iterator[FoundPair]:
    """See `skindualgen.exchange.formats.Format`."""
    pictures = [file for file in source.images() if _place(file) is not None]
    if not pictures:
        raise InputError(
            f"{source.root} without pictures in SPLIT/CLASS/", "folders such as train/melanoma/", "choose its format"
        )
    masks = {
        key(str(PurePosixPath(*PurePosixPath(file).parts[1:]).with_suffix(""))): file
        for file in source.images()
        if PurePosixPath(file).parts[0].lower() == MASKS_DIR
    }
    ids = picture_ids(source, pictures)
    for file in counted(pictures, options.report):
        split, folder = _place(file) or (None, "")
        fields = {"isic_id": ids[file], "split": split, **stated_class(source, unquote(folder), file)}
        mask = masks.get(key(str(PurePosixPath(file).with_suffix(""))))
        mask_bytes = plain_mask(source.read(mask), mask) if mask is not None else None
        yield FoundPair(fields, source.read(file), mask_bytes, file)


def _place(file: str) -> tuple[Split, str] | None:
    """Return split and class folder of a picture, None where it lies elsewhere."""
    parts = PurePosixPath(file).parts
    split = split_word(parts[0]) if len(parts) == PARTS_OF_PATH else None
    return (split, parts[1]) if split is not None else None
