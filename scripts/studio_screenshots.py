"""Take pictures of the studio: every tab at three widths, light and dark, and those that docs/studio.md shows.

python scripts/studio_screenshots.py --out screenshots [--docs docs/images] [--work studio-shown]

The workspace is filled first: pairs that the bundled adapter draws, phantoms in place of photographs, a short training
and an evaluation. Nothing real is shown. Needs the extras "ui" and "bench", Playwright, and a Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from skindualgen.data.phantom import write_phantom_folder

WIDTHS_PX = (360, 1024, 1920)
DOCS_WIDTH_PX = 1280
HEIGHT_PX = 900
DOCS_HEIGHT_PX = 1500
"""A picture in the documentation shows the page down to here."""
JPEG_QUALITY = 84
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu")
PATIENCE_MS = 240_000
MADE, PHANTOMS = "datasets/micro-36", "datasets/phantoms"
PHANTOM_COUNT = 120
"""An evaluation wants ten or more in the part that is held out."""
PROMPTS = ("melanoma", "nevus", "nevus", "nevus", "seborrheic keratosis")
TRAIN_STEPS = 40
"""Enough for two validations, of which curves can be drawn."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Take pictures of the studio.")
    parser.add_argument("--out", type=Path, required=True, help="folder of all pictures")
    parser.add_argument("--docs", type=Path, help="folder of those that docs/studio.md shows")
    parser.add_argument("--work", type=Path, default=Path("studio-shown"), help="workspace; filled if it is empty")
    parser.add_argument("--port", type=int, default=7923)
    options = parser.parse_args()

    fill(options.work)
    options.out.mkdir(parents=True, exist_ok=True)
    with studio(options.work, options.port) as url, browser_page(url) as page:
        run_jobs(page, options.work)
        use(page, options.work)
        for dark in (False, True):
            set_dark(page, dark)
            for width in (*WIDTHS_PX, DOCS_WIDTH_PX):
                for name, show in TABS.items():
                    page.set_viewport_size({"width": width, "height": HEIGHT_PX})
                    show(page)
                    page.wait_for_timeout(700)
                    path = options.out / f"{name}_{width}{'_dark' if dark else ''}.png"
                    page.screenshot(path=path, full_page=True)
                    if options.docs is not None and width == DOCS_WIDTH_PX and (not dark or name == "create"):
                        publish(path, options.docs / f"studio_{path.stem.replace(f'_{width}', '')}.jpg")


def fill(work: Path) -> None:
    """Draw pairs and phantoms into a workspace that has none."""
    if not (work / MADE / "dataset.json").is_file():
        prompts = [part for name in PROMPTS for part in ("--prompt", f"a dermoscopic image of a {name}")]
        command("generate", "--out", work / MADE, *prompts, "--count", "36", "--steps", "20")
    if not (work / PHANTOMS / "dataset.json").is_file():
        write_phantom_folder(work / "source", PHANTOM_COUNT, size=128)
        command("prepare", work / "source", work / PHANTOMS)
        shutil.rmtree(work / "source")


def command(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "skindualgen", *map(str, arguments)], check=True)


@contextmanager
def studio(work: Path, port: int) -> Iterator[str]:
    """Run `skindualgen ui`; yield its address."""
    arguments = ["ui", "--workspace", str(work), "--port", str(port), "--no-open"]
    process = subprocess.Popen([sys.executable, "-m", "skindualgen", *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("studio at "):
            raise SystemExit(f"the studio did not start: {line.strip()}")
        yield line.split()[2]
    finally:
        process.terminate()
        process.wait()


@contextmanager
def browser_page(url: str) -> Iterator[Page]:
    """The page in a headless Chromium."""
    with sync_playwright() as playwright:
        found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        page = browser.new_page(viewport={"width": DOCS_WIDTH_PX, "height": HEIGHT_PX})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        page.goto(url)
        expect(page.locator("#create-model")).to_contain_text("128 px")
        yield page
        browser.close()


def tab(page: Page, *names: str) -> None:
    for name in names:
        page.get_by_role("tab", name=name, exact=True).click()


def choose(page: Page, field: str, option: str) -> None:
    page.locator(f"#{field} input").click()
    page.get_by_role("option").filter(has_text=option).first.click()


def set_number(page: Page, field: str, value: int) -> None:
    number = page.locator(f"#{field} input[type=number]")
    number.fill(str(value))
    number.press("Tab")


def set_dark(page: Page, dark: bool) -> None:
    button = page.locator("[data-theme]")
    if (button.inner_text() == "Light") != dark:
        button.click()


def run_jobs(page: Page, work: Path) -> None:
    """A short training, and two evaluations, if the workspace has none."""
    if not any((work / "runs").iterdir()):
        tab(page, "Train")
        choose(page, "train-data", MADE)
        choose(page, "train-preset", "A first look")
        expect(page.locator("#train-steps input")).to_have_value("60")
        set_number(page, "train-steps", TRAIN_STEPS)
        page.locator("#train-start").click()
        expect(page.locator("#train-job")).to_contain_text("Finished")
    if not any((work / "reports").iterdir()):
        tab(page, "Evaluate")
        choose(page, "evaluate-real", PHANTOMS)
        choose(page, "evaluate-generated", MADE)
        for name in ("Masks", "Diagnosis", "Adherence"):  # what needs judges of its own takes long
            page.locator("#evaluate-parts").get_by_label(name).uncheck()
        set_number(page, "evaluate-steps", 20)
        page.locator("#evaluate-start").click()
        expect(page.locator("#evaluate-job")).to_contain_text("Finished")
        shutil.copytree(work / "reports" / "report-1", work / "reports" / "report-2")


def use(page: Page, work: Path) -> None:
    """Do on each tab what it is for, so that there is something to see."""
    photograph = next((work / MADE / "images").iterdir())
    tab(page, "Create")
    page.locator("#create-draw").click()
    expect(page.locator("#create-pairs .sdg-pair:not(.sdg-live)")).to_have_count(8)
    tab(page, "Direct", "Mask to image")
    draw_outline(page)
    page.locator("#direct-image-draw").click()
    expect(page.locator("#direct-image-pairs .sdg-pair:not(.sdg-live)")).to_have_count(4)
    tab(page, "Image to mask")
    page.locator("#direct-mask-photograph input[type=file]").set_input_files(photograph)
    expect(page.locator("#direct-mask-status")).to_contain_text("The model")
    expect(page.locator("#direct-mask-status")).to_contain_text("brush")
    page.locator("#direct-mask-keep").click()
    tab(page, "Edit")
    page.locator("#direct-edit-photograph input[type=file]").set_input_files(photograph)
    expect(page.locator("#direct-edit-canvas canvas")).to_have_attribute("width", "128")
    page.wait_for_timeout(20_000)  # until its mask is read
    page.locator("#direct-edit-draw").click()
    expect(page.locator("#direct-edit-pairs .sdg-pair:not(.sdg-live)")).to_have_count(4)
    tab(page, "Data", "Review")
    choose(page, "data-set", PHANTOMS)  # a plan is made for photographs, of which these take the part
    tab(page, "Balance")
    page.locator("#plan-start").click()
    expect(page.locator("#plan-result")).to_contain_text("pairs are planned")
    tab(page, "Duplicates")
    page.locator("#duplicates-distance input[type=number]").fill("200")
    page.locator("#duplicates-start").click()
    expect(page.locator("#duplicates .sdg-command, #duplicates .sdg-couple").first).to_be_visible()
    tab(page, "Data", "Review")
    choose(page, "data-set", MADE)
    expect(page.locator(".sdg-tile")).to_have_count(24)
    page.locator(".sdg-tile").first.click()
    for key in "aara":
        page.keyboard.press(key)
    tab(page, "Evaluate", "Reports")
    choose(page, "report-choice", "report-1")
    tab(page, "Compare")
    choose(page, "compare-first", "report-1")
    choose(page, "compare-second", "report-2")
    expect(page.locator("#comparison table").first).to_be_visible()


def draw_outline(page: Page) -> None:
    """With the mouse: a blob."""
    canvas = page.locator("#direct-image-canvas canvas")
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    page.mouse.down()
    for x, y in ((0.6, 0.42), (0.62, 0.55), (0.5, 0.62), (0.4, 0.55), (0.42, 0.48), (0.55, 0.5)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=8)
    page.mouse.up()


def opening(*names: str) -> Callable[[Page], None]:
    return lambda page: tab(page, *names)


TABS: dict[str, Callable[[Page], None]] = {
    "create": opening("Create"),
    "direct": opening("Direct", "Mask to image"),
    "direct_mask": opening("Direct", "Image to mask"),
    "direct_edit": opening("Direct", "Edit"),
    "data": opening("Data", "Review"),
    "data_balance": opening("Data", "Balance"),
    "data_duplicates": opening("Data", "Duplicates"),
    "train": opening("Train"),
    "evaluate_run": opening("Evaluate", "Run"),
    "evaluate_reports": opening("Evaluate", "Reports"),
    "evaluate": opening("Evaluate", "Compare"),
    "queue": opening("Queue"),
}
"""Name of the picture -> what is opened for it."""
SHOWN_IN_DOCS = ("create", "direct", "data", "train", "evaluate")


def publish(picture: Path, target: Path) -> None:
    """A picture for the documentation, cut at its foot."""
    if target.stem.removeprefix("studio_").removesuffix("_dark") not in SHOWN_IN_DOCS:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(picture) as whole:
        cut = whole.convert("RGB").crop((0, 0, whole.width, min(whole.height, DOCS_HEIGHT_PX)))
        cut.save(target, quality=JPEG_QUALITY, optimize=True, progressive=True)


if __name__ == "__main__":
    main()
