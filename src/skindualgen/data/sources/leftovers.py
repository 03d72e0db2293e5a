"""What a source folder holds and nobody reads, with its reason: nothing is passed over without a word."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from skindualgen.data.sources.base import Listing, Tree, stem
from skindualgen.data.sources.names import place, word_set
from skindualgen.data.sources.survey import some

UNREAD_PICTURES = word_set(
    ".heic .heif .avif .dng .cr2 .cr3 .nef .arw .orf .rw2 .raw .psd .svg .eps .jxl .jfif .jpe .j2k .jpf .jpx .ppm .pgm "
    ".pbm .dcm .dicom .nii .gz .mha .nrrd .npy .npz .tga .ico .mp4 .mov"
)
UNREAD_TABLES = word_set(".xlsx .xls .ods .parquet .feather .arrow .pkl .sqlite .db .mat .h5 .hdf5")
OUR_REPORTS = re.compile(r"(rejected|adjusted|audit)\.csv|dataset\.json|trained_on\.json", re.IGNORECASE)
"""What `prepare` and `generate` write next to the pictures of a data set."""


def list_leftovers(listing: Listing, tree: Tree) -> None:
    """Reject pictures and tables that nobody can read, and note all other files that are not used.

    Used is what a candidate, a rejection or ``listing.used`` names, and what the reader asked for by its name.
    """
    known = {file for candidate in listing.candidates for file in candidate.files}
    known |= {re.sub(r":\d+$", "", rejection.file) for rejection in listing.rejections}
    known |= {file for file, _ in listing.repeats} | listing.used | tree.asked
    rest: list[str] = []
    for file in tree.files:
        if file in known:
            continue
        ending = PurePosixPath(file).suffix.lower()
        if ending in UNREAD_PICTURES or (place(file).kind in ("image", "mask") and listing.layout == "folder"):
            detail = f"ending {ending or '(none)'}; save it as PNG or JPEG"
            if place(file).kind == "mask" and ending in (".txt", ".json", ".xml"):
                detail = f"ending {ending}; outlines of other tools are read by import-data"
            listing.reject(stem(file), file, "not_an_image", detail)
        elif ending in UNREAD_TABLES:
            listing.reject("", file, "table_not_read", f"ending {ending}; save it as metadata.csv")
        elif not OUR_REPORTS.fullmatch(file):
            rest.append(file)
    if rest:
        listing.notes.append(f"{len(rest)} other files are not used ({_endings(rest)}): {some(rest)}")
    if listing.repeats:
        first, other = listing.repeats[0]
        count = len(listing.repeats)
        listing.notes.append(
            f"{count} files are byte for byte another of the same id, counted once: {first} as {other}"
        )


def _endings(files: Iterable[str]) -> str:
    counts = Counter(PurePosixPath(file).suffix.lower() or "no ending" for file in files)
    return ", ".join(f"{ending} {count}" for ending, count in sorted(counts.items()))
