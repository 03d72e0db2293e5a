"""Direct, in a browser: draw a mask and fill it, read a photograph's mask and correct it, edit; without a mouse too."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from acts import expect_error, open_tab, pairs, set_number, set_sampling, upload
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from studio_server import Server

from skindualgen.data.manifest import read_metadata
from skindualgen.data.phantom import draw_phantom

IMAGE, MASK, EDIT, REAL = "direct-image", "direct-mask", "direct-edit", "direct-real"


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a drawn lesion, wider than high."""
    path = tmp_path_factory.mktemp("photograph") / "lesion.jpg"
    Image.fromarray(draw_phantom(1, diagnosis="nevus", size=256).image).crop((0, 32, 256, 224)).save(path)
    return path


def canvas_of(page: Page, prefix: str) -> Locator:
    return page.locator(f"#{prefix}-canvas canvas")


def covered(canvas: Locator) -> float:
    """Share of a canvas that is painted."""
    uri = canvas.evaluate("canvas => canvas.toDataURL('image/png')")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return float((np.asarray(picture.convert("RGBA"))[..., 3] >= 128).mean())


def wait_for_mask(page: Page) -> None:
    """Masks are painted when their picture is decoded, a moment after the canvas has its size."""
    page.wait_for_timeout(300)


def stroke(page: Page, canvas: Locator, *points: tuple[float, float]) -> None:
    """Draw with the mouse along points, given as shares of the canvas."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()


def test_an_outline_is_drawn_and_filled(page: Page) -> None:
    open_tab(page, "Direct")
    canvas = canvas_of(page, IMAGE)
    stroke(page, canvas, (0.35, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6))
    drawn = covered(canvas)
    assert 0.1 < drawn < 0.5
    stroke(page, canvas, (0.1, 0.1), (0.2, 0.1))
    assert covered(canvas) > drawn
    page.locator(f"#{IMAGE}-canvas").get_by_role("button", name="Undo").click()
    assert covered(canvas) == drawn
    page.locator(f"#{IMAGE}-canvas").get_by_role("button", name="Erase").click()
    stroke(page, canvas, (0.6, 0.6), (0.65, 0.6))
    assert covered(canvas) < drawn

    set_sampling(page, IMAGE, count=1, steps=4)
    page.locator(f"#{IMAGE}-draw").click()
    expect(pairs(page, IMAGE)).to_have_count(1)
    expect(page.locator(f"#{IMAGE}-same pre")).to_contain_text("mask_image=Image.open('mask.png')")


def test_an_outline_is_drawn_with_the_keyboard(page: Page) -> None:
    open_tab(page, "Direct")
    canvas = canvas_of(page, IMAGE)
    canvas.focus()
    page.keyboard.press("Space")
    dot = covered(canvas)
    assert dot > 0
    for key in ("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    line = covered(canvas)
    assert line > dot
    page.locator(f"#{IMAGE}-canvas").get_by_role("button", name="Clear").click()
    assert covered(canvas) == 0
    page.locator(f"#{IMAGE}-draw").click()
    expect_error(page, "Got a mask without a lesion")


def test_a_mask_is_uploaded(page: Page, tmp_path: Path) -> None:
    mask = np.zeros((96, 128), np.uint8)
    mask[24:72, 32:96] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    open_tab(page, "Direct")
    upload(page, f"{IMAGE}-upload", tmp_path / "mask.png")
    canvas = canvas_of(page, IMAGE)
    expect(canvas).to_have_attribute("width", "128")
    expect(canvas).to_have_attribute("height", "96")
    page.wait_for_function(
        f"document.querySelector('#{IMAGE}-canvas canvas').getContext('2d').getImageData(64,48,1,1).data[3]"
    )
    assert covered(canvas) == pytest.approx(0.25, abs=0.01)
    set_sampling(page, IMAGE, count=1, steps=2)
    page.locator(f"#{IMAGE}-draw").click()
    expect(pairs(page, IMAGE)).to_have_count(1)


def test_a_mask_is_read_corrected_and_kept(page: Page, server: Server, photograph: Path, tmp_path: Path) -> None:
    open_tab(page, "Direct", "Image to mask")
    set_number(page, f"{MASK}-ensemble", 1)
    upload(page, f"{MASK}-photograph", photograph)
    expect(page.locator(f"#{MASK}-status")).to_contain_text(re.compile("The model (proposes|finds)"))
    expect(page.locator(f"#{MASK}-same pre")).to_contain_text("skindualgen segment")
    canvas = canvas_of(page, MASK)
    expect(canvas).to_have_attribute("width", "256")
    expect(page.get_by_alt_text("The photograph under the mask").nth(1)).to_be_visible()
    wait_for_mask(page)
    before = covered(canvas)
    stroke(page, canvas, (0.05, 0.1), (0.3, 0.1))
    assert covered(canvas) > before

    page.get_by_role("button", name="Use this mask").click()
    expect(page.locator(f"#{MASK}-status")).to_contain_text("Mask of 256 × 192 px")
    expect(page.locator(f"#{MASK}-status")).to_contain_text("edited")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the mask", exact=True).click()
    download.value.save_as(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.size == (256, 192) and np.asarray(mask)[19, 30] == 255

    page.locator(f"#{MASK}-name input, #{MASK}-name textarea").fill("gathered")
    page.get_by_role("button", name="Save photograph and mask").click()
    expect(page.locator(f"#{MASK}-saved")).to_contain_text("gathered")
    (record,) = read_metadata(server.workspace / "datasets" / "gathered")
    assert record.origin == "real"


def test_a_photograph_is_edited(page: Page, photograph: Path) -> None:
    open_tab(page, "Direct", "Edit")
    set_sampling(page, EDIT, count=1, steps=4)
    page.locator(f"#{EDIT}-draw").click()
    expect_error(page, "no photograph")
    upload(page, f"{EDIT}-photograph", photograph)
    canvas = canvas_of(page, EDIT)
    expect(canvas).to_have_attribute("width", "256")
    expect(page.locator(f"#{EDIT}-canvas .sdg-easel-in")).to_have_attribute("aria-busy", "false")  # the mask is read
    wait_for_mask(page)
    stroke(page, canvas, (0.4, 0.4), (0.6, 0.6))
    page.get_by_label("Keep the outline, change both").check()
    expect(page.locator(f"#{EDIT}-about")).to_contain_text("The outline stays")
    expect(page.locator(f"#{EDIT}-picture input[type=number]")).to_have_value("0.8")
    page.locator(f"#{EDIT}-draw").click()
    expect(pairs(page, EDIT)).to_have_count(1)
    expect(page.locator(f"#{EDIT}-same pre")).to_contain_text("strength=(0.8, 0")


def test_a_real_pair_is_redrawn_and_its_skin_changed(page: Page, server: Server, photograph: Path) -> None:
    open_tab(page, "Direct", "Real pair")
    set_sampling(page, REAL, count=1, steps=4)
    page.locator(f"#{REAL}-draw").click()
    expect_error(page, "no real pair")
    page.locator(f"#{REAL}-dataset input").click()
    page.get_by_role("option", name="datasets/phantoms", exact=True).click()
    first = read_metadata(server.workspace / "datasets" / "phantoms", "train")[0]
    expect(page.locator(f"#{REAL}-pair input")).to_have_value(f"{first.isic_id}, {first.diagnosis}")
    page.get_by_label("The mask stays as it is").check()
    page.locator(f"#{REAL}-draw").click()
    expect(pairs(page, REAL)).to_have_count(2)
    expect(page.locator(f"#{REAL}-pairs .sdg-real")).to_contain_text(first.isic_id)
    expect(page.locator(f"#{REAL}-same pre")).to_contain_text(
        f"--redraw datasets/phantoms --strength 0.3 --only {first.isic_id}"
    )

    page.get_by_label("My photograph").check()
    upload(page, f"{REAL}-photograph", photograph)
    expect(page.locator(f"#{REAL}-canvas canvas")).to_have_attribute("width", "256")
    expect(page.locator(f"#{REAL}-canvas .sdg-easel-in")).to_have_attribute("aria-busy", "false")
    wait_for_mask(page)
    stroke(page, canvas_of(page, REAL), (0.4, 0.4), (0.6, 0.6))
    page.get_by_label("Other skin around its lesion").check()
    expect(page.locator(f"#{REAL}-strength")).to_be_hidden()
    page.locator(f"#{REAL}-draw").click()
    expect(page.locator(f"#{REAL}-same pre")).to_contain_text("--inpaint skin --onto photographs")
    expect(page.locator(f"#{REAL}-pairs .sdg-real")).to_contain_text("PHOTO_0000000")
