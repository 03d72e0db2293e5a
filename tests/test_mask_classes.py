"""Masks of two classes, from the data set through training and sampling to a generated data set, and back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pipeline_calls import PROMPT, call, difference, photograph, quiet_pipeline
from skindualgen.cli import app
from skindualgen.contracts import InputError
from skindualgen.data.dataset import Dataset
from skindualgen.data.decoding import ItemError
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.mask_classes import LESION_ONLY, checked_classes, join_classes, read_mask_classes, split_classes
from skindualgen.data.pairs import load_pair
from skindualgen.data.prepare import prepare
from skindualgen.data.prepare_options import PrepareOptions
from skindualgen.data.reading import read_pair
from skindualgen.exchange.merge import merge
from skindualgen.exchange.pairs import read_pairs as exchanged_pairs
from skindualgen.exchange.transfer import export_data, import_data
from skindualgen.exchange.writing import FoundPair, PairWriter
from skindualgen.model.adapter import read_header
from skindualgen.model.export import export_hub
from skindualgen.planning.requests import PairRequest
from skindualgen.production.generate import generate_pairs
from skindualgen.sample.inputs import mask_to_tensor
from skindualgen.sample.merged import export_merged
from skindualgen.sample.outputs import fields_to_classes
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.sample.segmentation import segment_folder
from skindualgen.training.estimate import estimate
from skindualgen.training.loop import train
from skindualgen.verify.folder import verify_folder
from tiny import SIZE_PX, TWO_CLASSES, tiny_config, write_two_class_data

LEVELS = {0, *TWO_CLASSES.values()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two_class_data(tmp_path_factory.mktemp("two") / "data", train=6, val=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path, tiny_v_base: Path) -> Path:
    settings: dict[str, Any] = {"max_train_steps": 30, "validation_steps": 30, "learning_rate": 5e-3, "ema_decay": 0}
    return train(tiny_config(data, tmp_path_factory.mktemp("two") / "run", tiny_v_base, **settings))


@pytest.fixture(scope="module")
def two(run: Path) -> SkinDualGenPipeline:
    return quiet_pipeline(run)


def test_levels_by_hand() -> None:
    levels = np.array([[0, 255], [128, 255]], np.uint8)
    lesion, core = split_classes(levels, TWO_CLASSES)
    assert lesion.tolist() == [[False, True], [True, True]] and core.tolist() == [[False, False], [True, False]]
    assert np.array_equal(join_classes(np.stack([lesion, core]), TWO_CLASSES), levels)
    outside = np.array([[True, False], [False, False]])
    assert join_classes(np.stack([lesion, outside]), TWO_CLASSES).tolist() == [[0, 255], [255, 255]]
    with pytest.raises(ItemError, match="the level 200, which is neither 0 nor a class's"):
        split_classes(np.array([[0, 200]], np.uint8), TWO_CLASSES)


@pytest.mark.parametrize("classes", [{}, {"lesion": 255, "core": 100}, {"a": 255, "b": 255}, {"a": 255.0}, [255], "a"])
def test_classes_that_are_none_are_refused(classes: object, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mask_classes .* different levels from 128 to 255"):
        checked_classes(classes, "dataset.json")


def test_the_highest_level_is_the_lesion_whatever_the_order(data: Path) -> None:
    assert list(checked_classes({"core": 128, "lesion": 255}, "x")) == ["lesion", "core"]
    assert dict(read_mask_classes(data)) == TWO_CLASSES == dict(Dataset.open(data).mask_classes)


def test_of_overlapping_parts_the_larger_field_decides() -> None:
    fields = torch.tensor([[0.5, 0.5, -0.5, 0.5], [0.1, 0.3, 0.9, -0.1], [0.2, 0.1, 0.9, -0.2]])[:, None]
    lesion, first, second = fields_to_classes(fields, clean=False)[:, 0].tolist()
    assert (lesion, first, second) == (
        [True, True, False, True],
        [False, True, False, False],
        [True, False, False, False],
    )


def test_whoever_asks_for_the_lesion_gets_all_of_it(data: Path) -> None:
    pairs = Dataset.open(data)
    whole, levels = read_pair(data, pairs[0])[1], pairs.mask(0)
    assert whole is not None and levels is not None and set(np.unique(levels)) == LEVELS
    assert np.array_equal(np.asarray(whole) == 255, np.asarray(levels) > 0) and set(np.unique(whole)) == {0, 255}
    _, lesion = load_pair(data, pairs[0], SIZE_PX)
    _, both = load_pair(data, pairs[0], SIZE_PX, classes=TWO_CLASSES)
    assert lesion is not None and both is not None and both.shape == (2, SIZE_PX, SIZE_PX)
    assert torch.equal(lesion[0], both[0]) and 0 < both[1].sum() < both[0].sum()


def test_other_formats_get_the_lesion_and_merging_asks_for_equal_classes(
    data: Path, phantom_data: Path, tmp_path: Path
) -> None:
    pairs = Dataset.open(data)
    for index, pair in enumerate(exchanged_pairs(data, pairs.records)):
        assert np.array_equal(pair.lesion(), np.asarray(pairs.mask(index)) > 0)
    merge([data], tmp_path / "copy")
    assert dict(read_mask_classes(tmp_path / "copy")) == TWO_CLASSES
    with pytest.raises(InputError, match="masks of other classes"):
        merge([data, renamed(phantom_data, tmp_path / "others")], tmp_path / "both")


@pytest.mark.parametrize("name", ["webdataset", "parquet", "imagefolder"])
def test_shards_and_copies_of_other_tools_keep_the_classes(data: Path, tmp_path: Path, name: str) -> None:
    export_data(data, tmp_path / "shards", name)
    import_data(tmp_path / "shards", tmp_path / "back", name)
    before, back = Dataset.open(data), Dataset.open(tmp_path / "back")
    assert dict(back.mask_classes) == TWO_CLASSES and len(back) == len(before)
    assert not any("mask_classes" in record.model_dump() for record in back)
    levels = {record.isic_id: np.asarray(back.mask(index)) for index, record in enumerate(back)}
    assert all(
        np.array_equal(levels[record.isic_id], np.asarray(before.mask(index))) for index, record in enumerate(before)
    )


@pytest.mark.parametrize("name", ["isic", "classes"])
def test_formats_of_one_class_get_the_whole_lesion(data: Path, tmp_path: Path, name: str) -> None:
    export_data(data, tmp_path / "out", name)
    import_data(tmp_path / "out", tmp_path / "back", name)
    back = Dataset.open(tmp_path / "back")
    assert back.mask_classes == LESION_ONLY
    wholes = sorted((np.asarray(Dataset.open(data).mask(index)) > 0).sum() for index in range(len(back)))
    assert sorted((np.asarray(back.mask(index)) == 255).sum() for index in range(len(back))) == wholes


def test_pairs_of_other_classes_are_not_read_into_one_folder(data: Path, tmp_path: Path) -> None:
    image, mask = (next((data / folder).iterdir()).read_bytes() for folder in ("images", "masks"))
    writer = PairWriter(tmp_path)
    writer.add(FoundPair({"isic_id": "a"}, image, mask, "a.png", classes=TWO_CLASSES))
    with pytest.raises(InputError, match="the same classes in all masks"):
        writer.add(FoundPair({"isic_id": "b"}, image, mask, "b.png"))


@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize(("labels", "levels"), [((1, 2), TWO_CLASSES), ((230, 150), {"lesion": 230, "core": 150})])
def test_a_folder_of_label_maps_is_prepared(
    data: Path, tmp_path: Path, labels: tuple[int, int], levels: dict[str, int], palette: bool
) -> None:
    source, named = tmp_path / "source", dict(zip(TWO_CLASSES, labels, strict=True))
    shutil.copytree(data / "images", source / "images")
    (source / "masks").mkdir()
    for path in (data / "masks").iterdir():
        maps = np.asarray(Image.open(path))
        picture = Image.fromarray(
            np.where(maps == 255, labels[0], np.where(maps == 128, labels[1], 0)).astype(np.uint8)
        )
        if palette:
            picture.putpalette([value for level in range(256) for value in (255 - level, level, 0)])
        picture.save(source / "masks" / path.name)
    arguments = [f"--mask-class={name}={level}" for name, level in named.items()]
    run = CliRunner().invoke(app, ["prepare", str(source), str(tmp_path / "out"), f"--size={SIZE_PX}", *arguments])
    assert run.exit_code == 0, run.output
    out, before = Dataset.open(tmp_path / "out"), Dataset.open(data)
    assert dict(out.mask_classes) == levels and len(out) == len(before)
    masks = {record.isic_id: np.asarray(out.mask(index)) for index, record in enumerate(out)}
    for index, record in enumerate(before):
        expected = split_classes(np.asarray(before.mask(index)), TWO_CLASSES)
        assert np.array_equal(split_classes(masks[Path(record.file_name).stem], levels), expected)
    assert not list(verify_folder(tmp_path / "out"))


def test_a_label_that_no_option_names_rejects_the_pair(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no usable photograph"):
        prepare(data, tmp_path / "out", PrepareOptions(layout="folder", mask_classes={"lesion": 255, "core": 127}))
    for classes in ({"lesion": 1}, {"lesion": 1, "core": 1}, {"lesion": 0, "core": 1}):
        with pytest.raises(InputError, match="two or more names with different levels from 1 to 255"):
            PrepareOptions(mask_classes=classes).check()
    with pytest.raises(InputError, match="choose first or random"):
        PrepareOptions(mask_classes={"lesion": 1, "core": 2}, annotator="majority").check()


def renamed(source: Path, out: Path) -> Path:
    """A copy with other ids and one pixel of each photograph changed, as merging refuses an item twice."""
    shutil.copytree(source, out)
    records = read_metadata(out)
    for record in records:
        record.isic_id = f"OTHER_{record.isic_id}"
        picture = np.array(Image.open(out / record.file_name))
        Image.fromarray(255 - picture).save(out / record.file_name)
    write_dataset(out, records, made_by={})
    return out


def test_a_level_that_is_no_class_names_the_file(tmp_path: Path) -> None:
    folder = write_two_class_data(tmp_path / "data", train=1, val=1)
    record = Dataset.open(folder)[0]
    Image.fromarray(np.full((SIZE_PX, SIZE_PX), 77, np.uint8)).save(folder / str(record.mask_file_name))
    with pytest.raises(InputError, match=rf"{record.mask_file_name}.*the level 77"):
        read_pair(folder, record)


def test_the_adapter_says_what_its_masks_are(run: Path, data: Path) -> None:
    recipe = read_header(run / "adapter")["recipe"]
    assert recipe["mask_classes"] == TWO_CLASSES
    assert recipe["mask_codec"] == {"name": "signed-distance", "mean": -0.485, "std": 0.747}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["mask"] < rows[0]["mask"] and 0 <= rows[-1]["val_dice_read"] <= 1


def test_another_number_of_classes_is_refused(run: Path, data: Path, phantom_data: Path, tiny_v_base: Path) -> None:
    with pytest.raises(InputError, match=r"mask_codec.classes = 1 with masks of 2 \(lesion, core\)"):
        train(tiny_config(data, run, tiny_v_base, mask_codec={"classes": 1}))
    with pytest.raises(InputError, match="as that adapter codes them"):
        train(tiny_config(phantom_data, run.parent / "other", tiny_v_base, init_adapter=str(run), lora={}))
    assert "trained parameters" in estimate(tiny_config(data, run, tiny_v_base))[0]


def test_pairs_masks_and_photographs(two: SkinDualGenPipeline) -> None:
    assert two.unet.config.in_channels == 4 + 2 * 4 and dict(two.mask_classes) == TWO_CLASSES
    drawn = {kind: call(two, output_type=kind, seeds=(3,)) for kind in ("pil", "np", "pt", "latent")}
    assert drawn["np"].masks.shape == (1, SIZE_PX, SIZE_PX, 2) and drawn["latent"].masks.shape == (1, 8, 8, 8)
    assert not (drawn["np"].masks[..., 1] > drawn["np"].masks[..., 0]).any()  # a part of the lesion
    levels = np.asarray(drawn["pil"].masks[0])
    assert set(np.unique(levels)) <= LEVELS
    assert np.array_equal(split_classes(levels, TWO_CLASSES), drawn["pt"].masks[0].numpy() > 0)
    read = call(two, None, image=photograph(), output_type="np", ensemble_size=2)
    assert read.masks.shape == (1, SIZE_PX, SIZE_PX, 2)


def test_every_form_of_a_mask_of_two_classes_is_one_mask(two: SkinDualGenPipeline, data: Path) -> None:
    mask = Dataset.open(data).mask(0)
    assert mask is not None
    apart = split_classes(np.asarray(mask), TWO_CLASSES).astype(np.float32)
    expected = torch.from_numpy(apart)[None]
    for form in (mask, np.asarray(mask), [mask], expected, expected[0], apart.transpose(1, 2, 0)[None]):
        assert torch.equal(mask_to_tensor(form, SIZE_PX, SIZE_PX, TWO_CLASSES), expected)
    given = call(two, mask_image=mask, clean=False)
    assert difference(given, call(two, mask_image=expected, clean=False)) == 0
    with pytest.raises(InputError, match="for 2 classes"):
        mask_to_tensor(expected[:, :1], SIZE_PX, SIZE_PX, TWO_CLASSES)


def test_a_generated_data_set_is_one_of_two_classes(two: SkinDualGenPipeline, tmp_path: Path) -> None:
    out = tmp_path / "generated"
    records = generate_pairs(two, [PairRequest(i, PROMPT, i) for i in range(2)], out, num_inference_steps=2)
    pairs = Dataset.open(out)
    assert len(records) == len(pairs) == 2 and dict(pairs.mask_classes) == TWO_CLASSES
    found = np.concatenate([np.unique(np.asarray(pairs.mask(index))) for index in range(2)])
    assert set(found) <= LEVELS
    _, both = load_pair(out, pairs[0], SIZE_PX, classes=pairs.mask_classes)
    assert both is not None and both.shape[0] == 2
    assert not [each for each in verify_folder(out) if each.kind == "mask_values"]


def test_a_segmented_folder_has_the_levels(two: SkinDualGenPipeline, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    photograph().save(tmp_path / "in" / "a.png")
    segment_folder(two, tmp_path / "in", tmp_path / "out", num_inference_steps=1, ensemble_size=1)
    assert set(np.unique(Image.open(tmp_path / "out" / "masks" / "a.png"))) <= LEVELS


def test_exports_keep_the_classes(two: SkinDualGenPipeline, run: Path, tmp_path: Path) -> None:
    export_hub(run / "adapter", tmp_path / "hub")
    assert read_header(tmp_path / "hub")["recipe"]["mask_classes"] == TWO_CLASSES
    export_merged(run, tmp_path / "merged")
    merged = SkinDualGenPipeline.from_pretrained(tmp_path / "merged")
    merged.set_progress_bar_config(disable=True)
    assert dict(merged.mask_classes) == TWO_CLASSES and merged.codec == two.codec
    assert difference(call(merged), call(two)) < 1e-4


def test_one_class_is_told_nowhere(phantom_data: Path) -> None:
    assert read_mask_classes(phantom_data) == LESION_ONLY
    assert "mask_classes" not in json.loads((phantom_data / "dataset.json").read_text())
