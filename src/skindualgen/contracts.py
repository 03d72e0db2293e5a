"""Vocabulary that every room shares: the record of a pair, the data set layout's names, the error family."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

SCHEMA_VERSION = 1
IMAGES_DIR = "images"
MASKS_DIR = "masks"
ANNOTATORS_DIR = "masks_annotators"
"""Where several annotators' masks of one photograph are kept: ``<stem>.1.png``, ``<stem>.2.png``, ... by name."""
IGNORED_DIR = "masks_ignore"
"""Pictures of the pixels that are not to be learnt from or counted, L: 255 there and 0 elsewhere."""
METADATA_FILE = "metadata.jsonl"
DATASET_FILE = "dataset.json"
REJECTED_FILE = "rejected.csv"
"""Items of a source folder that `prepare` does not use, with their reasons."""
REJECTS_FILE = "rejected.jsonl"
"""Records of generated pairs that the gate refused, with their reasons."""
SHARDS_DIR = "shards"
"""Of a generated folder: its pairs in WebDataset shards."""
THUMBNAILS_DIR = "rejected"
"""Of a generated folder: small pictures of what the gate refused."""
CHOOSER_FIELD = "classifier_sha256"
"""Of a generated pair's record: hash of the classifier that chose it among candidates."""
SHEET_FILE = "contact_sheet.png"
"""Overview of a generated folder, which is no picture of it."""

HASH_FIELDS = {"file_name": "sha256", "mask_file_name": "mask_sha256", "ignore_file_name": "ignore_sha256"}
"""Field of a record that names a file -> field of the file's hash: all that a record may name, the photograph first."""
FILE_FIELDS = frozenset({*HASH_FIELDS, *HASH_FIELDS.values()})
"""Fields of a record that are of its files in one folder."""

Split = Literal["train", "val", "test"]
Origin = Literal["real", "synthetic"]

Report = Callable[[int, int], None]
"""Progress of long work: called with the number of items done and of all."""


class SkinDualGenError(Exception):
    """Base of all errors that the library raises on purpose."""


class InputError(SkinDualGenError):
    """The user's input cannot be used: what was got, what was expected, what to do. Command line exit code 2."""

    def __init__(self, got: str, expected: str, remedy: str) -> None:
        self.got, self.expected, self.remedy = got, expected, remedy
        # A library's own words, and names of files, may hold line ends: the message is one line.
        super().__init__(" ".join(f"got {got}; expected {expected}; {remedy}".splitlines()))


def listed(names: Sequence[object], shown: int) -> str:
    """Return the first ``shown`` names for a message, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(str, names[:shown])) + more


def first_not_finite(value: Any, place: str = "") -> str | None:
    """Return place and value of the first number in nested lists and mappings that is not finite; None without one.

    Args:
        value: as JSON holds it.
        place: what stands before the place in the text, such as a field's name.
    """
    rest = [(place, value)]
    while rest:  # not by recursion: what a file nests has any depth
        name, item = rest.pop()
        if isinstance(item, float) and not math.isfinite(item):
            return f"{name} is {item}"
        if isinstance(item, dict):
            parts = [(f"{name}.{key}" if name else str(key), part) for key, part in item.items()]
            rest += reversed(parts)
        elif isinstance(item, list | tuple):
            rest += reversed([(f"{name}[{row}]", part) for row, part in enumerate(item)])
    return None


class PairRecord(BaseModel):
    """One line of ``metadata.jsonl``: a photograph, real or synthetic, its mask if any, and what is known of it.

    Attribute names follow the ISIC Archive's metadata. Paths are POSIX, relative to the data set folder. Fields
    unknown to this version are kept, so that a file from elsewhere survives a round trip. A number that is not finite,
    and true or false where a number is meant, are refused in all of them.

    Of a generated pair: ``plan_row`` is the line of the plan that asked for it (0 is the first), ``attempt`` counts the
    attempts that the gate refused before it, ``extrapolation`` says that its combination of attributes was not seen in
    training, and ``skin_tone`` is the tone that its prompt asks for. ``appearance`` says in words what the photograph
    looks like (:mod:`skindualgen.data.appearance`): measured of a real pair, asked for of a generated one.

    Where nobody knows whether pixels are lesion, ``ignore_file_name`` names a picture of the mask's size, L with 255 at
    these pixels and 0 elsewhere: segmenters do not learn from them, and measures do not count them. ``weight`` says how
    often a benchmark's training draws the pair: 1 if not given, 0.5 half as often as a pair of weight 1.
    """

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    file_name: str
    mask_file_name: str | None = None
    isic_id: str
    prompt: str | None = None
    diagnosis: str | None = None
    benign_malignant: str | None = None
    age_approx: int | None = Field(default=None, ge=0, le=120)
    sex: str | None = None
    anatom_site_general: str | None = None
    lesion_id: str | None = None
    patient_id: str | None = None
    split: Split = "train"
    origin: Origin = "real"
    source: str | None = None
    license: str | None = None
    sha256: str | None = None
    mask_sha256: str | None = None
    ignore_file_name: str | None = None
    ignore_sha256: str | None = None
    seed: int | None = None
    adapter_sha256: str | None = None
    base_sha256: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    skin_tone: str | None = None
    appearance: str | None = None
    plan_row: int | None = Field(default=None, ge=0)
    attempt: int | None = Field(default=None, ge=0)
    extrapolation: bool | None = None
    scores: dict[str, float] | None = None
    weight: float | None = Field(default=None, gt=0)

    @field_validator(
        "age_approx", "seed", "num_inference_steps", "guidance_scale", "plan_row", "attempt", "weight", mode="before"
    )
    @classmethod
    def _no_truth_value(cls, value: Any) -> Any:
        # Pydantic takes true for 1.
        if isinstance(value, bool):
            raise ValueError(f"{value} where a number is expected")
        return value

    @field_validator("isic_id")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("an empty id")
        return value

    @property
    def files(self) -> dict[str, str | None]:
        """Each file that the record names, the photograph first, with its recorded hash; None where there is none."""
        named = {getattr(self, name): getattr(self, sha256) for name, sha256 in HASH_FIELDS.items()}
        return {name: sha256 for name, sha256 in named.items() if name is not None}

    @property
    def stray_path(self) -> str | None:
        """The first file name that is no path inside a data set folder; None without one."""
        for name in self.files:
            path = PurePosixPath(name)
            inside = path.parts and not path.is_absolute() and ".." not in path.parts
            if not inside or "\\" in name or "\0" in name:
                return name
        return None

    @property
    def by_model(self) -> bool:
        """Whether a generator has made the photograph, or has read the mask of a real one."""
        return self.origin == "synthetic" or self.adapter_sha256 is not None

    @model_validator(mode="after")
    def _ignored_of_a_mask(self) -> PairRecord:
        if self.ignore_file_name is not None and self.mask_file_name is None:
            raise ValueError("ignore_file_name without mask_file_name")
        return self

    @model_validator(mode="after")
    def _finite(self) -> PairRecord:
        if self.model_extra and (found := first_not_finite(self.model_extra)) is not None:
            raise ValueError(f"{found}, which is no finite number")
        return self


def each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, as ``object_pairs_hook``.

    Raises:
        ValueError: it has a name twice, of which Python would keep the last.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} twice in one object")
    return values


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Return the first field that is wrong, empty for the whole record, and what is wrong with it."""
    first = error.errors()[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"]
