"""The Data tab's "Balance": the balance of a data set, and a plan of what to generate."""

from __future__ import annotations

import gradio as gr

from skindualgen.contracts import InputError
from skindualgen.studio.balancing import PLAN_SUFFIX, PLANS_DIR, PlanRequest, balance_html, make_plan, plan_html
from skindualgen.studio.components import PRIVATE, QUIET, html_block, name_field
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.pieces import empty
from skindualgen.studio.review import Library, balance
from skindualgen.studio.workspace import free_name

ATTRIBUTES = {"Class": "diagnosis", "Sex": "sex", "Site": "site"}
BALANCED, UNIFORM = "Every class as large as the largest", "The same number for each class"
NONE = "No data set is chosen."


def build(library: Library, dataset: gr.Dropdown) -> None:
    """Lay out the part of the Data tab."""
    plans = library.workspace.root / PLANS_DIR
    with gr.Row(elem_classes="sdg-split"):
        with gr.Column(elem_classes="sdg-side"):
            target = gr.Radio([BALANCED, UNIFORM], value=BALANCED, label="Target", elem_id="plan-target")
            by = gr.CheckboxGroup(list(ATTRIBUTES), value=["Class"], label="Groups by", elem_id="plan-by")
            count = gr.Number(300, label="Pairs in all", precision=0, minimum=1, elem_id="plan-count", visible=False)
            with gr.Row(elem_classes="sdg-inline"):
                ratio = gr.Number(
                    5, label="Generated for each real pair, at most", minimum=0.1, elem_id="plan-ratio", min_width=150
                )
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="plan-seed", min_width=90)
            novel = gr.Checkbox(label="Also combinations that no real pair has (extrapolation)", elem_id="plan-novel")
            name = name_field("Name of the plan", "plan-name", plans, "plan", suffix=PLAN_SUFFIX)
            start = gr.Button("Plan", variant="primary", elem_id="plan-start")
        with gr.Column(elem_classes="sdg-main"):
            chart = html_block(empty(NONE), elem_id="plan-balance")
            result = html_block(elem_id="plan-result")

    @as_sentence
    def counted(chosen: str | None) -> str:
        return balance_html(balance(library.records(chosen), "train")) if chosen else empty(NONE)

    @as_sentence
    def planned(
        chosen: str | None, target: str, by: list[str], count: float, ratio: float, seed: float, novel: bool, name: str
    ) -> str:
        if not chosen:
            raise InputError("no data set", "one to plan for", "choose it above")
        groups = tuple(ATTRIBUTES[each] for each in ATTRIBUTES if each in by)
        number = None if target == BALANCED else int(count or 0)
        wanted = PlanRequest(chosen, groups, number, float(ratio or 0), int(seed or 0), novel)
        path, plan = make_plan(library, wanted, name)
        return plan_html(path, plan, wanted)

    def show_count(value: str) -> object:
        return gr.update(visible=value == UNIFORM)

    target.input(show_count, target, count, trigger_mode="always_last", **PRIVATE)
    dataset.change(counted, dataset, chart, **QUIET)
    made = start.click(planned, [dataset, target, by, count, ratio, seed, novel, name], result, **PRIVATE)
    made.success(lambda: free_name(plans, "plan"), None, name, **QUIET)
