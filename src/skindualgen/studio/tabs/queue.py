"""The Queue tab: what `skindualgen queue` has run, runs and will run; reorder what waits, cancel."""

from __future__ import annotations

import html
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from skindualgen.contracts import InputError
from skindualgen.jobs.queue import Queued
from skindualgen.studio.commands import command_html
from skindualgen.studio.components import AT_ONCE, choice, html_block, on_load
from skindualgen.studio.errors import as_sentence
from skindualgen.studio.pieces import empty, table
from skindualgen.studio.state import Studio
from skindualgen.studio.tabs.job_panel import LOOK_EVERY_S
from skindualgen.studio.workspace import QUEUE_DIR

NO_JOB = "Nothing was queued. Commands are added, and run, in a terminal."
FOLDER = f"--folder WORKSPACE/{QUEUE_DIR}"
COMMANDS = (("Add a command", f"skindualgen queue add {FOLDER} -- COMMAND"), ("Run", f"skindualgen queue run {FOLDER}"))
ENDED_SHOWN = 20
"""Jobs that have ended, of which the newest are listed."""


def build(studio: Studio) -> None:
    """Lay out the tab."""
    queue = studio.queue
    view = html_block(elem_id="queue-jobs")
    with gr.Row(elem_classes="sdg-toolbar"):
        chosen = choice("Job", "queue-job", lambda: [_title(queued) for queued in queue.open()], min_width=220)
        earlier, later = (
            gr.Button(words, elem_id=f"queue-{words.lower()}", min_width=100) for words in ("Earlier", "Later")
        )
        cancel = gr.Button("Cancel", variant="stop", elem_id="queue-cancel", min_width=100)
    html_block("".join(command_html(line, label=label) for label, line in COMMANDS))

    def look(before: str | None) -> tuple[Any, Any]:
        now = queue_html(queue.all())
        return (gr.skip(), gr.skip()) if now == before else (now, now)

    @as_sentence
    def move(title: str | None, by: int) -> None:
        number = _number(title)
        waiting = [queued.number for queued in queue.open() if queued.state == "waiting"]
        place = waiting.index(number) + 1 + by if number in waiting else 1
        if number not in waiting or 1 <= place <= len(waiting):  # whether it waits is for the queue to say
            queue.move(number, place)

    @as_sentence
    def cancelled(title: str | None) -> None:
        gr.Info(queue.cancel(_number(title)), duration=6)

    shown = gr.State(None)
    looking: dict[str, Any] = {"fn": as_sentence(look), "inputs": shown, "outputs": [view, shown], **AT_ONCE}
    gr.Timer(LOOK_EVERY_S).tick(**looking)
    on_load(lambda: look(None), [view, shown])
    actions: Sequence[tuple[gr.Button, Callable[[str | None], None]]] = (
        (earlier, lambda title: move(title, -1)),
        (later, lambda title: move(title, 1)),
        (cancel, cancelled),
    )
    for button, action in actions:
        button.click(action, chosen, None, **AT_ONCE).then(**looking)


def queue_html(jobs: Sequence[Queued]) -> str:
    """A table of jobs: all that have not ended, and the newest that have."""
    ended = [queued for queued in jobs if queued.state in ("done", "failed", "cancelled")]
    hidden = {queued.number for queued in ended[:-ENDED_SHOWN]}
    rows = [_row(queued) for queued in jobs if queued.number not in hidden]
    if not rows:
        return empty(NO_JOB)
    return table(("Job", "State", "Name", "Command"), rows, caption="Jobs of the queue", numeric=(0,))


def _row(queued: Queued) -> tuple[str, str, str, str]:
    colour = "" if queued.state in ("waiting", "cancelled") else f" sdg-{queued.state}"
    pill = f'<span class="sdg-pill{colour}">{queued.told.capitalize()}</span>'
    command = html.escape(shlex.join(["skindualgen", *queued.arguments]))
    return str(queued.number), pill, html.escape(queued.name), f"<code>{command}</code>"


def _title(queued: Queued) -> str:
    return f"{queued.number} {queued.name}"


def _number(title: str | None) -> int:
    if not title:
        raise InputError("no job", "one of the list", "choose it")
    return int(title.partition(" ")[0])
