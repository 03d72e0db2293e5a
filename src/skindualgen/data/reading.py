"""Files of a data set folder, for every command that reads one: what is wrong with a file is said in one line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.decoding import FORMATS, ItemError
from skindualgen.data.images import Photograph, load_photograph
from skindualgen.data.mask_classes import IGNORED_LEVELS, read_class_mask, read_mask_classes
from skindualgen.data.masks import RESIZED, load_mask


def read_photograph(path: Path) -> Photograph:
    """Read a photograph of a data set folder: upright 8-bit RGB.

    Raises:
        InputError: it is missing, or cannot be used; the file is named.
    """
    _check_there(path)
    try:
        return load_photograph(path)
    except ItemError as error:
        raise error.input_error(str(path)) from None


def read_pair(root: Path, record: PairRecord, *, levels: bool = False) -> tuple[Image.Image, Image.Image | None]:
    """Read the photograph of a record, RGB, and its mask, L with 0 and 255 and the photograph's size, if it has one.

    A mask of a data set folder may have no lesion, as a picture of skin alone has. Of a mask of several classes
    (`skindualgen.data.mask_classes`) this is the whole lesion, or with ``levels`` the classes' own levels.

    Raises:
        InputError: a file is missing or cannot be used, or the mask is of another size; the file is named.
    """
    photograph = read_photograph(root / record.file_name)
    if record.mask_file_name is None:
        return photograph.image, None
    path = root / record.mask_file_name
    _check_there(path)
    classes = read_mask_classes(root)
    try:
        if len(classes) > 1:
            mask = read_class_mask(path, classes, photograph.image.size)
            return photograph.image, mask if levels else mask.point(lambda level: 255 if level else 0)
        mask, adjustments = load_mask(path, photograph, allow_uniform=True)
    except ItemError as error:
        raise error.input_error(str(path)) from None
    if any(code == RESIZED for code, _ in adjustments):
        got = f"{record.isic_id}: {photograph.image.size} with a mask of {_stored_size(path)} px"
        raise InputError(got, f"one size of {path} and its photograph", "prepare them with `skindualgen prepare`")
    return photograph.image, mask


def read_mask(path: Path) -> Image.Image:
    """Read a mask of the lesion without its photograph: L, 0 or 255; it may have no lesion.

    Raises:
        InputError: it is missing or cannot be used; the file is named.
    """
    _check_there(path)
    try:
        return load_mask(path, allow_uniform=True)[0]
    except ItemError as error:
        raise error.input_error(str(path)) from None


def read_ignore(root: Path, record: PairRecord) -> Image.Image | None:
    """Read which pixels of a pair are not to be learnt from or counted: L, 255 there and 0 elsewhere; None if none are.

    Raises:
        InputError: a file is missing or cannot be used, has other levels, or is of another size than the mask.
    """
    if record.ignore_file_name is None:
        return None
    path = root / record.ignore_file_name
    _check_there(path)
    try:
        return read_class_mask(path, IGNORED_LEVELS, _stored_size(root / str(record.mask_file_name)))
    except ItemError as error:
        raise error.input_error(str(path)) from None


def resized_square(picture: Image.Image, side_px: int, name: str) -> Image.Image:
    """Bring a square photograph (by antialiased Lanczos) or mask (L, by nearest neighbour) to a side in px.

    Real and generated pictures all go through it, so that neither holds other traces of resizing.

    Raises:
        InputError: it is not square; the message says ``name``.
    """
    if picture.width != picture.height:
        got = f"{Path(name).name} of {picture.width} x {picture.height} px"
        raise InputError(got, "a square picture", "run `skindualgen prepare`")
    if picture.width == side_px:
        return picture
    how = Image.Resampling.NEAREST if picture.mode == "L" else Image.Resampling.LANCZOS
    return picture.resize((side_px, side_px), how)


def smallest_side(root: Path, records: Iterable[PairRecord]) -> int:
    """Return the smallest side in px of the photographs of the records, from the headers of the files; 0 if none.

    Raises:
        InputError: a file is missing or is no picture; it is named.
    """
    return min((min(_stored_size(root / record.file_name)) for record in records), default=0)


def check_files(root: Path, records: Iterable[PairRecord]) -> None:
    """Check that every file which the records name is there.

    Raises:
        InputError: the first that is not.
    """
    for record in records:
        for name in record.files:
            _check_there(root / name)


def _stored_size(path: Path) -> tuple[int, int]:
    _check_there(path)
    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:  # reads the header only
            return image.size
    # Headers of damaged files raise nearly anything: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise ItemError("damaged_image", f"{type(error).__name__}: {error}").input_error(str(path)) from None


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(
            f"no file {path}", "every file that the metadata names", "restore it, or run `skindualgen prepare` again"
        )
