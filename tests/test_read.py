"""``generate --read``: real photographs, and the masks that an adapter reads of them in several draws."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from producer import contents
from skindualgen import api
from skindualgen.cli import app
from skindualgen.codec import clean_mask
from skindualgen.contracts import PairRecord
from skindualgen.data.dataset import Dataset
from skindualgen.data.images import fit
from skindualgen.data.manifest import read_metadata, write_dataset
from skindualgen.data.reading import read_ignore, read_mask
from skindualgen.data.training_items import TRAINING_ITEMS_FILE, write_training_items
from skindualgen.exchange.merge import merge
from skindualgen.exchange.transfer import import_data
from skindualgen.files import sha256_file
from skindualgen.gate.calibration import calibrate
from skindualgen.gate.gate import GATE_FILE
from skindualgen.gate.real_pairs import CalibrateOptions
from skindualgen.gate.scores import SCORES
from skindualgen.judges.leaks import find_leaks, real_caveats
from skindualgen.marks.embed import read_embedded
from skindualgen.planning.anchors import Anchoring
from skindualgen.production.reading import DrawnReadings, draw_readings
from skindualgen.sample.pipeline import SkinDualGenPipeline
from skindualgen.verify.folder import verify_folder
from tiny import SIZE_PX, write_phantom_data

DRAWS = 4
BACK = ((), (1,), (0,), (0, 1))
"""axes of a picture [h, w] that each draw flips"""
SHAPE_LIMIT = -13.5
"""`mask_typicality` that some readings of an untrained adapter have; those of phantoms are above -5"""


pytestmark = pytest.mark.usefixtures("own_threads")


@pytest.fixture
def photographs(phantom_data: Path, tmp_path: Path) -> Path:
    """Five photographs in a plain folder, one of them wider than high and larger."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    paths = sorted((phantom_data / "images").iterdir())[:5]
    for path in paths:
        with Image.open(path) as image:
            own = image.convert("RGB") if path != paths[-1] else image.convert("RGB").resize((150, 100))
            own.save(folder / f"{path.stem}.png")
    return folder


@pytest.fixture
def unmasked(phantom_data: Path, tmp_path: Path) -> Path:
    """A data set folder: 12 photographs to train, 3 of them without a mask, and 4 to validate, 1 of these without."""
    root = tmp_path / "unmasked"
    shutil.copytree(phantom_data, root)
    records = read_metadata(root)
    chosen = [record for record in records if record.split == "train"][:3]
    chosen += [record for record in records if record.split == "val"][:1]
    for number, record in enumerate(chosen):
        record.mask_file_name = record.mask_sha256 = None
        record.license, record.source, record.lesion_id = "CC0-1.0", "a clinic", f"L{number}"
        record.prompt = "a mole"
        setattr(record, "split_group", f"G{number}")  # noqa: B010 - a field that the class does not name
    write_dataset(root, records, made_by={})
    return root


def generate(adapter: Path, out: Path, *more: str | Path, draws: int | None = DRAWS, batch: int = 3) -> Result:
    line = ["generate", "--adapter", adapter, "--batch-size", batch, "--out", out, *more]
    return CliRunner().invoke(app, [str(word) for word in [*line, *(["--draws", draws] if draws else [])]])


def pixels(picture: Image.Image | None) -> NDArray[np.bool_]:
    return np.zeros((SIZE_PX, SIZE_PX), bool) if picture is None else np.asarray(picture) > 0


def test_a_mask_is_the_mean_of_its_draws_and_pixels_in_dispute_are_ignored(
    v_pipe: SkinDualGenPipeline, tiny_v_adapter: Path, photographs: Path, tmp_path: Path
) -> None:
    """Against draws made here one by one, by calls of the pipeline on flipped photographs."""
    out = tmp_path / "out"
    assert generate(tiny_v_adapter, out, "--read", photographs, "--agree", "0.8").exit_code == 0
    found = []
    for record in read_metadata(out):
        with Image.open(photographs / f"{record.anchor_isic_id}.png") as own:
            photograph = np.asarray(fit(own.convert("RGB"), None, size=SIZE_PX, crop="centre")[0])
        generator, fields = torch.Generator().manual_seed(int(record.seed or 0)), []
        for axes in BACK:
            given = Image.fromarray(np.ascontiguousarray(np.flip(photograph, axes)))
            _, codes = v_pipe(image=given, generator=generator, output_type="latent", return_dict=False)
            fields.append(np.flip(v_pipe.codec.decode(codes)[0, 0].numpy(), axes))
        mask, ignored = pixels(read_mask(out / str(record.mask_file_name))), pixels(read_ignore(out, record))
        assert (mask == clean_mask(np.mean(fields, axis=0) > 0)).mean() > 0.998  # but for the last bit of a batch
        shares = np.mean([(field > 0) == mask for field in fields], axis=0)
        assert (ignored == (shares < 0.8)).mean() > 0.998
        assert record.scores is not None
        assert record.scores["reading_agreement"] == pytest.approx(shares.mean(), abs=2e-3)
        assert record.scores["ignored_area_fraction"] == pytest.approx(ignored.mean(), abs=1e-4)
        found.append((mask.any(), ignored.any()))
    assert np.any(found, axis=0).all()


def test_the_photograph_stays_real(tiny_v_adapter: Path, photographs: Path, tmp_path: Path) -> None:
    """Its pixels are those that `prepare` gives, nothing marks it as generated; its record says who read the mask."""
    folder = api.generate(
        tmp_path / "out", anchoring=Anchoring("read", photographs, draws=2), adapter=tiny_v_adapter, batch_size=2
    )
    out = tmp_path / "out"
    api.prepare(photographs, tmp_path / "prepared", size=SIZE_PX)
    prepared = Dataset.open(tmp_path / "prepared")
    for place, record in enumerate(folder):
        assert (np.asarray(folder.image(place)) == np.asarray(prepared.image(place))).all()
        assert (record.origin, record.split, record.prompt, record.source) == ("real", "train", None, None)
        assert (record.anchor_way, record.draws, record.mask_origin) == ("read", 2, "model")
        assert record.adapter_sha256 and record.num_inference_steps == 2 and record.guidance_scale == 1
        own = photographs / f"{record.anchor_isic_id}.png"
        assert record.anchor_sha256 == sha256_file(own) and record.lesion_id == record.anchor_isic_id
        inside = read_embedded(out / record.file_name)
        assert inside.record is None and inside.xmp is None
    assert list(verify_folder(out)) == []
    (caveat,) = real_caveats(folder)
    assert "whose masks a model has read" in caveat
    (plain,) = real_caveats(prepared)
    assert f"{len(prepared)} of the {len(prepared)} pairs" in plain and "real, masks and all" in plain


def test_only_training_photographs_without_masks_are_read(tiny_v_adapter: Path, unmasked: Path, tmp_path: Path) -> None:
    """What is known of them is kept, and a leak guard follows them to their lesions."""
    out = tmp_path / "out"
    done = generate(tiny_v_adapter, out, "--read", unmasked, "--license", "MIT")
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert f"note: 9 photographs of {unmasked} have a mask and are not read".replace(" ", "") in told.replace(" ", "")
    assert "4 pairs of" in told and "are of val or test and are not started from" in told
    real = {record.isic_id: record for record in read_metadata(unmasked)}
    made = read_metadata(out)
    assert [record.anchor_isic_id for record in made] == [r.isic_id for r in list(real.values())[:3]]
    for record in made:
        own = real[record.anchor_isic_id]
        for field in ("diagnosis", "license", "source", "lesion_id", "split_group", "prompt"):
            assert getattr(record, field) == getattr(own, field), field
    test = Dataset(unmasked, [real[made[0].anchor_isic_id].model_copy(update={"isic_id": "another", "split": "test"})])
    leaks = find_leaks(test=test, train=Dataset(unmasked, []), generated=Dataset.open(out), generator_items=None)
    assert {"lesion_id", "split_group"} <= {leak.kind for leak in leaks}
    assert all(leak.other_id in (made[0].anchor_isic_id, made[0].isic_id) for leak in leaks)


def test_a_run_goes_on(tiny_v_adapter: Path, photographs: Path, tmp_path: Path) -> None:
    """Missing ignored pixels are made again, the same; other draws are other settings."""
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert generate(tiny_v_adapter, whole, "--read", photographs).exit_code == 0
    shutil.copytree(whole, resumed)
    for path in (resumed / "masks_ignore").iterdir():
        path.unlink()
    assert generate(tiny_v_adapter, resumed, "--read", photographs).exit_code == 0
    assert contents(resumed) == contents(whole)
    assert any(name.startswith("masks_ignore/") for name in map(str, contents(whole)))
    other = generate(tiny_v_adapter, resumed, "--read", photographs, draws=3)
    assert other.exit_code == 2 and "draws" in other.output


def test_shards_hold_ignored_pixels(tiny_v_adapter: Path, photographs: Path, tmp_path: Path) -> None:
    plain, shards = tmp_path / "plain", tmp_path / "shards"
    assert generate(tiny_v_adapter, plain, "--read", photographs).exit_code == 0
    assert generate(tiny_v_adapter, shards, "--read", photographs, "--shards", "webdataset").exit_code == 0
    assert list(verify_folder(shards)) == []
    import_data(shards / "shards", tmp_path / "back", "webdataset")
    both = [{r.isic_id: list(r.files.values()) for r in read_metadata(root)} for root in (plain, tmp_path / "back")]
    assert both[0] == both[1] and any(len(hashes) == 3 for hashes in both[0].values())
    merge([plain], tmp_path / "merged")
    assert (tmp_path / "merged" / "trained_on.json").is_file() == (plain / "trained_on.json").is_file()


@pytest.mark.slow
def test_workers_read_the_same(tiny_v_adapter: Path, photographs: Path, tmp_path: Path) -> None:
    """Two chunks in two processes, each with a model of its own: the bytes of one process."""
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert generate(tiny_v_adapter, alone, "--read", photographs, batch=1).exit_code == 0
    done = generate(tiny_v_adapter, together, "--read", photographs, "--workers", "2", batch=1)
    assert done.exit_code == 0, done.output
    assert contents(together) == contents(alone)
    assert len(list((together / ".production" / "chunks").glob("0*.jsonl"))) == 2
    assert any(name.startswith("masks_ignore/") for name in contents(together))


@pytest.fixture(scope="module")
def gate(tiny_v_adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gate of shapes and exposure, whose limit some of an untrained adapter's readings pass."""
    folder = tmp_path_factory.mktemp("gate")
    real = write_phantom_data(folder / "real", train=20, val=20)
    left_out = tuple(name for name in SCORES if name not in ("mask_typicality", "exposure"))
    calibrate(CalibrateOptions(real, SIZE_PX, without=left_out), folder / "gate", read_masks=None)
    file = json.loads((folder / "gate" / GATE_FILE).read_text())
    (shape,) = [rule for rule in file["rules"] if rule["score"] == "mask_typicality"]
    shape["threshold"] = SHAPE_LIMIT
    (folder / "gate" / GATE_FILE).write_text(json.dumps(file))
    return folder / "gate"


def test_a_gate_judges_readings(tiny_v_adapter: Path, photographs: Path, gate: Path, tmp_path: Path) -> None:
    """A refused photograph is read again from other noise; what is kept is a real pair, its scores those of both."""
    out = tmp_path / "out"
    options = ["--read", photographs, "--gate", gate, "--attempts", "3", "--keep-rejected"]
    done = generate(tiny_v_adapter, out, *options)
    made = read_metadata(out)
    refused = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert made and refused, done.output
    assert done.exit_code == (0 if len(made) == 5 else 3)
    names = {record.anchor_isic_id for record in made} | {line["anchor_isic_id"] for line in refused}
    assert names == {path.stem for path in photographs.iterdir()}
    for record in made:
        assert record.scores is not None and record.scores["mask_typicality"] > SHAPE_LIMIT
        assert {"reading_agreement", "ignored_area_fraction", "exposure"} <= set(record.scores)
        before = [line["attempt"] for line in refused if line["isic_id"] == record.isic_id]
        assert (record.origin, record.attempt) == ("real", len(before)) and before == list(range(len(before)))
    for line in refused:
        assert line["origin"] == "real" and line["mask_origin"] == "model"
        assert line["reasons"] and (out / line["thumbnail"]).is_file()
        assert not list(out.glob(f"*/{line['isic_id']}.png")) or line["isic_id"] in {r.isic_id for r in made}
    kept = {record.ignore_file_name for record in made if record.ignore_file_name}
    assert {f"masks_ignore/{path.name}" for path in (out / "masks_ignore").iterdir()} == kept
    assert list(verify_folder(out)) == []


def test_prepare_still_says_who_read_a_mask(tiny_v_adapter: Path, photographs: Path, tmp_path: Path) -> None:
    """Guards against read masks that pass for an expert's once their folder was prepared again."""
    out, again = tmp_path / "out", tmp_path / "again"
    assert generate(tiny_v_adapter, out, "--read", photographs).exit_code == 0
    write_training_items(out, [PairRecord(file_name="-", isic_id="seen", sha256="a" * 64)])
    api.prepare(out, again, size=SIZE_PX, license="CC0-1.0")
    made = [record for record in read_metadata(out) if (record.scores or {})["mask_area_fraction"] > 0]
    prepared = read_metadata(again)
    assert prepared and [set(record.files) for record in prepared] == [set(record.files) for record in made]
    for before, after in zip(made, prepared, strict=True):
        assert after.by_model and after.mask_origin == "model"
        assert (after.adapter_sha256, after.base_sha256) == (before.adapter_sha256, before.base_sha256)
        assert (pixels(read_ignore(again, after)) == pixels(read_ignore(out, before))).all()
    assert (again / TRAINING_ITEMS_FILE).read_bytes() == (out / TRAINING_ITEMS_FILE).read_bytes()
    assert real_caveats(Dataset.open(again)) and list(verify_folder(again)) == []


@pytest.mark.parametrize("batch", [1, 4])
def test_a_reading_hardly_depends_on_its_batch(v_pipe: SkinDualGenPipeline, phantom_data: Path, batch: int) -> None:
    """As for generated pairs, in the last bits: where draws disagree is the same but for a pixel or two."""
    images = [Dataset.open(phantom_data).image(place) for place in range(4)]

    def ignored(places: range) -> list[NDArray[np.bool_]]:
        read = draw_readings(
            v_pipe, [images[place] for place in places], seeds=list(places), steps=2, draws=DRAWS, agree=1.0
        )
        return [pixels(reading.ignored) for reading in read.decode()[2]]

    apart = [each for start in range(0, 4, batch) for each in ignored(range(start, start + batch))]
    together = ignored(range(4))
    assert (np.stack(apart) != np.stack(together)).mean() < 1e-3
    assert all(each.any() for each in together) and len({each.tobytes() for each in together}) == 4


def test_shares_of_draws_by_hand() -> None:
    """A square of 2 x 2 that all four draws see, a column beside it that three, two, one or none see; and a speck."""
    fields = np.full((4, 6, 6), -1.0, np.float32)
    fields[:, 1:3, 1:3] = 3.0
    fields[:3, 1, 3] = 1.0  # 3 of 4: mean 0.5, lesion
    fields[:2, 2, 3] = 0.5  # 2 of 4: mean -0.25, skin
    fields[:1, 3, 1] = 1.0  # 1 of 4: mean -0.5, skin
    fields[:, 5, 5] = 2.0  # the speck: the clean mask has none
    codes = [
        torch.from_numpy(np.flip(field, axes).copy())[None, None] for field, axes in zip(fields, BACK, strict=True)
    ]
    pipeline = SimpleNamespace(codec=SimpleNamespace(decode=lambda code: code))
    read = DrawnReadings(cast(SkinDualGenPipeline, pipeline), [Image.new("RGB", (6, 6))], codes, agree=0.75)
    _, (mask,), (reading,) = read.decode()
    expected = np.zeros((6, 6), bool)
    expected[1:3, 1:3] = expected[1, 3] = True
    assert (pixels(mask) == expected).all()
    assert np.argwhere(pixels(reading.ignored)).tolist() == [[2, 3], [5, 5]]
    assert reading.scores == {
        "reading_agreement": pytest.approx((32 + 2 * 3 / 4 + 2 / 4) / 36, abs=1e-4),
        "ignored_area_fraction": pytest.approx(2 / 36, abs=1e-4),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompt", "a nevus", "--agree", "0.5"], "--draws or --agree without --read"),
        (["--read", "PHOTOS", "--prompt", "a nevus"], "not exactly one of"),
        (["--read", "PHOTOS", "--masks", "PHOTOS"], "several of --redraw, --masks, --inpaint and --read"),
        (["--read", "PHOTOS", "--agree", "0"], "a share above 0 and at most 1"),
        (["--read", "PHOTOS", "-n", "6"], "more than one pair of each of 5 photographs"),
        (["--read", "PHOTOS", "--per-pair", "2"], "more than one pair of each of 5 photographs"),
        (["--read", "PHOTOS", "--guidance", "2"], "guidance, prompt noise or a guide for photographs"),
        (["--read", "PHOTOS", "--watermark"], "a signature or a watermark for real photographs"),
        (["--read", "PHOTOS", "--shards", "parquet"], "Parquet shards for photographs that are read"),
        (["--read", "BROKEN"], "1 photographs of"),
        (["--read", "EMPTY"], "without photographs"),
        (["--read", "MASKED"], "no photograph to read"),
        (["--read", "TWICE"], "one photograph per stem"),
    ],
)
def test_what_cannot_be_is_refused(
    tiny_v_adapter: Path, phantom_data: Path, photographs: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    places = {"PHOTOS": photographs, "MASKED": phantom_data, "EMPTY": tmp_path / "empty", "BROKEN": tmp_path / "broken"}
    places["EMPTY"].mkdir()
    if "TWICE" in options:
        places["TWICE"] = tmp_path / "twice"
        places["TWICE"].mkdir()
        for name in ("a.png", "a.bmp"):
            Image.new("RGB", (64, 64), "tan").save(places["TWICE"] / name)
    if "BROKEN" in options:
        shutil.copytree(photographs, places["BROKEN"])
        (places["BROKEN"] / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    done = generate(tiny_v_adapter, tmp_path / "out", *(places.get(word, word) for word in options), draws=None)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "out" / "images").exists()


def test_who_made_a_pair() -> None:
    """A real photograph with a mask that a generator read brings the generator's training photographs along."""
    record = PairRecord(file_name="a.png", isic_id="a")
    assert not record.by_model
    assert record.model_copy(update={"adapter_sha256": "a" * 64}).by_model
    assert record.model_copy(update={"origin": "synthetic"}).by_model
