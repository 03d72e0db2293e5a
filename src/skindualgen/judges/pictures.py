"""The one type for pictures that are judged: a data set's photographs and masks in memory, at one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.audit import record_links
from skindualgen.data.dataset import Dataset
from skindualgen.data.reading import resized_square
from skindualgen.data.splits import connected_components
from skindualgen.data.terms import diagnosis_term
from skindualgen.files import sha256_bytes, sha256_file
from skindualgen.judges.features import FeatureExtractor, dihedral_views


@dataclass(frozen=True, eq=False)
class PictureSet:
    """Photographs at one size with their masks, their records, and their features once these are asked for.

    Attributes:
        data: folder and records; diagnoses are the ISIC Archive's terms, None where not known.
        images: RGB uint8 [n, s, s, 3]; n may be 0.
        masks: bool [n, s, s], True is lesion; empty where the record has no mask.
        ignored: bool [n, s, s], True where pixels are not to be learnt from or counted; None: there are none.
    """

    data: Dataset
    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None = None
    _features: dict[tuple[FeatureExtractor, bool], list[NDArray[np.float32]]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        if not len(self.data) == len(self.images) == len(self.masks):
            got = f"{len(self.data)} records, {len(self.images)} photographs, {len(self.masks)} masks"
            raise InputError(got, "as many of each", "check the folder's metadata")

    @classmethod
    def of_arrays(
        cls,
        images: NDArray[np.uint8],
        diagnoses: Sequence[str | None] | None = None,
        masks: NDArray[np.bool_] | None = None,
    ) -> PictureSet:
        """Make a set of arrays that are in no folder; ids are the positions."""
        names = diagnoses if diagnoses is not None else [None] * len(images)
        records = [
            PairRecord(
                file_name=f"{i}.png",
                isic_id=str(i),
                diagnosis=diagnosis_term(name),
                mask_file_name=None if masks is None else f"masks/{i}.png",
            )
            for i, name in enumerate(names)
        ]
        return cls(Dataset(Path(), records), images, np.zeros(images.shape[:3], bool) if masks is None else masks)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def has_mask(self) -> NDArray[np.bool_]:
        """Which photographs have a mask, [n]."""
        return np.array([record.mask_file_name is not None for record in self.data], bool)

    @cached_property
    def diagnoses(self) -> list[str | None]:
        """The diagnosis of each photograph."""
        return [record.diagnosis for record in self.data]

    @cached_property
    def named_diagnoses(self) -> list[str]:
        """The diagnoses that are there, sorted."""
        return sorted({name for name in self.diagnoses if name is not None})

    @cached_property
    def ids(self) -> list[str]:
        """The id of each photograph."""
        return [record.isic_id for record in self.data]

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """How often a training draws each pair, [n]; 1 where its record does not say."""
        return np.array([1.0 if record.weight is None else record.weight for record in self.data], np.float64)

    @cached_property
    def groups(self) -> list[str]:
        """[n], the same name for photographs of one lesion or patient, even if what ties them was not taken along."""
        groups = [""] * len(self)
        for component in connected_components([record_links(record) for record in self.data]):
            for position in component:
                groups[position] = self.data[component[0]].isic_id
        return groups

    @cached_property
    def digests(self) -> list[str]:
        """A hash of each item's files and diagnosis."""
        root, digests = self.data.root, []
        for record in self.data:
            image, *others = [sha256_file(root / name) for name in record.files]
            content = "|".join([image, *(others or [""]), str(record.diagnosis)])
            digests.append(sha256_bytes(content.encode()))
        return digests

    def of_diagnosis(self, name: str | None) -> NDArray[np.bool_]:
        """Which photographs have this diagnosis, [n]."""
        return np.array([diagnosis == name for diagnosis in self.diagnoses], bool)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.integer]) -> PictureSet:
        """Return the photographs that are marked True [n], or those at these positions, in that order."""
        positions = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        if np.array_equal(positions, np.arange(len(self))):
            return self
        records = [self.data.records[position] for position in positions]
        ignored = None if self.ignored is None else self.ignored[positions]
        taken = PictureSet(Dataset(self.data.root, records), self.images[positions], self.masks[positions], ignored)
        vars(taken)["groups"] = [self.groups[position] for position in positions]
        if "digests" in vars(self):  # the files are not read again
            vars(taken)["digests"] = [self.digests[position] for position in positions]
        return taken

    def with_masks(self) -> PictureSet:
        """Return the photographs that have a mask."""
        return self.take(self.has_mask)

    def features(self, extractor: FeatureExtractor) -> NDArray[np.float32]:
        """Return the features [n, d] of the photographs, computed once for each extractor."""
        return self._views(extractor, all_eight=False)[0]

    def view_features(self, extractor: FeatureExtractor) -> list[NDArray[np.float32]]:
        """Return the features [n, d] of each of the 8 flips and quarter turns, the photographs as they are first."""
        return self._views(extractor, all_eight=True)

    def _views(self, extractor: FeatureExtractor, *, all_eight: bool) -> list[NDArray[np.float32]]:
        key = (extractor, all_eight)
        if key not in self._features:
            views = dihedral_views(self.images)[1:] if all_eight else []
            upright = [extractor(self.images)] if not all_eight else self._views(extractor, all_eight=False)
            self._features[key] = [*upright, *(extractor(view) for view in views)]
        return self._features[key]


def read_pictures(data: Dataset, size_px: int) -> PictureSet:
    """Read all photographs, masks and ignored pixels, reduced to one size; diagnoses become the ISIC Archive's terms.

    Raises:
        InputError: a file is missing, damaged or not square.
    """
    ignored = data.ignored(size_px) if data.has_ignored else None
    return PictureSet(in_terms(data), data.images(size_px), data.masks(size_px), ignored)


def in_terms(data: Dataset) -> Dataset:
    """Return the records with the ISIC Archive's terms of their diagnoses, so that two spellings are one class."""
    changed = [record.model_copy(update={"diagnosis": diagnosis_term(record.diagnosis)}) for record in data]
    return Dataset(data.root, changed)


def at_side(images: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Resize square photographs [n, s, s, 3] as those of a folder are resized."""
    if images.shape[1] == side_px:
        return images
    resized = [np.asarray(resized_square(Image.fromarray(image), side_px, "a photograph")) for image in images]
    return np.array(resized, np.uint8).reshape(-1, side_px, side_px, 3)
