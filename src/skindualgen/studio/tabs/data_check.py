"""The Data tab's "Check": whether a data set is ready, and what mends it."""

from __future__ import annotations

import gradio as gr

from skindualgen.contracts import InputError
from skindualgen.model.registry import KNOWN_BASES
from skindualgen.readiness.results import Purpose
from skindualgen.studio.checking import check_html, check_set
from skindualgen.studio.components import PRIVATE, QUIET, html_block, pictures_report
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.pieces import note
from skindualgen.studio.review import Library

PURPOSES: dict[str, Purpose] = {"Training": "train", "Benchmark": "benchmark"}
BEFORE = "Every pair is read once: splits, masks, sizes, prompts, pictures that are alike."


def build(library: Library, dataset: gr.Dropdown) -> None:
    """Lay out the part of the Data tab."""
    with gr.Row(elem_classes="sdg-toolbar"):
        purpose = gr.Radio(list(PURPOSES), value=next(iter(PURPOSES)), label="Needed for", elem_id="check-purpose")
        base = gr.Dropdown(list(KNOWN_BASES), value="micro", label="Base", elem_id="check-base", interactive=True)
        start = gr.Button("Check", variant="primary", elem_id="check-start", scale=0, min_width=110)
        cancel = gr.Button("Cancel", elem_id="check-cancel", scale=0, min_width=110)
    result = html_block(note(BEFORE), elem_id="check")

    @as_sentence
    def checked(name: str | None, purpose: str, base: str, progress: gr.Progress = gr.Progress()) -> str:  # noqa: B008
        if not name:
            raise InputError("no data set", "one to check", "choose it above")
        if base not in KNOWN_BASES:
            raise InputError(f"the base {base[:80]!r}", "one of the list", "choose it from the list")
        found, sheet = check_set(library, name, PURPOSES[purpose], base, report=pictures_report(progress))
        return check_html(name, found, sheet, base)

    event = start.click(checked, [dataset, purpose, base], result, **PRIVATE)
    cancel.click(None, cancels=[event])
    dataset.change(lambda: note(BEFORE), None, result, **QUIET)
