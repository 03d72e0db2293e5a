"""The data set layout itself, which is Hugging Face's imagefolder with metadata: a clean, checked copy.

Source: https://huggingface.co/docs/datasets/image_dataset (``file_name`` and other ``*_file_name`` columns).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from skindualgen.contracts import DATASET_FILE, METADATA_FILE, PairRecord
from skindualgen.data.manifest import manifest_sha256, read_metadata, write_dataset
from skindualgen.data.mask_classes import read_mask_classes
from skindualgen.exchange.formats import ExchangeOptions, GivenBack
from skindualgen.exchange.pairs import read_pairs
from skindualgen.exchange.source import Source
from skindualgen.files import run_record

DESCRIPTION = "Hugging Face imagefolder: images/, masks/, masks_ignore/, metadata.jsonl"
LOSES = "nothing"
HOLDS_ALL = True
HOLDS_IGNORED = True


def write(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> GivenBack:
    """See `skindualgen.exchange.formats.Format`."""
    _copy(source, records, out, options)
    made_by = run_record(copy_of={"manifest_sha256": manifest_sha256(records)})
    write_dataset(out, records, made_by=made_by, mask_classes=read_mask_classes(source))
    return {}


def read(source: Source, out: Path, options: ExchangeOptions) -> Iterator[PairRecord]:
    """See `skindualgen.exchange.formats.Format`."""
    records = read_metadata(source.root)
    for name in (METADATA_FILE, DATASET_FILE):
        source.take(name)
    for record in records:
        for named in record.files:
            source.take(named)
    _copy(source.root, records, out, options)
    yield from records


def _copy(source: Path, records: Sequence[PairRecord], out: Path, options: ExchangeOptions) -> None:
    for pair in read_pairs(source, records, options.report, link=options.link):
        pair.put_image(out / pair.record.file_name)
        pair.put_mask(out / str(pair.record.mask_file_name))
        pair.put_ignored(out / str(pair.record.ignore_file_name))
