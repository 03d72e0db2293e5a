"""Parts of the page that tabs share: HTML, choices that are listed anew, proposed names, previews of commands."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from skindualgen.contracts import InputError
from skindualgen.data.images import SUFFIXES
from skindualgen.studio.commands import command_html
from skindualgen.studio.errors import as_sentence, sentence
from skindualgen.studio.pieces import note
from skindualgen.studio.workspace import NAME_LENGTH, free_name

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""Of all listeners of the page: they are not part of the HTTP API."""
QUIET: dict[str, Any] = {**PRIVATE, "show_progress": "hidden"}
"""Of those that show no progress of Gradio's over the page."""
REPORT_EVERY = 25
"""Pictures between two steps of a progress bar."""
AT_ONCE: dict[str, Any] = {**QUIET, "queue": False}
"""Of those that do not wait in the queue behind others, such as draws."""


def html_block(value: str = "", *, elem_id: str | None = None, script: str | None = None, **options: Any) -> gr.HTML:
    """HTML without Gradio's rules for prose; ``script`` is run once, with its ``element`` and ``trigger``."""
    return gr.HTML(value, elem_id=elem_id, js_on_load=script, apply_default_css=False, **options)


def on_load(function: Callable[[], Any], outputs: Any) -> None:
    """Fill components in when the page is opened."""
    gr.on(None, function, None, outputs, **AT_ONCE)


def pictures_report(progress: gr.Progress) -> Callable[[str, int, int], None]:
    """What shows a stage, and how many of its pictures are done of how many, as a progress bar."""

    def report(stage: str, done: int, total: int) -> None:
        if done % REPORT_EVERY == 0 or done == total:
            progress((done, total), desc=stage.capitalize(), unit="pictures")

    return report


def photograph_field(elem_id: str, *, height: int) -> gr.File:
    """A field for the file of a photograph."""
    return gr.File(label="Photograph", file_types=list(SUFFIXES), type="filepath", height=height, elem_id=elem_id)


def choice(
    label: str,
    elem_id: str,
    names: Callable[[], Sequence[str]],
    *,
    value: str | None = None,
    default: Callable[[Sequence[str]], str | None] = lambda present: None,
    **options: Any,
) -> gr.Dropdown:
    """A list to choose from that is read anew when the page or the list itself is opened.

    A choice that is still there is left alone, not written again: the visitor may have made another one meanwhile.

    Args:
        label, elem_id, options: of the dropdown.
        names: reads what can be chosen.
        value: chosen at first.
        default: what is chosen instead where the choice is gone, of what is there.
    """
    field = gr.Dropdown(
        [value] if value else [], value=value, label=label, elem_id=elem_id, interactive=True, **options
    )

    @as_sentence
    def listed(current: str | None) -> Any:
        present = list(names())
        return gr.update(choices=present) if current in present else gr.update(choices=present, value=default(present))

    field.focus(listed, field, field, **AT_ONCE)
    on_load(lambda: listed(value), field)
    return field


def first_of(present: Sequence[str]) -> str | None:
    """The default of a choice that is never empty where something can be chosen."""
    return next(iter(present), None)


def name_field(label: str, elem_id: str, folder: Path, stem: str, *, suffix: str = "") -> gr.Textbox:
    """The name of something new, to which ``suffix`` is added; one that ``folder`` has room for is proposed."""
    length = NAME_LENGTH - len(suffix)
    field = gr.Textbox(free_name(folder, stem), label=label, elem_id=elem_id, max_lines=1, max_length=length)
    on_load(lambda: free_name(folder, stem), field)
    return field


def command_preview(elem_id: str, fields: Sequence[Any], arguments: Callable[..., Sequence[str]]) -> None:
    """The command that fields stand for, or what is wrong with them; it follows every change.

    Args:
        elem_id: of its place.
        fields: the components.
        arguments: their values -> arguments of ``skindualgen``, or an `InputError`.
    """

    def preview(*values: Any) -> str:
        try:
            return command_html(shlex.join(["skindualgen", *arguments(*values)]))
        except InputError as error:
            return note(sentence(error))

    gr.on(None, preview, list(fields), html_block(elem_id=elem_id), trigger_mode="always_last", **AT_ONCE)
