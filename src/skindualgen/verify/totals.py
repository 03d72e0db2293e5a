"""What a folder says of its records as a whole, and of what its generator has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from skindualgen.contracts import DATASET_FILE, InputError, PairRecord
from skindualgen.data.manifest import counts, manifest_sha256
from skindualgen.data.training_items import TRAINING_ITEMS_FILE, read_training_items
from skindualgen.verify.deviations import Deviation


def check_totals(info: Mapping[str, Any], records: Callable[[], Iterable[PairRecord]]) -> Iterator[Deviation]:
    """Compare the counts and the hash in ``dataset.json`` with the records, which are gone through twice."""
    recorded, found = info.get("counts"), counts(records())
    if not isinstance(recorded, dict):
        yield Deviation("dataset", DATASET_FILE, f"counts {recorded!r}", f"{found}")
    else:
        for key in sorted(found.keys() | recorded.keys()):
            if recorded.get(key) != found.get(key):
                yield Deviation("dataset", DATASET_FILE, f"{key} {recorded.get(key)}", f"{found.get(key)} as counted")
    digest = manifest_sha256(records())
    if info.get("manifest_sha256") != digest:
        found_text = f"manifest_sha256 {info.get('manifest_sha256')}: a record was changed, added or removed"
        yield Deviation("dataset", DATASET_FILE, found_text, f"{digest} of these records")


def check_training_items(root: Path) -> Iterator[Deviation]:
    """Say what is wrong with the record of what the generator has seen; a folder may have none."""
    try:
        read_training_items(root)
    except (InputError, OSError) as error:
        expected = error.expected if isinstance(error, InputError) else "a readable file"
        yield Deviation("training_items", TRAINING_ITEMS_FILE, getattr(error, "got", str(error)), expected)
