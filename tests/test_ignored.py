"""Pixels that are not to be learnt from or counted: their file in records, losses, measures, formats and checks."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

from benchmark_data import SIZE_PX, TINY, plain_data, recipe_of, trial_of, write_folder
from exchange_data import HEIGHT, HOLED, JPEG, WIDTH, write_exchange_data
from skindualgen.benchmarking.learning import batch_source
from skindualgen.benchmarking.pools import weighed
from skindualgen.cli import app
from skindualgen.contracts import IGNORED_DIR, InputError, PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.images import Crop
from skindualgen.data.manifest import read_dataset_info, read_metadata, write_dataset
from skindualgen.data.prepare import prepare
from skindualgen.data.prepare_options import PrepareOptions
from skindualgen.data.reading import read_ignore, read_pair
from skindualgen.data.sources import Candidate
from skindualgen.exchange.merge import merge
from skindualgen.exchange.transfer import export_data, import_data
from skindualgen.files import sha256_file
from skindualgen.gate.application import Application, keep_accepted
from skindualgen.gate.gate import GATE_FILE
from skindualgen.judges.pictures import read_pictures
from skindualgen.judges.segmenter import SegmenterConfig, mask_targets, segmentation_loss, train_segmenter
from skindualgen.judges.training import Augmentation, Budget
from skindualgen.metrics.masks import agreement
from skindualgen.metrics.outcomes import segmentation_outcome
from skindualgen.release.schema import dataset_configs
from skindualgen.training.loop import train
from skindualgen.verify.folder import verify_folder
from tiny import tiny_config, write_phantom_data


def ignore(root: Path, pixels: NDArray[np.bool_], *ids: str) -> list[PairRecord]:
    """Give these records ignored pixels [h, w], or all of them with a mask, and return all records."""
    records = read_metadata(root)
    (root / "masks_ignore").mkdir(exist_ok=True)
    for record in records:
        if record.mask_file_name is not None and (not ids or record.isic_id in ids):
            record.ignore_file_name = f"masks_ignore/{Path(record.mask_file_name).name}"
            Image.fromarray(pixels.astype(np.uint8) * 255).save(root / record.ignore_file_name)
            record.ignore_sha256 = sha256_file(root / record.ignore_file_name)
    write_dataset(root, records, made_by={})
    return read_metadata(root)


def half(height: int, width: int) -> NDArray[np.bool_]:
    """The left half of a picture."""
    pixels = np.zeros((height, width), bool)
    pixels[:, : width // 2] = True
    return pixels


@pytest.fixture
def real(tmp_path: Path) -> Path:
    """Six real pairs of 48 x 40 px, two of which have ignored pixels, one of these a JPEG."""
    write_exchange_data(tmp_path / "real", synthetic=0)
    ignore(tmp_path / "real", half(HEIGHT, WIDTH), "ISIC_0000001", JPEG)
    return tmp_path / "real"


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "squares", range(4), split={"train": 4})


# --- prepare ---


@pytest.mark.parametrize("crop", ["centre", "pad", "none"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_prepare_moves_ignored_pixels_as_the_mask(tmp_path: Path, crop: Crop, orientation: int) -> None:
    """Ignored pixels that are the mask's own end where it does: cut, padded, scaled, turned with the photograph."""
    source = tmp_path / "source"
    write_exchange_data(source, synthetic=0)
    records = read_metadata(source)
    (source / "masks_ignore").mkdir()
    for record in records:
        record.ignore_file_name = f"masks_ignore/{Path(str(record.mask_file_name)).name}"
        shutil.copyfile(source / str(record.mask_file_name), source / record.ignore_file_name)
        exif = Image.Exif()
        exif[0x0112] = orientation
        with Image.open(source / record.file_name) as photograph:
            photograph.load()
        photograph.save(source / record.file_name, exif=exif)
    write_dataset(source, records, made_by={})
    summary = prepare(source, tmp_path / "out", PrepareOptions(size=32, crop=crop, ignore_official_split=True))
    made = read_metadata(tmp_path / "out")
    assert len(made) == len(records) and "ignored" in " ".join(summary.notes)
    for record in made:
        mask, ignored = read_pair(tmp_path / "out", record)[1], read_ignore(tmp_path / "out", record)
        assert mask is not None and ignored is not None
        np.testing.assert_array_equal(np.asarray(mask), np.asarray(ignored))
        assert record.ignore_sha256 == sha256_file(tmp_path / "out" / str(record.ignore_file_name))
    assert list(verify_folder(tmp_path / "out")) == []


def test_prepare_keeps_them_by_hand_and_only_where_some_are_left(real: Path, tmp_path: Path) -> None:
    """Of 48 x 40 px the middle 40 stay, so of the left half 20 of 24 columns; ignored columns outside leave no file."""
    outside = np.zeros((HEIGHT, WIDTH), bool)
    outside[:, :4] = True
    ignore(real, outside, HOLED)
    prepare(real, tmp_path / "out", PrepareOptions(size=20))
    found = {record.isic_id: record for record in read_metadata(tmp_path / "out")}
    named = {name for name, record in found.items() if record.ignore_file_name is not None}
    assert named == {"ISIC_0000001", JPEG}
    np.testing.assert_array_equal(np.asarray(read_ignore(tmp_path / "out", found["ISIC_0000001"])) > 0, half(20, 20))
    assert len(list((tmp_path / "out" / "masks_ignore").iterdir())) == 2
    notes = " ".join(read_dataset_info(tmp_path / "out")["made_by"]["notes"])
    assert "2 of 6 photographs have pixels that are to be ignored" in notes and "ignore_file_name" not in notes
    assert [*(tmp_path / "out").glob("rejected.csv")] and "masks_ignore" not in (
        tmp_path / "out/rejected.csv"
    ).read_text()


def test_prepare_goes_on_and_sees_another_picture_of_ignored_pixels(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    prepare(real, whole, PrepareOptions(size=20))
    with monkeypatch.context() as patched:
        patched.setattr("skindualgen.data.prepare.assemble", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            prepare(real, out, PrepareOptions(size=20))
    next((out / "masks_ignore").iterdir()).unlink()
    prepare(real, out, PrepareOptions(size=20))
    for path in [*whole.glob("masks_ignore/*"), whole / "metadata.jsonl"]:
        assert (out / path.relative_to(whole)).read_bytes() == path.read_bytes()
    ignore(real, ~half(HEIGHT, WIDTH), "ISIC_0000001")
    with pytest.raises(InputError, match="made from other files"):
        prepare(real, out, PrepareOptions(size=20))


def test_prepare_refuses_what_does_not_say_what_is_ignored(real: Path, tmp_path: Path) -> None:
    records = {record.isic_id: record for record in read_metadata(real)}
    Image.new("L", (8, 40)).save(real / str(records[JPEG].ignore_file_name))
    lines = [json.loads(line) for line in (real / "metadata.jsonl").read_text().splitlines()]
    for line in lines:
        if line["isic_id"] == "ISIC_0000001":
            del line["mask_file_name"]
    (real / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    summary = prepare(real, tmp_path / "out", PrepareOptions(size=20))
    assert {"ignored_unusable": 1, "ignored_without_mask": 1}.items() <= dict(summary.rejected).items()
    said = (tmp_path / "out" / "rejected.csv").read_text()
    assert "mask_aspect" in said and str(records[JPEG].ignore_file_name) in said
    assert not any(record.ignore_file_name for record in read_metadata(tmp_path / "out"))


def test_what_is_hashed_of_sources_without_them_is_as_before() -> None:
    """Guards finished folders: made again with this version, they are those of the same source."""
    assert "ignored" not in repr(Candidate("a", "a.png")) and Candidate("a", "a.png", "m.png").files == (
        "a.png",
        "m.png",
    )


# --- records and readers ---


def test_a_record_knows_all_its_files() -> None:
    record = PairRecord(file_name="images/a.png", mask_file_name="masks/a.png", mask_sha256="1" * 64, isic_id="a")
    assert record.files == {"images/a.png": None, "masks/a.png": "1" * 64}
    record.ignore_file_name = "masks_ignore/../../a.png"
    assert list(record.files)[2] == record.stray_path
    with pytest.raises(ValidationError, match="ignore_file_name without mask_file_name"):
        PairRecord(file_name="images/a.png", ignore_file_name="masks_ignore/a.png", isic_id="a")


def test_arrays_and_tensors_of_a_data_set(squares: Path) -> None:
    """At half the size the left half is still ignored; records without such a file have no ignored pixel."""
    ignore(squares, half(SIZE_PX, SIZE_PX), "real_0001")
    data = Dataset.open(squares)
    assert data.has_ignored and not data[:1].has_ignored
    ignored = data.ignored(SIZE_PX // 2)
    np.testing.assert_array_equal(ignored[1], half(SIZE_PX // 2, SIZE_PX // 2))
    assert not ignored[[0, 2, 3]].any()
    pairs = data.torch(SIZE_PX)
    batch = pairs.collate([pairs[0], pairs[1]])
    stacked = cast(torch.Tensor, batch["ignore"])
    assert stacked.shape == (2, 1, SIZE_PX, SIZE_PX) and not stacked[0].any()
    np.testing.assert_array_equal(stacked[1, 0] > 0, half(SIZE_PX, SIZE_PX))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (Image.new("L", (SIZE_PX, SIZE_PX), 128), "128"),
        (Image.new("L", (SIZE_PX, 8)), "mask of"),
        (Image.new("RGB", (SIZE_PX, SIZE_PX)), "mode RGB"),
        (None, "no file"),
    ],
)
def test_files_that_do_not_say_what_is_ignored(squares: Path, picture: Image.Image | None, message: str) -> None:
    record = ignore(squares, half(SIZE_PX, SIZE_PX), "real_0001")[1]
    path = squares / str(record.ignore_file_name)
    path.unlink() if picture is None else picture.save(path)
    with pytest.raises(InputError, match=message):
        read_ignore(squares, record)


def test_hashes_see_the_third_file_and_are_as_before_without_it(squares: Path) -> None:
    """Guards judges and trainings that are kept under these hashes."""
    data = Dataset.open(squares)
    before = data.content_sha256(), read_pictures(data, SIZE_PX).digests
    records = ignore(squares, half(SIZE_PX, SIZE_PX), "real_0001")
    data = Dataset.open(squares)
    assert data.content_sha256() != before[0]
    assert [a == b for a, b in zip(read_pictures(data, SIZE_PX).digests, before[1], strict=True)] == [
        record.ignore_file_name is None for record in records
    ]
    write_folder(squares.with_name("again"), range(4), split={"train": 4})
    assert Dataset.open(squares.with_name("again")).content_sha256() == before[0]


# --- losses and measures ---


def test_the_loss_is_that_of_the_other_pixels() -> None:
    """Against the plain loss of the kept pixels alone, laid out as one row; whatever the mask is elsewhere."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 8, 8, generator=generator, requires_grad=True)
    mask, ignored = (torch.rand(2, 1, 8, 8, generator=generator) < share for share in (0.4, 0.3))
    kept = ~ignored
    expected = segmentation_loss(logits[kept].reshape(1, 1, 1, -1), mask[kept].reshape(1, 1, 1, -1).float())
    for elsewhere in (mask, ~mask):
        target = torch.cat([torch.where(ignored, elsewhere, mask), ignored], 1).float()
        loss = segmentation_loss(logits, target)
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[ignored].any() and gradient[kept].all()
    nothing = segmentation_loss(logits, torch.cat([mask, torch.ones_like(mask)], 1).float())
    assert nothing.item() == 0


def test_augmentation_moves_ignored_pixels_with_the_mask() -> None:
    masks = np.zeros((4, 32, 32), bool)
    masks[:, 4:14, 6:30] = True
    target = mask_targets(masks, masks)
    _, moved = Augmentation()(torch.rand(4, 3, 32, 32), target, np.random.default_rng(3))
    assert moved is not None
    assert torch.equal(moved[:, 0], moved[:, 1]) and not torch.equal(moved, target)


def test_the_segmenter_does_not_learn_from_ignored_pixels(squares: Path, tmp_path: Path) -> None:
    """The same weights, to the last bit, whatever the masks say in the ignored half; others once nothing is ignored."""
    config = SegmenterConfig(TINY.name, pretrained=False, size_px=SIZE_PX, budget=Budget(steps=2, batch_size=2))
    weights = []
    for fill in (0, 255):
        for path in (squares / "masks").iterdir():
            mask = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
            mask[half(SIZE_PX, SIZE_PX)] = fill
            Image.fromarray(mask).save(path)
        for ignored in (half(SIZE_PX, SIZE_PX), np.zeros((SIZE_PX, SIZE_PX), bool)):
            ignore(squares, ignored)
            out = train_segmenter(Dataset.open(squares), tmp_path / "judge.safetensors", config)
            weights.append(load_file(out))
    keys = [name for name, tensor in weights[0].items() if tensor.is_floating_point()]
    assert all(torch.equal(weights[0][name], weights[2][name]) for name in keys)
    assert not all(torch.equal(weights[1][name], weights[3][name]) for name in keys)


def test_a_trainings_batches_have_ignored_pixels_where_its_pool_has_some() -> None:
    """Without any in its own pool, a training is the one that it always was."""
    data = replace(plain_data(), task="segment", recipe=recipe_of(batch_size=64))
    ignored = np.zeros(data.train.masks.shape, bool)
    ignored[3] = half(SIZE_PX, SIZE_PX)
    data = replace(data, train=replace(data.train, ignored=ignored))
    random = np.random.default_rng
    _, with_some = batch_source(data, trial_of([3, 4], [7]))(random(0), 0)
    inputs, without = batch_source(data, trial_of([4, 5], [7]))(random(0), 0)
    assert with_some.shape[1] == 2 and without.shape[1] == 1
    shares = with_some[:, 1].mean((1, 2))
    assert set(shares.tolist()) == {0.0, 0.5}
    plain = replace(data, train=replace(data.train, ignored=None))
    again, same = batch_source(plain, trial_of([4, 5], [7]))(random(0), 0)
    assert torch.equal(inputs, again) and torch.equal(without, same)


def test_measures_leave_ignored_pixels_out() -> None:
    """4 x 4: of 4 true pixels the prediction has 2 and 2 wrong ones; ignoring a column leaves 2 right, 1 missed."""
    truth = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    predicted = np.array([[1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    ignored = np.zeros((4, 4), bool)
    assert agreement(predicted, truth)["dice"] == 4 / 8
    ignored[:, 3] = ignored[1, 1] = True
    found = agreement(predicted, truth, ignored)
    assert found["dice"] == 2 * 2 / (2 + 3) and found["iou"] == 2 / 3
    assert found["hd95_px"] < agreement(predicted, truth)["hd95_px"]
    assert agreement(truth, truth, ignored) == agreement(truth, truth)
    stack = segmentation_outcome(
        predicted=np.stack([predicted] * 2), truth=np.stack([truth] * 2), ignored=np.stack([ignored, ignored & False])
    )
    assert stack.dice.tolist() == [4 / 5, 1 / 2] and stack.hd95_px[0] == found["hd95_px"]
    with pytest.raises(InputError, match="one size"):
        agreement(predicted, truth, ignored[:2])


def test_weights_of_pairs_are_those_of_their_draws(squares: Path) -> None:
    """Weights 1, 3, 1, 1 of equal chances: 1/6 and 3/6; without weights the chances are what they were."""
    trial = trial_of([0, 1], [2, 3])
    assert weighed(trial, np.full(4, 0.5)) is trial
    records = read_metadata(squares)
    records[1].weight = 3.0
    write_dataset(squares, records, made_by={})
    weights = read_pictures(Dataset.open(squares), SIZE_PX).weights
    np.testing.assert_allclose(weighed(trial, weights).weights, [1 / 6, 3 / 6, 1 / 6, 1 / 6])
    for wrong in (0, -1.0, True, float("inf")):
        with pytest.raises(ValidationError, match="weight"):
            PairRecord(file_name="a.png", isic_id="a", weight=cast(Any, wrong))


def test_training_says_that_it_learns_from_masks_as_they_are(tiny_base: Path, tmp_path: Path) -> None:
    data = write_phantom_data(tmp_path / "data", train=4, val=0)
    ignore(data, half(64, 64), *(record.isic_id for record in read_metadata(data)[1:]))
    text = io.StringIO()
    train(tiny_config(data, tmp_path / "run", tiny_base, max_train_steps=1), console=Console(file=text, width=200))
    told = [line for line in text.getvalue().splitlines() if "ignored pixels" in line]
    assert told == ["note: 3 pairs have ignored pixels: training learns from their masks as they are"]


# --- checks, copies and formats ---


def files_of(root: Path) -> dict[str, list[bytes]]:
    """Id -> contents of its files."""
    return {record.isic_id: [(root / name).read_bytes() for name in record.files] for record in read_metadata(root)}


def test_verification_compares_the_third_file_with_its_record(real: Path) -> None:
    assert kinds(real) == []
    record = next(record for record in read_metadata(real) if record.ignore_file_name)
    path = real / str(record.ignore_file_name)
    whole = path.read_bytes()
    for picture, expected in (
        (Image.new("L", (WIDTH, HEIGHT), 7), ["changed_file", "mask_values"]),
        (Image.new("L", (8, 8)), ["changed_file", "size"]),
    ):
        picture.save(path)
        assert kinds(real) == expected
    path.unlink()
    assert kinds(real) == ["missing_file"]
    path.write_bytes(whole)
    (real / "masks_ignore" / "other.png").write_bytes(whole)
    assert kinds(real) == ["unnamed_file"]


def kinds(root: Path) -> list[str]:
    return [deviation.kind for deviation in verify_folder(root)]


def test_merging_takes_the_third_file_along(real: Path, tmp_path: Path) -> None:
    merge([real], tmp_path / "merged")
    assert files_of(tmp_path / "merged") == files_of(real)
    assert kinds(tmp_path / "merged") == []


@pytest.mark.parametrize("format_name", ["imagefolder", "webdataset", "parquet"])
def test_formats_that_hold_everything_give_it_back(real: Path, tmp_path: Path, format_name: str) -> None:
    written = export_data(real, tmp_path / "out", format_name)
    assert written.ignored_lost == 0
    import_data(tmp_path / "out", tmp_path / "back", format_name)
    assert files_of(tmp_path / "back") == files_of(real)
    assert kinds(tmp_path / "back") == []


def ignored_of(root: Path) -> dict[str, NDArray[np.bool_]]:
    """Id -> ignored pixels [h, w] of the records that name some."""
    found = {record.isic_id: read_ignore(root, record) for record in read_metadata(root)}
    return {name: np.asarray(picture) > 0 for name, picture in found.items() if picture is not None}


@pytest.mark.parametrize("format_name", ["nnunet", "coco"])
def test_formats_with_a_place_for_ignored_pixels(real: Path, tmp_path: Path, format_name: str) -> None:
    """Of nnU-Net only the mask under them is lost, and only what has such pixels has the label."""
    assert export_data(real, tmp_path / "out", format_name).ignored_lost == 0
    import_data(tmp_path / "out", tmp_path / "back", format_name)
    expected, found = ignored_of(real), ignored_of(tmp_path / "back")
    assert found.keys() == expected.keys() and len(found) == 2
    returned = {record.isic_id: record for record in read_metadata(tmp_path / "back")}
    for record in read_metadata(real):
        (_, mask), (_, back) = read_pair(real, record), read_pair(tmp_path / "back", returned[record.isic_id])
        kept = np.ones((HEIGHT, WIDTH), bool)
        if record.isic_id in expected:
            np.testing.assert_array_equal(found[record.isic_id], expected[record.isic_id])
            kept = kept if format_name == "coco" else ~expected[record.isic_id]
        np.testing.assert_array_equal(np.asarray(mask)[kept], np.asarray(back)[kept])
    if format_name == "nnunet":
        root = next((tmp_path / "out").glob("Dataset*"))
        assert json.loads((root / "dataset.json").read_text())["labels"] == {"background": 0, "lesion": 1, "ignore": 2}
    else:
        document = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
        crowds = [annotation for annotation in document["annotations"] if annotation["iscrowd"]]
        assert len(crowds) == 1 and crowds[0]["area"] == expected["ISIC_0000001"].sum()
        ids = [annotation["id"] for annotation in document["annotations"]]
        assert len(set(ids)) == len(ids)


def test_labels_of_nnunet_without_ignored_pixels(tmp_path: Path) -> None:
    write_exchange_data(tmp_path / "plain", synthetic=0)
    export_data(tmp_path / "plain", tmp_path / "out", "nnunet")
    labels = json.loads(next((tmp_path / "out").glob("*/dataset.json")).read_text())["labels"]
    assert labels == {"background": 0, "lesion": 1}


@pytest.mark.parametrize("format_name", ["yolo", "classes"])
def test_a_format_without_a_place_says_so(real: Path, tmp_path: Path, format_name: str) -> None:
    line = ["export-data", str(real), str(tmp_path / "out"), "--format", format_name]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output
    assert f"note: {format_name} has no place for the ignored pixels of 2 pairs" in done.output


def test_a_gate_keeps_all_files_of_a_pair(real: Path, tmp_path: Path) -> None:
    (tmp_path / GATE_FILE).write_text("{}")
    data = Dataset.open(real)
    verdicts = [SimpleNamespace(accepted=True, scores={}) for _ in data]
    application = Application(cast(Any, SimpleNamespace(folder=tmp_path)), data, cast("Sequence[Any]", verdicts))  # type: ignore[arg-type]
    assert keep_accepted(application, tmp_path / "kept") == len(data)
    assert files_of(tmp_path / "kept") == files_of(real)


def test_the_card_of_a_release_names_the_folder_and_counts_its_bytes(real: Path) -> None:
    records = read_metadata(real)
    configs = dataset_configs(records, ["train", "val", "test"], real)
    paths = [config["data_files"][0]["path"] for config in configs["configs"]]
    assert [f"{IGNORED_DIR}/*" in path for path in paths] == [True, True, False]
    assert {"name": "ignore", "dtype": "image"} in configs["configs"][0]["features"]
    sizes = [sum(len(data) for data in files_of(real)[record.isic_id]) for record in records if record.split == "train"]
    assert configs["dataset_info"][0]["splits"][0]["num_bytes"] == sum(sizes)
