"""The studio's data sets: filters, pages, decisions in the manifest, near-duplicates, plans, nothing from outside."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from skindualgen.cli import app as cli
from skindualgen.contracts import METADATA_FILE, InputError, PairRecord
from skindualgen.data.audit import audit
from skindualgen.data.manifest import read_dataset_info, read_metadata, write_dataset
from skindualgen.data.phantom import draw_phantom
from skindualgen.planning.plan import read_plan
from skindualgen.studio import pictures, review
from skindualgen.studio.balancing import PlanRequest, balance_html, make_plan, plan_command, plan_html
from skindualgen.studio.checking import check_html, check_set
from skindualgen.studio.duplicates import near_duplicates
from skindualgen.studio.jobs import Jobs
from skindualgen.studio.pictures import LARGE_PX, SMALL_PX, picture_html, shown
from skindualgen.studio.review import Filter, Library, balance, choices, decision_of
from skindualgen.studio.review_page import PAGE_PAIRS, facts_html, page_of, tally
from skindualgen.studio.workspace import Workspace
from tiny import write_phantom_data

NAME = "datasets/phantoms"
PIXELS = 1_000_000


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_data(tmp_path_factory.mktemp("studio") / "phantoms", train=9, val=3)


@pytest.fixture
def library(tmp_path: Path, phantoms: Path) -> Library:
    """A workspace with a data set of 12 phantoms."""
    workspace = Workspace.open(tmp_path / "space")
    shutil.copytree(phantoms, workspace.root / NAME)
    return Library(workspace)


def record(name: str, **fields: object) -> PairRecord:
    return PairRecord(file_name=f"images/{name}.png", isic_id=name, **fields)


RECORDS = [
    record("a", diagnosis="nevus", scores={"agreement": 0.9}),
    record("b", diagnosis="nevus", split="val", scores={"agreement": 0.2, "sharpness": 7.0}),
    record("c", diagnosis="melanoma", origin="synthetic", scores={"agreement": 0.5}, review={"decision": "rejected"}),
    record("d", origin="synthetic", review={"decision": "accepted", "date": "2030-01-31"}),
]


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        ({}, "abcd"),
        ({"diagnosis": "nevus"}, "ab"),
        ({"diagnosis": "unknown"}, "d"),
        ({"split": "val"}, "b"),
        ({"origin": "synthetic"}, "cd"),
        ({"origin": "synthetic", "diagnosis": "nevus"}, ""),
        ({"decision": "undecided"}, "ab"),
        ({"decision": "rejected"}, "c"),
        ({"score": "agreement"}, "bca"),
        ({"score": "agreement", "descending": True}, "acb"),
        ({"score": "agreement", "low": 0.5}, "ca"),
        ({"score": "agreement", "low": 0.3, "high": 0.5}, "c"),
        ({"score": "sharpness"}, "b"),
    ],
)
def test_filters(conditions: dict[str, object], kept: str) -> None:
    assert "".join(each.isic_id for each in Filter(**conditions).apply(RECORDS)) == kept


def test_choices_are_those_of_the_records() -> None:
    found = choices(RECORDS)
    assert (found.diagnoses, found.splits, found.origins) == (
        ["melanoma", "nevus", "unknown"],
        ["train", "val"],
        ["real", "synthetic"],
    )
    assert found.scores == {"agreement": (0.2, 0.9), "sharpness": (7.0, 7.0)}


@pytest.mark.parametrize("review", [None, "accepted", {}, {"decision": "perhaps"}, {"decision": ["accepted"]}])
def test_what_is_no_decision_counts_as_none(review: object) -> None:
    assert decision_of(record("a", review=review)) == "undecided"


def test_balance_counts_one_split_and_draws_its_bars() -> None:
    found = balance(RECORDS, "train")
    assert found == {
        "melanoma": Counter(synthetic=1, rejected=1),
        "nevus": Counter(real=1),
        "unknown": Counter(synthetic=1),
    }
    shown = balance_html({"nevus": Counter(real=30, synthetic=10), "a<b": Counter(synthetic=20, rejected=4)})
    assert re.findall(r"width:([\d.]+)%", shown) == ["75.00", "25.00", "0.00", "50.00"]
    assert "20 generated, 4 rejected" in shown
    assert "a&lt;b" in shown
    assert "a<b" not in shown


def test_decisions_go_into_the_manifest_and_nothing_else_changes(library: Library) -> None:
    root = library.workspace.path(NAME)
    before, ids = read_metadata(root), [each.isic_id for each in library.records(NAME)]
    library.decide(NAME, {ids[0]: "accepted", ids[2]: "rejected"}, "AB")
    after = read_metadata(root)
    reviews = {each.isic_id: (each.model_extra or {}).get("review") for each in after}
    assert reviews[ids[0]]["decision"] == "accepted"
    assert reviews[ids[2]] == {**reviews[ids[2]], "decision": "rejected", "reviewer": "AB"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", reviews[ids[0]]["date"])
    assert {name for name, value in reviews.items() if value} == {ids[0], ids[2]}
    assert [each.model_dump(exclude={"review"}) for each in after] == [each.model_dump() for each in before]
    assert read_dataset_info(root)["made_by"] == {"phantoms": 12}
    assert tally(library.records(NAME)) == "1 accepted, 1 rejected, 10 undecided."
    library.decide(NAME, {ids[0]: None, ids[2]: None})
    assert [each.model_dump() for each in read_metadata(root)] == [each.model_dump() for each in before]


@pytest.mark.parametrize("wrong", [{"nobody": "accepted"}, {"PHANTOM_0000001": "perhaps"}, {"PHANTOM_0000001": 1}])
def test_a_decision_that_cannot_be_used_writes_nothing(library: Library, wrong: dict[str, object]) -> None:
    path = library.workspace.path(NAME) / METADATA_FILE
    before = path.read_bytes()
    with pytest.raises(InputError):
        library.decide(NAME, {"PHANTOM_0000000": "accepted", **wrong})
    assert path.read_bytes() == before
    assert decision_of(library.record(NAME, "PHANTOM_0000000")) == "undecided"


def test_what_others_have_written_is_not_lost(library: Library) -> None:
    other = Library(library.workspace)
    library.records(NAME)
    other.decide(NAME, {"PHANTOM_0000001": "rejected"})
    library.decide(NAME, {"PHANTOM_0000002": "accepted"})
    assert decision_of(library.record(NAME, "PHANTOM_0000001")) == "rejected"
    assert decision_of(other.record(NAME, "PHANTOM_0000002")) == "accepted"


def test_records_are_read_once(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    monkeypatch.setattr(review, "read_metadata", lambda root: reads.append(root) or read_metadata(root))
    library.records(NAME)
    library.decide(NAME, {"PHANTOM_0000001": "rejected"})
    library.records(NAME)
    assert len(reads) == 1


@pytest.mark.parametrize(
    "name", ["", "/etc", "..", "datasets/..", "datasets/../../space", "datasets\\phantoms", "datasets/none", "a\0b"]
)
def test_names_that_lead_out_are_refused(library: Library, name: str) -> None:
    for ask in (library.records, library.checked, lambda name: library.record(name, "PHANTOM_0000001")):
        with pytest.raises(InputError):
            ask(name)


def test_records_that_name_files_outside_are_refused(library: Library) -> None:
    path = library.workspace.path(NAME) / METADATA_FILE
    lines = path.read_text().splitlines()
    first = json.loads(lines[0])
    for name in ("../../../secret.png", "/etc/passwd"):
        path.write_text("\n".join([json.dumps({**first, "file_name": name}), *lines[1:]]))
        with pytest.raises(InputError, match="inside the data set folder"):
            library.records(NAME)


@pytest.mark.parametrize("linked", ["file", "mask", "folder", "metadata", "data set"])
def test_links_that_lead_out_are_refused(library: Library, tmp_path: Path, linked: str) -> None:
    root = library.workspace.path(NAME)
    outside = tmp_path / "outside"
    shutil.copytree(root, outside)
    some = library.records(NAME)[3]
    places = {
        "file": (root / some.file_name, outside / some.file_name),
        "mask": (root / str(some.mask_file_name), outside / str(some.mask_file_name)),
        "folder": (root / "images", outside / "images"),
        "metadata": (root / METADATA_FILE, outside / METADATA_FILE),
        "data set": (root, outside),
    }
    inside, target = places[linked]
    shutil.rmtree(inside) if inside.is_dir() else inside.unlink()
    inside.symlink_to(target)
    with pytest.raises(InputError, match="inside the workspace"):
        library.checked(NAME)
    if linked in ("file", "mask", "folder"):
        picture = shown(library, NAME, some, max_pixels=PIXELS)
        assert (picture.uri, picture.contour) == ("", "")
        assert "choose it from the list" in picture.problem
    if linked in ("file", "folder"):
        with pytest.raises(InputError, match="inside the workspace"):
            near_duplicates(library, NAME, max_distance=512, max_pixels=PIXELS, report=lambda done, total: None)
    with pytest.raises(InputError, match="inside the workspace"):
        check_set(library, NAME, "train", "micro", report=silent)
    if linked == "data set":
        assert library.workspace.datasets() == []


def test_links_inside_the_workspace_are_followed(library: Library) -> None:
    root = library.workspace.path(NAME)
    some = library.records(NAME)[0]
    (root / some.file_name).rename(root / "moved.png")
    (root / some.file_name).symlink_to(root / "moved.png")
    assert len(library.checked(NAME)) == 12
    assert shown(library, NAME, some, max_pixels=PIXELS).uri.startswith("data:image/jpeg;base64,")


def test_a_pipe_in_place_of_a_picture_does_not_hang(library: Library) -> None:
    some = library.records(NAME)[0]
    path = library.workspace.path(NAME) / some.file_name
    path.unlink()
    os.mkfifo(path)
    assert "which is no file" in shown(library, NAME, some, max_pixels=PIXELS).problem
    with pytest.raises(InputError, match="which is no file"):
        library.checked(NAME)


def test_a_manifest_that_is_too_large_is_refused(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "MAX_METADATA_BYTES", 100)
    with pytest.raises(InputError, match="split the data set"):
        library.records(NAME)


def test_missing_damaged_and_huge_pictures_become_reasons(library: Library) -> None:
    first, second, third, fourth = library.records(NAME)[:4]
    root = library.workspace.path(NAME)
    (root / first.file_name).unlink()
    (root / second.file_name).write_bytes(b"no picture")
    Image.new("L", (64, 32)).save(root / str(fourth.mask_file_name))
    assert "which is not there" in shown(library, NAME, first, max_pixels=PIXELS).problem
    assert shown(library, NAME, second, max_pixels=PIXELS).problem
    assert shown(library, NAME, third, max_pixels=100).problem
    other_aspect = shown(library, NAME, fourth, max_pixels=PIXELS)
    assert other_aspect.uri
    assert not other_aspect.contour
    assert "aspect" in other_aspect.problem


def test_contours_lie_on_the_mask(library: Library) -> None:
    root, some = library.workspace.path(NAME), library.records(NAME)[0]
    mask = Image.new("L", (64, 64))
    mask.paste(255, (16, 8, 48, 40))
    mask.save(root / str(some.mask_file_name))
    small = shown(library, NAME, some, max_pixels=PIXELS)
    numbers = [float(number) for number in re.findall(r"[\d.]+", small.contour)]
    across, down = numbers[::2], numbers[1::2]
    assert (small.width, small.height) == (64, 64)
    assert (min(across), max(across)) == pytest.approx((16, 48), abs=0.6)
    assert (min(down), max(down)) == pytest.approx((8, 40), abs=0.6)


def test_pictures_are_reduced_and_new_ones_seen(library: Library) -> None:
    root, some = library.workspace.path(NAME), library.records(NAME)[0]
    Image.fromarray(draw_phantom(3, size=600).image).save(root / some.file_name)
    large = shown(library, NAME, some, max_pixels=PIXELS, side_px=LARGE_PX)
    small = shown(library, NAME, some, max_pixels=PIXELS)
    assert (large.width, small.width) == (600, SMALL_PX)
    Image.fromarray(draw_phantom(4, size=600).image).save(root / some.file_name)
    os.utime(root / some.file_name, ns=(1, 1))
    assert shown(library, NAME, some, max_pixels=PIXELS).uri != small.uri


def test_a_page_reads_its_own_pictures_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 records, of which only those of the page are there."""
    workspace = Workspace.open(tmp_path / "space")
    root = workspace.root / "datasets" / "many"
    (root / "images").mkdir(parents=True)
    write_dataset(root, [record(f"{number:05d}") for number in range(10_000)], made_by={})
    for number in range(PAGE_PAIRS, 2 * PAGE_PAIRS):
        Image.new("RGB", (8, 8)).save(root / f"images/{number:05d}.png")
    library, opened = Library(workspace), []
    monkeypatch.setattr(
        pictures, "load_photograph", lambda path, **options: opened.append(path) or load_photograph(path, **options)
    )
    ids = [each.isic_id for each in library.records("datasets/many")]
    page = page_of(library, "datasets/many", ids, 1, max_pixels=PIXELS)
    assert page.count("data:image/jpeg") == len(opened) == PAGE_PAIRS
    assert "25–48 of 10,000" in page
    page_of(library, "datasets/many", ids, 1, max_pixels=PIXELS)
    assert len(opened) == PAGE_PAIRS
    last = page_of(library, "datasets/many", ids, (len(ids) - 1) // PAGE_PAIRS, max_pixels=PIXELS)
    assert last.count('role="option"') == 10_000 % PAGE_PAIRS
    assert 'data-after=""' in last


def load_photograph(path: Path, **options: int) -> object:
    from skindualgen.data.images import load_photograph as load

    return load(path, **options)


class Texts(HTMLParser):
    """The elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def test_texts_of_records_are_escaped(library: Library) -> None:
    root = library.workspace.path(NAME)
    wicked = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
    some = library.records(NAME)[0].model_copy(
        update={
            "isic_id": wicked,
            "diagnosis": wicked,
            "prompt": wicked,
            "scores": {wicked: 1.0},
            "mask_file_name": wicked,
        }
    )
    write_dataset(root, [some], made_by={})
    page = page_of(library, NAME, [wicked], 0, wicked, max_pixels=PIXELS)
    picture = picture_html(shown(library, NAME, some, max_pixels=PIXELS))
    for text in (page, facts_html(some), picture):
        found = Texts(text)
        assert "script" not in found.tags
        assert "onerror" not in found.attributes


def test_near_duplicates_are_those_of_the_audit(library: Library) -> None:
    root = library.workspace.path(NAME)
    records = read_metadata(root)
    train, val = records[0], next(each for each in records if each.split == "val")
    with Image.open(root / train.file_name) as picture:
        picture.save(root / val.file_name)
    steps: list[tuple[int, int]] = []
    found = near_duplicates(library, NAME, max_distance=200, max_pixels=PIXELS, report=lambda *step: steps.append(step))
    audited = audit(root, max_distance=200).near
    assert [(each.first.isic_id, each.second.isic_id, each.distance_bits, each.across) for each in found] == [
        (each.first, each.second, each.distance_bits, each.across) for each in audited
    ]
    assert (found[0].first.isic_id, found[0].second.isic_id) == (train.isic_id, val.isic_id)
    assert found[0].across
    assert steps == [(number, 12) for number in range(1, 13)]


def test_stored_hashes_are_used(library: Library) -> None:
    root = library.workspace.path(NAME)
    stored = ["0" * 128, "0" * 127 + "3", "f" * 128]
    records = [
        each.model_copy(update={"perceptual_hash": digits})
        for each, digits in zip(read_metadata(root)[:3], stored, strict=True)
    ]
    write_dataset(root, records, made_by={})
    shutil.rmtree(root / "images")
    (couple,) = near_duplicates(library, NAME, max_distance=130, max_pixels=PIXELS, report=lambda done, total: None)
    assert (couple.first.isic_id, couple.second.isic_id) == (records[0].isic_id, records[1].isic_id)
    assert couple.distance_bits == 2


def balanced_by_hand(library: Library) -> None:
    """4 real nevi, 2 melanomas and 1 of no known class in train; 3 melanomas in val do not count."""
    classes = ["nevus"] * 4 + ["melanoma"] * 2 + [None]
    records = [record(f"t{number}", diagnosis=each) for number, each in enumerate(classes)]
    records += [record(f"v{number}", diagnosis="melanoma", split="val") for number in range(3)]
    write_dataset(library.workspace.path(NAME), records, made_by={})


def test_a_plan_is_written_and_shown_with_its_commands(library: Library) -> None:
    balanced_by_hand(library)
    wanted = PlanRequest(NAME, ("diagnosis",), seed=5)
    name, plan = make_plan(library, wanted, "first")
    assert name == "plans/first.csv"
    written = read_plan(library.workspace.path(name))
    assert (written.pairs, plan.pairs) == (2, 2)
    page = plan_html(name, plan, wanted)
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    assert cells[:10] == ["melanoma", "2", "0", "2", "4", "nevus", "4", "0", "0", "4"]
    assert "1 real pairs lack an attribute" in page
    shown = re.sub(r"<[^>]*>", "", page)
    assert "skindualgen generate --plan plans/first.csv --out datasets/first" in shown
    assert plan_command(wanted, name) == (
        "skindualgen plan --data datasets/phantoms --target balanced --by diagnosis --max-ratio 5 --seed 5 "
        "--out plans/first.csv"
    )
    uniform = PlanRequest(NAME, ("diagnosis", "sex"), 12, allow_novel=True)
    assert "--target uniform --count 12 --by diagnosis,sex" in plan_command(uniform, name)
    assert "--allow-novel --out" in plan_command(uniform, name)


def test_the_shown_command_makes_the_same_plan(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    balanced_by_hand(library)
    wanted = PlanRequest(NAME, ("diagnosis",), 9, seed=3)
    name, _ = make_plan(library, wanted, "first")
    made = library.workspace.path(name).read_bytes()
    monkeypatch.chdir(library.workspace.root)
    result = CliRunner().invoke(cli, shlex.split(plan_command(wanted, "plans/second.csv"))[1:])
    assert result.exit_code == 0, result.output
    assert library.workspace.path("plans/second.csv").read_bytes() == made


def test_plans_that_cannot_be_made_write_nothing(library: Library, tmp_path: Path) -> None:
    balanced_by_hand(library)
    wanted = PlanRequest(NAME, ("diagnosis",))
    make_plan(library, wanted, "taken")
    for wrong, name in (
        (wanted, "taken"),
        (wanted, "../out"),
        (wanted, "/tmp/x"),
        (wanted, ""),
        (PlanRequest(NAME, ()), "a"),
        (PlanRequest(NAME, ("diagnosis",), 0), "a"),
        (PlanRequest("datasets/..", ("diagnosis",)), "a"),
        (PlanRequest(NAME, ("sex",)), "a"),
    ):
        with pytest.raises(InputError):
            make_plan(library, wrong, name)
    assert [path.name for path in (library.workspace.root / "plans").iterdir()] == ["taken.csv"]
    shutil.rmtree(library.workspace.root / "plans")
    (tmp_path / "outside").mkdir()
    (library.workspace.root / "plans").symlink_to(tmp_path / "outside")
    with pytest.raises(InputError, match="inside the workspace"):
        make_plan(library, wanted, "first")
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_balanced_data_set_needs_no_plan(library: Library) -> None:
    records = [record(f"t{number}", diagnosis="nevus") for number in range(2)]
    write_dataset(library.workspace.path(NAME), records, made_by={})
    wanted = PlanRequest(NAME, ("diagnosis",))
    name, plan = make_plan(library, wanted, "first")
    assert "Nothing to add" in plan_html(name, plan, wanted)
    assert not (library.workspace.root / name).exists()


def silent(stage: str, done: int, total: int) -> None:
    """Report to nobody."""


def test_the_verdict_is_that_of_the_command(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask that is empty, a picture that is gone, a patient in two splits: found, with what mends each."""
    monkeypatch.setattr("skindualgen.readiness.pictures.TONES_MEASURED", 1)
    root, records = library.workspace.path(NAME), library.records(NAME)
    train, val = ([each for each in records if each.split == split] for split in ("train", "val"))
    Image.new("L", (64, 64)).save(root / str(train[0].mask_file_name))
    found, sheet = check_set(library, NAME, "train", "micro", report=silent)
    assert (found.verdict, sheet is not None) == ("fix", True)
    page = check_html(NAME, found, sheet, "micro")
    assert re.findall(r'<span class="sdg-pill sdg-fix">fix</span>', page) and "sdg-stop" not in page
    assert page.count("<img") == 1 and "data:image/jpeg;base64," in page
    shown = re.sub(r"<[^>]*>", "", page)
    assert "masks that are empty: 1 of 12" in shown and train[0].isic_id in shown
    assert "skindualgen prepare SRC NEW" in shown
    assert "skindualgen check datasets/phantoms --for train --base micro --sheet suspects.png" in shown
    assert str(root) not in page

    (root / train[1].file_name).unlink()
    write_dataset(
        root,
        [each.model_copy(update={"patient_id": "one"}) if each in (train[2], val[0]) else each for each in records],
        made_by={},
    )
    found, sheet = check_set(library, NAME, "train", "micro", report=silent)
    said = CliRunner().invoke(cli, ["check", str(root), "--json", str(root.parent / "found.json")])
    assert said.exit_code == 2
    assert json.loads(json.dumps(found.as_dict())) == json.loads((root.parent / "found.json").read_text())
    assert {"unreadable", "crossing", "mask_empty"} <= {each.kind for each in found.problems}
    page = check_html(NAME, found, sheet, "micro")
    assert page.count('sdg-stop">stop') == 3  # the verdict, and two problems
    assert str(root) not in page


def test_a_set_without_masks_has_no_sheet(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skindualgen.readiness.pictures.TONES_MEASURED", 1)
    root = library.workspace.path(NAME)
    bare = [each.model_copy(update={"mask_file_name": None, "mask_sha256": None}) for each in read_metadata(root)]
    write_dataset(root, bare, made_by={})
    found, sheet = check_set(library, NAME, "train", "micro", report=silent)
    assert (found.verdict, sheet) == ("stop", None)
    assert "<img" not in check_html(NAME, found, sheet, "micro")


@pytest.fixture
def tabs(library: Library) -> list[Any]:
    """The components of the three tabs, on a page of their own."""
    gradio = pytest.importorskip("gradio")
    from skindualgen.studio.model import Model
    from skindualgen.studio.state import Studio
    from skindualgen.studio.tabs import data, evaluating, training

    workspace = library.workspace
    studio = Studio(workspace, Model(workspace, "builtin"), Jobs(workspace))

    async def built() -> list[Any]:  # without a running loop, gradio makes one for each lock, and closes none
        with gradio.Blocks() as page:
            for tab in (data, training, evaluating):
                tab.build(studio)
        return list(page.blocks.values())

    return asyncio.run(built())


def test_every_field_has_a_label_and_an_id_of_its_own(tabs: list[Any]) -> None:
    kinds = ("Button", "Dropdown", "Textbox", "Number", "Radio", "CheckboxGroup", "Checkbox", "Slider")
    fields = [block for block in tabs if type(block).__name__ in kinds]
    assert len(fields) > 40
    assert all(getattr(field, "label", None) or field.value for field in fields)
    ids = [field.elem_id for field in fields]
    assert None not in ids
    assert len(set(ids)) == len(ids)


def test_the_page_is_answered_with_sentences(library: Library, tabs: list[Any]) -> None:
    """What the script of the review calls: any visitor can call it with anything."""
    (pairs,) = [block for block in tabs if block.elem_id == "data-pairs"]
    said = pairs.decide([NAME, [["PHANTOM_0000001", "accepted"], ["PHANTOM_0000002", "rejected"]], " AB "])
    assert said == {"said": "Saved. 1 accepted, 1 rejected, 10 undecided."}
    assert (library.record(NAME, "PHANTOM_0000001").model_extra or {})["review"]["reviewer"] == "AB"
    assert pairs.decide([NAME, [["PHANTOM_0000001", "undecided"]], ""])["said"].startswith("Saved. 0 accepted")
    large = pairs.detail([NAME, "PHANTOM_0000001"])
    assert "data:image/jpeg" in large["picture"]
    assert "PHANTOM_0000001" in large["picture"]
    for name, isic_id in ((NAME, "nobody"), ("../outside", "PHANTOM_0000001"), ("/etc", ""), (None, {})):
        assert set(pairs.detail([name, isic_id])) == {"error"}
        assert set(pairs.decide([name, [[isic_id, "accepted"]], ""])) == {"error"}
    assert set(pairs.decide([NAME, [["PHANTOM_0000001", "perhaps"]], ""])) == {"error"}
