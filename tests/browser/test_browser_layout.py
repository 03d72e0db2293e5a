"""Every tab at every width, light and dark: nothing cut off or covered, names, contrast; keyboard and touch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from acts import choose, open_tab, pairs, set_sampling
from playwright.sync_api import Page, expect

PROBES = Path(__file__).with_name("probes.js").read_text(encoding="utf-8")
TABS = (
    ("Create",),
    ("Direct", "Mask to image"),
    ("Direct", "Image to mask"),
    ("Direct", "Edit"),
    ("Direct", "Real pair"),
    ("Data", "Review"),
    ("Data", "Check"),
    ("Data", "Balance"),
    ("Data", "Duplicates"),
    ("Train",),
    ("Evaluate", "Run"),
    ("Evaluate", "Reports"),
    ("Evaluate", "Compare"),
    ("Queue",),
)
WIDTHS_PX = (360, 480, 768, 1024, 1920)


def ask(page: Page, *probes: str) -> list[str]:
    """What the probes find wrong."""
    return [found for probe in probes for found in page.evaluate(f"({PROBES}).{probe}()")]


def filled(page: Page) -> None:
    """A pair on "Create", a data set on "Data"."""
    set_sampling(page, "create", count=2, steps=2)
    page.locator("#create-draw").click()
    expect(pairs(page, "create")).to_have_count(2)
    open_tab(page, "Data")
    choose(page, "data-set", "datasets/phantoms")
    expect(page.locator(".sdg-tile")).to_have_count(24)


def test_every_tab_at_every_width_in_both_colours(page: Page) -> None:
    filled(page)
    wrong = []
    for colours in ("dark", "light"):
        page.get_by_role("button", name=f"Use {colours} colours").click()
        for tab in TABS:
            open_tab(page, *tab)
            for width in WIDTHS_PX if colours == "light" else WIDTHS_PX[:1]:
                page.set_viewport_size({"width": width, "height": 900})
                page.wait_for_timeout(200)
                wrong += [f"{tab} at {width} px: {found}" for found in ask(page, "cut", "overlapping")]
            wrong += [f"{tab}, {colours}: {found}" for found in ask(page, "nameless", "faint")]
    assert wrong == []


def test_tabs_and_fields_are_reached_by_keyboard(page: Page) -> None:
    page.get_by_role("tab", name="Create", exact=True).focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("tab", name="Direct", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#direct-image-canvas canvas")).to_be_visible()
    for _ in range(25):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "CANVAS":
            break
    expect(page.locator("#direct-image-canvas canvas")).to_be_focused()


@pytest.mark.parametrize(("scheme", "offered"), [("dark", "light"), ("light", "dark")])
def test_the_system_chooses_the_colours_at_first(visit: Callable[..., Page], scheme: str, offered: str) -> None:
    page = visit(color_scheme=scheme)
    expect(page.get_by_role("button", name=f"Use {offered} colours")).to_be_visible()
    assert ("dark" in page.locator("body").evaluate("body => [...body.classList]")) == (scheme == "dark")


def test_on_a_telephone_a_pair_is_drawn_by_touch(visit: Callable[..., Page]) -> None:
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, device_scale_factor=2)
    set_sampling(page, "create", count=1, steps=2)
    page.locator("#create-draw").tap()
    expect(pairs(page, "create")).to_have_count(1)
    assert ask(page, "cut", "overlapping") == []
