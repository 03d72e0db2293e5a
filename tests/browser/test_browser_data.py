"""Data, in a browser: review by keyboard into the manifest, filter, balance and plan, near-duplicates side by side."""

from __future__ import annotations

import json
import re

from acts import choose, open_tab, set_number
from playwright.sync_api import Locator, Page, expect
from studio_server import Server
from studio_workspace import TRAIN, VAL

from skindualgen.contracts import METADATA_FILE

PAGE = 24


def decisions(server: Server, name: str) -> dict[str, str]:
    """What the manifest says: id -> decision."""
    lines = (server.workspace / "datasets" / name / METADATA_FILE).read_text(encoding="utf-8").splitlines()
    rows = map(json.loads, lines)
    return {row["isic_id"]: row["review"]["decision"] for row in rows if row.get("review")}


def tiles(page: Page) -> Locator:
    return page.locator("#data-pairs .sdg-tile")


def test_pairs_are_reviewed_by_keyboard(page: Page, server: Server) -> None:
    open_tab(page, "Data")
    choose(page, "data-set", "datasets/phantoms")
    expect(tiles(page)).to_have_count(PAGE)
    page.get_by_label("Reviewer").fill("R. Eviewer")
    ids = [tiles(page).nth(place).get_attribute("data-id") for place in range(4)]
    tiles(page).first.click()
    expect(page.locator(".sdg-detail-head b")).to_have_text(str(ids[0]))
    page.keyboard.press("a")
    expect(tiles(page).nth(1)).to_be_focused()
    page.keyboard.press("r")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    status = page.locator(".sdg-review-status")
    expect(status).to_have_text(re.compile(r"Saved\. 2 accepted, 1 rejected"))
    assert decisions(server, "phantoms") == {ids[0]: "accepted", ids[1]: "rejected", ids[3]: "accepted"}
    page.keyboard.press("u")
    expect(status).to_have_text(re.compile(r"Saved\. 1 accepted, 1 rejected"))
    assert decisions(server, "phantoms") == {ids[0]: "accepted", ids[1]: "rejected"}

    outline = page.locator(".sdg-detail-picture svg")
    expect(outline).to_be_visible()
    page.keyboard.press("c")
    expect(outline).not_to_be_visible()

    page.reload()
    open_tab(page, "Data")
    choose(page, "data-set", "datasets/phantoms")
    expect(page.locator(f".sdg-tile[data-id='{ids[1]}']")).to_have_attribute("data-decision", "rejected")
    tiles(page).first.click()
    expect(page.locator(".sdg-detail-facts")).to_contain_text("R. Eviewer")


def test_pairs_are_filtered_and_paged(page: Page) -> None:
    open_tab(page, "Data")
    choose(page, "data-set", "datasets/phantoms")
    expect(tiles(page)).to_have_count(PAGE)
    page.get_by_role("button", name="Next page").click()
    expect(tiles(page)).to_have_count(TRAIN + VAL - PAGE)
    choose(page, "data-split", "val")
    expect(page.locator(".sdg-review-list")).to_contain_text(f"1–{VAL} of {VAL}")
    choose(page, "data-split", "All")
    expect(tiles(page)).to_have_count(PAGE)
    last = tiles(page).nth(PAGE - 1)
    last.click()
    page.keyboard.press("ArrowRight")  # beyond the page: the next one
    expect(page.locator(".sdg-review-list")).to_contain_text(f"{PAGE + 1}–{TRAIN + VAL} of")
    expect(tiles(page).first).to_have_attribute("aria-selected", "true")


def test_a_plan_is_made(page: Page, server: Server) -> None:
    open_tab(page, "Data")
    choose(page, "data-set", "datasets/phantoms")
    open_tab(page, "Balance")
    expect(page.locator("#plan-balance")).to_contain_text("Training pairs of each class")
    page.get_by_label("The same number for each class").check()
    set_number(page, "plan-count", 60)
    page.get_by_role("button", name="Plan", exact=True).click()
    result = page.locator("#plan-result")
    expect(result).to_contain_text("pairs are planned")
    expect(result.locator("pre").first).to_contain_text("skindualgen plan --data datasets/phantoms")
    assert (server.workspace / "plans" / "plan-1.csv").is_file()
    expect(page.locator("#plan-name input, #plan-name textarea")).to_have_value("plan-2")


def test_duplicates_are_found(page: Page) -> None:
    open_tab(page, "Data")
    choose(page, "data-set", "datasets/twins")
    expect(tiles(page)).to_have_count(3)
    open_tab(page, "Duplicates")
    page.get_by_role("button", name="Search", exact=True).click()
    couple = page.locator(".sdg-couple").first
    expect(couple).to_contain_text("across splits")
    expect(couple.locator("figure b")).to_have_text(["pair-0", "pair-1"])
    expect(couple.locator("img")).to_have_count(2)


def test_the_verdict_is_shown(page: Page) -> None:
    open_tab(page, "Data")
    choose(page, "data-set", "datasets/phantoms")
    open_tab(page, "Check")
    page.get_by_role("button", name="Check", exact=True).click()
    result = page.locator("#check")
    expect(result.locator(".sdg-lead .sdg-pill")).to_have_text("fix", timeout=60_000)
    expect(result.locator("table")).to_contain_text("skindualgen prepare SRC NEW")
    expect(result.locator("img")).to_have_count(1)
    expect(result.locator("pre").last).to_contain_text("skindualgen check datasets/phantoms --for train")
