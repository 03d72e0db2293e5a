"""Train and Evaluate, in a browser: start, follow, reload meanwhile, stop and resume; read a report, compare two."""

from __future__ import annotations

import json
import re
import shutil

import psutil
import pytest
from acts import choose, expect_error, open_tab, set_number
from playwright.sync_api import Page, expect
from studio_server import Server
from studio_workspace import MADE, REAL

from studio_jobs import wait_for

SETTINGS = "views = 1\nvalidation_steps = 4\ncheckpointing_steps = 4\nlora.targets = 'attention'\n"
JOB_MS = 600_000
"""A job imports torch and loads a model before its first step."""


@pytest.fixture(autouse=True, scope="module")
def _no_job_outlives_the_module(server: Server) -> object:
    yield
    for record in (server.workspace / "jobs").glob("*/job.json"):
        pid = json.loads(record.read_text())["pid"]
        if psutil.pid_exists(pid) and any(record.parent.name in part for part in psutil.Process(pid).cmdline()):
            runner = psutil.Process(pid)
            for process in (*runner.children(recursive=True), runner):
                process.kill()


@pytest.mark.timeout(900)
def test_a_run_is_followed_through_a_reload_stopped_and_resumed(page: Page, server: Server) -> None:
    open_tab(page, "Train")
    choose(page, "train-data", REAL)
    set_number(page, "train-steps", 5000)
    set_number(page, "train-batch", 2)
    choose(page, "train-start-from", "afresh")
    choose(page, "train-size", "64")
    page.get_by_label("Further settings, as TOML").fill(SETTINGS)
    page.get_by_label("Further settings, as TOML").press("Tab")
    expect(page.locator("#train-command pre")).to_contain_text(f"--data {REAL}")
    expect(page.locator("#train-command pre")).to_contain_text("--max-train-steps 5000")
    expect(page.locator("#train-command pre")).to_contain_text("--set validation_steps=4")
    page.get_by_role("button", name="Start", exact=True).click()
    job = page.locator("#train-job")
    expect(job).to_contain_text("Running")
    expect(page.locator("#train-run input")).to_have_value("runs/run-1")
    page.get_by_role("button", name="Start", exact=True).click()  # one at a time
    expect_error(page, "stop it first")

    page.reload()
    open_tab(page, "Train")
    expect(page.locator("#train-run input")).to_have_value("runs/run-1")
    expect(job).to_contain_text("Running")
    expect(page.locator("#train-curves svg").first).to_be_visible(timeout=JOB_MS)
    expect(page.locator("#train-pictures img").first).to_be_visible(timeout=JOB_MS)

    page.locator("#train-stop").click()
    expect(job).to_contain_text("Stopped", timeout=JOB_MS)
    stopped_at = last_step(server)
    page.get_by_role("button", name="Resume", exact=True).click()
    expect(job).to_contain_text("Running")
    wait_for(lambda: last_step(server) > stopped_at)
    page.locator("#train-stop").click()
    expect(job).to_contain_text("Stopped", timeout=JOB_MS)


def last_step(server: Server) -> int:
    """Of the run, as its metrics say."""
    lines = (server.workspace / "runs" / "run-1" / "metrics.jsonl").read_text().splitlines()
    return max(json.loads(line)["step"] for line in lines if line.endswith("}"))


def test_settings_that_are_none_are_named(page: Page) -> None:
    open_tab(page, "Train")
    page.get_by_label("Further settings, as TOML").fill("out = 'elsewhere'")
    page.get_by_label("Further settings, as TOML").press("Tab")
    expect(page.locator("#train-command")).to_contain_text("remove out")
    page.get_by_role("button", name="Start", exact=True).click()
    expect_error(page, "remove out")


@pytest.mark.timeout(900)
def test_an_evaluation_is_run_read_and_compared(page: Page, server: Server) -> None:
    open_tab(page, "Evaluate")
    choose(page, "evaluate-real", REAL)
    choose(page, "evaluate-generated", MADE)
    for name in ("Fidelity", "Diagnosis", "Adherence", "Copies", "Skin tone"):
        page.locator("#evaluate-parts").get_by_label(name).uncheck()
    set_number(page, "evaluate-steps", 2)
    expect(page.locator("#evaluate-command pre")).to_contain_text("--only masks")
    page.get_by_role("button", name="Evaluate", exact=True).click()
    expect(page.locator("#evaluate-job")).to_contain_text("Running")
    page.reload()
    open_tab(page, "Evaluate")
    expect(page.locator("#evaluate-job")).to_contain_text("Finished", timeout=JOB_MS)

    open_tab(page, "Reports")
    choose(page, "report-choice", "reports/report-1")
    frame = page.frame_locator("#report-frame iframe")
    expect(frame.get_by_role("heading").first).to_be_visible()

    reports = server.workspace / "reports"
    shutil.copytree(reports / "report-1", reports / "report-2")
    open_tab(page, "Compare")
    choose(page, "compare-first", "reports/report-1")
    choose(page, "compare-second", "reports/report-2")
    expect(page.locator("#comparison table").first).to_be_visible()
    expect(page.locator("#comparison")).to_contain_text(re.compile("report-1.*report-2", re.DOTALL))
