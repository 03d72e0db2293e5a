"""The Queue tab: what is listed, reordered and cancelled there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("quick_gradio")

import gradio as gr

from skindualgen.studio.app import TABS
from skindualgen.studio.state import Studio, open_studio
from skindualgen.studio.tabs import queue as tab


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    with open_studio(tmp_path / "work") as opened:
        yield opened


def press(page: gr.Blocks, elem_id: str, *values: Any) -> None:
    """Call what a button's click does."""
    (button,) = [number for number, block in page.blocks.items() if block.elem_id == elem_id]
    (listener,) = [each for each in page.fns.values() if (button, "click") in each.targets]
    listener.fn(*values)  # type: ignore[misc]


def test_the_tab_moves_and_cancels(studio: Studio, tmp_path: Path) -> None:
    assert ("Queue", tab.build) in TABS
    first, second = (studio.queue.add(["doctor"], cwd=tmp_path, name=name) for name in ("one", "two & three"))
    with gr.Blocks() as page:
        tab.build(studio)

    def order() -> list[int]:
        return [queued.number for queued in studio.queue.open()]

    press(page, "queue-later", f"{first} one")
    assert order() == [second, first]
    press(page, "queue-later", f"{first} one")  # it is the last already
    assert order() == [second, first]
    press(page, "queue-earlier", f"{first} one")
    assert order() == [first, second]
    press(page, "queue-cancel", f"{first} one")
    assert order() == [second]
    with pytest.raises(gr.Error, match="does not wait"):
        press(page, "queue-earlier", f"{first} one")
    with pytest.raises(gr.Error, match="choose it"):
        press(page, "queue-cancel", None)


def test_what_is_listed(studio: Studio, tmp_path: Path) -> None:
    assert tab.NO_JOB in tab.queue_html(studio.queue.all())
    numbers = [studio.queue.add(["doctor"], cwd=tmp_path, name=f"<{index}>") for index in range(tab.ENDED_SHOWN + 2)]
    for number in numbers[:-1]:
        studio.queue.cancel(number)
    shown = tab.queue_html(studio.queue.all())
    assert "&lt;0&gt;" not in shown and "&lt;1&gt;" in shown and f"&lt;{tab.ENDED_SHOWN + 1}&gt;" in shown
    assert shown.count("Cancelled") == tab.ENDED_SHOWN and shown.count("Waiting") == 1
