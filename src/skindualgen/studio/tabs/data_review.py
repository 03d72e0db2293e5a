"""The Data tab's "Review": filters, a page of pairs, and what its script asks of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from skindualgen.contracts import InputError
from skindualgen.data.review import UNDECIDED
from skindualgen.studio.components import PRIVATE, html_block
from skindualgen.studio.errors import as_sentence, sentence
from skindualgen.studio.pictures import LARGE_PX, shown
from skindualgen.studio.pieces import empty
from skindualgen.studio.review import Filter, Library, choices
from skindualgen.studio.review_page import PAGE_PAIRS, REVIEWER_LENGTH, facts_html, large_html, page_of, tally

ANY = "*"
"""Value of a choice that is no condition."""
SMALLEST, LARGEST = "Smallest first", "Largest first"
SCORE = 4
"""Place of the score among the conditions."""
SCRIPT = (Path(__file__).parent / "review.js").read_text(encoding="utf-8")
EMPTY = (
    "No data set is chosen. Data sets of the workspace appear here; Create makes one, `skindualgen prepare` another."
)


def build(library: Library, dataset: gr.Dropdown, max_pixels: int) -> None:
    """Lay out the part of the Data tab; pictures of more than ``max_pixels`` are not shown."""
    conditions, score_range = _conditions()
    calls = page_calls(library, max_pixels)
    pairs = html_block(empty(EMPTY), elem_id="data-pairs", script=SCRIPT, server_functions=calls, label="Pairs")
    with gr.Row(elem_classes="sdg-pager"):
        before = gr.Button("Previous page", elem_id="data-before", size="sm", min_width=120)
        after = gr.Button("Next page", elem_id="data-after", size="sm", min_width=120)
    ids, page = gr.State([]), gr.State(0)
    show = partial(page_of, library, max_pixels=max_pixels)

    @as_sentence
    def filtered(name: str | None, *values: Any) -> tuple[list[str], int, str]:
        if not name:
            return [], 0, empty(EMPTY)
        kept = [record.isic_id for record in filter_of(*values).apply(library.records(name))]
        return kept, 0, show(name, kept, 0, values[SCORE])

    @as_sentence
    def opened(name: str | None) -> tuple[Any, ...]:
        return (*_choices(library, name), gr.update(visible=False), *filtered(name, *[ANY] * 5))

    @as_sentence
    def turned(step: int, name: str | None, kept: list[str], at: int, score: str) -> tuple[int, str]:
        if not name:
            return 0, empty(EMPTY)
        at = max(0, min(at + step, (len(kept) - 1) // PAGE_PAIRS))
        return at, show(name, kept, at, score)

    score, result = conditions[SCORE], [ids, page, pairs]
    shown_on: dict[str, Any] = {**PRIVATE, "show_progress": "minimal", "show_progress_on": pairs}
    last: dict[str, Any] = {"trigger_mode": "always_last"}
    dataset.change(opened, dataset, [*conditions[:-1], score_range, *result], **shown_on)
    gr.on([each.input for each in conditions], filtered, [dataset, *conditions], result, **last, **shown_on)
    score.input(lambda name: gr.update(visible=name != ANY), score, score_range, **last, **PRIVATE)
    for step, triggers in ((1, (after.click, pairs.next)), (-1, (before.click, pairs.previous))):
        for trigger in triggers:
            trigger(partial(turned, step), [dataset, ids, page, score], [page, pairs], **shown_on)


def _conditions() -> tuple[list[Any], gr.Row]:
    """The fields, in the order of `filter_of`, and the row of those that belong to a score."""

    def choice(label: str, elem_id: str, none: str = "All") -> gr.Dropdown:
        return gr.Dropdown([(none, ANY)], value=ANY, label=label, elem_id=elem_id, min_width=140, interactive=True)

    with gr.Row(elem_classes="sdg-toolbar"):
        fields: list[Any] = [choice(name, f"data-{name.lower()}") for name in ("Class", "Split", "Origin", "Decision")]
        fields.append(choice("Score", "data-score", none="None"))
    with gr.Row(elem_classes="sdg-toolbar", visible=False) as score_range:
        fields += [
            gr.Number(None, label=name, elem_id=f"data-{name.lower()}", min_width=110) for name in ("From", "To")
        ]
        fields.append(gr.Radio([SMALLEST, LARGEST], value=SMALLEST, label="Order", elem_id="data-order"))
    return fields, score_range


def _choices(library: Library, name: str | None) -> list[Any]:
    """What a data set can be filtered by, all fields without a condition; the order stays."""

    def update(values: Iterable[str], none: str = "All") -> Any:
        return gr.update(choices=[(none, ANY), *((each.replace("_", " "), each) for each in values)], value=ANY)

    found = choices(library.records(name) if name else [])
    lists = [found.diagnoses, found.splits, found.origins, ["accepted", "rejected", UNDECIDED]]
    return [*map(update, lists), update(found.scores, "None"), gr.update(value=None), gr.update(value=None)]


def page_calls(library: Library, max_pixels: int) -> list[Callable[[list[Any]], dict[str, str]]]:
    """What ``review.js`` calls; any visitor can call it with anything."""

    def detail(arguments: list[Any]) -> dict[str, str]:
        """The large view of one pair: name of the data set, id."""
        name, isic_id = map(str, arguments)
        try:
            record = library.record(name, isic_id)
        except InputError as error:
            return {"error": sentence(error)}
        large = shown(library, name, record, max_pixels=max_pixels, side_px=LARGE_PX)
        return {"picture": large_html(record, large), "facts": facts_html(record)}

    def decide(arguments: list[Any]) -> dict[str, str]:
        """Decisions in the order in which they were made: name of the data set, [[id, decision], ...], reviewer."""
        name, decisions, by = str(arguments[0]), arguments[1], str(arguments[2])[:REVIEWER_LENGTH]
        made = {str(isic_id): None if decision == UNDECIDED else decision for isic_id, decision in decisions}
        try:
            library.decide(name, made, by.strip())
            return {"said": f"Saved. {tally(library.records(name))}"}
        except InputError as error:
            return {"error": sentence(error)}

    return [detail, decide]


def filter_of(*values: Any) -> Filter:
    """What the values of the fields mean: five choices and, for a score, its ends and order."""
    diagnosis, split, origin, decision, score = (None if value == ANY else value for value in values[: SCORE + 1])
    low, high, order = values[SCORE + 1 :] or (None, None, "")
    return Filter(diagnosis, split, origin, decision, score, low, high, descending=order == LARGEST)
