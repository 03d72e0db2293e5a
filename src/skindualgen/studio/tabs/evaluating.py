"""The Evaluate tab: judge a generated data set against a real one, read reports, compare two generators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from skindualgen.studio.components import PRIVATE, choice, command_preview, html_block, name_field, on_load
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.pieces import empty
from skindualgen.studio.recipes import SECTIONS, evaluate_arguments
from skindualgen.studio.review import Library
from skindualgen.studio.state import Studio
from skindualgen.studio.tabs.job_panel import JobPanel
from skindualgen.studio.workspace import REPORTS_DIR, Workspace

KIND = "evaluate"
NO_JOB = "No evaluation was started yet."
NO_REPORT = "No report is chosen. An evaluation writes one."


def build(studio: Studio) -> None:
    """Lay out the tab."""
    with gr.Tabs(elem_id="evaluate-views", elem_classes="sdg-parts"):
        with gr.Tab("Run", id="run"):
            _build_run(studio)
        with gr.Tab("Reports", id="reports"):
            _build_reports(studio)
        with gr.Tab("Compare", id="compare"):
            _build_comparison(studio)


def _build_run(studio: Studio) -> None:
    with gr.Row(elem_classes="sdg-split"):
        with gr.Column(elem_classes="sdg-side"):
            fields, start = _form(studio.workspace)
        with gr.Column(elem_classes="sdg-main"):
            panel = JobPanel.build("evaluate", empty=NO_JOB)

    @as_sentence
    def started(*values: Any) -> None:
        out, arguments = evaluate_arguments(studio.workspace, *values)
        for each in values[:2]:
            Library(studio.workspace).checked(each)
        studio.jobs.start(KIND, arguments, {"report": out, "real": values[0], "generated": values[1]})

    def look(before: Any) -> tuple[Any, ...]:
        job = studio.jobs.latest(KIND)
        now = panel.stamp(job)
        return (*((gr.skip(),) * len(panel.outputs) if now == before else panel.updates(job)), now)

    looking = panel.connect(studio, lambda: studio.jobs.latest(KIND), look, [], panel.outputs)
    start.click(started, fields, None, **PRIVATE).then(**looking)
    on_load(lambda: look(None), looking["outputs"])


def _form(workspace: Workspace) -> tuple[list[Any], gr.Button]:
    """The fields, in the order of `evaluate_arguments`, the button, and the command that it starts."""
    real = choice("Real data set", "evaluate-real", workspace.datasets)
    generated = choice("Generated data set", "evaluate-generated", workspace.datasets)
    name = name_field("Name of the report", "evaluate-name", workspace.root / REPORTS_DIR, "report")
    parts = gr.CheckboxGroup(list(SECTIONS), value=list(SECTIONS), label="Measure", elem_id="evaluate-parts")
    kept = "0: the bundled judges. Judges of your own are trained once for each real data set, and kept."
    steps = gr.Number(0, label="Steps of own judges", precision=0, minimum=0, elem_id="evaluate-steps", info=kept)
    start = gr.Button("Evaluate", variant="primary", elem_id="evaluate-start")
    fields = [real, generated, name, parts, steps]
    command_preview("evaluate-command", fields, lambda *values: evaluate_arguments(workspace, *values)[1])
    return fields, start


def _report_choice(studio: Studio, label: str, elem_id: str) -> gr.Dropdown:
    return choice(label, elem_id, studio.workspace.reports, min_width=220)


def _build_reports(studio: Studio) -> None:
    report = _report_choice(studio, "Report", "report-choice")
    frame = html_block(empty(NO_REPORT), elem_id="report-frame")

    @as_sentence
    def opened(name: str | None) -> str:
        from skindualgen.studio.comparing import report_frame

        return report_frame(studio.workspace, name) if name else empty(NO_REPORT)

    report.change(opened, report, frame, **PRIVATE)


def _build_comparison(studio: Studio) -> None:
    with gr.Row(elem_classes="sdg-toolbar"):
        first = _report_choice(studio, "First report", "compare-first")
        second = _report_choice(studio, "Second report", "compare-second")
    result = html_block(empty("Choose two reports."), elem_id="comparison")

    @as_sentence
    def compared(one: str | None, other: str | None) -> str:
        if not one or not other:
            return empty("Choose two reports.")
        if one == other:
            return empty("Choose two different reports.")
        from skindualgen.studio.comparing import comparison_html, read_report

        return comparison_html(
            read_report(studio.workspace, one), read_report(studio.workspace, other), (Path(one).name, Path(other).name)
        )

    gr.on([first.change, second.change], compared, [first, second], result, **PRIVATE)
