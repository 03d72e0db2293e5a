"""Where the pictures of a YOLO data set lie, and what its classes are called.

Source: https://docs.ultralytics.com/datasets/segment/ (``data.yaml``; folders, lists of folders, or text files of
pictures) and ``ultralytics.data.utils``: ``img2label_paths`` (labels next to ``images/``), ``check_det_dataset``
(``../train/images``, as Roboflow writes, is then looked for without ``../``);
https://docs.cvat.ai/docs/dataset_management/formats/format-yolo-ultralytics/ (``train.txt``).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from skindualgen.contracts import InputError, Split
from skindualgen.data.images import SUFFIXES
from skindualgen.data.sources.values import SPLIT_NAMES
from skindualgen.exchange.formats import optional_package
from skindualgen.exchange.source import Source, short, split_of_parts

DATA_FILE = "data.yaml"
IMAGES, LABELS = "images", "labels"
PARENT = "../"
DARKNET_NAMES = r"obj\.names"
"""File of the older format, whose annotations are boxes alone."""


@dataclass(frozen=True)
class Picture:
    """A picture, its label file, whether or not that is there, and the split that the data set puts it in, if any."""

    file: str
    labels: str
    split: Split | None


@dataclass(frozen=True)
class Layout:
    """Number of a class -> its name, and all pictures by name."""

    names: Mapping[int, str]
    pictures: list[Picture]


def read_layout(source: Source) -> Layout:
    """Read ``data.yaml`` and find the pictures: those that it names, or all in folders ``images``.

    Raises:
        InputError: no such file or a damaged one; a list that it names is not there; a picture in two splits.
    """
    file, content = _data_file(source)
    if "kpt_shape" in content:
        raise InputError(f"{file} with kpt_shape: key points", "polygons", "export the data set for segmentation")
    names = _class_names(file, content)
    stated = {key: value for key, value in content.items() if str(key).lower() in SPLIT_NAMES and value}
    splits: dict[str, Split | None] = {}
    if stated:
        folder = posixpath.dirname(file)
        _note_root(source, file, content)
        for key, value in stated.items():
            for picture in _pictures(source, f"{key} of {file}", folder, value):
                split = SPLIT_NAMES[str(key).lower()]
                if splits.setdefault(picture, split) != split:
                    raise InputError(
                        f"{picture} in {splits[picture]} and {split} of {file}",
                        "each picture in one split",
                        "part them",
                    )
    else:
        splits = {file: split_of_parts(file) for file in source.images() if IMAGES in _folders(file)}
    if not splits:
        raise InputError(
            f"{source.root} without pictures in images/SPLIT/ or SPLIT/images/",
            "images/train/*.png",
            "choose its format",
        )
    if None in splits.values():
        source.note("pictures in folders that name no split are of train")
    pictures = [Picture(name, _labels_of(name), split) for name, split in sorted(splits.items())]
    for labels in sorted(set(source.named(r".*\.txt")) - {picture.labels for picture in pictures}):
        if LABELS in _folders(labels):
            source.leave_out(labels, "labels_without_picture", "no picture of this name in the data set")
    return Layout(names, pictures)


def _data_file(source: Source) -> tuple[str, dict[str, Any]]:
    yaml = optional_package("yaml")
    files = source.named(r"data\.ya?ml") or source.named(r".*\.ya?ml")
    if not files and source.named(DARKNET_NAMES):
        raise InputError(
            f"{source.root} without {DATA_FILE}, but with obj.names: boxes alone",
            "polygons",
            "export it as Ultralytics YOLO Segmentation",
        )
    if len(files) != 1:
        got = f"{' and '.join(files[:3])} in {source.root}" if files else f"no file {source.root / DATA_FILE}"
        raise InputError(got, f"one {DATA_FILE} with the names of the classes", "choose its format")
    try:
        content = yaml.safe_load(source.text(files[0]))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{files[0]}: {' '.join(str(error).split())}", "a mapping with names", "fix it") from None
    if not isinstance(content, dict):
        raise InputError(f"{files[0]}, which is no mapping", "a mapping with names", "fix it")
    return files[0], content


def _class_names(file: str, content: Mapping[str, Any]) -> dict[int, str]:
    names = content.get("names")
    rows = list(names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ())
    if not rows:
        raise InputError(f"{file} without names", "the names of the classes, as a list or by number", "write them")
    found: dict[int, str] = {}
    for row, name in rows:
        whole = isinstance(row, int) or (isinstance(row, str) and row.isdecimal())
        if isinstance(row, bool) or not whole or int(row) < 0 or int(row) in found:
            raise InputError(f"{file} with the class number {short(row)}", "whole numbers from 0, each once", "fix it")
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{file} with the class name {short(name)}", "text", "write it in quotation marks")
        found[int(row)] = name
    count = content.get("nc")
    if count is not None and (isinstance(count, bool) or count != len(found)):
        raise InputError(f"{file} with nc {short(count)} and {len(found)} names", "as many names as classes", "fix it")
    return found


def _note_root(source: Source, file: str, content: Mapping[str, Any]) -> None:
    """Say that ``path``, which names the data set's folder on somebody's machine, is not looked at."""
    root = content.get("path")
    if root is not None and str(root).rstrip("/") not in (".", ""):
        source.note(f"path {short(str(root))} of {file} is not used: its folders are looked for next to it")


def _pictures(source: Source, where: str, folder: str, value: Any) -> Iterator[str]:
    """Yield the pictures that a folder, a text file of pictures, or a list of these stands for."""
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, str):
            raise InputError(f"{where}: {short(item)}", "a folder, or a text file of pictures", "fix it")
        paths = _paths(where, folder, item)
        if item.lower().endswith(".txt"):
            yield from _listed(source, where, folder, paths)
            continue
        found = [[name for name in source.below(path) if name.lower().endswith(SUFFIXES)] for path in paths]
        files = next(filter(None, found), [])
        if not files:
            source.note(f"{where}: no picture in {item}")
        yield from files


def _paths(where: str, folder: str, item: str) -> list[str]:
    """Return what a path of ``data.yaml`` may mean in the source, "" being that itself.

    Roboflow writes ``../`` before folders that lie next to ``data.yaml``.
    """
    text = item.replace("\\", "/").strip()
    paths = []
    for variant in dict.fromkeys((text, text.removeprefix("./").removeprefix(PARENT))):
        path = posixpath.normpath(posixpath.join(folder, variant))
        if not path.startswith(("..", "/")) and not re.match(r"[A-Za-z]:", path):
            paths.append("" if path == "." else path)
    if not paths:
        raise InputError(f"{where}: {short(item)}, outside of the folder", "a path next to data.yaml", "write it so")
    return paths


def _listed(source: Source, where: str, folder: str, paths: list[str]) -> Iterator[str]:
    file = next((path for path in paths if path in source.files), None)
    if file is None:
        raise InputError(f"{where}: no file {paths[0]}", "a text file of pictures", "restore it")
    folders = dict.fromkeys((folder, posixpath.dirname(file)))
    for number, line in enumerate(source.text(file).splitlines(), start=1):
        if not (name := line.strip()):
            continue
        place = f"{file}, line {number}"
        found = source.meant(name.removeprefix("./"), folders, place)
        if not found or not found[0].lower().endswith(SUFFIXES):
            raise InputError(f"{place}: no picture {name}", "a picture of the folder", "restore it, or remove the line")
        yield found[0]


def _labels_of(file: str) -> str:
    """Return the label file of a picture: in ``labels`` for the last ``images`` of its folders, or else next to it."""
    pure = PurePosixPath(file)
    parts = list(pure.parts)
    folders = _folders(file)
    if IMAGES in folders:
        place = len(folders) - 1 - folders[::-1].index(IMAGES)
        parts[place] = LABELS
    return str(PurePosixPath(*parts).with_suffix(".txt"))


def _folders(file: str) -> list[str]:
    return [part.lower() for part in PurePosixPath(file).parent.parts]
