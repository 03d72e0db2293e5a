"""The studio's evaluation: fields become a command inside the workspace; reports are framed, and compared honestly."""

from __future__ import annotations

import html
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from skindualgen.contracts import InputError
from skindualgen.evaluation.results import SECTIONS as ALL_SECTIONS
from skindualgen.evaluation.results import EvaluationReport
from skindualgen.studio.comparing import (
    Row,
    cautions,
    comparison_html,
    digits_of,
    read_report,
    report_frame,
    rows_of,
)
from skindualgen.studio.recipes import SECTIONS, evaluate_arguments
from skindualgen.studio.workspace import Workspace

REAL, MADE = "datasets/real", "datasets/made"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace.open(tmp_path / "space")
    for name in (REAL, MADE):
        (workspace.root / name).mkdir()
    return workspace


def test_fields_become_the_arguments_of_the_command(workspace: Workspace) -> None:
    out, arguments = evaluate_arguments(workspace, REAL, MADE, "first", list(SECTIONS), 50)
    assert out == "reports/first"
    assert arguments == [
        "evaluate",
        "--real",
        REAL,
        "--generated",
        MADE,
        *"--out reports/first --judge-steps 50 --judges judges".split(),
    ]
    _, some = evaluate_arguments(workspace, REAL, MADE, "first", ["Copies", "Fidelity"], 50)
    for none in (None, 0):
        _, bundled = evaluate_arguments(workspace, REAL, MADE, "first", list(SECTIONS), none)
        assert "--judge-steps" not in bundled
    assert [some[place + 1] for place, flag in enumerate(some) if flag == "--only"] == ["fidelity", "memorisation"]


def test_every_section_can_be_asked_for() -> None:
    assert tuple(SECTIONS.values()) == ALL_SECTIONS


@pytest.mark.parametrize(
    ("real", "generated", "name", "sections"),
    [
        (None, MADE, "a", ["Masks"]),
        (REAL, None, "a", ["Masks"]),
        (REAL, REAL, "a", ["Masks"]),
        ("../real", MADE, "a", ["Masks"]),
        (REAL, "/tmp", "a", ["Masks"]),
        (REAL, MADE, "../a", ["Masks"]),
        (REAL, MADE, "a", []),
        (REAL, MADE, "a", ["Nothing"]),
    ],
)
def test_what_cannot_be_used_is_refused(
    workspace: Workspace, real: str | None, generated: str | None, name: str, sections: list[str]
) -> None:
    with pytest.raises(InputError):
        evaluate_arguments(workspace, real, generated, name, sections, 10)


@pytest.mark.parametrize("steps", [-5, 0.5])
def test_judges_need_a_step(workspace: Workspace, steps: float | None) -> None:
    with pytest.raises(InputError, match="steps of each judge"):
        evaluate_arguments(workspace, REAL, MADE, "a", ["Masks"], steps)


def measure(name: str, value: float | None, low: float | None = None, high: float | None = None, **more: Any) -> dict:
    caveat = {"caveat": "too few"} if value is None else {}
    return {"key": name, "name": name, "value": value, "low": low, "high": high, "n_generated": 9, **caveat, **more}


def report(*measures: dict, **run: Any) -> EvaluationReport:
    """An evaluation with these measures of fidelity."""
    sets = {"name": "a", "manifest_sha256": run.pop("real", "0" * 64), "side_px": 64, "counts": {}}
    of_run = {
        "command": [],
        "date_utc": "2030-01-31",
        "versions": {},
        "platform": "Linux",
        "seed": 0,
        "size_px": 64,
        "held_out": "val",
        "n_train": 9,
        "n_held_out": 9,
        "n_generated": 9,
        "extractors": ["a"],
        "judge_recipes": {},
    }
    definition = {"title": "T", "short": "S", "text": "What it is.", "better": "lower"}
    names = {each["name"] for each in measures}
    return EvaluationReport.model_validate(
        {
            "run": of_run | run,
            "real": sets,
            "generated": sets,
            **{name: {} for name in ALL_SECTIONS},
            "fidelity": {"measures": list(measures)},
            "definitions": {name: definition | {"title": name.capitalize()} for name in names},
        }
    )


def cells(page: str) -> list[list[str]]:
    """Rows of the tables of a page, as texts."""
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    return [[re.sub(r"<[^>]+>", " ", cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows]


@pytest.mark.parametrize(
    ("half_width", "digits"),
    [(0.05, 3), (0.5, 2), (5.0, 1), (12.0, 0), (1234.0, 0), (0.00012, 5), (1e-12, 6), (1.0, 1), (0.0, 3)],
)
def test_digits_are_those_that_an_interval_gives_meaning_to(half_width: float, digits: int) -> None:
    assert digits_of(half_width) == digits


def test_a_comparison_by_hand() -> None:
    first = report(
        measure("apart", 0.5, 0.4, 0.6),
        measure("overlap", 0.5, 0.4, 0.6),
        measure("bare", 0.123456),
        measure("none", None),
        measure("missing", 2.0, 1.0, 3.0),
    )
    second = report(
        measure("apart", 0.75, 0.7, 0.8),
        measure("overlap", 0.45, 0.35, 0.55),
        measure("bare", 0.2, 0.1, 0.3),
        measure("none", None),
    )
    page = comparison_html(first, second, ("one", "two"))
    _, *rows = cells(page)
    assert rows == [
        ["Apart", "0.50 0.40 to 0.60", "0.750 0.700 to 0.800", "+0.25", "apart", "–", "lower"],
        ["Overlap", "0.50 0.40 to 0.60", "0.45 0.35 to 0.55", "−0.05", "overlap", "–", "lower"],
        ["Bare", "0.123", "0.20 0.10 to 0.30", "–", "–", "–", "lower"],
        ["Missing", "2.0 1.0 to 3.0", "–", "–", "–", "–", "lower"],
    ]


def test_real_references_stand_beside_the_measures() -> None:
    reference = {"kind": "real against real", "value": 0.8123, "low": 0.7, "high": 0.9}
    page = comparison_html(*[report(measure("a", 0.5, 0.4, 0.6, reference=reference))] * 2, ("one", "two"))
    assert cells(page)[1][5] == "0.81"
    assert "real against real" in page


def test_touching_intervals_overlap_and_order_does_not_matter() -> None:
    one, other = (
        report(measure("a", 0.5, 0.4, 0.6)).fidelity.measures[0],
        report(measure("a", 0.7, 0.6, 0.8)).fidelity.measures[0],
    )
    assert Row("fidelity", one, other).apart is False
    assert Row("fidelity", other, one).apart is False
    far = report(measure("a", 0.9, 0.61, 1.0)).fidelity.measures[0]
    assert Row("fidelity", one, far).apart is Row("fidelity", far, one).apart is True
    assert Row("fidelity", far, one).difference == pytest.approx(-0.4)
    assert Row("fidelity", one, None).difference is None


def test_measures_of_both_reports_are_matched_by_key() -> None:
    first = report(measure("a", 1.0), measure("b", 2.0))
    second = report(measure("b", 3.0), measure("c", 4.0))
    found = [(row.first and row.first.value, row.second and row.second.value) for row in rows_of(first, second)]
    assert found == [(1.0, None), (2.0, 3.0), (None, 4.0)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"real": "1" * 64}, "different real photographs"),
        ({"held_out": "test"}, "different real photographs"),
        ({"size_px": 128}, "64 and at 128 px"),
        ({"n_generated": 90}, "9 and 90 generated"),
        ({"extractors": ["b"]}, "different networks"),
        ({"judge_recipes": {"segmenter": {}}}, "different networks"),
    ],
)
def test_what_forbids_a_comparison_is_said(change: dict[str, Any], said: str) -> None:
    one = report(measure("a", 1.0))
    assert cautions(one, one) == []
    (caution,) = cautions(one, report(measure("a", 1.0), **change))
    assert said in caution
    assert html.escape(caution) in comparison_html(one, report(measure("a", 1.0), **change), ("one", "two"))


def test_texts_of_reports_are_escaped() -> None:
    wicked = "<script>alert(1)</script>"
    one = report(measure(wicked, None), measure("b", 1.0, group=wicked))
    assert "<script" not in comparison_html(one, one, (wicked, "two"))


class Frames(HTMLParser):
    """The tags of a page, and the attributes of its frame."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.frame: dict[str, str | None] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "iframe":
            self.frame = dict(attrs)


def test_a_report_is_shown_in_a_frame_that_can_do_nothing_else(workspace: Workspace) -> None:
    folder = workspace.root / "reports" / "first"
    folder.mkdir()
    page = '<!doctype html><html><body title="a&quot;b"></iframe><script>parent.alert(1)</script>"\'></body></html>'
    (folder / "report.html").write_text(page)
    found = Frames(report_frame(workspace, "reports/first"))
    assert found.tags == ["iframe"]
    assert found.frame["sandbox"] == "allow-scripts"
    content = str(found.frame["srcdoc"])
    assert content.endswith(page)
    policy = content.removesuffix(page)
    assert policy.startswith('<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src \'none\';')
    assert "connect-src" not in policy
    assert "http:" not in policy


def test_reports_are_read_inside_the_workspace_only(workspace: Workspace, tmp_path: Path) -> None:
    folder = workspace.root / "reports" / "first"
    folder.mkdir()
    one = report(measure("a", 1.0))
    (folder / "report.json").write_text(one.model_dump_json())
    assert read_report(workspace, "reports/first") == one
    assert workspace.reports() == ["reports/first"]
    shutil.copytree(folder, tmp_path / "outside")
    (tmp_path / "outside" / "report.html").write_text("<p>secret</p>")
    (workspace.root / "reports" / "link").symlink_to(tmp_path / "outside")
    for name in ("../outside", str(tmp_path / "outside"), "reports/link", "reports/none", ""):
        with pytest.raises(InputError):
            read_report(workspace, name)
        with pytest.raises(InputError):
            report_frame(workspace, name)
    (folder / "report.json").write_text('{"fidelity": {}}')
    with pytest.raises(InputError, match="no evaluation of this version"):
        read_report(workspace, "reports/first")
