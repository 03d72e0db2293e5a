"""A data set folder as one object: its records, their pictures and masks, and a torch view for training loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import counts, manifest_sha256, read_dataset_info, read_metadata, write_dataset
from skindualgen.data.mask_classes import MaskClasses, read_mask_classes
from skindualgen.data.reading import (
    check_files,
    read_ignore,
    read_pair,
    read_photograph,
    resized_square,
    smallest_side,
)
from skindualgen.data.review import used_of_split
from skindualgen.files import sha256_bytes, sha256_file

if TYPE_CHECKING:
    from skindualgen.data.tensors import TensorPairs


class Dataset(Sequence[PairRecord]):
    """Records of a data set folder, as ``skindualgen prepare`` and ``generate`` write it, and what their files hold.

    A sequence of records: ``len(data)``, ``data[3]``, ``for record in data``; a slice is a smaller data set.

    Args:
        root: the folder.
        records: some of its records.
        rejected: how many pairs were left out, as a reviewer has rejected them.
    """

    def __init__(self, root: str | Path, records: Sequence[PairRecord], rejected: int = 0) -> None:
        self.root, self.records, self.rejected = Path(root), list(records), rejected

    @classmethod
    def open(cls, root: str | Path, split: str | None = None, *, rejected: bool = False) -> Dataset:
        """Open a folder.

        Args:
            root: the folder.
            split: "train", "val" or "test"; all if not given.
            rejected: also the pairs that a reviewer has rejected.

        Raises:
            InputError: no data set folder, a damaged one, nothing in that split, or nothing but rejected pairs in it.
        """
        root = Path(root)
        everything = read_metadata(root, split)
        kept = everything if rejected else used_of_split(root, everything, split)
        return cls(root, kept, len(everything) - len(kept))

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[PairRecord]:
        return iter(self.records)

    @overload
    def __getitem__(self, index: int) -> PairRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> PairRecord | Dataset:
        return Dataset(self.root, self.records[index]) if isinstance(index, slice) else self.records[index]

    def __repr__(self) -> str:
        splits = ", ".join(f"{name} {len(self.split(name))}" for name in self.splits)
        return f"Dataset({str(self.root)!r}: {len(self)} pairs, {splits or 'no split'})"

    @property
    def splits(self) -> list[str]:
        """Names of the splits that have records here."""
        present = {record.split for record in self.records}
        return [name for name in ("train", "val", "test") if name in present]

    @property
    def diagnoses(self) -> list[str]:
        """Names of the diagnoses, sorted; records without one have none here."""
        return sorted({record.diagnosis for record in self.records if record.diagnosis is not None})

    @property
    def info(self) -> dict[str, Any]:
        """What ``dataset.json`` says of the whole folder: hash, counts, how it was made.

        Raises:
            InputError: see `skindualgen.data.manifest.read_dataset_info`.
        """
        return read_dataset_info(self.root)

    @property
    def mask_classes(self) -> MaskClasses:
        """Name of each class of the masks -> its level: the lesion first, then parts of it."""
        return read_mask_classes(self.root)

    @property
    def sha256(self) -> str:
        """Hash of these records, whatever their order; prepared and generated ones hold the hashes of their files."""
        return manifest_sha256(self.records)

    @property
    def counts(self) -> dict[str, Any]:
        """How many records there are: in all, with a mask, and by split, diagnosis within split, and origin."""
        return counts(self.records)

    @property
    def smallest_side_px(self) -> int:
        """The smallest side of the photographs, from the headers of the files; 0 without any.

        Raises:
            InputError: a file is missing or is no picture.
        """
        return smallest_side(self.root, self.records)

    def where(self, keep: Callable[[PairRecord], bool]) -> Dataset:
        """The records for which ``keep`` is true; maybe none."""
        return Dataset(self.root, [record for record in self.records if keep(record)])

    def split(self, name: str) -> Dataset:
        """The records of one split; maybe none."""
        return self.where(lambda record: record.split == name)

    def with_masks(self) -> Dataset:
        """The records that have a mask."""
        return self.where(lambda record: record.mask_file_name is not None)

    def check_files(self) -> None:
        """Raise InputError for the first file of these records that is missing."""
        check_files(self.root, self.records)

    def write(self, made_by: Mapping[str, Any]) -> None:
        """Write ``metadata.jsonl`` and ``dataset.json`` of these records next to their files; mask classes stay.

        Args:
            made_by: how the data set was made (command, options, versions); written as it is.

        Raises:
            InputError: the same ``file_name`` or ``isic_id`` twice, or a path that leaves the folder.
        """
        write_dataset(self.root, self.records, made_by=made_by, mask_classes=self.mask_classes)

    def image(self, index: int) -> Image.Image:
        """The photograph of a record: RGB, upright.

        Raises:
            InputError: the file is missing or damaged.
        """
        return read_photograph(self.root / self.records[index].file_name).image

    def mask(self, index: int) -> Image.Image | None:
        """The mask of a record, L with 0 and the levels of its classes, of the photograph's size; None if it has none.

        One class, the lesion, has the level 255; see `mask_classes`.

        Raises:
            InputError: a file is missing or damaged, or the sizes differ.
        """
        return read_pair(self.root, self.records[index], levels=True)[1]

    def images(self, size_px: int) -> NDArray[np.uint8]:
        """All photographs at one size, larger ones reduced with Pillow's (antialiased) Lanczos filter.

        Returns:
            RGB uint8 [n, size_px, size_px, 3].

        Raises:
            InputError: a file is missing, damaged or not square.
        """
        images = np.empty((len(self), size_px, size_px, 3), np.uint8)
        for image, record in zip(images, self.records, strict=True):
            picture = read_photograph(self.root / record.file_name).image
            image[:] = np.asarray(resized_square(picture, size_px, record.file_name))
        return images

    def masks(self, size_px: int) -> NDArray[np.bool_]:
        """All masks at one size, resized by nearest neighbour: bool [n, size_px, size_px], True is lesion.

        The mask of a record without one is empty here.

        Raises:
            InputError: a file is missing, damaged or not square.
        """
        masks = np.zeros((len(self), size_px, size_px), bool)
        for mask, record in zip(masks, self.records, strict=True):
            picture = read_pair(self.root, record)[1] if record.mask_file_name is not None else None
            if picture is not None:
                mask[:] = np.asarray(resized_square(picture, size_px, str(record.mask_file_name))) > 0
        return masks

    @property
    def has_ignored(self) -> bool:
        """Whether any record names pixels that are not to be learnt from or counted."""
        return any(record.ignore_file_name is not None for record in self.records)

    def ignored(self, size_px: int) -> NDArray[np.bool_]:
        """The pixels that are not to be learnt from or counted, resized as `masks`: bool [n, size_px, size_px].

        False everywhere of a record that names none.

        Raises:
            InputError: a file is missing, damaged or not square.
        """
        ignored = np.zeros((len(self), size_px, size_px), bool)
        for pixels, record in zip(ignored, self.records, strict=True):
            if (picture := read_ignore(self.root, record)) is not None:
                pixels[:] = np.asarray(resized_square(picture, size_px, str(record.ignore_file_name))) > 0
        return ignored

    def content_sha256(self) -> str:
        """One hash over ids, diagnoses and the bytes of all files, whatever the order of the records.

        Raises:
            InputError: a file is missing.
        """
        self.check_files()
        lines = []
        for record in self.records:
            hashes = [sha256_file(self.root / name) for name in record.files]
            lines.append("|".join([record.isic_id, str(record.diagnosis), *hashes]))
        return sha256_bytes("\n".join(sorted(lines)).encode())

    def torch(self, size: int, *, diagnoses: Sequence[str] | None = None) -> TensorPairs:
        """These pairs as a ``torch.utils.data.Dataset``.

        Args:
            size: side in px to which photographs and masks are cut and scaled.
            diagnoses: names in the order of the labels; these records' own, sorted, if not given. Give those of the
                training part for all parts, so that one label means one diagnosis.

        Raises:
            InputError: a size below 1, or a diagnosis that ``diagnoses`` does not name.
        """
        from skindualgen.data.tensors import TensorPairs

        if size < 1:
            raise InputError(f"a size of {size} px", "1 px or more", "change the argument")
        return TensorPairs(self.root, self.records, size, self._labels(diagnoses))

    def files(self, *, diagnoses: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Each pair as a dict for what loads files itself, such as MONAI's dictionary transforms.

        Args:
            diagnoses: as for `torch`.

        Returns:
            ``image`` and, where there is one, ``mask``: paths as text; ``label``: place of the diagnosis, -1 without
            one; ``isic_id``.

        Raises:
            InputError: a diagnosis that ``diagnoses`` does not name.
        """
        names = self._labels(diagnoses)
        items = []
        for record in self.records:
            mask = {} if record.mask_file_name is None else {"mask": str(self.root / record.mask_file_name)}
            label = -1 if record.diagnosis is None else names.index(record.diagnosis)
            items.append(
                {"image": str(self.root / record.file_name), **mask, "label": label, "isic_id": record.isic_id}
            )
        return items

    def _labels(self, diagnoses: Sequence[str] | None) -> list[str]:
        """The names in the order of the labels, all of these records' among them."""
        names = self.diagnoses if diagnoses is None else list(diagnoses)
        unknown = sorted(set(self.diagnoses) - set(names))
        if unknown:
            got = f"the diagnoses {', '.join(unknown)}"
            raise InputError(got, f"one of {', '.join(names)}", "change the argument")
        return names
