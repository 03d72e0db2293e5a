"""A job on the page: its state and progress bars, its log, and the button that stops it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from skindualgen.studio.blocks import html_block
from skindualgen.studio.jobs import Job
from skindualgen.studio.pieces import empty as nothing
from skindualgen.studio.pieces import job_view, log_view

STOP, KILL = "Stop", "Kill it now"


@dataclass(frozen=True)
class JobPanel:
    """The components of one job; `updates` gives their values in the order of `outputs`."""

    view: gr.HTML
    log: gr.HTML
    log_frame: gr.Accordion
    stop: gr.Button

    @classmethod
    def build(cls, prefix: str, *, empty: str) -> JobPanel:
        """Lay the components out; their ids begin with ``prefix``."""
        view = html_block(nothing(empty), elem_id=f"{prefix}-job")
        with gr.Accordion("Log", open=False, elem_id=f"{prefix}-log-frame", visible=False) as frame:
            log = html_block("", elem_id=f"{prefix}-log", autoscroll=True)
        stop = gr.Button(STOP, variant="stop", elem_id=f"{prefix}-stop", visible=False, min_width=140)
        return cls(view, log, frame, stop)

    @property
    def outputs(self) -> list[Any]:
        """The components that change."""
        return [self.view, self.log, self.log_frame, self.stop]

    @staticmethod
    def updates(job: Job | None, *, empty: str, detail: str = "") -> tuple[Any, ...]:
        """Values of the components; ``detail`` is HTML beside the state."""
        if job is None:
            return nothing(empty), "", gr.update(visible=False), gr.update(visible=False)
        words = KILL if job.may_be_killed else "Stopping ..." if job.state == "stopping" else STOP
        button = gr.update(visible=job.active, value=words, interactive=words != "Stopping ...")
        return job_view(job, detail=detail), log_view(job), gr.update(visible=True), button

    @staticmethod
    def stamp(job: Job | None) -> tuple[Any, ...]:
        """What changes when there is something new to show."""
        return (None,) if job is None else (job.name, job.state, job.may_be_killed, job.log())
