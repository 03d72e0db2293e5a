"""A job on the page: its state and progress bars, its log, and the button that stops it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from skindualgen.jobs.job import Job
from skindualgen.studio.components import AT_ONCE, html_block
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.pieces import empty as nothing
from skindualgen.studio.pieces import job_view, log_view
from skindualgen.studio.state import Studio

STOP, STOPPING, KILL = "Stop", "Stopping ...", "Kill it now"
LOOK_EVERY_S = 2.0


@dataclass(frozen=True)
class JobPanel:
    """The components of one job; `updates` gives their values in the order of `outputs`.

    Attributes:
        empty: shown where there is no job.
    """

    view: gr.HTML
    log: gr.HTML
    log_frame: gr.Accordion
    stop: gr.Button
    empty: str

    @classmethod
    def build(cls, prefix: str, *, empty: str) -> JobPanel:
        """Lay the components out; their ids begin with ``prefix``."""
        view = html_block(nothing(empty), elem_id=f"{prefix}-job")
        with gr.Accordion("Log", open=False, elem_id=f"{prefix}-log-frame", visible=False) as frame:
            log = html_block("", elem_id=f"{prefix}-log", autoscroll=True)
        stop = gr.Button(STOP, variant="stop", elem_id=f"{prefix}-stop", visible=False, min_width=140)
        return cls(view, log, frame, stop, empty)

    @property
    def outputs(self) -> list[Any]:
        """The components that change."""
        return [self.view, self.log, self.log_frame, self.stop]

    def updates(self, job: Job | None, *, empty: str | None = None) -> tuple[Any, ...]:
        """Values of the components."""
        if job is None:
            return nothing(empty or self.empty), "", gr.update(visible=False), gr.update(visible=False)
        words = KILL if job.may_be_killed else STOPPING if job.state == "stopping" else STOP
        button = gr.update(visible=job.active, value=words, interactive=words != STOPPING)
        return job_view(job), log_view(job), gr.update(visible=True), button

    @staticmethod
    def stamp(job: Job | None) -> tuple[Any, ...]:
        """What changes when there is something new to show."""
        return (None,) if job is None else (job.name, job.state, job.may_be_killed, job.log())

    def connect(
        self,
        studio: Studio,
        find: Callable[..., Job | None],
        look: Callable[..., tuple[Any, ...]],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
    ) -> dict[str, Any]:
        """Look at the job every two seconds, and let the button stop it.

        Args:
            studio: of the jobs.
            find: values of ``inputs`` -> the job.
            look: values of ``inputs``, and what it returned last before -> values of ``outputs`` and that.
            inputs, outputs: components.

        Returns:
            The arguments of one more listener that looks.
        """

        @as_sentence
        def stopped(*values: Any) -> None:
            job = find(*values)
            gr.Info(job.stop() if job is not None else self.empty, duration=6)

        before = gr.State(None)
        looking = {"fn": as_sentence(look), "inputs": [*inputs, before], "outputs": [*outputs, before], **AT_ONCE}
        gr.Timer(LOOK_EVERY_S).tick(**looking)
        self.stop.click(stopped, list(inputs) or None, None, **AT_ONCE).then(**looking)
        return looking
