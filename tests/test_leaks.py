"""The leak guard: every kind of planted leak is found and named, and nothing else is."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.journal import perceptual_hash
from skindualgen.data.manifest import read_metadata
from skindualgen.data.phantom import draw_phantom
from skindualgen.data.training_items import TrainingItem, TrainingItems, read_training_items, write_training_items
from skindualgen.files import sha256_file
from skindualgen.judges import leaks
from skindualgen.judges.leaks import (
    NEAR_DUPLICATE_BITS,
    Leak,
    find_leaks,
    knowledge_caveats,
    provenance_caveats,
    refuse_leaks,
)

PHANTOMS = 8


def write_part(root: Path, first: int, **pictures: Image.Image) -> Dataset:
    """Phantoms number first to first + 7 under the ids "p<number>", and the given pictures under their names."""
    root.mkdir(parents=True)
    shown = {f"p{i}": Image.fromarray(draw_phantom(i, size=64).image) for i in range(first, first + PHANTOMS)}
    records = []
    for name, picture in (shown | pictures).items():
        picture.save(root / f"{name}.png")
        records.append(PairRecord(file_name=f"{name}.png", isic_id=name))
    return Dataset(root, records)


@pytest.fixture(scope="module")
def test_part(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_part(tmp_path_factory.mktemp("leaks") / "test", 100)


@pytest.fixture(scope="module")
def train_part(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_part(tmp_path_factory.mktemp("leaks") / "train", 0)


def photograph(part: Dataset, index: int) -> Image.Image:
    return Image.open(part.root / part.records[index].file_name).convert("RGB")


def with_fields(part: Dataset, index: int, **fields: str) -> Dataset:
    """The part with other fields of one record."""
    records = [record.model_copy(deep=True) for record in part.records]
    records[index] = PairRecord.model_validate(records[index].model_dump() | fields)
    return Dataset(part.root, records)


def kinds(found: list[Leak]) -> list[tuple[str, str, str, str]]:
    return [(leak.kind, leak.where, leak.test_id, leak.other_id) for leak in found]


def test_a_clean_split_is_clean(test_part: Dataset, train_part: Dataset, tmp_path: Path) -> None:
    write_training_items(tmp_path, train_part.records, root=train_part.root)
    items = read_training_items(tmp_path)
    generated = write_part(tmp_path / "generated", 200)
    found = find_leaks(test=test_part, train=train_part, generated=generated, generator_items=items)
    assert found == [] and refuse_leaks(found, known=False) == [] and provenance_caveats(items) == []


@pytest.mark.parametrize("field", ["lesion_id", "patient_id", "split_group"])
def test_shared_fields_are_found(test_part: Dataset, train_part: Dataset, field: str) -> None:
    test, train = with_fields(test_part, 2, **{field: "X1"}), with_fields(train_part, 5, **{field: "X1"})
    found = find_leaks(test=test, train=train, generated=None, generator_items=None)
    assert found == [Leak(field, "training split", "p102", "p5", "X1")]


def test_the_same_id_in_another_folder_is_found(test_part: Dataset, train_part: Dataset) -> None:
    train = with_fields(train_part, 0, isic_id="p103")
    found = find_leaks(test=test_part, train=train, generated=None, generator_items=None)
    assert kinds(found) == [("isic_id", "training split", "p103", "p103")]


def test_a_group_named_by_an_item_is_found(test_part: Dataset, train_part: Dataset) -> None:
    """`split_group` may be the id of the group's first member, which itself then has none."""
    test = with_fields(test_part, 1, split_group="p3")
    found = find_leaks(test=test, train=train_part, generated=None, generator_items=None)
    assert kinds(found) == [("split_group", "training split", "p101", "p3")]


def jpeg(quality: int) -> Callable[[Image.Image], Image.Image]:
    def encode(picture: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return encode


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    **{turn.name: lambda picture, turn=turn: picture.transpose(turn) for turn in Image.Transpose},
    "jpeg 50": jpeg(50),
    "half the size": lambda picture: picture.resize((32, 32), Image.Resampling.LANCZOS),
    "three times the size": lambda picture: picture.resize((192, 192), Image.Resampling.BICUBIC),
    "brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.1),
    "turned, resized and re-encoded": lambda picture: jpeg(70)(
        picture.transpose(Image.Transpose.TRANSVERSE).resize((96, 96), Image.Resampling.LANCZOS)
    ),
}


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("side", ["train", "generated", "recorded"])
def test_copies_are_found_however_they_were_made(
    test_part: Dataset, train_part: Dataset, tmp_path: Path, name: str, side: str
) -> None:
    """Among training photographs, generated ones, and those of which the generator's record holds but a hash."""
    copy = COPIES[name](photograph(test_part, 4))
    if side == "recorded":
        item = TrainingItem(isic_id="copy", perceptual_hash=perceptual_hash(copy))
        items = TrainingItems(items=(TrainingItem(isic_id="unhashed"), item), manifest_sha256="0" * 64)
        found = find_leaks(test=test_part, train=train_part, generated=None, generator_items=items)
        where = "generator's training items"
    else:
        part = write_part(tmp_path / "part", 0, copy=copy)
        sides = {"train": train_part, "generated": None} | {side: part}
        found = find_leaks(test=test_part, train=sides["train"], generated=sides["generated"], generator_items=None)
        where = {"train": "training split", "generated": "generated pairs"}[side]
    assert kinds(found) == [("near_duplicate", where, "p104", "copy")]
    assert int(found[0].detail.split()[0]) <= NEAR_DUPLICATE_BITS


@pytest.mark.parametrize("side", ["train", "generated"])
def test_exact_copies_are_told_from_near_ones(
    test_part: Dataset, train_part: Dataset, tmp_path: Path, side: str
) -> None:
    """The same file, and the same pixels in another file (a PNG of another compression, a BMP)."""
    part = write_part(tmp_path / "part", 0, file=photograph(test_part, 0), pixels=photograph(test_part, 1))
    shutil.copyfile(test_part.root / "p100.png", part.root / "file.png")
    photograph(test_part, 1).save(part.root / "pixels.png", compress_level=0)
    photograph(test_part, 2).save(part.root / "third.bmp")
    records = [*part.records, PairRecord(file_name="third.bmp", isic_id="third")]
    sides = {"train": train_part, "generated": None} | {side: Dataset(part.root, records)}
    found = find_leaks(test=test_part, train=sides["train"], generated=sides["generated"], generator_items=None)
    assert [(kind, test_id, other) for kind, _, test_id, other in kinds(found)] == [
        ("file", "p100", "file"),
        ("pixels", "p101", "pixels"),
        ("pixels", "p102", "third"),
    ]


def test_ids_of_generated_pairs_mean_nothing(test_part: Dataset, train_part: Dataset, tmp_path: Path) -> None:
    generated = with_fields(write_part(tmp_path / "generated", 200), 0, isic_id="p100", lesion_id="X")
    test = with_fields(test_part, 0, lesion_id="X")
    assert find_leaks(test=test, train=train_part, generated=generated, generator_items=None) == []


def test_a_pair_made_from_a_test_photograph_is_found(test_part: Dataset, train_part: Dataset, tmp_path: Path) -> None:
    """Its picture may look like none of them: the record says what it was made from, or whose lesion it shows."""
    tested = with_fields(test_part, 2, lesion_id="IL_1")
    generated = write_part(tmp_path / "generated", 200)
    for index, fields in enumerate(({"anchor_isic_id": "p101"}, {"anchor_isic_id": "p7", "lesion_id": "IL_1"})):
        generated = with_fields(generated, index, **fields)
    found = find_leaks(test=tested, train=train_part, generated=generated, generator_items=None)
    assert kinds(found) == [
        ("isic_id", "generated pairs", "p101", "p101"),
        ("lesion_id", "generated pairs", "p102", "p7"),
    ]


def test_what_the_generator_was_trained_on_is_found(test_part: Dataset, train_part: Dataset) -> None:
    """By id, by the file's hash under another id, by patient, lesion and group."""
    test = with_fields(with_fields(test_part, 2, lesion_id="L"), 3, patient_id="P", split_group="G")
    items = TrainingItems(
        items=(
            TrainingItem(isic_id="p100"),
            TrainingItem(isic_id="a", sha256=sha256_file(test.root / "p101.png")),
            TrainingItem(isic_id="b", lesion_id="L"),
            TrainingItem(isic_id="c", patient_id="P"),
            TrainingItem(isic_id="d", split_group="G"),
        ),
        manifest_sha256="0" * 64,
    )
    found = find_leaks(test=test, train=train_part, generated=None, generator_items=items)
    assert {leak.where for leak in found} == {"generator's training items"}
    assert [(leak.kind, leak.test_id, leak.other_id) for leak in found] == [
        ("isic_id", "p100", "p100"),
        ("patient_id", "p103", "c"),
        ("lesion_id", "p102", "b"),
        ("split_group", "p103", "d"),
        ("file", "p101", "a"),
    ]


def test_a_generator_trained_on_the_test_split_is_refused(
    phantom_data: Path, tmp_path: Path, train_part: Dataset
) -> None:
    """By the file that `train` writes, with all test ids counted."""
    test = Dataset(phantom_data, read_metadata(phantom_data, "train"))
    write_training_items(tmp_path, test.records, root=phantom_data)
    found = find_leaks(test=test, train=train_part, generated=None, generator_items=read_training_items(tmp_path))
    with pytest.raises(InputError, match=rf"{len(test.records)} test photographs have the same isic_id in the gen"):
        refuse_leaks(found, known=False)
    assert {leak.test_id for leak in found if leak.kind == "file"} == {record.isic_id for record in test.records}


def test_the_message_names_ten_ids_and_counts_all() -> None:
    found = [Leak("lesion_id", "training split", f"t{i:02d}", "other", "L") for i in range(12)]
    found += [Leak("near_duplicate", "generated pairs", "t03", "g", "7 bits")]
    found += [Leak("isic_id", "generator's training items", "t05", "t05", "")]
    with pytest.raises(InputError) as caught:
        refuse_leaks(found, known=False)
    texts = refuse_leaks(found, known=True)
    assert str(caught.value).startswith("got " + "; ".join(texts) + "; expected a test split")
    assert "--i-know" in str(caught.value)
    named = ", ".join(f"t{i:02d} (other, L)" for i in range(10))
    assert texts == [
        f"12 test photographs have the same lesion_id in the training split: {named} and 2 more",
        "1 test photograph has a near-duplicate in the generated pairs: t03 (g, 7 bits)",
        "1 test photograph has the same isic_id in the generator's training items: t05",
    ]


def test_what_is_not_recorded_is_said() -> None:
    assert "not recorded" in provenance_caveats(None)[0]
    items = TrainingItems(items=(), manifest_sha256="0" * 64, unrecorded=("base sd2-base",))
    assert provenance_caveats(items) == ["The training items of the base sd2-base are not recorded."]


def test_a_generator_that_knows_more_than_the_arms_is_pointed_out() -> None:
    seen = TrainingItems(items=tuple(TrainingItem(isic_id=f"p{i}") for i in range(12)), manifest_sha256="0" * 64)
    (caveat,) = knowledge_caveats(seen, [12, 5, 20, 5])
    assert "12 real photographs" in caveat and "arms with 5 real pairs" in caveat
    assert knowledge_caveats(seen, [12]) == [] == knowledge_caveats(None, [5])


def test_unreadable_photographs_are_refused(test_part: Dataset, tmp_path: Path) -> None:
    part = write_part(tmp_path / "part", 0)
    (part.root / "p3.png").write_bytes((part.root / "p3.png").read_bytes()[:100])
    with pytest.raises(InputError, match=r"p3\.png"):
        find_leaks(test=test_part, train=part, generated=None, generator_items=None)
    (part.root / "p3.png").unlink()
    with pytest.raises(InputError, match=r"no file .*p3\.png"):
        find_leaks(test=test_part, train=part, generated=None, generator_items=None)


@settings(max_examples=40)
@given(m=st.integers(1, 20), v=st.integers(1, 8), seed=st.integers(0, 99))
def test_the_nearest_hash(m: int, v: int, seed: int) -> None:
    """Against bits that are compared one by one."""
    rng = np.random.default_rng(seed)
    views = rng.integers(0, 2**64, (v, 8), dtype=np.uint64)
    others = rng.integers(0, 2**64, (m, 8), dtype=np.uint64)
    bits = [np.unpackbits(words.view(np.uint8), axis=-1) for words in (views, others)]
    expected = (bits[0][:, None] != bits[1]).sum(-1).min(0)  # [m]
    assert leaks._nearest(views, others.T) == (expected.argmin(), expected.min())


@pytest.mark.real_data
def test_real_photographs_of_different_lesions_are_no_duplicates(real_data: Path) -> None:
    """False alarms would keep people from clean splits: 120 photographs against 60 others in 8 views."""
    import csv

    with (real_data / "metadata.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split_group"] == row["image_id"]][:180]
    records = [PairRecord(file_name=f"images/{row['image_id']}.jpg", isic_id=row["image_id"]) for row in rows]
    test, train = Dataset(real_data, records[:60]), Dataset(real_data, records[60:])
    assert find_leaks(test=test, train=train, generated=None, generator_items=None) == []
