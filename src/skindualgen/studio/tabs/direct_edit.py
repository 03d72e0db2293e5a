"""Edit: a pair is noised in part and drawn anew, so that one half stays and the other changes."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.sample import ENSEMBLE_SIZE
from skindualgen.studio.components import QUIET, html_block, photograph_field
from skindualgen.studio.drawing import (
    DRAWING,
    IDLE_SECONDS,
    build_results,
    build_sampling,
    connect_drawing,
    fill_defaults,
)
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.painter import Value, build_painter, painted, read_masks
from skindualgen.studio.requests import GenerationRequest, Given, Keep, checked_request, checked_strengths
from skindualgen.studio.state import Studio
from skindualgen.studio.uploads import read_photograph

PREFIX = "direct-edit"


@dataclass(frozen=True)
class Kind:
    """A way to edit.

    Attributes:
        about: what to expect of it.
        strength: of picture and outline, to begin with.
        keep: region of the picture that stays.
    """

    about: str
    strength: tuple[float, float]
    keep: Keep | None = None


KINDS: dict[str, Kind] = {
    "Keep the lesion, change the skin": Kind(
        "Lesion and outline stay, but for the autoencoder's loss; the skin around them is drawn anew from the prompt.",
        (1.0, 0.0),
        "lesion",
    ),
    "Keep the skin, change the lesion": Kind(
        "Skin and outline stay, but for the autoencoder's loss; inside the outline a lesion is drawn from the prompt.",
        (1.0, 0.0),
        "skin",
    ),
    "Keep the outline, change both": Kind(
        "The outline stays; skin and lesion change together, towards the prompt, the more the higher the strength.",
        (0.8, 0.0),
    ),
    "New outline in a similar picture": Kind(
        "Colours and place stay roughly, the outline is drawn from nothing, and the lesion follows it.", (0.55, 1.0)
    ),
    "Vary both a little": Kind("Both stay close to what they were.", (0.4, 0.4)),
}
FIRST = next(iter(KINDS))
ABOUT = (
    "Picture and outline are noised as far as their strengths say and drawn anew: at 0 they stay as they are, at 1 "
    "nothing of them is left. A kept region is not relit: where the prompt asks for other skin than the photograph's, "
    "a seam may show."
)
INVITATION = "Upload a photograph; its mask is read, and you can correct it."


def build(studio: Studio) -> None:
    """Lay out the part."""
    source = gr.State(time_to_live=IDLE_SECONDS)
    with gr.Row(elem_classes="sdg-split sdg-wide-side"):
        with gr.Column(elem_classes="sdg-side", scale=0):
            photograph = photograph_field(f"{PREFIX}-photograph", height=110)
            canvas = build_painter("Mask over the photograph", f"{PREFIX}-canvas")
            kind = gr.Radio(list(KINDS), value=FIRST, label="What changes", elem_id=f"{PREFIX}-kind")
            about = html_block(_hint(FIRST), elem_id=f"{PREFIX}-about")
            picture, outline = (
                gr.Slider(0, 1, value, step=0.05, label=f"Strength of the {name}", elem_id=f"{PREFIX}-{name}")
                for name, value in zip(("picture", "outline"), KINDS[FIRST].strength, strict=True)
            )
            prompt = gr.Textbox(
                "a dermoscopic image of a melanoma", label="Prompt", lines=2, max_lines=6, elem_id=f"{PREFIX}-prompt"
            )
            sampling = build_sampling(studio, PREFIX, count=4, label="Pairs")
        with gr.Column(elem_classes="sdg-main"):
            html_block(f'<p class="sdg-lead">{ABOUT}</p>')
            results = build_results(studio, PREFIX, invitation=INVITATION)

    @as_sentence
    def read(path: str, adapter: str, request: gr.Request) -> Iterator[list[Any]]:
        shown = read_photograph(Path(path), studio.limits)
        for value, _ in read_masks(studio, adapter, str(request.session_hash), shown, ensemble=ENSEMBLE_SIZE):
            yield [value, shown]

    def edit(
        shown: Image.Image | None,
        drawing: Value,
        chosen: str,
        of_picture: float,
        of_outline: float,
        text: str,
        **numbers: Any,
    ) -> GenerationRequest:
        if shown is None:
            raise InputError("no photograph", "one to edit", "upload one first")
        mask = painted(drawing, studio.limits).resize(shown.size, Image.Resampling.NEAREST)
        given = Given(mask, shown, checked_strengths(of_picture, of_outline), KINDS[chosen].keep)
        return checked_request(studio.limits, text, given=given, **numbers)

    def start_from(chosen: str) -> list[Any]:
        return [*KINDS[chosen].strength, _hint(chosen)]

    fill_defaults(studio, sampling)
    kind.input(start_from, kind, [picture, outline, about], trigger_mode="always_last", queue=False, **QUIET)
    photograph.upload(read, [photograph, sampling.adapter], [canvas, source], **DRAWING)
    connect_drawing(studio, sampling, results, [source, canvas, kind, picture, outline, prompt], edit)


def _hint(kind: str) -> str:
    return f'<p class="sdg-hint">{html.escape(KINDS[kind].about)}</p>'
