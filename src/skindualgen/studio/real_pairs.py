"""A real pair to start from: one of the workspace's data sets, or an uploaded one; how, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.images import fit
from skindualgen.data.reading import read_pair
from skindualgen.data.terms import diagnosis_term
from skindualgen.planning.anchors import Anchoring, Region
from skindualgen.studio.collect import write_pair
from skindualgen.studio.state import Studio


@dataclass(frozen=True)
class Start:
    """How a pair is made from a real one, as `Anchoring` takes it.

    Attributes:
        about: what to expect of it.
        region: what is drawn anew; None redraws all.
    """

    about: str
    region: Region | None = None


STARTS: dict[str, Start] = {
    "Redraw it": Start("Photograph and mask are noised as far as the strength says, and drawn anew."),
    "Another lesion in its skin": Start(
        "The lesion and the skin close to it are drawn anew, with a new mask; farther away every pixel is its own.",
        "lesion",
    ),
    "Other skin around its lesion": Start("The lesion keeps its own pixels and its mask; the skin is new.", "skin"),
}


def anchoring_of(
    root: Path, isic_id: str, how: str, *, strength: float, keep_mask: bool, relabel: str | None
) -> Anchoring:
    """The request that the commands make, for one real pair.

    Args:
        root: data set folder.
        isic_id: of the pair.
        how: a key of `STARTS`; the others matter where all is redrawn.
        strength, keep_mask, relabel: see `Anchoring`.

    Raises:
        InputError: no such training pair, one of ``relabel`` already or of no known diagnosis, or a strength that is
            none.
    """
    record = next((record for record in real_pairs(root) if record.isic_id == isic_id), None)
    if record is None:
        raise InputError(f"the pair {isic_id[:80]!r}", "a training pair of the data set", "choose one from the list")
    if (region := STARTS[how].region) is not None:
        return Anchoring("inpaint", root, region=region, only=(isic_id,))
    if relabel is not None and (not record.diagnosis or diagnosis_term(record.diagnosis) == diagnosis_term(relabel)):
        got = f"a pair of the diagnosis {record.diagnosis or 'not known'} to relabel to {relabel}"
        raise InputError(got, "a pair of another diagnosis", "choose another diagnosis, or leave it as it is")
    return Anchoring("redraw", root, strength, keep_mask, relabel=relabel, only=(isic_id,))


def real_pairs(root: Path) -> list[PairRecord]:
    """The training pairs of a data set folder that can be started from.

    Raises:
        InputError: there is none, or some of them are generated.
    """
    return Anchoring("redraw", root).anchors()


def own_pair(
    studio: Studio, photograph: Image.Image, mask: Image.Image, *, diagnosis: str | None, edited: bool, adapter: str
) -> tuple[Path, str]:
    """Make a data set folder of an uploaded pair, which goes with what is drawn from it; return it and the pair's id.

    Args:
        studio: whose folder for what is drawn.
        photograph: RGB.
        mask: 0 / 255, of the same size.
        diagnosis: if it is known.
        edited: whether the mask was changed by hand.
        adapter: name of the model that proposed the mask.
    """
    folder, made_with = studio.new_drawn_folder(), studio.model.facts(adapter).made_with
    record = write_pair(folder, [], photograph, mask, diagnosis=diagnosis, edited=edited, made_with=made_with)
    return folder, record.isic_id


def seen_pair(anchoring: Anchoring, side: int) -> tuple[PairRecord, Image.Image, Image.Image]:
    """The real pair of an anchoring, photograph and mask squared to ``side`` px as what is made from it."""
    (record,) = anchoring.anchors()
    image, mask = read_pair(anchoring.root, record)
    fitted, fitted_mask, _ = fit(image, mask, size=side, crop="centre")
    assert fitted_mask is not None  # only pairs with masks are redrawn or inpainted
    return record, fitted, fitted_mask
