"""Merging: what is kept, and what would spoil a training set is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from exchange_data import write_exchange_data
from skindualgen.cli import CommandGroup
from skindualgen.cli import merge as merge_command
from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import manifest_sha256, read_dataset_info, read_metadata, write_dataset
from skindualgen.data.training_items import read_training_items, write_training_items
from skindualgen.exchange.merge import merge


@pytest.fixture
def real(tmp_path: Path) -> Path:
    write_exchange_data(tmp_path / "real", synthetic=0)
    return tmp_path / "real"


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    """Of a generator that has seen ISIC_0000001, which stands in the train split."""
    write_exchange_data(tmp_path / "generated", real=False)
    return tmp_path / "generated"


def rewrite(root: Path, **changes: dict[str, object]) -> None:
    """Change fields of records, by id."""
    records = [
        PairRecord.model_validate({**record.model_dump(), **changes.get(record.isic_id, {})})
        for record in read_metadata(root)
    ]
    write_dataset(root, records, made_by={})


def second_part(generated: Path, *, ids: str = "SDG_1") -> Path:
    """Another part of the same production: other ids and other pictures."""
    other = generated.with_name("part2")
    records = write_exchange_data(other, real=False, synthetic=6)
    for record in records[:3]:
        (other / record.file_name).unlink()
    kept = [record.model_copy(update={"isic_id": record.isic_id.replace("SDG_0", ids)}) for record in records[3:]]
    write_dataset(other, kept, made_by={})
    shutil.copyfile(generated / "trained_on.json", other / "trained_on.json")
    return other


def test_real_and_synthetic_become_one_set(real: Path, generated: Path, tmp_path: Path) -> None:
    merged = merge([real, generated], tmp_path / "out")
    before = {r.isic_id: r for root in (real, generated) for r in read_metadata(root)}
    after = {r.isic_id: r for r in read_metadata(tmp_path / "out")}
    assert before.keys() == after.keys() and merged.counts["origin"] == {"real": 6, "synthetic": 3}
    for isic_id, record in before.items():
        other = after[isic_id]
        assert (other.split, other.origin, other.sha256) == (record.split, record.origin, record.sha256)
        root = real if record.origin == "real" else generated
        assert (tmp_path / "out" / other.file_name).read_bytes() == (root / record.file_name).read_bytes()
        mask = tmp_path / "out" / str(other.mask_file_name)
        assert mask.read_bytes() == (root / str(record.mask_file_name)).read_bytes()
    assert len({record.file_name for record in after.values()}) == 9
    info = read_dataset_info(tmp_path / "out")["made_by"]
    assert [(part["name"], part["manifest_sha256"]) for part in info["merged"]] == [
        (root.name, manifest_sha256(read_metadata(root))) for root in (real, generated)
    ]
    assert (tmp_path / "out" / "trained_on.json").read_bytes() == (generated / "trained_on.json").read_bytes()


def test_one_diagnosis_has_one_spelling(real: Path, generated: Path, tmp_path: Path) -> None:
    """Else a classifier would see two classes."""
    merged = merge([real, generated], tmp_path / "out")
    assert merged.respelt == {"seborrheic_keratosis": "seborrheic keratosis"}
    assert read_dataset_info(tmp_path / "out")["made_by"]["respelt"] == merged.respelt
    diagnoses = {record.diagnosis for record in read_metadata(tmp_path / "out")}
    assert "seborrheic keratosis" in diagnoses and "seborrheic_keratosis" not in diagnoses


def test_a_spelling_that_meets_no_other_stays(generated: Path, tmp_path: Path) -> None:
    assert merge([generated, second_part(generated)], tmp_path / "out").respelt == {}
    assert {record.diagnosis for record in read_metadata(tmp_path / "out")} == {"nevus", "seborrheic_keratosis"}


def test_hard_links(real: Path, generated: Path, tmp_path: Path) -> None:
    merge([real, generated], tmp_path / "out", link=True)
    record = read_metadata(real)[0]
    other = next(r for r in read_metadata(tmp_path / "out") if r.isic_id == record.isic_id)
    assert (tmp_path / "out" / other.file_name).samefile(real / record.file_name)


def test_synthetic_pairs_outside_train_are_refused(real: Path, generated: Path, tmp_path: Path) -> None:
    rewrite(generated, SDG_0000001={"split": "val"})
    with pytest.raises(InputError, match=r"1 synthetic pairs .* outside the train split: SDG_0000001 \(val\)"):
        merge([real, generated], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_same_id_twice_is_refused_with_both_folders(real: Path, generated: Path, tmp_path: Path) -> None:
    rewrite(generated, SDG_0000000={"isic_id": "ISIC_0000001"})
    with pytest.raises(InputError, match=r"1 ids twice: ISIC_0000001 of .*generated and ISIC_0000001 of .*real"):
        merge([real, generated], tmp_path / "out")


def test_the_same_image_under_two_ids_is_refused(real: Path, generated: Path, tmp_path: Path) -> None:
    """Also where no hash was recorded: the file itself is asked."""
    first, copy = read_metadata(real)[0], read_metadata(generated)[0]
    shutil.copyfile(real / first.file_name, generated / copy.file_name)
    rewrite(generated, **{copy.isic_id: {"sha256": None}})
    with pytest.raises(InputError, match=rf"1 images twice: {copy.isic_id} of .* and {first.isic_id} of"):
        merge([real, generated], tmp_path / "out")


@pytest.mark.parametrize("field", ["lesion_id", "patient_id", "split_group"])
def test_a_group_in_two_splits_is_refused(field: str, real: Path, generated: Path, tmp_path: Path) -> None:
    """Each folder by itself has no leak; together they have one."""
    other = tmp_path / "other"
    write_exchange_data(other, real=False, synthetic=1)
    rewrite(other, SDG_0000000={"origin": "real", "split": "test", field: "shared"})
    rewrite(real, ISIC_0000001={field: "shared"})
    with pytest.raises(InputError, match=r"1 groups .*ISIC_0000001 \(train\), SDG_0000000 \(test\)"):
        merge([real, other], tmp_path / "out")
    rewrite(other, SDG_0000000={"split": "train"})
    assert merge([real, other], tmp_path / "out").counts["records"] == 7


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"isic_id": "test_4"}, r"test_4 \(the same isic_id\)"),
        ({"isic_id": "other", "patient_id": "P4"}, r"test_4 \(the same patient_id\)"),
        ({"isic_id": "other", "sha256": "of the file"}, r"ISIC_0000005 \(the same sha256\)"),
    ],
)
def test_a_generator_that_has_seen_held_out_pairs_is_refused(
    seen: dict[str, str], said: str, real: Path, generated: Path, tmp_path: Path
) -> None:
    hashes = {record.isic_id: record.sha256 for record in read_metadata(real)}
    item = PairRecord.model_validate(
        {"file_name": "-", **seen, **({"sha256": hashes["ISIC_0000005"]} if "sha256" in seen else {"sha256": "b" * 64})}
    )
    write_training_items(generated, [item])
    with pytest.raises(InputError, match=rf"has seen 1 held-out pairs: {said}.*--i-know"):
        merge([real, generated], tmp_path / "out")
    merged = merge([real, generated], tmp_path / "out", known_leaks=True)
    assert len(merged.known_leaks) == 1
    assert read_dataset_info(tmp_path / "out")["made_by"]["known_leaks"] == merged.known_leaks


def test_parts_of_one_production(generated: Path, tmp_path: Path) -> None:
    other = second_part(generated)
    assert merge([generated, other], tmp_path / "out").counts["origin"] == {"synthetic": 6}
    assert (tmp_path / "out" / "trained_on.json").read_bytes() == (generated / "trained_on.json").read_bytes()


def test_training_items_of_several_generators_are_joined(generated: Path, tmp_path: Path) -> None:
    other, third = second_part(generated), tmp_path / "third"
    write_training_items(other, [PairRecord(file_name="-", isic_id="B", sha256="b" * 64)])
    shutil.copytree(other, third)
    records = [record.model_copy(update={"isic_id": f"T{row}"}) for row, record in enumerate(read_metadata(other))]
    for record in records:
        path = third / record.file_name
        path.write_bytes(path.read_bytes() + b"\0")  # another file, still a PNG
        record.sha256 = None
    write_dataset(third, records, made_by={})
    (third / "trained_on.json").unlink()
    merge([generated, other, third], tmp_path / "out")
    items = read_training_items(tmp_path / "out")
    assert items is not None
    assert [item.isic_id for item in items.items] == ["B", "ISIC_0000001"]
    assert items.unrecorded == ("generator of third",)


def test_real_folders_alone_have_no_generator(real: Path, tmp_path: Path) -> None:
    write_exchange_data(tmp_path / "other", real=False, synthetic=1)
    rewrite(tmp_path / "other", SDG_0000000={"origin": "real"})
    merge([real, tmp_path / "other"], tmp_path / "out")
    assert not (tmp_path / "out" / "trained_on.json").exists()


def test_no_folder_is_nothing_to_merge(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        merge([], tmp_path / "out")


def test_a_changed_file_leaves_nothing(real: Path, generated: Path, tmp_path: Path) -> None:
    path = generated / "masks" / "101.png"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"101\.png"):
        merge([real, generated], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generated", "real"]


def test_the_command(real: Path, generated: Path, tmp_path: Path) -> None:
    app = typer.Typer(cls=CommandGroup)
    app.command("merge")(merge_command.merge)
    app.command("other")(lambda: None)
    done = CliRunner().invoke(app, ["merge", str(real), str(generated), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "6 real, 3 synthetic; 1 test, 6 train, 2 val" in done.output
    assert "'seborrheic_keratosis' is written as 'seborrheic keratosis'" in done.output
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["counts"]["records"] == 9
    done = CliRunner().invoke(app, ["merge", str(real), str(real), "--out", str(tmp_path / "again")])
    assert done.exit_code == 2 and "6 ids twice" in done.output
