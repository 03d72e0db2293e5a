"""The HTTP API: the studio's main actions as endpoints with names and arguments of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from skindualgen.contracts import InputError
from skindualgen.data.masks import lesion_pixels
from skindualgen.files import BUILTIN
from skindualgen.production.chunk import AREA_SCORE
from skindualgen.sample import ENSEMBLE_SIZE
from skindualgen.studio.commands import generate_command
from skindualgen.studio.drawing import DRAWING
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.generation import MAX_ENSEMBLE, Generated, generate, predict_mask, write_zip
from skindualgen.studio.requests import (
    MAX_GUIDANCE,
    SEED_LIMIT,
    Given,
    checked_keep,
    checked_request,
    checked_strengths,
)
from skindualgen.studio.state import Studio
from skindualgen.studio.uploads import read_mask, read_photograph
from skindualgen.studio.watched import Step, WatchedPipeline

Answers = Iterator[tuple[dict[str, Any], str | None]]
"""What an endpoint says: while it draws ``{"step", "steps", "finished"}`` and no file; then its record and file."""
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
        ensemble = gr.Number(ENSEMBLE_SIZE, precision=0, minimum=1, maximum=MAX_ENSEMBLE, label="ensemble")
        record, archive = gr.JSON(label="record"), gr.File(label="pairs")
        found = gr.File(label="mask")
    draw = [prompt, count, seed, steps, guidance, adapter]
    endpoints = Endpoints(studio)
    for function, inputs, file in (
        (endpoints.generate, draw, archive),
        (endpoints.image_from_mask, [mask, *draw], archive),
        (endpoints.mask_from_image, [image, ensemble, adapter], found),
        (endpoints.edit, [image, mask, picture, outline, keep, *draw], archive),
    ):
        button.click(as_sentence(function), inputs, [record, file], api_name=function.__name__, **PUBLIC)


class Endpoints:
    """The endpoints; the names of their arguments are those of the API."""

    def __init__(self, studio: Studio) -> None:
        self._studio, self._limits = studio, studio.limits

    def generate(
        self,
        request: gr.Request,
        prompt: str,
        count: int = 1,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        adapter: str = BUILTIN,
    ) -> Answers:
        """Draw pairs from a prompt (several, one per line): a record, and the data set folder as a zip."""
        yield from self._pairs(request, adapter, None, prompt, count, seed, steps, guidance)

    def image_from_mask(
        self,
        request: gr.Request,
        mask: str,
        prompt: str,
        count: int = 1,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        adapter: str = BUILTIN,
    ) -> Answers:
        """Draw pictures of a mask, which is white where the lesion is: a record, and the data set folder as a zip."""
        given = Given(read_mask(_file(mask, "mask"), self._limits))
        yield from self._pairs(request, adapter, given, prompt, count, seed, steps, guidance)

    def mask_from_image(
        self, request: gr.Request, image: str, ensemble: int = ENSEMBLE_SIZE, adapter: str = BUILTIN
    ) -> Answers:
        """Read the lesion's mask from a photograph: a record, and the mask as PNG at the photograph's size."""
        photograph = read_photograph(_file(image, "image"), self._limits)
        mask = yield from self._result(
            request, adapter, lambda pipeline: predict_mask(pipeline, photograph, ensemble=int(ensemble))
        )
        path = self._studio.new_download_folder() / "mask.png"
        mask.save(path)
        share = float(lesion_pixels(mask).mean())
        yield {"width": mask.width, "height": mask.height, AREA_SCORE: round(share, 4)}, str(path)

    def edit(
        self,
        request: gr.Request,
        image: str,
        mask: str,
        image_strength: float,
        mask_strength: float,
        keep: str,
        prompt: str,
        count: int = 1,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        adapter: str = BUILTIN,
    ) -> Answers:
        """Noise a pair as far as the strengths say and draw it anew; keep "lesion", "skin" or "" of its picture."""
        place = _file(image, "image")
        photograph = read_photograph(place, self._limits)
        outline = read_mask(_file(mask, "mask"), self._limits, place)
        given = Given(outline, photograph, checked_strengths(image_strength, mask_strength), checked_keep(keep))
        yield from self._pairs(request, adapter, given, prompt, count, seed, steps, guidance)

    def _pairs(
        self,
        request: gr.Request,
        adapter: str,
        given: Given | None,
        prompt: str,
        count: int,
        seed: int,
        steps: int | None,
        guidance: float | None,
    ) -> Answers:
        """Generate; the model's own steps and guidance count where none are given."""
        facts = self._studio.model.facts(adapter)
        steps, guidance = facts.steps if steps is None else steps, facts.guidance if guidance is None else guidance
        wanted = checked_request(self._limits, prompt, count, seed, steps, guidance, given)
        folder = self._studio.new_drawn_folder()
        try:
            generated: Generated = yield from self._result(
                request, adapter, lambda pipeline: generate(pipeline, wanted, folder)
            )
            archive = write_zip(folder, self._studio.new_download_folder() / "pairs.zip")
            record: dict[str, Any] = {}
            if given is None:
                record["command"] = generate_command(wanted, facts, self._studio.model.option(adapter))
            record["pairs"] = [
                {**pair.model_dump(exclude_none=True), "agreement": round(agreement, 4)}
                for pair, agreement in zip(generated.records, generated.agreements, strict=True)
            ]
            yield record, str(archive)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _result(
        self, request: gr.Request, adapter: str, work: Callable[[WatchedPipeline], Any]
    ) -> Generator[tuple[dict[str, Any], None], None, Any]:
        """Do a piece of work, reporting its steps; where the caller cancels or goes away, it stops."""
        result = None
        for event in self._studio.model.draw(adapter, str(request.session_hash), work):
            if isinstance(event, Step):
                yield {"step": event.step, "steps": event.steps, "finished": len(event.finished)}, None
            else:
                result = event.result
        if result is None:
            raise InputError("a draw that was stopped", "one that is let run", "ask again")
        return result


def _file(path: str | None, name: str) -> Path:
    if not path:
        raise InputError(f"no {name}", "a picture", "send one with gradio_client's handle_file")
    return Path(path)
