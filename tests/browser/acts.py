"""What visitors do on the page, in the words of the page."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

SETTLING_MS = 600
"""Fields that were folded away get their first values some moments after they appear."""


def open_tab(page: Page, *names: str) -> None:
    """Open a tab, then a part of it."""
    for name in names:
        page.get_by_role("tab", name=name, exact=True).click()
        expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")


def choose(page: Page, field: str, option: str) -> None:
    """Choose from the list of the dropdown with an id; ``option`` is the beginning of what it says."""
    page.locator(f"#{field} input").click()
    page.get_by_role("option").filter(has_text=option).first.click()


def set_number(page: Page, field: str, value: float) -> None:
    """Type a number into a field or beside a slider, and leave it."""
    number = page.locator(f"#{field} input[type=number]")
    number.fill(f"{value:g}")
    number.press("Tab")


def set_sampling(page: Page, prefix: str, *, count: int, steps: int) -> None:
    """Say how many pairs, and in how many steps."""
    number = page.locator(f"#{prefix}-steps input[type=number]")
    if not number.is_visible():
        page.locator(f"#{prefix}-sampling").get_by_role("button").first.click()
    expect(page.locator(f"#{prefix}-model")).to_contain_text("128 px")  # its defaults are filled in
    expect(number).to_be_visible()
    page.wait_for_timeout(SETTLING_MS)
    set_number(page, f"{prefix}-count", count)
    set_number(page, f"{prefix}-steps", steps)


def pairs(page: Page, prefix: str) -> Locator:
    """The finished pairs of a place for them."""
    return page.locator(f"#{prefix}-pairs .sdg-pair:not(.sdg-live)")


def upload(page: Page, field: str, path: Path) -> None:
    """Press an upload field or button, and choose a file."""
    with page.expect_file_chooser() as chooser:
        page.locator(f"#{field}").click()
    chooser.value.set_files(path)


def expect_error(page: Page, text: str) -> None:
    """A sentence with this text appears, and no stack trace; it is closed again."""
    toast = page.locator(".toast-body.error").filter(has_text=text).first
    expect(toast).to_be_visible()
    assert "Traceback" not in toast.inner_text()
    toast.get_by_test_id("toast-close").click()
    expect(toast).to_be_hidden()
