"""A page of a data set as HTML: small pictures to choose from, and the chosen one large with what its record says."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence

from skindualgen.contracts import PairRecord
from skindualgen.data.manifest import REVIEW
from skindualgen.data.review import UNDECIDED, decision_of
from skindualgen.studio.pictures import Shown, picture_html, shown
from skindualgen.studio.pieces import note
from skindualgen.studio.review import Library

PAGE_PAIRS = 24
"""Pictures of a page; only these are read."""
REVIEWER_LENGTH = 60
FACTS = {
    "prompt": "Prompt",
    "diagnosis": "Class",
    "benign_malignant": "Behaviour",
    "anatom_site_general": "Site",
    "age_approx": "Age",
    "sex": "Sex",
    "skin_tone": "Skin tone",
    "split": "Split",
    "origin": "Origin",
    "source": "Source",
    "license": "Licence",
    "seed": "Seed",
    "extrapolation": "Beyond the training data",
}
"""Fields of a record that the large view names, in this order."""


def page_of(
    library: Library, name: str, ids: Sequence[str], page: int, score: str | None = None, *, max_pixels: int
) -> str:
    """A page of the pairs with these ids; no other pair's picture is read.

    Args:
        library: of the workspace.
        name: the data set.
        ids: of all pairs that are shown, in their order; those that are gone are left out.
        page: 0 is the first.
        score: name of the score under each picture, if one is chosen.
        max_pixels: of a picture; larger ones are not shown.

    Raises:
        InputError: see `Library.records`.
    """
    by_id = {record.isic_id: record for record in library.records(name)}
    there = [by_id[isic_id] for isic_id in ids if isic_id in by_id]
    start = page * PAGE_PAIRS
    part = there[start : start + PAGE_PAIRS]
    pictures = [shown(library, name, record, max_pixels=max_pixels) for record in part]
    return page_html(name, part, pictures, start=start, total=len(there), score=score)


def tally(records: Sequence[PairRecord]) -> str:
    """How many are decided on."""
    counts = Counter(map(decision_of, records))
    return f"{counts['accepted']:,} accepted, {counts['rejected']:,} rejected, {counts[UNDECIDED]:,} undecided."


def page_html(
    name: str, records: Sequence[PairRecord], pictures: Sequence[Shown], *, start: int, total: int, score: str | None
) -> str:
    """A page of pairs, with one of their scores if it is chosen, and the large view of the chosen one."""
    if not records:
        return note("No pair fits these filters.")
    tiles = "".join(tile_html(record, picture, score) for record, picture in zip(records, pictures, strict=True))
    before, after = "yes" if start else "", "yes" if start + len(records) < total else ""
    keys = "".join(f"<span><kbd>{key}</kbd> {what}</span>" for key, what in (("← →", "move"), ("C", "contour")))
    return (
        f'<div class="sdg-review" data-name="{html.escape(name)}" data-before="{before}" data-after="{after}">'
        f'<div class="sdg-review-list"><p class="sdg-soft">{start + 1:,}–{start + len(records):,} of {total:,}</p>'
        f'<div class="sdg-tiles" role="listbox" aria-label="Pairs">{tiles}</div></div>'
        '<div class="sdg-detail" role="group" aria-label="The chosen pair"><div class="sdg-detail-picture"></div>'
        '<div class="sdg-decide">'
        '<button type="button" class="sdg-accept" data-key="a">Accept <kbd>A</kbd></button>'
        '<button type="button" class="sdg-reject" data-key="r">Reject <kbd>R</kbd></button>'
        '<button type="button" data-key="u">Undo <kbd>U</kbd></button></div>'
        f'<p class="sdg-keys">Choose a picture, then: {keys}</p>'
        '<p class="sdg-review-status" role="status"></p><div class="sdg-detail-facts"></div></div></div>'
    )


def tile_html(record: PairRecord, picture: Shown, score: str | None) -> str:
    """A small picture that can be chosen, with its class or the chosen score."""
    value = (record.scores or {}).get(score or "")
    words = (record.diagnosis or "unknown").replace("_", " ") if value is None else f"{value:.3g}"
    label = f"{record.isic_id}, {record.diagnosis or 'class unknown'}"
    decision = decision_of(record)
    return (
        f'<button type="button" class="sdg-tile" role="option" aria-selected="false" tabindex="-1"'
        f' data-id="{html.escape(record.isic_id)}" data-label="{html.escape(label)}" data-decision="{decision}"'
        f' aria-label="{html.escape(label)}, {decision}">{picture_html(picture)}'
        f'<span class="sdg-tile-label">{html.escape(words)}</span></button>'
    )


def large_html(record: PairRecord, picture: Shown) -> str:
    """The large view: picture and decision."""
    problem = f'<p class="sdg-wrong">{html.escape(picture.problem)}</p>' if picture.problem and picture.uri else ""
    decision = decision_of(record)
    return (
        f"{picture_html(picture)}{problem}"
        f'<div class="sdg-detail-head"><b>{html.escape(record.isic_id)}</b>'
        f'<span class="sdg-detail-decision" data-decision="{decision}">{decision}</span></div>'
    )


def facts_html(record: PairRecord) -> str:
    """What a record says."""
    fields = record.model_dump()
    facts = [(title, fields[key]) for key, title in FACTS.items() if fields.get(key) not in (None, "")]
    review = fields.get(REVIEW)
    if isinstance(review, dict):
        facts.append(("Reviewed", ", ".join(str(review[key]) for key in ("date", "reviewer") if review.get(key))))
    facts += [(name.replace("_", " "), f"{value:.4g}") for name, value in (record.scores or {}).items()]
    rows = "".join(f"<dt>{html.escape(str(key))}</dt><dd>{html.escape(str(value))}</dd>" for key, value in facts)
    return f'<dl class="sdg-facts">{rows}</dl>'
