"""Verification of data set folders: a sound one, and one planted fault at a time."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from certificates import write_chain
from skindualgen.cli import CommandGroup
from skindualgen.cli.verify import verify
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data import sorting
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.phantom import draw_phantom
from skindualgen.data.training_items import write_training_items
from skindualgen.files import sha256_bytes
from skindualgen.marks.c2pa import Signer
from skindualgen.marks.embed import image_png, mask_png
from skindualgen.verify.deviations import KINDS, Deviation, Tally
from skindualgen.verify.folder import verify_folder

app = typer.Typer(cls=CommandGroup)
app.callback()(lambda: None)  # or typer would take the only command for the program itself
app.command("verify")(verify)

SIZE_PX = 32
LINE = dict[str, Any]


def write_pair(root: Path, index: int, *, signer: Signer | None = None) -> PairRecord:
    """One generated pair with everything inside that a generated pair has."""
    phantom = draw_phantom(index, size=SIZE_PX)
    name = f"SDG_{index:07d}"
    record = PairRecord(
        file_name=f"images/{name}.png",
        mask_file_name=f"masks/{name}.png",
        isic_id=name,
        prompt=f"a nevus {index}",
        diagnosis="nevus",
        origin="synthetic",
        source="skindualgen 0.1.0",
        seed=index,
        guidance_scale=3.5,
        adapter_sha256="a" * 64,
        base_sha256="b" * 64,
        scores={"mask_area_fraction": 0.25},
    )
    image = image_png(Image.fromarray(phantom.image), record)
    if signer is not None:
        image = signer.sign(image, record)
    put(root, record, image, mask_png(Image.fromarray(phantom.mask), name))
    return record


def put(root: Path, record: PairRecord, image: bytes, mask: bytes) -> None:
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / record.file_name).write_bytes(image)
    (root / str(record.mask_file_name)).write_bytes(mask)
    record.sha256, record.mask_sha256 = sha256_bytes(image), sha256_bytes(mask)


def write_photograph(root: Path, index: int) -> PairRecord:
    """One real pair: nothing inside its files."""
    phantom = draw_phantom(100 + index, size=SIZE_PX)
    image, mask = io.BytesIO(), io.BytesIO()
    Image.fromarray(phantom.image).save(image, format="JPEG")
    Image.fromarray(phantom.mask).save(mask, format="PNG")
    name = f"ISIC_{index:07d}"
    record = PairRecord(
        file_name=f"images/{name}.jpg", mask_file_name=f"masks/{name}.png", isic_id=name, diagnosis="nevus"
    )
    put(root, record, image.getvalue(), mask.getvalue())
    return record


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three generated pairs and two real ones, and what stands beside them."""
    root = tmp_path_factory.mktemp("sound") / "data"
    records = [write_pair(root, index) for index in range(3)] + [write_photograph(root, index) for index in range(2)]
    write_training_items(root, records[3:])
    write_dataset(root, records, made_by={"test": 1})
    (root / "generate.json").write_text("{}")
    (root / "README.md").write_text("a card")
    Image.new("RGB", (8, 8)).save(root / "contact_sheet.png")
    (root / ".production").mkdir()
    (root / ".production" / "lock").touch()
    return root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may harm."""
    return shutil.copytree(sound, tmp_path / "data")


def found(root: Path, **options: Any) -> list[tuple[str, str]]:
    return [(deviation.kind, deviation.file) for deviation in verify_folder(root, **options)]


def edit(root: Path, isic_id: str, change: Callable[[LINE], LINE | None]) -> None:
    """Change one line of the metadata and nothing else."""
    path = root / "metadata.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    edited = [change(line) if line["isic_id"] == isic_id else line for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in edited if line is not None))


def rewrite(root: Path, isic_id: str, *, image: bytes | None = None, mask: bytes | None = None, **fields: Any) -> None:
    """Change files or fields of a record and everything that depends on them: what a careful hand would do."""
    records = read_metadata(root)
    index = next(index for index, record in enumerate(records) if record.isic_id == isic_id)
    record = records[index] = records[index].model_copy(update=fields)
    if image is not None:
        (root / record.file_name).write_bytes(image)
        record.sha256 = sha256_bytes(image)
    if mask is not None:
        (root / str(record.mask_file_name)).write_bytes(mask)
        record.mask_sha256 = sha256_bytes(mask)
    write_dataset(root, records, made_by={"test": 1})


def record_of(root: Path, isic_id: str) -> PairRecord:
    return next(record for record in read_metadata(root) if record.isic_id == isic_id)


IMAGE, MASK, OTHER_MASK = "images/SDG_0000001.png", "masks/SDG_0000001.png", "masks/SDG_0000002.png"
MANIFEST = ("dataset", "dataset.json")


@pytest.mark.parametrize("workers", [1, 4])
def test_a_sound_folder_has_no_deviations(sound: Path, workers: int) -> None:
    tally = Tally()
    assert found(sound, workers=workers, tally=tally) == []
    assert (tally.records, tally.synthetic, tally.images, tally.masks) == (5, 3, 5, 5)
    assert (tally.hashes, tally.marked, dict(tally.credentials)) == (10, 3, {"none": 5})


def test_a_turned_bit_in_the_pixels(root: Path) -> None:
    data = bytearray((root / IMAGE).read_bytes())
    data[data.index(b"IDAT") + 60] ^= 4
    (root / IMAGE).write_bytes(data)
    kinds = {kind for kind, file in found(root) if file == IMAGE}
    assert "changed_file" in kinds and kinds <= {"changed_file", "unreadable"}
    assert {file for _, file in found(root)} == {IMAGE}


def test_a_file_that_was_cut_short(root: Path) -> None:
    data = (root / IMAGE).read_bytes()
    (root / IMAGE).write_bytes(data[:-400])
    assert found(root) == [("changed_file", IMAGE), ("unreadable", IMAGE)]


def test_swapped_masks_are_called_so(root: Path) -> None:
    first, second = (root / MASK).read_bytes(), (root / OTHER_MASK).read_bytes()
    (root / MASK).write_bytes(second)
    (root / OTHER_MASK).write_bytes(first)
    deviations = list(verify_folder(root))
    assert [(d.kind, d.file) for d in deviations] == [
        ("changed_file", MASK),
        ("mask_id", MASK),
        ("changed_file", OTHER_MASK),
        ("mask_id", OTHER_MASK),
    ]
    assert deviations[0].found == f"the content of {OTHER_MASK} (swapped or copied)"
    assert deviations[1].found == "the mask of SDG_0000002 (swapped)"
    assert deviations[3].expected == "the mask of SDG_0000002"


def test_swapped_masks_of_photographs_are_known_by_their_hash(root: Path) -> None:
    """Their masks hold no id."""
    first, second = "masks/ISIC_0000000.png", "masks/ISIC_0000001.png"
    data = (root / first).read_bytes()
    shutil.copyfile(root / second, root / first)
    (root / second).write_bytes(data)
    deviations = list(verify_folder(root))
    assert [(d.kind, d.file, d.found.split()[3]) for d in deviations] == [
        ("changed_file", first, second),
        ("changed_file", second, first),
    ]


def test_masks_that_were_swapped_with_their_hashes(root: Path) -> None:
    """A careful hand: hashes and manifest agree, the ids in the masks do not."""
    first, second = (root / MASK).read_bytes(), (root / OTHER_MASK).read_bytes()
    rewrite(root, "SDG_0000001", mask=second)
    rewrite(root, "SDG_0000002", mask=first)
    assert found(root) == [("mask_id", MASK), ("mask_id", OTHER_MASK)]


@pytest.mark.parametrize("file", [IMAGE, MASK, "images/ISIC_0000001.jpg"])
def test_a_missing_file(root: Path, file: str) -> None:
    (root / file).unlink()
    assert found(root) == [("missing_file", file)]


@pytest.mark.parametrize(
    ("field", "value"),
    [("prompt", "a melanoma"), ("seed", 9), ("adapter_sha256", "c" * 64), ("sex", "male"), ("prompt", None)],
)
def test_an_edited_record_of_a_generated_pair(root: Path, field: str, value: object) -> None:
    edit(root, "SDG_0000001", lambda line: line | {field: value})
    deviations = list(verify_folder(root))
    assert [(d.kind, d.file) for d in deviations] == [MANIFEST, ("embedded", IMAGE)]
    assert deviations[1].found.startswith(field) and repr(value) in deviations[1].expected


def test_an_edited_diagnosis_is_seen_in_counts_manifest_and_file(root: Path) -> None:
    edit(root, "SDG_0000001", lambda line: line | {"diagnosis": "melanoma"})
    deviations = list(verify_folder(root))
    assert [(d.kind, d.file) for d in deviations] == [MANIFEST, MANIFEST, ("embedded", IMAGE)]
    assert deviations[0].found.startswith("diagnosis {'train': {'nevus': 5}}")
    assert deviations[2].found == "diagnosis 'nevus' in the file"
    assert deviations[2].expected == "'melanoma' as in the metadata"


def test_an_edited_record_of_a_photograph_is_seen_in_the_manifest(root: Path) -> None:
    edit(root, "ISIC_0000000", lambda line: line | {"age_approx": 44})
    assert found(root) == [MANIFEST]


def test_an_edit_that_was_carried_through_to_the_manifest(root: Path) -> None:
    rewrite(root, "SDG_0000001", prompt="a melanoma", scores={"mask_area_fraction": 0.5})
    deviations = list(verify_folder(root))
    assert [d.found for d in deviations] == [
        "prompt 'a nevus 1' in the file",
        "scores.mask_area_fraction 0.25 in the file",
    ]


def test_what_was_added_later_is_no_deviation(root: Path) -> None:
    """Scores of a gate, fields that the library does not know, another place of the files."""
    record = record_of(root, "SDG_0000001")
    scores = {**(record.scores or {}), "sharpness": 3.0}
    (root / "images" / "sub").mkdir()
    (root / record.file_name).rename(root / "images" / "sub" / "renamed.png")
    rewrite(root, "SDG_0000001", scores=scores, cluster="c7", file_name="images/sub/renamed.png")
    assert found(root) == []


def test_edited_text_inside_an_image(root: Path) -> None:
    """Text and hash are changed with care; the XMP and the metadata still tell the truth."""
    record = record_of(root, "SDG_0000001")
    with Image.open(root / IMAGE) as image:
        pixels = image.convert("RGB")
    forged = image_png(pixels, record.model_copy(update={"seed": 999}))
    truth = image_png(pixels, record)
    start, end = truth.index(b"iTXt") - 4, truth.index(b"IDAT") - 4
    forged_start, forged_end = forged.index(b"iTXt") - 4, forged.index(b"IDAT") - 4
    mixed = forged[:forged_start] + truth[start:end] + forged[forged_end:]
    rewrite(root, "SDG_0000001", image=mixed)
    deviations = list(verify_folder(root))
    assert [(d.kind, d.file) for d in deviations] == [("embedded", IMAGE), ("embedded", IMAGE)]
    assert deviations[0].found == "seed is 999 in the PNG text and '1' in the XMP"
    assert (deviations[1].found, deviations[1].expected) == ("seed 999 in the file", "1 as in the metadata")


def test_marks_that_are_missing_and_marks_on_photographs(root: Path) -> None:
    with Image.open(root / IMAGE) as image:
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
    rewrite(root, "SDG_0000001", image=buffer.getvalue())
    photograph = record_of(root, "ISIC_0000000")
    with Image.open(root / photograph.file_name) as image:
        marked = image_png(image.convert("RGB"), photograph.model_copy(update={"origin": "synthetic"}))
    rewrite(root, "ISIC_0000000", image=marked)
    name = photograph.file_name
    assert found(root) == [("mark", name), ("mark", name), ("embedded", IMAGE), ("mark", IMAGE)]


def test_a_removed_record_leaves_files_that_nothing_names(root: Path) -> None:
    edit(root, "SDG_0000001", lambda line: None)
    deviations = found(root)
    assert deviations[-2:] == [("unnamed_file", IMAGE), ("unnamed_file", MASK)] or deviations[-2:] == [
        ("unnamed_file", MASK),
        ("unnamed_file", IMAGE),
    ]
    assert set(deviations[:-2]) == {MANIFEST} and len(deviations) > 3


@pytest.mark.parametrize("file", ["images/extra.png", "images/.SDG_1.png.abc.tmp", "extra.jpg", "more/text.txt"])
def test_a_file_that_no_record_names(root: Path, file: str) -> None:
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).write_bytes(b"x")
    assert found(root) == [("unnamed_file", file)]


def test_two_records_with_the_same_file(root: Path) -> None:
    edit(root, "SDG_0000002", lambda line: line | {"file_name": IMAGE})
    deviations = list(verify_folder(root))
    first = deviations[0]
    assert (first.kind, first.file) == ("repeated", IMAGE)
    assert first.found == "a file of the lines 4 and 5 of metadata.jsonl"
    kinds = {(d.kind, d.file) for d in deviations}
    assert {MANIFEST, ("changed_file", IMAGE), ("unnamed_file", "images/SDG_0000002.png")} <= kinds


def test_a_record_that_stands_twice(root: Path) -> None:
    path = root / "metadata.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    deviations = list(verify_folder(root))
    assert [d.found for d in deviations if d.kind == "repeated"] == [
        "the id SDG_0000002 in the lines 5 and 6",
        "a file of the lines 5 and 6 of metadata.jsonl",
        "a file of the lines 5 and 6 of metadata.jsonl",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 6: Invalid JSON"),
        ('{"isic_id": "x"}', "line 6, file_name: Field required"),
        ('{"isic_id": "x", "file_name": "../x.png"}', "line 6: the path '../x.png'"),
        ('{"isic_id": "x", "file_name": "/etc/hosts"}', "line 6: the path '/etc/hosts'"),
        ('{"isic_id": "x", "file_name": "a.png", "mask_file_name": "a\\\\b.png"}', "line 6: the path 'a\\\\b.png'"),
        ("\udce4", "line 6"),
    ],
)
def test_a_line_that_is_no_record(root: Path, line: str, message: str) -> None:
    path = root / "metadata.jsonl"
    path.write_bytes(path.read_bytes() + line.encode("utf-8", "surrogateescape") + b"\n")
    deviations = list(verify_folder(root))
    assert [(d.kind, d.file) for d in deviations] == [("bad_record", "metadata.jsonl")]
    assert deviations[0].found.startswith(message)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda info: info["counts"].update(records=6), "5 as counted"),
        (lambda info: info["counts"]["origin"].update(synthetic=4), "{'real': 2, 'synthetic': 3} as counted"),
        (lambda info: info.update(manifest_sha256="0" * 64), "of these records"),
        (lambda info: info.update(counts=None), "'records': 5"),
        (lambda info: info.update(schema_version=99), "version 1"),
    ],
)
def test_an_edited_dataset_file(root: Path, change: Callable[[LINE], None], expected: str) -> None:
    path = root / "dataset.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))
    deviations = list(verify_folder(root))
    assert [(d.kind, d.file) for d in deviations] == [MANIFEST]
    assert expected in deviations[0].expected


def test_other_files_that_are_missing_or_damaged(root: Path) -> None:
    (root / "dataset.json").unlink()
    (root / "trained_on.json").write_text("{")
    assert found(root) == [MANIFEST, ("training_items", "trained_on.json")]


def test_masks_with_grey_levels_and_of_another_size(root: Path) -> None:
    grey = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    grey[4:20, 4:20] = 255
    grey[8, 8] = 128
    rewrite(root, "SDG_0000001", mask=mask_png(Image.fromarray(grey), "SDG_0000001"))
    small = np.where(grey[:-1] > 200, np.uint8(255), np.uint8(0))
    rewrite(root, "SDG_0000002", mask=mask_png(Image.fromarray(small), "SDG_0000002"))
    deviations = list(verify_folder(root))
    assert [(d.kind, d.file) for d in deviations] == [("mask_values", MASK), ("size", OTHER_MASK)]
    assert deviations[0].found == "the values 128"
    assert (deviations[1].found, deviations[1].expected) == ("32x31 px", "32x32 px of the image")


def test_a_mask_without_its_id_and_a_mask_that_tells_more(root: Path) -> None:
    with Image.open(root / MASK) as mask:
        plain = io.BytesIO()
        mask.save(plain, format="PNG")
    rewrite(root, "SDG_0000001", mask=plain.getvalue())
    record = record_of(root, "SDG_0000002")
    with Image.open(root / OTHER_MASK) as mask:
        rewrite(root, "SDG_0000002", mask=image_png(mask.convert("L"), record))
    assert found(root) == [("mask_id", MASK), ("embedded", OTHER_MASK)]


def test_records_without_hashes_cannot_be_vouched_for(root: Path) -> None:
    rewrite(root, "ISIC_0000000", sha256=None, mask_sha256=None)
    assert found(root) == [("no_hash", "images/ISIC_0000000.jpg"), ("no_hash", "masks/ISIC_0000000.png")]


def signed_folder(tmp_path: Path) -> tuple[Path, Path]:
    chain = write_chain(tmp_path / "chain")
    root = tmp_path / "signed"
    records = [write_pair(root, 0), write_pair(root, 1, signer=Signer(chain.cert, chain.key))]
    write_dataset(root, records, made_by={"test": 1})
    return root, chain.root


def test_signed_images(tmp_path: Path) -> None:
    root, anchors = signed_folder(tmp_path)
    for options, state in (({}, "valid"), ({"anchors": anchors}, "trusted")):
        tally = Tally()
        assert found(root, tally=tally, **options) == []
        assert dict(tally.credentials) == {"none": 1, state: 1}
    data = bytearray((root / IMAGE).read_bytes())
    data[data.rindex(b"IDAT") + 30] ^= 1
    rewrite(root, "SDG_0000001", image=bytes(data))
    deviations = list(verify_folder(root))
    kinds = [d.kind for d in deviations]
    assert kinds == ["credentials"] or kinds == ["unreadable"]
    with pytest.raises(InputError, match=r"nothing\.pem"):
        list(verify_folder(root, anchors=tmp_path / "nothing.pem"))


def test_a_signature_of_another_image(tmp_path: Path) -> None:
    """Text and XMP tell one story, the signed statement another."""
    root, _ = signed_folder(tmp_path)
    chain = write_chain(tmp_path / "again")
    record = record_of(root, "SDG_0000001")
    with Image.open(root / IMAGE) as image:
        png = image_png(image.convert("RGB"), record)
    signed = Signer(chain.cert, chain.key).sign(png, record.model_copy(update={"prompt": "a melanoma"}))
    rewrite(root, "SDG_0000001", image=signed)
    deviations = list(verify_folder(root))
    assert [(d.kind, d.found, d.expected) for d in deviations] == [
        ("credentials", "prompt 'a melanoma' signed", "'a nevus 1' as in the metadata")
    ]


def test_without_the_package_signatures_are_counted_as_unchecked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, _ = signed_folder(tmp_path)
    monkeypatch.setitem(sys.modules, "c2pa", None)
    tally = Tally()
    assert found(root, tally=tally) == []
    assert dict(tally.credentials) == {"none": 1, "unchecked": 1}


def test_memory_does_not_grow_with_the_number_of_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest's hash sorts a few megabytes of records in memory, more on disk: from the first pair on, here."""
    monkeypatch.setattr(sorting, "SORTED_BYTES", 16384)
    pair = tmp_path / "pair"
    write_pair(pair, 0)
    files = sorted(path.relative_to(pair) for path in pair.rglob("*.png"))
    template = write_pair(pair, 0)

    def peak(count: int, turn: int = 0) -> int:
        root = tmp_path / f"{count}_{turn}"
        records = []
        for index in range(count):
            names = [f"{file.parent}/{index:06d}.png" for file in files]
            for file, name in zip(files, names, strict=True):
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).hardlink_to(pair / file)
            update = {"file_name": names[0], "mask_file_name": names[1], "isic_id": f"{index:06d}"}
            records.append(template.model_copy(update=update))
        write_dataset(root, records, made_by={})
        tracemalloc.start()
        number = sum(1 for _ in verify_folder(root))
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert number == 2 * count  # each image and mask names the id of the template
        return highest

    peak(2)  # imports and caches
    # The lesser of two: what another test's thread takes meanwhile is counted too.
    few, many = (min(peak(count, turn) for turn in range(2)) for count in (20, 160))
    assert many < few + 100_000  # 140 records alone would take several hundred thousand


def test_the_command_line(root: Path, tmp_path: Path) -> None:
    run = CliRunner()
    good = run.invoke(app, ["verify", str(root)])
    assert good.exit_code == 0 and "All as recorded." in good.output
    (root / MASK).unlink()
    target = tmp_path / "findings.json"
    bad = run.invoke(app, ["verify", str(root), "--json", str(target), "--workers", "1"])
    assert bad.exit_code == 3
    assert f"missing_file: {MASK}: no file" in bad.output
    findings = json.loads(target.read_text())
    assert [Deviation(**entry).file for entry in findings["deviations"]] == [MASK]
    assert findings["tally"]["deviations"] == {"missing_file": 1}
    assert findings["tally"]["records"] == 5
    nothing = run.invoke(app, ["verify", str(tmp_path)])
    assert nothing.exit_code == 2
    assert run.invoke(app, ["verify", str(root), "--json", str(tmp_path / "no" / "f.json")]).exit_code == 2


def test_the_json_file_of_a_sound_folder_is_json(sound: Path, tmp_path: Path) -> None:
    target = tmp_path / "findings.json"
    assert CliRunner().invoke(app, ["verify", str(sound), "--json", str(target)]).exit_code == 0
    assert json.loads(target.read_text())["deviations"] == []


def test_every_kind_has_a_description_and_a_readable_line() -> None:
    deviation = Deviation("mask_id", "masks/a.png", "the mask of b (swapped)", "the mask of a")
    assert str(deviation) == "masks/a.png: the mask of b (swapped); expected the mask of a"
    assert dataclasses.asdict(deviation)["kind"] in KINDS
