"""The Data tab: look through a data set, accept and reject pairs, check it, balance its classes, find its doubles."""

from __future__ import annotations

import gradio as gr

from skindualgen.studio.components import choice, first_of
from skindualgen.studio.review import Library
from skindualgen.studio.review_page import REVIEWER_LENGTH
from skindualgen.studio.state import Studio
from skindualgen.studio.tabs import data_check, data_duplicates, data_plan, data_review


def build(studio: Studio) -> None:
    """Lay out the tab."""
    library = Library(studio.workspace)
    with gr.Row(elem_classes="sdg-toolbar"):
        datasets = studio.workspace.datasets
        dataset = choice("Data set", "data-set", datasets, default=first_of, scale=3, min_width=240)
        gr.Textbox(  # read by review.js
            label="Reviewer",
            elem_id="data-reviewer",
            placeholder="kept with each decision",
            max_lines=1,
            max_length=REVIEWER_LENGTH,
            scale=2,
            min_width=180,
        )
    with gr.Tabs(elem_id="data-views", elem_classes="sdg-parts"):
        with gr.Tab("Review", id="review"):
            data_review.build(library, dataset, studio.limits.upload_pixels)
        with gr.Tab("Check", id="check"):
            data_check.build(library, dataset)
        with gr.Tab("Balance", id="plan"):
            data_plan.build(library, dataset)
        with gr.Tab("Duplicates", id="duplicates"):
            data_duplicates.build(library, dataset, studio.limits.upload_pixels)
