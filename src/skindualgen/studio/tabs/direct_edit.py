"""Edit: a pair is noised in part and drawn anew, so that one half stays and the other changes."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import gradio as gr
from PIL import Image

from skindualgen.contracts import InputError
from skindualgen.data.images import SUFFIXES
from skindualgen.studio.blocks import html_block
from skindualgen.studio.commands import python_call
from skindualgen.studio.drawn import Drawn, GenerationRequest, Given, Keep, draw_given, drawn_size
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.fields import build_sampling, fill_defaults
from skindualgen.studio.generation_requests import checked_request
from skindualgen.studio.painter import Value, build_painter, painted
from skindualgen.studio.proposing import proposals
from skindualgen.studio.results import (
    DRAWING,
    IDLE_SECONDS,
    QUIET,
    build_results,
    draw_into,
    python_html,
    stop_button,
)
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
        (1.0, 0.0), "lesion",
    ),
    "Keep the skin, change the lesion": Kind(
        "Skin and outline stay, but for the autoencoder's loss; inside the outline a lesion is drawn from the prompt.",
        (1.0, 0.0), "skin",
    ),
    "Keep the outline, change both": Kind(
        "The outline stays; skin and lesion change together, towards the prompt, the more the higher the strength.",
        (0.8, 0.0),
    ),
    "New outline in a similar picture": Kind(
        "Colours and place stay roughly, the outline is drawn from nothing, and the lesion follows it.", (0.55, 1.0)
    ),
    "Vary both a little": Kind("Both stay close to what they were.", (0.4, 0.4)),
}  # fmt: skip
FIRST = next(iter(KINDS))
ABOUT = (
    "Picture and outline are noised as far as their strengths say and drawn anew: at 0 they stay as they are, at 1 "
    "nothing of them is left. A kept region is not relit: where the prompt asks for other skin than the photograph's, "
    "a seam may show."
)
INVITATION = "Upload a photograph; its mask is read, and you can correct it."
ENSEMBLE = 4


def build(studio: Studio) -> None:
    """Lay out the part."""
    source = gr.State(time_to_live=IDLE_SECONDS)
    with gr.Row(elem_classes="sdg-split sdg-wide-side"):
        with gr.Column(elem_classes="sdg-side", scale=0):
            photograph = gr.File(
                label="Photograph", file_types=list(SUFFIXES), type="filepath", height=110,
                elem_id=f"{PREFIX}-photograph",
            )  # fmt: skip
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
            sampling = build_sampling(studio, PREFIX, count=4, label="Pairs", action="Draw")
        with gr.Column(elem_classes="sdg-main"):
            html_block(f'<p class="sdg-lead">{ABOUT}</p>')
            results = build_results(studio, PREFIX, invitation=INVITATION)

    fill_defaults(studio, sampling)
    stop_button(studio, sampling.stop, results.status)
    kind.input(
        lambda chosen: [*KINDS[chosen].strength, _hint(chosen)], kind, [picture, outline, about],
        trigger_mode="always_last", queue=False, **QUIET,
    )  # fmt: skip
    photograph.upload(_reading(studio), [photograph, sampling.adapter], [canvas, source], **DRAWING)
    inputs = [source, canvas, kind, picture, outline, prompt, *sampling.inputs, results.drawn]
    sampling.draw.click(_editing(studio), inputs, results.outputs, **DRAWING)


def _reading(studio: Studio) -> Any:
    @as_sentence
    def read(path: str, adapter: str, request: gr.Request) -> Iterator[list[Any]]:
        picture = read_photograph(Path(path), studio.limits)
        for canvas, _ in proposals(studio, adapter, str(request.session_hash), picture, ensemble=ENSEMBLE):
            yield [canvas, picture]

    return read


def _editing(studio: Studio) -> Any:
    @as_sentence
    def edit(
        source: Image.Image | None, drawing: Value, kind: str, picture: float, outline: float, text: str, count: float,
        seed: float, adapter: str, steps: float, guidance: float, before: Drawn | None, request: gr.Request,
    ) -> Iterator[list[Any]]:  # fmt: skip
        if source is None:
            raise InputError("no photograph", "one to edit", "upload one first")
        mask = painted(drawing, studio.limits).resize(source.size, Image.Resampling.NEAREST)
        wanted = checked_request(studio.limits, text, count, seed, steps, guidance)
        given = Given(mask, source, checked_strengths(picture, outline), KINDS[kind].keep)
        yield from draw_into(
            studio, adapter, str(request.session_hash), before,
            lambda pipeline, folder: draw_given(pipeline, wanted, folder, given),
            count=wanted.count, same=lambda: python_html(edit_code(studio, adapter, wanted, given)),
        )  # fmt: skip

    return edit


def checked_strengths(picture: float, outline: float) -> tuple[float, float]:
    """The strengths of an edit.

    Raises:
        InputError: beyond 0 to 1, or nothing would change.
    """
    if not (0 <= picture <= 1 and 0 <= outline <= 1):
        raise InputError(f"strengths of {picture:g} and {outline:g}", "0 to 1", "choose 0 to 1")
    if max(picture, outline) == 0:
        raise InputError("both strengths at 0, which changes nothing", "one above 0", "raise one of them")
    return float(picture), float(outline)


def checked_keep(keep: str) -> Keep | None:
    """A region that is kept, by its name; none for an empty one.

    Raises:
        InputError: another name.
    """
    if keep not in ("", *get_args(Keep)):
        raise InputError(f"keep {keep!r}", "'lesion', 'skin' or nothing", "choose one of them")
    return cast("Keep | None", keep or None)


def edit_code(studio: Studio, adapter: str, wanted: GenerationRequest, given: Given) -> str:
    """Python that makes the same edits."""
    width, height = drawn_size(studio, adapter, given)
    arguments = {
        "image": "Image.open('photograph.png')", "mask_image": "Image.open('mask.png')",
        "strength": str(given.strength),
    }  # fmt: skip
    imports = []
    if given.keep is not None:
        imports = ["from skindualgen.sample.blending import BlendedLatents"]
        region = arguments["mask_image"] + (".point(lambda grey: 255 - grey)" if given.keep == "skin" else "")
        arguments["callback_on_step_end"] = (
            f"BlendedLatents(\n        pipe, {arguments['image']}, {region},\n        "
            f"seeds=[pair_seed({wanted.seed}, index) for index in range({wanted.count})], steps={wanted.steps}, "
            f"height={height}, width={width},\n    )"
        )
    return python_call(
        wanted.prompts[0], arguments, adapter=adapter, count=wanted.count, seed=wanted.seed, steps=wanted.steps,
        guidance=wanted.guidance, size=(width, height), imports=imports,
    )  # fmt: skip


def _hint(kind: str) -> str:
    return f'<p class="sdg-hint">{html.escape(KINDS[kind].about)}</p>'
