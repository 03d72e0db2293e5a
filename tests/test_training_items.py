"""What a generator was trained on: written by `train`, passed on by `generate` and `export`, read by a benchmark."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from skindualgen.contracts import InputError, PairRecord
from skindualgen.data.manifest import manifest_sha256, read_metadata
from skindualgen.data.prepare import LOADER_WORDS
from skindualgen.data.training_items import (
    TRAINING_ITEMS_FILE,
    TrainingItem,
    read_training_items,
    write_training_items,
)
from skindualgen.files import BUILTIN, BUNDLED_ADAPTERS, sha256_file
from skindualgen.model.bases import MICRO_BASE
from skindualgen.model.export import export_hub
from skindualgen.planning.requests import requests_from_prompts
from skindualgen.production.generate import generate_pairs
from skindualgen.sample.merged import export_merged
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.training.loop import train
from tiny import tiny_config

HASH = "0123456789abcdef" * 8


def record(isic_id: str, **fields: object) -> PairRecord:
    return PairRecord(file_name=f"images/{isic_id}.png", isic_id=isic_id, **fields)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    records = [
        record("b", sha256="2" * 64, lesion_id="L", patient_id="Ü", split_group="a", perceptual_hash=HASH),
        record("a", sha256="1" * 64, split_group="a", perceptual_hash="not 128 digits"),
    ]
    path = write_training_items(tmp_path, records)
    items = read_training_items(tmp_path)
    assert items is not None and path == tmp_path / TRAINING_ITEMS_FILE
    assert items.items == (
        TrainingItem(isic_id="a", sha256="1" * 64, split_group="a"),
        TrainingItem(
            isic_id="b", sha256="2" * 64, lesion_id="L", patient_id="Ü", split_group="a", perceptual_hash=HASH
        ),
    )
    assert items.manifest_sha256 == manifest_sha256(records) and items.unrecorded == ()


def test_a_missing_hash_is_taken_of_the_file(tmp_path: Path, phantom_data: Path) -> None:
    records = read_metadata(phantom_data, "train")
    assert all(each.sha256 is None for each in records)
    write_training_items(tmp_path, records, root=phantom_data)
    items = read_training_items(tmp_path)
    assert items is not None
    assert {item.isic_id: item.sha256 for item in items.items} == {
        each.isic_id: sha256_file(phantom_data / each.file_name) for each in records
    }


def test_what_the_training_started_from_counts_too(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("base", "first", "second")]
    for folder in folders:
        folder.mkdir()
    write_training_items(folders[0], [record("a"), record("b")])
    write_training_items(folders[1], [record("c")], earlier={"base": read_training_items(folders[0]), "x": None})
    write_training_items(folders[2], [record("a"), record("d")], earlier={"first": read_training_items(folders[1])})
    items = read_training_items(folders[2])
    assert items is not None
    assert [item.isic_id for item in items.items] == ["a", "b", "c", "d"]
    assert items.unrecorded == ("x",)
    assert items.manifest_sha256 == manifest_sha256([record("a"), record("d")])


def test_folders_without_the_record(tmp_path: Path) -> None:
    assert read_training_items(tmp_path) is None
    assert read_training_items(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema version 2"),
        ({"items": [["a"]]}, "cannot be read"),
        ({"items": [["a", None, None, None, None, "!"]]}, "cannot be read"),
        ({"columns": ["isic_id"], "items": [["a"]]}, "cannot be read"),
        ({"manifest_sha256": None}, "cannot be read"),
    ],
)
def test_damaged_records_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_training_items(tmp_path, [record("a")])
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message):
        read_training_items(tmp_path)
    path.write_text("[")
    with pytest.raises(InputError, match="cannot be read"):
        read_training_items(tmp_path)


def test_the_file_is_no_split_for_a_loader() -> None:
    """`datasets` reads a generated folder; a file named "training_..." in it would be all that it sees."""
    assert not LOADER_WORDS.search(TRAINING_ITEMS_FILE)


def test_train_writes_it_and_generate_passes_it_on(tmp_path: Path, phantom_data: Path, tiny_v_base: Path) -> None:
    """From photographs to generated pairs, by way of a second training that starts from the first, and an export."""
    run = train(tiny_config(phantom_data, tmp_path / "run", tiny_v_base, max_train_steps=1))
    trained = read_metadata(phantom_data, "train")
    items = read_training_items(run / "adapter")
    assert items is not None
    assert [item.isic_id for item in items.items] == sorted(each.isic_id for each in trained)
    assert items.manifest_sha256 == manifest_sha256(trained)
    assert items.unrecorded == (f"base {tiny_v_base.name}",)

    others = shutil.copytree(phantom_data, tmp_path / "others")
    renamed = (phantom_data / "metadata.jsonl").read_text().replace('"isic_id": "', '"isic_id": "other_')
    (others / "metadata.jsonl").write_text(renamed)
    further = tiny_config(others, tmp_path / "further", tiny_v_base, max_train_steps=1, init_adapter=str(run))
    second = read_training_items(train(further) / "adapter")
    assert second is not None and len(second.items) == 2 * len(trained)
    assert set(items.items) < set(second.items) and second.unrecorded == items.unrecorded

    export_hub(run / "adapter", tmp_path / "hub")
    export_merged(run, tmp_path / "merged")
    record_bytes = (run / "adapter" / TRAINING_ITEMS_FILE).read_bytes()
    pipelines = {
        "run": SkinDualGenPipeline.from_adapter(run),
        "merged": SkinDualGenPipeline.from_pretrained(tmp_path / "merged"),
        "hub": SkinDualGenPipeline.from_adapter(tmp_path / "hub", tiny_v_base),
    }
    for name, pipeline in pipelines.items():
        pipeline.set_progress_bar_config(disable=True)
        out = tmp_path / f"generated_{name}"
        for _ in range(2):  # the second call finds the folder finished, and accepts it
            generate_pairs(pipeline, requests_from_prompts([("a nevus", {})], 1, 0), out, num_inference_steps=1)
            assert (out / TRAINING_ITEMS_FILE).read_bytes() == record_bytes
            (out / TRAINING_ITEMS_FILE).unlink()  # as in folders of earlier versions: it is added


def test_what_the_micro_base_has_seen_counts(tmp_path: Path, phantom_data: Path) -> None:
    """A test photograph that the base was trained on is no unseen one, whatever the adapter was trained on."""
    config = tiny_config(
        phantom_data, tmp_path / "run", Path("micro"), max_train_steps=1, resolution=64, train_batch_size=2, views=1
    )
    items, bundled = read_training_items(train(config) / "adapter"), read_training_items(MICRO_BASE)
    assert items is not None and bundled is not None and items.unrecorded == ()
    assert set(bundled.items) < set(items.items)
    assert len(items.items) == len(bundled.items) + len(read_metadata(phantom_data, "train"))


def test_adapters_without_the_record_still_draw(tmp_path: Path, tiny_adapter: Path) -> None:
    """Adapters of earlier versions and pipelines put together by hand."""
    pipeline = SkinDualGenPipeline.from_adapter(tiny_adapter)
    pipeline.set_progress_bar_config(disable=True)
    by_hand = SkinDualGenPipeline(**pipeline.components)
    by_hand.set_progress_bar_config(disable=True)
    for name, pipe in (("adapter", pipeline), ("hand", by_hand)):
        requests = requests_from_prompts([("a nevus", {})], 1, 0)
        assert len(generate_pairs(pipe, requests, tmp_path / name, num_inference_steps=1)) == 1
        assert read_training_items(tmp_path / name) is None


@pytest.mark.parametrize("folder", [*BUNDLED_ADAPTERS.values(), MICRO_BASE], ids=lambda folder: folder.name)
def test_the_bundled_model_says_what_it_has_seen(folder: Path) -> None:
    items = read_training_items(folder)
    assert items is not None and items.unrecorded == ()
    assert all(item.sha256 and item.perceptual_hash for item in items.items)
    recipe = json.loads((BUNDLED_ADAPTERS[BUILTIN] / "run.json").read_text())["recipe"]
    assert items.manifest_sha256 == recipe["train_manifest_sha256"]
    assert (folder / TRAINING_ITEMS_FILE).stat().st_size < 200 * len(items.items)
