"""Targets: annotations of other tools, whole in other spellings, with values that do not belong there, and damaged."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image

from fuzzing.damage import OTHER_KIND, replaced, wounded, wounds
from fuzzing.drawn import bilevel, draw, encoded
from fuzzing.target import Case, Outcome, Target, demand, refusal_admitted
from skindualgen.contracts import METADATA_FILE, PairRecord
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.exchange.transfer import SIDECAR_FILE, export_data, import_data

PAIRS = (("ISIC_0000001", "nevus", "train"), ("ISIC_0000002", "melanoma", "val"), ("im 3 ä", "nevus", "train"))
FORMATS: Mapping[str, tuple[str, ...]] = {
    "coco": ("annotations/*.json",),
    "yolo": ("labels/*/*.txt", "data.yaml"),
    "imagefolder": ("**/metadata.jsonl",),
    "isic": ("**/*.csv",),
    "nnunet": ("*.json", "*/*.json"),
    "fiftyone": ("metadata.json", "samples.json"),
}
"""Format -> its files of text that are changed; `SIDECAR_FILE` is taken away, so that these alone count."""
SPELLINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "Windows line ends": lambda data: data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "blank last line": lambda data: data + b"\n\n",
    "no last line end": lambda data: data.rstrip(b"\r\n"),
    "blanks at line ends": lambda data: data.replace(b"\n", b" \n"),
}
"""What editors and programs do to a text without changing what it says."""

Truth = Mapping[str, tuple[Any, ...]]


@cache
def _exported(format_name: str) -> Path:
    """A folder of the format, written once in a process."""
    root = Path(tempfile.mkdtemp(prefix="skindualgen-fuzz-"))
    records = []
    for number, (isic_id, diagnosis, split) in enumerate(PAIRS):
        drawn = draw(number)
        record = PairRecord.model_validate(
            {
                "file_name": f"images/{number}.png",
                "mask_file_name": f"masks/{number}.png",
                "isic_id": isic_id,
                "diagnosis": diagnosis,
                "split": split,
                "license": "CC0-1.0",
            }
        )
        for name, picture in ((record.file_name, drawn.image), (str(record.mask_file_name), bilevel(drawn.lesion))):
            (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "data" / name).write_bytes(encoded(picture, "PNG"))
        records.append(record)
    write_dataset(root / "data", records, made_by={})
    export_data(root / "data", root / "out", format_name)
    (root / "out" / SIDECAR_FILE).unlink(missing_ok=True)
    return root / "out"


@cache
def _truth(format_name: str) -> Truth:
    out = _exported(format_name).parent / "read"
    import_data(_exported(format_name), out, format_name)
    return _read(out)


def _read(out: Path) -> Truth:
    """What a data set folder says: id -> diagnosis, split, size and lesion."""
    found = {}
    for record in read_metadata(out):
        with Image.open(out / record.file_name) as image:
            size = image.size
        lesion = None
        if record.mask_file_name is not None:
            with Image.open(out / record.mask_file_name) as mask:
                values = np.asarray(mask)
            demand(set(np.unique(values)) <= {0, 255}, f"mask values {np.unique(values)[:5]}")
            demand(values.shape == size[::-1], f"a mask of {values.shape} for an image of {size}")
            lesion = values.tobytes()
        found[record.isic_id] = (record.diagnosis, record.split, size, lesion)
    return found


def _check(case: Case, folder: Path) -> Outcome:
    """Change one file of text, import; what the change may not do is decided by its kind."""
    name = case["format"]
    truth = _truth(name)
    shutil.copytree(_exported(name), folder / "in")
    patterns = GEOMETRY[name] if case["kind"] == "other value" else FORMATS[name]
    paths = sorted(path for pattern in patterns for path in (folder / "in").glob(pattern))
    path = paths[case["file"] % len(paths)]
    path.write_bytes(_changed(path.read_bytes(), case))
    with refusal_admitted(True) as outcome:
        import_data(folder / "in", folder / "out", name)
        found = _read(folder / "out")
        if case["kind"] != "damage":
            changed = [isic_id for isic_id in truth if found.get(isic_id) != truth[isic_id]]
            demand(not changed, f"{path.name}: another reading of {', '.join(changed)}")
            demand(found.keys() == truth.keys(), f"{path.name}: {sorted(found.keys() - truth.keys())} besides")
    return outcome[0]


def _changed(data: bytes, case: Case) -> bytes:
    if case["kind"] == "spelling":
        return SPELLINGS[case["spelling"]](data)
    if case["kind"] == "damage":
        return wounded(data, case["wounds"])
    value = OTHER_KIND[case["value"]]
    try:
        return json.dumps(replaced(json.loads(data), case["which"], value)).encode()
    except ValueError:  # not one JSON document: lines of words or of JSON
        lines = data.decode().splitlines()
        at = case["which"] % max(1, len(lines))
        try:
            lines[at] = json.dumps(replaced(json.loads(lines[at]), case["which"] // 7, value))
        except ValueError:
            words = lines[at].split(" ")
            words[case["which"] // 7 % len(words)] = str(value)
            lines[at] = " ".join(words)
        return "\n".join(lines).encode()


GEOMETRY: Mapping[str, tuple[str, ...]] = {"coco": ("annotations/*.json",), "yolo": ("labels/*/*.txt",)}
"""Format -> its files of numbers. The text of other formats is labels, where another value is another label."""
KINDS: Mapping[str, Mapping[str, SearchStrategy[Any]]] = {
    "spelling": {"spelling": st.sampled_from(tuple(SPELLINGS))},
    "other value": {"which": st.integers(0, 200), "value": st.integers(0, len(OTHER_KIND) - 1)},
    "damage": {"wounds": wounds()},
}


def _target(format_name: str, kind: str) -> Target:
    cases = {"format": st.just(format_name), "kind": st.just(kind), "file": st.integers(0, 9), **KINDS[kind]}
    return Target(f"{format_name}, {kind}", st.fixed_dictionaries(cases), _check)


def _check_data_set(case: Case, folder: Path) -> Outcome:
    """A data set folder of our own whose ``metadata.jsonl`` was edited or damaged."""
    source = _exported("coco").parent / "data"
    data = (source / METADATA_FILE).read_bytes()
    (folder / METADATA_FILE).write_bytes(_changed(data, case))
    shutil.copy(source / "dataset.json", folder)
    with refusal_admitted(True) as outcome:
        found = [(record.isic_id, record.diagnosis, record.split) for record in read_metadata(folder)]
        if case["kind"] == "spelling":
            truth = [(record.isic_id, record.diagnosis, record.split) for record in read_metadata(source)]
            demand(found == truth, f"{found}")
    return outcome[0]


TARGETS = [
    *(_target(name, kind) for name in FORMATS for kind in KINDS if kind != "other value" or name in GEOMETRY),
    *(
        Target(f"data set, {kind}", st.fixed_dictionaries({"kind": st.just(kind), **KINDS[kind]}), _check_data_set)
        for kind in ("spelling", "damage")
    ),
]
