"""``skindualgen evaluate`` writes a report that stands alone, exits with 3 on a condition, and spares foreign files."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.report.evaluation_folder import claim_folder
from tiny import write_phantom_data

QUICK = ["--judge-steps", "2", "--judge-size", "64"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    """Options that name a real and a generated folder and a cache."""
    root = tmp_path_factory.mktemp("evaluate")
    write_phantom_data(root / "real", train=16, val=12)
    write_phantom_data(root / "made", train=12, val=0)
    return ["--real", str(root / "real"), "--generated", str(root / "made"), "--judges", str(root / "cache")]


def run(*arguments: str):
    return CliRunner().invoke(app, ["evaluate", *arguments])


@pytest.fixture(scope="module")
def report(folders, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "report"
    result = run(*folders, *QUICK, "--out", str(out), "--fail-if", "near_copy_rate<=1", "--fail-if", "kid>1")
    assert result.exit_code == 3, result.output
    assert "Failed: near_copy_rate<=1 (near_copy_rate is 1)" in result.stderr
    assert "Failed: kid>1 (kid has no value" in result.stderr
    return out


def test_the_folder_holds_a_report_in_three_forms(report):
    assert {path.name for path in report.iterdir()} == {"report.html", "report.json", "pictures.csv"}
    content = json.loads((report / "report.json").read_text())
    assert [outcome["failed"] for outcome in content["conditions"]] == [True, True]
    assert len((report / "pictures.csv").read_text().splitlines()) == 1 + 12


class Page(HTMLParser):
    """What a page loads, the terms it explains and the terms it refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded, self.ids, self.targets, self.pictures = [], set(), set(), 0

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if values.get("id"):
            self.ids.add(values["id"])
        if "popovertarget" in values:
            self.targets.add(values["popovertarget"])
        self.pictures += tag == "img"
        self.loaded += [value for name, value in attrs if name in ("src", "href") and tag in ("img", "script", "link")]


def test_the_page_stands_alone_and_explains_every_number(report):
    page = Page()
    page.feed((report / "report.html").read_text())
    assert all(source.startswith("data:") for source in page.loaded)
    assert page.pictures >= 12 + 12  # generated pairs, closest couples
    assert page.targets <= page.ids
    explained = {target.removeprefix("term-") for target in page.targets}
    assert {"near_copy_rate", "agreement_dice", "class_balanced_accuracy", "kid", "ita_mean", "asymmetry"} <= explained


def test_no_value_of_the_report_is_lost_on_the_page(report):
    """Each of the copies is named on the page, and a section that is left out says why."""
    text = (report / "report.html").read_text()
    content = json.loads((report / "report.json").read_text())
    assert len(content["memorisation"]["near_copies"]) == 12
    assert all(copy["generated"] in text for copy in content["memorisation"]["near_copies"])


def test_a_kept_condition_exits_with_0_and_overwrites_an_earlier_report(report, folders, tmp_path):
    out = tmp_path / "again"
    out.mkdir()
    for path in report.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    result = run(*folders, "--out", str(out), "--only", "skin_tone", "--fail-if", "skin_unmeasured>1")
    assert result.exit_code == 0, result.output
    content = json.loads((out / "report.json").read_text())
    assert content["memorisation"]["left_out"] == "Not asked for."
    assert [outcome["failed"] for outcome in content["conditions"]] == [False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fail-if", "near_copy_rate"], "near_copy_rate>0.01"),
        (["--fail-if", "copies>1"], "closer_than_held_out"),
        (["--only", "copies"], "memorisation"),
        (["--extractor", "vgg"], "efficientnet-lite0"),
        (["--held-out", "test"], "'test'"),
        (["--segmenter", "nowhere.safetensors", "--only", "masks"], "nowhere.safetensors"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(folders, tmp_path, arguments, message):
    result = run(*folders, "--out", str(tmp_path / "out"), *arguments)
    assert result.exit_code == 2
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ") and message in last
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused_and_stays(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.tex"), claim_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    (tmp_path / "thesis.tex").unlink()
    (tmp_path / "report.json").write_text('{"somebody": "else"}')
    with pytest.raises(InputError, match=r"report\.json"), claim_folder(tmp_path):
        pass
