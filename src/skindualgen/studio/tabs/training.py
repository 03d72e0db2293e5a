"""The Train tab: start a run on a data set, follow its curves and pictures, stop it safely, resume it."""

from __future__ import annotations

import shlex
from typing import Any

import gradio as gr

from skindualgen.contracts import InputError
from skindualgen.model.registry import KNOWN_BASES
from skindualgen.studio.blocks import html_block
from skindualgen.studio.commands import command_html
from skindualgen.studio.errors import as_sentence, sentence
from skindualgen.studio.following import curves_html, grids_html, read_metrics, runs, stamp
from skindualgen.studio.jobs import Job
from skindualgen.studio.lists import relisted
from skindualgen.studio.pieces import note
from skindualgen.studio.recipes import AFRESH, BUILTIN, PRESETS, TrainingRequest, free_name, train_arguments
from skindualgen.studio.review import Library
from skindualgen.studio.state import Studio
from skindualgen.studio.tabs.job_panel import JobPanel
from skindualgen.studio.workspace import RUNS_DIR, Workspace

KIND = "train"
LOOK_EVERY_S = 2.0
SIZES = (64, 128, 256, 384, 512, 768)
FIRST = next(iter(PRESETS))
EMPTY = "No run is chosen."
NOT_HERE = "This run was not started here: what it has logged is shown below."


def build(studio: Studio) -> None:
    """Lay out the tab."""
    with gr.Row(elem_classes="sdg-split"):
        with gr.Column(elem_classes="sdg-side"):
            fields, start = _form(studio)
            line = html_block(elem_id="train-command")
        with gr.Column(elem_classes="sdg-main"):
            run = gr.Dropdown([], label="Run", elem_id="train-run", interactive=True)
            _build_following(studio, run)

    def preview(*values: Any) -> str:
        try:
            return command_html(
                shlex.join(["skindualgen", *train_arguments(studio.workspace, TrainingRequest(*values))[1]])
            )
        except InputError as error:
            return note(sentence(error))

    @as_sentence
    def started(*values: Any) -> Any:
        wanted = TrainingRequest(*values)
        out, arguments = train_arguments(studio.workspace, wanted)
        Library(studio.workspace).checked(str(wanted.data))
        studio.jobs.start(KIND, arguments, {"run": out, "data": str(wanted.data)})
        (studio.workspace.root / out).mkdir(exist_ok=True)  # its name is taken from now on
        return gr.update(choices=runs(studio.workspace), value=out), _next_name(studio.workspace)

    gr.on(
        None, preview, fields, line, show_progress="hidden", trigger_mode="always_last", api_visibility="private",
        queue=False,
    )  # fmt: skip
    start.click(started, fields, [run, fields[1]], api_visibility="private")


def _form(studio: Studio) -> tuple[list[Any], gr.Button]:
    """The fields, in the order of `TrainingRequest`, and the button."""
    workspace, preset = studio.workspace, PRESETS[FIRST]
    data = gr.Dropdown([], label="Data set", elem_id="train-data", interactive=True)
    name = gr.Textbox(_next_name(workspace), label="Name of the run", elem_id="train-name", max_length=64)
    chosen = gr.Dropdown(list(PRESETS), value=FIRST, label="Preset", elem_id="train-preset", interactive=True)
    with gr.Row():
        base = gr.Dropdown(
            list(KNOWN_BASES), value=preset.base, label="Base", elem_id="train-base", min_width=130, interactive=True
        )
        begin = gr.Dropdown(
            _starts(workspace), value=preset.start, label="Start from", elem_id="train-start-from", min_width=150,
            interactive=True,
        )  # fmt: skip
    with gr.Row(elem_classes="sdg-numbers"):
        steps = gr.Number(preset.steps, label="Steps", precision=0, minimum=1, elem_id="train-steps", min_width=70)
        batch = gr.Number(preset.batch_size, label="Batch", precision=0, minimum=1, elem_id="train-batch", min_width=70)
        rank = gr.Number(preset.rank, label="Rank", precision=0, minimum=1, elem_id="train-rank", min_width=70)
        size = gr.Dropdown(
            [("auto", 0), *((str(side), side) for side in SIZES)], value=preset.size, label="Size, px",
            elem_id="train-size", min_width=70, interactive=True,
        )  # fmt: skip
    toml = gr.Textbox(
        preset.toml, label="Further settings, as TOML", lines=4, max_lines=12, elem_id="train-toml",
        elem_classes="sdg-code",
    )  # fmt: skip
    start = gr.Button("Start", variant="primary", elem_id="train-start")

    fields = [data, name, base, begin, steps, batch, rank, size, toml]
    _wire_form(workspace, chosen, fields)
    return fields, start


def _wire_form(workspace: Workspace, chosen: gr.Dropdown, fields: list[Any]) -> None:
    """Fill the fields in when a preset is chosen, and their lists when the page or one of them is opened."""
    data, name, base, begin, *others = fields

    def filled(choice: str) -> tuple[Any, ...]:
        preset = PRESETS[choice]
        return preset.base, preset.start, preset.steps, preset.batch_size, preset.rank, preset.size, preset.toml

    def listed(current: str | None, begun: str) -> tuple[Any, Any]:
        present, starts = workspace.datasets(), _starts(workspace)
        return (
            relisted(present, current, next(iter(present), None)),
            relisted(starts, begun, AFRESH),
        )

    def fresh() -> tuple[Any, ...]:
        return *listed(None, PRESETS[FIRST].start), _next_name(workspace)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    chosen.input(filled, chosen, [base, begin, *others], trigger_mode="always_last", **quiet)
    gr.on([data.focus, begin.focus], listed, [data, begin], [data, begin], **quiet)
    gr.on(
        None, lambda: (*listed(None, PRESETS[FIRST].start), _next_name(workspace)), None, [data, begin, name], **quiet
    )


def _next_name(workspace: Workspace) -> str:
    return free_name(workspace.root / RUNS_DIR, "run")


def _starts(workspace: Workspace) -> list[str]:
    return [AFRESH, BUILTIN, *workspace.adapters()]


def job_of(studio: Studio, run: str | None) -> Job | None:
    """The newest job that trained a run."""
    return next((job for job in studio.jobs.all(KIND) if job.about.get("run") == run), None)


def _build_following(studio: Studio, run: gr.Dropdown) -> None:
    """What a run looks like while it runs, and the buttons that stop and resume it."""
    workspace = studio.workspace
    panel = JobPanel.build("train", empty=EMPTY)
    resume = gr.Button("Resume", elem_id="train-resume", visible=False, min_width=140)
    curves = html_block("", elem_id="train-curves")
    pictures = html_block("", elem_id="train-pictures")
    line = html_block("", elem_id="train-run-command")
    seen = gr.State(None)
    outputs = [*panel.outputs, resume, line, curves, pictures, seen]

    @as_sentence
    def look(name: str | None, before: Any) -> tuple[Any, ...]:
        return look_at(studio, name, before)

    @as_sentence
    def stopped(name: str | None) -> None:
        job = job_of(studio, name)
        gr.Info(studio.jobs.stop(job) if job is not None else EMPTY, duration=6)

    @as_sentence
    def resumed(name: str | None) -> None:
        job = job_of(studio, name)
        if job is None:
            raise InputError("a run that was not started here", "one of the studio's", "resume it on the command line")
        Library(workspace).checked(job.about.get("data", ""))
        studio.jobs.start(KIND, job.arguments, job.about)

    def listed(current: str | None) -> Any:
        present, running = runs(workspace), studio.jobs.running(KIND)
        first = running.about.get("run") if running is not None else None
        return relisted(present, current, first if first in present else next(iter(present), None))

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
    gr.Timer(LOOK_EVERY_S).tick(look, [run, seen], outputs, **quiet)
    run.change(look, [run, seen], outputs, **quiet)
    panel.stop.click(stopped, run, None, **quiet).then(look, [run, seen], outputs, **quiet)
    resume.click(resumed, run, None, **quiet).then(look, [run, seen], outputs, **quiet)
    run.focus(listed, run, run, **quiet)
    gr.on(None, lambda: listed(None), None, run, **quiet)


def look_at(studio: Studio, name: str | None, before: Any) -> tuple[Any, ...]:
    """What the page shows of a run: panel, resume button, command, curves, pictures; what did not change is skipped.

    The last value is handed in again as ``before``.
    """
    workspace, job = studio.workspace, job_of(studio, name)
    there = name if name in runs(workspace) else None
    of_job = (name, *JobPanel.stamp(job))
    of_run = (name, *stamp(workspace.root / there)) if there is not None else (name,)
    old_job, old_run = before or (None, None)
    above: tuple[Any, ...] = (gr.skip(),) * 6
    below: tuple[Any, ...] = (gr.skip(),) * 2
    if of_job != old_job:
        again = job is not None and job.state in ("stopped", "failed", "lost")
        line = command_html(shlex.join(["skindualgen", *job.arguments])) if job is not None else ""
        panel = JobPanel.updates(job, empty=EMPTY if there is None else NOT_HERE)
        above = (*panel, gr.update(visible=again), line)
    if of_run != old_run:
        below = ("", "")
        if there is not None:
            below = (curves_html(read_metrics(workspace, there)), grids_html(workspace, there))
    return *above, *below, gr.skip() if before == (of_job, of_run) else (of_job, of_run)
