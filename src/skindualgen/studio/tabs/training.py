"""The Train tab: start a run on a data set, follow its curves and pictures, stop it safely, resume it."""

from __future__ import annotations

import shlex
from typing import Any

import gradio as gr

from skindualgen.contracts import InputError
from skindualgen.files import BUILTIN
from skindualgen.jobs.job import Job
from skindualgen.model.registry import KNOWN_BASES
from skindualgen.studio.commands import command_html
from skindualgen.studio.components import AT_ONCE, PRIVATE, choice, command_preview, first_of, html_block, name_field
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.following import curves_html, grids_html, read_metrics, runs, stamp
from skindualgen.studio.recipes import AFRESH, PRESETS, TrainingRequest, train_arguments
from skindualgen.studio.review import Library
from skindualgen.studio.state import Studio
from skindualgen.studio.tabs.job_panel import JobPanel
from skindualgen.studio.workspace import RUNS_DIR, Workspace, free_name

KIND = "train"
SIZES = (64, 128, 256, 384, 512, 768)
FIRST = next(iter(PRESETS))
NOT_HERE = "This run was not started here: what it has logged is shown below."


def build(studio: Studio) -> None:
    """Lay out the tab."""
    workspace = studio.workspace

    def default_run(present: Any) -> str | None:
        running = studio.jobs.running(KIND)
        run = running.about.get("run") if running is not None else None
        return run if run in present else first_of(present)

    with gr.Row(elem_classes="sdg-split"):
        with gr.Column(elem_classes="sdg-side"):
            fields, start = _form(workspace)
            command_preview(
                "train-command", fields, lambda *values: train_arguments(workspace, TrainingRequest(*values))[1]
            )
        with gr.Column(elem_classes="sdg-main"):
            run = choice("Run", "train-run", lambda: runs(workspace), default=default_run)
            _build_following(studio, run)

    @as_sentence
    def started(*values: Any) -> Any:
        wanted = TrainingRequest(*values)
        out, arguments = train_arguments(workspace, wanted)
        Library(workspace).checked(str(wanted.data))
        studio.jobs.start(KIND, arguments, {"run": out, "data": str(wanted.data)})
        (workspace.root / out).mkdir(exist_ok=True)  # its name is taken from now on
        return gr.update(choices=runs(workspace), value=out), free_name(workspace.root / RUNS_DIR, "run")

    start.click(started, fields, [run, fields[1]], **PRIVATE)


def _form(workspace: Workspace) -> tuple[list[Any], gr.Button]:
    """The fields, in the order of `TrainingRequest`, and the button."""
    preset = PRESETS[FIRST]
    data = choice("Data set", "train-data", workspace.datasets, default=first_of)
    name = name_field("Name of the run", "train-name", workspace.root / RUNS_DIR, "run")
    chosen = gr.Dropdown(list(PRESETS), value=FIRST, label="Preset", elem_id="train-preset", interactive=True)
    with gr.Row():
        base = gr.Dropdown(
            list(KNOWN_BASES), value=preset.base, label="Base", elem_id="train-base", min_width=130, interactive=True
        )
        begin = choice(
            "Start from",
            "train-start-from",
            lambda: [AFRESH, BUILTIN, *workspace.adapters()],
            value=preset.start,
            default=lambda present: AFRESH,
            min_width=150,
        )
    with gr.Row(elem_classes="sdg-numbers"):
        steps, batch, rank = (
            gr.Number(value, label=label, precision=0, minimum=1, elem_id=f"train-{label.lower()}", min_width=70)
            for label, value in (("Steps", preset.steps), ("Batch", preset.batch_size), ("Rank", preset.rank))
        )
        sides = [("auto", 0), *((str(side), side) for side in SIZES)]
        size = gr.Dropdown(
            sides, value=preset.size, label="Size, px", elem_id="train-size", min_width=70, interactive=True
        )
    toml = gr.Textbox(
        preset.toml,
        label="Further settings, as TOML",
        lines=4,
        max_lines=12,
        elem_id="train-toml",
        elem_classes="sdg-code",
    )
    start = gr.Button("Start", variant="primary", elem_id="train-start")

    def filled(name: str) -> tuple[Any, ...]:
        preset = PRESETS[name]
        return preset.base, preset.start, preset.steps, preset.batch_size, preset.rank, preset.size, preset.toml

    preset_fields = [base, begin, steps, batch, rank, size, toml]
    chosen.input(filled, chosen, preset_fields, trigger_mode="always_last", **AT_ONCE)
    return [data, name, *preset_fields], start


def job_of(studio: Studio, run: str | None) -> Job | None:
    """The newest job that trained a run."""
    return next((job for job in studio.jobs.all(KIND) if job.about.get("run") == run), None)


def _build_following(studio: Studio, run: gr.Dropdown) -> None:
    """What a run looks like while it runs, and the buttons that stop and resume it."""
    workspace = studio.workspace
    panel = JobPanel.build("train", empty="No run is chosen.")
    resume = gr.Button("Resume", elem_id="train-resume", visible=False, min_width=140)
    curves = html_block("", elem_id="train-curves")
    pictures = html_block("", elem_id="train-pictures")
    line = html_block("", elem_id="train-run-command")

    @as_sentence
    def resumed(name: str | None) -> None:
        job = job_of(studio, name)
        if job is None:
            raise InputError("a run that was not started here", "one of the studio's", "resume it on the command line")
        Library(workspace).checked(job.about.get("data", ""))
        studio.jobs.start(KIND, job.arguments, job.about)

    def look(name: str | None, before: Any) -> tuple[Any, ...]:
        """What the page shows of a run; what did not change is skipped."""
        job = job_of(studio, name)
        there = name if name in runs(workspace) else None
        of_job = (name, *JobPanel.stamp(job))
        of_run = (name, *stamp(workspace.root / there)) if there is not None else (name,)
        old_job, old_run = before or (None, None)
        above: tuple[Any, ...] = (gr.skip(),) * 6
        below: tuple[Any, ...] = (gr.skip(),) * 2
        if of_job != old_job:
            again = job is not None and job.state in ("stopped", "failed", "lost")
            command = command_html(shlex.join(["skindualgen", *job.arguments])) if job is not None else ""
            of_panel = panel.updates(job, empty=None if there is None else NOT_HERE)
            above = (*of_panel, gr.update(visible=again), command)
        if of_run != old_run:
            below = ("", "")
            if there is not None:
                below = (curves_html(read_metrics(workspace, there)), grids_html(workspace, there))
        return *above, *below, gr.skip() if before == (of_job, of_run) else (of_job, of_run)

    outputs = [*panel.outputs, resume, line, curves, pictures]
    looking = panel.connect(studio, lambda name: job_of(studio, name), look, [run], outputs)
    run.change(**looking)
    resume.click(resumed, run, None, **AT_ONCE).then(**looking)
