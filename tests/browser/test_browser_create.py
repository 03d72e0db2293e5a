"""Create, in a browser: draw with live previews, look, vary, download, save; stop; two visitors at once."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from pathlib import Path

from acts import choose, expect_error, open_tab, pairs, set_number, set_sampling
from PIL import Image
from playwright.sync_api import Page, expect
from studio_server import Server

from skindualgen.data.manifest import read_metadata

PREFIX = "create"


def draw(page: Page, *, count: int, steps: int) -> None:
    set_sampling(page, PREFIX, count=count, steps=steps)
    page.get_by_role("button", name="Draw", exact=True).first.click()


def test_from_choices_to_a_saved_data_set(page: Page, server: Server, tmp_path: Path) -> None:
    choose(page, "create-diagnosis", "nevus")
    choose(page, "create-sex", "female")
    prompt = page.get_by_label("Prompt").first
    expect(prompt).to_have_value("a dermoscopic image of a nevus in a woman")
    expect(page.locator("#create-hint")).to_contain_text("training photographs")
    page.locator("#create-looks").get_by_role("button").first.click()
    expect(page.locator("#create-size input[type=number]")).to_be_visible()
    set_number(page, "create-size", 2)
    expect(prompt).to_have_value("a dermoscopic image of a nevus in a woman, little")
    prompt.fill("a dermoscopic image of a nevus on the lower extremity")
    expect(page.locator("#create-hint")).to_contain_text("lower extremity")

    draw(page, count=2, steps=12)
    expect(page.locator("#create-status")).to_contain_text(re.compile(r"Step \d+ of 12"))
    expect(page.locator("#create-pairs .sdg-live").first).to_be_visible()
    expect(pairs(page, PREFIX)).to_have_count(2)
    expect(page.locator("#create-status")).to_contain_text("2 pairs, 12 steps")
    expect(page.locator("#create-pairs")).to_contain_text(re.compile(r"area \d+ %agreement [01]\.\d\d"))
    command = page.locator("#create-same pre").inner_text()
    assert command.startswith("skindualgen generate") and "--steps 12" in command and "--count 2" in command

    with page.expect_download() as one:
        page.get_by_role("button", name="Download the mask of pair 1").click()
    one.value.save_as(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == (128, 128) and {value for _, value in mask.getcolors()} <= {0, 255}
    with page.expect_download() as whole:
        page.get_by_role("button", name="Download all as zip").first.click()
    whole.value.save_as(tmp_path / "pairs.zip")
    with zipfile.ZipFile(tmp_path / "pairs.zip") as archive:
        folders = [Path(name).parent.name for name in archive.namelist()]
        assert (folders.count("images"), folders.count("masks")) == (2, 2)

    page.locator("#create-name input, #create-name textarea").fill("from-the-browser")
    page.get_by_role("button", name="Save as data set").first.click()
    expect(page.locator("#create-saved")).to_contain_text("Saved as datasets/from-the-browser")
    records = read_metadata(server.workspace / "datasets" / "from-the-browser")
    assert [record.diagnosis for record in records] == ["nevus", "nevus"]
    page.get_by_role("button", name="Save as data set").first.click()
    expect_error(page, "which is taken")


def test_pairs_are_shown_as_image_mask_and_overlay(page: Page) -> None:
    draw(page, count=1, steps=2)
    card = pairs(page, PREFIX).first
    outline, mask = card.locator("svg"), card.locator("img.sdg-mask")
    expect(outline).to_be_visible()
    expect(mask).not_to_be_visible()
    page.get_by_role("button", name="Mask", exact=True).first.click()
    expect(mask).to_be_visible()
    expect(outline).not_to_be_visible()
    page.get_by_role("button", name="Image", exact=True).first.click()
    expect(mask).not_to_be_visible()
    page.get_by_role("button", name="Overlay", exact=True).first.click()
    expect(outline).to_be_visible()
    page.get_by_label("Opacity of the mask over the image").first.fill("60")
    expect(card.locator(".sdg-tint")).to_have_css("opacity", "0.6")

    frame = card.get_by_role("button", name="Enlarge")
    frame.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(frame).to_be_focused()

    page.reload()  # how pairs are shown is kept
    expect(page.get_by_label("Opacity of the mask over the image").first).to_have_value("60")


def test_more_like_this(page: Page) -> None:
    draw(page, count=1, steps=4)
    page.get_by_role("button", name="More like pair 1").click()
    expect(page.locator("#create-variations-title")).to_contain_text("More like pair 1")
    expect(pairs(page, "create-variations")).to_have_count(4)
    expect(page.locator("#create-variations-same pre")).to_contain_text("strength=(0.6, 0.6)")
    first = pairs(page, "create-variations").first.locator("img.sdg-image").get_attribute("src")
    set_number(page, "create-variations-strength", 0.9)
    page.get_by_role("button", name="Draw 4 variations").click()
    expect(page.locator("#create-variations-pairs .sdg-pair:not(.sdg-live) img.sdg-image").first).not_to_have_attribute(
        "src", first or ""
    )


def test_stop(page: Page) -> None:
    draw(page, count=8, steps=200)
    expect(page.locator("#create-status")).to_contain_text(re.compile(r"Step \d+ of 200"))
    page.get_by_role("button", name="Stop", exact=True).first.click()
    expect(page.locator("#create-status")).to_contain_text("Stopped.")
    draw(page, count=1, steps=2)  # and the next one is drawn
    expect(pairs(page, PREFIX)).to_have_count(1)


def test_two_visitors_at_once(visit: Callable[..., Page]) -> None:
    first, second = visit(), visit()
    draw(first, count=8, steps=60)
    expect(first.locator("#create-status")).to_contain_text(re.compile(r"Step \d+ of 60"))
    draw(second, count=1, steps=3)
    expect(second.locator("#create-status")).to_contain_text("Waiting for the model.")
    expect(pairs(second, PREFIX)).to_have_count(0)
    second.get_by_role("button", name="Stop", exact=True).first.click()  # stops its own draw, not the first visitor's
    expect(second.locator("#create-status")).to_contain_text("Stopped.")
    expect(first.locator("#create-status")).to_contain_text(re.compile(r"Step \d+ of 60"))
    draw(second, count=1, steps=3)
    first.get_by_role("button", name="Stop", exact=True).first.click()
    expect(pairs(second, PREFIX)).to_have_count(1)
    expect(pairs(first, PREFIX)).to_have_count(0)


def test_a_wrong_wish_is_answered_in_a_sentence(page: Page) -> None:
    page.get_by_label("Prompt").first.fill(" ")
    draw(page, count=1, steps=2)
    expect_error(page, "Got an empty prompt")


def test_the_command_is_copied_and_the_colours_are_kept(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    draw(page, count=1, steps=2)
    line = page.locator("#create-same")
    line.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == line.locator("pre").inner_text()
    page.get_by_role("button", name="Use dark colours").click()
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    page.reload()
    expect(page.get_by_role("button", name="Use light colours")).to_be_visible()
    open_tab(page, "Direct")
