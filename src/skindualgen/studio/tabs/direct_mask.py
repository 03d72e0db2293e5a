"""Image to mask: the adapter proposes a photograph's mask, the visitor corrects and keeps it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.data.masks import LESION_ABOVE, lesion_pixels
from skindualgen.data.terms import DIAGNOSES
from skindualgen.sample import ENSEMBLE_SIZE
from skindualgen.studio.collect import add_photograph
from skindualgen.studio.commands import command, command_html
from skindualgen.studio.components import QUIET, html_block, photograph_field
from skindualgen.studio.drawing import DRAWING, IDLE_SECONDS, adapter_field
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.generation import MAX_ENSEMBLE
from skindualgen.studio.painter import Value, build_painter, check_settled, edited, painted, read_masks
from skindualgen.studio.pieces import progress
from skindualgen.studio.state import Studio
from skindualgen.studio.uploads import checked_mask, read_photograph
from skindualgen.studio.workspace import NAME_LENGTH

PREFIX = "direct-mask"
ABOUT = (
    "Upload a dermoscopic photograph: the model proposes where the lesion is. Correct it with the brush, then keep it. "
    "What the model was not trained on, such as clinical photographs, it reads badly."
)


@dataclass(frozen=True)
class Reading:
    """A photograph, the mask that the adapter reads from it, both of one size, and the mask that is kept."""

    photograph: Image.Image
    proposed: Image.Image
    adapter: str
    kept: Image.Image | None = None
    edited: bool = False


def build(studio: Studio) -> None:
    """Lay out the part."""
    reading = gr.State(time_to_live=IDLE_SECONDS)
    html_block(f'<p class="sdg-lead">{ABOUT}</p>')
    with gr.Row(elem_classes="sdg-split"):
        with gr.Column(elem_classes="sdg-side", scale=0):
            photograph = photograph_field(f"{PREFIX}-photograph", height=130)
            adapter = adapter_field(studio, PREFIX)
            ensemble = gr.Slider(
                1,
                MAX_ENSEMBLE,
                ENSEMBLE_SIZE,
                step=1,
                label="Draws that are averaged",
                elem_id=f"{PREFIX}-ensemble",
                info="Over flips of the photograph.",
            )
            read = gr.Button("Propose a mask", variant="primary", size="lg", elem_id=f"{PREFIX}-read")
            same = html_block(elem_id=f"{PREFIX}-same")
        with gr.Column(elem_classes="sdg-main"):
            status = html_block(progress("No photograph yet."), elem_id=f"{PREFIX}-status")
            canvas = build_painter("Mask over the photograph", f"{PREFIX}-canvas")
            kept = _build_keeping(studio, reading, canvas, status)

    @as_sentence
    def propose(path: str | None, name: str, number: float, request: gr.Request) -> Iterator[list[Any]]:
        if not path:
            raise InputError("no photograph", "one to read", "upload one first")
        picture, number = read_photograph(Path(path), studio.limits), round(number)
        option = studio.model.option(name)
        segment = command_html(command("segment", images="photographs", out="masks", adapter=option, ensemble=number))
        for value, mask in read_masks(studio, name, str(request.session_hash), picture, ensemble=number):
            found = None if mask is None else Reading(picture, mask, name)
            yield [progress(_said(value, mask)), value, found, segment, gr.update(visible=False)]

    for event in (photograph.upload, read.click):
        event(propose, [photograph, adapter, ensemble], [status, canvas, reading, same, kept], **DRAWING)


def _said(canvas: Value, mask: Image.Image | None) -> str:
    if mask is None:
        return "Reading the photograph." if canvas["waiting"] else "The photograph was not read."
    if share := float(lesion_pixels(mask).mean()):
        return f"The model proposes a lesion of {100 * share:.0f} % of the picture. Correct it with the brush."
    return "The model finds no lesion in this photograph. Draw it with the brush."


def _build_keeping(studio: Studio, reading: gr.State, canvas: gr.HTML, status: gr.HTML) -> gr.Column:
    """What is done with a mask: use it, download it, save it with its photograph; returns what then appears."""
    keep = gr.Button("Use this mask", elem_id=f"{PREFIX}-keep", size="lg")
    with gr.Column(visible=False, elem_id=f"{PREFIX}-kept", elem_classes="sdg-section") as kept:
        download = gr.DownloadButton("Download the mask", elem_id=f"{PREFIX}-download", size="md")
        with gr.Row(elem_classes="sdg-after"):
            name = gr.Textbox(
                label="Data set in the workspace",
                placeholder="my-photographs",
                max_lines=1,
                max_length=NAME_LENGTH,
                elem_id=f"{PREFIX}-name",
                info="New, or gathered here.",
            )
            terms: list[str | tuple[str, str]] = [("not known", ""), *DIAGNOSES[:-1]]
            diagnosis = gr.Dropdown(
                terms, value="", label="Diagnosis", elem_id=f"{PREFIX}-diagnosis", info="As established."
            )
            save = gr.Button("Save photograph and mask", elem_id=f"{PREFIX}-save", size="md")
        saved = html_block(elem_id=f"{PREFIX}-saved")

    @as_sentence
    def use(known: Reading | None, drawing: Value) -> list[Any]:
        check_settled(drawing)
        if known is None:
            raise InputError("no photograph", "one with a mask", "upload one first")
        mask, changed = final_mask(studio, known, drawing)
        path = studio.new_download_folder() / "mask.png"
        mask.save(path)
        share = float(lesion_pixels(mask).mean())
        origin = "edited" if changed else "as proposed"
        said = f"Mask of {mask.width} × {mask.height} px, lesion {100 * share:.1f} %, {origin}."
        finished = replace(known, kept=mask, edited=changed)
        return [finished, gr.update(visible=True), str(path), progress(said), ""]

    @as_sentence
    def save_pair(known: Reading | None, chosen: str, term: str) -> str:
        if known is None or known.kept is None:
            raise InputError("no mask", "one that you decided on", "press 'Use this mask' first")
        dataset, record = add_photograph(
            studio.workspace,
            chosen.strip(),
            known.photograph,
            known.kept,
            diagnosis=term or None,
            edited=known.edited,
            made_with=dict(studio.model.facts(known.adapter).made_with),
        )
        return progress(f"Saved as {record.isic_id} in {dataset}.")

    keep.click(use, [reading, canvas], [reading, kept, download, status, saved], **QUIET)
    save.click(save_pair, [reading, name, diagnosis], saved, **QUIET)
    return kept


def final_mask(studio: Studio, reading: Reading, drawing: Value) -> tuple[Image.Image, bool]:
    """The mask at the photograph's size, and whether it was edited; unedited, it is the proposal to the pixel.

    Raises:
        InputError: a mask without a lesion, or of nothing else.
    """
    if not edited(drawing):
        return checked_mask(lesion_pixels(reading.proposed)), False
    mask = painted(drawing, studio.limits).resize(reading.photograph.size, Image.Resampling.BILINEAR)
    return mask.point(lambda grey: 255 * (grey > LESION_ABOVE)), True
