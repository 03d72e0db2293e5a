"""The HTTP API: the studio's main actions as endpoints with names and arguments of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from skindualgen.contracts import InputError
from skindualgen.production.chunk import AREA_SCORE
from skindualgen.studio.drawn import (
    SEED_LIMIT,
    Drawn,
    GenerationRequest,
    Given,
    draw_given,
    draw_pairs,
    read_mask_of,
    write_zip,
)
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.generation_requests import MAX_GUIDANCE, checked_request
from skindualgen.studio.model import BUILTIN
from skindualgen.studio.results import DRAWING
from skindualgen.studio.state import Studio
from skindualgen.studio.tabs.create import generate_command
from skindualgen.studio.tabs.direct_edit import checked_keep, checked_strengths
from skindualgen.studio.uploads import read_mask, read_photograph
from skindualgen.studio.watched import Step, WatchedPipeline

Answers = Iterator[tuple[dict[str, Any], str | None]]
"""What an endpoint says: while it draws ``{"step", "steps", "finished"}`` and no file; then its record and file."""
Work = Callable[[WatchedPipeline, Path], Drawn | None]
ENSEMBLE, MAX_ENSEMBLE = 4, 8
"""Draws that are averaged: as `skindualgen segment` does, and at most."""
PUBLIC = {**DRAWING, "api_visibility": "public"}


def build(studio: Studio) -> None:
    """Add the endpoints, which have no place on the page: their components are never shown."""
    with gr.Column(visible=False):
        button = gr.Button("API")
        image, mask = gr.File(type="filepath", label="image"), gr.File(type="filepath", label="mask")
        prompt = gr.Textbox("a dermoscopic image of a melanoma", label="prompt")
        count = gr.Number(1, precision=0, minimum=1, maximum=studio.limits.pairs, label="count")
        seed = gr.Number(0, precision=0, minimum=0, maximum=SEED_LIMIT - 1, label="seed")
        steps = gr.Number(None, precision=0, minimum=1, maximum=studio.limits.steps, label="steps")
        guidance = gr.Number(None, minimum=0, maximum=MAX_GUIDANCE, label="guidance")
        adapter = gr.Textbox(studio.model.first, label="adapter")
        picture = gr.Number(0.8, minimum=0, maximum=1, label="image_strength")
        outline = gr.Number(0.0, minimum=0, maximum=1, label="mask_strength")
        keep = gr.Textbox("", label="keep")
        ensemble = gr.Number(ENSEMBLE, precision=0, minimum=1, maximum=MAX_ENSEMBLE, label="ensemble")
        record, archive = gr.JSON(label="record"), gr.File(label="pairs")
        found = gr.File(label="mask")
    draw = [prompt, count, seed, steps, guidance, adapter]
    pairs, reading = [record, archive], [record, found]
    for name, function, inputs, outputs in (
        ("generate", _generate(studio), draw, pairs),
        ("image_from_mask", _image_from_mask(studio), [mask, *draw], pairs),
        ("mask_from_image", _mask_from_image(studio), [image, ensemble, adapter], reading),
        ("edit", _edit(studio), [image, mask, picture, outline, keep, *draw], pairs),
    ):
        button.click(as_sentence(function), inputs, outputs, api_name=name, **PUBLIC)


def _generate(studio: Studio) -> Any:
    def generate(
        request: gr.Request, prompt: str, count: int = 1, seed: int = 0, steps: int | None = None,
        guidance: float | None = None, adapter: str = BUILTIN,
    ) -> Answers:  # fmt: skip
        """Draw pairs from a prompt (several, one a line): a record, and the data set folder as a zip."""
        wanted = _wanted(studio, prompt, count, seed, steps, guidance, adapter)
        told = {"command": generate_command(studio, wanted, adapter)}
        yield from _drawn(studio, request, adapter, lambda pipeline, folder: draw_pairs(pipeline, wanted, folder), told)

    return generate


def _image_from_mask(studio: Studio) -> Any:
    def image_from_mask(
        request: gr.Request, mask: str, prompt: str, count: int = 1, seed: int = 0, steps: int | None = None,
        guidance: float | None = None, adapter: str = BUILTIN,
    ) -> Answers:  # fmt: skip
        """Draw pictures of a mask, which is white where the lesion is: a record, and the data set folder as a zip."""
        given = read_mask(_given(mask, "mask"), studio.limits)
        wanted = _wanted(studio, prompt, count, seed, steps, guidance, adapter)
        yield from _drawn(
            studio, request, adapter,
            lambda pipeline, folder: draw_given(pipeline, wanted, folder, Given(given)),
        )  # fmt: skip

    return image_from_mask


def _mask_from_image(studio: Studio) -> Any:
    def mask_from_image(request: gr.Request, image: str, ensemble: int = ENSEMBLE, adapter: str = BUILTIN) -> Answers:
        """Read the lesion's mask from a photograph: a record, and the mask as PNG at the photograph's size."""
        photograph = read_photograph(_given(image, "image"), studio.limits)
        if not 1 <= ensemble <= MAX_ENSEMBLE:
            raise InputError(f"an ensemble of {ensemble}", f"1 to {MAX_ENSEMBLE}", f"choose 1 to {MAX_ENSEMBLE}")
        mask = yield from _result(
            studio, request, adapter, lambda pipeline: read_mask_of(pipeline, photograph, ensemble=int(ensemble))
        )
        path = studio.new_download_folder() / "mask.png"
        mask.save(path)
        share = float((np.asarray(mask) > 127).mean())
        yield {"width": mask.width, "height": mask.height, AREA_SCORE: round(share, 4)}, str(path)

    return mask_from_image


def _edit(studio: Studio) -> Any:
    def edit(
        request: gr.Request, image: str, mask: str, image_strength: float, mask_strength: float, keep: str, prompt: str,
        count: int = 1, seed: int = 0, steps: int | None = None, guidance: float | None = None, adapter: str = BUILTIN,
    ) -> Answers:  # fmt: skip
        """Noise a pair as far as the strengths say and draw it anew; keep "lesion", "skin" or "" of its picture."""
        place = _given(image, "image")
        photograph = read_photograph(place, studio.limits)
        outline = read_mask(_given(mask, "mask"), studio.limits, place)
        wanted = _wanted(studio, prompt, count, seed, steps, guidance, adapter)
        strength = checked_strengths(image_strength, mask_strength)
        given = Given(outline, photograph, strength, checked_keep(keep))
        yield from _drawn(
            studio, request, adapter, lambda pipeline, folder: draw_given(pipeline, wanted, folder, given)
        )

    return edit


def _wanted(
    studio: Studio, prompt: str, count: int, seed: int, steps: int | None, guidance: float | None, adapter: str
) -> GenerationRequest:
    """The wanted, with the model's own steps and guidance where none are given."""
    facts = studio.model.facts(adapter)
    steps = facts.steps if steps is None else steps
    return checked_request(studio.limits, prompt, count, seed, steps, facts.guidance if guidance is None else guidance)


def _given(path: str | None, name: str) -> Path:
    if not path:
        raise InputError(f"no {name}", "a picture", "send one with gradio_client's handle_file")
    return Path(path)


def _drawn(
    studio: Studio, request: gr.Request, adapter: str, work: Work, told: Mapping[str, Any] | None = None
) -> Answers:
    folder = studio.new_drawn_folder()
    try:
        drawn: Drawn = yield from _result(studio, request, adapter, lambda pipeline: work(pipeline, folder))
        archive = write_zip(folder, studio.new_download_folder() / "pairs.zip")
        pairs = [
            {**record.model_dump(exclude_none=True), "agreement": round(agreement, 4)}
            for record, agreement in zip(drawn.records, drawn.agreements, strict=True)
        ]
        yield {**(told or {}), "pairs": pairs}, str(archive)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _result(
    studio: Studio, request: gr.Request, adapter: str, work: Callable[[WatchedPipeline], Any]
) -> Generator[tuple[dict[str, Any], None], None, Any]:
    """Do a piece of work, telling of its steps; where the caller cancels or goes away, it stops."""
    result = None
    for event in studio.model.draw(adapter, str(request.session_hash), work):
        if isinstance(event, Step):
            yield {"step": event.step, "steps": event.steps, "finished": len(event.finished)}, None
        else:
            result = event.result
    if result is None:
        raise InputError("a draw that was stopped", "one that is let run", "ask again")
    return result
