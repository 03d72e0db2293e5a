"""Masks of several annotators: one becomes the photograph's by the rule asked for, all are kept beside."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from picture_files import pixels, read_csv, save, write_csv
from skindualgen.cli import app
from skindualgen.contracts import ANNOTATORS_DIR, InputError
from skindualgen.data.annotators import AnnotatorRule, Annotators, check_rule, combined
from skindualgen.data.audit import ALL_PAIRS_MEMBERS, audit, near_groups
from skindualgen.data.images import ItemError
from skindualgen.data.manifest import read_metadata
from skindualgen.data.prepare import prepare
from skindualgen.data.prepare_options import PrepareOptions


def square(left: int, top: int, side: int = 20) -> NDArray[np.uint8]:
    mask = np.zeros((48, 48), np.uint8)
    mask[top : top + side, left : left + side] = 255
    return mask


VOTES = (square(4, 4), square(8, 4), square(8, 8))
MAJORITY = np.where(sum((vote > 0).astype(int) for vote in VOTES) >= 2, 255, 0).astype(np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    for name in "ab":
        save(pixels(name), root / "images" / f"{name}.png")
    for number, vote in enumerate(VOTES, start=1):
        save(vote, root / "masks" / f"a_annotator{number}.png")
    save(VOTES[0], root / "masks" / "b.png")
    write_csv(root / "metadata.csv", [{"image_id": name, "dx": "nv", "lesion_id": "L"} for name in "ab"])
    return root


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(("rule", "expected"), [("first", VOTES[0]), ("majority", MAJORITY)])
def test_rule_decides_and_all_masks_are_kept(
    source: Path, tmp_path: Path, rule: AnnotatorRule, expected: NDArray[np.uint8]
) -> None:
    out = tmp_path / "out"
    prepare(source, out, PrepareOptions(size=48, annotator=rule))
    np.testing.assert_array_equal(read(out / "masks" / "a.png"), expected)
    np.testing.assert_array_equal(read(out / "masks" / "b.png"), VOTES[0])
    for number, vote in enumerate(VOTES, start=1):
        np.testing.assert_array_equal(read(out / ANNOTATORS_DIR / f"a.{number}.png"), vote)
    assert len(list((out / ANNOTATORS_DIR).iterdir())) == 3
    (row,) = [row for row in read_csv(out / "adjusted.csv") if row["adjustment"] == "annotators"]
    detail = f"{rule} of a_annotator1.png, a_annotator2.png, a_annotator3.png"
    assert (row["isic_id"], row["detail"]) == ("a", detail)
    assert len({record.split for record in read_metadata(out)}) == 1  # one lesion


def test_staple_trusts_those_who_agree() -> None:
    good, bad = square(8, 8), square(26, 26)
    images = [Image.fromarray(mask) for mask in (bad, good, good, good)]
    np.testing.assert_array_equal(np.asarray(combined(images, Annotators("staple"), "a")), good)


def test_random_is_the_same_at_every_run_and_another_with_another_seed() -> None:
    images = [Image.fromarray(vote) for vote in VOTES]
    chosen = {seed: combined(images, Annotators("random", seed), "a") for seed in range(20)}
    assert all(chosen[seed] is combined(images, Annotators("random", seed), "a") for seed in chosen)
    assert {id(mask) for mask in chosen.values()} == {id(image) for image in images}


def test_masks_that_do_not_meet_are_rejected_by_the_majority() -> None:
    images = [Image.fromarray(square(0, 0)), Image.fromarray(square(25, 25))]
    with pytest.raises(ItemError, match="mask_disagreement"):
        combined(images, Annotators("majority"), "a")


def test_damaged_mask_of_one_annotator_is_named(source: Path, tmp_path: Path) -> None:
    (source / "masks" / "a_annotator2.png").write_bytes(b"<html>")
    prepare(source, tmp_path / "out", PrepareOptions(size=48, annotator="first"))
    (row,) = read_csv(tmp_path / "out" / "rejected.csv")
    assert (row["isic_id"], row["file"]) == ("a", "masks/a_annotator2.png")
    assert not list((tmp_path / "out" / ANNOTATORS_DIR).iterdir())


def test_command_refuses_several_masks_until_a_rule_is_given(source: Path, tmp_path: Path) -> None:
    arguments = ["prepare", str(source), str(tmp_path / "out"), "--size", "48", "--workers", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "several masks of one photograph" in done.stderr
    assert "--annotator first, majority, random or staple" in done.stderr
    done = CliRunner().invoke(app, [*arguments, "--annotator", "majority"])
    assert done.exit_code == 0, done.output
    assert "annotators 1" in done.stdout
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert CliRunner().invoke(app, [*arguments, "--annotator", "majority"]).exit_code == 0
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    done = CliRunner().invoke(app, [*arguments, "--annotator", "first"])
    assert done.exit_code == 2
    assert "annotator 'majority' instead of 'first'" in done.stderr


def test_staple_without_its_library_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(InputError, match=r"skindualgen\[annotators\]"):
        PrepareOptions(annotator="staple").check()
    with pytest.raises(InputError, match="one of first"):
        check_rule("median")


def test_loader_and_a_second_run_pass_over_the_masks_of_annotators(source: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "out"
    prepare(source, out, PrepareOptions(size=48, annotator="first"))
    loaded = datasets.load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"].num_rows == 2
    summary = prepare(out, tmp_path / "again", PrepareOptions(size=48))
    assert (summary.counts["with_mask"], dict(summary.rejected)) == (2, {})
    assert any(ANNOTATORS_DIR in note for note in summary.notes)


# -- near-duplicates in large groups


def test_large_groups_of_near_duplicates_are_linked_and_not_listed_pair_by_pair() -> None:
    generator = np.random.default_rng(0)
    centres = generator.integers(0, 2**63, (2, 8), dtype=np.uint64)
    noise = np.uint64(1) << generator.integers(0, 63, (2, 1500), dtype=np.uint64)
    hashes = np.repeat(centres[:, None], 1500, axis=1)  # [2, 1500, 8]
    hashes[:, :, 0] ^= noise
    shuffled = generator.permutation(3000)
    groups = near_groups(hashes.reshape(3000, 8)[shuffled], 130)
    assert sorted(len(members) for members, _ in groups) == [1500, 1500]
    assert [len(links) for _, links in groups] == [1499, 1499]
    assert {tuple(members) for members, _ in groups} == {
        tuple(np.flatnonzero((shuffled < 1500) == side).tolist()) for side in (True, False)
    }
    assert all(bits <= 2 for _, links in groups for _, _, bits in links)


def test_chain_of_near_duplicates_is_one_group() -> None:
    steps = np.zeros((ALL_PAIRS_MEMBERS + 4, 1), np.uint64)
    for number in range(1, len(steps)):
        steps[number:] |= np.uint64(0b11 << (2 * number))  # each two bits from the one before
    ((members, links),) = near_groups(steps, 2)
    assert members == list(range(len(steps)))
    assert sorted(links) == [(i, i + 1, 2) for i in range(len(steps) - 1)]


def test_audit_says_group_and_size(tmp_path: Path) -> None:
    for name in "abc":
        save(pixels("same", width=96, height=96) + (name == "c"), tmp_path / "src" / f"{name}.png")
    prepare(tmp_path / "src", tmp_path / "out", PrepareOptions(size=96))
    findings = audit(tmp_path / "out")
    assert [(pair.group, pair.group_size) for pair in findings.near] == [(1, 2)]
    (row,) = read_csv(tmp_path / "out" / "audit.csv")
    assert (row["group"], row["group_size"]) == ("1", "2")
