"""Skin tones of real photographs, for plans by tone: measured by whoever asks, as this room must not know how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from skindualgen.contracts import InputError, PairRecord, Report
from skindualgen.data.reading import read_pair
from skindualgen.data.terms import known

TONE_SIDE_PX = 256
"""Longer side to which a photograph is reduced before its skin tone is measured."""

ToneOf = Callable[[NDArray[np.uint8], NDArray[np.bool_]], str | None]
"""Photograph [h, w, 3] and mask [h, w] (True is lesion) -> the tone of the skin outside the mask, a term of
`skindualgen.data.labels.TONES`; None where too little skin is to be seen. `skindualgen.metrics.skin_tone` tells."""


def measure_tones(
    root: Path, records: Sequence[PairRecord], tone_of: ToneOf, report: Report = lambda done, total: None
) -> list[PairRecord]:
    """Records with the skin tone of real photographs that have a mask and no tone yet, measured outside the lesion.

    Photographs with too little skin, or without a mask, stay without a tone.

    Args:
        root: the data set folder.
        records: of it.
        tone_of: measures one photograph.
        report: progress.

    Raises:
        InputError: a photograph or mask cannot be read, or they differ in size.
    """
    measured = []
    for done, record in enumerate(records):
        report(done, len(records))
        if record.origin == "real" and record.mask_file_name is not None and known(record.skin_tone) is None:
            record = record.model_copy(update={"skin_tone": tone_of(*_pictures(root, record))})
        measured.append(record)
    report(len(records), len(records))
    return measured


def _pictures(root: Path, record: PairRecord) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    image, mask = read_pair(root, record)
    if mask is None:
        raise InputError(f"{record.isic_id} without a mask", "an image and a mask", "leave this record out")
    image.thumbnail((TONE_SIDE_PX, TONE_SIDE_PX), Image.Resampling.LANCZOS)
    mask = mask.resize(image.size, Image.Resampling.NEAREST)
    return np.asarray(image), np.asarray(mask) > 0
