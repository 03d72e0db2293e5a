"""Problems that photographs and masks show: every pair is read once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from skindualgen.contracts import InputError, PairRecord, Report
from skindualgen.data.audit import near_duplicates
from skindualgen.data.dataset import Dataset
from skindualgen.data.reading import read_pair
from skindualgen.judges.leaks import NEAR_DUPLICATE_BITS
from skindualgen.metrics.skin_tone import CATEGORIES, tone_of
from skindualgen.planning.tones import measure_tones
from skindualgen.readiness.masks import DOUBTS, doubt_of
from skindualgen.readiness.results import MaskLook, Problem, some

MOST = 0.5
"""Share of the masks above which doubtful ones are the rule, as where a source marks the skin and not the lesion."""
TONES_MEASURED = 48
"""Photographs whose skin tone is measured, evenly spaced over the training photographs."""
LEAST_RESOLUTION_PX = 64


@dataclass
class Pictures:
    """What the files of a data set hold.

    Attributes:
        readable: the records of which all can be read.
        sizes: id -> width and height of its photograph in px.
        masks: what the masks look like.
        unreadable: id -> what is wrong with a file.
    """

    readable: list[PairRecord] = field(default_factory=list)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    masks: list[MaskLook] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


def look_at(data: Dataset, report: Report) -> Pictures:
    """Read all pairs; several classes of a mask are one lesion."""
    found = Pictures()
    for done, record in enumerate(data):
        report(done, len(data))
        try:
            image, mask = read_pair(data.root, record)
        except InputError as error:
            found.unreadable[record.isic_id] = error.got
            continue
        found.readable.append(record)
        found.sizes[record.isic_id] = image.size
        if mask is not None:
            lesion = np.asarray(mask) > 0
            found.masks.append(MaskLook(record, float(lesion.mean()), doubt_of(lesion)))
    report(len(data), len(data))
    return found


def file_problems(found: Pictures) -> list[Problem]:
    """Return files that cannot be read, and masks that are probably wrong."""
    total = len(found.readable) + len(found.unreadable)
    what = f"pairs that cannot be read ({next(iter(found.unreadable.values()), '')})"
    remedy = "bring the files back, or prepare them again: skindualgen prepare SRC NEW"
    problems = some("unreadable", what, list(found.unreadable), total, remedy, "stop")
    remedy = "look at them (--sheet), then mend them in SRC and prepare it again, or reject them in skindualgen ui"
    for name, what in DOUBTS.items():
        ids, total = [look.record.isic_id for look in found.masks if look.doubt == name], len(found.masks)
        problems += some(
            f"mask_{name}", f"masks {what}", ids, total, remedy, "stop" if len(ids) > MOST * total else "fix"
        )
    return problems


def size_problems(found: Pictures, native_px: int) -> list[Problem]:
    """Return photographs whose shorter side is less than that of the pictures that a base was trained on."""
    sides = {name: min(size) for name, size in found.sizes.items()}
    small = [name for name, side in sides.items() if side < native_px]
    remedy = f"prepare larger ones: skindualgen prepare SRC NEW --size {native_px}"
    if small and (least := min(sides.values())) >= LEAST_RESOLUTION_PX:
        remedy += f"; or train at their size: skindualgen train --resolution {least // 8 * 8}"
    return some("small", f"photographs smaller than the base's {native_px} px", small, len(sides), remedy)


def shape_problems(found: Pictures) -> list[Problem]:
    """Return photographs that are not square, which judges and benchmark refuse."""
    ids = [name for name, (width, height) in found.sizes.items() if width != height]
    remedy = "cut or fill them: skindualgen prepare SRC NEW --crop centre (or pad)"
    return some("not_square", "photographs that are not square", ids, len(found.sizes), remedy, "stop")


def near_problems(data: Dataset) -> tuple[list[Problem], list[str]]:
    """Return pictures of two splits that are near-duplicates, and as a note those that only look alike."""
    across = [pair for pair in near_duplicates(data) if pair.across]
    near = [f"{pair.first} and {pair.second}" for pair in across if pair.distance_bits <= NEAR_DUPLICATE_BITS]
    remedy = f"see them all: skindualgen prepare {data.root} --audit; reject one of each in skindualgen ui"
    alike = len(across) - len(near)
    notes = [f"pictures of two splits that look alike, and may be of one patient: {alike}"] if alike else []
    found = f"near-duplicates in two splits: {len(near)}"
    return [Problem("near_duplicate", "fix", found, remedy, tuple(near))] if near else [], notes


def tone_notes(data: Dataset, report: Report) -> list[str]:
    """Say which skin tones a sample of the training photographs has; nothing if none can be measured."""
    masked = [record for record in data.split("train").with_masks() if record.origin == "real"]
    sample = masked[:: max(1, len(masked) // TONES_MEASURED)][:TONES_MEASURED]
    tones = Counter(record.skin_tone for record in measure_tones(data.root, sample, tone_of, report))
    measured = [f"{name} {tones[name]}" for name in CATEGORIES if tones[name]]
    missing = [name for name in CATEGORIES if not tones[name]]
    line = f"skin tones of {sum(tones[name] for name in CATEGORIES)} training photographs: {', '.join(measured)}"
    line += f"; what is learnt says nothing of {', '.join(missing)} skin" if missing else ""
    return [line] if measured else []
