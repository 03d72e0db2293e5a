"""Create: a prompt, built or written, becomes pairs; any of them can be varied."""

from __future__ import annotations

import html
from functools import partial
from typing import Any

import gradio as gr
from PIL import Image

from skindualgen.data.appearance import SCALES
from skindualgen.data.labels import TONES
from skindualgen.data.terms import DIAGNOSES, SEXES, SITES, UNKNOWN_LESION
from skindualgen.studio.components import QUIET, html_block
from skindualgen.studio.drawing import (
    Results,
    Sampling,
    build_results,
    build_sampling,
    connect_drawing,
    connect_stop,
    fill_defaults,
)
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.generation import Generated
from skindualgen.studio.requests import (
    SEED_LIMIT,
    GenerationRequest,
    Given,
    built_prompt,
    checked_request,
    labels_of_text,
)
from skindualgen.studio.state import Studio
from skindualgen.studio.training_coverage import TrainingCoverage, hints

ANY = "any"
"""A choice that the prompt says nothing of."""
AGES = [str(years) for years in range(5, 95, 5)]
LOOKS = {
    "size": "Size",
    "shape": "Shape",
    "lesion_colour": "Lightness",
    "border": "Border",
    "colours": "Colors",
    "focus": "Texture",
    "hair": "Hair",
}
"""Titles of the sliders, one for each of `SCALES`."""
MEASURED = (
    "0 leaves it open; as long as all are 0, words for looks are drawn with each pair. The bundled adapter has learnt "
    "these words, and so has one whose data set <code>skindualgen prepare</code> has measured."
)
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
            looks = _build_looks()
            use = "Follows the choices above; edit it freely. One prompt per line, taken in turn."
            prompt = gr.Textbox(
                built_prompt("melanoma", "", "", "", ""),
                label="Prompt",
                lines=3,
                max_lines=8,
                info=use,
                elem_id="create-prompt",
            )
            hint = html_block(elem_id="create-hint")
            sampling = build_sampling(studio, "create", count=8, label="Pairs")
        with gr.Column(elem_classes="sdg-main"):
            results = build_results(studio, "create", invitation=INVITATION, more=True)
            _build_variations(studio, results, sampling)

    _connect_prompt(studio, builder, looks, prompt, hint, sampling)
    connect_drawing(studio, sampling, results, [prompt], partial(checked_request, studio.limits))


def _build_builder() -> list[Any]:
    """Diagnosis, site, age, sex, tone; in the order of `built_prompt`."""

    def field(label: str, choices: list[tuple[str, str]], value: str, min_width: int) -> gr.Dropdown:
        elem_id = f"create-{label.split()[-1].lower()}"
        return gr.Dropdown(choices, value=value, label=label, elem_id=elem_id, min_width=min_width)

    with gr.Row(elem_classes="sdg-builder", elem_id="create-builder-terms"):
        fields = [
            field("Diagnosis", _choices(DIAGNOSES, "diagnosis", None), "melanoma", 140),
            field("Site", _choices(SITES, "anatom_site_general", None), "", 140),
        ]
    with gr.Row(elem_classes="sdg-builder"):
        for label, terms in (("Age", AGES), ("Sex", SEXES), ("Skin tone", TONES)):
            fields.append(field(label, [(ANY, ""), *((term, term) for term in terms)], "", 80))
    return fields


def _build_looks() -> list[gr.Slider]:
    """A slider for each of `SCALES`: its places are words of the prompt."""
    with gr.Accordion("Looks", open=False, elem_id="create-looks"):
        html_block(f'<p class="sdg-hint">{MEASURED}</p>')
        return [
            gr.Slider(
                *(0, len(words), 0),
                step=1,
                label=LOOKS[name],
                info=f"1 {words[0]}, {len(words)} {words[-1]}",
                elem_id=f"create-{name}",
                buttons=[],
            )
            for name, words in SCALES.items()
        ]


def _choices(terms: tuple[str, ...], name: str, coverage: TrainingCoverage | None) -> list[tuple[str, str]]:
    """Terms with the number of training photographs, the most frequent first."""
    named = [term for term in terms if term != UNKNOWN_LESION]
    if coverage is None:
        return [(ANY, ""), *((term, term) for term in named)]
    counts = {term: coverage.count({name: term}) for term in named}
    ordered = sorted(named, key=lambda term: -counts[term])
    return [(ANY, ""), *((f"{term} ({counts[term]:,})", term) for term in ordered)]


def _connect_prompt(
    studio: Studio,
    builder: list[Any],
    looks: list[gr.Slider],
    prompt: gr.Textbox,
    hint: gr.HTML,
    sampling: Sampling,
) -> None:
    """The builder writes the prompt; the hint follows the prompt, whoever wrote it."""

    @as_sentence
    def say(text: str, adapter: str) -> str:
        return hint_html(text, studio.model.facts(adapter).coverage)

    @as_sentence
    def count_terms(adapter: str, diagnosis: str, site: str) -> list[Any]:
        coverage = studio.model.facts(adapter).coverage
        # With the values that were chosen meanwhile: new choices alone set the first values again.
        return [
            gr.update(choices=_choices(DIAGNOSES, "diagnosis", coverage), value=diagnosis),
            gr.update(choices=_choices(SITES, "anatom_site_general", coverage), value=site),
        ]

    write = as_sentence(built_prompt)
    fields = [*builder, *looks]
    gr.on([field.input for field in fields], write, fields, prompt, trigger_mode="always_last", queue=False, **QUIET)
    prompt.change(say, [prompt, sampling.adapter], hint, trigger_mode="always_last", **QUIET)
    for ready in fill_defaults(studio, sampling):
        ready.then(say, [prompt, sampling.adapter], hint, **QUIET)
        ready.then(count_terms, [sampling.adapter, *builder[:2]], builder[:2], **QUIET)


def hint_html(text: str, coverage: TrainingCoverage | None) -> str:
    """What the pairs are labelled with, and how well the training photographs cover it."""
    labels = labels_of_text(text)
    if not labels:
        said = "The prompt names no diagnosis, site, age or sex that is known: its pairs get no labels."
        return f'<div class="sdg-hints" role="status"><p class="sdg-hint">{said}</p></div>'
    lines = "".join(
        f'<li class="sdg-depth-{found.depth}">{html.escape(found.text)}</li>' for found in hints(labels, coverage)
    )
    return f'<div class="sdg-hints" role="status"><ul>{lines}</ul></div>'


def _build_variations(studio: Studio, results: Results, sampling: Sampling) -> None:
    """The part that opens with "More like this"."""
    chosen = gr.State(0)
    with gr.Column(visible=False, elem_id="create-variations", elem_classes="sdg-section") as part:
        title = html_block(elem_id="create-variations-title")
        with gr.Row(elem_classes="sdg-inline"):
            strength = gr.Slider(0.2, 0.9, 0.6, step=0.05, label="Strength", elem_id="create-variations-strength")
            again = gr.Button(f"Draw {VARIATIONS} variations", elem_id="create-variations-draw", size="md")
            stop = gr.Button("Stop", variant="stop", size="md", elem_id="create-variations-stop", min_width=80)
        varied = build_results(studio, "create-variations", invitation="Variations appear here.", views=False)

    def choose(event: gr.EventData) -> list[Any]:
        index = int(event.index)
        return [index, gr.update(visible=True), _title(index)]

    def vary(
        shown: Generated | None,
        index: int,
        strength: float,
        before: Generated | None,
        count: float,
        seed: float,
        **numbers: Any,
    ) -> GenerationRequest:
        if shown is None or not 0 <= index < len(shown.records):
            raise gr.Error("That pair is no longer there: draw new ones.", title="")
        return variation(studio, shown, index, strength, before, **numbers)

    inputs = [results.generated, chosen, strength, varied.generated]
    opened = results.pairs.click(choose, None, [chosen, part, title], queue=False, **QUIET)
    for start in (opened.then, again.click):
        connect_drawing(studio, sampling, varied, inputs, vary, start=start)
    connect_stop(studio, stop, varied)


def _title(index: int) -> str:
    return f'<h2 class="sdg-h2">More like pair {index + 1}</h2><p class="sdg-lead">{VARYING}</p>'


def variation(
    studio: Studio, shown: Generated, index: int, strength: float, before: Generated | None, **numbers: float
) -> GenerationRequest:
    """Ask for variations of a pair; those of the same pair that are shown already are not drawn again."""
    record = shown.records[index]
    with Image.open(shown.image(index)) as image, Image.open(shown.mask(index)) as mask:
        files = (f"{record.isic_id}.png", f"{record.isic_id}_mask.png")
        given = Given(mask.convert("L"), image.convert("RGB"), (strength, strength), files=files)
    seed = record.seed or 0
    if before is not None and before.request.given is not None and before.request.given.image == given.image:
        seed = before.request.seed + 1
    text, seed = record.prompt or "", seed % SEED_LIMIT
    return checked_request(studio.limits, text, count=VARIATIONS, seed=seed, given=given, **numbers)
