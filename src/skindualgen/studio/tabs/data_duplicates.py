"""Pictures of a data set that look alike, side by side."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import partial

import gradio as gr

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.audit import MAX_DISTANCE_BITS
from skindualgen.data.review import decision_of
from skindualgen.studio.commands import command_html
from skindualgen.studio.components import PRIVATE, QUIET, html_block, pictures_report
from skindualgen.studio.duplicates import Couple, near_duplicates
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.pictures import picture_html, shown
from skindualgen.studio.pieces import note
from skindualgen.studio.review import Library

SHOWN_COUPLES = 40
BEFORE = "Pictures are compared by their perceptual hashes."


def build(library: Library, dataset: gr.Dropdown, max_pixels: int) -> None:
    """Lay out the part of the Data tab; larger pictures are refused."""
    with gr.Row(elem_classes="sdg-toolbar"):
        distance = gr.Slider(
            0,
            200,
            value=MAX_DISTANCE_BITS,
            step=1,
            label="Largest distance, of 512 bits",
            info="130 bits is what the audit of real photographs calls near-duplicates.",
            elem_id="duplicates-distance",
            scale=3,
        )
        start = gr.Button("Search", variant="primary", elem_id="duplicates-start", scale=0, min_width=110)
        cancel = gr.Button("Cancel", elem_id="duplicates-cancel", scale=0, min_width=110)
    result = html_block(note(BEFORE), elem_id="duplicates")

    @as_sentence
    def search(name: str | None, bits: float, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
        if not name:
            raise InputError("no data set", "one to search in", "choose it above")
        library.refuse_many(name, "search in parts")
        report = partial(pictures_report(progress), "looking at the pictures")
        couples = near_duplicates(library, name, max_distance=int(bits), max_pixels=max_pixels, report=report)
        call = f"audit(Path({name!r}), max_distance={int(bits)}).near"
        python = f"from pathlib import Path\n\nfrom skindualgen.data.audit import audit\n\n{call}"
        return couples_html(library, name, couples, max_pixels) + command_html(python, label="The same in Python")

    event = start.click(search, [dataset, distance], result, **PRIVATE)
    cancel.click(None, cancels=[event])
    dataset.change(lambda: note(BEFORE), None, result, **QUIET)


def couples_html(library: Library, name: str, couples: Sequence[Couple], max_pixels: int) -> str:
    """Couples of pictures, the first ones if there are many."""
    if not couples:
        return note("No two pictures are that much alike.")
    across = sum(couple.across for couple in couples)
    leaks = f", {across:,} of them across splits: these leak" if across else ""
    first = f" The first {SHOWN_COUPLES}:" if len(couples) > SHOWN_COUPLES else ""
    cards = "".join(_card(library, name, couple, max_pixels) for couple in couples[:SHOWN_COUPLES])
    return (
        f'<p class="sdg-lead">{len(couples):,} {"couple" if len(couples) == 1 else "couples"}{leaks}.{first}</p>'
        f'<div class="sdg-couples">{cards}</div>'
    )


def _card(library: Library, name: str, couple: Couple, max_pixels: int) -> str:
    sides = "".join(_side(library, name, record, max_pixels) for record in (couple.first, couple.second))
    mark = '<span class="sdg-pill sdg-failed">across splits</span>' if couple.across else ""
    head = f"<header><b>{couple.distance_bits} bits</b>{mark}</header>"
    return f'<article class="sdg-couple">{head}<div>{sides}</div></article>'


def _side(library: Library, name: str, record: PairRecord, max_pixels: int) -> str:
    facts = " · ".join(
        [record.split, record.origin, *([] if decision_of(record) == "undecided" else [decision_of(record)])]
    )
    return (
        f"<figure>{picture_html(shown(library, name, record, max_pixels=max_pixels))}"
        f"<figcaption><b>{html.escape(record.isic_id)}</b>{html.escape(record.diagnosis or 'unknown')}<br>"
        f"{html.escape(facts)}</figcaption></figure>"
    )
