"""Create: a prompt, built or written, becomes pairs; any of them can be varied."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr
from PIL import Image

from skindualgen.contracts import PairRecord
from skindualgen.data.terms import DIAGNOSES, SEXES, SITES, UNKNOWN_LESION
from skindualgen.planning.labels import TONES
from skindualgen.studio.blocks import html_block
from skindualgen.studio.commands import command, command_html, python_call
from skindualgen.studio.drawn import SEED_LIMIT, Drawn, GenerationRequest, Given, draw_given, draw_pairs
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.fields import Sampling, build_sampling, fill_defaults
from skindualgen.studio.generation_requests import built_prompt, checked_request, labels_of_text
from skindualgen.studio.results import DRAWING, QUIET, Results, build_results, draw_into, python_html, stop_button
from skindualgen.studio.seen import Seen, hints
from skindualgen.studio.state import Studio

ANY = "any"
"""A choice that the prompt says nothing of."""
AGES = range(5, 95, 5)
VARIATIONS = 4
INVITATION = "Describe a lesion and draw it: image and mask come from one pass of the model."
VARYING = (
    "Each variation starts from this pair with noise added to image and mask alike, and is drawn anew from another "
    "seed: at low strength colours and outline stay close, at high strength little more than the rough place and size "
    "do."
)


def build(studio: Studio) -> None:
    """Lay out the tab."""
    with gr.Row(elem_classes="sdg-split"):
        with gr.Column(elem_classes="sdg-side", scale=0):
            builder = _build_builder()
            prompt = gr.Textbox(
                built_prompt("melanoma", "", "", "", ""), label="Prompt", lines=3, max_lines=8,
                info="Follows the choices above; edit it freely. One prompt a line, taken in turn.",
                elem_id="create-prompt",
            )  # fmt: skip
            hint = html_block(elem_id="create-hint")
            sampling = build_sampling(studio, "create", count=8, label="Pairs", action="Draw")
        with gr.Column(elem_classes="sdg-main"):
            results = build_results(studio, "create", invitation=INVITATION, more=True)
            _build_variations(studio, results, sampling)

    stop_button(studio, sampling.stop, results.status)
    _connect_prompt(studio, builder, prompt, hint, sampling)
    sampling.draw.click(_drawing(studio), [prompt, *sampling.inputs, results.drawn], results.outputs, **DRAWING)


def _build_builder() -> list[Any]:
    """Diagnosis, site, age, sex, tone; in the order of `built_prompt`."""
    with gr.Row(elem_classes="sdg-builder", elem_id="create-builder-terms"):
        diagnosis = gr.Dropdown(
            _choices(DIAGNOSES, "diagnosis", None), value="melanoma", label="Diagnosis",
            elem_id="create-diagnosis", min_width=140,
        )  # fmt: skip
        site = gr.Dropdown(
            _choices(SITES, "anatom_site_general", None), value="", label="Site", elem_id="create-site", min_width=140
        )
    with gr.Row(elem_classes="sdg-builder"):
        age, sex, tone = (
            gr.Dropdown([(ANY, ""), *terms], value="", label=label, elem_id=f"create-{name}", min_width=80)
            for name, label, terms in (
                ("age", "Age", [str(years) for years in AGES]), ("sex", "Sex", SEXES), ("tone", "Skin tone", TONES),
            )
        )  # fmt: skip
    return [diagnosis, site, age, sex, tone]


def _choices(terms: tuple[str, ...], name: str, seen: Seen | None, blank: str = ANY) -> list[tuple[str, str]]:
    """Terms with the number of training photographs, the most frequent first."""
    named = [term for term in terms if term != UNKNOWN_LESION]
    if seen is None:
        return [(blank, ""), *((term, term) for term in named)]
    counts = {term: seen.count({name: term}) for term in named}
    ordered = sorted(named, key=lambda term: -counts[term])
    return [(blank, ""), *((f"{term} ({counts[term]:,})", term) for term in ordered)]


def _connect_prompt(studio: Studio, builder: list[Any], prompt: gr.Textbox, hint: gr.HTML, sampling: Sampling) -> None:
    """The builder writes the prompt; the hint follows the prompt, whoever wrote it."""

    @as_sentence
    def tell(text: str, adapter: str) -> str:
        return hint_html(text, studio.model.facts(adapter).seen)

    @as_sentence
    def count_terms(adapter: str, diagnosis: str, site: str) -> list[Any]:
        seen = studio.model.facts(adapter).seen
        # With the values that were chosen meanwhile: new choices alone set the first values again.
        return [
            gr.update(choices=_choices(DIAGNOSES, "diagnosis", seen), value=diagnosis),
            gr.update(choices=_choices(SITES, "anatom_site_general", seen), value=site),
        ]

    write = as_sentence(built_prompt)
    gr.on([field.input for field in builder], write, builder, prompt, trigger_mode="always_last", queue=False, **QUIET)
    prompt.change(tell, [prompt, sampling.adapter], hint, trigger_mode="always_last", **QUIET)
    for ready in fill_defaults(studio, sampling):
        ready.then(tell, [prompt, sampling.adapter], hint, **QUIET)
        ready.then(count_terms, [sampling.adapter, *builder[:2]], builder[:2], **QUIET)


def hint_html(text: str, seen: Seen | None) -> str:
    """What the pairs are labelled with, and how well the training photographs cover it."""
    labels = labels_of_text(text)
    if not labels:
        said = "The prompt names no diagnosis, site, age or sex that is known: its pairs get no labels."
        return f'<div class="sdg-hints" role="status"><p class="sdg-hint">{said}</p></div>'
    lines = "".join(
        f'<li class="sdg-depth-{found.depth}">{html.escape(found.text)}</li>' for found in hints(labels, seen)
    )
    return f'<div class="sdg-hints" role="status"><ul>{lines}</ul></div>'


def _drawing(studio: Studio) -> Any:
    @as_sentence
    def draw(
        text: str, count: float, seed: float, adapter: str, steps: float, guidance: float, before: Drawn | None,
        request: gr.Request,
    ) -> Iterator[list[Any]]:  # fmt: skip
        wanted = checked_request(studio.limits, text, count, seed, steps, guidance)
        yield from draw_into(
            studio, adapter, str(request.session_hash), before,
            lambda pipeline, folder: draw_pairs(pipeline, wanted, folder),
            count=wanted.count, same=lambda: command_html(generate_command(studio, wanted, adapter)), more=True,
        )  # fmt: skip

    return draw


def generate_command(studio: Studio, wanted: GenerationRequest, adapter: str) -> str:
    """The command that draws the same files."""
    threads = studio.model.facts(adapter).threads
    return command(
        "generate", out="pairs", adapter=studio.model.option(adapter), prompt=list(wanted.prompts),
        count=wanted.count, seed=wanted.seed, steps=wanted.steps, guidance=wanted.guidance,
        threads=None if threads == 1 else threads,
    )  # fmt: skip


def _build_variations(studio: Studio, results: Results, sampling: Sampling) -> None:
    """The part that opens with "More like this"."""
    chosen = gr.State(0)
    round_ = gr.State(0)
    with gr.Column(visible=False, elem_id="create-variations", elem_classes="sdg-section") as part:
        title = html_block(elem_id="create-variations-title")
        with gr.Row(elem_classes="sdg-inline"):
            strength = gr.Slider(0.2, 0.9, 0.6, step=0.05, label="Strength", elem_id="create-variations-strength")
            again = gr.Button(f"Draw {VARIATIONS} variations", elem_id="create-variations-draw", size="md")
            stop = gr.Button("Stop", variant="stop", size="md", elem_id="create-variations-stop", min_width=80)
        varied = build_results(studio, "create-variations", invitation="Variations appear here.", views=False)

    def choose(event: gr.EventData) -> list[Any]:
        index = int(event.index)
        return [index, 0, gr.update(visible=True), _title(index)]

    @as_sentence
    def vary(
        shown: Drawn | None, index: int, number: int, share: float, adapter: str, steps: float, guidance: float,
        before: Drawn | None, request: gr.Request,
    ) -> Iterator[list[Any]]:  # fmt: skip
        if shown is None or not 0 <= index < len(shown.records):
            raise gr.Error("That pair is no longer there: draw new ones.", title="")
        record = shown.records[index]
        seed = ((record.seed or 0) + number) % SEED_LIMIT
        wanted = checked_request(studio.limits, record.prompt or "", VARIATIONS, seed, steps, guidance)
        with Image.open(shown.image(index)) as image, Image.open(shown.mask(index)) as mask:
            given = Given(mask.convert("L"), image.convert("RGB"), (share, share))
        drawing = draw_into(
            studio, adapter, str(request.session_hash), before,
            lambda pipeline, folder: draw_given(pipeline, wanted, folder, given),
            count=VARIATIONS, same=lambda: python_html(variation_code(record, wanted, share, adapter)),
        )  # fmt: skip
        for values in drawing:
            yield [*values, number + 1]

    stop_button(studio, stop, varied.status)
    inputs = [results.drawn, chosen, round_, strength, *sampling.inputs[2:], varied.drawn]
    results.pairs.click(choose, None, [chosen, round_, part, title], queue=False, **QUIET).then(
        vary, inputs, [*varied.outputs, round_], **DRAWING
    )
    again.click(vary, inputs, [*varied.outputs, round_], **DRAWING)


def _title(index: int) -> str:
    return f'<h2 class="sdg-h2">More like pair {index + 1}</h2><p class="sdg-lead">{VARYING}</p>'


def variation_code(record: PairRecord, wanted: GenerationRequest, share: float, adapter: str) -> str:
    """Python that draws the same variations from the downloaded pair."""
    given = {
        "image": f"Image.open('{record.isic_id}.png')", "mask_image": f"Image.open('{record.isic_id}_mask.png')",
        "strength": f"({share:g}, {share:g})",
    }  # fmt: skip
    return python_call(
        record.prompt or "", given, adapter=adapter, count=wanted.count, seed=wanted.seed, steps=wanted.steps,
        guidance=wanted.guidance,
    )  # fmt: skip
