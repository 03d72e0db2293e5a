"""The Evaluate tab: judge a generated data set beside a real one, read reports, compare two generators."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import gradio as gr

from skindualgen.contracts import InputError
from skindualgen.studio.blocks import html_block
from skindualgen.studio.commands import command_html
from skindualgen.studio.errors import as_sentence, sentence
from skindualgen.studio.lists import relisted
from skindualgen.studio.pieces import empty, note
from skindualgen.studio.recipes import SECTIONS, evaluate_arguments, free_name
from skindualgen.studio.review import Library
from skindualgen.studio.state import Studio
from skindualgen.studio.tabs.job_panel import JobPanel
from skindualgen.studio.workspace import REPORTS_DIR, Workspace

KIND = "evaluate"
LOOK_EVERY_S = 2.0
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
"""Of listeners that the visitor did not click for; they do not wait behind those that draw."""
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
    seen = gr.State(None)
    outputs = [*panel.outputs, seen]

    @as_sentence
    def started(*values: Any) -> None:
        out, arguments = evaluate_arguments(studio.workspace, *values)
        for each in values[:2]:
            Library(studio.workspace).checked(each)
        studio.jobs.start(KIND, arguments, {"report": out, "real": values[0], "generated": values[1]})

    @as_sentence
    def look(before: Any) -> tuple[Any, ...]:
        job = studio.jobs.latest(KIND)
        now = panel.stamp(job)
        return (gr.skip(),) * len(outputs) if now == before else (*panel.updates(job, empty=NO_JOB), now)

    @as_sentence
    def stopped() -> None:
        job = studio.jobs.latest(KIND)
        gr.Info(studio.jobs.stop(job) if job is not None else NO_JOB, duration=6)

    start.click(started, fields, None, api_visibility="private").then(look, seen, outputs, **QUIET)
    panel.stop.click(stopped, None, None, **QUIET).then(look, seen, outputs, **QUIET)
    gr.Timer(LOOK_EVERY_S).tick(look, seen, outputs, **QUIET)
    gr.on(None, lambda: look(None), None, outputs, **QUIET)


def _form(workspace: Workspace) -> tuple[list[Any], gr.Button]:
    """The fields, in the order of `evaluate_arguments`, the button, and the command that it starts."""
    real = gr.Dropdown([], label="Real data set", elem_id="evaluate-real", interactive=True)
    generated = gr.Dropdown([], label="Generated data set", elem_id="evaluate-generated", interactive=True)
    name = gr.Textbox("report-1", label="Name of the report", elem_id="evaluate-name", max_length=64)
    parts = gr.CheckboxGroup(list(SECTIONS), value=list(SECTIONS), label="Measure", elem_id="evaluate-parts")
    steps = gr.Number(
        1000, label="Steps of each judge", precision=0, minimum=1, elem_id="evaluate-steps",
        info="Judges are trained once for each real data set, and kept.",
    )  # fmt: skip
    start = gr.Button("Evaluate", variant="primary", elem_id="evaluate-start")
    line = html_block(elem_id="evaluate-command")
    fields = [real, generated, name, parts, steps]

    def preview(*values: Any) -> str:
        if not all(values[:2]):
            return note("Choose a real and a generated data set.")
        try:
            return command_html(shlex.join(["skindualgen", *evaluate_arguments(workspace, *values)[1]]))
        except InputError as error:
            return note(sentence(error))

    def listed(*current: str | None) -> list[Any]:
        present = workspace.datasets()
        return [relisted(present, each) for each in current]

    def fresh() -> list[Any]:
        return [*listed(None, None), free_name(workspace.root / REPORTS_DIR, "report")]

    gr.on(None, preview, fields, line, trigger_mode="always_last", **QUIET)
    gr.on([real.focus, generated.focus], listed, [real, generated], [real, generated], **QUIET)
    gr.on(None, fresh, None, [real, generated, name], **QUIET)
    return fields, start


def _report_choice(studio: Studio, label: str, elem_id: str) -> gr.Dropdown:
    """A list of finished evaluations that is read anew when it is opened."""
    choice = gr.Dropdown([], label=label, elem_id=elem_id, interactive=True, min_width=220)

    def listed(current: str | None) -> Any:
        return relisted(studio.workspace.reports(), current)

    choice.focus(listed, choice, choice, show_progress="hidden", api_visibility="private")
    gr.on(None, lambda: listed(None), None, choice, show_progress="hidden", api_visibility="private")
    return choice


def _build_reports(studio: Studio) -> None:
    report = _report_choice(studio, "Report", "report-choice")
    frame = html_block(empty(NO_REPORT), elem_id="report-frame")

    @as_sentence
    def opened(name: str | None) -> str:
        from skindualgen.studio.comparing import report_frame

        return report_frame(studio.workspace, name) if name else empty(NO_REPORT)

    report.change(opened, report, frame, api_visibility="private")


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

    gr.on([first.change, second.change], compared, [first, second], result, api_visibility="private")
